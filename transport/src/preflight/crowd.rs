//! What very many clients run into: limits of the kernel's tables, and memory.

use super::report::unknown;
use super::{Finding, Machine};
use crate::config::Plan;

/// What an idle session costs the server and the kernel at this end. Measured with `scripts/many-sessions`: 3 to 4 KB
/// and 5 to 6 KB.
const SESSION_BYTES: u64 = 10_000;

/// What a plan with its limits of connections assumes of the machine.
pub fn findings(machine: &Machine, plan: &Plan) -> Vec<Finding> {
    let shards = plan.shards as u64;
    let connections = shards.saturating_mul(plan.sessions.connections_max as u64);
    let mut findings = vec![
        files(machine, connections),
        memory(machine, plan, connections, shards),
    ];
    findings.extend(tracked(machine, connections));
    findings
}

/// The two limits above that of the process.
fn files(machine: &Machine, connections: u64) -> Finding {
    for (name, meaning) in [
        (
            "nr_open",
            "to which a process may have its own limit raised",
        ),
        ("file-max", "open files of all processes together"),
    ] {
        let Some(most) = machine.number::<u64>(&format!("/proc/sys/fs/{name}")) else {
            return unknown("open files of the system");
        };
        if most < connections {
            return Finding::note(
                format!("open files of the system: fs.{name} = {most}"),
                format!(
                    "it is the number {meaning}, and connections_max allows {connections} connections"
                ),
                format!("sysctl -w fs.{name}={}", connections.next_power_of_two()),
            );
        }
    }
    Finding::ok("open files of the system: enough")
}

/// A firewall that remembers connections forgets to let new ones in when its table is full.
fn tracked(machine: &Machine, connections: u64) -> Option<Finding> {
    let most: u64 = machine.number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let what = format!("connections that the firewall tracks: {most} at most");
    Some(if most > connections {
        Finding::ok(what)
    } else {
        Finding::note(
            what,
            format!(
                "connections_max allows {connections}; when the table is full, packets of new ones are dropped"
            ),
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}, or no tracking of the server's ports (notrack)",
                (connections + 1).next_power_of_two()
            ),
        )
    })
}

fn memory(machine: &Machine, plan: &Plan, connections: u64, shards: u64) -> Finding {
    let Some(bytes) = total_memory(machine) else {
        return unknown("memory");
    };
    let rings = shards * plan.rings.data_ring_bytes as u64;
    let recovery = shards * plan.sessions.recovery_memory_shard as u64;
    let needed = connections.saturating_mul(SESSION_BYTES) + rings + recovery;
    let mib = |bytes: u64| bytes >> 20;
    let what = format!("memory: {} MiB", mib(bytes));
    if bytes >= needed {
        return Finding::ok(what);
    }
    Finding::note(
        what,
        format!(
            "{connections} connections, their recovery memory and the rings may take {} MiB",
            mib(needed)
        ),
        "more memory, or lower sessions.connections_max and sessions.recovery_memory_shard",
    )
}

/// Of the machine, or of the control group if it has less.
fn total_memory(machine: &Machine) -> Option<u64> {
    let text = machine.text("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    let groups = machine.text("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let group = group.unwrap_or_default().trim_end_matches('/');
    let limits = [
        format!("/sys/fs/cgroup{group}/memory.max"),
        "/sys/fs/cgroup/memory.max".into(),
    ];
    let limit = limits.iter().find_map(|path| machine.number(path));
    Some(limit.unwrap_or(u64::MAX).min(kib * 1_024))
}
