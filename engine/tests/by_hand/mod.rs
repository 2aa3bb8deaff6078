//! One shard and ingest, driven by hand: for tests that see what a driver sees, part by part. Other tests begin with the
//! simulator's world.

use engine::ids::{ConnId, ItemId, ShardId};
use engine::ingest::event::AdapterEvent;
use engine::ingest::fanout::Rings;
use engine::ingest::{Ingest, IngestEffect};
use engine::limits::Limits;
use engine::metadata::AdapterSets;
use engine::metadata::literal::Literal;
use engine::shard::{Config, Effect, Outbox, Shard};
use engine::time::{Duration, Instant};
use std::collections::BTreeMap;

/// The two halves, with a data adapter between the lines.
pub struct Bench<C> {
    pub shard: Shard,
    pub now: Instant,
    /// Those outside, and what they were sent.
    pub clients: C,
    /// The items of which the data adapter has a snapshot when it is asked for them.
    pub snapshots: BTreeMap<String, Vec<(&'static str, String)>>,
    ingest: Ingest,
    sets: AdapterSets,
    records: Records,
    items: BTreeMap<String, ItemId>,
    conns: u32,
}

/// A data ring that always has room.
#[derive(Default)]
struct Records(Vec<u8>);

impl Rings for Records {
    fn room(&self, _: ShardId) -> usize {
        usize::MAX
    }

    fn write(&mut self, _: ShardId, record: &[u8]) {
        self.0.extend_from_slice(record);
    }
}

impl<C: Outbox + Default> Bench<C> {
    pub fn new() -> Self {
        let mut sets = AdapterSets::default();
        sets.add("DEFAULT", Literal::default(), &["DEFAULT"]);
        let mut serial = 0u8;
        let random = move || {
            serial += 1;
            [serial; 12]
        };
        Self {
            shard: Shard::new(Config::default(), random),
            now: Instant::from_millis(1),
            clients: C::default(),
            snapshots: BTreeMap::new(),
            ingest: Ingest::new(1, Duration::ZERO, Limits::DEFAULT),
            sets,
            records: Records::default(),
            items: BTreeMap::new(),
            conns: 0,
        }
    }

    /// A connection that nobody has had before.
    pub fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId {
            slot: self.conns,
            generation: 0,
        }
    }

    /// The data adapter says something of an item, if it was asked for it.
    pub fn tell(&mut self, item: &str, snapshot: bool, fields: &[(&'static str, String)]) {
        let Some(&item) = self.items.get(item) else {
            return;
        };
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, Some(value.as_str())))
            .collect();
        let event = AdapterEvent::Update {
            item,
            snapshot,
            fields: &fields,
        };
        self.ingest.on_adapter(event, self.now, &mut self.records);
    }

    /// Turns until nothing happens any more.
    pub fn settle(&mut self) {
        loop {
            let mut busy = false;
            let records = std::mem::take(&mut self.records.0);
            self.shard.on_records(&records, self.now);
            self.shard.on_timers(self.now);
            self.shard.pump(self.now, &mut self.clients);
            while let Some(effect) = self.shard.poll_effect() {
                busy = true;
                match effect {
                    Effect::Ask(ask) => {
                        let answer = self.sets.answer(ShardId(0), &ask);
                        self.shard.on_answer(answer, self.now);
                    }
                    Effect::Demand(demand) => {
                        self.ingest
                            .on_demand(ShardId(0), demand, self.now, &mut self.records);
                    }
                    _ => {}
                }
            }
            while let Some(effect) = self.ingest.poll_effect() {
                if let IngestEffect::Subscribe { item, name, .. } = effect {
                    self.subscribed(item, &name);
                }
            }
            if !busy && !self.shard.has_output() && self.records.0.is_empty() {
                return;
            }
        }
    }

    /// The data adapter is asked for an item.
    fn subscribed(&mut self, item: ItemId, name: &str) {
        self.ingest.on_subscribed(item, true);
        self.items.insert(name.to_owned(), item);
        if let Some(snapshot) = self.snapshots.get(name).cloned() {
            self.tell(name, true, &snapshot);
            let end = AdapterEvent::EndOfSnapshot { item };
            self.ingest.on_adapter(end, self.now, &mut self.records);
        }
    }
}
