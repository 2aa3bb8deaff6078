//! Changes of rows that wait for a client of a COMMAND item: merged per key, or one by one.

use super::{Entry, Taken};
use crate::item::command::Command;
use crate::item::row::Row;
use crate::time::{Duration, Instant};
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Changes of rows that wait.
#[derive(Debug)]
pub enum Changes {
    /// Merged per key.
    Merged(Merged),
    /// One by one, unfiltered.
    All(VecDeque<Entry>),
}

/// At most one change of a key, which is the last one, as those before it lead to it.
#[derive(Debug, Default)]
pub struct Merged {
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
pub enum Waiting {
    /// The key is added or updated.
    Put(Command),
    /// It is gone, which this row says.
    Deleted(Row),
}

/// Events that a client does not get.
#[derive(Clone, Copy, Debug, Default)]
pub struct Missed {
    /// As many as it is told.
    pub told: u32,
    /// Of those, what was not counted before.
    pub new: u32,
}

impl Missed {
    /// A line that is dropped; updates count only where nothing may be merged, or if they are trade-safe.
    pub fn of(entry: &Entry, updates_count: bool) -> Self {
        let counts = match entry {
            Entry::Lost(lost) => {
                return Missed {
                    told: *lost,
                    new: 0,
                };
            }
            Entry::Row(row) => updates_count || row.command() != Command::Update,
            Entry::Safe(_) => true,
            Entry::EndOfSnapshot | Entry::Clear => false,
        };
        let events = u32::from(counts);
        Missed {
            told: events,
            new: events,
        }
    }
}

impl std::iter::Sum for Missed {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| sum + one)
    }
}

impl std::ops::Add for Missed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Missed {
            told: self.told + other.told,
            new: self.new + other.new,
        }
    }
}

impl Changes {
    /// Lines that wait.
    pub fn len(&self) -> usize {
        match self {
            Changes::Merged(merged) => merged.len(),
            Changes::All(queue) => queue.len(),
        }
    }

    /// Forgets what waits. Updates that may be merged are not missed.
    pub fn clear(&mut self) -> Missed {
        match self {
            Changes::Merged(merged) => {
                let told =
                    |pending: &&Pending| !matches!(pending.what, Waiting::Put(Command::Update));
                let told = merged.pending.values().filter(told).count();
                let told = u32::try_from(told).unwrap_or(u32::MAX);
                merged.clear();
                Missed { told, new: told }
            }
            Changes::All(queue) => queue.drain(..).map(|entry| Missed::of(&entry, true)).sum(),
        }
    }
}

impl Merged {
    /// Of how many keys it is known when they were sent.
    pub fn times(&self) -> usize {
        self.sent.len()
    }

    /// Nothing waits; updates of a key are at least `interval` apart.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            ..Self::default()
        }
    }

    /// Keys whose change waits.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.ready.clear();
        self.waiting.clear();
    }

    /// Changes the least time between two updates of a key.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        self.interval = interval;
        for (_, key) in std::mem::take(&mut self.waiting) {
            let Some(mut pending) = self.pending.remove(&key) else {
                continue;
            };
            pending.due = None;
            self.place(key, pending, now);
        }
    }

    /// The change that goes out next, of those that may go.
    pub fn first(&self) -> Option<(&Rc<str>, &Waiting)> {
        let key = self.ready.values().next()?;
        Some((key, &self.pending[key].what))
    }

    /// When the next of the others may go.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }

    /// Takes out what waits of a key.
    pub fn take(&mut self, key: &Rc<str>) -> Option<Waiting> {
        let pending = self.pending.remove(key)?;
        self.unplace(&pending);
        Some(pending.what)
    }

    /// Merges an event into what waits of its key.
    pub fn push(&mut self, key: &Rc<str>, what: Waiting, now: Instant) -> Taken {
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
    pub fn release(&mut self, now: Instant) {
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

    /// The change of a key that waited has gone out.
    pub fn sent(&mut self, key: Rc<str>, now: Instant) {
        let command = match self.take(&key) {
            None => return,
            Some(Waiting::Put(command)) => command,
            Some(Waiting::Deleted(_)) => Command::Delete,
        };
        self.note_sent(key, command, now);
    }

    /// A change of a key has gone out: its next update has to wait.
    pub fn note_sent(&mut self, key: Rc<str>, command: Command, now: Instant) {
        if command == Command::Delete {
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
