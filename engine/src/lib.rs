//! The pure half of Brightwire.

#![forbid(unsafe_code)]

pub mod ids;
pub mod ingest;
pub mod time;
pub mod tlcp;
