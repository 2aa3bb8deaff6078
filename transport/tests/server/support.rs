//! What the tests share: the server as a process, a strict client, and a feed whose rows can be checked.

pub mod client;
pub mod feed;
pub mod process;

pub use client::{Client, Ended};
pub use feed::{Counted, Feed};
pub use process::{Server, Setup};

use std::time::{Duration, Instant};

/// A bound on waiting, not an expectation: machines that run several tests at once on two cores stay far below it.
pub const WAIT_MAX: Duration = Duration::from_secs(85);

/// The back end of the server's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Epoll,
    Uring,
}

impl Io {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

/// Whether this machine lets the server use io_uring.
pub fn uring_works() -> bool {
    match brightwire::reactor::probe::probe().obstacle {
        None => true,
        Some(obstacle) => {
            eprintln!("skipped: {obstacle}");
            false
        }
    }
}

/// Looks again and again until `found` says yes. Only for what the kernel shows in files and reports to nobody.
pub fn wait_until(what: &str, mut found: impl FnMut() -> bool) {
    let start = Instant::now();
    while !found() {
        assert!(start.elapsed() < WAIT_MAX, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
