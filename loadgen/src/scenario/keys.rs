//! The keys of a scenario file, as they are written there or given as flags.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use brightwire::config::plan::IoChoice;
use clap::Args;
use serde::Deserialize;

use super::values::{Buffer, Items, MaxFrequency, Rate, RateOrNone, Seconds, Storm};
use super::{Acks, SubscriptionMode, Transport};

/// Keys of a run.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunKeys {
    /// Server to connect to
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// Connect by TLS (wss, https) to a server whose certificate one in this PEM file has signed
    #[arg(long, value_name = "FILE")]
    pub tls_authorities: Option<PathBuf>,
    /// Take a certificate for another host as well
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub tls_any_name: Option<bool>,
    /// Adapter set [default: DEMO]
    #[arg(long, value_name = "NAME")]
    pub adapter_set: Option<String>,
    /// Length of the measured window [default: 10]
    #[arg(long, value_name = "S")]
    pub seconds: Option<Seconds>,
    /// Time between the last session's subscription and the window [default: 2]
    #[arg(long, value_name = "S")]
    pub warmup: Option<Seconds>,
    /// Sessions to start per second [default: 1000]
    #[arg(long, value_name = "SESSIONS_PER_S")]
    pub ramp: Option<Rate>,
    /// Threads of each process that share the sessions [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Processes that share the sessions, for more sessions than one may have open files [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub processes: Option<u16>,
    /// Addresses to connect from, in turn [default: the kernel's choice, and 127.0.1.x where its ports do not suffice]
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub sources: Option<Vec<IpAddr>>,
    /// The generator's own kernel interface [default: auto]
    #[arg(long)]
    pub io: Option<IoChoice>,
    /// Never sleep while there are sessions: needs a free core for each thread, and spares a server on the same machine
    /// what it costs to wake a sleeping receiver
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub spin: Option<bool>,
    /// How often TCP acknowledges to a server that sends quickly [default: kernel]
    #[arg(long)]
    pub acks: Option<Acks>,
    /// Field with the time for which the event was meant, ns since the Unix epoch [default: timestamp]
    #[arg(long, value_name = "NAME")]
    pub timestamp_field: Option<String>,
    /// Field that counts the events of its item; tells what was left out
    #[arg(long, value_name = "NAME")]
    pub sequence_field: Option<String>,
    /// Process whose CPU time and memory are the server's
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Decode every update strictly, and compare the sessions with each other at the end
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub verify: Option<bool>,
    /// Time between the window and the comparison of --verify [default: a second, and the pause of the lowest frequency]
    #[arg(long, value_name = "S")]
    pub settle: Option<Seconds>,
    /// Seconds of the window at which a share of the connections breaks, such as 5:0.5. Clients recover their sessions,
    /// or with 5:0.5:new open new ones
    #[arg(long = "storm", value_name = "S:SHARE[:new]")]
    #[serde(skip)]
    pub storms: Vec<Storm>,
}

/// Keys of a group of sessions.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupKeys {
    /// Its name in reports.
    #[arg(skip)]
    pub name: Option<String>,
    /// Number of sessions, each on its own connection [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: Option<u32>,
    /// How they are connected [default: websocket]
    #[arg(long)]
    pub transport: Option<Transport>,
    /// Data adapter [default: QUOTE_ADAPTER]
    #[arg(long, value_name = "NAME")]
    pub data_adapter: Option<String>,
    /// Items: names (item1,item2) or a range (1..30 is item1 to item30) [default: 1..30]
    #[arg(long, value_name = "NAMES|FROM..TO")]
    pub items: Option<Items>,
    /// Items that each session subscribes to; sessions take turns through the list [default: 1]
    #[arg(long, value_name = "K")]
    pub items_per_session: Option<usize>,
    /// Schema: fields to subscribe to [default: the ten of the demo's quotes]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub fields: Option<Vec<String>>,
    /// Mode of the subscription [default: MERGE]
    #[arg(long)]
    pub mode: Option<SubscriptionMode>,
    /// Whether a snapshot is asked for [default: true, but in RAW mode]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub snapshot: Option<bool>,
    /// Updates per second and item that a subscription asks for at most [default: unlimited]
    #[arg(long, value_name = "HZ|unlimited|unfiltered")]
    pub frequency: Option<MaxFrequency>,
    /// Events that may wait for a client [default: not asked for]
    #[arg(long, value_name = "N|unlimited")]
    pub buffer: Option<Buffer>,
    /// Kilobits per second that a session asks for [default: not asked for]
    #[arg(long, value_name = "KBPS|none")]
    pub bandwidth: Option<RateOrNone>,
    /// Sessions that end, and are replaced, per second [default: none]
    #[arg(long, value_name = "SESSIONS_PER_S|none")]
    pub churn: Option<RateOrNone>,
    /// Sessions, out of all, that stop reading their sockets once they are subscribed [default: 0]
    #[arg(long, value_name = "N")]
    pub stalled: Option<u32>,
    /// Bytes per second that each session reads at most [default: all]
    #[arg(long, value_name = "BYTES_PER_S|none")]
    pub read_rate: Option<RateOrNone>,
    /// Pause between polls, with long polling [default: 0]
    #[arg(long, value_name = "S")]
    pub poll_pause: Option<Seconds>,
}

/// A scenario file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub run: RunKeys,
    pub group: Vec<GroupKeys>,
    pub storm: Vec<Storm>,
}

impl File {
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Where outputs go: not part of what is run.
#[derive(Args, Clone, Debug, Default)]
pub struct Outputs {
    /// Write the report to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report to this file as one HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the latencies of each second to this file, for the tools of HdrHistogram
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
}
