//! When each session is due to connect: an open-loop schedule, so a session that starts late does not put off the
//! next ones.

use std::time::Duration;

/// The schedule of one thread, whose sessions are every `threads`-th of all.
#[derive(Clone, Debug)]
pub struct Pace {
    rate_hz: f64,
    next: u32,
    step: u32,
    end: u32,
}

impl Pace {
    /// Thread `thread` of `threads` starts its share of `sessions`, of which `rate_hz` a second are due in all.
    pub fn new(sessions: u32, rate_hz: f64, thread: u32, threads: u32) -> Self {
        Self {
            rate_hz,
            next: thread,
            step: threads,
            end: sessions,
        }
    }

    /// The next session, if it is due `elapsed` after the start.
    pub fn take_due(&mut self, elapsed: Duration) -> Option<u32> {
        if self.next_due()? > elapsed {
            return None;
        }
        let session = self.next;
        self.next = self.next.saturating_add(self.step);
        Some(session)
    }

    /// When the next session is due after the start; `None` if all have been started.
    pub fn next_due(&self) -> Option<Duration> {
        (self.next < self.end).then(|| Duration::from_secs_f64(f64::from(self.next) / self.rate_hz))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(pace: &mut Pace, elapsed_ms: u64) -> Vec<u32> {
        std::iter::from_fn(|| pace.take_due(Duration::from_millis(elapsed_ms))).collect()
    }

    #[test]
    fn sessions_are_spread_evenly() {
        let mut pace = Pace::new(5, 100.0, 0, 1);
        assert_eq!(due(&mut pace, 0), [0]);
        assert_eq!(pace.next_due(), Some(Duration::from_millis(10)));
        assert!(due(&mut pace, 9).is_empty());
        assert_eq!(due(&mut pace, 10), [1]);
        assert_eq!(due(&mut pace, 35), [2, 3], "late ones start at once");
        assert_eq!(due(&mut pace, 1_000), [4]);
        assert_eq!(pace.next_due(), None);
        assert!(due(&mut pace, 2_000).is_empty());
    }

    #[test]
    fn threads_take_turns() {
        let mut all = Vec::new();
        for thread in 0..3 {
            let mut pace = Pace::new(10, 10.0, thread, 3);
            assert_eq!(
                pace.next_due(),
                Some(Duration::from_millis(100 * u64::from(thread)))
            );
            all.extend(due(&mut pace, 60_000));
        }
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_thread_without_a_share_has_nothing_to_do() {
        assert_eq!(Pace::new(1, 10.0, 1, 2).next_due(), None);
    }
}
