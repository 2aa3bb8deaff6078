//! What lies between the threads of a server: pipes in which things take their time, and the bounded data rings.

use super::Options;
use crate::ids::ShardId;
use crate::ingest::fanout::Rings;
use crate::ingest::record::{self, Kind};
use crate::shard::canary::{Bug, Canary};
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

/// The data rings: bounded, and that is all.
pub(super) struct ByteRings {
    pub rings: Vec<Vec<u8>>,
    capacity: usize,
    canary: Canary,
    /// Records that a planted bug might lose.
    seen: u64,
}

impl ByteRings {
    pub fn new(options: &Options) -> Self {
        Self {
            rings: vec![Vec::new(); usize::from(options.shards)],
            capacity: options.ring_bytes,
            canary: options.config.canary,
            seen: 0,
        }
    }

    /// Whether a planted bug loses this record: one of each so many.
    fn loses(&mut self, record: &[u8]) -> bool {
        let lost = |kind| match kind {
            Kind::Update | Kind::Event | Kind::Raw => self.canary.has(Bug::Record).then_some(200),
            Kind::SnapshotEvent => self.canary.has(Bug::SnapshotRow).then_some(20),
            _ => None,
        };
        let each = record::read(record).find_map(|record| lost(record.kind));
        self.seen += u64::from(each.is_some());
        each.is_some_and(|each| self.seen.is_multiple_of(each))
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
        if self.canary != Canary::default() && self.loses(record) {
            return;
        }
        self.rings[usize::from(shard.0)].extend_from_slice(record);
    }
}
