//! The ingest core's end of an in-process adapter's feed: events out, commands in. The whole picture is in
//! [`super::feed`].

use super::feed::{FeedCommand, FeedState, Others, Shared};
use super::overflow::Overflow;
use super::record;
use crossbeam::sync::Unparker;
use engine::ingest::event::AdapterEvent;
use rtrb::{Consumer, Producer, PushError};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// The ingest core's end. Dropping it stops the adapter.
pub struct FeedInbox {
    events: Consumer<u8>,
    /// Where the one record is put together that lies across the ring's end.
    straddling: Vec<u8>,
    records_corrupt: u64,
    /// Records ever taken from the ring.
    taken: u64,
    /// What the ring had no room for. Its turn comes when what was in the ring before it is taken.
    overflow: Option<Box<Overflow>>,
    commands: Producer<FeedCommand>,
    unparker: Unparker,
    shared: Arc<Shared>,
    /// The adapter's other feeds, if this is its first.
    others: Option<Arc<Others>>,
    more: Vec<FeedInbox>,
}

impl FeedInbox {
    pub(super) fn new(
        events: Consumer<u8>,
        commands: Producer<FeedCommand>,
        unparker: Unparker,
        shared: Arc<Shared>,
        others: Option<Arc<Others>>,
    ) -> Self {
        Self {
            events,
            straddling: Vec::new(),
            records_corrupt: 0,
            taken: 0,
            overflow: None,
            commands,
            unparker,
            shared,
            others,
            more: Vec::new(),
        }
    }

    /// Hands about `max_events` events to `f`, in the order of each of the adapter's feeds, and returns how many it
    /// were. The events lie in the ring while `f` looks at them; their room is given back in one step at the end.
    pub fn drain(&mut self, max_events: usize, mut f: impl FnMut(AdapterEvent<'_>)) -> usize {
        let mut events = self.drain_own(max_events, &mut f);
        if let Some(others) = &self.others {
            self.more.append(&mut others.take_new());
            for other in &mut self.more {
                events += other.drain_own(max_events, &mut f);
            }
            self.more
                .retain(|other| !other.is_dead() || !other.is_own_empty());
        }
        events
    }

    /// The same for this feed alone.
    fn drain_own(&mut self, max_events: usize, f: &mut impl FnMut(AdapterEvent<'_>)) -> usize {
        // The flag first: whoever sets it has put the overflow in before. Swapped rather than stored, so that what was
        // put in before the flag is seen.
        let flag = &self.shared.has_overflow;
        if self.overflow.is_none()
            && flag.load(Ordering::Relaxed)
            && flag.swap(false, Ordering::AcqRel)
        {
            self.overflow = self.shared.overflow.take();
        }
        let mut left = max_events;
        while left > 0 {
            let before = self
                .overflow
                .as_ref()
                .map(|overflow| overflow.after.saturating_sub(self.taken));
            match before {
                None => {
                    left -= self.drain_ring(left, f);
                    break;
                }
                Some(before) if before > 0 && !self.events.is_empty() => {
                    let limit = usize::try_from(before).unwrap_or(usize::MAX);
                    left -= self.drain_ring(left.min(limit), f);
                }
                Some(_) => {
                    let row = self.overflow.as_mut().and_then(|overflow| overflow.take(f));
                    match row {
                        Some(events) => left = left.saturating_sub(events),
                        None => self.overflow = None,
                    }
                }
            }
        }
        max_events - left
    }

    fn drain_ring(&mut self, max_events: usize, f: &mut impl FnMut(AdapterEvent<'_>)) -> usize {
        let Ok(chunk) = self.events.read_chunk(self.events.slots()) else {
            return 0;
        };
        if chunk.is_empty() || max_events == 0 {
            return 0;
        }
        let (first, second) = chunk.as_slices();
        let mut walk = Walk {
            events_left: max_events,
            corrupt: 0,
        };
        let mut used = walk.whole_records(first, f);
        if used < first.len() && walk.events_left > 0 {
            // The next record begins in the first slice and ends in the second: the length first, then the rest.
            let head = &first[used..];
            self.straddling.clear();
            self.straddling.extend_from_slice(head);
            let length_bytes = second.len().min(size_of::<u32>());
            self.straddling.extend_from_slice(&second[..length_bytes]);
            let claim = record::claimed_bytes(&self.straddling);
            let tail = claim.and_then(|bytes| second.get(..bytes.checked_sub(head.len())?));
            match tail {
                Some(tail) => {
                    self.straddling.truncate(head.len());
                    self.straddling.extend_from_slice(tail);
                    walk.whole_records(&self.straddling, f);
                    used = first.len() + tail.len();
                    used += walk.whole_records(&second[tail.len()..], f);
                }
                None => used = walk.give_up(chunk.len()),
            }
        } else if used == first.len() {
            used += walk.whole_records(second, f);
        }
        if walk.events_left > 0 && used < chunk.len() {
            // Commits are of whole records, so a remainder means a length that is wrong.
            used = walk.give_up(chunk.len());
        }
        chunk.commit(used);
        self.records_corrupt += walk.corrupt;
        self.taken += (max_events - walk.events_left) as u64 + walk.corrupt;
        fence(Ordering::SeqCst);
        if self.shared.wants_room.load(Ordering::Relaxed) {
            self.shared.wants_room.store(false, Ordering::Relaxed);
            self.wake();
        }
        max_events - walk.events_left
    }

    /// Whether there is nothing to drain.
    pub fn is_empty(&self) -> bool {
        let others_are = || {
            let any_new = self.others.as_ref().is_some_and(|others| others.any_new());
            !any_new && self.more.iter().all(Self::is_own_empty)
        };
        self.is_own_empty() && others_are()
    }

    fn is_own_empty(&self) -> bool {
        self.events.is_empty()
            && self.overflow.is_none()
            && !self.shared.has_overflow.load(Ordering::Acquire)
    }

    /// Tells the adapter something and wakes it. Handed back if the adapter's ring is full: offer it again later.
    /// `Stop` always gets through. What is said to an adapter that is no more is dropped; see [`FeedInbox::is_dead`].
    pub fn command(&mut self, command: FeedCommand) -> Result<(), FeedCommand> {
        if self.is_dead() {
            return Ok(());
        }
        if command == FeedCommand::Stop {
            self.shared.stop.store(true, Ordering::Release);
            self.more.clear(); // which stops them
        } else {
            self.commands
                .push(command)
                .map_err(|PushError::Full(command)| command)?;
        }
        self.wake();
        Ok(())
    }

    /// Wakes the adapter, wherever it waits.
    fn wake(&self) {
        self.unparker.unpark();
        if let Some(wake) = self.shared.wake.get() {
            wake();
        }
    }

    /// What has become of the adapter. What it said before its end can still be drained.
    pub fn state(&self) -> FeedState {
        match self.shared.state.load(Ordering::Acquire) {
            state if state == FeedState::Running as u8 => FeedState::Running,
            state if state == FeedState::Finished as u8 => FeedState::Finished,
            _ => FeedState::Panicked,
        }
    }

    /// Whether the adapter is no more: it has returned, or panicked.
    pub fn is_dead(&self) -> bool {
        self.state() != FeedState::Running
    }

    /// Records that made no sense. Anything but zero is a bug of this module.
    pub fn records_corrupt(&self) -> u64 {
        self.records_corrupt
    }
}

impl Drop for FeedInbox {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// The state of one `drain`.
struct Walk {
    events_left: usize,
    corrupt: u64,
}

impl Walk {
    /// Decodes the records that lie wholly in `bytes` and returns how many bytes they took.
    fn whole_records(&mut self, bytes: &[u8], f: &mut impl FnMut(AdapterEvent<'_>)) -> usize {
        // One allocation a slice, not one an event; it cannot be kept, since it borrows from the ring.
        let mut fields = Vec::new();
        let mut at = 0;
        while self.events_left > 0 {
            let rest = &bytes[at..];
            let Some(record) =
                record::claimed_bytes(rest).and_then(|record_bytes| rest.get(..record_bytes))
            else {
                break;
            };
            match record::decode(record, &mut fields) {
                Some(event) => {
                    f(event);
                    self.events_left -= 1;
                }
                None => self.corrupt += 1,
            }
            at += record.len();
        }
        at
    }

    /// The lengths cannot be trusted any more: everything that is visible is passed over.
    fn give_up(&mut self, chunk_bytes: usize) -> usize {
        self.corrupt += 1;
        chunk_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::{FeedCapacity, FeedError, RING_BYTES_MIN, feed};
    use super::super::testkit::{Heard, hear};
    use super::*;
    use engine::ids::ItemId;
    use proptest::prelude::*;
    use rtrb::RingBuffer;
    use std::time::Instant;

    #[test]
    fn no_more_events_than_asked_for_and_the_rest_later() {
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        for number in 0..5 {
            feed.end_of_snapshot(ItemId(number)).unwrap();
        }
        feed.commit();
        assert_eq!(inbox.drain(0, |_| panic!("none was asked for")), 0);
        assert_eq!(inbox.drain(2, |_| ()), 2);
        assert_eq!(
            hear(&mut inbox),
            [2, 3, 4].map(Heard::EndOfSnapshot),
            "the first two are gone, the others are not"
        );
        assert_eq!(inbox.drain(9, |_| ()), 0);
    }

    proptest! {
        /// Records of all sizes, taken in portions of all sizes, many times round a small ring: each of them
        /// straddles the end somewhere.
        #[test]
        fn events_survive_every_position_in_the_ring(
            lengths in prop::collection::vec((0..980_usize, 1..6_usize, any::<bool>()), 1..200),
        ) {
            let (mut feed, mut inbox) =
                feed(FeedCapacity { ring_bytes: RING_BYTES_MIN, commands: 1 }, || ());
            let text = "häßlich ".repeat(125);
            let mut sent = Vec::new();
            let mut heard = Vec::new();
            for (number, (length, portion, commit)) in lengths.into_iter().enumerate() {
                let value = &text[..text.floor_char_boundary(length)];
                let fields = [("größe", Some(value)), ("none", None)];
                loop {
                    match feed.update(ItemId(number as u32), false, &fields) {
                        Ok(()) => break,
                        outcome => prop_assert_eq!(outcome, Err(FeedError::Full)),
                    }
                    let drained = inbox.drain(portion, |event| heard.push(Heard::from(event)));
                    prop_assert!((1..=portion).contains(&drained));
                }
                sent.push(Heard::update(number as u32, false, &fields));
                if commit {
                    feed.commit();
                }
            }
            feed.commit();
            heard.extend(hear(&mut inbox));
            prop_assert_eq!(heard, sent);
            prop_assert_eq!(inbox.records_corrupt(), 0);
        }

        /// The inbox trusts nothing: any bytes at all are passed over, counted, and leave an empty ring.
        #[test]
        fn noise_is_counted_and_never_a_panic(
            offset in 0..64_usize,
            noise in prop::collection::vec(any::<u8>(), 1..64),
            claim in prop::option::of(0..80_u8),
        ) {
            let (mut writer, reader) = RingBuffer::new(64);
            let (command_writer, _commands) = RingBuffer::new(1);
            let unparker = crossbeam::sync::Parker::new().unparker().clone();
            let mut inbox = FeedInbox::new(reader, command_writer, unparker, Arc::default(), None);
            writer.push_entire_slice(&vec![0; offset]).unwrap();
            inbox.drain(usize::MAX, |_| ());
            let mut noise = noise;
            if let Some(claim) = claim {
                // A plausible length, so that more than the first check is reached.
                let header = [claim, 0, 0, 0];
                for (byte, header) in noise.iter_mut().zip(header) {
                    *byte = header;
                }
            }
            writer.push_entire_slice(&noise).unwrap();
            let before = inbox.records_corrupt();
            let drained = inbox.drain(usize::MAX, |_| ());
            prop_assert!(inbox.is_empty());
            prop_assert!(drained > 0 || inbox.records_corrupt() > before);
        }
    }

    /// Prints what a core can take; run it by hand with `--release -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a test"]
    fn measure_drain() {
        let fields = [
            ("last_price", Some("101.25")),
            ("bid", Some("101.24")),
            ("ask", Some("101.26")),
        ];
        for batch in [1, 8, 32, 128] {
            let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
            let (mut written_ns, mut drained_ns, mut events, mut bytes) = (0, 0, 0, 0);
            while events < 10_000_000 {
                let start = Instant::now();
                'full: loop {
                    for _ in 0..batch {
                        if feed.update(ItemId(1), false, &fields).is_err() {
                            break 'full;
                        }
                    }
                    feed.commit();
                }
                written_ns += start.elapsed().as_nanos();
                let start = Instant::now();
                events += inbox.drain(usize::MAX, |event| {
                    if let AdapterEvent::Update { fields, .. } = event {
                        bytes += fields
                            .iter()
                            .map(|(_, value)| value.map_or(0, str::len))
                            .sum::<usize>();
                    }
                });
                drained_ns += start.elapsed().as_nanos();
            }
            println!(
                "commit every {batch}: write {} ns, drain {} ns an event ({bytes} bytes)",
                written_ns / events as u128,
                drained_ns / events as u128
            );
        }
    }
}
