//! What a run has brought, for people and for programs.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::process::Command;

use serde::Serialize;

use crate::contender::{Contender, Profile};
use crate::machine::Machine;
use crate::measure::Figures;
use crate::scenario::{QUICK, Scenario};
use crate::server::{Kind, Places};

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    machine: Machine,
    /// The commit of the work tree that the command was run in.
    revision: Option<String>,
    command: String,
    /// Length of a measured window, s.
    seconds: f64,
    profile: Option<Profile>,
    /// What the servers say of their versions.
    versions: BTreeMap<String, String>,
    rows: Vec<Row>,
    /// What was left out, and why.
    missing: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    scenario: &'static str,
    purpose: &'static str,
    server: String,
    /// The kind, if it is measured as itself: what bounds look for.
    #[serde(skip)]
    kind: Option<Kind>,
    #[serde(skip)]
    of: Kind,
    repetitions: Vec<Figures>,
}

/// A bound that Brightwire is held to, relative to something measured in the same run.
struct Target {
    says: String,
    bound: f64,
    value: Option<Spread>,
}

/// Least, median and most of some repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of values in any order; zeros if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let (least, most) = match values.as_slice() {
            [] => (0.0, 0.0),
            [least, .., most] => (*least, *most),
            [only] => (*only, *only),
        };
        let median = match values.len() {
            0 => 0.0,
            even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Self {
            least,
            median,
            most,
        }
    }
}

impl Row {
    /// Those that nobody disturbed; all if there are none.
    fn valid(&self) -> impl Iterator<Item = &Figures> {
        let any = self.undisturbed() > 0;
        let all = self.repetitions.iter();
        all.filter(move |figures| !any || !figures.is_disturbed())
    }

    fn undisturbed(&self) -> usize {
        let all = self.repetitions.iter();
        all.filter(|figures| !figures.is_disturbed()).count()
    }

    fn spread(&self, figure: impl Fn(&Figures) -> f64) -> Spread {
        Spread::of(self.valid().map(figure))
    }
}

impl Table {
    /// An empty table.
    pub fn new(command: String, seconds: f64) -> Self {
        Self {
            machine: Machine::look(),
            revision: revision(),
            command,
            seconds,
            profile: None,
            versions: BTreeMap::new(),
            rows: Vec::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Notes the settings that Brightwire had.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = Some(profile);
    }

    /// Notes a server's version.
    pub fn note_version(&mut self, contender: &Contender, places: &Places) {
        if let Some(version) = contender.kind.version(places) {
            self.versions.insert(contender.name.clone(), version);
        }
    }

    /// Adds one repetition of a cell.
    pub fn add(&mut self, scenario: &Scenario, contender: &Contender, figures: Figures) {
        let row = self
            .rows
            .iter_mut()
            .find(|row| row.scenario == scenario.name && row.server == contender.name);
        match row {
            Some(row) => row.repetitions.push(figures),
            None => self.rows.push(Row {
                scenario: scenario.name,
                purpose: scenario.purpose,
                server: contender.name.clone(),
                kind: Some(contender.kind).filter(|kind| contender.is(*kind)),
                of: contender.kind,
                repetitions: vec![figures],
            }),
        }
    }

    /// Notes what could not be measured.
    pub fn miss(&mut self, what: String, why: String) {
        self.missing.insert(what, why);
    }

    /// Ratios of a figure of one cell to that of another, each of figures of the same repetition: what the machine did
    /// at that time then hits both. Those that nobody disturbed; all if there are none.
    fn ratio(one: &Row, other: &Row, figure: impl Fn(&Figures) -> f64) -> Option<Spread> {
        let pairs: Vec<(&Figures, &Figures)> = one
            .repetitions
            .iter()
            .filter_map(|one| {
                let mut others = other.repetitions.iter();
                let other = others.find(|other| other.repetition == one.repetition)?;
                Some((one, other))
            })
            .collect();
        let is_quiet =
            |(one, other): &&(&Figures, &Figures)| !one.is_disturbed() && !other.is_disturbed();
        let any = pairs.iter().any(|pair| is_quiet(&pair));
        let pairs = pairs.iter().filter(|pair| !any || is_quiet(pair));
        let ratios = pairs.map(|(one, other)| figure(one) / figure(other));
        let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios))
    }

    /// Ratios of a figure of one server to that of another under the same scenario, in the same repetition.
    pub fn ratio_of(
        &self,
        scenario: &str,
        server: &str,
        to: &str,
        figure: impl Fn(&Figures) -> f64,
    ) -> Option<Spread> {
        let row = |server: &str| {
            let mut rows = self.rows.iter();
            rows.find(|row| row.scenario == scenario && row.server == server)
        };
        Self::ratio(row(server)?, row(to)?, figure)
    }

    /// Puts the rows into the order of the scenarios, and within each of the contenders.
    pub fn sort(&mut self, contenders: &[Contender]) {
        let place = |row: &Row| {
            let scenario = QUICK.iter().position(|known| known.name == row.scenario);
            let contender = contenders.iter().position(|known| known.name == row.server);
            (scenario, contender)
        };
        self.rows.sort_by_key(place);
    }

    /// What machine, program and command the figures are of.
    pub fn origin(&self) -> String {
        let revision = self.revision.as_deref().unwrap_or("unknown");
        let profile = match &self.profile {
            Some(profile) => format!("{}, sha256 {}", profile.file, profile.sha256),
            None => "none".into(),
        };
        format!(
            "{}revision: {revision}\nprofile: {profile}\ncommand: {}\n",
            self.machine, self.command
        )
    }

    /// A run without any figure has failed.
    pub fn expect_figures(&self) -> Result<(), Box<dyn Error>> {
        match self.rows.is_empty() {
            true => Err("nothing could be measured".into()),
            false => Ok(()),
        }
    }

    /// What could not be measured.
    pub fn omissions(&self) -> String {
        let missing = self.missing.iter();
        missing
            .map(|(what, why)| format!("  not measured: {what}: {why}\n"))
            .collect()
    }

    /// How many messages percentiles are of, where that is few: all clients of one have much the same latency.
    fn times(&self, row: &Row) -> String {
        let mut known = QUICK.iter();
        let scenario = known.find(|scenario| scenario.name == row.scenario);
        match scenario.and_then(|scenario| scenario.ticks_hz()) {
            Some(hz) => format!(", published {:.0} times in a window", hz * self.seconds),
            None => String::new(),
        }
    }

    fn row(&self, scenario: &str, kind: Kind) -> Option<&Row> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.scenario == scenario && row.kind == Some(kind))
    }

    fn targets(&self) -> Vec<Target> {
        let cpu = |figures: &Figures| figures.cpu_ns;
        let p99 = |figures: &Figures| figures.latency_ms[1];
        let floor = self.row("lone-1000", Kind::FloorSend);
        let mut targets = Vec::new();
        for (kind, io, lone_max) in [(Kind::Uring, "io_uring", 1.0), (Kind::Epoll, "epoll", 1.15)] {
            let lone = self.row("lone-1000", kind);
            let mut target = |bound,
                              one: Option<&Row>,
                              other: Option<&Row>,
                              of: fn(&Figures) -> f64,
                              says: &str| {
                let value = one
                    .zip(other)
                    .and_then(|(one, other)| Self::ratio(one, other, of));
                targets.push(Target {
                    says: format!("{io}: {says}"),
                    bound,
                    value,
                });
            };
            target(
                lone_max,
                lone,
                floor,
                cpu,
                "CPU of a lone update, relative to the bare send(2) loop",
            );
            target(
                1.1,
                self.row("window-1000", kind),
                self.row("window-1000", Kind::Uws),
                cpu,
                "CPU of an update with 16 on their way, relative to uWebSockets.js",
            );
            target(
                1.0 / 8.0,
                self.row("many-200x20", kind),
                lone,
                cpu,
                "CPU of an update with 20 items a session, relative to a lone update",
            );
            for scenario in ["open-100", "open-1000"] {
                let peers = Kind::ALL.into_iter().filter(|kind| kind.is_peer());
                let median = |row: &&Row| row.spread(p99).median;
                let best = peers
                    .filter_map(|peer| self.row(scenario, peer))
                    .min_by(|one, other| median(one).total_cmp(&median(other)));
                let name = best.map_or("none", |row| row.server.as_str());
                let says = format!("p99 of {scenario}, relative to the best peer's ({name})");
                target(1.0, self.row(scenario, kind), best, p99, &says);
            }
        }
        targets
    }
}

/// The commit, and whether anything is changed since.
fn revision() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin())?;
        writeln!(
            f,
            "Each figure is the median of the repetitions, with least and most in brackets. CPU is all of the server's, per message\n\
             delivered to a client. Latency counts from the intended time of a message; all clients have much the same one, so with\n\
             50 messages in a window p99 is that of the worst. The clients never sleep, or servers would pay for waking them; their\n\
             column is the share of the time in which they had something to read. In the last stands how many repetitions nobody\n\
             else on the machine disturbed, of how many; the figures are of those, or of all if there is none."
        )?;
        let mut scenario = "";
        for row in &self.rows {
            if row.scenario != scenario {
                scenario = row.scenario;
                writeln!(f, "\n{} - {}{}", row.scenario, row.purpose, self.times(row))?;
                writeln!(
                    f,
                    "  {:<30}{:>22}{:>11}{:>9}{:>24}{:>10}{:>7}{:>10}{:>6}{:>7}{:>6}",
                    "",
                    "CPU ns/delivery",
                    "deliver./s",
                    "p50 ms",
                    "p99 ms",
                    "p99.9 ms",
                    "cores",
                    "clients'",
                    "MiB",
                    "lost",
                    "n"
                )?;
            }
            let median = |figure: &dyn Fn(&Figures) -> f64| row.spread(figure).median;
            let cpu = row.spread(|figures| figures.cpu_ns);
            let p99 = row.spread(|figures| figures.latency_ms[1]);
            writeln!(
                f,
                "  {:<30}{:>22}{:>11.0}{:>9.2}{:>24}{:>10.2}{:>7.2}{:>10.2}{:>6.0}{:>7.0}{:>6}",
                row.server,
                format!("{:.0} ({:.0}-{:.0})", cpu.median, cpu.least, cpu.most),
                median(&|figures| figures.deliveries_per_s),
                median(&|figures| figures.latency_ms[0]),
                format!("{:.2} ({:.2}-{:.2})", p99.median, p99.least, p99.most),
                median(&|figures| figures.latency_ms[2]),
                median(&|figures| figures.cores),
                median(&|figures| figures.clients_busy),
                median(&|figures| figures.memory_mib),
                median(&|figures| figures.lost as f64),
                format!("{}/{}", row.undisturbed(), row.repetitions.len()),
            )?;
        }
        writeln!(
            f,
            "\ntargets: medians of the ratios within each repetition, with least and most"
        )?;
        for target in self.targets() {
            match target.value {
                Some(value) => writeln!(
                    f,
                    "  {:<8}{:.3} ({:.3}-{:.3}), at most {:.3}: {}{}",
                    if value.median <= target.bound {
                        "met"
                    } else {
                        "MISSED"
                    },
                    value.median,
                    value.least,
                    value.most,
                    target.bound,
                    target.says,
                    if (value.least <= target.bound) == (value.most <= target.bound) {
                        ""
                    } else {
                        "; repetitions lie on both sides, so this run does not decide it"
                    }
                )?,
                None => writeln!(f, "  {:<8}{}", "unknown", target.says)?,
            }
        }
        writeln!(f, "\nwhat to keep in mind")?;
        for kind in Kind::ALL {
            let is_measured = self.rows.iter().any(|row| row.of == kind);
            if is_measured {
                writeln!(f, "  {}: {}", kind.name(), kind.caveat())?;
            }
        }
        for (server, version) in &self.versions {
            writeln!(f, "  version of {server}: {version}")?;
        }
        write!(f, "{}", self.omissions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(repetition: usize, cpu_ns: f64, others: f64) -> Figures {
        Figures {
            repetition,
            cpu_ns,
            others,
            ..Figures::default()
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.5, 4.0));
        assert_eq!(Spread::of([7.0]).median, 7.0);
        assert_eq!(Spread::of([]).most, 0.0);
    }

    /// A disturbed repetition counts only if there is no other; bounds look at Brightwire itself, not at what goes along.
    #[test]
    fn bounds_are_held_against_undisturbed_repetitions() {
        let mut table = Table::new("test".into(), 1.0);
        assert!(table.expect_figures().is_err());
        let lone = QUICK
            .iter()
            .find(|scenario| scenario.name == "lone-1000")
            .unwrap();
        let (uring, floor) = (Contender::new(Kind::Uring), Contender::new(Kind::FloorSend));
        let against = Contender {
            name: "another build".into(),
            ..Contender::new(Kind::Uring)
        };
        table.add(lone, &uring, figures(1, 90.0, 0.0));
        assert!(table.expect_figures().is_ok());
        table.add(lone, &uring, figures(2, 900.0, 0.5));
        table.add(lone, &against, figures(1, 500.0, 0.0));
        table.add(lone, &floor, figures(1, 100.0, 0.0));
        table.add(lone, &floor, figures(2, 100.0, 0.0));
        let target = &table.targets()[0];
        assert_eq!(target.value.map(|value| value.median), Some(0.9));
        let text = table.to_string();
        assert!(text.contains("met     0.900"), "{text}");
        assert!(text.contains("1/2") && text.contains("2/2"), "{text}");
        assert!(text.contains("unknown"), "{text}");
        assert!(text.contains("unfair to Brightwire"), "{text}");
        assert!(
            !text.contains("Mosquitto:"),
            "not measured, so nothing to keep in mind: {text}"
        );
    }

    /// The machine is twice as slow in one repetition, and one cell of another is missing: that must not be compared
    /// crosswise.
    #[test]
    fn ratios_are_of_the_same_repetition() {
        let mut table = Table::new("test".into(), 1.0);
        let lone = &QUICK[2];
        let (uring, floor) = (Contender::new(Kind::Uring), Contender::new(Kind::FloorSend));
        for (repetition, slow) in [(1, 1.0), (2, 2.0), (3, 1.0)] {
            table.add(lone, &uring, figures(repetition, 110.0 * slow, 0.0));
            if repetition > 1 {
                table.add(lone, &floor, figures(repetition, 100.0 * slow, 0.0));
            }
        }
        let ratio = table.ratio_of(lone.name, &uring.name, &floor.name, |figures| {
            figures.cpu_ns
        });
        let ratio = ratio.unwrap();
        assert!((ratio.least - 1.1).abs() < 1e-9 && (ratio.most - 1.1).abs() < 1e-9);
        let text = table.to_string();
        assert!(
            text.contains("MISSED  1.100 (1.100-1.100), at most 1.000"),
            "{text}"
        );
        assert!(!text.contains("both sides"), "{text}");
        table.add(lone, &floor, figures(1, 220.0, 0.0));
        assert!(table.to_string().contains("both sides"));
    }
}
