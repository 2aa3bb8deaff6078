//! `loadgen feed`: the publishing side. Events go out at the times that they are meant for, whatever the server does:
//! one that cannot be sent in time is sent late, with the time that it was meant for, and the next ones are not put off.

mod lines;
mod link;
mod market;
mod remote;
mod replay;
mod schedule;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brightwire::wire::tls::Identity;
use clap::{Args, ValueEnum};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::control::unix_ns;
use crate::report::{short, time};
use crate::scenario::{Items, Rate, Seconds};
use crate::stats::Times;
use crate::tls::Tls;

/// The arguments of `feed`.
#[derive(Args, Clone, Debug)]
pub struct FeedArguments {
    /// Where the server reads lines (the address of a data adapter of kind `lines`)
    #[arg(long, value_name = "HOST:PORT|unix:PATH")]
    pub lines: Option<String>,
    /// Where the server meets remote data adapters (the address of one of kind `remote`)
    #[arg(long, value_name = "HOST:PORT")]
    pub ari: Option<String>,
    /// Where the server reads the notifications of remote data adapters, if it has another address for them
    #[arg(long, value_name = "HOST:PORT")]
    pub ari_notify: Option<String>,
    /// User and password, where the server asks remote adapters for them
    #[arg(long, value_name = "USER:PASSWORD")]
    pub credentials: Option<String>,
    /// Speak TLS to a server whose certificate one in this PEM file has signed (adapter protocol only)
    #[arg(long, value_name = "FILE")]
    pub tls_authorities: Option<PathBuf>,
    /// Take a certificate for another host as well
    #[arg(long)]
    pub tls_any_name: bool,
    /// Certificate to present, in PEM, where the server asks remote adapters for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM, not encrypted
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Items: names (item1,item2) or a range (1..30 is item1 to item30)
    #[arg(long, value_name = "NAMES|FROM..TO", default_value = "1..30")]
    pub items: Items,
    /// Events per second, of all items together
    #[arg(long, value_name = "HZ", default_value = "1000")]
    pub rate: Rate,
    /// How long; without it until Ctrl-C. Events that are late are sent all the same, for up to a tenth of it longer
    #[arg(long, value_name = "S")]
    pub seconds: Option<Seconds>,
    /// In bursts of a millisecond the rate is so many times the mean
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = parse_burst)]
    pub burst: f64,
    /// Which item an event is of
    #[arg(long, default_value = "uniform")]
    pub choice: Choice,
    /// With `zipf`: the item of rank n is chosen in proportion to 1 / n to this power [default: 1]
    #[arg(long, value_name = "POWER", value_parser = parse_exponent)]
    pub exponent: Option<f64>,
    /// Fields of an item, named f1, f2 and so on, besides `timestamp` and `sequence`
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=500))]
    pub fields: u16,
    /// How many of them an event changes
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub changed: u16,
    /// Length of a value
    #[arg(long, value_name = "BYTES", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub value_bytes: u32,
    /// Rows of each item, for COMMAND: events carry `key` and `command` as well (adapter protocol only)
    #[arg(long, value_name = "N")]
    pub keys: Option<u32>,
    /// Events of a CSV file with the columns time_ms and item instead; every other column is a field, an empty cell a
    /// null. Columns named timestamp and sequence are replaced by the feed's own
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["items", "rate", "burst", "choice", "exponent", "fields", "changed", "value_bytes", "keys", "seed"]
    )]
    pub replay: Option<PathBuf>,
    /// How many times faster than its times a file is replayed
    #[arg(long, value_name = "TIMES", default_value = "1", requires = "replay")]
    pub speed: Rate,
    /// Replay the file again and again
    #[arg(long = "loop", requires = "replay")]
    pub repeat: bool,
    /// What chance begins with; the same events in every run
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write what was sent, and how late, to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Which item an event is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Each as likely as the others.
    Uniform,
    /// Few are busy, many are quiet.
    Zipf,
}

/// An event, before it is put into a protocol's words.
#[derive(Clone, Debug, Default)]
pub struct FeedEvent {
    /// The item, as an index into the items of the source.
    pub item: usize,
    /// Names and values, of which some may be null; the time and the number among them.
    pub fields: Vec<(String, Option<String>)>,
}

/// Where events come from.
pub trait Source {
    /// Names of the items.
    fn items(&self) -> &[String];
    /// When the next event is due, after the start; `None` if there is none any more.
    fn next_due(&mut self) -> Option<Duration>;
    /// The event that was due, meant for this time in ns since the Unix epoch.
    fn take(&mut self, intended_ns: u64, event: &mut FeedEvent);
    /// All fields of an item as they are now, for a snapshot; empty if nothing is known.
    fn snapshot(&self, item: usize, intended_ns: u64, event: &mut FeedEvent);
}

/// Where events go to.
trait Sink {
    /// Takes an event, which goes out with the next [`Sink::flush`]. Returns whether anybody wants it.
    fn put(&mut self, item: &str, index: usize, event: &FeedEvent) -> io::Result<bool>;
    /// Brings out what has been put.
    fn flush(&mut self) -> io::Result<()>;
    /// Answers what the server has asked meanwhile.
    fn serve(&mut self, source: &dyn Source) -> io::Result<()>;
    /// What is odd about the server, now that all has been sent.
    fn complaint(&self) -> Option<String> {
        None
    }
}

/// What was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    events: u64,
    /// Events of items that nobody was subscribed to (adapter protocol only): not sent.
    unwanted: u64,
    /// Time ran out before all that was due had been sent.
    cut_short: bool,
    seconds: f64,
    events_per_s: f64,
    late_p50_ns: u64,
    late_p99_ns: u64,
    late_max_ns: u64,
    notes: Vec<String>,
}

/// Events that go out in one write at most.
const EVENTS_PER_WRITE_MAX: usize = 256;
/// What is late at the end has this much of the time more, a second at least. A rate that nobody could keep would be
/// sent for hours otherwise.
const OVERTIME: f64 = 0.1;
/// How long to sleep at most, so that questions of the server do not wait.
const NAP: Duration = Duration::from_millis(20);
/// A feed that was later than this has a word said about it. (guess: a latency of this size would be noticed)
const LATE: Duration = Duration::from_millis(10);

/// Publishes what the arguments ask for, and prints what was sent.
pub fn feed(arguments: &FeedArguments) -> Result<(), Box<dyn Error>> {
    arguments.check()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut source: Box<dyn Source> = match &arguments.replay {
        Some(path) => Box::new(replay::Replay::open(
            path,
            arguments.speed.0,
            arguments.repeat,
        )?),
        None => Box::new(market::Market::new(arguments)?),
    };
    let mut sink: Box<dyn Sink> = match (&arguments.lines, &arguments.ari) {
        (Some(address), _) => Box::new(lines::Lines::connect(address)?),
        (None, Some(address)) => Box::new(remote::Remote::connect(
            address,
            arguments.ari_notify.as_deref(),
            arguments.credentials.as_deref(),
            arguments.tls(address)?.as_ref(),
            source.items(),
            arguments.keys.is_some(),
        )?),
        (None, None) => return Err("name where to publish: --lines or --ari".into()),
    };
    let end = arguments.seconds.map(Seconds::duration);
    let sent = publish(source.as_mut(), sink.as_mut(), end, &stop)?;
    println!("{}", sent.text());
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&sent)? + "\n";
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

impl FeedArguments {
    /// What flags mean to each other.
    fn check(&self) -> Result<(), String> {
        match (&self.lines, &self.ari) {
            (None, None) => return Err("name where to publish: --lines or --ari".into()),
            (Some(_), Some(_)) => return Err("publish by --lines or by --ari, not by both".into()),
            _ => {}
        }
        let of_ari = [
            ("--ari-notify", self.ari_notify.is_some()),
            ("--credentials", self.credentials.is_some()),
            ("--tls-authorities", self.tls_authorities.is_some()),
            ("--keys", self.keys.is_some()),
        ];
        if let Some((name, _)) = of_ari.iter().find(|(_, given)| *given)
            && self.ari.is_none()
        {
            return Err(format!("{name} belongs to --ari"));
        }
        if self.tls_authorities.is_none() && (self.tls_any_name || self.tls_certificate.is_some()) {
            return Err("without --tls-authorities no TLS is spoken".into());
        }
        if self.exponent.is_some() && self.choice != Choice::Zipf {
            return Err("--exponent belongs to --choice zipf".into());
        }
        if let Some(path) = &self.json {
            let opened = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path);
            opened.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    fn tls(&self, address: &str) -> Result<Option<Tls>, String> {
        let own = self.tls_certificate.as_ref().zip(self.tls_key.as_ref());
        let own = own.map(|(certificates, key)| Identity {
            certificates: certificates.clone(),
            key: key.clone(),
        });
        let authorities = self.tls_authorities.as_ref();
        authorities
            .map(|path| Tls::new(address, path, self.tls_any_name, own.as_ref()))
            .transpose()
    }
}

fn publish(
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    end: Option<Duration>,
    stop: &AtomicBool,
) -> io::Result<Sent> {
    let (start, start_ns) = (Instant::now(), unix_ns());
    let mut late = Times::default();
    let (mut events, mut unwanted) = (0, 0);
    let mut event = FeedEvent::default();
    let mut cut_short = false;
    let last = end.map(|end| end + end.mul_f64(OVERTIME).max(Duration::from_secs(1)));
    while !stop.load(Ordering::Relaxed) {
        sink.serve(source)?;
        if last.is_some_and(|last| start.elapsed() > last) {
            cut_short = true;
            break;
        }
        let Some(due) = source
            .next_due()
            .filter(|due| end.is_none_or(|end| *due < end))
        else {
            break;
        };
        if let Some(early) = due
            .checked_sub(start.elapsed())
            .filter(|early| !early.is_zero())
        {
            thread::sleep(early.min(NAP));
            continue;
        }
        let mut put = 0;
        while put < EVENTS_PER_WRITE_MAX
            && let Some(due) = source
                .next_due()
                .filter(|due| end.is_none_or(|end| *due < end))
            && due <= start.elapsed()
        {
            let intended_ns = start_ns + due.as_nanos() as u64;
            source.take(intended_ns, &mut event);
            let item = source.items()[event.item].as_str();
            if sink.put(item, event.item, &event)? {
                events += 1;
                put += 1;
                let late_ns = start.elapsed().saturating_sub(due).as_nanos() as u64;
                late.record(late_ns);
            } else {
                unwanted += 1;
            }
        }
        sink.flush()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let late_max_ns = late.0.max();
    let mut notes = Vec::new();
    if u128::from(late_max_ns) > LATE.as_nanos() {
        notes.push(format!(
            "the feed was up to {} late: its machine was busy, or the server did not take what was sent",
            time(late_max_ns)
        ));
    }
    if cut_short {
        notes.push("not all that was due has been sent: there was no time for it".into());
    }
    notes.extend(sink.complaint());
    if events == 0 && unwanted > 0 && notes.is_empty() {
        notes.push("nobody was subscribed to any of these items".into());
    }
    Ok(Sent {
        events,
        unwanted,
        cut_short,
        seconds,
        events_per_s: events as f64 / seconds.max(1e-9),
        late_p50_ns: late.0.value_at_quantile(0.5),
        late_p99_ns: late.0.value_at_quantile(0.99),
        late_max_ns,
        notes,
    })
}

impl Sent {
    fn text(&self) -> String {
        let mut text = format!(
            "sent        {} events in {:.2} s ({}/s)",
            self.events,
            self.seconds,
            short(self.events_per_s)
        );
        if self.unwanted > 0 {
            text += &format!(", and {} that nobody wanted were not", self.unwanted);
        }
        text += &format!(
            "\nlate        p50 {}  p99 {}  max {}",
            time(self.late_p50_ns),
            time(self.late_p99_ns),
            time(self.late_max_ns)
        );
        for note in &self.notes {
            text += &format!("\n  NOTE      {note}");
        }
        text
    }
}

fn parse_burst(text: &str) -> Result<f64, String> {
    let times: Option<f64> = text.parse().ok();
    times
        .filter(|times| (1.0..=1.0 / schedule::BURST_SHARE).contains(times))
        .ok_or_else(|| "from 1, which is no burst, to 20 times the mean".into())
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    let power: Option<f64> = text.parse().ok();
    power
        .filter(|power| (0.0..=10.0).contains(power))
        .ok_or_else(|| "a power from 0 to 10".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events at these milliseconds.
    struct Fixed(Vec<u64>, Vec<String>);

    impl Source for Fixed {
        fn items(&self) -> &[String] {
            &self.1
        }
        fn next_due(&mut self) -> Option<Duration> {
            self.0.first().map(|ms| Duration::from_millis(*ms))
        }
        fn take(&mut self, intended_ns: u64, event: &mut FeedEvent) {
            self.0.remove(0);
            event.fields = vec![("timestamp".into(), Some(intended_ns.to_string()))];
        }
        fn snapshot(&self, _: usize, _: u64, _: &mut FeedEvent) {}
    }

    /// Takes a while for its first event, and remembers all.
    #[derive(Default)]
    struct Slow(Vec<u64>);

    impl Sink for Slow {
        fn put(&mut self, _: &str, _: usize, event: &FeedEvent) -> io::Result<bool> {
            let stamp = event.fields[0].1.as_ref().unwrap();
            self.0.push(stamp.parse().unwrap());
            if self.0.len() == 1 {
                thread::sleep(Duration::from_millis(30));
            }
            Ok(true)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn serve(&mut self, _: &dyn Source) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_late_event_keeps_the_time_that_it_was_meant_for() {
        let mut source = Fixed(vec![0, 5, 10, 15, 999_999], vec!["a".into()]);
        let mut sink = Slow::default();
        let end = Some(Duration::from_secs(60));
        let sent = publish(&mut source, &mut sink, end, &AtomicBool::new(false)).unwrap();
        assert_eq!(sent.events, 4);
        let gaps: Vec<u64> = sink.0.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [5_000_000; 3]);
        // The second one was due while the first was still being sent: for at least so long.
        assert!(sent.late_max_ns >= 24_000_000, "{sent:?}");
        assert!(sent.notes.len() == 1 && sent.text().contains("late"));
    }

    /// Takes more time for an event than there is between two.
    struct Choked;

    impl Sink for Choked {
        fn put(&mut self, _: &str, _: usize, _: &FeedEvent) -> io::Result<bool> {
            Ok(true)
        }
        fn flush(&mut self) -> io::Result<()> {
            thread::sleep(Duration::from_millis(50));
            Ok(())
        }
        fn serve(&mut self, _: &dyn Source) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_rate_that_nobody_can_keep_ends_all_the_same() {
        // A million events are due at once; 256 of them go out in 50 ms.
        let mut source = Fixed(vec![0; 1_000_000], vec!["a".into()]);
        let end = Some(Duration::from_millis(1));
        let sent = publish(&mut source, &mut Choked, end, &AtomicBool::new(false)).unwrap();
        assert!(sent.cut_short && sent.events > 0, "{sent:?}");
        assert!(sent.text().contains("not all that was due"));
    }

    #[test]
    fn flags_must_fit_each_other() {
        use crate::args::{Cli, Command};
        use clap::Parser;
        let check = |flags: &str| {
            let words = ["loadgen", "feed"].into_iter();
            let words = words.chain(flags.split_whitespace());
            let command = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
            let Command::Feed(arguments) = command.command else {
                unreachable!("it says feed");
            };
            arguments.check()
        };
        for (flags, says) in [
            ("", "--lines or --ari"),
            ("--lines h:1 --ari h:2", "not by both"),
            ("--lines h:1 --keys 3", "--keys belongs"),
            ("--lines h:1 --credentials a:b", "--credentials belongs"),
            ("--lines h:1 --ari-notify h:2", "--ari-notify belongs"),
            (
                "--lines h:1 --tls-authorities x",
                "--tls-authorities belongs",
            ),
            ("--ari h:1 --tls-any-name", "no TLS"),
            ("--ari h:1 --tls-certificate x", "tls-key"),
            ("--ari h:1 --exponent 2", "zipf"),
            ("--ari h:1 --replay x --rate 5", "cannot be used"),
            ("--ari h:1 --json /nowhere/x", "/nowhere/x"),
        ] {
            let error = check(flags).unwrap_err();
            assert!(error.contains(says), "{flags}: {error}");
        }
        assert_eq!(check("--ari h:1 --choice zipf --exponent 2"), Ok(()));
    }
}
