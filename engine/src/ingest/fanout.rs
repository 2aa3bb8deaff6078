//! From an item's state to the shards that want it: conflation 2 of the data path.
//!
//! Each record is encoded once and copied into the ring of every shard that listens. A ring that has no room costs
//! nobody anything: what the shard is owed is noted (see `debt`), later events of the item only change
//! the state, and when there is room again the shard is told what is then to be told. On a healthy machine this never
//! happens, and a counter says so.

use super::debt::{self, Debt};
use super::record::{self, Kind};
use crate::counters::{Counter, Counters};
use crate::ids::{ItemId, ShardId};
use crate::item::command::Command;
use crate::item::fields::FieldNames;
use crate::item::merge::MergeState;
use crate::item::state::{State, StoredEvent};
use crate::time::Instant;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// The data rings, seen from ingest.
pub trait Rings {
    /// Bytes that [`Rings::write`] would take for this shard now.
    fn room(&self, shard: ShardId) -> usize;

    /// Appends one record. The reader may see it later, when the driver commits the turn.
    fn write(&mut self, shard: ShardId, record: &[u8]);
}

/// What is fanned out: an item's state, where it stands in the item's history, and who wants it.
#[derive(Debug)]
pub struct Subject {
    /// The item.
    pub item: ItemId,
    /// Its state.
    pub state: State,
    /// Number of its events so far.
    pub seq: u64,
    /// When the last of them came.
    pub stamp: Instant,
    /// Who wants it.
    pub listeners: Listeners,
}

/// A shard that wants an item.
#[derive(Debug)]
pub(super) struct Listener {
    pub shard: ShardId,
    pub local: u32,
    pub epoch: u32,
    /// How many of the item's field names this shard knows.
    pub names_sent: u16,
    /// Somebody there looks at the item in its mode.
    pub state: bool,
    /// Somebody there looks at it in RAW mode.
    pub raw: bool,
    /// What the shard is owed because its ring was full. While there is any, nothing is written past it.
    pub debt: Option<Box<Debt>>,
}

/// The shards that want one item.
#[derive(Debug, Default)]
pub struct Listeners(pub(super) SmallVec<[Listener; 2]>);

/// Writes records, and remembers which items could not be written to which shard.
#[derive(Debug, Default)]
pub struct Fanout {
    pub(super) scratch: Vec<u8>,
    pub(super) names: Vec<u8>,
    /// Per shard, items whose listener has a debt; each at most once.
    owed: Vec<VecDeque<ItemId>>,
}

impl Listeners {
    /// A shard wants the item from now on, in RAW mode or in the item's. Returns whether it did not want just that
    /// before.
    pub fn add(&mut self, shard: ShardId, local: u32, epoch: u32, raw: bool) -> bool {
        let known = self.0.iter().position(|l| l.shard == shard);
        let listener = match known {
            Some(index) => &mut self.0[index],
            None => {
                self.0.push(Listener {
                    shard,
                    local,
                    epoch,
                    names_sent: 0,
                    state: false,
                    raw: false,
                    debt: None,
                });
                self.0.last_mut().expect("just pushed")
            }
        };
        debug_assert_eq!((listener.local, listener.epoch), (local, epoch));
        let wants = if raw {
            &mut listener.raw
        } else {
            &mut listener.state
        };
        !std::mem::replace(wants, true)
    }

    /// How many shards want the item.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no shard wants the item.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anybody looks at the item in RAW mode.
    #[inline]
    pub fn any_raw(&self) -> bool {
        self.0.iter().any(|listener| listener.raw)
    }

    /// Whether anybody looks at the item in its mode.
    pub fn any_state(&self) -> bool {
        self.0.iter().any(|listener| listener.state)
    }

    /// Whether any shard is owed anything.
    pub fn any_debt(&self) -> bool {
        self.0.iter().any(|listener| listener.debt.is_some())
    }
}

impl Fanout {
    /// For this many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            owed: vec![VecDeque::new(); shards],
            ..Self::default()
        }
    }

    /// MERGE: sends the item's whole state, to one shard or to all that listen.
    pub fn send_state(
        &mut self,
        subject: &mut Subject,
        kind: Kind,
        to: Option<ShardId>,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        if let State::Merge(state) = &subject.state {
            encode_state(&mut self.scratch, kind, state, subject.seq, subject.stamp);
            let refused = |debt: &mut Debt| debt.owe_state(kind);
            self.copy(subject, to, Wants::State, rings, counters, refused);
        }
    }

    /// MERGE: sends what the last event changed to every shard that listens. If it is `safe`, the caller sees to those who
    /// have no room for it (`Fanout::hold`).
    pub fn send_changes(
        &mut self,
        subject: &mut Subject,
        safe: bool,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        let Subject {
            state, seq, stamp, ..
        } = subject;
        let State::Merge(state) = state else { return };
        let mut writer = record::Writer::start(&mut self.scratch, Kind::Update, *seq, *stamp);
        for &field in state.changed() {
            writer.value(field, state.value(usize::from(field)));
        }
        writer.finish();
        if safe {
            record::mark_safe(&mut self.scratch);
            return self.copy(subject, None, Wants::State, rings, counters, |_| ());
        }
        let refused = |debt: &mut Debt| debt.owe_state(Kind::State);
        self.copy(subject, None, Wants::State, rings, counters, refused);
    }

    /// Makes the record of an event as an adapter sent it; `numbers` is what [`FieldNames::numbers`] says of it. With
    /// a command, the field at its number is this command, whatever the adapter said.
    pub fn encode_event(
        &mut self,
        subject: &Subject,
        kind: Kind,
        event: &[(&str, Option<&str>)],
        numbers: &[(u16, u16)],
        command: Option<(u16, Command)>,
        safe: bool,
    ) -> &[u8] {
        let Subject { seq, stamp, .. } = subject;
        let mut writer = record::Writer::start(&mut self.scratch, kind, *seq, *stamp);
        for &(number, at) in numbers {
            match command {
                Some((field, command)) if field == number => {
                    writer.value(number, Some(command.name().as_bytes()));
                }
                // A deleted row is its key and nothing else.
                Some((_, Command::Delete)) if !is_key(&subject.state, number) => {}
                _ => writer.value(number, event[usize::from(at)].1.map(str::as_bytes)),
            }
        }
        writer.finish();
        if safe {
            record::mark_safe(&mut self.scratch);
        }
        &self.scratch
    }

    /// Sends the record just encoded, of the event behind `before`, to all who look at the item in its mode. If it is
    /// `safe`, the caller sees to those who have no room for it (`Fanout::hold`).
    pub fn send_event(
        &mut self,
        subject: &mut Subject,
        before: u64,
        safe: bool,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        let refused = |debt: &mut Debt| {
            if !safe {
                debt.owe_event(before);
            }
        };
        self.copy(subject, None, Wants::State, rings, counters, refused);
    }

    /// DISTINCT: the same for an event that was encoded before.
    pub fn send_stored(
        &mut self,
        subject: &mut Subject,
        event: &StoredEvent,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&event.record);
        self.send_event(subject, event.seq - 1, false, rings, counters);
    }

    /// Sends the record just encoded to all who look at the item in RAW mode.
    pub fn send_raw(
        &mut self,
        subject: &mut Subject,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        self.copy(subject, None, Wants::Raw, rings, counters, Debt::owe_raw);
    }

    /// DISTINCT and COMMAND: tells all who look at the item that what was is void.
    pub fn send_clear(
        &mut self,
        subject: &mut Subject,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        record::Writer::start(&mut self.scratch, Kind::Clear, subject.seq, subject.stamp).finish();
        let now = subject.seq;
        let refused = |debt: &mut Debt| debt.owe_clear(now);
        self.copy(subject, None, Wants::State, rings, counters, refused);
    }

    /// DISTINCT and COMMAND: sends what there is as a snapshot, to one shard or to all that listen, as far as there is
    /// room now.
    pub fn send_snapshot(
        &mut self,
        subject: &mut Subject,
        to: Option<ShardId>,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        let now = subject.seq;
        for index in 0..subject.listeners.0.len() {
            let listener = &mut subject.listeners.0[index];
            if !listener.state || to.is_some_and(|to| to != listener.shard) {
                continue;
            }
            let queued = listener.debt.is_some();
            listener.debt.get_or_insert_default().owe_snapshot(now);
            let shard = listener.shard;
            match (debt::settle(self, subject, index, rings, counters), queued) {
                (true, true) => self.unqueue(shard, subject.item),
                (false, false) => self.owed[usize::from(shard.0)].push_back(subject.item),
                _ => {}
            }
        }
    }

    /// Notes a debt with every shard that looks at the item in its mode, to be settled by the next flush.
    pub fn owe(&mut self, subject: &mut Subject, note: impl Fn(&mut Debt)) {
        for listener in subject.listeners.0.iter_mut().filter(|l| l.state) {
            if listener.debt.is_none() {
                self.owed[usize::from(listener.shard.0)].push_back(subject.item);
            }
            note(listener.debt.get_or_insert_default());
        }
    }

    /// Whether any shard is owed anything.
    pub fn owes(&self) -> bool {
        self.owed.iter().any(|items| !items.is_empty())
    }

    /// A shard does not want an item any more. Were it left in the queue, one that comes and goes while the ring is full
    /// would be there many times.
    pub fn forget(&mut self, shard: ShardId, subject: &mut Subject) {
        let index = subject.listeners.0.iter().position(|l| l.shard == shard);
        if index.is_some_and(|index| subject.listeners.0.remove(index).debt.is_some()) {
            self.unqueue(shard, subject.item);
        }
    }

    /// A debt is settled before its turn. Were it left in the queue, an item whose ring is full now and then would be there
    /// many times.
    pub(super) fn unqueue(&mut self, shard: ShardId, item: ItemId) {
        self.owed[usize::from(shard.0)].retain(|owed| *owed != item);
    }

    /// The most items that any shard is owed.
    pub fn owed_max(&self) -> usize {
        self.owed.iter().map(VecDeque::len).max().unwrap_or(0)
    }

    /// The items that a shard is owed, oldest first; the caller answers each with [`Fanout::retry`].
    pub fn next_owed(&mut self, shard: ShardId) -> Option<ItemId> {
        self.owed[usize::from(shard.0)].front().copied()
    }

    /// Tries again to send what a shard is owed of an item, which may be gone. False if there still is no room.
    pub fn retry(
        &mut self,
        shard: ShardId,
        subject: Option<&mut Subject>,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) -> bool {
        if let Some(subject) = subject {
            let index = subject.listeners.0.iter().position(|l| l.shard == shard);
            if let Some(index) = index
                && !debt::settle(self, subject, index, rings, counters)
            {
                return false;
            }
        }
        self.owed[usize::from(shard.0)].pop_front();
        true
    }

    /// Copies the record in `scratch` to the listeners; `refused` notes what one gets later whose ring is full.
    #[inline]
    fn copy(
        &mut self,
        subject: &mut Subject,
        to: Option<ShardId>,
        wants: Wants,
        rings: &mut impl Rings,
        counters: &mut Counters,
        refused: impl Fn(&mut Debt),
    ) {
        let Subject {
            item,
            state,
            listeners,
            ..
        } = subject;
        let names = state.names();
        let meant = |listener: &&mut Listener| {
            to.is_none_or(|to| to == listener.shard)
                && match wants {
                    Wants::State => listener.state,
                    Wants::Raw => listener.raw,
                }
        };
        for listener in listeners.0.iter_mut().filter(meant) {
            if let Some(debt) = &mut listener.debt {
                refused(debt);
                continue;
            }
            if !write(
                &mut self.scratch,
                &mut self.names,
                names,
                listener,
                rings,
                counters,
            ) {
                counters.count(Counter::RingFull);
                refused(listener.debt.get_or_insert_default());
                self.owed[usize::from(listener.shard.0)].push_back(*item);
            }
        }
    }
}

/// Which of the listeners are meant.
#[derive(Clone, Copy)]
enum Wants {
    State,
    Raw,
}

fn is_key(state: &State, number: u16) -> bool {
    matches!(state, State::Command(state) if state.key_at() == number)
}

/// Makes the record of a whole MERGE state.
pub(super) fn encode_state(
    scratch: &mut Vec<u8>,
    kind: Kind,
    state: &MergeState,
    seq: u64,
    stamp: Instant,
) {
    let mut writer = record::Writer::start(scratch, kind, seq, stamp);
    for field in 0..state.names().len() {
        let number = u16::try_from(field).expect("fields are bounded");
        writer.value(number, state.value(field));
    }
    writer.finish();
}

/// Keeps the record just encoded as an event of a DISTINCT item.
pub(super) fn store(record: &[u8], seq: u64) -> StoredEvent {
    StoredEvent {
        seq,
        record: record.into(),
    }
}

/// Writes a record, behind the names of fields that are new to the shard. All or nothing.
#[inline]
pub(super) fn write(
    record: &mut [u8],
    names_record: &mut Vec<u8>,
    names: &FieldNames,
    listener: &mut Listener,
    rings: &mut impl Rings,
    counters: &mut Counters,
) -> bool {
    let known = usize::from(listener.names_sent);
    let new_names = known < names.len();
    if new_names {
        let mut writer = record::Writer::start(names_record, Kind::Fields, 0, Instant::ZERO);
        (known..names.len())
            .for_each(|field| writer.name(names.name(field), names.differences(field)));
        writer.finish();
        record::address(names_record, listener.local, listener.epoch);
    }
    let names_bytes = if new_names { names_record.len() } else { 0 };
    if rings.room(listener.shard) < names_bytes + record.len() {
        return false;
    }
    if new_names {
        rings.write(listener.shard, names_record);
        listener.names_sent = u16::try_from(names.len()).expect("fields are bounded");
        counters.count(Counter::Records);
    }
    record::address(record, listener.local, listener.epoch);
    rings.write(listener.shard, record);
    counters.count(Counter::Records);
    true
}
