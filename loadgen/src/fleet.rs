//! One thread's share of the sessions, on one reactor: the same loop as a shard of the server, from the other side.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use brightwire::reactor::{Event, Reactor};
use serde::{Deserialize, Serialize};

use crate::connect::{self, Doors};
use crate::control::{Control, Notice, Phase, unix_ns};
use crate::desk::{Desk, Step};
use crate::pace::Pace;
use crate::process;
use crate::rank;
use crate::scenario::Acks;
use crate::session::{Opening, Setup};
use crate::stats::{Interval, Reasons, Times};
use crate::verify::{self, FinalRows};

/// Connections that one turn starts, so that those which are live get their turn. (guess)
const STARTS_PER_TURN: usize = 32;
/// How long sessions may take to be subscribed, counted from the last one's start; and to come back after their
/// connection broke.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of an interval of the log.
const INTERVAL_NS: u64 = 1_000_000_000;

/// How often sessions' acknowledgements are looked after. (guess: often for a run, seldom for a session)
const ACKS_EVERY: Duration = Duration::from_secs(1);

/// What one fleet is told.
pub struct Orders {
    /// What all sessions have in common.
    pub setup: Arc<Setup>,
    /// Where to connect.
    pub server: SocketAddr,
    /// This fleet's number among all of the run, and how many there are.
    pub fleet: u32,
    /// See `fleet`.
    pub fleets: u32,
    /// The phase.
    pub control: Arc<Control>,
    /// To the main thread.
    pub notices: Sender<Notice>,
}

/// What one fleet has to tell of the whole run; what it has measured it has told second by second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Sessions that became live.
    pub live: u64,
    /// Of them, those that stall.
    pub stalled: u64,
    /// Stalled sessions that the server has ended, which is its right.
    pub stalled_ended: u64,
    /// When the last of them became live, after the start, ns.
    pub ramp_ns: u64,
    /// By how much a session was started later than its time, at worst, ns.
    pub start_late_ns: u64,
    /// From the start of a connection to its subscription, ns.
    pub connect_ns: Times,
    /// From the breaking of a connection in a storm to the session's going on, ns.
    pub reconnect_ns: Times,
    /// Of those, sessions that were recovered; the others were opened anew.
    pub recovered: u64,
    /// Sessions that were ended, and replaced, by intention.
    pub churned: u64,
    /// What the fleet's thread has cost in the window.
    pub threads: Vec<Used>,
    /// Who was served first.
    pub sample: rank::Sample,
    /// Why sessions did not become live.
    pub failed: Reasons,
    /// Why live sessions ended.
    pub ended: Reasons,
    /// What verification found, and the rows at the end.
    pub verify: Option<(verify::Outcome, Rows)>,
}

/// What a fleet's thread has cost in the window, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Used {
    /// The fleet's number.
    pub fleet: u32,
    /// CPU time; of one that never sleeps, the time of those turns that brought something.
    pub busy_ns: u64,
    /// Time for which it was ready to run and had no core.
    pub waited_ns: u64,
}

/// Rows as another process can be told of them.
pub type Rows = Vec<(usize, u64, Vec<Option<Box<str>>>)>;

/// Runs a fleet until the phase is [`Phase::Stop`].
pub fn run(reactor: impl Reactor, orders: Orders) -> io::Result<Outcome> {
    let mut fleet = Fleet::new(reactor, orders);
    loop {
        let now = fleet.control.phase();
        if now != fleet.phase {
            fleet.enter(now);
        }
        match now {
            Phase::Stop => return fleet.finish(),
            Phase::Measure => {
                let window_ns = fleet.control.window_ns();
                tell_intervals(&mut fleet.desk, window_ns, false, &fleet.notices);
                fleet.desk.disturb(window_ns);
            }
            _ => {}
        }
        fleet.start_due();
        fleet.tell_ready();
        fleet.acknowledge();
        fleet.turn()?;
    }
}

/// A fleet under way.
struct Fleet<R> {
    reactor: R,
    desk: Desk,
    doors: Doors,
    pace: Pace,
    setup: Arc<Setup>,
    server: SocketAddr,
    /// Its number among all of the run, and how many there are.
    number: u32,
    fleets: u32,
    control: Arc<Control>,
    notices: Sender<Notice>,
    phase: Phase,
    start: Instant,
    /// When sessions that are not live by then are given up, after the start; known once the last one has started.
    setup_deadline: Option<Duration>,
    ready_told: bool,
    /// What the thread had cost when the window began.
    used_before: Option<(Duration, Duration)>,
    /// Of a fleet that spins, the time of the turns that brought something.
    spun_ns: u64,
    /// When acknowledgements are to be looked after, unless that is the kernel's affair.
    acks_due: Option<Instant>,
}

impl<R: Reactor> Fleet<R> {
    fn new(reactor: R, orders: Orders) -> Self {
        let Orders {
            setup,
            server,
            fleet,
            fleets,
            control,
            notices,
        } = orders;
        let scenario = &setup.scenario;
        let start = Instant::now();
        let acks_due = (scenario.acks != Acks::Kernel).then(|| start + ACKS_EVERY);
        Self {
            reactor,
            desk: Desk::new(Arc::clone(&setup), fleet, fleets),
            doors: Doors::new(server, &scenario.sources),
            pace: Pace::new(scenario.sessions(), scenario.ramp, fleet, fleets),
            setup,
            server,
            number: fleet,
            fleets,
            control,
            notices,
            phase: Phase::Ramp,
            start,
            setup_deadline: None,
            ready_told: false,
            used_before: None,
            spun_ns: 0,
            acks_due,
        }
    }

    /// Another phase begins. The main thread may be quicker than a turn, so that one is skipped.
    fn enter(&mut self, phase: Phase) {
        if self.phase < Phase::Measure && phase >= Phase::Measure {
            self.desk.begin(self.control.window_ns());
            self.used_before = process::own_thread();
            self.spun_ns = 0;
        }
        if self.phase <= Phase::Measure && phase > Phase::Measure {
            self.close_window();
        }
        self.phase = phase;
    }

    fn close_window(&mut self) {
        let desk = &mut self.desk;
        tell_intervals(desk, self.control.window_ns(), true, &self.notices);
        desk.end();
        if let (Some(before), Some(after)) = (self.used_before, process::own_thread()) {
            let ns = |after: Duration, before| after.saturating_sub(before).as_nanos() as u64;
            desk.outcome.threads.push(Used {
                fleet: self.number,
                busy_ns: match self.setup.scenario.spin {
                    true => self.spun_ns,
                    false => ns(after.0, before.0),
                },
                waited_ns: ns(after.1, before.1),
            });
        }
        if let Some(verifier) = &desk.books.verifier {
            raise(&self.control, &verifier.floors(self.setup.items()));
            // A stalled session reads on for the comparison: it should find the newest state behind what its socket
            // holds.
            desk.resume_stalled();
        }
    }

    /// Starts connections whose time has come, a bounded number of them.
    fn start_due(&mut self) {
        let desk = &mut self.desk;
        let mut room = STARTS_PER_TURN;
        while room > 0
            && let Some(due) = self.pace.next_due()
            && let elapsed = self.start.elapsed()
            && let Some(number) = self.pace.take_due(elapsed)
        {
            room -= 1;
            let late_ns = elapsed.saturating_sub(due).as_nanos() as u64;
            desk.outcome.start_late_ns = desk.outcome.start_late_ns.max(late_ns);
            desk.wants((number / self.fleets) as usize, Opening::New);
        }
        for _ in 0..STARTS_PER_TURN {
            let Some((seat, opening)) = desk.next_start() else {
                break;
            };
            let socket = self.doors.connect(desk.number(seat));
            match socket.and_then(|socket| self.reactor.adopt(socket)) {
                Ok(id) => desk.connected(seat, id, opening),
                Err(error) => desk.lose_seat(seat, connect::explain(&error)),
            }
        }
    }

    /// Tells the main thread once all sessions are live, or are given up.
    fn tell_ready(&mut self) {
        if self.setup_deadline.is_none() && self.pace.next_due().is_none() {
            self.setup_deadline = Some(self.start.elapsed() + SETUP_TIMEOUT);
        }
        let Some(deadline) = self.setup_deadline.filter(|_| !self.ready_told) else {
            return;
        };
        if self.start.elapsed() >= deadline {
            self.desk.give_up();
        }
        if self.desk.settled() {
            self.ready_told = true;
            // The main thread waits for this; if it does not, it has ended.
            let _ = self.notices.send(Notice::Ready {
                live: self.desk.outcome.live,
            });
        }
    }

    /// How long there is nothing to do but to wait for the server.
    fn next_wait(&self) -> Option<Duration> {
        let measures = self.phase == Phase::Measure;
        let window_ns = self.control.window_ns();
        let waits = [
            self.pace
                .next_due()
                .map(|due| due.saturating_sub(self.start.elapsed())),
            self.setup_deadline
                .filter(|_| !self.ready_told)
                .map(|at| at.saturating_sub(self.start.elapsed())),
            measures.then(|| until_next_interval(&self.desk, window_ns)),
            self.desk
                .next_timer()
                .map(|at| at.saturating_duration_since(Instant::now())),
            measures
                .then(|| self.desk.next_disturbance(window_ns))
                .flatten(),
            self.desk.has_starts().then_some(Duration::ZERO),
            self.acks_due
                .map(|due| due.saturating_duration_since(Instant::now())),
        ];
        waits.into_iter().flatten().min()
    }

    /// Looks after the sessions' acknowledgements, when that is due.
    fn acknowledge(&mut self) {
        if self.acks_due.is_some_and(|due| due <= Instant::now()) {
            self.acks_due = Some(Instant::now() + ACKS_EVERY);
            self.desk.acknowledge();
        }
    }

    /// Does what is to be done, and waits for the server.
    fn turn(&mut self) -> io::Result<()> {
        let spins = self.setup.scenario.spin && self.phase >= Phase::Warmup;
        let wait = match spins {
            true => Some(Duration::ZERO),
            false => self.next_wait(),
        };
        // What follows from the last turn's events happens before the wait.
        self.desk.run_timers(Instant::now());
        carry_out(&mut self.desk, &mut self.reactor);
        self.desk.events_from = None;
        let looked = spins.then(Instant::now);
        self.reactor.poll(wait, &mut self.desk)?;
        if let Some(from) = self.desk.events_from {
            self.spun_ns += looked.map_or(0, |looked| looked.elapsed().as_nanos() as u64);
            let turn_ns = from.elapsed().as_nanos() as u64;
            self.desk.books.interval.turn_ns.record(turn_ns);
        }
        Ok(())
    }

    /// Compares, if that was asked for, and ends the sessions.
    fn finish(mut self) -> io::Result<Outcome> {
        let desk = &mut self.desk;
        let mut outcome = std::mem::take(&mut desk.outcome);
        outcome.verify = desk.books.verifier.take().map(|mut verifier| {
            let floors = self.control.floors.lock().expect("no fleet has panicked");
            let mut rows = FinalRows::new();
            verifier.finish(&floors, &mut rows, |session| desk.is_live(session));
            let rows = rows.into_iter();
            let rows = rows.map(|((item, stamp_ns), values)| (item, stamp_ns, values));
            (verifier.outcome, rows.collect())
        });
        destroy_all(desk, &mut self.reactor, self.server)?;
        Ok(outcome)
    }
}

/// Tells the main thread of the seconds that are over; at the end of the one that is not, as well.
fn tell_intervals(desk: &mut Desk, window_ns: u64, last: bool, notices: &Sender<Notice>) {
    let elapsed_ns = unix_ns().saturating_sub(window_ns);
    let index = u32::try_from(elapsed_ns / INTERVAL_NS).unwrap_or(u32::MAX);
    while desk.books.interval.index < index {
        desk.close_interval();
        let next = Interval::new(desk.books.interval.index + 1);
        let over = std::mem::replace(&mut desk.books.interval, next);
        let _ = notices.send(Notice::Interval(Box::new(over)));
    }
    if last {
        desk.close_interval();
        let over = std::mem::replace(&mut desk.books.interval, Interval::new(0));
        let _ = notices.send(Notice::Interval(Box::new(over)));
    }
}

fn until_next_interval(desk: &Desk, window_ns: u64) -> Duration {
    let end_ns = window_ns + (u64::from(desk.books.interval.index) + 1) * INTERVAL_NS;
    Duration::from_nanos(end_ns.saturating_sub(unix_ns()))
}

/// Does at the sockets what the desk has decided.
fn carry_out(desk: &mut Desk, reactor: &mut impl Reactor) {
    while let Some(step) = desk.next_step() {
        match step {
            Step::Send(id, bytes) => {
                let buffer = reactor.buffer();
                let start = buffer.len();
                buffer.extend_from_slice(&bytes);
                reactor.send(id, start);
            }
            Step::Acknowledge(id, acks) => {
                if let Some(socket) = reactor.socket(id) {
                    // Of a connection that is gone, the reactor will tell.
                    let _ = connect::acknowledge(socket, acks);
                }
            }
            Step::Pause(id) => reactor.pause(id),
            Step::Resume(id) => reactor.resume(id),
            Step::Close(id) => reactor.close(id),
        }
    }
}

/// Ends the sessions properly, so that the server does not keep them for clients that might come back.
fn destroy_all(desk: &mut Desk, reactor: &mut impl Reactor, server: SocketAddr) -> io::Result<()> {
    let over_http = desk.destroy_all();
    carry_out(desk, reactor);
    reactor.flush(&mut |_: Event<'_>| ())?;
    desk.close_all();
    carry_out(desk, reactor);
    // Nothing more is asked of the events; the poll brings the closings to the kernel.
    reactor.poll(Some(Duration::ZERO), &mut |_: Event<'_>| ())?;
    // Whether the server takes it or is gone, the run is over.
    let _ = connect::destroy_over_http(server, desk.setup(), &over_http);
    Ok(())
}

fn raise(control: &Control, ours: &[u64]) {
    let mut floors = control.floors.lock().expect("no fleet has panicked");
    floors.resize(ours.len(), 0);
    for (floor, ours) in floors.iter_mut().zip(ours) {
        *floor = (*floor).max(*ours);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use brightwire::reactor::EventSink as _;
    use brightwire::reactor::epoll::EpollReactor;
    use socket2::SockRef;

    use super::*;
    use crate::scenario::{GroupKeys, RunKeys, Scenario};

    #[test]
    fn those_who_hear_much_acknowledge_as_the_scenario_says() {
        for (acks, heard, asked) in [
            (Acks::Kernel, 50, None),
            (Acks::Each, 0, None),
            (Acks::Each, 1, Some(true)),
            (Acks::EverySecond, 49, None),
            (Acks::EverySecond, 50, Some(false)),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let server = listener.local_addr().unwrap();
            let run = RunKeys {
                server: Some(server.to_string()),
                acks: Some(acks),
                ..RunKeys::default()
            };
            let scenario = Scenario::resolve(None, &run, &GroupKeys::default()).unwrap();
            let setup = Arc::new(Setup::new(scenario).unwrap());
            let mut desk = Desk::new(setup, 0, 1);
            let mut reactor = EpollReactor::new(1).unwrap();
            let socket = Doors::new(server, &[]).connect(0).unwrap();
            let id = reactor.adopt(socket).unwrap();
            let quick =
                |reactor: &EpollReactor| SockRef::from(&reactor.socket(id).unwrap()).tcp_quickack();
            // What it is without us.
            let untouched = quick(&reactor).unwrap();
            SockRef::from(&reactor.socket(id).unwrap())
                .set_tcp_quickack(asked.map_or(untouched, |asked| !asked))
                .unwrap();
            desk.connected(0, id, Opening::New);
            // The beginning of an answer.
            for number in 0..heard {
                let piece = if number == 0 {
                    "HTTP/1.1 101 Go on\r\nX: "
                } else {
                    "x"
                };
                let bytes = &mut *piece.as_bytes().to_vec();
                desk.on_event(Event::Received { conn: id, bytes });
            }
            desk.acknowledge();
            carry_out(&mut desk, &mut reactor);
            let expected = asked.unwrap_or(untouched);
            assert_eq!(quick(&reactor).unwrap(), expected, "{acks:?}, {heard}");
            // Counted anew: nothing is asked for a second time.
            desk.acknowledge();
            assert!(desk.next_step().is_none());
        }
    }

    #[test]
    fn the_newest_time_of_any_fleet_counts() {
        let control = Control::default();
        raise(&control, &[5, 5]);
        raise(&control, &[4, 6]);
        assert_eq!(*control.floors.lock().unwrap(), [5, 6]);
    }
}
