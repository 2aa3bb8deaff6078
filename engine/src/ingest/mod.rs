//! The ingest half: the single writer of item state.
//!
//! Adapter events and the demands of shards go in; records for the shards' rings and requests to the data adapters
//! come out. Because one writer does everything and each ring is FIFO, a snapshot needs no lock and no handshake: it
//! is written into the ring between two events, and the next update stands behind it (see [`Ingest::on_demand`]).

pub mod demand;
pub mod event;
pub mod fanout;
pub mod record;

use crate::counters::{Counter, Counters};
use crate::ids::{DataAdapterId, ItemId, ShardId};
use crate::item::merge::MergeState;
use crate::item::{ItemName, ItemNameRef};
use crate::limits::Limits;
use crate::time::{Duration, Instant};
use demand::{Demand, Linger};
use event::AdapterEvent;
use fanout::{Fanout, Listeners, Rings, Subject};
use hashbrown::HashMap;
use record::Kind;
use std::collections::VecDeque;

/// What ingest wants of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngestEffect {
    /// Ask the data adapter for the item. The driver tells by [`Ingest::on_subscribed`] whether a snapshot will come.
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
    linger: Linger,
    fanout: Fanout,
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
    subject: Subject,
    snapshot: SnapshotPhase,
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
            linger: Linger::new(linger),
            fanout: Fanout::new(shards),
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
            } => self.on_want(
                shard,
                local,
                epoch,
                ItemNameRef {
                    adapter,
                    name: &name,
                },
                rings,
            ),
            Demand::Drop { local, .. } => self.on_drop(shard, local, now),
        }
    }

    fn on_want(
        &mut self,
        shard: ShardId,
        local: u32,
        epoch: u32,
        name: ItemNameRef<'_>,
        rings: &mut impl Rings,
    ) {
        let Some(id) = self.by_name.get(&name).copied().or_else(|| self.open(name)) else {
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
        item.subject.listeners.add(shard, local, epoch);
        let ready = match item.snapshot {
            SnapshotPhase::Complete => true,
            SnapshotPhase::None => item.subject.seq > 0,
            SnapshotPhase::Unknown | SnapshotPhase::Awaited => false,
        };
        if ready {
            self.fanout.send_state(
                &mut item.subject,
                Kind::Snapshot,
                Some(shard),
                rings,
                &mut self.counters,
            );
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
        item.subject.listeners.remove(shard);
        if item.subject.listeners.is_empty() {
            item.lingers_until = Some(self.linger.start(id, now));
        }
    }

    /// The data adapter has been asked for the item, and says whether it will send a snapshot.
    pub fn on_subscribed(&mut self, item: ItemId, snapshot_available: bool) {
        if let Some(item) = item_mut(&mut self.items, item)
            && item.snapshot == SnapshotPhase::Unknown
        {
            item.snapshot = if snapshot_available {
                SnapshotPhase::Awaited
            } else {
                SnapshotPhase::None
            };
        }
    }

    /// A data adapter says something.
    #[inline]
    pub fn on_adapter(&mut self, event: AdapterEvent<'_>, now: Instant, rings: &mut impl Rings) {
        let (AdapterEvent::Update { item: id, .. }
        | AdapterEvent::EndOfSnapshot { item: id }
        | AdapterEvent::ClearSnapshot { item: id }) = event;
        self.counters.count(Counter::AdapterEvents);
        let Some(item) = item_mut(&mut self.items, id) else {
            self.counters.count(Counter::AdapterEventsStale);
            return;
        };
        let live = matches!(
            event,
            AdapterEvent::Update {
                snapshot: false,
                ..
            }
        );
        if live && item.snapshot == SnapshotPhase::Unknown {
            // It speaks before it said whether a snapshot comes: from now on there is something to show.
            item.snapshot = SnapshotPhase::None;
        }
        let completes = matches!(
            item.snapshot,
            SnapshotPhase::Awaited | SnapshotPhase::Unknown
        );
        match event {
            AdapterEvent::Update {
                snapshot, fields, ..
            } => {
                if completes && !snapshot {
                    // Live events without a snapshot: the snapshot is empty, and comes first.
                    item.snapshot = SnapshotPhase::Complete;
                    self.fanout.send_state(
                        &mut item.subject,
                        Kind::Snapshot,
                        None,
                        rings,
                        &mut self.counters,
                    );
                }
                let fits = fields
                    .iter()
                    .all(|(name, _)| name.len() <= self.limits.field_name_bytes_max);
                if !fits
                    || item
                        .subject
                        .state
                        .merge(
                            fields,
                            self.limits.fields_per_item_max,
                            self.limits.item_bytes_max,
                        )
                        .is_err()
                {
                    self.counters.count(Counter::AdapterEventsTooLarge);
                    return;
                }
                item.subject.seq += 1;
                item.subject.stamp = now;
                if completes && snapshot {
                    // MERGE has one snapshot event at most, so the first one completes it.
                    item.snapshot = SnapshotPhase::Complete;
                    self.fanout.send_state(
                        &mut item.subject,
                        Kind::Snapshot,
                        None,
                        rings,
                        &mut self.counters,
                    );
                } else {
                    self.fanout
                        .send_changes(&mut item.subject, rings, &mut self.counters);
                }
            }
            AdapterEvent::EndOfSnapshot { .. } if completes => {
                item.snapshot = SnapshotPhase::Complete;
                self.fanout.send_state(
                    &mut item.subject,
                    Kind::Snapshot,
                    None,
                    rings,
                    &mut self.counters,
                );
            }
            AdapterEvent::EndOfSnapshot { .. } => {} // unexpected: ignored
            AdapterEvent::ClearSnapshot { .. } => {
                item.subject.state.clear();
                item.subject.seq += 1;
                item.subject.stamp = now;
                let kind = if completes {
                    Kind::Snapshot
                } else {
                    Kind::State
                };
                if completes {
                    item.snapshot = SnapshotPhase::Complete;
                }
                self.fanout
                    .send_state(&mut item.subject, kind, None, rings, &mut self.counters);
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
    }

    /// When [`Ingest::on_timers`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.linger.next_deadline()
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
            subject: Subject {
                item: id,
                state: MergeState::default(),
                seq: 0,
                stamp: Instant::ZERO,
                listeners: Listeners::default(),
            },
            snapshot: SnapshotPhase::Unknown,
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

const GENERATION_BITS: u32 = 8;

fn number(slot: u32, generation: u8) -> ItemId {
    ItemId(slot << GENERATION_BITS | u32::from(generation))
}

fn parts(id: ItemId) -> (usize, u8) {
    let [generation, ..] = id.0.to_le_bytes();
    ((id.0 >> GENERATION_BITS) as usize, generation)
}

/// A live item by its number; `None` if the number is of an earlier tenant.
fn item_mut(items: &mut [Slot], id: ItemId) -> Option<&mut Item> {
    let (slot, generation) = parts(id);
    items
        .get_mut(slot)
        .filter(|entry| entry.generation == generation)?
        .item
        .as_mut()
}
