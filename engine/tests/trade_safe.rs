//! Trade-safe events: whatever holds events up (a full ring, a prefilter, a frequency, a bandwidth, a client that does not
//! read), each trade reaches its client for itself, in order, with the quotes of its moment; or it is told as lost.

use engine::ids::{DataAdapterId, ShardId};
use engine::item::safe::{SafeRule, SafeRules, TradeSafe};
use engine::metadata::AdapterSets;
use engine::metadata::literal::Literal;
use engine::sim::world::{Options, Say, WireId, World};
use engine::time::Duration;
use engine::tlcp::Version;
use engine::tlcp::client::{FieldValues, Line};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ADAPTER: DataAdapterId = DataAdapterId(0);
const ITEM: &str = "live1";
const KEYS: [&str; 3] = ["A", "B", "C"];

#[derive(Clone, Debug)]
enum Happening {
    /// A value of the bid or the ask, of a row where there are several.
    Quote(usize, bool, u8),
    Trade(usize),
    Delete(usize),
    Clear,
    Turn,
    Wait(u64),
    Stall,
    Resume,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..KEYS.len(), any::<bool>(), any::<u8>()).prop_map(|(key, bid, value)| Happening::Quote(key, bid, value)),
        4 => (0..KEYS.len()).prop_map(Happening::Trade),
        1 => (0..KEYS.len()).prop_map(Happening::Delete),
        1 => Just(Happening::Clear),
        3 => Just(Happening::Turn),
        2 => (1u64..400).prop_map(Happening::Wait),
        1 => Just(Happening::Stall),
        1 => Just(Happening::Resume),
    ]
}

/// Bid, ask and last of a row.
type Values = [Option<String>; 3];

/// What a feed says of its rows and a client hears; MERGE and DISTINCT have one row.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    trades: Vec<(String, Values)>,
    rows: BTreeMap<String, Values>,
}

/// A way of holding events up.
#[derive(Clone, Copy, Debug)]
struct Limits {
    ring_bytes: usize,
    source_hz: Option<f64>,
    buffer_len: usize,
    asked: &'static str,
}

fn world(limits: Limits) -> World {
    let mut options = Options {
        ring_bytes: limits.ring_bytes,
        ..Options::default()
    };
    options.config.limits.event_buffer_len_max = limits.buffer_len;
    options.config.trade_safe = SafeRules::new(vec![SafeRule {
        adapter: ADAPTER,
        items: Box::default(),
        what: TradeSafe::Fields(["last".into()].into()),
    }]);
    let metadata = Literal {
        source_frequency_max: limits.source_hz,
        ..Literal::default()
    };
    options.sets = AdapterSets::default();
    options.sets.add("DEFAULT", metadata, &["DEFAULT"]);
    World::new(options)
}

/// Plays a schedule; returns what the feed said, what the client heard, and how many losses it was told.
fn play(mode: &str, schedule: &[Happening], limits: Limits) -> (Seen, Seen, u32) {
    let mut world = world(limits);
    let wire = world.connect(ShardId(0), Version::LATEST);
    let asked = limits.asked;
    let schema = match mode {
        "COMMAND" => "bid%20ask%20last%20key%20command",
        _ => "bid%20ask%20last",
    };
    world.send(wire, format!("create_session\r\nLS_cid=x{asked}"));
    world.send(
        wire,
        format!("control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode={mode}&LS_group={ITEM}&LS_schema={schema}&LS_snapshot=true{asked}"),
    );
    world.settle();
    let mut said = Seen::default();
    for (number, happening) in schedule.iter().enumerate() {
        match *happening {
            Happening::Quote(key, bid, value) => {
                let name = if bid { "bid" } else { "ask" };
                say(&mut world, &mut said, mode, key, name, &value.to_string());
            }
            Happening::Trade(key) => {
                say(
                    &mut world,
                    &mut said,
                    mode,
                    key,
                    "last",
                    &format!("t{number}"),
                );
            }
            Happening::Delete(key) if mode == "COMMAND" => {
                let fields = [("key", Some(KEYS[key])), ("command", Some("DELETE"))];
                said.rows.remove(KEYS[key]);
                update(&mut world, &fields);
            }
            Happening::Delete(_) => {}
            Happening::Clear => {
                // Of a MERGE item that is an event, of the others the end of what was.
                match mode {
                    "MERGE" => _ = said.rows.insert(String::new(), Values::default()),
                    _ => said.rows.clear(),
                }
                world.say(ADAPTER, ITEM, Say::Clear);
            }
            Happening::Turn => world.settle(),
            Happening::Wait(millis) => world.advance(Duration::from_millis(millis)),
            Happening::Stall => world.stall(wire),
            Happening::Resume => world.resume(wire),
        }
    }
    world.resume(wire);
    world.advance(Duration::from_secs(120));
    let (heard, told) = heard(&mut world, wire, mode);
    (said, heard, told)
}

fn update(world: &mut World, fields: &[(&str, Option<&str>)]) {
    let snapshot = false;
    world.say(ADAPTER, ITEM, Say::Update { snapshot, fields });
}

fn say(world: &mut World, said: &mut Seen, mode: &str, key: usize, name: &str, value: &str) {
    let (row, fields) = match mode {
        "COMMAND" => (
            KEYS[key],
            vec![("key", Some(KEYS[key])), ("command", Some("UPDATE"))],
        ),
        _ => ("", Vec::new()),
    };
    let fields: Vec<_> = fields.into_iter().chain([(name, Some(value))]).collect();
    update(world, &fields);
    let values = said.rows.entry(row.to_owned()).or_default();
    if mode == "DISTINCT" {
        *values = Values::default(); // each event for itself
    }
    let field = ["bid", "ask", "last"]
        .iter()
        .position(|known| *known == name);
    values[field.unwrap()] = Some(value.to_owned());
    if name == "last" {
        let trade = (row.to_owned(), values.clone());
        said.trades.push(trade);
    }
}

fn heard(world: &mut World, client: WireId, mode: &str) -> (Seen, u32) {
    let fields = if mode == "COMMAND" { 5 } else { 3 };
    let mut item = FieldValues::new(fields);
    let (mut seen, mut told) = (Seen::default(), 0);
    for (wire, line) in world.lines() {
        assert_eq!(wire, client);
        match Line::parse(&line).unwrap() {
            Line::Update { values, .. } => {
                item.apply(values).unwrap();
                let value = |field| item.get(field).map(str::to_owned);
                let values = [value(0), value(1), value(2)];
                let key = item.get(3).unwrap_or_default().to_owned();
                let old = seen.rows.get(&key).and_then(|old| old[2].clone());
                match item.get(4) {
                    Some("DELETE") => {
                        assert!(seen.rows.remove(&key).is_some(), "a row that is not there");
                        continue;
                    }
                    Some("ADD") => assert!(!seen.rows.contains_key(&key)),
                    Some(_) => assert!(seen.rows.contains_key(&key)),
                    None => {}
                }
                if values[2].is_some() && values[2] != old {
                    seen.trades.push((key.clone(), values.clone()));
                }
                seen.rows.insert(key, values);
            }
            Line::Cs { .. } => seen.rows.clear(),
            Line::Ov { lost, .. } => told += lost,
            _ => {}
        }
    }
    (seen, told)
}

const PLENTY: usize = 1_000;

/// Everything at once, and each place of conflation by itself.
fn limits(buffer_len: usize) -> impl Iterator<Item = Limits> {
    let of = move |ring_bytes, source_hz, asked| Limits {
        ring_bytes,
        source_hz,
        buffer_len,
        asked,
    };
    [
        of(1 << 20, None, ""),
        of(1 << 20, Some(3.0), ""),
        of(400, None, ""),
        of(1 << 20, None, "&LS_requested_max_frequency=2"),
        of(1 << 20, None, "&LS_requested_max_bandwidth=2"),
        of(
            400,
            Some(3.0),
            "&LS_requested_max_frequency=0.7&LS_requested_max_bandwidth=2",
        ),
    ]
    .into_iter()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_trade_arrives_for_itself(schedule in prop::collection::vec(happening(), 1..150)) {
        for mode in ["MERGE", "DISTINCT", "COMMAND"] {
            for limits in limits(PLENTY) {
                let (said, heard, told) = play(mode, &schedule, limits);
                prop_assert_eq!(told, 0);
                prop_assert_eq!(&heard.trades, &said.trades, "{} {:?}", mode, limits);
                if mode != "DISTINCT" {
                    prop_assert_eq!(&heard.rows, &said.rows, "{} {:?}", mode, limits);
                }
            }
        }
    }

    /// In MERGE the state behind a trade that is lost shows its values too, with quotes that came later.
    #[test]
    fn what_does_not_arrive_is_told(schedule in prop::collection::vec(happening(), 1..150)) {
        for mode in ["MERGE", "DISTINCT"] {
            for limits in limits(3) {
                let (said, heard, told) = play(mode, &schedule, limits);
                let whole = heard.trades.iter().filter(|trade| said.trades.contains(trade));
                let missing = said.trades.len() - whole.count();
                let told = told as usize;
                match mode {
                    "MERGE" => prop_assert!(missing <= told && told <= said.trades.len(), "{:?}", limits),
                    _ => prop_assert_eq!(missing, told, "{:?}", limits),
                }
                let mut all = said.trades.iter();
                let in_order = heard.trades.iter().all(|(_, heard)| all.any(|(_, said)| said[2] == heard[2]));
                prop_assert!(in_order, "{} {:?}: {:?} of {:?}", mode, limits, heard.trades, said.trades);
            }
        }
    }
}
