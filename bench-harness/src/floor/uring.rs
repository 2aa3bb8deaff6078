//! The floor by io_uring: sends in batches, on registered sockets.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Sends per call. Between 16 and 256 the cost of a send is flat.
const BATCH: usize = 256;
/// Clients at most.
const CLIENTS_MAX: u32 = 16_384;

/// A ring with a table of sockets.
pub struct Sender {
    ring: IoUring,
    clients: Vec<TcpStream>,
}

impl Sender {
    /// A ring of the cheapest kind that this kernel has.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::<squeue::Entry, cqueue::Entry>::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4 * BATCH as u32)
            .build(BATCH as u32)?;
        ring.submitter().register_files_sparse(CLIENTS_MAX)?;
        Ok(Self {
            ring,
            clients: Vec::new(),
        })
    }

    /// Waits for the whole batch: its buffer is the caller's.
    fn complete(&mut self, sends: usize) -> io::Result<()> {
        self.ring.submit_and_wait(sends)?;
        let mut done = 0;
        while done < sends {
            for entry in self.ring.completion() {
                done += 1;
                // A client that has gone stays in the table until the publisher goes: sends to it fail at once.
                debug_assert!(entry.result() != -nix::libc::EINVAL);
            }
            if done < sends {
                self.ring.submit_and_wait(sends - done)?;
            }
        }
        Ok(())
    }
}

impl super::Fan for Sender {
    fn join(&mut self, client: TcpStream) -> io::Result<()> {
        let index = u32::try_from(self.clients.len()).expect("clients are bounded");
        self.ring
            .submitter()
            .register_files_update(index, &[client.as_raw_fd()])?;
        self.clients.push(client);
        Ok(())
    }

    fn send_all(&mut self, frames: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frames.len()).expect("one read's frames");
        for first in (0..self.clients.len()).step_by(BATCH) {
            let batch = BATCH.min(self.clients.len() - first);
            for index in first..first + batch {
                // WAITALL: the rest of a short send is the kernel's business, as with write_all.
                let send = opcode::Send::new(types::Fixed(index as u32), frames.as_ptr(), length)
                    .flags(nix::libc::MSG_WAITALL | nix::libc::MSG_NOSIGNAL)
                    .build();
                // SAFETY: `frames` outlives the operation, since `complete` waits for all of the batch before this
                // function returns; the queue has room for BATCH entries and was emptied by the batch before.
                unsafe { self.ring.submission().push(&send) }.expect("a batch fits the queue");
            }
            self.complete(batch)?;
        }
        Ok(())
    }
}
