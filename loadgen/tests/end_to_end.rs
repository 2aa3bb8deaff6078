//! The generator against the server's demo, over real sockets, on both back ends.
//!
//! Needs the server's binary, which belongs to another package: `BRIGHTWIRE_BIN`, or `brightwire` beside `loadgen`
//! (`cargo build -p brightwire` puts it there). Without it the tests say so and pass.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use brightwire::reactor::probe;
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// A server with the demo feed; ends with the value.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(io: &str) -> Option<Self> {
        let binary = server_binary()?;
        let mut process = Command::new(binary)
            .args(["demo", "--port", "0", "--shards", "1"])
            .args(["--rate", "2000", "--io", io])
            .env("BRIGHTWIRE_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server can be started");
        // It says where it listens once it does.
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server says where it listens");
        let address = line
            .trim()
            .rsplit_once("http://")
            .unwrap_or_else(|| panic!("no address: {line:?}"))
            .1
            .trim_end_matches('/')
            .to_owned();
        Some(Self { process, address })
    }

    fn load(&self, arguments: &[&str]) -> (Output, Value) {
        let directory = tempfile::tempdir().unwrap();
        let json = directory.path().join("report.json");
        let output = Command::new(LOADGEN)
            .args(["run", "--server", &self.address, "--json"])
            .arg(&json)
            .args(arguments)
            .output()
            .expect("the generator can be started");
        let report = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("{output:?}"));
        (output, serde_json::from_str(&report).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn server_binary() -> Option<PathBuf> {
    let beside = Path::new(LOADGEN).with_file_name("brightwire");
    let binary = std::env::var_os("BRIGHTWIRE_BIN").map_or(beside, PathBuf::from);
    if binary.exists() {
        return Some(binary);
    }
    println!("skipped: there is no {}", binary.display());
    None
}

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
        let Some(server) = Server::start(io) else {
            return;
        };
        let pid = server.process.id().to_string();
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
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
        assert_eq!(number("/sessions/live"), Some(200.0));
        assert_eq!(report["sessions"]["ended"], serde_json::json!({}));
        assert_eq!(report["generator"]["io"], io);
        assert!(number("/updates_per_s").unwrap() > 0.0, "{report}");
        assert!(number("/latency/timed").unwrap() > 0.0, "{report}");
        assert_eq!(number("/latency/from_future"), Some(0.0));
        assert_eq!(number("/verify/rows_compared"), Some(600.0));
        assert_eq!(number("/lost"), Some(0.0));
        assert!(number("/server/rss_bytes").unwrap() > 0.0);
    }
}

#[test]
fn stalled_sessions_find_the_newest_state_when_they_read_on() {
    let Some(server) = Server::start("auto") else {
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
    let Some(server) = Server::start("epoll") else {
        return;
    };
    let (output, report) = server.load(&[
        "--sessions",
        "3",
        "--seconds",
        "0",
        "--warmup",
        "0",
        "--data-adapter",
        "NOBODY",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let failed = report["sessions"]["failed"].as_object().unwrap();
    assert_eq!(failed.len(), 1, "{report}");
    let (reason, times) = failed.iter().next().unwrap();
    assert!(reason.contains(" 17 "), "{reason}");
    assert_eq!(times, 3);
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
