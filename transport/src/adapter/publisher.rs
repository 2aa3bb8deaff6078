//! How a data adapter written in Rust speaks: [`Publisher`] and what it returns.

use super::feed::{Feed, FeedError, Merging};
use super::overflow::{Change, Overflow};
use engine::ids::ItemId;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// An item that somebody is subscribed to: what updates are addressed to. Cheap to clone.
///
/// It stands for one subscription. When nobody wants the item any more it is dead, and what is still published of it goes
/// nowhere; when the item is wanted again the adapter gets another one.
#[derive(Clone)]
pub struct Item(Arc<Subscribed>);

struct Subscribed {
    id: ItemId,
    name: String,
    merging: Merging,
    dead: AtomicBool,
}

impl Item {
    pub(super) fn new(id: ItemId, name: String, merging: Merging) -> Self {
        Self(Arc::new(Subscribed {
            id,
            name,
            merging,
            dead: AtomicBool::new(false),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether somebody is still subscribed to it.
    pub fn is_subscribed(&self) -> bool {
        !self.0.dead.load(Ordering::Acquire)
    }

    pub(super) fn id(&self) -> ItemId {
        self.0.id
    }

    pub(super) fn end(&self) {
        self.0.dead.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&self.name()).finish()
    }
}

/// How a value can be sent as the difference to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// JSON Patch, of two JSON documents.
    JsonPatch,
    /// What to copy from, add to and delete of a text.
    Text,
}

impl Difference {
    /// As clients know them, each once.
    fn letters(formats: &[Self]) -> &'static str {
        match formats.iter().position(|format| *format != formats[0]) {
            None if formats.is_empty() => "",
            None if formats[0] == Self::Text => "T",
            None => "P",
            Some(_) if formats[0] == Self::Text => "TP",
            Some(_) => "PT",
        }
    }
}

/// What has become of an event that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is on its way to ingest.
    Sent,
    /// The ring was full. The event was merged with what waits of the item already, and goes when there is room: who
    /// looks at the item sees its last state, but not every one before.
    Merged,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The ring is full, and the item's events must not be merged, since somebody looks at it in a mode in which each
    /// counts (DISTINCT, COMMAND, RAW). Skip the event, or [wait](Publisher::wait_for_room) and try again.
    Full,
    /// The event will never fit: it takes so many bytes of a bound of so many.
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Nobody is subscribed to the item any more.
    Unsubscribed,
    /// The server stops, or the adapter has ended.
    Stopped,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("there is no room for the event now"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "an event of {bytes} bytes is above the bound of {bytes_max}"
                )
            }
            Self::Unsubscribed => f.write_str("nobody is subscribed to the item any more"),
            Self::Stopped => f.write_str("the server stops"),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<FeedError> for PublishError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Full => Self::Full,
            FeedError::TooLarge { bytes, bytes_max } => Self::TooLarge { bytes, bytes_max },
            FeedError::Stopped => Self::Stopped,
        }
    }
}

/// Publishes the events of a data adapter.
///
/// No call but [`Publisher::wait_for_room`] ever waits. Events cross a ring of bytes, which has one writer: so a publisher
/// belongs to one thread, and each further thread gets one of its own by [`Publisher::another`]. Events of one publisher
/// arrive in their order; what two publishers say arrives in any order, so an item should be published by one of them.
pub struct Publisher {
    feed: Feed,
    /// Something may lie in the overflow.
    overflowing: bool,
    /// Events are shown to ingest later, all at once.
    gathering: bool,
    siblings: Arc<AtomicUsize>,
    ring_bytes: usize,
}

/// The most publishers of one adapter.
pub const PUBLISHERS_MAX: usize = 64;

impl Publisher {
    pub(super) fn new(feed: Feed, ring_bytes: usize) -> Self {
        Self {
            feed,
            overflowing: false,
            gathering: false,
            siblings: Arc::new(AtomicUsize::new(1)),
            ring_bytes,
        }
    }

    /// Publishes new values of some fields. A field that is not named keeps its value in MERGE mode (and in COMMAND for its
    /// key), and is null in the others.
    #[inline]
    pub fn update(
        &mut self,
        item: &Item,
        fields: &[(&str, Option<&str>)],
    ) -> Result<Published, PublishError> {
        self.change(item, Change::Update(false, fields))
    }

    /// Publishes an event of the item's snapshot: in MERGE mode its state, in DISTINCT one of its last events, in COMMAND a
    /// row.
    pub fn snapshot(
        &mut self,
        item: &Item,
        fields: &[(&str, Option<&str>)],
    ) -> Result<Published, PublishError> {
        self.change(item, Change::Update(true, fields))
    }

    /// Says that the item's snapshot is complete.
    pub fn end_of_snapshot(&mut self, item: &Item) -> Result<Published, PublishError> {
        self.change(item, Change::EndOfSnapshot)
    }

    /// Says that everything known of the item is void.
    pub fn clear_snapshot(&mut self, item: &Item) -> Result<Published, PublishError> {
        self.change(item, Change::ClearSnapshot)
    }

    /// Says in which formats the values of some fields may be sent as differences, where that is shorter and a client knows
    /// it; with none, a field is always sent in full. Of the fields of which nothing is said the configuration says it
    /// (`diffs.order`). What is said of a field first counts, and only before its first value: best said when the item is
    /// subscribed to.
    pub fn declare_differences(
        &mut self,
        item: &Item,
        fields: &[(&str, &[Difference])],
    ) -> Result<(), PublishError> {
        if !item.is_subscribed() {
            return Err(PublishError::Unsubscribed);
        }
        let letters =
            |&(name, formats): &(_, &[Difference])| (name, Some(Difference::letters(formats)));
        self.feed
            .differences(item.id(), fields.iter().map(letters))?;
        if !self.gathering {
            self.feed.commit();
        }
        Ok(())
    }

    /// Gathers the events that are published until the result is dropped, and shows them to ingest all at once, which
    /// costs less.
    pub fn gather(&mut self) -> Gathering<'_> {
        self.gathering = true;
        Gathering(self)
    }

    /// Waits until there is room for any event. The only errors are that nothing will ever be taken again.
    pub fn wait_for_room(&mut self) -> Result<(), PublishError> {
        Ok(self.feed.wait_for_room()?)
    }

    /// A publisher of the same adapter for another thread. `None` if there are [`PUBLISHERS_MAX`] already, or the adapter
    /// has ended.
    pub fn another(&self) -> Option<Self> {
        let count = |siblings: usize| (siblings < PUBLISHERS_MAX).then_some(siblings + 1);
        let counted = self
            .siblings
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        counted.ok()?;
        let Some(feed) = self.feed.another(self.ring_bytes) else {
            self.siblings.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        Some(Self {
            feed,
            overflowing: false,
            gathering: false,
            siblings: Arc::clone(&self.siblings),
            ring_bytes: self.ring_bytes,
        })
    }

    /// Whether the server has told the adapter to stop.
    pub fn is_stopped(&self) -> bool {
        self.feed.is_stopped()
    }

    pub(super) fn feed(&mut self) -> &mut Feed {
        &mut self.feed
    }

    /// Says whether a snapshot of the item will come. It must arrive, so it waits for room.
    pub(super) fn subscribed(
        &mut self,
        item: &Item,
        snapshot_available: bool,
    ) -> Result<(), FeedError> {
        self.feed
            .insist(|feed| feed.subscribed(item.id(), snapshot_available))?;
        self.feed.commit();
        Ok(())
    }

    #[inline]
    fn change(&mut self, item: &Item, change: Change<'_>) -> Result<Published, PublishError> {
        if !item.is_subscribed() {
            return Err(PublishError::Unsubscribed);
        }
        if self.feed.is_stopped() {
            return Err(PublishError::Stopped);
        }
        if self.overflowing
            && let Some(published) = self.merge(item, change)
        {
            return published;
        }
        let id = item.id();
        let told = match change {
            Change::Update(snapshot, fields) => self.feed.update(id, snapshot, fields),
            Change::EndOfSnapshot => self.feed.end_of_snapshot(id),
            Change::ClearSnapshot => self.feed.clear_snapshot(id),
        };
        match told {
            Ok(()) => {
                if !self.gathering {
                    self.feed.commit();
                }
                Ok(Published::Sent)
            }
            Err(FeedError::Full) if item.0.merging.is_allowed() => {
                // What was in the feed's batch is in the ring now: whoever was refused for want of room was committed.
                let overflow = Box::new(Overflow::new(self.feed.written()));
                self.overflowing = true;
                self.put(overflow, id, change)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Merges the change with what lies in the overflow, if it must go there; `None` if the ring is the place for it.
    #[cold]
    fn merge(
        &mut self,
        item: &Item,
        change: Change<'_>,
    ) -> Option<Result<Published, PublishError>> {
        let Some(overflow) = self.feed.shared.overflow.take() else {
            self.overflowing = false; // ingest has taken it
            return None;
        };
        if item.0.merging.is_allowed() || overflow.has(item.id()) {
            return Some(self.put(overflow, item.id(), change));
        }
        self.put_back(overflow);
        None
    }

    fn put(
        &mut self,
        mut overflow: Box<Overflow>,
        item: ItemId,
        change: Change<'_>,
    ) -> Result<Published, PublishError> {
        let taken = overflow.add(item, change);
        self.put_back(overflow);
        if taken {
            Ok(Published::Merged)
        } else {
            Err(PublishError::Full)
        }
    }

    fn put_back(&mut self, overflow: Box<Overflow>) {
        let shared = &self.feed.shared;
        shared.overflow.store(Some(overflow));
        shared.has_overflow.store(true, Ordering::Release);
        self.feed.wake_ingest();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.siblings.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A publisher that gathers: see [`Publisher::gather`].
pub struct Gathering<'p>(&'p mut Publisher);

impl std::ops::Deref for Gathering<'_> {
    type Target = Publisher;
    fn deref(&self) -> &Publisher {
        self.0
    }
}

impl std::ops::DerefMut for Gathering<'_> {
    fn deref_mut(&mut self) -> &mut Publisher {
        self.0
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.gathering = false;
        self.0.feed.commit();
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::{FeedCapacity, FeedCommand, RING_BYTES_MIN, feed};
    use super::super::inbox::FeedInbox;
    use super::super::testkit::{Heard, hear};
    use super::*;
    use engine::ingest::event::AdapterEvent;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::thread;

    fn small() -> (Publisher, FeedInbox) {
        let capacity = FeedCapacity {
            ring_bytes: RING_BYTES_MIN,
            commands: 1,
        };
        let (feed, inbox) = feed(capacity, || ());
        (Publisher::new(feed, RING_BYTES_MIN), inbox)
    }

    fn item(id: u32, merging: bool) -> Item {
        let allowed = Merging::default();
        allowed.allow(merging);
        Item::new(ItemId(id), format!("item{id}"), allowed)
    }

    fn value(item: &Item, n: u64, publisher: &mut Publisher) -> Result<Published, PublishError> {
        publisher.update(item, &[("n", Some(&n.to_string()))])
    }

    #[test]
    fn a_full_ring_merges_what_may_be_merged_and_refuses_the_rest() {
        let (mut publisher, mut inbox) = small();
        let (stock, news) = (item(1, true), item(2, false));
        let mut sent = 0;
        while value(&stock, sent, &mut publisher) == Ok(Published::Sent) {
            sent += 1;
        }
        assert_eq!(value(&news, 0, &mut publisher), Err(PublishError::Full));
        assert_eq!(value(&stock, 1_000, &mut publisher), Ok(Published::Merged));
        let heard = hear(&mut inbox);
        assert_eq!(heard.len() as u64, sent + 1);
        assert_eq!(
            heard.last(),
            Some(&Heard::update(1, false, &[("n", Some("1000"))]))
        );
        assert!(inbox.is_empty());
        for item in [&news, &stock] {
            assert_eq!(value(item, 7, &mut publisher), Ok(Published::Sent));
        }
        assert_eq!(hear(&mut inbox).len(), 2);
    }

    #[test]
    fn what_may_not_be_merged_any_more_still_keeps_its_order() {
        let (mut publisher, mut inbox) = small();
        let stock = item(1, true);
        while value(&stock, 0, &mut publisher) == Ok(Published::Sent) {}
        stock.0.merging.allow(false);
        assert_eq!(value(&stock, 1, &mut publisher), Ok(Published::Merged));
        let heard = hear(&mut inbox);
        assert_eq!(
            heard.last(),
            Some(&Heard::update(1, false, &[("n", Some("1"))]))
        );
        assert_eq!(value(&stock, 2, &mut publisher), Ok(Published::Sent));
    }

    #[test]
    fn gathered_events_are_seen_together() {
        let (mut publisher, mut inbox) = small();
        let stock = item(1, true);
        let mut gathering = publisher.gather();
        value(&stock, 1, &mut gathering).unwrap();
        value(&stock, 2, &mut gathering).unwrap();
        assert!(inbox.is_empty());
        drop(gathering);
        assert_eq!(hear(&mut inbox).len(), 2);
    }

    #[test]
    fn what_is_said_of_a_dead_item_or_to_nobody_is_an_error() {
        let (mut publisher, mut inbox) = small();
        let stock = item(1, true);
        stock.end();
        assert_eq!(
            value(&stock, 1, &mut publisher),
            Err(PublishError::Unsubscribed)
        );
        inbox.command(FeedCommand::Stop).unwrap();
        assert_eq!(
            value(&item(2, true), 1, &mut publisher),
            Err(PublishError::Stopped)
        );
        assert!(publisher.another().is_none());
    }

    #[test]
    fn publishers_are_bounded_and_heard_after_their_end() {
        let (publisher, mut inbox) = small();
        let mut others: Vec<_> = (1..PUBLISHERS_MAX)
            .map(|_| publisher.another().unwrap())
            .collect();
        assert!(publisher.another().is_none());
        for (number, other) in (0..).zip(&mut others) {
            value(&item(number, true), 1, other).unwrap();
        }
        assert!(!inbox.is_empty());
        drop(others);
        assert_eq!(hear(&mut inbox).len(), PUBLISHERS_MAX - 1);
        assert!(inbox.is_empty() && publisher.another().is_some());
    }

    /// What a client that follows every event ends up with, and how many events it saw of each item.
    #[derive(Default)]
    struct Seen(HashMap<u32, Vec<u64>>);

    impl Seen {
        fn drain(&mut self, inbox: &mut FeedInbox, max: usize) {
            inbox.drain(max, |event| {
                if let AdapterEvent::Update { item, fields, .. } = event {
                    let n = fields[0].1.unwrap().parse().unwrap();
                    self.0.entry(item.0).or_default().push(n);
                }
            });
        }
    }

    proptest! {
        /// Updates with rising numbers, taken in portions of all sizes: no item's numbers ever fall, merged items end at
        /// the last number, and of the others all arrive that were taken.
        #[test]
        fn nothing_overtakes_and_the_last_state_arrives(
            steps in prop::collection::vec((0..6_u32, 0..3_usize, 0..40_usize), 1..600),
        ) {
            let (mut publisher, mut inbox) = small();
            let items: Vec<Item> = (0..6).map(|id| item(id, id % 2 == 0)).collect();
            let mut taken = HashMap::<u32, Vec<u64>>::new();
            let mut seen = Seen::default();
            let padding = "x".repeat(300);
            for (n, (id, drains, portion)) in (0..).zip(steps) {
                let number = u64::to_string(&n);
                let fields = [("n", Some(number.as_str())), ("padding", Some(padding.as_str()))];
                match publisher.update(&items[id as usize], &fields) {
                    Ok(_) => taken.entry(id).or_default().push(n),
                    Err(error) => {
                        prop_assert_eq!(error, PublishError::Full);
                        prop_assert!(id % 2 == 1);
                    }
                }
                if drains == 0 {
                    seen.drain(&mut inbox, portion);
                }
            }
            while !inbox.is_empty() {
                seen.drain(&mut inbox, 5);
            }
            for (id, numbers) in &taken {
                let seen = &seen.0[id];
                prop_assert!(seen.is_sorted());
                prop_assert_eq!(seen.last(), numbers.last());
                if id % 2 == 1 {
                    prop_assert_eq!(seen, numbers);
                }
            }
        }
    }

    #[test]
    fn two_threads_do_not_lose_the_last_state() {
        const ROUNDS: u64 = 200_000;
        let (mut publisher, mut inbox) = small();
        let publishing = thread::spawn(move || {
            let items: Vec<Item> = (0..3).map(|id| item(id, true)).collect();
            let mut merged = 0_u64;
            for n in 0..ROUNDS {
                let published = value(&items[(n % 3) as usize], n, &mut publisher).unwrap();
                merged += u64::from(published == Published::Merged);
            }
            merged
        });
        let mut seen = Seen::default();
        while !(inbox.is_dead() && inbox.is_empty()) {
            seen.drain(&mut inbox, 100);
        }
        publishing.join().unwrap();
        for (id, numbers) in &seen.0 {
            assert!(numbers.is_sorted());
            let last = (0..ROUNDS).rev().find(|n| n % 3 == u64::from(*id));
            assert_eq!(numbers.last().copied(), last);
        }
        assert_eq!(seen.0.len(), 3);
    }
}
