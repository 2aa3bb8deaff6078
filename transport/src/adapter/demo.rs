//! The built-in stock list: what a server without any adapter shows, and a feed of a known rate for load tests.
//!
//! Items `item1` to `item30`, mode MERGE, always with a snapshot; the fields are listed in `market`. `time` is in UTC.
//! `timestamp` holds the nanoseconds since the Unix epoch at which the event was made, so a client on a machine with
//! the same clock can tell how old an update is.
//!
//! What happens to the stocks is also told in the other modes: items `trades`, `ticks` and `portfolio1`, see `desk`.
//!
//! The stocks move whether or not anybody looks; events of items that nobody has subscribed to are not sent. An
//! update carries only the fields that differ from what was sent last: when the ring was full, the next update
//! carries what was left out, so skipping is conflation and never a hole.

use super::Source;
use super::desk::Desk;
use super::feed::{Feed, FeedCommand, FeedError};
use super::market::{FIELDS, Row, STOCKS, Stock};
use engine::ids::ItemId;
use fastrand::Rng;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The name under which pages written for the reference product's stock list ask for this adapter.
pub const QUOTE_ADAPTER: &str = "QUOTE_ADAPTER";

/// Events a second over all items if nothing else is said: lively, and a person can still read it.
pub const RATE_HZ_DEFAULT: f64 = 15.0;

/// More than one thread can make; asking for more is a slip of the keyboard.
pub const RATE_HZ_MAX: f64 = 10_000_000.0;

/// How far the schedule may be behind the clock before it is moved: a machine that was suspended, or is too slow,
/// shall not get minutes of events in one burst (a guess; at 100,000 events a second it is 10,000 of them).
const BEHIND_NS_MAX: u64 = 100_000_000;

/// The shortest sleep between batches: at 100,000 events a second it makes batches of about 20 and 5,000 wake-ups of
/// ingest a second instead of one for each event (a guess between latency and the cost of waking).
const BATCH_INTERVAL_NS_MIN: u64 = 200_000;

/// Events made before the next look at the commands.
const EVENTS_PER_TURN_MAX: usize = 512;

/// The demo's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demo {
    rate_hz: f64,
    seed: u64,
}

/// A rate that is not a number from 0 to [`RATE_HZ_MAX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadRate(pub f64);

impl fmt::Display for BadRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a rate of {} events a second; it must be from 0 to {RATE_HZ_MAX}",
            self.0
        )
    }
}

impl std::error::Error for BadRate {}

impl Demo {
    /// `rate_hz` events a second over all items (0: snapshots only), moving as `seed` decides.
    pub fn new(rate_hz: f64, seed: u64) -> Result<Self, BadRate> {
        if (0.0..=RATE_HZ_MAX).contains(&rate_hz) {
            Ok(Self { rate_hz, seed })
        } else {
            Err(BadRate(rate_hz))
        }
    }
}

impl Source for Demo {
    /// True for every name: an item that is not there has an empty snapshot, which is ended at once.
    fn is_snapshot_available(&self, _item: &str) -> bool {
        true
    }

    fn run(self: Arc<Self>, mut feed: Feed) {
        let mut exchange = Exchange::new(*self, unix_ns());
        let start = Instant::now();
        let mut turn_ns = 0;
        loop {
            let until = exchange.tempo.next_due_ns().map(|due_ns| {
                start + Duration::from_nanos(due_ns.max(turn_ns + BATCH_INTERVAL_NS_MIN))
            });
            match feed.next_command(until) {
                Some(FeedCommand::Subscribe { item, name, .. }) => {
                    if exchange.subscribe(&mut feed, item, &name).is_err() {
                        break;
                    }
                }
                Some(FeedCommand::Unsubscribe { item }) => exchange.unsubscribe(item),
                Some(FeedCommand::Stop) => break,
                None => {
                    turn_ns = nanos(start.elapsed());
                    exchange.turn(&mut feed, turn_ns, unix_ns);
                }
            }
        }
        tracing::debug!(
            updates_skipped = exchange.updates_skipped,
            behind_ms = exchange.tempo.moved_ns / 1_000_000,
            "the demo stops"
        );
    }
}

/// The stocks with their subscriptions.
struct Exchange {
    rng: Rng,
    tempo: Tempo,
    listings: Vec<Listing>,
    desk: Desk,
    updates_skipped: u64,
    text: String,
}

struct Listing {
    stock: Stock,
    /// The number of the current subscription, and the row that ingest holds of it.
    subscribed: Option<(ItemId, Row)>,
}

impl Exchange {
    fn new(demo: Demo, unix_ns: u64) -> Self {
        let mut rng = Rng::with_seed(demo.seed);
        let listings = (0..STOCKS)
            .map(|index| Listing {
                stock: Stock::open(index, &mut rng, unix_ns),
                subscribed: None,
            })
            .collect();
        Self {
            tempo: Tempo::new(demo.rate_hz, &mut rng),
            // Its own dice, so that the stocks' history does not depend on it.
            desk: Desk::new(&mut rng.clone()),
            rng,
            listings,
            updates_skipped: 0,
            text: String::new(),
        }
    }

    /// Sends the snapshot, which is waited for: unlike an update it must not be skipped.
    fn subscribe(&mut self, feed: &mut Feed, item: ItemId, name: &str) -> Result<(), FeedError> {
        if let Some(listing) = stock_index(name).and_then(|index| self.listings.get_mut(index)) {
            let row = listing.stock.row();
            let text = &mut self.text;
            feed.insist(|feed| send(feed, item, None, &row, text))?;
            listing.subscribed = Some((item, row));
        } else {
            let rows = self.listings.iter().map(|listing| listing.stock.row());
            self.desk.subscribe(feed, item, name, rows)?;
        }
        feed.insist(|feed| feed.end_of_snapshot(item))
    }

    fn unsubscribe(&mut self, item: ItemId) {
        for listing in &mut self.listings {
            listing.subscribed.take_if(|(current, _)| *current == item);
        }
        self.desk.unsubscribe(item);
    }

    /// Makes the events that are due at `now_ns` since the start.
    fn turn(&mut self, feed: &mut Feed, now_ns: u64, unix_ns: impl Fn() -> u64) {
        self.tempo.bound_delay(now_ns);
        for _ in 0..EVENTS_PER_TURN_MAX {
            let Some(index) = self.tempo.take_due(now_ns, &mut self.rng) else {
                break;
            };
            let listing = &mut self.listings[index];
            listing.stock.trade(&mut self.rng, unix_ns());
            let row = listing.stock.row();
            if self.desk.is_watched() {
                self.desk.traded(feed, index, &row);
            }
            let Some((item, sent)) = &mut listing.subscribed else {
                continue;
            };
            match send(feed, *item, Some(sent), &row, &mut self.text) {
                Ok(()) => *sent = row,
                Err(_) => {
                    if self.updates_skipped == 0 {
                        tracing::warn!(
                            "the demo is faster than ingest: updates are skipped from now on"
                        );
                    }
                    self.updates_skipped += 1;
                }
            }
        }
    }
}

/// Sends the fields in which `row` differs from `sent`, or the whole row as a snapshot if nothing was sent.
fn send(
    feed: &mut Feed,
    item: ItemId,
    sent: Option<&Row>,
    row: &Row,
    text: &mut String,
) -> Result<(), FeedError> {
    text.clear();
    let mut ends = [(0, 0); FIELDS.len()];
    let mut count = 0;
    for (at, (_, format)) in FIELDS.iter().enumerate() {
        if sent.is_none_or(|sent| sent[at] != row[at]) {
            format.write(row[at], text);
            ends[count] = (at, text.len());
            count += 1;
        }
    }
    let mut fields = [("", None); FIELDS.len()];
    let mut begin = 0;
    for (field, &(at, end)) in fields.iter_mut().zip(&ends[..count]) {
        *field = (FIELDS[at].0, Some(&text[begin..end]));
        begin = end;
    }
    feed.update(item, sent.is_none(), &fields[..count])
}

/// `item1` to `item30`, as indices; written just so.
fn stock_index(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("item")?;
    let number: usize = digits.parse().ok()?;
    let canonical = digits.starts_with(|first| matches!(first, '1'..='9'));
    (canonical && number <= STOCKS).then(|| number - 1)
}

/// When each stock's next event is due, in nanoseconds since the start: an open-loop schedule, so an event that is
/// late does not put off those behind it.
struct Tempo {
    due_ns: [u64; STOCKS],
    /// Mean distance of a stock's events; the fastest stock is ten times as lively as the slowest.
    interval_ns: [f64; STOCKS],
    /// False if there are no events at all.
    running: bool,
    /// By how much the schedule has been moved in all.
    moved_ns: u64,
}

impl Tempo {
    fn new(rate_hz: f64, rng: &mut Rng) -> Self {
        // Spread over the list so that fast and slow stocks lie side by side: 7 and 10 have no common divisor.
        let weights: [f64; STOCKS] = std::array::from_fn(|index| (1 + index * 7 % 10) as f64);
        let total: f64 = weights.iter().sum();
        let interval_ns = weights.map(|weight| 1e9 * total / (weight * rate_hz));
        Self {
            // The first events fall anywhere in the first interval, or all stocks would start as one burst.
            due_ns: interval_ns.map(|interval| (interval * rng.f64()) as u64),
            interval_ns,
            running: rate_hz > 0.0,
            moved_ns: 0,
        }
    }

    /// When there is something to do.
    fn next_due_ns(&self) -> Option<u64> {
        self.running.then(|| self.due_ns[self.first()])
    }

    /// The stock whose event is due the longest, with its next one put on the schedule.
    fn take_due(&mut self, now_ns: u64, rng: &mut Rng) -> Option<usize> {
        let first = self.first();
        if !self.running || self.due_ns[first] > now_ns {
            return None;
        }
        let distance = self.interval_ns[first] * (0.5 + rng.f64());
        self.due_ns[first] = self.due_ns[first].saturating_add(distance as u64);
        Some(first)
    }

    /// Moves the whole schedule if it is too far behind `now_ns`: what was due before never happens.
    fn bound_delay(&mut self, now_ns: u64) {
        let behind_ns = now_ns.saturating_sub(self.due_ns[self.first()]);
        if self.running && behind_ns > BEHIND_NS_MAX {
            let by_ns = behind_ns - BEHIND_NS_MAX;
            self.due_ns = self.due_ns.map(|due_ns| due_ns.saturating_add(by_ns));
            self.moved_ns += by_ns;
        }
    }

    /// A scan, not a heap: 30 numbers in a row are four cache lines.
    fn first(&self) -> usize {
        let earliest = self
            .due_ns
            .iter()
            .enumerate()
            .min_by_key(|&(_, due_ns)| due_ns);
        earliest.map_or(0, |(index, _)| index)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Zero if the machine believes to be before 1970.
fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, nanos)
}

#[cfg(test)]
mod tests {
    use super::super::feed::{FeedCapacity, RING_BYTES_MIN, feed};
    use super::super::inbox::FeedInbox;
    use super::super::testkit::{Heard, hear, subscribe};
    use super::super::{Manners, RunningAdapter, spawn};
    use super::*;
    use std::collections::BTreeMap;
    use std::thread;

    const SECOND_NS: u64 = 1_000_000_000;

    fn exchange(rate_hz: f64) -> Exchange {
        Exchange::new(Demo::new(rate_hz, 42).unwrap(), 0)
    }

    fn field_texts(row: &Row) -> BTreeMap<String, String> {
        let text = |(&(name, format), &value): (&(&str, super::super::market::Format), &i64)| {
            let mut out = String::new();
            format.write(value, &mut out);
            (name.to_owned(), out)
        };
        FIELDS.iter().zip(row).map(text).collect()
    }

    /// Applies what is heard of one item the way MERGE does; returns the number of updates.
    fn merge(inbox: &mut FeedInbox, row: &mut BTreeMap<String, String>) -> usize {
        let heard = hear(inbox);
        for event in &heard {
            if let Heard::Update(_, _, fields) = event {
                for (name, value) in fields {
                    let value = value.clone().unwrap();
                    let old = row.insert(name.clone(), value.clone());
                    assert_ne!(old, Some(value), "{name} was sent though unchanged");
                }
            }
        }
        heard.len()
    }

    #[test]
    fn a_subscription_begins_with_the_whole_row() {
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut exchange = exchange(15.0);
        exchange.subscribe(&mut feed, ItemId(9), "item30").unwrap();
        feed.commit();
        let [Heard::Update(9, true, fields), Heard::EndOfSnapshot(9)] = &hear(&mut inbox)[..]
        else {
            panic!("a snapshot was expected");
        };
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, FIELDS.map(|(name, _)| name));
        assert_eq!(fields[0].1.as_deref(), Some("Drumlin Waterworks"));
    }

    #[test]
    fn what_is_not_listed_has_an_empty_snapshot() {
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut exchange = exchange(15.0);
        for (number, name) in ["item0", "item31", "item01", "item+1", "item", "stock1", ""]
            .into_iter()
            .enumerate()
        {
            let number = number as u32;
            exchange.subscribe(&mut feed, ItemId(number), name).unwrap();
            feed.commit();
            assert_eq!(hear(&mut inbox), [Heard::EndOfSnapshot(number)], "{name}");
        }
    }

    #[test]
    fn updates_carry_only_changes_and_add_up_to_the_row() {
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut exchange = exchange(1_000.0);
        exchange.subscribe(&mut feed, ItemId(1), "item1").unwrap();
        let mut row = BTreeMap::new();
        let mut events = 0;
        for turn in 1..=100 {
            let now_ns = turn * SECOND_NS / 20;
            exchange.turn(&mut feed, now_ns, || now_ns);
            feed.commit();
            events += merge(&mut inbox, &mut row);
            assert_eq!(row, field_texts(&exchange.listings[0].stock.row()));
        }
        assert!(events > 10, "{events}");
        exchange.unsubscribe(ItemId(2));
        assert!(exchange.listings[0].subscribed.is_some());
        exchange.unsubscribe(ItemId(1));
        exchange.turn(&mut feed, 6 * SECOND_NS, || 0);
        feed.commit();
        assert!(inbox.is_empty(), "nobody has subscribed any more");
    }

    #[test]
    fn what_a_full_ring_swallowed_is_made_up_for() {
        let capacity = FeedCapacity {
            ring_bytes: RING_BYTES_MIN,
            commands: 1,
        };
        let (mut feed, mut inbox) = feed(capacity, || ());
        let mut exchange = exchange(100_000.0);
        exchange.subscribe(&mut feed, ItemId(1), "item1").unwrap();
        let mut now_ns = 0;
        while exchange.updates_skipped < 100 {
            now_ns += 5_000_000;
            exchange.turn(&mut feed, now_ns, || now_ns);
        }
        let mut row = BTreeMap::new();
        merge(&mut inbox, &mut row);
        // One more event of the item, now that there is room.
        let before = exchange.listings[0].stock.row();
        while exchange.listings[0].stock.row() == before {
            now_ns += 1_000;
            exchange.turn(&mut feed, now_ns, || now_ns);
        }
        feed.commit();
        merge(&mut inbox, &mut row);
        assert_eq!(row, field_texts(&exchange.listings[0].stock.row()));
    }

    #[test]
    fn the_rate_is_kept_however_rarely_one_looks() {
        for (rate_hz, step_ns) in [
            (15.0, 66_000_000),
            (1_000.0, 1_000_000),
            (100_000.0, 90_000),
        ] {
            let mut rng = Rng::with_seed(3);
            let mut tempo = Tempo::new(rate_hz, &mut rng);
            let mut events = [0_u32; STOCKS];
            let seconds = 40;
            let mut now_ns = 0;
            while now_ns < seconds * SECOND_NS {
                now_ns += step_ns;
                tempo.bound_delay(now_ns);
                while let Some(index) = tempo.take_due(now_ns, &mut rng) {
                    events[index] += 1;
                }
            }
            let total = f64::from(events.iter().sum::<u32>());
            let expected = rate_hz * seconds as f64;
            assert!((total / expected - 1.0).abs() < 0.05, "{total} {expected}");
            assert!(
                events[7] > 3 * events[0],
                "stocks differ in tempo: {events:?}"
            );
            assert_eq!(tempo.moved_ns, 0);
        }
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut rng = Rng::with_seed(3);
        let mut tempo = Tempo::new(1_000.0, &mut rng);
        let now_ns = 3_600 * SECOND_NS;
        tempo.bound_delay(now_ns);
        let mut events = 0;
        while tempo.take_due(now_ns, &mut rng).is_some() {
            events += 1;
        }
        assert!(
            (80..=120).contains(&events),
            "a tenth of a second: {events}"
        );
        assert!(tempo.next_due_ns().unwrap() > now_ns);
    }

    #[test]
    fn rates_are_checked_and_zero_is_silence() {
        for rate_hz in [-1.0, f64::NAN, f64::INFINITY, RATE_HZ_MAX * 2.0] {
            assert!(Demo::new(rate_hz, 0).is_err());
        }
        let mut exchange = exchange(0.0);
        assert_eq!(exchange.tempo.next_due_ns(), None);
        exchange.tempo.bound_delay(u64::MAX);
        assert_eq!(exchange.tempo.take_due(u64::MAX, &mut exchange.rng), None);
    }

    #[test]
    fn the_whole_adapter_runs_and_stops() {
        let demo = Arc::new(Demo::new(1_000.0, 1).unwrap());
        let mut running: RunningAdapter = spawn(
            QUOTE_ADAPTER,
            demo,
            FeedCapacity::default(),
            Manners::Interrupts,
            || (),
        )
        .unwrap();
        running.inbox.command(subscribe(1, "item1")).unwrap();
        let mut row = BTreeMap::new();
        let mut events = 0;
        while events < 10 {
            events += merge(&mut running.inbox, &mut row);
            thread::yield_now();
        }
        assert_eq!(row.len(), FIELDS.len());
        assert_eq!(running.stop(), Ok(()));
    }
}
