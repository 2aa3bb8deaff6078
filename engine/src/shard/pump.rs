//! The pump: the only place that writes to clients.
//!
//! Once per turn it goes over the connections that have something to be written. All lines of a turn for one client
//! make one message: answers, lines of the session, updates. What does not fit the session's bandwidth, an item's
//! frequency or the turn stays owed, and what is owed is only encoded when it is sent: a slow client costs no memory
//! and gets the newest state. A connection that takes nothing at the moment is not even looked at.

use super::canary::Bug;
use super::conn::Poll;
use super::diffs::Parsed;
use super::event_buffer::Next;
use super::exchange::Wire;
use super::items::LocalItem;
use super::{Outbox, Part, SessionKey, Shard, SubItem, recovery};
use crate::counters::Counter;
use crate::ids::ConnId;
use crate::text::{self, CRLF};
use crate::time::{Duration, Instant};
use crate::tlcp::diff::Formats;
use crate::tlcp::{Dialect, legacy, notify};

/// A client that measures its lag gets the time with the first data this long after the last.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How much a session may write now.
#[derive(Clone, Copy)]
struct Room {
    /// What is left of the response. A WebSocket's message has no bound.
    bytes: u64,
    /// Nothing of the response is out. A line that fits no response goes out in one of its own.
    fresh: bool,
    /// What may be written in one turn, so that others get theirs. A poll is answered at once.
    turn_bytes: usize,
}

/// How a session's share of a message ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing is owed that could be sent now.
    Nothing,
    /// More could be sent, and will be in the next turn.
    More,
    /// The response has no room for more: the client must bind again.
    Full,
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

    /// Writes one connection's message, or its share of an HTTP response.
    fn write(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.ready = false;
        if conn.blocked_since.is_some() {
            return;
        }
        match &conn.wire {
            Wire::WebSocket => self.write_message(id, now, out),
            Wire::Idle => {}
            Wire::Answering(answers) if answers.are_complete() => {
                let buffer = out.open(id);
                let before = buffer.len();
                if conn.peer.version.dialect() == Dialect::Legacy {
                    let mut lines = Vec::new();
                    answers.write(&mut lines);
                    legacy::answer(buffer, &lines);
                } else {
                    answers.write(buffer);
                }
                if conn.peer.ascii {
                    text::escape_non_ascii(buffer, before);
                }
                conn.wire = Wire::Idle;
                conn.last_write = now;
                out.send(id, Part::Response);
            }
            Wire::Answering(_) => {}
            Wire::Stream => self.write_response(id, now, out),
        }
    }

    /// Writes a WebSocket message.
    #[inline]
    fn write_message(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (stream, poll, closing) = (conn.stream, conn.poll, conn.closing);
        let buffer = out.open(id);
        let before = buffer.len();
        if !conn.replies.is_empty() {
            buffer.extend_from_slice(&conn.replies);
            conn.replies = Vec::new(); // an idle connection owns no buffer
        }
        let head = buffer.len();
        let held = poll.is_some_and(|poll| poll.held_until > now);
        let rest = match stream {
            Some(session) if !closing && !held => {
                let room = Room {
                    bytes: u64::MAX,
                    fresh: true,
                    turn_bytes: self.turn_bytes(poll),
                };
                self.write_session(session, room, now, buffer)
            }
            _ => Rest::Nothing,
        };
        if let (Some(poll), Some(session)) = (poll, stream)
            && rest == Rest::Nothing
            && !held
            && (buffer.len() > head || now >= poll.until)
        {
            notify::loop_(buffer, poll.millis);
            self.end_stream(id, session, poll.millis, now);
        }
        self.count_written(id, buffer.len() - before, now);
        out.send(id, Part::Message);
        self.after_write(id, closing, rest, now);
    }

    /// Writes a share of an HTTP response: as much of a stream as there is, or all of a poll when it is due.
    fn write_response(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (stream, poll, closing, ends) = (conn.stream, conn.poll, conn.closing, conn.ends);
        let (content_length, written_before) = (conn.content_length, conn.content_written);
        let (identity, ascii) = (conn.identity, conn.peer.ascii);
        let dialect = conn.peer.version.dialect();
        let buffer = out.open(id);
        let before = buffer.len();
        match dialect {
            Dialect::Tlcp => buffer.extend_from_slice(&conn.replies),
            Dialect::Legacy => legacy::stream(buffer, &conn.replies),
        }
        let head = buffer.len();
        let bytes = written_before + (head - before) as u64 + LAST_LINE_BYTES;
        let room = Room {
            // In ASCII a byte may take three.
            bytes: content_length.saturating_sub(bytes) / if ascii { 3 } else { 1 },
            fresh: written_before == 0,
            turn_bytes: self.turn_bytes(poll),
        };
        let held = poll.is_some_and(|poll| poll.held_until > now);
        let rest = match stream {
            Some(session) if !held => self.write_session(session, room, now, buffer),
            _ => Rest::Nothing,
        };
        let over = match poll {
            Some(_) if held => false,
            Some(poll) => buffer.len() > head || rest == Rest::Full || now >= poll.until,
            None => stream.is_some() && (rest == Rest::Full || room.bytes == 0),
        };
        if poll.is_some() && !over && !ends && identity {
            buffer.truncate(before); // its length is not known: the head waits for the data
            let nothing_yet = Part::Stream {
                content_length,
                last: false,
            };
            return out.send(id, nothing_yet);
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.replies = Vec::new();
        if let Some(session) = stream.filter(|_| over) {
            let millis = poll.map_or(0, |poll| poll.millis);
            match dialect {
                Dialect::Tlcp => notify::loop_(buffer, millis),
                Dialect::Legacy => legacy::loop_(buffer, millis),
            }
            self.end_stream(id, session, millis, now);
        }
        if ascii {
            text::escape_non_ascii(buffer, before);
        }
        let last = over || ends;
        let written = buffer.len() - before;
        self.count_written(id, written, now);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.content_written += written as u64;
            conn.wire = if last { Wire::Idle } else { Wire::Stream };
            conn.ends = false;
        }
        // A poll that waits has said that the session is there: clients are connected by that, not by the first data.
        let whole = last && written_before == 0;
        let part = match poll {
            Some(_) if whole => Part::Response,
            _ => Part::Stream {
                content_length: content_length.max(written as u64),
                last,
            },
        };
        out.send(id, part);
        self.after_write(id, closing, if last { Rest::Nothing } else { rest }, now);
    }

    /// The session has said `LOOP` on its connection, and waits for the client's next bind.
    fn end_stream(&mut self, id: ConnId, session: SessionKey, polling_millis: u64, now: Instant) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.stream = None;
            conn.poll = None;
        }
        let wait = self.config.session_timeout + Duration::from_millis(polling_millis);
        self.unbind(session, wait, now);
        self.watch(id, now);
    }

    fn turn_bytes(&self, poll: Option<Poll>) -> usize {
        match poll {
            Some(_) => usize::MAX,
            None => self.config.limits.turn_bytes_max,
        }
    }

    fn count_written(&mut self, id: ConnId, written: usize, now: Instant) {
        if written > 0 {
            self.counters.count(Counter::Writes);
            self.counters.add(Counter::WrittenBytes, written as u64);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.last_write = now;
            }
        }
    }

    fn after_write(&mut self, id: ConnId, closing: bool, rest: Rest, now: Instant) {
        if closing {
            self.drop_connection(id, now);
        } else if rest == Rest::More {
            self.conns.make_ready(id, &mut self.ready);
        }
    }

    /// Writes what a session owes its client, within `room` bytes and one turn's share; and keeps it, in case it does
    /// not arrive.
    fn write_session(
        &mut self,
        key: SessionKey,
        room: Room,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Rest {
        let Some(session) = self.sessions.get_mut(key) else {
            return Rest::Nothing;
        };
        let begin = buffer.len();
        let has_data = !session.lines.is_empty() || !session.owed.is_empty();
        let syncs = has_data && session.send_sync && now.since(session.last_sync) >= SYNC_INTERVAL;
        if syncs {
            notify::sync(buffer, now.since(session.bound_at).as_secs());
        }
        let start = buffer.len();
        let room = Room {
            bytes: room.bytes.saturating_sub((start - begin) as u64),
            ..room
        };
        let sent_before = session.sent;
        let rest = self.write_data(key, room, now, buffer);
        let Some(session) = self.sessions.get_mut(key) else {
            return rest;
        };
        if buffer.len() == start {
            buffer.truncate(begin); // the time goes with data only
            return rest;
        }
        if let Some(status) = &mut session.status {
            status.bytes += (buffer.len() - begin) as u64;
        }
        if syncs {
            session.last_sync = now;
            if let Some(bucket) = &mut session.bandwidth {
                bucket.take(start - begin, now);
            }
        }
        if session.version.has_recovery() {
            let limits = &self.config.limits;
            // Where all sessions together keep too much, each keeps little from now on.
            let bytes_max = if self.recovery_bytes > limits.recovery_bytes_total_max {
                limits.recovery_bytes_max / 16
            } else {
                limits.recovery_bytes_max
            };
            let age_max = self.config.recovery_age_max;
            self.recovery_bytes -= session.log.kept();
            session
                .log
                .append(&buffer[start..], sent_before, bytes_max, age_max, now);
            self.recovery_bytes += session.log.kept();
        }
        rest
    }

    /// Writes lines and updates.
    fn write_data(
        &mut self,
        key: SessionKey,
        room: Room,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> Rest {
        let Some(session) = self.sessions.get_mut(key) else {
            return Rest::Nothing;
        };
        let dialect = session.version.dialect();
        let start = buffer.len();
        let limit =
            usize::try_from(room.bytes).map_or(usize::MAX, |bytes| start.saturating_add(bytes));
        let end_of_turn = start.saturating_add(room.turn_bytes);
        if dialect == Dialect::Legacy && !session.lines.is_empty() {
            // Its lines are counted in its own words.
            let mut lines = Vec::new();
            legacy::stream(&mut lines, &session.lines);
            session.lines = lines;
        }
        if !session.lines.is_empty() {
            let fitting = whole_lines(&session.lines, limit - start, room.fresh);
            buffer.extend_from_slice(&session.lines[..fitting]);
            session.sent += recovery::data_lines(&session.lines[..fitting]);
            if let Some(bucket) = &mut session.bandwidth {
                bucket.take(fitting, now);
            }
            if fitting < session.lines.len() {
                session.lines.drain(..fitting);
                return Rest::Full;
            }
            session.lines = Vec::new();
        }
        let streams = room.turn_bytes != usize::MAX; // a poll has waited already
        if streams && now < session.gathers_until && !session.owed.is_empty() {
            if !session.waits_to_gather {
                session.waits_to_gather = true;
                let timer = super::timer::Timer::Gathered(key);
                self.timers.insert(session.gathers_until, timer);
            }
            return Rest::Nothing;
        }
        let updates_start = buffer.len();
        while let Some(item) = session.owed.pop_front() {
            let Some(sub_item) = self.sub_items.get_mut(item) else {
                continue;
            };
            if !sub_item.owed {
                continue;
            }
            let local = self.items.get_mut(sub_item.item);
            let next = match sub_item.next(local, now) {
                Next::Nothing => {
                    sub_item.owed = false;
                    continue;
                }
                Next::At(at) => {
                    let (at, timer) = sub_item.wait_until(at, item);
                    self.timers.insert(at, timer);
                    continue;
                }
                line => line,
            };
            let canary = self.config.canary;
            if canary.swallows(&next) {
                sub_item.sent(next, None, now);
                session.owed.extend(sub_item.owed.then_some(item));
                continue;
            }
            let loads = session.loading.is_some() && sub_item.is_loading(&next);
            if loads
                && let Some(loading) = &mut session.loading
                && !loading.may_send(now)
            {
                loading.put_off(item, key, now, &mut self.timers);
                continue;
            }
            if let Some(bucket) = &mut session.bandwidth
                && let Err(at) = bucket.ready(now)
                && !canary.has(Bug::Bandwidth)
            {
                session.owed.push_front(item);
                if !session.waits_for_bandwidth {
                    session.waits_for_bandwidth = true;
                    self.timers.insert(at, super::timer::Timer::Bandwidth(key));
                }
                break;
            }
            if buffer.len() >= end_of_turn {
                session.owed.push_front(item);
                return Rest::More;
            }
            let before = buffer.len();
            let first = sub_item.counted.is_some() && sub_item.is_loading(&next);
            let written = write_line(sub_item, session.formats, local, &next, dialect, buffer);
            let alone = room.fresh && before == start;
            if buffer.len() > limit && !alone {
                buffer.truncate(before);
                session.owed.push_front(item);
                return Rest::Full;
            }
            if let (Some(counted), Some(_)) = (&mut sub_item.counted, &written) {
                counted.sent(first);
                if let Some(status) = &mut session.status {
                    status.totals.sent(first);
                }
            }
            let base = canary.has(Bug::Base).then(|| sub_item.base.clone());
            sub_item.sent(next, written.map(|(_, parsed)| parsed), now);
            canary.spoil(sub_item, base.flatten(), now);
            if sub_item.owed {
                session.owed.push_back(item); // others have their turn first
            }
            session.sent += 1;
            if loads && let Some(loading) = &mut session.loading {
                loading.sent(now);
            }
            if let Some(bucket) = &mut session.bandwidth {
                bucket.take(buffer.len() - before, now);
            }
            if let Some((hit, _)) = written {
                self.counters.count(if hit {
                    Counter::TailHits
                } else {
                    Counter::TailMisses
                });
                self.counters.count(Counter::UpdatesSent);
            }
            if buffer.len() > limit {
                return Rest::Full;
            }
        }
        if buffer.len() > updates_start {
            session.gathers_until = now + self.config.update_delay_max;
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

    /// A session's updates have waited for others long enough.
    pub(super) fn on_gathered(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.waits_to_gather = false;
            self.wake(key);
        }
    }
}

/// Writes one line of an item; for `U` returns whether its values were encoded already and what
/// the client holds as JSON after it. The prefix is the client's own,
/// the rest is shared with all clients in step.
#[inline]
fn write_line(
    sub_item: &SubItem,
    client: Formats,
    item: &mut LocalItem,
    line: &Next,
    dialect: Dialect,
    buffer: &mut Vec<u8>,
) -> Option<(bool, Parsed)> {
    let (sub_id, position) = (sub_item.sub_id, sub_item.position);
    match line {
        Next::Row(row) => {
            match dialect {
                Dialect::Tlcp => notify::update_prefix(buffer, sub_id, position),
                Dialect::Legacy => legacy::values::update_prefix(buffer, sub_id, position),
            }
            let base = sub_item.base.as_ref();
            let tail = item.tail(sub_item.view, base, row, client, sub_item.parsed);
            debug_assert!(tail.bytes.ends_with(CRLF));
            buffer.extend_from_slice(tail.bytes);
            return Some((tail.hit, tail.parsed));
        }
        rare if dialect == Dialect::Legacy => {
            let mut line = Vec::new();
            write_line(sub_item, client, item, rare, Dialect::Tlcp, &mut line);
            legacy::stream(buffer, &line);
        }
        Next::EndOfSnapshot => notify::eos(buffer, sub_id, position),
        Next::Clear => notify::cs(buffer, sub_id, position),
        Next::Lost(lost) => notify::ov(buffer, sub_id, position, *lost),
        Next::Nothing | Next::At(_) => {}
    }
    None
}

/// Length of the longest run of whole lines at the start of `lines` within `room`; where nothing is out yet, at least
/// one line.
pub(super) fn whole_lines(lines: &[u8], room: usize, fresh: bool) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    match memchr::memrchr(b'\n', &lines[..room]) {
        Some(end) => end + 1,
        None if fresh => memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
        None => 0,
    }
}

/// What the queue of an idle session keeps allocated, in entries.
const OWED_CAPACITY_KEPT: usize = 32;
/// Room that is left in a response for its last line, `LOOP` or `END`.
const LAST_LINE_BYTES: u64 = 128;
