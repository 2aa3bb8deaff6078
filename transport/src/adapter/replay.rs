//! A file as a feed, CSV or JSON lines: for demonstrations on real data, and for tests that want the same events each time.
//!
//! The file is described in `file`. The replay starts with the first subscription of an item of the file, so
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

mod file;
mod json;
mod player;

use super::Source;
use super::feed::{Feed, FeedCommand};
pub use super::pace::Pace;
pub use file::ReplayError;
use file::{ReplayFile, Row};
use player::Player;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most items that a file may have (a guess: with rows of 1 KiB it is 1 GiB).
pub const ITEMS_MAX: usize = 1_000_000;

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

#[cfg(test)]
mod tests;
