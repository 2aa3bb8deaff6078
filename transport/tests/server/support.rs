//! What the tests share: the server as a process, a strict client, and a feed whose rows can be checked.

pub mod client;
pub mod feed;
pub mod process;

pub use crate::back_ends::Io;
pub use client::{Client, Ended};
pub use feed::{Counted, Feed};
pub use process::{Server, Setup};

use std::time::{Duration, Instant};

/// A bound on waiting, not an expectation: machines that run several tests at once on two cores stay far below it.
pub const WAIT_MAX: Duration = Duration::from_secs(85);

/// Looks again and again until `found` says yes. Only for what the kernel shows in files and reports to nobody.
pub fn wait_until(what: &str, mut found: impl FnMut() -> bool) {
    let start = Instant::now();
    while !found() {
        assert!(start.elapsed() < WAIT_MAX, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
