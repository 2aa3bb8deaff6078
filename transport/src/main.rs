//! The server binary: reads the command line, makes a plan of it, and runs that.

use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use brightwire::adapter::literal::passwords;
use brightwire::config::plan::{IoChoice, Threading};
use brightwire::config::{self, Demo, Plan};
use brightwire::runtime::topology::Topology;
use brightwire::{import, lifecycle, preflight, server};
use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(status) => status,
        Err(error) => {
            // Several problems of a configuration come as several lines, which stay readable without decoration.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Real-time push server for Lightstreamer clients.
///
/// What it logs goes to the standard error stream; BRIGHTWIRE_LOG chooses how much (error, warn, info, debug, trace).
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a generated list of stocks and a page that shows it, without any configuration
    Demo(DemoArguments),
    /// Serve what a configuration file says
    Run {
        /// Configuration file; `print-reference` shows what can be in it
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        ports: PortsFile,
    },
    /// Check a configuration file for this machine, without serving
    Check {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Examine kernel, limits and cores: what is wrong, why it matters and how to fix it
    Doctor {
        /// Configuration file whose needs are compared with the machine
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a configuration file with every key, its default and what it does
    PrintReference,
    /// Translate adapters.xml and lightstreamer_conf.xml into a configuration file, which is printed with what could not be
    /// translated
    Import {
        /// The files; those of several adapter sets may be given
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Read a password from the standard input and print its hash, for a user of the built-in metadata adapter
    HashPassword,
}

#[derive(Args)]
struct DemoArguments {
    /// Port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address to listen on; only this machine can connect by default (0.0.0.0 opens it to the network)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Number of shards, the threads that own client connections [default: one fewer than cores]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Kernel interface [default: auto]
    #[arg(long)]
    io: Option<IoChoice>,
    /// Threads [default: dedicated]
    #[arg(long)]
    threading: Option<Threading>,
    /// Updates per second: of the replayed file if there is one, else of the generated list (15 by default)
    #[arg(long, value_name = "EVENTS_PER_S")]
    rate: Option<f64>,
    /// File to replay beside the list, as data adapter REPLAY
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Follow the times in the file, so many times faster; inf: as fast as the server takes it
    #[arg(long, value_name = "X", requires = "replay", conflicts_with = "rate")]
    speed: Option<f64>,
    /// Start the file again at its end
    #[arg(long = "loop", requires = "replay")]
    looped: bool,
    /// Configuration file for everything else, such as one of the profiles
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    ports: PortsFile,
}

#[derive(Args)]
struct PortsFile {
    /// Write the listeners' addresses to this file (TOML) once they can be connected to
    #[arg(long, value_name = "FILE")]
    ports_file: Option<PathBuf>,
}

fn execute(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Demo(arguments) => {
            let demo = Demo {
                address: Some(SocketAddr::new(arguments.host, arguments.port)),
                shards: arguments.shards,
                io: arguments.io,
                threading: arguments.threading,
                rate: arguments.rate,
                replay: arguments.replay,
                speed: arguments.speed,
                looped: arguments.looped,
            };
            serve(
                Plan::demo(&demo, arguments.config.as_deref())?,
                arguments.ports,
            )
        }
        Command::Run { config, ports } => serve(Plan::load(&config)?, ports),
        Command::Check { config } => {
            let plan = Plan::load(&config)?;
            print(&format!("ok\n{plan}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor { config } => {
            let plan = config.map(|path| Plan::load(&path)).transpose()?;
            let report = preflight::examine(&preflight::Machine::here(), plan.as_ref());
            print(&report.to_string())?;
            Ok(if report.has_problem() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
        Command::Import { files } => {
            let read = |path: PathBuf| {
                let name = path.display().to_string();
                match std::fs::read_to_string(&path) {
                    Ok(text) => Ok((name, text)),
                    Err(error) => Err(format!("{name}: {error}")),
                }
            };
            let files: Vec<_> = files.into_iter().map(read).collect::<Result<_, _>>()?;
            let imported = import::import(&files, &Topology::read()?)?;
            print(&imported.toml)?;
            if !imported.notes.is_empty() {
                let count = imported.notes.len();
                eprintln!(
                    "{count} thing(s) are not as they were: see the comments at the beginning"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::HashPassword => {
            let password = lifecycle::read_password()?;
            print(&format!("{}\n", passwords::hash(&password)?))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::PrintReference => {
            print(&config::reference())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Shells and services have a low soft limit for programs that call select(2), which knows no file above 1,023. This one
/// never does, so what counts is the hard limit.
fn raise_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where this is refused, `doctor` and the clients above the limit tell.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn serve(plan: Plan, ports: PortsFile) -> Result<ExitCode, Box<dyn Error>> {
    raise_open_files();
    brightwire::log_to_stderr();
    server::run(plan, ports.ports_file, |addresses| {
        for (name, address) in addresses {
            let printed = print(&format!("{name}: http://{address}/\n"));
            debug_assert!(printed.is_ok());
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `print!` without its panic when the reader (`head`, say) has seen enough.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
