//! Row: the values of all of an item's fields at one moment, immutable, in one allocation.
//!
//! A shard makes one row per event and then only hands out references: the item's current state, the base that a
//! client's next delta refers to, and what waits in an event buffer are all the same bytes. `Rc`, not `Arc`: rows
//! never leave their shard, and so a shard cannot leave its thread.
//!
//! Layout, little endian: `seq: u64`, `count: u32`, `count` × `end: u32`, then the values one after the other. `end` is
//! where the value ends, counted from the first value; its top bit says that the value is null.

use super::command::Command;
use std::fmt;
use std::rc::Rc;

/// An immutable set of field values with a number that tells it from others.
#[derive(Clone, PartialEq, Eq)]
pub struct Row(Rc<[u8]>);

const SEQ_BYTES: usize = 8;
const HEAD_BYTES: usize = SEQ_BYTES + 4;
const END_BYTES: usize = 4;
const NULL: u32 = 1 << 31;

impl Row {
    /// What tells the row from all others of the item that clients see through the same schema; see
    /// [`Row::stamp_of`] for COMMAND.
    pub fn seq(&self) -> u64 {
        u64::from_le_bytes(self.0[..SEQ_BYTES].try_into().expect("a row has a head"))
    }

    /// COMMAND shows the same values with different commands, to clients who know the key and to those who do not: the
    /// number of a row is that of its event with its command.
    pub fn stamp_of(seq: u64, command: Command) -> u64 {
        seq << 2 | command as u64
    }

    /// COMMAND: the command with which it shows its values.
    pub fn command(&self) -> Command {
        match self.seq() & 3 {
            0 => Command::Add,
            1 => Command::Update,
            _ => Command::Delete,
        }
    }

    /// Number of fields that the item had when the row was made. Fields that came later read as null.
    pub fn len(&self) -> usize {
        self.word(SEQ_BYTES) as usize
    }

    /// Whether the row has no fields at all: the empty snapshot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of the field at `index` in the item's order of fields; `None` for null, and for a field that the
    /// row does not know.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let count = self.len();
        if index >= count {
            return None;
        }
        let end = self.word(HEAD_BYTES + END_BYTES * index);
        if end & NULL != 0 {
            return None;
        }
        let start = if index == 0 {
            0
        } else {
            self.word(HEAD_BYTES + END_BYTES * (index - 1)) & !NULL
        };
        let values = HEAD_BYTES + END_BYTES * count;
        Some(&self.0[values + start as usize..values + end as usize])
    }

    /// Whether no field has a value.
    pub fn is_all_null(&self) -> bool {
        (0..self.len()).all(|field| self.get(field).is_none())
    }

    /// Bytes of the allocation, for accounting.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.seq())?;
        f.debug_list()
            .entries((0..self.len()).map(|i| self.get(i).map(String::from_utf8_lossy)))
            .finish()
    }
}

/// Makes rows; keeps its scratch between them, so that a row costs exactly one allocation.
#[derive(Debug, Default)]
pub struct RowBuilder {
    scratch: Vec<u8>,
    count: usize,
    filled: usize,
}

impl RowBuilder {
    /// Starts a row of `count` fields.
    pub fn start(&mut self, seq: u64, count: usize) {
        self.count = count;
        self.filled = 0;
        self.scratch.clear();
        self.scratch.extend_from_slice(&seq.to_le_bytes());
        self.scratch.extend_from_slice(
            &u32::try_from(count)
                .expect("field count is bounded")
                .to_le_bytes(),
        );
        self.scratch.resize(HEAD_BYTES + END_BYTES * count, 0);
    }

    /// Appends the next field's value.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        debug_assert!(self.filled < self.count);
        if let Some(value) = value {
            self.scratch.extend_from_slice(value);
        }
        let values = HEAD_BYTES + END_BYTES * self.count;
        let end = u32::try_from(self.scratch.len() - values).expect("a record's size is bounded");
        debug_assert!(end < NULL);
        let end = if value.is_some() { end } else { end | NULL };
        let at = HEAD_BYTES + END_BYTES * self.filled;
        self.scratch[at..at + END_BYTES].copy_from_slice(&end.to_le_bytes());
        self.filled += 1;
    }

    /// The row, after exactly `count` values.
    pub fn finish(&mut self) -> Row {
        debug_assert_eq!(self.filled, self.count);
        Row(Rc::from(self.scratch.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u64, values: &[Option<&str>]) -> Row {
        let mut builder = RowBuilder::default();
        builder.start(seq, values.len());
        for value in values {
            builder.push(value.map(str::as_bytes));
        }
        builder.finish()
    }

    #[test]
    fn gives_back_what_was_put_in() {
        let row = row(7, &[Some("a"), None, Some(""), Some("long value"), None]);
        assert_eq!(row.seq(), 7);
        assert_eq!(row.len(), 5);
        assert_eq!(row.get(0), Some(&b"a"[..]));
        assert_eq!(row.get(1), None);
        assert_eq!(row.get(2), Some(&b""[..]));
        assert_eq!(row.get(3), Some(&b"long value"[..]));
        assert_eq!(row.get(4), None);
    }

    #[test]
    fn a_field_that_came_later_reads_as_null() {
        assert_eq!(row(1, &[Some("a")]).get(1), None);
    }

    #[test]
    fn a_value_after_a_null_starts_where_the_null_stood() {
        let row = row(1, &[None, Some("b"), None, None, Some("e")]);
        assert_eq!(row.get(1), Some(&b"b"[..]));
        assert_eq!(row.get(4), Some(&b"e"[..]));
    }

    #[test]
    fn the_empty_row_is_a_row() {
        let row = row(3, &[]);
        assert!(row.is_empty());
        assert_eq!(row.seq(), 3);
        assert_eq!(row.get(0), None);
    }
}
