//! Figures of made-up runs.

use super::*;
use crate::args::{Cli, Command};
use crate::scenario::Transport;
use crate::stats::Interval;
use clap::Parser;

fn scenario(flags: &str) -> Scenario {
    let words = ["loadgen", "run", "--server", "h:1", "--sessions", "2"];
    let words = words.into_iter().chain(flags.split_whitespace());
    let Command::Run(arguments) = Cli::try_parse_from(words).unwrap().command else {
        unreachable!("it says run");
    };
    arguments.scenario().unwrap()
}

fn series() -> Series {
    let mut interval = Interval::new(0);
    interval.updates = 40;
    interval.messages = 20;
    interval.bytes = 4_000;
    interval.skipped = 7;
    interval.numbered = 40;
    interval.lost = 3;
    for latency_us in 1..=10 {
        interval.time(0, Transport::Websocket, latency_us * 1_000);
    }
    let mut series = Series::new(1, None).unwrap();
    series.add(&interval);
    series
}

fn used(busy_ns: u64, waited_ns: u64) -> fleet::Used {
    fleet::Used {
        fleet: 0,
        busy_ns,
        waited_ns,
    }
}

fn measured() -> Measured {
    let server = |millis, rss_bytes| {
        Some(Sample {
            user: Duration::from_millis(millis),
            system: Duration::from_millis(3 * millis),
            rss_bytes,
            ..Sample::default()
        })
    };
    let samples = |millis, rss_bytes| Samples {
        server: server(millis, rss_bytes),
        kernel_bytes: Some(10 * rss_bytes),
    };
    Measured {
        io: "epoll",
        interrupted: false,
        is_server: None,
        began_ns: 0,
        elapsed: Duration::from_secs(2),
        before_ramp: samples(0, 1_000),
        after_ramp: samples(0, 5_000),
        before: samples(0, 5_000),
        after: samples(100, 6_000),
        fleets: fleet::Outcome {
            live: 2,
            ramp_ns: 3_000_000,
            threads: vec![used(400_000, 0)],
            ..fleet::Outcome::default()
        },
        verify: None,
    }
}

fn report(measured: &Measured) -> Report {
    Report::new(&scenario(""), measured, &series())
}

#[test]
fn figures_are_of_the_window() {
    let report = report(&measured());
    assert_eq!(report.updates_per_s, 20.0);
    assert_eq!(report.updates_per_message, 2.0);
    assert_eq!(report.bytes_per_update, Some(100.0));
    let server = report.server.as_ref().unwrap();
    assert_eq!(server.cpu_ns_per_update, Some(1e7));
    assert_eq!(server.cores, 0.2);
    assert_eq!(report.generator.cpu_ns_per_update, Some(1e4));
    assert_eq!(report.memory.server_bytes_per_session, Some(2_000.0));
    assert_eq!(report.memory.kernel_bytes_per_session, Some(20_000.0));
    let latency = report.latency.as_ref().unwrap();
    assert!(latency.p50_ns.abs_diff(5_000) < 10, "{latency:?}");
    assert!(report.is_success());
    let text = report.to_string();
    assert!(text.contains("2 of 2 live"), "{text}");
    assert!(text.contains("3 events lost"), "{text}");
    assert!(text.ends_with("result      ok"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["updates_per_s"], 20.0);
    assert_eq!(json["verify"], serde_json::Value::Null);
    assert_eq!(json["seconds"][0]["updates"], 40);
}

#[test]
fn what_is_missing_is_lost_or_conflated_or_not_known() {
    assert_eq!(report(&measured()).conflated, None);
    let scenario = scenario("--fields seq,timestamp --sequence-field seq");
    let report = Report::new(&scenario, &measured(), &series());
    assert_eq!((report.conflated, report.lost), (Some(4), 3));
}

/// Sessions on a bad line must not be mistaken for those that are served well.
#[test]
fn groups_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two.toml");
    let two = "[[group]]\nname = \"good\"\n[[group]]\nname = \"<bad>\"";
    std::fs::write(&path, two).unwrap();
    let flags = format!(
        "--fields seq,timestamp --sequence-field seq {}",
        path.display()
    );
    let scenario = scenario(&flags);
    let mut interval = Interval::new(0);
    interval.time(0, Transport::Websocket, 1_000_000);
    interval.time(1, Transport::Websocket, 3_000_000_000);
    interval.numbered = 1;
    let bad = interval.of(1, Transport::Websocket);
    (bad.updates, bad.lost, bad.skipped) = (10, 2, 9);
    let mut series = Series::new(1, None).unwrap();
    series.add(&interval);
    let report = Report::new(&scenario, &measured(), &series);
    let p50 = |group: usize| report.by_group[group].latency.as_ref().unwrap().p50_ns;
    assert!(p50(0) < 2_000_000 && p50(1) > 2_000_000_000);
    assert_eq!(
        (report.by_group[1].lost, report.by_group[1].conflated),
        (2, Some(7))
    );
    assert_eq!(report.by_group[0].conflated, Some(0));
    let text = report.to_string();
    assert!(
        text.contains("<bad>: 5/s, 2 lost, 7 left out; p50 3.00 s"),
        "{text}"
    );
    assert!(text.contains("good: 0/s; p50 1.00 ms"), "{text}");
    let page = html::page(&report);
    assert!(page.contains("group &lt;bad&gt;"), "{page}");
    assert!(!page.split("<script").next().unwrap().contains("<bad>"));
}

#[test]
fn nothing_measured_is_not_a_latency_of_zero() {
    let mut measured = measured();
    measured.elapsed = Duration::ZERO;
    let series = Series::new(1, None).unwrap();
    let report = Report::new(&scenario(""), &measured, &series);
    assert!(report.latency.is_none());
    assert_eq!(report.updates_per_s, 0.0);
    assert!(report.to_string().contains("not measured"));
    html::page(&report);
}

/// An hour: the page stays small, shows the worst second, and fetches nothing.
#[test]
fn a_long_run_makes_a_page_that_a_browser_can_show() {
    let mut series = Series::new(1, None).unwrap();
    for index in 0..3_600 {
        let mut interval = Interval::new(index);
        interval.updates = 1_000 + u64::from(index % 60);
        interval.connects = 3;
        for (group, transport) in Transport::ALL.into_iter().enumerate() {
            for step in 1..20 {
                interval.time(group, transport, step * 50_000);
            }
        }
        // One bad second among them all.
        if index == 2_345 {
            interval.time(0, Transport::Websocket, 30_000_000_000);
        }
        series.add(&interval);
    }
    let mut measured = measured();
    measured.elapsed = Duration::from_secs(3_600);
    let page = html::page(&Report::new(&scenario(""), &measured, &series));
    let without_data = page.split("<script").next().unwrap();
    assert!(without_data.len() < 400_000, "{}", without_data.len());
    // The bad second is a dozen points above the others, whatever is drawn together with it.
    assert!(without_data.contains(">50:00<"), "time has no minutes");
    for fetched in ["src=", "href=", "url(", "@import"] {
        assert!(!without_data.contains(fetched), "{fetched}");
    }
    let data = page.split_once("id=\"report\">").unwrap().1;
    let data = data.split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["seconds"].as_array().unwrap().len(), 3_600);
}

#[test]
fn every_kind_of_failure_fails_the_run() {
    let fails = |change: fn(&mut Measured)| {
        let mut measured = measured();
        change(&mut measured);
        !report(&measured).is_success()
    };
    assert!(!fails(|_| ()));
    assert!(fails(|measured| measured.fleets.live = 1));
    assert!(fails(|measured| measured.fleets.failed.count("x".into())));
    assert!(fails(|measured| measured.fleets.ended.count("x".into())));
    assert!(fails(|measured| measured.verify = Some(Default::default())));
    assert!(!fails(|measured| measured.fleets.stalled_ended = 1));
}

#[test]
fn a_turn_that_may_be_the_longest_latency_is_told() {
    let mut interval = Interval::new(0);
    interval.time(0, Transport::Websocket, 5_000_000);
    let notes = |turn_ns: u64| {
        let mut interval = interval.clone();
        interval.turn_ns.record(turn_ns);
        let mut series = Series::new(1, None).unwrap();
        series.add(&interval);
        let report = Report::new(&scenario(""), &measured(), &series);
        report.generator.notes.join("\n")
    };
    assert!(notes(6_000_000).contains("took 6.00 ms"));
    assert!(!notes(1_000_000).contains("took"));
}

#[test]
fn a_busy_generator_says_so() {
    let mut measured = measured();
    measured.fleets.threads = vec![used(1_900_000_000, 400_000_000)];
    measured.fleets.start_late_ns = 200_000_000;
    let report = report(&measured);
    assert!(report.generator.saturated);
    assert_eq!(report.generator.notes.len(), 4, "{:?}", report.generator);
    assert!(report.to_string().contains("describe the generator"));
}

/// Half a minute between two updates is no delay of the server's if a client has asked for it.
#[test]
fn waits_that_were_asked_for_are_told() {
    let told = |flags: &str| {
        let report = Report::new(&scenario(flags), &measured(), &series());
        report.generator.notes.join("\n").contains("asked for: a")
    };
    assert!(!told(""));
    assert!(!told("--frequency unfiltered --bandwidth none"));
    for flags in [
        "--frequency 0.5",
        "--bandwidth 20",
        "--read-rate 2000",
        "--poll-pause 1 --transport long-polling",
    ] {
        assert!(told(flags), "{flags}");
    }
}
