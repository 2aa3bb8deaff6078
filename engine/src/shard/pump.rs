//! The pump: the only place that writes to clients.
//!
//! Once per turn it goes over the connections that have something to be written. All lines of a turn for one client
//! make one message: answers, lines of the session, updates. What does not fit the session's bandwidth, an item's
//! frequency or the turn stays owed, and what is owed is only encoded when it is sent: a slow client costs no memory
//! and gets the newest state. A connection that takes nothing at the moment is not even looked at.

use super::{Outbox, SessionKey, Shard, SubItem};
use crate::counters::Counter;
use crate::ids::ConnId;
use crate::text::CRLF;
use crate::time::{Duration, Instant};
use crate::tlcp::notify;

/// A client that measures its lag gets the time with the first data this long after the last.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How a session's share of a message ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing is owed that could be sent now.
    Nothing,
    /// More could be sent, and will be in the next turn.
    More,
}

impl Shard {
    /// Writes what clients are owed. The driver sends it and then carries out the effects.
    ///
    /// Each turn starts with another connection, so that none is always served first.
    pub fn pump(&mut self, now: Instant, out: &mut impl Outbox) {
        if self.ready.is_empty() {
            return;
        }
        let spare = std::mem::take(&mut self.ready_spare);
        let mut ready = std::mem::replace(&mut self.ready, spare);
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % ready.len();
        let (end, start) = ready.split_at(first);
        for &conn in start.iter().chain(end) {
            self.write(conn, now, out);
        }
        ready.clear();
        self.ready_spare = ready;
    }

    /// Writes one connection's message.
    fn write(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.ready = false;
        if conn.blocked_since.is_some() {
            return;
        }
        let (stream, closing) = (conn.stream, conn.closing);
        let replies = std::mem::take(&mut conn.replies);
        let buffer = out.open(id);
        let before = buffer.len();
        buffer.extend_from_slice(&replies);
        drop(replies); // an idle connection owns no buffer
        let rest = match stream {
            Some(session) if !closing => self.write_session(session, now, buffer),
            _ => Rest::Nothing,
        };
        let written = buffer.len() - before;
        if written > 0 {
            self.counters.count(Counter::Writes);
            self.counters.add(Counter::WrittenBytes, written as u64);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.last_write = now;
            }
        }
        out.send(id, super::Part::Message);
        if closing {
            self.drop_connection(id, now);
        } else if rest == Rest::More {
            self.conns.make_ready(id, &mut self.ready);
        }
    }

    fn write_session(&mut self, key: SessionKey, now: Instant, buffer: &mut Vec<u8>) -> Rest {
        let Some(session) = self.sessions.get_mut(key) else {
            return Rest::Nothing;
        };
        let start = buffer.len();
        let end_of_turn = start + self.config.limits.turn_bytes_max;
        let has_data = !session.lines.is_empty() || !session.owed.is_empty();
        if has_data && session.send_sync && now.since(session.last_sync) >= SYNC_INTERVAL {
            notify::sync(buffer, now.since(session.bound_at).as_secs());
            session.last_sync = now;
        }
        buffer.append(&mut session.lines);
        if session.lines.capacity() > 0 {
            session.lines = Vec::new();
        }
        session.sent += u64::from(std::mem::take(&mut session.data_lines));
        if let Some(bucket) = &mut session.bandwidth {
            bucket.take(buffer.len() - start);
        }

        while let Some(item) = session.owed.pop_front() {
            let Some(sub_item) = self.sub_items.get_mut(item) else {
                continue;
            };
            if !sub_item.owed {
                continue;
            }
            if sub_item.due > now {
                let (at, timer) = sub_item.wait_for_due(item);
                self.timers.insert(at, timer);
                continue;
            }
            if let Some(bucket) = &mut session.bandwidth
                && let Err(at) = bucket.ready(now)
            {
                session.owed.push_front(item);
                if !session.waits_for_bandwidth {
                    session.waits_for_bandwidth = true;
                    self.timers.insert(at, super::timer::Timer::Bandwidth(key));
                }
                return Rest::Nothing;
            }
            if buffer.len() >= end_of_turn {
                session.owed.push_front(item);
                return Rest::More;
            }
            let before = buffer.len();
            let hit = write_update(sub_item, self.items.get_mut(sub_item.item), now, buffer);
            session.sent += 1;
            if let Some(bucket) = &mut session.bandwidth {
                bucket.take(buffer.len() - before);
            }
            self.counters.count(if hit {
                Counter::TailHits
            } else {
                Counter::TailMisses
            });
            self.counters.count(Counter::UpdatesSent);
        }
        session.owed.shrink_to(OWED_CAPACITY_KEPT);
        Rest::Nothing
    }

    /// A session's bandwidth allows more.
    pub(super) fn on_bandwidth(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.waits_for_bandwidth = false;
            self.wake(key);
        }
    }
}

/// Writes one `U` line: the prefix is the client's own, the rest is shared with all clients in step.
#[inline]
fn write_update(
    sub_item: &mut SubItem,
    item: &mut super::items::LocalItem,
    now: Instant,
    buffer: &mut Vec<u8>,
) -> bool {
    notify::update_prefix(buffer, sub_item.sub_id, sub_item.position);
    let (tail, hit) = item.tail(sub_item.view, sub_item.base.as_ref());
    debug_assert!(tail.ends_with(CRLF));
    buffer.extend_from_slice(tail);
    sub_item.base.clone_from(&item.row);
    sub_item.owed = false;
    sub_item.due = now + sub_item.interval;
    hit
}

/// What the queue of an idle session keeps allocated, in entries.
const OWED_CAPACITY_KEPT: usize = 32;
