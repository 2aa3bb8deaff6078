//! The sending side of one connection, the same for both back ends: what the socket did not take, whether the owner
//! knows about it, and how the connection failed if it did.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::{ConnId, REMAINDER_BYTES_MAX, sys};

/// See the module. Holds no memory while the connection is not blocked.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    rest: Vec<u8>,
    // How much of `rest` the socket has taken.
    gone: usize,
    state: State,
    // On the reactor's list of connections with news for the owner.
    listed: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    // The owner has not heard of it yet, and may go on sending.
    Blocked,
    BlockedReported,
    Failed(io::Error),
    FailedReported,
}

/// One send that has been noted: a range of the hot buffer.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) conn: ConnId,
    pub(super) range: Range<usize>,
}

/// What the owner has to be told.
#[derive(Debug)]
pub(super) enum News {
    Nothing,
    Blocked,
    Failed(io::Error),
}

/// How far an attempt to bring out the remainder came.
#[derive(Debug)]
pub(super) enum Drained {
    All,
    NotYet,
    Failed(io::Error),
}

impl Outgoing {
    /// Whether there is a remainder, so that nothing may overtake it.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(self.state, State::Blocked | State::BlockedReported)
    }

    pub(super) fn is_blocked_reported(&self) -> bool {
        matches!(self.state, State::BlockedReported)
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::FailedReported)
    }

    /// Keeps what the socket did not take. Beyond the bound the connection has failed.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if self.is_failed() {
            return;
        }
        if !self.rest.is_empty() && self.rest.len() - self.gone + bytes.len() > REMAINDER_BYTES_MAX
        {
            self.fail(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "too much sent to a blocked connection",
            ));
            return;
        }
        if self.gone > 0 {
            self.rest.drain(..self.gone);
            self.gone = 0;
        }
        self.rest.extend_from_slice(bytes);
        if matches!(self.state, State::Open) {
            self.state = State::Blocked;
        }
    }

    /// The connection cannot be sent to any more.
    pub(super) fn fail(&mut self, error: io::Error) {
        if !self.is_failed() {
            self.state = State::Failed(error);
            self.rest = Vec::new();
            self.gone = 0;
        }
    }

    /// True once for a state that the owner has to be told of: the caller puts the connection on its list.
    pub(super) fn list(&mut self) -> bool {
        let new = !self.listed && matches!(self.state, State::Blocked | State::Failed(_));
        self.listed |= new;
        new
    }

    /// What to tell the owner; it then counts as told.
    pub(super) fn take_news(&mut self) -> News {
        self.listed = false;
        match std::mem::take(&mut self.state) {
            State::Blocked => {
                self.state = State::BlockedReported;
                News::Blocked
            }
            State::Failed(error) => {
                self.state = State::FailedReported;
                News::Failed(error)
            }
            other => {
                self.state = other;
                News::Nothing
            }
        }
    }

    /// Sends from the remainder what the socket takes now: one call, the rest waits for the next readiness.
    /// Adds what went out to `bytes_sent`.
    pub(super) fn drain(&mut self, socket: BorrowedFd<'_>, bytes_sent: &mut u64) -> Drained {
        match sys::send_now(socket, &self.rest[self.gone..]) {
            Ok(sent) => {
                self.gone += sent;
                *bytes_sent += sent as u64;
            }
            Err(error) if is_not_now(&error) => {}
            Err(error) => return Drained::Failed(error),
        }
        if self.gone < self.rest.len() {
            return Drained::NotYet;
        }
        self.rest = Vec::new();
        self.gone = 0;
        self.state = State::Open;
        Drained::All
    }
}

/// Whether an error only says that this is not the moment.
pub(super) fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_once() {
        let mut out = Outgoing::default();
        out.keep(b"rest");
        assert!(out.list());
        assert!(!out.list());
        assert!(matches!(out.take_news(), News::Blocked));
        assert!(matches!(out.take_news(), News::Nothing));
        assert!(out.is_blocked_reported());
        out.fail(io::ErrorKind::BrokenPipe.into());
        assert!(out.list());
        assert!(matches!(out.take_news(), News::Failed(_)));
        assert!(out.is_failed() && !out.is_blocked());
    }

    #[test]
    fn a_remainder_is_bounded_but_a_single_send_is_not() {
        let mut out = Outgoing::default();
        out.keep(&vec![0; REMAINDER_BYTES_MAX + 1]);
        assert!(out.is_blocked());
        out.keep(b"x");
        assert!(out.is_failed());
        assert_eq!(out.rest.capacity(), 0);
    }
}
