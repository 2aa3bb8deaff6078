//! The submission and completion queues of one ring, and the naming of operations.
//!
//! Completions are moved out of the shared queue into our own (`backlog`) whenever somebody waits for particular ones
//! (the results of sends, the end of a cancelled receive): those are picked out, the rest waits for the next poll.
//! The backlog is bounded by what can be in flight: one receive and one poll for each connection, the receive
//! buffers, and as many accepts as the shared queue holds (when it is full, the kernel ends a multishot accept).

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::{IoUring, Submitter, cqueue, squeue, types};

use super::ConnId;

/// What an operation is for: the top eight bits of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Watches the eventfd.
    Wake,
    /// Accepts; the slot is the index of the listener.
    Accept,
    /// Receives from a connection.
    Receive,
    /// Watches a connection that is not being read.
    Watch,
    /// Ends a receive.
    CancelReceive,
    /// Ends a watch.
    CancelWatch,
    /// Sends; the slot is the index within the batch.
    Send,
}

const KINDS: [Kind; 7] = [
    Kind::Wake,
    Kind::Accept,
    Kind::Receive,
    Kind::Watch,
    Kind::CancelReceive,
    Kind::CancelWatch,
    Kind::Send,
];

/// The name of an operation: kind, slot (24 bits) and generation of the connection it is for.
pub(super) fn name(kind: Kind, id: ConnId) -> u64 {
    (kind as u64) << 56 | u64::from(id.slot & 0x00ff_ffff) << 32 | u64::from(id.generation)
}

/// The end of an operation, or one of several results of a multishot operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) kind: Kind,
    pub(super) id: ConnId,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on and will say more.
    pub(super) fn has_more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The buffer that was filled.
    pub(super) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The error, if it is one.
    pub(super) fn error(&self) -> Option<io::Error> {
        (self.result < 0).then(|| io::Error::from_raw_os_error(-self.result))
    }
}

/// A ring; see the module.
pub(super) struct Ring {
    uring: IoUring,
    pub(super) backlog: VecDeque<Completion>,
    /// Index within the batch and result of each send that is complete.
    pub(super) sent: Vec<(usize, i32)>,
    /// How often the kernel was entered.
    pub(super) enters: u64,
}

impl Ring {
    pub(super) fn new(uring: IoUring) -> Self {
        Self {
            uring,
            backlog: VecDeque::new(),
            sent: Vec::new(),
            enters: 0,
        }
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.uring.submitter()
    }

    /// Queues an operation; it reaches the kernel with the next [`Ring::submit`] or [`Ring::wait`].
    ///
    /// # Safety
    ///
    /// The memory that the operation points to stays valid and unchanged until its last completion was fetched, and
    /// the files it names stay open until it is submitted.
    pub(super) unsafe fn push(
        &mut self,
        entry: squeue::Entry,
        kind: Kind,
        id: ConnId,
    ) -> io::Result<()> {
        let entry = entry.user_data(name(kind, id));
        loop {
            // SAFETY: exactly what the caller promises.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    /// Hands queued operations to the kernel and fetches what it has ready, without waiting; no call if there is
    /// nothing of either.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        let queue = self.uring.submission();
        let needed = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if needed {
            self.enters += 1;
            ignore_passing(self.uring.submit())?;
        }
        self.fetch();
        Ok(())
    }

    /// Hands queued operations to the kernel, waits for a completion and fetches what there is.
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.enters += 1;
        let result = match wait {
            None => self.uring.submit_and_wait(1),
            Some(wait) => {
                let wait = types::Timespec::from(wait);
                self.uring
                    .submitter()
                    .submit_with_args(1, &types::SubmitArgs::new().timespec(&wait))
            }
        };
        ignore_passing(result)?;
        self.fetch();
        Ok(())
    }

    fn fetch(&mut self) {
        for entry in self.uring.completion() {
            let name = entry.user_data();
            let id = ConnId {
                slot: (name >> 32) as u32 & 0x00ff_ffff,
                generation: name as u32,
            };
            // Every name is one of ours.
            let Some(&kind) = KINDS.get((name >> 56) as usize) else {
                continue;
            };
            if kind == Kind::Send {
                self.sent.push((id.slot as usize, entry.result()));
            } else {
                self.backlog.push_back(Completion {
                    kind,
                    id,
                    result: entry.result(),
                    flags: entry.flags(),
                });
            }
        }
    }
}

// Timeouts and signals end a wait early; EAGAIN and EBUSY say "not now" (memory is short, or completions have to be
// fetched first, which happens next). What was queued stays queued.
fn ignore_passing(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_under_their_number() {
        for (index, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let id = ConnId {
                slot: 0x00ab_cdef,
                generation: 0x8000_0001,
            };
            assert_eq!(name(kind, id) >> 56, index as u64);
            assert_eq!(
                name(kind, id) & 0x00ff_ffff_ffff_ffff,
                0x00ab_cdef_8000_0001
            );
        }
    }
}
