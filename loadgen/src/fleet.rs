//! One thread's share of the sessions, on one reactor: the same loop as a shard of the server, from the other side.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use brightwire::reactor::{ConnId, Event, EventSink, Reactor};
use socket2::{Domain, Socket, Type};

use crate::control::{Control, Notice, Phase};
use crate::pace::Pace;
use crate::session::{Books, Progress, Session, Setup};
use crate::stats::{Reasons, Window};
use crate::verify::{self, FinalRows, Shape, Verifier};

/// Sessions from one source address. The kernel gives a source address about 28,000 ports by default
/// (`net.ipv4.ip_local_port_range`), less those that wait out an earlier run.
const SESSIONS_PER_SOURCE: u32 = 20_000;
/// Sessions that one turn starts, so that those which are live get their turn. (guess)
const STARTS_PER_TURN: usize = 32;
/// How long sessions may take to be subscribed, counted from the last one's start.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What one fleet is told.
pub struct Orders {
    /// What all sessions have in common.
    pub setup: Arc<Setup>,
    /// Where to connect.
    pub server: SocketAddr,
    /// When to connect.
    pub pace: Pace,
    /// This fleet's number, and how many there are.
    pub thread: u32,
    /// See `thread`.
    pub threads: u32,
    /// Sessions of this fleet.
    pub sessions: usize,
    /// Sessions of the run with a number below this stall.
    pub stalled: u32,
    /// Sessions and items, if the run is to be verified.
    pub verify: Option<Shape>,
    /// The phase.
    pub control: Arc<Control>,
    /// To the main thread.
    pub notices: Sender<Notice>,
    /// For each item, the newest time held by any session of any fleet when the window was over.
    pub floors: Arc<Mutex<Vec<u64>>>,
}

/// What one fleet has to tell.
pub struct Outcome {
    /// What was measured.
    pub window: Window,
    /// Sessions that became live.
    pub live: u64,
    /// Of them, those that stall.
    pub stalled: u64,
    /// When the last of them became live, after the start.
    pub ramp: Duration,
    /// Why sessions did not become live.
    pub failed: Reasons,
    /// Why live sessions ended.
    pub ended: Reasons,
    /// Stalled sessions that the server has ended, which is its right.
    pub stalled_ended: u64,
    /// What verification found, and the rows at the end.
    pub verify: Option<(verify::Outcome, FinalRows)>,
}

/// Runs a fleet until the phase is [`Phase::Stop`].
pub fn run(mut reactor: impl Reactor, orders: Orders) -> io::Result<Outcome> {
    let Orders {
        setup,
        server,
        mut pace,
        thread,
        threads,
        sessions,
        stalled,
        verify,
        control,
        notices,
        floors,
    } = orders;
    let mut desk = Desk {
        books: Books {
            window: Window::open(),
            seen: vec![false; sessions * setup.items_per_session],
            verifier: verify.map(|shape| Verifier::new(shape, sessions)),
            arrived_ns: 0,
            clock_ns: unix_ns,
            frames_written: thread,
        },
        setup,
        links: Vec::new(),
        start: Instant::now(),
        events_from: None,
        speakers: Vec::new(),
        to_close: Vec::new(),
        to_pause: Vec::new(),
        stalled_below: stalled,
        counts: Counts::default(),
    };
    let global = |local: usize| local as u32 * threads + thread;
    let mut phase = Phase::Ramp;
    let mut measured = None;
    let mut ready_told = false;
    let mut setup_deadline = None;
    loop {
        let now = control.phase();
        if now != phase {
            if phase < Phase::Measure && now >= Phase::Measure {
                desk.books.window = Window::open();
            }
            if phase <= Phase::Measure && now > Phase::Measure {
                let mut window = std::mem::replace(&mut desk.books.window, Window::open());
                window.close();
                measured = Some(window);
                if let Some(verifier) = &desk.books.verifier {
                    raise(&floors, &verifier.floors(global));
                }
                // A stalled session reads on for the comparison: it should find the newest state behind what its
                // socket holds.
                for link in desk.links.iter().flatten() {
                    if link.session.stalled && desk.books.verifier.is_some() {
                        reactor.resume(link.id);
                    }
                }
            }
            phase = now;
        }
        if phase == Phase::Stop {
            break;
        }

        for _ in 0..STARTS_PER_TURN {
            let Some(number) = pace.take_due(desk.start.elapsed()) else {
                break;
            };
            let session = Session::new(&desk.setup, number, (number / threads) as usize);
            match connect(server, number).and_then(|socket| reactor.adopt(socket)) {
                Ok(id) => desk.insert(Link { id, session }),
                Err(error) => desk.counts.failed.count(format!("connect: {error}")),
            }
        }
        if setup_deadline.is_none() && pace.next_due().is_none() {
            setup_deadline = Some(desk.start.elapsed() + SETUP_TIMEOUT);
        }
        if !ready_told && setup_deadline.is_some() {
            if setup_deadline.is_some_and(|at| desk.start.elapsed() >= at) {
                desk.give_up();
            }
            if desk.counts.settled() >= sessions as u64 {
                ready_told = true;
                // The main thread waits for this; if it does not, it has ended.
                let _ = notices.send(Notice::Ready);
            }
        }

        let wait = match pace.next_due() {
            Some(due) => Some(due.saturating_sub(desk.start.elapsed())),
            None if ready_told => None,
            None => setup_deadline.map(|at| at.saturating_sub(desk.start.elapsed())),
        };
        // What follows from the last turn's events happens before the wait.
        desk.write(&mut reactor);
        for id in std::mem::take(&mut desk.to_pause) {
            reactor.pause(id);
        }
        for id in std::mem::take(&mut desk.to_close) {
            reactor.close(id);
        }
        desk.events_from = None;
        reactor.poll(wait, &mut desk)?;
        if let Some(from) = desk.events_from {
            let turn_ns = from.elapsed().as_nanos() as u64;
            desk.books.window.turn_ns.saturating_record(turn_ns.max(1));
        }
    }

    let verify = desk.books.verifier.take().map(|mut verifier| {
        let mut here = vec![None; sessions];
        for link in desk.links.iter().flatten() {
            if link.session.is_live() {
                here[link.session.local] = Some(link.session.number);
            }
        }
        let floors = floors.lock().expect("no fleet has panicked");
        let mut rows = FinalRows::new();
        verifier.finish(&floors, &mut rows, |local| here[local]);
        (verifier.outcome, rows)
    });
    desk.destroy_all(&mut reactor)?;
    let counts = desk.counts;
    Ok(Outcome {
        window: measured.unwrap_or_else(Window::open),
        live: counts.live,
        stalled: counts.stalled,
        ramp: counts.ramp,
        failed: counts.failed,
        ended: counts.ended,
        stalled_ended: counts.stalled_ended,
        verify,
    })
}

/// Everything but the reactor, so that the reactor can report to it.
struct Desk {
    setup: Arc<Setup>,
    books: Books,
    /// By the slot of the connection.
    links: Vec<Option<Link>>,
    start: Instant,
    /// When the first event of this poll was reported.
    events_from: Option<Instant>,
    /// Connections that have something to say.
    speakers: Vec<ConnId>,
    to_close: Vec<ConnId>,
    to_pause: Vec<ConnId>,
    stalled_below: u32,
    counts: Counts,
}

struct Link {
    id: ConnId,
    session: Session,
}

#[derive(Default)]
struct Counts {
    live: u64,
    stalled: u64,
    ramp: Duration,
    failed: Reasons,
    ended: Reasons,
    stalled_ended: u64,
}

impl Counts {
    /// Sessions that are, or have been, live, and those that never will be.
    fn settled(&self) -> u64 {
        self.live + self.failed.total()
    }
}

impl EventSink for Desk {
    fn on_event(&mut self, event: Event<'_>) {
        if self.events_from.is_none() {
            // One reading for all that this poll reports: what comes later in the list had arrived as well, and what
            // we take to work on those before it is not the server's.
            self.events_from = Some(Instant::now());
            self.books.arrived_ns = unix_ns();
        }
        match event {
            Event::Received { conn, bytes } => self.on_bytes(conn, bytes),
            Event::Blocked { conn } => {
                if let Some(link) = link_mut(&mut self.links, conn) {
                    link.session.blocked = true;
                }
            }
            Event::Writable { conn } => {
                if let Some(link) = link_mut(&mut self.links, conn) {
                    link.session.blocked = false;
                    if !link.session.reply.is_empty() {
                        self.speakers.push(conn);
                    }
                }
            }
            Event::Closed { conn, error } => {
                let reason = match error {
                    Some(error) => format!("connection: {error}"),
                    None => "closed by the server without a word".into(),
                };
                self.lose(conn, reason);
            }
            Event::Accepted { .. } => {} // nobody listens here
        }
    }
}

impl Desk {
    fn insert(&mut self, link: Link) {
        let slot = link.id.slot as usize;
        if self.links.len() <= slot {
            self.links.resize_with(slot + 1, || None);
        }
        self.speakers.push(link.id);
        self.links[slot] = Some(link);
    }

    fn on_bytes(&mut self, id: ConnId, bytes: &mut [u8]) {
        let Some(link) = link_mut(&mut self.links, id) else {
            return;
        };
        let window = &mut self.books.window;
        window.receives += 1;
        window.bytes += bytes.len() as u64;
        let session = &mut link.session;
        match session.on_bytes(bytes, &self.setup, &mut self.books) {
            Ok(Progress::Same) => {}
            Ok(Progress::Live) => {
                self.counts.live += 1;
                self.counts.ramp = self.start.elapsed();
                if session.number < self.stalled_below {
                    session.stalled = true;
                    self.counts.stalled += 1;
                    self.to_pause.push(id);
                }
            }
            Err(reason) => {
                self.to_close.push(id);
                return self.lose(id, reason);
            }
        }
        if !session.reply.is_empty() {
            self.speakers.push(id);
        }
    }

    /// A session is over before we wanted it to be.
    fn lose(&mut self, id: ConnId, reason: String) {
        let Some(link) = self
            .links
            .get_mut(id.slot as usize)
            .and_then(|link| link.take_if(|link| link.id == id))
        else {
            return;
        };
        if link.session.stalled {
            self.counts.stalled_ended += 1;
        } else if link.session.is_live() {
            self.counts.ended.count(reason);
        } else {
            self.counts.failed.count(reason);
        }
    }

    /// Sessions that are not live by now will not be waited for.
    fn give_up(&mut self) {
        let late: Vec<ConnId> = self
            .links
            .iter()
            .flatten()
            .filter(|link| !link.session.is_live())
            .map(|link| link.id)
            .collect();
        for id in late {
            self.to_close.push(id);
            self.lose(id, "not subscribed in time".into());
        }
    }

    fn write(&mut self, reactor: &mut impl Reactor) {
        for id in std::mem::take(&mut self.speakers) {
            let Some(link) = link_mut(&mut self.links, id).filter(|link| !link.session.blocked)
            else {
                continue;
            };
            if link.session.reply.is_empty() {
                continue;
            }
            let buffer = reactor.buffer();
            let start = buffer.len();
            // Taken as a whole: a session that has said its part owns no memory for it.
            buffer.append(&mut std::mem::take(&mut link.session.reply));
            reactor.send(id, start);
        }
    }

    /// Ends the sessions properly, so that the server does not keep them for clients that might come back.
    fn destroy_all(&mut self, reactor: &mut impl Reactor) -> io::Result<()> {
        for link in self.links.iter_mut().flatten() {
            link.session.destroy(&mut self.books);
            self.speakers.push(link.id);
        }
        self.write(reactor);
        reactor.flush(&mut |_: Event<'_>| ())?;
        for link in self.links.drain(..).flatten() {
            reactor.close(link.id);
        }
        // Nothing more is asked of the events; the poll brings the closings to the kernel.
        reactor.poll(Some(Duration::ZERO), &mut |_: Event<'_>| ())?;
        Ok(())
    }
}

fn link_mut(links: &mut [Option<Link>], id: ConnId) -> Option<&mut Link> {
    links
        .get_mut(id.slot as usize)?
        .as_mut()
        .filter(|link| link.id == id)
}

/// Starts to connect. The reactor treats a socket that is not connected yet as one that takes no bytes at present,
/// so nobody has to wait for it.
fn connect(server: SocketAddr, number: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source(server, number) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// The address to connect from: the kernel's choice as long as its ports suffice; beyond that, others of the loopback
/// network, if the server is there.
fn source(server: SocketAddr, number: u32) -> Option<IpAddr> {
    let IpAddr::V4(address) = server.ip() else {
        return None;
    };
    let index = u8::try_from(number / SESSIONS_PER_SOURCE).unwrap_or(u8::MAX);
    (address.is_loopback() && index > 0).then(|| Ipv4Addr::new(127, 0, 1, index).into())
}

fn raise(floors: &Mutex<Vec<u64>>, ours: &[u64]) {
    let mut floors = floors.lock().expect("no fleet has panicked");
    for (floor, ours) in floors.iter_mut().zip(ours) {
        *floor = (*floor).max(*ours);
    }
}

fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sessions_than_ports_come_from_other_addresses() {
        let local: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(source(local, 0), None);
        assert_eq!(source(local, SESSIONS_PER_SOURCE - 1), None);
        assert_eq!(
            source(local, SESSIONS_PER_SOURCE),
            Some("127.0.1.1".parse().unwrap())
        );
        assert_eq!(source(local, 999_999), Some("127.0.1.49".parse().unwrap()));
        for elsewhere in ["10.0.0.1:80", "[::1]:80"] {
            assert_eq!(source(elsewhere.parse().unwrap(), 999_999), None);
        }
    }

    #[test]
    fn the_newest_time_of_any_fleet_counts() {
        let floors = Mutex::new(vec![5, 5]);
        raise(&floors, &[4, 6]);
        assert_eq!(*floors.lock().unwrap(), [5, 6]);
    }
}
