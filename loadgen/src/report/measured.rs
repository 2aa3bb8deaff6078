//! What a run has brought, before it is put into words.

use std::time::Duration;

use crate::fleet;
use crate::run::Samples;
use crate::verify::{self, FinalRows};

/// All of it but what was measured second by second.
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
