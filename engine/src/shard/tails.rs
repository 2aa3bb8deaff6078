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

/// The tails last encoded for one item, one schema and one dialect.
#[derive(Debug, Default)]
pub struct Tails {
    dialect: Dialect,
    entries: Vec<Entry>,
    next: usize,
}

#[derive(Debug)]
struct Entry {
    base: u64,
    row: u64,
    variant: Variant,
    parsed: Parsed,
    bytes: Vec<u8>,
}

/// A tail, and what comes with it.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// They were there already.
    pub hit: bool,
    /// What the client holds as JSON after it.
    pub parsed: Parsed,
}

/// How many positions are remembered: those in step, those who come new, and a few laggards.
const ENTRIES: usize = 4;
/// An entry that parsed a larger tail gives its memory back when it is replaced.
const ENTRY_BYTES_KEPT: usize = 4096;
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
    /// the view, if any.
    #[inline]
    pub fn get(
        &mut self,
        fields: &[u16],
        diffs: Option<&FieldDiffs>,
        base: Option<&Row>,
        row: &Row,
        variant: Variant,
    ) -> Tail<'_> {
        let base_seq = base.map_or(NO_BASE, Row::seq);
        let row_seq = row.seq();
        let found = self.entries.iter().position(|entry| {
            entry.row == row_seq && entry.base == base_seq && entry.variant == variant
        });
        if let Some(index) = found {
            let entry = &self.entries[index];
            return Tail {
                bytes: &entry.bytes,
                hit: true,
                parsed: entry.parsed,
            };
        }
        let index = self.next;
        self.next = (self.next + 1) % ENTRIES;
        if self.entries.len() <= index {
            self.entries.push(Entry {
                base: 0,
                row: 0,
                variant,
                parsed: Parsed::default(),
                bytes: Vec::new(),
            });
        }
        let entry = &mut self.entries[index];
        entry.base = base_seq;
        entry.row = row_seq;
        entry.variant = variant;
        entry.bytes.clear();
        entry.bytes.shrink_to(ENTRY_BYTES_KEPT);
        entry.parsed = match diffs {
            Some(diffs) => diffs.encode(&mut entry.bytes, fields, base, row, variant),
            None => {
                encode(&mut entry.bytes, self.dialect, fields, base, row);
                Parsed::default()
            }
        };
        Tail {
            bytes: &entry.bytes,
            hit: false,
            parsed: entry.parsed,
        }
    }
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
            asked in prop::collection::vec((prop::option::of(0usize..6), 0usize..6), 1..60),
            legacy in any::<bool>(),
        ) {
            let rows: Vec<_> = rows.iter().zip(0..).map(|(values, seq)| row(seq, values)).collect();
            let dialect = if legacy { Dialect::Legacy } else { Dialect::Tlcp };
            let mut tails = Tails::new(dialect);
            for (base, current) in asked {
                let base = base.map(|base| &rows[base % rows.len()]);
                let current = &rows[current % rows.len()];
                let mut direct = Vec::new();
                encode(&mut direct, dialect, &fields, base, current);
                let mut get = |hit: bool| {
                    let tail = tails.get(&fields, None, base, current, Variant::PLAIN);
                    prop_assert_eq!(tail.bytes, direct.as_slice());
                    prop_assert!(!hit || tail.hit);
                    Ok(())
                };
                get(false)?;
                get(true)?;
            }
        }
    }
}
