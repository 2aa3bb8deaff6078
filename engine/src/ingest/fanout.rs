//! From an item's state to the shards that want it: conflation 2 of the data path.
//!
//! Each record is encoded once and copied into the ring of every shard that listens. A ring that has no room costs
//! nobody anything: the item is marked for that shard, later events of the item only change the state, and when there
//! is room again the state is sent as it is then. For MERGE every row is a complete state, so what was skipped is
//! not missed. On a healthy machine this never happens, and a counter says so.

use super::record::{self, Kind};
use crate::counters::{Counter, Counters};
use crate::ids::{ItemId, ShardId};
use crate::item::merge::MergeState;
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
    pub state: MergeState,
    /// Number of its events so far.
    pub seq: u64,
    /// When the last of them came.
    pub stamp: Instant,
    /// Who wants it.
    pub listeners: Listeners,
}

/// A shard that wants an item.
#[derive(Debug)]
struct Listener {
    shard: ShardId,
    local: u32,
    epoch: u32,
    /// How many of the item's field names this shard knows.
    names_sent: u16,
    /// What the shard is owed because its ring was full.
    owed: Option<Kind>,
}

/// The shards that want one item.
#[derive(Debug, Default)]
pub struct Listeners(SmallVec<[Listener; 2]>);

/// Writes records, and remembers which items could not be written to which shard.
#[derive(Debug, Default)]
pub struct Fanout {
    scratch: Vec<u8>,
    names: Vec<u8>,
    /// Per shard, items that are marked in their listener; each at most once.
    owed: Vec<VecDeque<ItemId>>,
}

impl Listeners {
    /// A shard wants the item from now on.
    pub fn add(&mut self, shard: ShardId, local: u32, epoch: u32) {
        debug_assert!(
            !self.0.iter().any(|l| l.shard == shard),
            "a shard wants an item once"
        );
        self.0.push(Listener {
            shard,
            local,
            epoch,
            names_sent: 0,
            owed: None,
        });
    }

    /// A shard wants the item no more.
    pub fn remove(&mut self, shard: ShardId) {
        self.0.retain(|l| l.shard != shard);
    }

    /// What a shard is owed because its ring was full.
    fn owed_to(&self, shard: ShardId) -> Option<Kind> {
        self.0.iter().find(|l| l.shard == shard)?.owed
    }

    /// Whether no shard wants the item.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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

    /// Sends the item's whole state, to one shard or to all that listen.
    pub fn send_state(
        &mut self,
        subject: &mut Subject,
        kind: Kind,
        to: Option<ShardId>,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        encode_state(&mut self.scratch, kind, subject);
        self.copy(subject, kind, to, rings, counters);
    }

    /// Sends what the last event changed to every shard that listens.
    pub fn send_changes(
        &mut self,
        subject: &mut Subject,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        let Subject {
            state, seq, stamp, ..
        } = subject;
        let mut writer = record::Writer::start(&mut self.scratch, Kind::Update, *seq, *stamp);
        for &field in state.changed() {
            writer.value(field, state.value(usize::from(field)));
        }
        writer.finish();
        self.copy(subject, Kind::State, None, rings, counters);
    }

    /// Whether any shard is owed anything.
    pub fn owes(&self) -> bool {
        self.owed.iter().any(|items| !items.is_empty())
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
        if let Some(subject) = subject
            && let Some(kind) = subject.listeners.owed_to(shard)
        {
            encode_state(&mut self.scratch, kind, subject);
            let listener = subject.listeners.0.iter_mut().find(|l| l.shard == shard);
            let listener = listener.expect("it is owed something");
            let (scratch, names) = (&mut self.scratch, &mut self.names);
            if !write(scratch, names, &subject.state, listener, rings, counters) {
                return false;
            }
            listener.owed = None;
        }
        self.owed[usize::from(shard.0)].pop_front();
        true
    }

    /// Copies the record in `scratch` to the listeners; `else_owed` is what one gets later whose ring is full.
    fn copy(
        &mut self,
        subject: &mut Subject,
        else_owed: Kind,
        to: Option<ShardId>,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        let Subject {
            item,
            state,
            listeners,
            ..
        } = subject;
        let meant = |listener: &&mut Listener| to.is_none_or(|to| to == listener.shard);
        for listener in listeners.0.iter_mut().filter(meant) {
            if let Some(owed) = &mut listener.owed {
                // It will get the state as it then is: as an event if one is among what was skipped.
                if else_owed == Kind::State {
                    *owed = Kind::State;
                }
                continue;
            }
            let (scratch, names) = (&mut self.scratch, &mut self.names);
            if !write(scratch, names, state, listener, rings, counters) {
                counters.count(Counter::RingFull);
                listener.owed = Some(else_owed);
                self.owed[usize::from(listener.shard.0)].push_back(*item);
            }
        }
    }
}

fn encode_state(scratch: &mut Vec<u8>, kind: Kind, subject: &Subject) {
    let state = &subject.state;
    let mut writer = record::Writer::start(scratch, kind, subject.seq, subject.stamp);
    for field in 0..state.len() {
        let number = u16::try_from(field).expect("fields are bounded");
        writer.value(number, state.value(field));
    }
    writer.finish();
}

/// Writes a record, behind the names of fields that are new to the shard. All or nothing.
fn write(
    record: &mut [u8],
    names: &mut Vec<u8>,
    state: &MergeState,
    listener: &mut Listener,
    rings: &mut impl Rings,
    counters: &mut Counters,
) -> bool {
    let known = usize::from(listener.names_sent);
    let new_names = known < state.len();
    if new_names {
        let mut writer = record::Writer::start(names, Kind::Fields, 0, Instant::ZERO);
        (known..state.len()).for_each(|field| writer.name(state.name(field)));
        writer.finish();
        record::address(names, listener.local, listener.epoch);
    }
    let names_bytes = if new_names { names.len() } else { 0 };
    if rings.room(listener.shard) < names_bytes + record.len() {
        return false;
    }
    if new_names {
        rings.write(listener.shard, names);
        listener.names_sent = u16::try_from(state.len()).expect("fields are bounded");
        counters.count(Counter::Records);
    }
    record::address(record, listener.local, listener.epoch);
    rings.write(listener.shard, record);
    counters.count(Counter::Records);
    true
}
