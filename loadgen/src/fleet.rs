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
pub fn run(mut reactor: impl Reactor, orders: Orders) -> io::Result<Outcome> {
    let Orders {
        setup,
        server,
        fleet,
        fleets,
        control,
        notices,
    } = orders;
    let scenario = &setup.scenario;
    let mut pace = Pace::new(scenario.sessions(), scenario.ramp, fleet, fleets);
    let doors = Doors::new(server, &scenario.sources);
    let mut desk = Desk::new(Arc::clone(&setup), fleet, fleets);
    let start = Instant::now();
    let mut phase = Phase::Ramp;
    let mut ready_told = false;
    let mut setup_deadline = None;
    let mut used_before = None;
    let mut spun_ns = 0;
    loop {
        let now = control.phase();
        if now != phase {
            if phase < Phase::Measure && now >= Phase::Measure {
                desk.begin(control.window_ns());
                used_before = process::own_thread();
                spun_ns = 0;
            }
            if phase <= Phase::Measure && now > Phase::Measure {
                tell_intervals(&mut desk, control.window_ns(), true, &notices);
                desk.end();
                if let (Some(before), Some(after)) = (used_before, process::own_thread()) {
                    let ns =
                        |after: Duration, before| after.saturating_sub(before).as_nanos() as u64;
                    desk.outcome.threads.push(Used {
                        fleet,
                        busy_ns: if scenario.spin {
                            spun_ns
                        } else {
                            ns(after.0, before.0)
                        },
                        waited_ns: ns(after.1, before.1),
                    });
                }
                if let Some(verifier) = &desk.books.verifier {
                    raise(&control, &verifier.floors(setup.items()));
                    // A stalled session reads on for the comparison: it should find the newest state behind what its
                    // socket holds.
                    desk.resume_stalled();
                }
            }
            phase = now;
        }
        if phase == Phase::Stop {
            break;
        }
        if phase == Phase::Measure {
            tell_intervals(&mut desk, control.window_ns(), false, &notices);
            desk.disturb(control.window_ns());
        }

        let mut room = STARTS_PER_TURN;
        while room > 0
            && let Some(due) = pace.next_due()
            && let elapsed = start.elapsed()
            && let Some(number) = pace.take_due(elapsed)
        {
            room -= 1;
            let late_ns = elapsed.saturating_sub(due).as_nanos() as u64;
            desk.outcome.start_late_ns = desk.outcome.start_late_ns.max(late_ns);
            desk.wants((number / fleets) as usize, Opening::New);
        }
        for _ in 0..STARTS_PER_TURN {
            let Some((seat, opening)) = desk.next_start() else {
                break;
            };
            let number = desk.number(seat);
            match doors
                .connect(number)
                .and_then(|socket| reactor.adopt(socket))
            {
                Ok(id) => desk.connected(seat, id, opening),
                Err(error) => desk.lose_seat(seat, connect::explain(&error)),
            }
        }
        if setup_deadline.is_none() && pace.next_due().is_none() {
            setup_deadline = Some(start.elapsed() + SETUP_TIMEOUT);
        }
        if !ready_told && setup_deadline.is_some() {
            if setup_deadline.is_some_and(|at| start.elapsed() >= at) {
                desk.give_up();
            }
            if desk.settled() {
                ready_told = true;
                // The main thread waits for this; if it does not, it has ended.
                let _ = notices.send(Notice::Ready {
                    live: desk.outcome.live,
                });
            }
        }

        let wait = [
            pace.next_due()
                .map(|due| due.saturating_sub(start.elapsed())),
            setup_deadline
                .filter(|_| !ready_told)
                .map(|at| at.saturating_sub(start.elapsed())),
            (phase == Phase::Measure).then(|| until_next_interval(&desk, control.window_ns())),
            desk.next_timer()
                .map(|at| at.saturating_duration_since(Instant::now())),
            (phase == Phase::Measure)
                .then(|| desk.next_disturbance(control.window_ns()))
                .flatten(),
            desk.has_starts().then_some(Duration::ZERO),
        ];
        // What follows from the last turn's events happens before the wait.
        desk.run_timers(Instant::now());
        carry_out(&mut desk, &mut reactor);
        desk.events_from = None;
        let spins = scenario.spin && phase >= Phase::Warmup;
        let wait = match spins {
            true => Some(Duration::ZERO),
            false => wait.into_iter().flatten().min(),
        };
        let looked = spins.then(Instant::now);
        reactor.poll(wait, &mut desk)?;
        if let Some(from) = desk.events_from {
            spun_ns += looked.map_or(0, |looked| looked.elapsed().as_nanos() as u64);
            let turn_ns = from.elapsed().as_nanos() as u64;
            desk.books.interval.turn_ns.record(turn_ns);
        }
    }

    let mut outcome = std::mem::take(&mut desk.outcome);
    outcome.verify = desk.books.verifier.take().map(|mut verifier| {
        let floors = control.floors.lock().expect("no fleet has panicked");
        let mut rows = FinalRows::new();
        verifier.finish(&floors, &mut rows, |session| desk.is_live(session));
        let rows = rows.into_iter();
        let rows = rows.map(|((item, stamp_ns), values)| (item, stamp_ns, values));
        (verifier.outcome, rows.collect())
    });
    destroy_all(&mut desk, &mut reactor, server)?;
    Ok(outcome)
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
    use super::*;

    #[test]
    fn the_newest_time_of_any_fleet_counts() {
        let control = Control::default();
        raise(&control, &[5, 5]);
        raise(&control, &[4, 6]);
        assert_eq!(*control.floors.lock().unwrap(), [5, 6]);
    }
}
