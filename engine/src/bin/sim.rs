//! The simulator from the command line. Each seed is a run by itself; `--seeds` counts up from `--seed`.
//!
//! A failing seed is printed first and last, with what happened before the failure in between (see
//! `engine::sim::trace` for the columns). With `--bug` a bug is planted, and it is a failure if no seed notices;
//! `--bug all` takes one after the other.

use engine::shard::canary::Bug;
use engine::sim::run::{Plan, run};
use std::process::ExitCode;

const USAGE: &str = "usage: sim [--seed N] [--seeds N] [--events N] [--shards N] [--clients N] [--items N] \
                     [--bug NAME|all] [--details] [--verbose]";

struct Arguments {
    plan: Plan,
    seeds: u64,
    bugs: Vec<Bug>,
    details: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match arguments.bugs.is_empty() {
        true => prove(&arguments),
        false => find(&arguments),
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        plan: Plan::default(),
        seeds: 1,
        bugs: Vec::new(),
        details: false,
    };
    while let Some(word) = words.next() {
        let plan = &mut arguments.plan;
        let mut value = || words.next();
        match word.as_str() {
            "--seed" => plan.seed = value()?.parse().ok()?,
            "--seeds" => arguments.seeds = value()?.parse().ok()?,
            "--events" => plan.events = value()?.parse().ok()?,
            "--shards" => plan.shards = value()?.parse().ok().filter(|shards| *shards > 0)?,
            "--clients" => plan.clients = value()?.parse().ok().filter(|clients| *clients > 0)?,
            "--items" => plan.items = value()?.parse().ok().filter(|items| *items > 0)?,
            "--bug" => {
                let name = value()?;
                let named = |bug: &Bug| name == "all" || bug.name() == name;
                arguments.bugs.extend(Bug::ALL.into_iter().filter(named));
                arguments.bugs.first()?;
            }
            "--details" => arguments.details = true,
            "--verbose" => plan.verbose = true,
            _ => return None,
        }
    }
    Some(arguments)
}

/// Every seed must be right.
fn prove(arguments: &Arguments) -> ExitCode {
    let Arguments { plan, seeds, .. } = arguments;
    let (mut events, mut updates, mut lost) = (0, 0, 0);
    for seed in plan.seed..plan.seed + seeds {
        print!("seed {seed}: "); // a panic inside the engine does not know its seed
        match run(&Plan {
            seed,
            ..plan.clone()
        }) {
            Ok(report) => {
                print!("{report}");
                if arguments.details {
                    print!("{}", report.details());
                }
                events += report.events;
                updates += report.updates;
                lost += report.lost;
            }
            Err(failure) => {
                print!("\n{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{seeds} seeds from {}: {events} events, {updates} updates and {lost} losses, all of them right",
        plan.seed
    );
    ExitCode::SUCCESS
}

/// Every bug must be noticed by some seed.
fn find(arguments: &Arguments) -> ExitCode {
    let Arguments {
        plan, seeds, bugs, ..
    } = arguments;
    let mut missed = 0;
    for bug in bugs {
        let mut noticed = (plan.seed..plan.seed + seeds).filter_map(|seed| {
            let plan = Plan {
                seed,
                bug: Some(*bug),
                ..plan.clone()
            };
            run(&plan).err()
        });
        match noticed.next() {
            Some(failure) => println!(
                "{}: seed {}: {}",
                bug.name(),
                failure.seed,
                failure.complaint
            ),
            None => {
                println!("{}: not noticed", bug.name());
                missed += 1;
            }
        }
    }
    match missed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
