//! The machine that figures were measured on, and whether it is quiet.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// What a reader has to know to believe a figure.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Cores that the system has.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// What the kernel does about the processor's faults, where it does anything.
    pub mitigations: Vec<String>,
    /// Frequency governor of the first core, if there is one.
    pub governor: Option<String>,
    /// Cores that the kernel keeps free of other work.
    pub isolated: String,
    /// Bytes of memory.
    pub memory: u64,
}

impl Machine {
    /// Looks around.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        let mut mitigations: Vec<String> = fs::read_dir("/sys/devices/system/cpu/vulnerabilities")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let text = fs::read_to_string(entry.path()).ok()?;
                let text = text.trim();
                (text != "Not affected")
                    .then(|| format!("{}: {text}", entry.file_name().to_string_lossy()))
            })
            .collect();
        mitigations.sort();
        Self {
            cpu: cpu.to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            mitigations,
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok(),
            isolated: read("/sys/devices/system/cpu/isolated").unwrap_or_default(),
            memory: 1024 * number_behind("/proc/meminfo", "MemTotal:").unwrap_or(0),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isolated = match self.isolated.as_str() {
            "" => "none",
            cores => cores,
        };
        writeln!(
            f,
            "machine: {}, {} cores, {:.0} GiB, Linux {}, governor {}, isolated cores: {isolated}",
            self.cpu,
            self.cores,
            self.memory as f64 / f64::from(1 << 30),
            self.kernel,
            self.governor.as_deref().unwrap_or("unknown"),
        )?;
        match self.mitigations.as_slice() {
            [] => writeln!(f, "mitigations: none"),
            mitigations => writeln!(f, "mitigations: {}", mitigations.join("; ")),
        }
    }
}

/// More of the machine than this being somebody else's work makes figures doubtful. (guess)
const OTHERS_SHARE_MAX: f64 = 0.05;
/// For so long a machine must be quiet before something is measured.
const QUIET: Duration = Duration::from_millis(100);

/// Waits until the machine is quiet, at most so long. Returns whether it was.
pub fn wait_until_quiet(at_most: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let watch = Watch::start()?;
        thread::sleep(QUIET);
        if watch.others(Duration::ZERO)? <= OTHERS_SHARE_MAX {
            return Ok(true);
        }
        if start.elapsed() >= at_most {
            return Ok(false);
        }
    }
}

/// Takes as many open files as the system allows, for this process and for the servers that it starts: some of them
/// would take them by themselves, others not. An error if so many are more than there may be.
pub fn allow_open_files(needed: u64) -> Result<(), Box<dyn Error>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if most < needed {
        return Err(format!(
            "{needed} open files are needed and {most} allowed: raise the hard limit (ulimit -Hn), or choose --scenarios \
             with fewer sessions"
        )
        .into());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// Watches how busy the machine is with what is none of ours.
pub struct Watch {
    busy: Duration,
    all: Duration,
    own: Duration,
}

impl Watch {
    /// Begins now.
    pub fn start() -> io::Result<Self> {
        let (busy, all) = jiffies()?;
        let own = own_cpu()?;
        Ok(Self { busy, all, own })
    }

    /// Share of the machine that was busy with neither this process nor with servers that had so much CPU time.
    pub fn others(&self, servers: Duration) -> io::Result<f64> {
        let now = Self::start()?;
        let ours = now.own.saturating_sub(self.own) + servers;
        let busy = now.busy.saturating_sub(self.busy);
        let all = now.all.saturating_sub(self.all);
        let others = busy.saturating_sub(ours).as_secs_f64();
        Ok(others / all.as_secs_f64().max(1e-9))
    }
}

/// Whether a measurement with so much of others' work beside it is doubtful.
pub fn is_disturbed(others: f64) -> bool {
    others > OTHERS_SHARE_MAX
}

/// Time that all cores were busy, and all time.
fn jiffies() -> io::Result<(Duration, Duration)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let numbers: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|number| number.parse().ok())
        .collect();
    let all: u64 = numbers.iter().take(8).sum();
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    let time = |jiffies| Duration::from_millis(jiffies * MILLIS_PER_JIFFY);
    Ok((time(all - idle), time(all)))
}

/// The kernel shows times to programs in hundredths of a second, whatever its own clock does.
const MILLIS_PER_JIFFY: u64 = 10;

/// CPU time of a process and those that it has started, all their threads; to the nanosecond where the kernel says so.
pub fn cpu_of_tree(pid: u32) -> io::Result<Duration> {
    let mut sum = cpu_of_process(pid)?;
    for child in children(pid) {
        sum += cpu_of_tree(child).unwrap_or_default();
    }
    Ok(sum)
}

/// CPU time of this process, without those that it has started.
pub fn own_cpu() -> io::Result<Duration> {
    cpu_of_process(std::process::id())
}

fn cpu_of_process(pid: u32) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let on_cpu = schedstat.split_whitespace().next();
        sum += Duration::from_nanos(on_cpu.and_then(|ns| ns.parse().ok()).unwrap_or(0));
    }
    Ok(sum)
}

/// Memory of a process and those that it has started, in bytes. What several share is divided among them.
pub fn memory_of_tree(pid: u32) -> u64 {
    let kib = number_behind(&format!("/proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0);
    kib * 1024 + children(pid).into_iter().map(memory_of_tree).sum::<u64>()
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let texts = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids: Vec<u32> = texts
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    pids
}

/// The number in the line of a file that begins with a name.
fn number_behind(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_machine() {
        assert!(memory_of_tree(std::process::id()) > 100_000);
        let machine = Machine::look();
        assert!(machine.cores >= 1 && machine.memory > 0);
        assert!(machine.to_string().contains(&machine.kernel));
    }

    #[test]
    fn more_files_than_there_may_be_are_refused_in_words() {
        let error = allow_open_files(u64::MAX);
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if most < u64::MAX {
            assert!(error.unwrap_err().to_string().contains("ulimit -Hn"));
        }
        allow_open_files(1).unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, most);
    }

    /// What this process does is not others' work. Whatever else the machine does, a share is a share.
    #[test]
    fn own_work_is_not_others() {
        let watch = Watch::start().unwrap();
        let begin = own_cpu().unwrap();
        let mut spins = 0u64;
        while own_cpu().unwrap() < begin + Duration::from_millis(50) {
            spins = std::hint::black_box(spins + 1);
        }
        let others = watch.others(Duration::ZERO).unwrap();
        assert!((0.0..=1.0).contains(&others), "{others}");
        // All of it claimed for servers, nothing is left.
        assert_eq!(watch.others(Duration::from_secs(1_000_000)).unwrap(), 0.0);
    }
}
