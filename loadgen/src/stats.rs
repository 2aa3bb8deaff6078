//! What a fleet counts: totals, second by second, and what it tells of the whole run.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrReader, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::scenario::Transport;

/// The longest latency that is told apart: a minute. What took longer counts as a minute, and is counted.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Different reasons of failures that are kept apart; a server that makes up a text for each session gets no more.
const REASONS_MAX: usize = 20;

/// What happened in a second of the window, or in all of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Seconds since the window began.
    pub index: u32,
    /// Messages: of WebSocket, or pieces of a response's body.
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
    /// Events that the sequence numbers say are missing, those lost included.
    pub skipped: u64,
    /// Updates with a number.
    pub numbered: u64,
    /// Updates of an event older than the one before.
    pub reordered: u64,
    /// Sessions that became live.
    pub connects: u64,
    /// Connections that ended, whoever ended them.
    pub disconnects: u64,
    /// The longest time in which nothing at all arrived, ns.
    pub silence_ns: u64,
    /// What the sessions of each group have had, by the group's number.
    pub groups: BTreeMap<usize, OfGroup>,
    /// From one look at the sockets to the end of what it brought, ns: by so much an arrival may be noticed late.
    pub turn_ns: Times,
}

/// What the sessions of one group have had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfGroup {
    /// How they are connected.
    pub transport: Transport,
    /// `U` lines, snapshots included.
    pub updates: u64,
    /// Events that the server says it has lost.
    pub lost: u64,
    /// Events that the sequence numbers say are missing, those lost included.
    pub skipped: u64,
    /// From the intended time of an event to its arrival, ns.
    pub latency_ns: Times,
}

/// A histogram of times, which other processes can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(pub Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        Self(histogram.expect("the bounds are constants"))
    }
}

impl Times {
    /// Notes a time.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.clamp(1, LATENCY_NS_MAX));
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        added.expect("all histograms have the same bounds");
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        let written = V2Serializer::new().serialize(&self.0, &mut bytes);
        written.map_err(|error| serde::ser::Error::custom(format!("{error:?}")))?;
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(de::Error::custom)?;
        let read: Histogram<u64> = HdrReader::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| de::Error::custom(format!("{error:?}")))?;
        let mut times = Self::default();
        times.0.add(&read).map_err(de::Error::custom)?;
        Ok(times)
    }
}

impl Interval {
    /// An empty one.
    pub fn new(index: u32) -> Self {
        Self {
            index,
            ..Self::default()
        }
    }

    /// What a group has had.
    #[inline]
    pub fn of(&mut self, group: usize, transport: Transport) -> &mut OfGroup {
        self.groups
            .entry(group)
            .or_insert_with(|| OfGroup::new(transport))
    }

    /// Notes the latency of an update.
    #[inline]
    pub fn time(&mut self, group: usize, transport: Transport, latency_ns: u64) {
        if latency_ns > LATENCY_NS_MAX {
            self.beyond_range += 1;
        }
        self.of(group, transport).latency_ns.record(latency_ns);
    }

    /// Latencies of all groups.
    pub fn latency(&self) -> Times {
        let mut sum = Times::default();
        let groups = self.groups.values();
        groups.for_each(|group| sum.add(&group.latency_ns));
        sum
    }

    /// Latencies by transport, of those that something was timed of.
    pub fn by_transport(&self) -> BTreeMap<Transport, Times> {
        let mut sums = BTreeMap::<Transport, Times>::new();
        let groups = self.groups.values();
        for group in groups.filter(|group| !group.latency_ns.0.is_empty()) {
            let sum = sums.entry(group.transport).or_default();
            sum.add(&group.latency_ns);
        }
        sums
    }

    /// Adds what another fleet, or another second, has counted.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.updates += other.updates;
        self.snapshots += other.snapshots;
        self.untimed += other.untimed;
        self.from_future += other.from_future;
        self.beyond_range += other.beyond_range;
        self.bytes += other.bytes;
        self.receives += other.receives;
        self.lost += other.lost;
        self.skipped += other.skipped;
        self.numbered += other.numbered;
        self.reordered += other.reordered;
        self.connects += other.connects;
        self.disconnects += other.disconnects;
        self.silence_ns = self.silence_ns.max(other.silence_ns);
        for (group, theirs) in &other.groups {
            self.of(*group, theirs.transport).add(theirs);
        }
        self.turn_ns.add(&other.turn_ns);
    }
}

impl OfGroup {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            updates: 0,
            lost: 0,
            skipped: 0,
            latency_ns: Times::default(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.updates += other.updates;
        self.lost += other.lost;
        self.skipped += other.skipped;
        self.latency_ns.add(&other.latency_ns);
    }
}

/// What went wrong, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasons(pub BTreeMap<String, u64>);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_add_up() {
        let (mut one, mut two) = (Interval::new(0), Interval::new(0));
        one.updates = 3;
        one.time(0, Transport::Websocket, 1_000);
        two.updates = 4;
        two.silence_ns = 7;
        two.time(1, Transport::LongPolling, 2 * LATENCY_NS_MAX);
        two.time(0, Transport::Websocket, 0);
        two.time(2, Transport::Websocket, 7);
        two.of(2, Transport::Websocket).lost = 5;
        one.add(&two);
        assert_eq!((one.updates, one.silence_ns), (7, 7));
        assert_eq!(one.latency().0.len(), 4);
        assert_eq!(one.by_transport()[&Transport::Websocket].0.len(), 3);
        assert_eq!(one.groups[&0].latency_ns.0.len(), 2);
        assert_eq!(one.groups[&2].lost, 5);
        assert_eq!(one.beyond_range, 1);
        assert!(one.latency().0.max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn what_another_process_tells_is_what_it_counted() {
        let mut interval = Interval::new(3);
        interval.updates = 5;
        for ns in [1, 1_000, 5_000_000, LATENCY_NS_MAX] {
            interval.time(1, Transport::HttpStreaming, ns);
        }
        let text = serde_json::to_string(&interval).unwrap();
        let mut read: Interval = serde_json::from_str(&text).unwrap();
        assert_eq!(read.latency(), interval.latency());
        assert_eq!(read.by_transport(), interval.by_transport());
        assert_eq!((read.index, read.updates), (3, 5));
        // It can still be added to.
        read.add(&interval);
        assert_eq!(read.latency().0.len(), 8);
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
