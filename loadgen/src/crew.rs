//! Who runs the fleets: threads of this process, or other processes, which are told and tell by lines of JSON on their
//! standard streams.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use brightwire::config::plan::IoChoice;
use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe::{self, Features};
use brightwire::reactor::uring::UringReactor;
use brightwire::reactor::{Reactor, Waker};
use serde::{Deserialize, Serialize};

use crate::control::{Control, Notice, Phase, TellEnd};
use crate::fleet::{self, Orders};
use crate::process;
use crate::scenario::Scenario;
use crate::session::Setup;

/// Open files besides the sessions' sockets: standard streams, rings, wakers, `/proc`. Generous.
const OTHER_FILES: u64 = 128;

/// What a process is told first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// What is run.
    pub scenario: Scenario,
    /// The number of the process's first fleet.
    pub first: u32,
}

/// What it is told after that.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Order {
    phase: Phase,
    window_ns: u64,
}

/// All fleets of a run.
#[derive(Default)]
pub struct Crew {
    threads: Vec<(JoinHandle<()>, Waker)>,
    processes: Vec<(Child, ChildStdin)>,
    fleets: usize,
    io: &'static str,
}

/// The I/O back end of all fleets.
#[derive(Clone, Copy, Debug)]
enum BackEnd {
    Uring(Features),
    Epoll,
}

impl Crew {
    fn new(fleets: usize, back_end: BackEnd) -> Self {
        let mut crew = Self::default();
        crew.fleets = fleets;
        crew.io = match back_end {
            BackEnd::Uring(_) => "uring",
            BackEnd::Epoll => "epoll",
        };
        crew
    }

    /// Fleets in this process.
    pub fn here(
        share: Share,
        control: &Arc<Control>,
        notices: &Sender<Notice>,
    ) -> Result<Self, Box<dyn Error>> {
        let back_end = choose_io(share.scenario.io)?;
        let threads = u32::from(share.scenario.threads);
        let fleets = threads * u32::from(share.scenario.processes);
        let server = share.scenario.address()?;
        let sessions = share.scenario.sessions();
        let setup = Arc::new(Setup::new(share.scenario)?);
        let ours = share.first..share.first + threads;
        let count = |fleet: u32| sessions.saturating_sub(fleet).div_ceil(fleets);
        let sockets: u32 = ours.clone().map(count).sum();
        process::allow_open_files(u64::from(sockets) + OTHER_FILES)?;
        let mut crew = Self::new(threads as usize, back_end);
        for fleet in ours {
            let orders = Orders {
                setup: Arc::clone(&setup),
                server,
                fleet,
                fleets,
                control: Arc::clone(control),
                notices: notices.clone(),
            };
            crew.threads
                .push(spawn(orders, back_end, count(fleet) as usize)?);
        }
        Ok(crew)
    }

    /// Fleets in processes of their own.
    pub fn elsewhere(
        scenario: &Scenario,
        notices: &Sender<Notice>,
    ) -> Result<Self, Box<dyn Error>> {
        let back_end = choose_io(scenario.io)?;
        let fleets = usize::from(scenario.threads) * usize::from(scenario.processes);
        let mut crew = Self::new(fleets, back_end);
        for process in 0..scenario.processes {
            let mut child = Command::new(std::env::current_exe()?)
                .arg("worker")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // Ctrl-C is for the first process, which leads the others to a good end.
                .process_group(0)
                .spawn()?;
            let mut stdin = child.stdin.take().expect("it is piped");
            let stdout = child.stdout.take().expect("it is piped");
            let share = Share {
                scenario: scenario.clone(),
                first: u32::from(process) * u32::from(scenario.threads),
            };
            write_line(&mut stdin, &share)?;
            let (notices, mut ends) = (notices.clone(), scenario.threads);
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let notice = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                    let Some(notice) = notice else { break };
                    if let Notice::Ended(_) = notice {
                        ends -= 1;
                    }
                    if notices.send(notice).is_err() {
                        return;
                    }
                }
                if ends > 0 {
                    let reason = "a process of the generator has ended early".into();
                    let _ = notices.send(Notice::Broken(reason));
                }
            });
            crew.processes.push((child, stdin));
        }
        Ok(crew)
    }

    /// How many fleets there are.
    pub fn fleets(&self) -> usize {
        self.fleets
    }

    /// The back end, as reports name it.
    pub fn io(&self) -> &'static str {
        self.io
    }

    /// Leads other processes, and wakes our own fleets to look at the phase.
    pub fn enter(&mut self, phase: Phase, window_ns: u64) {
        for (_, waker) in &self.threads {
            waker.wake();
        }
        for (_, stdin) in &mut self.processes {
            // One that is gone has been noticed by the end of its output.
            let _ = write_line(stdin, &Order { phase, window_ns });
        }
    }

    /// Waits for all that ends by itself now.
    pub fn join(&mut self) {
        for (thread, _) in self.threads.drain(..) {
            let _ = thread.join();
        }
        for (mut child, stdin) in self.processes.drain(..) {
            drop(stdin);
            let _ = child.wait();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // After an error: nobody leads them any more.
        for (mut child, _) in self.processes.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the share of a process that the first one has started.
pub fn work() -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let share: Share = serde_json::from_str(&line)?;
    let control = Arc::new(Control::default());
    let (sender, notices) = mpsc::channel();
    let mut crew = Crew::here(share, &control, &sender)?;
    let wakers: Vec<Waker> = crew
        .threads
        .iter()
        .map(|(_, waker)| waker.clone())
        .collect();
    thread::spawn(move || {
        for line in io::stdin().lines() {
            let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(Order { phase, window_ns }) = order else {
                break;
            };
            control.enter(phase, window_ns);
            wakers.iter().for_each(Waker::wake);
            if phase == Phase::Stop {
                return;
            }
        }
        // Whoever has started us is gone.
        std::process::exit(1);
    });
    let mut out = io::stdout().lock();
    let mut ended = 0;
    while ended < crew.fleets {
        let notice = notices.recv()?;
        ended += usize::from(matches!(notice, Notice::Ended(_) | Notice::Broken(_)));
        write_line(&mut out, &notice)?;
    }
    crew.join();
    Ok(())
}

fn write_line(out: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
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

/// Starts a fleet. A reactor is made on the thread that uses it, so that its waker comes back through a channel.
fn spawn(
    orders: Orders,
    back_end: BackEnd,
    sessions: usize,
) -> Result<(JoinHandle<()>, Waker), Box<dyn Error>> {
    // While a connection is replaced there are two of them.
    let connections = sessions + OTHER_FILES as usize / 2;
    let (waker_sender, waker) = mpsc::channel();
    let name = format!("fleet-{}", orders.fleet);
    let thread = thread::Builder::new().name(name).spawn(move || {
        let notices = orders.notices.clone();
        let _tell = TellEnd(notices.clone());
        let outcome = match back_end {
            BackEnd::Uring(features) => drive(
                UringReactor::new(features, connections),
                orders,
                &waker_sender,
            ),
            BackEnd::Epoll => drive(EpollReactor::new(connections), orders, &waker_sender),
        };
        let notice = match outcome {
            Ok(outcome) => Notice::Ended(Box::new(outcome)),
            Err(error) => Notice::Broken(format!("a fleet has ended: {error}")),
        };
        // Nobody listens any more if the run is over.
        let _ = notices.send(notice);
    })?;
    match waker.recv() {
        Ok(waker) => Ok((thread, waker)),
        Err(_) => {
            let _ = thread.join();
            Err("a fleet did not start".into())
        }
    }
}

fn drive(
    reactor: io::Result<impl Reactor>,
    orders: Orders,
    wakers: &Sender<Waker>,
) -> io::Result<fleet::Outcome> {
    let reactor = reactor?;
    // Whoever has spawned this thread waits for it.
    let _ = wakers.send(reactor.waker());
    fleet::run(reactor, orders)
}
