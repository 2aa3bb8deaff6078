//! Files of a few lines, played row by row; and real ones, where there are some.

use super::super::feed::{FeedCapacity, RING_BYTES_MIN, feed};
use super::super::inbox::FeedInbox;
use super::super::testkit::{Heard, hear, subscribe};
use super::super::{Manners, spawn};
use super::*;
use engine::ids::ItemId;
use std::{env, fs, thread};
use tempfile::TempDir;

const MS: u64 = 1_000_000;

const QUOTES: &str = "time_ms,item,bid,ask\n\
    1000,A,1,2\n\
    1000,B,10,\n\
    1020,A,3,4\n\
    1040,C,7,8\n\
    1050,A,5,6\n";

/// A replay of this text. The directory must outlive it.
fn replay(text: &str, pace: Pace, looped: bool) -> (TempDir, Result<Replay, ReplayError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.csv");
    fs::write(&path, text).unwrap();
    let replay = Replay::open(ReplayConfig { path, pace, looped });
    (dir, replay)
}

fn player(replay: &Replay) -> Player<'_> {
    Player::new(replay, Some(open_file(&replay.config).unwrap()))
}

fn quote(item: u32, snapshot: bool, bid: &str, ask: Option<&str>) -> Heard {
    Heard::update(item, snapshot, &[("bid", Some(bid)), ("ask", ask)])
}

fn heard(feed: &mut Feed, inbox: &mut FeedInbox) -> Vec<Heard> {
    feed.commit();
    hear(inbox)
}

#[test]
fn json_lines_are_replayed_as_rows_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    let lines = "{\"time_ms\":1000,\"item\":\"A\",\"bid\":\"1\",\"ask\":2}\n{\"time_ms\":1020,\"item\":\"A\",\"ask\":null}\n";
    fs::write(&path, lines).unwrap();
    for (pace, due) in [(Pace::Speed(2.0), 10 * MS), (Pace::Unlimited, 0)] {
        let config = ReplayConfig {
            path: path.clone(),
            pace,
            looped: true,
        };
        let replay = Replay::open(config).unwrap();
        assert_eq!((replay.items(), replay.rows()), (1, 2));
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut player = player(&replay);
        player.subscribe(&mut feed, ItemId(1), "A").unwrap();
        player.play(&mut feed, 0).unwrap();
        let first = heard(&mut feed, &mut inbox);
        assert_eq!(
            first[..2],
            [quote(1, true, "1", Some("2")), Heard::EndOfSnapshot(1)]
        );
        player.play(&mut feed, due).unwrap();
        let mut second = first;
        second.extend(heard(&mut feed, &mut inbox));
        assert_eq!(second[2], Heard::update(1, false, &[("ask", None)]));
    }
}

#[test]
fn a_client_sees_the_file_from_its_start_at_the_files_times() {
    let (_dir, replay) = replay(QUOTES, Pace::Speed(1.0), false);
    let replay = replay.unwrap();
    assert_eq!(
        (replay.items(), replay.rows(), replay.times_gone_back()),
        (3, 5, 0)
    );
    let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
    let mut player = player(&replay);
    assert_eq!(player.next_due_ns(), None, "nobody has subscribed");
    player.subscribe(&mut feed, ItemId(1), "A").unwrap();
    assert_eq!(player.next_due_ns(), Some(0));
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [],
        "its first row is the snapshot"
    );
    player.play(&mut feed, 0).unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [quote(1, true, "1", Some("2")), Heard::EndOfSnapshot(1)]
    );
    assert_eq!(player.next_due_ns(), Some(20 * MS));
    player.play(&mut feed, 19 * MS).unwrap();
    assert_eq!(heard(&mut feed, &mut inbox), []);
    player.play(&mut feed, 60 * MS).unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [
            quote(1, false, "3", Some("4")),
            quote(1, false, "5", Some("6"))
        ]
    );
    assert_eq!(player.next_due_ns(), None, "the file is at its end");
}

#[test]
fn a_later_subscriber_begins_with_the_latest_row() {
    let (_dir, replay) = replay(QUOTES, Pace::Speed(1.0), false);
    let replay = replay.unwrap();
    let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
    let mut player = player(&replay);
    player.subscribe(&mut feed, ItemId(1), "A").unwrap();
    player.play(&mut feed, 20 * MS).unwrap();
    player.unsubscribe(ItemId(1));
    heard(&mut feed, &mut inbox);
    player.subscribe(&mut feed, ItemId(2), "A").unwrap();
    player.subscribe(&mut feed, ItemId(3), "B").unwrap();
    player.subscribe(&mut feed, ItemId(4), "C").unwrap();
    player
        .subscribe(&mut feed, ItemId(5), "no such item")
        .unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [
            quote(2, true, "3", Some("4")),
            Heard::EndOfSnapshot(2),
            quote(3, true, "10", None),
            Heard::EndOfSnapshot(3),
            Heard::EndOfSnapshot(5),
        ]
    );
    // A late unsubscription of the old number does not hit the new one.
    player.unsubscribe(ItemId(1));
    player.play(&mut feed, 50 * MS).unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [
            quote(4, true, "7", Some("8")),
            Heard::EndOfSnapshot(4),
            quote(2, false, "5", Some("6")),
        ]
    );
    // The end of the file is not the end of its state.
    player.subscribe(&mut feed, ItemId(6), "C").unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [quote(6, true, "7", Some("8")), Heard::EndOfSnapshot(6)]
    );
}

#[test]
fn a_loop_goes_on_in_time_and_sends_updates_not_snapshots() {
    let (_dir, replay) = replay("item,time_ms,v\nA,0,1\nA,10,2\n", Pace::Speed(2.0), true);
    let replay = replay.unwrap();
    let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
    let mut player = player(&replay);
    player.subscribe(&mut feed, ItemId(1), "A").unwrap();
    let mut due = Vec::new();
    for _ in 0..5 {
        due.extend(player.next_due_ns());
        player.play(&mut feed, *due.last().unwrap()).unwrap();
    }
    assert_eq!(due, [0, 5, 10, 15, 20].map(|ms| ms * MS));
    let value = |snapshot, value| Heard::update(1, snapshot, &[("v", Some(value))]);
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [
            value(true, "1"),
            Heard::EndOfSnapshot(1),
            value(false, "2"),
            value(false, "1"),
            value(false, "2"),
            value(false, "1"),
        ]
    );
}

#[test]
fn without_a_pace_nothing_moves_unheard() {
    let (_dir, replay) = replay(QUOTES, Pace::Unlimited, true);
    let replay = replay.unwrap();
    let (mut feed, _inbox) = feed(FeedCapacity::default(), || ());
    let mut player = player(&replay);
    player.subscribe(&mut feed, ItemId(1), "A").unwrap();
    assert_eq!(player.next_due_ns(), Some(0));
    player.unsubscribe(ItemId(1));
    assert_eq!(player.next_due_ns(), None);
}

#[test]
fn a_file_in_disorder_is_refused_at_the_start() {
    for (text, pace, complaint) in [
        ("item,v\nA,1\nA\n", Pace::Unlimited, "line 3: the row has 1"),
        ("item,v\n", Pace::Unlimited, "no row"),
        (
            "item,v\nA,1\n",
            Pace::Speed(1.0),
            "line 1: there is no column `time_ms`",
        ),
        ("item,v\nA,1\n", Pace::RateHz(0.0), "a rate of 0"),
    ] {
        let (_dir, replay) = replay(text, pace, false);
        let error = replay.err().unwrap().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn times_that_go_back_are_counted_and_held() {
    let text = "item,time_ms,v\nA,50,1\nA,40,2\nA,45,3\nA,60,4\n";
    let (_dir, replay) = replay(text, Pace::Speed(1.0), false);
    let replay = replay.unwrap();
    assert_eq!(replay.times_gone_back(), 2);
    let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
    let mut player = player(&replay);
    player.subscribe(&mut feed, ItemId(1), "A").unwrap();
    player.play(&mut feed, 0).unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox).len(),
        4,
        "three rows, one end of snapshot"
    );
    assert_eq!(player.next_due_ns(), Some(10 * MS));
}

#[test]
fn a_file_that_changes_after_the_check_ends_the_replay_and_leaves_nobody_waiting() {
    let (dir, replay) = replay("item,v\nA,1\nB,1\n", Pace::Unlimited, false);
    let replay = replay.unwrap();
    fs::write(dir.path().join("feed.csv"), "item,v\nA,1\nZ,1\n").unwrap();
    let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
    let mut player = player(&replay);
    player.subscribe(&mut feed, ItemId(1), "B").unwrap();
    player.play(&mut feed, 0).unwrap();
    player.subscribe(&mut feed, ItemId(2), "B").unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [Heard::EndOfSnapshot(1), Heard::EndOfSnapshot(2)]
    );
    assert_eq!(player.next_due_ns(), None);
}

#[test]
fn a_row_that_can_never_fit_is_left_out_and_the_others_are_not() {
    let text = format!("item,v\nA,{}\nA,2\n", "x".repeat(RING_BYTES_MIN));
    let (_dir, replay) = replay(&text, Pace::Unlimited, false);
    let replay = replay.unwrap();
    let capacity = FeedCapacity {
        ring_bytes: RING_BYTES_MIN,
        commands: 1,
    };
    let (mut feed, mut inbox) = feed(capacity, || ());
    let mut player = player(&replay);
    player.subscribe(&mut feed, ItemId(1), "A").unwrap();
    player.play(&mut feed, 0).unwrap();
    assert_eq!(
        heard(&mut feed, &mut inbox),
        [
            Heard::EndOfSnapshot(1),
            Heard::update(1, false, &[("v", Some("2"))])
        ]
    );
    assert_eq!(player.rows_too_large, 1);
}

/// Runs a whole replay on its thread through a small ring, and returns the updates of one item.
fn run_to_end(replay: Replay, name: &str, rows: usize) -> Vec<Heard> {
    let capacity = FeedCapacity {
        ring_bytes: RING_BYTES_MIN,
        commands: 1,
    };
    let mut running = spawn(
        "replay",
        Arc::new(replay),
        capacity,
        Manners::Interrupts,
        || (),
    )
    .unwrap();
    running.inbox.command(subscribe(1, name)).unwrap();
    let mut updates = Vec::new();
    while updates.len() < rows {
        let heard = hear(&mut running.inbox);
        updates.extend(
            heard
                .into_iter()
                .filter(|event| matches!(event, Heard::Update(..))),
        );
        thread::yield_now();
    }
    assert_eq!(running.stop(), Ok(()));
    updates
}

#[test]
fn a_ring_smaller_than_the_file_loses_no_row() {
    let rows: String = (0..5_000).map(|row| format!("A,{row}\nB,-\n")).collect();
    let (_dir, replay) = replay(&format!("item,v\n{rows}"), Pace::Unlimited, false);
    let updates = run_to_end(replay.unwrap(), "A", 5_000);
    for (row, update) in updates.iter().enumerate() {
        let value = row.to_string();
        assert_eq!(*update, Heard::update(1, row == 0, &[("v", Some(&value))]));
    }
}

/// Real quotes, where the environment says that there are some.
#[test]
fn real_files_are_replayed_whole() {
    let Some(data) = env::var_os("BRIGHTWIRE_DATA").map(PathBuf::from) else {
        println!("skipped: BRIGHTWIRE_DATA names no directory of CSV files");
        return;
    };
    for (file, item, pace) in [
        ("fx-ticks.csv", "EUR/USD", Pace::Speed(1e12)),
        ("aapl-top-of-book.csv", "AAPL", Pace::RateHz(1e9)),
    ] {
        let path = data.join(file);
        let config = ReplayConfig {
            path: path.clone(),
            pace,
            looped: false,
        };
        let replay = Replay::open(config).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(replay.rows() as usize, text.lines().count() - 1);
        let of_item = |line: &&str| line.split(',').any(|cell| cell == item);
        let rows = text.lines().filter(of_item).count();
        assert_eq!(run_to_end(replay, item, rows).len(), rows);
    }
}
