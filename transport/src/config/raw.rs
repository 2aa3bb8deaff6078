//! What a configuration file says, before anything is decided: every key is optional, unknown keys are errors.
//!
//! Each key is defined once, here: its type, its sentence, and its default or an example. The struct that is read
//! from the file, the getter that applies the default, and the annotated reference all come from that definition.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::plan::{
    ClosesRecovery, DataKindName, DiffFormat, EventsRecovery, IoChoice, MetadataKindName, ModeName,
    OnLoss, Pinning, TableItems, Threading, Unavailable, WhenBlocked,
};
use super::value::{Size, Time};
use crate::adapter::literal::tokens::TokenAlgorithm;
use crate::net::settings::{ProxyProtocol, Role};

/// One key of a section, for the reference.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it does, line by line.
    pub doc: &'static [&'static str],
    /// The value it has when the file does not give one, as TOML.
    pub default: Option<String>,
    /// For keys that have no default: a value they could have, as TOML.
    pub example: Option<String>,
}

/// One table of the file, for the reference.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its header with brackets.
    pub header: &'static str,
    /// Most files do not have it: the reference shows it as a comment.
    pub optional: bool,
    /// What it is about, line by line.
    pub doc: &'static [&'static str],
    /// Its keys in the order of their definition.
    pub keys: Vec<Key>,
}

/// Defines a section: a struct of optional fields, a getter for each field that has a default, and the text of the
/// reference. Keys are written `name: Type = default;` or `name: Type, example value;`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $Name:ident [$header:literal]
        $($(#[doc = $doc:literal])+ $key:ident: $Type:ty $(= $default:expr)? $(, example $example:expr)?;)*
        $(tables { $($(#[doc = $table_doc:literal])+ $table:ident: $Table:ty;)* })?
        $(inner { $($(#[doc = $inner_doc:literal])+ $inner:ident: $Inner:ty;)* })?
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Name {
            $($(#[doc = $doc])+ pub $key: Option<$Type>,)*
            $($($(#[doc = $table_doc])+ pub $table: Option<Vec<$Table>>,)*)?
            $($($(#[doc = $inner_doc])+ pub $inner: Option<Box<$Inner>>,)*)?
        }

        impl $Name {
            $($(
                #[doc = concat!("`", stringify!($key), "`, or its default.")]
                pub fn $key(&self) -> $Type {
                    self.$key.clone().unwrap_or_else(|| $default)
                }
            )?)*

            /// The section as the reference describes it.
            pub fn section() -> Section {
                Section {
                    header: $header,
                    optional: false,
                    doc: &[$($section_doc),+],
                    keys: vec![$(
                        #[allow(unused_mut, unused_assignments)]
                        {
                            let (mut default, mut example): (Option<$Type>, Option<$Type>) = (None, None);
                            $(default = Some($default);)?
                            $(example = Some($example);)?
                            Key {
                                name: stringify!($key),
                                doc: &[$($doc),+],
                                default: default.map(to_toml),
                                example: example.map(to_toml),
                            }
                        }
                    ),*],
                }
            }
        }
    };
}

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

/// A section that most files do not have.
fn optional(section: Section) -> Section {
    Section {
        optional: true,
        ..section
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
    /// where kernel and container allow it, else epoll, with a line in the log).
    io: IoChoice = IoChoice::Auto;
    /// "dedicated": ingest, control and every shard have a thread each. "shared": ingest and a single shard
    /// share one, for laptops and continuous integration.
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
    /// client's backlog stays where newer values replace older ones. A guess.
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
    /// From ingest to each shard. When it is full, items are conflated until there is room. A guess.
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
    /// share a write if they come while the server is busy. The reference product waits up to 30 ms.
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
    /// worth.
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

section! {
    /// A metadata adapter and the data adapters that it rules over. Repeat the table for more; names must differ.
    AdapterSet ["[[adapter_sets]]"]
    /// The name that clients ask for.
    name: String = "DEMO".into();
    /// Who decides what users may see: "literal" (built in; takes the names of items and fields as they are, separated
    /// by spaces; admits every user to everything, if there is no table [adapter_sets.literal] with rules), or "remote"
    /// (an adapter in another process, which the table [adapter_sets.remote] describes with the keys of
    /// [adapter_sets.data.remote]).
    metadata: MetadataKindName = MetadataKindName::Literal;
    /// Remote data adapters of this set are refused until its remote metadata adapter is there
    /// (metadata_adapter_initialised_first, which is "Y" there by default).
    metadata_first: bool = false;
    tables {
        /// `[[adapter_sets.data]]`; one with default values if there is none.
        data: DataAdapter;
        /// `[[adapter_sets.selectors]]`: which events a subscription gets that names one of them.
        selectors: Selector;
    }
    inner {
        /// `[adapter_sets.literal]`, rules for the built-in metadata adapter.
        literal: Literal;
        /// `[adapter_sets.remote]`, for a metadata adapter in another process.
        remote: Remote;
    }
}

section! {
    /// Rules of the built-in metadata adapter (LiteralBasedProvider). What a user may not have is refused: code 1 for the
    /// session, 21 for items, 24 for a mode. If there are neither allowed_users nor users nor tokens, everybody is let in.
    Literal ["[adapter_sets.literal]"]
    /// Users who are let in by their names alone (allowed_users).
    allowed_users: Vec<String> = vec![];
    /// Kilobits per second that a session may be sent (max_bandwidth). Not set: no limit.
    max_bandwidth: f64, example 40.0;
    /// Updates per second and item that a session may have (max_frequency); with a limit, no item can be had unfiltered.
    /// Not set: no limit.
    max_frequency: f64, example 3.0;
    /// Events that may wait for a session and item in MERGE and DISTINCT mode (buffer_size). Not set: no limit but the
    /// server's.
    buffer_size: u32, example 30;
    /// Events that make up the snapshot of an item in DISTINCT mode (distinct_snapshot_length).
    distinct_snapshot_length: u32 = 10;
    /// Events per second to which every item is thinned out for everybody (prefilter_frequency). Not set: not at all.
    prefilter_frequency: f64, example 50.0;
    tables {
        /// `[[adapter_sets.literal.families]]`
        families: Family;
        /// `[[adapter_sets.literal.users]]`
        users: User;
    }
    inner {
        /// `[adapter_sets.literal.tokens]`
        tokens: Tokens;
    }
}

section! {
    /// Items with something in common (item_family_N). The first family that an item belongs to counts. If there is any,
    /// items of none cannot be had; if there is none, all items can be had in every mode.
    Family ["[[adapter_sets.literal.families]]"]
    /// A regular expression that the whole name of an item must match.
    items: String, example "item[0-9]+".into();
    /// The data adapter that the items must belong to (data_adapter_for_item_family_N). Not set: any.
    data_adapter: String, example "QUOTE_ADAPTER".into();
    /// In which modes they can be had (modes_for_item_family_N). At most one of "MERGE", "DISTINCT" and "COMMAND" makes
    /// sense, since they exclude each other; "RAW" goes with each.
    modes: Vec<ModeName>, example vec![ModeName::Merge];
    /// Instead of the key of this name in [adapter_sets.literal].
    max_frequency: f64, example 10.0;
    /// Instead of the key of this name in [adapter_sets.literal].
    buffer_size: u32, example 1;
    /// Instead of the key of this name in [adapter_sets.literal].
    distinct_snapshot_length: u32, example 30;
    /// Instead of the key of this name in [adapter_sets.literal].
    prefilter_frequency: f64, example 20.0;
}

section! {
    /// A user with a password.
    User ["[[adapter_sets.literal.users]]"]
    /// The name.
    name: String, example "ann".into();
    /// The hash of the password, as `brightwire hash-password` makes it: never the password itself.
    password: String, example "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc".into();
    /// Regular expressions; the whole name of an item must match one of them for the user to have it. Not set: all items.
    items: Vec<String>, example vec!["item[0-9]+".into()];
    /// The user's own limit; the lower one counts.
    max_frequency: f64, example 1.0;
    /// The user's own limit; the lower one counts.
    max_bandwidth: f64, example 20.0;
}

section! {
    /// Signed tokens (JWT) that clients send in place of a password. The claims `sub` (the user) and `exp` (when the token
    /// expires, and with it the session) must be there; `items` (regular expressions), `max_frequency` and `max_bandwidth`
    /// are the same as for users.
    Tokens ["[adapter_sets.literal.tokens]"]
    /// How they are signed: "EdDSA" (Ed25519: the server has a public key), or "HS256" (it has the secret that signs).
    algorithm: TokenAlgorithm = TokenAlgorithm::EdDsa;
    /// The file of the key: a public key in PEM format, or the secret, of at least 32 bytes, whose last line end does not
    /// count. A relative path starts at the configuration file's directory.
    key_file: PathBuf, example PathBuf::from("tokens.pem");
    /// The claim `iss` that they must have. Not set: any.
    issuer: String, example "https://login.example.com".into();
    /// The claim `aud` that they must have. Not set: they must have none.
    audience: String, example "shop".into();
    /// By how much the clock of whoever signs may differ.
    leeway: Time = Time::secs(0);
}

section! {
    /// A selector: a client that names it (LS_selector) gets the events that pass its checks, and no others. In MERGE the
    /// item's whole state is checked, in COMMAND only the field "key" may be. Repeat the table for more; all that have one
    /// name must be passed. No such table: clients that name a selector are refused, unless the program's own metadata
    /// adapter knows it.
    Selector ["[[adapter_sets.selectors]]"]
    /// The name that clients ask for.
    name: String = "large".into();
    /// The field that is checked, whether or not the client sees it. Its value must not be null.
    field: String = "volume".into();
    /// It must be one of these.
    one_of: Vec<String>, example vec!["buy".into(), "sell".into()];
    /// It must begin so.
    prefix: String, example "EUR".into();
    /// It must be a number not below this one.
    at_least: f64, example 1000.0;
    /// It must be a number not above this one.
    at_most: f64, example 5000.0;
}

section! {
    /// A data adapter of the set above. Repeat the table for more; names must differ within the set.
    DataAdapter ["[[adapter_sets.data]]"]
    /// The name that clients ask for.
    name: String = "QUOTE_ADAPTER".into();
    /// "demo" (a generated list of stocks), "replay" (a file of CSV, or of JSON lines), "lines" (programs write
    /// lines to a socket: an item, then field=value for each change, with tabs between), "remote" (an adapter in
    /// another process, which the table [adapter_sets.data.remote] describes), or "status" (tells each client what became
    /// of its own updates; one per set, besides another).
    kind: DataKindName = DataKindName::Demo;
    /// Updates per second: of the whole list for "demo" (15 if not set), of the file for "replay".
    rate: f64, example 1000.0;
    /// For "replay": the file, JSON lines if its name ends in .ndjson or .jsonl, else CSV; a relative path starts at the
    /// configuration file's directory.
    file: PathBuf, example PathBuf::from("ticks.csv");
    /// For "replay", instead of rate: follow the times in the file, so many times faster (1.0 if neither is set); inf: as
    /// fast as the server takes it.
    speed: f64, example 10.0;
    /// For "replay": start again at the end of the file.
    repeat: bool = false;
    /// For "lines": where publishers connect, "address:port" or "unix:/path". Whoever can connect can publish.
    address: String, example "127.0.0.1:6661".into();
    tables {
        /// `[[adapter_sets.data.trade_safe]]`: events that are never merged away.
        trade_safe: TradeSafe;
    }
    inner {
        /// `[adapter_sets.data.remote]`, for an adapter in another process.
        remote: Remote;
    }
}

section! {
    /// Events of the adapter above that are never merged into others and never dropped without a word, as trades among
    /// quotes. Such an event goes out at once, whatever frequency is asked for, and what waits before it goes before it.
    /// Repeat the table for more. No such table, as in the reference product: all events may be merged.
    TradeSafe ["[[adapter_sets.data.trade_safe]]"]
    /// Of these items: names, or beginnings of names with an asterisk behind them. Not set: of all.
    items: Vec<String>, example vec!["stocks/*".into(), "gold".into()];
    /// Those that bring a new value in one of these fields: one that differs with each trade. Not set: all events.
    fields: Vec<String>, example vec!["last".into(), "volume".into()];
}

section! {
    /// An adapter in another process, written with one of the SDKs for remote adapters. The same table under the name
    /// [adapter_sets.remote] is for a metadata adapter. What the reference product calls it stands in brackets.
    Remote ["[adapter_sets.data.remote]"]
    /// Where the server listens for the remote's connection for requests and replies (request_reply_port). Port 0
    /// takes any free one.
    address: String = "127.0.0.1:6661".into();
    /// For data adapters: where the server listens for a second connection, for notifications (notify_port). Older
    /// SDKs need it, among them the Node one of the npm registry; newer ones send everything on the first connection.
    notify_address: String, example "127.0.0.1:6662".into();
    /// The remote listens at these addresses and the server connects (remote_host).
    connect: bool = false;
    /// Pause between two attempts to connect (connection_retry_millis).
    connect_retry: Time = Time::secs(10);
    /// Users and passwords; a remote must present one of the pairs (auth.credentials). Empty: everybody is let in.
    credentials: Vec<(String, String)> = vec![];
    /// Where remotes may connect from (remote_address_whitelist): IP addresses, or networks such as "10.0.0.0/8". Empty:
    /// from everywhere.
    allow: Vec<String> = vec![];
    /// How long the remote may take to answer a request (timeout).
    timeout: Time = Time::secs(10);
    /// A connection that is silent for so long is closed (keepalive_timeout_millis). Not set: never.
    keepalive_timeout: Time, example Time::secs(10);
    /// How often the remote is asked to send something (keepalive_hint_millis). Not set: two seconds less than
    /// keepalive_timeout, or half of it if that is below four seconds.
    keepalive_hint: Time, example Time::secs(5);
    /// When the remote goes away: "recover" (the server goes on and waits for the next one, which gets all
    /// subscriptions again: ROBUST_PROXY_FOR_REMOTE_ADAPTER), or "stop" (the server stops, to be started again by a
    /// supervisor: PROXY_FOR_REMOTE_ADAPTER).
    on_loss: OnLoss = OnLoss::Recover;
    /// Pause after a remote that was refused, or failed in its init (connection_recovery_timeout_millis). With on_loss =
    /// "stop", a failed init stops the server instead.
    recovery_delay: Time = Time::secs(10);
    /// How long the server, when it starts, waits for the remote before it lets clients in
    /// (first_connection_timeout_millis); "1year" is for ever. Not set: no time with on_loss = "recover", for ever with
    /// "stop".
    start_wait: Time, example Time::secs(30);
    /// For data adapters, what becomes of the items when a remote comes back (events_recovery): "use_snapshot" (the
    /// new snapshot goes into the flow as it comes), "leave_hole" (it is not used), "enforce_snapshot" (items are
    /// cleared when the remote goes, and filled by the new snapshot).
    events_recovery: EventsRecovery = EventsRecovery::UseSnapshot;
    /// For data adapters: an item of this name tells in its field "status" whether the remote is there: "connecting",
    /// "connected" or "reconnecting" (status_item).
    status_item: String, example "adapter_status".into();
    /// Parameters for the remote's init.
    params: BTreeMap<String, String> = BTreeMap::new();
    /// For metadata adapters: whether subscriptions are told with the names of their items, where the protocol's
    /// version has that. "auto": unless the remote says that it is the Node SDK, which cannot read them; "always";
    /// "never" (for the Node SDK 1.6.0, which does not say what it is).
    table_items: TableItems = TableItems::Auto;
    /// A longer line ends the connection.
    line_limit: Size = Size::mib(4);
    /// For metadata adapters: how many requests of one kind (sessions; subscriptions; messages; ends of any) may be
    /// without an answer (max_pending_remote_requests). More wait their turn here.
    pending_limit: usize = 1000;
    /// For metadata adapters: what clients are told who want a session while the remote is not there
    /// (notify_user_on_disconnection): "retry" (to try again: force_retry) or "fail" (that the metadata adapter has
    /// failed; official clients give up). With unavailable_code they are told that instead.
    unavailable: Unavailable = Unavailable::Retry;
    /// A code of zero or below for that case, with a text (notify_user_disconnection_code, _msg; send_code).
    unavailable_code: i64, example -10;
    /// The text to that code.
    unavailable_text: String, example "Closed for maintenance".into();
    /// For metadata adapters: which ends of sessions and subscriptions, not told to a remote that went away, the next
    /// one is told (close_notifications_recovery): "unneeded" (none), "optimistic" (those after the last that was
    /// answered), "pessimistic" (all from the first that was not answered, so some of them twice).
    closes_recovery: ClosesRecovery = ClosesRecovery::Unneeded;
    /// For metadata adapters: ends and beginnings of a session's subscriptions are told one at a time
    /// (sequentialize_table_notifications).
    sequential_tables: bool = false;
    /// For metadata adapters: how long it is remembered what a user may have of an item (user_data_timeout).
    user_data_timeout: Time = Time::secs(10);
    /// That is forgotten when the last session of the user ends (clear_on_session_close).
    clear_on_session_close: bool = true;
    /// What is known of items for all users is forgotten when another remote comes (clear_on_new_remote).
    clear_on_new_remote: bool = false;
    inner {
        /// `[adapter_sets.data.remote.tls]`
        tls: RemoteTls;
    }
}

section! {
    /// With this table the connections of a remote adapter are TLS. Files are PEM; a relative path starts at the
    /// configuration file's directory.
    RemoteTls ["[adapter_sets.data.remote.tls]"]
    /// The server's certificate, followed by those that lead to its authority. Needed to listen; with connect = true
    /// only for remotes that ask for one.
    certificate: PathBuf, example PathBuf::from("server.pem");
    /// The certificate's private key, not encrypted.
    key: PathBuf, example PathBuf::from("server.key");
    /// Certificates of authorities. A remote that connects must present a certificate that one of them has signed
    /// (force_client_auth); not set: it need not. With connect = true the remote's own must be signed by one of them.
    authorities: PathBuf, example PathBuf::from("ca.pem");
    /// With connect = true: take a certificate of another host as well (skip_hostname_check).
    skip_hostname_check: bool = false;
}

fn to_toml<T: serde::Serialize>(value: T) -> String {
    // Values are numbers, booleans, strings and lists of them, all of which TOML can express.
    toml::Value::try_from(value)
        .expect("a key's default is expressible")
        .to_string()
}
