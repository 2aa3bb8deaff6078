//! The server: everything that a plan asks for, running together.

use crate::adapter::data::{self, DataAdapter};
use crate::adapter::demo::Demo;
use crate::adapter::feed::FeedCapacity;
use crate::adapter::lines::Lines;
use crate::adapter::literal::Literal;
use crate::adapter::metadata::{MetadataAdapter, MetadataOptions, desk};
use crate::adapter::remote::{MetadataInbox, RemoteSet, Remotes};
use crate::adapter::replay::{Replay, ReplayConfig};
use crate::adapter::{self, RunningAdapter, Source};
use crate::config::plan::{
    AdapterSetPlan, DataAdapterPlan, DataKind, IoChoice, ListenerPlan, MetadataPlan, Pace, Plan,
    RemotePlan, Threading, WhenBlocked,
};
use crate::lifecycle::{self, StopSignal};
use crate::net::folder;
use crate::net::listener::{self, Options};
use crate::net::settings::Settings;
use crate::reactor::Reactor;
use crate::reactor::epoll::EpollReactor;
use crate::reactor::probe::{self, Features};
use crate::reactor::uring::UringReactor;
use crate::runtime::clock::Clock;
use crate::runtime::host::{self, Host, HostKind, HostWaker, WakeSource};
use crate::runtime::ingest_core::IngestCore;
use crate::runtime::park::Park;
use crate::runtime::rings::{self, Capacities, Command, ShardRings};
use crate::runtime::shard_core::{Setup, ShardCore};
use crate::runtime::topology;
use crate::wire::authority::Authority;
use crate::wire::pages::Site;
use Place::{InProcess, Remote};
use engine::counters::{Counter, Counters};
use engine::ids::DataAdapterId;
use engine::ingest::Ingest;
use engine::item::safe::{SafeRule, SafeRules};
use engine::limits::Limits;
use engine::metadata::literal::Literal as Everything;
use engine::metadata::{AdapterSetId, AdapterSets};
use engine::shard::{Config, Selectors, Shard};
use rtrb::Producer;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Bytes of the ring between a data adapter and ingest: some tens of thousands of events. (guess)
const FEED_RING_BYTES: usize = 4 << 20;
/// Subscriptions that a data adapter may be behind with before ingest keeps them.
const FEED_COMMANDS: usize = 4096;

/// The I/O back end of all shards.
#[derive(Clone, Copy)]
enum BackEnd {
    Uring(Features),
    Epoll,
}

type Outcome = Result<Vec<Counters>, String>;

/// The adapters that a program brings along, by the names that its plan has for them.
#[derive(Default)]
pub(crate) struct OwnAdapters {
    /// By adapter set and name.
    pub data: HashMap<(String, String), Box<dyn DataAdapter>>,
    /// By adapter set.
    pub metadata: HashMap<String, OwnMetadata>,
}

/// A metadata adapter that a program brings along.
pub(crate) struct OwnMetadata {
    pub adapter: Box<dyn MetadataAdapter>,
    pub options: MetadataOptions,
}

/// What ends a server, besides a failure.
pub(crate) enum Stop {
    /// SIGINT or SIGTERM.
    Signal(StopSignal),
    /// The other end of a wake pair.
    Wake(WakeSource),
}

impl Stop {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Signal(signal) => Self::Signal(signal.try_clone()?),
            Self::Wake(source) => Self::Wake(source.try_clone()?),
        })
    }

    /// Returns why the server shall stop. `block` is told whether it shall open no sessions, whenever that changes.
    async fn wait(self, host: &Host, block: impl FnMut(bool)) -> io::Result<String> {
        match self {
            Self::Signal(signal) => Ok(format!("{:?}", signal.wait(host, block).await?)),
            Self::Wake(source) => {
                host.waiter(source)?.wait(None).await?;
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
    let Adapters {
        sets,
        running: adapters,
        metadata,
        desks,
        mut remotes,
    } = start_adapters(&plan.adapter_sets, own, &ingest_rings.park)?;
    let (awaited, remote_ports) = (remotes.awaited(), remotes.addresses().to_vec());
    let ingest = Ingest::new(
        plan.shards,
        plan.sessions.subscription_linger,
        limits(&plan),
    );
    let ingest = IngestCore::new(ingest, sets, adapters, metadata, ingest_rings, clock);

    let (ended, source) = host::wake_pair()?;
    let mut threads = Vec::new();
    if !remotes.is_empty() {
        let run = move || remotes.run().map(|()| Vec::new());
        threads.push(spawn("adapters", ended.clone(), run)?);
    }
    for desk in desks {
        let run = move || desk.run().map(|()| Vec::new());
        threads.push(spawn("metadata", ended.clone(), run)?);
    }
    if !awaited.is_empty() {
        let (stop, source) = (stop.try_clone()?, source.try_clone()?);
        let reason = host::run(host_kind, "start", None, |host| async move {
            let here = async {
                awaited.wait(&host).await;
                Ok(None)
            };
            // The shards are told what holds when they are there.
            let told = async { told_to_stop(stop, source, &host, |_| ()).await.map(Some) };
            smol::future::or(told, here).await
        })??;
        if let Some(reason) = reason {
            tracing::info!("stopping before clients could connect: {reason}");
            ingest.finish();
            return finish(threads);
        }
    }
    let (mut listeners, addresses) = listen(&plan)?;
    let ports = [&addresses[..], &remote_ports].concat();
    let mut setups = shard_rings
        .into_iter()
        .map(|rings| setup(&plan, &settings, rings, clock));
    match plan.threading {
        Threading::Dedicated => {
            let (spin, core) = (plan.spin, plan.placement.ingest);
            threads.push(spawn("ingest", ended.clone(), move || {
                run_ingest(ingest, host_kind, core, spin)
            })?);
            for (index, setup) in setups.enumerate() {
                let listeners = listeners.pop().expect("as many as shards");
                let (core, max) = (
                    plan.placement.shards.get(index).copied().flatten(),
                    plan.sessions.connections_max,
                );
                let run = move || run_shard(setup, listeners, back_end, core, max, None);
                threads.push(spawn(&format!("shard-{index}"), ended.clone(), run)?);
            }
        }
        Threading::Shared => {
            let setup = setups.next().expect("shared threading has one shard");
            let listeners = listeners.pop().expect("as many as shards");
            let (core, max) = (
                plan.placement.shards.first().copied().flatten(),
                plan.sessions.connections_max,
            );
            threads.push(spawn("shard-0", ended.clone(), move || {
                run_shard(setup, listeners, back_end, core, max, Some(ingest))
            })?);
        }
    }
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

/// The back end for shards and the host for ingest and control. Steps down where that is allowed, and says so.
fn choose_io(choice: IoChoice) -> Result<(BackEnd, HostKind), String> {
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

/// The adapters of all sets.
struct Adapters {
    sets: AdapterSets,
    /// The data adapters by their numbers.
    running: Vec<RunningAdapter>,
    /// The metadata adapters that are asked, with the sets that they decide for.
    metadata: Vec<(AdapterSetId, MetadataInbox)>,
    /// The desks of those in this process, each to be served by a thread.
    desks: Vec<desk::Start>,
    /// Those in other processes, to be served by a thread.
    remotes: Remotes,
}

fn start_adapters(
    plans: &[AdapterSetPlan],
    mut own: OwnAdapters,
    ingest: &Arc<Park>,
) -> Result<Adapters, Box<dyn Error>> {
    let mut sets = AdapterSets::default();
    let mut running = Vec::new();
    let mut metadata = Vec::new();
    let mut desks = Vec::new();
    let mut remotes = Remotes::default();
    for (index, set) in plans.iter().enumerate() {
        let names: Vec<&str> = set.data.iter().map(|data| data.name.as_str()).collect();
        match &set.metadata {
            MetadataPlan::Own | MetadataPlan::Rules(_) => {
                let ids = sets.add_elsewhere(&set.name, &names);
                let id = set_id(index);
                let data = names.iter().map(|name| (*name).into()).zip(ids).collect();
                let own = match &set.metadata {
                    MetadataPlan::Rules(rules) => OwnMetadata {
                        adapter: Box::new(Literal::new((**rules).clone())?),
                        options: Literal::options(),
                    },
                    _ => own
                        .metadata
                        .remove(&set.name)
                        .expect("the plan names what is there"),
                };
                let place = data::Place {
                    adapter_set: set.name.clone(),
                    data_adapter: None,
                };
                let ingest = Arc::clone(ingest);
                let wake = move || ingest.wake_if_parked();
                let (inbox, start) = desk::start(own.adapter, place, id, data, own.options, wake)?;
                metadata.push((id, inbox));
                desks.push(start);
            }
            MetadataPlan::Literal => {
                sets.add(&set.name, Everything::default(), &names);
            }
            MetadataPlan::Remote(plan) => {
                let ids = sets.add_elsewhere(&set.name, &names);
                let id = set_id(index);
                let adapter_set = RemoteSet {
                    id,
                    name: set.name.clone(),
                    data: names.iter().map(|name| (*name).into()).zip(ids).collect(),
                };
                let ingest = Arc::clone(ingest);
                let wake = move || ingest.wake_if_parked();
                let inbox = remotes.add_metadata(adapter_set, plan, wake)?;
                metadata.push((id, inbox));
            }
        }
        if let Some(name) = &set.status {
            sets.add_status(set_id(index), name);
        }
        for data in &set.data {
            let ingest = Arc::clone(ingest);
            let capacity = FeedCapacity {
                ring_bytes: FEED_RING_BYTES,
                commands: FEED_COMMANDS,
            };
            let wake = move || ingest.wake_if_parked();
            if matches!(data.kind, DataKind::Own) {
                let adapter = own.data.remove(&(set.name.clone(), data.name.clone()));
                let adapter = adapter.expect("the plan names what is there");
                let place = data::Place {
                    adapter_set: set.name.clone(),
                    data_adapter: Some(data.name.clone()),
                };
                running.push(data::start(adapter, place, capacity, wake)?);
                continue;
            }
            running.push(match data_adapter(data)? {
                InProcess(adapter) => adapter::spawn(&data.name, adapter, capacity, wake)?,
                Remote(plan) => {
                    let first = set.metadata_first;
                    remotes.add_data(&set.name, &data.name, plan, first, capacity, wake)?
                }
            });
        }
    }
    Ok(Adapters {
        sets,
        running,
        metadata,
        desks,
        remotes,
    })
}

fn set_id(index: usize) -> AdapterSetId {
    AdapterSetId(u16::try_from(index).expect("a configuration has few sets"))
}

/// Where a data adapter runs.
enum Place<'p> {
    InProcess(Arc<dyn Source>),
    Remote(&'p RemotePlan),
}

fn data_adapter(plan: &DataAdapterPlan) -> Result<Place<'_>, Box<dyn Error>> {
    Ok(InProcess(match &plan.kind {
        DataKind::Remote(plan) => return Ok(Remote(plan)),
        DataKind::Own => {
            return Err(format!("{} is for a program to bring along", plan.name).into());
        }
        DataKind::Demo { rate } => Arc::new(Demo::new(*rate, fastrand::u64(..))?),
        DataKind::Lines { address } => {
            let lines = Lines::bind(address.clone())
                .map_err(|error| format!("data adapter {} at {address}: {error}", plan.name))?;
            tracing::info!(
                adapter = plan.name,
                "publishers connect to {}",
                lines.address()
            );
            Arc::new(lines)
        }
        DataKind::Replay { file, pace, looped } => {
            let pace = match pace {
                Pace::Speed(factor) if factor.is_infinite() => adapter::replay::Pace::Unlimited,
                Pace::Speed(factor) => adapter::replay::Pace::Speed(*factor),
                Pace::Rate(hz) => adapter::replay::Pace::RateHz(*hz),
            };
            Arc::new(Replay::open(ReplayConfig {
                path: file.clone(),
                pace,
                looped: *looped,
            })?)
        }
    }))
}

/// Events that are never merged away, by the numbers of their data adapters: these are counted as [`AdapterSets`] does.
fn trade_safe(plan: &Plan) -> SafeRules {
    let adapters = plan.adapter_sets.iter().flat_map(|set| &set.data);
    let rules = (0..).zip(adapters).flat_map(|(number, adapter)| {
        adapter.trade_safe.iter().map(move |rule| SafeRule {
            adapter: DataAdapterId(number),
            items: rule.items.clone().into(),
            what: rule.what.clone(),
        })
    });
    SafeRules::new(rules.collect())
}

/// What clients may select by, by the numbers of their adapter sets.
fn selectors(plan: &Plan) -> Selectors {
    let sets = (0..).map(set_id).zip(&plan.adapter_sets);
    let selectors = sets.flat_map(|(number, set)| {
        let named = set.selectors.iter();
        named.map(move |(name, selector)| (number, name.as_str().into(), selector.clone()))
    });
    Selectors::new(selectors.collect())
}

fn limits(plan: &Plan) -> Limits {
    let limits = Limits {
        request_bytes_max: plan.sessions.request_limit,
        sessions_max: plan.sessions.sessions_max,
        subscribed_items_max: plan.sessions.subscribed_items_max,
        recovery_bytes_max: plan.sessions.recovery_memory,
        recovery_bytes_total_max: plan.sessions.recovery_memory_shard,
        ..Limits::DEFAULT
    };
    limits.for_ring(plan.rings.data_ring_bytes)
}

/// What one shard is told; made on the thread that spawns it, since [`Shard`] itself cannot leave its own.
struct ShardSetup {
    config: Config,
    rings: ShardRings,
    connections: Vec<Arc<Settings>>,
    connections_max: usize,
    head_timeout: std::time::Duration,
    spin: std::time::Duration,
    clock: Clock,
}

/// What the connections of each listener have in common.
fn settings(plan: &Plan) -> Result<Vec<Settings>, String> {
    let site = Arc::new(site(plan)?);
    let keeps_headers = plan
        .adapter_sets
        .iter()
        .any(|set| matches!(set.metadata, MetadataPlan::Remote(_) | MetadataPlan::Own));
    let settings = |listener: &ListenerPlan| Settings {
        request_bytes_max: plan.sessions.request_limit,
        origins: listener.origins.clone(),
        added_headers: listener.added_headers.clone(),
        echoed_headers: listener.echoed_headers.clone(),
        server_name: plan.http.server.clone(),
        name: Some(listener.name.as_str().into()),
        keeps_headers,
        servname: listener.server_name.as_deref().map(Into::into),
        role: listener.role,
        prefixes: listener.prefixes.clone(),
        proxy_protocol: listener.proxy_protocol,
        trusted_proxies: listener.trusted_proxies.clone(),
        forwarded_hops: listener.forwarded_hops,
        gzip: plan.http.gzip,
        control_link: plan
            .sessions
            .control_link
            .as_deref()
            .map(Authority::of_link),
        legacy: plan.http.legacy,
        health_path: listener.health_path.clone(),
        site: if listener.pages {
            Arc::clone(&site)
        } else {
            Arc::default()
        },
    };
    Ok(plan.listeners.iter().map(settings).collect())
}

/// The pages, read from disk before any shard runs.
fn site(plan: &Plan) -> Result<Site, String> {
    let mut site = if plan.pages.demo {
        Site::demo()
    } else {
        Site::default()
    };
    if let Some(folder) = &plan.pages.folder {
        site.extend(folder::load(folder, plan.pages.bounds)?);
    }
    Ok(if plan.http.gzip { site.gzipped() } else { site })
}

fn setup(plan: &Plan, listeners: &[Settings], rings: ShardRings, clock: Clock) -> ShardSetup {
    let sessions = &plan.sessions;
    let with_status = plan.adapter_sets.iter().any(|set| set.status.is_some());
    let config = Config {
        shard: rings.shard,
        shards: u16::try_from(plan.shards).expect("the plan bounds the shards"),
        server_name: sessions.server_name.clone(),
        keepalive_default: sessions.keepalive_default,
        keepalive_min: sessions.keepalive_min,
        keepalive_max: sessions.keepalive_max,
        session_timeout: sessions.session_timeout,
        recovery_timeout: sessions.recovery_timeout,
        recovery_age_max: sessions.recovery_age,
        instance: plan.instance,
        bandwidth_kbps_max: sessions.bandwidth_kbps_max,
        update_delay_max: sessions.max_delay,
        delta_delivery: sessions.delta_delivery,
        snapshot_rows_per_s_max: sessions.snapshot_rows_max,
        poll_interval_min: sessions.poll_interval_min,
        polling_max: sessions.polling_max,
        idle_max: sessions.poll_wait_max,
        content_length_default: sessions.content_length,
        streaming_time_max: sessions.streaming_time_max,
        session_duration_max: sessions.duration_max,
        closed_memory: sessions.closed_memory,
        missing_message_timeout: sessions.missing_message_timeout,
        one_session_per_user: sessions.one_per_user,
        take_over_silent: sessions.take_over_silent,
        cid_required: sessions.cid_required,
        blocked_try_again: sessions.blocked == WhenBlocked::TryAgain,
        tell_client_ip: sessions.tell_client_ip,
        control_link: sessions.control_link.clone(),
        idle_timeout: sessions.idle_timeout,
        write_timeout: plan.socket.write_timeout,
        diffs: plan.diffs,
        trade_safe: trade_safe(plan),
        selectors: selectors(plan),
        status_interval: with_status.then_some(sessions.status_interval),
        limits: limits(plan),
        ..Config::default()
    };
    ShardSetup {
        config,
        rings,
        // Each shard has its own, so that no two cores count references to one.
        connections: listeners.iter().cloned().map(Arc::new).collect(),
        connections_max: sessions.connections_max,
        head_timeout: sessions.head_timeout,
        spin: plan.spin,
        clock,
    }
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
fn spawn(
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
