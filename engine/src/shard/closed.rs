//! The sessions that were closed a moment ago, and why.
//!
//! A client whose session the server or somebody else has closed between two of its connections learns of it by its next
//! bind: it is answered `END` with the cause, as it would have been on a connection (TLCP, Session Binding). After
//! some seconds the session is one that was never there.

use super::SessionKey;
use crate::time::{Duration, Instant};
use crate::tlcp::cause::Cause;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The causes by session, for a while, and no more than so many.
#[derive(Debug, Default)]
pub(super) struct Closed {
    causes: HashMap<Box<str>, (SessionKey, Cause), foldhash::quality::RandomState>,
    /// In the order of closing.
    order: VecDeque<(Instant, Box<str>)>,
}

impl Closed {
    /// Remembers a session; the oldest are forgotten beyond `len_max`.
    pub fn remember(
        &mut self,
        id: Box<str>,
        key: SessionKey,
        cause: Cause,
        len_max: usize,
        now: Instant,
    ) {
        while self.order.len() >= len_max {
            let Some((_, oldest)) = self.order.pop_front() else {
                return;
            };
            self.causes.remove(&oldest);
        }
        self.order.push_back((now, id.clone()));
        self.causes.insert(id, (key, cause));
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Forgets what was closed longer ago than `age_max`.
    pub fn forget(&mut self, age_max: Duration, now: Instant) {
        while let Some((closed_at, _)) = self.order.front()
            && now.since(*closed_at) >= age_max
        {
            let (_, id) = self.order.pop_front().expect("there is a first one");
            self.causes.remove(&id);
        }
        if self.order.is_empty() {
            *self = Self::default(); // an idle shard keeps no table
        }
    }

    /// Why the session of this id was closed.
    pub fn cause(&self, id: &str) -> Option<&Cause> {
        self.causes.get(id).map(|(_, cause)| cause)
    }

    /// Why a session was closed whose client leaves it to its connection which one it means.
    pub fn cause_of(&self, key: SessionKey) -> Option<&Cause> {
        let mut causes = self.causes.values();
        causes
            .find(|(known, _)| *known == key)
            .map(|(_, cause)| cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlcp::cause::Reason;

    #[test]
    fn the_oldest_are_forgotten_by_number_and_by_age() {
        let mut closed = Closed::default();
        let cause = || Cause::from(Reason::CLOSED_BY_SERVER);
        for n in 0..5_u64 {
            let id = format!("S{n}").into();
            let now = Instant::from_millis(n * 1_000);
            closed.remember(id, SessionKey::default(), cause(), 3, now);
        }
        assert_eq!(closed.len(), 3);
        assert_eq!(closed.cause("S1"), None);
        assert_eq!(closed.cause("S2"), Some(&cause()));
        closed.forget(Duration::from_secs(2), Instant::from_millis(5_000));
        assert_eq!((closed.cause("S3"), closed.len()), (None, 1));
        assert!(closed.cause("S4").is_some());
        closed.forget(Duration::from_secs(2), Instant::from_millis(6_000));
        assert_eq!(closed.len(), 0);
    }
}
