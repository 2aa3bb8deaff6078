//! `loadgen`: the load generator's command line. What it does is told in the library.

use std::process::ExitCode;

use brightwire_loadgen::args::{Cli, Command};
use brightwire_loadgen::run;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Command::Run(arguments) = Cli::parse().command;
    match run::run(&arguments) {
        Ok(report) if report.is_success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(2)
        }
    }
}
