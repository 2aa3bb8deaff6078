//! How sends are gathered, brought out, and answered for: see "Sending" in [`super`].

use std::io;
use std::ops::Range;

use io_uring::opcode;

use super::{File, UringReactor, on_file};
use crate::reactor::outgoing::{News, Noted};
use crate::reactor::ring::Kind;
use crate::reactor::{
    ARENA_BYTES_FLUSH, ARENA_BYTES_KEPT_MAX, ConnId, Event, EventSink, SENDS_PER_BATCH_MAX,
};

impl UringReactor {
    pub(super) fn note(&mut self, id: ConnId, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.last = Some(range.clone());
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|conn| !conn.closing && !conn.out.is_failed())
        else {
            return Ok(());
        };
        debug_assert!(
            !conn.out.is_blocked_reported(),
            "sent to a connection that is known to be blocked"
        );
        if conn.out.is_blocked() {
            // The batch has nothing of this connection: it became blocked when the last one went out.
            conn.out.keep(&self.arena[range]);
            if conn.out.list() {
                self.news.push(id);
            }
            return Ok(());
        }
        if conn.in_batch {
            if let Some(noted) = self
                .batch
                .last_mut()
                .filter(|noted| noted.conn == id && noted.range.end == range.start)
            {
                noted.range.end = range.end;
                return self.flush_if_large();
            }
            // A second send for it has to wait for the result of the first. The bytes stay where they are.
            self.flush_sends()?;
            return self.note(id, range);
        }
        conn.in_batch = true;
        self.batch.push(Noted { conn: id, range });
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
        self.last = None;
        self.arena.clear();
        if self.arena.capacity() > ARENA_BYTES_KEPT_MAX {
            self.arena.shrink_to(ARENA_BYTES_FLUSH);
        }
    }

    /// Brings out the batch and learns the result of every send. The hot buffer is unchanged.
    pub(super) fn flush_sends(&mut self) -> io::Result<()> {
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
                self.last = None;
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

    pub(super) fn flush_and_report(&mut self, sink: &mut impl EventSink) -> io::Result<usize> {
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
}

const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

// The length of an operation has 32 bits, its result one less.
const SEND_BYTES_MAX: usize = 1 << 30;
