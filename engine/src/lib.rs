//! The pure half of Brightwire.

#![forbid(unsafe_code)]

pub mod counters;
pub mod ids;
pub mod ingest;
pub mod item;
pub mod limits;
pub mod metadata;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod text;
pub mod time;
pub mod tlcp;
