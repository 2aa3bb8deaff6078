//! Skipping states is always legal in MERGE, so conflation in the rings, by a frequency, by a bandwidth or by a blocked
//! connection must end where a client ends that gets everything.

use engine::ids::{DataAdapterId, ShardId};
use engine::sim::world::{Event, Options, Say, WireId, World};
use engine::time::Duration;
use engine::tlcp::Version;
use engine::tlcp::client::{FieldValues, Line, complete_lines};
use proptest::prelude::*;

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

/// Plays a schedule to one client; returns its values in the end, and how many updates brought them.
fn play(
    schedule: &[Happening],
    ring_bytes: usize,
    limits: &str,
    eager: bool,
) -> (Vec<FieldValues>, usize) {
    let mut world = World::new(Options {
        ring_bytes,
        ..Options::default()
    });
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
    while let Some(event) = world.poll_event() {
        let Event::Message { wire, bytes, .. } = event else {
            continue;
        };
        assert_eq!(wire, client);
        let text = String::from_utf8(bytes).unwrap();
        for line in complete_lines(&text).unwrap() {
            if let Line::Update { item, values, .. } = Line::parse(line).unwrap() {
                items[item as usize - 1].apply(values).unwrap();
                updates += 1;
            }
        }
    }
    (items, updates)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_conflation_ends_in_the_same_state(schedule in prop::collection::vec(happening(), 1..150)) {
        let (everything, most) = play(&schedule, 1 << 20, "", true);
        for (ring_bytes, limits) in [
            (1 << 20, ""),
            (700, ""),
            (700, "&LS_requested_max_frequency=2"),
            (700, "&LS_requested_max_bandwidth=4"),
            (700, "&LS_requested_max_frequency=0.7&LS_requested_max_bandwidth=2"),
        ] {
            let (conflated, fewer) = play(&schedule, ring_bytes, limits, false);
            prop_assert_eq!(&conflated, &everything, "{} {}", ring_bytes, limits);
            prop_assert!(fewer <= most);
        }
    }
}
