//! Scenarios from files and flags.

use super::keys::{GroupKeys, RunKeys};
use super::resolve::share_out;
use super::*;
use crate::args::{Cli, Command};
use clap::Parser;
use std::path::Path;

fn flags(text: &str) -> Result<Scenario, String> {
    with_file(None, text)
}

fn with_file(file: Option<&str>, text: &str) -> Result<Scenario, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scenario.toml");
    let mut words = vec!["loadgen", "run"];
    if let Some(file) = file {
        std::fs::write(&path, file).unwrap();
        words.push(path.to_str().unwrap());
    } else {
        words.extend(["--server", "h:1"]);
    }
    words.extend(text.split_whitespace());
    let command = Cli::try_parse_from(words)
        .map_err(|error| error.to_string())?
        .command;
    let Command::Run(arguments) = command else {
        unreachable!("it says run");
    };
    arguments.scenario()
}

#[test]
fn defaults_suit_the_demo() {
    let scenario = flags("").unwrap();
    let group = &scenario.groups[0];
    assert_eq!((scenario.sessions(), group.items.0.len()), (100, 30));
    assert_eq!(group.items.0.last().map(String::as_str), Some("item30"));
    assert_eq!(group.frequency.0, Frequency::Unlimited);
    assert_eq!(scenario.timestamp_position(group), Some(9));
    assert_eq!(scenario.settle_time(), Duration::from_secs(1));
    assert!(group.snapshot);
    assert!(!flags("--mode RAW").unwrap().groups[0].snapshot);
}

#[test]
fn a_flag_takes_back_what_a_file_limits() {
    let file =
        "[run]\nserver = \"h:1\"\n[[group]]\nchurn = 5\nbandwidth = 2.5\nread_rate = \"none\"";
    let group = |flags: &str| with_file(Some(file), flags).unwrap().groups[0].clone();
    let ours = group("");
    assert_eq!(
        (ours.churn, ours.bandwidth, ours.read_rate),
        (5.0, Some(2.5), None)
    );
    let ours = group("--churn none --bandwidth none --read-rate 7");
    assert_eq!(
        (ours.churn, ours.bandwidth, ours.read_rate),
        (0.0, None, Some(7.0))
    );
}

const TWO_GROUPS: &str = r#"
    [run]
    server = "127.0.0.1:8080"
    seconds = 5
    sources = ["127.0.0.2", "127.0.0.3"]
    acks = "every-second"

    [[group]]
    name = "web"
    sessions = 300
    items = "1..4"
    frequency = 2

    [[group]]
    name = "old"
    sessions = 100
    transport = "long-polling"
    mode = "DISTINCT"
    poll_pause = 0.5
    items = "a,b"
    fields = ["x", "timestamp"]

    [[storm]]
    at = 1.5
    share = 0.5
"#;

#[test]
fn a_file_has_groups_and_flags_override_it() {
    let scenario = with_file(Some(TWO_GROUPS), "").unwrap();
    assert_eq!(scenario.sessions(), 400);
    assert_eq!(scenario.groups[1].transport, Transport::LongPolling);
    assert_eq!(scenario.groups[0].frequency.0, Frequency::Limited(2.0));
    assert_eq!(
        (scenario.group_of(0), scenario.group_of(300)),
        ((0, 0), (1, 0))
    );
    assert_eq!(scenario.storms[0].share, 0.5);
    assert_eq!(scenario.sources.len(), 2);
    assert_eq!(scenario.acks, Acks::EverySecond);

    let storms = flags("--storm 1:0.5 --storm 2:1:new").unwrap().storms;
    assert_eq!(
        storms.iter().map(|storm| storm.recover).collect::<Vec<_>>(),
        [true, false]
    );
    let flags = "--sessions 8 --seconds 1 --frequency unfiltered --storm 1:1 --server h:2";
    let scenario = with_file(Some(TWO_GROUPS), flags).unwrap();
    let sessions: Vec<u32> = scenario.groups.iter().map(|group| group.sessions).collect();
    assert_eq!(sessions, [6, 2]);
    assert_eq!(scenario.seconds, Seconds(1.0));
    assert_eq!(scenario.storms[0].at, 1.0);
    assert_eq!(scenario.server, "h:2");
    assert!(
        scenario
            .groups
            .iter()
            .all(|group| group.frequency.0 == Frequency::Unfiltered)
    );
}

#[test]
fn what_processes_are_told_is_what_was_decided() {
    let scenario = with_file(Some(TWO_GROUPS), "--bandwidth 5.5 --buffer 3").unwrap();
    let text = serde_json::to_string(&scenario).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario);
}

#[test]
fn the_scenarios_that_come_along_are_right() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::resolve(Some(&path), &RunKeys::default(), &GroupKeys::default());
        assert!(scenario.is_ok(), "{}: {scenario:?}", path.display());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn mistakes_in_a_file_are_told() {
    for (bad, says) in [
        ("[run]\nservr = \"h:1\"", "servr"),
        ("[run]\nserver = \"h:1\"\nseconds = -1", "seconds"),
        (
            "[run]\nserver = \"h:1\"\n[[group]]\nmode = \"MERG\"",
            "MERG",
        ),
        (
            "[run]\nserver = \"h:1\"\n[[storm]]\nat = 1\nshare = 2",
            "share",
        ),
        (
            "[run]\nserver = \"h:1\"\n[[group]]\nitems = \"a b\"",
            "blanks",
        ),
        ("[[group]]", "name the server"),
    ] {
        let error = with_file(Some(bad), "").unwrap_err();
        assert!(error.contains(says), "{bad}: {error}");
    }
}

#[test]
fn sessions_are_shared_out_in_proportion() {
    let groups = |sizes: &[u32], sessions| {
        let mut groups: Vec<Group> = sizes
            .iter()
            .map(|&sessions| {
                let keys = GroupKeys {
                    sessions: Some(sessions),
                    ..GroupKeys::default()
                };
                Group::resolve(0, &keys, &GroupKeys::default())
            })
            .collect();
        share_out(&mut groups, sessions, false).unwrap();
        groups
            .iter()
            .map(|group| group.sessions)
            .collect::<Vec<_>>()
    };
    assert_eq!(groups(&[100, 300], 8), [2, 6]);
    assert_eq!(groups(&[1, 1_000], 2), [1, 1]);
    assert_eq!(groups(&[1_000, 1], 10), [9, 1]);
    assert_eq!(groups(&[5, 5, 5], 16).iter().sum::<u32>(), 16);
}

#[test]
fn items_are_names_or_a_range() {
    let items = |text: &str| text.parse::<Items>().map(|items| items.0);
    assert_eq!(items("a,b"), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(
        items("9..11"),
        Ok(vec!["item9".into(), "item10".into(), "item11".into()])
    );
    assert_eq!(items("4..4"), Ok(vec!["item4".into()]));
    for bad in ["", "a,,b", "a b", "3..2", "1..x", "..", "0..9999999"] {
        assert!(items(bad).is_err(), "{bad}");
    }
    for text in ["9..11", "a,b", "item1,item3"] {
        assert_eq!(text.parse::<Items>().unwrap().to_string(), text);
    }
}

#[test]
fn frequencies_and_times_are_bounded() {
    assert_eq!(
        flags("--frequency 0.5").unwrap().settle_time(),
        Duration::from_secs(3)
    );
    assert_eq!(flags("--seconds 0.25").unwrap().seconds, Seconds(0.25));
    assert_eq!(
        flags("--frequency 0.5 --settle 8").unwrap().settle_time(),
        Duration::from_secs(8)
    );
    for bad in [
        "--frequency 0",
        "--churn 0",
        "--bandwidth unlimited",
        "--seconds -1",
        "--seconds NaN",
        "--ramp 0",
        "--sessions 0",
        "--storm 5",
        "--storm 5:0",
        "--storm 5:1:old",
        "--storm NaN:1",
    ] {
        assert!(flags(bad).is_err(), "{bad}");
    }
}

#[test]
fn keys_must_fit_each_other() {
    for bad in [
        "--items-per-session 31",
        "--items-per-session 0",
        "--items a --items-per-session 2",
        "--verify --fields time",
        "--verify --mode DISTINCT",
        "--sessions 5 --stalled 6",
        "--fields a,,b",
        "--mode RAW --snapshot",
        "--sequence-field seq",
        "--tls-any-name",
    ] {
        assert!(flags(bad).is_err(), "{bad}");
    }
    assert!(flags("--fields time").is_ok());
    assert!(flags("--verify --fields time,stamp --timestamp-field stamp").is_ok());
}
