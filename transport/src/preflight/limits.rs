//! Limits: of the process, and of the network's part of the kernel.

use super::Finding;
use super::report::{Level, unknown};
use crate::config::Plan;
use crate::config::plan::IoChoice;

pub(super) fn memlock(limits: &str, io: IoChoice) -> Finding {
    match limit(limits, "Max locked memory", Limit::Soft) {
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

pub(super) fn open_files(limits: &str, plan: Option<&Plan>) -> Finding {
    // The server raises its soft limit to the hard one by itself.
    let Some(files) = limit(limits, "Max open files", Limit::Hard) else {
        return unknown("open files");
    };
    let what = format!("open files: at most {}", limit_text(files));
    let fix = "raise the hard limit RLIMIT_NOFILE: ulimit -Hn, LimitNOFILE= in systemd, --ulimit nofile= in Docker";
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

pub(super) fn port_range(range: &str, plan: Option<&Plan>) -> Finding {
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

pub(super) fn accept_queue(somaxconn: &str, plan: Option<&Plan>) -> Finding {
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

/// The two limits of a line of `/proc/self/limits`, in their order.
#[derive(Clone, Copy)]
enum Limit {
    Soft,
    Hard,
}

/// A limit; `u64::MAX` for none.
fn limit(limits: &str, name: &str, which: Limit) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().nth(which as usize)? {
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

/// glommio's minimum, for the hosts of ingest and control.
const MEMLOCK_BYTES: u64 = 512 * 1024;
/// Rings, eventfds, logs, adapters: what the server opens for itself. A guess, on the safe side.
const FILES_OWN: u64 = 100;
/// Below it something was set on purpose, and too low.
const FILES_MIN: u64 = 256;
/// Enough for trying things out. A guess.
const FILES_COMFORTABLE: u64 = 10_000;
/// The kernel's default range has 28,231 further ports.
const PORTS_COMFORTABLE: u16 = 25_000;
/// The kernel's default since 5.4.
const BACKLOG_COMFORTABLE: u32 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::cores::tests::plan;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 1048576              files
Max locked memory         65536                65536                bytes
Max file locks            unlimited            unlimited            locks
";

    #[test]
    fn limits_are_read_and_compared_with_the_plan() {
        assert_eq!(memlock(LIMITS, IoChoice::Auto).level, Level::Note);
        assert_eq!(memlock(LIMITS, IoChoice::Uring).level, Level::Problem);
        assert_eq!(
            memlock(&LIMITS.replace("65536", "unlimited"), IoChoice::Uring).level,
            Level::Ok
        );
        assert_eq!(memlock("", IoChoice::Uring).level, Level::Note);

        // What counts is the hard limit: the server takes what it may have.
        assert_eq!(open_files(LIMITS, None).level, Level::Ok);
        let tight = LIMITS.replace("1048576", "1024   ");
        assert_eq!(open_files(&tight, None).level, Level::Note);
        assert_eq!(
            open_files(&LIMITS.replace("1048576", "100    "), None).level,
            Level::Problem
        );
        let small = plan("runtime.shards = 2\nsessions.connections_max = 400");
        assert_eq!(open_files(&tight, Some(&small)).level, Level::Ok);
        let large = plan("runtime.shards = 2\nsessions.connections_max = 500");
        assert_eq!(open_files(&tight, Some(&large)).level, Level::Note);
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
}
