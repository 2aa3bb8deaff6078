//! Faults that were found once, each as the shortest story that shows it.

use engine::ids::{DataAdapterId, ItemId, ShardId};
use engine::ingest::demand::Demand;
use engine::ingest::event::AdapterEvent;
use engine::ingest::fanout::Rings;
use engine::ingest::record::{self, Kind};
use engine::ingest::{Ingest, IngestEffect};
use engine::item::safe::TradeSafe;
use engine::limits::Limits;
use engine::sim::pair::Pair;
use engine::sim::world::{Options, Say, WireId, World};
use engine::time::{Duration, Instant};
use engine::tlcp::Version;
use engine::tlcp::request::{Mode, Verb};

/// The data adapter of [`Pair`].
const ADAPTER: DataAdapterId = DataAdapterId(0);

fn lines_of(world: &mut World, wanted: WireId) -> Vec<String> {
    let lines = world.lines().into_iter();
    let wanted = lines.filter(|(wire, _)| *wire == wanted);
    wanted.map(|(_, line)| line).collect()
}

/// `wsok` is the one request that has no line at all.
#[test]
fn wsok_is_answered() {
    let mut pair = Pair::new(Options::default());
    pair.ask("wsok");
    assert_eq!(pair.lines(), ["WSOK"]);
}

/// Clients send `wsok` and `bind_session` together. The answer to the first must not be lost when the second makes
/// the connection move to another shard.
#[test]
fn answers_that_wait_are_written_before_a_connection_moves() {
    let mut world = World::new(Options {
        shards: 2,
        ..Options::default()
    });
    let first = world.connect(ShardId(0), Version::LATEST);
    world.send(first, "create_session\r\nLS_cid=x");
    world.settle();
    let conok = lines_of(&mut world, first).remove(0);
    let id = conok.split(',').nth(1).unwrap().to_owned();
    world.close(first);

    let second = world.connect(ShardId(1), Version::LATEST);
    world.send(second, "wsok");
    world.send(
        second,
        format!("bind_session\r\nLS_session={id}&LS_send_sync=false"),
    );
    world.send(second, "control\r\nLS_reqId=1&LS_op=delete&LS_subId=9");
    world.settle();
    let lines = lines_of(&mut world, second);
    assert_eq!(lines[0], "WSOK");
    assert!(lines[1].starts_with("CONOK,"), "{lines:?}");
    assert!(
        lines.contains(&"REQERR,1,19,Specified subscription not found".to_owned()),
        "{lines:?}"
    );
}

/// A connection that was blocked for a while gets its `PROBE` in time again: clients take a stream for dead two
/// seconds after the keep-alive.
#[test]
fn the_keepalive_goes_on_after_a_connection_was_blocked() {
    let mut pair = Pair::with_session();
    pair.subscribe(1, "item1", "a", "");
    pair.world.stall(pair.wire);
    pair.snapshot("item1", &[("a", Some("1"))]);
    pair.advance_ms(6_000); // the time of the probe passes while nothing can be written
    pair.world.resume(pair.wire);
    pair.advance_ms(1);
    assert_eq!(pair.lines(), ["U,1,1,1"]);
    pair.advance_ms(5_000);
    assert_eq!(pair.lines(), ["PROBE"]);
}

/// A session that waits under a very low limit goes on at once when the limit is raised.
#[test]
fn a_raised_bandwidth_is_used_at_once() {
    let mut pair = Pair::with_session();
    pair.ask("control\r\nLS_reqId=1&LS_op=constrain&LS_requested_max_bandwidth=0.01");
    pair.subscribe(1, "item1", "a", "");
    pair.snapshot("item1", &[("a", Some("1"))]);
    pair.update("item1", &[("a", Some("2"))]);
    pair.lines();
    pair.ask("control\r\nLS_reqId=2&LS_op=constrain&LS_requested_max_bandwidth=1000");
    pair.advance_ms(100);
    assert!(
        pair.lines().iter().any(|line| line == "U,1,1,2"),
        "the update waits for the old limit"
    );
}

/// A client cannot keep a session without a connection for ever by announcing a very late poll.
#[test]
fn the_wait_after_force_rebind_is_bounded() {
    let mut pair = Pair::with_session();
    pair.ask("control\r\nLS_reqId=1&LS_op=force_rebind&LS_polling_millis=18446744073709551615");
    assert_eq!(pair.lines(), ["REQOK,1", "LOOP,0"]);
    pair.advance_ms(15_000 + 10_000 - 10);
    assert_eq!(pair.world.shards().next().unwrap().sessions(), 1);
    pair.advance_ms(100);
    assert_eq!(pair.world.shards().next().unwrap().sessions(), 0);
}

/// Operations that come with a `create_session` must not be taken for further creations, nor be dropped.
#[test]
fn a_creation_with_operations_is_one_creation() {
    for body in [
        "LS_cid=x\r\nLS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1&LS_schema=a",
        "LS_cid=x&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1&LS_schema=a",
        "LS_cid=x\r\nLS_message=one&LS_msg_prog=1\r\n",
    ] {
        let mut pair = Pair::new(Options::default());
        pair.ask(&format!("create_session\r\n{body}"));
        let lines = pair.lines();
        assert!(lines[0].starts_with("CONOK,"), "{lines:?}");
        let told = |line: &str| lines.iter().any(|known| known == line);
        assert!(told("SUBOK,1,1,1") || told("MSGDONE,*,1,"), "{lines:?}");
        assert_eq!(pair.world.shards().next().unwrap().sessions(), 1);
    }
}

/// A shard wants `item1` in MERGE mode.
fn want(ingest: &mut Ingest, shard: u16, rings: &mut impl Rings) {
    let demand = Demand::Want {
        local: 0,
        epoch: 1,
        adapter: DataAdapterId(0),
        name: "item1".into(),
        mode: Mode::Merge,
        snapshot_length: 0,
        source_frequency_max: None,
        trade_safe: TradeSafe::Nothing,
    };
    ingest.on_demand(ShardId(shard), demand, Instant::ZERO, rings);
}

/// The number under which the data adapter is asked for it.
fn asked_for(ingest: &mut Ingest) -> ItemId {
    let Some(IngestEffect::Subscribe { item, .. }) = ingest.poll_effect() else {
        panic!("the adapter is not asked")
    };
    item
}

/// Events that come before the adapter said whether there is a snapshot count as what has been seen so far, also for
/// a shard that comes later.
#[test]
fn a_late_shard_gets_the_whole_state_of_an_undecided_item() {
    #[derive(Default)]
    struct Open([Vec<u8>; 2]);
    impl Rings for Open {
        fn room(&self, _: ShardId) -> usize {
            usize::MAX
        }
        fn write(&mut self, shard: ShardId, record: &[u8]) {
            self.0[usize::from(shard.0)].extend_from_slice(record);
        }
    }
    let mut rings = Open::default();
    let mut ingest = Ingest::new(2, Duration::ZERO, Limits::DEFAULT);
    want(&mut ingest, 0, &mut rings);
    let item = asked_for(&mut ingest);
    let update = |fields| AdapterEvent::Update {
        item,
        snapshot: false,
        fields,
    };
    ingest.on_adapter(
        update(&[("a", Some("1")), ("b", Some("1"))]),
        Instant::ZERO,
        &mut rings,
    );
    want(&mut ingest, 1, &mut rings);
    ingest.on_adapter(update(&[("b", Some("2"))]), Instant::ZERO, &mut rings);
    let kinds: Vec<_> = record::read(&rings.0[1])
        .map(|record| (record.kind, record.values().count()))
        .collect();
    assert_eq!(
        kinds,
        [(Kind::Fields, 0), (Kind::Snapshot, 2), (Kind::Update, 1)]
    );
}

/// A shard whose ring was full when it asked for an item: events that came meanwhile are events for it, and not only a
/// part of the snapshot, which those who asked for none would not be shown.
#[test]
fn events_skipped_with_a_snapshot_are_events() {
    #[derive(Default)]
    struct Valve {
        open: bool,
        bytes: Vec<u8>,
    }
    impl Rings for Valve {
        fn room(&self, _: ShardId) -> usize {
            if self.open { usize::MAX } else { 0 }
        }
        fn write(&mut self, _: ShardId, record: &[u8]) {
            self.bytes.extend_from_slice(record);
        }
    }
    for (events_meanwhile, expected) in [(0, Kind::Snapshot), (2, Kind::State)] {
        let mut ring = Valve::default();
        let mut ingest = Ingest::new(1, Duration::ZERO, Limits::DEFAULT);
        want(&mut ingest, 0, &mut ring);
        let item = asked_for(&mut ingest);
        ingest.on_subscribed(item, true);
        let mut publish = |snapshot, value| {
            let fields = &[("a", Some(value))];
            let event = AdapterEvent::Update {
                item,
                snapshot,
                fields,
            };
            ingest.on_adapter(event, Instant::ZERO, &mut ring);
        };
        publish(true, "snapshot");
        for _ in 0..events_meanwhile {
            publish(false, "live");
        }
        ring.open = true;
        ingest.flush(&mut ring);
        let last = record::read(&ring.bytes).last().map(|record| record.kind);
        assert_eq!(last, Some(expected));
    }
}

/// A request is answered to the connection that it came on, wherever that has gone meanwhile: here over two other shards
/// and back to the first, while the metadata adapter thinks.
#[test]
fn answers_of_other_shards_follow_a_connection_that_moves() {
    let mut world = World::new(Options {
        shards: 3,
        answer_delay: Duration::from_millis(500),
        ..Options::default()
    });
    let create = |world: &mut World, shard| {
        let wire = world.connect(ShardId(shard), Version::LATEST);
        world.send(wire, "create_session\r\nLS_cid=x&LS_polling=true");
        world.advance(Duration::from_millis(600));
        let conok = lines_of(world, wire).remove(0);
        (conok.split(',').nth(1).unwrap().to_owned(), wire)
    };
    let sessions = [0, 1, 2].map(|shard| create(&mut world, shard).0);
    let wire = world.connect(ShardId(0), Version::LATEST);
    // Two requests for another shard, one of them without an acknowledgement, which is counted all the same.
    for (req_id, ack) in [(1, "true"), (2, "false"), (3, "true")] {
        let session = &sessions[usize::try_from(req_id % 2).unwrap() + 1];
        let add = format!(
            "control\r\nLS_reqId={req_id}&LS_op=add&LS_subId={req_id}&LS_mode=MERGE&LS_group=i&LS_schema=a\
             &LS_session={session}&LS_ack={ack}"
        );
        world.send(wire, add);
    }
    world.settle();
    // The connection polls a session of each shard in turn, and so moves there.
    for session in [&sessions[1], &sessions[2], &sessions[0]] {
        let poll = format!("bind_session\r\nLS_session={session}&LS_polling=true");
        world.send(wire, poll);
        world.settle();
        assert!(lines_of(&mut world, wire)[0].starts_with("CONOK,"));
    }
    world.advance(Duration::from_millis(600));
    let mut lines = lines_of(&mut world, wire);
    lines.sort();
    assert_eq!(lines, ["REQOK,1", "REQOK,3"]);
}

/// What a client says last counts, however long the metadata adapter thinks about what it said first.
#[test]
fn add_delete_add_of_one_number_ends_subscribed() {
    let mut pair = Pair::new(Options {
        answer_delay: Duration::from_millis(50),
        ..Options::default()
    });
    pair.ask("create_session\r\nLS_cid=x&LS_send_sync=false");
    pair.advance_ms(50);
    pair.lines();
    let add = |req_id: u32, group: &str| {
        format!(
            "control\r\nLS_reqId={req_id}&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group={group}&LS_schema=a&LS_ack=false"
        )
    };
    pair.ask(&add(1, "item1"));
    pair.ask("control\r\nLS_reqId=2&LS_op=delete&LS_subId=1");
    pair.ask(&add(3, "item2"));
    pair.ask("control\r\nLS_reqId=4&LS_op=reconf&LS_subId=1&LS_requested_max_frequency=2");
    assert_eq!(pair.lines(), ["REQOK,2"]);
    pair.advance_ms(50);
    let first = ["SUBOK,1,1,1", "CONF,1,unlimited,filtered", "UNSUB,1"];
    assert_eq!(pair.lines(), first);
    pair.advance_ms(50);
    let second = [
        "REQOK,4",
        "SUBOK,1,1,1",
        "CONF,1,unlimited,filtered",
        "CONF,1,2.0,filtered",
    ];
    assert_eq!(pair.lines(), second);
    pair.update("item2", &[("a", Some("1"))]);
    assert_eq!(pair.lines(), ["U,1,1,1"]);
}

/// The end of a session answers what still waits for the metadata adapter: an HTTP response has a place for each request.
#[test]
fn requests_of_a_session_that_ends_are_answered_over_http() {
    let mut world = World::new(Options {
        answer_delay: Duration::from_millis(50),
        ..Options::default()
    });
    let wire = world.connect(ShardId(0), Version::LATEST);
    world.send(wire, "create_session\r\nLS_cid=x&LS_send_sync=false");
    world.advance(Duration::from_millis(50));
    let conok = lines_of(&mut world, wire).remove(0);
    let id = conok.split(',').nth(1).unwrap().to_owned();
    let http = world.connect_http(ShardId(0), Version::LATEST, false);
    let add = "LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=i&LS_schema=a";
    world.request(
        http,
        Verb::Control,
        &format!("LS_session={id}"),
        &format!("LS_reqId=1&{add}\r\nLS_reqId=2&LS_op=delete&LS_subId=1\r\nLS_reqId=3&{add}"),
    );
    world.settle();
    world.send(wire, "control\r\nLS_reqId=4&LS_op=destroy");
    world.settle();
    world.advance(Duration::from_millis(50));
    assert_eq!(
        lines_of(&mut world, http),
        [
            "REQERR,1,20,Session not found",
            "REQOK,2",
            "REQERR,3,20,Session not found"
        ]
    );
}

/// A deletion for which the ring to the shard has no room, the first event in a while to meet that, is told when there is.
#[test]
fn a_deletion_is_told_that_finds_the_ring_full() {
    let mut pair = Pair::new(Options {
        ring_bytes: 200,
        ..Options::default()
    });
    pair.ask("create_session\r\nLS_cid=x");
    pair.ask(
        "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=COMMAND&LS_group=live1\
         &LS_schema=key%20command&LS_snapshot=true",
    );
    let change = |pair: &mut Pair, command| {
        let fields = [("key", Some("A")), ("command", Some(command))];
        let snapshot = false;
        let update = Say::Update {
            snapshot,
            fields: &fields,
        };
        pair.world.say(DataAdapterId(0), "live1", update);
    };
    change(&mut pair, "ADD");
    pair.world.settle();
    assert_eq!(pair.lines().last().unwrap(), "U,1,1,A|ADD");
    // Each takes 51 bytes.
    for command in ["UPDATE", "UPDATE", "UPDATE", "DELETE"] {
        change(&mut pair, command);
    }
    pair.world.settle();
    assert_eq!(pair.lines().last().unwrap(), "U,1,1,|DELETE");
}

/// Events that say nothing to a table of rows are events in RAW mode all the same, and no two of them are alike.
#[test]
fn events_that_a_table_ignores_are_told_apart_in_raw_mode() {
    let mut pair = Pair::with_session();
    let add = |sub_id: u32, mode: &str, schema: &str| {
        format!(
            "control\r\nLS_reqId=1&LS_op=add&LS_subId={sub_id}&LS_mode={mode}&LS_group=item1&LS_schema={schema}"
        )
    };
    pair.ask(&add(1, "COMMAND", "key%20command"));
    pair.ask(&add(2, "RAW", "n"));
    pair.lines();
    for n in ["1", "2", "3"] {
        pair.update(
            "item1",
            &[
                ("key", Some("a")),
                ("command", Some("DELETE")),
                ("n", Some(n)),
            ],
        );
    }
    assert_eq!(pair.lines(), ["U,2,1,1", "U,2,1,2", "U,2,1,3"]);
}

/// What a session did not use for a while is worth a burst, and not also the lines that end the pause.
#[test]
fn lines_after_a_pause_are_paid_from_what_could_be_saved_up() {
    let mut pair = Pair::with_session();
    pair.subscribe(1, "item1 item2", "value", "");
    pair.ask("control\r\nLS_reqId=2&LS_op=constrain&LS_requested_max_bandwidth=8"); // 1,000 bytes a second, 250 at once
    pair.update("item1", &[("value", Some("x"))]);
    pair.update("item2", &[("value", Some("x"))]);
    pair.advance_ms(3_000);
    pair.lines();
    let batch: String = (0..8)
        .map(|n| format!("\r\nLS_reqId=r{n}&LS_op=reconf&LS_subId=1&LS_requested_max_frequency=9"))
        .collect();
    let long = "x".repeat(100);
    pair.world.send(pair.wire, format!("control{batch}"));
    pair.world.say(
        ADAPTER,
        "item1",
        Say::Update {
            snapshot: false,
            fields: &[("value", Some(&long))],
        },
    );
    pair.world.say(
        ADAPTER,
        "item2",
        Say::Update {
            snapshot: false,
            fields: &[("value", Some(&long))],
        },
    );
    pair.world.settle();
    let updates = |pair: &mut Pair| {
        pair.lines()
            .iter()
            .filter(|line| line.starts_with("U,"))
            .count()
    };
    assert_eq!(updates(&mut pair), 1, "176 bytes of CONF and one update");
    pair.advance_ms(1_000);
    assert_eq!(updates(&mut pair), 1);
}

/// A connection that moves to another shard with an HTTP request takes its turn once, and none while it is blocked.
#[test]
fn a_response_on_a_connection_that_moved_is_written_once_in_a_turn() {
    let mut options = Options {
        shards: 2,
        ..Options::default()
    };
    options.config.limits.turn_bytes_max = 40;
    let mut world = World::new(options);
    let socket = world.connect(ShardId(0), Version::LATEST);
    world.send(socket, "create_session\r\nLS_cid=x");
    world.settle();
    let conok = lines_of(&mut world, socket).remove(0);
    let session = conok.split(',').nth(1).unwrap().to_owned();
    let group: String = (1..=9).map(|n| format!("item{n}%20")).collect();
    let add = format!("LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group={group}&LS_schema=a");
    world.send(socket, format!("control\r\n{add}"));
    world.settle();
    world.close(socket);
    for n in 1..=9 {
        let fields = &[("a", Some("as much as a turn may write, and more"))];
        let update = Say::Update {
            snapshot: false,
            fields,
        };
        world.say(ADAPTER, &format!("item{n}"), update);
    }
    world.settle();

    let other = world.connect_http(ShardId(1), Version::LATEST, false);
    world.request(
        other,
        Verb::BindSession,
        "",
        &format!("LS_session={session}"),
    );
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.starts_with("U,")) {
        world.turn(0);
        lines.extend(lines_of(&mut world, other));
    }
    world.stall(other);
    world.settle(); // the world itself asserts that nothing is written to a connection that is blocked
    world.resume(other);
    world.settle();
    lines.extend(lines_of(&mut world, other));
    let updates = lines.iter().filter(|line| line.starts_with("U,"));
    assert_eq!(updates.count(), 9);
}

/// The head of a response tells the bandwidth as it is. What was said of it before, and not received, is void.
#[test]
fn a_bandwidth_of_before_is_not_told_behind_the_head() {
    for recovers in [false, true] {
        let mut world = World::new(Options::default());
        let first = world.connect(ShardId(0), Version::LATEST);
        world.send(first, "create_session\r\nLS_cid=x");
        world.settle();
        let session = lines_of(&mut world, first)[0]
            .split(',')
            .nth(1)
            .unwrap()
            .to_owned();
        let constrain = |kbps: &str| {
            format!(
                "control\r\nLS_reqId=1&LS_session={session}&LS_op=constrain&LS_requested_max_bandwidth={kbps}"
            )
        };
        world.stall(first); // takes one message more
        if !recovers {
            world.send(first, "wsok");
            world.settle();
        }
        world.send(first, constrain("8"));
        world.settle();
        world.close(first);
        let second = world.connect(ShardId(0), Version::LATEST);
        world.send(second, constrain("unlimited"));
        let from = if recovers { "&LS_recovery_from=0" } else { "" };
        world.send(
            second,
            format!("bind_session\r\nLS_session={session}{from}"),
        );
        world.settle();
        let lines = lines_of(&mut world, second);
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with("CONS,"))
            .collect();
        assert_eq!(told, ["CONS,unlimited"]);
    }
}
