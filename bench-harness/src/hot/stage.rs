//! What the pieces play on: the engine with its rings and sockets, as a driver would have it.

use std::hint::black_box;

use engine::ids::{ConnId, ItemId, ShardId};
use engine::ingest::event::AdapterEvent;
use engine::ingest::fanout::Rings;
use engine::ingest::{Ingest, IngestEffect};
use engine::limits::Limits;
use engine::metadata::{AdapterSets, literal::Literal};
use engine::shard::{Config, Effect, Outbox, Part, Peer, Shard};
use engine::time::{Duration, Instant};
use engine::tlcp::Version;

use super::{EVENTS, FIELDS, all_fields, changes, quotes};

/// Ingest and shards.
pub(super) struct Stage {
    pub ingest: Ingest,
    pub shards: Vec<Shard>,
    pub rings: RingBytes,
    sets: AdapterSets,
    pub wanted: Vec<ItemId>,
    pub now: Instant,
}

impl Stage {
    pub fn new(shards: u16) -> Self {
        let mut sets = AdapterSets::default();
        sets.add("DEFAULT", Literal::default(), &["DEFAULT"]);
        let config = |shard| Config {
            shard: ShardId(shard),
            shards,
            ..Config::default()
        };
        Self {
            ingest: Ingest::new(shards.into(), Duration::from_secs(5), Limits::DEFAULT),
            shards: (0..shards)
                .map(|shard| Shard::new(config(shard), || [7; 12]))
                .collect(),
            rings: RingBytes(vec![Vec::new(); shards.into()]),
            sets,
            wanted: Vec::new(),
            now: Instant::from_millis(1),
        }
    }

    /// A client connects over WebSocket, opens a session and subscribes to a group.
    pub fn session(&mut self, shard: usize, number: usize, group: &str) {
        let conn = ConnId {
            slot: number as u32,
            generation: 0,
        };
        let (now, schema) = (self.now, FIELDS.join("%20"));
        let requests = [
            "create_session\r\nLS_cid=bench&LS_send_sync=false".to_owned(),
            format!(
                "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group={group}\
                 &LS_schema={schema}&LS_snapshot=true"
            ),
        ];
        self.shards[shard].on_accept(conn, Peer::new("127.0.0.1", Version::LATEST), now);
        for request in requests {
            self.shards[shard].on_request(conn, &request, now);
            self.answer_all();
        }
    }

    /// Does what the engine asks of its driver, and lets clients have their answers.
    pub fn answer_all(&mut self) {
        for (number, shard) in (0..).zip(&mut self.shards) {
            while let Some(effect) = shard.poll_effect() {
                match effect {
                    Effect::Ask(ask) => {
                        shard.on_answer(self.sets.answer(ShardId(number), &ask), self.now);
                    }
                    Effect::Demand(demand) => {
                        self.ingest
                            .on_demand(ShardId(number), demand, self.now, &mut self.rings);
                    }
                    other => unreachable!("nobody asks for this here: {other:?}"),
                }
            }
            shard.pump(self.now, &mut Wire::default());
        }
        while let Some(effect) = self.ingest.poll_effect() {
            if let IngestEffect::Subscribe { item, .. } = effect {
                self.ingest.on_subscribed(item, true);
                self.wanted.push(item);
            }
        }
    }

    pub fn publish(&mut self, item: ItemId, fields: &[(&str, Option<&str>)], snapshot: bool) {
        let event = AdapterEvent::Update {
            item,
            snapshot,
            fields,
        };
        self.ingest.on_adapter(event, self.now, &mut self.rings);
    }

    /// Publishes snapshots, and then prepares the records of some turns of the first shard. Each turn has an event of every
    /// item.
    pub fn turns(&mut self) -> Vec<Vec<u8>> {
        let (quotes, items) = (quotes(), self.wanted.clone());
        for &item in &items {
            self.publish(item, &all_fields(&quotes[EVENTS - 1]), true);
        }
        let records = std::mem::take(&mut self.rings.0[0]);
        self.shards[0].on_records(&records, self.now);
        self.shards[0].pump(self.now, &mut Wire::default());
        quotes
            .iter()
            .map(|quote| {
                for &item in &items {
                    self.publish(item, &changes(quote), false);
                }
                std::mem::take(&mut self.rings.0[0])
            })
            .collect()
    }
}

/// Data rings that always have room.
pub(super) struct RingBytes(Vec<Vec<u8>>);

impl RingBytes {
    pub fn written(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }
}

impl Rings for RingBytes {
    fn room(&self, _: ShardId) -> usize {
        1 << 20
    }

    fn write(&mut self, shard: ShardId, record: &[u8]) {
        self.0[usize::from(shard.0)].extend_from_slice(record);
    }
}

/// Sockets that take everything: one hot buffer, and a count of lines.
#[derive(Default)]
pub(super) struct Wire {
    buffer: Vec<u8>,
    pub lines: u64,
}

impl Outbox for Wire {
    fn open(&mut self, _: ConnId) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn send(&mut self, _: ConnId, _: Part) {
        self.lines += memchr::memchr_iter(b'\n', black_box(&self.buffer)).count() as u64;
    }
}
