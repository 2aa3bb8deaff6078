//! One item of one subscription: what this client has of it, and what it is owed.
//!
//! There are more of these than of anything else, and every event looks at all those of its item, which lie far apart:
//! so what every update needs has, with the table's own word, the 64 bytes of one line of the processor's cache. The rest is
//! behind a pointer that an update follows only where a buffer, a frequency, a selector or a count is in play.

use super::diffs::Parsed;
use super::event_buffer::{EventBuffer, Next};
use super::items::{LocalItem, Rows};
use super::sieve::Sieve;
use super::tally::Tally;
use super::timer::Timer;
use super::{SessionKey, SubItemKey};
use crate::item::row::Row;
use crate::time::{Duration, Instant};

/// See the module.
///
/// For MERGE what is owed nearly never needs a store: the item's current row *is* the result of merging all that was not
/// sent. Where it does, see [`EventBuffer`].
#[derive(Debug)]
pub(super) struct SubItem {
    pub session: SessionKey,
    pub sub_id: u32,
    /// Position in the subscription, from 1.
    pub position: u32,
    /// Index of the local item, and number of the view through this subscription's schema.
    pub item: u32,
    pub view: u32,
    /// The row that the client has: what the next delta refers to. All clients in step share one.
    pub base: Option<Row>,
    /// The client looks at the item in RAW mode.
    pub raw: bool,
    /// Which events may not be merged for it.
    pub safe: Safe,
    /// Something is to be sent.
    pub owed: bool,
    /// The client wants a snapshot and has had nothing yet.
    pub awaits_snapshot: bool,
    /// A timer will queue the item when its frequency allows.
    pub waits_for_due: bool,
    /// The client has had a row.
    begun: bool,
    /// What is to be sent is in [`Terms::buffer`].
    buffered: bool,
    /// Something else behind the pointer has a say in each update.
    special: bool,
    aside: Box<Aside>,
}

const _: () = assert!(size_of::<SubItem>() + size_of::<u32>() <= 64);

/// What most updates do not ask for.
#[derive(Debug)]
struct Aside {
    terms: Terms,
    /// The fields of the base that the client holds as JSON.
    parsed: Parsed,
    /// Where the local item's list of listeners has it.
    listener_at: u32,
    /// No update before this, by the frequency.
    due: Instant,
    /// The timer of an earlier wait is stale.
    due_version: u32,
}

/// What a subscription says of one of its items, and what is kept for it.
#[derive(Debug)]
pub(super) struct Terms {
    /// What is to be sent, if that is not just the current state.
    pub buffer: Option<EventBuffer>,
    /// DISTINCT: how many events the client wants for its snapshot at most.
    pub snapshot_length: u32,
    /// The least time between two updates, and how many a second the metadata adapter allows.
    pub interval: Duration,
    pub frequency_max: Option<f64>,
    /// Which events it is sent; without one, all.
    pub sieve: Option<Box<Sieve>>,
    /// What becomes of its updates, if anybody wants to know.
    pub counted: Option<Box<Tally>>,
}

/// Which events of an item may not be merged for a client, as far as it sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safe {
    Nothing,
    Something,
    Everything,
}

impl SubItem {
    /// Nothing is owed yet.
    pub fn new(
        session: SessionKey,
        (sub_id, position): (u32, u32),
        (item, view): (u32, u32),
        (raw, safe): (bool, Safe),
        awaits_snapshot: bool,
        terms: Terms,
        listener_at: u32,
    ) -> Self {
        let mut sub_item = Self {
            session,
            sub_id,
            position,
            item,
            view,
            base: None,
            raw,
            safe,
            owed: false,
            awaits_snapshot,
            waits_for_due: false,
            begun: false,
            buffered: terms.buffer.is_some(),
            special: false,
            aside: Box::new(Aside {
                terms,
                parsed: Parsed::default(),
                listener_at,
                due: Instant::ZERO,
                due_version: 0,
            }),
        };
        sub_item.note_special();
        sub_item
    }

    fn note_special(&mut self) {
        let Aside { terms, parsed, .. } = &*self.aside;
        self.special = terms.interval > Duration::ZERO
            || terms.sieve.is_some()
            || terms.counted.is_some()
            || *parsed != Parsed::default();
    }

    /// The rest, if it has a say in an update.
    #[inline]
    fn special(&self) -> Option<&Aside> {
        self.special.then_some(&*self.aside)
    }

    /// See [`Terms::buffer`].
    #[inline]
    pub fn buffer(&self) -> Option<&EventBuffer> {
        match self.buffered {
            true => self.aside.terms.buffer.as_ref(),
            false => None,
        }
    }

    /// The same, to be changed.
    #[inline]
    pub fn buffer_mut(&mut self) -> Option<&mut EventBuffer> {
        match self.buffered {
            true => self.aside.terms.buffer.as_mut(),
            false => None,
        }
    }

    /// Another buffer, or none.
    pub fn set_buffer(&mut self, buffer: Option<EventBuffer>) {
        self.buffered = buffer.is_some();
        self.aside.terms.buffer = buffer;
    }

    /// The buffer with the sieve through which events go into it.
    pub fn sieved_buffer(&mut self) -> (Option<&mut EventBuffer>, Option<&mut Sieve>) {
        let terms = &mut self.aside.terms;
        (terms.buffer.as_mut(), terms.sieve.as_deref_mut())
    }

    /// See [`Terms::sieve`].
    #[inline]
    pub fn sieve_mut(&mut self) -> Option<&mut Sieve> {
        match self.special {
            true => self.aside.terms.sieve.as_deref_mut(),
            false => None,
        }
    }

    /// See [`Terms::counted`].
    #[inline]
    pub fn counted(&self) -> Option<&Tally> {
        self.special()?.terms.counted.as_deref()
    }

    /// The same, to be changed.
    #[inline]
    pub fn counted_mut(&mut self) -> Option<&mut Tally> {
        match self.special {
            true => self.aside.terms.counted.as_deref_mut(),
            false => None,
        }
    }

    /// The fields of the base that the client holds as JSON.
    #[inline]
    pub fn parsed(&self) -> Parsed {
        self.special()
            .map_or(Parsed::default(), |aside| aside.parsed)
    }

    /// Where the local item's list of listeners has it.
    pub fn listener_at(&self) -> u32 {
        self.aside.listener_at
    }

    /// It is somewhere else there.
    pub fn set_listener_at(&mut self, at: u32) {
        self.aside.listener_at = at;
    }

    /// See [`Terms::snapshot_length`].
    pub fn snapshot_length(&self) -> usize {
        usize::try_from(self.aside.terms.snapshot_length).unwrap_or(usize::MAX)
    }

    /// See [`Terms::frequency_max`].
    pub fn frequency_max(&self) -> Option<f64> {
        self.aside.terms.frequency_max
    }

    /// Another pace, from the last update on; where there was none so far, from the next one on.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        let Aside { terms, due, .. } = &mut *self.aside;
        let before = std::mem::replace(&mut terms.interval, interval);
        *due = match before {
            Duration::ZERO => Instant::ZERO,
            _ if *due == Instant::ZERO => Instant::ZERO,
            before => Instant::ZERO + due.since(Instant::ZERO + before) + interval,
        };
        if let Some(EventBuffer::Table(buffer)) = &mut terms.buffer {
            buffer.set_interval(interval, now);
        }
        self.note_special();
    }

    /// Whether the line that goes out next is a row of a snapshot.
    pub fn is_loading(&self, next: &Next) -> bool {
        matches!(next, Next::Row(_))
            && match self.buffer() {
                None => !self.begun,
                Some(EventBuffer::Queue(queue)) => queue.is_loading(),
                Some(EventBuffer::Table(buffer)) => buffer.is_loading(),
            }
    }

    /// Whether nothing waits in the buffer. Without one that is not known here.
    pub fn is_settled(&self) -> bool {
        match self.buffer() {
            None => false,
            Some(EventBuffer::Queue(queue)) => queue.is_empty(),
            Some(EventBuffer::Table(buffer)) => buffer.is_empty(),
        }
    }

    /// What goes out next. Nothing has changed by the question.
    #[inline]
    pub fn next(&mut self, item: &mut LocalItem, now: Instant) -> Next {
        let due = self.special().map_or(Instant::ZERO, |aside| aside.due);
        match self.buffer_mut() {
            None if due > now => Next::At(due),
            None => item.row.clone().map_or(Next::Nothing, Next::Row),
            Some(EventBuffer::Queue(queue)) => queue.peek(due, now),
            Some(EventBuffer::Table(buffer)) => match &mut item.rows {
                Rows::Table(table) => buffer.peek(table, now),
                _ => Next::Nothing,
            },
        }
    }

    /// How many lines wait, as far as it is known: those that clients in step are sent one after the other.
    #[inline]
    pub fn waiting(&self) -> usize {
        match self.buffer() {
            None => 1,
            Some(EventBuffer::Queue(queue)) => queue.len(),
            Some(EventBuffer::Table(buffer)) => buffer.waiting(),
        }
    }

    /// What was next has been written; for `U`, with what the client holds as JSON after it. With `delta`, the next one may
    /// refer to it.
    #[inline]
    pub fn sent(&mut self, line: Next, parsed: Option<Parsed>, delta: bool, now: Instant) {
        if let (Next::Row(row), Some(parsed)) = (line, parsed) {
            self.begun = true;
            self.base = delta.then_some(row);
            if self.special || parsed != Parsed::default() {
                self.sent_special(parsed, now);
            }
        }
        if self.buffered {
            self.sent_from_buffer(now);
        } else {
            self.owed = false;
        }
    }

    fn sent_special(&mut self, parsed: Parsed, now: Instant) {
        let aside = &mut *self.aside;
        aside.parsed = parsed;
        aside.due = now + aside.terms.interval;
        self.note_special();
    }

    fn sent_from_buffer(&mut self, now: Instant) {
        match self.aside.terms.buffer.as_mut() {
            None => self.owed = false,
            Some(EventBuffer::Queue(queue)) => {
                queue.pop();
                self.owed = !queue.is_empty();
                if queue.is_done() {
                    self.set_buffer(None);
                }
            }
            Some(EventBuffer::Table(buffer)) => {
                buffer.pop(now);
                self.owed = !buffer.is_empty();
            }
        }
    }

    /// Nothing can be sent before then: returns the timer that will queue the item.
    pub fn wait_until(&mut self, at: Instant, key: SubItemKey) -> (Instant, Timer) {
        self.waits_for_due = true;
        let version = self.aside.due_version.wrapping_add(1);
        self.aside.due_version = version;
        (at, Timer::Due(key, version))
    }

    /// Whether this timer is of the last wait, and the wait is not over otherwise.
    pub fn is_due(&self, version: u32) -> bool {
        self.waits_for_due && self.aside.due_version == version
    }

    /// A planted bug: no interval is kept.
    pub fn forget_due(&mut self, now: Instant) {
        self.aside.due = now;
    }
}
