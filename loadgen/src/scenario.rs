//! What a run does: the keys of a scenario file, each of which is a flag as well, and the scenario that they amount to.
//!
//! A file has a table `[run]`, any number of `[[group]]` (sessions that are alike) and of `[[storm]]` (moments at which
//! many connections break). A flag overrides its key, in all groups if it is a key of groups; `--sessions` is shared out
//! among them in the file's proportions. Without a file there is one group.

mod keys;
mod resolve;
mod values;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use brightwire::config::plan::IoChoice;
use clap::ValueEnum;
use engine::tlcp::request::{Frequency, Mode};
use serde::{Deserialize, Serialize};

pub use keys::{GroupKeys, Outputs, RunKeys};
pub use values::{Buffer, Items, MaxFrequency, Rate, RateOrNone, Seconds, Storm};

/// Everything decided: what is run, told to other processes, and written into reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "fields are the keys of the same name")]
pub struct Scenario {
    pub server: String,
    pub tls_authorities: Option<PathBuf>,
    pub tls_any_name: bool,
    pub adapter_set: String,
    pub seconds: Seconds,
    pub warmup: Seconds,
    pub ramp: f64,
    pub threads: u16,
    pub processes: u16,
    pub sources: Vec<IpAddr>,
    pub io: IoChoice,
    pub spin: bool,
    pub acks: Acks,
    pub timestamp_field: String,
    pub sequence_field: Option<String>,
    pub server_pid: Option<u32>,
    pub verify: bool,
    pub settle: Option<Seconds>,
    pub groups: Vec<Group>,
    pub storms: Vec<Storm>,
}

/// A group, decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "fields are the keys of the same name")]
pub struct Group {
    pub name: String,
    pub sessions: u32,
    pub transport: Transport,
    pub data_adapter: String,
    pub items: Items,
    pub items_per_session: usize,
    pub fields: Vec<String>,
    pub mode: SubscriptionMode,
    pub snapshot: bool,
    pub frequency: MaxFrequency,
    pub buffer: Option<Buffer>,
    pub bandwidth: Option<f64>,
    pub churn: f64,
    pub stalled: u32,
    pub read_rate: Option<f64>,
    pub poll_pause: Seconds,
}

/// How a session is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// One WebSocket.
    Websocket,
    /// A response that stays open.
    HttpStreaming,
    /// A response after the other, each with what there is.
    LongPolling,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Websocket, Self::HttpStreaming, Self::LongPolling];

    /// As in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::HttpStreaming => "http-streaming",
            Self::LongPolling => "long-polling",
        }
    }
}

/// How often TCP acknowledges what has been received and read in small pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Acks {
    /// as Linux decides for each connection: every second piece until one has waited 40 ms for the next, then each
    Kernel,
    /// each
    Each,
    /// every second, or after 40 ms
    EverySecond,
}

/// The mode of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the modes of the protocol")]
pub enum SubscriptionMode {
    Merge,
    Distinct,
    Command,
    Raw,
}

impl From<SubscriptionMode> for Mode {
    fn from(mode: SubscriptionMode) -> Self {
        match mode {
            SubscriptionMode::Merge => Self::Merge,
            SubscriptionMode::Distinct => Self::Distinct,
            SubscriptionMode::Command => Self::Command,
            SubscriptionMode::Raw => Self::Raw,
        }
    }
}

impl Scenario {
    /// What no key can know by itself: what keys mean to each other.
    fn check(&self) -> Result<(), String> {
        for group in &self.groups {
            group.check().map_err(|reason| {
                if self.groups.len() > 1 {
                    format!("group {}: {reason}", group.name)
                } else {
                    reason
                }
            })?;
            if self.verify && self.timestamp_position(group).is_none() {
                return Err(format!(
                    "verifying orders updates by the field '{}', which is not among the fields",
                    self.timestamp_field
                ));
            }
            if self.verify && group.mode != SubscriptionMode::Merge {
                return Err("only MERGE has one state that sessions can be compared by".into());
            }
            if let Some(field) = &self.sequence_field
                && !group.fields.contains(field)
            {
                return Err(format!(
                    "the field '{field}' is to count events, and is not among the fields"
                ));
            }
        }
        if self.tls_any_name && self.tls_authorities.is_none() {
            return Err("without tls_authorities there is no certificate to take".into());
        }
        if !self.storms.iter().all(|storm| storm.is_sane()) {
            return Err("a storm has a time from 0 and a share above 0, up to 1".into());
        }
        if !(1..=256).contains(&self.threads) || !(1..=64).contains(&self.processes) {
            return Err("from 1 to 256 threads, and from 1 to 64 processes".into());
        }
        Ok(())
    }

    /// The first address that the server's name stands for.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.server
            .to_socket_addrs()
            .map_err(|error| {
                format!(
                    "server {}: {error}; name it as HOST:PORT, such as 127.0.0.1:8080",
                    self.server
                )
            })?
            .next()
            .ok_or_else(|| format!("server {}: no address", self.server))
    }

    /// Sessions of all groups.
    pub fn sessions(&self) -> u32 {
        self.groups.iter().map(|group| group.sessions).sum()
    }

    /// The group of a session of the run, and its number within.
    pub fn group_of(&self, number: u32) -> (usize, u32) {
        let mut rest = number;
        for (index, group) in self.groups.iter().enumerate() {
            if rest < group.sessions {
                return (index, rest);
            }
            rest -= group.sessions;
        }
        unreachable!("sessions are numbered from 0 to their count")
    }

    /// Where in a group's schema the time of the event is.
    pub fn timestamp_position(&self, group: &Group) -> Option<usize> {
        position(&group.fields, &self.timestamp_field)
    }

    /// Where in a group's schema the count of events is.
    pub fn sequence_position(&self, group: &Group) -> Option<usize> {
        position(&group.fields, self.sequence_field.as_ref()?)
    }

    /// How long a live session may be behind the others without having lost anything: what the key says, or a second
    /// and the pause that its own frequency asks for.
    pub fn settle_time(&self) -> Duration {
        if let Some(settle) = self.settle {
            return settle.duration();
        }
        let pause = |group: &Group| match group.frequency.0 {
            Frequency::Limited(hz) => 1.0 / hz,
            _ => 0.0,
        };
        let pause = self.groups.iter().map(pause).fold(0.0, f64::max);
        Duration::from_secs(1) + Duration::try_from_secs_f64(pause).unwrap_or(Duration::ZERO)
    }
}

impl Group {
    fn check(&self) -> Result<(), String> {
        let items = self.items.0.len();
        if self.items_per_session == 0 || self.items_per_session > items {
            return Err(format!(
                "--items-per-session must be from 1 to the number of items, {items}"
            ));
        }
        if self.fields.is_empty() || self.fields.iter().any(|name| is_no_name(name)) {
            return Err("a name of a field is not empty and has no blanks".into());
        }
        if self.sessions == 0 || self.stalled > self.sessions {
            return Err("more sessions are to stall than there are, or there are none".into());
        }
        if self.snapshot && self.mode == SubscriptionMode::Raw {
            return Err("RAW has no snapshot".into());
        }
        Ok(())
    }
}

fn position(fields: &[String], name: &str) -> Option<usize> {
    fields.iter().position(|field| field == name)
}

/// Groups and schemas are lists of names with blanks between them.
fn is_no_name(name: &str) -> bool {
    name.is_empty() || name.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests;
