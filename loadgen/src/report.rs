//! The report: one set of figures, printed for people and written as JSON and as a page.

pub mod html;
mod notes;
mod svg;
mod text;

pub use text::{short, time};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::fleet;
use crate::process::{Machine, Sample};
use crate::run::Samples;
use crate::scenario::Scenario;
use crate::series::{Second, Series};
use crate::stats::{self, Interval, Times};
use crate::verify::{self, FinalRows};

/// A fleet that uses more of a core than this may be what limits the figures. (guess: bursts of an otherwise even load
/// come close to the whole core)
const SATURATED_CORES: f64 = 0.8;
/// A fleet that waits for a core for more of the time than this shares it with somebody. (guess)
const DISTURBED_SHARE: f64 = 0.05;
/// Sessions that start by so much later than planned are a crowd of another kind than was asked for. (guess)
const START_LATE: Duration = Duration::from_millis(100);
/// In a shorter window nobody's share of a core means anything.
const WINDOW_MIN: Duration = Duration::from_millis(10);
/// Nothing arriving for so long is worth a word. (guess: far above any load's pauses that is worth measuring)
const SILENCE: Duration = Duration::from_millis(500);

/// What a run has brought, before it is put into words. What was measured second by second is elsewhere.
pub struct Measured {
    /// The generator's back end.
    pub io: &'static str,
    /// The user ended the run early.
    pub interrupted: bool,
    /// Whether the process that is said to be the server listens at its port; `None` if that cannot be seen.
    pub is_server: Option<bool>,
    /// When the window began, ns since the Unix epoch.
    pub began_ns: u64,
    /// Length of the window, by the main thread.
    pub elapsed: Duration,
    /// Before the first session.
    pub before_ramp: Samples,
    /// After the last one had subscribed.
    pub after_ramp: Samples,
    /// At the window's beginning.
    pub before: Samples,
    /// At its end.
    pub after: Samples,
    /// What all fleets tell of the whole run.
    pub fleets: fleet::Outcome,
    /// What verification found.
    pub verify: Option<verify::Outcome>,
}

impl Measured {
    /// Adds what a fleet has to tell.
    pub fn add(&mut self, outcome: fleet::Outcome, rows: &mut FinalRows) {
        let sum = &mut self.fleets;
        sum.live += outcome.live;
        sum.stalled += outcome.stalled;
        sum.stalled_ended += outcome.stalled_ended;
        sum.ramp_ns = sum.ramp_ns.max(outcome.ramp_ns);
        sum.start_late_ns = sum.start_late_ns.max(outcome.start_late_ns);
        sum.connect_ns.add(&outcome.connect_ns);
        sum.reconnect_ns.add(&outcome.reconnect_ns);
        sum.recovered += outcome.recovered;
        sum.churned += outcome.churned;
        sum.threads.extend(outcome.threads);
        sum.failed.add(outcome.failed);
        sum.ended.add(outcome.ended);
        if let (Some(sum), Some((found, others))) = (&mut self.verify, outcome.verify) {
            let others = others.into_iter();
            let others = others.map(|(item, stamp_ns, values)| ((item, stamp_ns), values));
            sum.add(found, rows, others.collect());
        }
    }
}

/// The figures of a run. Names carry their units; this is the format of the JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    version: &'static str,
    machine: Machine,
    /// When the window began, s since the Unix epoch.
    began_s: u64,
    scenario: Scenario,
    interrupted: bool,
    /// All sessions worked, and agreed if they were compared.
    success: bool,
    sessions: Sessions,
    window_s: f64,
    updates: u64,
    updates_per_s: f64,
    snapshots: u64,
    messages_per_s: f64,
    updates_per_message: f64,
    receives_per_s: f64,
    bytes_per_s: f64,
    /// `null` if there was no update.
    bytes_per_update: Option<f64>,
    /// Events that the server says it has lost.
    lost: u64,
    /// Events that the sequence numbers say are missing and the server did not tell of; `null` without the numbers.
    conflated: Option<u64>,
    reordered: u64,
    silence_max_ns: u64,
    latency: Option<Latency>,
    by_transport: BTreeMap<&'static str, Latency>,
    /// In the order of the scenario.
    by_group: Vec<OfGroup>,
    /// From the first tenth of an item's clients that is served to the last; see [`crate::rank`].
    by_rank: Vec<Option<Latency>>,
    /// Events whose clients were put in order for that, and the share of all events that they were chosen from.
    ranked_events: u64,
    ranked_share: f64,
    seconds: Vec<Second>,
    server: Option<Server>,
    memory: Memory,
    generator: Generator,
    verify: Option<Verify>,
}

#[derive(Clone, Debug, Serialize)]
struct Sessions {
    asked: u32,
    live: u64,
    ramp_s: f64,
    connects_per_s: f64,
    connect: Option<Latency>,
    stalled: u64,
    stalled_ended: u64,
    /// Ended and replaced by intention.
    churned: u64,
    /// Came back after a storm.
    returned: Option<Latency>,
    /// Of those, with the session that they had.
    recovered: u64,
    failed: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
}

/// What the sessions of one group have had.
#[derive(Clone, Debug, Serialize)]
struct OfGroup {
    name: String,
    updates: u64,
    updates_per_s: f64,
    lost: u64,
    /// See [`Report::conflated`].
    conflated: Option<u64>,
    latency: Option<Latency>,
}

#[derive(Clone, Debug, Serialize)]
struct Latency {
    count: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    p9999_ns: u64,
    max_ns: u64,
    mean_ns: f64,
    /// Pairs of percentile and nanoseconds, closer and closer to 100.
    curve: Vec<(f64, u64)>,
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

/// What a session costs while it only exists: from before the first one to after the last one had subscribed.
#[derive(Clone, Debug, Serialize)]
struct Memory {
    /// The server's own, by its resident memory.
    server_bytes_per_session: Option<f64>,
    /// The kernel's: of the whole machine, so both ends of each connection if the server is on it.
    kernel_bytes_per_session: Option<f64>,
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
    /// It never slept: what its threads used is the time of those turns that brought something.
    spin: bool,
    threads: Vec<Thread>,
    /// `null` if there was no update.
    cpu_ns_per_update: Option<f64>,
    turn_p99_ns: u64,
    turn_max_ns: u64,
    /// By how much a session was started later than its time, at worst.
    start_late_ns: u64,
    untimed: u64,
    from_future: u64,
    beyond_range: u64,
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
    pub fn new(scenario: &Scenario, measured: &Measured, series: &Series) -> Self {
        let total = &series.total;
        let seconds = measured.elapsed.as_secs_f64();
        let is_window = measured.elapsed >= WINDOW_MIN;
        let judged_s = if is_window { seconds } else { 0.0 };
        let per_s = |count: u64| ratio(count as f64, seconds).unwrap_or(0.0);
        let used = |before: &Option<Sample>, after: &Option<Sample>| {
            Some(after.as_ref()?.since(before.as_ref()?))
        };
        let latency = Latency::new(&total.latency());
        let transports = total.by_transport();
        let is_numbered = scenario.sequence_field.is_some() && total.numbered > 0;
        let left_out = |skipped: u64, lost| is_numbered.then(|| skipped.saturating_sub(lost));
        let by_group = scenario.groups.iter().enumerate().map(|(index, group)| {
            let had = total.groups.get(&index);
            let count = |of: fn(&stats::OfGroup) -> u64| had.map_or(0, of);
            let (updates, lost) = (count(|had| had.updates), count(|had| had.lost));
            OfGroup {
                name: group.name.clone(),
                updates,
                updates_per_s: per_s(updates),
                lost,
                conflated: left_out(count(|had| had.skipped), lost),
                latency: had.and_then(|had| Latency::new(&had.latency_ns)),
            }
        });
        let mut report = Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::look(),
            began_s: measured.began_ns / 1_000_000_000,
            scenario: scenario.clone(),
            interrupted: measured.interrupted,
            success: false,
            sessions: Sessions::new(scenario, &measured.fleets),
            window_s: seconds,
            updates: total.updates,
            updates_per_s: per_s(total.updates),
            snapshots: total.snapshots,
            messages_per_s: per_s(total.messages),
            updates_per_message: ratio(total.updates as f64, total.messages as f64).unwrap_or(0.0),
            receives_per_s: per_s(total.receives),
            bytes_per_s: per_s(total.bytes),
            bytes_per_update: ratio(total.bytes as f64, total.updates as f64),
            lost: total.lost,
            conflated: left_out(total.skipped, total.lost),
            reordered: total.reordered,
            silence_max_ns: total.silence_ns,
            by_transport: transports
                .iter()
                .filter_map(|(transport, times)| Some((transport.name(), Latency::new(times)?)))
                .collect(),
            by_group: by_group.collect(),
            by_rank: series.ranking.by_tenth().iter().map(Latency::new).collect(),
            ranked_events: series.ranking.events,
            ranked_share: series.ranking.share,
            seconds: series.seconds.clone(),
            server: used(&measured.before.server, &measured.after.server)
                .map(|used| Server::new(&used, judged_s, total.updates)),
            memory: Memory::new(measured),
            generator: Generator::new(scenario, measured, total, &latency, judged_s),
            latency,
            verify: measured.verify.clone().map(|found| Verify {
                ok: found.is_ok(),
                found,
            }),
        };
        report.success = report.is_success();
        report
    }

    /// Whether all sessions worked, and agreed if they were compared.
    pub fn is_success(&self) -> bool {
        self.sessions.live == u64::from(self.sessions.asked)
            && self.sessions.failed.is_empty()
            && self.sessions.ended.is_empty()
            && self.verify.as_ref().is_none_or(|verify| verify.ok)
    }
}

impl Sessions {
    fn new(scenario: &Scenario, fleets: &fleet::Outcome) -> Self {
        let ramp_s = fleets.ramp_ns as f64 / 1e9;
        Self {
            asked: scenario.sessions(),
            live: fleets.live,
            ramp_s,
            connects_per_s: ratio(fleets.live as f64, ramp_s).unwrap_or(0.0),
            connect: Latency::new(&fleets.connect_ns),
            stalled: fleets.stalled,
            stalled_ended: fleets.stalled_ended,
            churned: fleets.churned,
            returned: Latency::new(&fleets.reconnect_ns),
            recovered: fleets.recovered,
            failed: fleets.failed.0.clone(),
            ended: fleets.ended.0.clone(),
        }
    }
}

impl Latency {
    /// `None` if nothing was timed: an empty histogram would show a latency of zero.
    fn new(times: &Times) -> Option<Self> {
        let times = &times.0;
        let steps_to_half = 5;
        let curve = times.iter_quantiles(steps_to_half).map(|step| {
            let percentile = step.quantile_iterated_to() * 100.0;
            (percentile, step.value_iterated_to())
        });
        (!times.is_empty()).then(|| Self {
            count: times.len(),
            p50_ns: times.value_at_quantile(0.5),
            p90_ns: times.value_at_quantile(0.9),
            p99_ns: times.value_at_quantile(0.99),
            p999_ns: times.value_at_quantile(0.999),
            p9999_ns: times.value_at_quantile(0.9999),
            max_ns: times.max(),
            mean_ns: times.mean(),
            curve: curve.collect(),
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

impl Memory {
    fn new(measured: &Measured) -> Self {
        let (before, after) = (&measured.before_ramp, &measured.after_ramp);
        let live = measured.fleets.live as f64;
        // What has become less, or has stayed as it was, was not the sessions' doing: their part cannot be seen in it.
        let per_session = |before: Option<u64>, after: Option<u64>| {
            let grown = after?.checked_sub(before?)?;
            ratio(grown as f64, live).filter(|bytes| *bytes > 0.0)
        };
        let rss = |samples: &Samples| samples.server.as_ref().map(|sample| sample.rss_bytes);
        Self {
            server_bytes_per_session: per_session(rss(before), rss(after)),
            kernel_bytes_per_session: per_session(before.kernel_bytes, after.kernel_bytes),
        }
    }
}

impl Generator {
    fn new(
        scenario: &Scenario,
        measured: &Measured,
        total: &Interval,
        latency: &Option<Latency>,
        seconds: f64,
    ) -> Self {
        let share = |ns: u64| ratio(ns as f64 / 1e9, seconds).unwrap_or(0.0);
        let mut fleets = measured.fleets.threads.clone();
        fleets.sort_unstable();
        let threads: Vec<Thread> = fleets
            .iter()
            .map(|used| Thread {
                name: format!("fleet-{}", used.fleet),
                cores: share(used.busy_ns),
                waited: share(used.waited_ns),
            })
            .collect();
        let cpu_ns: u64 = fleets.iter().map(|used| used.busy_ns).sum();
        let turns = &total.turn_ns.0;
        let mut notes = notes::of_run(scenario, measured, total);
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
        if latency
            .as_ref()
            .is_some_and(|latency| turns.value_at_quantile(0.99) > latency.p50_ns)
        {
            notes.push(
                "the generator's own turns are as long as the latencies: what arrived during one was noticed late"
                    .into(),
            );
        }
        if latency
            .as_ref()
            .is_some_and(|latency| turns.max() > latency.p999_ns)
        {
            notes.push(format!(
                "a turn of the generator took {}, more than 99.9 % of the latencies: the longest of them may be its own",
                time(turns.max())
            ));
        }
        if u128::from(measured.fleets.start_late_ns) > START_LATE.as_nanos() {
            notes.push(format!(
                "sessions were started up to {} later than planned: the generator was busy connecting",
                time(measured.fleets.start_late_ns)
            ));
        }
        if u128::from(total.silence_ns) > SILENCE.as_nanos() && total.updates > 0 {
            notes.push(format!(
                "{} for {}: the server, the feed or the generator stood still, or there was nothing to say",
                if threads.len() > 1 {
                    "nothing arrived at a thread's sessions"
                } else {
                    "nothing at all arrived"
                },
                time(total.silence_ns)
            ));
        }
        if threads.is_empty() {
            notes.push("the generator's own CPU time is not known".into());
        }
        Self {
            io: measured.io,
            spin: scenario.spin,
            threads,
            cpu_ns_per_update: ratio(cpu_ns as f64, total.updates as f64),
            turn_p99_ns: turns.value_at_quantile(0.99),
            turn_max_ns: turns.max(),
            start_late_ns: measured.fleets.start_late_ns,
            untimed: total.untimed,
            from_future: total.from_future,
            beyond_range: total.beyond_range,
            saturated,
            notes,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::scenario::Transport;
    use clap::Parser;

    fn scenario(flags: &str) -> Scenario {
        let words = ["loadgen", "run", "--server", "h:1", "--sessions", "2"];
        let words = words.into_iter().chain(flags.split_whitespace());
        let Command::Run(arguments) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!("it says run");
        };
        arguments.scenario().unwrap()
    }

    fn series() -> Series {
        let mut interval = Interval::new(0);
        interval.updates = 40;
        interval.messages = 20;
        interval.bytes = 4_000;
        interval.skipped = 7;
        interval.numbered = 40;
        interval.lost = 3;
        for latency_us in 1..=10 {
            interval.time(0, Transport::Websocket, latency_us * 1_000);
        }
        let mut series = Series::new(1, None).unwrap();
        series.add(&interval);
        series
    }

    fn used(busy_ns: u64, waited_ns: u64) -> fleet::Used {
        fleet::Used {
            fleet: 0,
            busy_ns,
            waited_ns,
        }
    }

    fn measured() -> Measured {
        let server = |millis, rss_bytes| {
            Some(Sample {
                user: Duration::from_millis(millis),
                system: Duration::from_millis(3 * millis),
                rss_bytes,
                ..Sample::default()
            })
        };
        let samples = |millis, rss_bytes| Samples {
            server: server(millis, rss_bytes),
            kernel_bytes: Some(10 * rss_bytes),
        };
        Measured {
            io: "epoll",
            interrupted: false,
            is_server: None,
            began_ns: 0,
            elapsed: Duration::from_secs(2),
            before_ramp: samples(0, 1_000),
            after_ramp: samples(0, 5_000),
            before: samples(0, 5_000),
            after: samples(100, 6_000),
            fleets: fleet::Outcome {
                live: 2,
                ramp_ns: 3_000_000,
                threads: vec![used(400_000, 0)],
                ..fleet::Outcome::default()
            },
            verify: None,
        }
    }

    fn report(measured: &Measured) -> Report {
        Report::new(&scenario(""), measured, &series())
    }

    #[test]
    fn figures_are_of_the_window() {
        let report = report(&measured());
        assert_eq!(report.updates_per_s, 20.0);
        assert_eq!(report.updates_per_message, 2.0);
        assert_eq!(report.bytes_per_update, Some(100.0));
        let server = report.server.as_ref().unwrap();
        assert_eq!(server.cpu_ns_per_update, Some(1e7));
        assert_eq!(server.cores, 0.2);
        assert_eq!(report.generator.cpu_ns_per_update, Some(1e4));
        assert_eq!(report.memory.server_bytes_per_session, Some(2_000.0));
        assert_eq!(report.memory.kernel_bytes_per_session, Some(20_000.0));
        let latency = report.latency.as_ref().unwrap();
        assert!(latency.p50_ns.abs_diff(5_000) < 10, "{latency:?}");
        assert!(report.is_success());
        let text = report.to_string();
        assert!(text.contains("2 of 2 live"), "{text}");
        assert!(text.contains("3 events lost"), "{text}");
        assert!(text.ends_with("result      ok"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["updates_per_s"], 20.0);
        assert_eq!(json["verify"], serde_json::Value::Null);
        assert_eq!(json["seconds"][0]["updates"], 40);
    }

    #[test]
    fn what_is_missing_is_lost_or_conflated_or_not_known() {
        assert_eq!(report(&measured()).conflated, None);
        let scenario = scenario("--fields seq,timestamp --sequence-field seq");
        let report = Report::new(&scenario, &measured(), &series());
        assert_eq!((report.conflated, report.lost), (Some(4), 3));
    }

    /// Sessions on a bad line must not be mistaken for those that are served well.
    #[test]
    fn groups_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("two.toml");
        let two = "[[group]]\nname = \"good\"\n[[group]]\nname = \"<bad>\"";
        std::fs::write(&path, two).unwrap();
        let flags = format!(
            "--fields seq,timestamp --sequence-field seq {}",
            path.display()
        );
        let scenario = scenario(&flags);
        let mut interval = Interval::new(0);
        interval.time(0, Transport::Websocket, 1_000_000);
        interval.time(1, Transport::Websocket, 3_000_000_000);
        interval.numbered = 1;
        let bad = interval.of(1, Transport::Websocket);
        (bad.updates, bad.lost, bad.skipped) = (10, 2, 9);
        let mut series = Series::new(1, None).unwrap();
        series.add(&interval);
        let report = Report::new(&scenario, &measured(), &series);
        let p50 = |group: usize| report.by_group[group].latency.as_ref().unwrap().p50_ns;
        assert!(p50(0) < 2_000_000 && p50(1) > 2_000_000_000);
        assert_eq!(
            (report.by_group[1].lost, report.by_group[1].conflated),
            (2, Some(7))
        );
        assert_eq!(report.by_group[0].conflated, Some(0));
        let text = report.to_string();
        assert!(
            text.contains("<bad>: 5/s, 2 lost, 7 left out; p50 3.00 s"),
            "{text}"
        );
        assert!(text.contains("good: 0/s; p50 1.00 ms"), "{text}");
        let page = html::page(&report);
        assert!(page.contains("group &lt;bad&gt;"), "{page}");
        assert!(!page.split("<script").next().unwrap().contains("<bad>"));
    }

    #[test]
    fn nothing_measured_is_not_a_latency_of_zero() {
        let mut measured = measured();
        measured.elapsed = Duration::ZERO;
        let series = Series::new(1, None).unwrap();
        let report = Report::new(&scenario(""), &measured, &series);
        assert!(report.latency.is_none());
        assert_eq!(report.updates_per_s, 0.0);
        assert!(report.to_string().contains("not measured"));
        html::page(&report);
    }

    /// An hour: the page stays small, shows the worst second, and fetches nothing.
    #[test]
    fn a_long_run_makes_a_page_that_a_browser_can_show() {
        let mut series = Series::new(1, None).unwrap();
        for index in 0..3_600 {
            let mut interval = Interval::new(index);
            interval.updates = 1_000 + u64::from(index % 60);
            interval.connects = 3;
            for (group, transport) in Transport::ALL.into_iter().enumerate() {
                for step in 1..20 {
                    interval.time(group, transport, step * 50_000);
                }
            }
            // One bad second among them all.
            if index == 2_345 {
                interval.time(0, Transport::Websocket, 30_000_000_000);
            }
            series.add(&interval);
        }
        let mut measured = measured();
        measured.elapsed = Duration::from_secs(3_600);
        let page = html::page(&Report::new(&scenario(""), &measured, &series));
        let without_data = page.split("<script").next().unwrap();
        assert!(without_data.len() < 400_000, "{}", without_data.len());
        // The bad second is a dozen points above the others, whatever is drawn together with it.
        assert!(without_data.contains(">50:00<"), "time has no minutes");
        for fetched in ["src=", "href=", "url(", "@import"] {
            assert!(!without_data.contains(fetched), "{fetched}");
        }
        let data = page.split_once("id=\"report\">").unwrap().1;
        let data = data.split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["seconds"].as_array().unwrap().len(), 3_600);
    }

    #[test]
    fn every_kind_of_failure_fails_the_run() {
        let fails = |change: fn(&mut Measured)| {
            let mut measured = measured();
            change(&mut measured);
            !report(&measured).is_success()
        };
        assert!(!fails(|_| ()));
        assert!(fails(|measured| measured.fleets.live = 1));
        assert!(fails(|measured| measured.fleets.failed.count("x".into())));
        assert!(fails(|measured| measured.fleets.ended.count("x".into())));
        assert!(fails(|measured| measured.verify = Some(Default::default())));
        assert!(!fails(|measured| measured.fleets.stalled_ended = 1));
    }

    #[test]
    fn a_turn_that_may_be_the_longest_latency_is_told() {
        let mut interval = Interval::new(0);
        interval.time(0, Transport::Websocket, 5_000_000);
        let notes = |turn_ns: u64| {
            let mut interval = interval.clone();
            interval.turn_ns.record(turn_ns);
            let mut series = Series::new(1, None).unwrap();
            series.add(&interval);
            let report = Report::new(&scenario(""), &measured(), &series);
            report.generator.notes.join("\n")
        };
        assert!(notes(6_000_000).contains("took 6.00 ms"));
        assert!(!notes(1_000_000).contains("took"));
    }

    #[test]
    fn a_busy_generator_says_so() {
        let mut measured = measured();
        measured.fleets.threads = vec![used(1_900_000_000, 400_000_000)];
        measured.fleets.start_late_ns = 200_000_000;
        let report = report(&measured);
        assert!(report.generator.saturated);
        assert_eq!(report.generator.notes.len(), 4, "{:?}", report.generator);
        assert!(report.to_string().contains("describe the generator"));
    }
}
