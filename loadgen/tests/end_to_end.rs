//! The generator against the server's demo, over real sockets, on both back ends.

mod support;

use std::process::Command;

use brightwire::reactor::probe;
use support::{LOADGEN, Server, number};

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
        ]);
        assert!(output.status.success(), "{io}: {output:?}");
        assert_eq!(number(&report, "/sessions/live"), 200.0);
        assert_eq!(report["sessions"]["ended"], serde_json::json!({}));
        assert_eq!(report["generator"]["io"], io);
        assert!(number(&report, "/updates_per_s") > 0.0, "{report}");
        assert!(number(&report, "/latency/count") > 0.0, "{report}");
        assert_eq!(number(&report, "/generator/from_future"), 0.0);
        assert_eq!(number(&report, "/verify/rows_compared"), 600.0);
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
        assert!(text.contains("failed 2"), "{io}: {text}");
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
