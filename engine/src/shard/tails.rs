//! Tail cache: what stands behind `U,<sub>,<item>,` up to the end of the line, encoded once for all sessions in step.
//!
//! A tail depends on the schema, the dialect, the row that the client has (the base of the delta) and the row that it
//! shall have, and on nothing else of the session. Clients that keep up all have the same base, so one encoding serves
//! them all; a new client's tail has no base and serves every other new client. A laggard computes its own. Where fields
//! may go out as differences, the client's [`Variant`] of them counts too.

use super::diffs::{FieldDiffs, Parsed, Variant};
use crate::item::row::Row;
use crate::text::CRLF;
use crate::tlcp::{Dialect, legacy, values};
use std::rc::Rc;

/// The tails last encoded for one item, one schema and one dialect.
#[derive(Debug, Default)]
pub struct Tails {
    dialect: Dialect,
    entries: Vec<Entry>,
    /// Where the next one is put.
    next: usize,
    /// Where the last one was found or put: where the one that follows it is looked for first.
    last: usize,
    /// Most rows that waited for one client, since `next` last came round and in the round before. All clients in step
    /// are sent so many one after the other, so as many are remembered.
    waiting: usize,
    waited: usize,
}

#[derive(Debug)]
struct Entry {
    base: u64,
    row: u64,
    variant: Variant,
    parsed: Parsed,
    bytes: Rc<[u8]>,
}

/// A tail, and what comes with it.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// The bytes. Whoever keeps them shares them with all that do.
    pub bytes: &'a Rc<[u8]>,
    /// They were there already.
    pub hit: bool,
    /// What the client holds as JSON after it.
    pub parsed: Parsed,
    /// How fields that may go out as differences do.
    pub variant: Variant,
}

/// How a tail is asked for, beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The client's.
    pub variant: Variant,
    /// Rows that wait for the client, this one included.
    pub waiting: usize,
}

/// How many positions are remembered at least: those in step, those who come new, and a few laggards.
const ENTRIES_MIN: usize = 4;
/// And at most, where many rows wait. Clients with more between them are encoded for one by one.
const ENTRIES_MAX: usize = 64;
/// Beside those that wait.
const ENTRIES_SPARE: usize = 3;
const NO_BASE: u64 = u64::MAX;

impl Tails {
    /// No tails yet, in this dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    /// The wording of all of them.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The tail from `base` to `row`. `fields` are the schema's fields as numbers of the item's; `diffs` are those of
    /// the view, if any. It is encoded in `scratch` if it is new.
    #[inline]
    pub fn get(
        &mut self,
        fields: &[u16],
        diffs: Option<&FieldDiffs>,
        base: Option<&Row>,
        row: &Row,
        wanted: Wanted,
        scratch: &mut Vec<u8>,
    ) -> Tail<'_> {
        let (base_seq, row_seq) = (base_seq(base), row.seq());
        self.waiting = self.waiting.max(wanted.waiting);
        let found = self.find(|entry| {
            entry.row == row_seq && entry.base == base_seq && entry.variant == wanted.variant
        });
        let hit = found.is_some();
        let index = found.unwrap_or_else(|| {
            scratch.clear();
            let parsed = match diffs {
                Some(diffs) => diffs.encode(scratch, fields, base, row, wanted.variant),
                None => {
                    encode(scratch, self.dialect, fields, base, row);
                    Parsed::default()
                }
            };
            self.put(Entry {
                base: base_seq,
                row: row_seq,
                variant: wanted.variant,
                parsed,
                bytes: scratch.as_slice().into(),
            })
        });
        self.last = index;
        let entry = &self.entries[index];
        Tail {
            bytes: &entry.bytes,
            hit,
            parsed: entry.parsed,
            variant: entry.variant,
        }
    }

    /// Most ask for what was asked for last; a client with several rows for what was put behind it.
    #[inline]
    fn find(&self, is: impl Fn(&Entry) -> bool) -> Option<usize> {
        let at = |index: usize| self.entries.get(index).filter(|entry| is(entry));
        if at(self.last).is_some() {
            return Some(self.last);
        }
        if at(self.last + 1).is_some() {
            return Some(self.last + 1);
        }
        self.entries.iter().position(is)
    }

    fn put(&mut self, entry: Entry) -> usize {
        let most = self.waiting.max(self.waited) + ENTRIES_SPARE;
        let most = most.clamp(ENTRIES_MIN, ENTRIES_MAX);
        if self.next >= most {
            self.next = 0;
            self.entries.truncate(most);
            self.waited = std::mem::take(&mut self.waiting);
        }
        let index = self.next;
        self.next += 1;
        match self.entries.get_mut(index) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        index
    }
}

/// The number of the row that a client has.
#[inline]
pub fn base_seq(base: Option<&Row>) -> u64 {
    base.map_or(NO_BASE, Row::seq)
}

/// Encodes a tail: all fields in full without a base, else what is different.
pub fn encode(out: &mut Vec<u8>, dialect: Dialect, fields: &[u16], base: Option<&Row>, row: &Row) {
    let count = fields.len();
    let current = |position: usize| row.get(usize::from(fields[position]));
    match (base, dialect) {
        (None, Dialect::Tlcp) => values::encode_full(out, count, current),
        (None, Dialect::Legacy) => legacy::values::encode_full(out, count, current),
        (Some(base), _) => {
            let previous = |position: usize| base.get(usize::from(fields[position]));
            match dialect {
                Dialect::Tlcp => values::encode_delta(out, count, current, previous),
                Dialect::Legacy => legacy::values::encode_delta(out, count, current, previous),
            }
        }
    }
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::row::RowBuilder;
    use proptest::prelude::*;

    fn row(seq: u64, values: &[Option<String>]) -> Row {
        let mut builder = RowBuilder::default();
        builder.start(seq, values.len());
        for value in values {
            builder.push(value.as_ref().map(String::as_bytes));
        }
        builder.finish()
    }

    proptest! {
        /// Whatever was asked before, a tail is what encoding it would give; and the same question again is a hit.
        #[test]
        fn tails_equal_direct_encoding(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of("[a#|]{0,2}"), 0..6), 1..6),
            fields in prop::collection::vec(0u16..8, 0..6),
            asked in prop::collection::vec((prop::option::of(0usize..6), 0usize..6, 0usize..70), 1..60),
            legacy in any::<bool>(),
        ) {
            let rows: Vec<_> = rows.iter().zip(0..).map(|(values, seq)| row(seq, values)).collect();
            let dialect = if legacy { Dialect::Legacy } else { Dialect::Tlcp };
            let mut tails = Tails::new(dialect);
            let mut scratch = Vec::new();
            for (base, current, waiting) in asked {
                let base = base.map(|base| &rows[base % rows.len()]);
                let current = &rows[current % rows.len()];
                let mut direct = Vec::new();
                encode(&mut direct, dialect, &fields, base, current);
                let mut get = |hit: bool| {
                    let wanted = Wanted { variant: Variant::PLAIN, waiting };
                    let tail = tails.get(&fields, None, base, current, wanted, &mut scratch);
                    prop_assert_eq!(&**tail.bytes, direct.as_slice());
                    prop_assert!(!hit || tail.hit);
                    Ok(())
                };
                get(false)?;
                get(true)?;
            }
        }
    }
    /// Bursts of any length that is remembered are encoded once for all clients in step, and the memory for them is
    /// given back when they are over.
    #[test]
    fn a_burst_is_encoded_once_for_all_in_step() {
        let rows: Vec<_> = (0..1_000)
            .map(|seq| row(seq, &[Some(seq.to_string())]))
            .collect();
        let mut tails = Tails::new(Dialect::Tlcp);
        let mut scratch = Vec::new();
        let mut from = 0;
        let mut misses = 0;
        for burst in [1, 16, 1, 61, 20, 40, 61] {
            for _client in 0..3 {
                for at in 0..burst {
                    let wanted = Wanted {
                        variant: Variant::PLAIN,
                        waiting: burst - at,
                    };
                    let (base, row) = (&rows[from + at], &rows[from + at + 1]);
                    let tail = tails.get(&[0], None, Some(base), row, wanted, &mut scratch);
                    misses += usize::from(!tail.hit);
                }
            }
            from += burst;
            assert_eq!(misses, from);
        }
        for (base, row) in rows[from..].iter().zip(&rows[from + 1..]) {
            let wanted = Wanted {
                variant: Variant::PLAIN,
                waiting: 1,
            };
            tails.get(&[0], None, Some(base), row, wanted, &mut scratch);
        }
        assert_eq!(tails.entries.len(), ENTRIES_MIN);
    }
}
