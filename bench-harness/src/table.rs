//! What a run has brought, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::Figures;
use crate::scenario::{QUICK, Scenario};
use crate::server::Kind;

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    machine: Machine,
    command: String,
    /// The machine was not quiet when some of it was measured.
    disturbed: bool,
    rows: Vec<Row>,
    /// What was left out, and why.
    missing: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    scenario: &'static str,
    purpose: &'static str,
    server: &'static str,
    #[serde(skip)]
    kind: Kind,
    repetitions: Vec<Figures>,
}

/// A bound that Brightwire is held to, relative to something measured in the same run.
struct Target {
    says: &'static str,
    bound: f64,
    value: Option<f64>,
}

impl Table {
    /// An empty table.
    pub fn new(command: String) -> Self {
        Self {
            machine: Machine::look(),
            command,
            disturbed: false,
            rows: Vec::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Adds one repetition of a cell.
    pub fn add(&mut self, scenario: &Scenario, kind: Kind, figures: Figures) {
        let row = self
            .rows
            .iter_mut()
            .find(|row| row.scenario == scenario.name && row.kind == kind);
        match row {
            Some(row) => row.repetitions.push(figures),
            None => self.rows.push(Row {
                scenario: scenario.name,
                purpose: scenario.purpose,
                server: kind.name(),
                kind,
                repetitions: vec![figures],
            }),
        }
    }

    /// Notes what could not be measured.
    pub fn miss(&mut self, what: String, why: String) {
        self.missing.insert(what, why);
    }

    /// Notes that somebody else was at work on the machine.
    pub fn disturbed(&mut self) {
        self.disturbed = true;
    }

    /// Puts the rows into the order of the scenarios, and within each of the servers.
    pub fn sort(&mut self) {
        let place = |row: &Row| {
            let scenario = QUICK.iter().position(|known| known.name == row.scenario);
            (
                scenario,
                Kind::ALL.iter().position(|kind| *kind == row.kind),
            )
        };
        self.rows.sort_by_key(place);
    }

    fn median(&self, scenario: &str, kind: Kind, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| row.scenario == scenario && row.kind == kind)
            .map(|row| spread(&row.repetitions, figure)[1])
    }

    fn targets(&self) -> Vec<Target> {
        let cpu = |scenario, kind| self.median(scenario, kind, |figures| figures.cpu_ns);
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
        let p99 = |kind| self.median("open-1000", kind, |figures| figures.latency_ms[1]);
        let best_peer = [
            Kind::Uws,
            Kind::NodeWs,
            Kind::Nchan,
            Kind::Nats,
            Kind::Mosquitto,
        ]
        .into_iter()
        .filter_map(p99)
        .min_by(f64::total_cmp);
        let floor = cpu("lone-1000", Kind::FloorSend);
        vec![
            Target {
                says: "CPU of a lone update, io_uring, relative to the bare send(2) loop",
                bound: 1.0,
                value: ratio(cpu("lone-1000", Kind::Uring), floor),
            },
            Target {
                says: "CPU of a lone update, epoll, relative to the bare send(2) loop",
                bound: 1.15,
                value: ratio(cpu("lone-1000", Kind::Epoll), floor),
            },
            Target {
                says: "CPU of an update with 16 on their way, io_uring, relative to uWebSockets.js",
                bound: 1.1,
                value: ratio(
                    cpu("window-1000", Kind::Uring),
                    cpu("window-1000", Kind::Uws),
                ),
            },
            Target {
                says: "CPU of an update with 20 items a session, relative to a lone update",
                bound: 1.0 / 8.0,
                value: ratio(
                    cpu("many-200x20", Kind::Uring),
                    cpu("lone-1000", Kind::Uring),
                ),
            },
            Target {
                says: "p99 at 50,000 deliveries/s to 1,000 sessions, relative to the best peer's",
                bound: 1.0,
                value: ratio(p99(Kind::Uring), best_peer),
            },
        ]
    }
}

/// Least, median and most.
fn spread(figures: &[Figures], figure: impl Fn(&Figures) -> f64) -> [f64; 3] {
    let mut values: Vec<f64> = figures.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => [0.0; 3],
        values => [
            values[0],
            values[values.len() / 2],
            values[values.len() - 1],
        ],
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "machine: {}, {} cores, Linux {}, governor {}, isolated cores: {}, mitigations: {}",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.governor.as_deref().unwrap_or("unknown"),
            if machine.isolated.is_empty() {
                "none"
            } else {
                &machine.isolated
            },
            machine.mitigations.len()
        )?;
        writeln!(f, "command: {}", self.command)?;
        writeln!(
            f,
            "Each figure is the median of the repetitions, with least and most for the CPU. CPU is all of the server's, per\n\
             message delivered to a client. Latency counts from the intended time of a message."
        )?;
        if self.disturbed {
            writeln!(f, "NOTE: the machine was not quiet all the time.")?;
        }
        let mut scenario = "";
        for row in &self.rows {
            if row.scenario != scenario {
                scenario = row.scenario;
                writeln!(f, "\n{} - {}", row.scenario, row.purpose)?;
                writeln!(
                    f,
                    "  {:<22}{:>24}{:>12}{:>10}{:>10}{:>10}{:>8}{:>7}",
                    "",
                    "CPU ns/delivery",
                    "deliver./s",
                    "p50 ms",
                    "p99 ms",
                    "p99.9 ms",
                    "cores",
                    "lost"
                )?;
            }
            let median = |figure: &dyn Fn(&Figures) -> f64| spread(&row.repetitions, figure)[1];
            let cpu = spread(&row.repetitions, |figures| figures.cpu_ns);
            writeln!(
                f,
                "  {:<22}{:>24}{:>12.0}{:>10.2}{:>10.2}{:>10.2}{:>8.2}{:>7.0}",
                row.server,
                format!("{:.0} ({:.0}-{:.0})", cpu[1], cpu[0], cpu[2]),
                median(&|figures| figures.deliveries_per_s),
                median(&|figures| figures.latency_ms[0]),
                median(&|figures| figures.latency_ms[1]),
                median(&|figures| figures.latency_ms[2]),
                median(&|figures| figures.cores),
                median(&|figures| figures.lost as f64),
            )?;
        }
        writeln!(f, "\ntargets")?;
        for target in self.targets() {
            match target.value {
                Some(value) => writeln!(
                    f,
                    "  {:<8}{value:.2} (at most {:.2}): {}",
                    if value <= target.bound {
                        "met"
                    } else {
                        "MISSED"
                    },
                    target.bound,
                    target.says
                )?,
                None => writeln!(f, "  {:<8}{}", "unknown", target.says)?,
            }
        }
        writeln!(f, "\nwhat to keep in mind")?;
        for kind in Kind::ALL {
            if let Some(caveat) = kind.caveat() {
                writeln!(f, "  {}: {caveat}", kind.name())?;
            }
        }
        for (what, why) in &self.missing {
            writeln!(f, "  not measured: {what}: {why}")?;
        }
        Ok(())
    }
}
