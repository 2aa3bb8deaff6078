//! The whole server over real sockets: the binary is started as a process, and clients talk to it over loopback.
//!
//! Every test is written once and run on both I/O back ends. No test sleeps for what it can wait for, and none judges how long something took: waiting has a bound
//! ([`support::WAIT_MAX`]) beyond which something is certainly broken.

#[path = "../back_ends/mod.rs"]
mod back_ends;
mod handoff;
mod hostile;
mod limits;
mod messages;
mod pages;
mod process;
mod quality;
mod sessions;
mod soak;
mod stalled;
mod support;
mod timeouts;

use back_ends::on_both_back_ends;
