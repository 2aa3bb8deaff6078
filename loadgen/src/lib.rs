//! The load generator's parts: many TLCP sessions on few threads, and what they say about a server.
//!
//! A run goes through phases (`control::Phase`): the sessions connect at a steady pace, the stream warms up, then a
//! window is measured, then, with `--verify`, the sessions are given time to catch up and are compared. Each thread
//! drives its share of the sessions with one [`Reactor`](brightwire::reactor::Reactor), the I/O loop of the server's
//! own shards: no task per session, one clock reading per poll.
//!
//! What is measured is what a client sees: the time from the moment at which the adapter made an event (the feed
//! writes it into a field) to the moment at which this process learned that its bytes had arrived. The generator
//! measures itself as well (its CPU, how rarely it looked, how long it waited for a core), and says so when the
//! figures describe it rather than the server.

pub mod args;
mod control;
mod fleet;
mod pace;
pub mod process;
mod report;
pub mod run;
mod session;
mod stats;
mod update;
mod verify;

pub use report::Report;
