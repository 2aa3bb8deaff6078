//! `brightwire-bench`: the bench harness's command line.

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe;
use brightwire::reactor::uring::UringReactor;
use brightwire_bench::floor;
use brightwire_bench::hot;
use brightwire_bench::icount::{self, Record, Verdict};
use brightwire_bench::machine;
use brightwire_bench::measure::{self, Figures};
use brightwire_bench::scenario::{Effort, QUICK, Scenario};
use brightwire_bench::server::{Kind, Places, Server};
use brightwire_bench::table::Table;
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Brightwire beside others.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
enum Cli {
    /// Brightwire on both back ends, the floor, and every installed peer: about three minutes
    Quick(Quick),
    /// Counts the instructions of the hot path under valgrind
    #[command(subcommand)]
    Icount(Icount),
    /// The floor as a server of its own, as `quick` starts it
    Floor {
        /// How it sends
        #[arg(long)]
        io: floor::Io,
    },
}

#[derive(clap::Args)]
struct Quick {
    /// Servers to measure; all if not given
    #[arg(long, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// Scenarios to measure, by name; all if not given
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Length of each measured window, s
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often everything is repeated, servers taking turns
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// How long to wait for a quiet machine, in all, s
    #[arg(long, default_value_t = 60.0)]
    patience: f64,
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the clients and the publisher
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Brightwire's program; built if not given
    #[arg(long)]
    brightwire: Option<PathBuf>,
    /// Directory of the installed peers
    #[arg(long, default_value = "target/bench-peers")]
    peers: PathBuf,
    /// Write the figures to this file as JSON as well
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Icount {
    /// Compares with the committed file; more than 3 % worse is a failure
    Check {
        /// The file
        #[arg(long, default_value_os_t = icount::default_file())]
        file: PathBuf,
    },
    /// Writes the committed file
    Record {
        /// The file
        #[arg(long, default_value_os_t = icount::default_file())]
        file: PathBuf,
        /// Why something is more than 3 % worse
        #[arg(long)]
        why: Option<String>,
    },
    /// What runs under valgrind
    #[command(hide = true)]
    Piece {
        /// The piece
        name: String,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Icount(command) => count(&command),
        Cli::Quick(quick) => run(&quick),
        Cli::Floor { io } => floor::run(io).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("brightwire-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(command: &Icount) -> Result<(), Box<dyn Error>> {
    match command {
        Icount::Check { file } => {
            let record = Record::read(file)?;
            let (text, verdict) = record.compare(&icount::count_all()?, &icount::built_by());
            println!("{text}");
            match verdict {
                Verdict::Worse => Err("the hot path takes more instructions than it did".into()),
                Verdict::Good | Verdict::NotComparable => Ok(()),
            }
        }
        Icount::Record { file, why } => {
            let record = match file.exists() {
                true => Record::read(file)?,
                false => Record::default(),
            };
            let (counts, built_by) = (icount::count_all()?, icount::built_by());
            print!("{}", record.compare(&counts, &built_by).0);
            record
                .renew(&counts, &built_by, why.as_deref())?
                .write(file)
        }
        Icount::Piece { name } => {
            let piece = hot::find(name).ok_or("there is no such piece")?;
            icount::run_piece(piece);
            Ok(())
        }
    }
}

fn run(quick: &Quick) -> Result<(), Box<dyn Error>> {
    let scenarios: Vec<&Scenario> = QUICK
        .iter()
        .filter(|scenario| {
            quick.scenarios.is_empty() || quick.scenarios.iter().any(|name| name == scenario.name)
        })
        .collect();
    let effort = Effort {
        window: Duration::try_from_secs_f64(quick.seconds)?,
        repetitions: quick.repetitions,
    };
    let places = Places {
        brightwire: match &quick.brightwire {
            Some(path) => path.clone(),
            None => build()?,
        },
        peers: quick.peers.clone(),
        core: quick.server_core,
    };
    let kinds = match quick.servers.as_slice() {
        [] => &Kind::ALL,
        kinds => kinds,
    };
    let mut patience = Duration::try_from_secs_f64(quick.patience)?;
    let mut table = Table::new(std::env::args().collect::<Vec<_>>().join(" "));
    pin(quick.client_core)?;
    for repetition in 1..=effort.repetitions {
        for &kind in kinds {
            eprintln!("{repetition}/{}: {}", effort.repetitions, kind.name());
            let server = match Server::start(kind, &places) {
                Ok(server) => server,
                Err(error) => {
                    table.miss(kind.name().into(), error.to_string());
                    continue;
                }
            };
            for scenario in &scenarios {
                let waits = Instant::now();
                if !machine::wait_until_quiet(patience)? {
                    table.disturbed();
                }
                patience = patience.saturating_sub(waits.elapsed());
                match cell(&server, scenario, effort.window) {
                    Ok(figures) => table.add(scenario, kind, figures),
                    Err(error) => table.miss(
                        format!("{} under {}", kind.name(), scenario.name),
                        error.to_string(),
                    ),
                }
            }
        }
    }
    table.sort();
    println!("{table}");
    if let Some(path) = &quick.json {
        std::fs::write(path, serde_json::to_string_pretty(&table)? + "\n")?;
    }
    Ok(())
}

fn cell(server: &Server, scenario: &Scenario, window: Duration) -> std::io::Result<Figures> {
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
