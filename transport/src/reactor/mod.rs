//! The I/O loop of a shard, and of the load generator's fleet: what a back end promises.
//!
//! Two back ends keep the same promises: [`uring`] (a raw ring) and [`epoll`] (`epoll_pwait2` and `send(2)`).
//! Everything above this module is written once against [`Reactor`] and tested with both.
//!
//! # The promises
//!
//! * A connection is named by a [`ConnId`]; a closed connection's id never comes back (the generation changes),
//!   and after [`Event::Closed`] or [`Reactor::close`] or [`Reactor::release`] no event carries it.
//! * Received bytes are lent for the length of the call; a connection that has nothing to say owns no buffer.
//! * Sending never waits. Bytes are composed in one hot buffer that all connections of the reactor share
//!   ([`Reactor::buffer`]), handed over with [`Reactor::send`] and on the wire after [`Reactor::flush`] at the
//!   latest. What the socket did not take is kept by the reactor (at most one such remainder per connection),
//!   [`Event::Blocked`] is reported, and the caller must not send on that connection until [`Event::Writable`].
//! * A connection that is blocked, or paused by the caller, is not read: a client that does not read its answers
//!   cannot make the server hold more of them. What a back end had already taken from the socket (at most its
//!   receive buffers, [`uring`] only) may still be reported by the next poll.
//! * The end of a peer: a FIN counts as the end of the connection ([`Event::Closed`] without an error), even while
//!   blocked; no protocol of ours lives on after it. A *paused* connection reports only a reset at once; a FIN waits
//!   behind the bytes that have not been read, so that these are reported first after [`Reactor::resume`].
//! * Closing never waits and never lingers. The reactor sends the FIN itself (`shutdown`), throws away what the peer
//!   had sent so far (bounded: [`CLOSE_DISCARD_BYTES_MAX`]) and closes; the kernel goes on delivering what the socket
//!   had taken. Without the throwing away, Linux would answer unread bytes with a reset, which can destroy our last
//!   bytes (an error answer, an `END`) before the peer has read them. What is left is a peer that keeps *sending*
//!   after our FIN: it may lose our last bytes. Holding the socket for such peers (nginx's lingering close) costs a
//!   descriptor and a timer for each, most of all when many misbehave at once, so we do not.
//! * One poll does a bounded amount of work ([`EVENTS_PER_POLL_MAX`], [`ACCEPTS_PER_POLL_MAX`]), so that the timers
//!   and the pump of the shard get their turn; what is left over is reported by the next poll.
//! * Running out of file descriptors or memory at accept stops accepting for [`ACCEPT_BACKOFF`]; connections over
//!   the limit given at construction are accepted and closed at once, so that the client learns it quickly. Both are
//!   counted in [`Stats`].

mod buffers;
pub mod epoll;
mod listener;
mod outgoing;
pub mod probe;
mod ring;
mod sys;
mod table;
pub mod uring;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub use engine::ids::ConnId;
pub(crate) use sys::give_way;

/// What happened. Bytes are valid only during the call.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener accepted a connection, which is being read from now on.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// The number that [`Reactor::listen`] was given.
        listener: u32,
        /// The other end's address.
        peer: SocketAddr,
    },
    /// Bytes arrived; never empty.
    Received {
        /// The connection.
        conn: ConnId,
        /// What arrived, to be used or copied now. Mutable so that frames can be unmasked in place.
        bytes: &'a mut [u8],
    },
    /// The socket did not take all of the last send.
    Blocked {
        /// The connection.
        conn: ConnId,
    },
    /// The rest has gone out: the connection may be sent to again.
    Writable {
        /// The connection.
        conn: ConnId,
    },
    /// The connection is gone, by the peer or by an error, and forgotten here. Not reported for a connection that
    /// the caller closed or released.
    Closed {
        /// The connection.
        conn: ConnId,
        /// `None` for an orderly end by the peer.
        error: Option<io::Error>,
    },
}

/// Receives what [`Reactor::poll`] and [`Reactor::flush`] report.
pub trait EventSink {
    /// Takes one event. Must not block.
    fn on_event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> EventSink for F {
    fn on_event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// One thread's I/O.
pub trait Reactor {
    /// Accepts on `socket` from now on, reporting its connections with the number `listener`. Options such as
    /// `TCP_NODELAY` are set on the listening socket by the caller: Linux hands them down to what it accepts.
    fn listen(&mut self, socket: TcpListener, listener: u32) -> io::Result<()>;

    /// Takes over a connected socket: one that was moved here from another shard, or an outgoing one. Its blocking
    /// mode does not matter and is not changed. On failure (most likely the limit of connections) it is closed.
    fn adopt(&mut self, socket: TcpStream) -> io::Result<ConnId>;

    /// Gives a connection away, blocking mode unchanged: nothing of it is in flight here any more. Bytes that were
    /// already reported stay with the caller; bytes not yet reported stay in the socket. `None` if the connection
    /// is unknown, or blocked (its remainder could not be moved with it), or if bytes of it have been taken from the
    /// socket but not reported yet: then the next poll reports them, and asking again after it succeeds (pause first
    /// if the peer may be sending without end). [`Reactor::release_with_unread`] needs no second attempt.
    fn release(&mut self, conn: ConnId) -> Option<TcpStream>;

    /// Like [`Reactor::release`], but appends to `unread` what has been taken from the socket and not been reported:
    /// these bytes come before everything that is still in the socket, and have to travel with it.
    fn release_with_unread(&mut self, conn: ConnId, unread: &mut Vec<u8>) -> Option<TcpStream>;

    /// Closes a connection. What was sent before is still delivered as far as the socket takes it without waiting.
    fn close(&mut self, conn: ConnId);

    /// The socket of a connection, for options that the reactor knows nothing of. To read, write and close it is the
    /// reactor's business. `None` if the connection is unknown.
    fn socket(&self, conn: ConnId) -> Option<BorrowedFd<'_>>;

    /// Stops reading from a connection until [`Reactor::resume`]. Bytes that are already in hand may still be
    /// reported once.
    fn pause(&mut self, conn: ConnId);

    /// Reads from a paused connection again.
    fn resume(&mut self, conn: ConnId);

    /// The hot buffer. The caller appends the bytes of one send, and passes to [`Reactor::send`] the length the
    /// buffer had before. Never shrink it below that.
    fn buffer(&mut self) -> &mut Vec<u8>;

    /// Sends what the hot buffer holds from index `start` on. The bytes are gone from the caller's view; they may
    /// reach the socket now or at the next flush, whichever batches best. Sending to a connection that is unknown
    /// drops the bytes; sending to one whose [`Event::Blocked`] was reported is a caller's error (debug assertion)
    /// and appends to the remainder. A remainder that would outgrow [`REMAINDER_BYTES_MAX`] ends the connection.
    fn send(&mut self, conn: ConnId, start: usize);

    /// Sends to another connection what the last send consisted of, if these bytes are still there: many clients are
    /// sent the same. False, and nothing is sent, if they are gone.
    fn send_again(&mut self, conn: ConnId) -> bool;

    /// Brings out everything sent so far and reports what became blocked, writable or closed.
    fn flush(&mut self, sink: &mut impl EventSink) -> io::Result<()>;

    /// Flushes, then collects and reports events, waiting for the first one as long as `wait` allows: `None`
    /// without limit, zero not at all. Returns the number of events reported, which may be zero before the time is
    /// up (a wake, a signal, housekeeping).
    fn poll(&mut self, wait: Option<Duration>, sink: &mut impl EventSink) -> io::Result<usize>;

    /// A handle by which another thread ends a waiting [`Reactor::poll`].
    fn waker(&self) -> Waker;

    /// What happened so far.
    fn stats(&self) -> Stats;
}

/// Counts since the reactor was made. Plain numbers: the owner copies them where others can see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted and reported.
    pub accepted: u64,
    /// Connections accepted and closed at once, because the limit was reached or they could not be set up.
    pub refused: u64,
    /// Times that accepting stopped for a while for want of file descriptors or memory.
    pub accept_backoffs: u64,
    /// Sends handed to the kernel, without those that continue a remainder.
    pub sends: u64,
    /// Sends of which the socket took less than everything.
    pub sends_short: u64,
    /// Bytes that sockets took, remainders included.
    pub bytes_sent: u64,
    /// Bytes reported.
    pub bytes_received: u64,
    /// System calls of the data path; in `uring` nearly all are `io_uring_enter`.
    pub syscalls: u64,
    /// Receives that found no free buffer and were started again (`uring` only): if this grows steadily,
    /// the peers send faster than the owner polls.
    pub buffers_exhausted: u64,
}

/// Ends another thread's waiting [`Reactor::poll`]; cheap to clone, callable from everywhere. A wake that comes
/// before the wait makes that wait return at once.
#[derive(Clone)]
pub struct Waker {
    // The eventfd is shared with the reactor; wrapped so that the last holder closes it.
    fd: Arc<OwnedFd>,
}

impl Waker {
    /// A waker over a new eventfd, for a back end to watch.
    fn new() -> io::Result<Self> {
        Ok(Self {
            fd: Arc::new(sys::eventfd()?),
        })
    }

    /// Ends the wait that is going on, or the next one. Several wakes may end only one wait.
    pub fn wake(&self) {
        // Cannot fail in a way that matters: a full counter means that a wake is pending already.
        let _ = sys::eventfd_add(self.fd.as_fd());
    }

    /// Forgets the wakes so far; the reactor calls it when it has noticed them.
    fn clear(&self) {
        let _ = sys::eventfd_clear(self.fd.as_fd());
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}

/// Events of one poll. A guess: at about 1 us of work for each, a turn stays below a millisecond.
pub const EVENTS_PER_POLL_MAX: usize = 512;

/// Accepts of one poll (per listener in `epoll`). A guess: one costs 10-20 us with all that follows, so a storm of
/// connects takes about a millisecond of each turn and leaves the rest to those who are connected already.
pub const ACCEPTS_PER_POLL_MAX: usize = 64;

/// How long nothing is accepted after descriptors or memory ran out. Long enough not to spin, short enough
/// that a client does not notice it within its connect timeout. A guess.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Size of the buffer that `epoll` receives into, one per reactor: larger than any request we accept in one piece,
/// and one turn's fair share of a connection that sends much.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Sends per `io_uring_enter`. Measured: between 16 and 256 the cost of a send is flat, so the upper end, which needs
/// the fewest calls.
pub const SENDS_PER_BATCH_MAX: usize = 256;

/// The hot buffer is brought out by [`Reactor::send`] once it holds this much: it stays within a second-level cache.
pub const ARENA_BYTES_FLUSH: usize = 256 * 1024;

/// Capacity the hot buffer keeps after one extraordinarily large send.
pub const ARENA_BYTES_KEPT_MAX: usize = 1024 * 1024;

/// What a remainder may grow to by further sends before the caller has heard of the blockade. A guess: a session
/// that composes more than this between two flushes is broken. A single send may be larger.
pub const REMAINDER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Received bytes that closing throws away: four scratch buffers' worth. A peer that has sent more without
/// waiting for an answer gets a reset.
pub const CLOSE_DISCARD_BYTES_MAX: usize = 256 * 1024;
