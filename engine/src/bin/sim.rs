//! The simulator from the command line: `sim [--seed N] [--seeds N] [--events N] [--shards N] [--clients N] [--canary] [--verbose]`.
//!
//! A failing seed is printed first and last, with what happened before the failure in between (see
//! `engine::sim::trace` for the columns). `--seeds` runs that many seeds, counting up from `--seed`.

use engine::sim::run::{Plan, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut plan = Plan::default();
    let mut seeds = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse::<u64>().ok());
        let understood = match argument.as_str() {
            "--seed" => number().map(|value| plan.seed = value),
            "--seeds" => number().map(|value| seeds = value),
            "--events" => number().map(|value| plan.events = value),
            "--shards" => number()
                .and_then(|value| u16::try_from(value).ok())
                .filter(|value| *value > 0)
                .map(|value| plan.shards = value),
            "--clients" => number()
                .and_then(|value| usize::try_from(value).ok())
                .filter(|value| *value > 0)
                .map(|value| plan.clients = value),
            "--canary" => {
                plan.canary = true;
                Some(())
            }
            "--verbose" => {
                plan.verbose = true;
                Some(())
            }
            _ => None,
        };
        if understood.is_none() {
            eprintln!(
                "usage: sim [--seed N] [--seeds N] [--events N] [--shards N] [--clients N] [--canary] [--verbose]"
            );
            return ExitCode::from(2);
        }
    }
    for seed in plan.seed..plan.seed + seeds {
        // A panic inside the engine does not know its seed.
        println!("seed {seed}");
        match run(&Plan {
            seed,
            ..plan.clone()
        }) {
            Ok(report) => print!("{report}"),
            Err(failure) => {
                print!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
