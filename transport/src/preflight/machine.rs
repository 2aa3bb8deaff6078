//! The machine as its files tell it: those below `/proc` and `/sys`, or copies of another machine's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::reactor::probe::{self, Probe};
use crate::runtime::topology::{Topology, parse_core_list};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    /// Whether io_uring works there, which files alone do not tell.
    pub io_uring: Probe,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        Self {
            root: "/".into(),
            io_uring: probe::probe(),
        }
    }

    /// One whose `proc` and `sys` lie below a directory.
    pub fn below(root: impl Into<PathBuf>, io_uring: Probe) -> Self {
        Self {
            root: root.into(),
            io_uring,
        }
    }

    /// The text of a file, by its absolute path, without blanks around it.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.at(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The same for a file that holds a number.
    pub fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The bytes of a file that is not text.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.at(path)).ok()
    }

    /// The names in a directory, sorted; none if it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether the path is a directory.
    pub fn has_directory(&self, path: &str) -> bool {
        self.at(path).is_dir()
    }

    /// Its cores, of which the process may use those that its status names.
    pub fn topology(&self) -> io::Result<Topology> {
        let status = self.text("/proc/self/status").unwrap_or_default();
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .and_then(|list| parse_core_list(list).ok());
        Topology::read_from(&self.at("/sys/devices/system/cpu"), |core| {
            allowed.as_ref().is_none_or(|list| list.contains(&core))
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}
