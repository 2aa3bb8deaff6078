//! A file as a feed, CSV or JSON lines: for demonstrations on real data, and for tests that want the same events each time.
//!
//! The file is described in `replay_file`. The replay starts with the first subscription of an item of the file, so
//! that a client sees the file from its start, and from then on goes through the whole file at its [`Pace`], whatever
//! is subscribed; only rows of subscribed items are sent. No row is skipped: while ingest has no room the replay
//! waits, and then catches up with its timetable.
//!
//! **Snapshots.** The latest row of each item is remembered, and a later subscriber begins with it. An item whose
//! first row is still to come has no state; its snapshot is that first row, when it comes, rather than an empty one
//! now, which a client would see as an update with nothing but nulls. What is not in the file gets an empty snapshot
//! at once. This fits MERGE and DISTINCT. A COMMAND item's state is more than its last row; a client sees all of it
//! only if the item was subscribed from the start.
//!
//! **Memory**: one row for each item, and at most [`ITEMS_MAX`] items.

use super::Source;
use super::feed::{Feed, FeedCommand, FeedError};
pub use super::pace::Pace;
use super::pace::Timetable;
pub use super::replay_file::ReplayError;
use super::replay_file::{ReplayFile, Row};
use engine::ids::ItemId;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most items that a file may have (a guess: with rows of 1 KiB it is 1 GiB).
pub const ITEMS_MAX: usize = 1_000_000;

/// Rows sent before the next look at the commands.
const ROWS_PER_TURN_MAX: usize = 256;

/// What to replay, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayConfig {
    /// The file.
    pub path: PathBuf,
    /// How fast.
    pub pace: Pace,
    /// Whether to begin anew at the file's end. Time goes on: the second pass follows the first.
    pub looped: bool,
}

/// A file that has been read once and found in order.
pub struct Replay {
    config: ReplayConfig,
    summary: Summary,
}

/// What the check of a file has found.
struct Summary {
    /// The items of the file, numbered in the order of their first rows.
    items: HashMap<String, usize>,
    rows: u64,
    times_gone_back: u64,
}

impl Replay {
    /// Reads the whole file once, so that an error in its last line is told at the start and not an hour later.
    pub fn open(config: ReplayConfig) -> Result<Self, ReplayError> {
        let error = |reason| ReplayError {
            path: config.path.clone(),
            line: None,
            reason,
        };
        if let Some(complaint) = config.pace.complaint() {
            return Err(error(complaint));
        }
        let mut file = open_file(&config)?;
        let mut summary = Summary {
            items: HashMap::new(),
            rows: 0,
            times_gone_back: 0,
        };
        let mut row = Row::default();
        let mut latest_ms = 0;
        while let Some(time_ms) = file.next(&mut row)? {
            summary.rows += 1;
            summary.times_gone_back += u64::from(time_ms < latest_ms);
            latest_ms = latest_ms.max(time_ms);
            let item = file.item(&row);
            if !summary.items.contains_key(item) {
                if summary.items.len() == ITEMS_MAX {
                    return Err(error(format!("there are more than {ITEMS_MAX} items")));
                }
                let number = summary.items.len();
                summary.items.insert(item.to_owned(), number);
            }
        }
        if summary.rows == 0 {
            return Err(error("there is no row below the header".to_owned()));
        }
        if summary.times_gone_back > 0 {
            tracing::warn!(
                path = %config.path.display(),
                rows = summary.times_gone_back,
                "`time_ms` goes back; such rows follow the one before them at once"
            );
        }
        Ok(Self { config, summary })
    }

    /// How many items the file has.
    pub fn items(&self) -> usize {
        self.summary.items.len()
    }

    /// How many rows the file has.
    pub fn rows(&self) -> u64 {
        self.summary.rows
    }

    /// How many rows have a `time_ms` below an earlier one.
    pub fn times_gone_back(&self) -> u64 {
        self.summary.times_gone_back
    }
}

impl Source for Replay {
    /// True for every name; see the module's text for what the snapshots are.
    fn is_snapshot_available(&self, _item: &str) -> bool {
        true
    }

    fn run(self: Arc<Self>, mut feed: Feed) {
        let file = match open_file(&self.config) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::error!("the replay cannot start: {error}");
                None
            }
        };
        let mut player = Player::new(&self, file);
        let mut start = None;
        loop {
            let until = player.next_due_ns().map(|due_ns| {
                // Now is when the first row is due.
                *start.get_or_insert_with(Instant::now) + Duration::from_nanos(due_ns)
            });
            let outcome = match feed.next_command(until) {
                Some(FeedCommand::Subscribe { item, name, .. }) => {
                    player.subscribe(&mut feed, item, &name)
                }
                Some(FeedCommand::Unsubscribe { item }) => {
                    player.unsubscribe(item);
                    Ok(())
                }
                Some(FeedCommand::Stop) => return,
                None => {
                    let elapsed = start.map_or(Duration::ZERO, |start| start.elapsed());
                    let now_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
                    player.play(&mut feed, now_ns)
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }
}

fn open_file(config: &ReplayConfig) -> Result<ReplayFile, ReplayError> {
    ReplayFile::open(&config.path, matches!(config.pace, Pace::Speed(_)))
}

/// A replay under way.
struct Player<'r> {
    replay: &'r Replay,
    /// Gone when it could not be opened, or has turned out to be broken.
    file: Option<ReplayFile>,
    timetable: Timetable,
    /// The row that `next_due` speaks of.
    next_row: Row,
    next_due: NextDue,
    states: Vec<ItemState>,
    /// Which state a subscription belongs to.
    subscriptions: HashMap<ItemId, usize>,
    rows_too_large: u64,
}

/// Where the replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextDue {
    /// Nobody has subscribed to anything yet.
    NotStarted,
    /// The row in `next_row` is due then, and belongs to the item of that state.
    Row { due_ns: u64, state: usize },
    /// No row will come any more.
    Ended,
}

/// What is known of an item, and who wants it.
#[derive(Default)]
struct ItemState {
    latest: Option<Row>,
    subscribed: Option<ItemId>,
}

impl<'r> Player<'r> {
    fn new(replay: &'r Replay, file: Option<ReplayFile>) -> Self {
        let states = replay.summary.items.len();
        Self {
            replay,
            next_due: if file.is_some() {
                NextDue::NotStarted
            } else {
                NextDue::Ended
            },
            file,
            timetable: Timetable::new(replay.config.pace),
            next_row: Row::default(),
            states: std::iter::repeat_with(ItemState::default)
                .take(states)
                .collect(),
            subscriptions: HashMap::new(),
            rows_too_large: 0,
        }
    }

    /// When [`Player::play`] has something to do, in nanoseconds since the first row's time.
    fn next_due_ns(&self) -> Option<u64> {
        let nobody_listens =
            self.replay.config.pace == Pace::Unlimited && self.subscriptions.is_empty();
        match self.next_due {
            NextDue::Row { due_ns, .. } if !nobody_listens => Some(due_ns),
            _ => None,
        }
    }

    fn subscribe(&mut self, feed: &mut Feed, item: ItemId, name: &str) -> Result<(), FeedError> {
        let Some(&state) = self.replay.summary.items.get(name) else {
            return feed.insist(|feed| feed.end_of_snapshot(item));
        };
        if let Some(earlier) = self.states[state].subscribed.replace(item) {
            self.subscriptions.remove(&earlier);
        }
        self.subscriptions.insert(item, state);
        if let Some(latest) = self.states[state].latest.take() {
            let sent = self.send(feed, item, true, &latest);
            self.states[state].latest = Some(latest);
            sent?;
        } else if self.next_due == NextDue::Ended {
            feed.insist(|feed| feed.end_of_snapshot(item))?;
        }
        if self.next_due == NextDue::NotStarted {
            self.read_next(feed)?;
        }
        Ok(())
    }

    fn unsubscribe(&mut self, item: ItemId) {
        if let Some(state) = self.subscriptions.remove(&item) {
            self.states[state].subscribed = None;
        }
    }

    /// Plays the rows that are due at `now_ns`, a bounded number of them.
    fn play(&mut self, feed: &mut Feed, now_ns: u64) -> Result<(), FeedError> {
        for _ in 0..ROWS_PER_TURN_MAX {
            let NextDue::Row { due_ns, state } = self.next_due else {
                break;
            };
            if due_ns > now_ns {
                break;
            }
            // The row becomes the item's latest, and the one that was is the buffer of the next.
            let row = std::mem::take(&mut self.next_row);
            if let Some(item) = self.states[state].subscribed {
                let first = self.states[state].latest.is_none();
                self.send(feed, item, first, &row)?;
            }
            self.next_row = self.states[state].latest.replace(row).unwrap_or_default();
            self.read_next(feed)?;
        }
        Ok(())
    }

    /// Sends a row, as the whole of a snapshot or as an update. One that the ring can never take is left out.
    fn send(
        &mut self,
        feed: &mut Feed,
        item: ItemId,
        snapshot: bool,
        row: &Row,
    ) -> Result<(), FeedError> {
        if let Some(file) = &self.file {
            let fields = file.fields(row);
            match feed.insist(|feed| feed.update_from(item, snapshot, fields.clone())) {
                Err(error @ FeedError::TooLarge { .. }) => {
                    if self.rows_too_large == 0 {
                        tracing::error!("rows of the replay are left out: {error}");
                    }
                    self.rows_too_large += 1;
                }
                outcome => outcome?,
            }
        }
        if snapshot {
            feed.insist(|feed| feed.end_of_snapshot(item))?;
        }
        Ok(())
    }

    /// Puts the next row of the file, or of its next pass, on the timetable.
    fn read_next(&mut self, feed: &mut Feed) -> Result<(), FeedError> {
        match self.try_read_next() {
            Ok(Some(due)) => {
                self.next_due = due;
                return Ok(());
            }
            Ok(None) => tracing::info!("the replay has reached the end of its file"),
            Err(error) => tracing::error!("the replay ends early: {error}"),
        }
        self.next_due = NextDue::Ended;
        // Only a file that has changed since it was checked leaves anybody waiting for a first row.
        for state in &self.states {
            if let (Some(item), None) = (state.subscribed, &state.latest) {
                feed.insist(|feed| feed.end_of_snapshot(item))?;
            }
        }
        Ok(())
    }

    fn try_read_next(&mut self) -> Result<Option<NextDue>, ReplayError> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let mut time_ms = file.next(&mut self.next_row)?;
        if time_ms.is_none() && self.replay.config.looped {
            file.rewind()?;
            self.timetable.next_pass();
            // A file that has become empty gives none here either, which ends the replay.
            time_ms = file.next(&mut self.next_row)?;
        }
        let Some(time_ms) = time_ms else {
            return Ok(None);
        };
        let item = file.item(&self.next_row);
        let Some(&state) = self.replay.summary.items.get(item) else {
            return Err(ReplayError {
                path: self.replay.config.path.clone(),
                line: None,
                reason: format!("the item {item:?} was not there when the file was checked"),
            });
        };
        let due_ns = self.timetable.next_due_ns(time_ms);
        Ok(Some(NextDue::Row { due_ns, state }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::{FeedCapacity, RING_BYTES_MIN, feed};
    use super::super::inbox::FeedInbox;
    use super::super::testkit::{Heard, hear, subscribe};
    use super::super::{Manners, spawn};
    use super::*;
    use std::{env, fs, thread};
    use tempfile::TempDir;

    const MS: u64 = 1_000_000;

    const QUOTES: &str = "time_ms,item,bid,ask\n\
        1000,A,1,2\n\
        1000,B,10,\n\
        1020,A,3,4\n\
        1040,C,7,8\n\
        1050,A,5,6\n";

    /// A replay of this text. The directory must outlive it.
    fn replay(text: &str, pace: Pace, looped: bool) -> (TempDir, Result<Replay, ReplayError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.csv");
        fs::write(&path, text).unwrap();
        let replay = Replay::open(ReplayConfig { path, pace, looped });
        (dir, replay)
    }

    fn player(replay: &Replay) -> Player<'_> {
        Player::new(replay, Some(open_file(&replay.config).unwrap()))
    }

    fn quote(item: u32, snapshot: bool, bid: &str, ask: Option<&str>) -> Heard {
        Heard::update(item, snapshot, &[("bid", Some(bid)), ("ask", ask)])
    }

    fn heard(feed: &mut Feed, inbox: &mut FeedInbox) -> Vec<Heard> {
        feed.commit();
        hear(inbox)
    }

    #[test]
    fn json_lines_are_replayed_as_rows_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        let lines = "{\"time_ms\":1000,\"item\":\"A\",\"bid\":\"1\",\"ask\":2}\n{\"time_ms\":1020,\"item\":\"A\",\"ask\":null}\n";
        fs::write(&path, lines).unwrap();
        for (pace, due) in [(Pace::Speed(2.0), 10 * MS), (Pace::Unlimited, 0)] {
            let config = ReplayConfig {
                path: path.clone(),
                pace,
                looped: true,
            };
            let replay = Replay::open(config).unwrap();
            assert_eq!((replay.items(), replay.rows()), (1, 2));
            let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
            let mut player = player(&replay);
            player.subscribe(&mut feed, ItemId(1), "A").unwrap();
            player.play(&mut feed, 0).unwrap();
            let first = heard(&mut feed, &mut inbox);
            assert_eq!(
                first[..2],
                [quote(1, true, "1", Some("2")), Heard::EndOfSnapshot(1)]
            );
            player.play(&mut feed, due).unwrap();
            let mut second = first;
            second.extend(heard(&mut feed, &mut inbox));
            assert_eq!(second[2], Heard::update(1, false, &[("ask", None)]));
        }
    }

    #[test]
    fn a_client_sees_the_file_from_its_start_at_the_files_times() {
        let (_dir, replay) = replay(QUOTES, Pace::Speed(1.0), false);
        let replay = replay.unwrap();
        assert_eq!(
            (replay.items(), replay.rows(), replay.times_gone_back()),
            (3, 5, 0)
        );
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        assert_eq!(player.next_due_ns(), None, "nobody has subscribed");
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        assert_eq!(player.next_due_ns(), Some(0));
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [],
            "its first row is the snapshot"
        );
        player.play(&mut feed, 0).unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [quote(1, true, "1", Some("2")), Heard::EndOfSnapshot(1)]
        );
        assert_eq!(player.next_due_ns(), Some(20 * MS));
        player.play(&mut feed, 19 * MS).unwrap();
        assert_eq!(heard(&mut feed, &mut inbox), []);
        player.play(&mut feed, 60 * MS).unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [
                quote(1, false, "3", Some("4")),
                quote(1, false, "5", Some("6"))
            ]
        );
        assert_eq!(player.next_due_ns(), None, "the file is at its end");
    }

    #[test]
    fn a_later_subscriber_begins_with_the_latest_row() {
        let (_dir, replay) = replay(QUOTES, Pace::Speed(1.0), false);
        let replay = replay.unwrap();
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        player.play(&mut feed, 20 * MS).unwrap();
        player.unsubscribe(ItemId(1));
        heard(&mut feed, &mut inbox);
        player.subscribe(&mut feed, ItemId(2), "A").unwrap();
        player.subscribe(&mut feed, ItemId(3), "B").unwrap();
        player.subscribe(&mut feed, ItemId(4), "C").unwrap();
        player
            .subscribe(&mut feed, ItemId(5), "no such item")
            .unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [
                quote(2, true, "3", Some("4")),
                Heard::EndOfSnapshot(2),
                quote(3, true, "10", None),
                Heard::EndOfSnapshot(3),
                Heard::EndOfSnapshot(5),
            ]
        );
        // A late unsubscription of the old number does not hit the new one.
        player.unsubscribe(ItemId(1));
        player.play(&mut feed, 50 * MS).unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [
                quote(4, true, "7", Some("8")),
                Heard::EndOfSnapshot(4),
                quote(2, false, "5", Some("6")),
            ]
        );
        // The end of the file is not the end of its state.
        player.subscribe(&mut feed, ItemId(6), "C").unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [quote(6, true, "7", Some("8")), Heard::EndOfSnapshot(6)]
        );
    }

    #[test]
    fn a_loop_goes_on_in_time_and_sends_updates_not_snapshots() {
        let (_dir, replay) = replay("item,time_ms,v\nA,0,1\nA,10,2\n", Pace::Speed(2.0), true);
        let replay = replay.unwrap();
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        let mut due = Vec::new();
        for _ in 0..5 {
            due.extend(player.next_due_ns());
            player.play(&mut feed, *due.last().unwrap()).unwrap();
        }
        assert_eq!(due, [0, 5, 10, 15, 20].map(|ms| ms * MS));
        let value = |snapshot, value| Heard::update(1, snapshot, &[("v", Some(value))]);
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [
                value(true, "1"),
                Heard::EndOfSnapshot(1),
                value(false, "2"),
                value(false, "1"),
                value(false, "2"),
                value(false, "1"),
            ]
        );
    }

    #[test]
    fn without_a_pace_nothing_moves_unheard() {
        let (_dir, replay) = replay(QUOTES, Pace::Unlimited, true);
        let replay = replay.unwrap();
        let (mut feed, _inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        assert_eq!(player.next_due_ns(), Some(0));
        player.unsubscribe(ItemId(1));
        assert_eq!(player.next_due_ns(), None);
    }

    #[test]
    fn a_file_in_disorder_is_refused_at_the_start() {
        for (text, pace, complaint) in [
            ("item,v\nA,1\nA\n", Pace::Unlimited, "line 3: the row has 1"),
            ("item,v\n", Pace::Unlimited, "no row"),
            (
                "item,v\nA,1\n",
                Pace::Speed(1.0),
                "line 1: there is no column `time_ms`",
            ),
            ("item,v\nA,1\n", Pace::RateHz(0.0), "a rate of 0"),
        ] {
            let (_dir, replay) = replay(text, pace, false);
            let error = replay.err().unwrap().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn times_that_go_back_are_counted_and_held() {
        let text = "item,time_ms,v\nA,50,1\nA,40,2\nA,45,3\nA,60,4\n";
        let (_dir, replay) = replay(text, Pace::Speed(1.0), false);
        let replay = replay.unwrap();
        assert_eq!(replay.times_gone_back(), 2);
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        player.play(&mut feed, 0).unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox).len(),
            4,
            "three rows, one end of snapshot"
        );
        assert_eq!(player.next_due_ns(), Some(10 * MS));
    }

    #[test]
    fn a_file_that_changes_after_the_check_ends_the_replay_and_leaves_nobody_waiting() {
        let (dir, replay) = replay("item,v\nA,1\nB,1\n", Pace::Unlimited, false);
        let replay = replay.unwrap();
        fs::write(dir.path().join("feed.csv"), "item,v\nA,1\nZ,1\n").unwrap();
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "B").unwrap();
        player.play(&mut feed, 0).unwrap();
        player.subscribe(&mut feed, ItemId(2), "B").unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [Heard::EndOfSnapshot(1), Heard::EndOfSnapshot(2)]
        );
        assert_eq!(player.next_due_ns(), None);
    }

    #[test]
    fn a_row_that_can_never_fit_is_left_out_and_the_others_are_not() {
        let text = format!("item,v\nA,{}\nA,2\n", "x".repeat(RING_BYTES_MIN));
        let (_dir, replay) = replay(&text, Pace::Unlimited, false);
        let replay = replay.unwrap();
        let capacity = FeedCapacity {
            ring_bytes: RING_BYTES_MIN,
            commands: 1,
        };
        let (mut feed, mut inbox) = feed(capacity, || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        player.play(&mut feed, 0).unwrap();
        assert_eq!(
            heard(&mut feed, &mut inbox),
            [
                Heard::EndOfSnapshot(1),
                Heard::update(1, false, &[("v", Some("2"))])
            ]
        );
        assert_eq!(player.rows_too_large, 1);
    }

    /// Runs a whole replay on its thread through a small ring, and returns the updates of one item.
    fn run_to_end(replay: Replay, name: &str, rows: usize) -> Vec<Heard> {
        let capacity = FeedCapacity {
            ring_bytes: RING_BYTES_MIN,
            commands: 1,
        };
        let mut running = spawn(
            "replay",
            Arc::new(replay),
            capacity,
            Manners::Interrupts,
            || (),
        )
        .unwrap();
        running.inbox.command(subscribe(1, name)).unwrap();
        let mut updates = Vec::new();
        while updates.len() < rows {
            let heard = hear(&mut running.inbox);
            updates.extend(
                heard
                    .into_iter()
                    .filter(|event| matches!(event, Heard::Update(..))),
            );
            thread::yield_now();
        }
        assert_eq!(running.stop(), Ok(()));
        updates
    }

    #[test]
    fn a_ring_smaller_than_the_file_loses_no_row() {
        let rows: String = (0..5_000).map(|row| format!("A,{row}\nB,-\n")).collect();
        let (_dir, replay) = replay(&format!("item,v\n{rows}"), Pace::Unlimited, false);
        let updates = run_to_end(replay.unwrap(), "A", 5_000);
        for (row, update) in updates.iter().enumerate() {
            let value = row.to_string();
            assert_eq!(*update, Heard::update(1, row == 0, &[("v", Some(&value))]));
        }
    }

    /// Real quotes, where the environment says that there are some.
    #[test]
    fn real_files_are_replayed_whole() {
        let Some(data) = env::var_os("BRIGHTWIRE_DATA").map(PathBuf::from) else {
            println!("skipped: BRIGHTWIRE_DATA names no directory of CSV files");
            return;
        };
        for (file, item, pace) in [
            ("fx-ticks.csv", "EUR/USD", Pace::Speed(1e12)),
            ("aapl-top-of-book.csv", "AAPL", Pace::RateHz(1e9)),
        ] {
            let path = data.join(file);
            let config = ReplayConfig {
                path: path.clone(),
                pace,
                looped: false,
            };
            let replay = Replay::open(config).unwrap();
            let text = fs::read_to_string(path).unwrap();
            assert_eq!(replay.rows() as usize, text.lines().count() - 1);
            let of_item = |line: &&str| line.split(',').any(|cell| cell == item);
            let rows = text.lines().filter(of_item).count();
            assert_eq!(run_to_end(replay, item, rows).len(), rows);
        }
    }
}
