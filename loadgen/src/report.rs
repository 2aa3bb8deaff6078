//! The report: one set of figures, printed for people and written as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use engine::tlcp::request::Frequency;
use serde::Serialize;

use crate::args::RunArguments;
use crate::fleet;
use crate::process::Sample;
use crate::stats::{Reasons, Window};
use crate::verify::{self, FinalRows};

/// A fleet that uses more of a core than this may be what limits the figures. (guess: bursts of an otherwise even load
/// come close to the whole core)
const SATURATED_CORES: f64 = 0.8;
/// A fleet that waits for a core for more of the time than this shares it with somebody. (guess)
const DISTURBED_SHARE: f64 = 0.05;

/// What a run has brought, before it is put into words.
pub struct Measured {
    /// The generator's back end.
    pub io: &'static str,
    /// The user ended the run early.
    pub interrupted: bool,
    /// Length of the window, by the main thread.
    pub elapsed: Duration,
    /// All fleets' windows.
    pub window: Window,
    /// Sessions that became live.
    pub live: u64,
    /// Of them, those that stall.
    pub stalled: u64,
    /// Stalled sessions that the server has ended.
    pub stalled_ended: u64,
    /// Until the last session was live.
    pub ramp: Duration,
    /// Why sessions did not become live.
    pub failed: Reasons,
    /// Why live sessions ended.
    pub ended: Reasons,
    /// What verification found.
    pub verify: Option<verify::Outcome>,
    /// What we have used in the window.
    pub generator: Option<Sample>,
    /// What the server has used in the window.
    pub server: Option<Sample>,
}

impl Measured {
    /// Adds what a fleet has to tell.
    pub fn add(&mut self, outcome: fleet::Outcome, rows: &mut FinalRows) {
        self.window.add(&outcome.window);
        self.live += outcome.live;
        self.stalled += outcome.stalled;
        self.stalled_ended += outcome.stalled_ended;
        self.ramp = self.ramp.max(outcome.ramp);
        self.failed.add(outcome.failed);
        self.ended.add(outcome.ended);
        if let (Some(sum), Some((found, others))) = (&mut self.verify, outcome.verify) {
            sum.add(found, rows, others);
        }
    }
}

/// The figures of a run. Names carry their units; this is the format of the JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    version: &'static str,
    options: Options,
    interrupted: bool,
    sessions: Sessions,
    window_s: f64,
    updates: u64,
    updates_per_s: f64,
    snapshots: u64,
    messages_per_s: f64,
    updates_per_message: f64,
    receives_per_s: f64,
    bytes_per_s: f64,
    lost: u64,
    latency: Option<Latency>,
    server: Option<Server>,
    generator: Generator,
    verify: Option<Verify>,
}

#[derive(Clone, Debug, Serialize)]
struct Options {
    server: String,
    sessions: u32,
    items: usize,
    items_per_session: usize,
    fields: Vec<String>,
    /// `null` is unlimited.
    frequency_hz: Option<f64>,
    ramp_per_s: f64,
    threads: u16,
    stalled: u32,
}

#[derive(Clone, Debug, Serialize)]
struct Sessions {
    asked: u32,
    live: u64,
    ramp_s: f64,
    stalled: u64,
    stalled_ended: u64,
    failed: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Latency {
    timed: u64,
    untimed: u64,
    from_future: u64,
    beyond_range: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    mean_ns: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Server {
    cpu_user_s: f64,
    cpu_system_s: f64,
    /// Cores kept busy on average.
    cores: f64,
    /// `null` if there was no update.
    cpu_ns_per_update: Option<f64>,
    rss_bytes: u64,
    threads: Vec<Thread>,
}

#[derive(Clone, Debug, Serialize)]
struct Thread {
    name: String,
    cores: f64,
    /// Share of the time in which it was ready to run, but had no core.
    waited: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Generator {
    io: &'static str,
    threads: Vec<Thread>,
    turn_p99_ns: u64,
    turn_max_ns: u64,
    /// The figures describe the generator rather than the server.
    saturated: bool,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Verify {
    ok: bool,
    #[serde(flatten)]
    found: verify::Outcome,
}

impl Report {
    /// Works out the figures.
    pub fn new(arguments: &RunArguments, measured: &Measured) -> Self {
        let window = &measured.window;
        let seconds = measured.elapsed.as_secs_f64();
        let per_s = |count: u64| ratio(count as f64, seconds).unwrap_or(0.0);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            options: Options::new(arguments),
            interrupted: measured.interrupted,
            sessions: Sessions {
                asked: arguments.sessions,
                live: measured.live,
                ramp_s: measured.ramp.as_secs_f64(),
                stalled: measured.stalled,
                stalled_ended: measured.stalled_ended,
                failed: measured.failed.0.clone(),
                ended: measured.ended.0.clone(),
            },
            window_s: seconds,
            updates: window.updates,
            updates_per_s: per_s(window.updates),
            snapshots: window.snapshots,
            messages_per_s: per_s(window.messages),
            updates_per_message: ratio(window.updates as f64, window.messages as f64)
                .unwrap_or(0.0),
            receives_per_s: per_s(window.receives),
            bytes_per_s: per_s(window.bytes),
            lost: window.lost,
            latency: Latency::new(window),
            server: measured
                .server
                .as_ref()
                .map(|used| Server::new(used, seconds, window.updates)),
            generator: Generator::new(measured, seconds),
            verify: measured.verify.clone().map(|found| Verify {
                ok: found.is_ok(),
                found,
            }),
        }
    }

    /// Whether all sessions worked, and agreed if they were compared.
    pub fn is_success(&self) -> bool {
        self.sessions.live == u64::from(self.sessions.asked)
            && self.sessions.failed.is_empty()
            && self.sessions.ended.is_empty()
            && self.verify.as_ref().is_none_or(|verify| verify.ok)
    }
}

impl Options {
    fn new(arguments: &RunArguments) -> Self {
        Self {
            server: arguments.server.clone(),
            sessions: arguments.sessions,
            items: arguments.items.0.len(),
            items_per_session: arguments.items_per_session,
            fields: arguments.fields.clone(),
            frequency_hz: match arguments.frequency.0 {
                Frequency::Limited(hz) => Some(hz),
                Frequency::Unlimited | Frequency::Unfiltered => None,
            },
            ramp_per_s: arguments.ramp,
            threads: arguments.threads,
            stalled: arguments.stalled,
        }
    }
}

impl Latency {
    /// `None` if nothing was timed: an empty histogram would show a latency of zero.
    fn new(window: &Window) -> Option<Self> {
        let histogram = &window.latency_ns;
        (!histogram.is_empty()).then(|| Self {
            timed: histogram.len(),
            untimed: window.untimed,
            from_future: window.from_future,
            beyond_range: window.beyond_range,
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
            mean_ns: histogram.mean(),
        })
    }
}

impl Server {
    fn new(used: &Sample, seconds: f64, updates: u64) -> Self {
        let cpu_s = used.cpu().as_secs_f64();
        Self {
            cpu_user_s: used.user.as_secs_f64(),
            cpu_system_s: used.system.as_secs_f64(),
            cores: ratio(cpu_s, seconds).unwrap_or(0.0),
            cpu_ns_per_update: ratio(cpu_s * 1e9, updates as f64),
            rss_bytes: used.rss_bytes,
            threads: threads(used, seconds),
        }
    }
}

impl Generator {
    fn new(measured: &Measured, seconds: f64) -> Self {
        let mut threads = measured
            .generator
            .as_ref()
            .map_or(Vec::new(), |used| threads(used, seconds));
        threads.retain(|thread| thread.name.starts_with("fleet-"));
        let turns = &measured.window.turn_ns;
        let mut notes = Vec::new();
        let saturated = threads.iter().any(|thread| thread.cores > SATURATED_CORES);
        if saturated {
            notes.push(format!(
                "a thread of the generator used more than {:.0} % of a core: the figures describe the generator, not the server",
                SATURATED_CORES * 100.0
            ));
        }
        if threads.iter().any(|thread| thread.waited > DISTURBED_SHARE) {
            notes.push(format!(
                "the generator waited for a core for more than {:.0} % of the time: latencies include that wait",
                DISTURBED_SHARE * 100.0
            ));
        }
        let p50_ns = measured.window.latency_ns.value_at_quantile(0.5);
        if turns.value_at_quantile(0.99) > p50_ns && p50_ns > 0 {
            notes.push(
                "the generator's own turns are as long as the latencies: what arrived during one was noticed late"
                    .into(),
            );
        }
        if measured.generator.is_none() {
            notes.push("the generator's own CPU time is not known".into());
        }
        Self {
            io: measured.io,
            threads,
            turn_p99_ns: turns.value_at_quantile(0.99),
            turn_max_ns: turns.max(),
            saturated,
            notes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interrupted {
            writeln!(
                f,
                "interrupted: figures are of what was measured until then"
            )?;
        }
        let sessions = &self.sessions;
        writeln!(
            f,
            "sessions    {} of {} live after {:.2} s, {} items each, {} fields",
            sessions.live,
            sessions.asked,
            sessions.ramp_s,
            self.options.items_per_session,
            self.options.fields.len()
        )?;
        for (what, reasons) in [("failed", &sessions.failed), ("ended", &sessions.ended)] {
            for (reason, times) in reasons {
                writeln!(f, "            {what} {times}: {reason}")?;
            }
        }
        if sessions.stalled > 0 {
            writeln!(
                f,
                "            {} stalled, of which the server ended {}",
                sessions.stalled, sessions.stalled_ended
            )?;
        }
        writeln!(
            f,
            "delivered   {}/s updates in {}/s messages ({:.2} a message), {}B/s, for {:.2} s",
            short(self.updates_per_s),
            short(self.messages_per_s),
            self.updates_per_message,
            short(self.bytes_per_s),
            self.window_s
        )?;
        if self.lost > 0 {
            writeln!(f, "            {} events lost, says the server", self.lost)?;
        }
        match &self.latency {
            None => writeln!(f, "latency     not measured")?,
            Some(latency) => {
                writeln!(
                    f,
                    "latency     p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
                    time(latency.p50_ns),
                    time(latency.p90_ns),
                    time(latency.p99_ns),
                    time(latency.p999_ns),
                    time(latency.max_ns)
                )?;
                writeln!(
                    f,
                    "            of {} updates; {} without a new time{}{}",
                    latency.timed,
                    latency.untimed,
                    some(latency.from_future, "from the future"),
                    some(latency.beyond_range, "above a minute")
                )?;
            }
        }
        if let Some(server) = &self.server {
            writeln!(
                f,
                "server      {:.2} cores ({:.2} s user, {:.2} s system), {} of CPU an update, {}B of memory",
                server.cores,
                server.cpu_user_s,
                server.cpu_system_s,
                server
                    .cpu_ns_per_update
                    .map_or("-".into(), |ns| time(ns as u64)),
                short(server.rss_bytes as f64)
            )?;
            write_threads(f, &server.threads)?;
        }
        writeln!(
            f,
            "generator   {}, turns p99 {} max {}",
            self.generator.io,
            time(self.generator.turn_p99_ns),
            time(self.generator.turn_max_ns)
        )?;
        write_threads(f, &self.generator.threads)?;
        for note in &self.generator.notes {
            writeln!(f, "  NOTE      {note}")?;
        }
        if let Some(Verify { ok, found }) = &self.verify {
            writeln!(
                f,
                "verify      {}: {} updates decoded, {} rows compared; {} undecodable, {} back in time, {} missing, {} behind, {} contradicting",
                if *ok { "ok" } else { "FAILED" },
                found.updates,
                found.rows_compared,
                found.decode_errors,
                found.times_gone_back,
                found.rows_missing,
                found.behind,
                found.contradictions
            )?;
            for example in &found.examples {
                writeln!(f, "            {example}")?;
            }
        }
        write!(
            f,
            "result      {}",
            if self.is_success() { "ok" } else { "FAILED" }
        )
    }
}

fn write_threads(f: &mut fmt::Formatter<'_>, threads: &[Thread]) -> fmt::Result {
    for thread in threads {
        writeln!(
            f,
            "            {:<15} {:5.1} % of a core, waited for one {:.1} % of the time",
            thread.name,
            thread.cores * 100.0,
            thread.waited * 100.0
        )?;
    }
    Ok(())
}

/// Threads that did something, the busiest first.
fn threads(used: &Sample, seconds: f64) -> Vec<Thread> {
    let share = |time: Duration| ratio(time.as_secs_f64(), seconds).unwrap_or(0.0);
    let mut threads: Vec<Thread> = used
        .threads
        .values()
        .filter(|thread| !thread.cpu.is_zero())
        .map(|thread| Thread {
            name: thread.name.clone(),
            cores: share(thread.cpu),
            waited: share(thread.waited),
        })
        .collect();
    threads.sort_by(|a, b| b.cores.total_cmp(&a.cores));
    threads
}

/// `None` for what would be divided by nothing.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Three digits, with a decimal prefix.
fn short(value: f64) -> String {
    let prefixes = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut index = 0;
    // 999.5 is where three digits become four.
    while value >= 999.5 && index + 1 < prefixes.len() {
        value /= 1e3;
        index += 1;
    }
    digits(value, prefixes[index])
}

/// A time in the unit that suits it.
fn time(ns: u64) -> String {
    let units = [" ns", " us", " ms", " s"];
    let mut value = ns as f64;
    let mut index = 0;
    while value >= 999.5 && index + 1 < units.len() {
        value /= 1e3;
        index += 1;
    }
    digits(value, units[index])
}

fn digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        _ if value.fract() == 0.0 && value < 10.0 => 0,
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

/// Something that should not occur is told only if it does.
fn some(count: u64, what: &str) -> String {
    if count > 0 {
        format!(", {count} {what}")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn arguments() -> RunArguments {
        let words = ["loadgen", "run", "--server", "h:1", "--sessions", "2"];
        let Command::Run(arguments) = Cli::try_parse_from(words).unwrap().command;
        arguments
    }

    fn measured() -> Measured {
        let mut window = Window::open();
        window.updates = 40;
        window.messages = 20;
        for latency_us in 1..=10 {
            window.time(latency_us * 1_000);
        }
        Measured {
            io: "epoll",
            interrupted: false,
            elapsed: Duration::from_secs(2),
            window,
            live: 2,
            stalled: 0,
            stalled_ended: 0,
            ramp: Duration::from_millis(3),
            failed: Reasons::default(),
            ended: Reasons::default(),
            verify: None,
            generator: None,
            server: Some(Sample {
                user: Duration::from_millis(100),
                system: Duration::from_millis(300),
                ..Sample::default()
            }),
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (1.5, "1.50"),
            (42.0, "42.0"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (2.5e15, "2500T"),
        ] {
            assert_eq!(short(value), text);
        }
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (99_960, "100 us"),
            (12_000_000, "12.0 ms"),
            (60_000_000_000, "60.0 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn figures_are_of_the_window() {
        let report = Report::new(&arguments(), &measured());
        assert_eq!(report.updates_per_s, 20.0);
        assert_eq!(report.updates_per_message, 2.0);
        let server = report.server.as_ref().unwrap();
        assert_eq!(server.cpu_ns_per_update, Some(1e7));
        assert_eq!(server.cores, 0.2);
        let latency = report.latency.as_ref().unwrap();
        assert!(latency.p50_ns.abs_diff(5_000) < 10, "{latency:?}");
        assert!(report.is_success());
        let text = report.to_string();
        assert!(text.contains("2 of 2 live"), "{text}");
        assert!(text.ends_with("result      ok"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["updates_per_s"], 20.0);
        assert_eq!(json["verify"], serde_json::Value::Null);
    }

    #[test]
    fn nothing_measured_is_not_a_latency_of_zero() {
        let mut measured = measured();
        measured.window = Window::open();
        measured.elapsed = Duration::ZERO;
        let report = Report::new(&arguments(), &measured);
        assert!(report.latency.is_none());
        assert_eq!(report.updates_per_s, 0.0);
        assert!(report.to_string().contains("not measured"));
    }

    #[test]
    fn every_kind_of_failure_fails_the_run() {
        let fails = |change: fn(&mut Measured)| {
            let mut measured = measured();
            change(&mut measured);
            !Report::new(&arguments(), &measured).is_success()
        };
        assert!(!fails(|_| ()));
        assert!(fails(|measured| measured.live = 1));
        assert!(fails(|measured| measured.failed.count("x".into())));
        assert!(fails(|measured| measured.ended.count("x".into())));
        assert!(fails(|measured| measured.verify = Some(Default::default())));
        assert!(!fails(|measured| measured.stalled_ended = 1));
    }

    #[test]
    fn a_busy_generator_says_so() {
        let thread = crate::process::Thread {
            name: "fleet-0".into(),
            cpu: Duration::from_millis(1_900),
            waited: Duration::from_millis(400),
        };
        let mut measured = measured();
        measured.generator = Some(Sample {
            threads: BTreeMap::from([(1, thread)]),
            ..Sample::default()
        });
        let report = Report::new(&arguments(), &measured);
        assert!(report.generator.saturated);
        assert_eq!(report.generator.notes.len(), 2);
        assert!(report.to_string().contains("describe the generator"));
    }
}
