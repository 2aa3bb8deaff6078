//! Sessions: what each one is, and its creation. For what comes after see `life`.

use super::bandwidth::Bucket;
use super::bind::Start;
use super::combo::{Combining, Combo};
use super::loading::Loading;
use super::message::Messages;
use super::question::Waiting;
use super::recovery::Log;
use super::session_id::{self, Owner};
use super::status::Status;
use super::{Origin, SessionKey, Shard, ShardMessage, SubItem, SubItemKey, SubKey};
use crate::counters::Counter;
use crate::ids::ConnId;
use crate::metadata::{AdapterSetId, Client, DEFAULT_NAME, Granted, Question};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Reason, Refusal};
use crate::tlcp::cid;
use crate::tlcp::diff::Formats;
use crate::tlcp::notify::GrantedBandwidth;
use crate::tlcp::request::{Bandwidth, Create, StreamOptions, Ttl, Verb};
use crate::tlcp::response;
use crate::tlcp::{Dialect, Version};
use slotmap::SlotMap;
use std::collections::VecDeque;

/// One client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub id: Box<str>,
    pub version: Version,
    pub user: Option<Box<str>>,
    pub adapter_set: AdapterSetId,
    pub state: State,
    /// By `LS_subId`, ascending.
    pub subscriptions: Vec<(u32, SubKey)>,
    /// Lines of the stream other than updates, in order.
    pub lines: Vec<u8>,
    /// Items that may be sent now, oldest first. May name items that are gone.
    pub owed: VecDeque<SubItemKey>,
    /// How many of them are gone.
    owed_gone: usize,
    /// Data lines ever written to a connection: what `PROG` counts.
    pub sent: u64,
    /// The last of them, for clients that lost some.
    pub log: Log,
    pub bandwidth: Option<Bucket>,
    pub bandwidth_kbps_max: Option<f64>,
    /// The metadata adapter wants to hear of its end, and of its subscriptions' ends.
    pub notices: bool,
    /// A timer will resume the session when its bandwidth allows.
    pub waits_for_bandwidth: bool,
    /// The pace of its snapshots, if they have one.
    pub loading: Option<Box<Loading>>,
    /// What is counted of it, if its client may look at that.
    pub status: Option<Box<Status>>,
    /// Until when updates wait for others to go with them.
    pub gathers_until: Instant,
    /// A timer will write them then.
    pub waits_to_gather: bool,
    /// Its client needs ASCII over HTTP, see [`super::Peer::ascii`].
    pub ascii: bool,
    /// The formats of differences that its client decodes.
    pub formats: Formats,
    /// `CONS` is not wanted, for the whole session.
    pub reduce_head: bool,
    /// `SYNC` is wanted on this connection; since when the connection streams and when it had the last.
    pub send_sync: bool,
    pub bound_at: Instant,
    pub last_sync: Instant,
    /// Its client has followed the control link.
    pub linked: bool,
    /// Its connection is a poll whose head waits with it, because its length has to be told.
    pub head_waits: bool,
    /// What the client has sent to the metadata adapter; none for the many that never do.
    pub messages: Option<Box<Messages>>,
    pub opened_at: Instant,
    /// The age at which it ends.
    pub time_to_live: Option<Duration>,
    /// The client's last sign of life, and the silence after which it is asked to bind again.
    pub last_heard: Instant,
    pub inactivity: Option<Duration>,
    /// When its last poll began.
    pub last_poll: Option<Instant>,
    /// Over HTTP, a hash of the request that bound it to its connection.
    pub bound_by: Option<u64>,
    /// It comes to be when what came with its creation is granted; until then nobody knows it.
    pub combining: Option<Box<Combining>>,
    /// Counts the times that a connection came or went: a timer of an earlier one is stale.
    pub life_version: u32,
}

/// Where a session stands. A session whose creation waits for the metadata adapter is not here yet, but in the table
/// of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Writes to this connection.
    Bound(ConnId),
    /// Waits for a connection.
    Unbound,
}

impl Session {
    #[inline]
    pub fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Bound(conn) => Some(conn),
            State::Unbound => None,
        }
    }

    /// Whether its client speaks the text protocol before TLCP.
    pub fn is_legacy(&self) -> bool {
        self.version.dialect() == Dialect::Legacy
    }

    /// One more item of the queue is gone. They are swept out when they make up half of it, so that a client which
    /// subscribes and unsubscribes without reading cannot make the queue grow.
    pub fn forget_owed(&mut self, alive: &SlotMap<SubItemKey, SubItem>) {
        self.owed_gone += 1;
        if self.owed_gone * 2 > self.owed.len() {
            self.owed.retain(|key| alive.contains_key(*key));
            self.owed_gone = 0;
        }
    }

    /// What the client is told of its bandwidth.
    pub fn granted_bandwidth(&self) -> GrantedBandwidth {
        match &self.bandwidth {
            Some(bucket) => GrantedBandwidth::Limited(bucket.kbps()),
            None => GrantedBandwidth::Unlimited,
        }
    }

    /// Applies what the client asks for, within what the metadata adapter and the server allow.
    pub fn set_bandwidth(&mut self, requested: Bandwidth, now: Instant) {
        let requested = match requested {
            Bandwidth::Limited(kbps) => Some(kbps),
            Bandwidth::Unlimited => None,
        };
        match (
            least(requested, self.bandwidth_kbps_max),
            &mut self.bandwidth,
        ) {
            (Some(kbps), Some(bucket)) => bucket.set_rate(kbps, now),
            (Some(kbps), None) => self.bandwidth = Some(Bucket::new(kbps, now)),
            (None, _) => self.bandwidth = None,
        }
        self.waits_for_bandwidth = false; // the timer was for the old rate; should it still fire, it does no harm
    }
}

/// A creation that waits for the metadata adapter.
#[derive(Debug)]
pub(super) struct Opening {
    pub origin: Origin,
    /// When the client does not wait any longer.
    pub deadline: Option<Instant>,
    /// The client does not take overload for an answer.
    pub unlimited: bool,
    /// What shall be carried out in the session.
    combo: Option<Combo>,
    pub id: Box<str>,
    user: Option<Box<str>>,
    bandwidth: Bandwidth,
    stream: StreamOptions,
    ascii: bool,
    formats: Formats,
}

impl Shard {
    /// `create_session`
    pub(super) fn create(
        &mut self,
        origin: Origin,
        create: Create<'_>,
        combo: Option<Combo>,
        now: Instant,
    ) {
        let conn = origin.conn;
        if origin.shard != self.config.shard {
            return; // creations are never forwarded
        }
        let Some(entry) = self.conns.get(conn) else {
            return;
        };
        let peer = &entry.peer;
        let client = Box::new(Client {
            ip: peer.ip.clone(),
            port: peer.port,
            listener: peer.listener.clone(),
            headers: peer.headers.clone(),
            certificate: peer.certificate.clone(),
            cid: create.cid.as_deref().map(Into::into),
        });
        let refusal = if !entry.peer.may_create {
            Some(Refusal::creation_not_allowed())
        } else if entry.stream.is_some() || entry.opening {
            Some(Refusal::stream_in_place())
        } else if self.config.cid_required && create.cid.is_none() {
            Some(Refusal::client_unsupported())
        } else if self.blocked {
            Some(self.blocked_refusal(create.ttl == Ttl::Unlimited))
        } else if self.sessions.len() >= self.config.limits.sessions_max {
            Some(Refusal::session_limit_reached())
        } else if self.sub_items.len() >= self.config.limits.subscribed_items_max {
            Some(Refusal::load_limit_reached())
        } else {
            None
        };
        let version = entry.peer.version;
        if let Some(refusal) = refusal {
            return self.refuse_session(origin, &refusal, now);
        }
        if let Some(old) = &create.old_session {
            self.replace(old, now);
        }
        let user: Option<Box<str>> = create.user.map(Into::into);
        self.serial = self.serial.wrapping_add(1);
        let owner = Owner {
            instance: self.config.instance,
            shard: self.config.shard,
        };
        let id = session_id::make(owner, (self.random)(), self.serial);
        let question = Question::OpenSession {
            session: id.clone(),
            adapter_set: create.adapter_set.as_deref().unwrap_or(DEFAULT_NAME).into(),
            user: user.clone(),
            password: create.password.map(Into::into),
            client,
        };
        let deadline = match create.ttl {
            Ttl::Millis(millis) => Some(now + Duration::from_millis(millis.min(TTL_MILLIS_MAX))),
            Ttl::Unknown | Ttl::Unlimited => None,
        };
        let opening = Opening {
            origin,
            deadline,
            unlimited: create.ttl == Ttl::Unlimited,
            combo,
            id,
            user,
            bandwidth: create.bandwidth.unwrap_or(Bandwidth::Unlimited),
            stream: create.stream,
            ascii: create.cid.as_deref().is_some_and(cid::needs_ascii),
            formats: Formats::of_client(
                version,
                create.cid.as_deref(),
                create.supported_diffs.as_deref(),
            ),
        };
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.opening = true;
        }
        self.ask(Waiting::Opening(Box::new(opening)), question, now);
    }

    /// An administrator wants no new sessions, or wants them again. Those that are there go on.
    pub fn block(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Clients that shall try again do it at once, and then without a limit in time, which is never told that there is too
    /// much to do; and once more in a while if they are told that nobody can be asked at the moment.
    fn blocked_refusal(&self, unlimited: bool) -> Refusal {
        let refusal = match (self.config.blocked_try_again, unlimited) {
            (false, _) => return Refusal::sessions_blocked(),
            (true, false) => Refusal::overloaded(),
            (true, true) => Refusal::authentication_unavailable(),
        };
        refusal.with_text(Reason::SESSIONS_BLOCKED.text)
    }

    /// The metadata adapter has decided about a creation.
    pub(super) fn opened(
        &mut self,
        mut opening: Opening,
        result: Result<Granted, Refusal>,
        now: Instant,
    ) {
        let origin = opening.origin;
        let conn = origin.conn;
        let Some(entry) = self.conns.get_mut(conn) else {
            // The client is gone, and with it the session that the adapter believes in.
            if let Ok(Granted::Session {
                notices: true,
                session,
                ..
            }) = result
            {
                let session = session.unwrap_or(opening.id);
                self.note(Question::SessionClosed { session });
            }
            return;
        };
        entry.opening = false;
        match result {
            Ok(Granted::Session {
                adapter_set,
                session,
                bandwidth_kbps_max,
                time_to_live,
                notices,
            }) => {
                if let Some(other) = session {
                    opening.id = other;
                }
                let mut session = Session {
                    id: opening.id.clone(),
                    version: entry.peer.version,
                    user: opening.user.take(),
                    adapter_set,
                    state: State::Unbound,
                    subscriptions: Vec::new(),
                    lines: Vec::new(),
                    owed: VecDeque::new(),
                    owed_gone: 0,
                    sent: 0,
                    log: Log::default(),
                    bandwidth: None,
                    bandwidth_kbps_max: least(bandwidth_kbps_max, self.config.bandwidth_kbps_max),
                    waits_for_bandwidth: false,
                    loading: self
                        .config
                        .snapshot_rows_per_s_max
                        .map(|rows| Box::new(Loading::new(rows, now))),
                    status: self.config.status_interval.map(|_| Box::default()),
                    gathers_until: now,
                    waits_to_gather: false,
                    ascii: opening.ascii,
                    formats: opening.formats,
                    reduce_head: opening.stream.reduce_head,
                    send_sync: false,
                    bound_at: now,
                    last_sync: now,
                    linked: false,
                    head_waits: false,
                    messages: None,
                    opened_at: now,
                    time_to_live: least(time_to_live, self.config.session_duration_max),
                    last_heard: now,
                    inactivity: None,
                    last_poll: None,
                    bound_by: None,
                    combining: None,
                    life_version: 0,
                    notices,
                };
                session.set_bandwidth(opening.bandwidth, now);
                let key = self.sessions.insert(session);
                self.counters.count(Counter::SessionsOpened);
                if let Some(combo) = opening.combo.take() {
                    entry.opening = true;
                    return self.combine(key, opening, combo, now);
                }
                self.begin_session(key, &opening, now);
            }
            Ok(_) => self.refuse_session(origin, &Refusal::request_failed(), now),
            Err(refusal) => self.refuse_session(origin, &refusal, now),
        }
        self.take_waiting(conn, now);
    }

    /// A session that has been granted, with all that came with its creation, is told to its client.
    pub(super) fn begin_session(&mut self, key: SessionKey, opening: &Opening, now: Instant) {
        self.by_id.insert(opening.id.clone(), key);
        self.begin_life(key, now);
        let conn = opening.origin.conn;
        self.attach(key, conn, &opening.stream, Start::Create, now);
    }

    /// What came behind a creation can be told now to which session it belongs.
    pub(super) fn take_waiting(&mut self, conn: ConnId, now: Instant) {
        let waiting = self.conns.get_mut(conn).map(|entry| {
            entry.waiting_bytes = 0;
            std::mem::take(&mut entry.waiting)
        });
        for message in waiting.into_iter().flatten() {
            self.take_message(self.here(conn), &message, now);
        }
    }

    /// Answers a creation with a refusal that its client understands, or by closing its connection.
    pub(super) fn refuse_session(&mut self, origin: Origin, refusal: &Refusal, now: Instant) {
        self.counters.count(Counter::SessionsRefused);
        self.counters.count(Counter::RequestsRefused);
        let Some(entry) = self.conns.get(origin.conn) else {
            return;
        };
        match refusal.for_creation(entry.peer.version) {
            Some(refusal) => self.reply(origin, |out| {
                response::refuse(out, Some(Verb::CreateSession), &refusal)
            }),
            None => self.drop_connection(origin.conn, now),
        }
    }

    /// `LS_old_session`: the client has given this session up for a new one. Never an error.
    fn replace(&mut self, old: &str, now: Instant) {
        match session_id::owner(old) {
            Some(owner)
                if owner.instance == self.config.instance && owner.shard.0 < self.config.shards =>
            {
                if owner.shard == self.config.shard {
                    self.replaced(old, now);
                } else {
                    self.tell(
                        owner.shard,
                        ShardMessage::Replaced {
                            session: old.into(),
                        },
                    );
                }
            }
            _ => {}
        }
    }
}

/// The lower of two limits, either of which may be missing.
fn least<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) if b < a => Some(b),
        (a, b) => a.or(b),
    }
}

/// A client that would wait for longer than a day might as well wait for ever.
const TTL_MILLIS_MAX: u64 = 24 * 60 * 60 * 1_000;
