//! The tail cache by itself, for benchmarks. Everybody else sees tails through the pump.

use super::diffs::Variant;
use super::tails::{Tails, Wanted};
use crate::item::row::Row;
use crate::tlcp::Dialect;

/// Tails of one schema that has all fields of some rows.
#[derive(Debug)]
pub struct TailProbe {
    tails: Tails,
    fields: Vec<u16>,
    rows: Vec<Row>,
    scratch: Vec<u8>,
}

impl TailProbe {
    /// No tails yet.
    pub fn new(rows: Vec<Row>) -> Self {
        let fields = rows.iter().map(Row::len).max().unwrap_or(0);
        Self {
            tails: Tails::new(Dialect::Tlcp),
            fields: (0..u16::try_from(fields).expect("fields are bounded")).collect(),
            rows,
            scratch: Vec::new(),
        }
    }

    /// The tail from one of the rows to another, and whether it was there already.
    pub fn tail(&mut self, base: usize, row: usize) -> (&[u8], bool) {
        let (base, row) = (&self.rows[base], &self.rows[row]);
        let wanted = Wanted {
            variant: Variant::PLAIN,
            waiting: 1,
        };
        let (fields, scratch) = (&self.fields, &mut self.scratch);
        let tail = self
            .tails
            .get(fields, None, Some(base), row, wanted, scratch);
        (tail.bytes, tail.hit)
    }
}
