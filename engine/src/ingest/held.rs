//! Trade-safe events while a ring is full: kept one by one, with what waits before them, until there is room.
//!
//! Each record that is kept can be sent without those before it (MERGE: the whole state; COMMAND: the whole row), so
//! where more wait than may, the oldest go, and their number stands in their place.

use super::debt;
use super::fanout::{Fanout, Rings, Subject, encode_state};
use super::record::{self, Kind, Lost};
use crate::counters::Counters;
use crate::item::command::CommandState;
use crate::item::state::State;
use crate::limits::Limits;
use std::collections::{BTreeSet, VecDeque};

/// What is kept for one shard of one item.
#[derive(Debug, Default)]
pub(super) struct Held {
    records: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// What was dropped in front of them.
    lost: Lost,
    /// Something that voids everything was among that.
    clear: bool,
    /// COMMAND: events among them that may still be the last ones of their keys, and then must not be sent again.
    rows: BTreeSet<u64>,
    /// The first of these that was dropped since that was asked for.
    dropped_row: Option<u64>,
}

/// Rows that a snapshot still owes as they were before trades changed them. What does not fit is no part of it then, like a
/// row that a quote has changed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    rows: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// The next record that is due.
pub(super) enum First<'h> {
    /// What is missing.
    Lost(Lost),
    /// That everything was void.
    Clear,
    /// A whole record.
    Record(&'h [u8]),
}

impl Held {
    /// Keeps a record.
    pub fn push(&mut self, record: &[u8], limits: &Limits) {
        while !self.records.is_empty()
            && (self.records.len() >= limits.event_buffer_len_max
                || self.bytes + record.len() > limits.held_bytes_max)
        {
            self.drop_first();
        }
        self.bytes += record.len();
        self.records.push_back(record.into());
    }

    /// Keeps the last event of a row.
    pub fn push_row(&mut self, record: &[u8], seq: u64, limits: &Limits) {
        self.push(record, limits);
        self.rows.insert(seq);
        if self.rows.len() > limits.event_buffer_len_max {
            self.rows.pop_first(); // should it still be the last one of its key, it is sent twice
        }
    }

    /// The first of the rows' events that had to go since this was asked last, if any: it is told as lost, but if it still
    /// is the last one of its key, that row is to be sent all the same.
    pub fn take_dropped_row(&mut self) -> Option<u64> {
        self.dropped_row.take()
    }

    /// Whether this event of a row is, or was, among them.
    pub fn has_row(&self, seq: u64) -> bool {
        self.rows.contains(&seq)
    }

    /// How many events of rows after this one, as [`Held::has_row`] knows them, are the last of their keys.
    pub fn last_rows(&self, seq: u64, table: &CommandState) -> usize {
        let rows = self.rows.range(seq + 1..);
        rows.filter(|seq| table.is_last(**seq)).count()
    }

    /// All rows are told anew.
    pub fn forget_rows(&mut self) {
        self.rows.clear();
    }

    /// What is to be sent first.
    pub fn first(&self) -> Option<First<'_>> {
        if self.lost.events > 0 {
            Some(First::Lost(self.lost))
        } else if self.clear {
            Some(First::Clear)
        } else {
            let first = self.records.front();
            first.map(|record| First::Record(record))
        }
    }

    /// That has been sent.
    pub fn pop(&mut self) {
        if self.lost.events > 0 {
            self.lost = Lost::default();
        } else if !std::mem::take(&mut self.clear)
            && let Some(record) = self.records.pop_front()
        {
            self.bytes -= record.len();
        }
    }

    fn drop_first(&mut self) {
        let Some(record) = self.records.pop_front() else {
            return;
        };
        self.bytes -= record.len();
        for record in record::read(&record) {
            if self.rows.remove(&record.seq) {
                let first = self
                    .dropped_row
                    .map_or(record.seq, |seq| seq.min(record.seq));
                self.dropped_row = Some(first);
            }
            let lost = match record.kind {
                Kind::Clear => {
                    self.clear = true;
                    continue;
                }
                // No event: the next record is the whole state as well.
                Kind::Snapshot => continue,
                Kind::Lost => record.lost(),
                _ => Lost {
                    events: 1,
                    safe: u32::from(record.safe),
                },
            };
            self.lost = self.lost.and(lost);
        }
    }
}

impl Kept {
    /// Keeps a row, if there is room.
    pub fn push(&mut self, record: &[u8], limits: &Limits) {
        if self.rows.len() < limits.event_buffer_len_max
            && self.bytes + record.len() <= limits.held_bytes_max
        {
            self.bytes += record.len();
            self.rows.push_back(record.into());
        }
    }

    /// The next one.
    pub fn first(&self) -> Option<&[u8]> {
        self.rows.front().map(|row| &**row)
    }

    /// That has been sent.
    pub fn pop(&mut self) {
        self.bytes -= self.rows.pop_front().map_or(0, |row| row.len());
    }
}

impl Fanout {
    /// A trade-safe event comes, in COMMAND one of the row `key`: what waits before it is sent, and where there is no room
    /// for that, kept. The item is still as it was before.
    pub(super) fn make_way(
        &mut self,
        subject: &mut Subject,
        key: Option<&str>,
        limits: &Limits,
        rings: &mut impl Rings,
        counters: &mut Counters,
    ) {
        for index in 0..subject.listeners.0.len() {
            let listener = &subject.listeners.0[index];
            if !listener.state || listener.debt.is_none() {
                continue;
            }
            let shard = listener.shard;
            if debt::settle(self, subject, index, rings, counters) {
                self.unqueue(shard, subject.item);
            } else if let Some(debt) = &mut subject.listeners.0[index].debt {
                let at = (subject.seq, subject.stamp);
                debt.hold_waiting(&mut self.scratch, &subject.state, key, at, limits);
            }
        }
    }

    /// The event has come, and the record that was sent of it is the last one encoded: it is kept for those who had no
    /// room for it.
    pub(super) fn hold(&mut self, subject: &mut Subject, key: Option<&str>, limits: &Limits) {
        let (seq, stamp) = (subject.seq, subject.stamp);
        let mut whole = false;
        for listener in subject
            .listeners
            .0
            .iter_mut()
            .filter(|listener| listener.state)
        {
            let Some(debt) = &mut listener.debt else {
                continue;
            };
            if !std::mem::replace(&mut whole, true) {
                match (&subject.state, key) {
                    (State::Merge(state), _) => {
                        encode_state(&mut self.scratch, Kind::State, state, seq, stamp);
                    }
                    (State::Command(table), Some(key)) => {
                        if let Some(entry) = table.entry(key) {
                            debt::encode_entry(
                                &mut self.scratch,
                                Kind::Event,
                                table,
                                &entry,
                                stamp,
                            );
                        }
                    }
                    _ => {} // an event of DISTINCT is whole as it is
                }
                record::mark_safe(&mut self.scratch);
            }
            debt.hold(&self.scratch, key.map(|_| seq), limits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::fields::FieldNames;
    use crate::time::Instant;

    fn record(seq: u64, kind: Kind, safe: bool) -> Vec<u8> {
        let mut out = Vec::new();
        record::Writer::start(&mut out, kind, seq, Instant::ZERO).finish();
        if safe {
            record::mark_safe(&mut out);
        }
        out
    }

    fn paid(held: &mut Held) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(first) = held.first() {
            lines.push(match first {
                First::Lost(lost) => format!("{} lost, {} safe", lost.events, lost.safe),
                First::Clear => "clear".into(),
                First::Record(bytes) => {
                    let record = record::read(bytes).next().unwrap();
                    format!("{:?} {}", record.kind, record.seq)
                }
            });
            held.pop();
        }
        assert_eq!(held.bytes, 0);
        lines
    }

    #[test]
    fn the_oldest_go_by_number_and_by_bytes_and_are_counted() {
        let limits = Limits {
            event_buffer_len_max: 3,
            held_bytes_max: 1_000,
            ..Limits::DEFAULT
        };
        let mut held = Held::default();
        for (seq, safe) in [(1, false), (2, true), (3, true), (4, false), (5, true)] {
            held.push(&record(seq, Kind::State, safe), &limits);
        }
        assert_eq!(
            paid(&mut held),
            ["2 lost, 1 safe", "State 3", "State 4", "State 5"]
        );

        held.push(&record(6, Kind::Event, true), &limits);
        held.push(&record(7, Kind::Clear, false), &limits);
        held.push(&record(8, Kind::Event, true), &limits);
        let mut long = record(9, Kind::Event, true);
        long.resize(990, 0);
        held.push(&long, &limits);
        let Some(First::Lost(lost)) = held.first() else {
            panic!("the oldest are gone");
        };
        assert_eq!(lost, Lost { events: 2, safe: 2 });
        held.pop();
        assert!(matches!(held.first(), Some(First::Clear)));
        held.pop();
        assert!(matches!(held.first(), Some(First::Record(bytes)) if bytes.len() == 990));
    }

    #[test]
    fn a_snapshot_that_goes_is_no_event_that_is_lost() {
        let limits = Limits {
            event_buffer_len_max: 2,
            ..Limits::DEFAULT
        };
        let mut held = Held::default();
        held.push(&record(1, Kind::Snapshot, false), &limits);
        for seq in 2..5 {
            held.push(&record(seq, Kind::State, true), &limits);
        }
        assert_eq!(paid(&mut held), ["1 lost, 1 safe", "State 3", "State 4"]);
    }

    #[test]
    fn rows_that_are_kept_are_known_until_all_are_told_anew() {
        let limits = Limits {
            event_buffer_len_max: 2,
            ..Limits::DEFAULT
        };
        let mut held = Held::default();
        for seq in [3, 5, 8] {
            held.push_row(&record(seq, Kind::Event, true), seq, &limits);
        }
        assert!(!held.has_row(3) && held.has_row(5) && held.has_row(8));
        assert_eq!(held.take_dropped_row(), Some(3));
        held.push(&record(9, Kind::Lost, false), &limits);
        assert_eq!(held.take_dropped_row(), Some(5));
        let table = CommandState::new(FieldNames::default(), 10);
        assert_eq!(held.last_rows(5, &table), 0, "its key is gone");
        held.forget_rows();
        assert!(!held.has_row(8));
    }
}
