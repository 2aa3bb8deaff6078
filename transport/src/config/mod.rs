//! Configuration in two stages: [`raw`] is what a file says, [`plan`] is what the server will do.
//!
//! In between, `resolve` applies defaults and checks relations, and reports every mistake with file, line,
//! key and reason. The annotated reference ([`reference()`]) comes from the same definitions as the structs.

mod adapters;
mod listeners;
mod literal;
pub mod plan;
// Its doc comments are the reference file's comments too, where an address cannot be a link.
#[allow(rustdoc::bare_urls)]
pub mod raw;
mod reference;
mod remote;
mod resolve;
mod summary;
pub mod value;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

pub use plan::Plan;
pub use raw::Raw;
pub use reference::reference;

use crate::runtime::topology::Topology;
use plan::{DataKindName, IoChoice, Threading};

/// Everything that is wrong with a configuration. Shown as one line per problem.
#[derive(Debug)]
pub struct ConfigError {
    /// Where it came from: a file name, or "command line".
    pub source: String,
    /// The problems in the order in which they were found; at least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, counted from 1, if the file mentions the key or the table it belongs to.
    pub line: Option<usize>,
    /// The path of the key, such as `listeners[1].address`; empty if the file could not be read that far.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{end}{}", self.source)?;
            if let Some(line) = problem.line {
                write!(formatter, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(formatter, ": {}", problem.key)?;
            }
            write!(formatter, ": {}", problem.reason)?;
        }
        Ok(())
    }
}

/// What the command line of `brightwire demo` asks for. Everything else comes from the profile, or by default.
#[derive(Clone, Debug, Default)]
pub struct Demo {
    /// Where to listen.
    pub address: Option<std::net::SocketAddr>,
    /// Number of shards.
    pub shards: Option<usize>,
    /// Kernel interface.
    pub io: Option<IoChoice>,
    /// Threads.
    pub threading: Option<Threading>,
    /// Updates per second: of the file if there is one, else of the generated list.
    pub rate: Option<f64>,
    /// A file to replay beside the generated list.
    pub replay: Option<PathBuf>,
    /// How many times faster than its times the file is replayed.
    pub speed: Option<f64>,
    /// Whether the file starts again at its end.
    pub looped: bool,
}

impl Plan {
    /// Reads a configuration file and resolves it for this machine.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let (raw, text) = read(path)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::resolve(
            &raw,
            &this_machine()?,
            directory,
            &path.display().to_string(),
            &text,
        )
    }

    /// Resolves what a program that brings adapters along wants: `text` and `directory` are those of its configuration
    /// file, which may be empty, and `source` its name in messages. `listen` replaces the listeners of the file.
    pub fn with_own_adapters(
        text: &str,
        directory: &Path,
        source: &str,
        listen: Option<&str>,
        own: raw::OwnAdapters,
    ) -> Result<Self, ConfigError> {
        let mut raw = parse(text, source)?;
        raw.own = Some(own);
        if let Some(address) = listen {
            raw.listeners = Some(vec![raw::Listener {
                address: Some(address.to_owned()),
                ..raw::Listener::default()
            }]);
        }
        Self::resolve(&raw, &this_machine()?, directory, source, text)
    }

    /// The demo: adapter set `DEMO` with the generated list as `QUOTE_ADAPTER` and, if there is a file, its replay
    /// as `REPLAY`. `profile` is a configuration file for everything that the demo does not decide itself.
    pub fn demo(demo: &Demo, profile: Option<&Path>) -> Result<Self, ConfigError> {
        let (mut raw, text) = profile.map(read).transpose()?.unwrap_or_default();
        demo.overlay(&mut raw);
        let source = profile.map_or("command line".into(), |path| path.display().to_string());
        Self::resolve(&raw, &this_machine()?, Path::new(""), &source, &text)
    }

    /// Resolves the text of a configuration file for a given machine. `source` is its name in messages.
    pub fn from_text(
        text: &str,
        machine: &Topology,
        directory: &Path,
        source: &str,
    ) -> Result<Self, ConfigError> {
        Self::resolve(&parse(text, source)?, machine, directory, source, text)
    }

    fn resolve(
        raw: &Raw,
        machine: &Topology,
        directory: &Path,
        source: &str,
        text: &str,
    ) -> Result<Self, ConfigError> {
        resolve::resolve(raw, machine, directory).map_err(|problems| {
            let document = DeTable::parse_recoverable(text).0;
            let locate = |(key, reason): (String, String)| {
                let line = locate(document.get_ref(), &key).map(|span| line_of(text, span.start));
                Problem { line, key, reason }
            };
            ConfigError {
                source: source.into(),
                problems: problems.0.into_iter().map(locate).collect(),
            }
        })
    }
}

impl Demo {
    fn overlay(&self, raw: &mut Raw) {
        let address = self
            .address
            .unwrap_or_else(|| ([127, 0, 0, 1], 8080).into());
        raw.listeners = Some(vec![raw::Listener {
            name: Some("demo".into()),
            address: Some(address.to_string()),
            ..raw::Listener::default()
        }]);
        raw.runtime.shards = self.shards.or(raw.runtime.shards);
        raw.runtime.io = self.io.or(raw.runtime.io);
        raw.runtime.threading = self.threading.or(raw.runtime.threading);
        let rate_of_list = self.rate.filter(|_| self.replay.is_none());
        let mut data = vec![raw::DataAdapter {
            rate: rate_of_list,
            ..Default::default()
        }];
        data.extend(self.replay.as_ref().map(|file| raw::DataAdapter {
            name: Some("REPLAY".into()),
            kind: Some(DataKindName::Replay),
            rate: self.rate,
            file: Some(file.clone()),
            speed: self.speed,
            repeat: Some(self.looped),
            ..Default::default()
        }));
        raw.adapter_sets = Some(vec![raw::AdapterSet {
            data: Some(data),
            ..Default::default()
        }]);
    }
}

/// Parses a configuration file. `source` is its name in messages. All syntax errors are reported, or else the first
/// key that is unknown or has a value of the wrong type.
pub fn parse(text: &str, source: &str) -> Result<Raw, ConfigError> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let describe = |error: &toml::de::Error| Problem {
        line: error.span().map(|span| line_of(text, span.start)),
        key: error
            .span()
            .and_then(|span| key_at(document.get_ref(), &span))
            .unwrap_or_default(),
        reason: error.message().replace('\n', ", "),
    };
    let problems: Vec<Problem> = if errors.is_empty() {
        match toml::Deserializer::parse(text).and_then(Raw::deserialize) {
            Ok(raw) => return Ok(raw),
            Err(error) => vec![describe(&error)],
        }
    } else {
        errors.iter().map(describe).collect()
    };
    Err(ConfigError {
        source: source.into(),
        problems,
    })
}

fn read(path: &Path) -> Result<(Raw, String), ConfigError> {
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&source, &error))?;
    Ok((parse(&text, &source)?, text))
}

fn this_machine() -> Result<Topology, ConfigError> {
    Topology::read().map_err(|error| unreadable("/sys/devices/system/cpu", &error))
}

fn unreadable(source: &str, error: &io::Error) -> ConfigError {
    let problem = Problem {
        line: None,
        key: String::new(),
        reason: format!("cannot be read: {error}"),
    };
    ConfigError {
        source: source.into(),
        problems: vec![problem],
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count()
        + 1
}

/// Where a key path such as `adapter_sets[0].data[1].rate` is written; for a key that is not, where the innermost
/// table around it is.
fn locate(document: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (first, rest) = path
        .split_once('.')
        .map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, index) = match first.split_once('[') {
        Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (first, None),
    };
    let (key, value) = document
        .iter()
        .find(|(key, _)| key.get_ref().as_ref() == name)?;
    let mut span = key.span();
    let mut value = value.get_ref();
    if let (Some(index), DeValue::Array(array)) = (index, value) {
        let element = array.get(index)?;
        span = element.span();
        value = element.get_ref();
    }
    match (rest, value) {
        (Some(rest), DeValue::Table(table)) => locate(table, rest).or(Some(span)),
        _ => Some(span),
    }
}

/// The path of the key or value that is written at a place; the reverse of [`locate`].
fn key_at(document: &DeTable<'_>, place: &Range<usize>) -> Option<String> {
    document.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        if key.span() == *place {
            return Some(name.to_string());
        }
        let inner = value_at(value.get_ref(), place).or_else(|| {
            (value.span().start <= place.start && place.end <= value.span().end).then(String::new)
        })?;
        Some(format!("{name}{inner}"))
    })
}

fn value_at(value: &DeValue<'_>, place: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => Some(format!(".{}", key_at(table, place)?)),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
            let inner = value_at(element.get_ref(), place)
                .or_else(|| (element.span() == *place).then(String::new))?;
            Some(format!("[{index}]{inner}"))
        }),
        _ => None,
    }
}
