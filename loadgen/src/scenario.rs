//! What a run does: the keys of a scenario file, each of which is a flag as well, and the scenario that they amount to.
//!
//! A file has a table `[run]`, any number of `[[group]]` (sessions that are alike) and of `[[storm]]` (moments at which
//! many connections break). A flag overrides its key, in all groups if it is a key of groups; `--sessions` is shared out
//! among them in the file's proportions. Without a file there is one group.

mod values;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use brightwire::config::plan::IoChoice;
use clap::{Args, ValueEnum};
use engine::tlcp::request::{Frequency, Mode};
use serde::{Deserialize, Serialize};

pub use values::{Buffer, Items, MaxFrequency, Rate, RateOrNone, Seconds, Storm};

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    run: RunKeys,
    group: Vec<GroupKeys>,
    storm: Vec<Storm>,
}

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

const FIELDS: [&str; 10] = [
    "last_price",
    "time",
    "pct_change",
    "bid_quantity",
    "bid",
    "ask",
    "ask_quantity",
    "min",
    "max",
    "timestamp",
];

impl Scenario {
    /// Reads the file, if there is one, and lets flags override it.
    pub fn resolve(file: Option<&Path>, run: &RunKeys, group: &GroupKeys) -> Result<Self, String> {
        let file = match file {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let storms = if run.storms.is_empty() {
            file.storm
        } else {
            run.storms.clone()
        };
        let mut groups = file.group;
        if groups.is_empty() {
            groups.push(GroupKeys::default());
        }
        let mut groups: Vec<Group> = groups
            .iter()
            .enumerate()
            .map(|(index, keys)| Group::resolve(index, keys, group))
            .collect();
        if let Some(sessions) = group.sessions {
            share_out(&mut groups, sessions, group.stalled.is_some())?;
        }
        let keys = &file.run;
        let scenario = Self {
            server: run
                .server
                .clone()
                .or_else(|| keys.server.clone())
                .ok_or("name the server: --server HOST:PORT, or the key `server` of [run]")?,
            tls_authorities: run
                .tls_authorities
                .clone()
                .or_else(|| keys.tls_authorities.clone()),
            tls_any_name: pick(&run.tls_any_name, &keys.tls_any_name, false),
            adapter_set: pick(&run.adapter_set, &keys.adapter_set, "DEMO".into()),
            seconds: pick(&run.seconds, &keys.seconds, Seconds(10.0)),
            warmup: pick(&run.warmup, &keys.warmup, Seconds(2.0)),
            ramp: pick(&run.ramp, &keys.ramp, Rate(1_000.0)).0,
            threads: pick(&run.threads, &keys.threads, 1),
            processes: pick(&run.processes, &keys.processes, 1),
            sources: pick(&run.sources, &keys.sources, Vec::new()),
            io: pick(&run.io, &keys.io, IoChoice::Auto),
            spin: pick(&run.spin, &keys.spin, false),
            timestamp_field: pick(
                &run.timestamp_field,
                &keys.timestamp_field,
                "timestamp".into(),
            ),
            sequence_field: run
                .sequence_field
                .clone()
                .or_else(|| keys.sequence_field.clone()),
            server_pid: run.server_pid.or(keys.server_pid),
            verify: pick(&run.verify, &keys.verify, false),
            settle: run.settle.or(keys.settle),
            groups,
            storms,
        };
        scenario.check()?;
        Ok(scenario)
    }

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
    fn resolve(index: usize, keys: &GroupKeys, flags: &GroupKeys) -> Self {
        let mode = pick(&flags.mode, &keys.mode, SubscriptionMode::Merge);
        let fields = || FIELDS.map(str::to_owned).to_vec();
        Self {
            name: keys
                .name
                .clone()
                .unwrap_or_else(|| format!("group{}", index + 1)),
            sessions: keys.sessions.unwrap_or(100),
            transport: pick(&flags.transport, &keys.transport, Transport::Websocket),
            data_adapter: pick(
                &flags.data_adapter,
                &keys.data_adapter,
                "QUOTE_ADAPTER".into(),
            ),
            items: flags
                .items
                .clone()
                .or_else(|| keys.items.clone())
                .unwrap_or_else(|| "1..30".parse().expect("a range")),
            items_per_session: pick(&flags.items_per_session, &keys.items_per_session, 1),
            fields: flags
                .fields
                .clone()
                .or_else(|| keys.fields.clone())
                .unwrap_or_else(fields),
            mode,
            snapshot: pick(
                &flags.snapshot,
                &keys.snapshot,
                mode != SubscriptionMode::Raw,
            ),
            frequency: pick(
                &flags.frequency,
                &keys.frequency,
                MaxFrequency(Frequency::Unlimited),
            ),
            buffer: flags.buffer.or(keys.buffer),
            bandwidth: pick(&flags.bandwidth, &keys.bandwidth, RateOrNone(None)).0,
            churn: pick(&flags.churn, &keys.churn, RateOrNone(None))
                .0
                .unwrap_or(0.0),
            stalled: pick(&flags.stalled, &keys.stalled, 0),
            read_rate: pick(&flags.read_rate, &keys.read_rate, RateOrNone(None)).0,
            poll_pause: pick(&flags.poll_pause, &keys.poll_pause, Seconds(0.0)),
        }
    }

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

/// Shares sessions out in the proportions that the groups have; every group keeps at least one. So do those that stall,
/// unless a flag says how many.
fn share_out(groups: &mut [Group], sessions: u32, stalled_are_told: bool) -> Result<(), String> {
    if (sessions as usize) < groups.len() {
        return Err("there are more groups than sessions".into());
    }
    let before: u64 = groups.iter().map(|group| u64::from(group.sessions)).sum();
    let (mut rest, mut rest_before, mut left) = (u64::from(sessions), before, groups.len() as u64);
    for group in groups {
        let share = (rest * u64::from(group.sessions)).checked_div(rest_before);
        rest_before -= u64::from(group.sessions);
        left -= 1;
        let share = share.unwrap_or(1).clamp(1, rest - left);
        rest -= share;
        if !stalled_are_told {
            let stalled = u64::from(group.stalled) * share / u64::from(group.sessions.max(1));
            group.stalled = u32::try_from(stalled).expect("no more than sessions");
        }
        group.sessions = u32::try_from(share).expect("a part of a u32");
    }
    Ok(())
}

fn read(path: &Path) -> Result<File, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn pick<T: Clone>(flag: &Option<T>, key: &Option<T>, default: T) -> T {
    flag.clone().or_else(|| key.clone()).unwrap_or(default)
}

fn position(fields: &[String], name: &str) -> Option<usize> {
    fields.iter().position(|field| field == name)
}

/// Groups and schemas are lists of names with blanks between them.
fn is_no_name(name: &str) -> bool {
    name.is_empty() || name.contains(char::is_whitespace)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn flags(text: &str) -> Result<Scenario, String> {
        with_file(None, text)
    }

    fn with_file(file: Option<&str>, text: &str) -> Result<Scenario, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scenario.toml");
        let mut words = vec!["loadgen", "run"];
        if let Some(file) = file {
            std::fs::write(&path, file).unwrap();
            words.push(path.to_str().unwrap());
        } else {
            words.extend(["--server", "h:1"]);
        }
        words.extend(text.split_whitespace());
        let command = Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command;
        let Command::Run(arguments) = command else {
            unreachable!("it says run");
        };
        arguments.scenario()
    }

    #[test]
    fn defaults_suit_the_demo() {
        let scenario = flags("").unwrap();
        let group = &scenario.groups[0];
        assert_eq!((scenario.sessions(), group.items.0.len()), (100, 30));
        assert_eq!(group.items.0.last().map(String::as_str), Some("item30"));
        assert_eq!(group.frequency.0, Frequency::Unlimited);
        assert_eq!(scenario.timestamp_position(group), Some(9));
        assert_eq!(scenario.settle_time(), Duration::from_secs(1));
        assert!(group.snapshot);
        assert!(!flags("--mode RAW").unwrap().groups[0].snapshot);
    }

    #[test]
    fn a_flag_takes_back_what_a_file_limits() {
        let file =
            "[run]\nserver = \"h:1\"\n[[group]]\nchurn = 5\nbandwidth = 2.5\nread_rate = \"none\"";
        let group = |flags: &str| with_file(Some(file), flags).unwrap().groups[0].clone();
        let ours = group("");
        assert_eq!(
            (ours.churn, ours.bandwidth, ours.read_rate),
            (5.0, Some(2.5), None)
        );
        let ours = group("--churn none --bandwidth none --read-rate 7");
        assert_eq!(
            (ours.churn, ours.bandwidth, ours.read_rate),
            (0.0, None, Some(7.0))
        );
    }

    const TWO_GROUPS: &str = r#"
        [run]
        server = "127.0.0.1:8080"
        seconds = 5
        sources = ["127.0.0.2", "127.0.0.3"]

        [[group]]
        name = "web"
        sessions = 300
        items = "1..4"
        frequency = 2

        [[group]]
        name = "old"
        sessions = 100
        transport = "long-polling"
        mode = "DISTINCT"
        poll_pause = 0.5
        items = "a,b"
        fields = ["x", "timestamp"]

        [[storm]]
        at = 1.5
        share = 0.5
    "#;

    #[test]
    fn a_file_has_groups_and_flags_override_it() {
        let scenario = with_file(Some(TWO_GROUPS), "").unwrap();
        assert_eq!(scenario.sessions(), 400);
        assert_eq!(scenario.groups[1].transport, Transport::LongPolling);
        assert_eq!(scenario.groups[0].frequency.0, Frequency::Limited(2.0));
        assert_eq!(
            (scenario.group_of(0), scenario.group_of(300)),
            ((0, 0), (1, 0))
        );
        assert_eq!(scenario.storms[0].share, 0.5);
        assert_eq!(scenario.sources.len(), 2);

        let storms = flags("--storm 1:0.5 --storm 2:1:new").unwrap().storms;
        assert_eq!(
            storms.iter().map(|storm| storm.recover).collect::<Vec<_>>(),
            [true, false]
        );
        let flags = "--sessions 8 --seconds 1 --frequency unfiltered --storm 1:1 --server h:2";
        let scenario = with_file(Some(TWO_GROUPS), flags).unwrap();
        let sessions: Vec<u32> = scenario.groups.iter().map(|group| group.sessions).collect();
        assert_eq!(sessions, [6, 2]);
        assert_eq!(scenario.seconds, Seconds(1.0));
        assert_eq!(scenario.storms[0].at, 1.0);
        assert_eq!(scenario.server, "h:2");
        assert!(
            scenario
                .groups
                .iter()
                .all(|group| group.frequency.0 == Frequency::Unfiltered)
        );
    }

    #[test]
    fn what_processes_are_told_is_what_was_decided() {
        let scenario = with_file(Some(TWO_GROUPS), "--bandwidth 5.5 --buffer 3").unwrap();
        let text = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario);
    }

    #[test]
    fn the_scenarios_that_come_along_are_right() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let scenario =
                Scenario::resolve(Some(&path), &RunKeys::default(), &GroupKeys::default());
            assert!(scenario.is_ok(), "{}: {scenario:?}", path.display());
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn mistakes_in_a_file_are_told() {
        for (bad, says) in [
            ("[run]\nservr = \"h:1\"", "servr"),
            ("[run]\nserver = \"h:1\"\nseconds = -1", "seconds"),
            (
                "[run]\nserver = \"h:1\"\n[[group]]\nmode = \"MERG\"",
                "MERG",
            ),
            (
                "[run]\nserver = \"h:1\"\n[[storm]]\nat = 1\nshare = 2",
                "share",
            ),
            (
                "[run]\nserver = \"h:1\"\n[[group]]\nitems = \"a b\"",
                "blanks",
            ),
            ("[[group]]", "name the server"),
        ] {
            let error = with_file(Some(bad), "").unwrap_err();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn sessions_are_shared_out_in_proportion() {
        let groups = |sizes: &[u32], sessions| {
            let mut groups: Vec<Group> = sizes
                .iter()
                .map(|&sessions| {
                    let keys = GroupKeys {
                        sessions: Some(sessions),
                        ..GroupKeys::default()
                    };
                    Group::resolve(0, &keys, &GroupKeys::default())
                })
                .collect();
            share_out(&mut groups, sessions, false).unwrap();
            groups
                .iter()
                .map(|group| group.sessions)
                .collect::<Vec<_>>()
        };
        assert_eq!(groups(&[100, 300], 8), [2, 6]);
        assert_eq!(groups(&[1, 1_000], 2), [1, 1]);
        assert_eq!(groups(&[1_000, 1], 10), [9, 1]);
        assert_eq!(groups(&[5, 5, 5], 16).iter().sum::<u32>(), 16);
    }

    #[test]
    fn items_are_names_or_a_range() {
        let items = |text: &str| text.parse::<Items>().map(|items| items.0);
        assert_eq!(items("a,b"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(
            items("9..11"),
            Ok(vec!["item9".into(), "item10".into(), "item11".into()])
        );
        assert_eq!(items("4..4"), Ok(vec!["item4".into()]));
        for bad in ["", "a,,b", "a b", "3..2", "1..x", "..", "0..9999999"] {
            assert!(items(bad).is_err(), "{bad}");
        }
        for text in ["9..11", "a,b", "item1,item3"] {
            assert_eq!(text.parse::<Items>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn frequencies_and_times_are_bounded() {
        assert_eq!(
            flags("--frequency 0.5").unwrap().settle_time(),
            Duration::from_secs(3)
        );
        assert_eq!(flags("--seconds 0.25").unwrap().seconds, Seconds(0.25));
        assert_eq!(
            flags("--frequency 0.5 --settle 8").unwrap().settle_time(),
            Duration::from_secs(8)
        );
        for bad in [
            "--frequency 0",
            "--churn 0",
            "--bandwidth unlimited",
            "--seconds -1",
            "--seconds NaN",
            "--ramp 0",
            "--sessions 0",
            "--storm 5",
            "--storm 5:0",
            "--storm 5:1:old",
            "--storm NaN:1",
        ] {
            assert!(flags(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_must_fit_each_other() {
        for bad in [
            "--items-per-session 31",
            "--items-per-session 0",
            "--items a --items-per-session 2",
            "--verify --fields time",
            "--verify --mode DISTINCT",
            "--sessions 5 --stalled 6",
            "--fields a,,b",
            "--mode RAW --snapshot",
            "--sequence-field seq",
            "--tls-any-name",
        ] {
            assert!(flags(bad).is_err(), "{bad}");
        }
        assert!(flags("--fields time").is_ok());
        assert!(flags("--verify --fields time,stamp --timestamp-field stamp").is_ok());
    }
}
