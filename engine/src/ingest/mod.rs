//! The ingest half: the single writer of item state.

pub mod event;
