//! What keys, flags and defaults amount to.

use std::path::Path;

use brightwire::config::plan::IoChoice;
use engine::tlcp::request::Frequency;

use super::keys::{File, GroupKeys, RunKeys};
use super::values::{MaxFrequency, Rate, RateOrNone, Seconds};
use super::{Acks, Group, Scenario, SubscriptionMode, Transport};

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
            Some(path) => File::read(path)?,
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
            acks: pick(&run.acks, &keys.acks, Acks::Kernel),
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
}

impl Group {
    pub(super) fn resolve(index: usize, keys: &GroupKeys, flags: &GroupKeys) -> Self {
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
}

/// Shares sessions out in the proportions that the groups have; every group keeps at least one. So do those that stall,
/// unless a flag says how many.
pub(super) fn share_out(
    groups: &mut [Group],
    sessions: u32,
    stalled_are_told: bool,
) -> Result<(), String> {
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

fn pick<T: Clone>(flag: &Option<T>, key: &Option<T>, default: T) -> T {
    flag.clone().or_else(|| key.clone()).unwrap_or(default)
}
