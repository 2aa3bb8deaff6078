//! A session's share of a message: lines of the stream and updates, as far as bandwidth, frequencies and the turn allow.
//!
//! Nothing here knows of connections: the pump lends all else that a shard has ([`Pen`]), so that it can hold on to the
//! connection meanwhile.

use super::canary::Bug;
use super::conn::{Conn, Poll};
use super::event_buffer::Next;
use super::items::{Items, LocalItem};
use super::leader::Leader;
use super::recovery::{self, Bounds};
use super::session::Session;
use super::tails::Tail;
use super::timer::{Timer, Wheel};
use super::{Config, SessionKey, SubItem, SubItemKey};
use crate::counters::{Counter, Counters};
use crate::text::CRLF;
use crate::time::{Duration, Instant};
use crate::tlcp::diff::Formats;
use crate::tlcp::{Dialect, legacy, notify};
use slotmap::SlotMap;

/// A client that measures its lag gets the time with the first data this long after the last.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How much a session may write now.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// What is left of the response. A WebSocket's message has no bound.
    pub bytes: u64,
    /// Nothing of the response is out. A line that fits no response goes out in one of its own.
    pub fresh: bool,
    /// What may be written in one turn, so that others get theirs. A poll is answered at once.
    pub turn_bytes: usize,
    /// The message has nothing else in it, so it may be the same as another client's.
    pub alone: bool,
}

/// How a session's share of a message ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing is owed that could be sent now.
    Nothing,
    /// The same, and nothing was written: the message is the leader's.
    Same,
    /// More could be sent, and will be in the next turn.
    More,
    /// The response has no room for more: the client must bind again.
    Full,
}

/// What writing to a client needs of its shard, besides its connection.
pub(super) struct Pen<'s> {
    pub sessions: &'s mut SlotMap<SessionKey, Session>,
    pub sub_items: &'s mut SlotMap<SubItemKey, SubItem>,
    pub items: &'s mut Items,
    pub timers: &'s mut Wheel<Timer>,
    pub counters: &'s mut Counters,
    pub recovery_bytes: &'s mut usize,
    pub scratch: &'s mut Vec<u8>,
    pub leader: &'s mut Leader,
    pub config: &'s Config,
    pub now: Instant,
}

impl Pen<'_> {
    /// How much one turn may write.
    #[inline]
    pub fn turn_bytes(&self, poll: Option<Poll>) -> usize {
        match poll {
            Some(_) => usize::MAX,
            None => self.config.limits.turn_bytes_max,
        }
    }

    /// Notes that so much was written to a connection.
    #[inline]
    pub fn count_written(&mut self, conn: &mut Conn, written: usize) {
        if written > 0 {
            self.counters.count(Counter::Writes);
            self.counters.add(Counter::WrittenBytes, written as u64);
            conn.last_write = self.now;
        }
    }

    /// Writes what a session owes its client, within `room` bytes and one turn's share; and keeps it, in case it does
    /// not arrive.
    #[inline]
    pub fn write_session(&mut self, key: SessionKey, room: Room, buffer: &mut Vec<u8>) -> Rest {
        let now = self.now;
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
            alone: room.alone && !syncs,
            ..room
        };
        let keeps = session.version.has_recovery().then(|| {
            let limits = &self.config.limits;
            // Where all sessions together keep too much, each keeps little from now on.
            let bytes_max = if *self.recovery_bytes > limits.recovery_bytes_total_max {
                limits.recovery_bytes_max / 16
            } else {
                limits.recovery_bytes_max
            };
            Bounds::new(bytes_max, self.config.recovery_age_max, now)
        });
        *self.recovery_bytes -= session.log.kept();
        let mut lines = Lines {
            key,
            session,
            sub_items: self.sub_items,
            items: self.items,
            timers: self.timers,
            counters: self.counters,
            scratch: self.scratch,
            leader: self.leader,
            config: self.config,
            keeps,
            now,
        };
        let rest = lines.write(room, buffer);
        *self.recovery_bytes += session.log.kept();
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
        rest
    }
}

/// One session, and what its lines are made of.
struct Lines<'s> {
    key: SessionKey,
    session: &'s mut Session,
    sub_items: &'s mut SlotMap<SubItemKey, SubItem>,
    items: &'s mut Items,
    timers: &'s mut Wheel<Timer>,
    counters: &'s mut Counters,
    scratch: &'s mut Vec<u8>,
    leader: &'s mut Leader,
    config: &'s Config,
    /// Lines are kept within these bounds, if they are.
    keeps: Option<Bounds>,
    now: Instant,
}

/// How a session's updates are to the leader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The same so far, in so many steps.
    Following(usize),
    /// They become the next one.
    Leading,
    /// Neither.
    Alone,
}

impl Lines<'_> {
    /// Writes lines and updates.
    #[inline]
    fn write(&mut self, room: Room, buffer: &mut Vec<u8>) -> Rest {
        let now = self.now;
        let start = buffer.len();
        let limit =
            usize::try_from(room.bytes).map_or(usize::MAX, |bytes| start.saturating_add(bytes));
        if !self.session.lines.is_empty() && !self.write_lines(room.fresh, limit, buffer) {
            return Rest::Full;
        }
        let session = &mut *self.session;
        let streams = room.turn_bytes != usize::MAX; // a poll has waited already
        if streams && now < session.gathers_until && !session.owed.is_empty() {
            if !session.waits_to_gather {
                session.waits_to_gather = true;
                let timer = Timer::Gathered(self.key);
                self.timers.insert(session.gathers_until, timer);
            }
            return Rest::Nothing;
        }
        let updates_start = buffer.len();
        // What is decided, or counted, update by update does not follow.
        let in_step = room.alone
            && updates_start == start
            && session.bandwidth.is_none()
            && session.loading.is_none()
            && session.status.is_none()
            && !session.is_legacy()
            && self.config.canary.lets_follow();
        let mut way = match in_step {
            true if self.leader.leads() => Way::Following(0),
            true if self.leader.begin(0) => Way::Leading,
            _ => Way::Alone,
        };
        let mut rest = self.write_updates(room, (start, limit), &mut way, buffer);
        match way {
            Way::Following(0) | Way::Alone => {}
            Way::Following(steps) if steps == self.leader.len() => {
                self.follow();
                rest = Rest::Same;
            }
            Way::Following(steps) => {
                way = self.leave(steps, buffer);
                if way == Way::Leading {
                    self.leader.lead(&buffer[start..]);
                }
            }
            Way::Leading => self.leader.lead(&buffer[start..]),
        }
        let session = &mut *self.session;
        if matches!(rest, Rest::Nothing | Rest::Same) {
            if rest == Rest::Same || buffer.len() > updates_start {
                session.gathers_until = now + self.config.update_delay_max;
            }
            if session.owed.is_empty() {
                // It begins again at the start of its memory, which the processor's cache may still have.
                session.owed.clear();
            }
            if session.owed.capacity() > OWED_CAPACITY_KEPT {
                session.owed.shrink_to(OWED_CAPACITY_KEPT);
            }
        }
        rest
    }

    /// Writes updates. While they are the leader's, they are only noted.
    #[inline]
    fn write_updates(
        &mut self,
        room: Room,
        (start, limit): (usize, usize),
        way: &mut Way,
        buffer: &mut Vec<u8>,
    ) -> Rest {
        let (key, now) = (self.key, self.now);
        let delta = self.config.delta_delivery;
        let dialect = self.session.version.dialect();
        let end_of_turn = start.saturating_add(room.turn_bytes);
        while let Some(item) = self.session.owed.pop_front() {
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
            if let Way::Following(steps) = *way {
                let variant = local.variant(sub_item, self.session.formats);
                let step = self.leader.is_next(steps, sub_item, &next, variant, canary);
                if let Some(parsed) = step {
                    *way = Way::Following(steps + 1);
                    sub_item.sent(next, Some(parsed), delta, now);
                    if sub_item.owed {
                        self.session.owed.push_back(item);
                    }
                    continue;
                }
                *way = leave(
                    self.leader,
                    steps,
                    self.session,
                    self.keeps,
                    self.counters,
                    buffer,
                );
            }
            let session = &mut *self.session;
            if canary.swallows(&next) {
                sub_item.sent(next, None, true, now);
                session.owed.extend(sub_item.owed.then_some(item));
                continue;
            }
            let loads = session.loading.is_some() && sub_item.is_loading(&next);
            if loads
                && let Some(loading) = &mut session.loading
                && !loading.may_send(now)
            {
                loading.put_off(item, key, now, self.timers);
                continue;
            }
            if let Some(bucket) = &mut session.bandwidth
                && let Err(at) = bucket.ready(now)
                && !canary.has(Bug::Bandwidth)
            {
                session.owed.push_front(item);
                if !session.waits_for_bandwidth {
                    session.waits_for_bandwidth = true;
                    self.timers.insert(at, Timer::Bandwidth(key));
                }
                break;
            }
            if buffer.len() >= end_of_turn {
                session.owed.push_front(item);
                return Rest::More;
            }
            let before = buffer.len();
            let first = sub_item.counted().is_some() && sub_item.is_loading(&next);
            let tail = write_line(
                sub_item,
                session.formats,
                local,
                &next,
                dialect,
                self.scratch,
                buffer,
            );
            let alone = room.fresh && before == start;
            if buffer.len() > limit && !alone {
                buffer.truncate(before);
                session.owed.push_front(item);
                return Rest::Full;
            }
            let mut parsed = None;
            if let Some(tail) = tail {
                if let Some(counted) = sub_item.counted_mut() {
                    counted.sent(first);
                    if let Some(status) = &mut session.status {
                        status.totals.sent(first);
                    }
                }
                if let Some(bounds) = self.keeps {
                    let bytes = buffer.len() - before;
                    let to = (sub_item.sub_id, sub_item.position);
                    let log = &mut session.log;
                    log.keep_update(to, tail.bytes, bytes, session.sent, bounds);
                }
                self.counters.count(match tail.hit {
                    true => Counter::TailHits,
                    false => Counter::TailMisses,
                });
                self.counters.count(Counter::UpdatesSent);
                match way {
                    Way::Leading => {
                        self.leader
                            .step(sub_item, &next, &tail, buffer.len() - start);
                    }
                    Way::Following(_) | Way::Alone => {}
                }
                parsed = Some(tail.parsed);
            } else {
                *way = Way::Alone;
                if let Some(bounds) = self.keeps {
                    let line = &buffer[before..];
                    session.log.keep_lines(line, session.sent, bounds);
                }
            }
            let base = canary.has(Bug::Base).then(|| sub_item.base.clone());
            sub_item.sent(next, parsed, delta, now);
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
            if buffer.len() > limit {
                return Rest::Full;
            }
        }
        Rest::Nothing
    }

    /// The message is the leader's: nothing is written, and all is noted.
    #[inline]
    fn follow(&mut self) {
        let steps = self.leader.len();
        let text = self.leader.follow();
        match self.keeps {
            Some(bounds) if bounds.allow_piece(text.len()) => {
                let (log, lines_before) = (&mut self.session.log, self.session.sent);
                log.keep_shared(text, steps as u64, lines_before, bounds);
            }
            Some(bounds) => keep_beginning(self.leader, steps, self.session, bounds),
            None => {}
        }
        note_updates(steps, self.session, self.counters);
        self.counters.count(Counter::WritesShared);
    }

    /// The message has ended where the leader goes on.
    fn leave(&mut self, steps: usize, buffer: &mut Vec<u8>) -> Way {
        let session = &mut *self.session;
        leave(
            self.leader,
            steps,
            session,
            self.keeps,
            self.counters,
            buffer,
        )
    }

    /// Writes lines that are no updates; whether all of them.
    #[cold]
    fn write_lines(&mut self, fresh: bool, limit: usize, buffer: &mut Vec<u8>) -> bool {
        let session = &mut *self.session;
        if session.is_legacy() {
            // Its lines are counted in its own words.
            let mut lines = Vec::new();
            legacy::stream(&mut lines, &session.lines);
            session.lines = lines;
        }
        let fitting = whole_lines(&session.lines, limit - buffer.len(), fresh);
        let lines = &session.lines[..fitting];
        buffer.extend_from_slice(lines);
        if let Some(bounds) = self.keeps.filter(|_| fitting > 0) {
            session.log.keep_lines(lines, session.sent, bounds);
        }
        session.sent += recovery::data_lines(lines);
        if let Some(bucket) = &mut session.bandwidth {
            bucket.take(fitting, self.now);
        }
        if fitting < session.lines.len() {
            session.lines.drain(..fitting);
            return false;
        }
        session.lines = Vec::new();
        true
    }
}

/// A message is the leader's no more: writes so many steps that were the same. Whether it becomes the next leader.
#[cold]
fn leave(
    leader: &mut Leader,
    steps: usize,
    session: &mut Session,
    keeps: Option<Bounds>,
    counters: &mut Counters,
    buffer: &mut Vec<u8>,
) -> Way {
    buffer.extend_from_slice(leader.beginning(steps));
    if let Some(bounds) = keeps {
        keep_beginning(leader, steps, session, bounds);
    }
    note_updates(steps, session, counters);
    match leader.begin(steps) {
        true => Way::Leading,
        false => Way::Alone,
    }
}

/// Keeps the lines of so many steps one by one.
fn keep_beginning(leader: &Leader, steps: usize, session: &mut Session, bounds: Bounds) {
    for step in 0..steps {
        let (to, tail, bytes) = leader.line(step);
        let lines_before = session.sent + step as u64;
        let log = &mut session.log;
        log.keep_update(to, tail, bytes, lines_before, bounds);
    }
}

#[inline]
fn note_updates(updates: usize, session: &mut Session, counters: &mut Counters) {
    session.sent += updates as u64;
    counters.add(Counter::TailHits, updates as u64);
    counters.add(Counter::UpdatesSent, updates as u64);
}

/// Writes one line of an item; for `U` returns its tail. The prefix is the client's own, the rest is shared with all
/// clients in step.
#[inline]
fn write_line<'i>(
    sub_item: &SubItem,
    client: Formats,
    item: &'i mut LocalItem,
    line: &Next,
    dialect: Dialect,
    scratch: &mut Vec<u8>,
    buffer: &mut Vec<u8>,
) -> Option<Tail<'i>> {
    let (sub_id, position) = (sub_item.sub_id, sub_item.position);
    match line {
        Next::Row(row) => {
            match dialect {
                Dialect::Tlcp => notify::update_prefix(buffer, sub_id, position),
                Dialect::Legacy => legacy::values::update_prefix(buffer, sub_id, position),
            }
            let tail = item.tail(sub_item, row, client, scratch);
            debug_assert!(tail.bytes.ends_with(CRLF));
            buffer.extend_from_slice(tail.bytes);
            return Some(tail);
        }
        rare if dialect == Dialect::Legacy => {
            let mut line = Vec::new();
            write_line(
                sub_item,
                client,
                item,
                rare,
                Dialect::Tlcp,
                scratch,
                &mut line,
            );
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
