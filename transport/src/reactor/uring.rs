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

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use super::buffers::{BUFFER_GROUP, Buffers};
use super::epoll::{discard_received, limit_reached};
use super::listener::{LISTENERS_MAX, Listener, wait_bounded};
use super::outgoing::{Drained, News, Outgoing};
use super::probe::{Features, build_ring};
use super::ring::{Completion, Kind, Ring, name};
use super::sys;
use super::table::{SLOTS_MAX, Table};
use super::{
    ACCEPTS_PER_POLL_MAX, ARENA_BYTES_FLUSH, ARENA_BYTES_KEPT_MAX, ConnId, EVENTS_PER_POLL_MAX,
    Event, EventSink, Reactor, SENDS_PER_BATCH_MAX, Stats, Waker,
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
    // Connections of which the owner has to be told something that was found out while sending.
    news: Vec<ConnId>,
    // An error of a call that returns none; the next flush or poll returns it.
    error: Option<io::Error>,
    stats: Stats,
}

// One send that has been noted: a range of the hot buffer.
#[derive(Debug)]
struct Noted {
    conn: ConnId,
    range: Range<usize>,
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

    // --- sending ---

    fn note(&mut self, id: ConnId, start: usize) -> io::Result<()> {
        let end = self.arena.len();
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|conn| !conn.closing && !conn.out.is_failed())
        else {
            self.arena.truncate(start);
            return Ok(());
        };
        debug_assert!(
            !conn.out.is_blocked_reported(),
            "sent to a connection that is known to be blocked"
        );
        if start >= end {
            return Ok(());
        }
        if conn.out.is_blocked() {
            // The batch has nothing of this connection: it became blocked when the last one went out.
            conn.out.keep(&self.arena[start..]);
            if conn.out.list() {
                self.news.push(id);
            }
            self.arena.truncate(start);
            return Ok(());
        }
        if conn.in_batch {
            if let Some(last) = self
                .batch
                .last_mut()
                .filter(|last| last.conn == id && last.range.end == start)
            {
                last.range.end = end;
                return self.flush_if_large();
            }
            // A second send for it has to wait for the result of the first. The bytes stay where they are.
            self.flush_sends()?;
            return self.note(id, start);
        }
        conn.in_batch = true;
        self.batch.push(Noted {
            conn: id,
            range: start..end,
        });
        self.flush_if_large()
    }

    fn flush_if_large(&mut self) -> io::Result<()> {
        if self.batch.len() >= SENDS_PER_BATCH_MAX || self.arena.len() >= ARENA_BYTES_FLUSH {
            self.flush_sends()?;
            self.clear_arena();
        }
        Ok(())
    }

    fn clear_arena(&mut self) {
        self.arena.clear();
        if self.arena.capacity() > ARENA_BYTES_KEPT_MAX {
            self.arena.shrink_to(ARENA_BYTES_FLUSH);
        }
    }

    /// Brings out the batch and learns the result of every send. The hot buffer is unchanged.
    fn flush_sends(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut outstanding = 0;
        let mut result = Ok(());
        let arena = self.arena.as_ptr();
        for (index, noted) in self.batch.iter().enumerate() {
            let Some(conn) = self.conns.get_mut(noted.conn) else {
                continue;
            };
            debug_assert!(conn.in_batch, "two sends of one connection in a batch");
            conn.in_batch = false;
            if conn.closing || conn.out.is_failed() || result.is_err() {
                continue;
            }
            // A longer send counts as cut short there, and the remainder goes its way.
            let len = noted.range.len().min(SEND_BYTES_MAX) as u32;
            let bytes = arena.wrapping_add(noted.range.start);
            let entry = on_file(conn, noted.conn, |file| match file {
                File::Slot(slot) => opcode::Send::new(slot, bytes, len)
                    .flags(SEND_FLAGS)
                    .build(),
                File::Descriptor(fd) => opcode::Send::new(fd, bytes, len).flags(SEND_FLAGS).build(),
            });
            // SAFETY: the range lies within the hot buffer, which is neither changed nor moved before the loop below
            // has seen the completion of every send (or leaks the buffer). The file stays open: only `finish` and
            // `release` take it, and neither is called in here.
            match unsafe {
                self.ring.push(
                    entry,
                    Kind::Send,
                    ConnId {
                        slot: index as u32,
                        generation: 0,
                    },
                )
            } {
                Ok(()) => outstanding += 1,
                Err(error) => result = Err(error),
            }
        }
        self.stats.sends += outstanding as u64;
        let mut waiting = self.ring.submit();
        while self.ring.sent.len() < outstanding {
            if let Err(error) = waiting {
                // The kernel might still read the buffer, so nobody may use this memory again.
                std::mem::forget(std::mem::take(&mut self.arena));
                self.batch.clear();
                self.ring.sent.clear();
                return Err(error);
            }
            waiting = self.ring.wait(None);
        }
        let mut results = std::mem::take(&mut self.ring.sent);
        for (index, sent) in results.drain(..) {
            let settled = self.on_sent(index, sent);
            result = result.and(settled);
        }
        self.ring.sent = results;
        self.batch.clear();
        result.and(waiting)
    }

    fn on_sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let Some(Noted { conn: id, range }) = self.batch.get(index) else {
            return Ok(());
        };
        let (id, range) = (*id, range.clone());
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        let sent = match result {
            sent if sent >= 0 => sent as usize,
            error if error == -libc::EAGAIN || error == -libc::EINTR => 0,
            error => {
                conn.out.fail(io::Error::from_raw_os_error(-error));
                range.len()
            }
        };
        if sent < range.len() {
            self.stats.sends_short += 1;
            conn.out.keep(&self.arena[range.start + sent..range.end]);
        }
        if !conn.out.is_failed() {
            self.stats.bytes_sent += sent as u64;
        }
        if conn.out.list() {
            self.news.push(id);
            // Stops reading, and watches for room.
            return self.reconcile(id);
        }
        Ok(())
    }

    fn flush_and_report(&mut self, sink: &mut impl EventSink) -> io::Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let result = self.flush_sends();
        self.clear_arena();
        result?;
        let mut reported = 0;
        while let Some(id) = self.news.pop() {
            let Some(conn) = self.open_mut(id) else {
                continue;
            };
            match conn.out.take_news() {
                News::Nothing => continue,
                News::Blocked => sink.on_event(Event::Blocked { conn: id }),
                News::Failed(error) => {
                    self.end(id, Some(error), sink)?;
                }
            }
            reported += 1;
        }
        Ok(reported)
    }

    // --- completions ---

    fn on_completion(
        &mut self,
        completion: Completion,
        sink: &mut impl EventSink,
    ) -> io::Result<usize> {
        let id = completion.id;
        match completion.kind {
            Kind::Wake => {
                self.waker.clear();
                if !completion.has_more() {
                    self.watch_waker()?;
                }
                Ok(0)
            }
            Kind::Accept => self.on_accept(completion, sink),
            Kind::Receive => self.on_receive(completion, sink),
            Kind::Watch => self.on_watch(completion, sink),
            // "Not found" mostly means that the operation ended by itself. In case it was only on its way from one
            // of the kernel's lists to another, try again as long as its end has not been seen.
            Kind::CancelReceive if completion.result < 0 => {
                if self
                    .conns
                    .get(id)
                    .is_some_and(|conn| conn.receive == Op::Ending)
                {
                    cancel(&mut self.ring, Kind::Receive, id)?;
                }
                Ok(0)
            }
            Kind::CancelWatch if completion.result < 0 => {
                if self
                    .conns
                    .get(id)
                    .is_some_and(|conn| conn.watch == Op::Ending)
                {
                    cancel(&mut self.ring, Kind::Watch, id)?;
                }
                Ok(0)
            }
            Kind::CancelReceive | Kind::CancelWatch | Kind::Send => Ok(0),
        }
    }

    fn on_accept(
        &mut self,
        completion: Completion,
        sink: &mut impl EventSink,
    ) -> io::Result<usize> {
        let index = completion.id.slot as usize;
        let Some(listener) = self.listeners.get_mut(index) else {
            return Ok(0);
        };
        let number = listener.number;
        let exhausted = completion
            .error()
            .is_some_and(|error| sys::is_exhaustion(&error));
        if exhausted {
            self.stats.accept_backoffs += 1;
            listener.rest();
        } else if !completion.has_more() {
            self.start_accepting(index)?;
        }
        if completion.result < 0 {
            return Ok(0);
        }
        // SAFETY: the kernel has just made this descriptor for us and told nobody else.
        let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result) });
        // Fails if the peer is gone already.
        let accepted = socket
            .peer_addr()
            .and_then(|peer| Ok((self.insert(socket)?, peer)));
        self.stats.syscalls += 1;
        match accepted {
            Ok((conn, peer)) => {
                self.stats.accepted += 1;
                sink.on_event(Event::Accepted {
                    conn,
                    listener: number,
                    peer,
                });
                Ok(1)
            }
            Err(_) => {
                self.stats.refused += 1;
                Ok(0)
            }
        }
    }

    fn on_receive(
        &mut self,
        completion: Completion,
        sink: &mut impl EventSink,
    ) -> io::Result<usize> {
        let id = completion.id;
        let mut open = false;
        if let Some(conn) = self.conns.get_mut(id) {
            open = !conn.closing;
            if !completion.has_more() {
                conn.receive = Op::Idle;
            }
        }
        let mut reported = 0;
        // The buffer has to be given back whether or not anybody wants the bytes.
        if let (Some(number), Some(buffers)) = (completion.buffer(), self.buffers.as_mut()) {
            if completion.result > 0 && open {
                let bytes = buffers.filled(number, completion.result as usize);
                self.stats.bytes_received += bytes.len() as u64;
                sink.on_event(Event::Received { conn: id, bytes });
                reported += 1;
            }
            buffers.give_back(number);
        }
        if open {
            match completion.result {
                0 => return self.end(id, None, sink),
                // By the time this is handled, the buffers that were filled before it have been given back.
                error if error == -libc::ENOBUFS => self.stats.buffers_exhausted += 1,
                error
                    if error < 0
                        && ![-libc::ECANCELED, -libc::EAGAIN, -libc::EINTR].contains(&error) =>
                {
                    return self.end(id, completion.error(), sink);
                }
                _ => {}
            }
        }
        self.reconcile(id)?;
        Ok(reported)
    }

    fn on_watch(&mut self, completion: Completion, sink: &mut impl EventSink) -> io::Result<usize> {
        let id = completion.id;
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(0);
        };
        conn.watch = Op::Idle;
        let mut reported = 0;
        if completion.result >= 0 && !conn.closing && !conn.out.is_failed() {
            let bits = completion.result as u32;
            let blocked = conn.out.is_blocked();
            if bits & DEAD != 0 || (blocked && bits & PEER_CLOSED != 0) {
                if blocked || conn.paused {
                    let error = conn.socket.take_error().unwrap_or_else(Some);
                    return self.end(id, error, sink);
                }
            } else if blocked && bits & OUT != 0 {
                self.stats.syscalls += 1;
                match conn
                    .out
                    .drain(conn.socket.as_fd(), &mut self.stats.bytes_sent)
                {
                    Drained::NotYet => {}
                    Drained::Failed(error) => return self.end(id, Some(error), sink),
                    Drained::All => {
                        sink.on_event(Event::Writable { conn: id });
                        reported += 1;
                    }
                }
            } else if conn.paused && bits & PEER_CLOSED != 0 {
                conn.half_closed = true;
            }
        }
        self.reconcile(id)?;
        Ok(reported)
    }

    fn wake_listeners(&mut self) -> io::Result<()> {
        for index in 0..self.listeners.len() {
            if self.listeners[index].is_rested() {
                self.start_accepting(index)?;
            }
        }
        Ok(())
    }

    // --- giving away ---

    /// Ends the operations of a connection. On return the backlog has everything they will ever say, or false if
    /// the kernel did not end them in time.
    fn quiesce(&mut self, id: ConnId) -> io::Result<bool> {
        for _ in 0..QUIESCE_ATTEMPTS_MAX {
            let Some(conn) = self.conns.get_mut(id) else {
                return Ok(false);
            };
            let in_flight = [(Kind::Receive, conn.receive), (Kind::Watch, conn.watch)];
            let (receive, watch) = (conn.receive != Op::Idle, conn.watch != Op::Idle);
            let ended = |ring: &Ring, kind| {
                ring.backlog
                    .iter()
                    .any(|said| said.kind == kind && said.id == id && !said.has_more())
            };
            if (!receive || ended(&self.ring, Kind::Receive))
                && (!watch || ended(&self.ring, Kind::Watch))
            {
                return Ok(true);
            }
            for (kind, op) in in_flight {
                if op != Op::Idle && !ended(&self.ring, kind) {
                    cancel(&mut self.ring, kind, id)?;
                }
            }
            if receive {
                conn.receive = Op::Ending;
            }
            if watch {
                conn.watch = Op::Ending;
            }
            // At least the cancellations answer, so this does not wait for long.
            self.ring.wait(Some(QUIESCE_WAIT))?;
        }
        Ok(false)
    }

    fn give_away(
        &mut self,
        id: ConnId,
        mut unread: Option<&mut Vec<u8>>,
    ) -> io::Result<Option<TcpStream>> {
        let Some(conn) = self.open_mut(id) else {
            return Ok(None);
        };
        if conn.in_batch {
            self.flush_sends()?;
        }
        let is_movable = |conn: &mut Conn| !conn.out.is_blocked() && !conn.out.is_failed();
        if !self.open_mut(id).is_some_and(is_movable) || !self.quiesce(id)? {
            return Ok(None);
        }
        let of_conn =
            |said: &Completion| said.id == id && matches!(said.kind, Kind::Receive | Kind::Watch);
        // A connection that has broken is better reported than given away; so are bytes without a place to go.
        let must_report = |said: &Completion| match said.kind {
            Kind::Receive if said.result > 0 => unread.is_none(),
            Kind::Receive => said.error().is_some_and(|error| {
                ![Some(libc::ECANCELED), Some(libc::ENOBUFS)].contains(&error.raw_os_error())
            }),
            _ => false,
        };
        if self
            .ring
            .backlog
            .iter()
            .any(|said| of_conn(said) && must_report(said))
        {
            // The next poll handles them, and then starts again whatever the connection needs.
            return Ok(None);
        }
        let mut backlog = std::mem::take(&mut self.ring.backlog);
        backlog.retain(|said| {
            if !of_conn(said) {
                return true;
            }
            if let (Some(number), Some(buffers)) = (said.buffer(), self.buffers.as_mut()) {
                if let Some(unread) = unread.as_deref_mut() {
                    unread.extend_from_slice(buffers.filled(number, said.result.max(0) as usize));
                }
                buffers.give_back(number);
            }
            false
        });
        self.ring.backlog = backlog;
        let Some(conn) = self.conns.remove(id) else {
            return Ok(None);
        };
        self.leave_table(id, &conn);
        Ok(Some(conn.socket))
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
        let result = self.note(conn, start);
        self.remember(result);
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

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

// The length of an operation has 32 bits, its result one less.
const SEND_BYTES_MAX: usize = 1 << 30;

// On the stack; closing rarely finds anything at all.
const DISCARD_BYTES: usize = 16 * 1024;

// The kernel ends a waiting operation while it submits the cancellation, so the first attempt does it. The rest is
// there so that a kernel that needs longer costs at most 50 ms and a refused release.
const QUIESCE_ATTEMPTS_MAX: usize = 50;
const QUIESCE_WAIT: Duration = Duration::from_millis(1);

// As for `QUIESCE_WAIT`, with more patience: what it saves is a megabyte.
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
