//! The ingest half: the single writer of item state.
//!
//! Adapter events and the demands of shards go in; records for the shards' rings and requests to the data adapters
//! come out. Because one writer does everything and each ring is FIFO, a snapshot needs no lock and no handshake: it
//! is written into the ring between two events, and the next update stands behind it (see [`Ingest::on_demand`]).

mod claims;
mod debt;
pub mod demand;
mod demands;
pub mod event;
mod events;
pub mod fanout;
mod gauges;
mod held;
mod items;
mod prefilter;
pub mod record;

use crate::counters::Counters;
use crate::ids::{DataAdapterId, ItemId, ShardId};
use crate::item::ItemName;
use crate::item::state::State;
use crate::limits::Limits;
use crate::time::{Duration, Instant};
use claims::Claims;
use demand::Linger;
use fanout::{Fanout, Rings};
use hashbrown::HashMap;
use items::{Slot, SnapshotPhase, item_mut};
use prefilter::Held;
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
}

#[cfg(test)]
mod tests {
    use super::demand::Demand;
    use super::event::AdapterEvent;
    use super::*;
    use crate::item::safe::TradeSafe;
    use crate::tlcp::request::Mode;

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
