//! When a row of a replay is due: arithmetic only, so that it can be tested without waiting.

/// How fast a file is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// By the file's `time_ms` column, so many times as fast as it happened: 1.0 is real time.
    Speed(f64),
    /// So many rows a second, at even distances, whatever the file says of time.
    RateHz(f64),
    /// As fast as ingest takes it. Stands still while nothing is subscribed, since no time passes that a client could
    /// have missed something in.
    Unlimited,
}

impl Pace {
    /// Why this pace makes no sense, if so.
    pub(super) fn complaint(self) -> Option<String> {
        match self {
            Self::Speed(factor) if !(factor.is_finite() && factor > 0.0) => {
                Some(format!("a speed of {factor}; it must be above 0"))
            }
            Self::RateHz(rate_hz) if !(rate_hz.is_finite() && rate_hz > 0.0) => Some(format!(
                "a rate of {rate_hz} rows a second; it must be above 0"
            )),
            _ => None,
        }
    }
}

/// The due times of one row after the other, in nanoseconds since the replay's start. They never go back, not from
/// one pass through the file to the next either.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    pace: Pace,
    /// Rows so far, over all passes.
    rows: u64,
    /// Rows of this pass.
    pass_rows: u64,
    /// The file's time at which this pass began, and the latest since: `pass_first_ms <= pass_last_ms`.
    pass_first_ms: u64,
    pass_last_ms: u64,
    /// What all earlier passes took, in the file's time.
    earlier_passes_ms: u64,
}

impl Timetable {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            rows: 0,
            pass_rows: 0,
            pass_first_ms: 0,
            pass_last_ms: 0,
            earlier_passes_ms: 0,
        }
    }

    /// When the next row, which the file dates `time_ms`, is due. A date that goes back counts as the one before.
    pub(super) fn next_due_ns(&mut self, time_ms: u64) -> u64 {
        if self.pass_rows == 0 {
            (self.pass_first_ms, self.pass_last_ms) = (time_ms, time_ms);
        }
        self.pass_last_ms = self.pass_last_ms.max(time_ms);
        let row = self.rows;
        self.pass_rows += 1;
        self.rows += 1;
        // A float's 53 bits count nanoseconds exactly for 104 days, and to the microsecond for ever after.
        let due_ns = match self.pace {
            Pace::Unlimited => 0.0,
            Pace::RateHz(rate_hz) => row as f64 * 1e9 / rate_hz,
            Pace::Speed(factor) => {
                let elapsed_ms = self.earlier_passes_ms.saturating_add(self.pass_span_ms());
                elapsed_ms as f64 * 1e6 / factor
            }
        };
        due_ns as u64
    }

    /// The file begins anew. Its first row follows its last one by the mean distance of its rows, and by a
    /// millisecond at the least: a file without any span would otherwise be an endless row of passes at one time.
    pub(super) fn next_pass(&mut self) {
        let span_ms = self.pass_span_ms();
        let gap_ms = (span_ms / self.pass_rows.saturating_sub(1).max(1)).max(1);
        self.earlier_passes_ms = self
            .earlier_passes_ms
            .saturating_add(span_ms)
            .saturating_add(gap_ms);
        self.pass_rows = 0;
    }

    fn pass_span_ms(&self) -> u64 {
        self.pass_last_ms - self.pass_first_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn due(timetable: &mut Timetable, times_ms: &[u64]) -> Vec<u64> {
        times_ms
            .iter()
            .map(|&time_ms| timetable.next_due_ns(time_ms))
            .collect()
    }

    #[test]
    fn speed_counts_from_the_files_first_time() {
        let mut real = Timetable::new(Pace::Speed(1.0));
        assert_eq!(
            due(&mut real, &[5_000, 5_010, 5_010, 6_000]),
            [0, 10 * MS, 10 * MS, 1_000 * MS]
        );
        let mut double = Timetable::new(Pace::Speed(2.0));
        assert_eq!(due(&mut double, &[0, 10, 30]), [0, 5 * MS, 15 * MS]);
    }

    #[test]
    fn a_time_that_goes_back_is_held() {
        let mut timetable = Timetable::new(Pace::Speed(1.0));
        assert_eq!(
            due(&mut timetable, &[10, 30, 20, 40]),
            [0, 20 * MS, 20 * MS, 30 * MS]
        );
    }

    #[test]
    fn a_loop_goes_on_after_the_mean_distance() {
        let mut timetable = Timetable::new(Pace::Speed(1.0));
        assert_eq!(due(&mut timetable, &[100, 110, 120]), [0, 10 * MS, 20 * MS]);
        timetable.next_pass();
        assert_eq!(
            due(&mut timetable, &[100, 110, 120]),
            [30 * MS, 40 * MS, 50 * MS]
        );
        let mut instant = Timetable::new(Pace::Speed(1.0));
        assert_eq!(due(&mut instant, &[7]), [0]);
        instant.next_pass();
        assert_eq!(due(&mut instant, &[7]), [MS]);
    }

    #[test]
    fn a_rate_is_even_and_does_not_look_at_times() {
        let mut timetable = Timetable::new(Pace::RateHz(4.0));
        assert_eq!(due(&mut timetable, &[0, 9, 1]), [0, 250 * MS, 500 * MS]);
        timetable.next_pass();
        assert_eq!(due(&mut timetable, &[0]), [750 * MS]);
    }

    #[test]
    fn a_pace_must_be_positive() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pace::Speed(bad).complaint().is_some());
            assert!(Pace::RateHz(bad).complaint().is_some());
        }
        assert_eq!(Pace::Speed(0.1).complaint(), None);
        assert_eq!(Pace::Unlimited.complaint(), None);
    }

    proptest! {
        #[test]
        fn due_times_never_go_back(
            times_ms in prop::collection::vec(any::<u64>(), 1..50),
            factor in 0.01..100.0_f64,
            passes in 1..4,
        ) {
            let mut timetable = Timetable::new(Pace::Speed(factor));
            let mut last = 0;
            for _ in 0..passes {
                for &time_ms in &times_ms {
                    let due_ns = timetable.next_due_ns(time_ms);
                    prop_assert!(due_ns >= last);
                    last = due_ns;
                }
                timetable.next_pass();
            }
        }
    }
}
