//! The report: one set of figures, printed for people and written as JSON and as a page.

mod generator;
pub mod html;
mod measured;
mod notes;
mod svg;
mod text;

pub use measured::Measured;
pub use text::{short, time};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::fleet;
use crate::process::{Machine, Sample};
use crate::run::Samples;
use crate::scenario::Scenario;
use crate::series::{Second, Series};
use crate::stats::{self, Times};
use crate::verify;
use generator::Generator;

/// In a shorter window nobody's share of a core means anything.
const WINDOW_MIN: Duration = Duration::from_millis(10);

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
mod tests;
