//! A real server and the generator beside it, as processes.
//!
//! Needs the server's binary, which belongs to another package: `BRIGHTWIRE_BIN`, or `brightwire` beside `loadgen`
//! (`cargo build -p brightwire` puts it there). Without it the tests say so and pass.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod certificates;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The data adapter of a server that is fed from outside.
pub const FED: [&str; 4] = ["--adapter-set", "SET", "--data-adapter", "FEED"];

/// Its events, of which none may be left out, for twenty sessions.
pub const EVERY_EVENT: [&str; 12] = [
    "--sessions",
    "20",
    "--items",
    "1..5",
    "--fields",
    "f1,timestamp,sequence",
    "--sequence-field",
    "sequence",
    "--mode",
    "RAW",
    "--warmup",
    "0",
];

pub const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// A process that ends with the value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server; ends with the value.
pub struct Server {
    pub process: Process,
    /// Where clients connect.
    pub address: String,
    /// Where its adapter is fed.
    pub feed: Option<String>,
    /// Where its adapter takes notifications, if elsewhere.
    pub notify: Option<String>,
    pub files: TempDir,
}

impl Server {
    /// With the demo feed.
    pub fn demo(io: &str) -> Option<Self> {
        let mut command = Command::new(server_binary()?);
        command
            .args(["demo", "--port", "0", "--shards", "1"])
            .args(["--rate", "2000", "--io", io]);
        Some(Self::start(command, tempfile::tempdir().unwrap()))
    }

    /// With a data adapter that is fed from outside, of the kind `lines` or `remote`; `-over-tls` with certificates in its
    /// files, of which it asks one of whoever connects. Nobody is let down by losses that
    /// only this small configuration would have: a second's worth of events waits for each client.
    pub fn fed(kind: &str) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let socket = format!("unix:{}", files.path().join("feed").display());
        let address = match kind {
            "remote" | "remote-over-tls" => {
                "[adapter_sets.data.remote]\naddress = \"127.0.0.1:0\"\n".to_owned()
            }
            "remote-of-two" | "remote-of-two-over-tls" => {
                "[adapter_sets.data.remote]\naddress = \"127.0.0.1:0\"\n\
                notify_address = \"127.0.0.1:0\"\n"
                    .to_owned()
            }
            _ => format!("address = \"{socket}\"\n"),
        };
        let address = match kind.ends_with("-over-tls") {
            false => address,
            true => {
                certificates::make(files.path());
                address
                    + "[adapter_sets.data.remote.tls]\ncertificate = \"localhost.pem\"\n\
                    key = \"localhost.key\"\nauthorities = \"authority.pem\"\n"
            }
        };
        let kind = kind.split('-').next().unwrap_or(kind);
        let config = format!(
            "[runtime]\nthreading = \"shared\"\n\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\n\
             [[adapter_sets]]\nname = \"SET\"\n\n[[adapter_sets.data]]\nname = \"FEED\"\nkind = \"{kind}\"\n{address}"
        );
        let path = files.path().join("server.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(server_binary()?);
        command.args(["run", "--config"]).arg(path);
        let mut server = Self::start(command, files);
        server.feed = server.feed.or(Some(socket));
        Some(server)
    }

    fn start(mut command: Command, files: TempDir) -> Self {
        let ports = files.path().join("ports.toml");
        let mut child = command
            .arg("--ports-file")
            .arg(&ports)
            .env("BRIGHTWIRE_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server can be started");
        // It says where it listens once it does, and the file is there by then.
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server says where it listens");
        let text = std::fs::read_to_string(&ports).unwrap_or_else(|error| {
            panic!("{error}: {line:?}");
        });
        let addresses: toml::Table = text.parse().unwrap();
        let address = |name: &str| {
            let listeners = addresses["listeners"].as_table().unwrap();
            listeners.get(name).and_then(toml::Value::as_str)
        };
        let web = address("web").or(address("demo"));
        Self {
            address: web.unwrap_or_else(|| panic!("{text}")).to_owned(),
            feed: address("SET.FEED").map(str::to_owned),
            notify: address("SET.FEED.notify").map(str::to_owned),
            process: Process(child),
            files,
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// A run against this server, with its report.
    pub fn load(&self, arguments: &[&str]) -> (Output, Value) {
        self.load_at(&self.address, arguments)
    }

    /// A run against this server, which is fed, in which nothing is left out.
    pub fn every_event_arrives(&self) {
        let mut arguments = EVERY_EVENT.to_vec();
        arguments.extend(["--seconds", "2"]);
        let (output, report) = self.load(&arguments);
        assert!(output.status.success(), "{output:?}");
        assert!(number(&report, "/latency/count") > 0.0, "{report}");
        assert_eq!(number(&report, "/conflated"), 0.0);
        assert_eq!(number(&report, "/reordered"), 0.0);
    }

    /// A run by another way to this server.
    pub fn load_at(&self, address: &str, arguments: &[&str]) -> (Output, Value) {
        let json = self.files.path().join("report.json");
        let _ = std::fs::remove_file(&json);
        let output = Command::new(LOADGEN)
            .args(["run", "--server", address, "--json"])
            .arg(&json)
            .args(self.feed.iter().flat_map(|_| FED))
            .args(arguments)
            .output()
            .expect("the generator can be started");
        (output.clone(), report(&json, &output))
    }

    /// A feed to this server that goes on until it is dropped.
    pub fn feed(&self, arguments: &[&str]) -> Process {
        let feed = self.feed.as_deref().expect("it has a feed");
        let notify = self.notify.iter();
        let child = Command::new(LOADGEN)
            .args(["feed", arguments[0], feed])
            .args(&arguments[1..])
            .args(notify.flat_map(|address| ["--ari-notify", address]))
            .stdout(Stdio::null())
            .spawn()
            .expect("the feed can be started");
        Process(child)
    }
}

/// The report in a file, or what the generator said instead.
pub fn report(path: &Path, output: &Output) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|_| panic!("{output:?}"));
    serde_json::from_str(&text).unwrap()
}

/// A number of a report.
pub fn number(report: &Value, pointer: &str) -> f64 {
    let number = report.pointer(pointer).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

pub fn server_binary() -> Option<PathBuf> {
    let beside = Path::new(LOADGEN).with_file_name("brightwire");
    let binary = std::env::var_os("BRIGHTWIRE_BIN").map_or(beside, PathBuf::from);
    if binary.exists() {
        return Some(binary);
    }
    println!("skipped: there is no {}", binary.display());
    None
}
