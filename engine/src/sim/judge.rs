//! The judges: one for each item of each subscription of each client. A judge sees the lines that its client is sent, in
//! their order, and knows what was published; it says at once what can not be, and in the end what is missing.
//!
//! | judge | for | what it demands |
//! |---|---|---|
//! | [`Latest`] | MERGE, filtered | states that were, in their order; the last one in the end |
//! | [`Chain`] | RAW; MERGE and DISTINCT, unfiltered | every event: `received + told lost = published` |
//! | [`List`] | DISTINCT | the right snapshot; then events in their order, the newest in the end |
//! | [`Table`] | COMMAND | `ADD (UPDATE)* DELETE` per key; all rows in the snapshot; the adapter's table in the end |

mod chain;
mod latest;
mod list;
mod table;

pub use chain::Chain;
pub use latest::Latest;
pub use list::List;
pub use table::Table;

use super::feed::cast::Field;
use super::feed::values::Values;
use super::ledger::{Key, Life};
use crate::tlcp::client::FieldValues;
use crate::tlcp::request::Mode;

/// What a judge goes by.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// What was published.
    pub life: &'a Life,
    /// What values look like.
    pub values: &'a Values,
    /// The fields of the subscription.
    pub schema: &'a [Field],
    /// So much was published when ingest heard that the shard wants the item in this mode. Nothing before is an event for
    /// the client, and everything until then is in its snapshot.
    pub heard: u32,
    /// So much when the subscription was active as well. Everything after it is an event for the client.
    pub since: u32,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The mode.
    pub mode: Mode,
    /// Nothing may be merged or dropped.
    pub unfiltered: bool,
    /// A snapshot; in DISTINCT of so many events at most.
    pub snapshot: Option<u32>,
    /// Events that may wait for this client.
    pub buffer_len: usize,
    /// Data rings are so large that they never are full: shards know all that ingest knows.
    pub rings_fit: bool,
}

/// A row that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As part of a snapshot.
    Snapshot,
    /// As an event.
    Event,
    /// COMMAND: as a new row, one that is changed, or one that is gone.
    Added(Key),
    /// The second of these.
    Updated(Key),
    /// The third.
    Deleted(Key),
}

/// The judge of one item of one subscription.
#[derive(Debug)]
pub enum Judge {
    /// MERGE.
    Latest(Latest),
    /// RAW, and MERGE where nothing may be lost.
    Chain(Chain),
    /// DISTINCT.
    List(List),
    /// COMMAND.
    Table(Box<Table>),
}

impl Judge {
    /// A judge for one who has been sent nothing yet.
    pub fn new(terms: &Terms) -> Self {
        match terms.mode {
            Mode::Merge if !terms.unfiltered => Self::Latest(Latest::new(terms)),
            Mode::Raw | Mode::Merge => Self::Chain(Chain::new(terms)),
            Mode::Distinct => Self::List(List::new(terms)),
            Mode::Command => Self::Table(Box::new(Table::new(terms))),
        }
    }

    /// `U`; `shown` are the client's values after it.
    pub fn update(&mut self, case: &Case<'_>, shown: &FieldValues) -> Result<Shown, String> {
        match self {
            Self::Latest(judge) => judge.update(case, shown),
            Self::Chain(judge) => judge.update(case, shown),
            Self::List(judge) => judge.update(case, shown),
            Self::Table(judge) => judge.update(case, shown),
        }
    }

    /// `EOS`
    pub fn end_of_snapshot(&mut self, case: &Case<'_>) -> Result<(), String> {
        match self {
            Self::List(judge) => judge.end_of_snapshot(case),
            Self::Table(judge) => judge.end_of_snapshot(case),
            _ => Err("no end of a snapshot in this mode".into()),
        }
    }

    /// `CS`
    pub fn cleared(&mut self, case: &Case<'_>) -> Result<(), String> {
        match self {
            Self::List(judge) => judge.cleared(case),
            Self::Table(judge) => judge.cleared(case),
            _ => Err("nothing is cleared in this mode".into()),
        }
    }

    /// `OV`
    pub fn lost(&mut self, case: &Case<'_>, lost: u32) -> Result<(), String> {
        if lost == 0 {
            return Err("a loss of nothing".into());
        }
        match self {
            Self::Latest(_) => Err("a loss where states are merged".into()),
            Self::Chain(judge) => judge.lost(lost),
            Self::List(judge) => judge.lost(lost),
            Self::Table(judge) => judge.lost(case, lost),
        }
    }

    /// Nothing happens any more, and `shown` is what the client has: whether that is all that it must have.
    pub fn finish(&self, case: &Case<'_>, shown: &FieldValues) -> Result<(), String> {
        match self {
            Self::Latest(judge) => judge.finish(case, shown),
            Self::Chain(judge) => judge.finish(case),
            Self::List(judge) => judge.finish(case),
            Self::Table(judge) => judge.finish(case),
        }
    }
}

#[cfg(test)]
mod tests;
