//! A few seeds of the simulator, and the proof that it would notice. Long runs are for the command line:
//! `cargo run --release -p brightwire-engine --features sim --bin sim -- --seeds 1000`.

use engine::sim::run::{Plan, run};

/// In a failing test, the seed stands in the message first and last.
fn check(plan: &Plan) -> engine::sim::run::Report {
    run(plan).unwrap_or_else(|failure| panic!("\n{failure}"))
}

#[test]
fn smoke() {
    let (mut updates, mut messages) = (0, 0);
    let mut counted = std::collections::BTreeMap::new();
    for seed in 1..=8 {
        let report = check(&Plan {
            seed,
            ..Plan::default()
        });
        updates += report.updates;
        messages += report.messages;
        for (name, count) in report.counters {
            *counted.entry(name).or_insert(0) += count;
        }
    }
    assert!(updates > 10_000, "the clients were hardly told anything");
    assert!(messages > 1_000, "the clients had hardly anything to say");
    // The world must be rough enough for the smoke to mean something.
    for name in [
        "ring_full",
        "blocked",
        "moved",
        "messages_skipped",
        "messages_failed",
        "forwarded",
        "sessions_expired",
        "items_closed",
        "adapter_events_stale",
        "updates_conflated",
        "tail_hits",
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

/// One update record in two hundred is lost between ingest and the shards: every run must fail, or the oracle is blind.
#[test]
fn canary() {
    for seed in 1..=4 {
        let result = run(&Plan {
            seed,
            canary: true,
            ..Plan::default()
        });
        let failure = result.expect_err("the canary lives");
        let text = failure.to_string();
        let first_and_last = [text.lines().next(), text.lines().last()];
        for line in first_and_last {
            assert!(
                line.unwrap().starts_with(&format!("seed {seed}: ")),
                "{line:?}"
            );
        }
    }
}
