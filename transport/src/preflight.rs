//! `brightwire doctor`: what of this machine stands in the server's way, why that matters, and how to fix it.
//!
//! A machine is read through [`Machine`], which may be a directory with copies of another one's files. So every judgement
//! is tested on machines that nobody has at hand. What only some plans need is looked at only for them: what disturbs
//! threads that spin (`latency`), and what very many clients run into (`crowd`).

mod cores;
mod crowd;
mod latency;
mod limits;
mod machine;
mod report;

use crate::config::Plan;
use crate::config::plan::IoChoice;
use crate::reactor::probe::Probe;

pub use machine::Machine;
pub use report::{Finding, Level, Report};

use cores::{SPIN_ISOLATED, cgroup_quota, cores, cpu_quota};
use limits::{accept_queue, memlock, open_files, port_range};
use report::unknown;

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

/// `IORING_SETUP_DEFER_TASKRUN`, the youngest feature that the shards want, came with this version.
const KERNEL_FULL: (u32, u32) = (6, 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::probe::Features;

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
    fn clocks_that_need_system_calls_are_noted() {
        assert_eq!(clock_source("tsc\n").level, Level::Ok);
        assert_eq!(clock_source("hpet\n").level, Level::Note);
        assert_eq!(clock_source("").level, Level::Note);
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
