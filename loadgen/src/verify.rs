//! `--verify`: every update applied the strict way, and all sessions compared at the end.
//!
//! While updates come: each must be decodable, and the time of an item's events must never go back within a session.
//!
//! At the end, all sessions that look at an item should hold the same row. As the feed goes on, "the same" takes care:
//! when the measured window has ended, each fleet notes for each item the newest time that any of its sessions holds
//! ([`Verifier::floors`]); after the settling time (a second, and the pause that the sessions' own frequency asks for)
//! every session must hold that event or a newer one ([`Outcome::behind`]): MERGE may leave out events, but not
//! for good. And wherever two sessions hold an event of the same time, they must hold the same row, in every field
//! ([`Outcome::contradictions`]).

use std::collections::HashMap;
use std::ops::Range;

use engine::tlcp::client::FieldValues;
use serde::{Deserialize, Serialize};

use crate::update::parse_u64;

/// Examples of what was wrong that are kept for people.
const EXAMPLES_MAX: usize = 10;

/// The rows that the sessions of one fleet hold.
#[derive(Debug, Default)]
pub struct Verifier {
    /// One for each session and each item of its group.
    rows: Vec<Row>,
    /// What was wrong so far.
    pub outcome: Outcome,
}

#[derive(Debug)]
struct Row {
    /// The session's number in the run.
    session: u32,
    /// The item's number in the run.
    item: usize,
    stamp_position: usize,
    values: FieldValues,
    stamp_ns: u64,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Updates applied.
    pub updates: u64,
    /// Updates that could not be applied, which leaves the row void.
    pub decode_errors: u64,
    /// Updates of an event older than the one before.
    pub times_gone_back: u64,
    /// Rows compared at the end.
    pub rows_compared: u64,
    /// Rows of which nothing ever came.
    pub rows_missing: u64,
    /// Rows older than what another session held before the sessions were given time to catch up.
    pub behind: u64,
    /// Rows that differ though their events have the same time.
    pub contradictions: u64,
    /// Some of it in words.
    pub examples: Vec<String>,
}

/// The rows at the end, by item and time.
pub type FinalRows = HashMap<(usize, u64), Vec<Option<Box<str>>>>;

impl Verifier {
    /// Adds a row of which nothing has come: of a session, an item of the run, and a schema of so many fields with the
    /// event's time at this position.
    pub fn add(&mut self, session: u32, item: usize, fields: usize, stamp_position: usize) {
        self.rows.push(Row {
            session,
            item,
            stamp_position,
            values: FieldValues::new(fields),
            stamp_ns: 0,
        });
    }

    /// A session begins anew.
    pub fn reset(&mut self, rows: Range<usize>, fields: usize) {
        for row in &mut self.rows[rows] {
            row.values = FieldValues::new(fields);
            row.stamp_ns = 0;
        }
    }

    /// Applies an update to a row, by the order in which they were added.
    pub fn apply(&mut self, row: usize, values: &str) {
        self.outcome.updates += 1;
        let row = &mut self.rows[row];
        if let Err(error) = row.values.apply(values) {
            self.outcome.decode_errors += 1;
            self.outcome.example(|| format!("{error}: {values}"));
            return;
        }
        let stamp_ns = row
            .values
            .get(row.stamp_position)
            .and_then(|text| parse_u64(text.as_bytes()))
            .unwrap_or(0);
        if stamp_ns < row.stamp_ns {
            self.outcome.times_gone_back += 1;
            let before = row.stamp_ns;
            self.outcome
                .example(|| format!("an event of {stamp_ns} came after one of {before}"));
        }
        row.stamp_ns = stamp_ns;
    }

    /// For each of so many items of the run, the newest time that any session holds.
    pub fn floors(&self, items: usize) -> Vec<u64> {
        let mut floors = vec![0; items];
        for row in &self.rows {
            let floor: &mut u64 = &mut floors[row.item];
            *floor = (*floor).max(row.stamp_ns);
        }
        floors
    }

    /// Compares the rows of the sessions that are still there, and adds what they hold to `rows`.
    pub fn finish(&mut self, floors: &[u64], rows: &mut FinalRows, is_here: impl Fn(u32) -> bool) {
        for row in self.rows.iter().filter(|row| is_here(row.session)) {
            let (session, item) = (row.session, row.item);
            if !row.values.is_started() {
                self.outcome.rows_missing += 1;
                self.outcome
                    .example(|| format!("session {session} never got item {}", item + 1));
                continue;
            }
            self.outcome.rows_compared += 1;
            if row.stamp_ns < floors[item] {
                self.outcome.behind += 1;
                let (has, newest) = (row.stamp_ns, floors[item]);
                self.outcome.example(|| {
                    format!(
                        "session {session} has item {} as of {has}, others had {newest} long before",
                        item + 1
                    )
                });
            }
            let values = row.values.iter().map(|value| value.map(Box::from));
            self.outcome
                .compare(rows, item, row.stamp_ns, values.collect());
        }
    }
}

impl Outcome {
    /// Whether nothing was wrong.
    pub fn is_ok(&self) -> bool {
        self.rows_compared > 0
            && self.decode_errors
                + self.times_gone_back
                + self.rows_missing
                + self.behind
                + self.contradictions
                == 0
    }

    /// Adds what another fleet found, and compares its rows with those of the fleets before it.
    pub fn add(&mut self, other: Self, rows: &mut FinalRows, others: FinalRows) {
        self.updates += other.updates;
        self.decode_errors += other.decode_errors;
        self.times_gone_back += other.times_gone_back;
        self.rows_compared += other.rows_compared;
        self.rows_missing += other.rows_missing;
        self.behind += other.behind;
        self.contradictions += other.contradictions;
        for example in other.examples {
            self.example(|| example);
        }
        for ((item, stamp_ns), values) in others {
            self.compare(rows, item, stamp_ns, values);
        }
    }

    fn compare(
        &mut self,
        rows: &mut FinalRows,
        item: usize,
        stamp_ns: u64,
        values: Vec<Option<Box<str>>>,
    ) {
        let seen = rows
            .entry((item, stamp_ns))
            .or_insert_with(|| values.clone());
        if *seen != values {
            self.contradictions += 1;
            let text = format!(
                "item {} as of {stamp_ns} is {seen:?} and {values:?}",
                item + 1
            );
            self.example(|| text);
        }
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions 0 (items 1, 2) and 1 (items 3, 1).
    fn verifier() -> Verifier {
        let mut verifier = Verifier::default();
        for (session, item) in [(0, 0), (0, 1), (1, 2), (1, 0)] {
            verifier.add(session, item, 2, 1);
        }
        for (row, values) in ["a|10", "b|11", "c|12", "a|10"].into_iter().enumerate() {
            verifier.apply(row, values);
        }
        verifier
    }

    fn finish(verifier: &mut Verifier, floors: &[u64]) -> Outcome {
        verifier.finish(floors, &mut FinalRows::new(), |_| true);
        verifier.outcome.clone()
    }

    #[test]
    fn sessions_that_agree_are_right() {
        let mut verifier = verifier();
        let floors = verifier.floors(3);
        assert_eq!(floors, [10, 11, 12]);
        let outcome = finish(&mut verifier, &floors);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!((outcome.updates, outcome.rows_compared), (4, 4));
    }

    #[test]
    fn a_session_that_missed_the_last_event_is_behind() {
        let mut verifier = verifier();
        verifier.apply(0, "|20");
        let floors = verifier.floors(3);
        assert_eq!(finish(&mut verifier, &floors).behind, 1);
        // It counts only against those that are still there.
        let mut verifier = self::verifier();
        verifier.apply(0, "|20");
        verifier.finish(&floors, &mut FinalRows::new(), |session| session == 0);
        assert!(verifier.outcome.is_ok());
    }

    #[test]
    fn a_newer_row_is_not_behind() {
        let mut verifier = verifier();
        let floors = verifier.floors(3);
        verifier.apply(3, "x|20");
        assert!(finish(&mut verifier, &floors).is_ok());
    }

    #[test]
    fn rows_of_one_event_must_be_equal_within_and_across_fleets() {
        let mut verifier = verifier();
        verifier.apply(3, "z|");
        assert_eq!(finish(&mut verifier, &[0; 3]).contradictions, 1);

        let (mut one, mut two) = (self::verifier(), self::verifier());
        two.apply(1, "z|");
        let (mut rows, mut others) = (FinalRows::new(), FinalRows::new());
        one.finish(&[0; 3], &mut rows, |_| true);
        two.finish(&[0; 3], &mut others, |_| true);
        assert!(one.outcome.is_ok() && two.outcome.is_ok());
        let mut sum = one.outcome.clone();
        sum.add(two.outcome.clone(), &mut rows, others);
        assert_eq!((sum.contradictions, sum.rows_compared), (1, 8));
    }

    #[test]
    fn broken_and_missing_rows_are_found() {
        let mut verifier = Verifier::default();
        verifier.add(0, 0, 2, 1);
        verifier.add(0, 1, 2, 1);
        verifier.apply(0, "a|");
        verifier.apply(0, "a|5");
        verifier.apply(0, "|4");
        let outcome = finish(&mut verifier, &[0; 3]);
        assert_eq!(
            (
                outcome.decode_errors,
                outcome.times_gone_back,
                outcome.rows_missing
            ),
            (1, 1, 1)
        );
        assert!(!outcome.is_ok() && outcome.examples.len() == 3);
    }

    #[test]
    fn nothing_compared_is_not_agreement() {
        assert!(!Outcome::default().is_ok());
    }
}
