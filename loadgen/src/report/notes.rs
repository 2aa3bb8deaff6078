//! What a reader of the figures must know of the run besides them: what was asked for and did not happen, and what the
//! figures cannot say.

use engine::tlcp::request::Frequency;

use super::{Measured, Report};
use crate::scenario::Scenario;
use crate::stats::Interval;

/// Below so many sessions, what the server sets aside once looks like theirs. (measured: some 60 kB a session with 100)
const SESSIONS_MIN: u64 = 1_000;
/// Less than this share of the replacements that were asked for is another load. (guess)
const CHURN_SHARE_MIN: f64 = 0.9;

/// What did not go as it was asked for.
pub fn of_run(scenario: &Scenario, measured: &Measured, total: &Interval) -> Vec<String> {
    let fleets = &measured.fleets;
    let window_s = measured.elapsed.as_secs_f64();
    let mut notes = Vec::new();
    if fleets.live == 0 {
        return vec!["no session was there, so nothing was measured".into()];
    }
    if total.updates == 0 && window_s > 0.0 {
        notes.push(
            "no update arrived at all: do items of these names exist, and is there a feed?".into(),
        );
    }
    if measured.is_server == Some(false) {
        notes.push(
            "the process of --server-pid does not listen at the server's port: its CPU and memory are somebody else's"
                .into(),
        );
    }
    for storm in &scenario.storms {
        if storm.at > window_s {
            notes.push(format!(
                "the storm at {} s did not happen: the window ended before",
                storm.at
            ));
        }
    }
    let asked: f64 = scenario.groups.iter().map(|group| group.churn).sum();
    if (fleets.churned as f64) < asked * window_s * CHURN_SHARE_MIN - 1.0 {
        notes.push(format!(
            "{} sessions were replaced where {:.0} were asked for: not enough of them were there to go",
            fleets.churned,
            asked * window_s
        ));
    }
    if let Some(field) = &scenario.sequence_field
        && total.updates > 0
        && total.numbered == 0
    {
        notes.push(format!(
            "the field '{field}' had no number in any update: what was left out is not known"
        ));
    }
    if measured.before_ramp.server.is_some() && fleets.live < SESSIONS_MIN {
        notes.push(format!(
            "memory of a session: with fewer than {SESSIONS_MIN} sessions it is mostly what the server sets aside once"
        ));
    }
    let asked_to_wait = scenario.groups.iter().filter(|group| {
        matches!(group.frequency.0, Frequency::Limited(_))
            || group.bandwidth.is_some()
            || group.read_rate.is_some()
            || group.poll_pause.0 > 0.0
    });
    let asked_to_wait: Vec<&str> = asked_to_wait.map(|group| group.name.as_str()).collect();
    if !asked_to_wait.is_empty() {
        notes.push(format!(
            "latencies of {} include waits that were asked for: a frequency, a bandwidth, a read rate or a pause between polls",
            asked_to_wait.join(", ")
        ));
    }
    let held_back = scenario.groups.iter();
    let held_back =
        held_back.filter(|group| group.bandwidth.is_some() || group.read_rate.is_some());
    let held_back: Vec<&str> = held_back.map(|group| group.name.as_str()).collect();
    if let Some(verify) = &measured.verify
        && verify.behind + verify.rows_missing > 0
        && !held_back.is_empty()
    {
        notes.push(format!(
            "a bandwidth or a read rate holds {} back: rows may be behind for no other reason; give them time with --settle",
            held_back.join(", ")
        ));
    }
    notes
}

impl Report {
    /// Why there are no latencies.
    pub(super) fn why_untimed(&self) -> String {
        let scenario = &self.scenario;
        let field = &scenario.timestamp_field;
        let groups = &scenario.groups;
        if groups
            .iter()
            .all(|group| scenario.timestamp_position(group).is_none())
        {
            return format!("the field '{field}' is not among the fields");
        }
        if self.updates == 0 {
            return "no update arrived".into();
        }
        if self.updates == self.snapshots {
            return "nothing but snapshots arrived".into();
        }
        let generator = &self.generator;
        if generator.from_future > 0 {
            return format!(
                "{} events were from the future: the clocks differ",
                generator.from_future
            );
        }
        if groups.iter().all(|group| group.stalled == group.sessions) {
            return "all sessions were stalled".into();
        }
        format!("no update had a new number in '{field}'")
    }
}
