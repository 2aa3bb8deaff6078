//! The receive buffers of a ring: one group of equal buffers that the kernel takes from when bytes arrive, so that
//! an idle connection owns none.
//!
//! The kernel and we share a ring of descriptors. We append buffers at the tail; the kernel takes them from the head
//! and tells the number of the one it filled in the completion. Until then a buffer belongs to the kernel.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Requests of clients are a few hundred bytes, rarely more than two or three thousand; larger ones arrive in pieces.
pub(super) const BUFFER_BYTES: usize = 4096;

/// A megabyte in all: what 256 connections may send between two polls. When they send more, receives stop with
/// ENOBUFS and are started again, so it is a bound and not a limit. The ring needs a power of two.
pub(super) const BUFFER_COUNT: u16 = 256;

/// The group's number within its ring; we have only one.
pub(super) const BUFFER_GROUP: u16 = 0;

/// One group of buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    // First the descriptors (page-aligned, as the kernel demands), then the buffers.
    memory: NonNull<u8>,
    tail: u16,
}

impl Buffers {
    /// Buffers that the kernel does not know yet.
    pub(super) fn new() -> Self {
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout()) };
        let Some(memory) = NonNull::new(memory) else {
            handle_alloc_error(layout())
        };
        let mut buffers = Self { memory, tail: 0 };
        for number in 0..BUFFER_COUNT {
            buffers.give_back(number);
        }
        buffers
    }

    /// Makes them known to a ring.
    ///
    /// # Safety
    ///
    /// Nothing may be received into the group any more when the buffers are dropped: the ring has to be gone, or
    /// the group unregistered and every receive ended.
    pub(super) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.memory.as_ptr() as u64;
        // SAFETY: the address is page-aligned and holds as many descriptors as stated; that it lives long enough is
        // what the caller promises.
        unsafe { submitter.register_buf_ring_with_flags(address, BUFFER_COUNT, BUFFER_GROUP, 0) }
    }

    /// The first `len` bytes of a buffer that a completion has named, and that has not been given back yet.
    pub(super) fn filled(&mut self, number: u16, len: usize) -> &mut [u8] {
        assert!(
            number < BUFFER_COUNT && len <= BUFFER_BYTES,
            "the kernel names a buffer that it was not given"
        );
        // SAFETY: within the allocation by the assertion and initialised (zeroed at first). The kernel has taken the
        // buffer from the ring and is done with it, and it gets it back by `give_back` only, which needs the
        // exclusive borrow that this slice holds.
        unsafe { std::slice::from_raw_parts_mut(self.address(number), len) }
    }

    /// Lets the kernel use a buffer (again).
    pub(super) fn give_back(&mut self, number: u16) {
        assert!(
            number < BUFFER_COUNT,
            "the kernel names a buffer that it was not given"
        );
        let address = self.address(number) as u64;
        let entries = self.memory.as_ptr().cast::<BufRingEntry>();
        let index = usize::from(self.tail & (BUFFER_COUNT - 1));
        // SAFETY: the index is below the number of descriptors. The kernel does not read this one before the tail
        // says so, and there are as many descriptors as buffers, so none that it still has to read is overwritten.
        let entry = unsafe { &mut *entries.add(index) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the kernel keeps the tail in the unused field of the first descriptor, which is aligned for it and
        // lives as long as `self`; the setters above leave this field alone. Release: the descriptor is written first.
        unsafe {
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn address(&self, number: u16) -> *mut u8 {
        let offset = DESCRIPTORS_BYTES + usize::from(number) * BUFFER_BYTES;
        // SAFETY: callers have checked the number, so this stays within the allocation.
        unsafe { self.memory.as_ptr().add(offset) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout; the kernel does not use it any more by the promise that
        // `register` asks for.
        unsafe { dealloc(self.memory.as_ptr(), layout()) }
    }
}

const DESCRIPTORS_BYTES: usize = BUFFER_COUNT as usize * size_of::<BufRingEntry>();

const fn layout() -> Layout {
    let bytes = DESCRIPTORS_BYTES + BUFFER_COUNT as usize * BUFFER_BYTES;
    // The kernel demands an address at the start of a page.
    match Layout::from_size_align(bytes, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    }
}

// The largest page size that Linux uses on x86-64 and AArch64.
const PAGE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_the_tail_counts_them() {
        let mut buffers = Buffers::new();
        assert_eq!(buffers.tail, BUFFER_COUNT);
        assert!(buffers.memory.as_ptr().addr().is_multiple_of(PAGE_BYTES));
        for number in 0..BUFFER_COUNT {
            buffers.filled(number, BUFFER_BYTES).fill(number as u8);
        }
        for number in 0..BUFFER_COUNT {
            assert!(
                buffers
                    .filled(number, BUFFER_BYTES)
                    .iter()
                    .all(|&byte| byte == number as u8)
            );
        }
    }
}
