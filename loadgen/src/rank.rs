//! Who is served first: the order in which the clients of an item received one and the same event.
//!
//! Each fleet notes all arrivals of some events, the same events as all other fleets: which ones, the event's time
//! decides. When the run is over, the arrivals of all fleets and processes are put together, and those of each event are
//! put in order. So ranks are exact for each event that is looked at, whichever threads its clients belong to, as exact
//! as the times of arrival are; and the events are a sample that nothing but their times has chosen.
//!
//! A fleet that runs out of room halves the events it looks at, and forgets what it has noted of the others. What all
//! fleets have looked at counts in the end.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::stats::Times;

/// Latencies are told apart by the tenth in which a client was served.
pub const RANKS: usize = 10;
/// Arrivals that all fleets together keep, 24 bytes each: a fleet looks through its own in 0.2 ms when it halves them.
const ARRIVALS_MAX: usize = 262_144;
/// What a fleet has room for, at least: so many arrivals for each client of its busiest item.
const EVENTS_MIN: usize = 4;
/// Events are chosen by a number below this.
const ALL: u64 = 1 << 32;

/// An event that has reached a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The item's number in the run.
    pub item: u64,
    /// The event's time.
    pub stamp_ns: u64,
    /// When it was received.
    pub arrived_ns: u64,
}

/// Arrivals of some events, by one fleet, in the order in which they came.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Events whose number is below this are noted.
    below: u64,
    room: usize,
    arrivals: Vec<Arrival>,
}

impl Default for Sample {
    /// One that looks at nothing.
    fn default() -> Self {
        Self {
            below: 0,
            room: 0,
            arrivals: Vec::new(),
        }
    }
}

impl Sample {
    /// For one of `fleets`, whose busiest item has so many clients there.
    pub fn new(fleets: u32, clients: u32) -> Self {
        Self::with_room((ARRIVALS_MAX / fleets.max(1) as usize).max(clients as usize * EVENTS_MIN))
    }

    fn with_room(room: usize) -> Self {
        Self {
            below: ALL,
            room,
            arrivals: Vec::new(),
        }
    }

    /// Whether this event is one of those.
    #[inline]
    pub fn wants(&self, stamp_ns: u64) -> bool {
        number(stamp_ns) < self.below
    }

    /// Notes an arrival of an event that is wanted.
    pub fn note(&mut self, arrival: Arrival) {
        while self.arrivals.len() >= self.room && self.below > 0 {
            self.keep_below(self.below / 2);
        }
        if self.wants(arrival.stamp_ns) {
            self.arrivals.push(arrival);
        }
    }

    fn keep_below(&mut self, below: u64) {
        self.below = below;
        self.arrivals
            .retain(|arrival| number(arrival.stamp_ns) < below);
    }
}

/// The event's number, by which it is chosen: spread evenly, whatever the times have in common.
#[inline]
fn number(stamp_ns: u64) -> u64 {
    // The golden ratio, as for hashes: the upper half of the product depends on all bits.
    stamp_ns.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

/// A client that was served with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Served {
    second: u32,
    tenth: u8,
    latency_ns: u64,
}

/// All samples, in order.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// Events whose clients were put in order.
    pub events: u64,
    /// The share of all events that was looked at.
    pub share: f64,
    /// By second, then by tenth.
    served: Vec<Served>,
}

impl Ranking {
    /// Of a window that began and ended at these times.
    ///
    /// An event counts if it has reached ten clients or more, and if none of its arrivals can lie outside of the window:
    /// it is of the window's time, but not of its very end, where the last clients may have been served too late to be
    /// seen.
    pub fn new(samples: &mut [Sample], window_ns: u64, end_ns: u64) -> Self {
        let below = samples.iter().map(|sample| sample.below).min();
        let below = below.unwrap_or(0);
        let mut all = Vec::new();
        for sample in samples {
            sample.keep_below(below);
            all.append(&mut sample.arrivals);
        }
        let late = |arrival: &Arrival| arrival.arrived_ns.saturating_sub(arrival.stamp_ns);
        let latest = all.iter().map(late).max().unwrap_or(0);
        let times = window_ns..=end_ns.saturating_sub(latest);
        all.retain(|arrival| times.contains(&arrival.stamp_ns));
        // Within a fleet the order of what came at the same time is known, and stays.
        all.sort_by_key(|arrival| (arrival.item, arrival.stamp_ns, arrival.arrived_ns));
        let mut ranking = Self {
            events: 0,
            share: below as f64 / ALL as f64,
            served: Vec::new(),
        };
        let events = all.chunk_by(|a, b| (a.item, a.stamp_ns) == (b.item, b.stamp_ns));
        for event in events.filter(|event| event.len() >= RANKS) {
            ranking.events += 1;
            let served = event.iter().enumerate().map(|(place, arrival)| Served {
                second: u32::try_from((arrival.arrived_ns - window_ns) / 1_000_000_000)
                    .unwrap_or(u32::MAX),
                tenth: (place * RANKS / event.len()) as u8,
                latency_ns: late(arrival),
            });
            ranking.served.extend(served);
        }
        ranking
            .served
            .sort_by_key(|served| (served.second, served.tenth));
        ranking
    }

    /// Latencies by tenth, of all seconds.
    pub fn by_tenth(&self) -> Vec<Times> {
        let mut tenths = vec![Times::default(); RANKS];
        for served in &self.served {
            tenths[usize::from(served.tenth)].record(served.latency_ns);
        }
        tenths
    }

    /// For each second in turn, latencies of those tenths that there are.
    pub fn by_second(&self) -> impl Iterator<Item = (u32, BTreeMap<u8, Times>)> {
        let seconds = self.served.chunk_by(|a, b| a.second == b.second);
        seconds.map(|served| {
            let mut tenths: BTreeMap<u8, Times> = BTreeMap::new();
            for one in served {
                let times = tenths.entry(one.tenth).or_default();
                times.record(one.latency_ns);
            }
            (served[0].second, tenths)
        })
    }
}

/// Numbers as bytes, in base64: there are many.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers = self.arrivals.iter();
        let numbers = numbers.flat_map(|arrival| {
            let Arrival {
                item,
                stamp_ns,
                arrived_ns,
            } = *arrival;
            [item, stamp_ns, arrived_ns]
        });
        let all = [self.below, self.room as u64].into_iter().chain(numbers);
        let bytes: Vec<u8> = all.flat_map(u64::to_le_bytes).collect();
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(de::Error::custom)?;
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        let [below, room, arrivals @ ..] = numbers.as_slice() else {
            return Err(de::Error::custom("this is no sample of arrivals"));
        };
        if !rest.is_empty() || arrivals.len() % 3 != 0 {
            return Err(de::Error::custom("a sample of arrivals is cut"));
        }
        let arrivals = arrivals.chunks_exact(3);
        let arrivals = arrivals.map(|numbers| Arrival {
            item: numbers[0],
            stamp_ns: numbers[1],
            arrived_ns: numbers[2],
        });
        Ok(Self {
            below: *below,
            room: *room as usize,
            arrivals: arrivals.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: std::ops::Range<u64> = 100 * SECOND..200 * SECOND;

    fn arrival(item: u64, stamp_ns: u64, late_ns: u64) -> Arrival {
        Arrival {
            item,
            stamp_ns,
            arrived_ns: stamp_ns + late_ns,
        }
    }

    fn ranking(samples: &mut [Sample]) -> Ranking {
        Ranking::new(samples, WINDOW.start, WINDOW.end)
    }

    /// What each tenth had to wait for at most, in ns.
    fn tenths(ranking: &Ranking) -> Vec<u64> {
        let tenths = ranking.by_tenth();
        tenths.iter().map(|times| times.0.max()).collect()
    }

    /// Two fleets, of which one has the quick half of the clients: neither could know that by itself.
    #[test]
    fn clients_of_all_fleets_are_put_in_order() {
        let mut samples = vec![Sample::new(2, 10); 2];
        for event in 0..50 {
            for client in 0..10 {
                for (half, sample) in samples.iter_mut().enumerate() {
                    // Each event in another order within the fleet.
                    let place = (client + event) % 10 + 10 * half as u64;
                    sample.note(arrival(7, WINDOW.start + event * 1_000, 100 + place));
                }
            }
        }
        let ranking = ranking(&mut samples);
        assert_eq!((ranking.events, ranking.share), (50, 1.0));
        let slowest: Vec<u64> = (0..10).map(|tenth| 101 + 2 * tenth).collect();
        assert_eq!(tenths(&ranking), slowest);
    }

    /// One that has room for little and one that has room for all: the events of both are the same in the end.
    #[test]
    fn only_events_that_all_fleets_have_looked_at_count() {
        let mut samples = vec![Sample::with_room(40), Sample::new(1, 5)];
        for event in 0..1_000 {
            for client in 0..5 {
                for (half, sample) in samples.iter_mut().enumerate() {
                    let arrival = arrival(0, WINDOW.start + event, 100 + client + 5 * half as u64);
                    if sample.wants(arrival.stamp_ns) {
                        sample.note(arrival);
                    }
                }
            }
        }
        assert!(samples[0].arrivals.len() <= 40 && samples[1].arrivals.len() == 5_000);
        let ranking = ranking(&mut samples);
        assert!((1..=8).contains(&ranking.events), "{ranking:?}");
        assert!(ranking.share < 0.05);
        // All ten of each, whoever has noted them.
        assert_eq!(tenths(&ranking), (100..110).collect::<Vec<_>>());
    }

    #[test]
    fn an_event_of_which_a_part_may_be_unseen_does_not_count() {
        let events = |stamps: &[u64], clients: u64| {
            let mut sample = Sample::new(1, 10);
            for stamp_ns in stamps {
                (0..clients).for_each(|late_ns| sample.note(arrival(0, *stamp_ns, late_ns)));
            }
            ranking(&mut [sample]).events
        };
        assert_eq!(events(&[WINDOW.start, WINDOW.end - 9], 10), 2);
        assert_eq!(events(&[WINDOW.start - 1], 10), 0, "before the window");
        assert_eq!(events(&[WINDOW.end - 8], 10), 0, "perhaps not all arrived");
        assert_eq!(events(&[WINDOW.start], 9), 0, "nine have no tenths");
        // What was late once may be late again.
        let mut sample = Sample::new(1, 10);
        (0..10).for_each(|_| sample.note(arrival(0, WINDOW.end - SECOND, 5)));
        sample.note(arrival(1, WINDOW.start, 2 * SECOND));
        assert_eq!(ranking(&mut [sample]).events, 0);
    }

    #[test]
    fn seconds_follow_each_other() {
        let mut sample = Sample::new(1, 10);
        for second in [3, 0] {
            let stamp_ns = WINDOW.start + second * SECOND;
            (0..10).for_each(|late_ns| sample.note(arrival(0, stamp_ns, late_ns + 1)));
        }
        let ranking = ranking(&mut [sample]);
        let seconds: Vec<(u32, usize)> = ranking
            .by_second()
            .map(|(second, tenths)| (second, tenths.len()))
            .collect();
        assert_eq!(seconds, [(0, 10), (3, 10)]);
    }

    /// More clients than there is room for: nothing is known rather than something wrong.
    #[test]
    fn room_for_no_event_at_all_is_no_ranking() {
        let mut sample = Sample::with_room(5);
        (0..100).for_each(|late_ns| sample.note(arrival(0, WINDOW.start, late_ns)));
        assert_eq!(ranking(&mut [sample]).events, 0);
        assert_eq!(ranking(&mut []).events, 0);
        assert!(!Sample::default().wants(5));
    }

    #[test]
    fn another_process_tells_all_of_it() {
        let mut sample = Sample::new(3, 10);
        (0..20).for_each(|late_ns| sample.note(arrival(1 << 40, WINDOW.start, late_ns)));
        let text = serde_json::to_string(&sample).unwrap();
        assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), sample);
        for bad in ["\"\"", "\"AAAA\"", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAA=\"", "5"] {
            assert!(serde_json::from_str::<Sample>(bad).is_err(), "{bad}");
        }
    }
}
