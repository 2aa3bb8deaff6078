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

use engine::tlcp::client::FieldValues;
use serde::Serialize;

use crate::update::parse_u64;

/// Examples of what was wrong that are kept for people.
const EXAMPLES_MAX: usize = 10;

/// The rows that the sessions of one fleet hold.
#[derive(Debug)]
pub struct Verifier {
    shape: Shape,
    /// By the fleet's session and the position in its group.
    rows: Vec<Row>,
    /// What was wrong so far.
    pub outcome: Outcome,
}

/// Which session looks at which items.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Items of the run.
    pub items: usize,
    /// Items of each session.
    pub items_per_session: usize,
    /// Fields of the schema.
    pub fields: usize,
    /// The position of the event's time.
    pub stamp_position: usize,
}

#[derive(Clone, Debug)]
struct Row {
    values: FieldValues,
    stamp_ns: u64,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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

impl Shape {
    /// The item of the run that is at a position of a session's group.
    pub fn item(&self, session: u32, position: usize) -> usize {
        (session as usize * self.items_per_session + position) % self.items
    }
}

impl Verifier {
    /// A fleet of `sessions` sessions that have received nothing.
    pub fn new(shape: Shape, sessions: usize) -> Self {
        let row = Row {
            values: FieldValues::new(shape.fields),
            stamp_ns: 0,
        };
        Self {
            shape,
            rows: vec![row; sessions * shape.items_per_session],
            outcome: Outcome::default(),
        }
    }

    /// Applies an update of a fleet's session, `local` by the fleet's own count.
    pub fn apply(&mut self, local: usize, position: usize, values: &str) {
        self.outcome.updates += 1;
        let row = &mut self.rows[local * self.shape.items_per_session + position];
        if let Err(error) = row.values.apply(values) {
            self.outcome.decode_errors += 1;
            self.outcome.example(|| format!("{error}: {values}"));
            return;
        }
        let stamp_ns = row
            .values
            .get(self.shape.stamp_position)
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

    /// For each item of the run, the newest time that any session holds. `global` is the number in the run of a
    /// session of the fleet.
    pub fn floors(&self, global: impl Fn(usize) -> u32) -> Vec<u64> {
        let mut floors = vec![0; self.shape.items];
        for (index, row) in self.rows.iter().enumerate() {
            let (session, position) = self.place(index, &global);
            let floor = &mut floors[self.shape.item(session, position)];
            *floor = (*floor).max(row.stamp_ns);
        }
        floors
    }

    /// Compares the rows of the sessions that `global` gives a number, and adds what they hold to `rows`.
    pub fn finish(
        &mut self,
        floors: &[u64],
        rows: &mut FinalRows,
        global: impl Fn(usize) -> Option<u32>,
    ) {
        for index in 0..self.rows.len() {
            let Some(session) = global(index / self.shape.items_per_session) else {
                continue;
            };
            let (session, position) = self.place(index, |_| session);
            let item = self.shape.item(session, position);
            let row = &self.rows[index];
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

    fn place(&self, index: usize, global: impl Fn(usize) -> u32) -> (u32, usize) {
        let per_session = self.shape.items_per_session;
        (global(index / per_session), index % per_session)
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

    const SHAPE: Shape = Shape {
        items: 3,
        items_per_session: 2,
        fields: 2,
        stamp_position: 1,
    };

    /// Sessions 0 (items 1, 2) and 1 (items 3, 1).
    fn verifier() -> Verifier {
        let mut verifier = Verifier::new(SHAPE, 2);
        for (local, position, values) in [
            (0, 0, "a|10"),
            (0, 1, "b|11"),
            (1, 0, "c|12"),
            (1, 1, "a|10"),
        ] {
            verifier.apply(local, position, values);
        }
        verifier
    }

    fn finish(verifier: &mut Verifier, floors: &[u64]) -> Outcome {
        verifier.finish(floors, &mut FinalRows::new(), |local| Some(local as u32));
        verifier.outcome.clone()
    }

    #[test]
    fn sessions_that_agree_are_right() {
        let mut verifier = verifier();
        let floors = verifier.floors(|local| local as u32);
        assert_eq!(floors, [10, 11, 12]);
        let outcome = finish(&mut verifier, &floors);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!((outcome.updates, outcome.rows_compared), (4, 4));
    }

    #[test]
    fn a_session_that_missed_the_last_event_is_behind() {
        let mut verifier = verifier();
        verifier.apply(0, 0, "|20");
        let floors = verifier.floors(|local| local as u32);
        assert_eq!(finish(&mut verifier, &floors).behind, 1);
        // It counts only against those that are still there.
        let mut verifier = self::verifier();
        verifier.apply(0, 0, "|20");
        verifier.finish(&floors, &mut FinalRows::new(), |local| {
            (local == 0).then_some(0)
        });
        assert!(verifier.outcome.is_ok());
    }

    #[test]
    fn a_newer_row_is_not_behind() {
        let mut verifier = verifier();
        let floors = verifier.floors(|local| local as u32);
        verifier.apply(1, 1, "x|20");
        assert!(finish(&mut verifier, &floors).is_ok());
    }

    #[test]
    fn rows_of_one_event_must_be_equal_within_and_across_fleets() {
        let mut verifier = verifier();
        verifier.apply(1, 1, "z|");
        assert_eq!(finish(&mut verifier, &[0; 3]).contradictions, 1);

        let (mut one, mut two) = (self::verifier(), self::verifier());
        two.apply(0, 1, "z|");
        let (mut rows, mut others) = (FinalRows::new(), FinalRows::new());
        one.finish(&[0; 3], &mut rows, |local| Some(local as u32));
        two.finish(&[0; 3], &mut others, |local| Some(local as u32));
        assert!(one.outcome.is_ok() && two.outcome.is_ok());
        let mut sum = one.outcome.clone();
        sum.add(two.outcome.clone(), &mut rows, others);
        assert_eq!((sum.contradictions, sum.rows_compared), (1, 8));
    }

    #[test]
    fn broken_and_missing_rows_are_found() {
        let mut verifier = Verifier::new(SHAPE, 1);
        verifier.apply(0, 0, "a|");
        verifier.apply(0, 0, "a|5");
        verifier.apply(0, 0, "|4");
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
