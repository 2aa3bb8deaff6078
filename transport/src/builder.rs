//! A server with adapters of one's own, as a library: [`Server::builder`].

use crate::adapter::data::DataAdapter;
use crate::adapter::metadata::{MetadataAdapter, MetadataOptions};
use crate::config::plan::TradeSafePlan;
use crate::config::raw::OwnAdapters as Names;
use crate::config::{ConfigError, Plan};
use crate::lifecycle::{self, StopSignal, Wishes};
use crate::server::{self, OwnAdapters, OwnMetadata, Stop};
use engine::item::safe::{ItemPattern, TradeSafe};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

/// A server, to be built: see [`Server::builder`].
pub struct Server;

impl Server {
    /// A server that listens on `127.0.0.1:8080` and has no adapters yet.
    ///
    /// ```no_run
    /// use brightwire::{DataAdapter, Item, Publisher, Server, SubscriptionError};
    /// # struct Greeter;
    /// # impl DataAdapter for Greeter {
    /// #     fn subscribe(&mut self, _: &Item, _: &mut Publisher) -> Result<(), SubscriptionError> { Ok(()) }
    /// #     fn unsubscribe(&mut self, _: &Item, _: &mut Publisher) {}
    /// # }
    ///
    /// fn main() -> Result<(), brightwire::ServerError> {
    ///     brightwire::log_to_stderr();
    ///     Server::builder()
    ///         .data_adapter("GREETINGS", "DEFAULT", Greeter)
    ///         .run()
    /// }
    /// ```
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

/// What a server shall be: its configuration, which is that of the binary `brightwire`, and adapters besides.
///
/// Each client takes an open file. The binary raises its soft limit of them to the hard one; a program that is more than a
/// server decides about that by itself.
#[derive(Default)]
pub struct ServerBuilder {
    config: Config,
    listen: Option<String>,
    ports_file: Option<PathBuf>,
    data: Vec<((String, String), Box<dyn DataAdapter>)>,
    metadata: Vec<(String, OwnMetadata)>,
    trade_safe: Vec<((String, String), TradeSafePlan)>,
}

#[derive(Default)]
enum Config {
    #[default]
    None,
    File(PathBuf),
    Text(String),
}

impl ServerBuilder {
    /// Takes everything but the program's own adapters from a configuration file. Without one, and where it says nothing,
    /// there are the defaults, but no adapter sets.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Config::File(path.into());
        self
    }

    /// The same for a configuration that is no file. Relative paths in it start at the current directory.
    pub fn config_text(mut self, toml: impl Into<String>) -> Self {
        self.config = Config::Text(toml.into());
        self
    }

    /// Listens at this address and port only, whatever the configuration says. Port 0 takes any free one.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Writes the addresses to this file once clients can connect, as `brightwire run --ports-file` does.
    pub fn ports_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ports_file = Some(path.into());
        self
    }

    /// Adds a data adapter to an adapter set, which is one of the configuration or comes to be by this.
    pub fn data_adapter(
        mut self,
        adapter_set: impl Into<String>,
        name: impl Into<String>,
        adapter: impl DataAdapter,
    ) -> Self {
        let key = (adapter_set.into(), name.into());
        self.data.push((key, Box::new(adapter)));
        self
    }

    /// Says which events of a data adapter of the program are never merged into others nor dropped without a word, as
    /// `trade_safe` of a configuration does for the adapters there: those of these items, each of them a name or the
    /// beginning of one with an asterisk behind it, or of all items if none is named. What is said in several calls, and by
    /// [`MetadataAdapter::trade_safe`], adds up. An adapter that the program does not add, or no field where fields are
    /// meant, is an error at the start.
    pub fn trade_safe(
        mut self,
        adapter_set: impl Into<String>,
        data_adapter: impl Into<String>,
        items: &[&str],
        what: TradeSafe,
    ) -> Self {
        let items = items.iter().map(|item| ItemPattern::parse(item)).collect();
        let key = (adapter_set.into(), data_adapter.into());
        self.trade_safe.push((key, TradeSafePlan { items, what }));
        self
    }

    /// Lets an adapter decide about the sessions and subscriptions of an adapter set, which is one of the configuration or
    /// comes to be by this. A set without one takes everybody in, or does what the configuration says.
    pub fn metadata_adapter(
        self,
        adapter_set: impl Into<String>,
        adapter: impl MetadataAdapter,
    ) -> Self {
        self.metadata_adapter_with(adapter_set, adapter, MetadataOptions::default())
    }

    /// The same with other numbers of threads and other bounds.
    pub fn metadata_adapter_with(
        mut self,
        adapter_set: impl Into<String>,
        adapter: impl MetadataAdapter,
        options: MetadataOptions,
    ) -> Self {
        let own = OwnMetadata {
            adapter: Box::new(adapter),
            options,
        };
        self.metadata.push((adapter_set.into(), own));
        self
    }

    /// Runs the server until SIGINT or SIGTERM.
    pub fn run(self) -> Result<(), ServerError> {
        let stop = Stop::Signal(StopSignal::install().map_err(ServerError::new)?);
        let (plan, own, ports_file) = self.plan()?;
        server::run_with(plan, own, stop, ports_file, log_addresses).map_err(ServerError::new)
    }

    /// Starts the server on threads of its own, and returns when clients can connect.
    pub fn start(self) -> Result<RunningServer, ServerError> {
        let (wishes, source) = lifecycle::wishes().map_err(ServerError::new)?;
        let (plan, own, ports_file) = self.plan()?;
        let (sender, addresses) = mpsc::sync_channel(1);
        let run = move || {
            let started = |addresses: &[(String, SocketAddr)]| {
                log_addresses(addresses);
                // Whoever waits for it waits until it comes.
                let _ = sender.send(addresses.to_vec());
            };
            server::run_with(plan, own, Stop::Program(source), ports_file, started)
                .map_err(ServerError::new)
        };
        let thread = thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(run).map_err(ServerError::new)?;
        let mut running = RunningServer {
            addresses: Vec::new(),
            wishes,
            thread: Some(thread),
        };
        match addresses.recv() {
            Ok(addresses) => {
                running.addresses = addresses;
                Ok(running)
            }
            // It has ended before, which has a reason.
            Err(_) => {
                running.wait()?;
                Err(ServerError(
                    "the server has ended as soon as it started".into(),
                ))
            }
        }
    }

    fn plan(self) -> Result<(Plan, OwnAdapters, Option<PathBuf>), ServerError> {
        let names = Names {
            metadata: self.metadata.iter().map(|(set, _)| set.clone()).collect(),
            data: self.data.iter().map(|(key, _)| key.clone()).collect(),
            trade_safe: self.trade_safe,
        };
        let listen = self.listen.as_deref();
        let plan = match &self.config {
            Config::None => Plan::with_own_adapters("", Path::new(""), "builder", listen, names),
            Config::Text(text) => {
                Plan::with_own_adapters(text, Path::new(""), "builder", listen, names)
            }
            Config::File(path) => {
                let source = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ServerError(format!("{source}: {error}")))?;
                let directory = path.parent().unwrap_or(Path::new(""));
                Plan::with_own_adapters(&text, directory, &source, listen, names)
            }
        };
        let own = OwnAdapters {
            data: self.data.into_iter().collect::<HashMap<_, _>>(),
            metadata: self.metadata.into_iter().collect(),
        };
        let plan = plan.map_err(|error: ConfigError| ServerError(error.to_string()))?;
        Ok((plan, own, self.ports_file))
    }
}

fn log_addresses(addresses: &[(String, SocketAddr)]) {
    for (name, address) in addresses {
        tracing::info!("{name}: http://{address}/");
    }
}

/// A server that was started by [`ServerBuilder::start`]. Dropping it stops it.
pub struct RunningServer {
    addresses: Vec<(String, SocketAddr)>,
    wishes: Wishes,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

impl RunningServer {
    /// The names of its listeners, and where they are.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Where its first listener is.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0].1 // no server is without one
    }

    /// Lets the server open no sessions from now on, for instance before a restart, or lets it again: what SIGUSR1 and
    /// SIGUSR2 do for a server that is a process. Those that are there go on. `sessions.blocked` of the configuration says
    /// whether clients try again meanwhile or give up. Each shard hears of it when it comes to look.
    pub fn block_sessions(&self, blocked: bool) {
        self.wishes.block(blocked);
    }

    /// Stops the server and waits until it has; the error is what went wrong while it ran.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.wishes.stop();
        self.wait()
    }

    fn wait(&mut self) -> Result<(), ServerError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread
            .join()
            .unwrap_or_else(|_| Err(ServerError("the server has panicked".into())))
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.wishes.stop();
        if let Err(error) = self.wait() {
            tracing::error!("{error}");
        }
    }
}

/// Why a server does not start, or has ended. Several problems of a configuration are several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError(String);

impl ServerError {
    fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}
