//! Messages outside of any sequence: each goes to the adapter at once. Those with numbers are told apart by them, so
//! that none is processed twice, and the client hears of the numbers that never came.

use super::ranges::Ranges;
use super::sequence::{Skipped, TooLow};
use crate::time::Instant;
use std::collections::VecDeque;

/// The numbers that a session has used outside of sequences.
#[derive(Debug, Default)]
pub struct Unordered {
    highest: u32,
    /// What is missing below it, ascending; the time to give up is ascending with it.
    missing: VecDeque<Gap>,
    skipped: Ranges,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u32,
    last: u32,
    until: Instant,
}

impl Unordered {
    /// Whether a message with this number may still come.
    pub fn check(&self, prog: u32) -> Result<(), TooLow> {
        if prog > self.highest || self.gap_of(prog).is_some() {
            Ok(())
        } else if self.skipped.may_contain(prog) {
            Err(TooLow::PassedOver)
        } else {
            Err(TooLow::Repeated)
        }
    }

    /// Notes a number that is right. Those that it leaves open below may come until then.
    pub fn take(&mut self, prog: u32, until: Instant) {
        debug_assert_eq!(self.check(prog), Ok(()));
        if prog > self.highest {
            if prog - self.highest > 1 {
                self.missing.push_back(Gap {
                    first: self.highest + 1,
                    last: prog - 1,
                    until,
                });
            }
            self.highest = prog;
            return;
        }
        let Some(at) = self.gap_of(prog) else { return };
        let gap = self.missing[at];
        let before = (gap.first < prog).then(|| Gap {
            last: prog - 1,
            ..gap
        });
        let behind = (prog < gap.last).then(|| Gap {
            first: prog + 1,
            ..gap
        });
        match (before, behind) {
            (Some(before), Some(behind)) => {
                self.missing[at] = before;
                self.missing.insert(at + 1, behind);
            }
            (Some(rest), None) | (None, Some(rest)) => self.missing[at] = rest,
            (None, None) => _ = self.missing.remove(at),
        }
    }

    /// Gives up the first missing numbers, if their time is over or there are too many gaps. To be called again until
    /// there are none.
    pub fn give_up(&mut self, now: Instant, gaps_max: usize) -> Option<Skipped> {
        let too_many = self.missing.len() > gaps_max;
        let &Gap { first, last, until } = self.missing.front()?;
        if !too_many && until > now {
            return None;
        }
        self.missing.pop_front();
        self.skipped.push(first, last, gaps_max);
        Some(Skipped { first, last })
    }

    /// When [`Unordered::give_up`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.missing.front().map(|gap| gap.until)
    }

    fn gap_of(&self, prog: u32) -> Option<usize> {
        let above = self.missing.partition_point(|gap| gap.first <= prog);
        let at = above.checked_sub(1)?;
        (prog <= self.missing[at].last).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_missing_is_given_up_in_time() {
        let mut unordered = Unordered::default();
        let at = Instant::from_millis;
        unordered.take(3, at(30));
        unordered.take(1, at(31));
        unordered.take(6, at(36));
        assert_eq!(unordered.deadline(), Some(at(30)));
        assert_eq!(
            unordered.give_up(at(30), 9),
            Some(Skipped { first: 2, last: 2 })
        );
        assert_eq!(unordered.give_up(at(30), 9), None);
        assert_eq!(unordered.check(2), Err(TooLow::PassedOver));
        assert_eq!(unordered.check(3), Err(TooLow::Repeated));
        assert_eq!(unordered.check(5), Ok(()));
    }

    #[test]
    fn beyond_the_bound_the_oldest_gap_is_given_up() {
        let mut unordered = Unordered::default();
        for prog in [2, 4, 6] {
            unordered.take(prog, Instant::from_millis(1_000));
        }
        let skipped = unordered.give_up(Instant::ZERO, 2);
        assert_eq!(skipped, Some(Skipped { first: 1, last: 1 }));
        assert_eq!(unordered.give_up(Instant::ZERO, 2), None);
    }

    proptest! {
        /// Against a set: the same numbers are accepted, and each of the others is skipped once or still open.
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec((1u32..50, 0u64..8), 1..120)) {
            let mut unordered = Unordered::default();
            let (mut seen, mut skipped, mut now) = (BTreeSet::new(), BTreeSet::new(), 0);
            for (prog, pause) in steps {
                now += pause;
                let fresh = unordered.check(prog);
                prop_assert_eq!(fresh == Err(TooLow::Repeated), seen.contains(&prog));
                prop_assert_eq!(fresh == Err(TooLow::PassedOver), skipped.contains(&prog));
                if fresh.is_ok() {
                    unordered.take(prog, Instant::from_millis(now + 20));
                    seen.insert(prog);
                }
                while let Some(gap) = unordered.give_up(Instant::from_millis(now), 100) {
                    for number in gap.first..=gap.last {
                        prop_assert!(!seen.contains(&number) && skipped.insert(number));
                    }
                }
            }
        }
    }
}
