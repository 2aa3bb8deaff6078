//! The examples, as a client sees them.

use crate::client::Client;
use crate::{clock, replay_csv, subscribe};
use std::time::Duration;

#[test]
fn the_clock_ticks() {
    let server = clock::server().listen("127.0.0.1:0").start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "CLOCK", "clock", "time%20seconds"));
    let seconds = |line: &str| -> u64 { line.rsplit_once('|').unwrap().1.parse().unwrap() };
    let first = client.update();
    let second = client.update();
    assert!(seconds(&first) < seconds(&second), "{first} {second}");
    // Two fields of the first update are whole, and the time of day is that of the seconds.
    let time = first.strip_prefix("U,1,1,").unwrap().split('|').next();
    let of_day = seconds(&first) % 86_400;
    let expected = format!(
        "{:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    );
    assert_eq!(time, Some(expected.as_str()));
    // What the adapter refuses is without data, not without an answer.
    client.send(&subscribe(&session, 2, "CLOCK", "calendar", "time"));
    assert_eq!(client.answer("add2"), "REQOK,add2");
    server.stop().unwrap();
}

#[test]
fn the_replay_goes_round_and_round() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ticks.csv");
    std::fs::write(&file, "item,bid,ask\nA,1,2\nB,10,20\nA,3,4\n").unwrap();
    let server = replay_csv::server(&file, Duration::from_millis(1))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "REPLAY", "A", "bid%20ask"));
    let updates: Vec<String> = (0..6).map(|_| client.update()).collect();
    for pair in updates.windows(2) {
        let states = ["U,1,1,1|2", "U,1,1,3|4"];
        let state = |line: &String| states.iter().position(|state| state == line);
        let (before, after) = (state(&pair[0]), state(&pair[1]));
        assert!(
            before.is_some() && after.is_some() && before != after,
            "{updates:?}"
        );
    }
    server.stop().unwrap();
}

#[test]
fn a_replay_of_no_file_does_not_start() {
    let server = replay_csv::server("no/such/ticks.csv", Duration::ZERO).listen("127.0.0.1:0");
    let error = server.start().err().unwrap().to_string();
    assert!(
        error.starts_with("data adapter DEMO.REPLAY cannot start: ")
            && error.contains("No such file"),
        "{error}"
    );
}
