//! The ingest half: the single writer of item state.
//!
//! Adapter events and the demands of shards go in; records for the shards' rings and requests to the data adapters
//! come out. Because one writer does everything and each ring is FIFO, a snapshot needs no lock and no handshake: it
//! is written into the ring between two events, and the next update stands behind it (see [`Ingest::on_demand`]).

mod claims;
mod debt;
pub mod demand;
pub mod event;
mod events;
pub mod fanout;
mod gauges;
mod held;
mod prefilter;
pub mod record;

use crate::counters::{Counter, Counters};
use crate::ids::{DataAdapterId, ItemId, ShardId};
use crate::item::command::CommandState;
use crate::item::distinct::History;
use crate::item::merge::MergeState;
use crate::item::safe::TradeSafe;
use crate::item::state::{DistinctState, State};
use crate::item::{ItemName, ItemNameRef};
use crate::limits::Limits;
use crate::metadata::{Answer, Granted};
use crate::time::{Duration, Instant};
use crate::tlcp::request::Mode;
use claims::Claims;
use demand::{Demand, Linger};
use fanout::{Fanout, Listeners, Rings, Subject};
use hashbrown::HashMap;
use prefilter::{Held, Prefilter};
use record::Kind;
use std::collections::VecDeque;

/// What ingest wants of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngestEffect {
    /// Ask the data adapter for the item. The driver tells by [`Ingest::on_subscribed`] whether a snapshot will come, or
    /// the adapter does by [`event::AdapterEvent::Subscribed`].
    Subscribe {
        /// The adapter.
        adapter: DataAdapterId,
        /// The item's number in the adapter's events from now on.
        item: ItemId,
        /// The item's name.
        name: Box<str>,
    },
    /// Tell the data adapter that the item is wanted no more.
    Unsubscribe {
        /// The adapter.
        adapter: DataAdapterId,
        /// The item.
        item: ItemId,
    },
    /// From now on everybody looks at the item in MERGE mode, and none of its events is trade-safe, so that an adapter which
    /// is faster than ingest may merge the item's events itself; or no longer. Until this is said it may not.
    Merging {
        /// The adapter.
        adapter: DataAdapterId,
        /// The item.
        item: ItemId,
        /// Whether events may be merged.
        allowed: bool,
    },
}

/// The item table and all that hangs on it.
#[derive(Debug)]
pub struct Ingest {
    limits: Limits,
    items: Vec<Slot>,
    free: VecDeque<u32>,
    by_name: HashMap<ItemName, ItemId, foldhash::fast::RandomState>,
    /// Per shard, which item stands at which of the shard's indices.
    wanted: Vec<Vec<Option<ItemId>>>,
    claims: Claims,
    linger: Linger,
    fanout: Fanout,
    /// Items whose prefilter holds an event.
    held: Held,
    /// Numbers of the fields of the event at hand.
    numbers: Vec<(u16, u16)>,
    effects: VecDeque<IngestEffect>,
    counters: Counters,
}

#[derive(Debug)]
struct Slot {
    generation: u8,
    item: Option<Item>,
}

#[derive(Debug)]
struct Item {
    name: ItemName,
    /// `None` while everybody looks at it in RAW mode.
    mode: Option<Mode>,
    subject: Subject,
    snapshot: SnapshotPhase,
    prefilter: Option<Box<Prefilter>>,
    /// What the adapter was last told by [`IngestEffect::Merging`].
    merging: bool,
    /// Which of its events may not be merged; `None` if all may.
    safe: Option<Box<TradeSafe>>,
    lingers_until: Option<Instant>,
}

/// How far an item's snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SnapshotPhase {
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
    /// For `shards` shards; items that nobody wants are kept for `linger`.
    pub fn new(shards: usize, linger: Duration, limits: Limits) -> Self {
        Self {
            limits,
            items: Vec::new(),
            free: VecDeque::new(),
            by_name: HashMap::default(),
            wanted: vec![Vec::new(); shards],
            claims: Claims::default(),
            linger: Linger::new(linger),
            fanout: Fanout::new(shards),
            held: Held::default(),
            numbers: Vec::new(),
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A shard wants an item, or wants it no more.
    ///
    /// A live item's snapshot is written before the shard is listed as a listener, in the same step: no update can
    /// come between, since nobody else writes.
    pub fn on_demand(
        &mut self,
        shard: ShardId,
        demand: Demand,
        now: Instant,
        rings: &mut impl Rings,
    ) {
        match demand {
            Demand::Want {
                local,
                epoch,
                adapter,
                name,
                mode,
                snapshot_length,
                source_frequency_max,
                trade_safe,
            } => {
                let name = ItemNameRef {
                    adapter,
                    name: &name,
                };
                let Some(id) = self.find_or_open(name, mode) else {
                    self.counters.count(Counter::ItemsRefused);
                    return; // the subscription stays without data, as one that its adapter refuses
                };
                let wanted = &mut self.wanted[usize::from(shard.0)];
                if wanted.len() <= local as usize {
                    wanted.resize(local as usize + 1, None);
                }
                wanted[local as usize] = Some(id);
                let item = item_mut(&mut self.items, id).expect("just found or opened");
                item.lingers_until = None;
                if mode != Mode::Raw {
                    item.set_mode(mode, snapshot_length, &self.limits);
                    if matches!(mode, Mode::Merge | Mode::Distinct) {
                        Prefilter::set(&mut item.prefilter, source_frequency_max);
                    }
                    if !trade_safe.is_nothing() {
                        let safe = item.safe.get_or_insert_default();
                        **safe = trade_safe.and(safe);
                    }
                }
                let raw = mode == Mode::Raw;
                if item.subject.listeners.add(shard, local, epoch, raw) && !raw {
                    self.send_snapshot(id, Some(shard), rings);
                }
                self.tell_merging(id);
            }
            Demand::Settled { claim } => self.claims.settle(claim),
            Demand::Drop { local, .. } => self.on_drop(shard, local, now),
        }
    }

    /// Tells the shard that a metadata adapter answers in which mode each item is looked at already, on whatever shard:
    /// an item is MERGE, DISTINCT or COMMAND to all who look at it. If no other mode is in the way, the items are claimed
    /// to the one that was asked for, until the shard says [`Demand::Settled`]. An answer that the shard has no use for in
    /// the end keeps others away for as long, which is less than they would have to wait for a refusal.
    pub fn claim(&mut self, answer: &mut Answer) {
        let Ok(Granted::Subscription {
            data_adapter,
            items,
            mode,
            claim,
            ..
        }) = &mut answer.result
        else {
            return;
        };
        if *mode == Mode::Raw || *data_adapter == DataAdapterId::STATUS {
            return;
        }
        let mut free = !items.is_empty();
        for granted in &mut *items {
            let name = ItemNameRef {
                adapter: *data_adapter,
                name: &granted.name,
            };
            let known = self
                .by_name
                .get(&name)
                .and_then(|id| item(&self.items, *id));
            granted.looked_at = known
                .filter(|item| item.subject.listeners.any_state())
                .and_then(|item| item.mode)
                .or_else(|| self.claims.mode(&name));
            free &= granted.looked_at.is_none_or(|known| known == *mode);
        }
        *claim = free.then(|| {
            let names = items.iter().map(|granted| ItemName {
                adapter: *data_adapter,
                name: granted.name.clone(),
            });
            self.claims.make(names.collect(), *mode)
        });
    }

    /// The item with this name, in a state in which it can be looked at in this mode. `None` if there cannot be another
    /// item, or if it is looked at in another mode, which claims prevent.
    fn find_or_open(&mut self, name: ItemNameRef<'_>, mode: Mode) -> Option<ItemId> {
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

    /// Sends what there is, if it may be shown, to one shard or to all.
    fn send_snapshot(&mut self, id: ItemId, to: Option<ShardId>, rings: &mut impl Rings) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        let (fanout, counters) = (&mut self.fanout, &mut self.counters);
        let phase = item.snapshot;
        match item.subject.state {
            State::Merge(_) => {
                let something = phase == SnapshotPhase::None && item.subject.seq > 0;
                if phase == SnapshotPhase::Complete || something {
                    fanout.send_state(&mut item.subject, Kind::Snapshot, to, rings, counters);
                }
            }
            State::Distinct(_) | State::Command(_) => {
                if matches!(phase, SnapshotPhase::Complete | SnapshotPhase::None) {
                    fanout.send_snapshot(&mut item.subject, to, rings, counters);
                }
            }
        }
    }

    fn on_drop(&mut self, shard: ShardId, local: u32, now: Instant) {
        let Some(id) = self.wanted[usize::from(shard.0)]
            .get_mut(local as usize)
            .and_then(Option::take)
        else {
            return; // an item that was refused
        };
        let item = item_mut(&mut self.items, id).expect("wanted items are alive");
        self.fanout.forget(shard, &mut item.subject);
        if item.subject.listeners.is_empty() {
            item.lingers_until = Some(self.linger.start(id, now));
        }
        self.tell_merging(id);
    }

    /// Tells the adapter whether it may merge the item's events, if that has changed.
    fn tell_merging(&mut self, id: ItemId) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        let allowed = item.mode == Some(Mode::Merge)
            && item.safe.is_none()
            && !item.subject.listeners.any_raw();
        if allowed != item.merging {
            item.merging = allowed;
            self.effects.push_back(IngestEffect::Merging {
                adapter: item.name.adapter,
                item: id,
                allowed,
            });
        }
    }

    /// The data adapter has been asked for the item, and says whether it will send a snapshot.
    pub fn on_subscribed(&mut self, item: ItemId, snapshot_available: bool) {
        if let Some(item) = item_mut(&mut self.items, item)
            && item.snapshot == SnapshotPhase::Unknown
        {
            if snapshot_available {
                item.snapshot = SnapshotPhase::Awaited;
            } else {
                item.snapshot = SnapshotPhase::None;
                if !matches!(item.subject.state, State::Merge(_)) {
                    // Clients wait for the end of a snapshot that will not come: the next flush tells them.
                    let now = item.subject.seq;
                    let subject = &mut item.subject;
                    self.fanout.owe(subject, |debt| debt.owe_snapshot(now));
                }
            }
        }
    }

    /// Time has passed.
    pub fn on_timers(&mut self, now: Instant) {
        while let Some((until, id)) = self.linger.expired(now) {
            if item_mut(&mut self.items, id).is_some_and(|item| item.lingers_until == Some(until)) {
                self.close(id);
            }
        }
        while let Some(id) = self.held.released(now) {
            self.release(id, now);
        }
    }

    /// When [`Ingest::on_timers`] has something to do. What it then wants to send is sent by [`Ingest::flush`].
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.linger.next_deadline(), self.held.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sends what rings had no room for, as far as there is room now. To be called once per turn.
    pub fn flush(&mut self, rings: &mut impl Rings) {
        for shard in
            (0..self.wanted.len()).map(|n| ShardId(u16::try_from(n).expect("shards are few")))
        {
            while let Some(id) = self.fanout.next_owed(shard) {
                let subject = item_mut(&mut self.items, id).map(|item| &mut item.subject);
                if !self.fanout.retry(shard, subject, rings, &mut self.counters) {
                    break;
                }
            }
        }
    }

    /// Whether [`Ingest::flush`] has something to send as soon as there is room.
    pub fn owes(&self) -> bool {
        self.fanout.owes()
    }

    /// What the driver has to do next.
    pub fn poll_effect(&mut self) -> Option<IngestEffect> {
        self.effects.pop_front()
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of items kept now.
    pub fn items(&self) -> usize {
        self.by_name.len()
    }

    fn open(&mut self, name: ItemNameRef<'_>) -> Option<ItemId> {
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

    fn close(&mut self, id: ItemId) {
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
    fn set_mode(&mut self, mode: Mode, snapshot_length: u32, limits: &Limits) {
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
fn item(items: &[Slot], id: ItemId) -> Option<&Item> {
    let (slot, generation) = parts(id);
    items
        .get(slot)
        .filter(|entry| entry.generation == generation)?
        .item
        .as_ref()
}

/// The same, to be changed.
fn item_mut(items: &mut [Slot], id: ItemId) -> Option<&mut Item> {
    let (slot, generation) = parts(id);
    items
        .get_mut(slot)
        .filter(|entry| entry.generation == generation)?
        .item
        .as_mut()
}

#[cfg(test)]
mod tests {
    use super::event::AdapterEvent;
    use super::*;

    /// The data rings of two shards, which are read at once.
    struct Wide;

    impl Rings for Wide {
        fn room(&self, _: ShardId) -> usize {
            usize::MAX
        }
        fn write(&mut self, _: ShardId, _: &[u8]) {}
    }

    fn want(mode: Mode) -> Demand {
        Demand::Want {
            local: 0,
            epoch: 0,
            adapter: DataAdapterId(0),
            name: "item".into(),
            mode,
            snapshot_length: 0,
            source_frequency_max: None,
            trade_safe: TradeSafe::Nothing,
        }
    }

    /// What the adapter is told about merging.
    fn merging(ingest: &mut Ingest) -> Vec<bool> {
        let mut told = Vec::new();
        while let Some(effect) = ingest.poll_effect() {
            if let IngestEffect::Merging { allowed, .. } = effect {
                told.push(allowed);
            }
        }
        told
    }

    #[test]
    fn an_adapter_may_merge_while_all_look_in_merge_mode() {
        let now = Instant::ZERO;
        let mut ingest = Ingest::new(2, Duration::from_secs(5), Limits::DEFAULT);
        ingest.on_demand(ShardId(0), want(Mode::Raw), now, &mut Wide);
        assert_eq!(
            merging(&mut ingest),
            [] as [bool; 0],
            "not before it is told"
        );
        ingest.on_demand(ShardId(1), want(Mode::Merge), now, &mut Wide);
        assert_eq!(
            merging(&mut ingest),
            [] as [bool; 0],
            "one looks in RAW mode"
        );
        let drop = Demand::Drop { local: 0, epoch: 0 };
        ingest.on_demand(ShardId(0), drop, now, &mut Wide);
        assert_eq!(merging(&mut ingest), [true]);
        ingest.on_demand(ShardId(0), want(Mode::Raw), now, &mut Wide);
        assert_eq!(merging(&mut ingest), [false]);
    }

    #[test]
    fn events_in_the_other_modes_may_not_be_merged() {
        for mode in [Mode::Raw, Mode::Distinct, Mode::Command] {
            let mut ingest = Ingest::new(1, Duration::from_secs(5), Limits::DEFAULT);
            ingest.on_demand(ShardId(0), want(mode), Instant::ZERO, &mut Wide);
            assert_eq!(merging(&mut ingest), [] as [bool; 0]);
        }
    }

    #[test]
    fn trade_safe_events_may_not_be_merged() {
        let mut ingest = Ingest::new(1, Duration::from_secs(5), Limits::DEFAULT);
        let mut demand = want(Mode::Merge);
        if let Demand::Want { trade_safe, .. } = &mut demand {
            *trade_safe = TradeSafe::Fields(["last".into()].into());
        }
        ingest.on_demand(ShardId(0), demand, Instant::ZERO, &mut Wide);
        assert_eq!(merging(&mut ingest), [] as [bool; 0]);
    }

    #[test]
    fn an_adapter_may_say_itself_whether_a_snapshot_comes() {
        for (snapshot_available, phase) in
            [(true, SnapshotPhase::Awaited), (false, SnapshotPhase::None)]
        {
            let mut ingest = Ingest::new(1, Duration::from_secs(5), Limits::DEFAULT);
            ingest.on_demand(ShardId(0), want(Mode::Merge), Instant::ZERO, &mut Wide);
            let Some(IngestEffect::Subscribe { item, .. }) = ingest.poll_effect() else {
                panic!("nobody is asked");
            };
            let event = AdapterEvent::Subscribed {
                item,
                snapshot_available,
            };
            ingest.on_adapter(event, Instant::ZERO, &mut Wide);
            let item = item_mut(&mut ingest.items, item).unwrap();
            assert_eq!(item.snapshot, phase);
        }
    }
}
