//! A few seeds of the simulator, and the proof that it would notice. Long runs are for the command line:
//! `cargo run --release -p brightwire-engine --features sim --bin sim -- --seeds 1000`.

use engine::shard::canary::Bug;
use engine::sim::run::{Failure, Plan, Report, run};
use std::collections::BTreeMap;

/// In a failing test, the seed stands in the message first and last.
fn check(plan: &Plan) -> Report {
    run(plan).unwrap_or_else(|failure| panic!("\n{failure}"))
}

#[test]
fn smoke() {
    let (mut updates, mut lost, mut messages) = (0, 0, 0);
    let mut counted = BTreeMap::new();
    for seed in 1..=8 {
        let report = check(&Plan {
            seed,
            events: 10_000,
            ..Plan::default()
        });
        updates += report.updates;
        lost += report.lost;
        messages += report.messages;
        for (name, count) in report.counters {
            *counted.entry(name).or_insert(0) += count;
        }
    }
    assert!(updates > 10_000, "the clients were hardly told anything");
    assert!(lost > 1_000, "nearly everything found room");
    assert!(messages > 1_000, "the clients had hardly anything to say");
    // The world must be rough enough for the smoke to mean something.
    for name in [
        "adapter_events_filtered",
        "adapter_events_stale",
        "adapter_events_too_large",
        "blocked",
        "command_events_ignored",
        "forwarded",
        "items_closed",
        "messages_failed",
        "messages_skipped",
        "moved",
        "ring_full",
        "sessions_expired",
        "tail_hits",
        "writes_shared",
        "updates_conflated",
    ] {
        assert!(counted[name] > 0, "{name} did not happen");
    }
}

#[test]
fn one_shard() {
    check(&Plan {
        seed: 100,
        shards: 1,
        events: 10_000,
        ..Plan::default()
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    let plan = Plan {
        seed: 5,
        events: 5_000,
        ..Plan::default()
    };
    assert_eq!(check(&plan), check(&plan));
    let other = Plan {
        seed: 6,
        ..plan.clone()
    };
    assert_ne!(check(&plan).digest, check(&other).digest);
}

/// The first of some seeds that notices a bug which is planted: one must, or the judges are blind.
fn noticed(bug: Bug) -> Box<Failure> {
    let attempt = |seed| {
        run(&Plan {
            seed,
            events: 10_000,
            bug: Some(bug),
            ..Plan::default()
        })
    };
    (1..=10)
        .find_map(|seed| attempt(seed).err())
        .unwrap_or_else(|| panic!("{bug:?} is not noticed"))
}

#[test]
fn every_bug_that_is_planted_is_noticed() {
    for bug in Bug::ALL {
        let failure = noticed(bug);
        let text = failure.to_string();
        for line in [text.lines().next(), text.lines().last()] {
            let seed = format!("seed {}: ", failure.seed);
            assert!(line.unwrap().starts_with(&seed), "{line:?}");
        }
    }
}
