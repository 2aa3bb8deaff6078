//! What lies between the threads of a server: pipes in which things take their time, and the bounded data rings.

use super::Options;
use crate::ids::ShardId;
use crate::ingest::fanout::Rings;
use crate::ingest::record::{self, Kind};
use crate::time::Instant;
use std::collections::VecDeque;

/// A queue whose entries arrive in order, each not before its time.
pub(super) struct Pipe<T> {
    pub queue: VecDeque<(Instant, T)>,
    last: Instant,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            last: Instant::ZERO,
        }
    }
}

impl<T> Pipe<T> {
    pub fn push(&mut self, at: Instant, value: T) {
        self.last = self.last.max(at);
        self.queue.push_back((self.last, value));
    }

    pub fn pop(&mut self, now: Instant) -> Option<T> {
        self.queue.front().filter(|(at, _)| *at <= now)?;
        self.queue.pop_front().map(|(_, value)| value)
    }

    pub fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }
}

/// The records whose loss the canary's bug is.
const EVENTS: [Kind; 3] = [Kind::Update, Kind::Event, Kind::Raw];

/// The data rings: bounded, and that is all.
pub(super) struct ByteRings {
    pub rings: Vec<Vec<u8>>,
    capacity: usize,
    lose_record_each: Option<u64>,
    updates: u64,
}

impl ByteRings {
    pub fn new(options: &Options) -> Self {
        Self {
            rings: vec![Vec::new(); usize::from(options.shards)],
            capacity: options.ring_bytes,
            lose_record_each: options.lose_record_each,
            updates: 0,
        }
    }
}

impl Rings for ByteRings {
    fn room(&self, shard: ShardId) -> usize {
        self.capacity - self.rings[usize::from(shard.0)].len()
    }

    fn write(&mut self, shard: ShardId, record: &[u8]) {
        assert!(
            record.len() <= self.room(shard),
            "more was written than there was room"
        );
        if let Some(each) = self.lose_record_each
            && record::read(record).any(|record| EVENTS.contains(&record.kind))
        {
            self.updates += 1;
            if self.updates.is_multiple_of(each) {
                return;
            }
        }
        self.rings[usize::from(shard.0)].extend_from_slice(record);
    }
}
