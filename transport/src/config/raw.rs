//! What a configuration file says, before anything is decided: every key is optional, unknown keys are errors.
//!
//! Each key is defined once, here: its type, its sentence, and its default or an example. The struct that is read
//! from the file, the getter that applies the default, and the annotated reference all come from that definition.

mod adapters;
mod section;

use std::path::PathBuf;

use serde::Deserialize;

use super::plan::{DiffFormat, IoChoice, Pinning, Threading, TradeSafePlan, WhenBlocked};
use super::value::{Size, Time};
use crate::net::settings::{ProxyProtocol, Role};
use section::{optional, section, to_toml};

pub use adapters::{
    AdapterSet, DataAdapter, Family, Literal, Remote, RemoteTls, Selector, Tokens, TradeSafe, User,
};
pub use section::{Key, Section};

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// `[server]`
    pub server: Server,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[placement]`
    pub placement: Placement,
    /// `[[listeners]]`; one with default values if there is none.
    pub listeners: Option<Vec<Listener>>,
    /// `[socket]`
    pub socket: Socket,
    /// `[rings]`
    pub rings: Rings,
    /// `[sessions]`
    pub sessions: Sessions,
    /// `[diffs]`
    pub diffs: Diffs,
    /// `[origins]`
    pub origins: Origins,
    /// `[http]`
    pub http: Http,
    /// `[pages]`
    pub pages: Pages,
    /// `[[adapter_sets]]`; one with default values if there is none.
    pub adapter_sets: Option<Vec<AdapterSet>>,
    /// Adapters that a program brings along. With them nothing is there by default.
    #[serde(skip)]
    pub own: Option<OwnAdapters>,
}

/// The names of the adapters that a program brings along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAdapters {
    /// Adapter sets of metadata adapters.
    pub metadata: Vec<String>,
    /// Adapter sets and names of data adapters.
    pub data: Vec<(String, String)>,
    /// Of these, events that are never merged away.
    pub trade_safe: Vec<((String, String), TradeSafePlan)>,
}

impl Raw {
    /// Every section, in the order of the reference.
    pub fn sections() -> Vec<Section> {
        vec![
            Server::section(),
            Runtime::section(),
            Placement::section(),
            Listener::section(),
            Socket::section(),
            Rings::section(),
            Sessions::section(),
            Diffs::section(),
            Origins::section(),
            Http::section(),
            Pages::section(),
            AdapterSet::section(),
            optional(Literal::section()),
            optional(Family::section()),
            optional(User::section()),
            optional(Tokens::section()),
            optional(Selector::section()),
            DataAdapter::section(),
            optional(TradeSafe::section()),
            optional(Remote::section()),
            optional(RemoteTls::section()),
        ]
    }
}

section! {
    /// This server among others.
    Server ["[server]"]
    /// Tag of this server among those that share its clients behind a balancer: 0 to 65535, different for each, the same
    /// after a restart. A request that the balancer sends to the wrong server is answered with a code that says so;
    /// with equal tags it would be "session not found".
    instance: u16 = 0;
}

section! {
    /// Threads, and how they wait for the kernel.
    Runtime ["[runtime]"]
    /// How shards and hosts talk to the kernel: "uring" (io_uring, or refuse to start), "epoll", or "auto" (io_uring
    /// where kernel and container allow it, else epoll, with a line in the log). Measured: with epoll an update in a write
    /// of its own takes 1.1 to 1.3 times the CPU; with 20 updates in a write there is no difference.
    io: IoChoice = IoChoice::Auto;
    /// "dedicated": ingest, control and every shard have a thread each. "shared": ingest and a single shard
    /// share one, for laptops and continuous integration. Measured on one core: no difference beyond noise.
    threading: Threading = Threading::Dedicated;
    /// Number of shards, the threads that own client connections. Not set: one fewer than there are cores, but at
    /// least 1.
    shards: usize, example 4;
    /// How long an idle core (a shard, ingest) keeps looking for work before it sleeps. Waking a sleeping thread takes
    /// tens of microseconds and costs the waking one several; spinning costs the core. Measured on two cores shared
    /// with the load generator, 50us against 0: an update took 1.1 to 2 times the CPU, and p99 was lower at low load.
    spin: Time = Time::micros(0);
}

section! {
    /// Which core runs which thread. Only for threading = "dedicated".
    Placement ["[placement]"]
    /// "none": the kernel decides, except for the threads that are named below. "auto": ingest and every shard get a
    /// core of their own (isolated cores first, then one per physical core), control stays free.
    pin: Pinning = Pinning::None;
    /// Core of the ingest thread.
    ingest: usize, example 0;
    /// Core of the control thread.
    control: usize, example 1;
    /// Core of each shard; as many entries as there are shards.
    shards: Vec<usize>, example vec![2, 3];
}

section! {
    /// An address where clients connect. Repeat the table for more; names must differ.
    Listener ["[[listeners]]"]
    /// Name in the log and in the ports file.
    name: String = "web".into();
    /// Address and port. Only this machine can connect by default: opening the server to a network is a decision.
    /// Port 0 takes any free one.
    address: String = "127.0.0.1:8080".into();
    /// What clients are told as the server's name (SERVNAME), if not sessions.server_name.
    server_name: String, example "front-1".into();
    /// "general": everything. "create-only": where clients begin; serves everything, but is the first that refuses
    /// connections when they run short. "control-only": for sessions that are there; creating one is refused (code 70).
    /// "priority": everything, for few. Where roles differ, each shard keeps its last 5% of connections for control-only
    /// and priority, and the 5% before from create-only.
    role: Role = Role::General;
    /// Paths before "/lightstreamer" that are accepted as well: with ["/push"], "/push/lightstreamer" too. Not for pages.
    prefixes: Vec<String> = vec![];
    /// Whether every connection begins with a PROXY header that tells the client's address: "off", "v1" (text), "v2"
    /// (binary), "any". Connections that do not are closed. Never for a port that clients reach directly.
    proxy_protocol: ProxyProtocol = ProxyProtocol::Off;
    /// How many proxies in front of the server add to X-Forwarded-For: the client is the entry at that place from the
    /// end. 0: the header is not looked at. Not together with proxy_protocol.
    forwarded_hops: usize = 0;
    /// Addresses and networks of the proxies that are believed what they say by either: ["10.0.0.0/8", "::1"]. Not set:
    /// all. With proxy_protocol, connections from elsewhere are closed.
    trusted_proxies: Vec<String> = vec![];
    /// Headers that every response here shall have, besides those of http.add; also the one that opens a WebSocket.
    add: Vec<String> = vec![];
    /// Names of request headers that go back with the response, as they came: ["X-Request-Id"], say.
    echo: Vec<String> = vec![];
    /// Instead of origins.allow, for this listener.
    allow: Vec<String>, example vec!["https://www.example.com".into()];
    /// Instead of origins.credentials.
    credentials: bool, example false;
    /// Instead of origins.max_age.
    max_age: Time, example Time::secs(600);
    /// Instead of origins.headers.
    headers: Vec<String>, example vec!["X-Request-Id".into()];
    /// Whether pages are served here.
    pages: bool = true;
    /// Path of the health check, which answers 200 and "OK" as long as the server runs; "" for none.
    health: String = "/lightstreamer/healthcheck".into();
}

section! {
    /// Options of client connections.
    Socket ["[socket]"]
    /// How many unsent bytes the kernel may hold per connection (TCP_NOTSENT_LOWAT). The smaller, the more of a slow
    /// client's backlog stays where newer values replace older ones. A guess. Measured: from 4 to 128 KiB nothing changes as
    /// long as clients keep up.
    notsent_lowat: Size = Size::kib(8);
    /// Fixed send buffer (SO_SNDBUF). Not set: the kernel sizes it by itself, which notsent_lowat makes harmless.
    send_buffer: Size, example Size::kib(16);
    /// Length of the queue of connections that are not accepted yet, per shard; the kernel caps it at
    /// net.core.somaxconn (4,096 by default).
    backlog: u32 = 4096;
    /// A connection that takes no byte for so long is closed; its session lives on for its own timeout. Default of
    /// the reference product.
    write_timeout: Time = Time::secs(120);
}

section! {
    /// Queues between threads. Nobody waits at a full one.
    Rings ["[rings]"]
    /// From ingest to each shard. When it is full, items are conflated until there is room. A guess. Measured: between
    /// 256 KiB and 8 MiB no difference, as two cores do not fill it.
    data_ring: Size = Size::mib(4);
    /// Entries of each of the other rings (requests, answers, commands). A guess.
    control_ring_len: usize = 1024;
}

section! {
    /// Sessions, their timers and their limits. Timers have the reference product's defaults unless said otherwise.
    Sessions ["[sessions]"]
    /// A stream that has nothing to say for so long sends a probe, unless the client asks for another interval.
    keepalive: Time = Time::secs(5);
    /// Shortest interval that a client gets.
    keepalive_min: Time = Time::secs(1);
    /// Longest interval that a client gets.
    keepalive_max: Time = Time::secs(30);
    /// How long a session waits for its next connection after the server ended the previous one in order.
    session_timeout: Time = Time::secs(10);
    /// How long a session waits for recovery after its connection broke.
    recovery_timeout: Time = Time::secs(13);
    /// A WebSocket that carries no session for so long is closed. A guess.
    idle_timeout: Time = Time::secs(60);
    /// A connection that has not completed a request head for so long is closed. A guess.
    head_timeout: Time = Time::secs(20);
    /// Largest request, and largest WebSocket message, in bytes.
    request_limit: Size = Size(50_000);
    /// The server's name as clients are told it.
    server_name: String = "Brightwire".into();
    /// How long an item that nobody is subscribed to any more stays subscribed at its adapter, so that a page reload
    /// does not tear it down.
    subscription_linger: Time = Time::secs(5);
    /// Connections of one shard; further ones are closed at once. A guess: about 100 MB of kernel memory.
    connections_max: usize = 20_000;
    /// Sessions of one shard; further ones are refused. More than connections, because a session outlives its
    /// connection for a while. A guess.
    sessions_max: usize = 25_000;
    /// Items of all subscriptions of one shard. Beyond it new sessions are refused (code 9, for good), and subscriptions of
    /// those that are there. A guess: some gigabytes of memory.
    subscribed_items_max: usize = 10_000_000;
    /// What clients are told that want a session while an administrator blocks new ones (signal SIGUSR1; SIGUSR2 ends it):
    /// "try_again" (for a while, for instance while another server behind the balancer takes over) or "refuse" (code 10,
    /// for good).
    blocked: WhenBlocked = WhenBlocked::TryAgain;
    /// The age at which every session ends; its client opens another. Not set: none.
    duration_max: Time, example Time::secs(12 * 3600);
    /// How long a stream may last before its client is asked to bind again, on a new connection if it likes. Not set:
    /// as long as it will.
    streaming_time_max: Time, example Time::secs(3600);
    /// The most that a session may be sent, in kilobits (1,000 bits) per second, whatever its client asks for. Its items
    /// take turns, and each turn sends the newest values. Not set: no limit but those of clients and metadata adapters.
    bandwidth_max: f64, example 500.0;
    /// How long updates may wait for others, so that they share a write: less work for the server, at the price of
    /// latency. Only updates wait that follow a write so closely; the first after a pause goes at once. With 0, updates
    /// share a write if they come while the server is busy. The reference product waits up to 30 ms. Measured with 300
    /// sessions that each get 400 updates a second, evenly spread: 30 ms take a fifth of the CPU for each, and the median
    /// latency is 14 ms in place of 0.5 ms; where updates come rarely or all at once, nothing is saved.
    max_delay: Time = Time::secs(0);
    /// Leave out of each update what has not changed since the one before. With false, as with enableDeltaDelivery N of the
    /// reference product, every update has all values: more bytes, less memory for each client and item, and no
    /// differences (`[diffs]`).
    delta_delivery: bool = true;
    /// How many rows of snapshots a session is sent in a second, in slices, so that a page that opens a list of thousands
    /// of rows can still be used while they come in. What is loaded already goes on being updated. Not set: all at once.
    snapshot_rows_max: u32, example 5000;
    /// The least time between the starts of two polls of a session. A poll that comes earlier is held, not refused.
    poll_interval_min: Time = Time::secs(0);
    /// The longest time until its next poll that a client may announce.
    polling_max: Time = Time::secs(15);
    /// The longest time that a poll may wait for data.
    poll_wait_max: Time = Time::secs(30);
    /// Length of a streaming response over HTTP, in bytes, if its client does not ask for another. Behind it the client
    /// binds again.
    content_length: Size = Size(4_000_000);
    /// How much of what was written to a session is kept for a client whose connection breaks; a line counts its
    /// length and 32 bytes. The reference product keeps 1,600 bytes; a phone that changes networks needs some seconds'
    /// worth. Measured: with 1,600 bytes, 0.75 to 0.9 of the CPU for an update and 0.5 to 0.85 of the memory, for sessions
    /// that are sent much.
    recovery_memory: Size = Size::kib(64);
    /// The same for all sessions of a shard together. Beyond it each session keeps a sixteenth of recovery_memory. A guess.
    recovery_memory_shard: Size = Size::mib(512);
    /// For how long it is kept. A guess.
    recovery_age: Time = Time::secs(30);
    /// How long it is remembered why a session was closed, for a client whose bind is on its way. A guess.
    closed_memory: Time = Time::secs(5);
    /// How long messages of a sequence wait for one before them that is missing, unless their client is less patient
    /// (missingMessageTimeoutMillis). Then it counts as lost, and is told so.
    missing_message_timeout: Time = Time::secs(30);
    /// For data adapters of the kind "status": how often a client is told of its own updates, at most.
    status_interval: Time = Time::secs(1);
    /// A user may have one session in an adapter set: a new one ends the one before, which its client is told for good.
    /// Sessions without a user name are not concerned.
    one_per_user: bool = false;
    /// A session that is bound while another connection carries it leaves that one without a word. Otherwise, unless
    /// the client recovers, the old connection is told that the session is elsewhere now.
    take_over_silent: bool = false;
    /// Refuse clients that do not say what they are (`LS_cid`).
    cid_required: bool = false;
    /// Tell clients their address as the server sees it. Clients that see it change try again the transports that
    /// failed before.
    tell_client_ip: bool = true;
    /// Where clients shall send everything after the creation of their session: a host with or without port, known to
    /// reach this very server, behind a balancer that does not keep clients on one. Not set: where they came from.
    control_link: String, example "push1.example.com:443".into();
}

section! {
    /// Changed fields that go out as the difference to their last value, where that is shorter. Worth it for documents
    /// and long texts of which little changes. Computed once per change and shared by all clients in step.
    Diffs ["[diffs]"]
    /// What to try, in this order, on fields of which the data adapter says nothing: "json_patch" (both values are JSON
    /// documents; clients then see the document, but perhaps with other blanks and another order of members than
    /// published) and "text". None, as in the reference product: values go out in full.
    order: Vec<DiffFormat> = vec![];
    /// Both values must have so many bytes for a JSON Patch. Default of the reference product.
    json_patch_min: Size = Size(50);
    /// Both values must have so many bytes for a text difference. A guess.
    text_min: Size = Size(20);
    /// Larger values go out in full, since looking for a difference takes time. A guess: about a millisecond for JSON.
    max: Size = Size::kib(128);
}

section! {
    /// Which web pages may talk to the server, by the `Origin` that their browser sends.
    Origins ["[origins]"]
    /// Origins such as "https://www.example.com", or "*" alone for all of them, as in the reference product. In an origin
    /// "*" can be the scheme, the host or its first label, and the port: "*://*.example.com:*". Without a port it is the
    /// scheme's own. Clients outside browsers send no origin and are always let in.
    allow: Vec<String> = vec!["*".into()];
    /// Whether requests of those pages may carry cookies and other credentials. Default of the reference product.
    credentials: bool = true;
    /// How long a browser may go without asking again whether a request is allowed. Default of the reference product.
    max_age: Time = Time::secs(3600);
    /// Names of request headers that those pages may set, besides "Content-Type": ["X-Request-Id"], say.
    headers: Vec<String> = vec![];
}

section! {
    /// Responses over HTTP: pages, refusals, upgrades to WebSocket, and TLCP.
    Http ["[http]"]
    /// Headers that every response shall have, besides the server's own: ["Strict-Transport-Security: max-age=31536000"],
    /// say.
    add: Vec<String> = vec![];
    /// The Server header of every response; "" for none.
    server: String = "Brightwire".into();
    /// Compress bodies of 1,024 bytes or more that are there as a whole (pages, polls, answers) for clients that accept
    /// gzip. Streams are never compressed. Off by default, as in the reference product.
    gzip: bool = false;
    /// Whether clients from before TLCP (generations up to 6.0) are served too: they are told by requests without
    /// LS_protocol. If not, such requests are refused.
    legacy: bool = true;
}

section! {
    /// Pages for browsers. They are read when the server starts and served from memory, so a change is seen at the next
    /// start, and no request makes a shard wait for a disk.
    Pages ["[pages]"]
    /// The demo page. On if no folder is given.
    demo: bool, example false;
    /// A folder whose files are served, with what is below it; "index.html" also under its folder's name. Left out are
    /// names that begin with a dot, and links that lead out of the folder.
    folder: PathBuf, example PathBuf::from("pages");
    /// Largest file. A client that asks for it without reading makes the server hold so much. A guess.
    file_max: Size = Size::mib(1);
    /// All files together. A guess.
    folder_max: Size = Size::mib(64);
}
