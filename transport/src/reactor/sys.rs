//! The few system calls that no safe wrapper offers the way we need them: sends and receives that do not wait
//! whatever the blocking mode of the socket, eventfd, and epoll with sub-millisecond waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Sends what the socket takes without waiting. Never raises SIGPIPE.
#[inline]
pub(super) fn send_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // By number: the wrapper is a point where threads may be cancelled, which takes two atomic operations each time.
    // SAFETY: pointer and length describe `bytes`, which outlives the call; the kernel only reads from it. Without a
    // destination the last two arguments are zero.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd.as_raw_fd(),
            bytes.as_ptr(),
            bytes.len(),
            flags,
            ptr::null::<libc::sockaddr>(),
            0,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives what is there without waiting; zero is the end of the stream.
pub(super) fn receive_now(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `bytes`, which is exclusively ours for the length of the call. The rest is as
    // above: the sender's address is not asked for.
    let received = unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            fd.as_raw_fd(),
            bytes.as_mut_ptr(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            ptr::null_mut::<libc::sockaddr>(),
            ptr::null_mut::<libc::socklen_t>(),
        )
    };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// The calling thread interrupts no other one when it wakes: it runs when they sleep, or their slice of time is over.
pub(crate) fn give_way() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a structure that outlives the call. Zero is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A non-blocking eventfd with the count zero.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    owned(fd)
}

/// Adds one to the count.
pub(super) fn eventfd_add(fd: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1u64.to_ne_bytes();
    // SAFETY: pointer and length describe `one`.
    let written = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    if written < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets the count to zero.
pub(super) fn eventfd_clear(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut count = [0u8; 8];
    // SAFETY: pointer and length describe `count`.
    let read = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    if read < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The soft limit of open files.
pub(super) fn open_files_max() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the result.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { limit.rlim_cur } else { 0 }
}

/// Whether an error at accept says that the machine is out of something, so that trying again at once is useless.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// One epoll instance.
#[derive(Debug)]
pub(super) struct Epoll {
    fd: OwnedFd,
    // Kernels before 5.11 and some old container profiles lack epoll_pwait2; found out by the first use.
    pwait2_works: bool,
}

/// Room for what one wait returns.
pub(super) struct EpollEvents {
    events: Vec<libc::epoll_event>,
}

impl EpollEvents {
    pub(super) fn with_capacity(events_max: usize) -> Self {
        Self {
            events: Vec::with_capacity(events_max.max(1)),
        }
    }

    /// Token and event bits of each entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.events.iter().map(|event| (event.u64, event.events))
    }
}

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        Ok(Self {
            fd: owned(fd)?,
            pwait2_works: true,
        })
    }

    pub(super) fn add(&self, fd: BorrowedFd<'_>, token: u64, bits: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, bits)
    }

    pub(super) fn change(&self, fd: BorrowedFd<'_>, token: u64, bits: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, bits)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, token: u64, bits: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: bits,
            u64: token,
        };
        // SAFETY: `event` is valid for the length of the call; the kernel copies it.
        let result = unsafe {
            libc::epoll_ctl(
                self.fd.as_raw_fd(),
                operation,
                fd.as_raw_fd(),
                &raw mut event,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Waits for events; an interrupting signal ends the wait with none.
    pub(super) fn wait(
        &mut self,
        events: &mut EpollEvents,
        wait: Option<Duration>,
    ) -> io::Result<()> {
        let events = &mut events.events;
        events.clear();
        let mut result = -1;
        if self.pwait2_works {
            result = self.pwait2(events, wait);
            if result < 0 && matches!(errno(), libc::ENOSYS | libc::EPERM) {
                self.pwait2_works = false;
            }
        }
        if !self.pwait2_works {
            let room = i32::try_from(events.capacity()).unwrap_or(i32::MAX);
            // SAFETY: the vector has room for `room` entries.
            let count = unsafe {
                libc::epoll_wait(
                    self.fd.as_raw_fd(),
                    events.as_mut_ptr(),
                    room,
                    milliseconds(wait),
                )
            };
            result = i64::from(count);
        }
        match usize::try_from(result) {
            Ok(count) => {
                // SAFETY: the kernel has written `count` entries, no more than the capacity it was told.
                unsafe { events.set_len(count) };
                Ok(())
            }
            Err(_) if errno() == libc::EINTR => Ok(()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    // By number: musl has no wrapper, and glibc only since 2.35.
    fn pwait2(&self, events: &mut Vec<libc::epoll_event>, wait: Option<Duration>) -> i64 {
        let timeout = wait.map(|wait| KernelTimespec {
            seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: i64::from(wait.subsec_nanos()),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the vector has room for as many entries as stated; `timeout` is null or points to a value that
        // lives until the end of this function; the null signal mask is allowed.
        unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                events.capacity().min(i32::MAX as usize) as i32,
                timeout,
                ptr::null::<libc::sigset_t>(),
                size_of::<u64>(),
            )
        }
    }
}

// `struct __kernel_timespec`: 64 bits on every architecture, unlike libc's.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

// Rounded up: a wait of 0.3 ms must not become a spin.
fn milliseconds(wait: Option<Duration>) -> i32 {
    wait.map_or(-1, |wait| {
        i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    })
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just made for us, and that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_rounds_waits_up() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_micros(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_millis(7))), 7);
        assert_eq!(milliseconds(Some(Duration::MAX)), i32::MAX);
    }

    #[test]
    fn both_ways_of_waiting_find_an_event() {
        use std::os::fd::AsFd;
        for pwait2_works in [true, false] {
            let mut epoll = Epoll::new().unwrap();
            epoll.pwait2_works = pwait2_works;
            let fd = eventfd().unwrap();
            epoll.add(fd.as_fd(), 42, libc::EPOLLIN as u32).unwrap();
            let mut events = EpollEvents::with_capacity(4);
            epoll
                .wait(&mut events, Some(Duration::from_micros(100)))
                .unwrap();
            assert_eq!(events.iter().count(), 0);
            eventfd_add(fd.as_fd()).unwrap();
            epoll.wait(&mut events, None).unwrap();
            assert_eq!(
                events.iter().collect::<Vec<_>>(),
                [(42, libc::EPOLLIN as u32)]
            );
        }
    }
}
