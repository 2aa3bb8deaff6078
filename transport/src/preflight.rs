//! `brightwire doctor`: what of this machine stands in the server's way, why that matters, and how to fix it.
//!
//! A machine is read through [`Machine`], which may be a directory with copies of another one's files. So every judgement
//! is tested on machines that nobody has at hand. What only some plans need is looked at only for them: what disturbs
//! threads that spin (`latency`), and what very many clients run into (`crowd`).

mod crowd;
mod latency;
mod machine;

use std::fmt;
use std::time::Duration;

use crate::config::Plan;
use crate::config::plan::IoChoice;
use crate::reactor::probe::Probe;
use crate::runtime::topology::Topology;

pub use machine::Machine;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but could be better; or could not be found out.
    Note,
    /// The server, or what the configuration asks for, will not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How serious it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// Why it matters; empty if all is well.
    pub why: String,
    /// How to fix it; empty if all is well.
    pub fix: String,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            why: String::new(),
            fix: String::new(),
        }
    }

    fn note(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Note,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    fn problem(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Whether something will not work.
    pub fn has_problem(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Problem)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Problem => "PROBLEM",
            };
            writeln!(formatter, "{level:<8} {}", finding.what)?;
            if !finding.why.is_empty() {
                writeln!(formatter, "         why: {}", finding.why)?;
            }
            if !finding.fix.is_empty() {
                writeln!(formatter, "         fix: {}", finding.fix)?;
            }
        }
        Ok(())
    }
}

/// Looks at a machine, and at what `plan` needs of it.
pub fn examine(machine: &Machine, plan: Option<&Plan>) -> Report {
    let read = |path: &str| machine.text(path).unwrap_or_default();
    let limits = read("/proc/self/limits");
    let io = plan.map_or(IoChoice::Auto, |plan| plan.io);
    let mut findings = vec![
        kernel(&read("/proc/sys/kernel/osrelease")),
        io_uring(&machine.io_uring, io),
        memlock(&limits, io),
        open_files(&limits, plan),
        port_range(&read("/proc/sys/net/ipv4/ip_local_port_range"), plan),
        accept_queue(&read("/proc/sys/net/core/somaxconn"), plan),
        clock_source(&read(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        )),
        cpu_quota(cgroup_quota(&read("/proc/self/cgroup"), |path| machine.text(path)).as_deref()),
        latency::mitigations(machine),
        latency::huge_pages(machine),
    ];
    match machine.topology() {
        Ok(topology) => {
            findings.extend(cores(&topology, plan));
            if let Some(plan) = plan.filter(|plan| plan.spin >= SPIN_ISOLATED) {
                findings.extend(latency::findings(machine, &topology, plan));
            }
        }
        Err(error) => findings.push(Finding::note(
            format!("cores: /sys/devices/system/cpu cannot be read: {error}"),
            "threads cannot be placed on cores",
            "mount sysfs into the container",
        )),
    }
    if let Some(plan) = plan {
        findings.extend(crowd::findings(machine, plan));
    }
    Report(findings)
}

fn kernel(release: &str) -> Finding {
    let release = release.trim();
    let mut numbers = release
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_FULL => {
            Finding::ok(format!("kernel: {release}"))
        }
        (Some(major), Some(minor)) => Finding::note(
            format!("kernel: {release}"),
            format!(
                "the io_uring features of the shards appeared up to {}.{}; epoll is used instead",
                KERNEL_FULL.0, KERNEL_FULL.1
            ),
            format!("a newer kernel, if more than {major}.{minor} can be had"),
        ),
        _ => Finding::note(
            format!("kernel: version `{release}` is not understood"),
            "io_uring may be missing",
            "see the next line",
        ),
    }
}

/// What trying io_uring has shown, which is the only reliable test: seccomp filters, sysctls and limits all decide.
fn io_uring(probe: &Probe, io: IoChoice) -> Finding {
    // The probe names the cause together with its cure.
    let Some(obstacle) = &probe.obstacle else {
        return Finding::ok(format!("io_uring: {}", probe));
    };
    let what = "io_uring: not usable".to_owned();
    match io {
        IoChoice::Auto => Finding::note(
            what,
            "epoll is used instead, which costs more CPU per message",
            obstacle,
        ),
        IoChoice::Epoll => {
            Finding::note(what, "nothing: the configuration asks for epoll", obstacle)
        }
        IoChoice::Uring => Finding::problem(
            what,
            "the configuration says io = \"uring\", so the server will not start",
            obstacle,
        ),
    }
}

fn memlock(limits: &str, io: IoChoice) -> Finding {
    match soft_limit(limits, "Max locked memory") {
        Some(bytes) if bytes >= MEMLOCK_BYTES => {
            Finding::ok(format!("locked memory: {}", limit_text(bytes)))
        }
        Some(bytes) => Finding {
            level: if io == IoChoice::Uring { Level::Problem } else { Level::Note },
            what: format!("locked memory: {bytes} bytes"),
            why: "ingest and control each need 512 KiB of it to run on io_uring; otherwise they run on epoll".into(),
            fix: "raise RLIMIT_MEMLOCK to 1 MiB or more: ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock= in Docker"
                .into(),
        },
        None => unknown("locked memory"),
    }
}

fn open_files(limits: &str, plan: Option<&Plan>) -> Finding {
    let Some(files) = soft_limit(limits, "Max open files") else {
        return unknown("open files");
    };
    let what = format!("open files: at most {}", limit_text(files));
    let fix = "raise RLIMIT_NOFILE: ulimit -n, LimitNOFILE= in systemd, --ulimit nofile= in Docker";
    let connections_max =
        plan.map(|plan| (plan.sessions.connections_max as u64).saturating_mul(plan.shards as u64));
    if files < FILES_MIN {
        return Finding::problem(
            what,
            format!("the server's own needs and a few clients take {FILES_MIN}"),
            fix,
        );
    }
    match connections_max {
        Some(connections) if files < connections.saturating_add(FILES_OWN) => Finding::note(
            what,
            format!(
                "connections_max allows {connections} connections on all shards; clients beyond the limit wait or are refused"
            ),
            fix,
        ),
        None if files < FILES_COMFORTABLE => Finding::note(
            what,
            "every client connection takes one; further clients wait or are refused",
            fix,
        ),
        _ => Finding::ok(what),
    }
}

fn port_range(range: &str, plan: Option<&Plan>) -> Finding {
    let mut numbers = range
        .split_whitespace()
        .map_while(|number| number.parse::<u16>().ok());
    let (Some(first), Some(last)) = (numbers.next(), numbers.next()) else {
        return unknown("ephemeral ports");
    };
    let what = format!("ephemeral ports: {first} to {last}");
    let inside = plan.and_then(|plan| {
        plan.listeners
            .iter()
            .find(|listener| (first..=last).contains(&listener.address.port()))
    });
    if let Some(listener) = inside {
        return Finding::note(
            what,
            format!(
                "port {} of listener `{}` lies in it: an outgoing connection may hold it at start",
                listener.address.port(),
                listener.name
            ),
            format!(
                "sysctl -w net.ipv4.ip_local_reserved_ports={}",
                listener.address.port()
            ),
        );
    }
    if last.saturating_sub(first) < PORTS_COMFORTABLE {
        return Finding::note(
            what,
            "a load generator on one address can open only so many connections to one port",
            "sysctl -w net.ipv4.ip_local_port_range=\"10000 65000\" (load generators only)",
        );
    }
    Finding::ok(what)
}

fn accept_queue(somaxconn: &str, plan: Option<&Plan>) -> Finding {
    let Ok(length) = somaxconn.trim().parse::<u32>() else {
        return unknown("accept queue");
    };
    let wanted = plan.map_or(BACKLOG_COMFORTABLE, |plan| plan.socket.backlog);
    let what = format!("accept queue: net.core.somaxconn = {length}");
    if length >= wanted {
        return Finding::ok(what);
    }
    Finding::note(
        what,
        format!(
            "it cuts the backlog of {wanted}: when many clients reconnect at once, some must try again"
        ),
        format!("sysctl -w net.core.somaxconn={wanted}"),
    )
}

fn clock_source(name: &str) -> Finding {
    match name.trim() {
        "" => unknown("clock source"),
        // These are read in user space, through the vDSO.
        fast @ ("tsc"
        | "kvm-clock"
        | "arch_sys_counter"
        | "hyperv_clocksource_tsc_page"
        | "ptp_kvm") => Finding::ok(format!("clock source: {fast}")),
        slow => Finding::note(
            format!("clock source: {slow}"),
            "every look at the clock may be a system call or slower; each shard looks once per turn",
            "choose `tsc` if available_clocksource beside current_clocksource in /sys/devices/system/clocksource/clocksource0 lists it",
        ),
    }
}

/// The text of the quota file of the process' control group: version 2's `cpu.max`, or version 1's two numbers put
/// in the same order. Inside a container the group's own directory is mounted at the root, hence the second try.
fn cgroup_quota(cgroup: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_end_matches('/');
        if controllers.is_empty() {
            let files = [
                format!("/sys/fs/cgroup{path}/cpu.max"),
                "/sys/fs/cgroup/cpu.max".into(),
            ];
            if let Some(text) = files.iter().find_map(|file| read(file)) {
                return Some(text);
            }
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            for directory in [
                format!("/sys/fs/cgroup/cpu{path}"),
                "/sys/fs/cgroup/cpu".into(),
            ] {
                let quota = read(&format!("{directory}/cpu.cfs_quota_us"));
                let period = read(&format!("{directory}/cpu.cfs_period_us"));
                if let (Some(quota), Some(period)) = (quota, period) {
                    return Some(format!("{} {}", quota.trim(), period.trim()));
                }
            }
        }
    }
    None
}

fn cpu_quota(text: Option<&str>) -> Finding {
    // The root group has no such file: nothing limits it.
    let Some(text) = text else {
        return Finding::ok("CPU quota: none");
    };
    let mut words = text.split_whitespace();
    match (
        words.next(),
        words.next().and_then(|word| word.parse::<f64>().ok()),
    ) {
        (Some("max" | "-1"), _) => Finding::ok("CPU quota: none"),
        (Some(quota), Some(period)) if period > 0.0 && quota.parse::<f64>().is_ok() => {
            Finding::note(
                format!(
                    "CPU quota: {:.2} core(s)",
                    quota.parse::<f64>().unwrap_or_default() / period
                ),
                "when it is used up, all threads stand still for the rest of a period (100 ms as a rule), which clients see as stalls; spinning threads use it up for nothing",
                "give whole cores instead (Kubernetes: guaranteed pods and the static CPU manager), or set runtime.spin = \"0us\"",
            )
        }
        _ => unknown("CPU quota"),
    }
}

fn cores(topology: &Topology, plan: Option<&Plan>) -> Vec<Finding> {
    let allowed = topology.cores.iter().filter(|core| core.allowed).count();
    let doubled = topology
        .cores
        .iter()
        .filter(|core| core.siblings.len() > 1)
        .count();
    let nodes: std::collections::BTreeSet<usize> =
        topology.cores.iter().map(|core| core.node).collect();
    let isolated: Vec<String> = topology
        .cores
        .iter()
        .filter(|core| core.isolated)
        .map(|core| core.id.to_string())
        .collect();
    let isolated_text = if isolated.is_empty() {
        "none".into()
    } else {
        isolated.join(",")
    };
    let summary = format!(
        "cores: {} online, {allowed} for this process, {doubled} share a physical core, {} NUMA node(s), isolated: {isolated_text}",
        topology.cores.len(),
        nodes.len()
    );
    let mut findings = vec![if allowed < 2 {
        Finding::note(
            summary,
            "ingest, control and shards take turns on one core",
            "threading = \"shared\" saves the switching between them",
        )
    } else {
        Finding::ok(summary)
    }];
    if let Some(plan) = plan {
        findings.extend(placement(topology, plan));
    }
    findings
}

/// What is doubtful about the chosen cores. That they exist was checked when the plan was made.
fn placement(topology: &Topology, plan: &Plan) -> Vec<Finding> {
    let busy: Vec<usize> = plan
        .placement
        .ingest
        .into_iter()
        .chain(plan.placement.shards.iter().flatten().copied())
        .collect();
    let named = busy.iter().copied().chain(plan.placement.control);
    let mut findings = Vec::new();
    let disturbed: Vec<String> = busy
        .iter()
        .filter(|&&id| topology.core(id).is_some_and(|core| !core.isolated))
        .map(usize::to_string)
        .collect();
    if plan.spin >= SPIN_ISOLATED && takes_all(topology, &busy) {
        findings.push(Finding::note(
            "placement: ingest and shards take every core",
            "the kernel, control and adapters have to interrupt threads that spin",
            "fewer shards, or a machine with more cores; none can be isolated before one is left",
        ));
    } else if plan.spin >= SPIN_ISOLATED && !disturbed.is_empty() {
        findings.push(Finding::note(
            format!("placement: cores {} are not isolated", disturbed.join(",")),
            "the plan pins and spins for low latency, but the scheduler may put other work on these cores",
            format!(
                "boot with isolcpus=managed_irq,domain,{} (profiles/system/grub)",
                disturbed.join(",")
            ),
        ));
    }
    for core in named.filter_map(|id| topology.core(id)) {
        if !core.allowed && !core.isolated {
            findings.push(Finding::problem(
                format!(
                    "placement: core {} is outside this process' cpuset",
                    core.id
                ),
                "the thread that is meant for it cannot be pinned, so the server will not start",
                "name other cores, or widen the cpuset (taskset, --cpuset-cpus, AllowedCPUs=)",
            ));
        }
        let sibling = core
            .siblings
            .iter()
            .find(|&&other| other > core.id && busy.contains(&other));
        if let (true, Some(sibling)) = (busy.contains(&core.id), sibling) {
            findings.push(Finding::note(
                format!("placement: cores {} and {sibling} are one physical core", core.id),
                "two busy threads on it slow each other down",
                "name one core of each physical core (thread_siblings_list in /sys/devices/system/cpu/cpu*/topology)",
            ));
        }
    }
    findings
}

/// Whether no core is left for anybody else.
fn takes_all(topology: &Topology, busy: &[usize]) -> bool {
    topology.cores.iter().all(|core| busy.contains(&core.id))
}

fn unknown(subject: &str) -> Finding {
    Finding::note(format!("{subject}: cannot be found out here"), "", "")
}

/// The soft limit in a line of `/proc/self/limits`; `u64::MAX` for none.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX {
        "unlimited".into()
    } else {
        limit.to_string()
    }
}

/// `IORING_SETUP_DEFER_TASKRUN`, the youngest feature that the shards want, came with this version.
const KERNEL_FULL: (u32, u32) = (6, 1);
/// glommio's minimum, for the hosts of ingest and control.
const MEMLOCK_BYTES: u64 = 512 * 1024;
/// Rings, eventfds, logs, adapters: what the server opens for itself. A guess, on the safe side.
const FILES_OWN: u64 = 100;
/// The customary soft limit of login shells; below it something was set on purpose, and too low.
const FILES_MIN: u64 = 256;
/// Enough for trying things out. A guess.
const FILES_COMFORTABLE: u64 = 10_000;
/// The kernel's default range has 28,231 further ports.
const PORTS_COMFORTABLE: u16 = 25_000;
/// Whoever spins as long as this wants latency at the price of cores. A guess.
const SPIN_ISOLATED: Duration = Duration::from_millis(1);
/// The kernel's default since 5.4.
const BACKLOG_COMFORTABLE: u32 = 4_096;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::reactor::probe::Features;
    use crate::runtime::topology::Core;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 1048576              files
Max locked memory         65536                65536                bytes
Max file locks            unlimited            unlimited            locks
";

    fn machine() -> Topology {
        let core = |id: usize| Core {
            id,
            siblings: vec![id % 2, id % 2 + 2],
            node: 0,
            isolated: false,
            allowed: id != 3,
        };
        Topology {
            cores: (0..4).map(core).collect(),
            parallelism: 3,
        }
    }

    fn plan(text: &str) -> Plan {
        Plan::from_text(text, &machine(), Path::new(""), "test").unwrap()
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(kernel("6.18.44-fc-v657\n").level, Level::Ok);
        assert_eq!(kernel("6.1-rc3").level, Level::Ok);
        assert_eq!(kernel("5.15.0-91-generic").level, Level::Note);
        assert_eq!(kernel("10.0.1").level, Level::Ok);
        assert_eq!(kernel("").level, Level::Note);
    }

    #[test]
    fn a_denied_io_uring_matters_as_far_as_it_is_wanted() {
        let denied = Probe {
            features: Features::default(),
            obstacle: Some("allow it".into()),
        };
        for (io, level) in [
            (IoChoice::Auto, Level::Note),
            (IoChoice::Epoll, Level::Note),
            (IoChoice::Uring, Level::Problem),
        ] {
            let finding = io_uring(&denied, io);
            assert_eq!(finding.level, level);
            assert_eq!(finding.fix, "allow it");
        }
        let usable = Probe {
            features: Features::default(),
            obstacle: None,
        };
        assert_eq!(io_uring(&usable, IoChoice::Uring).level, Level::Ok);
    }

    #[test]
    fn limits_are_read_and_compared_with_the_plan() {
        assert_eq!(memlock(LIMITS, IoChoice::Auto).level, Level::Note);
        assert_eq!(memlock(LIMITS, IoChoice::Uring).level, Level::Problem);
        assert_eq!(
            memlock(&LIMITS.replace("65536", "unlimited"), IoChoice::Uring).level,
            Level::Ok
        );
        assert_eq!(memlock("", IoChoice::Uring).level, Level::Note);

        assert_eq!(open_files(LIMITS, None).level, Level::Note);
        assert_eq!(
            open_files(&LIMITS.replace("1024 ", "65536"), None).level,
            Level::Ok
        );
        assert_eq!(
            open_files(&LIMITS.replace("1024 ", "100  "), None).level,
            Level::Problem
        );
        let small = plan("runtime.shards = 2\nsessions.connections_max = 400");
        assert_eq!(open_files(LIMITS, Some(&small)).level, Level::Ok);
        let large = plan("runtime.shards = 2\nsessions.connections_max = 500");
        assert_eq!(open_files(LIMITS, Some(&large)).level, Level::Note);
    }

    #[test]
    fn network_settings_are_compared_with_the_plan() {
        assert_eq!(port_range("32768\t60999\n", None).level, Level::Ok);
        assert_eq!(port_range("50000 60000", None).level, Level::Note);
        assert_eq!(port_range("what", None).level, Level::Note);
        let inside = plan("[[listeners]]\naddress = \"127.0.0.1:40000\"");
        assert!(
            port_range("32768 60999", Some(&inside))
                .fix
                .contains("ip_local_reserved_ports=40000")
        );

        assert_eq!(accept_queue("4096\n", None).level, Level::Ok);
        assert_eq!(accept_queue("128\n", None).level, Level::Note);
        assert_eq!(
            accept_queue("128\n", Some(&plan("socket.backlog = 100"))).level,
            Level::Ok
        );
    }

    #[test]
    fn clocks_that_need_system_calls_are_noted() {
        assert_eq!(clock_source("tsc\n").level, Level::Ok);
        assert_eq!(clock_source("hpet\n").level, Level::Note);
        assert_eq!(clock_source("").level, Level::Note);
    }

    #[test]
    fn quotas_of_both_cgroup_versions_are_found() {
        let v2 = |path: &str| {
            (path == "/sys/fs/cgroup/a/b/cpu.max").then(|| "150000 100000\n".to_owned())
        };
        assert!(
            cpu_quota(cgroup_quota("0::/a/b\n", v2).as_deref())
                .what
                .contains("1.50")
        );
        let in_container =
            |path: &str| (path == "/sys/fs/cgroup/cpu.max").then(|| "max 100000\n".to_owned());
        assert_eq!(
            cpu_quota(cgroup_quota("0::/a/b\n", in_container).as_deref()).level,
            Level::Ok
        );
        let v1 = |path: &str| match path {
            "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us" => Some("50000\n".to_owned()),
            "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us" => Some("100000\n".to_owned()),
            _ => None,
        };
        let found = cgroup_quota("5:memory:/x\n4:cpu,cpuacct:/x\n", v1);
        assert!(cpu_quota(found.as_deref()).what.contains("0.50"));
        assert_eq!(cpu_quota(cgroup_quota("", v1).as_deref()).level, Level::Ok);
        assert!(cpu_quota(Some("nonsense")).what.contains("cannot"));
    }

    #[test]
    fn placement_is_judged_by_the_cores_it_names() {
        let levels = |text: &str| -> Vec<Level> {
            cores(&machine(), Some(&plan(text)))
                .iter()
                .map(|finding| finding.level)
                .collect()
        };
        assert_eq!(
            levels("runtime.shards = 1\nplacement = { ingest = 0, shards = [1] }"),
            [Level::Ok]
        );
        // Cores 0 and 2 are one physical core.
        assert_eq!(
            levels("runtime.shards = 1\nplacement = { ingest = 2, shards = [0] }"),
            [Level::Ok, Level::Note]
        );
        // Core 3 is not in the cpuset; it is also the twin of core 1.
        assert_eq!(
            levels("runtime.shards = 1\nplacement = { ingest = 0, shards = [3] }"),
            [Level::Ok, Level::Problem]
        );
        let spinning = "runtime = { shards = 1, spin = \"1ms\" }\nplacement.pin = \"auto\"";
        assert_eq!(
            levels(spinning),
            [Level::Ok, Level::Note],
            "nothing is isolated"
        );
        let single = Topology {
            cores: machine().cores[..1].to_vec(),
            parallelism: 1,
        };
        assert_eq!(cores(&single, None)[0].level, Level::Note);
    }

    #[test]
    fn this_machine_can_be_examined() {
        let report = examine(&Machine::here(), None);
        assert!(report.0.len() >= 11);
        let text = report.to_string();
        for subject in [
            "kernel:",
            "io_uring:",
            "locked memory:",
            "open files:",
            "cores:",
            "CPU quota:",
            "mitigations:",
            "huge pages:",
        ] {
            assert!(text.contains(subject), "{subject} is missing:\n{text}");
        }
    }
}
