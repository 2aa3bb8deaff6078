//! The pace of snapshots: how a session that subscribes to thousands of rows gets them in slices, so that its client can
//! go on showing what it has. Off unless the configuration sets a pace.
//!
//! What counts are rows of DISTINCT and COMMAND snapshots, and the first row of each item in MERGE. An item whose next
//! row has to wait is put off until the next slice; all others go on. Within one COMMAND item the rows of the snapshot
//! go before changes of rows that were shown already, so these wait with them, and are merged.

use super::bandwidth::Bucket;
use super::timer::{Timer, Wheel};
use super::{SessionKey, Shard, SubItemKey};
use crate::time::{Duration, Instant};

/// The snapshots that a session is being sent.
#[derive(Debug)]
pub(super) struct Loading {
    rows: Bucket,
    /// Items that wait for the next slice, each once. May name items that are gone: they are dropped with the slice, so
    /// there are no more of them than a client can subscribe to in that time.
    put_off: Vec<SubItemKey>,
}

impl Loading {
    pub fn new(rows_per_s: u32, now: Instant) -> Self {
        Self {
            rows: Bucket::of_rows(rows_per_s, now),
            put_off: Vec::new(),
        }
    }

    /// Whether one more row may be sent now.
    pub fn may_send(&mut self, now: Instant) -> bool {
        self.rows.ready(now).is_ok()
    }

    /// A row has been sent.
    pub fn sent(&mut self, now: Instant) {
        self.rows.take(1, now);
    }

    /// An item waits for the next slice. It stays owed, so nobody queues it meanwhile.
    pub fn put_off(
        &mut self,
        item: SubItemKey,
        key: SessionKey,
        now: Instant,
        timers: &mut Wheel<Timer>,
    ) {
        if self.put_off.is_empty() {
            timers.insert(now + SLICE, Timer::Loading(key));
        }
        self.put_off.push(item);
    }
}

impl Shard {
    /// The next slice of a session's snapshots may go. What was put off first goes first.
    pub(super) fn on_loading(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key)
            && let Some(loading) = &mut session.loading
        {
            session.owed.extend(std::mem::take(&mut loading.put_off));
            self.wake(key);
        }
    }
}

/// The time between two slices: short enough to look steady, and a slice of a pace that browsers keep up with (some
/// thousand rows a second) is some hundred rows. (guess)
const SLICE: Duration = Duration::from_millis(50);
