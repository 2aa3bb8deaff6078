//! Binding: which connection a session writes to. A new session's first connection, a client that comes back, a
//! connection that takes over from another.

use super::session::State;
use super::{Origin, SessionKey, Shard};
use crate::counters::Counter;
use crate::ids::{ConnId, ShardId};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Reason, Refusal};
use crate::tlcp::request::{Bind, StreamOptions, Verb};
use crate::tlcp::{notify, response};

use super::session_id;

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
            let implied = match origin {
                Origin::Here(conn) => self.conns.get(conn).and_then(|entry| entry.last_session),
                Origin::There(..) => None,
            };
            return implied
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
    pub(super) fn bind(&mut self, origin: Origin, bind: Bind<'_>, message: &str, now: Instant) {
        let Origin::Here(conn) = origin else { return }; // binds move connections instead of being forwarded
        let Some(entry) = self.conns.get(conn) else {
            return;
        };
        let target = self.target(origin, bind.session.as_deref());
        let busy = entry.stream.is_some() || entry.opening;
        let refusal = match target {
            Target::Elsewhere => Refusal::session_elsewhere(),
            Target::Nowhere => Refusal::session_not_found(),
            _ if busy => Refusal::stream_in_place(),
            Target::Shard(shard) => return self.move_connection(conn, shard, message),
            Target::Here(key) => match self.check_bind(key, &bind) {
                Err(refusal) => refusal,
                Ok(()) => {
                    self.take_over(key, &bind, now);
                    return self.attach(key, conn, &bind.stream, bind.recovery_from, now);
                }
            },
        };
        self.counters.count(Counter::RequestsRefused);
        self.reply(origin, |out| {
            response::refuse(out, Some(Verb::BindSession), &refusal)
        });
    }

    /// What has been written is not kept for recovery (yet): a client that has received all of it may go on.
    fn check_bind(&self, key: SessionKey, bind: &Bind<'_>) -> Result<(), Refusal> {
        if bind.stream.polling.is_some() {
            return Err(
                Refusal::request_failed().with_text("Polling is not available on this server")
            );
        }
        match bind.recovery_from {
            Some(received) if received != self.sessions[key].sent => {
                Err(Refusal::recovery_impossible())
            }
            _ => Ok(()),
        }
    }

    /// Frees a session from the connection it still writes to. A client that recovers has given the old one up; any
    /// other is told there that somebody else took the session.
    fn take_over(&mut self, key: SessionKey, bind: &Bind<'_>, now: Instant) {
        let State::Bound(old) = self.sessions[key].state else {
            return;
        };
        if let Some(entry) = self.conns.get_mut(old) {
            entry.stream = None;
            if bind.recovery_from.is_some() {
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
    fn move_connection(&mut self, conn: ConnId, shard: ShardId, message: &str) {
        let Some(entry) = self.conns.remove(conn) else {
            return;
        };
        self.counters.count(Counter::Moved);
        self.effects.push_back(super::Effect::Move {
            conn,
            shard,
            request: super::MovedRequest {
                message: message.into(),
                http_identity: None,
            },
            lines: entry.replies.into(),
        });
    }

    /// Makes a connection the session's stream and writes the head of the response: `CONOK`, who we are, who the
    /// client is, its bandwidth, and for a recovery the count of data lines before the next one.
    pub(super) fn attach(
        &mut self,
        key: SessionKey,
        conn: ConnId,
        options: &StreamOptions,
        recovery_from: Option<u64>,
        now: Instant,
    ) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let config = &self.config;
        let keepalive = options
            .keepalive_millis
            .map_or(config.keepalive_default, Duration::from_millis);
        let keepalive = keepalive.clamp(config.keepalive_min, config.keepalive_max);
        entry.stream = Some(key);
        entry.last_session = Some(key);
        entry.keepalive = keepalive;
        entry.last_write = now;

        let session = &mut self.sessions[key];
        session.send_sync = options.send_sync;
        session.bound_at = now;
        session.last_sync = now;

        let out = &mut entry.replies;
        let creation = session.sent == 0 && recovery_from.is_none();
        if !options.reduce_head || creation {
            response::conok(
                out,
                &session.id,
                config.limits.request_bytes_max as u64,
                keepalive.as_millis() as u64,
                None,
            );
        }
        if !options.reduce_head {
            notify::servname(out, &config.server_name);
            notify::clientip(out, &entry.peer.ip);
        }
        if !session.reduce_head {
            notify::cons(out, session.granted_bandwidth());
        }
        if let Some(received) = recovery_from {
            notify::prog(out, received);
        }
        self.bound(key, conn);
        self.watch(conn, now);
        self.conns.make_ready(conn, &mut self.ready);
    }
}
