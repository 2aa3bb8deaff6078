//! What a data adapter says, whatever brought it here: a remote adapter's line, an in-process adapter's ring.

use crate::ids::ItemId;

/// One event of a data adapter. Borrowed: ingest copies what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterEvent<'a> {
    /// New values of some fields.
    Update {
        /// The item, by the number of the subscription that the adapter was asked for.
        item: ItemId,
        /// Whether the event belongs to the item's snapshot.
        snapshot: bool,
        /// Field names with their new values; a field that is not named keeps its value (MERGE).
        fields: &'a [(&'a str, Option<&'a str>)],
    },
    /// The item's snapshot is complete (or there is none).
    EndOfSnapshot {
        /// The item.
        item: ItemId,
    },
    /// Everything known of the item is void.
    ClearSnapshot {
        /// The item.
        item: ItemId,
    },
    /// How the values of some fields may be sent as differences. What is said of a field first counts, and only if the
    /// field has had no value before.
    Differences {
        /// The item.
        item: ItemId,
        /// Field names with the letters of formats ([`Order::from_letters`](crate::tlcp::diff::Order::from_letters)).
        fields: &'a [(&'a str, Option<&'a str>)],
    },
    /// The adapter has taken the subscription, and says whether a snapshot will come. For adapters that are not asked
    /// beforehand: see [`Ingest::on_subscribed`](super::Ingest::on_subscribed).
    Subscribed {
        /// The item.
        item: ItemId,
        /// Whether the item's events begin with a snapshot, which is ended by an end of snapshot.
        snapshot_available: bool,
    },
}
