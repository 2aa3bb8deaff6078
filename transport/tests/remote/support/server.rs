//! The server binary as a child process, with its log as it grows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::WAIT_MAX;

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    directory: TempDir,
    output: Arc<Output>,
}

/// What the server has printed and logged.
#[derive(Default)]
struct Output {
    text: Mutex<Text>,
    grown: Condvar,
}

#[derive(Default)]
struct Text {
    log: String,
    /// Both streams have ended.
    ended: u8,
    /// Clients can connect.
    serves: bool,
}

impl Server {
    /// Starts a server with these adapter sets and returns when clients can connect.
    pub fn start(adapter_sets: &str) -> Self {
        let server = Self::begin(adapter_sets);
        server.serves();
        server
    }

    /// Starts a server and returns at once.
    pub fn begin(adapter_sets: &str) -> Self {
        Self::begin_in(tempfile::tempdir().unwrap(), adapter_sets)
    }

    /// The same, with the configuration in a directory that may have other files.
    pub fn begin_in(directory: TempDir, adapter_sets: &str) -> Self {
        let config = directory.path().join("server.toml");
        let text = format!(
            "[runtime]\nio = \"epoll\"\nshards = 1\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
             {adapter_sets}"
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_brightwire"))
            .args(["run", "--config"])
            .arg(config)
            .arg("--ports-file")
            .arg(directory.path().join("ports.toml"))
            .env("BRIGHTWIRE_LOG", "debug,polling=info,async_io=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Output::default());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        output.collect(stdout, |text, line| text.serves |= line.contains("http://"));
        output.collect(stderr, |text, line| {
            text.log.push_str(line);
            text.log.push('\n');
        });
        Self {
            child,
            directory,
            output,
        }
    }

    /// Waits until clients can connect.
    pub fn serves(&self) {
        self.output
            .wait("clients can connect", |text| text.serves.then_some(()));
    }

    /// Where it listens, by name.
    pub fn port(&self, name: &str) -> SocketAddr {
        let text = fs::read_to_string(self.directory.path().join("ports.toml")).unwrap();
        let ports: BTreeMap<String, BTreeMap<String, SocketAddr>> = toml::from_str(&text).unwrap();
        ports["listeners"][name]
    }

    /// The same, from the log: before clients can connect there is no file.
    pub fn early_port(&self, name: &str) -> SocketAddr {
        let start = format!("adapter=\"{name}\"");
        self.output.wait("an address of an adapter", |text| {
            let mut lines = text.log.lines();
            let line = lines.find(|line| {
                line.contains("remote adapters connect to") && line.contains(&start)
            })?;
            let (_, rest) = line.split_once("connect to ")?;
            rest.split(' ').next()?.parse().ok()
        })
    }

    /// Where clients connect.
    pub fn web(&self) -> SocketAddr {
        self.port("web")
    }

    /// Waits until the log has this text.
    pub fn logged(&self, text: &str) {
        self.output
            .wait(text, |output| output.log.contains(text).then_some(()));
    }

    /// Waits until a remote metadata adapter is there, which has been answered before: the server hears of that on
    /// another connection than clients use.
    pub fn has_metadata_adapter(&self) {
        self.output.wait("a metadata adapter", |output| {
            let count = |text| output.log.matches(text).count();
            let there = count("a remote metadata adapter is there");
            (there > count("the remote metadata adapter is lost")).then_some(())
        });
    }

    /// Waits until the log has this text so often; it must not have it more often.
    pub fn logged_times(&self, text: &str, times: usize) {
        self.output.wait(text, |output| {
            (output.log.matches(text).count() >= times).then_some(())
        });
        assert_eq!(self.count(text), times, "{text}");
    }

    /// How often the log has this text by now.
    pub fn count(&self, text: &str) -> usize {
        self.output.text.lock().unwrap().log.matches(text).count()
    }

    /// Resident memory, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Asks the server to stop, by SIGTERM.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s TERM \"$0\"", &id]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits for its end; returns how it ended and its whole log.
    pub fn end(mut self) -> (ExitStatus, String) {
        self.output
            .wait("its end", |text| (text.ended == 2).then_some(()));
        let status = self.child.wait().unwrap();
        let log = std::mem::take(&mut self.output.text.lock().unwrap().log);
        assert!(!log.contains("panicked"), "{log}");
        (status, log)
    }

    /// Stops the server, which it must do in order, and returns its log.
    pub fn stop(self) -> String {
        self.terminate();
        let (status, log) = self.end();
        assert!(status.success(), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Ok(text) = self.output.text.lock()
        {
            eprintln!("the server said:\n{}", text.log);
        }
    }
}

impl Output {
    fn collect(
        self: &Arc<Self>,
        reader: impl BufRead + Send + 'static,
        take: impl Fn(&mut Text, &str) + Send + 'static,
    ) {
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                take(&mut output.text.lock().unwrap(), &line);
                output.grown.notify_all();
            }
            output.text.lock().unwrap().ended += 1;
            output.grown.notify_all();
        });
    }

    fn wait<T>(&self, what: &str, found: impl Fn(&Text) -> Option<T>) -> T {
        let until = Instant::now() + WAIT_MAX;
        let mut text = self.text.lock().unwrap();
        loop {
            if let Some(found) = found(&text) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for: {what}\n{}", text.log);
            assert!(text.ended < 2, "it has ended without: {what}\n{}", text.log);
            text = self.grown.wait_timeout(text, left).unwrap().0;
        }
    }
}
