//! The command line, and the plan that it amounts to.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use brightwire::config::plan::IoChoice;
use clap::{Args, Parser, Subcommand};
use engine::tlcp::request::Frequency;

/// Load generator of Brightwire.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Connect sessions over WebSocket, subscribe, and measure what arrives
    ///
    /// Ends with status 0 if every session worked (and agreed with the others, with --verify), 1 if not, and 2 if
    /// there was nothing to measure. Ctrl-C ends a run early; what was measured until then is printed.
    Run(RunArguments),
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Server to connect to
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// Number of sessions, each on its own connection
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// Items: names (item1,item2) or a range (1..30 is item1 to item30)
    #[arg(long, value_name = "NAMES|FROM..TO", default_value = "1..30")]
    pub items: Items,
    /// Items that each session subscribes to; sessions take turns through the list
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub items_per_session: usize,
    /// Schema: fields to subscribe to
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "last_price,time,pct_change,bid_quantity,bid,ask,ask_quantity,min,max,timestamp"
    )]
    pub fields: Vec<String>,
    /// Adapter set
    #[arg(long, value_name = "NAME", default_value = "DEMO")]
    pub adapter_set: String,
    /// Data adapter
    #[arg(long, value_name = "NAME", default_value = "QUOTE_ADAPTER")]
    pub data_adapter: String,
    /// Updates per second and item that a subscription asks for at most
    #[arg(long, value_name = "HZ|unlimited", default_value = "unlimited")]
    pub frequency: MaxFrequency,
    /// Length of the measured window
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    pub seconds: Duration,
    /// Time between the last session's subscription and the window
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_seconds)]
    pub warmup: Duration,
    /// Sessions to start per second
    #[arg(long, value_name = "SESSIONS_PER_S", default_value_t = 1_000.0, value_parser = parse_rate)]
    pub ramp: f64,
    /// Threads that share the sessions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// The generator's own kernel interface
    #[arg(long, default_value = "auto")]
    pub io: IoChoice,
    /// Field with the time of the event, in ns since the Unix epoch; latency needs it among the fields
    #[arg(long, value_name = "NAME", default_value = "timestamp")]
    pub timestamp_field: String,
    /// Process whose CPU time and memory are the server's
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Sessions, out of all, that stop reading their sockets once they are subscribed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub stalled: u32,
    /// Decode every update strictly, and compare the sessions with each other at the end
    #[arg(long)]
    pub verify: bool,
    /// Write the report to this file as JSON as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Names of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items(pub Vec<String>);

/// `LS_requested_max_frequency`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxFrequency(pub Frequency);

/// Ranges longer than this are slips of the keyboard: what is kept per session and item would not fit any machine.
const ITEMS_MAX: u64 = 1_000_000;

impl FromStr for Items {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((from, to)) = text.split_once("..") {
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|_| format!("'{text}' is not a number"))
            };
            let (from, to) = (number(from)?, number(to)?);
            if from > to || to - from >= ITEMS_MAX {
                return Err(format!(
                    "a range goes up, and over at most {ITEMS_MAX} items"
                ));
            }
            return Ok(Self(
                (from..=to).map(|number| format!("item{number}")).collect(),
            ));
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        // A group is a list of names with blanks between them.
        if names
            .iter()
            .any(|name| name.is_empty() || name.contains(char::is_whitespace))
        {
            return Err("a name of an item is not empty and has no blanks".into());
        }
        Ok(Self(names))
    }
}

impl FromStr for MaxFrequency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self(Frequency::Unlimited)),
            _ => parse_rate(text).map(|hz| Self(Frequency::Limited(hz))),
        }
    }
}

impl RunArguments {
    /// What clap cannot know: what arguments mean to each other.
    pub fn check(&self) -> Result<(), String> {
        let items = self.items.0.len();
        if self.items_per_session == 0 || self.items_per_session > items {
            return Err(format!(
                "--items-per-session must be from 1 to the number of items, {items}"
            ));
        }
        if self
            .fields
            .iter()
            .any(|name| name.is_empty() || name.contains(char::is_whitespace))
        {
            return Err("a name of a field is not empty and has no blanks".into());
        }
        if self.verify && self.timestamp_position().is_none() {
            return Err(format!(
                "--verify orders updates by the field '{}', which is not among --fields",
                self.timestamp_field
            ));
        }
        if self.stalled > self.sessions {
            return Err("more sessions are --stalled than there are".into());
        }
        Ok(())
    }

    /// The first address that the server's name stands for.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.server
            .to_socket_addrs()
            .map_err(|error| format!("--server {}: {error}", self.server))?
            .next()
            .ok_or_else(|| format!("--server {}: no address", self.server))
    }

    /// Where in the schema the time of the event is.
    pub fn timestamp_position(&self) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| *field == self.timestamp_field)
    }

    /// How long a live session may be behind the others without having lost anything: a second, and the pause that
    /// its own frequency asks for.
    pub fn settle_time(&self) -> Duration {
        let pause = match self.frequency.0 {
            Frequency::Limited(hz) => 1.0 / hz,
            _ => 0.0,
        };
        Duration::from_secs(1) + Duration::try_from_secs_f64(pause).unwrap_or(Duration::ZERO)
    }
}

/// A rate above zero; below the upper end so that intervals are not zero.
fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|rate| (0.001..=1e7).contains(rate))
        .ok_or_else(|| "a rate is a number from 0.001 to 10000000".into())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    const DAY_S: f64 = 86_400.0;
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.0..=DAY_S).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "a number of seconds from 0 to 86400".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Result<RunArguments, String> {
        let words = ["loadgen", "run", "--server", "h:1"]
            .into_iter()
            .chain(text.split_whitespace());
        let Command::Run(arguments) = Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command;
        arguments.check().map(|()| arguments)
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_suit_the_demo() {
        let arguments = arguments("").unwrap();
        assert_eq!(arguments.sessions, 100);
        assert_eq!(arguments.items.0.len(), 30);
        assert_eq!(arguments.items.0.last().map(String::as_str), Some("item30"));
        assert_eq!(arguments.frequency.0, Frequency::Unlimited);
        assert_eq!(arguments.timestamp_position(), Some(9));
        assert_eq!(arguments.settle_time(), Duration::from_secs(1));
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
    }

    #[test]
    fn frequencies_and_times_are_bounded() {
        assert_eq!(
            arguments("--frequency 0.5").unwrap().settle_time(),
            Duration::from_secs(3)
        );
        assert_eq!(
            arguments("--seconds 0.25").unwrap().seconds,
            Duration::from_millis(250)
        );
        for bad in [
            "--frequency 0",
            "--frequency unfiltered",
            "--seconds -1",
            "--seconds NaN",
            "--ramp 0",
            "--sessions 0",
        ] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_must_fit_each_other() {
        for bad in [
            "--items-per-session 31",
            "--items-per-session 0",
            "--items a --items-per-session 2",
            "--verify --fields time",
            "--sessions 5 --stalled 6",
            "--fields a,,b",
        ] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
        assert!(arguments("--fields time").is_ok());
        assert!(arguments("--verify --fields time,stamp --timestamp-field stamp").is_ok());
    }
}
