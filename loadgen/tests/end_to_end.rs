//! The generator against the server's demo, over real sockets, on both back ends.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use brightwire::reactor::probe;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use support::{LOADGEN, Server, number, report};

/// The back ends that work here.
fn back_ends() -> Vec<&'static str> {
    match probe::probe().obstacle {
        None => vec!["uring", "epoll"],
        Some(obstacle) => {
            println!("without io_uring: {obstacle}");
            vec!["epoll"]
        }
    }
}

#[test]
fn two_hundred_sessions_receive_and_agree() {
    for io in back_ends() {
        let Some(server) = Server::demo(io) else {
            return;
        };
        let pid = server.pid().to_string();
        let (output, report) = server.load(&[
            "--sessions",
            "200",
            "--items-per-session",
            "3",
            "--seconds",
            "2",
            "--warmup",
            "0.2",
            "--threads",
            "2",
            "--verify",
            "--io",
            io,
            "--server-pid",
            &pid,
            // It may not sleep, and may acknowledge in other ways, and finds the same.
            if io == "epoll" {
                "--spin=true"
            } else {
                "--spin=false"
            },
            if io == "epoll" {
                "--acks=each"
            } else {
                "--acks=every-second"
            },
        ]);
        assert!(output.status.success(), "{io}: {output:?}");
        assert_eq!(number(&report, "/sessions/live"), 200.0);
        assert_eq!(report["sessions"]["ended"], serde_json::json!({}));
        assert_eq!(report["generator"]["io"], io);
        assert!(number(&report, "/updates_per_s") > 0.0, "{report}");
        assert!(number(&report, "/latency/count") > 0.0, "{report}");
        assert_eq!(number(&report, "/generator/from_future"), 0.0);
        assert_eq!(number(&report, "/verify/rows_compared"), 600.0);
        // Twenty clients of each item, in two threads: put in order all together, so that the last is not before the first.
        assert!(number(&report, "/ranked_events") > 0.0, "{report}");
        let [first, last] =
            ["0", "9"].map(|tenth| number(&report, &format!("/by_rank/{tenth}/max_ns")));
        assert!(first <= last, "{report}");
        assert_eq!(number(&report, "/lost"), 0.0);
        assert_eq!(number(&report, "/reordered"), 0.0);
        assert!(number(&report, "/server/rss_bytes") > 0.0);
        assert!(number(&report, "/memory/server_bytes_per_session") > 0.0);
        let sum: u64 = report["seconds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|second| second["updates"].as_u64().unwrap())
            .sum();
        assert_eq!(sum as f64, number(&report, "/updates"));
    }
}

/// Sessions of three transports in two processes hold the same rows; half of the connections break, and come back.
#[test]
fn all_transports_agree_also_after_a_storm() {
    let Some(server) = Server::demo("auto") else {
        return;
    };
    let scenario = server.files.path().join("scenario.toml");
    let group = |transport: &str, more: &str| {
        format!(
            "[[group]]\nname = \"{transport}\"\ntransport = \"{transport}\"\nsessions = 20\n{more}\n"
        )
    };
    let text = format!(
        "[run]\nprocesses = 2\nverify = true\nseconds = 4\nwarmup = 0\n{}{}{}[[storm]]\nat = 0.5\nshare = 0.5\n",
        group("websocket", "churn = 5\nfrequency = 20"),
        group("http-streaming", "bandwidth = 100"),
        group("long-polling", "items_per_session = 2")
    );
    std::fs::write(&scenario, text).unwrap();
    let [html, hlog] = ["report.html", "run.hlog"].map(|name| server.files.path().join(name));
    let (output, report) = server.load(&[
        scenario.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
        "--hlog",
        hlog.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(number(&report, "/sessions/live"), 60.0);
    assert!(number(&report, "/verify/rows_compared") >= 60.0, "{report}");
    let returned = number(&report, "/sessions/returned/count");
    assert!(returned > 0.0, "{report}");
    assert_eq!(number(&report, "/sessions/recovered"), returned);
    assert!(number(&report, "/sessions/churned") > 0.0, "{report}");
    assert_eq!(number(&report, "/reordered"), 0.0);
    for transport in ["websocket", "http-streaming", "long-polling"] {
        let count = number(&report, &format!("/by_transport/{transport}/count"));
        assert!(count > 0.0, "{transport}: {report}");
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("<svg") && !page.contains("http://www"));
    let log = std::fs::read_to_string(hlog).unwrap();
    assert!(log.contains("Tag=long-polling,"), "{log}");
}

#[test]
fn stalled_sessions_find_the_newest_state_when_they_read_on() {
    let Some(server) = Server::demo("auto") else {
        return;
    };
    let (output, report) = server.load(&[
        "--sessions",
        "20",
        "--stalled",
        "5",
        "--items-per-session",
        "30",
        "--seconds",
        "1",
        "--warmup",
        "0",
        "--verify",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report["sessions"]["stalled"], 5);
    assert_eq!(report["verify"]["rows_compared"], 600);
}

#[test]
fn refusals_are_failures_with_a_reason() {
    let Some(server) = Server::demo("epoll") else {
        return;
    };
    for transport in ["websocket", "http-streaming", "long-polling"] {
        let (output, report) = server.load(&[
            "--sessions",
            "3",
            "--seconds",
            "0",
            "--warmup",
            "0",
            "--data-adapter",
            "NOBODY",
            "--transport",
            transport,
        ]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let failed = report["sessions"]["failed"].as_object().unwrap();
        assert_eq!(failed.len(), 1, "{report}");
        let (reason, times) = failed.iter().next().unwrap();
        assert!(
            reason.contains(": ") && reason.contains("refused"),
            "{reason}"
        );
        assert_eq!(times, 3);
    }
}

#[test]
fn nobody_at_the_other_end_is_a_failure_too() {
    // Bound and not listening: connecting is refused, and nobody else gets the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    for io in back_ends() {
        let output = Command::new(LOADGEN)
            .args(["run", "--server", &address.to_string(), "--sessions", "2"])
            .args(["--seconds", "0", "--warmup", "0", "--io", io])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{io}: {output:?}");
        assert!(
            text.contains("failed 2: connect: Connection refused"),
            "{io}: {text}"
        );
        assert!(text.contains("no session was there"), "{io}: {text}");
    }
}

/// A run of several processes that is interrupted as by Ctrl-C tells what it has measured.
#[test]
fn an_interrupted_run_tells_what_it_has_measured() {
    let Some(server) = Server::demo("auto") else {
        return;
    };
    let json = server.files.path().join("report.json");
    let mut child = Command::new(LOADGEN)
        .args(["run", "--server", &server.address, "--sessions", "10"])
        .args(["--processes", "2", "--seconds", "600", "--warmup", "0"])
        .arg("--json")
        .arg(&json)
        // A group of its own, all of which gets the signal.
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.any(|line| line.is_ok_and(|line| line.contains("measuring")));
    assert!(found, "the run has ended before it measured");
    let group = Pid::from_raw(child.id() as i32);
    killpg(group, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = report(&json, &output);
    assert_eq!(report["interrupted"], true);
    assert_eq!(number(&report, "/sessions/live"), 10.0);
}

/// What can be known to be wrong before anything is measured is told before.
#[test]
fn what_cannot_work_is_told_at_once() {
    let Some(server) = Server::demo("epoll") else {
        return;
    };
    for (arguments, says) in [
        (["--sources", "192.0.2.1"], "source 192.0.2.1"),
        (["--sources", "::1"], "another kind of address"),
        (["--json", "/nowhere/x.json"], "/nowhere/x.json"),
        (["--html", "/nowhere/x.html"], "/nowhere/x.html"),
        (["--server-pid", "4000000000"], "/proc/4000000000"),
        (["--verify", "--server=http://127.0.0.1:1"], "HOST:PORT"),
    ] {
        let scenario = server.files.path().join("server.toml");
        std::fs::write(
            &scenario,
            format!("[run]\nserver = \"{}\"\nseconds = 600\n", server.address),
        )
        .unwrap();
        let output = Command::new(LOADGEN)
            .arg("run")
            .arg(scenario)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let output = Command::new(LOADGEN)
        .args(["run", "--server", "127.0.0.1:1", "--items", "a"])
        .args(["--items-per-session", "2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--items-per-session"));
}
