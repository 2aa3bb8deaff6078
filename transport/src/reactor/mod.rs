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
//!   cannot make the server hold more of them.

pub mod epoll;
pub mod probe;
pub mod uring;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub use engine::ids::ConnId;

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

    /// Takes over a connected socket: one that was moved here from another shard, or an outgoing one.
    fn adopt(&mut self, socket: TcpStream) -> io::Result<ConnId>;

    /// Gives a connection away, blocking mode unchanged: nothing of it is in flight here any more. Bytes that were
    /// already reported stay with the caller; bytes not yet reported stay in the socket. `None` if the connection
    /// is unknown, or blocked (its remainder could not be moved with it).
    fn release(&mut self, conn: ConnId) -> Option<TcpStream>;

    /// Closes a connection. What was sent before is still delivered as far as the socket takes it without waiting.
    fn close(&mut self, conn: ConnId);

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
    /// drops the bytes; sending to a blocked one is a caller's error (debug assertion) and appends to the remainder.
    fn send(&mut self, conn: ConnId, start: usize);

    /// Brings out everything sent so far and reports what became blocked, writable or closed.
    fn flush(&mut self, sink: &mut impl EventSink) -> io::Result<()>;

    /// Flushes, then collects and reports events, waiting for the first one as long as `wait` allows: `None`
    /// without limit, zero not at all. Returns the number of events reported.
    fn poll(&mut self, wait: Option<Duration>, sink: &mut impl EventSink) -> io::Result<usize>;

    /// A handle by which another thread ends a waiting [`Reactor::poll`].
    fn waker(&self) -> Waker;
}

/// Ends another thread's waiting [`Reactor::poll`]; cheap to clone, callable from everywhere. A wake that comes
/// before the wait makes that wait return at once.
#[derive(Clone, Debug)]
pub struct Waker {
    // The eventfd is shared with the reactor; wrapped so that the last holder closes it.
    fd: std::sync::Arc<std::os::fd::OwnedFd>,
}
