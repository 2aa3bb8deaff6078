//! What a fleet counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is told apart: a minute. What took longer counts as a minute, and is counted.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Different reasons of failures that are kept apart; a server that makes up a text for each session gets no more.
const REASONS_MAX: usize = 20;

/// What happened between two moments.
#[derive(Clone, Debug)]
pub struct Window {
    started: Instant,
    /// Length of the window; zero while it is open.
    pub elapsed: Duration,
    /// WebSocket messages.
    pub messages: u64,
    /// `U` lines, snapshots included.
    pub updates: u64,
    /// Of them, the first one of each item and session.
    pub snapshots: u64,
    /// Of them, those whose event's time had not changed, or that belong to a stalled session.
    pub untimed: u64,
    /// Of them, those whose event's time lies in the future: the clocks differ.
    pub from_future: u64,
    /// Of them, those that took longer than [`LATENCY_NS_MAX`].
    pub beyond_range: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Pieces in which they were received.
    pub receives: u64,
    /// Events that the server says it has lost.
    pub lost: u64,
    /// From the event to its arrival, ns.
    pub latency_ns: Histogram<u64>,
    /// From one look at the sockets to the end of what it brought, ns: by so much an arrival may be noticed late.
    pub turn_ns: Histogram<u64>,
}

/// What went wrong, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(pub BTreeMap<String, u64>);

impl Window {
    /// Opens a window.
    pub fn open() -> Self {
        Self {
            started: Instant::now(),
            elapsed: Duration::ZERO,
            messages: 0,
            updates: 0,
            snapshots: 0,
            untimed: 0,
            from_future: 0,
            beyond_range: 0,
            bytes: 0,
            receives: 0,
            lost: 0,
            latency_ns: histogram(),
            turn_ns: histogram(),
        }
    }

    /// Closes the window.
    pub fn close(&mut self) {
        self.elapsed = self.started.elapsed();
    }

    /// Notes a latency.
    #[inline]
    pub fn time(&mut self, latency_ns: u64) {
        if latency_ns > LATENCY_NS_MAX {
            self.beyond_range += 1;
        }
        self.latency_ns
            .saturating_record(latency_ns.clamp(1, LATENCY_NS_MAX));
    }

    /// Adds the window of another fleet, which was open at the same time.
    pub fn add(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.messages += other.messages;
        self.updates += other.updates;
        self.snapshots += other.snapshots;
        self.untimed += other.untimed;
        self.from_future += other.from_future;
        self.beyond_range += other.beyond_range;
        self.bytes += other.bytes;
        self.receives += other.receives;
        self.lost += other.lost;
        for (sum, part) in [
            (&mut self.latency_ns, &other.latency_ns),
            (&mut self.turn_ns, &other.turn_ns),
        ] {
            sum.add(part).expect("all histograms have the same bounds");
        }
    }
}

impl Reasons {
    /// Counts one more.
    pub fn count(&mut self, reason: String) {
        self.count_many(reason, 1);
    }

    /// Adds the reasons of another fleet.
    pub fn add(&mut self, other: Self) {
        for (reason, times) in other.0 {
            self.count_many(reason, times);
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn count_many(&mut self, reason: String, times: u64) {
        let reason = if self.0.len() < REASONS_MAX || self.0.contains_key(&reason) {
            reason
        } else {
            "other reasons".into()
        };
        *self.0.entry(reason).or_default() += times;
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_add_up() {
        let (mut one, mut two) = (Window::open(), Window::open());
        one.updates = 3;
        one.time(1_000);
        two.updates = 4;
        two.time(2 * LATENCY_NS_MAX);
        two.time(0);
        one.add(&two);
        assert_eq!(one.updates, 7);
        assert_eq!(one.latency_ns.len(), 3);
        assert_eq!(one.beyond_range, 1);
        assert!(one.latency_ns.max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = Reasons::default();
        for number in 0..50 {
            reasons.count(format!("reason {number}"));
            reasons.count("reason 1".into());
        }
        assert_eq!(reasons.total(), 100);
        assert_eq!(reasons.0["reason 1"], 51);
        assert!(reasons.0.len() <= REASONS_MAX + 1);
    }
}
