//! What clients are told of events for which a data ring had no room: record by record, since what matters is what happens
//! between two of them. The rules are those of `ingest::debt`.

use engine::ids::{ConnId, DataAdapterId, ItemId, ShardId};
use engine::ingest::event::AdapterEvent;
use engine::ingest::fanout::Rings;
use engine::ingest::{Ingest, IngestEffect, record};
use engine::item::safe::{SafeRule, SafeRules, TradeSafe};
use engine::limits::Limits;
use engine::metadata::AdapterSets;
use engine::metadata::literal::Literal;
use engine::shard::{Config, Effect, Outbox, Part, Peer, Shard};
use engine::time::{Duration, Instant};
use engine::tlcp::Version;
use engine::tlcp::client::{FieldValues, Line};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Ingest, a shard, and a ring between them of which the test decides how much room it has, and when it is read.
struct Bench {
    ingest: Ingest,
    shard: Shard,
    sets: AdapterSets,
    ring: Ring,
    wire: Wire,
    item: Option<ItemId>,
    /// The data adapter has snapshots.
    snapshots: bool,
}

#[derive(Default)]
struct Ring {
    bytes: Vec<u8>,
    room: usize,
}

impl Rings for Ring {
    fn room(&self, _: ShardId) -> usize {
        self.room
    }

    fn write(&mut self, _: ShardId, record: &[u8]) {
        self.room -= record.len();
        self.bytes.extend_from_slice(record);
    }
}

#[derive(Default)]
struct Wire(Vec<u8>);

impl Outbox for Wire {
    fn open(&mut self, _: ConnId) -> &mut Vec<u8> {
        &mut self.0
    }

    fn send(&mut self, _: ConnId, _: Part) {}
}

const CONN: ConnId = ConnId {
    slot: 0,
    generation: 0,
};
const NOW: Instant = Instant::ZERO;
const PLENTY: usize = 1 << 20;

type Fields<'a> = &'a [(&'a str, &'a str)];

impl Bench {
    fn new(snapshots: bool) -> Self {
        Self::with(snapshots, Config::default())
    }

    fn with(snapshots: bool, config: Config) -> Self {
        let mut sets = AdapterSets::default();
        sets.add("DEFAULT", Literal::default(), &["DEFAULT"]);
        let mut bench = Self {
            ingest: Ingest::new(1, Duration::ZERO, Limits::DEFAULT),
            shard: Shard::new(config, || [7; 12]),
            sets,
            ring: Ring {
                room: PLENTY,
                ..Ring::default()
            },
            wire: Wire::default(),
            item: None,
            snapshots,
        };
        bench
            .shard
            .on_accept(CONN, Peer::new("192.0.2.1", Version::LATEST), NOW);
        bench.ask("create_session\r\nLS_cid=x&LS_send_sync=false");
        bench.lines();
        bench
    }

    /// The client asks for something, and all that the shard wants of others is done.
    fn ask(&mut self, message: &str) {
        self.shard.on_request(CONN, message, NOW);
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Ask(ask) => {
                    let answer = self.sets.answer(ShardId(0), &ask);
                    self.shard.on_answer(answer, NOW);
                }
                Effect::Demand(demand) => {
                    let ring = &mut self.ring;
                    self.ingest.on_demand(ShardId(0), demand, NOW, ring);
                    while let Some(effect) = self.ingest.poll_effect() {
                        if let IngestEffect::Subscribe { item, .. } = effect {
                            self.item = Some(item);
                            self.ingest.on_subscribed(item, self.snapshots);
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn add(&mut self, sub_id: u32, mode: &str, schema: &str, more: &str) {
        self.ask(&format!(
            "control\r\nLS_reqId=1&LS_op=add&LS_subId={sub_id}&LS_mode={mode}&LS_group=item1&LS_schema={schema}&{more}"
        ));
    }

    /// The data adapter publishes an event.
    fn publish(&mut self, fields: Fields<'_>) {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, Some(*value)))
            .collect();
        let event = AdapterEvent::Update {
            item: self.item.expect("asked for"),
            snapshot: false,
            fields: &fields,
        };
        self.ingest.on_adapter(event, NOW, &mut self.ring);
    }

    fn publish_row(&mut self, key: &str, command: &str, n: &str) {
        self.publish(&[("key", key), ("command", command), ("n", n)]);
    }

    /// The ring has so much room, and ingest uses it.
    fn make_room(&mut self, bytes: usize) {
        self.ring.room = bytes;
        self.ingest.flush(&mut self.ring);
    }

    /// The shard reads one record, and writes what is owed.
    fn read_one(&mut self) -> Option<record::Kind> {
        let length = record::length(&self.ring.bytes)?;
        let bytes: Vec<u8> = self.ring.bytes.drain(..length).collect();
        let kind = record::read(&bytes).next()?.kind;
        self.shard.on_records(&bytes, NOW);
        self.shard.pump(NOW, &mut self.wire);
        Some(kind)
    }

    fn read_all(&mut self) {
        self.make_room(PLENTY);
        while self.read_one().is_some() {}
    }

    /// The shard reads all that there is, and then writes what is owed.
    fn read_at_once(&mut self) {
        self.make_room(PLENTY);
        let bytes = std::mem::take(&mut self.ring.bytes);
        self.shard.on_records(&bytes, NOW);
        self.shard.pump(NOW, &mut self.wire);
    }

    /// The item is there with some rows, and no shard looks at it.
    fn leave_rows(&mut self, mode: &str, schema: &str, rows: &[Fields<'_>]) {
        self.add(1, mode, schema, "LS_snapshot=true");
        rows.iter().for_each(|row| self.publish(row));
        self.read_all();
        self.ask("control\r\nLS_reqId=2&LS_op=delete&LS_subId=1");
        self.lines();
        self.ring.room = 0;
    }

    /// What the client was told of its items since the last call.
    fn lines(&mut self) -> Vec<String> {
        self.shard.pump(NOW, &mut self.wire);
        let text = String::from_utf8(std::mem::take(&mut self.wire.0)).unwrap();
        let items = |line: &&str| {
            ["U,", "OV,", "EOS,", "CS,"]
                .iter()
                .any(|tag| line.starts_with(tag))
        };
        text.lines().filter(items).map(str::to_owned).collect()
    }
}

/// The first event that finds the ring full must not be forgotten, even if nothing else remembers it.
#[test]
fn a_deletion_that_finds_the_ring_full_is_told() {
    let mut bench = Bench::new(false);
    bench.add(1, "COMMAND", "key%20command%20n", "LS_snapshot=true");
    bench.publish_row("a", "ADD", "1");
    bench.read_all();
    assert_eq!(bench.lines(), ["EOS,1,1", "U,1,1,a|ADD|1"]);
    bench.ring.room = 0;
    bench.publish_row("a", "DELETE", "2");
    bench.read_all();
    assert_eq!(bench.lines(), ["U,1,1,|DELETE|#"]);
    assert_eq!(
        gauge(&bench, "deleted rows kept for shards that are behind"),
        0
    );
}

/// A key that comes and goes while the ring is full is seen by nobody. Those to whom all must be told are told of both.
#[test]
fn a_key_that_came_and_went_while_the_ring_was_full_is_two_losses() {
    let mut bench = Bench::new(false);
    bench.add(
        1,
        "COMMAND",
        "key%20command%20n",
        "LS_requested_max_frequency=unfiltered",
    );
    bench.publish_row("a", "ADD", "1");
    bench.read_all();
    assert_eq!(bench.lines(), ["U,1,1,a|ADD|1"]);
    bench.ring.room = 0;
    bench.publish_row("b", "ADD", "2");
    bench.publish_row("b", "DELETE", "3");
    bench.publish_row("a", "UPDATE", "4");
    bench.read_all();
    assert_eq!(bench.lines(), ["OV,1,1,1", "OV,1,1,1", "U,1,1,|UPDATE|4"]);
}

/// Who subscribes while a shard is caught up begins with what the shard has then. What is missing behind that is told.
#[test]
fn losses_that_a_shard_has_heard_of_are_told_behind_a_snapshot_of_before() {
    for (mode, first) in [("MERGE", vec!["U,2,1,1"]), ("DISTINCT", vec!["EOS,2,1"])] {
        let mut bench = Bench::new(false);
        bench.add(1, mode, "n", "LS_snapshot=true");
        bench.publish(&[("n", "1")]);
        bench.read_all();
        bench.ring.room = 0;
        for n in 2..=20 {
            bench.publish(&[("n", &n.to_string())]);
        }
        bench.make_room(PLENTY);
        while bench.read_one() != Some(record::Kind::Lost) {}
        bench.lines();
        bench.add(
            2,
            mode,
            "n",
            "LS_snapshot=true&LS_requested_max_frequency=unfiltered",
        );
        bench.read_all();
        let lines = bench.lines();
        let second: Vec<&String> = lines.iter().filter(|line| line.contains(",2,1")).collect();
        let received = second.iter().filter(|line| line.starts_with("U,")).count();
        let lost = 20 - received;
        assert_eq!(second[..1], first, "{mode}");
        assert_eq!(
            *second[1],
            format!("OV,2,1,{}", lost - usize::from(mode == "DISTINCT"))
        );
        assert!(second.last().unwrap().ends_with("20"));
    }
}

/// The marks that a shard gets when it is caught up stand before events that are older than the newest one. Who subscribes
/// between them must know from which event on keys are known to it.
#[test]
fn a_key_is_added_once_for_one_who_subscribes_while_its_shard_is_caught_up() {
    let mut bench = Bench::new(false);
    bench.add(1, "COMMAND", "key%20command%20n", "LS_snapshot=true");
    bench.publish_row("a", "ADD", "1");
    bench.read_all();
    bench.ring.room = 0;
    bench.publish_row("b", "ADD", "2");
    bench.publish_row("b", "UPDATE", "3");
    bench.publish_row("c", "ADD", "4");
    bench.make_room(PLENTY);
    while bench.read_one() != Some(record::Kind::Lost) {}
    bench.add(2, "COMMAND", "key%20command%20n", "LS_snapshot=false");
    bench.read_all();
    bench.publish_row("b", "UPDATE", "5");
    bench.read_all();
    let second: Vec<String> = bench
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("U,2"))
        .collect();
    assert_eq!(second, ["U,2,1,b|ADD|3", "U,2,1,c||4", "U,2,1,b|UPDATE|5"]);
}

/// What was held in front of a full ring comes before what else there was of its time. Who subscribes between the two knows
/// no key of what came before, whenever that happened.
#[test]
fn a_key_is_added_first_for_one_who_subscribes_behind_a_trade_that_came_early() {
    let mut bench = trade_safe(last(), Limits::DEFAULT);
    let schema = "key%20command%20bid%20last";
    bench.add(1, "COMMAND", schema, "LS_snapshot=true");
    bench.read_all();
    bench.ring.room = 0;
    bench.publish(&[("key", "a"), ("command", "ADD"), ("bid", "1")]);
    bench.publish(&[("key", "b"), ("command", "ADD"), ("last", "2")]);
    bench.make_room(PLENTY);
    assert_eq!(bench.read_one(), Some(record::Kind::Fields));
    assert_eq!(bench.read_one(), Some(record::Kind::Event), "the trade");
    assert_eq!(
        bench.read_one(),
        Some(record::Kind::Event),
        "what came before it"
    );
    bench.lines();
    bench.add(2, "COMMAND", schema, "LS_snapshot=false");
    bench.publish(&[("key", "b"), ("command", "UPDATE"), ("bid", "3")]);
    bench.publish(&[("key", "b"), ("command", "UPDATE"), ("bid", "4")]);
    bench.read_all();
    let lines = bench.lines();
    let second: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("U,2"))
        .collect();
    assert_eq!(second, ["U,2,1,b|ADD|3|2", "U,2,1,|UPDATE|4|"]);
}

/// What comes right behind the demand for an item is an event, also for those who want no snapshot and wait for just that.
#[test]
fn an_event_right_behind_the_demand_is_no_part_of_the_snapshot() {
    for (mode, schema, event, line) in [
        ("DISTINCT", "n", vec![("n", "1")], "U,1,1,1"),
        (
            "COMMAND",
            "key%20command",
            vec![("key", "a"), ("command", "ADD")],
            "U,1,1,a|ADD",
        ),
    ] {
        let mut bench = Bench::new(false);
        bench.add(1, mode, schema, "LS_snapshot=false");
        bench.publish(&event); // before ingest had a turn
        bench.read_all();
        assert_eq!(bench.lines(), [line]);
    }
}

/// While the snapshot is written piece by piece, the history forgets its oldest. Then the snapshot is shorter, but it is
/// one piece.
#[test]
fn a_snapshot_that_is_written_in_pieces_has_no_hole() {
    let mut bench = Bench::new(false);
    bench.add(1, "RAW", "n", "");
    bench.publish(&[("n", "0")]);
    bench.read_all();
    // From now on the item is looked at in DISTINCT mode too, by another session of which nothing is seen here.
    bench.add(2, "DISTINCT", "n", "LS_snapshot=true");
    bench.read_all();
    (1..=9).for_each(|n| bench.publish(&[("n", &n.to_string())]));
    bench.read_all();
    bench.ask("control\r\nLS_reqId=2&LS_op=delete&LS_subId=2");
    bench.ask("control\r\nLS_reqId=3&LS_op=delete&LS_subId=1");
    bench.lines();
    bench.ring.room = 150; // the names and some events
    bench.add(3, "DISTINCT", "n", "LS_snapshot=true");
    assert!(
        !bench.ring.bytes.is_empty(),
        "some of the snapshot is written"
    );
    (10..=30).for_each(|n| bench.publish(&[("n", &n.to_string())]));
    bench.read_all();
    let lines = bench.lines();
    let end = lines.iter().position(|line| line == "EOS,3,1").unwrap();
    assert_eq!(end, 0, "nothing of what was before is left: {lines:?}");
    assert_eq!(lines.last().unwrap(), "U,3,1,30");
}

fn trade_safe(what: TradeSafe, limits: Limits) -> Bench {
    let config = Config {
        trade_safe: SafeRules::new(vec![SafeRule {
            adapter: DataAdapterId(0),
            items: Box::default(),
            what,
        }]),
        limits: limits.clone(),
        ..Config::default()
    };
    let mut bench = Bench::with(false, config);
    bench.ingest = Ingest::new(1, Duration::ZERO, limits);
    bench
}

fn last() -> TradeSafe {
    TradeSafe::Fields(["last".into()].into())
}

/// A snapshot that is owed goes first, and each trade that has come since follows it, with what waits before it.
#[test]
fn trades_that_come_while_a_snapshot_is_owed_follow_it() {
    let mut bench = trade_safe(last(), Limits::DEFAULT);
    bench.ring.room = 0;
    bench.add(1, "DISTINCT", "last%20bid", "LS_snapshot=true");
    for n in 1..=30 {
        bench.publish(&[("last", &n.to_string())]);
        bench.publish(&[("bid", "7")]);
    }
    bench.read_all();
    let lines = bench.lines();
    assert_eq!(lines[..3], ["EOS,1,1", "U,1,1,1|#", "U,1,1,#|7"]);
    assert_eq!(lines.len(), 1 + 60);

    let rows: [Fields<'_>; 3] = [
        &[("key", "a"), ("command", "ADD"), ("bid", "1")],
        &[("key", "b"), ("command", "ADD"), ("bid", "2")],
        &[("key", "c"), ("command", "ADD"), ("bid", "3")],
    ];
    let schema = "key%20command%20bid%20last";
    for at_once in [false, true] {
        let mut bench = trade_safe(last(), Limits::DEFAULT);
        bench.leave_rows("COMMAND", schema, &rows);
        bench.add(2, "COMMAND", schema, "LS_snapshot=true");
        bench.publish(&[("key", "a"), ("command", "UPDATE"), ("last", "4")]);
        bench.publish(&[("key", "b"), ("command", "UPDATE"), ("bid", "5")]);
        bench.publish(&[("key", "a"), ("command", "UPDATE"), ("last", "6")]);
        bench.publish(&[("key", "a"), ("command", "UPDATE"), ("bid", "7")]);
        match at_once {
            true => bench.read_at_once(),
            false => bench.read_all(),
        }
        let lines = bench.lines();
        let (snapshot, events) = lines.split_at(3);
        assert_eq!(snapshot, ["U,2,1,c|ADD|3|#", "U,2,1,a||1|", "EOS,2,1"]);
        // What is no trade waits for its turn, and is merged.
        let events_due = [
            "U,2,1,|UPDATE||4",
            "U,2,1,|||6",
            "U,2,1,b|ADD|5|#",
            "U,2,1,a|UPDATE|7|6",
        ];
        assert_eq!(events, events_due, "{at_once}");
    }
}

/// What is void is so for trades too, but those before it are told.
#[test]
fn a_clear_while_a_snapshot_is_owed_follows_the_trades_before_it() {
    let rows: [Fields<'_>; 2] = [
        &[("key", "a"), ("command", "ADD"), ("bid", "1")],
        &[("key", "b"), ("command", "ADD"), ("bid", "2")],
    ];
    let schema = "key%20command%20bid%20last";
    for at_once in [false, true] {
        let mut bench = trade_safe(last(), Limits::DEFAULT);
        bench.leave_rows("COMMAND", schema, &rows);
        bench.add(2, "COMMAND", schema, "LS_snapshot=true");
        bench.publish(&[("key", "a"), ("command", "UPDATE"), ("last", "4")]);
        let item = bench.item.unwrap();
        let clear = AdapterEvent::ClearSnapshot { item };
        bench.ingest.on_adapter(clear, NOW, &mut bench.ring);
        bench.publish(&[("key", "b"), ("command", "ADD"), ("bid", "5")]);
        match at_once {
            true => bench.read_at_once(),
            false => bench.read_all(),
        }
        assert_eq!(
            bench.lines(),
            [
                "U,2,1,a|ADD|1|#",
                "EOS,2,1",
                "U,2,1,|UPDATE||4",
                "CS,2,1",
                "U,2,1,b|ADD|5|#"
            ],
            "{at_once}"
        );
    }
}

/// A client that is not written to is shown its table again and again; what it has to be told before that does not grow.
#[test]
fn rows_that_trades_have_overtaken_are_bounded() {
    let limits = Limits {
        event_buffer_len_max: 5,
        ..Limits::DEFAULT
    };
    let mut bench = trade_safe(last(), limits);
    bench.add(1, "COMMAND", "key%20command%20last", "LS_snapshot=true");
    bench.read_all();
    bench.lines();
    for round in 0..20 {
        // Too much waits: the table is shown anew.
        for number in 0..8 {
            let value = format!("{round}.{number}");
            let key = ["a", "b", "c"][number % 3];
            bench.publish(&[("key", key), ("command", "UPDATE"), ("last", &value)]);
        }
        let item = bench.item.unwrap();
        let clear = AdapterEvent::ClearSnapshot { item };
        bench.ingest.on_adapter(clear, NOW, &mut bench.ring);
        let bytes = std::mem::take(&mut bench.ring.bytes);
        bench.ring.room = PLENTY;
        bench.shard.on_records(&bytes, NOW);
        for gauge in bench.shard.gauges() {
            assert!(gauge.used <= gauge.max, "{}: {}", gauge.what, gauge.used);
        }
    }
    assert_eq!(bench.lines().last().unwrap(), "CS,1,1");
}

/// There is a bound to what is kept, and beyond it the oldest are told as lost.
#[test]
fn trades_behind_a_snapshot_that_is_owed_are_bounded() {
    let mut limits = Limits::DEFAULT;
    limits.event_buffer_len_max = 5;
    let mut bench = trade_safe(last(), limits);
    bench.ring.room = 0;
    bench.add(1, "DISTINCT", "last", "LS_snapshot=true");
    (1..=30).for_each(|n| bench.publish(&[("last", &n.to_string())]));
    bench.read_all();
    let lines = bench.lines();
    assert_eq!(lines[..3], ["EOS,1,1", "OV,1,1,25", "U,1,1,26"]);
    assert_eq!(lines.len(), 2 + 5);
}

/// Of a row whose trade had no room the state comes all the same.
#[test]
fn rows_whose_trades_are_lost_are_told_as_they_are() {
    let limits = Limits {
        event_buffer_len_max: 2,
        ..Limits::DEFAULT
    };
    let mut bench = trade_safe(last(), limits);
    bench.add(1, "COMMAND", "key%20command%20last", "LS_snapshot=true");
    bench.read_all();
    bench.lines();
    bench.ring.room = 0;
    for key in ["a", "b", "c", "d"] {
        bench.publish(&[("key", key), ("command", "ADD"), ("last", "1")]);
    }
    bench.read_all();
    let expected = [
        "OV,1,1,2",
        "U,1,1,c|ADD|1",
        "U,1,1,d||",
        "U,1,1,a||",
        "U,1,1,b||",
    ];
    assert_eq!(bench.lines(), expected);
}

/// The same if it had to go for what waited in front of a trade that then could not be taken.
#[test]
fn rows_whose_trades_went_for_one_that_is_refused_are_told_as_they_are() {
    let limits = Limits {
        event_buffer_len_max: 2,
        ..Limits::DEFAULT
    };
    let mut bench = trade_safe(last(), limits);
    let schema = "key%20command%20last";
    bench.add(1, "COMMAND", schema, "LS_snapshot=true");
    bench.read_all();
    bench.lines();
    bench.ring.room = 0;
    for key in ["a", "b"] {
        bench.publish(&[("key", key), ("command", "ADD"), ("last", "1")]);
    }
    for bid in ["1", "2"] {
        bench.publish(&[("key", "c"), ("command", "UPDATE"), ("bid", bid)]);
    }
    let large = "x".repeat(Limits::DEFAULT.item_bytes_max + 1);
    bench.publish(&[("key", "d"), ("command", "ADD"), ("last", &large)]);
    bench.read_all();
    let expected = ["OV,1,1,1", "U,1,1,b|ADD|1", "U,1,1,a||", "U,1,1,c||#"];
    assert_eq!(bench.lines(), expected);
}

#[derive(Clone, Debug)]
enum Happening {
    /// A bid or a last, of a row where there are several.
    Change(usize, bool),
    Delete(usize),
    Clear,
    Room(usize),
    Read(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0usize..4, any::<bool>()).prop_map(|(key, trade)| Happening::Change(key, trade)),
        1 => (0usize..4).prop_map(Happening::Delete),
        1 => Just(Happening::Clear),
        2 => (0usize..200).prop_map(Happening::Room),
        2 => (1usize..6).prop_map(Happening::Read),
    ]
}

/// Bid and last of a row; `None` if it is gone.
type Values = Option<[Option<String>; 2]>;

/// The trades since the client came, and the rows in the end.
#[derive(Debug, Default, PartialEq)]
struct Story {
    trades: Vec<(String, Values)>,
    rows: BTreeMap<String, Values>,
}

/// Plays a schedule to a client that comes while there are some rows and no room. Returns what was published, and what the
/// client heard.
fn play(mode: &str, what: TradeSafe, schedule: &[Happening]) -> [Story; 2] {
    const KEYS: [&str; 4] = ["a", "b", "c", "d"];
    let schema = match mode {
        "COMMAND" => "bid%20last%20key%20command",
        _ => "bid%20last",
    };
    let all = what == TradeSafe::Everything;
    let mut bench = trade_safe(what, Limits::DEFAULT);
    let (mut said, mut heard) = (Story::default(), Story::default());
    let publish = |bench: &mut Bench, key: usize, command: &str, field: &str, value: &str| {
        let fields = [("key", KEYS[key]), ("command", command), (field, value)];
        match mode {
            "COMMAND" if command == "DELETE" => bench.publish(&fields[..2]),
            "COMMAND" => bench.publish(&fields),
            _ => bench.publish(&fields[2..]),
        }
    };
    bench.leave_rows(mode, schema, &[]);
    for (key, name) in KEYS.iter().enumerate().take(3) {
        publish(&mut bench, key, "ADD", "bid", "0");
        let values = [Some("0".to_owned()), None];
        said.rows.insert((*name).to_owned(), Some(values));
    }
    bench.add(2, mode, schema, "LS_snapshot=true");
    for (number, happening) in schedule.iter().enumerate() {
        match *happening {
            Happening::Change(key, trade) => {
                let (field, value) = (["bid", "last"][usize::from(trade)], number.to_string());
                publish(&mut bench, key, "UPDATE", field, &value);
                if mode == "DISTINCT" {
                    said.rows.clear(); // each event for itself
                }
                let key = if mode == "COMMAND" { KEYS[key] } else { "" };
                let row = said.rows.entry(key.to_owned()).or_default();
                let row = row.get_or_insert_default();
                row[usize::from(trade)] = Some(value);
                if trade || all {
                    said.trades.push((key.to_owned(), Some(row.clone())));
                }
            }
            Happening::Delete(key) if mode == "COMMAND" => {
                publish(&mut bench, key, "DELETE", "", "");
                if said.rows.remove(KEYS[key]).is_some() && all {
                    said.trades.push((KEYS[key].to_owned(), None));
                }
            }
            Happening::Delete(_) => {}
            Happening::Clear => {
                said.rows.clear();
                let item = bench.item.unwrap();
                let clear = AdapterEvent::ClearSnapshot { item };
                bench.ingest.on_adapter(clear, NOW, &mut bench.ring);
            }
            Happening::Room(bytes) => bench.make_room(bytes),
            Happening::Read(records) => {
                for _ in 0..records {
                    let Some(length) = record::length(&bench.ring.bytes) else {
                        break;
                    };
                    let bytes: Vec<u8> = bench.ring.bytes.drain(..length).collect();
                    bench.shard.on_records(&bytes, NOW);
                }
                bench.shard.pump(NOW, &mut bench.wire);
            }
        }
    }
    bench.read_at_once();
    let mut live = false;
    let mut item = FieldValues::new(if mode == "COMMAND" { 4 } else { 2 });
    for line in bench.lines() {
        match Line::parse(&line).unwrap() {
            Line::Update { values, .. } => {
                item.apply(values).unwrap();
                let value = |field| item.get(field).map(str::to_owned);
                let key = value(2).unwrap_or_default();
                let gone = item.get(3) == Some("DELETE");
                let values = (!gone).then(|| [value(0), value(1)]);
                let old = match gone {
                    true => heard.rows.remove(&key),
                    false => heard.rows.insert(key.clone(), values.clone()),
                };
                let new_last = values.as_ref().is_some_and(|values| {
                    let old = old.flatten().and_then(|[_, last]| last);
                    values[1].is_some() && values[1] != old
                });
                if live && (all || new_last) {
                    heard.trades.push((key, values));
                }
            }
            Line::Cs { .. } => heard.rows.clear(),
            Line::Eos { .. } => live = true,
            other => panic!("{other:?}"),
        }
    }
    [said, heard]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Wherever the ring is full, and however far a snapshot has come: who comes then hears of each trade, as it was.
    #[test]
    fn no_trade_is_lost_behind_a_snapshot_that_is_owed(schedule in prop::collection::vec(happening(), 1..60)) {
        for what in [last(), TradeSafe::Everything] {
            let [said, heard] = play("COMMAND", what.clone(), &schedule);
            prop_assert_eq!(&said, &heard, "{:?}", what);
            let [said, heard] = play("DISTINCT", what, &schedule);
            prop_assert_eq!(said.trades, heard.trades);
        }
    }
}

/// Who subscribes while its shard is caught up is told of the trades that are missing behind what it begins with.
#[test]
fn trades_that_a_shard_has_heard_to_be_lost_are_told_behind_a_snapshot_of_before() {
    let mut limits = Limits::DEFAULT;
    limits.event_buffer_len_max = 5;
    let config = Config {
        trade_safe: SafeRules::new(vec![SafeRule {
            adapter: DataAdapterId(0),
            items: Box::default(),
            what: TradeSafe::Everything,
        }]),
        limits: limits.clone(),
        ..Config::default()
    };
    let mut bench = Bench::with(false, config);
    bench.ingest = Ingest::new(1, Duration::ZERO, limits);
    bench.add(1, "MERGE", "n", "LS_snapshot=true");
    bench.publish(&[("n", "1")]);
    bench.read_all();
    bench.ring.room = 0;
    (2..=20).for_each(|n| bench.publish(&[("n", &n.to_string())]));
    bench.make_room(PLENTY);
    while bench.read_one() != Some(record::Kind::Lost) {}
    bench.add(2, "MERGE", "n", "LS_snapshot=true");
    bench.read_all();
    let lines = bench.lines();
    let second: Vec<&String> = lines.iter().filter(|line| line.contains(",2,1")).collect();
    assert_eq!(second[..2], ["U,2,1,1", "OV,2,1,14"]);
    assert_eq!(second.len(), 2 + 5);
}

/// A trade-safe event settles what is owed before it, where there is room. The item is remembered once all the same.
#[test]
fn what_a_shard_is_owed_does_not_grow_by_being_settled_before_its_turn() {
    let config = Config {
        trade_safe: SafeRules::new(vec![SafeRule {
            adapter: DataAdapterId(0),
            items: Box::default(),
            what: TradeSafe::Everything,
        }]),
        ..Config::default()
    };
    let mut bench = Bench::with(false, config);
    bench.add(1, "MERGE", "n", "LS_snapshot=true");
    bench.read_all();
    for n in 1..100 {
        bench.ring.room = 0;
        bench.publish(&[("n", &n.to_string())]);
        bench.ring.room = PLENTY;
        bench.publish(&[("n", &format!("{n} more"))]);
        assert_eq!(gauge(&bench, "items owed to a shard"), 0);
    }
    bench.read_all();
    assert_eq!(bench.lines().len(), 2 * 99);
}

/// Items that come and go while the ring is full are remembered once.
#[test]
fn what_a_shard_is_owed_does_not_grow_by_coming_and_going() {
    let mut bench = Bench::new(false);
    bench.ring.room = 0;
    for sub_id in 1..=100 {
        bench.add(sub_id, "COMMAND", "key%20command", "LS_snapshot=true");
        assert_eq!(gauge(&bench, "items owed to a shard"), 1, "its snapshot");
        bench.ask(&format!(
            "control\r\nLS_reqId=2&LS_op=delete&LS_subId={sub_id}"
        ));
        assert_eq!(gauge(&bench, "items owed to a shard"), 0);
    }
}

fn gauge(bench: &Bench, what: &str) -> usize {
    let gauges = bench.ingest.gauges();
    gauges
        .iter()
        .find(|gauge| gauge.what == what)
        .map_or(0, |gauge| gauge.used)
}
