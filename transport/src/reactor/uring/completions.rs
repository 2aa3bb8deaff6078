//! What the kernel says of everything but sends: connections that came, bytes, ends, and room where there was none.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::{DEAD, OUT, Op, PEER_CLOSED, UringReactor, cancel};
use crate::reactor::outgoing::Drained;
use crate::reactor::ring::{Completion, Kind};
use crate::reactor::sys;
use crate::reactor::{Event, EventSink};

impl UringReactor {
    pub(super) fn on_completion(
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

    pub(super) fn wake_listeners(&mut self) -> io::Result<()> {
        for index in 0..self.listeners.len() {
            if self.listeners[index].is_rested() {
                self.start_accepting(index)?;
            }
        }
        Ok(())
    }
}
