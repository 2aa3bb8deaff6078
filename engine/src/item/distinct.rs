//! DISTINCT: the last events of an item, each for itself. Ingest keeps them as records for the shards' rings, a shard
//! as rows for its clients; both forget the oldest.

use std::collections::VecDeque;

/// The last events of one item, oldest first.
#[derive(Debug)]
pub struct History<T> {
    events: VecDeque<(T, usize)>,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
}

impl<T> History<T> {
    /// At most `len_max` events, and no more than `bytes_max` bytes of them.
    pub fn new(len_max: usize, bytes_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            len_max,
            bytes_max,
        }
    }

    /// Keeps at least so many events from now on.
    pub fn widen(&mut self, len_max: usize) {
        self.len_max = self.len_max.max(len_max);
    }

    /// Adds the newest event, of `bytes` bytes.
    pub fn push(&mut self, event: T, bytes: usize) {
        if self.len_max == 0 {
            return;
        }
        self.events.push_back((event, bytes));
        self.bytes += bytes;
        while self.events.len() > self.len_max
            || (self.bytes > self.bytes_max && self.events.len() > 1)
        {
            let (_, bytes) = self.events.pop_front().expect("more than none");
            self.bytes -= bytes;
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.events.clear();
        self.bytes = 0;
    }

    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// What their bytes come to.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The last `count` events, oldest first.
    pub fn last(&self, count: usize) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        let skip = self.events.len().saturating_sub(count);
        self.events.range(skip..).map(|(event, _)| event)
    }

    /// The first kept event for which `is_newer` holds; events are in the order of time, and so must be the question.
    pub fn first_after(&self, is_newer: impl Fn(&T) -> bool) -> usize {
        self.events.partition_point(|(event, _)| !is_newer(event))
    }

    /// An event by its place, counted from the oldest.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.events.get(at).map(|(event, _)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_by_number_and_by_bytes() {
        let mut history = History::new(3, 100);
        (1..=5).for_each(|event| history.push(event, 1));
        assert_eq!(history.last(10).copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(history.last(2).copied().collect::<Vec<_>>(), [4, 5]);
        assert_eq!(history.first_after(|event| *event > 3), 1);
        history.push(6, 99);
        assert_eq!(history.last(10).copied().collect::<Vec<_>>(), [5, 6]);
        history.push(7, 1_000);
        assert_eq!(history.last(10).copied().collect::<Vec<_>>(), [7]);
        history.clear();
        assert!(history.is_empty());
    }

    #[test]
    fn a_history_of_no_length_keeps_nothing() {
        let mut history = History::new(0, 100);
        history.push(1, 1);
        assert_eq!(history.len(), 0);
        history.widen(1);
        history.push(2, 1);
        assert_eq!(history.get(0), Some(&2));
    }
}
