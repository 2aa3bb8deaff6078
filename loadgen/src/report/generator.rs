//! The generator's own figures, and whether it was in its own way.

use std::time::Duration;

use serde::Serialize;

use super::measured::Measured;
use super::{Latency, Thread, notes, ratio, time};
use crate::scenario::Scenario;
use crate::stats::Interval;

/// A fleet that uses more of a core than this may be what limits the figures. (guess: bursts of an otherwise even load
/// come close to the whole core)
const SATURATED_CORES: f64 = 0.8;
/// A fleet that waits for a core for more of the time than this shares it with somebody. (guess)
const DISTURBED_SHARE: f64 = 0.05;
/// Sessions that start by so much later than planned are a crowd of another kind than was asked for. (guess)
const START_LATE: Duration = Duration::from_millis(100);
/// Nothing arriving for so long is worth a word. (guess: far above any load's pauses that is worth measuring)
const SILENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Generator {
    pub(super) io: &'static str,
    /// It never slept: what its threads used is the time of those turns that brought something.
    pub(super) spin: bool,
    pub(super) threads: Vec<Thread>,
    /// `null` if there was no update.
    pub(super) cpu_ns_per_update: Option<f64>,
    pub(super) turn_p99_ns: u64,
    pub(super) turn_max_ns: u64,
    /// By how much a session was started later than its time, at worst.
    pub(super) start_late_ns: u64,
    pub(super) untimed: u64,
    pub(super) from_future: u64,
    pub(super) beyond_range: u64,
    /// The figures describe the generator rather than the server.
    pub(super) saturated: bool,
    pub(super) notes: Vec<String>,
}

impl Generator {
    pub(super) fn new(
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
