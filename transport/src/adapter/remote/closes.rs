//! The ends of sessions and subscriptions that a metadata adapter is told of, kept until they are answered, so that the
//! next remote can be told of those that got lost. What that means is the configuration's to say (`closes_recovery`).

use super::sessions::Close;
use crate::config::plan::ClosesRecovery;
use std::collections::VecDeque;
use std::rc::Rc;

/// Ends that are kept. (guess: all sessions of a shard that is full, with some subscriptions each, would be more; a
/// remote that is away for so long has lost count anyway)
const KEPT_MAX: usize = 100_000;

/// The ends from the first on that was not answered.
pub(super) struct Closes {
    policy: ClosesRecovery,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    adapter: String,
    /// Ends that were forgotten because there were too many.
    forgotten: u64,
}

struct Entry {
    close: Rc<Close>,
    answered: bool,
}

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CloseId(u64);

impl Closes {
    pub fn new(policy: ClosesRecovery, adapter: &str) -> Self {
        Self {
            policy,
            adapter: adapter.to_owned(),
            entries: VecDeque::new(),
            first: 0,
            forgotten: 0,
        }
    }

    /// An end is about to be told, or would be if a remote were there.
    pub fn begin(&mut self, close: &Rc<Close>) -> Option<CloseId> {
        if self.policy == ClosesRecovery::Unneeded {
            return None;
        }
        if self.entries.len() == KEPT_MAX {
            self.entries.pop_front();
            self.first += 1;
            self.forgotten += 1;
            if self.forgotten == 1 {
                let adapter = &self.adapter;
                tracing::warn!(
                    adapter,
                    "not every end of sessions and subscriptions can be kept for the next remote"
                );
            }
        }
        self.entries.push_back(Entry {
            close: Rc::clone(close),
            answered: false,
        });
        Some(CloseId(self.first + self.entries.len() as u64 - 1))
    }

    /// The adapter has answered, or will not any more though it is there.
    pub fn answered(&mut self, id: Option<CloseId>) {
        let index = id.and_then(|CloseId(id)| usize::try_from(id.checked_sub(self.first)?).ok());
        let entry = index.and_then(|index| self.entries.get_mut(index));
        if let Some(entry) = entry {
            entry.answered = true;
        }
        while self.entries.front().is_some_and(|entry| entry.answered) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// What a new remote is to be told, in order.
    pub fn replay(&mut self) -> Vec<(CloseId, Rc<Close>)> {
        if self.policy == ClosesRecovery::Optimistic {
            let done = self.entries.iter().rposition(|entry| entry.answered);
            let done = done.map_or(0, |last| last + 1);
            self.entries.drain(..done);
            self.first += done as u64;
        }
        let ids = (self.first..).map(CloseId);
        let again = self.entries.iter_mut().zip(ids).map(|(entry, id)| {
            entry.answered = false;
            (id, Rc::clone(&entry.close))
        });
        again.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(session: &str) -> Rc<Close> {
        Rc::new(Close {
            session: session.into(),
            table: None,
        })
    }

    /// Five ends, of which the second and the fourth are answered: what the next remote is told.
    fn replayed(policy: ClosesRecovery) -> String {
        let mut closes = Closes::new(policy, "test");
        let ids: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|session| closes.begin(&close(session)))
            .into();
        closes.answered(ids[1]);
        closes.answered(ids[3]);
        let again = closes.replay();
        again.iter().map(|(_, close)| &*close.session).collect()
    }

    #[test]
    fn policies_differ_in_what_is_told_again() {
        assert_eq!(replayed(ClosesRecovery::Unneeded), "");
        assert_eq!(replayed(ClosesRecovery::Optimistic), "e");
        assert_eq!(replayed(ClosesRecovery::Pessimistic), "abcde");
    }

    #[test]
    fn what_was_answered_in_order_is_forgotten() {
        let mut closes = Closes::new(ClosesRecovery::Pessimistic, "test");
        let ids = ["a", "b", "c"].map(|session| closes.begin(&close(session)));
        closes.answered(ids[1]);
        closes.answered(ids[0]);
        assert_eq!(closes.entries.len(), 1);
        let again = closes.replay();
        assert_eq!((again.len(), Some(again[0].0)), (1, ids[2]));
        closes.answered(ids[2]);
        assert!(closes.replay().is_empty());
        closes.answered(ids[0]); // long gone
    }

    #[test]
    fn there_is_a_bound() {
        let mut closes = Closes::new(ClosesRecovery::Pessimistic, "test");
        let first = closes.begin(&close("first"));
        for _ in 0..KEPT_MAX {
            closes.begin(&close("next"));
        }
        closes.answered(first);
        assert_eq!((closes.entries.len(), closes.forgotten), (KEPT_MAX, 1));
        assert_eq!(&*closes.replay()[0].1.session, "next");
    }
}
