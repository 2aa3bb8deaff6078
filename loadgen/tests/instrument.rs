//! The instrument itself: what is known to have happened must be in what it recorded.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{EVERY_EVENT, FED, LOADGEN, Process, Server, number, report};

const STALL: Duration = Duration::from_secs(1);
/// What must be seen of it at least: less what a busy machine may take before the server stands still.
const STALL_SEEN_NS: f64 = 0.8e9;

/// Waits until a run measures.
fn wait_for_the_window(run: &mut Child) {
    let errors = run.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(errors).lines();
    let found = lines.any(|line| line.is_ok_and(|line| line.contains("measuring")));
    assert!(found, "the run has ended before it measured");
    // What else it says must not block it.
    thread::spawn(move || lines.for_each(drop));
}

/// Groups of each transport, in addition to the flags above.
const ALL_TRANSPORTS: &str = r#"
    [[group]]
    name = "browsers"
    [[group]]
    name = "behind proxies"
    transport = "http-streaming"
    [[group]]
    name = "old"
    transport = "long-polling"
"#;

/// The server stands still for a second. The feed goes on as planned, so what it published meanwhile is late, and that is
/// what must show, whatever the transport: a generator that waits for the server would have seen one late event.
#[test]
fn a_stall_of_the_server_is_recorded() {
    let Some(server) = Server::fed("lines") else {
        return;
    };
    let _feed = server.feed(&[
        "--lines",
        "--items",
        "1..5",
        "--rate",
        "200",
        "--seconds",
        "60",
    ]);
    let [json, hlog] = ["stall.json", "stall.hlog"].map(|name| server.files.path().join(name));
    let scenario = server.files.path().join("scenario.toml");
    std::fs::write(&scenario, ALL_TRANSPORTS).unwrap();
    let mut run = Command::new(LOADGEN)
        .arg("run")
        .arg(&scenario)
        .args(["--server", &server.address, "--seconds", "6"])
        .args(FED)
        .args(EVERY_EVENT)
        .arg("--json")
        .arg(&json)
        .arg("--hlog")
        .arg(&hlog)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_the_window(&mut run);
    let pid = Pid::from_raw(server.pid() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    thread::sleep(STALL);
    kill(pid, Signal::SIGCONT).unwrap();
    let output: Output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let report = report(&json, &output);
    // A sixth of the window's events at least waited for a part of the second, evenly spread.
    for percentile in ["p999_ns", "max_ns"] {
        let ns = number(&report, &format!("/latency/{percentile}"));
        assert!(ns > STALL_SEEN_NS, "{percentile}: {report}");
        for of in [
            "by_transport/websocket",
            "by_transport/http-streaming",
            "by_transport/long-polling",
            "by_group/0/latency",
            "by_group/1/latency",
            "by_group/2/latency",
        ] {
            let ns = number(&report, &format!("/{of}/{percentile}"));
            assert!(ns > STALL_SEEN_NS, "{of}, {percentile}: {report}");
        }
    }
    assert!(
        number(&report, "/silence_max_ns") > STALL_SEEN_NS / 2.0,
        "{report}"
    );
    let notes = report["generator"]["notes"].to_string();
    assert!(notes.contains("stood still"), "{notes}");
    // Nothing was left out: late events are events.
    assert_eq!(number(&report, "/lost"), 0.0);
    assert_eq!(number(&report, "/conflated"), 0.0);
    assert_eq!(number(&report, "/reordered"), 0.0);

    let intervals = intervals(&hlog);
    for tag in [
        None,
        Some("websocket"),
        Some("http-streaming"),
        Some("long-polling"),
        Some("group-browsers"),
        Some("group-behind-proxies"),
        Some("group-old"),
    ] {
        let mut tagged = intervals.iter().filter(|(of, _)| of.as_deref() == tag);
        assert!(
            tagged.any(|(_, times)| times.max() as f64 > STALL_SEEN_NS),
            "no interval of the log shows the stall: {tag:?}"
        );
    }
}

/// The log's intervals, with their tags; those of all latencies together have none.
fn intervals(path: &std::path::Path) -> Vec<(Option<String>, Histogram<u64>)> {
    let text = std::fs::read(path).unwrap();
    let mut found = Vec::new();
    for entry in IntervalLogIterator::new(&text) {
        let LogEntry::Interval(interval) = entry.expect("the log can be read") else {
            continue;
        };
        let tag = interval.tag().map(|tag| tag.as_str().to_owned());
        let bytes = BASE64.decode(interval.encoded_histogram()).unwrap();
        let times = Deserializer::new().deserialize(&mut bytes.as_slice());
        found.push((tag, times.unwrap()));
    }
    assert!(!found.is_empty());
    found
}

/// In the adapter protocol every event arrives, once and in order, with its time and its number.
#[test]
fn events_of_a_remote_adapter_arrive() {
    for kind in ["remote", "remote-of-two"] {
        let Some(server) = Server::fed(kind) else {
            return;
        };
        let _feed = server.feed(&[
            "--ari",
            "--items",
            "1..5",
            "--rate",
            "500",
            "--burst",
            "10",
            "--choice",
            "zipf",
            "--seconds",
            "60",
        ]);
        server.every_event_arrives();
    }
}

/// Two updates a second of a busy item: what is left out is counted, and nothing is called lost.
#[test]
fn conflation_is_told_from_loss() {
    let Some(server) = Server::fed("remote") else {
        return;
    };
    let _feed = server.feed(&["--ari", "--items", "a", "--rate", "300", "--seconds", "60"]);
    let (output, report) = server.load(&[
        "--sessions",
        "3",
        "--items",
        "a",
        "--fields",
        "f1,timestamp,sequence",
        "--sequence-field",
        "sequence",
        "--frequency",
        "2",
        "--seconds",
        "3",
        "--warmup",
        "1",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert!(number(&report, "/conflated") > 100.0, "{report}");
    assert_eq!(number(&report, "/lost"), 0.0);
}

/// A table with rows: a snapshot that ends with a word, and no updates before it.
#[test]
fn a_table_is_subscribed_to() {
    let Some(server) = Server::fed("remote") else {
        return;
    };
    let _feed = server.feed(&[
        "--ari",
        "--items",
        "a",
        "--rate",
        "200",
        "--keys",
        "10",
        "--seconds",
        "60",
    ]);
    let (output, report) = server.load(&[
        "--sessions",
        "3",
        "--items",
        "a",
        "--fields",
        "key,command,f1,timestamp",
        "--mode",
        "COMMAND",
        "--seconds",
        "1",
        "--warmup",
        "1",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert!(number(&report, "/latency/count") > 0.0, "{report}");
}

/// The generator's own limit is measured against a server that only sends; two reports are held against each other.
#[test]
fn a_null_server_measures_the_generator() {
    let mut child = Command::new(LOADGEN)
        .args(["null", "--rate", "50", "--updates", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    let _null = Process(child);
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line
        .trim()
        .rsplit_once("http://")
        .unwrap()
        .1
        .trim_end_matches('/');
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("null.json");
    let output = Command::new(LOADGEN)
        .args([
            "run",
            "--server",
            address,
            "--sessions",
            "10",
            "--seconds",
            "1",
        ])
        .args(["--warmup", "0", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = report(&json, &output);
    assert_eq!(number(&report, "/updates_per_message"), 3.0);
    assert!(number(&report, "/generator/cpu_ns_per_update") > 0.0);

    let output = Command::new(LOADGEN)
        .arg("compare")
        .args([&json, &json])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("latency p99, ns") && !text.contains("worse"),
        "{text}"
    );
}
