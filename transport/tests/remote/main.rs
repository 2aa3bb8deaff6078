//! Remote adapters, played line by line: what the server says to them, and what clients see of what they say. The remote
//! of these tests speaks the protocol by hand, so that it can speak as any SDK of any version, and do what none does.
//!
//! The server is the real binary, everything goes over loopback, and nobody sleeps for what can be waited for.

mod data;
mod failures;
mod metadata;
mod recovery;
mod refusals;
mod starts;
mod support;
mod tables;
mod tls;
