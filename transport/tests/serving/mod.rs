//! The server binary as a child process, for tests that ask no more of it than where it listens.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server. Dropping it kills it.
pub struct Serving {
    child: Child,
    addresses: HashMap<String, SocketAddr>,
}

impl Serving {
    /// Runs a command of the binary that serves, and returns when clients can connect. The directory gets its ports file.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        let ports = directory.join("ports.toml");
        let mut child = Command::new(env!("CARGO_BIN_EXE_brightwire"))
            .args(arguments)
            .arg("--ports-file")
            .arg(&ports)
            .env("BRIGHTWIRE_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The server prints where it listens once it does.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "the server did not start");
        Self {
            child,
            addresses: addresses(&ports),
        }
    }

    /// Where a listener is.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.addresses[name]
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn addresses(ports: &Path) -> HashMap<String, SocketAddr> {
    let text = std::fs::read_to_string(ports).unwrap();
    let mut table: HashMap<String, HashMap<String, SocketAddr>> = toml::from_str(&text).unwrap();
    table.remove("listeners").unwrap()
}
