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
mod config;
mod conn;
mod control;
mod deferred;
mod diffs;
mod driver;
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
mod sub_item;
mod subscription;
mod table;
#[cfg(feature = "sim")]
pub mod tail_probe;
mod tails;
mod tally;
mod timer;

use crate::counters::{Counter, Counters};
use crate::ids::{ConnId, ShardId};
use crate::metadata::{Answer, Granted};
use crate::time::Instant;
use crate::tlcp::cause::Refusal;
use closed::Closed;
pub use config::Config;
use conn::Conns;
pub use diffs::Diffs;
pub use driver::{Effect, HttpRequest, MovedRequest, Outbox, Part, Peer, ShardMessage};
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
use sub_item::SubItem;
use subscription::Subscription;
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
