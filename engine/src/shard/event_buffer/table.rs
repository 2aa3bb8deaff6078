//! What is owed of a COMMAND item.

use super::changes::{Changes, Merged, Missed, Waiting};
use super::{Entry, Next, Taken};
use crate::item::command::Command;
use crate::item::row::Row;
use crate::item::selector::Selector;
use crate::shard::rows::{KeyChange, Table};
use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// What is owed of a COMMAND item.
#[derive(Debug)]
pub struct TableBuffer {
    /// What goes before everything else.
    head: VecDeque<Entry>,
    /// The client is being shown the table: as its snapshot, or anew.
    walk: Option<Walk>,
    /// Rows that trade-safe changes have overtaken while the walk had not come to them, as they were, by their places.
    overtaken: BTreeMap<u64, Row>,
    /// Keys whose last record was not after this one, as they came, are not known to the client, though they are in the table.
    since: u64,
    /// Trade-safe changes, and what waited of their rows before them: they go before all others. With the key, if it is
    /// a change of one.
    flushed: VecDeque<(Option<Rc<str>>, Entry)>,
    changes: Changes,
    len_max: usize,
    peeked: Peeked,
    /// Of which keys the client is told; of all without one.
    selector: Option<Selector>,
}

/// How far a client has been shown the table.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// The next place.
    at: u64,
    /// The last place.
    until: u64,
    /// `EOS` follows.
    ends_snapshot: bool,
}

/// What the last peek showed.
#[derive(Clone, Debug)]
enum Peeked {
    Nothing,
    Head,
    Place(u64),
    EndOfWalk,
    Flushed,
    Key(Rc<str>),
    Entry,
}

impl TableBuffer {
    /// How many lines wait that are never dropped.
    pub fn ahead(&self) -> usize {
        self.head.len() + self.overtaken.len()
    }

    /// Changes that wait.
    pub fn waiting(&self) -> usize {
        self.flushed.len() + self.changes.len()
    }

    /// How many events wait behind them.
    pub fn events(&self) -> usize {
        self.changes.len()
    }

    /// Of how many keys it is known when they were sent.
    pub fn times(&self) -> usize {
        match &self.changes {
            Changes::Merged(merged) => merged.times(),
            Changes::All(_) => 0,
        }
    }

    /// Whether the client is being shown the table.
    pub fn is_loading(&self) -> bool {
        self.walk.is_some()
    }

    /// For a client that knows no key whose last record was up to `since`, as [`Table::taken`] counts them.
    pub fn new(len_max: usize, unfiltered: bool, interval: Duration, since: u64) -> Self {
        Self {
            head: VecDeque::new(),
            walk: None,
            overtaken: BTreeMap::new(),
            since,
            flushed: VecDeque::new(),
            changes: match unfiltered {
                true => Changes::All(VecDeque::new()),
                false => Changes::Merged(Merged::new(interval)),
            },
            len_max: len_max.max(1),
            peeked: Peeked::Nothing,
            selector: None,
        }
    }

    /// The client is told of the keys that this selects only. Changes of others are not to be pushed.
    pub fn select(&mut self, selector: Option<Selector>) {
        self.selector = selector;
    }

    /// The client gets the table as its snapshot.
    pub fn snapshot(&mut self, table: &Table) {
        self.since = 0;
        self.walk = Some(Walk {
            at: 0,
            until: table.last(),
            ends_snapshot: true,
        });
    }

    /// The client gets no snapshot: it knows none of the keys of up to now.
    pub fn begin(&mut self, since: u64) {
        self.since = since;
    }

    /// Changes the least time between two updates of a key.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        let Changes::Merged(merged) = &mut self.changes else {
            return;
        };
        merged.set_interval(interval, now);
    }

    /// A key has changed, in a way that is trade-safe or not.
    pub fn push(
        &mut self,
        change: &KeyChange,
        safe: bool,
        table: &mut Table,
        now: Instant,
    ) -> Taken {
        if let Some(walk) = self.walk
            && (walk.at..=walk.until).contains(&change.place)
            && !self.overtaken.contains_key(&change.place)
        {
            let Some(old) = change.old.as_ref().filter(|_| safe) else {
                // The walk will show the row as it is then.
                return Taken {
                    conflated: 1,
                    ..Taken::default()
                };
            };
            let old = table.worded(old, Command::Add);
            self.overtaken.insert(change.place, old);
        }
        let known = change.before > self.since;
        let what = match &change.deleted {
            Some(_) if !known => return Taken::default(),
            Some(row) => Waiting::Deleted(row.clone()),
            None if known => Waiting::Put(Command::Update),
            None => Waiting::Put(Command::Add),
        };
        let mut taken = match &mut self.changes {
            Changes::Merged(merged) if safe => {
                let before = match (merged.take(&change.key), &change.old) {
                    (Some(Waiting::Put(command)), Some(old)) => Some(table.worded(old, command)),
                    (Some(Waiting::Deleted(row)), _) => Some(row),
                    _ => None,
                };
                let row = match what {
                    Waiting::Deleted(row) => Some(row),
                    Waiting::Put(command) => table.row(&change.key, command),
                };
                let before = before.map(Entry::Row);
                let rows = before.into_iter().chain(row.map(Entry::Safe));
                let rows = rows.map(|row| (Some(Rc::clone(&change.key)), row));
                self.flushed.extend(rows);
                Taken {
                    urgent: true,
                    ..Taken::default()
                }
            }
            Changes::Merged(merged) => merged.push(&change.key, what, now),
            Changes::All(queue) => {
                let row = match what {
                    Waiting::Deleted(row) => Some(row),
                    Waiting::Put(command) => table.row(&change.key, command),
                };
                queue.extend(row.map(Entry::Row));
                Taken {
                    urgent: true,
                    ..Taken::default()
                }
            }
        };
        self.keep_bound(table, &mut taken);
        taken
    }

    /// So many events did not even come here, `safe` of them trade-safe.
    pub fn push_lost(&mut self, lost: u32, safe: u32, table: &Table) -> Taken {
        let mut taken = Taken::default();
        match &mut self.changes {
            Changes::Merged(_) => {
                taken.conflated = lost.saturating_sub(safe);
                if safe > 0 {
                    (taken.lost, taken.urgent) = (safe, true);
                    match self.flushed.back_mut() {
                        Some((_, Entry::Lost(known))) => *known += safe,
                        _ => self.flushed.push_back((None, Entry::Lost(safe))),
                    }
                }
            }
            Changes::All(queue) => {
                (taken.lost, taken.urgent) = (lost, true);
                match queue.back_mut() {
                    Some(Entry::Lost(known)) => *known += lost,
                    _ => queue.push_back(Entry::Lost(lost)),
                }
            }
        }
        self.keep_bound(table, &mut taken);
        taken
    }

    /// All rows are void. What waits is discarded, but by those who are to be told everything; and trade-safe changes are
    /// told to all.
    pub fn clear(&mut self, table: &Table) -> Taken {
        let mut taken = Taken {
            urgent: true,
            ..Taken::default()
        };
        // What changes them is still to be told.
        let overtaken = std::mem::take(&mut self.overtaken);
        self.head.extend(overtaken.into_values().map(Entry::Row));
        if self.walk.take().is_some_and(|walk| walk.ends_snapshot) {
            self.head.push_back(Entry::EndOfSnapshot);
        }
        let last = match &mut self.changes {
            Changes::Merged(merged) => {
                taken.filtered = u32::try_from(merged.len()).unwrap_or(u32::MAX);
                merged.clear();
                self.flushed.back().map(|(_, entry)| entry)
            }
            Changes::All(queue) => queue.back(),
        };
        if last.or(self.head.back()) != Some(&Entry::Clear) {
            match &mut self.changes {
                Changes::Merged(_) => self.flushed.push_back((None, Entry::Clear)),
                Changes::All(queue) => queue.push_back(Entry::Clear),
            }
        }
        self.keep_bound(table, &mut taken);
        taken
    }

    /// Where too much waits, the client is told that, and shown the table as it is: behind the end of its snapshot, if
    /// it has not had that.
    fn keep_bound(&mut self, table: &Table, taken: &mut Taken) {
        if self.waiting() <= self.len_max {
            return;
        }
        let flushed = self.flushed.drain(..).map(|(_, entry)| entry);
        let missed = flushed
            .map(|entry| Missed::of(&entry, false))
            .sum::<Missed>()
            + self.changes.clear();
        taken.lost += missed.new;
        taken.urgent = true;
        if self.walk.is_some_and(|walk| walk.ends_snapshot) {
            self.head.push_back(Entry::EndOfSnapshot);
        }
        self.head.retain(|entry| !matches!(entry, Entry::Row(_))); // void at once
        if self.head.back() == Some(&Entry::Clear) {
            self.head.pop_back(); // nothing was told after it
        }
        match self.head.back_mut() {
            Some(Entry::Lost(known)) => *known += missed.told,
            _ if missed.told > 0 => self.head.push_back(Entry::Lost(missed.told)),
            _ => {}
        }
        self.head.push_back(Entry::Clear);
        self.since = 0;
        self.overtaken.clear();
        self.walk = Some(Walk {
            at: 0,
            until: table.last(),
            ends_snapshot: false,
        });
    }

    /// What goes out next.
    pub fn peek(&mut self, table: &mut Table, now: Instant) -> Next {
        self.peeked = Peeked::Nothing;
        if let Some(entry) = self.head.front() {
            self.peeked = Peeked::Head;
            return entry.into();
        }
        if let Some(mut walk) = self.walk {
            let old = self.overtaken.first_key_value();
            // Up to the first of those.
            let until = old.map_or(walk.until, |(place, _)| place - 1);
            let mut next = table.next_key(walk.at, until);
            while let (Some((place, key)), Some(selector)) = (&next, &self.selector)
                && !selector.selects_key(key)
            {
                walk.at = place + 1;
                self.walk = Some(walk); // it is not looked at again
                next = table.next_key(walk.at, until);
            }
            if let Some((place, key)) = next
                && let Some(row) = table.row(&key, Command::Add)
            {
                self.peeked = Peeked::Place(place);
                return Next::Row(row);
            }
            if let Some((place, row)) = old {
                self.peeked = Peeked::Place(*place);
                return Next::Row(row.clone());
            }
            if walk.ends_snapshot {
                self.peeked = Peeked::EndOfWalk;
                return Next::EndOfSnapshot;
            }
            self.walk = None;
        }
        if let Some((_, entry)) = self.flushed.front() {
            self.peeked = Peeked::Flushed;
            return entry.into();
        }
        match &mut self.changes {
            Changes::Merged(merged) => {
                merged.release(now);
                let Some((key, what)) = merged.first() else {
                    return merged.next_due().map_or(Next::Nothing, Next::At);
                };
                self.peeked = Peeked::Key(Rc::clone(key));
                let row = match what {
                    Waiting::Deleted(row) => Some(row.clone()),
                    Waiting::Put(command) => table.row(key, *command),
                };
                row.map_or(Next::Nothing, Next::Row)
            }
            Changes::All(queue) => match queue.front() {
                None => Next::Nothing,
                Some(entry) => {
                    self.peeked = Peeked::Entry;
                    entry.into()
                }
            },
        }
    }

    /// What was next has gone out.
    pub fn pop(&mut self, now: Instant) {
        match std::mem::replace(&mut self.peeked, Peeked::Nothing) {
            Peeked::Nothing => {}
            Peeked::Head => _ = self.head.pop_front(),
            Peeked::Place(place) => {
                self.overtaken.remove(&place);
                if let Some(walk) = &mut self.walk {
                    walk.at = place + 1;
                }
            }
            Peeked::EndOfWalk => self.walk = None,
            Peeked::Flushed => {
                if let (
                    Some((Some(key), Entry::Row(row) | Entry::Safe(row))),
                    Changes::Merged(merged),
                ) = (self.flushed.pop_front(), &mut self.changes)
                {
                    merged.note_sent(key, row.command(), now);
                }
            }
            Peeked::Key(key) => {
                if let Changes::Merged(merged) = &mut self.changes {
                    merged.sent(key, now);
                }
            }
            Peeked::Entry => {
                if let Changes::All(queue) = &mut self.changes {
                    queue.pop_front();
                }
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.walk.is_none()
            && self.flushed.is_empty()
            && self.changes.len() == 0
    }
}
