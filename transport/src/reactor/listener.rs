//! A listening socket of a reactor, and its rest after the machine ran out of something.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::ACCEPT_BACKOFF;

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// The owner's name for it.
    pub(super) number: u32,
    /// When accepting starts again, if it is stopped.
    pub(super) resting_until: Option<Instant>,
}

impl Listener {
    pub(super) fn new(socket: TcpListener, number: u32) -> Self {
        Self {
            socket,
            number,
            resting_until: None,
        }
    }

    /// Stops accepting for a while.
    pub(super) fn rest(&mut self) {
        self.resting_until = Some(Instant::now() + ACCEPT_BACKOFF);
    }

    /// True once when the rest is over.
    pub(super) fn is_rested(&mut self) -> bool {
        let over = self
            .resting_until
            .is_some_and(|until| Instant::now() >= until);
        if over {
            self.resting_until = None;
        }
        over
    }
}

/// How long a poll may wait so that no listener oversleeps.
pub(super) fn wait_bounded(listeners: &[Listener], wait: Option<Duration>) -> Option<Duration> {
    let first = listeners
        .iter()
        .filter_map(|listener| listener.resting_until)
        .min();
    let rest = first.map(|until| until.saturating_duration_since(Instant::now()));
    match (wait, rest) {
        (Some(wait), Some(rest)) => Some(wait.min(rest)),
        (wait, rest) => wait.or(rest),
    }
}

/// The highest number of listeners: they share the token space with connections in both back ends.
pub(super) const LISTENERS_MAX: usize = 1024;
