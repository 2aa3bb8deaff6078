//! The back end for io_uring: one ring per thread, multishot accept and receive, sends in batches.
//!
//! # Sending
//!
//! [`Reactor::send`] only notes connection and range; a batch of up to [`SENDS_PER_BATCH_MAX`] goes to the kernel in
//! one call. Every send has `MSG_DONTWAIT`, so it is complete, fully or partly, when that call returns: the hot buffer
//! is only lent to the kernel within `flush_sends`, which does not return before every send has been answered. So
//! the buffer may grow (and move) at any other time. A batch has at most one send for each connection: two would not
//! know of each other, and if the first were cut short, the second could still slip into the socket behind it.
//! Remainders are rare and large; they are sent with plain `send(2)` when a watch says that there is room.
//!
//! # Operations of a connection
//!
//! At most one receive (multishot) and one watch (a one-shot poll) are in flight, and never a send outside
//! `flush_sends`. `reconcile` is the only place that starts or ends them: it compares what is in flight with what the
//! state of the connection asks for. An operation that has to end is cancelled and counts as in flight until its last
//! completion has been handled.
//!
//! # Why a slot is never mistaken for another
//!
//! The slot of a connection is also its place in the kernel's table of registered files. A completion that arrives
//! late is recognised by its generation, but an *operation* that names a file by its slot could hit the wrong socket
//! if the slot had a new tenant. It cannot: a slot becomes free (and its place in the file table empty) in `finish`
//! only, which is called when both operations are idle. Idle means that their last completion was handled, hence that
//! they had been submitted, hence that the kernel had looked up the slot before it was emptied (it does so once,
//! when an operation is submitted, and keeps a reference to the file from then on). Sends do not outlive
//! `flush_sends`; noted sends carry the generation, and are dropped if it is over. Cancellations name the operation,
//! not the slot. So nothing that is queued or in flight names a slot when it changes hands.
//!
//! A closing connection therefore occupies its slot until the next poll or flush has brought its cancellations to the
//! kernel and a poll has seen their ends. The FIN does not wait for that: [`Reactor::close`] sends it.
//!
//! | Module | What it is |
//! |---|---|
//! | `sending` | the batch of sends, and what became of each |
//! | `completions` | what the kernel says of everything else |
//! | `moving` | giving a connection away |

mod completions;
mod moving;
mod sending;

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use super::buffers::{BUFFER_GROUP, Buffers};
use super::epoll::{discard_received, limit_reached};
use super::listener::{LISTENERS_MAX, Listener, wait_bounded};
use super::outgoing::{Noted, Outgoing};
use super::probe::{Features, build_ring};
use super::ring::{Kind, Ring, name};
use super::sys;
use super::table::{SLOTS_MAX, Table};
use super::{
    ACCEPTS_PER_POLL_MAX, ARENA_BYTES_FLUSH, ConnId, EVENTS_PER_POLL_MAX, Event, EventSink,
    Reactor, SENDS_PER_BATCH_MAX, Stats, Waker,
};

/// See the module. Stays on the thread that made it: the kernel allows only this one to submit.
pub struct UringReactor {
    // Dropped before the buffers it receives into.
    ring: Ring,
    buffers: Option<Buffers>,
    waker: Waker,
    listeners: Vec<Listener>,
    conns: Table<Conn>,
    // Slots below this have a place in the kernel's table of files.
    file_slots: u32,
    arena: Vec<u8>,
    batch: Vec<Noted>,
    // Where the last send lies, while it does.
    last: Option<Range<usize>>,
    // Connections of which the owner has to be told something that was found out while sending.
    news: Vec<ConnId>,
    // An error of a call that returns none; the next flush or poll returns it.
    error: Option<io::Error>,
    stats: Stats,
}

#[derive(Debug)]
struct Conn {
    socket: TcpStream,
    out: Outgoing,
    receive: Op,
    watch: Op,
    // What the watch in flight looks for.
    watch_mask: u32,
    // Named by its slot in the table of files.
    in_table: bool,
    // Has a send in the batch.
    in_batch: bool,
    paused: bool,
    // Sent a FIN while paused: known, and not to be told again until it is read.
    half_closed: bool,
    // Gone for the owner.
    closing: bool,
    // Received bytes have to be thrown away before closing.
    discard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Idle,
    InFlight,
    // Cancelled, but its last completion has not been handled.
    Ending,
}

impl Conn {
    fn receive_wanted(&self) -> bool {
        !(self.closing || self.paused || self.out.is_blocked() || self.out.is_failed())
    }

    fn watch_wanted(&self) -> Option<u32> {
        if self.closing || self.out.is_failed() {
            None
        } else if self.out.is_blocked() {
            Some(OUT | PEER_CLOSED)
        } else if self.paused && !self.half_closed {
            // Only what cannot be masked: resets.
            Some(0)
        } else {
            None
        }
    }
}

impl UringReactor {
    /// A reactor for at most `connections_max` connections at a time, using those `features` that
    /// [`probe`](super::probe::probe) found.
    pub fn new(features: Features, connections_max: usize) -> io::Result<Self> {
        let connections_max = connections_max.min(SLOTS_MAX);
        let ring = Ring::new(build_ring(features, RING_ENTRIES)?);
        let buffers = Buffers::new();
        // SAFETY: `drop` ends all receives before the buffers are freed, or else leaks the buffers; until the struct
        // is complete nothing is received.
        unsafe { buffers.register(&ring.submitter()) }?;
        let mut file_slots = 0;
        if features.direct_files {
            // The kernel refuses a table that is larger than the limit of open files. Connections beyond it cannot
            // exist unless the limit is raised while we run; those are named by their descriptors.
            let slots = (connections_max as u64).min(sys::open_files_max()) as u32;
            if slots > 0 && ring.submitter().register_files_sparse(slots).is_ok() {
                file_slots = slots;
            }
        }
        let mut reactor = Self {
            ring,
            buffers: Some(buffers),
            waker: Waker::new()?,
            listeners: Vec::new(),
            conns: Table::new(connections_max),
            file_slots,
            arena: Vec::with_capacity(ARENA_BYTES_FLUSH),
            batch: Vec::with_capacity(SENDS_PER_BATCH_MAX),
            last: None,
            news: Vec::new(),
            error: None,
            stats: Stats::default(),
        };
        reactor.watch_waker()?;
        Ok(reactor)
    }

    fn watch_waker(&mut self) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fd(self.waker.fd.as_raw_fd()), IN)
            .multi(true)
            .build();
        // SAFETY: points to no memory; the eventfd lives as long as the reactor.
        unsafe { self.ring.push(entry, Kind::Wake, NOBODY) }
    }

    fn start_accepting(&mut self, index: usize) -> io::Result<()> {
        let Some(listener) = self.listeners.get(index) else {
            return Ok(());
        };
        let fd = types::Fd(listener.socket.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd)
            .flags(libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: points to no memory; listeners live as long as the reactor.
        unsafe {
            self.ring.push(
                entry,
                Kind::Accept,
                ConnId {
                    slot: index as u32,
                    generation: 0,
                },
            )
        }
    }

    fn insert(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        let conn = Conn {
            socket,
            out: Outgoing::default(),
            receive: Op::Idle,
            watch: Op::Idle,
            watch_mask: 0,
            in_table: false,
            in_batch: false,
            paused: false,
            half_closed: false,
            closing: false,
            discard: false,
        };
        let id = self.conns.insert(conn).map_err(|_| limit_reached())?;
        let Some(conn) = self.conns.get_mut(id) else {
            unreachable!("inserted above")
        };
        if id.slot < self.file_slots {
            // Nothing names this slot now: see the module.
            self.stats.syscalls += 1;
            let update = self
                .ring
                .submitter()
                .register_files_update(id.slot, &[conn.socket.as_raw_fd()]);
            conn.in_table = update.is_ok();
        }
        if let Err(error) = self.reconcile(id) {
            // The ring is broken, and with it everything; but at least the caller is told the truth about this one.
            if let Some(conn) = self.conns.remove(id) {
                self.leave_table(id, &conn);
            }
            return Err(error);
        }
        Ok(id)
    }

    /// A connection that the owner may still name.
    fn open_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id).filter(|conn| !conn.closing)
    }

    /// Starts and ends operations until what is in flight is what the connection's state asks for.
    fn reconcile(&mut self, id: ConnId) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        match conn.receive {
            Op::Idle if conn.receive_wanted() => {
                let entry = on_file(conn, id, |file| match file {
                    File::Slot(slot) => opcode::RecvMulti::new(slot, BUFFER_GROUP).build(),
                    File::Descriptor(fd) => opcode::RecvMulti::new(fd, BUFFER_GROUP).build(),
                });
                // SAFETY: receives into registered buffers, which outlive the ring. The file stays open: `finish` and
                // `release` do not take it before the operation's end.
                unsafe { self.ring.push(entry, Kind::Receive, id) }?;
                conn.receive = Op::InFlight;
            }
            Op::InFlight if !conn.receive_wanted() => {
                cancel(&mut self.ring, Kind::Receive, id)?;
                conn.receive = Op::Ending;
            }
            _ => {}
        }
        let wanted = conn.watch_wanted();
        match (conn.watch, wanted) {
            (Op::Idle, Some(mask)) => {
                let entry = on_file(conn, id, |file| match file {
                    File::Slot(slot) => opcode::PollAdd::new(slot, mask).build(),
                    File::Descriptor(fd) => opcode::PollAdd::new(fd, mask).build(),
                });
                // SAFETY: points to no memory; the file stays open as for the receive.
                unsafe { self.ring.push(entry, Kind::Watch, id) }?;
                conn.watch = Op::InFlight;
                conn.watch_mask = mask;
            }
            (Op::InFlight, wanted) if wanted != Some(conn.watch_mask) => {
                cancel(&mut self.ring, Kind::Watch, id)?;
                conn.watch = Op::Ending;
            }
            _ => {}
        }
        if conn.closing && conn.receive == Op::Idle && conn.watch == Op::Idle {
            self.finish(id);
        }
        Ok(())
    }

    /// Lets a closing connection go, now that nothing of it is in flight.
    fn finish(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(id) else {
            return;
        };
        if conn.discard {
            discard_received(&conn.socket, &mut [0; DISCARD_BYTES]);
        }
        self.leave_table(id, &conn);
    }

    fn leave_table(&mut self, id: ConnId, conn: &Conn) {
        if conn.in_table {
            self.stats.syscalls += 1;
            if self
                .ring
                .submitter()
                .register_files_update(id.slot, &[-1])
                .is_err()
                && conn.closing
            {
                // The table would keep the socket open until the slot's next tenant; at least the peer should know.
                let _ = conn.socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Ends a connection for the owner; what is left to do happens when its operations have ended.
    fn begin_close(&mut self, id: ConnId, discard: bool) -> io::Result<()> {
        let Some(conn) = self.open_mut(id) else {
            return Ok(());
        };
        conn.closing = true;
        conn.discard = discard;
        self.reconcile(id)
    }

    fn end(
        &mut self,
        id: ConnId,
        error: Option<io::Error>,
        sink: &mut impl EventSink,
    ) -> io::Result<usize> {
        self.begin_close(id, false)?;
        sink.on_event(Event::Closed { conn: id, error });
        Ok(1)
    }

    fn remember<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

impl Reactor for UringReactor {
    fn listen(&mut self, socket: TcpListener, listener: u32) -> io::Result<()> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(limit_reached());
        }
        // In the other mode some kernels complete an accept with EAGAIN instead of waiting for a connection.
        socket.set_nonblocking(false)?;
        self.listeners.push(Listener::new(socket, listener));
        self.start_accepting(self.listeners.len() - 1)
    }

    fn adopt(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        self.insert(socket)
    }

    fn release(&mut self, conn: ConnId) -> Option<TcpStream> {
        let result = self.give_away(conn, None);
        self.remember(result).flatten()
    }

    fn release_with_unread(&mut self, conn: ConnId, unread: &mut Vec<u8>) -> Option<TcpStream> {
        let result = self.give_away(conn, Some(unread));
        self.remember(result).flatten()
    }

    fn close(&mut self, conn: ConnId) {
        let Some(found) = self.open_mut(conn) else {
            return;
        };
        if found.in_batch {
            let result = self.flush_sends();
            self.remember(result);
        }
        let bytes_sent = &mut self.stats.bytes_sent;
        let Some(found) = self.conns.get_mut(conn) else {
            return;
        };
        if found.out.is_blocked() {
            let _ = found.out.drain(found.socket.as_fd(), bytes_sent);
        }
        self.stats.syscalls += 1;
        let _ = found.socket.shutdown(Shutdown::Write);
        let result = self.begin_close(conn, true);
        self.remember(result);
    }

    fn socket(&self, conn: ConnId) -> Option<BorrowedFd<'_>> {
        let conn = self.conns.get(conn).filter(|conn| !conn.closing);
        conn.map(|conn| conn.socket.as_fd())
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(found) = self.open_mut(conn) {
            found.paused = true;
            let result = self.reconcile(conn);
            self.remember(result);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(found) = self.open_mut(conn) {
            found.paused = false;
            found.half_closed = false;
            let result = self.reconcile(conn);
            self.remember(result);
        }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    fn send(&mut self, conn: ConnId, start: usize) {
        let result = self.note(conn, start..self.arena.len());
        self.remember(result);
    }

    fn send_again(&mut self, conn: ConnId) -> bool {
        let Some(last) = self.last.clone() else {
            return false;
        };
        let result = self.note(conn, last);
        self.remember(result);
        true
    }

    fn flush(&mut self, sink: &mut impl EventSink) -> io::Result<()> {
        self.flush_and_report(sink)?;
        // Cancellations of closed connections, if nothing else took them along.
        self.ring.submit()
    }

    fn poll(&mut self, wait: Option<Duration>, sink: &mut impl EventSink) -> io::Result<usize> {
        let mut reported = self.flush_and_report(sink)?;
        self.wake_listeners()?;
        let ready = reported > 0 || !self.ring.backlog.is_empty();
        match wait_bounded(&self.listeners, wait) {
            Some(Duration::ZERO) => self.ring.submit()?,
            _ if ready => self.ring.submit()?,
            wait => self.ring.wait(wait)?,
        }
        let mut budget = EVENTS_PER_POLL_MAX;
        while budget > 0 {
            let Some(completion) = self.ring.backlog.pop_front() else {
                break;
            };
            let cost = if completion.kind == Kind::Accept {
                EVENTS_PER_POLL_MAX / ACCEPTS_PER_POLL_MAX
            } else {
                1
            };
            budget = budget.saturating_sub(cost);
            reported += self.on_completion(completion, sink)?;
        }
        Ok(reported)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> Stats {
        Stats {
            syscalls: self.stats.syscalls + self.ring.enters,
            ..self.stats
        }
    }
}

impl Drop for UringReactor {
    fn drop(&mut self) {
        // Ends every receive, so that nothing writes to the buffers when they are freed. "Not found" is as good.
        let result = self
            .ring
            .submitter()
            .register_sync_cancel(Some(DROP_WAIT.into()), types::CancelBuilder::any());
        if result.is_err_and(|error| error.raw_os_error() != Some(libc::ENOENT)) {
            std::mem::forget(self.buffers.take());
        }
        // Accepted, but not handled yet: nobody else knows these descriptors.
        let _ = self.ring.submit();
        for completion in self.ring.backlog.drain(..) {
            if completion.kind == Kind::Accept && completion.result >= 0 {
                // SAFETY: as in `on_accept`.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
            }
        }
        // Closing the ring would do it too, but some time later; peers should see their connections end now.
        if self.file_slots > 0 {
            let _ = self.ring.submitter().unregister_files();
        }
    }
}

/// How an operation names its file.
enum File {
    Slot(types::Fixed),
    Descriptor(types::Fd),
}

fn on_file(conn: &Conn, id: ConnId, build: impl FnOnce(File) -> squeue::Entry) -> squeue::Entry {
    build(if conn.in_table {
        File::Slot(types::Fixed(id.slot))
    } else {
        File::Descriptor(types::Fd(conn.socket.as_raw_fd()))
    })
}

fn cancel(ring: &mut Ring, kind: Kind, id: ConnId) -> io::Result<()> {
    let cancel = if kind == Kind::Receive {
        Kind::CancelReceive
    } else {
        Kind::CancelWatch
    };
    let entry = opcode::AsyncCancel::new(name(kind, id)).build();
    // SAFETY: points to no memory and names no file.
    unsafe { ring.push(entry, cancel, id) }
}

// A full batch of sends and what goes along with it; larger rings only spread over more cache lines.
const RING_ENTRIES: u32 = 512;

// On the stack; closing rarely finds anything at all.
const DISCARD_BYTES: usize = 16 * 1024;

// As for `QUIESCE_WAIT` in `moving`, with more patience: what it saves is a megabyte.
const DROP_WAIT: Duration = Duration::from_millis(100);

// For operations that belong to no connection.
const NOBODY: ConnId = ConnId {
    slot: 0,
    generation: 0,
};

const IN: u32 = libc::POLLIN as u32;
const OUT: u32 = libc::POLLOUT as u32;
const PEER_CLOSED: u32 = libc::POLLRDHUP as u32;
const DEAD: u32 = (libc::POLLERR | libc::POLLHUP) as u32;
