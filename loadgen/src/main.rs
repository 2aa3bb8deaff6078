//! `loadgen`: the load generator's command line. What it does is told in the library.

use std::error::Error;
use std::process::ExitCode;

use brightwire_loadgen::args::{Cli, Command};
use brightwire_loadgen::{compare, feed, null, run};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments).map(|report| report.is_success()),
        Command::Feed(arguments) => succeed(feed::feed(&arguments)),
        Command::Compare(arguments) => succeed(compare::compare(&arguments)),
        Command::Null(arguments) => succeed(null::serve(&arguments)),
        Command::Worker => succeed(run::work()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(2)
        }
    }
}

fn succeed(done: Result<(), Box<dyn Error>>) -> Result<bool, Box<dyn Error>> {
    done.map(|()| true)
}
