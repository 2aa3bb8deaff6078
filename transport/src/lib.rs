//! Everything of Brightwire that touches Linux.

pub mod adapter;
pub mod config;
pub mod lifecycle;
pub mod net;
pub mod preflight;
pub mod reactor;
pub mod runtime;
pub mod server;
pub mod wire;
