//! Names for the things that cross module borders: small copyable identifiers, each of a type of its own.

/// A client connection of one shard. Slots are reused; the generation tells a new tenant from an old one, so an
/// event that was on its way when a connection closed never reaches its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Index into the shard's table of connections.
    pub slot: u32,
    /// Counts the tenants of the slot.
    pub generation: u32,
}

/// One of the server's shards: 0 up to the number of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A data adapter, numbered across all adapter sets in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataAdapterId(pub u16);

impl DataAdapterId {
    /// The built-in status adapter, in every adapter set that has it. No configuration has so many others.
    pub const STATUS: Self = Self(u16::MAX);
}

/// An item as ingest numbers it. An item that is dropped and wanted again gets a new number, so what an adapter
/// still says under the old one is recognised as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u32);
