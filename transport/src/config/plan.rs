//! What the server will do: every choice made, every limit known, nothing optional that is not meant to be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine::item::safe::{ItemPattern, TradeSafe};
use engine::item::selector::Selector;
use engine::shard::Diffs;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::adapter::lines::LinesAddress;
use crate::adapter::literal::LiteralPlan;
use crate::net::folder::Bounds;
use crate::net::settings::{ProxyProtocol, Role};
use crate::wire::origin::Origins;
use crate::wire::tls::Identity;

/// A server, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How shards and hosts talk to the kernel.
    pub io: IoChoice,
    /// How roles are spread over threads.
    pub threading: Threading,
    /// Number of shards; at least 1, and exactly 1 with [`Threading::Shared`].
    pub shards: usize,
    /// Which core runs which thread.
    pub placement: Placement,
    /// How long an idle shard looks for work before it sleeps.
    pub spin: Duration,
    /// Where clients connect; at least one, with different names.
    pub listeners: Vec<ListenerPlan>,
    /// Options of client connections.
    pub socket: SocketPlan,
    /// Queues between threads.
    pub rings: RingsPlan,
    /// Sessions, their timers and their limits.
    pub sessions: SessionPlan,
    /// Tag of this server among those that share its clients.
    pub instance: u16,
    /// Fields that go out as differences.
    pub diffs: Diffs,
    /// Which web pages may talk to the server, and what their browsers are told.
    pub origins: Origins,
    /// Headers of every HTTP response, besides the server's own: names and values.
    pub added_headers: Vec<(String, String)>,
    /// Other matters of HTTP.
    pub http: HttpPlan,
    /// Pages for browsers.
    pub pages: PagesPlan,
    /// Metadata and data adapters; at least one set, with different names.
    pub adapter_sets: Vec<AdapterSetPlan>,
}

/// Which kernel interface moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring where it is allowed, else epoll
    Auto,
    /// io_uring, or refuse to start
    Uring,
    /// epoll
    Epoll,
}

/// How ingest, control and the shards are spread over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Threading {
    /// a thread for each of them
    Dedicated,
    /// ingest and a single shard on one thread
    Shared,
}

/// How a changed field can go out as a difference, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffFormat {
    /// JSON Patch, of documents.
    JsonPatch,
    /// TLCP-diff, of texts.
    Text,
}

/// Who chooses the cores, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pinning {
    /// The kernel, except for threads that are named.
    None,
    /// Brightwire, at start.
    Auto,
}

/// The core of each thread; `None` leaves it to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Ingest.
    pub ingest: Option<usize>,
    /// Control.
    pub control: Option<usize>,
    /// One entry per shard.
    pub shards: Vec<Option<usize>>,
}

/// An address where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPlan {
    /// Name in the log and in the ports file.
    pub name: String,
    /// Address; port 0 takes any free one.
    pub address: SocketAddr,
    /// What clients are told as the server's name, if not [`SessionPlan::server_name`].
    pub server_name: Option<String>,
    /// What it is for.
    pub role: Role,
    /// What may stand before `/lightstreamer`; each begins with a slash and ends without one.
    pub prefixes: Vec<String>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// How many proxies add to `X-Forwarded-For`.
    pub forwarded_hops: usize,
    /// From where proxies are believed; empty: from everywhere.
    pub trusted_proxies: Vec<IpNet>,
    /// Headers of every response, those of [`Plan::added_headers`] among them: names and values.
    pub added_headers: Vec<(String, String)>,
    /// Names of request headers that go back with the response.
    pub echoed_headers: Vec<String>,
    /// Which web pages may talk to the server here.
    pub origins: Origins,
    /// Whether pages are served.
    pub pages: bool,
    /// Path of the health check; empty: none.
    pub health_path: String,
}

/// Responses over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPlan {
    /// The `Server` header; empty: none.
    pub server: String,
    /// Compress bodies that are there as a whole.
    pub gzip: bool,
    /// Serve the text protocol before TLCP.
    pub legacy: bool,
}

/// Pages for browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagesPlan {
    /// The demo page.
    pub demo: bool,
    /// A folder of the operator's.
    pub folder: Option<PathBuf>,
    /// How much of it.
    pub bounds: Bounds,
}

/// Options of client connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPlan {
    /// `TCP_NOTSENT_LOWAT` in bytes.
    pub notsent_lowat: u32,
    /// `SO_SNDBUF` in bytes; `None` leaves it to the kernel.
    pub send_buffer: Option<u32>,
    /// Length of the queue of connections that are not accepted yet.
    pub backlog: u32,
    /// A connection that takes no byte for so long is closed.
    pub write_timeout: Duration,
}

/// Queues between threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingsPlan {
    /// Bytes of the ring from ingest to each shard.
    pub data_ring_bytes: usize,
    /// Entries of each other ring.
    pub control_ring_len: usize,
}

/// Sessions, their timers and their limits.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPlan {
    /// Silence after which a stream sends a probe, if the client asks for nothing else.
    pub keepalive_default: Duration,
    /// Shortest interval that a client gets.
    pub keepalive_min: Duration,
    /// Longest interval that a client gets.
    pub keepalive_max: Duration,
    /// How long a session waits for its next connection after an orderly end of the previous one.
    pub session_timeout: Duration,
    /// How long a session waits for recovery after its connection broke.
    pub recovery_timeout: Duration,
    /// How long a WebSocket may carry no session.
    pub idle_timeout: Duration,
    /// How long a request head may take to arrive.
    pub head_timeout: Duration,
    /// Largest request and WebSocket message, in bytes.
    pub request_limit: usize,
    /// The server's name as clients are told it.
    pub server_name: String,
    /// How long an item without subscribers stays subscribed at its adapter.
    pub subscription_linger: Duration,
    /// Connections per shard.
    pub connections_max: usize,
    /// Sessions per shard.
    pub sessions_max: usize,
    /// Items of all subscriptions per shard.
    pub subscribed_items_max: usize,
    /// What clients are told while new sessions are blocked.
    pub blocked: WhenBlocked,
    /// The age at which every session ends.
    pub duration_max: Option<Duration>,
    /// How long a stream may last.
    pub streaming_time_max: Option<Duration>,
    /// The most that a session may be sent, in kilobits per second.
    pub bandwidth_kbps_max: Option<f64>,
    /// How long updates may wait for others to share a write.
    pub max_delay: Duration,
    /// Updates leave out what has not changed.
    pub delta_delivery: bool,
    /// Rows of snapshots that a session is sent in a second.
    pub snapshot_rows_max: Option<u32>,
    /// The least time between the starts of two polls of a session.
    pub poll_interval_min: Duration,
    /// The longest time until its next poll that a client may announce.
    pub polling_max: Duration,
    /// The longest time that a poll may wait for data.
    pub poll_wait_max: Duration,
    /// Bytes of a streaming response over HTTP, if the client does not ask for another length.
    pub content_length: u64,
    /// Bytes kept per session for a client whose connection breaks.
    pub recovery_memory: usize,
    /// The same for all sessions of a shard.
    pub recovery_memory_shard: usize,
    /// For how long they are kept.
    pub recovery_age: Duration,
    /// How long the causes of closed sessions are remembered.
    pub closed_memory: Duration,
    /// How long messages wait for missing ones.
    pub missing_message_timeout: Duration,
    /// How often clients are told of their own updates, where they can ask for that.
    pub status_interval: Duration,
    /// A user may have one session in an adapter set.
    pub one_per_user: bool,
    /// A session that is bound elsewhere leaves its connection without a word.
    pub take_over_silent: bool,
    /// Clients must say what they are.
    pub cid_required: bool,
    /// Clients are told their address.
    pub tell_client_ip: bool,
    /// Where clients shall send everything after the creation of their session.
    pub control_link: Option<String>,
}

/// A metadata adapter and the data adapters that it rules over.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSetPlan {
    /// The name that clients ask for.
    pub name: String,
    /// Who decides what users may see.
    pub metadata: MetadataPlan,
    /// Remote data adapters wait for the remote metadata adapter.
    pub metadata_first: bool,
    /// At least one, with different names.
    pub data: Vec<DataAdapterPlan>,
    /// The name, different from theirs, under which clients are told of their own updates.
    pub status: Option<String>,
    /// What clients may select by, by name.
    pub selectors: BTreeMap<String, Selector>,
}

/// Kinds of metadata adapters, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataKindName {
    /// [`MetadataPlan::Literal`]
    Literal,
    /// [`MetadataPlan::Remote`]
    Remote,
}

/// A metadata adapter.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataPlan {
    /// The built-in one: admits every user and every item name, and takes groups and schemas as lists of names.
    Literal,
    /// The same with rules.
    Rules(Box<LiteralPlan>),
    /// One in another process.
    Remote(Box<RemotePlan>),
    /// One that the program brings along.
    Own,
}

/// The modes, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModeName {
    /// Every event as it is.
    Raw,
    /// One row whose fields change.
    Merge,
    /// A sequence of independent events.
    Distinct,
    /// A table of rows, by key.
    Command,
}

/// How an adapter in another process is met.
#[derive(Clone, Debug, PartialEq)]
pub struct RemotePlan {
    /// Where requests and replies go.
    pub address: RemoteAddress,
    /// Where notifications come from, if on a connection of their own.
    pub notify_address: Option<RemoteAddress>,
    /// Pause between attempts to connect.
    pub connect_retry: Duration,
    /// Users and passwords that are let in; everybody if there are none.
    pub credentials: Vec<(String, String)>,
    /// Where remotes may be; anywhere if empty.
    pub allow: Vec<IpNet>,
    /// TLS, if it is spoken.
    pub tls: Option<TlsPlan>,
    /// How long a request may take.
    pub timeout: Duration,
    /// Silence after which a connection is dead; `None`: never.
    pub keepalive_timeout: Option<Duration>,
    /// How often the remote is asked to send something.
    pub keepalive_hint: Option<Duration>,
    /// What its loss means.
    pub on_loss: OnLoss,
    /// Pause after an attempt that failed.
    pub recovery_delay: Duration,
    /// How long the server's start waits for it.
    pub start_wait: Duration,
    /// What becomes of a data adapter's items when it comes back.
    pub events_recovery: EventsRecovery,
    /// An item that tells whether a data adapter is there.
    pub status_item: Option<String>,
    /// Parameters for the remote's init.
    pub params: Vec<(String, String)>,
    /// Whether subscriptions are told with their items.
    pub table_items: TableItems,
    /// The longest line, in bytes.
    pub line_bytes_max: usize,
    /// Requests of a kind that a metadata adapter may owe an answer to.
    pub pending_max: usize,
    /// What clients are told who want a session while a metadata adapter is not there.
    pub while_away: WhileAway,
    /// Which ends a metadata adapter is told that were not told to the one before.
    pub closes_recovery: ClosesRecovery,
    /// A session's subscriptions are told to a metadata adapter one at a time.
    pub sequential_tables: bool,
    /// How long it is remembered what a user may have of an item.
    pub user_data_timeout: Duration,
    /// That is forgotten with the user's last session.
    pub clear_on_session_close: bool,
    /// What is known of items is forgotten when another remote comes.
    pub clear_on_new_remote: bool,
}

/// What clients are told who want a session while a metadata adapter is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhileAway {
    /// To try again.
    Retry,
    /// That the metadata adapter has failed.
    Fail,
    /// This code and text.
    Code(i64, String),
}

/// The files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPlan {
    /// Who the server is. Always there where it listens.
    pub own: Option<Identity>,
    /// Who is trusted. Always there where the server connects.
    pub authorities: Option<PathBuf>,
    /// A certificate for another host will do.
    pub any_name: bool,
}

/// What clients are told who want a session while a metadata adapter is not there, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    /// [`WhileAway::Retry`]
    Retry,
    /// [`WhileAway::Fail`]
    Fail,
}

/// Which ends of sessions and subscriptions a metadata adapter is told that were not told to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosesRecovery {
    /// None.
    Unneeded,
    /// Those after the last that was answered.
    Optimistic,
    /// All from the first that was not answered.
    Pessimistic,
}

/// Where a remote adapter and the server meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteAddress {
    /// The server listens; port 0 takes any free one.
    Listen(SocketAddr),
    /// The remote listens; a host name is resolved at each attempt.
    Connect(String),
}

/// What clients are told that want a session while new ones are blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBlocked {
    /// To try again.
    TryAgain,
    /// To give up.
    Refuse,
}

/// What happens when a remote adapter goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// The server goes on, and waits for the next one.
    Recover,
    /// The server stops, for a supervisor to start all of it anew.
    Stop,
}

/// What becomes of a data adapter's items when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventsRecovery {
    /// The new snapshot is not used.
    LeaveHole,
    /// The new snapshot goes into the flow as it comes.
    UseSnapshot,
    /// The items are cleared at the loss, and the new snapshot fills them.
    EnforceSnapshot,
}

/// Whether subscriptions are told with their items, where the protocol's version has that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableItems {
    /// Unless the remote says that it is the Node SDK.
    Auto,
    /// To all.
    Always,
    /// To none.
    Never,
}

/// A data adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct DataAdapterPlan {
    /// The name that clients ask for.
    pub name: String,
    /// What it publishes.
    pub kind: DataKind,
    /// Which of its events are never merged away.
    pub trade_safe: Vec<TradeSafePlan>,
}

/// Events of a data adapter that are never merged away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeSafePlan {
    /// Of these items; of all if there is none.
    pub items: Vec<ItemPattern>,
    /// All of them, or those with new values in some fields.
    pub what: TradeSafe,
}

/// Kinds of data adapters, as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKindName {
    /// [`DataKind::Demo`]
    Demo,
    /// [`DataKind::Replay`]
    Replay,
    /// [`DataKind::Lines`]
    Lines,
    /// [`DataKind::Remote`]
    Remote,
    /// [`AdapterSetPlan::status`]
    Status,
}

/// What a data adapter publishes.
#[derive(Clone, Debug, PartialEq)]
pub enum DataKind {
    /// A generated list of stocks.
    Demo {
        /// Updates per second of the whole list.
        rate: f64,
    },
    /// A file of CSV or JSON lines.
    Replay {
        /// The file.
        file: PathBuf,
        /// How fast.
        pace: Pace,
        /// Whether it starts again at its end.
        looped: bool,
    },
    /// Lines that programs write to a socket.
    Lines {
        /// Where they connect.
        address: LinesAddress,
    },
    /// Whatever an adapter in another process publishes.
    Remote(Box<RemotePlan>),
    /// Whatever an adapter publishes that the program brings along.
    Own,
}

/// How fast a file is replayed. Both numbers are above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// By the times in the file, so many times faster; infinity is as fast as ingest takes it.
    Speed(f64),
    /// So many updates per second.
    Rate(f64),
}
