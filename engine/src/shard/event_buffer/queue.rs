//! Events of an item in their order: RAW, DISTINCT, and MERGE where its current state is not enough.

use super::{Entry, Next, Taken};
use crate::item::row::Row;
use crate::time::Instant;
use std::collections::VecDeque;

/// Events in their order.
#[derive(Debug)]
pub struct Queue {
    /// The first `ahead` of them are never dropped: the snapshot, and `CS` of which the client must hear.
    entries: VecDeque<Entry>,
    ahead: usize,
    /// So many behind these are held back by no frequency: up to the last trade-safe one.
    flushed: usize,
    /// Events lost in front of the first entry that may be dropped.
    lost: u32,
    /// Events that may wait behind the last trade-safe one.
    len_max: usize,
    /// Events that may wait in all.
    total_max: usize,
    overflow: Overflow,
    /// The buffer is only here for a snapshot that must go before what follows.
    transient: bool,
}

/// What becomes of an event for which a queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// MERGE: the one behind it contains it.
    Merges,
    /// DISTINCT: nothing.
    Drops,
    /// RAW and unfiltered: its client is told.
    Tells,
}

impl Queue {
    /// A queue of at most `len_max` events; with those that are trade-safe, and those before them, of at most
    /// `total_max`.
    pub fn new(len_max: usize, total_max: usize, overflow: Overflow) -> Self {
        Self {
            entries: VecDeque::new(),
            ahead: 0,
            flushed: 0,
            lost: 0,
            len_max: len_max.max(1),
            total_max: total_max.max(1),
            overflow,
            transient: false,
        }
    }

    /// A queue for the time until this row is sent: a snapshot that must not be merged with the first event.
    pub fn for_snapshot(row: Row) -> Self {
        let mut queue = Self::new(1, 1, Overflow::Merges);
        queue.snapshot([row], false);
        queue.transient = true;
        queue
    }

    /// Whether the queue is not needed any more.
    pub fn is_done(&self) -> bool {
        self.transient && self.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lost == 0
    }

    /// Lines that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len() + usize::from(self.lost > 0)
    }

    /// Whether what is next belongs to a snapshot.
    pub fn is_loading(&self) -> bool {
        self.ahead > 0
    }

    /// How many lines wait that are never dropped.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// How many events wait behind them.
    pub fn events(&self) -> usize {
        let waiting = self.entries.range(self.ahead..);
        waiting.filter(|entry| **entry != Entry::Clear).count()
    }

    /// The snapshot, in front of everything; nothing waits yet.
    pub fn snapshot(&mut self, rows: impl IntoIterator<Item = Row>, end: bool) {
        debug_assert!(self.is_empty());
        self.entries.extend(rows.into_iter().map(Entry::Row));
        if end {
            self.entries.push_back(Entry::EndOfSnapshot);
        }
        self.ahead = self.entries.len();
    }

    /// An event; a trade-safe one takes along what waits before it.
    pub fn push(&mut self, row: Row, safe: bool) -> Taken {
        let safe = safe && self.overflow != Overflow::Tells; // where nothing may be merged, nothing is special
        if safe {
            self.entries.push_back(Entry::Safe(row));
            self.flush();
        } else {
            self.entries.push_back(Entry::Row(row));
        }
        Taken {
            urgent: safe,
            ..self.keep_bound()
        }
    }

    /// So many events did not even come here, `safe` of them trade-safe.
    pub fn push_lost(&mut self, lost: u32, safe: u32) -> Taken {
        let tells = self.overflow == Overflow::Tells;
        let told = if tells { lost } else { safe };
        let mut taken = self.overflow.without_a_word(lost.saturating_sub(told));
        if told == 0 {
            return taken;
        }
        taken.lost = told;
        taken.urgent = !tells;
        if self.entries.len() == self.ahead {
            self.lost += told;
        } else if let Some(Entry::Lost(known)) = self.entries.back_mut() {
            *known += told;
        } else {
            self.entries.push_back(Entry::Lost(told));
            if !tells {
                self.flush();
            }
            let dropped = self.keep_bound();
            taken.conflated += dropped.conflated;
            taken.filtered += dropped.filtered;
            taken.lost += dropped.lost;
        }
        taken
    }

    /// All that was is void. What waits is discarded, but by those who are to be told everything; and trade-safe events
    /// are told to all.
    pub fn clear(&mut self) -> Taken {
        let mut filtered = 0;
        if self.overflow != Overflow::Tells {
            let kept = self.ahead + self.flushed;
            filtered = u32::try_from(self.entries.len() - kept).unwrap_or(u32::MAX);
            self.entries.truncate(kept);
            // Of a snapshot its end is told, and what else the client must hear of.
            let (mut at, ahead) = (0, self.ahead);
            self.entries.retain(|entry| {
                at += 1;
                let void = at <= ahead && matches!(entry, Entry::Row(_));
                self.ahead -= usize::from(void);
                !void
            });
        }
        let lost_since = self.lost > 0 && self.entries.len() == self.ahead;
        if self.entries.back() != Some(&Entry::Clear) || lost_since {
            self.entries.push_back(Entry::Clear);
            if self.flushed > 0 {
                self.flush();
            }
            self.protect_clear();
        }
        Taken {
            urgent: true,
            filtered,
            ..Taken::default()
        }
    }

    /// Nothing that waits now is held back.
    fn flush(&mut self) {
        self.flushed = self.entries.len() - self.ahead;
    }

    fn keep_bound(&mut self) -> Taken {
        let mut taken = Taken::default();
        loop {
            let waiting = self.entries.len() - self.ahead;
            if waiting > self.total_max {
                self.drop_at(self.ahead, &mut taken);
            } else if waiting - self.flushed > self.len_max {
                self.drop_at(self.ahead + self.flushed, &mut taken);
            } else {
                return taken;
            }
        }
    }

    /// Drops an entry that may be dropped: the first of all that wait, or the first behind the last trade-safe one.
    fn drop_at(&mut self, at: usize, taken: &mut Taken) {
        if self.entries[at] == Entry::Clear {
            match at == self.ahead {
                true => self.protect_clear(),
                false => self.flushed += 1,
            }
            return;
        }
        if at < self.ahead + self.flushed {
            self.flushed -= 1;
        }
        match (self.entries.remove(at), self.overflow) {
            (Some(Entry::Lost(lost)), _) => self.lost += lost, // was counted when it came
            (Some(Entry::Safe(_)), _) | (_, Overflow::Tells) => {
                self.lost += 1;
                taken.lost += 1;
            }
            (_, Overflow::Merges) => taken.conflated += 1,
            (_, Overflow::Drops) => taken.filtered += 1,
        }
    }

    /// A `CS` is the first that could be dropped: it is kept. Two of them with nothing but losses between are one.
    fn protect_clear(&mut self) {
        if self.entries.get(self.ahead) != Some(&Entry::Clear) {
            return;
        }
        self.flushed = self.flushed.saturating_sub(1);
        let lost = std::mem::take(&mut self.lost);
        let clear_before = self.ahead > 0 && self.entries[self.ahead - 1] == Entry::Clear;
        if clear_before {
            self.entries.remove(self.ahead);
            self.ahead -= 1; // in front of the one that is there
        }
        if lost > 0 {
            match self.ahead.checked_sub(1).map(|at| &mut self.entries[at]) {
                Some(Entry::Lost(known)) => *known += lost,
                _ => {
                    self.entries.insert(self.ahead, Entry::Lost(lost));
                    self.ahead += 1;
                }
            }
        }
        self.ahead += 1;
    }

    /// What goes out next; no event before `due`.
    pub fn peek(&self, due: Instant, now: Instant) -> Next {
        if self.ahead == 0 && self.lost > 0 {
            return Next::Lost(self.lost);
        }
        let held_back = self.ahead == 0 && self.flushed == 0 && due > now;
        match self.entries.front() {
            None => Next::Nothing,
            Some(Entry::Row(_)) if held_back => Next::At(due),
            Some(entry) => entry.into(),
        }
    }

    /// What was next has gone out.
    pub fn pop(&mut self) {
        if self.ahead == 0 && self.lost > 0 {
            self.lost = 0;
            return;
        }
        self.entries.pop_front();
        match self.ahead {
            0 => self.flushed = self.flushed.saturating_sub(1),
            _ => self.ahead -= 1,
        }
        if self.entries.is_empty() {
            // The next one is put where the last one was, which the processor's cache may still have.
            self.entries.clear();
            self.entries.shrink_to(ENTRIES_KEPT);
        }
    }
}

impl Overflow {
    /// What becomes of so many events of which nobody is told.
    fn without_a_word(self, events: u32) -> Taken {
        let mut taken = Taken::default();
        match self {
            Overflow::Drops => taken.filtered = events,
            Overflow::Merges | Overflow::Tells => taken.conflated = events,
        }
        taken
    }
}

/// What an empty queue keeps allocated.
const ENTRIES_KEPT: usize = 16;
