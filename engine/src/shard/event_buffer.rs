//! What a client is owed of one item of one subscription: conflation 3 of the data path, the everyday one.
//!
//! MERGE with a buffer of one event, which is nearly everything, has no buffer at all: the item's current row *is* what
//! remains of all that was not sent. What is here is for the others, and each is bounded by `event_buffer_len_max` or
//! the smaller size that was asked for or allowed:
//!
//! | subscription | when the bound is reached |
//! |---|---|
//! | MERGE, DISTINCT | the oldest event goes; for MERGE the next one contains it. Nothing is told |
//! | RAW, unfiltered MERGE, unfiltered DISTINCT | the oldest event goes, and `OV` stands in its place |
//! | COMMAND | all that waits goes, and the client gets the table anew: `OV`, `CS`, a row per key |
//!
//! The rows of a snapshot are no part of that: they are not counted, not dropped, and no frequency holds them back.
//!
//! Trade-safe events ([`crate::item::safe`]) are neither merged nor dropped without a word, and what waits before them
//! goes before them: no frequency holds either back. They are bounded by `event_buffer_len_max` whatever size was asked
//! for, and what is dropped of them there is told by `OV`. Those that come while a table is being shown follow it, and the rows
//! that they change are shown as they were.

mod changes;
mod queue;
mod table;

pub use queue::{Overflow, Queue};
pub use table::TableBuffer;

use crate::item::row::Row;
use crate::time::Instant;

/// The line that goes out next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// None.
    Nothing,
    /// None before this.
    At(Instant),
    /// `U`
    Row(Row),
    /// `EOS`
    EndOfSnapshot,
    /// `CS`
    Clear,
    /// `OV`
    Lost(u32),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Something is to be sent that no frequency holds back.
    pub urgent: bool,
    /// Events that were merged into others.
    pub conflated: u32,
    /// Events that were dropped without a word, as the subscription allows.
    pub filtered: u32,
    /// Events that were dropped, of which the client will be told.
    pub lost: u32,
}

/// What is owed, where that must be kept.
#[derive(Debug)]
pub enum EventBuffer {
    /// Events in their order.
    Queue(Queue),
    /// COMMAND.
    Table(Box<TableBuffer>),
}

impl EventBuffer {
    /// How many events wait, of those that are bounded.
    pub fn events(&self) -> usize {
        match self {
            Self::Queue(queue) => queue.events(),
            Self::Table(table) => table.events(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Row(Row),
    /// A trade-safe one.
    Safe(Row),
    EndOfSnapshot,
    Clear,
    Lost(u32),
}

impl From<&Entry> for Next {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Row(row) | Entry::Safe(row) => Next::Row(row.clone()),
            Entry::EndOfSnapshot => Next::EndOfSnapshot,
            Entry::Clear => Next::Clear,
            Entry::Lost(lost) => Next::Lost(*lost),
        }
    }
}
