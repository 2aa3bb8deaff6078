//! What a process, the server's or our own, has cost so far: from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// The unit of times in `/proc/PID/stat`. The kernel's own tick differs, but towards user space it is 100 Hz on all
/// architectures that Rust has a Linux target for, save Alpha.
const USER_HZ: u64 = 100;

/// A process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// CPU time outside the kernel.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// Memory, bytes.
    pub rss_bytes: u64,
    /// By thread id.
    pub threads: BTreeMap<u32, Thread>,
}

/// A thread at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Name.
    pub name: String,
    /// CPU time.
    pub cpu: Duration,
    /// Time for which it was ready to run and another thread had its core; zero if the kernel does not count it.
    pub waited: Duration,
}

impl Sample {
    /// Looks at a process.
    pub fn take(pid: u32) -> io::Result<Self> {
        let read = |path: String| {
            fs::read_to_string(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
        };
        let (user, system) = cpu_times(&read(format!("/proc/{pid}/stat"))?)?;
        let rss_bytes = rss_bytes(&read(format!("/proc/{pid}/status"))?).unwrap_or(0);
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let task = format!("/proc/{pid}/task/{tid}");
            // A thread may end while we look.
            let (Ok(stat), Ok(name)) = (read(format!("{task}/stat")), read(format!("{task}/comm")))
            else {
                continue;
            };
            let (user, system) = cpu_times(&stat)?;
            // To the nanosecond where the kernel counts it, to the tick where it does not.
            let fine = read(format!("{task}/schedstat")).ok();
            let (cpu, waited) = fine
                .and_then(|text| schedstat(&text))
                .unwrap_or((user + system, Duration::ZERO));
            let thread = Thread {
                name: name.trim_end().to_owned(),
                cpu,
                waited,
            };
            threads.insert(tid, thread);
        }
        Ok(Self {
            user,
            system,
            rss_bytes,
            threads,
        })
    }

    /// What was used since an earlier sample; memory is that of now.
    pub fn since(&self, earlier: &Self) -> Self {
        let threads = self.threads.iter().map(|(tid, thread)| {
            let before = earlier.threads.get(tid).cloned().unwrap_or_default();
            let used = Thread {
                name: thread.name.clone(),
                cpu: thread.cpu.saturating_sub(before.cpu),
                waited: thread.waited.saturating_sub(before.waited),
            };
            (*tid, used)
        });
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            rss_bytes: self.rss_bytes,
            threads: threads.collect(),
        }
    }

    /// CPU time in all, of the threads that there are: finer than [`Sample::user`] and [`Sample::system`] together.
    pub fn cpu(&self) -> Duration {
        if self.threads.is_empty() {
            return self.user + self.system;
        }
        self.threads.values().map(|thread| thread.cpu).sum()
    }
}

/// What the calling thread has cost so far: CPU time, and time for which it was ready to run and another thread had its
/// core.
pub fn own_thread() -> Option<(Duration, Duration)> {
    schedstat(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Time on a core, and time without one.
fn schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut numbers = text.split_whitespace();
    let mut next = || {
        let ns = numbers.next()?.parse().ok()?;
        Some(Duration::from_nanos(ns))
    };
    Some((next()?, next()?))
}

/// What a reader of figures has to know of the machine that they are of.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
}

impl Machine {
    /// Looks around.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let mut lines = cpuinfo.lines();
        let cpu = lines.find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Whether a process listens at a TCP port of this machine; `None` if nobody is seen to, as where the server is on another
/// machine or in a network of its own, or if we may not look.
pub fn listens(pid: u32, port: u16) -> Option<bool> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| listeners(table, port))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut targets = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    Some(targets.any(|target| {
        let target = target.to_string_lossy();
        sockets.iter().any(|socket| *socket == target)
    }))
}

/// The sockets that listen at a port, as links of `/proc/PID/fd` name them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let lines = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, at) = words.get(1)?.rsplit_once(':')?;
        let is_one = words.get(3) == Some(&LISTEN) && u16::from_str_radix(at, 16) == Ok(port);
        is_one.then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
    });
    lines.collect()
}

/// The kernel's memory for its tables and for the buffers of TCP, bytes, of the whole machine; `None` if it does not say.
pub fn kernel_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let sockstat = fs::read_to_string("/proc/net/sockstat").ok()?;
    Some(slab_bytes(&meminfo)? + tcp_bytes(&sockstat)?)
}

fn slab_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("Slab:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Of `TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 3`; the last number counts pages.
fn tcp_bytes(sockstat: &str) -> Option<u64> {
    const PAGE_BYTES: u64 = 4_096;
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    Some(words.nth(1)?.parse::<u64>().ok()? * PAGE_BYTES)
}

/// Raises our limit of open files to `files` if it is lower and the system lets us.
pub fn allow_open_files(files: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    if limit.0 >= files {
        return Ok(());
    }
    if limit.1 < files {
        return Err(format!(
            "{files} open files are needed and {} allowed; raise the limit (ulimit -n), share the sessions among more --processes, or ask for fewer",
            limit.1
        ));
    }
    setrlimit(Resource::RLIMIT_NOFILE, files, limit.1).map_err(|error| error.to_string())
}

/// Raises our limit of open files to `files`, or as far as the system lets us.
pub fn allow_open_files_as_far_as_possible(files: u64) {
    if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Whoever needs more than there are is told when they run out.
        let _ = setrlimit(
            Resource::RLIMIT_NOFILE,
            files.clamp(now, most.max(now)),
            most,
        );
    }
}

/// `utime` and `stime` of a `stat` file: the 14th and 15th field. The second one, the name in parentheses, may contain
/// anything.
fn cpu_times(stat: &str) -> io::Result<(Duration, Duration)> {
    let parse = || {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        Some((ticks()?, ticks()?))
    };
    let (user, system) =
        parse().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown stat format"))?;
    let time = |ticks: u64| Duration::from_millis(ticks * 1_000 / USER_HZ);
    Ok((time(user), time(system)))
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 123 45 0 0 20 0 7";
        assert_eq!(
            cpu_times(stat).unwrap(),
            (Duration::from_millis(1_230), Duration::from_millis(450))
        );
        assert!(cpu_times("42 (x) S 1").is_err());
        assert!(cpu_times("").is_err());
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1_024));
        assert_eq!(rss_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn the_kernels_memory_is_in_bytes() {
        assert_eq!(slab_bytes("MemFree: 1 kB\nSlab:    20 kB\n"), Some(20_480));
        let sockstat = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 6 mem 3\n";
        assert_eq!(tcp_bytes(sockstat), Some(3 * 4_096));
        assert!(kernel_bytes().is_some());
        assert!(own_thread().is_some());
    }

    #[test]
    fn who_listens_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listens(std::process::id(), port), Some(true));
        // The first process of all listens nowhere that we do.
        assert_ne!(listens(1, port), Some(true));
        drop(listener);
        assert_eq!(listeners("  sl  local_address\n", 80), Vec::<String>::new());
        let line = "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 424242 1 0\n";
        assert_eq!(listeners(line, 8080), ["socket:[424242]"]);
        assert!(listeners(line, 8081).is_empty());
        assert!(listeners(&line.replace(" 0A ", " 01 "), 8080).is_empty());
    }

    #[test]
    fn our_own_process_can_be_sampled() {
        let before = Sample::take(std::process::id()).unwrap();
        assert!(before.rss_bytes > 0 && !before.threads.is_empty());
        let used = Sample::take(std::process::id()).unwrap().since(&before);
        assert!(used.cpu() < before.cpu() + Duration::from_secs(3_600));
        assert_eq!(schedstat("5 7 9\n").map(|(cpu, _)| cpu.as_nanos()), Some(5));
        assert_eq!(schedstat(""), None);
        assert!(Machine::look().cores > 0);
    }

    #[test]
    fn what_is_missing_before_counts_in_full() {
        let thread = Thread {
            name: "shard-0".into(),
            cpu: Duration::from_secs(2),
            waited: Duration::from_secs(1),
        };
        let now = Sample {
            user: Duration::from_secs(5),
            threads: BTreeMap::from([(1, thread.clone())]),
            ..Sample::default()
        };
        let earlier = Sample {
            user: Duration::from_secs(3),
            ..Sample::default()
        };
        let used = now.since(&earlier);
        assert_eq!(used.cpu(), Duration::from_secs(2));
        assert_eq!(used.threads[&1], thread);
    }

    #[test]
    fn a_limit_that_is_high_enough_is_left_alone() {
        assert_eq!(allow_open_files(1), Ok(()));
        assert!(allow_open_files(u64::MAX - 1).is_err());
    }
}
