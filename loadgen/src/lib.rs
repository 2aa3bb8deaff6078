//! The load generator's parts: many TLCP sessions on few threads, and what they say about a server; a feed for it; and
//! what the generator itself can take.
//!
//! A run (`loadgen run`) goes through phases (`control::Phase`): the sessions connect at a steady pace, the stream warms
//! up, then a window is measured, then, if they are to be compared, the sessions are given time to catch up. Each thread
//! drives its share of the sessions with one [`Reactor`](brightwire::reactor::Reactor), the I/O loop of the server's
//! own shards: no task per session, one clock reading per poll.
//!
//! What is measured is what a client sees: the time from the moment that an event was meant for (the feed writes it into
//! a field) to the moment at which this process learned that its bytes had arrived. The generator measures itself as
//! well (its CPU, how rarely it looked, how long it waited for a core), and says so when the figures describe it rather
//! than the server.
//!
//! | Module | What it is for |
//! |---|---|
//! | [`scenario`] | what is run: a file's keys and flags, and what they amount to |
//! | [`run`], `crew`, `control` | the phases, threads and processes of a run |
//! | `fleet`, `desk`, `connect`, `pace` | one thread's sessions, and its reactor |
//! | `session`, `http`, `tls`, `update` | one session: bytes in, bytes out |
//! | `stats`, `series`, `rank`, `verify` | what is counted, the log of every second, the order in which clients are served, and the comparison of sessions |
//! | `report`, [`compare`] | figures for people and for programs |
//! | [`feed`] | the publishing side |
//! | [`null`] | a server that does nothing but send |

pub mod args;
pub mod compare;
mod connect;
mod control;
mod crew;
mod desk;
pub mod feed;
mod fleet;
mod http;
pub mod null;
mod pace;
pub mod process;
mod rank;
mod report;
pub mod run;
pub mod scenario;
mod series;
mod session;
mod stats;
mod tls;
mod update;
mod verify;

pub use report::Report;
