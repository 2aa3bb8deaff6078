//! The pump: the only place that writes to clients.
//!
//! Once per turn it goes over the connections that have something to be written. All lines of a turn for one client
//! make one message: answers, lines of the session, updates. What does not fit the session's bandwidth, an item's
//! frequency or the turn stays owed, and what is owed is only encoded when it is sent: a slow client costs no memory
//! and gets the newest state. A connection that takes nothing at the moment is not even looked at.

use super::conn::Conn;
use super::exchange::Wire;
use super::share::{Pen, Rest, Room};
use super::{Outbox, Part, SessionKey, Shard};
use crate::ids::ConnId;
use crate::text;
use crate::time::{Duration, Instant};
use crate::tlcp::{Dialect, legacy, notify};

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
        self.leader.rest(ready.len());
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
    #[inline]
    fn write(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        let Some((conn, ready, mut pen)) = self.at(id, now) else {
            return;
        };
        conn.ready = false;
        if conn.blocked_since.is_some() {
            return;
        }
        if !matches!(conn.wire, Wire::WebSocket) {
            return self.write_http(id, now, out);
        }
        let buffer = out.open(id);
        let before = buffer.len();
        if !conn.replies.is_empty() {
            buffer.extend_from_slice(&conn.replies);
            conn.replies = Vec::new(); // an idle connection owns no buffer
        }
        let head = buffer.len();
        let held = conn.poll.is_some_and(|poll| poll.held_until > now);
        let rest = match conn.stream {
            Some(session) if !conn.closing && !held => {
                let room = Room {
                    bytes: u64::MAX,
                    fresh: true,
                    turn_bytes: pen.turn_bytes(conn.poll),
                    alone: conn.poll.is_none() && head == before,
                };
                pen.write_session(session, room, buffer)
            }
            _ => Rest::Nothing,
        };
        let mut ended = None;
        if let (Some(poll), Some(session)) = (conn.poll, conn.stream)
            && rest == Rest::Nothing
            && !held
            && (buffer.len() > head || now >= poll.until)
        {
            notify::loop_(buffer, poll.millis);
            ended = Some((session, poll.millis));
        }
        if rest == Rest::Same {
            pen.count_written(conn, pen.leader.text().len());
            if pen.leader.note_repeated() {
                return out.repeat(id, pen.leader.text());
            }
            buffer.extend_from_slice(pen.leader.text());
            return out.send(id, Part::Message);
        }
        let written = buffer.len() - before;
        pen.count_written(conn, written);
        if written > 0 {
            pen.leader.note_sent();
        }
        out.send(id, Part::Message);
        if conn.closing {
            if let Some((session, millis)) = ended {
                self.end_stream(id, session, millis, now);
            }
            return self.drop_connection(id, now);
        }
        if rest == Rest::More {
            conn.ready = true;
            ready.push(id);
        }
        if let Some((session, millis)) = ended {
            self.end_stream(id, session, millis, now);
        }
    }

    /// Writes answers to an HTTP request, or a share of its stream.
    fn write_http(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        self.leader.note_sent();
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        match &conn.wire {
            Wire::WebSocket | Wire::Idle => {}
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

    /// Writes a share of an HTTP response: as much of a stream as there is, or all of a poll when it is due.
    fn write_response(&mut self, id: ConnId, now: Instant, out: &mut impl Outbox) {
        let Some((conn, _, mut pen)) = self.at(id, now) else {
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
            turn_bytes: pen.turn_bytes(poll),
            alone: false,
        };
        let held = poll.is_some_and(|poll| poll.held_until > now);
        let rest = match stream {
            Some(session) if !held => pen.write_session(session, room, buffer),
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
        conn.replies = Vec::new();
        let mut ended = None;
        if let Some(session) = stream.filter(|_| over) {
            let millis = poll.map_or(0, |poll| poll.millis);
            match dialect {
                Dialect::Tlcp => notify::loop_(buffer, millis),
                Dialect::Legacy => legacy::loop_(buffer, millis),
            }
            ended = Some((session, millis));
        }
        if ascii {
            text::escape_non_ascii(buffer, before);
        }
        let last = over || ends;
        let written = buffer.len() - before;
        pen.count_written(conn, written);
        conn.content_written += written as u64;
        conn.wire = if last { Wire::Idle } else { Wire::Stream };
        conn.ends = false;
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
        if let Some((session, millis)) = ended {
            self.end_stream(id, session, millis, now);
        }
        if closing {
            self.drop_connection(id, now);
        } else if !last && rest == Rest::More {
            self.conns.make_ready(id, &mut self.ready);
        }
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

    /// A connection, the list of those that have something to be written, and all that writing needs besides.
    #[inline]
    fn at(&mut self, id: ConnId, now: Instant) -> Option<(&mut Conn, &mut Vec<ConnId>, Pen<'_>)> {
        let conn = self.conns.get_mut(id)?;
        let pen = Pen {
            sessions: &mut self.sessions,
            sub_items: &mut self.sub_items,
            items: &mut self.items,
            timers: &mut self.timers,
            counters: &mut self.counters,
            recovery_bytes: &mut self.recovery_bytes,
            scratch: &mut self.tail_scratch,
            leader: &mut self.leader,
            config: &self.config,
            now,
        };
        Some((conn, &mut self.ready, pen))
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

/// Room that is left in a response for its last line, `LOOP` or `END`.
const LAST_LINE_BYTES: u64 = 128;
