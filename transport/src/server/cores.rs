//! The threads of ingest and shards: which back end they use, and what each runs.

use super::setup::ShardSetup;
use crate::config::plan::{IoChoice, Plan, Threading};
use crate::reactor::Reactor;
use crate::reactor::epoll::EpollReactor;
use crate::reactor::probe::{self, Features};
use crate::reactor::uring::UringReactor;
use crate::runtime::host::{self, HostKind, HostWaker};
use crate::runtime::ingest_core::IngestCore;
use crate::runtime::shard_core::{Setup, ShardCore};
use crate::runtime::topology;
use engine::counters::Counters;
use engine::shard::Shard;
use std::io;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

/// The I/O back end of all shards.
#[derive(Clone, Copy)]
pub(super) enum BackEnd {
    Uring(Features),
    Epoll,
}

pub(super) type Outcome = Result<Vec<Counters>, String>;

/// The back end for shards and the host for ingest and control. Steps down where that is allowed, and says so.
pub(super) fn choose_io(choice: IoChoice) -> Result<(BackEnd, HostKind), String> {
    if choice == IoChoice::Epoll {
        tracing::info!("shards use epoll, as configured");
        return Ok((BackEnd::Epoll, HostKind::Smol));
    }
    let probe = probe::probe();
    match &probe.obstacle {
        None => {
            tracing::info!("shards use io_uring: {probe}");
            Ok((BackEnd::Uring(probe.features), HostKind::Auto))
        }
        Some(obstacle) if choice == IoChoice::Uring => {
            Err(format!("io = \"uring\" is configured, but: {obstacle}"))
        }
        Some(obstacle) => {
            tracing::warn!("shards use epoll: {obstacle}");
            Ok((BackEnd::Epoll, HostKind::Smol))
        }
    }
}

/// Starts the threads of ingest and of the shards, of each its setup and its listeners.
pub(super) fn spawn_cores(
    plan: &Plan,
    ingest: IngestCore,
    mut shards: impl Iterator<Item = (ShardSetup, Vec<TcpListener>)>,
    (back_end, host_kind): (BackEnd, HostKind),
    ended: &HostWaker,
) -> io::Result<Vec<JoinHandle<Outcome>>> {
    let max = plan.sessions.connections_max;
    let core_of = |shard: usize| plan.placement.shards.get(shard).copied().flatten();
    if plan.threading == Threading::Shared {
        let (setup, listeners) = shards.next().expect("shared threading has one shard");
        let core = core_of(0);
        let run = move || run_shard(setup, listeners, back_end, core, max, Some(ingest));
        return Ok(vec![spawn("shard-0", ended.clone(), run)?]);
    }
    let (spin, core) = (plan.spin, plan.placement.ingest);
    let run = move || run_ingest(ingest, host_kind, core, spin);
    let mut threads = vec![spawn("ingest", ended.clone(), run)?];
    for (index, (setup, listeners)) in shards.enumerate() {
        let core = core_of(index);
        let run = move || run_shard(setup, listeners, back_end, core, max, None);
        threads.push(spawn(&format!("shard-{index}"), ended.clone(), run)?);
    }
    Ok(threads)
}

fn run_ingest(
    ingest: IngestCore,
    kind: HostKind,
    core: Option<usize>,
    spin: std::time::Duration,
) -> Outcome {
    let run = || -> io::Result<Counters> {
        let (waker, source) = host::wake_pair()?;
        ingest.park().set_wake(move || waker.wake());
        host::run(kind, "ingest", core, |host| async move {
            let waiter = host.waiter(source)?;
            ingest.run(host, waiter, spin).await
        })?
    };
    run()
        .map(|counters| vec![counters])
        .map_err(|error| error.to_string())
}

fn run_shard(
    setup: ShardSetup,
    listeners: Vec<TcpListener>,
    back_end: BackEnd,
    core: Option<usize>,
    connections_max: usize,
    ingest: Option<IngestCore>,
) -> Outcome {
    let run = || -> io::Result<Vec<Counters>> {
        if let Some(core) = core {
            topology::pin_current_thread(core)?;
        }
        match back_end {
            BackEnd::Uring(features) => drive(
                UringReactor::new(features, connections_max)?,
                setup,
                listeners,
                ingest,
            ),
            BackEnd::Epoll => drive(
                EpollReactor::new(connections_max)?,
                setup,
                listeners,
                ingest,
            ),
        }
    };
    run().map_err(|error| error.to_string())
}

fn drive(
    mut reactor: impl Reactor,
    setup: ShardSetup,
    listeners: Vec<TcpListener>,
    ingest: Option<IngestCore>,
) -> io::Result<Vec<Counters>> {
    for (index, listener) in listeners.into_iter().enumerate() {
        reactor.listen(listener, u32::try_from(index).expect("listeners are few"))?;
    }
    let ShardSetup {
        config,
        rings,
        connections,
        connections_max,
        head_timeout,
        spin,
        clock,
    } = setup;
    let random = || {
        let mut bytes = [0; engine::shard::session_id::RANDOM_BYTES];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        bytes
    };
    let shard = Shard::new(config, random);
    let core = ShardCore::new(
        reactor,
        Setup {
            shard,
            rings,
            connections,
            connections_max,
            head_timeout,
            spin,
            clock,
        },
    );
    match ingest {
        None => core.run().map(|counters| vec![counters]),
        Some(ingest) => core
            .run_with(ingest)
            .map(|(shard, ingest)| vec![shard, ingest]),
    }
}

/// Starts a core's thread. However it ends, the control core hears of it.
pub(super) fn spawn(
    name: &str,
    ended: HostWaker,
    run: impl FnOnce() -> Outcome + Send + 'static,
) -> io::Result<JoinHandle<Outcome>> {
    struct Tell(HostWaker);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.wake();
        }
    }
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _tell = Tell(ended);
        run()
    })
}
