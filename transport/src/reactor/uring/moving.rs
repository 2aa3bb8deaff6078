//! Giving a connection away: its operations are ended first, and what they have said by then goes along or is reported.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::{Conn, Op, UringReactor, cancel};
use crate::reactor::ConnId;
use crate::reactor::ring::{Completion, Kind, Ring};

impl UringReactor {
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

    pub(super) fn give_away(
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
}

// The kernel ends a waiting operation while it submits the cancellation, so the first attempt does it. The rest is
// there so that a kernel that needs longer costs at most 50 ms and a refused release.
const QUIESCE_ATTEMPTS_MAX: usize = 50;
const QUIESCE_WAIT: Duration = Duration::from_millis(1);
