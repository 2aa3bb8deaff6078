//! What makes a thread that spins wait nevertheless: other work and interrupts on its core, cores that sleep or slow down,
//! memory that is far away or has to be fetched.

use std::collections::BTreeSet;

use super::report::unknown;
use super::{Finding, Machine};
use crate::config::Plan;
use crate::runtime::topology::{Topology, parse_core_list};

/// A core that takes longer than this to wake is what a client's latency then consists of. A guess: about a hundred
/// times what an update takes.
const WAKE_US_MAX: u32 = 10;
/// Below it the kernel drops caches rather than pages of programs, as good as always. The value of the sysctl file.
const SWAPPINESS_MAX: u32 = 10;
/// Interrupts that are named in a finding; the others are counted.
const EXAMPLES_MAX: usize = 3;

/// What a plan that spins assumes of the machine.
pub fn findings(machine: &Machine, topology: &Topology, plan: &Plan) -> Vec<Finding> {
    let placement = &plan.placement;
    let pinned: Vec<usize> = placement
        .ingest
        .into_iter()
        .chain(placement.shards.iter().flatten().copied())
        .collect();
    let all = || topology.cores.iter().map(|core| core.id).collect();
    let busy = if pinned.is_empty() {
        all()
    } else {
        pinned.clone()
    };
    let mut findings = vec![
        governor(machine, &busy),
        idle_states(machine, &busy),
        swap(machine),
        slow_start(machine),
        watchdog(machine),
    ];
    // Where no core is left, that is said, and there is nowhere to put anything.
    if !pinned.is_empty() && !super::cores::takes_all(topology, &pinned) {
        findings.push(ticks(machine, &pinned));
        findings.push(interrupts(machine, &pinned));
    }
    if !pinned.is_empty() {
        findings.extend(nodes(machine, topology, &pinned));
    }
    findings
}

/// Told, not judged: whether to keep them is a question of who else's code runs here.
pub fn mitigations(machine: &Machine) -> Finding {
    const DIRECTORY: &str = "/sys/devices/system/cpu/vulnerabilities";
    let names = machine.names(DIRECTORY);
    if names.is_empty() {
        return unknown("mitigations");
    }
    let active: Vec<String> = names
        .into_iter()
        .filter(|name| {
            let text = machine.text(&format!("{DIRECTORY}/{name}"));
            text.is_some_and(|text| text.contains("Mitigation:"))
        })
        .collect();
    Finding::ok(match active.as_slice() {
        [] => "mitigations: none active".into(),
        names => format!(
            "mitigations: {} active ({}); some make every system call dearer",
            names.len(),
            names.join(", ")
        ),
    })
}

pub fn huge_pages(machine: &Machine) -> Finding {
    let Some(text) = machine.text("/sys/kernel/mm/transparent_hugepage/enabled") else {
        return unknown("huge pages");
    };
    match chosen(&text) {
        Some("always") => Finding::note(
            "huge pages: always",
            "the kernel may stop a thread to make room for one, and memory that a session has freed stays with the process",
            "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled (transparent_hugepage=madvise at boot; tuned: transparent_hugepages=madvise)",
        ),
        Some(choice) => Finding::ok(format!("huge pages: {choice}")),
        None => unknown("huge pages"),
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

fn governor(machine: &Machine, cores: &[usize]) -> Finding {
    let governors: BTreeSet<String> = cores
        .iter()
        .filter_map(|core| {
            machine.text(&format!(
                "/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
            ))
        })
        .collect();
    let names: Vec<&str> = governors.iter().map(String::as_str).collect();
    match names.as_slice() {
        [] => Finding::ok("governor: none here; on a virtual machine the host decides"),
        ["performance"] => Finding::ok("governor: performance"),
        others => Finding::note(
            format!("governor: {}", others.join(", ")),
            "a core that has little to do becomes slow, and takes a while to become fast again",
            "cpupower frequency-set -g performance (tuned: governor=performance)",
        ),
    }
}

/// The deepest sleep that a core may fall into. `tuned` and others forbid deep ones by holding a file open.
fn idle_states(machine: &Machine, cores: &[usize]) -> Finding {
    let wish = machine.bytes("/dev/cpu_dma_latency");
    let wish: Option<[u8; 4]> = wish.and_then(|bytes| bytes.try_into().ok());
    let wish_us = wish.map(i32::from_ne_bytes).filter(|us| *us >= 0);
    let mut deepest: Option<(u32, String)> = None;
    for core in cores {
        let directory = format!("/sys/devices/system/cpu/cpu{core}/cpuidle");
        for state in machine.names(&directory) {
            let file = |name: &str| machine.text(&format!("{directory}/{state}/{name}"));
            let Some(wake_us) = file("latency").and_then(|text| text.parse::<u32>().ok()) else {
                continue;
            };
            let forbidden = file("disable").is_some_and(|text| text == "1")
                || wish_us.is_some_and(|us| i64::from(us) < i64::from(wake_us));
            if !forbidden && deepest.as_ref().is_none_or(|(us, _)| wake_us > *us) {
                deepest = Some((wake_us, file("name").unwrap_or(state)));
            }
        }
    }
    match deepest {
        None => Finding::ok("idle states: none here; on a virtual machine the host decides"),
        Some((wake_us, name)) if wake_us <= WAKE_US_MAX => {
            Finding::ok(format!("idle states: {name} at most, {wake_us} us to wake"))
        }
        Some((wake_us, name)) => Finding::note(
            format!("idle states: down to {name}, {wake_us} us to wake"),
            if wish.is_some() {
                "so long an event waits for a core that has been idle"
            } else {
                "so long an event waits for a core that has been idle, unless some program holds /dev/cpu_dma_latency, which only root can see"
            },
            format!(
                "tuned with force_latency={WAKE_US_MAX}, or cpupower idle-set -D {WAKE_US_MAX}"
            ),
        ),
    }
}

fn swap(machine: &Machine) -> Finding {
    let swaps = machine.text("/proc/swaps").unwrap_or_default();
    let swappiness: Option<u32> = machine.number("/proc/sys/vm/swappiness");
    match (swaps.lines().count(), swappiness) {
        (0 | 1, _) => Finding::ok("swap: none"),
        (_, Some(swappiness)) if swappiness <= SWAPPINESS_MAX => {
            Finding::ok(format!("swap: there is some, vm.swappiness = {swappiness}"))
        }
        (_, swappiness) => Finding::note(
            format!(
                "swap: there is some, vm.swappiness = {}",
                swappiness.map_or("unknown".into(), |number| number.to_string())
            ),
            "a thread waits for the disk when it touches what was moved there",
            "sysctl -w vm.swappiness=1, MemorySwapMax=0 in systemd, or no swap",
        ),
    }
}

fn slow_start(machine: &Machine) -> Finding {
    match machine.number("/proc/sys/net/ipv4/tcp_slow_start_after_idle") {
        Some(0) => Finding::ok("bursts after a pause: go out at once"),
        Some(_) => Finding::note(
            "bursts after a pause: net.ipv4.tcp_slow_start_after_idle = 1",
            "a connection that was silent for a moment begins with few packets again, so a large update takes more round trips",
            "sysctl -w net.ipv4.tcp_slow_start_after_idle=0",
        ),
        None => unknown("bursts after a pause"),
    }
}

fn watchdog(machine: &Machine) -> Finding {
    match machine.number("/proc/sys/kernel/nmi_watchdog") {
        Some(0) | None => Finding::ok("hard lockup detector: off"),
        Some(_) => Finding::note(
            "hard lockup detector: on",
            "it interrupts every core regularly, isolated ones too",
            "sysctl -w kernel.nmi_watchdog=0",
        ),
    }
}

fn ticks(machine: &Machine, pinned: &[usize]) -> Finding {
    let text = machine.text("/sys/devices/system/cpu/nohz_full");
    let free = text.and_then(|text| parse_core_list(&text).ok());
    let free = free.unwrap_or_default();
    let ticking: Vec<usize> = list(pinned, |core| !free.contains(&core));
    if ticking.is_empty() {
        return Finding::ok("timer tick: stopped on the cores of ingest and shards");
    }
    let cores = join(&ticking);
    Finding::note(
        format!("timer tick: on cores {cores}"),
        "the kernel interrupts a busy thread there hundreds of times a second",
        format!("boot with nohz_full={cores} rcu_nocbs={cores} (profiles/system/grub)"),
    )
}

/// Interrupts that may come to the cores of busy threads. Where they really go is told where the kernel tells it.
fn interrupts(machine: &Machine, pinned: &[usize]) -> Finding {
    let mut there = Vec::new();
    for number in machine.names("/proc/irq") {
        let directory = format!("/proc/irq/{number}");
        // The name of its device is the name of a directory; interrupts that nobody has asked for have none.
        let device = machine
            .names(&directory)
            .into_iter()
            .find(|name| machine.has_directory(&format!("{directory}/{name}")));
        let lists = ["effective_affinity_list", "smp_affinity_list"];
        let cores = lists
            .into_iter()
            .filter_map(|list| machine.text(&format!("{directory}/{list}")))
            .find(|list| !list.is_empty())
            .and_then(|list| parse_core_list(&list).ok())
            .unwrap_or_default();
        if let Some(device) = device
            && cores.iter().any(|core| pinned.contains(core))
        {
            there.push(format!("{number} {device}"));
        }
    }
    let cores = join(pinned);
    if there.is_empty() {
        return Finding::ok(format!("interrupts: none of a device on cores {cores}"));
    }
    let more = match there.len().saturating_sub(EXAMPLES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    there.truncate(EXAMPLES_MAX);
    Finding::note(
        format!(
            "interrupts: {}{more} come to cores {cores}",
            there.join(", ")
        ),
        "each stops a busy thread for some microseconds",
        format!("profiles/system/irq/brightwire-irq {cores}, which irqbalance must not undo"),
    )
}

fn nodes(machine: &Machine, topology: &Topology, pinned: &[usize]) -> Vec<Finding> {
    let node = |id: &usize| topology.core(*id).map(|core| core.node);
    let used: BTreeSet<usize> = pinned.iter().filter_map(node).collect();
    let all: BTreeSet<usize> = topology.cores.iter().map(|core| core.node).collect();
    if all.len() < 2 {
        return vec![Finding::ok("NUMA: one node")];
    }
    let mut findings = vec![if used.len() < 2 {
        Finding::ok(format!(
            "NUMA: all busy threads on one of {} nodes",
            all.len()
        ))
    } else {
        let used: Vec<usize> = used.into_iter().collect();
        Finding::note(
            format!("NUMA: ingest and shards are on nodes {}", join(&used)),
            "what passes between them crosses from one node's memory to another's",
            "name cores of one node, that of the network card (numa_node in /sys/class/net/*/device)",
        )
    }];
    if machine.number("/proc/sys/kernel/numa_balancing") == Some(1) {
        findings.push(Finding::note(
            "NUMA balancing: on",
            "it takes pages from threads for a moment, to see who uses them, though pinned threads never move",
            "sysctl -w kernel.numa_balancing=0",
        ));
    }
    findings
}

fn list(cores: &[usize], which: impl Fn(usize) -> bool) -> Vec<usize> {
    cores.iter().copied().filter(|core| which(*core)).collect()
}

fn join(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}
