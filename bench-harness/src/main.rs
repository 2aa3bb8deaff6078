//! `brightwire-bench`: the bench harness's command line.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use brightwire_bench::floor;
use brightwire_bench::hot;
use brightwire_bench::icount::{self, Record, Verdict};
use brightwire_bench::quick::Quick;
use brightwire_bench::vary::Vary;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Brightwire beside others.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
enum Cli {
    /// Brightwire on both back ends, the floor, and every installed peer: about three minutes
    Quick(Quick),
    /// What each setting of Brightwire's costs or brings, one after the other beside the default
    Vary(Vary),
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
        Cli::Quick(quick) => quick.run(),
        Cli::Vary(vary) => vary.run(),
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
