//! The life of a session after its creation: with and without a connection, the times after which it is asked to bind
//! again or ends, and its end.

use super::bind::Target;
use super::conn::Conn;
use super::session::{Session, State};
use super::timer::Timer;
use super::{Origin, SessionKey, Shard, ShardMessage, share};
use crate::counters::Counter;
use crate::ids::{ConnId, ShardId};
use crate::metadata::{AdapterSetId, Question};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Cause, Reason};
use crate::tlcp::{notify, response};

/// A new session of a user, told to the other shards if a user may have one session only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSession {
    adapter_set: AdapterSetId,
    user: Box<str>,
    opened_at: Instant,
    session: Box<str>,
}

impl UserSession {
    fn key(&self) -> (u16, Box<str>) {
        (self.adapter_set.0, self.user.clone())
    }
}

impl Shard {
    /// Closes a session from outside: an administrator, or a metadata adapter that wants it gone. False if it is not of
    /// this shard, or is gone already.
    pub fn close_session(&mut self, id: &str, cause: &Cause, now: Instant) -> bool {
        let Some(&key) = self.by_id.get(id) else {
            return false;
        };
        self.end_session(key, Some(cause), now);
        true
    }

    /// What a new session brings about, and what will end it.
    pub(super) fn begin_life(&mut self, key: SessionKey, now: Instant) {
        let session = &self.sessions[key];
        if let Some(duration) = session.time_to_live {
            self.timers
                .insert(now + duration, Timer::SessionDuration(key));
        }
        if self.config.one_session_per_user
            && let Some(user) = session.user.clone()
        {
            let newest = UserSession {
                adapter_set: session.adapter_set,
                user,
                opened_at: session.opened_at,
                session: session.id.clone(),
            };
            self.by_user.entry(newest.key()).or_default().push(key);
            for shard in (0..self.config.shards).map(ShardId) {
                if shard != self.config.shard {
                    self.tell(shard, ShardMessage::UserSession(newest.clone()));
                }
            }
            self.supersede(&newest, now);
        }
    }

    /// Ends the older sessions of a user who has opened another. Which one is newer is decided alike on all shards, so
    /// that of two which are opened at the same time one remains.
    pub(super) fn supersede(&mut self, newest: &UserSession, now: Instant) {
        let is_older = |key: &SessionKey| {
            let session = &self.sessions[*key];
            (session.opened_at, &session.id) < (newest.opened_at, &newest.session)
        };
        let known = self.by_user.get(&newest.key());
        let older: Vec<SessionKey> = known
            .into_iter()
            .flatten()
            .copied()
            .filter(is_older)
            .collect();
        for key in older {
            self.end_session(key, Some(&Reason::REPLACED_BY_NEWER.into()), now);
        }
    }

    /// Takes a session that ends out of its user's.
    fn forget_user(&mut self, key: SessionKey, session: &Session) {
        let Some(user) = session.user.clone() else {
            return;
        };
        let user = (session.adapter_set.0, user);
        if let Some(sessions) = self.by_user.get_mut(&user) {
            sessions.retain(|known| *known != key);
            if sessions.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    /// The client has shown that it is alive.
    pub(super) fn heard(&mut self, key: SessionKey, now: Instant) {
        self.sessions[key].last_heard = now;
    }

    /// A sign of life that asks for nothing. A session that is not there is no error.
    pub(super) fn heartbeat(&mut self, origin: Origin, session: Option<&str>, now: Instant) {
        match self.target(origin, session) {
            Target::Here(key) => self.heard(key, now),
            Target::Shard(shard) => {
                let session = session.unwrap_or_default().into();
                self.tell(shard, ShardMessage::Heard { session });
            }
            Target::Elsewhere | Target::Nowhere => {}
        }
        self.answer_heartbeat(origin);
    }

    /// The client of a session has shown on another shard that it is alive.
    pub(super) fn heard_elsewhere(&mut self, id: &str, now: Instant) {
        if let Some(&key) = self.by_id.get(id) {
            self.heard(key, now);
        }
    }

    /// A connection is gone: what was bound to it waits for another one.
    pub(super) fn lost_connection(&mut self, conn: &Conn, now: Instant) {
        self.forget_addresses(&conn.addresses);
        let Some(key) = conn.stream else { return };
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if session.version.has_recovery() {
            self.unbind(key, self.config.recovery_timeout, now);
        } else {
            self.end_session(key, None, now);
        }
    }

    /// The session has no connection any more, and so much time to get one.
    pub(super) fn unbind(&mut self, key: SessionKey, wait: Duration, now: Instant) {
        let session = &mut self.sessions[key];
        session.state = State::Unbound;
        session.life_version += 1;
        self.timers
            .insert(now + wait, Timer::SessionExpiry(key, session.life_version));
    }

    /// The session has a connection: no expiry is pending. `stream` says that it is no poll.
    pub(super) fn bound(&mut self, key: SessionKey, conn: ConnId, stream: bool, now: Instant) {
        let session = &mut self.sessions[key];
        session.state = State::Bound(conn);
        session.life_version += 1;
        session.last_heard = now;
        let version = session.life_version;
        let silence = session.inactivity;
        if let Some(time) = self.config.streaming_time_max.filter(|_| stream) {
            self.timers
                .insert(now + time, Timer::StreamingTime(key, version));
        }
        if let Some(silence) = silence {
            let at = now + silence + self.config.session_timeout;
            self.timers.insert(at, Timer::Inactivity(key, version));
        }
    }

    /// Ends the session's stream with `LOOP`; the session waits for the client's next bind.
    pub(super) fn rebind(
        &mut self,
        key: SessionKey,
        wait: Duration,
        close_socket: bool,
        now: Instant,
    ) {
        let State::Bound(conn) = self.sessions[key].state else {
            return;
        };
        self.unbind(key, wait, now);
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.stream = None;
            entry.poll = None;
            entry.ends = true;
            notify::loop_(&mut entry.replies, 0);
            if close_socket {
                self.close_after_write(conn, now);
            } else {
                self.conns.make_ready(conn, &mut self.ready);
                self.watch(conn, now);
            }
        }
    }

    /// Nobody came back in time.
    pub(super) fn on_expiry(&mut self, key: SessionKey, version: u32, now: Instant) {
        if self.sessions.get(key).is_some_and(|session| {
            session.life_version == version && session.state == State::Unbound
        }) {
            self.counters.count(Counter::SessionsExpired);
            self.end_session(key, None, now);
        }
    }

    /// A stream has lasted as long as one may.
    pub(super) fn on_streaming_time(&mut self, key: SessionKey, version: u32, now: Instant) {
        if self
            .sessions
            .get(key)
            .is_some_and(|session| session.life_version == version)
        {
            self.rebind(key, self.config.session_timeout, false, now);
        }
    }

    /// A client that promised signs of life may have been silent for too long. It is asked to bind again; if it cannot
    /// be reached its session will expire.
    pub(super) fn on_inactivity(&mut self, key: SessionKey, version: u32, now: Instant) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let Some(silence) = session
            .inactivity
            .filter(|_| session.life_version == version)
        else {
            return;
        };
        let at = session.last_heard + silence + self.config.session_timeout;
        if at > now {
            self.timers.insert(at, Timer::Inactivity(key, version));
        } else {
            self.rebind(key, self.config.session_timeout, false, now);
        }
    }

    /// A session has reached the age at which every session ends.
    pub(super) fn on_session_duration(&mut self, key: SessionKey, now: Instant) {
        self.end_session(key, Some(&Reason::DURATION_REACHED.into()), now);
    }

    /// Ends a session whose client has opened another; its connection is dropped without a word.
    pub(super) fn replaced(&mut self, id: &str, now: Instant) {
        if let Some(&key) = self.by_id.get(id) {
            if let Some(conn) = self.sessions[key].conn() {
                self.drop_connection(conn, now);
            }
            self.end_session(key, None, now);
        }
    }

    /// Ends a session. With a cause, its client is told (if it is there) behind all lines that wait, and its
    /// connection closed; or its next bind is told, if it comes soon.
    pub(super) fn end_session(&mut self, key: SessionKey, cause: Option<&Cause>, now: Instant) {
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        self.by_id.remove(&session.id);
        if self.config.one_session_per_user {
            self.forget_user(key, &session);
        }
        self.recovery_bytes -= session.log.kept();
        self.counters.count(Counter::SessionsClosed);
        if session.notices {
            for &(sub_id, sub) in &session.subscriptions {
                let statistics = self.statistics(sub);
                if !statistics.is_empty() {
                    let session = session.id.clone();
                    self.note(Question::Unsubscribed {
                        session,
                        sub_id,
                        statistics,
                    });
                }
            }
            let session = session.id.clone();
            self.note(Question::SessionClosed { session });
        }
        for &(_, sub) in &session.subscriptions {
            self.remove_subscription(sub);
        }
        if let State::Bound(conn) = session.state
            && let Some(entry) = self.conns.get_mut(conn)
        {
            entry.stream = None;
            entry.poll = None;
            entry.ends = true;
            if let Some(cause) = cause {
                say_end(entry, &session.lines, cause);
                self.close_after_write(conn, now);
            }
        }
        self.closed.forget(self.config.closed_memory, now);
        if let Some(cause) = cause {
            let len_max = self.config.limits.closed_sessions_max;
            self.closed
                .remember(session.id, key, cause.clone(), len_max, now);
        }
    }
}

/// Writes `END` behind the lines that wait, as far as the response has room for them. A cause that does not fit is
/// replaced: the response's length may have been told before it.
fn say_end(conn: &mut Conn, lines: &[u8], cause: &Cause) {
    let used = conn.content_written + conn.replies.len() as u64;
    let room = usize::try_from(conn.content_length.saturating_sub(used)).unwrap_or(usize::MAX);
    let mut end = Vec::new();
    response::end(&mut end, cause);
    if end.len() > room && cause.text.chars().count() > CAUSE_CHARS_KEPT {
        let short = Cause {
            code: cause.code,
            text: "[Custom message skipped]".into(),
        };
        end.clear();
        response::end(&mut end, &short);
    }
    let fitting = share::whole_lines(lines, room.saturating_sub(end.len()), false);
    conn.replies.extend_from_slice(&lines[..fitting]);
    conn.replies.extend_from_slice(&end);
}

/// A cause of up to so many characters always fits (TLCP, Session Destruction): the room that every response leaves for
/// its last line holds it.
const CAUSE_CHARS_KEPT: usize = 35;
