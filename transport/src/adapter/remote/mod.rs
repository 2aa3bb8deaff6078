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
//! | `lines` | a connection: whole lines in, bytes out |
//! | `data` | the proxy of a data adapter |
//! | `metadata` | the proxy of a metadata adapter: requests and their replies |
//! | `questions` | which requests a shard's question takes, and what their replies mean |
//! | `sessions` | which sessions and subscriptions a metadata adapter was told of |
//! | `asks` | the rings between ingest and a metadata adapter's proxy |
//! | `trouble` | what remotes do wrong, said once and counted |
//!
//! Bounds: a line (`line_limit`), the feed's rings, a second for farewells; requests out are two per item at most.

pub(in crate::adapter) mod asks;
mod data;
mod lines;
mod meet;
mod metadata;
mod questions;
mod sessions;
mod trouble;

pub use asks::MetadataInbox;

use super::RunningAdapter;
use super::feed::{self, FeedCapacity};
use crate::config::plan::{OnLoss, RemoteAddress, RemotePlan};
use crate::runtime::host::{self, Host, HostKind, WakeSource};
use data::{DataProxy, Desk};
use engine::ari::init::Role;
use engine::ids::DataAdapterId;
use engine::metadata::AdapterSetId;
use meet::{Door, Port};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;

/// The remote adapters of a server before their thread has started: they listen, and answer nobody yet.
pub struct Remotes {
    server_instance: String,
    proxies: Vec<Start>,
    addresses: Vec<(String, SocketAddr)>,
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
        }
    }
}

impl Remotes {
    /// Adds the data adapter `name` of an adapter set. `wake_ingest` is explained at [`feed::feed`].
    pub fn add_data(
        &mut self,
        adapter_set: &str,
        name: &str,
        plan: &RemotePlan,
        capacity: FeedCapacity,
        wake_ingest: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<RunningAdapter> {
        let (waker, source) = host::wake_pair()?;
        let (mut feed, inbox) = feed::feed(capacity, wake_ingest);
        feed.wake_by(move || waker.wake());
        let mut setup = self.setup(adapter_set, Some(name), plan)?;
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
        let setup = self.setup(&adapter_set.name, None, plan)?;
        self.proxies.push(Box::new(move |host| {
            let (door, waiter) = setup.open(host, Role::Metadata, source)?;
            Ok(Box::pin(metadata::run(door, adapter_set, outbox, waiter, waker)) as Proxy)
        }));
        Ok(inbox)
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
    ) -> io::Result<Setup> {
        let adapter = match data_adapter {
            Some(name) => format!("{adapter_set}.{name}"),
            None => adapter_set.to_owned(),
        };
        let mut listen = |name: String, address: &RemoteAddress| -> io::Result<_> {
            let RemoteAddress::Listen(address) = address else {
                return Ok(None);
            };
            let listener = TcpListener::bind(address).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{name}: cannot listen at {address}: {error}"),
                )
            })?;
            self.addresses.push((name, listener.local_addr()?));
            Ok(Some(listener))
        };
        let requests = listen(adapter.clone(), &plan.address)?;
        let notifications = match &plan.notify_address {
            Some(address) => listen(format!("{adapter}.notify"), address)?,
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
        Ok(Setup {
            plan: plan.clone(),
            adapter,
            requests,
            notifications,
            parameters,
        })
    }
}

/// A proxy on its way to its thread.
struct Setup {
    plan: RemotePlan,
    adapter: String,
    requests: Option<TcpListener>,
    notifications: Option<TcpListener>,
    parameters: Vec<(String, String)>,
}

impl Setup {
    fn open(self, host: &Host, role: Role, source: WakeSource) -> io::Result<(Door, host::Waiter)> {
        let open = |address: &RemoteAddress, listener| {
            Port::open(host, address, listener, &self.plan.allow, &self.adapter)
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
        };
        Ok((door, host.waiter(source)?))
    }
}
