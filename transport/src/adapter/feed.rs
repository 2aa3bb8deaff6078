//! The way of an in-process data adapter's events to the ingest core, and of the subscriptions back to it.
//!
//! An adapter runs on a thread of its own and must never slow the ingest core down, nor the other way round:
//!
//! ```text
//! adapter thread                                   ingest core
//! Feed::update  -> batch (a Vec)
//! Feed::commit  -> one copy, one release store -> [ byte ring ] -> FeedInbox::drain
//!                  wake, if ingest is parked
//! Feed::next_command <- ................. <- [ command ring ] <- FeedInbox::command, unparks the adapter
//! ```
//!
//! | Ring | When full |
//! |---|---|
//! | events (bytes) | [`FeedError::Full`]: the adapter skips the event, waits with [`Feed::wait_for_room`], or merges it with what it has not got rid of yet (`overflow`) |
//! | commands | the command is handed back; ingest offers it again next turn |
//!
//! An adapter that publishes from several threads has a feed for each of them ([`Feed::another`]): a ring has one writer.
//!
//! Neither side ever waits for the other unless the adapter asks to. Two wake-ups cross the threads, and both
//! follow the same rule: write, sequentially consistent fence, look whether the other one sleeps; the sleeper says
//! that it sleeps, fence, looks once more, sleeps. So at least one of the two sees the other.

use super::inbox::FeedInbox;
use super::overflow::Overflow;
use super::record::{self, Field, HEADER_BYTES};
use crossbeam::atomic::AtomicCell;
use crossbeam::sync::Parker;
use engine::ids::ItemId;
use rtrb::{Consumer, Producer, RingBuffer};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

/// How much may lie between an adapter and the ingest core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedCapacity {
    /// Size of the event ring; at least [`RING_BYTES_MIN`] is taken. A quarter of it bounds one event.
    pub ring_bytes: usize,
    /// Commands that may wait for the adapter.
    pub commands: usize,
}

impl Default for FeedCapacity {
    /// 1 MiB, which is about 10,000 updates of a stock list, and 1,024 commands. Guesses: both are only reached when
    /// one side stalls, and both have a stated behaviour then.
    fn default() -> Self {
        Self {
            ring_bytes: 1 << 20,
            commands: 1024,
        }
    }
}

/// The smallest event ring: below this the bound of a quarter would refuse ordinary updates.
pub const RING_BYTES_MIN: usize = 4 << 10;

/// The largest event ring: lengths inside it are 32 bits.
pub const RING_BYTES_MAX: usize = 1 << 30;

/// A batch is published without waiting for [`Feed::commit`] when it would grow beyond this: ingest starts on it while
/// the adapter goes on, and the batch stays in the first-level cache. (A guess. Measured on one core of a small virtual
/// machine, an event of three fields costs 23 ns to write when each is committed and 15 to 17 ns from 8 a commit on, so
/// nothing is gained by larger batches.)
const BATCH_BYTES_MAX: usize = 16 << 10;

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedError {
    /// The ring has no room now. What was batched is published.
    Full,
    /// The event is larger than a quarter of the ring, or has more than 65,535 fields: it will never be taken.
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Ingest wants the adapter to stop, or is gone.
    Stopped,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the feed's ring is full"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "an event of {bytes} bytes is above the feed's bound of {bytes_max}"
                )
            }
            Self::Stopped => f.write_str("the feed is being stopped"),
        }
    }
}

impl std::error::Error for FeedError {}

/// Whether an adapter may merge the events of an item that it has not got rid of: everybody looks at it in MERGE mode.
/// Ingest keeps it up to date, and the adapter looks.
#[derive(Clone, Debug, Default)]
pub struct Merging(Arc<AtomicBool>);

impl Merging {
    /// Whether it may.
    #[inline]
    pub fn is_allowed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// For ingest.
    pub fn allow(&self, allowed: bool) {
        self.0.store(allowed, Ordering::Release);
    }
}

impl PartialEq for Merging {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Merging {}

/// What ingest asks of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedCommand {
    /// Events of this item are wanted, beginning with its snapshot.
    Subscribe {
        /// What the events shall carry. A later subscription of the same name carries another number.
        item: ItemId,
        /// The item's name.
        name: String,
        /// For adapters that care for it ([`Source::merges`](super::Source::merges)).
        merging: Option<Merging>,
    },
    /// No more events of this subscription are wanted.
    Unsubscribe {
        /// The number that came with the subscription.
        item: ItemId,
    },
    /// The adapter shall return from `run`. Overtakes commands that still wait, and stays in force.
    Stop,
}

/// Whether there is still an adapter at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// The adapter holds its [`Feed`].
    Running,
    /// The adapter has dropped its [`Feed`] in good order.
    Finished,
    /// The adapter's thread has panicked.
    Panicked,
}

/// Connects an adapter with the ingest core.
///
/// `wake_ingest` runs on the adapter's thread after each commit and when the [`Feed`] is dropped. It shall look at
/// ingest's "parked" flag and wake the core if that is set. The feed has put a sequentially consistent fence before
/// the call, so a relaxed load of the flag will do, provided that ingest puts such a fence between setting its flag
/// and its last look at [`FeedInbox::is_empty`] and [`FeedInbox::state`]. It must not panic.
pub fn feed(
    capacity: FeedCapacity,
    wake_ingest: impl Fn() + Send + Sync + 'static,
) -> (Feed, FeedInbox) {
    let others = Arc::<Others>::default();
    let known = Some(Arc::clone(&others));
    connect(capacity, Arc::new(wake_ingest), others, known)
}

/// `known`: the other feeds, if this is the first, whose inbox looks after them.
fn connect(
    capacity: FeedCapacity,
    wake_ingest: Arc<dyn Fn() + Send + Sync>,
    others: Arc<Others>,
    known: Option<Arc<Others>>,
) -> (Feed, FeedInbox) {
    let ring_bytes = capacity.ring_bytes.clamp(RING_BYTES_MIN, RING_BYTES_MAX);
    let (event_writer, event_reader) = RingBuffer::new(ring_bytes);
    let (command_writer, command_reader) = RingBuffer::new(capacity.commands.max(1));
    let parker = Parker::new();
    let unparker = parker.unparker().clone();
    let shared = Arc::new(Shared::default());
    let feed = Feed {
        events: event_writer,
        batch: Vec::with_capacity(BATCH_BYTES_MAX.min(ring_bytes)),
        record_bytes_max: ring_bytes / 4,
        commands: command_reader,
        parker,
        written: 0,
        shared: Arc::clone(&shared),
        wake_ingest,
        others,
    };
    let inbox = FeedInbox::new(event_reader, command_writer, unparker, shared, known);
    (feed, inbox)
}

/// The feeds of an adapter besides its first.
#[derive(Default)]
pub(super) struct Others {
    /// Those that ingest has not seen yet. Locked when there is one only, which is rare.
    new: Mutex<Vec<FeedInbox>>,
    /// There is one.
    any_new: AtomicBool,
}

impl Others {
    pub(super) fn any_new(&self) -> bool {
        self.any_new.load(Ordering::Acquire)
    }

    /// Those that are new. Whoever puts one in holds the lock for an instant only; if it is held now, ingest looks
    /// again next turn.
    pub(super) fn take_new(&self) -> Vec<FeedInbox> {
        if !self.any_new() {
            return Vec::new();
        }
        let Ok(mut new) = self.new.try_lock() else {
            return Vec::new();
        };
        self.any_new.store(false, Ordering::Release);
        std::mem::take(&mut new)
    }
}

/// What both ends look at beside the rings.
#[derive(Default)]
pub(super) struct Shared {
    /// The adapter sleeps in `wait_for_room`.
    pub(super) wants_room: AtomicBool,
    /// Ingest has said `Stop`, or is gone.
    pub(super) stop: AtomicBool,
    /// A [`FeedState`].
    pub(super) state: AtomicU8,
    /// Wakes an adapter that does not wait in `next_command`.
    pub(super) wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// What the ring had no room for.
    pub(super) overflow: AtomicCell<Option<Box<Overflow>>>,
    /// There is an overflow that ingest has not seen. Set after it is put in, taken back before it is taken out.
    pub(super) has_overflow: AtomicBool,
}

// Neither side may wait for the other.
const _: () = assert!(AtomicCell::<Option<Box<Overflow>>>::is_lock_free());

/// The adapter's end.
///
/// Dropping it tells ingest that the adapter is no more, and whether it went by a panic.
pub struct Feed {
    events: Producer<u8>,
    /// Whole records that ingest does not see yet. They fit: `batch.len() <= ` free bytes of `events`.
    batch: Vec<u8>,
    record_bytes_max: usize,
    commands: Consumer<FeedCommand>,
    parker: Parker,
    /// Records ever added.
    written: u64,
    pub(super) shared: Arc<Shared>,
    wake_ingest: Arc<dyn Fn() + Send + Sync>,
    others: Arc<Others>,
}

impl Feed {
    /// Adds new values of some fields to the batch. A field that is not named keeps its value in MERGE and is null in
    /// DISTINCT mode.
    pub fn update(
        &mut self,
        item: ItemId,
        snapshot: bool,
        fields: &[(&str, Option<&str>)],
    ) -> Result<(), FeedError> {
        self.update_from(item, snapshot, fields.iter().copied())
    }

    /// [`Feed::update`] for an adapter whose names and values do not lie in a slice. The iterator is walked three
    /// times: to measure, for the lengths and for the text.
    pub fn update_from<'f>(
        &mut self,
        item: ItemId,
        snapshot: bool,
        fields: impl Iterator<Item = Field<'f>> + Clone,
    ) -> Result<(), FeedError> {
        let measure = self.begin_record(fields.clone())?;
        record::put_update(&mut self.batch, item, snapshot, measure, fields);
        Ok(())
    }

    /// Adds how fields may be sent as differences to the batch: names with the letters of formats, see
    /// [`AdapterEvent::Differences`](engine::ingest::event::AdapterEvent::Differences).
    pub fn differences<'f>(
        &mut self,
        item: ItemId,
        fields: impl Iterator<Item = Field<'f>> + Clone,
    ) -> Result<(), FeedError> {
        let measure = self.begin_record(fields.clone())?;
        record::put_differences(&mut self.batch, item, measure, fields);
        Ok(())
    }

    /// Makes room for a record with fields; returns its bytes, and how many fields there are.
    #[inline]
    fn begin_record<'f>(
        &mut self,
        fields: impl Iterator<Item = Field<'f>>,
    ) -> Result<(usize, usize), FeedError> {
        let (bytes, count) = record::measure(fields);
        if bytes > self.record_bytes_max || count > usize::from(u16::MAX) {
            return Err(FeedError::TooLarge {
                bytes,
                bytes_max: self.record_bytes_max,
            });
        }
        self.make_room(bytes)?;
        self.written += 1;
        Ok((bytes, count))
    }

    /// Adds "the snapshot is complete" to the batch.
    pub fn end_of_snapshot(&mut self, item: ItemId) -> Result<(), FeedError> {
        self.make_room(HEADER_BYTES)?;
        self.written += 1;
        record::put_end_of_snapshot(&mut self.batch, item);
        Ok(())
    }

    /// Adds "everything known of the item is void" to the batch.
    pub fn clear_snapshot(&mut self, item: ItemId) -> Result<(), FeedError> {
        self.make_room(HEADER_BYTES)?;
        self.written += 1;
        record::put_clear_snapshot(&mut self.batch, item);
        Ok(())
    }

    /// Adds "I have the subscription, and a snapshot will come (or not)" to the batch: for adapters that
    /// [are asked this way](super::Source::tells_of_snapshots).
    pub fn subscribed(&mut self, item: ItemId, snapshot_available: bool) -> Result<(), FeedError> {
        self.make_room(HEADER_BYTES)?;
        self.written += 1;
        record::put_subscribed(&mut self.batch, item, snapshot_available);
        Ok(())
    }

    /// Shows the batch to ingest, with one release store, and wakes ingest if it is parked.
    pub fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let pushed = self.events.push_entire_slice(&self.batch);
        debug_assert!(pushed.is_ok(), "room was made when the records were added");
        self.batch.clear();
        self.wake_ingest();
    }

    /// A feed of the same adapter for another thread, with a ring of its own; `None` if ingest is gone. What is said on
    /// both is in no order. It hears no commands but that the adapter shall stop.
    pub fn another(&self, ring_bytes: usize) -> Option<Self> {
        if self.is_stopped() {
            return None;
        }
        let capacity = FeedCapacity {
            ring_bytes,
            commands: 1,
        };
        let (feed, inbox) = connect(
            capacity,
            Arc::clone(&self.wake_ingest),
            Arc::clone(&self.others),
            None,
        );
        // A thread that panics here leaves the list as it was or with one more.
        let mut new = self
            .others
            .new
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        new.push(inbox);
        self.others.any_new.store(true, Ordering::Release);
        drop(new);
        self.wake_ingest();
        Some(feed)
    }

    /// How many records were ever added.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Something was published: wakes ingest if it is parked.
    pub(super) fn wake_ingest(&self) {
        fence(Ordering::SeqCst);
        (self.wake_ingest)();
    }

    /// Commits, then waits for a command. `None` when `until` has passed without one; a time that has already passed
    /// makes this a look, not a wait. Without `until` it waits for as long as it takes.
    pub fn next_command(&mut self, until: Option<Instant>) -> Option<FeedCommand> {
        self.commit();
        loop {
            if self.is_stopped() {
                return Some(FeedCommand::Stop);
            }
            if let Ok(command) = self.commands.pop() {
                return Some(command);
            }
            // An unpark between the look above and the park below is not lost: it makes the park return at once.
            match until {
                None => self.parker.park(),
                Some(until) if Instant::now() >= until => return None,
                Some(until) => self.parker.park_deadline(until),
            }
        }
    }

    /// Commits, then waits until the ring can take any event, however large. [`FeedError::Stopped`] is the only error:
    /// an adapter that waits here still hears that it shall stop. Other commands wait meanwhile.
    pub fn wait_for_room(&mut self) -> Result<(), FeedError> {
        self.commit();
        loop {
            self.shared.wants_room.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_stopped() {
                return Err(FeedError::Stopped);
            }
            if self.events.slots() >= self.record_bytes_max {
                self.shared.wants_room.store(false, Ordering::Relaxed);
                return Ok(());
            }
            self.parker.park();
        }
    }

    /// Commits, then looks for a command without waiting; for adapters that are woken by [`Feed::wake_by`].
    pub fn look_for_command(&mut self) -> Option<FeedCommand> {
        self.commit();
        if self.is_stopped() {
            return Some(FeedCommand::Stop);
        }
        self.commands.pop().ok()
    }

    /// Commits, then says whether the ring can take any event, however large. If not, the adapter is woken when ingest
    /// has made room, or wants it to stop.
    pub fn has_room(&mut self) -> bool {
        self.commit();
        self.shared.wants_room.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let has_room = self.events.slots() >= self.record_bytes_max;
        if has_room {
            self.shared.wants_room.store(false, Ordering::Relaxed);
        }
        has_room
    }

    /// Makes the attempt until the ring has room for it. For what must not be skipped, such as a snapshot.
    pub fn insist(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<(), FeedError>,
    ) -> Result<(), FeedError> {
        loop {
            match attempt(self) {
                Err(FeedError::Full) => self.wait_for_room()?,
                outcome => return outcome,
            }
        }
    }

    /// For an adapter that waits for other things than commands: `wake` is called, on ingest's thread, when there is
    /// one. It must not block. Commands that are there already are not told. Only the first call counts.
    pub fn wake_by(&mut self, wake: impl Fn() + Send + Sync + 'static) {
        // A second one would have to be raced against the wakes of the first.
        let _ = self.shared.wake.set(Box::new(wake));
    }

    /// Whether `Stop` has been said. An adapter need not ask: [`Feed::next_command`] says so too.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Sees to it that a record of `bytes` may be added to the batch.
    fn make_room(&mut self, bytes: usize) -> Result<(), FeedError> {
        if self.batch.len() + bytes > BATCH_BYTES_MAX {
            self.commit();
        }
        let needed = self.batch.len() + bytes;
        // First by the last known position of the reader, which costs no look at the other core's cache line.
        if needed <= self.events.cached_slots() || needed <= self.events.slots() {
            return Ok(());
        }
        // Whatever the adapter does now, what it has said so far is not held back.
        self.commit();
        Err(FeedError::Full)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let state = if thread::panicking() {
            // The batch stays behind: the adapter has not said that it is complete.
            FeedState::Panicked
        } else {
            self.commit();
            FeedState::Finished
        };
        self.shared.state.store(state as u8, Ordering::Release);
        self.wake_ingest();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{Heard, hear};
    use super::*;
    use engine::ingest::event::AdapterEvent;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    const ITEM: ItemId = ItemId(1);

    fn small() -> (Feed, FeedInbox) {
        feed(
            FeedCapacity {
                ring_bytes: RING_BYTES_MIN,
                commands: 2,
            },
            || (),
        )
    }

    #[test]
    fn nothing_is_seen_before_the_commit_and_all_of_it_after() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        feed.update(ITEM, true, &[("bid", Some("1.5")), ("ask", None)])
            .unwrap();
        feed.end_of_snapshot(ITEM).unwrap();
        feed.clear_snapshot(ITEM).unwrap();
        assert!(inbox.is_empty());
        feed.commit();
        feed.commit();
        assert_eq!(
            woken.load(Ordering::Relaxed),
            1,
            "an empty commit wakes nobody"
        );
        assert_eq!(
            hear(&mut inbox),
            [
                Heard::update(1, true, &[("bid", Some("1.5")), ("ask", None)]),
                Heard::EndOfSnapshot(1),
                Heard::ClearSnapshot(1),
            ]
        );
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_full_ring_says_so_and_shows_what_it_has() {
        let (mut feed, mut inbox) = small();
        let mut taken = 0;
        while feed.end_of_snapshot(ItemId(taken)).is_ok() {
            taken += 1;
        }
        assert_eq!(feed.end_of_snapshot(ITEM), Err(FeedError::Full));
        assert_eq!(taken as usize, RING_BYTES_MIN / HEADER_BYTES);
        assert_eq!(hear(&mut inbox).len(), taken as usize);
        assert_eq!(feed.end_of_snapshot(ITEM), Ok(()));
    }

    #[test]
    fn what_can_never_fit_is_told_from_what_does_not_fit_now() {
        let (mut feed, _inbox) = small();
        let value = "x".repeat(RING_BYTES_MIN / 4);
        assert!(matches!(
            feed.update(ITEM, false, &[("v", Some(&value))]),
            Err(FeedError::TooLarge { bytes_max: 1024, bytes }) if bytes > 1024
        ));
        let fits = &value[..1024 - HEADER_BYTES - 8 - 1];
        assert_eq!(feed.update(ITEM, false, &[("v", Some(fits))]), Ok(()));
    }

    #[test]
    fn an_adapter_that_waits_for_room_goes_on_when_ingest_has_drained() {
        let (mut feed, mut inbox) = small();
        let adapter = thread::spawn(move || {
            for number in 0..10_000 {
                feed.insist(|feed| feed.end_of_snapshot(ItemId(number)))
                    .unwrap();
            }
        });
        let mut next = 0;
        while !(inbox.is_dead() && inbox.is_empty()) {
            inbox.drain(usize::MAX, |event| {
                assert_eq!(event, AdapterEvent::EndOfSnapshot { item: ItemId(next) });
                next += 1;
            });
            thread::yield_now();
        }
        adapter.join().unwrap();
        assert_eq!(next, 10_000);
    }

    #[test]
    fn commands_wait_in_order_are_bounded_and_stop_overtakes() {
        let (mut feed, mut inbox) = small();
        let subscribe = FeedCommand::Subscribe {
            item: ITEM,
            name: "item1".into(),
            merging: None,
        };
        let unsubscribe = FeedCommand::Unsubscribe { item: ITEM };
        assert_eq!(inbox.command(subscribe.clone()), Ok(()));
        assert_eq!(inbox.command(unsubscribe.clone()), Ok(()));
        assert_eq!(
            inbox.command(unsubscribe.clone()),
            Err(unsubscribe.clone()),
            "handed back"
        );
        assert_eq!(feed.next_command(None), Some(subscribe));
        assert_eq!(inbox.command(FeedCommand::Stop), Ok(()));
        assert_eq!(feed.next_command(None), Some(FeedCommand::Stop));
        assert_eq!(feed.next_command(None), Some(FeedCommand::Stop));
    }

    #[test]
    fn a_time_that_has_passed_makes_it_a_look() {
        let (mut feed, _inbox) = small();
        assert_eq!(feed.next_command(Some(Instant::now())), None);
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(feed.next_command(Some(soon)), None);
        assert!(Instant::now() >= soon);
    }

    #[test]
    fn a_sleeping_adapter_hears_each_command_and_the_end_of_ingest() {
        let (mut feed, mut inbox) = small();
        let adapter = thread::spawn(move || {
            let mut heard = 0;
            while feed.next_command(None) != Some(FeedCommand::Stop) {
                heard += 1;
                feed.end_of_snapshot(ItemId(heard)).unwrap();
            }
            heard
        });
        for number in 1..=100 {
            inbox
                .command(FeedCommand::Unsubscribe { item: ITEM })
                .unwrap();
            while inbox.drain(1, |event| {
                assert_eq!(
                    event,
                    AdapterEvent::EndOfSnapshot {
                        item: ItemId(number)
                    }
                );
            }) == 0
            {
                thread::yield_now();
            }
        }
        drop(inbox);
        assert_eq!(adapter.join().unwrap(), 100);
    }

    #[test]
    fn an_adapter_that_waits_for_room_hears_stop() {
        let (mut feed, mut inbox) = small();
        let adapter = thread::spawn(move || {
            loop {
                if let Err(error) = feed.insist(|feed| feed.end_of_snapshot(ITEM)) {
                    return error;
                }
            }
        });
        // Nobody drains, so the adapter is waiting or about to.
        inbox.command(FeedCommand::Stop).unwrap();
        // The look at the flag that ends a wait comes before the look for room, so no drain is needed.
        assert_eq!(adapter.join().unwrap(), FeedError::Stopped);
    }

    #[test]
    fn the_end_of_an_adapter_is_told_after_its_last_words() {
        let (mut feed, mut inbox) = small();
        feed.end_of_snapshot(ITEM).unwrap();
        assert_eq!(inbox.state(), FeedState::Running);
        drop(feed);
        assert_eq!(inbox.state(), FeedState::Finished);
        assert_eq!(hear(&mut inbox), [Heard::EndOfSnapshot(1)]);
        assert_eq!(
            inbox.command(FeedCommand::Unsubscribe { item: ITEM }),
            Ok(())
        );
    }
}
