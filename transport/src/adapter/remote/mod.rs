//! Adapters in other processes, over the adapter protocol ([`engine::ari`]).
//!
//! All of them share one thread, an async host with a task for each adapter. It is not ingest's own: reading the lines
//! of a busy feed is work that can go on beside ingest's, and `threading = "shared"` has no host on ingest's thread. A
//! proxy hands events over by the same rings as an adapter in this process ([`super::feed`]). The host is always smol:
//! few sockets speak here, which is where io_uring has nothing to win.
//!
//! | Module | What it is |
//! |---|---|
//! | `meet` | listening or connecting, credentials, init |
//! | `stream`, `lines` | a connection: TLS or not; whole lines in, bytes out |
//! | `data`, `items` | the proxy of a data adapter, and what it is asked for |
//! | `metadata` | the proxy of a metadata adapter: requests and their replies |
//! | `questions`, `opening`, `subscribing` | which requests a shard's question takes, and what their replies mean |
//! | `sessions`, `closes` | which sessions and subscriptions a metadata adapter was told of, and of the ends of which |
//! | `memory` | what is remembered of its answers |
//! | `refusals` | what clients are told when it fails or says no |
//! | `asks` | the rings between ingest and a metadata adapter's proxy |
//! | [`probe`] | the way of events without socket and thread, for those who measure it |
//! | `trouble` | what remotes do wrong: what ends them, and what is said once and counted |
//!
//! | What grows | Bound | At the bound |
//! |---|---|---|
//! | a line | `line_limit` | the connection is closed |
//! | events on their way to ingest | the feed's ring | the remote is not read until there is room |
//! | requests to a data adapter | two per item; 1 MiB to be written | subscriptions wait in ingest |
//! | requests to a metadata adapter that wait for their reply | `pending_limit` of each kind | questions wait in line |
//! | questions in line | what shards may have open | shards refuse them |
//! | what is remembered of items | 200,000 in all | all of it is forgotten |
//! | ends kept for the next remote | 100,000 | the oldest are forgotten, and that is said |

pub(in crate::adapter) mod asks;
mod closes;
mod data;
mod items;
mod lines;
mod meet;
mod memory;
mod metadata;
mod opening;
pub mod probe;
mod questions;
mod refusals;
mod sessions;
mod stream;
mod subscribing;
mod trouble;

pub use asks::MetadataInbox;

use super::RunningAdapter;
use super::feed::{self, FeedCapacity};
use crate::config::plan::{OnLoss, RemoteAddress, RemotePlan, TlsPlan};
use crate::runtime::host::{self, Host, HostKind, WakeSource};
use crate::wire::tls;
use data::{DataProxy, Desk};
use engine::ari::init::Role;
use engine::ids::DataAdapterId;
use engine::metadata::AdapterSetId;
use meet::{Door, Gate, Port, Surroundings};
use smol::channel::{Receiver, Sender, bounded};
use socket2::Socket;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};
use stream::Security;

/// The remote adapters of a server before their thread has started: they listen, and answer nobody yet.
pub struct Remotes {
    server_instance: String,
    proxies: Vec<Start>,
    addresses: Vec<(String, SocketAddr)>,
    /// Whom the server's start waits for, and how long.
    awaited: Vec<(String, Receiver<()>, Duration)>,
    /// Opens the way for data adapters that wait for the metadata adapter just added.
    gate: Option<Receiver<()>>,
}

/// An adapter set whose metadata adapter is remote.
pub struct RemoteSet {
    /// Its number.
    pub id: AdapterSetId,
    /// Its name.
    pub name: String,
    /// The names and numbers of its data adapters.
    pub data: Vec<(Box<str>, DataAdapterId)>,
}

type Proxy = Pin<Box<dyn Future<Output = Result<(), String>>>>;
/// Makes a proxy on the thread where it will run.
type Start = Box<dyn FnOnce(&Host) -> io::Result<Proxy> + Send>;

impl Default for Remotes {
    fn default() -> Self {
        Self {
            server_instance: format!("brightwire-{:016x}", fastrand::u64(..)),
            proxies: Vec::new(),
            addresses: Vec::new(),
            awaited: Vec::new(),
            gate: None,
        }
    }
}

impl Remotes {
    /// Adds the data adapter `name` of an adapter set. With `metadata_first` it is refused until the metadata adapter of
    /// the set, which was added last, is there. `wake_ingest` is explained at [`feed::feed`].
    pub fn add_data(
        &mut self,
        adapter_set: &str,
        name: &str,
        plan: &RemotePlan,
        metadata_first: bool,
        capacity: FeedCapacity,
        wake_ingest: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<RunningAdapter> {
        let (waker, source) = host::wake_pair()?;
        let (mut feed, inbox) = feed::feed(capacity, wake_ingest);
        feed.wake_by(move || waker.wake());
        let gate = match &self.gate {
            Some(opened) if metadata_first => Gate::After(opened.clone()),
            _ => Gate::Open,
        };
        let mut setup = self.setup(adapter_set, Some(name), plan, gate)?;
        setup
            .parameters
            .insert(1, ("data_provider.name".into(), name.into()));
        self.proxies.push(Box::new(move |host| {
            let desk = Desk::new(feed, &setup.plan, &setup.adapter);
            let (door, waiter) = setup.open(host, Role::Data, source)?;
            let proxy = DataProxy { door, desk, waiter };
            Ok(Box::pin(proxy.run()) as Proxy)
        }));
        Ok(RunningAdapter::remote(name, inbox))
    }

    /// Adds the metadata adapter of an adapter set. `wake_ingest` is explained at [`feed::feed`].
    pub fn add_metadata(
        &mut self,
        adapter_set: RemoteSet,
        plan: &RemotePlan,
        wake_ingest: impl Fn() + Send + 'static,
    ) -> io::Result<MetadataInbox> {
        let (waker, source) = host::wake_pair()?;
        let (inbox, outbox) = asks::asks(waker.clone(), wake_ingest);
        let mut setup = self.setup(&adapter_set.name, None, plan, Gate::Open)?;
        let (opens, opened) = bounded(1);
        setup.wait_for_first.push(opens);
        self.gate = Some(opened);
        self.proxies.push(Box::new(move |host| {
            let (door, waiter) = setup.open(host, Role::Metadata, source)?;
            let proxy = metadata::run(door, adapter_set, outbox, waiter, waker);
            Ok(Box::pin(proxy) as Proxy)
        }));
        Ok(inbox)
    }

    /// Those adapters that the server's start has to wait for.
    pub fn awaited(&mut self) -> Awaited {
        Awaited(std::mem::take(&mut self.awaited))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }

    /// Where the server listens for remote adapters, by name: the adapter set's, the data adapter's if it is one, and
    /// `notify` for a second address.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Serves the remotes on the calling thread until the server stops. An error is for the server to stop.
    pub fn run(self) -> Result<(), String> {
        let serve = |host: Host| async move {
            let (sender, ended) = smol::channel::unbounded();
            let count = self.proxies.len();
            for start in self.proxies {
                let proxy = start(&host).map_err(|error| error.to_string())?;
                let sender = sender.clone();
                host.spawn(async move {
                    let _ = sender.send(proxy.await).await;
                });
            }
            for _ in 0..count {
                // The first failure ends them all: what they ran for is over.
                ended.recv().await.map_err(|error| error.to_string())??;
            }
            Ok(())
        };
        host::run(HostKind::Smol, "adapters", None, serve).map_err(|error| error.to_string())?
    }

    fn setup(
        &mut self,
        adapter_set: &str,
        data_adapter: Option<&str>,
        plan: &RemotePlan,
        gate: Gate,
    ) -> io::Result<Setup> {
        let adapter = match data_adapter {
            Some(name) => format!("{adapter_set}.{name}"),
            None => adapter_set.to_owned(),
        };
        let mut claim = |name: String, address: &RemoteAddress| -> io::Result<_> {
            let RemoteAddress::Listen(address) = address else {
                return Ok(None);
            };
            let claimed = meet::bind(*address).and_then(|socket| {
                if matches!(gate, Gate::Open) {
                    meet::listen(&socket)?;
                }
                Ok(socket)
            });
            let socket = claimed.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{name}: cannot listen at {address}: {error}"),
                )
            })?;
            let actual = socket.local_addr()?.as_socket();
            let actual = actual.ok_or_else(|| io::Error::other("not an address of IP"))?;
            tracing::info!(adapter = name, "remote adapters connect to {actual}");
            self.addresses.push((name, actual));
            Ok(Some(socket))
        };
        let requests = claim(adapter.clone(), &plan.address)?;
        let notifications = match &plan.notify_address {
            Some(address) => claim(format!("{adapter}.notify"), address)?,
            None => None,
        };
        let mut parameters = vec![
            ("adapters_conf.id".to_owned(), adapter_set.to_owned()),
            (
                "server.instance_id".to_owned(),
                self.server_instance.clone(),
            ),
        ];
        if plan.on_loss == OnLoss::Recover {
            let instance = format!("{}-{adapter}", self.server_instance);
            parameters.push(("proxy.instance_id".to_owned(), instance));
        }
        if let Some(hint) = plan.keepalive_hint {
            let hint = hint.as_millis().to_string();
            parameters.insert(0, ("keepalive_hint.millis".to_owned(), hint));
        }
        parameters.extend(plan.params.iter().cloned());
        let (starts, started) = bounded(1);
        if !plan.start_wait.is_zero() {
            self.awaited
                .push((adapter.clone(), started, plan.start_wait));
        }
        Ok(Setup {
            plan: plan.clone(),
            adapter,
            requests,
            notifications,
            parameters,
            gate,
            wait_for_first: vec![starts],
        })
    }
}

/// Remote adapters that the server's start waits for.
pub struct Awaited(Vec<(String, Receiver<()>, Duration)>);

impl Awaited {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for each as long as it is configured.
    pub async fn wait(self, host: &Host) {
        let begin = Instant::now();
        for (adapter, here, wait) in self.0 {
            if here.is_closed() {
                continue;
            }
            tracing::info!(adapter, "the start waits for this remote adapter");
            let here = async { here.recv().await.is_err() };
            let late = async {
                host.sleep(wait.saturating_sub(begin.elapsed())).await;
                false
            };
            if !smol::future::or(here, late).await {
                tracing::warn!(adapter, "the server starts without this remote adapter");
            }
        }
    }
}

/// A proxy on its way to its thread.
struct Setup {
    plan: RemotePlan,
    adapter: String,
    requests: Option<Socket>,
    notifications: Option<Socket>,
    parameters: Vec<(String, String)>,
    gate: Gate,
    wait_for_first: Vec<Sender<()>>,
}

impl Setup {
    fn open(self, host: &Host, role: Role, source: WakeSource) -> io::Result<(Door, host::Waiter)> {
        let around = Surroundings {
            host,
            allow: &self.plan.allow,
            adapter: &self.adapter,
            gate: &self.gate,
        };
        let open = |address: &RemoteAddress, socket: Option<Socket>| -> io::Result<Port> {
            let security = security(self.plan.tls.as_ref(), address)?;
            Port::open(&around, address, socket, security)
        };
        let requests = open(&self.plan.address, self.requests)?;
        let notifications = match &self.plan.notify_address {
            Some(address) => Some(open(address, self.notifications)?),
            None => None,
        };
        let door = Door {
            host: host.clone(),
            role,
            adapter: self.adapter,
            requests,
            notifications,
            parameters: self.parameters,
            plan: self.plan,
            wait_for_first: self.wait_for_first,
        };
        Ok((door, host.waiter(source)?))
    }
}

/// The files were read when the configuration was checked; they may have changed since.
fn security(plan: Option<&TlsPlan>, address: &RemoteAddress) -> io::Result<Security> {
    let Some(plan) = plan else {
        return Ok(Security::Plain);
    };
    let missing = || io::Error::other("TLS without the files that it needs");
    match address {
        RemoteAddress::Listen(_) => {
            let own = plan.own.as_ref().ok_or_else(missing)?;
            let config = tls::listening(own, plan.authorities.as_deref());
            Ok(Security::Server(config.map_err(io::Error::other)?))
        }
        RemoteAddress::Connect(address) => {
            let trusted = plan.authorities.as_deref().ok_or_else(missing)?;
            let config = tls::connecting(plan.own.as_ref(), trusted, plan.any_name);
            let name = meet::host_name(address).ok_or_else(|| {
                io::Error::other(format!("`{address}` has no name for a certificate"))
            })?;
            Ok(Security::Client(config.map_err(io::Error::other)?, name))
        }
    }
}
