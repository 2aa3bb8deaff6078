//! The machine that figures were measured on, and whether it is quiet.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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
        }
    }
}

/// Share of the machine that is busy is above this: somebody else is at work. (guess)
const BUSY_SHARE_MAX: f64 = 0.08;

/// Waits until the machine has been quiet for a fifth of a second, at most so long. Returns whether it was.
pub fn wait_until_quiet(at_most: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let (busy, all) = jiffies()?;
        thread::sleep(Duration::from_millis(200));
        let (busy_then, all_then) = jiffies()?;
        let share = (busy_then - busy) as f64 / ((all_then - all) as f64).max(1.0);
        if share <= BUSY_SHARE_MAX {
            return Ok(true);
        }
        if start.elapsed() > at_most {
            return Ok(false);
        }
    }
}

/// Time that all cores were busy, and all time.
fn jiffies() -> io::Result<(u64, u64)> {
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
    Ok((all - idle, all))
}

/// CPU time of a process and those that it has started, all their threads; to the nanosecond where the kernel says so.
pub fn cpu_of_tree(pid: u32) -> io::Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // A thread may end while we look.
        let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        let on_cpu = schedstat.split_whitespace().next();
        sum += Duration::from_nanos(on_cpu.and_then(|ns| ns.parse().ok()).unwrap_or(0));
        for child in children(&path) {
            sum += cpu_of_tree(child).unwrap_or_default();
        }
    }
    Ok(sum)
}

fn children(task: &Path) -> Vec<u32> {
    let text = fs::read_to_string(task.join("children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
