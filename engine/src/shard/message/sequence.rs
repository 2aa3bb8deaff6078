//! One sequence of messages: in the order of their numbers, one at a time (TLCP, Message Sending).

use super::ranges::Ranges;
use crate::time::Instant;
use std::collections::BTreeMap;

/// Why a number is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLow {
    /// The number is taken: the client sent its message twice.
    Repeated,
    /// The number was passed over, or that cannot be told any more.
    PassedOver,
}

/// Numbers whose messages did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub first: u32,
    pub last: u32,
}

/// A message that waits for its turn.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub text: Box<str>,
    /// The client wants to know what became of it.
    pub outcome: bool,
    /// How long it waits for the numbers before it.
    pub wait_until: Instant,
}

/// A sequence.
#[derive(Debug)]
pub struct Sequence {
    pub name: Box<str>,
    /// The next number to get in line for the adapter. Wider than a number, as there is an end behind the last one.
    next: u64,
    /// Below `next`: in line for the adapter. From there on: waiting for what lies between.
    held: BTreeMap<u32, Held>,
    /// A message of the sequence is inside the adapter.
    busy: bool,
    skipped: Ranges,
    /// When the numbers missing before the first that waits are given up: the first `wait_until` of those that wait.
    deadline: Option<Instant>,
}

impl Sequence {
    /// A sequence of which nothing has come.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            next: 1,
            held: BTreeMap::new(),
            busy: false,
            skipped: Ranges::default(),
            deadline: None,
        }
    }

    /// Whether a message with this number may still come.
    pub fn check(&self, prog: u32) -> Result<(), TooLow> {
        if u64::from(prog) >= self.next {
            if self.held.contains_key(&prog) {
                return Err(TooLow::Repeated);
            }
            Ok(())
        } else if self.skipped.may_contain(prog) {
            Err(TooLow::PassedOver)
        } else {
            Err(TooLow::Repeated)
        }
    }

    /// Takes a message whose number is right.
    pub fn take(&mut self, prog: u32, message: Held) {
        debug_assert_eq!(self.check(prog), Ok(()));
        let waits = u64::from(prog) > self.next;
        if waits {
            let until = message.wait_until;
            self.deadline = Some(self.deadline.map_or(until, |at| at.min(until)));
        }
        self.held.insert(prog, message);
        if !waits {
            self.line_up();
        }
    }

    /// Gives up the first missing numbers, if their time is over. To be called again until there are none.
    pub fn give_up(&mut self, now: Instant, ranges_max: usize) -> Option<Skipped> {
        self.deadline.filter(|at| *at <= now)?;
        let first = u32::try_from(self.next).ok()?;
        let (&waiting, _) = self.held.range(first..).next()?;
        let last = waiting - 1;
        self.skipped.push(first, last, ranges_max);
        self.next = u64::from(waiting);
        self.line_up();
        Some(Skipped { first, last })
    }

    /// The next message for the adapter, unless one is inside.
    pub fn start(&mut self) -> Option<(u32, Held)> {
        if self.busy {
            return None;
        }
        let entry = self.held.first_entry()?;
        if u64::from(*entry.key()) >= self.next {
            return None;
        }
        self.busy = true;
        Some(entry.remove_entry())
    }

    /// The message inside the adapter has an outcome.
    pub fn done(&mut self) {
        debug_assert!(self.busy);
        self.busy = false;
    }

    /// When [`Sequence::give_up`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Numbers that are there without a gap get in line.
    fn line_up(&mut self) {
        while let Ok(next) = u32::try_from(self.next)
            && self.held.contains_key(&next)
        {
            self.next += 1;
        }
        let next = u32::try_from(self.next);
        self.deadline = next.ok().and_then(|next| {
            let waiting = self.held.range(next..);
            waiting.map(|(_, message)| message.wait_until).min()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(wait_until_ms: u64) -> Held {
        Held {
            text: "".into(),
            outcome: true,
            wait_until: Instant::from_millis(wait_until_ms),
        }
    }

    fn started(sequence: &mut Sequence) -> Option<u32> {
        sequence.start().map(|(prog, _)| prog)
    }

    #[test]
    fn one_at_a_time_in_the_order_of_the_numbers() {
        let mut sequence = Sequence::new("a");
        for prog in [2, 1, 3] {
            sequence.take(prog, message(100));
        }
        assert_eq!(started(&mut sequence), Some(1));
        assert_eq!(started(&mut sequence), None);
        sequence.done();
        assert_eq!(started(&mut sequence), Some(2));
        sequence.done();
        assert_eq!(started(&mut sequence), Some(3));
        assert_eq!(sequence.deadline(), None);
    }

    #[test]
    fn the_shortest_patience_decides_over_all_gaps() {
        let mut sequence = Sequence::new("a");
        sequence.take(3, message(1_000));
        sequence.take(6, message(10));
        let now = Instant::from_millis(10);
        assert_eq!(sequence.deadline(), Some(now));
        assert_eq!(
            sequence.give_up(now, 9),
            Some(Skipped { first: 1, last: 2 })
        );
        assert_eq!(
            sequence.give_up(now, 9),
            Some(Skipped { first: 4, last: 5 })
        );
        assert_eq!(sequence.give_up(now, 9), None);
        assert_eq!(sequence.check(4), Err(TooLow::PassedOver));
        assert_eq!(sequence.check(6), Err(TooLow::Repeated));
    }

    #[test]
    fn the_last_number_of_all_is_taken_too() {
        let mut sequence = Sequence::new("a");
        sequence.take(u32::MAX, message(0));
        let skipped = sequence.give_up(Instant::ZERO, 9).unwrap();
        assert_eq!(skipped.last, u32::MAX - 1);
        assert_eq!(started(&mut sequence), Some(u32::MAX));
        assert_eq!(sequence.check(u32::MAX), Err(TooLow::Repeated));
        assert_eq!(sequence.give_up(Instant::ZERO, 9), None);
    }

    proptest! {
        /// Whatever comes when: each number is started once, or skipped, or neither has come yet; in order.
        #[test]
        fn each_number_has_one_fate(steps in prop::collection::vec((1u32..30, 0u64..40, 0u64..10), 1..80)) {
            let mut sequence = Sequence::new("a");
            let (mut now, mut fates, mut taken) = (0, Vec::new(), Vec::new());
            for (prog, patience, pause) in steps {
                now += pause;
                match sequence.check(prog) {
                    Ok(()) => {
                        sequence.take(prog, message(now + patience));
                        prop_assert!(!taken.contains(&prog));
                        taken.push(prog);
                    }
                    Err(TooLow::Repeated) => prop_assert!(taken.contains(&prog)),
                    Err(TooLow::PassedOver) => prop_assert!(!taken.contains(&prog)),
                }
                while let Some(skipped) = sequence.give_up(Instant::from_millis(now), 100) {
                    prop_assert!((skipped.first..=skipped.last).all(|n| !taken.contains(&n)));
                }
                while let Some((prog, _)) = sequence.start() {
                    prop_assert!(taken.contains(&prog) && fates.last().is_none_or(|last| *last < prog));
                    fates.push(prog);
                    sequence.done();
                }
            }
            while let Some(at) = sequence.deadline() {
                sequence.give_up(at, 100);
            }
            while let Some((prog, _)) = sequence.start() {
                fates.push(prog);
                sequence.done();
            }
            taken.sort_unstable();
            prop_assert_eq!(fates, taken);
        }
    }
}
