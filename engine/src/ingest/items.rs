//! The items that ingest keeps: each has a number with a generation, by which an earlier tenant of its place is told from it.

use super::fanout::{Listeners, Subject};
use super::prefilter::Prefilter;
use super::{Ingest, IngestEffect};
use crate::counters::Counter;
use crate::ids::ItemId;
use crate::item::command::CommandState;
use crate::item::distinct::History;
use crate::item::merge::MergeState;
use crate::item::safe::TradeSafe;
use crate::item::state::{DistinctState, State};
use crate::item::{ItemName, ItemNameRef};
use crate::limits::Limits;
use crate::time::Instant;
use crate::tlcp::request::Mode;

#[derive(Debug)]
pub(super) struct Slot {
    pub generation: u8,
    pub item: Option<Item>,
}

#[derive(Debug)]
pub(super) struct Item {
    pub name: ItemName,
    /// `None` while everybody looks at it in RAW mode.
    pub mode: Option<Mode>,
    pub subject: Subject,
    pub snapshot: SnapshotPhase,
    pub prefilter: Option<Box<Prefilter>>,
    /// What the adapter was last told by [`IngestEffect::Merging`](super::IngestEffect::Merging).
    pub merging: bool,
    /// Which of its events may not be merged; `None` if all may.
    pub safe: Option<Box<TradeSafe>>,
    pub lingers_until: Option<Instant>,
}

/// How far an item's snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotPhase {
    /// The adapter has been asked for the item and has not said whether a snapshot comes.
    Unknown,
    /// A snapshot comes, and nobody is told anything before.
    Awaited,
    /// The state is what a snapshot must show, even if it is empty.
    Complete,
    /// The adapter has no snapshot: what has been seen so far serves as one, once there is something.
    None,
}

impl Ingest {
    /// The item with this name, in a state in which it can be looked at in this mode. `None` if there cannot be another
    /// item, or if it is looked at in another mode, which claims prevent.
    pub(super) fn find_or_open(&mut self, name: ItemNameRef<'_>, mode: Mode) -> Option<ItemId> {
        let Some(&id) = self.by_name.get(&name) else {
            return self.open(name);
        };
        let item = item_mut(&mut self.items, id).expect("named items are alive");
        if mode == Mode::Raw || item.mode.is_none_or(|known| known == mode) {
            return Some(id);
        }
        if item.subject.listeners.is_empty() {
            // Nobody looks, it only lingers. The adapter is asked again, and makes a snapshot for the new mode.
            self.close(id);
            return self.open(name);
        }
        (!item.subject.listeners.any_state()).then_some(id)
    }

    pub(super) fn open(&mut self, name: ItemNameRef<'_>) -> Option<ItemId> {
        if self.by_name.len() >= self.limits.items_max {
            return None;
        }
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.items.push(Slot {
                generation: 0,
                item: None,
            });
            u32::try_from(self.items.len() - 1).expect("items_max fits")
        });
        let entry = &mut self.items[slot as usize];
        let id = number(slot, entry.generation);
        entry.item = Some(Item {
            name: name.to_owned(),
            mode: None,
            prefilter: None,
            safe: None,
            subject: Subject {
                item: id,
                state: State::default(),
                seq: 0,
                stamp: Instant::ZERO,
                listeners: Listeners::default(),
            },
            snapshot: SnapshotPhase::Unknown,
            merging: false,
            lingers_until: None,
        });
        self.by_name.insert(name.to_owned(), id);
        self.counters.count(Counter::ItemsOpened);
        self.effects.push_back(IngestEffect::Subscribe {
            adapter: name.adapter,
            item: id,
            name: name.name.into(),
        });
        Some(id)
    }

    pub(super) fn close(&mut self, id: ItemId) {
        let (slot, _) = parts(id);
        let entry = &mut self.items[slot];
        let item = entry.item.take().expect("only live items linger");
        if let Some(prefilter) = item.prefilter {
            self.held.forget(&prefilter, id);
        }
        entry.generation = entry.generation.wrapping_add(1);
        self.by_name.remove(&item.name.as_ref());
        // The oldest free slot is used next, so that a number is long forgotten when it comes back.
        self.free
            .push_back(u32::try_from(slot).expect("items_max fits"));
        self.counters.count(Counter::ItemsClosed);
        self.effects.push_back(IngestEffect::Unsubscribe {
            adapter: item.name.adapter,
            item: id,
        });
    }
}

impl Item {
    /// The item is looked at in this mode from now on. What was gathered while it was looked at in RAW mode only serves
    /// MERGE; the other modes start empty.
    pub(super) fn set_mode(&mut self, mode: Mode, snapshot_length: u32, limits: &Limits) {
        // One event is kept at least: what a shard that is behind must get in the end.
        let length = (snapshot_length as usize).clamp(1, limits.snapshot_len_max);
        if self.mode != Some(mode) {
            let state = std::mem::take(&mut self.subject.state);
            self.subject.state = match (mode, state) {
                (Mode::Merge, State::Merge(state)) => State::Merge(state),
                (Mode::Merge | Mode::Raw, state) => {
                    State::Merge(MergeState::with_names(state.into_names()))
                }
                (Mode::Distinct, state) => State::Distinct(DistinctState {
                    names: state.into_names(),
                    history: History::new(length, limits.rows_bytes_max),
                }),
                (Mode::Command, state) => State::Command(Box::new(CommandState::new(
                    state.into_names(),
                    limits.fields_per_item_max,
                ))),
            };
            self.mode = Some(mode);
            if mode == Mode::Merge
                && self.snapshot == SnapshotPhase::Awaited
                && self.subject.seq > 0
            {
                self.snapshot = SnapshotPhase::Complete; // its one snapshot event has been seen
            }
        }
        if let State::Distinct(state) = &mut self.subject.state {
            state.history.widen(length);
        }
    }
}

const GENERATION_BITS: u32 = 8;

fn number(slot: u32, generation: u8) -> ItemId {
    ItemId(slot << GENERATION_BITS | u32::from(generation))
}

fn parts(id: ItemId) -> (usize, u8) {
    let [generation, ..] = id.0.to_le_bytes();
    ((id.0 >> GENERATION_BITS) as usize, generation)
}

/// A live item by its number; `None` if the number is of an earlier tenant.
pub(super) fn item(items: &[Slot], id: ItemId) -> Option<&Item> {
    let (slot, generation) = parts(id);
    items
        .get(slot)
        .filter(|entry| entry.generation == generation)?
        .item
        .as_ref()
}

/// The same, to be changed.
pub(super) fn item_mut(items: &mut [Slot], id: ItemId) -> Option<&mut Item> {
    let (slot, generation) = parts(id);
    items
        .get_mut(slot)
        .filter(|entry| entry.generation == generation)?
        .item
        .as_mut()
}
