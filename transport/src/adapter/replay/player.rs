//! A replay under way: which row is due when, and who wants it.

use super::file::{ReplayError, ReplayFile, Row};
use super::{Pace, Replay};
use crate::adapter::feed::{Feed, FeedError};
use crate::adapter::pace::Timetable;
use engine::ids::ItemId;
use std::collections::HashMap;

/// Rows sent before the next look at the commands.
const ROWS_PER_TURN_MAX: usize = 256;

/// A file that is being played.
pub(super) struct Player<'r> {
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
    pub(super) rows_too_large: u64,
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
    pub(super) fn new(replay: &'r Replay, file: Option<ReplayFile>) -> Self {
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
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        let nobody_listens =
            self.replay.config.pace == Pace::Unlimited && self.subscriptions.is_empty();
        match self.next_due {
            NextDue::Row { due_ns, .. } if !nobody_listens => Some(due_ns),
            _ => None,
        }
    }

    pub(super) fn subscribe(
        &mut self,
        feed: &mut Feed,
        item: ItemId,
        name: &str,
    ) -> Result<(), FeedError> {
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

    pub(super) fn unsubscribe(&mut self, item: ItemId) {
        if let Some(state) = self.subscriptions.remove(&item) {
            self.states[state].subscribed = None;
        }
    }

    /// Plays the rows that are due at `now_ns`, a bounded number of them.
    pub(super) fn play(&mut self, feed: &mut Feed, now_ns: u64) -> Result<(), FeedError> {
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
