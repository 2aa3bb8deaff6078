//! Client connections as the engine knows them: who is there, what waits to be written, and since when it is silent.

use super::exchange::Wire;
use super::moves::Address;
use super::timer::Timer;
use super::{Effect, Peer, SessionKey, Shard};
use crate::counters::Counter;
use crate::ids::ConnId;
use crate::time::{Duration, Instant};
use crate::tlcp::{Dialect, notify};
use std::collections::VecDeque;

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    id: ConnId,
    pub peer: Peer,
    /// WebSocket, or how far an HTTP exchange is.
    pub wire: Wire,
    /// Over HTTP: the length of the response must be told before it.
    pub identity: bool,
    /// The session whose stream this is, or will be once its creation is granted.
    pub stream: Option<SessionKey>,
    /// The stream is a poll, which ends with its first data or in time.
    pub poll: Option<Poll>,
    /// Over HTTP: bytes that the stream's response may have in all, and those that it has.
    pub content_length: u64,
    pub content_written: u64,
    /// Over HTTP: the response ends with what waits.
    pub ends: bool,
    /// The session last created or bound here: what a request means that names none.
    pub last_session: Option<SessionKey>,
    /// Requests that wait for the creation in progress.
    pub waiting: VecDeque<Box<str>>,
    pub waiting_bytes: usize,
    /// Lines that are not part of the session's stream but go before it: answers and heads.
    pub replies: Vec<u8>,
    /// In the ready list.
    pub ready: bool,
    /// To be closed once everything is written.
    pub closing: bool,
    /// More waits here than may: to be closed at once.
    pub overrun: bool,
    /// The metadata adapter is deciding about a session for this connection.
    pub opening: bool,
    /// Answers that other shards owe to requests which came on this connection; and to those that came before it moved
    /// here, by what it was called then.
    pub awaited: u32,
    pub addresses: Vec<Address>,
    pub blocked_since: Option<Instant>,
    /// Silence on the stream after which a `PROBE` is due.
    pub keepalive: Duration,
    pub last_write: Instant,
    pub last_read: Instant,
    watch_version: u32,
}

impl Conn {
    /// Whether its last request was one of the text protocol before TLCP, and so what is written in answer.
    pub fn is_legacy(&self) -> bool {
        self.peer.version.dialect() == Dialect::Legacy
    }
}

/// A poll: TLCP's way to push over networks that hold responses back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poll {
    /// It is answered with what there is by then.
    pub until: Instant,
    /// It came too soon after the one before: nothing is said until then.
    pub held_until: Instant,
    /// When the client will poll again, in milliseconds after this answer.
    pub millis: u64,
}

/// The connections of a shard, by slot.
#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    len: usize,
}

impl Conns {
    pub fn insert(&mut self, id: ConnId, peer: Peer, now: Instant) {
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        debug_assert!(
            self.slots[slot].is_none(),
            "the driver reports the end of a connection before its slot is reused"
        );
        self.len += 1;
        self.slots[slot] = Some(Box::new(Conn {
            id,
            peer,
            wire: Wire::WebSocket,
            identity: false,
            stream: None,
            poll: None,
            content_length: u64::MAX,
            content_written: 0,
            ends: false,
            last_session: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            replies: Vec::new(),
            ready: false,
            closing: false,
            overrun: false,
            opening: false,
            awaited: 0,
            addresses: Vec::new(),
            blocked_since: None,
            keepalive: Duration::MAX,
            last_write: now,
            last_read: now,
            watch_version: 0,
        }));
    }

    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots
            .get_mut(id.slot as usize)?
            .as_deref_mut()
            .filter(|conn| conn.id == id)
    }

    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots
            .get(id.slot as usize)?
            .as_deref()
            .filter(|conn| conn.id == id)
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Box<Conn>> {
        let conn = self
            .slots
            .get_mut(id.slot as usize)?
            .take_if(|conn| conn.id == id)?;
        self.len -= 1;
        Some(conn)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    /// Puts a connection on the ready list, unless it is there, or cannot be written to.
    #[inline]
    pub fn make_ready(&mut self, id: ConnId, ready: &mut Vec<ConnId>) {
        if let Some(conn) = self.get_mut(id)
            && !conn.ready
            && conn.blocked_since.is_none()
        {
            conn.ready = true;
            ready.push(id);
        }
    }
}

impl Shard {
    /// Arranges for the connection to be looked at when something may be due; an earlier arrangement is void.
    pub(super) fn watch(&mut self, conn: ConnId, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        entry.watch_version += 1;
        let (_, mut at) = due(entry, &self.config);
        if entry.blocked_since.is_some() {
            // It may be writable again any moment, and then a probe is due before the write timeout would be.
            at = at.min(now + entry.keepalive);
        }
        self.timers
            .insert(at.max(now), Timer::Connection(conn, entry.watch_version));
    }

    /// Looks at a connection: has it been blocked, or silent, for too long?
    pub(super) fn on_watch(&mut self, conn: ConnId, version: u32, now: Instant) {
        let Some(entry) = self
            .conns
            .get_mut(conn)
            .filter(|entry| entry.watch_version == version)
        else {
            return;
        };
        let (what, at) = due(entry, &self.config);
        if at <= now {
            match what {
                Due::WriteTimeout => {
                    self.counters.count(Counter::WriteTimeouts);
                    return self.drop_connection(conn, now);
                }
                Due::Overrun => {
                    self.counters.count(Counter::Overruns);
                    return self.drop_connection(conn, now);
                }
                Due::IdleTimeout => {
                    self.counters.count(Counter::IdleTimeouts);
                    return self.drop_connection(conn, now);
                }
                Due::PollHeld => {
                    if let Some(poll) = &mut entry.poll {
                        poll.held_until = Instant::ZERO;
                    }
                    self.conns.make_ready(conn, &mut self.ready);
                }
                Due::PollEnd => {
                    self.conns.make_ready(conn, &mut self.ready);
                    return; // the pump ends it, and looks again
                }
                Due::Probe => {
                    notify::probe(&mut entry.replies);
                    entry.last_write = now;
                    self.conns.make_ready(conn, &mut self.ready);
                }
            }
        }
        self.watch(conn, now);
    }

    /// Closes a connection at once; its session, if any, waits for another one.
    pub(super) fn drop_connection(&mut self, conn: ConnId, now: Instant) {
        if let Some(entry) = self.conns.remove(conn) {
            self.effects.push_back(Effect::Close(conn));
            self.lost_connection(&entry, now);
        }
    }

    /// Closes a connection once everything has been written to it; at once if it takes nothing.
    pub(super) fn close_after_write(&mut self, conn: ConnId, now: Instant) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        entry.closing = true;
        if entry.blocked_since.is_some() {
            self.drop_connection(conn, now);
        } else {
            self.conns.make_ready(conn, &mut self.ready);
        }
    }
}

/// What is due next on a connection.
enum Due {
    Overrun,
    WriteTimeout,
    Probe,
    PollHeld,
    PollEnd,
    IdleTimeout,
}

fn due(conn: &Conn, config: &super::Config) -> (Due, Instant) {
    if conn.overrun {
        (Due::Overrun, Instant::ZERO)
    } else if let Some(since) = conn.blocked_since {
        (Due::WriteTimeout, since + config.write_timeout)
    } else if let Some(poll) = conn.poll {
        match poll.held_until {
            Instant::ZERO => (Due::PollEnd, poll.until),
            held_until => (Due::PollHeld, held_until),
        }
    } else if conn.stream.is_some() {
        (Due::Probe, conn.last_write + conn.keepalive)
    } else {
        (
            Due::IdleTimeout,
            conn.last_read.max(conn.last_write) + config.idle_timeout,
        )
    }
}
