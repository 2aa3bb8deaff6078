//! The server: everything that a plan asks for, running together.
//!
//! | Module | What it is |
//! |---|---|
//! | `adapters` | the adapters of a plan, started |
//! | `setup` | what a plan means to ingest, to a shard and to its connections |
//! | `cores` | the threads of ingest and shards |

mod adapters;
mod cores;
mod setup;

pub(crate) use adapters::{OwnAdapters, OwnMetadata};

use crate::adapter::Manners;
use crate::adapter::metadata::desk;
use crate::adapter::remote::{Awaited, Remotes};
use crate::config::plan::{Plan, Threading};
use crate::lifecycle::{self, StopSignal, WishSource};
use crate::net::listener::{self, Options};
use crate::runtime::clock::Clock;
use crate::runtime::host::{self, Host, HostKind, HostWaker, WakeSource};
use crate::runtime::ingest_core::IngestCore;
use crate::runtime::park::Park;
use crate::runtime::rings::{self, Capacities, Command};
use adapters::{Adapters, start_adapters};
use cores::{Outcome, choose_io, spawn, spawn_cores};
use engine::counters::Counter;
use engine::ingest::Ingest;
use rtrb::Producer;
use setup::{limits, settings, setup};
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// What ends a server, besides a failure.
pub(crate) enum Stop {
    /// SIGINT or SIGTERM.
    Signal(StopSignal),
    /// The program that has started it.
    Program(WishSource),
}

impl Stop {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Signal(signal) => Self::Signal(signal.try_clone()?),
            Self::Program(wishes) => Self::Program(wishes.try_clone()?),
        })
    }

    /// Returns why the server shall stop. `block` is told whether it shall open no sessions, whenever that changes.
    async fn wait(self, host: &Host, block: impl FnMut(bool)) -> io::Result<String> {
        match self {
            Self::Signal(signal) => Ok(format!("{:?}", signal.wait(host, block).await?)),
            Self::Program(wishes) => {
                wishes.wait(host, block).await?;
                Ok("the program wants it".to_owned())
            }
        }
    }
}

/// Runs the server until it is told to stop by a signal. `started` is called with the addresses on which it listens,
/// once it does.
pub fn run(
    plan: Plan,
    ports_file: Option<PathBuf>,
    started: impl FnOnce(&[(String, SocketAddr)]),
) -> Result<(), Box<dyn Error>> {
    let stop = Stop::Signal(StopSignal::install()?);
    run_with(plan, OwnAdapters::default(), stop, ports_file, started)
}

/// The same with adapters of the program, and until `stop`.
pub(crate) fn run_with(
    plan: Plan,
    own: OwnAdapters,
    stop: Stop,
    ports_file: Option<PathBuf>,
    started: impl FnOnce(&[(String, SocketAddr)]),
) -> Result<(), Box<dyn Error>> {
    let (back_end, host_kind) = choose_io(plan.io)?;
    let clock = Clock::start();
    let capacities = Capacities {
        data_bytes: plan.rings.data_ring_bytes,
        messages: plan.rings.control_ring_len,
    };
    let (ingest_rings, shard_rings, control) = rings::rings(plan.shards, capacities);
    let settings = settings(&plan)?;
    let manners = match plan.threading {
        Threading::Shared => Manners::beside_one_thread(!plan.spin.is_zero()),
        Threading::Dedicated => Manners::Interrupts,
    };
    let Adapters {
        sets,
        running: adapters,
        metadata,
        desks,
        mut remotes,
    } = start_adapters(&plan.adapter_sets, own, &ingest_rings.park, manners)?;
    let (awaited, remote_ports) = (remotes.awaited(), remotes.addresses().to_vec());
    let ingest = Ingest::new(
        plan.shards,
        plan.sessions.subscription_linger,
        limits(&plan),
    );
    let ingest = IngestCore::new(ingest, sets, adapters, metadata, ingest_rings, clock);

    let (ended, source) = host::wake_pair()?;
    let mut threads = spawn_adapters(remotes, desks, manners, &ended)?;
    if let Some(reason) = await_remotes(awaited, host_kind, &stop, &source)? {
        tracing::info!("stopping before clients could connect: {reason}");
        ingest.finish();
        return finish(threads);
    }
    let (listeners, addresses) = listen(&plan)?;
    let ports = [&addresses[..], &remote_ports].concat();
    let setups = shard_rings
        .into_iter()
        .map(|rings| setup(&plan, &settings, rings, clock));
    let shards = setups.zip(listeners);
    threads.extend(spawn_cores(
        &plan,
        ingest,
        shards,
        (back_end, host_kind),
        &ended,
    )?);
    if let Some(path) = ports_file {
        lifecycle::write_ports_file(&path, &ports)?;
    }
    started(&addresses);

    // The control core: from here on this thread only waits.
    let mut cores = control.cores;
    let core = plan.placement.control;
    host::run(host_kind, "control", core, |host| async move {
        let block = |blocked| {
            let what = if blocked { "blocked" } else { "welcome" };
            tracing::info!("new sessions are {what}");
            tell(&mut cores, Command::Block(blocked));
        };
        let reason = told_to_stop(stop, source, &host, block).await?;
        tracing::info!("stopping: {reason}");
        tell(&mut cores, Command::Stop);
        io::Result::Ok(())
    })??;
    finish(threads)
}

/// The threads of adapters that are not of the cores: those in other processes, and metadata adapters of this one.
fn spawn_adapters(
    remotes: Remotes,
    desks: Vec<desk::Start>,
    manners: Manners,
    ended: &HostWaker,
) -> io::Result<Vec<JoinHandle<Outcome>>> {
    let mut threads = Vec::new();
    if !remotes.is_empty() {
        let run = move || {
            manners.adopt();
            remotes.run().map(|()| Vec::new())
        };
        threads.push(spawn("adapters", ended.clone(), run)?);
    }
    for desk in desks {
        let run = move || desk.run().map(|()| Vec::new());
        threads.push(spawn("metadata", ended.clone(), run)?);
    }
    Ok(threads)
}

/// Waits for the remote adapters without which no clients are let in. Returns why the server shall stop, if it shall.
fn await_remotes(
    awaited: Awaited,
    host_kind: HostKind,
    stop: &Stop,
    ended: &WakeSource,
) -> io::Result<Option<String>> {
    if awaited.is_empty() {
        return Ok(None);
    }
    let (stop, ended) = (stop.try_clone()?, ended.try_clone()?);
    host::run(host_kind, "start", None, |host| async move {
        let here = async {
            awaited.wait(&host).await;
            Ok(None)
        };
        // The shards are told what holds when they are there.
        let told = async { told_to_stop(stop, ended, &host, |_| ()).await.map(Some) };
        smol::future::or(told, here).await
    })?
}

/// Tells all cores something. One that has ended reads no more, and needs not.
fn tell(cores: &mut [(Producer<Command>, Arc<Park>)], command: Command) {
    for (commands, park) in cores {
        while commands.push(command).is_err() && !commands.is_abandoned() {
            park.wake_if_parked();
            thread::sleep(std::time::Duration::from_millis(1));
        }
        park.wake_if_parked();
    }
}

/// Waits until somebody wants the server to stop, or one of its threads has ended. Returns why.
async fn told_to_stop(
    stop: Stop,
    ended: WakeSource,
    host: &Host,
    block: impl FnMut(bool),
) -> io::Result<String> {
    let mut ended = host.waiter(ended)?;
    let told = stop.wait(host, block);
    let core_ended = async {
        ended
            .wait(None)
            .await
            .map(|_| "a core has ended".to_owned())
    };
    smol::future::or(told, core_ended).await
}

fn finish(threads: Vec<JoinHandle<Outcome>>) -> Result<(), Box<dyn Error>> {
    let mut failures = Vec::new();
    let mut totals = [0; Counter::ALL.len()];
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_owned();
        match thread.join() {
            Ok(Ok(counters)) => {
                for (total, counter) in totals.iter_mut().zip(Counter::ALL) {
                    *total += counters
                        .iter()
                        .map(|counters| counters.get(*counter))
                        .sum::<u64>();
                }
            }
            Ok(Err(error)) => failures.push(format!("{name}: {error}")),
            Err(_) => failures.push(format!("{name}: panicked")),
        }
    }
    for (total, counter) in totals
        .iter()
        .zip(Counter::ALL)
        .filter(|(total, _)| **total > 0)
    {
        tracing::info!("{}: {total} {}", counter.name(), counter.unit());
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; ").into())
    }
}

/// For each shard its listening sockets, one per listener of the plan; and where these are.
#[expect(clippy::type_complexity)]
fn listen(
    plan: &Plan,
) -> Result<(Vec<Vec<TcpListener>>, Vec<(String, SocketAddr)>), Box<dyn Error>> {
    let mut by_shard: Vec<Vec<TcpListener>> = (0..plan.shards).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listener in &plan.listeners {
        let options = Options {
            backlog: plan.socket.backlog,
            notsent_lowat_bytes: plan.socket.notsent_lowat,
            // A client that reads nothing is the engine's to judge: the kernel must not be quicker.
            user_timeout: plan.socket.write_timeout,
            send_buffer_bytes: plan.socket.send_buffer.map(|bytes| bytes as usize),
            ..Options::new(listener.address)
        };
        let sockets = listener::listen(&options, plan.shards)?;
        addresses.push((listener.name.clone(), sockets[0].local_addr()?));
        for (shard, socket) in by_shard.iter_mut().zip(sockets) {
            shard.push(socket);
        }
    }
    Ok((by_shard, addresses))
}
