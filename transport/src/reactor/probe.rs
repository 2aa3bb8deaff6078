//! Whether io_uring works here, and how much of it: found out by doing, not by the kernel's version, because
//! distributions backport and containers forbid.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::buffers::{BUFFER_GROUP, Buffers};

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What works.
    pub features: Features,
    /// Why the `uring` back end cannot run here, and what to do about it; `None` if it can.
    pub obstacle: Option<String>,
}

/// Features of io_uring that the `uring` back end uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `IORING_SETUP_SINGLE_ISSUER` (Linux 6.0): one thread submits, so the kernel leaves out a lock.
    pub single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN` (6.1): completions are produced when we ask, not by interrupting us.
    pub defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN` (5.19): the second best of that.
    pub coop_taskrun: bool,
    /// One accept request reports every connection (5.19). Required.
    pub accept_multishot: bool,
    /// One receive request reports everything that arrives (6.0). Required.
    pub recv_multishot: bool,
    /// A ring of buffers shared with the kernel (5.19). Required.
    pub buffer_rings: bool,
    /// A table of registered files (sparse: 5.19): saves looking up the descriptor for each operation.
    pub direct_files: bool,
}

impl Probe {
    /// Whether the `uring` back end can run here.
    pub fn is_usable(&self) -> bool {
        self.obstacle.is_none()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(obstacle) = &self.obstacle {
            return write!(f, "io_uring unusable: {obstacle}");
        }
        f.write_str("io_uring usable with")?;
        let Features {
            single_issuer,
            defer_taskrun,
            coop_taskrun,
            ..
        } = self.features;
        let Features {
            accept_multishot,
            recv_multishot,
            buffer_rings,
            direct_files,
            ..
        } = self.features;
        let mut separator = " ";
        for (works, name) in [
            (single_issuer, "SINGLE_ISSUER"),
            (defer_taskrun, "DEFER_TASKRUN"),
            (coop_taskrun, "COOP_TASKRUN"),
            (accept_multishot, "multishot accept"),
            (recv_multishot, "multishot receive"),
            (buffer_rings, "buffer rings"),
            (direct_files, "direct files"),
        ] {
            if works {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// Tries io_uring: sets up small rings, and has one accept and one receive. Takes about a millisecond.
pub fn probe() -> Probe {
    let mut features = Features::default();
    let obstacle = try_all(&mut features).err();
    Probe { features, obstacle }
}

fn try_all(features: &mut Features) -> Result<(), String> {
    // The plainest ring first: if even this is refused, the reason is not one of the flags.
    IoUring::new(PROBE_ENTRIES)
        .map(drop)
        .map_err(|error| explain_setup(&error))?;
    let works = |features: Features| build_ring(features, PROBE_ENTRIES).is_ok();
    features.coop_taskrun = works(Features {
        coop_taskrun: true,
        ..Features::default()
    });
    features.single_issuer = works(Features {
        single_issuer: true,
        ..Features::default()
    });
    features.defer_taskrun = features.single_issuer
        && works(Features {
            single_issuer: true,
            defer_taskrun: true,
            ..Features::default()
        });

    let mut ring = build_ring(*features, PROBE_ENTRIES).map_err(|error| explain_setup(&error))?;
    features.direct_files = ring
        .submitter()
        .register_files_sparse(PROBE_ENTRIES)
        .is_ok();
    features.accept_multishot = accept_works(&mut ring);
    if !features.accept_multishot {
        return Err("multishot accept does not work: Linux 6.0 or newer is needed".to_owned());
    }
    receive_works(ring, features)
}

fn accept_works(ring: &mut IoUring) -> bool {
    let mut attempt = || -> io::Result<bool> {
        // An abstract Unix address: needs neither the network nor a file system. Unique within the network namespace.
        static PROBES: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "brightwire-probe-{}-{}",
            std::process::id(),
            PROBES.fetch_add(1, Ordering::Relaxed)
        );
        let address = SocketAddr::from_abstract_name(unique)?;
        let listener = UnixListener::bind_addr(&address)?;
        let client = UnixStream::connect_addr(&address)?;
        let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build();
        let (result, flags) = complete_one(ring, &accept)?;
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
        drop(client);
        Ok(result >= 0 && cqueue::more(flags))
    };
    attempt().unwrap_or(false)
}

// Takes the ring, which has to be gone before the buffers are.
fn receive_works(mut ring: IoUring, features: &mut Features) -> Result<(), String> {
    let buffers = Buffers::new();
    let mut attempt = |features: &mut Features| -> io::Result<()> {
        // SAFETY: the group is unregistered and the ring dropped below, before the buffers are.
        unsafe { buffers.register(&ring.submitter()) }?;
        features.buffer_rings = true;
        let (here, mut there) = UnixStream::pair()?;
        there.write_all(b"x")?;
        let receive = opcode::RecvMulti::new(types::Fd(here.as_raw_fd()), BUFFER_GROUP).build();
        let (result, flags) = complete_one(&mut ring, &receive)?;
        features.recv_multishot =
            result == 1 && cqueue::more(flags) && cqueue::buffer_select(flags).is_some();
        Ok(())
    };
    let result = attempt(features);
    // Ends the receive and everything else before the buffers go away.
    let _ = ring
        .submitter()
        .register_sync_cancel(Some(PROBE_WAIT.into()), types::CancelBuilder::any());
    let _ = ring.submitter().unregister_buf_ring(BUFFER_GROUP);
    drop(ring);
    drop(buffers);
    match result {
        Ok(()) if features.recv_multishot => Ok(()),
        Ok(()) => Err("multishot receive does not work: Linux 6.0 or newer is needed".to_owned()),
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Err(explain_setup(&error)),
        Err(error) => Err(format!(
            "rings of buffers do not work ({error}): Linux 6.0 or newer is needed"
        )),
    }
}

/// Result and flags of the first completion of one operation.
fn complete_one(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<(i32, u32)> {
    // SAFETY: the operations of this module point to no memory of ours except the registered buffers, and the files
    // they name are open while they are submitted.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    let wait = types::Timespec::from(PROBE_WAIT);
    ring.submitter()
        .submit_with_args(1, &types::SubmitArgs::new().timespec(&wait))?;
    let completion = ring.completion().next().ok_or(io::ErrorKind::TimedOut)?;
    Ok((completion.result(), completion.flags()))
}

/// A ring with those of the set-up flags that work. The completion queue is four times the submission queue: batches
/// of sends complete while receives and accepts are waiting to be handled.
pub(super) fn build_ring(features: Features, entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // SUBMIT_ALL: one operation that the kernel does not like must not hold up those behind it.
    builder
        .dontfork()
        .setup_clamp()
        .setup_submit_all()
        .setup_cqsize(entries * 4);
    if features.single_issuer {
        builder.setup_single_issuer();
    }
    // TASKRUN_FLAG lets us see in shared memory whether there is anything to fetch, and save the call if not.
    if features.defer_taskrun {
        builder.setup_defer_taskrun().setup_taskrun_flag();
    } else if features.coop_taskrun {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    builder.build(entries)
}

/// What an error at set-up means to someone who can change the machine.
fn explain_setup(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled_by_sysctl() {
            Some(level @ 1) => format!(
                "the administrator has limited it to one group (sysctl kernel.io_uring_disabled = {level}): set it \
                 to 0, or add this user to the group of kernel.io_uring_group"
            ),
            Some(level @ 2..) => format!(
                "the administrator has disabled it (sysctl kernel.io_uring_disabled = {level}): set it to 0"
            ),
            _ => "a seccomp profile forbids it, as those of Docker and containerd do: run the container with a \
                  profile that allows io_uring_setup, io_uring_enter and io_uring_register"
                .to_owned(),
        },
        Some(libc::ENOSYS) => "the kernel does not have it: Linux 6.0 or newer is needed (or a sandbox such as \
                               gVisor hides it)"
            .to_owned(),
        Some(libc::ENOMEM) => "not enough memory may be locked: raise the memlock limit (ulimit -l, LimitMEMLOCK= in \
                               the systemd unit, --ulimit memlock= of the container)"
            .to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => {
            "no file descriptor is left: raise the limit of open files (ulimit -n)".to_owned()
        }
        Some(libc::EINVAL) => "the kernel's io_uring is too old: Linux 6.0 or newer is needed".to_owned(),
        _ => format!("setting up a ring failed: {error}"),
    }
}

fn disabled_by_sysctl() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

const PROBE_ENTRIES: u32 = 8;

// Everything the probe waits for has happened before it asks; this is for kernels that do not do what they said.
const PROBE_WAIT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_a_remedy() {
        let explain = |errno| explain_setup(&io::Error::from_raw_os_error(errno));
        assert!(explain(libc::ENOSYS).contains("Linux 6.0"));
        assert!(explain(libc::ENOMEM).contains("memlock"));
        let denied = explain(libc::EPERM);
        assert!(
            denied.contains("seccomp") || denied.contains("kernel.io_uring_disabled"),
            "{denied}"
        );
        let probe = Probe {
            features: Features::default(),
            obstacle: Some(explain(libc::ENOSYS)),
        };
        assert!(
            probe
                .to_string()
                .starts_with("io_uring unusable: the kernel does not have it")
        );
    }

    #[test]
    fn probing_agrees_with_itself() {
        let found = probe();
        println!("{found}");
        let Features {
            accept_multishot,
            recv_multishot,
            buffer_rings,
            ..
        } = found.features;
        assert_eq!(
            found.is_usable(),
            accept_multishot && recv_multishot && buffer_rings
        );
        assert!(!found.features.defer_taskrun || found.features.single_issuer);
        assert_eq!(probe(), found);
    }
}
