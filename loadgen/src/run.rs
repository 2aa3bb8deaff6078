//! One run from beginning to end: the main thread starts the fleets, leads them through the phases, takes samples of
//! the processes at both ends of the window, and puts the report together.

use std::error::Error;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use brightwire::config::plan::IoChoice;
use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe::{self, Features};
use brightwire::reactor::uring::UringReactor;
use brightwire::reactor::{Reactor, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::RunArguments;
use crate::control::{Control, Notice, Phase, TellEnd};
use crate::fleet::{self, Orders};
use crate::pace::Pace;
use crate::process::{self, Sample};
use crate::report::{Measured, Report};
use crate::session::Setup;
use crate::stats::{Reasons, Window};
use crate::verify::{self, FinalRows, Shape};

/// Open files besides the sessions' sockets: standard streams, rings, wakers, `/proc`. Generous.
const OTHER_FILES: u64 = 64;

type FleetResult = io::Result<fleet::Outcome>;

/// The I/O back end of all fleets.
#[derive(Clone, Copy, Debug)]
enum BackEnd {
    Uring(Features),
    Epoll,
}

/// Runs what the arguments ask for, prints the report, and writes it to the file that they name.
pub fn run(arguments: &RunArguments) -> Result<Report, Box<dyn Error>> {
    arguments.check()?;
    process::allow_open_files(u64::from(arguments.sessions) + OTHER_FILES)?;
    let back_end = choose_io(arguments.io)?;
    // Before anything costs time: a wrong number should be told at once.
    if let Some(pid) = arguments.server_pid {
        Sample::take(pid)?;
    }
    let (sender, notices) = mpsc::channel();
    listen_for_signals(sender.clone())?;
    let floors = Arc::new(Mutex::new(vec![0; arguments.items.0.len()]));
    let control = Arc::new(Control::default());
    let mut director = Director {
        control: Arc::clone(&control),
        wakers: Vec::new(),
        notices,
        ready: 0,
        ended: 0,
        interrupted: false,
    };
    let mut fleets = Vec::new();
    for orders in orders(arguments, &control, &floors, &sender)? {
        let (fleet, waker) = spawn(orders, back_end, sender.clone())?;
        fleets.push(fleet);
        director.wakers.push(waker);
    }

    director.wait_until_ready();
    director.enter(Phase::Warmup);
    director.wait(arguments.warmup);
    let before = samples(arguments.server_pid);
    director.enter(Phase::Measure);
    let started = Instant::now();
    director.wait(arguments.seconds);
    let elapsed = started.elapsed();
    director.enter(Phase::Settle);
    let after = samples(arguments.server_pid);
    if arguments.verify {
        director.wait(arguments.settle_time());
    }
    director.enter(Phase::Stop);

    let mut measured = Measured {
        io: match back_end {
            BackEnd::Uring(_) => "uring",
            BackEnd::Epoll => "epoll",
        },
        interrupted: director.interrupted,
        elapsed,
        window: Window::open(),
        live: 0,
        stalled: 0,
        stalled_ended: 0,
        ramp: Duration::ZERO,
        failed: Reasons::default(),
        ended: Reasons::default(),
        verify: arguments.verify.then(verify::Outcome::default),
        generator: difference(&before.0, &after.0),
        server: difference(&before.1, &after.1),
    };
    let mut rows = FinalRows::new();
    for fleet in fleets {
        let outcome = fleet
            .join()
            .map_err(|_| "a fleet has panicked")?
            .map_err(|error| format!("a fleet has ended: {error}"))?;
        measured.add(outcome, &mut rows);
    }
    if arguments.server_pid.is_some() && measured.server.is_none() {
        measured
            .ended
            .count("the server's process has ended".into());
    }
    let report = Report::new(arguments, &measured);
    println!("{report}");
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n")
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(report)
}

/// Leads the fleets.
struct Director {
    control: Arc<Control>,
    wakers: Vec<Waker>,
    notices: Receiver<Notice>,
    ready: usize,
    ended: usize,
    interrupted: bool,
}

impl Director {
    fn enter(&self, phase: Phase) {
        self.control.enter(phase);
        for waker in &self.wakers {
            waker.wake();
        }
    }

    /// Waits until every fleet has settled. Fleets give up on sessions that take too long, so this ends.
    fn wait_until_ready(&mut self) {
        while self.ready < self.wakers.len() && !self.is_over() {
            match self.notices.recv() {
                Ok(notice) => self.note(&notice),
                Err(_) => return,
            }
        }
    }

    /// Waits for a time, less if the run is over earlier.
    fn wait(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() {
            match self
                .notices
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(notice) => self.note(&notice),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Ready => self.ready += 1,
            Notice::Ended => self.ended += 1,
            Notice::Interrupted => self.interrupted = true,
        }
    }

    /// No fleet ends by itself unless something is broken, and then all that is left is to say so.
    fn is_over(&self) -> bool {
        self.interrupted || self.ended > 0
    }
}

/// Samples of ourselves and of the server, as far as they can be had.
fn samples(server: Option<u32>) -> (Option<Sample>, Option<Sample>) {
    (
        Sample::take(std::process::id()).ok(),
        server.and_then(|pid| Sample::take(pid).ok()),
    )
}

fn difference(before: &Option<Sample>, after: &Option<Sample>) -> Option<Sample> {
    Some(after.as_ref()?.since(before.as_ref()?))
}

fn choose_io(choice: IoChoice) -> Result<BackEnd, String> {
    if choice == IoChoice::Epoll {
        return Ok(BackEnd::Epoll);
    }
    let probe = probe::probe();
    match probe.obstacle {
        None => Ok(BackEnd::Uring(probe.features)),
        Some(obstacle) if choice == IoChoice::Uring => Err(obstacle),
        Some(obstacle) => {
            eprintln!("loadgen: using epoll: {obstacle}");
            Ok(BackEnd::Epoll)
        }
    }
}

fn orders(
    arguments: &RunArguments,
    control: &Arc<Control>,
    floors: &Arc<Mutex<Vec<u64>>>,
    notices: &Sender<Notice>,
) -> Result<Vec<Orders>, String> {
    let server = arguments.address()?;
    let stamp_position = arguments.timestamp_position();
    let setup = Arc::new(Setup {
        host: arguments.server.clone(),
        adapter_set: arguments.adapter_set.clone(),
        data_adapter: arguments.data_adapter.clone(),
        items: arguments.items.0.clone(),
        items_per_session: arguments.items_per_session,
        fields: arguments.fields.clone(),
        frequency: arguments.frequency.0,
        stamp_position,
    });
    let shape = stamp_position
        .filter(|_| arguments.verify)
        .map(|stamp_position| Shape {
            items: setup.items.len(),
            items_per_session: setup.items_per_session,
            fields: setup.fields.len(),
            stamp_position,
        });
    let threads = u32::from(arguments.threads);
    let orders = |thread| Orders {
        setup: Arc::clone(&setup),
        server,
        pace: Pace::new(arguments.sessions, arguments.ramp, thread, threads),
        thread,
        threads,
        sessions: share(arguments.sessions, thread, threads),
        stalled: arguments.stalled,
        verify: shape,
        control: Arc::clone(control),
        notices: notices.clone(),
        floors: Arc::clone(floors),
    };
    Ok((0..threads).map(orders).collect())
}

/// How many of the numbers below `sessions` are this thread's.
fn share(sessions: u32, thread: u32, threads: u32) -> usize {
    (sessions.saturating_sub(thread)).div_ceil(threads) as usize
}

/// Starts a fleet. A reactor is made on the thread that uses it, so that its waker comes back through a channel.
fn spawn(
    orders: Orders,
    back_end: BackEnd,
    notices: Sender<Notice>,
) -> Result<(JoinHandle<FleetResult>, Waker), Box<dyn Error>> {
    let (waker_sender, waker) = mpsc::channel();
    let name = format!("fleet-{}", orders.thread);
    let fleet = thread::Builder::new().name(name).spawn(move || {
        let _tell = TellEnd(notices);
        match back_end {
            BackEnd::Uring(features) => drive(
                UringReactor::new(features, orders.sessions),
                orders,
                &waker_sender,
            ),
            BackEnd::Epoll => drive(EpollReactor::new(orders.sessions), orders, &waker_sender),
        }
    })?;
    match waker.recv() {
        Ok(waker) => Ok((fleet, waker)),
        Err(_) => match fleet.join() {
            Ok(Err(error)) => Err(error.into()),
            _ => Err("a fleet did not start".into()),
        },
    }
}

fn drive(reactor: io::Result<impl Reactor>, orders: Orders, wakers: &Sender<Waker>) -> FleetResult {
    let reactor = reactor?;
    // Whoever has spawned this thread waits for it.
    let _ = wakers.send(reactor.waker());
    fleet::run(reactor, orders)
}

/// The first signal ends the run in good order, the second one at once.
fn listen_for_signals(notices: Sender<Notice>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 || notices.send(Notice::Interrupted).is_err() {
                    std::process::exit(128 + signal);
                }
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (sessions, threads) in [(1, 1), (10, 3), (9, 3), (2, 5)] {
            let shares: Vec<usize> = (0..threads)
                .map(|thread| share(sessions, thread, threads))
                .collect();
            assert_eq!(shares.iter().sum::<usize>(), sessions as usize);
            // The share is what the schedule gives out.
            for (thread, share) in shares.iter().enumerate() {
                let mut pace = Pace::new(sessions, 1.0, thread as u32, threads);
                let given = std::iter::from_fn(|| pace.take_due(Duration::from_secs(100))).count();
                assert_eq!(given, *share);
            }
        }
    }

    #[test]
    fn a_run_waits_for_all_fleets_and_for_no_longer_than_it_must() {
        let (sender, notices) = mpsc::channel();
        let mut director = Director {
            control: Arc::default(),
            wakers: Vec::new(),
            notices,
            ready: 0,
            ended: 0,
            interrupted: false,
        };
        director.wait(Duration::ZERO);
        sender.send(Notice::Ready).unwrap();
        sender.send(Notice::Interrupted).unwrap();
        // A day, unless the interruption ends it.
        director.wait(Duration::from_secs(86_400));
        assert!(director.is_over());
        assert_eq!(director.ready, 1);
    }
}
