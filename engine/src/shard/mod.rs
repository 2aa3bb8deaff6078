//! The shard half: client connections, sessions, subscriptions, and what each client is owed.
//!
//! A [`Shard`] is driven by one thread and owns everything it touches. Events go in by the `on_` functions, each
//! with the present time; [`Shard::pump`] writes what clients are owed into the driver's [`Outbox`];
//! [`Shard::poll_effect`] tells what the shard wants of others. It never waits: a request that needs an answer from
//! elsewhere parks in a table (see `question`).
//!
//! The order of work in a turn is the driver's, and always the same: records, answers, requests, timers, pump,
//! effects. Only the pump writes to clients, so all that happened in a turn shares one message per client.

mod bandwidth;
mod bind;
pub mod canary;
mod closed;
mod combo;
mod conn;
mod control;
mod deferred;
mod diffs;
mod event_buffer;
mod exchange;
mod gauges;
mod items;
mod leader;
pub mod life;
mod loading;
mod message;
mod moves;
mod pump;
mod question;
mod records;
mod recovery;
mod rows;
mod session;
pub mod session_id;
mod share;
mod sieve;
mod status;
mod subscription;
mod table;
#[cfg(feature = "sim")]
pub mod tail_probe;
mod tails;
mod tally;
mod timer;

use crate::counters::{Counter, Counters};
use crate::ids::{ConnId, ShardId};
use crate::ingest::demand::Demand;
use crate::item::safe::SafeRules;
use crate::limits::Limits;
use crate::metadata::client::{Certificate, Headers};
use crate::metadata::{Answer, Ask, Granted};
use crate::time::{Duration, Instant};
use crate::tlcp::Version;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Verb;
use closed::Closed;
use conn::Conns;
pub use diffs::Diffs;
use exchange::Wire;
use hashbrown::{HashMap, HashSet};
use items::{Items, Schema};
use leader::Leader;
pub use moves::Address;
use moves::Moves;
use question::Waiting;
use session::Session;
pub use sieve::{NamedSelector, Selectors};
use slotmap::SlotMap;
use std::collections::VecDeque;
use std::sync::Arc;
use subscription::{SubItem, Subscription};
use timer::{Timer, Wheel};

slotmap::new_key_type! {
    /// A session, for as long as it lives.
    pub struct SessionKey;
    /// A subscription, for as long as it lives.
    pub struct SubKey;
    /// One item of one subscription.
    pub struct SubItemKey;
    /// An open question.
    pub struct QuestionKey;
}

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Tag of this server among those that serve the same clients; must survive a restart.
    pub instance: u16,
    /// `SERVNAME`
    pub server_name: String,
    /// Keep-alive of a client that asks for none.
    pub keepalive_default: Duration,
    /// The shortest keep-alive that a client may ask for.
    pub keepalive_min: Duration,
    /// The longest keep-alive that a client may ask for.
    pub keepalive_max: Duration,
    /// How long a session lives without a connection after a regular end of its last one.
    pub session_timeout: Duration,
    /// How long it lives after its connection broke.
    pub recovery_timeout: Duration,
    /// How long a connection may stay open without a session and without a request.
    pub idle_timeout: Duration,
    /// How long a connection may take nothing before it is closed.
    pub write_timeout: Duration,
    /// The longest time that a poll may wait for data.
    pub idle_max: Duration,
    /// The longest time that a client may announce until its next poll.
    pub polling_max: Duration,
    /// Bytes of a streaming response over HTTP whose client does not say.
    pub content_length_default: u64,
    /// How long written lines are kept for clients that lost them.
    pub recovery_age_max: Duration,
    /// The most that a session may be sent, in kilobits per second, whatever its client asks for and its metadata adapter
    /// allows; `None` is no limit.
    pub bandwidth_kbps_max: Option<f64>,
    /// How long updates of a stream may wait for others, so that they share a write. Only those wait that follow a write
    /// so closely: the first update after a pause goes at once.
    pub update_delay_max: Duration,
    /// How many rows of snapshots a session is sent in a second; `None` is no limit. See `loading`.
    pub snapshot_rows_per_s_max: Option<u32>,
    /// The least time between the starts of two polls of a session; one that comes earlier is held.
    pub poll_interval_min: Duration,
    /// How long a stream may last before its client is asked to bind again; `None` is no limit.
    pub streaming_time_max: Option<Duration>,
    /// How old a session may become; `None` is no limit.
    pub session_duration_max: Option<Duration>,
    /// How long the cause is remembered of a session that was closed, for the bind that is on its way.
    pub closed_memory: Duration,
    /// A user has one session: a new one ends the older ones, on all shards. Sessions without a user name are not
    /// concerned.
    pub one_session_per_user: bool,
    /// The connection of a session that is bound elsewhere is closed without a word, also if its client did not ask
    /// for recovery.
    pub take_over_silent: bool,
    /// A client must say by `LS_cid` what it is.
    pub cid_required: bool,
    /// What clients are told that want a session while none are opened ([`Shard::block`]): to try again, or to give up.
    pub blocked_try_again: bool,
    /// Whether clients are told their address.
    pub tell_client_ip: bool,
    /// The host that clients shall send all further requests to, if it is not the one they know.
    pub control_link: Option<String>,
    /// How long a metadata adapter may think.
    pub question_timeout: Duration,
    /// How long the messages of a sequence wait for one that is missing, unless their client is less patient.
    pub missing_message_timeout: Duration,
    /// How often the counters of a session are told to its client at most, if that looks at the status adapter; `None`:
    /// there is none, and nothing is counted for it.
    pub status_interval: Option<Duration>,
    /// Whether updates leave out values that have not changed since the last one. Otherwise every update has all values,
    /// and no row is kept for the sake of the next.
    pub delta_delivery: bool,
    /// Fields that go out as differences.
    pub diffs: Diffs,
    /// Events that may not be merged.
    pub trade_safe: SafeRules,
    /// What clients may select by, besides what metadata adapters say.
    pub selectors: Selectors,
    /// The bounds.
    pub limits: Limits,
    /// A bug, to test the tests.
    pub canary: canary::Canary,
}

impl Config {
    /// Updates per second that a subscription may have if it is limited at all: where updates wait for others, more would not
    /// be sent one by one.
    fn frequency_highest(&self) -> Option<f64> {
        let wait_s = self.update_delay_max.as_secs_f64();
        // In thousandths, as clients are told: 30 ms make 33.333.
        (wait_s > 0.0).then(|| (1000.0 / wait_s).floor() / 1000.0)
    }
}

impl Default for Config {
    /// One shard, with the reference product's times.
    fn default() -> Self {
        Self {
            shard: ShardId(0),
            shards: 1,
            instance: 0,
            server_name: "Brightwire".into(),
            keepalive_default: Duration::from_secs(5),
            keepalive_min: Duration::from_secs(1),
            keepalive_max: Duration::from_secs(30),
            session_timeout: Duration::from_secs(10),
            recovery_timeout: Duration::from_secs(13),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(120),
            idle_max: Duration::from_secs(30),
            polling_max: Duration::from_secs(15),
            content_length_default: 4_000_000,
            recovery_age_max: Duration::from_secs(30),
            bandwidth_kbps_max: None,
            update_delay_max: Duration::ZERO,
            snapshot_rows_per_s_max: None,
            poll_interval_min: Duration::ZERO,
            streaming_time_max: None,
            session_duration_max: None,
            closed_memory: Duration::from_secs(5),
            one_session_per_user: false,
            take_over_silent: false,
            cid_required: false,
            blocked_try_again: true,
            tell_client_ip: true,
            control_link: None,
            question_timeout: Duration::from_secs(30),
            missing_message_timeout: Duration::from_secs(30),
            status_interval: None,
            delta_delivery: true,
            diffs: Diffs::default(),
            trade_safe: SafeRules::default(),
            selectors: Selectors::default(),
            limits: Limits::DEFAULT,
            canary: canary::Canary::default(),
        }
    }
}

/// What the transport knows of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, as `CLIENTIP` shall tell it.
    pub ip: Box<str>,
    /// Its port; 0 if only the address is known.
    pub port: u16,
    /// The name of the listener that it has come to.
    pub listener: Option<Arc<str>>,
    /// The headers of its request, or of the one that became its WebSocket, if a metadata adapter may want them.
    pub headers: Headers,
    /// What its TLS certificate says.
    pub certificate: Certificate,
    /// The version that the client offered.
    pub version: Version,
    /// What `SERVNAME` tells on this connection, if not [`Config::server_name`].
    pub server_name: Option<Arc<str>>,
    /// Sessions may be created on this connection.
    pub may_create: bool,
    /// The client has come by [`Config::control_link`].
    pub by_control_link: bool,
    /// Over HTTP: what is written must be ASCII, so all else is percent-encoded. Apple's clients decode each piece of
    /// a response for itself, and fail where a character straddles two (TLCP, HTTP responses).
    pub ascii: bool,
}

impl Peer {
    /// A client of which nothing else is known.
    pub fn new(ip: impl Into<Box<str>>, version: Version) -> Self {
        Self {
            ip: ip.into(),
            port: 0,
            listener: None,
            headers: Headers::default(),
            certificate: Certificate::NotAsked,
            version,
            server_name: None,
            may_create: true,
            by_control_link: false,
            ascii: false,
        }
    }
}

/// A TLCP request that came over HTTP: `POST /lightstreamer/<verb>.txt?<query>` with a body, or `GET` without.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// What is asked for.
    pub verb: Verb,
    /// The query string, undecoded.
    pub query: &'a str,
    /// The body, undecoded; for `GET` empty.
    pub body: &'a str,
    /// The response's length must be told before it: HTTP/1.0 and `Connection: close` (TLCP, HTTP responses).
    pub identity: bool,
}

/// Where the pump writes. The driver frames and sends.
pub trait Outbox {
    /// The buffer to which this connection's lines are appended. What it holds already is none of the caller's.
    fn open(&mut self, conn: ConnId) -> &mut Vec<u8>;

    /// Sends what was appended since [`Outbox::open`]. If that is nothing, nothing happens, but for the last part of a
    /// stream, which ends it.
    fn send(&mut self, conn: ConnId, part: Part);

    /// Sends to this connection the WebSocket message that was sent last, which consists of this text. Comes in place of
    /// [`Outbox::send`], when nothing was appended. A driver that still has the bytes need not write them again.
    fn repeat(&mut self, conn: ConnId, text: &[u8]) {
        self.open(conn).extend_from_slice(text);
        self.send(conn, Part::Message);
    }
}

/// What a run of lines is to the connection that it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A WebSocket message.
    Message,
    /// All of an HTTP response. The connection is free for the next request.
    Response,
    /// A part of an HTTP response that is written as it comes to be.
    Stream {
        /// The body's length in bytes, should it have to be told beforehand: all parts together stay within it. Only
        /// that of the first part counts.
        content_length: u64,
        /// Nothing follows. The connection is free for the next request, unless the length was told beforehand.
        last: bool,
    },
}

/// What a shard wants of its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell ingest.
    Demand(Demand),
    /// Ask the metadata adapter; to be answered by [`Shard::on_answer`].
    Ask(Ask),
    /// Tell another shard; to be given to its [`Shard::on_message`].
    Tell {
        /// The other shard.
        shard: ShardId,
        /// What to tell.
        message: ShardMessage,
    },
    /// Move a connection to the shard that owns the session it wants to bind, and let
    /// [`Shard::on_moved`] there go on with the request. The connection is forgotten here.
    Move {
        /// The connection.
        conn: ConnId,
        /// Where to.
        shard: ShardId,
        /// The request that made it move.
        request: MovedRequest,
        /// Answers that have not been written yet.
        lines: Box<[u8]>,
    },
    /// Close a connection, after what has been sent on it. It is forgotten here.
    Close(ConnId),
}

/// A bind that belongs to another shard, with all that it needs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedRequest {
    /// The request as a WebSocket message.
    pub message: Box<str>,
    /// It came over HTTP, and if so whether its response's length must be told before it.
    pub http_identity: Option<bool>,
    /// Where answers to earlier requests of the connection are still to come.
    pub addresses: Vec<Address>,
}

/// What shards tell each other.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardMessage {
    /// A request for a session of the receiver; the answer goes back to the sender.
    Request {
        /// The connection it came on.
        conn: ConnId,
        /// Over HTTP, the place of its answer.
        slot: Option<u32>,
        /// The request.
        request: Box<str>,
    },
    /// The answer, for the connection that the request came on. If there is nothing to say, without lines.
    Reply {
        /// The connection.
        conn: ConnId,
        /// Over HTTP, the place of the answer.
        slot: Option<u32>,
        /// Whole lines.
        lines: Box<[u8]>,
    },
    /// An answer for a connection that moved on before it came: for the one that once had this address.
    LateReply {
        /// The shard that passed the request on.
        shard: ShardId,
        /// What the connection was called there.
        conn: ConnId,
        /// Whole lines.
        lines: Box<[u8]>,
    },
    /// A client has opened another session in place of this one.
    Replaced {
        /// The old session.
        session: Box<str>,
    },
    /// A client has given a sign of life that asks for nothing.
    Heard {
        /// Its session.
        session: Box<str>,
    },
    /// A user has opened a session, and may have only one.
    UserSession(life::UserSession),
}

/// Where a request came from, and where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    /// The shard of the connection.
    shard: ShardId,
    /// The connection.
    conn: ConnId,
    /// Over HTTP, the answer's place among those of the request; `None` over WebSocket.
    slot: Option<u32>,
}

/// One shard.
pub struct Shard {
    config: Config,
    conns: Conns,
    sessions: SlotMap<SessionKey, Session>,
    by_id: HashMap<Box<str>, SessionKey, foldhash::quality::RandomState>,
    subscriptions: SlotMap<SubKey, Subscription>,
    sub_items: SlotMap<SubItemKey, SubItem>,
    schemas: HashSet<Schema, foldhash::quality::RandomState>,
    items: Items,
    questions: SlotMap<QuestionKey, Waiting>,
    moves: Moves,
    closed: Closed,
    /// Sessions by adapter set and user; kept only if a user may have one session only.
    by_user: HashMap<(u16, Box<str>), Vec<SessionKey>, foldhash::quality::RandomState>,
    timers: Wheel<Timer>,
    due: Vec<Timer>,
    /// Connections that have something to be written; each at most once (see `Conn::ready`).
    ready: Vec<ConnId>,
    /// The ready list of the turn before, kept for its memory.
    ready_spare: Vec<ConnId>,
    turn: usize,
    serial: u32,
    random: Box<dyn FnMut() -> [u8; session_id::RANDOM_BYTES]>,
    /// Bytes that all sessions together keep for recovery.
    recovery_bytes: usize,
    /// Where tails are encoded.
    tail_scratch: Vec<u8>,
    /// No sessions are opened.
    blocked: bool,
    /// The message that those behind it may be the same as.
    leader: Leader,
    effects: VecDeque<Effect>,
    counters: Counters,
}

impl Shard {
    /// A shard without connections. `random` must not be guessable: session ids are made of it.
    pub fn new(
        config: Config,
        random: impl FnMut() -> [u8; session_id::RANDOM_BYTES] + 'static,
    ) -> Self {
        let diffs = config.diffs;
        Self {
            config,
            conns: Conns::default(),
            sessions: SlotMap::with_key(),
            by_id: HashMap::default(),
            subscriptions: SlotMap::with_key(),
            sub_items: SlotMap::with_key(),
            schemas: HashSet::default(),
            items: Items::new(diffs),
            questions: SlotMap::with_key(),
            moves: Moves::default(),
            closed: Closed::default(),
            by_user: HashMap::default(),
            timers: Wheel::default(),
            due: Vec::new(),
            ready: Vec::new(),
            ready_spare: Vec::new(),
            turn: 0,
            serial: 0,
            random: Box::new(random),
            recovery_bytes: 0,
            tail_scratch: Vec::new(),
            blocked: false,
            leader: Leader::default(),
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A client has opened a WebSocket.
    pub fn on_accept(&mut self, conn: ConnId, peer: Peer, now: Instant) {
        self.conns.insert(conn, peer, now);
        self.watch(conn, now);
    }

    /// A connection was moved here by another shard's [`Effect::Move`].
    pub fn on_moved(
        &mut self,
        conn: ConnId,
        peer: Peer,
        lines: &[u8],
        request: &MovedRequest,
        now: Instant,
    ) {
        self.on_accept(conn, peer, now);
        self.arrive(conn, &request.addresses);
        self.reply(self.here(conn), |out| out.extend_from_slice(lines));
        match request.http_identity {
            None => _ = self.on_request(conn, &request.message, now),
            Some(identity) => self.on_moved_http(conn, &request.message, identity, now),
        }
    }

    /// A client has sent one message. Returns false if its connection is not known here any more: the driver keeps what
    /// else it has read, for where the connection may go.
    pub fn on_request(&mut self, conn: ConnId, message: &str, now: Instant) -> bool {
        let Some(entry) = self.conns.get_mut(conn) else {
            return false;
        };
        entry.last_read = now;
        self.take_message(self.here(conn), message, now);
        self.conns.get(conn).is_some()
    }

    /// A client has sent a message above the request limit; this is its beginning, the rest is not there. Each request in
    /// it is refused, with a code that stays local to the request (TLCP, Requests).
    pub fn on_cut_request(&mut self, conn: ConnId, beginning: &str, now: Instant) {
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.last_read = now;
            self.refuse_cut_message(self.here(conn), beginning);
        }
    }

    /// A client has sent a TLCP request over HTTP. Exactly one response follows on this connection ([`Part::Response`],
    /// or [`Part::Stream`] up to its last part); until then the driver must not deliver another request of it. The
    /// version in `peer` is the request's `LS_protocol`. Returns false if the connection has moved to another shard.
    pub fn on_http_request(
        &mut self,
        conn: ConnId,
        peer: Peer,
        request: HttpRequest<'_>,
        now: Instant,
    ) -> bool {
        self.begin_exchange(conn, peer, request, now);
        self.conns.get(conn).is_some()
    }

    /// A metadata adapter has decided.
    pub fn on_answer(&mut self, answer: Answer, now: Instant) {
        let key = question::key(answer.token);
        let claim = match &answer.result {
            Ok(Granted::Subscription { claim, .. }) => *claim,
            _ => None,
        };
        if let Some(waiting) = self.questions.remove(key) {
            self.resume(waiting, answer.result, now);
        } else {
            self.settle(claim);
        }
    }

    /// Another shard has something to say.
    pub fn on_message(&mut self, from: ShardId, message: ShardMessage, now: Instant) {
        match message {
            ShardMessage::Request {
                conn,
                slot,
                request,
            } => {
                let origin = Origin {
                    shard: from,
                    conn,
                    slot,
                };
                self.take_message(origin, &request, now);
            }
            ShardMessage::Reply { conn, slot, lines } => {
                let origin = Origin {
                    shard: self.config.shard,
                    conn,
                    slot,
                };
                match self.conns.get_mut(conn) {
                    Some(entry) => {
                        entry.awaited = entry.awaited.saturating_sub(1);
                        self.reply(origin, |out| out.extend_from_slice(&lines));
                    }
                    None => self.answer_former(self.config.shard, conn, lines),
                }
            }
            ShardMessage::LateReply { shard, conn, lines } => {
                self.answer_former(shard, conn, lines);
            }
            ShardMessage::Replaced { session } => self.replaced(&session, now),
            ShardMessage::Heard { session } => self.heard_elsewhere(&session, now),
            ShardMessage::UserSession(newest) => self.supersede(&newest, now),
        }
    }

    /// An effect of [`Effect::Tell`] could not be delivered: the other shard's ring is full.
    pub fn on_undelivered(&mut self, message: ShardMessage) {
        if let ShardMessage::Request {
            conn,
            slot,
            request,
        } = message
        {
            let origin = Origin {
                shard: self.config.shard,
                conn,
                slot,
            };
            if let Some(entry) = self.conns.get_mut(conn) {
                entry.awaited = entry.awaited.saturating_sub(1);
            }
            self.refuse_message(origin, &request, &Refusal::request_failed());
        }
    }

    /// A connection took only part of what was sent.
    pub fn on_blocked(&mut self, conn: ConnId, now: Instant) {
        if let Some(entry) = self.conns.get_mut(conn) {
            self.counters.count(Counter::Blocked);
            entry.blocked_since = Some(now); // the connection's timer will see it
        }
    }

    /// A blocked connection takes more.
    pub fn on_writable(&mut self, conn: ConnId, now: Instant) {
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.blocked_since = None;
            entry.last_write = now; // this is when the client got the last of it
            self.conns.make_ready(conn, &mut self.ready);
        }
    }

    /// A connection is gone. Its session waits for the client to come back.
    pub fn on_closed(&mut self, conn: ConnId, now: Instant) {
        if let Some(entry) = self.conns.remove(conn) {
            self.lost_connection(&entry, now);
        }
    }

    /// Time has passed.
    pub fn on_timers(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.expire(now, &mut due);
        for timer in due.drain(..) {
            match timer {
                Timer::Connection(conn, version) => self.on_watch(conn, version, now),
                Timer::SessionExpiry(session, version) => self.on_expiry(session, version, now),
                Timer::SessionDuration(session) => self.on_session_duration(session, now),
                Timer::StreamingTime(session, version) => {
                    self.on_streaming_time(session, version, now)
                }
                Timer::Inactivity(session, version) => self.on_inactivity(session, version, now),
                Timer::Due(sub_item, version) => self.on_due(sub_item, version),
                Timer::Bandwidth(session) => self.on_bandwidth(session),
                Timer::Loading(session) => self.on_loading(session),
                Timer::Gathered(session) => self.on_gathered(session),
                Timer::Status(session, version) => self.on_status(session, version, now),
                Timer::Question(question) => self.on_question_timeout(question, now),
                Timer::MissingMessages(session) => self.on_missing_messages(session, now),
            }
        }
        self.due = due;
    }

    /// When [`Shard::on_timers`] should be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Whether [`Shard::pump`] has something to write.
    pub fn has_output(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What the driver has to do next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of sessions alive.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Number of items that sessions of this shard look at.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Where requests of an own WebSocket come from.
    fn here(&self, conn: ConnId) -> Origin {
        Origin {
            shard: self.config.shard,
            conn,
            slot: None,
        }
    }

    /// Gives an answer to the connection that the request came on: at the end of what waits there or, over HTTP, in
    /// its place among the answers of the request.
    fn reply(&mut self, to: Origin, write: impl FnOnce(&mut Vec<u8>)) {
        let Origin { shard, conn, slot } = to;
        if shard != self.config.shard {
            let mut lines = Vec::new();
            write(&mut lines);
            return self.tell(
                shard,
                ShardMessage::Reply {
                    conn,
                    slot,
                    lines: lines.into(),
                },
            );
        }
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        match (&mut entry.wire, slot) {
            (Wire::Answering(answers), Some(slot)) => {
                answers.put(slot, write);
                if answers.are_complete() {
                    self.conns.make_ready(conn, &mut self.ready);
                }
            }
            (_, Some(_)) => {} // its response is over: the connection broke in between
            (_, None) => {
                write(&mut entry.replies);
                if entry.replies.len() > self.config.limits.lines_bytes_max {
                    entry.overrun = true; // and no now at hand: the next tick's look closes it
                    self.watch(conn, Instant::ZERO);
                } else {
                    self.conns.make_ready(conn, &mut self.ready);
                }
            }
        }
    }

    fn tell(&mut self, shard: ShardId, message: ShardMessage) {
        self.effects.push_back(Effect::Tell { shard, message });
    }
}
