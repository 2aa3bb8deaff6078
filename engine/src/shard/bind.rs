//! Binding: which connection a session writes to. A new session's first connection, a client that comes back, a
//! connection that takes over from another.

use super::canary::Bug;
use super::conn::Poll;
use super::exchange::Wire;
use super::moves::Address;
use super::session::State;
use super::{HttpRequest, Origin, SessionKey, Shard, recovery};
use crate::counters::Counter;
use crate::ids::{ConnId, ShardId};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Cause, Reason, Refusal};
use crate::tlcp::request::{self, Bind, StreamOptions, Verb};
use crate::tlcp::{notify, response};

use super::session_id;
use std::hash::BuildHasher;

/// What a request's `LS_session` leads to.
pub(super) enum Target {
    /// A session of this shard.
    Here(SessionKey),
    /// A session of another shard, if it is alive.
    Shard(ShardId),
    /// A session of another server instance.
    Elsewhere,
    /// No session.
    Nowhere,
}

impl Shard {
    /// Finds the session that a request means: by its id, or, without one, the last session of its connection.
    pub(super) fn target(&self, origin: Origin, id: Option<&str>) -> Target {
        let Some(id) = id else {
            // Only a WebSocket has a last session.
            let entry = self.conns.get(origin.conn);
            let here = origin.shard == self.config.shard && origin.slot.is_none();
            return entry
                .filter(|_| here)
                .and_then(|entry| entry.last_session)
                .filter(|key| self.sessions.contains_key(*key))
                .map_or(Target::Nowhere, Target::Here);
        };
        match session_id::owner(id) {
            Some(owner) if owner.instance != self.config.instance => Target::Elsewhere,
            Some(owner)
                if owner.shard != self.config.shard && owner.shard.0 < self.config.shards =>
            {
                Target::Shard(owner.shard)
            }
            _ => self
                .by_id
                .get(id)
                .map_or(Target::Nowhere, |key| Target::Here(*key)),
        }
    }

    /// `bind_session`. A session of another shard makes the connection move there, with this request.
    pub(super) fn bind(&mut self, origin: Origin, bind: Bind<'_>, message: Box<str>, now: Instant) {
        let conn = origin.conn;
        if origin.shard != self.config.shard {
            return; // binds move connections instead of being forwarded
        }
        let Some(entry) = self.conns.get(conn) else {
            return;
        };
        let target = self.target(origin, bind.session.as_deref());
        let busy = entry.stream.is_some() || entry.opening;
        let linked = entry.peer.by_control_link;
        let refusal = match target {
            Target::Elsewhere => Refusal::session_elsewhere(),
            Target::Nowhere => match self.closed_cause(origin, bind.session.as_deref(), now) {
                Some(cause) => {
                    self.counters.count(Counter::RequestsRefused);
                    return self.reply(origin, |out| response::end(out, &cause));
                }
                None => Refusal::session_not_found(),
            },
            _ if busy => Refusal::stream_in_place(),
            Target::Shard(shard) => return self.move_connection(conn, shard, message),
            // Each side would read the other's lines as garbage.
            Target::Here(key) if self.sessions[key].is_legacy() != entry.is_legacy() => {
                Refusal::session_incompatible()
            }
            Target::Here(key) => match self.check_bind(key, &bind) {
                Err(refusal) => refusal,
                Ok(replay) => {
                    let http = origin.slot.is_some();
                    let request = http.then(|| self.by_id.hasher().hash_one(&*message));
                    let before = std::mem::replace(&mut self.sessions[key].bound_by, request);
                    let given_up = bind.recovery_from.is_some()
                        || http && request == before
                        || linked && !self.sessions[key].linked;
                    self.take_over(key, given_up, now);
                    let start = Start::Bind {
                        recovery: bind.recovery_from.map(|received| (received, replay)),
                    };
                    return self.attach(key, conn, &bind.stream, start, now);
                }
            },
        };
        self.counters.count(Counter::RequestsRefused);
        self.reply(origin, |out| {
            response::refuse(out, Some(Verb::BindSession), &refusal)
        });
    }

    /// Why there is no such session, if it was there a moment ago and somebody closed it.
    fn closed_cause(&mut self, origin: Origin, id: Option<&str>, now: Instant) -> Option<Cause> {
        self.closed.forget(self.config.closed_memory, now);
        match id {
            Some(id) => self.closed.cause(id).cloned(),
            None => {
                let last_session = self.conns.get(origin.conn)?.last_session?;
                self.closed.cause_of(last_session).cloned()
            }
        }
    }

    /// Whether the session can go on where the client says it stands; and the lines that it lacks. A client that does
    /// not ask for any has received everything: nothing older will be asked for.
    fn check_bind(&mut self, key: SessionKey, bind: &Bind<'_>) -> Result<Box<[u8]>, Refusal> {
        let session = &mut self.sessions[key];
        match bind.recovery_from {
            Some(received) => {
                let skipped = self.config.canary.has(Bug::Recovery) && received < session.sent;
                let lines = session
                    .log
                    .after(received + u64::from(skipped), session.sent);
                lines
                    .map(Into::into)
                    .ok_or_else(Refusal::recovery_impossible)
            }
            None => {
                self.recovery_bytes -= session.log.kept();
                session.log.clear();
                Ok(Box::default())
            }
        }
    }

    /// Frees a session from the connection it still writes to. A client that recovers has given the old one up. So has
    /// the HTTP library that sends a request again, word for word, because its connection failed; of the two, the one
    /// that comes last may even be the first that was sent, and then the client behind the other recovers. And one that
    /// follows the control link does what it was told. Anybody else is told on the old connection that the session was
    /// taken, and for official clients that is the end.
    fn take_over(&mut self, key: SessionKey, given_up: bool, now: Instant) {
        let State::Bound(old) = self.sessions[key].state else {
            return;
        };
        if let Some(entry) = self.conns.get_mut(old) {
            entry.stream = None;
            entry.poll = None;
            entry.ends = true;
            if given_up || self.config.take_over_silent {
                self.drop_connection(old, now);
            } else {
                response::end(&mut entry.replies, &Reason::BOUND_ELSEWHERE.into());
                self.close_after_write(old, now);
            }
        }
        self.sessions[key].state = State::Unbound;
    }

    /// Lets a connection go to another shard. Answers that wait on it go along: clients send `wsok` and `bind_session`
    /// together.
    fn move_connection(&mut self, conn: ConnId, shard: ShardId, message: Box<str>) {
        let Some(entry) = self.conns.remove(conn) else {
            return;
        };
        let http = !matches!(entry.wire, Wire::WebSocket);
        let own = Address {
            shard: self.config.shard,
            conn,
            awaited: entry.awaited,
        };
        let addresses = self.depart(entry.addresses, own, shard);
        self.counters.count(Counter::Moved);
        self.effects.push_back(super::Effect::Move {
            conn,
            shard,
            request: super::MovedRequest {
                message,
                http_identity: http.then_some(entry.identity),
                addresses,
            },
            lines: entry.replies.into(),
        });
    }

    /// A connection arrived over HTTP with a bind that belongs here.
    pub(super) fn on_moved_http(
        &mut self,
        conn: ConnId,
        message: &str,
        identity: bool,
        now: Instant,
    ) {
        // It stays the connection that it is: one that were taken out and put in again would be twice in the ready list.
        let Some(peer) = self.conns.get(conn).map(|entry| entry.peer.clone()) else {
            return;
        };
        if let Ok((verb, body)) = request::split_message(message) {
            let request = HttpRequest {
                verb,
                query: "",
                body,
                identity,
            };
            self.begin_exchange(conn, peer, request, now);
        }
    }

    /// Makes a connection the session's stream and writes the head of the response: `CONOK`, who we are, who the
    /// client is, its bandwidth, and for a recovery the count of data lines before the next one, and these.
    pub(super) fn attach(
        &mut self,
        key: SessionKey,
        conn: ConnId,
        options: &StreamOptions,
        start: Start,
        now: Instant,
    ) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let config = &self.config;
        let keepalive = options
            .keepalive_millis
            .map_or(config.keepalive_default, Duration::from_millis)
            .clamp(config.keepalive_min, config.keepalive_max);
        let idle = |polling: request::Polling| {
            Duration::from_millis(polling.idle_millis).min(config.idle_max)
        };
        entry.peer.ascii |= self.sessions[key].ascii;
        entry.stream = Some(key);
        entry.last_session = Some(key);
        entry.keepalive = keepalive;
        entry.last_write = now;
        // Nothing to wait for: a new session has nothing but what came with it, and clients that create it by a poll
        // give it up when they have waited for its end for two seconds; lines that the client lacks are there already;
        // and where the head has to wait with the poll, a client that changes to polling counts as connected from its
        // first poll's head on.
        let http = !matches!(entry.wire, Wire::WebSocket);
        let head_waits = http && entry.identity && options.polling.is_some();
        let at_once = match &start {
            Start::Create => true,
            Start::Bind { recovery } => {
                let lacks_lines = recovery
                    .as_ref()
                    .is_some_and(|(_, lines)| !lines.is_empty());
                lacks_lines || head_waits && !self.sessions[key].head_waits
            }
        };
        let session = &mut self.sessions[key];
        let held_until = match session.last_poll {
            Some(last) if last + config.poll_interval_min > now => last + config.poll_interval_min,
            _ => Instant::ZERO,
        };
        session.last_poll = options.polling.map(|_| now.max(held_until));
        let waits_until = |polling| if at_once { now } else { now + idle(polling) };
        entry.poll = options.polling.map(|polling| Poll {
            until: waits_until(polling).max(held_until),
            held_until,
            millis: polling
                .polling_millis
                .min(config.polling_max.as_millis() as u64),
        });

        session.inactivity = options.inactivity_millis.map(Duration::from_millis);
        session.send_sync = options.send_sync;
        // Not yet by its creation: clients bind a new session at once, and count as connected from there.
        session.head_waits = head_waits && !matches!(start, Start::Create);
        session.linked |= entry.peer.by_control_link;
        session.bound_at = now;
        session.last_sync = now;

        let out = &mut entry.replies;
        if !options.reduce_head || matches!(start, Start::Create) {
            // A poll is told its idle time in place of the keep-alive: clients take it over for the next one.
            let time = options.polling.map_or(keepalive, idle);
            let request_max = config.limits.request_bytes_max as u64;
            let (time, link) = (time.as_millis() as u64, config.control_link.as_deref());
            response::conok(out, &session.id, request_max, time, link);
        }
        if !options.reduce_head {
            let name = entry.peer.server_name.as_deref();
            notify::servname(out, name.unwrap_or(&config.server_name));
            if config.tell_client_ip {
                notify::clientip(out, &entry.peer.ip);
            }
        }
        if http && entry.poll.is_none() {
            while out.len() < STREAM_HEAD_BYTES_MIN {
                notify::noop(out, "sending placeholder data");
            }
        }
        if !session.reduce_head {
            notify::cons(out, session.granted_bandwidth());
            // Should an older one wait there: it is void, but may be what ends a wait of this head.
            let lines = recovery::only_data_lines(&session.lines);
            let was_told = lines.len() < session.lines.len();
            session.lines = lines;
            if was_told && session.head_waits {
                let granted = session.granted_bandwidth();
                notify::cons(&mut session.lines, granted);
            }
        }
        if let Start::Bind {
            recovery: Some((received, lines)),
        } = start
        {
            notify::prog(out, received);
            out.extend_from_slice(&lines);
            if let Some(bucket) = &mut session.bandwidth {
                bucket.take(lines.len(), now);
            }
        }
        if http {
            let head = out.len() as u64;
            entry.wire = Wire::Stream;
            entry.ends = false;
            entry.content_written = 0;
            entry.content_length = options
                .content_length
                .unwrap_or(config.content_length_default)
                .max(head + CONTENT_LENGTH_ROOM);
        }
        self.bound(key, conn, options.polling.is_none(), now);
        self.watch(conn, now);
        self.conns.make_ready(conn, &mut self.ready);
    }
}

/// How a session comes to a connection.
pub(super) enum Start {
    /// It is new.
    Create,
    /// It goes on: after so many data lines that the client has, with those that it lacks.
    Bind {
        /// What the client asked for, if it lacks anything.
        recovery: Option<(u64, Box<[u8]>)>,
    },
}

/// Some networks and browsers hold a response back until it has about this many bytes.
const STREAM_HEAD_BYTES_MIN: usize = 2048;
/// A response has room for its head and at least this, whatever length the client asks for: a few lines, so that each
/// response gets the session on.
const CONTENT_LENGTH_ROOM: u64 = 1024;
