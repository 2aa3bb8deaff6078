//! All of a shard's timers, on one hashed wheel of one-millisecond ticks.
//!
//! Timers are never cancelled: one that fires finds its owner gone, or its version superseded, and is dropped. An
//! owner has one current timer of a kind, so the number of timers is bounded by the number of owners and the rate
//! at which requests supersede them.

use super::{QuestionKey, SessionKey, SubItemKey};
use crate::ids::ConnId;
use crate::time::{Duration, Instant};

/// What a shard waits for. The version, where there is one, must equal the owner's; otherwise the timer is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A connection is to be looked at: is a `PROBE` due, has it been silent or blocked for too long?
    Connection(ConnId, u32),
    /// A session without a connection has waited long enough.
    SessionExpiry(SessionKey, u32),
    /// A session is as old as one may become.
    SessionDuration(SessionKey),
    /// A stream has lasted as long as one may.
    StreamingTime(SessionKey, u32),
    /// A client that promised signs of life may have been silent for too long.
    Inactivity(SessionKey, u32),
    /// An item of a subscription may be sent again as far as its frequency goes.
    Due(SubItemKey, u32),
    /// A session's bandwidth allows more.
    Bandwidth(SessionKey),
    /// Updates of a session have waited long enough for others to go with them.
    Gathered(SessionKey),
    /// More rows of a session's snapshots may go.
    Loading(SessionKey),
    /// The counters of a session may be told to its client, which looks at them.
    Status(SessionKey, u32),
    /// A metadata adapter has not answered in time.
    Question(QuestionKey),
    /// Messages of a session may have waited long enough for others that are missing.
    MissingMessages(SessionKey),
}

/// The wheel.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: Vec<Vec<(u64, T)>>,
    /// One bit per slot that holds anything.
    occupied: [u64; SLOTS / 64],
    /// All ticks up to this one have been served.
    tick: u64,
    len: usize,
}

/// About four seconds: most timers (keep-alives, frequencies) fit one turn of the wheel, the others are looked at
/// once a turn.
const SLOTS: usize = 4096;
const TICK: Duration = Duration::from_millis(1);

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self {
            slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect(),
            occupied: [0; SLOTS / 64],
            tick: 0,
            len: 0,
        }
    }
}

impl<T> Wheel<T> {
    /// Fires `timer` at `deadline` or up to a tick later, never before; in the next tick if that is past.
    pub fn insert(&mut self, deadline: Instant, timer: T) {
        let tick = deadline
            .as_nanos()
            .div_ceil(TICK.as_nanos() as u64)
            .max(self.tick + 1);
        let slot = (tick % SLOTS as u64) as usize;
        self.slots[slot].push((tick, timer));
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// Takes out what is due at `now` into `due`, in the order of the deadlines.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<T>) {
        let until = now.as_millis();
        if self.len == 0 {
            self.tick = self.tick.max(until);
            return;
        }
        // After a pause longer than a turn each slot is still visited once only; deadlines then sort the order out.
        let first = (self.tick + 1).max((until + 1).saturating_sub(SLOTS as u64));
        let mut fired: Vec<(u64, T)> = Vec::new();
        for tick in first..=until {
            let slot = (tick % SLOTS as u64) as usize;
            if self.occupied[slot / 64] & 1 << (slot % 64) == 0 {
                continue;
            }
            let entries = &mut self.slots[slot];
            fired.extend(entries.extract_if(.., |(at, _)| *at <= until));
            if entries.is_empty() {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                entries.shrink_to(SLOT_CAPACITY_KEPT);
            }
        }
        self.tick = self.tick.max(until);
        self.len -= fired.len();
        fired.sort_by_key(|(at, _)| *at);
        due.extend(fired.into_iter().map(|(_, timer)| timer));
    }

    /// A time by which [`Wheel::expire`] should be called: the next slot that holds anything (perhaps something for a
    /// later turn of the wheel).
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let start = self.tick + 1;
        let mut offset = 0;
        while offset < SLOTS as u64 {
            let slot = ((start + offset) % SLOTS as u64) as usize;
            let word = self.occupied[slot / 64] >> (slot % 64);
            if word != 0 {
                return Some(Instant::from_millis(
                    start + offset + u64::from(word.trailing_zeros()),
                ));
            }
            offset += 64 - (slot % 64) as u64;
        }
        None
    }
}

/// What an emptied slot keeps allocated.
const SLOT_CAPACITY_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn fires_at_the_deadline_and_not_before() {
        let mut wheel = Wheel::default();
        let mut due = Vec::new();
        wheel.insert(Instant::from_nanos(2_500_000), 'a');
        assert_eq!(wheel.next_deadline(), Some(Instant::from_millis(3)));
        wheel.expire(Instant::from_nanos(2_999_999), &mut due);
        assert!(due.is_empty());
        wheel.expire(Instant::from_millis(3), &mut due);
        assert_eq!(due, ['a']);
        assert_eq!(wheel.next_deadline(), None);
    }

    proptest! {
        /// Against a sorted map: same timers, same order of ticks, whatever the steps.
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec((0u64..20_000, 0u64..6_000), 1..200)) {
            let mut wheel = Wheel::default();
            let mut model: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
            let mut now = 0;
            for (id, (delay, step)) in steps.into_iter().enumerate() {
                wheel.insert(Instant::from_millis(now + delay), id);
                model.entry((now + delay).max(now + 1)).or_default().push(id);
                let next = wheel.next_deadline().unwrap();
                prop_assert!(next <= Instant::from_millis(*model.keys().next().unwrap()));
                now += step;
                let mut due = Vec::new();
                wheel.expire(Instant::from_millis(now), &mut due);
                let later = model.split_off(&(now + 1));
                let mut expected: Vec<usize> = model.into_values().flatten().collect();
                model = later;
                expected.sort_unstable();
                due.sort_unstable();
                prop_assert_eq!(due, expected);
            }
        }
    }
}
