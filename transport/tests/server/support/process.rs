//! The server binary as a child process: started on a free port, watched, and never left behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::{Io, WAIT_MAX};

/// What a server is started with, besides its back end. The strings are lines of the configuration's sections.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    pub shards: usize,
    pub threading: &'a str,
    pub sessions: &'a str,
    pub socket: &'a str,
    pub rings: &'a str,
    /// CSV text that data adapter REPLAY replays.
    pub replay: Option<&'a str>,
    /// Its rows per second.
    pub rate_hz: f64,
    /// Tables below its own.
    pub replay_tables: &'a str,
    /// Tables behind all others: further data adapters, say.
    pub more: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            shards: 1,
            threading: "dedicated",
            sessions: "",
            socket: "",
            rings: "",
            replay: None,
            rate_hz: 500.0,
            replay_tables: "",
            more: "",
        }
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    pub address: SocketAddr,
    directory: TempDir,
    child: Child,
    stdout: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

/// How a server ended.
pub struct End {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Server {
    /// Starts `brightwire run` with a configuration file, and returns when it can be connected to.
    pub fn start(io: Io, setup: Setup<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("server.toml");
        fs::write(&config, setup.text(io)).unwrap();
        if let Some(rows) = setup.replay {
            fs::write(directory.path().join("replay.csv"), rows).unwrap();
        }
        let mut command = binary();
        command.args(["run", "--config"]).arg(config);
        Self::spawn(command, directory, Stdio::piped())
    }

    /// Starts `brightwire demo` with further arguments.
    pub fn demo(io: Io, arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(["demo", "--port", "0", "--io", io.name()]);
        command.args(arguments);
        Self::spawn(command, tempfile::tempdir().unwrap(), Stdio::piped())
    }

    /// Runs a command that serves. It prints where it listens once it does, which is the event waited for; the ports
    /// file must then be complete and say the same.
    pub fn spawn(mut command: Command, directory: TempDir, stderr: Stdio) -> Self {
        let ports_file = directory.path().join("ports.toml");
        let mut child = command
            .arg("--ports-file")
            .arg(&ports_file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let (lines, stdout) = mpsc::channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            reader
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        let stderr = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = stderr.read_to_string(&mut text);
                text
            })
        });
        let mut server = Self {
            address: SocketAddr::from(([0; 4], 0)),
            directory,
            child,
            stdout,
            stderr,
        };
        let Ok(line) = server.stdout.recv_timeout(WAIT_MAX) else {
            let end = server.wait();
            panic!("the server did not start: {}, {}", end.status, end.stderr);
        };
        let address = line.split_once("http://").unwrap().1.trim_end_matches('/');
        let ports = fs::read_to_string(&ports_file).unwrap();
        assert!(
            ports.starts_with("[listeners]\n") && ports.contains(&format!("= \"{address}\"\n")),
            "{line} but {ports}"
        );
        server.address = address.parse().unwrap();
        server
    }

    /// Where else the server listens, by the name in its ports file.
    pub fn address_of(&self, name: &str) -> SocketAddr {
        let ports = fs::read_to_string(self.directory.path().join("ports.toml")).unwrap();
        let line = ports.lines().find(|line| line.contains(name)).unwrap();
        line.split('"').nth_back(1).unwrap().parse().unwrap()
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$0\" \"$1\"",
                name,
                &self.child.id().to_string(),
            ])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Asks the server to stop, which it must do in order and without having panicked.
    pub fn stop(mut self) -> End {
        self.signal("TERM");
        let end = self.wait();
        assert_eq!(end.status.code(), Some(0), "{}", end.stderr);
        assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
        end
    }

    /// Waits for the end of the process: it closes its standard output then.
    pub fn wait(&mut self) -> End {
        loop {
            match self.stdout.recv_timeout(WAIT_MAX) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end"),
            }
        }
        End {
            status: self.child.wait().unwrap(),
            stderr: self
                .stderr
                .take()
                .map_or(String::new(), |reader| reader.join().unwrap()),
        }
    }

    /// Resident memory, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Whether the kernel has an established connection of the server with this peer.
    pub fn is_connected(&self, peer: SocketAddr) -> bool {
        let connections = fs::read_to_string("/proc/net/tcp").unwrap();
        let (ours, theirs) = (self.address.port(), peer.port());
        connections.lines().any(|line| {
            // Number, local address, remote address, state; 01 is ESTABLISHED.
            let columns: Vec<_> = line.split_whitespace().take(4).collect();
            columns.len() == 4
                && columns[1].ends_with(&format!(":{ours:04X}"))
                && columns[2].ends_with(&format!(":{theirs:04X}"))
                && columns[3] == "01"
        })
    }

    /// Whether every thread of the server sleeps at this moment.
    pub fn sleeps(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state stands behind the thread's name, which is in parentheses.
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('S'))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Some(stderr) = self.stderr.take()
        {
            eprintln!("the server said:\n{}", stderr.join().unwrap_or_default());
        }
    }
}

impl Setup<'_> {
    fn text(&self, io: Io) -> String {
        let Self {
            shards,
            threading,
            sessions,
            socket,
            rings,
            rate_hz,
            replay_tables,
            more,
            ..
        } = self;
        let mut text = format!(
            "[runtime]\nio = \"{}\"\nshards = {shards}\nthreading = \"{threading}\"\n\
             [[listeners]]\naddress = \"127.0.0.1:0\"\n[socket]\n{socket}\n[rings]\n{rings}\n[sessions]\n{sessions}\n\
             [[adapter_sets]]\n[[adapter_sets.data]]\nrate = 200.0\n",
            io.name()
        );
        if self.replay.is_some() {
            text += &format!(
                "[[adapter_sets.data]]\nname = \"REPLAY\"\nkind = \"replay\"\nfile = \"replay.csv\"\nrate = {rate_hz:?}\n{replay_tables}"
            );
        }
        text + more
    }
}

/// The server binary, without the environment's say in what it logs; and without huge pages, which the kernel forms and
/// fills at times of its own, and which would show as memory that the server does not use.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brightwire"));
    command
        .env("BRIGHTWIRE_LOG", "info")
        .env("RUST_BACKTRACE", "0")
        .env("MIMALLOC_ALLOW_THP", "0");
    command
}

/// Runs the binary to its end: its exit code, its standard output and its standard error.
pub fn run_to_end(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = binary()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}
