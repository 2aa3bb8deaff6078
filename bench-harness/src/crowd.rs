//! The clients: many connections on one thread, which count the marks that reach them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use brightwire::reactor::{ConnId, Event, EventSink, Reactor};
use hdrhistogram::Histogram;
use memchr::memmem;
use socket2::{Domain, Socket, Type};

use crate::dialect::Dialect;
use crate::stamp::{MarkFinder, Marks};

/// Connections that are started in one turn, so that those which are there get theirs.
const STARTS_PER_TURN: usize = 32;

/// How long the server may take to end all sessions.
const ENDED_AFTER: Duration = Duration::from_secs(10);

/// A crowd on its reactor.
pub struct Crowd<R> {
    reactor: R,
    desk: Desk,
}

struct Desk {
    dialect: Dialect,
    clients: Vec<Option<Client>>,
    speakers: Vec<ConnId>,
    finder: MarkFinder,
    /// What all times count from.
    origin: Instant,
    arrived_ns: Option<u64>,
    tally: Tally,
    ended: Vec<String>,
}

struct Client {
    id: ConnId,
    stage: usize,
    /// What came since the last stage.
    heard: Vec<u8>,
    reply: Vec<u8>,
    marks: Marks,
    /// A message has reached it.
    live: bool,
}

/// What has reached the crowd.
pub struct Tally {
    /// Messages.
    pub delivered: u64,
    /// Clients that have had one.
    pub live: usize,
    /// Time in which something had arrived.
    pub busy: Duration,
    /// Bytes, of all protocols below the payload too.
    pub bytes: u64,
    /// From the intended time of a message to its arrival, ns.
    pub latency_ns: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            delivered: 0,
            live: 0,
            busy: Duration::ZERO,
            bytes: 0,
            latency_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3)
                .expect("the bounds are constants"),
        }
    }
}

impl<R: Reactor> Crowd<R> {
    /// Connects and subscribes so many clients, and returns when all have done what they have to. Whether they are
    /// heard is for the first messages to show.
    pub fn connect(
        reactor: R,
        dialect: Dialect,
        server: SocketAddr,
        clients: usize,
        origin: Instant,
    ) -> io::Result<Self> {
        let mut crowd = Self {
            reactor,
            desk: Desk {
                dialect,
                clients: Vec::new(),
                speakers: Vec::new(),
                finder: MarkFinder::default(),
                origin,
                arrived_ns: None,
                tally: Tally::new(),
                ended: Vec::new(),
            },
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut started = 0;
        let stages = crowd.desk.dialect.stages();
        while started < clients || !crowd.desk.all_reached(stages) {
            for _ in 0..STARTS_PER_TURN.min(clients - started) {
                let id = crowd.reactor.adopt(connect(server, started)?)?;
                crowd.desk.insert(id);
                started += 1;
            }
            crowd.turn(Duration::from_millis(if started < clients {
                1
            } else {
                100
            }))?;
            if Instant::now() > deadline {
                return Err(io::Error::other("the clients were not subscribed in time"));
            }
        }
        Ok(crowd)
    }

    /// Waits for what arrives, at most so long, and counts it. Returns how much there was.
    pub fn turn(&mut self, wait: Duration) -> io::Result<usize> {
        for id in std::mem::take(&mut self.desk.speakers) {
            let Some(client) = self.desk.client(id) else {
                continue;
            };
            let reply = std::mem::take(&mut client.reply);
            if !reply.is_empty() {
                let buffer = self.reactor.buffer();
                let start = buffer.len();
                buffer.extend_from_slice(&reply);
                self.reactor.send(id, start);
            }
        }
        self.desk.arrived_ns = None;
        let events = self.reactor.poll(Some(wait), &mut self.desk)?;
        match self.desk.ended.pop() {
            Some(reason) => Err(io::Error::other(reason)),
            None => Ok(events),
        }
    }

    /// Counts what has arrived, without going to sleep.
    ///
    /// While figures are taken the clients never sleep: on loopback it is the sender's system call that wakes the
    /// receiver, for some microseconds a time where cores are virtual, so a server would pay for its clients having
    /// nothing to do, and the quicker it is the more. Over a network none does.
    pub fn spin(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        if self.turn(Duration::ZERO)? > 0 {
            self.desk.tally.busy += begin.elapsed();
        }
        Ok(())
    }

    /// What has been counted since the last reset.
    pub fn tally(&self) -> &Tally {
        &self.desk.tally
    }

    /// Begins to count anew; clients that are live stay so.
    pub fn reset(&mut self) {
        let live = self.desk.tally.live;
        self.desk.tally = Tally {
            live,
            ..Tally::new()
        };
    }

    /// Takes leave, waits until that is heard, and closes all connections.
    pub fn close(mut self) -> io::Result<()> {
        let mut left = 0;
        if let Some((farewell, ended)) = self.desk.dialect.farewell() {
            for client in self.desk.clients.iter().flatten() {
                let start = self.reactor.buffer().len();
                self.reactor.buffer().extend_from_slice(&farewell);
                self.reactor.send(client.id, start);
                left += 1;
            }
            let deadline = Instant::now() + ENDED_AFTER;
            while left > 0 && Instant::now() < deadline {
                let mut hear = |event: Event<'_>| {
                    if let Event::Received { bytes, .. } = event {
                        left -= usize::from(memmem::find(bytes, ended).is_some());
                    }
                };
                self.reactor
                    .poll(Some(Duration::from_millis(100)), &mut hear)?;
            }
        }
        for client in self.desk.clients.drain(..).flatten() {
            self.reactor.close(client.id);
        }
        self.reactor
            .poll(Some(Duration::ZERO), &mut |_: Event<'_>| ())?;
        if left > 0 {
            return Err(io::Error::other(format!(
                "{left} sessions were not ended in time"
            )));
        }
        Ok(())
    }
}

impl Desk {
    fn insert(&mut self, id: ConnId) {
        let slot = id.slot as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
        }
        self.clients[slot] = Some(Client {
            id,
            stage: 0,
            heard: Vec::new(),
            reply: self.dialect.say(0).into_owned(),
            marks: Marks::default(),
            live: false,
        });
        self.speakers.push(id);
    }

    fn client(&mut self, id: ConnId) -> Option<&mut Client> {
        let client = self.clients.get_mut(id.slot as usize)?.as_mut();
        client.filter(|client| client.id == id)
    }

    fn all_reached(&self, stage: usize) -> bool {
        let mut clients = self.clients.iter().flatten();
        clients.all(|client| client.stage >= stage)
    }

    fn hear(&mut self, id: ConnId, bytes: &[u8]) {
        let arrived_ns = *self
            .arrived_ns
            .get_or_insert_with(|| nanos(self.origin.elapsed()));
        let Some(client) = self
            .clients
            .get_mut(id.slot as usize)
            .and_then(Option::as_mut)
            .filter(|client| client.id == id)
        else {
            return;
        };
        let stages = self.dialect.stages();
        if client.stage < stages {
            client.heard.extend_from_slice(bytes);
            while client.stage < stages
                && let Some(at) = memmem::find(&client.heard, self.dialect.hears(client.stage))
            {
                client
                    .heard
                    .drain(..at + self.dialect.hears(client.stage).len());
                client.stage += 1;
                if client.stage < stages {
                    client
                        .reply
                        .extend_from_slice(&self.dialect.say(client.stage));
                    self.speakers.push(id);
                }
            }
            if client.stage == stages {
                let said = self.dialect.say(stages);
                if !said.is_empty() {
                    client.reply.extend_from_slice(&said);
                    self.speakers.push(id);
                }
                client.heard = Vec::new();
            }
            return;
        }
        let tally = &mut self.tally;
        tally.bytes += bytes.len() as u64;
        let mut found = 0;
        self.finder.feed(&mut client.marks, bytes, |intended_ns| {
            found += 1;
            let latency_ns = arrived_ns.saturating_sub(intended_ns).max(1);
            tally.latency_ns.saturating_record(latency_ns);
        });
        tally.delivered += found;
        if found > 0 && !std::mem::replace(&mut client.live, true) {
            tally.live += 1;
        }
    }
}

impl EventSink for Desk {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Received { conn, bytes } => self.hear(conn, bytes),
            Event::Closed { error, .. } => self.ended.push(match error {
                Some(error) => format!("a client's connection broke: {error}"),
                None => "the server has closed a client's connection".into(),
            }),
            // Clients say little, and their sockets take it.
            Event::Accepted { .. } | Event::Blocked { .. } | Event::Writable { .. } => {}
        }
    }
}

/// Times are told in nanoseconds from the origin of a run.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    // Connections that wait out earlier runs keep ports busy: further source addresses, where the network has them.
    if server.ip().is_loopback() && server.is_ipv4() {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number % 8) as u8);
        socket.bind(&SocketAddr::new(source.into(), 0).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}
