//! The back end for every Linux: `epoll_pwait2` tells what is ready, `recv(2)` and `send(2)` do the work.
//!
//! Level-triggered, one receive of at most [`SCRATCH_BYTES`] for a ready connection in each poll: the kernel keeps
//! the list of those who have more and moves them to its end, which is exactly the fairness wanted. Edge-triggered
//! polling would save nothing here (the interest changes only when a connection blocks or is paused, which is rare)
//! and would need a list of its own for connections that were left before they were empty.
//!
//! `send(2)` cannot be batched, but what surrounds it can: sends are noted, and brought out in one tight loop, some
//! dozens at a time. Composing one message and sending one in turns makes each of the two throw the other out of the
//! caches. A batch's bytes stay in the cache.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::listener::{LISTENERS_MAX, Listener, wait_bounded};
use super::outgoing::{Drained, News, Noted, Outgoing, is_not_now};
use super::sys::{self, Epoll, EpollEvents};
use super::table::Table;
use super::{
    ACCEPTS_PER_POLL_MAX, ARENA_BYTES_FLUSH, ARENA_BYTES_KEPT_MAX, CLOSE_DISCARD_BYTES_MAX, ConnId,
    EVENTS_PER_POLL_MAX, Event, EventSink, Reactor, SCRATCH_BYTES, Stats, Waker,
};

/// See the module.
pub struct EpollReactor {
    epoll: Epoll,
    events: EpollEvents,
    waker: Waker,
    listeners: Vec<Listener>,
    conns: Table<Conn>,
    arena: Vec<u8>,
    // Sends that are to be brought out, in their order.
    batch: Vec<Noted>,
    // Where the last send lies, while it does.
    last: Option<Range<usize>>,
    scratch: Box<[u8]>,
    // Connections of which the owner has to be told something that was found out while sending.
    news: Vec<ConnId>,
    stats: Stats,
}

#[derive(Debug)]
struct Conn {
    socket: TcpStream,
    out: Outgoing,
    paused: bool,
    // What epoll was told last.
    interest: u32,
}

impl Conn {
    fn interest_wanted(&self) -> u32 {
        if self.out.is_failed() {
            // About to be reported and closed by the next flush.
            0
        } else if self.out.is_blocked() {
            OUT | PEER_CLOSED
        } else if self.paused {
            // Resets are always reported; a FIN has to wait until the bytes before it are read.
            0
        } else {
            IN
        }
    }
}

impl EpollReactor {
    /// A reactor for at most `connections_max` connections at a time.
    pub fn new(connections_max: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let waker = Waker::new()?;
        epoll.add(waker.fd.as_fd(), WAKE_TOKEN, IN)?;
        Ok(Self {
            epoll,
            events: EpollEvents::with_capacity(EVENTS_PER_POLL_MAX),
            waker,
            listeners: Vec::new(),
            conns: Table::new(connections_max),
            arena: Vec::with_capacity(ARENA_BYTES_FLUSH),
            batch: Vec::with_capacity(BATCH_SENDS_MAX),
            last: None,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            news: Vec::new(),
            stats: Stats::default(),
        })
    }

    fn insert(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        let conn = Conn {
            socket,
            out: Outgoing::default(),
            paused: false,
            interest: IN,
        };
        let id = self.conns.insert(conn).map_err(|_| limit_reached())?;
        self.stats.syscalls += 1;
        let Some(conn) = self.conns.get(id) else {
            unreachable!("inserted above")
        };
        if let Err(error) = self.epoll.add(conn.socket.as_fd(), conn_token(id), IN) {
            self.conns.remove(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Takes a connection out of the table and out of epoll.
    fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.conns.remove(id)?;
        // Closing would do it too, but not if the owner holds a duplicate of the descriptor.
        self.stats.syscalls += 1;
        let _ = self.epoll.remove(conn.socket.as_fd());
        Some(conn)
    }

    fn update_interest(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let wanted = conn.interest_wanted();
        if wanted == conn.interest {
            return;
        }
        self.stats.syscalls += 1;
        match self
            .epoll
            .change(conn.socket.as_fd(), conn_token(id), wanted)
        {
            Ok(()) => conn.interest = wanted,
            // Out of kernel memory at worst: without events the connection would hang, so it ends.
            Err(error) => self.fail(id, error),
        }
    }

    fn fail(&mut self, id: ConnId, error: io::Error) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.out.fail(error);
        if conn.out.list() {
            self.news.push(id);
        }
    }

    fn note(&mut self, id: ConnId, range: Range<usize>) {
        debug_assert!(
            !self
                .conns
                .get(id)
                .is_some_and(|conn| conn.out.is_blocked_reported()),
            "sent to a connection that is known to be blocked"
        );
        self.last = Some(range.clone());
        self.batch.push(Noted { conn: id, range });
        if self.batch.len() >= BATCH_SENDS_MAX || self.arena.len() >= BATCH_BYTES_FLUSH {
            self.flush_sends();
            self.clear_arena();
        }
    }

    /// Brings out what was noted. The hot buffer is unchanged.
    fn flush_sends(&mut self) {
        let told = self.news.len();
        for Noted { conn: id, range } in self.batch.drain(..) {
            let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.out.is_failed()) else {
                continue;
            };
            let bytes = &self.arena[range];
            if conn.out.is_blocked() {
                conn.out.keep(bytes);
            } else {
                self.stats.sends += 1;
                self.stats.syscalls += 1;
                match sys::send_now(conn.socket.as_fd(), bytes) {
                    Ok(sent) => {
                        self.stats.bytes_sent += sent as u64;
                        if sent == bytes.len() {
                            continue;
                        }
                        self.stats.sends_short += 1;
                        conn.out.keep(&bytes[sent..]);
                    }
                    Err(error) if is_not_now(&error) => {
                        self.stats.sends_short += 1;
                        conn.out.keep(bytes);
                    }
                    Err(error) => conn.out.fail(error),
                }
            }
            if conn.out.list() {
                self.news.push(id);
            }
        }
        for at in told..self.news.len() {
            self.update_interest(self.news[at]);
        }
    }

    fn clear_arena(&mut self) {
        self.last = None;
        self.arena.clear();
        if self.arena.capacity() > ARENA_BYTES_KEPT_MAX {
            self.arena.shrink_to(ARENA_BYTES_FLUSH);
        }
    }

    fn report_news(&mut self, sink: &mut impl EventSink) -> usize {
        let mut reported = 0;
        while let Some(id) = self.news.pop() {
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            match conn.out.take_news() {
                News::Nothing => continue,
                News::Blocked => sink.on_event(Event::Blocked { conn: id }),
                News::Failed(error) => {
                    self.remove(id);
                    sink.on_event(Event::Closed {
                        conn: id,
                        error: Some(error),
                    });
                }
            }
            reported += 1;
        }
        reported
    }

    fn end(&mut self, id: ConnId, error: Option<io::Error>, sink: &mut impl EventSink) -> usize {
        self.remove(id);
        sink.on_event(Event::Closed { conn: id, error });
        1
    }

    fn wake_listeners(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.is_rested()
                && self
                    .epoll
                    .change(listener.socket.as_fd(), listener_token(index), IN)
                    .is_err()
            {
                listener.rest();
            }
        }
    }

    fn on_listener(&mut self, index: usize, sink: &mut impl EventSink) -> usize {
        let mut reported = 0;
        for _ in 0..ACCEPTS_PER_POLL_MAX {
            let Some(listener) = self.listeners.get_mut(index) else {
                break;
            };
            self.stats.syscalls += 1;
            match listener.socket.accept() {
                Ok((socket, peer)) => {
                    let number = listener.number;
                    match self.insert(socket) {
                        Ok(conn) => {
                            self.stats.accepted += 1;
                            reported += 1;
                            sink.on_event(Event::Accepted {
                                conn,
                                listener: number,
                                peer,
                            });
                        }
                        Err(_) => self.stats.refused += 1,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if sys::is_exhaustion(&error) => {
                    self.stats.accept_backoffs += 1;
                    listener.rest();
                    // Should this fail, the only damage is that the rest is cut short.
                    let _ = self
                        .epoll
                        .change(listener.socket.as_fd(), listener_token(index), 0);
                    break;
                }
                // The connection died in the queue, or a signal: the next one may be fine.
                Err(_) => {}
            }
        }
        reported
    }

    fn on_conn(&mut self, id: ConnId, bits: u32, sink: &mut impl EventSink) -> usize {
        let Some(conn) = self.conns.get_mut(id) else {
            return 0;
        };
        if conn.out.is_blocked() {
            if bits & (PEER_CLOSED | DEAD) != 0 {
                let error = conn.socket.take_error().unwrap_or_else(Some);
                return self.end(id, error, sink);
            }
            self.stats.syscalls += 1;
            return match conn
                .out
                .drain(conn.socket.as_fd(), &mut self.stats.bytes_sent)
            {
                Drained::NotYet => 0,
                Drained::Failed(error) => self.end(id, Some(error), sink),
                Drained::All => {
                    self.update_interest(id);
                    sink.on_event(Event::Writable { conn: id });
                    1
                }
            };
        }
        if conn.paused {
            if bits & DEAD == 0 {
                return 0;
            }
            let error = conn.socket.take_error().unwrap_or_else(Some);
            return self.end(id, error, sink);
        }
        self.stats.syscalls += 1;
        match sys::receive_now(conn.socket.as_fd(), &mut self.scratch) {
            Ok(0) => self.end(id, None, sink),
            Ok(received) => {
                self.stats.bytes_received += received as u64;
                sink.on_event(Event::Received {
                    conn: id,
                    bytes: &mut self.scratch[..received],
                });
                1
            }
            Err(error) if is_not_now(&error) => 0,
            Err(error) => self.end(id, Some(error), sink),
        }
    }
}

impl Reactor for EpollReactor {
    fn listen(&mut self, socket: TcpListener, listener: u32) -> io::Result<()> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(limit_reached());
        }
        socket.set_nonblocking(true)?;
        self.epoll
            .add(socket.as_fd(), listener_token(self.listeners.len()), IN)?;
        self.listeners.push(Listener::new(socket, listener));
        Ok(())
    }

    fn adopt(&mut self, socket: TcpStream) -> io::Result<ConnId> {
        self.insert(socket)
    }

    fn release(&mut self, conn: ConnId) -> Option<TcpStream> {
        self.flush_sends();
        let found = self.conns.get(conn)?;
        if found.out.is_blocked() || found.out.is_failed() {
            return None;
        }
        self.remove(conn).map(|conn| conn.socket)
    }

    fn release_with_unread(&mut self, conn: ConnId, _unread: &mut Vec<u8>) -> Option<TcpStream> {
        // Nothing is ever taken from a socket without being reported at once.
        self.release(conn)
    }

    fn close(&mut self, conn: ConnId) {
        self.flush_sends();
        if let Some(mut conn) = self.remove(conn) {
            if conn.out.is_blocked() {
                let _ = conn
                    .out
                    .drain(conn.socket.as_fd(), &mut self.stats.bytes_sent);
            }
            let _ = conn.socket.shutdown(Shutdown::Write);
            discard_received(&conn.socket, &mut self.scratch);
        }
    }

    fn socket(&self, conn: ConnId) -> Option<BorrowedFd<'_>> {
        self.conns.get(conn).map(|conn| conn.socket.as_fd())
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get_mut(conn) {
            found.paused = true;
            self.update_interest(conn);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get_mut(conn) {
            found.paused = false;
            self.update_interest(conn);
        }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    fn send(&mut self, conn: ConnId, start: usize) {
        if start < self.arena.len() {
            self.note(conn, start..self.arena.len());
        }
    }

    fn send_again(&mut self, conn: ConnId) -> bool {
        let last = self.last.clone();
        last.map(|range| self.note(conn, range)).is_some()
    }

    fn flush(&mut self, sink: &mut impl EventSink) -> io::Result<()> {
        self.flush_sends();
        self.clear_arena();
        self.report_news(sink);
        Ok(())
    }

    fn poll(&mut self, wait: Option<Duration>, sink: &mut impl EventSink) -> io::Result<usize> {
        self.flush_sends();
        self.clear_arena();
        let mut reported = self.report_news(sink);
        self.wake_listeners();
        let wait = if reported > 0 {
            Some(Duration::ZERO)
        } else {
            wait_bounded(&self.listeners, wait)
        };
        // Out of `self` while events are handled, which borrows the rest.
        let mut events = std::mem::replace(&mut self.events, EpollEvents::with_capacity(0));
        self.stats.syscalls += 1;
        let result = self.epoll.wait(&mut events, wait);
        if result.is_ok() {
            for (token, bits) in events.iter() {
                reported += match token {
                    WAKE_TOKEN => {
                        self.waker.clear();
                        0
                    }
                    token if token >= LISTENER_TOKENS => {
                        self.on_listener((token - LISTENER_TOKENS) as usize, sink)
                    }
                    token => self.on_conn(token_conn(token), bits, sink),
                };
            }
        }
        self.events = events;
        result.map(|()| reported)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

/// Throws away what a peer has sent, up to a bound: see "Closing" in [`super`].
pub(super) fn discard_received(socket: &TcpStream, scratch: &mut [u8]) {
    let mut discarded = 0;
    while discarded < CLOSE_DISCARD_BYTES_MAX {
        match sys::receive_now(socket.as_fd(), scratch) {
            Ok(received) if received > 0 => discarded += received,
            _ => break,
        }
    }
}

pub(super) fn limit_reached() -> io::Error {
    io::Error::new(
        io::ErrorKind::QuotaExceeded,
        "the reactor's limit is reached",
    )
}

// Sends of one loop, and bytes of the hot buffer that begin one: what fits a first-level cache with all that the kernel
// needs, or a second-level one if messages are large.
const BATCH_SENDS_MAX: usize = 32;
const BATCH_BYTES_FLUSH: usize = 64 * 1024;

fn conn_token(id: ConnId) -> u64 {
    u64::from(id.slot) << 32 | u64::from(id.generation)
}

fn token_conn(token: u64) -> ConnId {
    ConnId {
        slot: (token >> 32) as u32,
        generation: token as u32,
    }
}

fn listener_token(index: usize) -> u64 {
    LISTENER_TOKENS + index as u64
}

// Above every token of a connection, whose slots have 24 bits.
const LISTENER_TOKENS: u64 = 1 << 63;
const WAKE_TOKEN: u64 = u64::MAX;

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const PEER_CLOSED: u32 = libc::EPOLLRDHUP as u32;
const DEAD: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
