//! What shards want of ingest, and for how long an item nobody wants is kept.

use crate::ids::{DataAdapterId, ItemId};
use crate::item::safe::TradeSafe;
use crate::metadata::Claim;
use crate::time::{Duration, Instant};
use crate::tlcp::request::Mode;
use std::collections::VecDeque;

/// What a shard asks of ingest. FIFO from each shard, so a `Drop` always meets the item of its `Want`.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// Somebody on this shard looks at the item in this mode: send its state, then what happens to it. A second one for
    /// the same tenant asks for another mode beside the first: RAW, or the item's own.
    Want {
        /// The shard's index of the item.
        local: u32,
        /// The tenant of that index; all records of this demand carry it.
        epoch: u32,
        /// The item's data adapter.
        adapter: DataAdapterId,
        /// The item's name.
        name: Box<str>,
        /// RAW, or the mode that becomes the item's own.
        mode: Mode,
        /// DISTINCT: how many events make up a snapshot.
        snapshot_length: u32,
        /// Events per second to which the item is thinned out for everybody (MERGE and DISTINCT).
        source_frequency_max: Option<f64>,
        /// Which of the item's events may not be merged, whoever looks at it.
        trade_safe: TradeSafe,
    },
    /// What was granted with this claim has been made use of: behind its demands, or without any.
    Settled {
        /// The claim.
        claim: Claim,
    },
    /// Nobody on this shard looks at the item any more.
    Drop {
        /// The shard's index of the item.
        local: u32,
        /// The tenant of that index.
        epoch: u32,
    },
}

/// Items without a listener, waiting a while for a new one before they are given back to their data adapter: a page
/// that is reloaded must not tear its feed down.
///
/// The wait is the same for all, so the queue is in the order of the deadlines.
#[derive(Debug)]
pub struct Linger {
    wait: Duration,
    queue: VecDeque<(Instant, ItemId)>,
}

impl Linger {
    /// Items linger for `wait`.
    pub fn new(wait: Duration) -> Self {
        Self {
            wait,
            queue: VecDeque::new(),
        }
    }

    /// The item has lost its last listener. Returns until when it is kept.
    pub fn start(&mut self, item: ItemId, now: Instant) -> Instant {
        let until = now + self.wait;
        self.queue.push_back((until, item));
        until
    }

    /// An item whose wait is over, with the deadline that [`Linger::start`] gave. The caller checks that it still
    /// waits for this very deadline: it may have been wanted in between.
    pub fn expired(&mut self, now: Instant) -> Option<(Instant, ItemId)> {
        self.queue.front().filter(|(until, _)| *until <= now)?;
        self.queue.pop_front()
    }

    /// When [`Linger::expired`] has something to say.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }
}
