//! Cores: which there are, who may use them, and whether the plan has chosen well among them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Finding;
use super::report::unknown;
use crate::config::Plan;
use crate::runtime::topology::Topology;

pub(super) fn cores(topology: &Topology, plan: Option<&Plan>) -> Vec<Finding> {
    let allowed = topology.cores.iter().filter(|core| core.allowed).count();
    let doubled = topology
        .cores
        .iter()
        .filter(|core| core.siblings.len() > 1)
        .count();
    let nodes: BTreeSet<usize> = topology.cores.iter().map(|core| core.node).collect();
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
pub(super) fn takes_all(topology: &Topology, busy: &[usize]) -> bool {
    topology.cores.iter().all(|core| busy.contains(&core.id))
}

/// The text of the quota file of the process' control group: version 2's `cpu.max`, or version 1's two numbers put
/// in the same order. Inside a container the group's own directory is mounted at the root, hence the second try.
pub(super) fn cgroup_quota(cgroup: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
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

pub(super) fn cpu_quota(text: Option<&str>) -> Finding {
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

/// Whoever spins as long as this wants latency at the price of cores. A guess.
pub(super) const SPIN_ISOLATED: Duration = Duration::from_millis(1);

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::preflight::Level;
    use crate::runtime::topology::Core;

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

    pub fn plan(text: &str) -> Plan {
        Plan::from_text(text, &machine(), Path::new(""), "test").unwrap()
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
}
