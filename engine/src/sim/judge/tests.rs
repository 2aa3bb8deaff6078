//! Judges must notice what they are there for. Each story is played to one of them, line by line.

use super::*;
use crate::sim::feed::cast::Role;
use crate::sim::ledger::{KEYS, Published};
use std::rc::Rc;

/// An item, what a client has of it, and its judge.
struct Court {
    life: Life,
    values: Values,
    schema: Vec<Field>,
    shown: FieldValues,
    judge: Judge,
    heard: u32,
}

impl Court {
    fn new(item: &str, terms: Terms) -> Self {
        let schema = match terms.mode {
            Mode::Command => vec![Field::Number, Field::Key, Field::Command],
            _ => vec![Field::Number],
        };
        let mut life = Life::new(Rc::new(Role::read(item).unwrap()));
        life.in_mode();
        Self {
            life,
            values: Values::new(&mut fastrand::Rng::with_seed(1)),
            shown: FieldValues::new(schema.len()),
            schema,
            judge: Judge::new(&terms),
            heard: 0,
        }
    }

    /// Publishes some events of which only the number is known; or changes of rows.
    fn publish(&mut self, changes: &[(Key, &'static str)]) {
        for (key, command) in changes {
            self.life.publish(&Published {
                key: Some(*key),
                command: Some(command),
                ..Published::default()
            });
        }
    }

    fn publish_some(&mut self, count: usize) {
        self.publish(&vec![(0, "ADD"); count]);
    }

    /// Tells the judge of a line: `U` with its values, `EOS`, `CS`, or `OV` with a number.
    fn tell(&mut self, line: &str) -> Result<(), String> {
        let Self {
            life,
            values,
            schema,
            shown,
            judge,
            heard,
        } = self;
        let case = Case {
            life,
            values,
            schema,
            heard: *heard,
            since: *heard,
        };
        match line.split_once(' ').unwrap_or((line, "")) {
            ("U", list) => {
                shown.apply(list).map_err(|bad| bad.to_string())?;
                judge.update(&case, shown).map(|_| ())
            }
            ("EOS", _) => judge.end_of_snapshot(&case),
            ("CS", _) => judge.cleared(&case),
            ("OV", lost) => judge.lost(&case, lost.parse().unwrap()),
            ("end", _) => judge.finish(&case, shown),
            other => panic!("{other:?}"),
        }
    }

    /// All lines are right but the last one.
    #[track_caller]
    fn rejects(&mut self, lines: &[&str]) {
        let (last, before) = lines.split_last().unwrap();
        self.accepts(before);
        assert!(self.tell(last).is_err(), "{last} is taken for right");
    }

    #[track_caller]
    fn accepts(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.tell(line), Ok(()), "{line}");
        }
    }
}

fn terms(mode: Mode) -> Terms {
    Terms {
        mode,
        unfiltered: false,
        snapshot: None,
        buffer_len: 100,
        rings_fit: true,
    }
}

#[test]
fn states_may_be_skipped_but_not_turned_round_and_not_the_last_one() {
    let court = || {
        let mut court = Court::new("m1-live", terms(Mode::Merge));
        court.publish_some(5);
        court
    };
    court().accepts(&["U 1", "U 3", "U 5", "end"]);
    court().rejects(&["U 3", "U 2"]);
    court().rejects(&["U 3", "U 3"]);
    court().rejects(&["U 6"]);
    court().rejects(&["U 4", "end"]);
    court().rejects(&["OV 1"]);
    court().rejects(&["EOS"]);
    court().rejects(&["end"]);
}

#[test]
fn a_snapshot_is_as_new_as_what_ingest_knew() {
    let mut wanted = terms(Mode::Merge);
    wanted.snapshot = Some(0);
    let mut court = Court::new("m1-live", wanted);
    court.publish_some(5);
    court.heard = 4;
    court.rejects(&["U 3"]);
    let mut court = Court::new("m1-live", terms(Mode::Merge));
    court.publish_some(5);
    court.heard = 4;
    court.rejects(&["U 4"]); // a snapshot, though none was asked for
}

#[test]
fn what_is_received_and_lost_is_what_was_published() {
    let court = || {
        let mut court = Court::new("r1", terms(Mode::Raw));
        court.publish_some(5);
        court
    };
    court().accepts(&["U 1", "OV 2", "U 4", "OV 1", "end"]);
    court().accepts(&["OV 5", "end"]);
    court().rejects(&["U 1", "U 3"]);
    court().rejects(&["U 1", "OV 1", "U 4"]);
    court().rejects(&["U 1", "OV 3", "U 4"]);
    court().rejects(&["U 2"]);
    court().rejects(&["U 1", "end"]);
    court().rejects(&["OV 4", "end"]);
    court().rejects(&["OV 6", "end"]);
    court().rejects(&["end"]);
}

#[test]
fn a_list_begins_with_its_snapshot_and_ends_with_the_newest() {
    let mut wanted = terms(Mode::Distinct);
    wanted.snapshot = Some(3);
    let court = || {
        let mut court = Court::new("d1-live-snap3", wanted);
        court.publish_some(5);
        court.heard = 4;
        court
    };
    court().accepts(&["U 2", "U 3", "U 4", "EOS", "U 5", "end"]);
    court().accepts(&["U 3", "U 4", "U 5", "EOS", "end"]);
    court().rejects(&["U 2", "U 4"]);
    court().rejects(&["U 3", "U 4", "EOS", "U 5"]); // one is missing at its beginning
    court().rejects(&["U 1", "U 2", "U 3", "EOS", "U 4"]); // and at its end
    court().rejects(&["U 1", "U 2", "U 3", "U 4"]);
    court().rejects(&["U 2", "U 3", "U 4", "EOS", "EOS"]);
    court().rejects(&["U 2", "U 3", "U 4", "EOS", "end"]);
    court().rejects(&["CS"]);
    court().rejects(&["U 2", "U 3", "U 4", "EOS", "CS", "U 5"]);
    let mut cleared = court();
    cleared.life.clear();
    cleared.publish_some(1);
    cleared.accepts(&["U 2", "U 3", "U 4", "EOS", "CS", "U 7", "end"]);
    let mut cleared = court();
    cleared.life.clear();
    cleared.publish_some(1);
    cleared.rejects(&["U 2", "U 3", "U 4", "EOS", "U 7"]);
    let mut cleared = court();
    cleared.life.clear();
    cleared.accepts(&["U 2", "EOS", "CS", "end"]); // cut short
}

#[test]
fn a_row_is_added_updated_and_deleted() {
    const COMMANDS: [(Key, &str); 5] = [
        (0, "ADD"),
        (0, "UPDATE"),
        (0, "DELETE"),
        (0, "ADD"),
        (1, "ADD"),
    ];
    let court = |unfiltered| {
        let mut court = Court::new(
            "c1-live",
            Terms {
                unfiltered,
                ..terms(Mode::Command)
            },
        );
        court.publish(&COMMANDS);
        court
    };
    let all = [
        "U 1|k0|ADD",
        "U 2||UPDATE",
        "U #||DELETE",
        "U 4||ADD",
        "U 5|k1|",
        "end",
    ];
    assert_eq!(KEYS[..2], ["k0", "k1"]);
    court(true).accepts(&all);
    court(false).accepts(&["U 1|k0|ADD", "U 4||UPDATE", "U 5|k1|ADD", "end"]);
    court(true).rejects(&["U 1|k0|ADD", "U 4||UPDATE"]); // two are missing
    court(true).accepts(&["U 1|k0|ADD", "OV 2", "U 4||UPDATE", "U 5|k1|ADD", "end"]);
    court(true).rejects(&["U 1|k0|ADD", "OV 3", "U 4||UPDATE", "U 5|k1|ADD", "end"]);
    court(false).rejects(&["U 1|k0|UPDATE"]);
    court(false).rejects(&["U #|k0|DELETE"]);
    court(false).rejects(&["U 1|k0|ADD", "U 2||ADD"]);
    court(false).rejects(&["U 2|k0|ADD", "U 1||UPDATE"]);
    court(false).rejects(&["U 1|k1|ADD"]);
    court(false).rejects(&["U 2|k0|ADD", "U 5|k1|", "end"]);
    court(false).rejects(&["U 4|k0|ADD", "end"]);
    court(false).rejects(&["OV 1"]); // all keys can wait
    court(false).rejects(&["CS"]);
}

#[test]
fn a_table_has_all_its_rows_when_its_snapshot_ends() {
    let wanted = Terms {
        snapshot: Some(0),
        ..terms(Mode::Command)
    };
    let court = || {
        let mut court = Court::new("c1-live", wanted);
        court.publish(&[(0, "ADD"), (1, "ADD")]);
        court.heard = 2;
        court
    };
    court().accepts(&["U 1|k0|ADD", "U 2|k1|", "EOS", "end"]);
    court().rejects(&["U 1|k0|ADD", "EOS"]);
    court().rejects(&["U 1|k0|ADD", "U 2|k1|", "end"]);
    let mut deleted = court();
    deleted.publish(&[(1, "DELETE")]);
    deleted.accepts(&["U 1|k0|ADD", "EOS", "end"]);
}
