//! Bugs that can be planted, so that the simulator is seen to find them: a judge who never says no proves nothing.
//!
//! Only a build with the feature `sim` has them. Without it a [`Canary`] is nothing at all, and every question to it is
//! answered by the compiler.

use super::SubItem;
use super::event_buffer::Next;
use super::items::Change;
use crate::item::row::Row;
use crate::limits::Limits;
use crate::time::Instant;
use std::borrow::Cow;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Now and then the record of an event is lost on its way to a shard.
    Record,
    /// Now and then a record of a snapshot is.
    SnapshotRow,
    /// No frequency holds updates back.
    Frequency,
    /// No bandwidth does.
    Bandwidth,
    /// Losses are not told.
    Loss,
    /// Ends of snapshots are not told.
    EndOfSnapshot,
    /// It is not told that what was is void.
    Clear,
    /// Now and then the deletion of a row is forgotten.
    Delete,
    /// Now and then a difference refers to a row that the client does not have any more.
    Base,
    /// Event buffers hold more than they may.
    Bound,
    /// A client that recovers gets all but the first of the lines that it lacks.
    Recovery,
    /// Trade-safe events are merged and dropped like others.
    Trade,
    /// A client is taken to be in step with another whatever fields it has subscribed to, by whatever number.
    Step,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Record,
        Self::SnapshotRow,
        Self::Frequency,
        Self::Bandwidth,
        Self::Loss,
        Self::EndOfSnapshot,
        Self::Clear,
        Self::Delete,
        Self::Base,
        Self::Bound,
        Self::Recovery,
        Self::Trade,
        Self::Step,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::SnapshotRow => "snapshot-row",
            Self::Frequency => "frequency",
            Self::Bandwidth => "bandwidth",
            Self::Loss => "loss",
            Self::EndOfSnapshot => "end-of-snapshot",
            Self::Clear => "clear",
            Self::Delete => "delete",
            Self::Base => "base",
            Self::Bound => "bound",
            Self::Recovery => "recovery",
            Self::Trade => "trade",
            Self::Step => "step",
        }
    }
}

/// Which bug is planted, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    #[cfg(feature = "sim")]
    bug: Option<Bug>,
}

impl Canary {
    /// With a bug, or without.
    #[cfg(feature = "sim")]
    pub fn new(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    /// Whether this bug is planted.
    #[inline]
    pub fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "sim")]
        return self.bug == Some(bug);
        #[cfg(not(feature = "sim"))]
        return {
            _ = bug;
            false
        };
    }

    /// Whether clients in step may share messages: most bugs are planted where a client is written to by itself.
    #[inline]
    pub(super) fn lets_follow(self) -> bool {
        #[cfg(feature = "sim")]
        return matches!(self.bug, None | Some(Bug::Step));
        #[cfg(not(feature = "sim"))]
        return true;
    }

    /// Whether a bug leaves this line out.
    #[inline]
    pub(super) fn swallows(self, line: &Next) -> bool {
        match line {
            Next::Lost(_) => self.has(Bug::Loss),
            Next::EndOfSnapshot => self.has(Bug::EndOfSnapshot),
            Next::Clear => self.has(Bug::Clear),
            Next::Row(_) | Next::Nothing | Next::At(_) => false,
        }
    }

    /// Whether a bug makes the shard forget this.
    #[inline]
    pub(super) fn forgets(self, change: &Change) -> bool {
        self.has(Bug::Delete)
            && matches!(change, Change::Key(key) if key.deleted.is_some() && key.place % 3 == 0)
    }

    /// Spoils what is remembered of a row that has been sent; `before` is the row that the client had until then.
    #[inline]
    pub(super) fn spoil(self, sub_item: &mut SubItem, before: Option<Row>, now: Instant) {
        if self.has(Bug::Frequency) {
            sub_item.forget_due(now);
        }
        if self.has(Bug::Base)
            && sub_item
                .base
                .as_ref()
                .is_some_and(|row| row.seq() % 64 == 0)
        {
            sub_item.base = before;
        }
    }

    /// The bounds that event buffers really keep.
    pub(super) fn bounds(self, limits: &Limits) -> Cow<'_, Limits> {
        if !self.has(Bug::Bound) {
            return Cow::Borrowed(limits);
        }
        Cow::Owned(Limits {
            event_buffer_len_max: limits.event_buffer_len_max * 2,
            ..limits.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_no_bug_planted() {
        assert!(Bug::ALL.iter().all(|bug| !Canary::default().has(*bug)));
    }
}
