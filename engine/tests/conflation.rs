//! Conflation in ingest (by a prefilter), in front of a full ring, by a frequency, by a bandwidth or by a blocked connection,
//! in any combination, must end where a client ends that gets everything: in MERGE, and in COMMAND for each row. In DISTINCT
//! there is no state to end in; there what arrives is in order, the last event arrives, and what must be told is.

use engine::ids::{DataAdapterId, ShardId};
use engine::metadata::AdapterSets;
use engine::metadata::literal::Literal;
use engine::sim::world::{Options, Say, WireId, World};
use engine::time::Duration;
use engine::tlcp::Version;
use engine::tlcp::client::{FieldValues, Line};
use proptest::prelude::*;
use std::collections::BTreeMap;

const FIELDS: [&str; 5] = ["a", "b", "c", "d", "e"];
const ITEMS: [&str; 2] = ["item1", "live2"];

#[derive(Clone, Debug)]
enum Happening {
    Update(usize, Vec<(usize, Option<String>)>),
    Clear(usize),
    EndOfSnapshot(usize),
    /// The server works.
    Turn,
    Wait(u64),
    Stall,
    Resume,
}

fn happening() -> impl Strategy<Value = Happening> {
    let value = prop::option::of(prop_oneof![
        "[0-9]{1,3}",
        Just(String::new()),
        Just("#|^%".to_owned()),
        "[xy]{20,60}"
    ]);
    let fields = prop::collection::vec((0..FIELDS.len(), value), 0..4);
    prop_oneof![
        12 => (0..ITEMS.len(), fields).prop_map(|(item, fields)| Happening::Update(item, fields)),
        1 => (0..ITEMS.len()).prop_map(Happening::Clear),
        1 => (0..ITEMS.len()).prop_map(Happening::EndOfSnapshot),
        3 => Just(Happening::Turn),
        2 => (1u64..300).prop_map(Happening::Wait),
        1 => Just(Happening::Stall),
        1 => Just(Happening::Resume),
    ]
}

/// The places of conflation, as they are set.
#[derive(Clone, Copy, Debug)]
struct Limits {
    ring_bytes: usize,
    /// Of the prefilter.
    source_hz: Option<f64>,
    /// By the client.
    asked: &'static str,
}

impl Limits {
    /// Nothing is conflated that the client takes in time.
    const NONE: Self = Self {
        ring_bytes: 1 << 20,
        source_hz: None,
        asked: "",
    };

    fn world(self) -> World {
        let metadata = Literal {
            source_frequency_max: self.source_hz,
            ..Literal::default()
        };
        let mut sets = AdapterSets::default();
        sets.add("DEFAULT", metadata, &["DEFAULT"]);
        World::new(Options {
            ring_bytes: self.ring_bytes,
            sets,
            ..Options::default()
        })
    }
}

/// Any combination of them.
fn limits() -> impl Strategy<Value = Limits> {
    let asked = [
        "",
        "&LS_requested_max_frequency=2",
        "&LS_requested_max_bandwidth=4",
        "&LS_requested_max_frequency=0.7&LS_requested_max_bandwidth=2",
    ];
    (
        prop::sample::select(vec![700, 1 << 20]),
        prop::sample::select(vec![None, Some(3.0)]),
        prop::sample::select(asked.to_vec()),
    )
        .prop_map(|(ring_bytes, source_hz, asked)| Limits {
            ring_bytes,
            source_hz,
            asked,
        })
}

/// Plays a schedule to one client; returns its values in the end, and how many updates brought them.
fn play(schedule: &[Happening], limits: Limits, eager: bool) -> (Vec<FieldValues>, usize) {
    let mut world = limits.world();
    let limits = limits.asked;
    let wire = world.connect(ShardId(0), Version::LATEST);
    let group = ITEMS.join("%20");
    let schema = FIELDS.join("%20");
    world.send(wire, format!("create_session\r\nLS_cid=x{limits}"));
    world.send(
        wire,
        format!("control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group={group}&LS_schema={schema}&LS_snapshot=true{limits}"),
    );
    world.settle();
    for happening in schedule {
        let say = |world: &mut World, item: usize, what| {
            world.say(DataAdapterId(0), ITEMS[item], what);
        };
        match happening {
            Happening::Update(item, fields) => {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(field, value)| (FIELDS[*field], value.as_deref()))
                    .collect();
                let fields = &fields;
                say(
                    &mut world,
                    *item,
                    Say::Update {
                        snapshot: false,
                        fields,
                    },
                );
            }
            Happening::Clear(item) => say(&mut world, *item, Say::Clear),
            Happening::EndOfSnapshot(item) => say(&mut world, *item, Say::EndOfSnapshot),
            Happening::Wait(millis) => world.advance(Duration::from_millis(*millis)),
            Happening::Turn => world.settle(),
            Happening::Stall if !eager => world.stall(wire),
            Happening::Resume => world.resume(wire),
            Happening::Stall => {}
        }
        if eager {
            world.settle();
        }
    }
    world.resume(wire);
    world.advance(Duration::from_secs(60));
    received(&mut world, wire)
}

fn received(world: &mut World, client: WireId) -> (Vec<FieldValues>, usize) {
    let mut items = vec![FieldValues::new(FIELDS.len()); ITEMS.len()];
    let mut updates = 0;
    for (wire, line) in world.lines() {
        assert_eq!(wire, client);
        if let Line::Update { item, values, .. } = Line::parse(&line).unwrap() {
            items[item as usize - 1].apply(values).unwrap();
            updates += 1;
        }
    }
    (items, updates)
}

/// An event of a list or a table that has no snapshot, numbered by its place in the schedule.
#[derive(Clone, Debug)]
enum Said {
    /// COMMAND: of which row, and whether some field of it is left out.
    Event(usize, bool),
    Delete(usize),
    Clear,
    Turn,
    Wait(u64),
    Stall,
    Resume,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        10 => (0..KEYS.len(), any::<bool>()).prop_map(|(key, part)| Said::Event(key, part)),
        2 => (0..KEYS.len()).prop_map(Said::Delete),
        1 => Just(Said::Clear),
        3 => Just(Said::Turn),
        2 => (1u64..300).prop_map(Said::Wait),
        1 => Just(Said::Stall),
        1 => Just(Said::Resume),
    ]
}

const KEYS: [&str; 4] = ["A", "B", "C", "D"];
const LIVE: &str = "live1";

/// Which client sees what of a list or a table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    /// The numbers of events, in order.
    events: Vec<usize>,
    /// By key, the number and what some events leave out.
    rows: BTreeMap<String, [Option<String>; 2]>,
    lost: usize,
}

/// Plays a schedule in DISTINCT or COMMAND mode to one client.
fn play_list(mode: &str, schedule: &[Said], limits: Limits, more: &str) -> Heard {
    let mut world = limits.world();
    let wire = world.connect(ShardId(0), Version::LATEST);
    let asked = limits.asked;
    let schema = match mode {
        "COMMAND" => "n%20text%20key%20command",
        _ => "n%20text",
    };
    world.send(wire, format!("create_session\r\nLS_cid=x{asked}"));
    world.send(
        wire,
        format!("control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode={mode}&LS_group={LIVE}&LS_schema={schema}&LS_snapshot=true{asked}{more}"),
    );
    world.settle();
    for (number, said) in schedule.iter().enumerate() {
        let n = number.to_string();
        let text = format!("a text of some length, so that rings are soon full: {number}");
        let update = |world: &mut World, key: usize, command, part: bool| {
            let mut fields = vec![("n", Some(n.as_str()))];
            if !part {
                fields.push(("text", Some(text.as_str())));
            }
            if mode == "COMMAND" {
                fields.extend([("key", Some(KEYS[key])), ("command", Some(command))]);
            }
            let (snapshot, fields) = (false, fields.as_slice());
            world.say(DataAdapterId(0), LIVE, Say::Update { snapshot, fields });
        };
        match *said {
            Said::Event(key, part) => update(&mut world, key, "UPDATE", part),
            Said::Delete(key) if mode == "COMMAND" => update(&mut world, key, "DELETE", true),
            Said::Delete(_) => {}
            Said::Clear => world.say(DataAdapterId(0), LIVE, Say::Clear),
            Said::Turn => world.settle(),
            Said::Wait(millis) => world.advance(Duration::from_millis(millis)),
            Said::Stall => world.stall(wire),
            Said::Resume => world.resume(wire),
        }
    }
    world.resume(wire);
    world.advance(Duration::from_secs(120));
    heard(&mut world, wire, mode)
}

fn heard(world: &mut World, client: WireId, mode: &str) -> Heard {
    let mut item = FieldValues::new(if mode == "COMMAND" { 4 } else { 2 });
    let mut heard = Heard::default();
    for (wire, line) in world.lines() {
        assert_eq!(wire, client);
        match Line::parse(&line).unwrap() {
            Line::Update { values, .. } => {
                item.apply(values).unwrap();
                let value = |field| item.get(field).map(str::to_owned);
                let row = [value(0), value(1)];
                let key = value(2).unwrap_or_default();
                match item.get(3) {
                    Some("DELETE") => {
                        assert!(heard.rows.remove(&key).is_some(), "{key} is not there");
                        continue;
                    }
                    Some("ADD") => assert!(!heard.rows.contains_key(&key), "{key} is there"),
                    Some(_) => assert!(heard.rows.contains_key(&key), "{key} is not there"),
                    None => {}
                }
                heard.events.push(row[0].as_ref().unwrap().parse().unwrap());
                heard.rows.insert(key, row);
            }
            Line::Cs { .. } => heard.rows.clear(),
            Line::Ov { lost, .. } => heard.lost += lost as usize,
            _ => {}
        }
    }
    heard
}

/// The numbers of the events of a list, and whether the list was cleared after the last one.
fn published(schedule: &[Said]) -> (Vec<usize>, bool) {
    let events = schedule.iter().enumerate();
    let events = events.filter(|(_, said)| matches!(said, Said::Event(..)));
    let clears = schedule
        .iter()
        .rposition(|said| matches!(said, Said::Clear));
    let events: Vec<_> = events.map(|(number, _)| number).collect();
    let void = clears.is_some_and(|at| events.last().is_none_or(|last| *last < at));
    (events, void)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_conflation_ends_in_the_same_state(
        schedule in prop::collection::vec(happening(), 1..150),
        limits in prop::collection::vec(limits(), 3),
    ) {
        let (everything, most) = play(&schedule, Limits::NONE, true);
        for limits in limits {
            let (conflated, fewer) = play(&schedule, limits, false);
            prop_assert_eq!(&conflated, &everything, "{:?}", limits);
            prop_assert!(fewer <= most);
        }
    }

    /// Each client ends with the rows of one that gets everything; on the way no row is added twice, and none is updated or
    /// deleted that is not there.
    #[test]
    fn all_conflation_of_a_table_ends_in_the_same_rows(
        schedule in prop::collection::vec(said(), 1..150),
        limits in prop::collection::vec(limits(), 3),
    ) {
        let everything = play_list("COMMAND", &schedule, Limits::NONE, "&LS_requested_max_frequency=unfiltered");
        prop_assert_eq!(everything.lost, 0);
        for limits in limits {
            let conflated = play_list("COMMAND", &schedule, limits, "");
            prop_assert_eq!(&conflated.rows, &everything.rows, "{:?}", limits);
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_its_last_event(
        schedule in prop::collection::vec(said(), 1..150),
        limits in prop::collection::vec(limits(), 3),
        size in prop::sample::select(vec!["", "&LS_requested_buffer_size=1", "&LS_requested_buffer_size=3"]),
    ) {
        let (published, void) = published(&schedule);
        for limits in limits {
            let heard = play_list("DISTINCT", &schedule, limits, size);
            let mut all = published.iter();
            let in_order = heard.events.iter().all(|heard| all.any(|said| said == heard));
            prop_assert!(in_order, "{:?}: {:?} of {:?}", limits, heard.events, published);
            prop_assert!(void || heard.events.last() == published.last(), "{:?}", limits);
            prop_assert_eq!(heard.lost, 0, "filtered: nothing is told");
        }
    }

    /// Unfiltered, what does not arrive is told, to the last one; and only a full ring keeps events from arriving here.
    #[test]
    fn an_unfiltered_list_arrives_or_is_told(
        schedule in prop::collection::vec(said(), 1..150),
        ring_bytes in prop::sample::select(vec![700, 1 << 20]),
        asked in prop::sample::select(vec!["", "&LS_requested_max_bandwidth=4"]),
    ) {
        let limits = Limits { ring_bytes, source_hz: None, asked };
        let unfiltered = "&LS_requested_max_frequency=unfiltered";
        let (published, _) = published(&schedule);
        let heard = play_list("DISTINCT", &schedule, limits, unfiltered);
        let mut all = published.iter();
        prop_assert!(heard.events.iter().all(|heard| all.any(|said| said == heard)));
        prop_assert_eq!(heard.events.len() + heard.lost, published.len());
        prop_assert!(ring_bytes == 700 || heard.lost == 0);
    }
}
