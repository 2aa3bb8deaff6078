//! Who is measured: a kind of server and, for Brightwire, which program with which settings.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use toml::{Table, Value};

use crate::server::Kind;

/// One of those that take turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// Its name in the table.
    pub name: String,
    /// What is started.
    pub kind: Kind,
    /// Brightwire's program, if it is another one than that of the run.
    pub program: Option<PathBuf>,
    /// What Brightwire's configuration says, beyond or in place of what the bench needs.
    pub settings: Table,
}

impl Contender {
    /// A server in the configuration that is fairest to it.
    pub fn new(kind: Kind) -> Self {
        Self {
            name: kind.name().into(),
            kind,
            program: None,
            settings: Table::new(),
        }
    }

    /// Whether it is Brightwire as this run measures it, and not another build or setting that goes along.
    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind && self.name == kind.name()
    }

    /// Brightwire's configuration file. Who listens where is the bench's matter.
    pub fn configuration(&self, io: &str, clients: u16, publisher: u16) -> String {
        let mut file = self.settings.clone();
        let table = |text: &str| text.parse::<Table>().expect("it is one of ours");
        // Ingest and the shard on one thread, since the servers have one core: the fairest for Brightwire.
        let defaults = table("[runtime]\nthreading = \"shared\"");
        merge(&mut file, defaults, Precedence::There);
        let listener = Value::from(format!("127.0.0.1:{clients}"));
        match file.get_mut("listeners").and_then(Value::as_array_mut) {
            Some(listeners) => {
                listeners.truncate(1);
                for listener_table in listeners.iter_mut().filter_map(Value::as_table_mut) {
                    listener_table.insert("address".into(), listener.clone());
                }
            }
            None => {
                let only = Table::from_iter([("address".to_owned(), listener)]);
                file.insert("listeners".into(), Value::Array(vec![only.into()]));
            }
        }
        let feed = table(&format!(
            "[[adapter_sets]]\nname = \"DEFAULT\"\n\n[[adapter_sets.data]]\nname = \"DEFAULT\"\nkind = \"lines\"\n\
             address = \"127.0.0.1:{publisher}\"\n"
        ));
        merge(&mut file, feed, Precedence::New);
        let io = table(&format!("[runtime]\nio = \"{io}\"\n"));
        merge(&mut file, io, Precedence::New);
        file.to_string()
    }
}

/// Which of two values stays.
#[derive(Clone, Copy, PartialEq)]
pub enum Precedence {
    /// What is there.
    There,
    /// What comes.
    New,
}

/// Merges tables into each other, down to the values.
pub fn merge(into: &mut Table, from: Table, precedence: Precedence) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(there)), Value::Table(new)) => merge(there, new, precedence),
            (Some(_), _) if precedence == Precedence::There => {}
            (_, value) => _ = into.insert(key, value),
        }
    }
}

/// A file of settings that all of Brightwire's contenders get, as a report names it.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Its path.
    pub file: String,
    /// Its SHA-256, as `sha256sum` prints it: which version of it was measured.
    pub sha256: String,
    #[serde(skip)]
    settings: Table,
}

impl Profile {
    /// Reads a profile.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        Ok(Self {
            file: path.display().to_string(),
            sha256: sha256(text.as_bytes()).unwrap_or_else(|| "unknown".into()),
            settings: text
                .parse()
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?,
        })
    }

    /// Lets a contender have it, unless it is a peer. What the contender says itself stays.
    pub fn apply(&self, contender: &mut Contender) {
        if contender.kind.is_brightwire() {
            merge(
                &mut contender.settings,
                self.settings.clone(),
                Precedence::There,
            );
        }
    }
}

fn sha256(bytes: &[u8]) -> Option<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(bytes).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_win_but_for_addresses() {
        let mut contender = Contender::new(Kind::Epoll);
        contender.settings =
            "[runtime]\nspin = \"50us\"\nio = \"auto\"\nthreading = \"dedicated\"\n\
                              [[listeners]]\nname = \"web\"\naddress = \"0.0.0.0:80\""
                .parse()
                .unwrap();
        let file: Table = contender.configuration("epoll", 1, 2).parse().unwrap();
        assert_eq!(file["runtime"]["threading"].as_str(), Some("dedicated"));
        assert_eq!(file["runtime"]["spin"].as_str(), Some("50us"));
        assert_eq!(file["runtime"]["io"].as_str(), Some("epoll"));
        assert_eq!(
            file["listeners"][0]["address"].as_str(),
            Some("127.0.0.1:1")
        );
        assert_eq!(file["listeners"][0]["name"].as_str(), Some("web"));
        assert_eq!(
            file["adapter_sets"][0]["data"][0]["address"].as_str(),
            Some("127.0.0.1:2")
        );
    }

    #[test]
    fn a_profile_is_for_brightwire_and_below_what_a_contender_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profile.toml");
        fs::write(&path, "[runtime]\nspin = \"1ms\"\n[socket]\nbacklog = 7\n").unwrap();
        let profile = Profile::read(&path).unwrap();
        let mut contender = Contender::new(Kind::Uring);
        contender.settings = "[runtime]\nspin = \"0s\"".parse().unwrap();
        profile.apply(&mut contender);
        assert_eq!(contender.settings["runtime"]["spin"].as_str(), Some("0s"));
        assert_eq!(
            contender.settings["socket"]["backlog"].as_integer(),
            Some(7)
        );
        let mut peer = Contender::new(Kind::Nats);
        profile.apply(&mut peer);
        assert_eq!(peer, Contender::new(Kind::Nats));
    }
}
