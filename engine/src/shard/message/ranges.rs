//! A bounded memory of numbers that were passed over, as ranges.

use std::collections::VecDeque;

/// Numbers in ranges, ascending. What the bound pushes out is not known any more.
#[derive(Debug, Default)]
pub struct Ranges {
    /// First and last number of each; neither touching nor overlapping.
    ranges: VecDeque<(u32, u32)>,
    /// Of the numbers up to this one it cannot be told.
    unknown_to: u32,
}

impl Ranges {
    /// Adds the numbers from `first` to `last`, which lie above all that were added before.
    pub fn push(&mut self, first: u32, last: u32, ranges_max: usize) {
        debug_assert!(first <= last && first > self.unknown_to);
        match self.ranges.back_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.ranges.push_back((first, last)),
        }
        if self.ranges.len() > ranges_max
            && let Some((_, last)) = self.ranges.pop_front()
        {
            self.unknown_to = last;
        }
    }

    /// Whether the number was added, or it cannot be told any more.
    pub fn may_contain(&self, number: u32) -> bool {
        let above = self.ranges.partition_point(|(first, _)| *first <= number);
        let in_range = above
            .checked_sub(1)
            .is_some_and(|at| number <= self.ranges[at].1);
        number <= self.unknown_to || in_range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();
        ranges.push(2, 3, 1);
        ranges.push(4, 9, 1);
        assert_eq!(ranges.ranges, [(2, 9)]);
        let known: Vec<u32> = (0..12).filter(|n| ranges.may_contain(*n)).collect();
        assert_eq!(known, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn beyond_the_bound_the_oldest_cannot_be_told_from_what_is_below() {
        let mut ranges = Ranges::default();
        for first in [3, 6, 9] {
            ranges.push(first, first, 2);
        }
        let known: Vec<u32> = (1..12).filter(|n| ranges.may_contain(*n)).collect();
        assert_eq!(known, [1, 2, 3, 6, 9]);
    }
}
