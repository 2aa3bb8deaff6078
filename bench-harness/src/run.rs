//! A run: all contenders take turns at all scenarios, so that what the machine does meanwhile hits all of them.

use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe;
use brightwire::reactor::uring::UringReactor;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::contender::{Contender, Profile};
use crate::machine;
use crate::measure::{self, Figures};
use crate::scenario::{QUICK, Scenario};
use crate::server::{Places, Server};
use crate::table::Table;

/// What all runs can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Scenarios to measure, by name; all if not given
    #[arg(long, value_delimiter = ',')]
    pub scenarios: Vec<String>,
    /// Length of each measured window, s
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// How often everything is repeated, servers taking turns
    #[arg(long, default_value_t = 3)]
    pub repetitions: usize,
    /// How long in all to wait for a quiet machine and to repeat what others disturbed, s
    #[arg(long, default_value_t = 60.0)]
    pub patience: f64,
    /// Cores of the servers, as `taskset -c` reads them
    #[arg(long, default_value = "0")]
    pub server_cores: String,
    /// Core of the clients and the publisher
    #[arg(long, default_value_t = 1)]
    pub client_core: usize,
    /// Settings for Brightwire: a configuration file, such as a profile
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Brightwire's program; built if not given
    #[arg(long, value_name = "PROGRAM")]
    pub brightwire: Option<PathBuf>,
    /// Directory of the installed peers
    #[arg(long, default_value = "target/bench-peers", value_name = "DIR")]
    pub peers: PathBuf,
    /// Write the figures to this file as JSON as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// How often a window that others disturbed is measured again at most.
const RETRIES_MAX: usize = 2;
/// Open files of a process besides its clients: a guess, on the safe side.
const FILES_OWN: u64 = 100;

impl Options {
    /// Measures all contenders.
    pub fn run(&self, mut contenders: Vec<Contender>) -> Result<Table, Box<dyn Error>> {
        let scenarios = self.scenarios()?;
        let window = Duration::try_from_secs_f64(self.seconds)?;
        let mut patience = Duration::try_from_secs_f64(self.patience)?;
        // What cannot work should be told at once, and not when the figures are there.
        if let Some(path) = &self.json {
            let opened = fs::OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let sessions = scenarios.iter().map(|scenario| scenario.sessions).max();
        machine::allow_open_files(sessions.unwrap_or(0) as u64 + FILES_OWN)?;
        let places = self.places()?;
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let mut table = Table::new(command, self.seconds);
        if let Some(path) = &self.profile {
            let profile = Profile::read(path)?;
            contenders
                .iter_mut()
                .for_each(|contender| profile.apply(contender));
            table.set_profile(profile);
        }
        pin(self.client_core)
            .map_err(|error| format!("--client-core {}: {error}", self.client_core))?;
        let mut servers = Vec::new();
        for contender in &contenders {
            match Server::start(contender, &places) {
                Ok(server) => {
                    table.note_version(contender, &places);
                    servers.push((contender, server));
                }
                Err(error) => table.miss(contender.name.clone(), error.to_string()),
            }
        }
        for repetition in 0..self.repetitions {
            for scenario in &scenarios {
                // Another one begins each time, so that none always comes behind the same.
                let first = repetition % servers.len().max(1);
                let (behind, before) = servers.split_at(first);
                for (contender, server) in before.iter().chain(behind) {
                    let (number, all) = (repetition + 1, self.repetitions);
                    eprintln!("{number}/{all} {}: {}", scenario.name, contender.name);
                    match patiently(server, scenario, window, &mut patience) {
                        Ok(figures) => {
                            let figures = Figures {
                                repetition: number,
                                ..figures
                            };
                            table.add(scenario, contender, figures);
                        }
                        Err(error) => table.miss(
                            format!("{} under {}", contender.name, scenario.name),
                            error.to_string(),
                        ),
                    }
                }
            }
        }
        table.sort(&contenders);
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_string_pretty(&table)? + "\n")?;
        }
        Ok(table)
    }

    fn scenarios(&self) -> Result<Vec<&'static Scenario>, Box<dyn Error>> {
        let known = |name: &String| QUICK.iter().any(|scenario| scenario.name == name);
        if let Some(name) = self.scenarios.iter().find(|name| !known(name)) {
            let names: Vec<_> = QUICK.iter().map(|scenario| scenario.name).collect();
            return Err(format!("there is no scenario {name}: {}", names.join(", ")).into());
        }
        let wanted = |scenario: &&Scenario| {
            self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario.name)
        };
        Ok(QUICK.iter().filter(wanted).collect())
    }

    fn places(&self) -> Result<Places, Box<dyn Error>> {
        Ok(Places {
            brightwire: match &self.brightwire {
                Some(path) => path.clone(),
                None => build()?,
            },
            peers: self.peers.clone(),
            cores: self.server_cores.clone(),
        })
    }
}

/// Measures a cell when the machine is quiet, and once more if it was not quiet meanwhile, as long as patience lasts.
fn patiently(
    server: &Server,
    scenario: &Scenario,
    window: Duration,
    patience: &mut Duration,
) -> io::Result<Figures> {
    for retry in 0.. {
        let waits = Instant::now();
        if !patience.is_zero() {
            machine::wait_until_quiet(*patience)?;
            *patience = patience.saturating_sub(waits.elapsed());
        }
        let begins = Instant::now();
        let figures = cell(server, scenario, window)?;
        if !figures.is_disturbed() || patience.is_zero() || retry == RETRIES_MAX {
            return Ok(figures);
        }
        *patience = patience.saturating_sub(begins.elapsed());
    }
    unreachable!("the last retry returns")
}

fn cell(server: &Server, scenario: &Scenario, window: Duration) -> io::Result<Figures> {
    let probe = probe::probe();
    match probe.obstacle {
        None => {
            let reactor = UringReactor::new(probe.features, scenario.sessions)?;
            measure::measure(reactor, server, scenario, window)
        }
        Some(_) => {
            let reactor = EpollReactor::new(scenario.sessions)?;
            measure::measure(reactor, server, scenario, window)
        }
    }
}

/// Builds Brightwire as its users do, and says where it is.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--quiet", "-p", "brightwire"])
        .status()?;
    if !status.success() {
        return Err("brightwire does not build".into());
    }
    let program = std::env::current_exe()?.with_file_name("brightwire");
    if program.exists() {
        return Ok(program);
    }
    Err(format!(
        "{} is not there; name it with --brightwire",
        program.display()
    )
    .into())
}

/// Keeps this process and its threads on one core; servers move to theirs.
fn pin(core: usize) -> nix::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)
}
