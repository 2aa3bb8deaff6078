//! What became of updates. Counted only where somebody wants to know: a metadata adapter of a subscription, or clients that
//! may look at the status adapter.

use super::event_buffer::Taken;
use crate::metadata::Statistics;
use std::ops::AddAssign;

/// What became of the updates of an item of a subscription, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Written to the client.
    pub sent: u64,
    /// Of those, what belonged to a snapshot.
    pub of_snapshots: u64,
    /// Merged into later ones.
    pub conflated: u64,
    /// Dropped without a word, as the subscription allows.
    pub filtered: u64,
    /// Dropped, and told.
    pub lost: u64,
    /// The client gets a snapshot, in MERGE as the first row that it is sent.
    snapshot_first: bool,
}

impl Tally {
    /// Nothing so far, of a client that gets a snapshot or not.
    pub fn new(snapshot_first: bool) -> Self {
        Self {
            snapshot_first,
            ..Self::default()
        }
    }

    /// A row is sent; `loads` says that the client had nothing of the item yet, or that the row is of a longer snapshot.
    pub fn sent(&mut self, loads: bool) {
        self.sent += 1;
        self.of_snapshots += u64::from(loads && self.snapshot_first);
    }

    /// An event has come, and others, or it, will not be sent.
    pub fn took(&mut self, taken: Taken) {
        self.conflated += u64::from(taken.conflated);
        self.filtered += u64::from(taken.filtered);
        self.lost += u64::from(taken.lost);
    }

    /// The same as metadata adapters see it.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            sent: self.sent - self.of_snapshots,
            lost: self.lost,
            filtered: self.conflated + self.filtered,
        }
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.sent += other.sent;
        self.of_snapshots += other.of_snapshots;
        self.conflated += other.conflated;
        self.filtered += other.filtered;
        self.lost += other.lost;
    }
}
