//! What is remembered of a metadata adapter's answers about items, so that the many subscriptions to few items do not ask
//! for each.
//!
//! | What | How long |
//! |---|---|
//! | `GIT`: an item, for all users | for ever, or until another remote comes |
//! | `GUI`: an item, for one user | `user_data_timeout`, or until the user's last session ends |

use engine::ari::metadata::ItemData;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Answers that are kept of each kind. They are small; a server with more items asks again. (guess)
const KEPT_MAX: usize = 200_000;

/// What is known of items.
pub(super) struct Memory {
    items: HashMap<Box<str>, ItemData>,
    users: HashMap<Option<Box<str>>, User>,
    /// Answers kept for all users.
    user_items: usize,
    keep: Duration,
    forget_with_session: bool,
}

#[derive(Default)]
struct User {
    sessions: u32,
    items: HashMap<Box<str>, (Instant, ItemData)>,
}

impl Memory {
    pub fn new(keep: Duration, forget_with_session: bool) -> Self {
        Self {
            items: HashMap::new(),
            users: HashMap::new(),
            user_items: 0,
            keep,
            forget_with_session,
        }
    }

    /// What an item is for all users.
    pub fn item(&self, name: &str) -> Option<ItemData> {
        self.items.get(name).copied()
    }

    /// The adapter has answered about items for all users.
    pub fn learn(&mut self, items: impl ExactSizeIterator<Item = (Box<str>, ItemData)>) {
        if self.items.len() + items.len() > KEPT_MAX {
            self.items.clear();
        }
        self.items.extend(items.take(KEPT_MAX));
    }

    /// Another remote is there, which may think otherwise.
    pub fn forget_items(&mut self) {
        self.items.clear();
    }

    /// What an item is for one user.
    pub fn user_item(&self, user: Option<&str>, item: &str, now: Instant) -> Option<ItemData> {
        // A borrowed key would have to be an `&Option<Box<str>>`.
        let user = self.users.get(&user.map(Box::from))?;
        let (since, data) = user.items.get(item)?;
        (now.saturating_duration_since(*since) < self.keep).then_some(*data)
    }

    /// The adapter has answered about items for one user.
    pub fn learn_of_user(
        &mut self,
        user: Option<&str>,
        items: impl ExactSizeIterator<Item = (Box<str>, ItemData)>,
        now: Instant,
    ) {
        if self.keep.is_zero() {
            return;
        }
        if self.user_items + items.len() > KEPT_MAX {
            self.users.retain(|_, user| user.sessions > 0);
            self.users.values_mut().for_each(|user| user.items.clear());
            self.user_items = 0;
        }
        let user = self.users.entry(user.map(Into::into)).or_default();
        let before = user.items.len();
        let items = items.take(KEPT_MAX).map(|(name, data)| (name, (now, data)));
        user.items.extend(items);
        self.user_items += user.items.len() - before;
    }

    /// A user has one more session.
    pub fn session_opened(&mut self, user: Option<&str>) {
        self.users.entry(user.map(Into::into)).or_default().sessions += 1;
    }

    /// A user has one session less.
    pub fn session_closed(&mut self, user: Option<&str>) {
        let key = user.map(Into::into);
        if let Some(user) = self.users.get_mut(&key) {
            user.sessions = user.sessions.saturating_sub(1);
            if user.sessions == 0 && (self.forget_with_session || user.items.is_empty()) {
                self.user_items -= user.items.len();
                self.users.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ari::Modes;

    const DATA: ItemData = ItemData {
        length: 1,
        frequency: 2.0,
        modes: Modes::NONE,
    };

    fn learn(memory: &mut Memory, user: Option<&str>, item: &str, now: Instant) {
        memory.learn_of_user(user, [(item.into(), DATA)].into_iter(), now);
    }

    #[test]
    fn what_users_may_have_is_forgotten_in_time_and_with_their_last_session() {
        let now = Instant::now();
        let keep = Duration::from_secs(10);
        for forget in [true, false] {
            let mut memory = Memory::new(keep, forget);
            memory.session_opened(Some("u"));
            memory.session_opened(Some("u"));
            learn(&mut memory, Some("u"), "a", now);
            assert_eq!(memory.user_item(Some("u"), "a", now), Some(DATA));
            assert_eq!(memory.user_item(None, "a", now), None);
            assert_eq!(memory.user_item(Some("u"), "a", now + keep), None);
            memory.session_closed(Some("u"));
            assert!(memory.user_item(Some("u"), "a", now).is_some());
            memory.session_closed(Some("u"));
            let kept = memory.user_item(Some("u"), "a", now).is_some();
            assert_eq!(kept, !forget);
        }
    }

    #[test]
    fn there_is_a_bound_whoever_asks() {
        let now = Instant::now();
        let mut memory = Memory::new(Duration::from_secs(10), true);
        for number in 0..KEPT_MAX + 5 {
            learn(&mut memory, Some(&number.to_string()), "a", now);
            let name: Box<str> = number.to_string().into();
            memory.learn([(name, DATA)].into_iter());
        }
        assert_eq!((memory.user_items, memory.users.len()), (5, 5));
        assert_eq!(memory.items.len(), 5);
        learn(&mut memory, Some("1"), "a", now);
        learn(&mut memory, Some("1"), "a", now);
        assert_eq!(memory.user_items, 6, "an answer that is replaced");
    }

    #[test]
    fn nothing_is_kept_for_no_time() {
        let now = Instant::now();
        let mut memory = Memory::new(Duration::ZERO, false);
        learn(&mut memory, None, "a", now);
        assert_eq!(memory.user_item(None, "a", now), None);
        assert!(memory.users.is_empty());
    }
}
