//! Measures what comes in: whether a session gets more bytes than its bandwidth, or an item more updates than its
//! frequency.

use crate::sim::judge::Shown;
use crate::sim::ledger::KEYS;
use crate::time::{Duration, Instant};
use crate::tlcp::notify::GrantedBandwidth;

/// Bytes against a bandwidth, over every window at once: a bucket that leaks at the granted rate. An update may only be
/// written while it holds less than the burst.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_per_s: Option<f64>,
    level: f64,
    at: Instant,
}

/// What a session may save up.
const BURST_S: f64 = 0.25;
/// Rounding may make this much of a difference.
const ROUNDING_BYTES: f64 = 1.0;

impl Meter {
    /// The client is told its bandwidth. What it has had before is forgiven.
    pub fn set(&mut self, bandwidth: GrantedBandwidth, now: Instant) {
        self.bytes_per_s = match bandwidth {
            GrantedBandwidth::Limited(kbps) => Some(kbps * 125.0),
            GrantedBandwidth::Unlimited | GrantedBandwidth::Unmanaged => None,
        };
        (self.level, self.at) = (0.0, now);
    }

    /// Whether an update may be written now.
    pub fn allows(&mut self, now: Instant) -> bool {
        let Some(rate) = self.bytes_per_s else {
            return true;
        };
        let leaked = now.since(self.at).as_secs_f64() * rate;
        (self.level, self.at) = ((self.level - leaked).max(0.0), now);
        self.level < rate * BURST_S + ROUNDING_BYTES
    }

    /// A line of so many bytes was written.
    pub fn count(&mut self, bytes: usize, now: Instant) {
        self.allows(now);
        self.level += bytes as f64;
    }
}

/// When an item, or each key of a COMMAND item, was last sent.
#[derive(Debug)]
pub enum Pace {
    /// All updates count.
    Item(Option<Instant>),
    /// Updates of the same row count.
    Keys(Box<[Option<Instant>; KEYS.len()]>),
}

impl Pace {
    /// An update has come; it was `written` then, or, if that is not known, at some time before.
    pub fn check(
        &mut self,
        shown: Shown,
        hz: Option<f64>,
        written: Option<Instant>,
    ) -> Result<(), String> {
        let (last, counts) = match (self, shown) {
            (Self::Item(last), _) => (last, shown != Shown::Snapshot),
            (Self::Keys(keys), Shown::Updated(key)) => (&mut keys[key], true),
            // A row may be shown again with the whole table, however soon after it has changed.
            (Self::Keys(keys), Shown::Added(key) | Shown::Deleted(key)) => {
                keys[key] = None;
                return Ok(());
            }
            (Self::Keys(_), Shown::Snapshot | Shown::Event) => return Ok(()),
        };
        let last = std::mem::replace(last, written);
        let (Some(hz), Some(last), Some(written)) = (hz.filter(|_| counts), last, written) else {
            return Ok(());
        };
        match written.since(last) {
            since if since < Duration::from_secs_f64(1.0 / hz) => {
                Err(format!("{since:?} after the last at {hz} Hz"))
            }
            _ => Ok(()),
        }
    }

    /// There is another frequency: for rows of a COMMAND item it counts from now on, and for others where there was none
    /// before.
    pub fn begin(&mut self, first: bool) {
        match self {
            Self::Keys(keys) => **keys = [None; KEYS.len()],
            Self::Item(last) if first => *last = None,
            Self::Item(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_as_full_as_it_may_be() {
        let mut meter = Meter::default();
        meter.set(GrantedBandwidth::Limited(8.0), Instant::ZERO);
        meter.count(240, Instant::ZERO);
        assert!(meter.allows(Instant::ZERO));
        meter.count(500, Instant::ZERO);
        assert!(!meter.allows(Instant::from_millis(480)));
        assert!(meter.allows(Instant::from_millis(500)));
    }

    #[test]
    fn rows_have_a_pace_each() {
        let at = |millis| Some(Instant::from_millis(millis));
        let mut pace = Pace::Keys(Box::new([None; KEYS.len()]));
        assert!(pace.check(Shown::Added(0), Some(2.0), at(0)).is_ok());
        assert!(pace.check(Shown::Updated(0), Some(2.0), at(0)).is_ok());
        assert!(pace.check(Shown::Updated(1), Some(2.0), at(100)).is_ok());
        assert!(pace.check(Shown::Updated(0), Some(2.0), at(499)).is_err());
        assert!(pace.check(Shown::Deleted(1), Some(2.0), at(200)).is_ok());
        assert!(pace.check(Shown::Updated(1), Some(2.0), at(201)).is_ok());
        let mut pace = Pace::Item(None);
        assert!(pace.check(Shown::Event, Some(2.0), at(0)).is_ok());
        assert!(pace.check(Shown::Event, Some(2.0), at(499)).is_err());
        assert!(pace.check(Shown::Event, Some(2.0), at(999)).is_ok());
    }
}
