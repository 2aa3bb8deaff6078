//! What a client is owed of one item of one subscription: conflation 3 of the data path, the everyday one.
//!
//! MERGE with a buffer of one event, which is nearly everything, has no buffer at all: the item's current row *is* what
//! remains of all that was not sent. What is here is for the others, and each is bounded by `event_buffer_len_max` or
//! the smaller size that was asked for or allowed:
//!
//! | subscription | when the bound is reached |
//! |---|---|
//! | MERGE, DISTINCT | the oldest event goes; for MERGE the next one contains it. Nothing is told |
//! | RAW, unfiltered MERGE, unfiltered DISTINCT | the oldest event goes, and `OV` stands in its place |
//! | COMMAND | all that waits goes, and the client gets the table anew: `OV`, `CS`, a row per key |
//!
//! The rows of a snapshot are no part of that: they are not counted, not dropped, and no frequency holds them back.

use super::rows::{KeyChange, Table};
use crate::item::command::Command;
use crate::item::row::Row;
use crate::time::{Duration, Instant};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// The line that goes out next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// None.
    Nothing,
    /// None before this.
    At(Instant),
    /// `U`
    Row(Row),
    /// `EOS`
    EndOfSnapshot,
    /// `CS`
    Clear,
    /// `OV`
    Lost(u32),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Something is to be sent that no frequency holds back.
    pub urgent: bool,
    /// Events that were merged into others or dropped, without a word.
    pub conflated: u32,
    /// Events that were dropped, of which the client will be told.
    pub lost: u32,
}

/// What is owed, where that must be kept.
#[derive(Debug)]
pub enum EventBuffer {
    /// Events in their order.
    Queue(Queue),
    /// COMMAND.
    Table(Box<TableBuffer>),
}

/// Events in their order.
#[derive(Debug)]
pub struct Queue {
    /// The first `ahead` of them are never dropped: the snapshot, and `CS` of which the client must hear.
    entries: VecDeque<Entry>,
    ahead: usize,
    /// Events lost in front of the first entry that may be dropped.
    lost: u32,
    len_max: usize,
    /// Losses are told.
    tells: bool,
    /// The buffer is only here for a snapshot that must go before what follows.
    transient: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Row(Row),
    EndOfSnapshot,
    Clear,
    Lost(u32),
}

impl Queue {
    /// A queue of at most `len_max` events; if it `tells`, what does not fit is told as lost.
    pub fn new(len_max: usize, tells: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            ahead: 0,
            lost: 0,
            len_max: len_max.max(1),
            tells,
            transient: false,
        }
    }

    /// A queue for the time until this row is sent: a snapshot that must not be merged with the first event.
    pub fn for_snapshot(row: Row) -> Self {
        let mut queue = Self::new(1, false);
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

    /// Whether what is next belongs to a snapshot.
    pub fn is_loading(&self) -> bool {
        self.ahead > 0
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

    /// An event.
    pub fn push(&mut self, row: Row) -> Taken {
        self.entries.push_back(Entry::Row(row));
        self.keep_bound()
    }

    /// So many events did not even come here.
    pub fn push_lost(&mut self, lost: u32) -> Taken {
        if !self.tells {
            return Taken {
                conflated: lost,
                ..Taken::default()
            };
        }
        let mut taken = Taken {
            lost,
            ..Taken::default()
        };
        if self.entries.len() == self.ahead {
            self.lost += lost;
        } else if let Some(Entry::Lost(known)) = self.entries.back_mut() {
            *known += lost;
        } else {
            self.entries.push_back(Entry::Lost(lost));
            taken.lost += self.keep_bound().lost;
        }
        taken
    }

    /// All that was is void. What waits is discarded, but by those who are to be told everything.
    pub fn clear(&mut self) -> Taken {
        let mut conflated = 0;
        if !self.tells {
            conflated = u32::try_from(self.entries.len() - self.ahead).unwrap_or(u32::MAX);
            let ends = self.entries.contains(&Entry::EndOfSnapshot);
            let cleared = self.ahead > 0 && self.entries.get(self.ahead - 1) == Some(&Entry::Clear);
            self.entries.clear();
            if ends {
                self.entries.push_back(Entry::EndOfSnapshot);
            }
            if cleared {
                self.entries.push_back(Entry::Clear);
            }
            self.ahead = self.entries.len();
        }
        if self.entries.back() != Some(&Entry::Clear) || self.lost > 0 {
            self.entries.push_back(Entry::Clear);
            self.protect_clear();
        }
        Taken {
            urgent: true,
            conflated,
            lost: 0,
        }
    }

    fn keep_bound(&mut self) -> Taken {
        let mut taken = Taken::default();
        while self.entries.len() - self.ahead > self.len_max {
            if self.entries[self.ahead] == Entry::Clear {
                self.protect_clear();
                continue;
            }
            match self.entries.remove(self.ahead) {
                Some(Entry::Lost(lost)) => self.lost += lost, // was counted when it came
                _ if self.tells => {
                    self.lost += 1;
                    taken.lost += 1;
                }
                _ => taken.conflated += 1,
            }
        }
        taken
    }

    /// A `CS` is the first that could be dropped: it is kept. Two of them with nothing but losses between are one.
    fn protect_clear(&mut self) {
        if self.entries.get(self.ahead) != Some(&Entry::Clear) {
            return;
        }
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
        match self.entries.front() {
            None => Next::Nothing,
            Some(Entry::Row(_)) if self.ahead == 0 && due > now => Next::At(due),
            Some(Entry::Row(row)) => Next::Row(row.clone()),
            Some(Entry::EndOfSnapshot) => Next::EndOfSnapshot,
            Some(Entry::Clear) => Next::Clear,
            Some(Entry::Lost(lost)) => Next::Lost(*lost),
        }
    }

    /// What was next has gone out.
    pub fn pop(&mut self) {
        if self.ahead == 0 && self.lost > 0 {
            self.lost = 0;
        } else {
            self.entries.pop_front();
            self.ahead = self.ahead.saturating_sub(1);
            if self.entries.is_empty() {
                self.entries.shrink_to(ENTRIES_KEPT);
            }
        }
    }
}

/// What an empty queue keeps allocated.
const ENTRIES_KEPT: usize = 16;

/// What is owed of a COMMAND item.
#[derive(Debug)]
pub struct TableBuffer {
    /// What goes before everything else.
    head: VecDeque<Entry>,
    /// The client is being shown the table: as its snapshot, or anew.
    walk: Option<Walk>,
    /// Keys whose last event was not after this one are not known to the client, though they are in the table.
    since: u64,
    changes: Changes,
    len_max: usize,
    peeked: Peeked,
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

/// Changes of rows that wait.
#[derive(Debug)]
enum Changes {
    /// Merged per key.
    Merged(Merged),
    /// One by one, unfiltered.
    All(VecDeque<Entry>),
}

#[derive(Debug, Default)]
struct Merged {
    pending: HashMap<Rc<str>, Pending, foldhash::fast::RandomState>,
    /// Those that may go, in the order of their first event that waits.
    ready: BTreeMap<u64, Rc<str>>,
    /// Those that their frequency holds back, by the time at which it lets go.
    waiting: BTreeMap<(Instant, u64), Rc<str>>,
    serial: u64,
    interval: Duration,
    /// When keys were last sent, as far as that holds their updates back.
    sent: HashMap<Rc<str>, Instant, foldhash::fast::RandomState>,
    /// The size at which `sent` is swept.
    sweep_at: usize,
}

#[derive(Debug)]
struct Pending {
    what: Waiting,
    serial: u64,
    /// Not before this; `None` if it is ready.
    due: Option<Instant>,
}

/// The last change of a key that waits. An added or updated row is taken from the table when it is sent.
#[derive(Clone, Debug)]
enum Waiting {
    Put(Command),
    Deleted(Row),
}

/// What the last peek showed.
#[derive(Clone, Debug)]
enum Peeked {
    Nothing,
    Head,
    Place(u64),
    EndOfWalk,
    Key(Rc<str>),
    Entry,
}

impl TableBuffer {
    /// Whether the client is being shown the table.
    pub fn is_loading(&self) -> bool {
        self.walk.is_some()
    }

    /// For a client that knows no key whose last event was up to `since`.
    pub fn new(len_max: usize, unfiltered: bool, interval: Duration, since: u64) -> Self {
        Self {
            head: VecDeque::new(),
            walk: None,
            since,
            changes: match unfiltered {
                true => Changes::All(VecDeque::new()),
                false => Changes::Merged(Merged {
                    interval,
                    ..Merged::default()
                }),
            },
            len_max: len_max.max(1),
            peeked: Peeked::Nothing,
        }
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
        merged.interval = interval;
        for (_, key) in std::mem::take(&mut merged.waiting) {
            let Some(mut pending) = merged.pending.remove(&key) else {
                continue;
            };
            pending.due = None;
            merged.place(key, pending, now);
        }
    }

    /// A key has changed.
    pub fn push(&mut self, change: &KeyChange, table: &mut Table, now: Instant) -> Taken {
        if let Some(walk) = self.walk
            && (walk.at..=walk.until).contains(&change.place)
        {
            // The walk will show the row as it is then.
            return Taken {
                conflated: 1,
                ..Taken::default()
            };
        }
        let known = change.before > self.since;
        let what = match &change.deleted {
            Some(_) if !known => return Taken::default(),
            Some(row) => Waiting::Deleted(row.clone()),
            None if known => Waiting::Put(Command::Update),
            None => Waiting::Put(Command::Add),
        };
        let mut taken = match &mut self.changes {
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
        if self.changes.len() > self.len_max {
            taken.lost += self.start_anew(table);
            taken.urgent = true;
        }
        taken
    }

    /// So many events did not even come here.
    pub fn push_lost(&mut self, lost: u32, table: &Table) -> Taken {
        let mut taken = Taken::default();
        match &mut self.changes {
            Changes::Merged(_) => taken.conflated = lost,
            Changes::All(queue) => {
                (taken.lost, taken.urgent) = (lost, true);
                match queue.back_mut() {
                    Some(Entry::Lost(known)) => *known += lost,
                    _ => queue.push_back(Entry::Lost(lost)),
                }
                if queue.len() > self.len_max {
                    taken.lost += self.start_anew(table);
                }
            }
        }
        taken
    }

    /// All rows are void.
    pub fn clear(&mut self) -> Taken {
        let conflated = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        let lost = self.changes.clear();
        let told = matches!(self.changes, Changes::All(_));
        self.say_clear(if told { lost } else { 0 });
        self.walk = None;
        Taken {
            urgent: true,
            conflated: if told { 0 } else { conflated },
            lost: 0,
        }
    }

    /// Too much waits: the client is told that, and shown the table as it is. Returns how many events it is told to
    /// have missed.
    fn start_anew(&mut self, table: &Table) -> u32 {
        let lost = self.changes.clear();
        self.say_clear(lost);
        self.since = 0;
        self.walk = Some(Walk {
            at: 0,
            until: table.last(),
            ends_snapshot: false,
        });
        lost
    }

    /// `CS`, behind the end of the snapshot if that is not told yet, and behind the loss.
    fn say_clear(&mut self, lost: u32) {
        if self.walk.is_some_and(|walk| walk.ends_snapshot) {
            self.head.push_back(Entry::EndOfSnapshot);
        }
        let unsent = self.head.back() == Some(&Entry::Clear);
        if unsent {
            self.head.pop_back(); // nothing was told after it
        }
        match self.head.back_mut() {
            Some(Entry::Lost(known)) => *known += lost,
            _ if lost > 0 => self.head.push_back(Entry::Lost(lost)),
            _ => {}
        }
        self.head.push_back(Entry::Clear);
    }

    /// What goes out next.
    pub fn peek(&mut self, table: &mut Table, now: Instant) -> Next {
        self.peeked = Peeked::Nothing;
        if let Some(entry) = self.head.front() {
            self.peeked = Peeked::Head;
            return entry.into();
        }
        if let Some(walk) = self.walk {
            if let Some((place, key)) = table.next_key(walk.at, walk.until)
                && let Some(row) = table.row(&key, Command::Add)
            {
                self.peeked = Peeked::Place(place);
                return Next::Row(row);
            }
            if walk.ends_snapshot {
                self.peeked = Peeked::EndOfWalk;
                return Next::EndOfSnapshot;
            }
            self.walk = None;
        }
        match &mut self.changes {
            Changes::Merged(merged) => {
                merged.release(now);
                let Some(key) = merged.ready.values().next() else {
                    let due = merged.waiting.keys().next();
                    return due.map_or(Next::Nothing, |(due, _)| Next::At(*due));
                };
                self.peeked = Peeked::Key(Rc::clone(key));
                let row = match &merged.pending[key].what {
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
                if let Some(walk) = &mut self.walk {
                    walk.at = place + 1;
                }
            }
            Peeked::EndOfWalk => self.walk = None,
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
        self.head.is_empty() && self.walk.is_none() && self.changes.len() == 0
    }
}

impl From<&Entry> for Next {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Row(row) => Next::Row(row.clone()),
            Entry::EndOfSnapshot => Next::EndOfSnapshot,
            Entry::Clear => Next::Clear,
            Entry::Lost(lost) => Next::Lost(*lost),
        }
    }
}

impl Changes {
    fn len(&self) -> usize {
        match self {
            Changes::Merged(merged) => merged.pending.len(),
            Changes::All(queue) => queue.len(),
        }
    }

    /// Forgets what waits; returns how many events a client is told to have missed by that. Updates that may be merged
    /// are none.
    fn clear(&mut self) -> u32 {
        let lost = match self {
            Changes::Merged(merged) => {
                let told =
                    |pending: &&Pending| !matches!(pending.what, Waiting::Put(Command::Update));
                let lost = merged.pending.values().filter(told).count();
                merged.pending.clear();
                merged.ready.clear();
                merged.waiting.clear();
                lost
            }
            Changes::All(queue) => {
                let events = |entry| match entry {
                    Entry::Lost(lost) => lost as usize,
                    _ => 1,
                };
                queue.drain(..).map(events).sum()
            }
        };
        u32::try_from(lost).unwrap_or(u32::MAX)
    }
}

impl Merged {
    /// Merges an event into what waits of its key.
    fn push(&mut self, key: &Rc<str>, what: Waiting, now: Instant) -> Taken {
        let Some(mut pending) = self.pending.remove(key) else {
            let urgent = !matches!(what, Waiting::Put(Command::Update));
            self.serial += 1;
            let pending = Pending {
                what,
                serial: self.serial,
                due: None,
            };
            let ready = self.place(Rc::clone(key), pending, now);
            return Taken {
                urgent: urgent || ready,
                ..Taken::default()
            };
        };
        self.unplace(&pending);
        let mut taken = Taken {
            conflated: 1,
            ..Taken::default()
        };
        pending.what = match (pending.what, what) {
            (Waiting::Put(Command::Add), Waiting::Deleted(_)) => {
                taken.conflated = 2; // it came and went
                return taken;
            }
            (Waiting::Put(Command::Add), Waiting::Put(_)) => Waiting::Put(Command::Add),
            (Waiting::Put(_), Waiting::Put(_)) => Waiting::Put(Command::Update),
            (Waiting::Deleted(_), Waiting::Put(_)) => Waiting::Put(Command::Update),
            (_, deleted @ Waiting::Deleted(_)) => deleted,
        };
        taken.urgent = self.place(Rc::clone(key), pending, now);
        taken
    }

    /// Puts a change where it can go or has to wait; returns whether it can go. Only updates wait.
    fn place(&mut self, key: Rc<str>, mut pending: Pending, now: Instant) -> bool {
        pending.due = match (&pending.what, self.sent.get(&key)) {
            (Waiting::Put(Command::Update), Some(sent)) => {
                Some(*sent + self.interval).filter(|due| *due > now)
            }
            _ => None,
        };
        let ready = match pending.due {
            None => self.ready.insert(pending.serial, Rc::clone(&key)),
            Some(due) => self.waiting.insert((due, pending.serial), Rc::clone(&key)),
        };
        debug_assert!(ready.is_none());
        let is_ready = pending.due.is_none();
        self.pending.insert(key, pending);
        is_ready
    }

    fn unplace(&mut self, pending: &Pending) {
        match pending.due {
            None => self.ready.remove(&pending.serial),
            Some(due) => self.waiting.remove(&(due, pending.serial)),
        };
    }

    /// Lets go of what has waited long enough.
    fn release(&mut self, now: Instant) {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            let ((_, serial), key) = entry.remove_entry();
            if let Some(pending) = self.pending.get_mut(&key) {
                pending.due = None;
            }
            self.ready.insert(serial, key);
        }
    }

    fn sent(&mut self, key: Rc<str>, now: Instant) {
        let Some(pending) = self.pending.remove(&key) else {
            return;
        };
        self.unplace(&pending);
        if matches!(pending.what, Waiting::Deleted(_)) {
            self.sent.remove(&key);
        } else if self.interval > Duration::ZERO {
            if self.sent.len() >= self.sweep_at.max(SENT_KEPT) {
                let interval = self.interval;
                self.sent.retain(|_, sent| *sent + interval > now);
                self.sweep_at = self.sent.len() * 2;
            }
            self.sent.insert(key, now);
        }
    }
}

/// So many keys' times are kept without a look at whether they still matter.
const SENT_KEPT: usize = 64;
