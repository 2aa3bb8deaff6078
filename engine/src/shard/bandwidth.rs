//! Bandwidth of a session: a token bucket over all bytes written to it.

use crate::time::{Duration, Instant};

/// What a session may be sent.
#[derive(Clone, Debug)]
pub struct Bucket {
    kbps: f64,
    bytes_per_s: f64,
    /// Negative while more was written than earned: a line is never cut.
    tokens: f64,
    refilled: Instant,
}

/// What a quiet session may save up. Short enough that a limit is felt within a second, long enough that the lines of
/// a slow session still share their frames. (guess)
const BURST: Duration = Duration::from_millis(250);

impl Bucket {
    /// `kbps` kilobits of 1,000 bits per second.
    pub fn new(kbps: f64, now: Instant) -> Self {
        let bytes_per_s = kbps * 1000.0 / 8.0;
        Self {
            kbps,
            bytes_per_s,
            tokens: bytes_per_s * BURST.as_secs_f64(),
            refilled: now,
        }
    }

    /// The same for `rows_per_s` of something that is counted instead of weighed: a row is a byte.
    pub fn of_rows(rows_per_s: u32, now: Instant) -> Self {
        Self::new(f64::from(rows_per_s) * 8.0 / 1000.0, now)
    }

    /// Changes the rate; what was saved up or overdrawn stays, within the new burst.
    pub fn set_rate(&mut self, kbps: f64, now: Instant) {
        self.refill(now);
        self.kbps = kbps;
        self.bytes_per_s = kbps * 1000.0 / 8.0;
        self.tokens = self.tokens.min(self.bytes_per_s * BURST.as_secs_f64());
    }

    /// The rate.
    pub fn kbps(&self) -> f64 {
        self.kbps
    }

    /// Whether something may be written now; if not, when.
    pub fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        self.refill(now);
        if self.tokens > 0.0 {
            return Ok(());
        }
        // A thousandth of a second's bytes on top, so that rounding cannot leave the bucket just empty.
        let wait_s = (self.bytes_per_s / 1000.0 - self.tokens) / self.bytes_per_s;
        Err(now + Duration::try_from_secs_f64(wait_s).unwrap_or(Duration::MAX))
    }

    /// Bytes have been written.
    pub fn take(&mut self, bytes: usize, now: Instant) {
        self.refill(now); // or what was earned meanwhile would pay for them, beyond what can be saved up
        self.tokens -= bytes as f64;
    }

    fn refill(&mut self, now: Instant) {
        if now == self.refilled {
            return;
        }
        let earned = now.since(self.refilled).as_secs_f64() * self.bytes_per_s;
        self.tokens = (self.tokens + earned).min(self.bytes_per_s * BURST.as_secs_f64());
        self.refilled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Over the whole run no more is sent than the rate and one burst and one line allow.
        #[test]
        fn never_exceeds_the_rate(kbps in 0.5f64..10_000.0, lines in prop::collection::vec(1usize..2_000, 1..100)) {
            let mut now = Instant::ZERO;
            let mut bucket = Bucket::new(kbps, now);
            let (mut sent, mut largest) = (0.0, 0.0f64);
            for line in lines {
                while let Err(later) = bucket.ready(now) {
                    prop_assert!(later > now);
                    now = later;
                }
                bucket.take(line, now);
                sent += line as f64;
                largest = largest.max(line as f64);
                let allowed = kbps * 125.0 * (now.as_nanos() as f64 / 1e9 + BURST.as_secs_f64()) + largest + 1.0;
                prop_assert!(sent <= allowed, "{} > {}", sent, allowed);
            }
        }
    }
}
