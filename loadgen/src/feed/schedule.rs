//! When events are due: evenly, or in bursts of a millisecond as market data has them.

use std::time::Duration;

/// The share of milliseconds that are bursts. With ten times the rate, half of all events come in them. (guess: real
/// feeds differ by the hour)
pub const BURST_SHARE: f64 = 0.05;
const SLOT_NS: f64 = 1e6;

/// Times at which events are due.
#[derive(Debug)]
pub struct Schedule {
    rate_hz: f64,
    burst: f64,
    random: fastrand::Rng,
    now_ns: f64,
    slot_end_ns: f64,
    slot_rate_hz: f64,
}

impl Schedule {
    /// So many events a second, with bursts of so many times that.
    pub fn new(rate_hz: f64, burst: f64, seed: u64) -> Self {
        Self {
            rate_hz,
            burst,
            random: fastrand::Rng::with_seed(seed),
            now_ns: 0.0,
            slot_end_ns: 0.0,
            slot_rate_hz: rate_hz,
        }
    }

    /// The next time, after the start.
    pub fn next(&mut self) -> Duration {
        if self.burst <= 1.0 {
            self.now_ns += 1e9 / self.rate_hz;
            return Duration::from_nanos(self.now_ns as u64);
        }
        let mut wanted = 1.0;
        loop {
            let room = (self.slot_end_ns - self.now_ns) * self.slot_rate_hz / 1e9;
            if room >= wanted {
                self.now_ns += wanted * 1e9 / self.slot_rate_hz;
                return Duration::from_nanos(self.now_ns as u64);
            }
            wanted -= room.max(0.0);
            self.now_ns = self.slot_end_ns;
            self.slot_end_ns += SLOT_NS;
            let is_burst = self.random.f64() < BURST_SHARE;
            let calm = (1.0 - BURST_SHARE * self.burst) / (1.0 - BURST_SHARE);
            let times = if is_burst { self.burst } else { calm };
            // A calm slot may have next to nothing; it still passes.
            self.slot_rate_hz = (self.rate_hz * times).max(1e-9);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &mut Schedule, seconds: u64) -> Vec<u64> {
        let end = Duration::from_secs(seconds);
        std::iter::from_fn(|| Some(schedule.next()).filter(|due| *due < end))
            .map(|due| due.as_nanos() as u64)
            .collect()
    }

    #[test]
    fn events_are_spread_evenly() {
        let times = times(&mut Schedule::new(1_000.0, 1.0, 1), 1);
        assert!(times.len().abs_diff(1_000) <= 1);
        assert!(
            times
                .windows(2)
                .all(|pair| (pair[1] - pair[0]).abs_diff(1_000_000) <= 1)
        );
    }

    #[test]
    fn bursts_have_their_rate_and_the_mean_stays() {
        let times = times(&mut Schedule::new(10_000.0, 10.0, 7), 20);
        assert!(times.len().abs_diff(200_000) < 20_000, "{}", times.len());
        let mut slots = vec![0; 20_000];
        times
            .iter()
            .for_each(|ns| slots[(ns / 1_000_000) as usize] += 1);
        // The mean is ten in a millisecond.
        let bursts = slots.iter().filter(|count| **count >= 99).count();
        assert!(bursts.abs_diff(1_000) < 150, "{bursts}");
        assert!(slots.iter().max().is_some_and(|most| *most <= 101));
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let one = times(&mut Schedule::new(5_000.0, 10.0, 3), 1);
        assert_eq!(one, times(&mut Schedule::new(5_000.0, 10.0, 3), 1));
        assert_ne!(one, times(&mut Schedule::new(5_000.0, 10.0, 4), 1));
    }
}
