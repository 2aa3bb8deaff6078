//! A data adapter that invents items: fields that appear one after the other, values of every nasty kind, snapshots
//! that come late, are empty or do not come, events under numbers that are void.

use super::oracle::{Oracle, State};
use super::trace::Trace;
use super::world::{Event, Say, World};
use crate::ids::{DataAdapterId, ItemId};
use std::collections::BTreeMap;

/// The items and how far they are.
pub struct Feed {
    items: BTreeMap<String, Item>,
    names: Vec<String>,
    /// Numbers that were given back: an adapter may still use them for a moment.
    stale: Vec<ItemId>,
    published: u64,
}

#[derive(Default)]
struct Item {
    phase: Phase,
    state: State,
    number: Option<ItemId>,
    /// State that a late subscriber must get.
    has_state: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nobody has asked for it.
    #[default]
    Off,
    /// Asked for; the snapshot has not been sent.
    Asked,
    /// Events flow.
    Live,
}

const ADAPTER: DataAdapterId = DataAdapterId(0);
/// Names of fields; an item uses more and more of them.
const FIELDS_MAX: usize = 12;

impl Feed {
    /// A feed of so many items; every third comes without snapshots.
    pub fn new(items: usize) -> Self {
        let name = |index: usize| match index % 3 {
            0 => format!("live{index}"),
            _ => format!("item{index}"),
        };
        let names: Vec<_> = (0..items).map(name).collect();
        Self {
            items: names
                .iter()
                .map(|name| (name.clone(), Item::default()))
                .collect(),
            names,
            stale: Vec::new(),
            published: 0,
        }
    }

    /// Events published so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The name of some item.
    pub fn some_item(&self, rng: &mut fastrand::Rng) -> String {
        self.names[rng.usize(..self.names.len())].clone()
    }

    /// Names of some fields, among them such as do not exist.
    pub fn some_schema(rng: &mut fastrand::Rng) -> Vec<String> {
        let mut fields: Vec<_> = (0..FIELDS_MAX + 2)
            .map(|field| format!("f{field}"))
            .collect();
        rng.shuffle(&mut fields);
        fields.truncate(rng.usize(1..=fields.len()));
        fields
    }

    /// Whether one who asks for the item's snapshot must have got one by now.
    pub fn owes_snapshot(&self, item: &str) -> bool {
        self.items[item].has_state
    }

    /// Whether the feed has been asked for the item.
    pub fn is_wanted(&self, item: &str) -> bool {
        self.items[item].phase != Phase::Off
    }

    /// The server wants an item, or wants it no more.
    pub fn on_event(&mut self, event: &Event, world: &World, oracle: &mut Oracle) {
        match event {
            Event::Subscribe(ADAPTER, name) => {
                let item = self.items.get_mut(&**name).expect("one of ours");
                if item.phase != Phase::Off {
                    oracle.complain(format!("{name} is asked for twice"));
                }
                let live = name.starts_with("live");
                *item = Item {
                    phase: if live { Phase::Live } else { Phase::Asked },
                    number: world.number(ADAPTER, name),
                    ..Item::default()
                };
                oracle.starts(name, world.now()); // the empty state: what an empty snapshot shows
            }
            Event::Unsubscribe(ADAPTER, name) => {
                let item = self.items.get_mut(&**name).expect("one of ours");
                if item.phase == Phase::Off {
                    oracle.complain(format!("{name} is given back though it was not asked for"));
                }
                item.phase = Phase::Off;
                self.stale.extend(item.number.take());
            }
            _ => {}
        }
    }

    /// Something happens to some item.
    pub fn act(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        rng: &mut fastrand::Rng,
        trace: &mut Trace,
    ) {
        if !self.stale.is_empty() && rng.u8(..20) == 0 {
            let number = self.stale.swap_remove(rng.usize(..self.stale.len()));
            // Only for a while: in the end numbers are used again.
            if self.items.values().all(|item| item.number != Some(number)) {
                let fields = [("f0", Some("stale"))];
                world.say_of(
                    number,
                    Say::Update {
                        snapshot: rng.bool(),
                        fields: &fields,
                    },
                );
            }
        }
        let name = self.some_item(rng);
        let item = self.items.get_mut(&name).expect("one of ours");
        match (item.phase, rng.u8(..100)) {
            (Phase::Off, _) => return,
            (Phase::Asked, 0..30) => return, // still thinking
            (Phase::Asked, 30..45) => {
                item.has_state = true;
                world.say(ADAPTER, &name, Say::EndOfSnapshot);
                trace.note(world.now(), "feed", format_args!("{name} eos"));
            }
            (_, 45..48) => {
                item.has_state = true;
                item.state.values_mut().for_each(|value| *value = None);
                oracle.happened(&name, item.state.clone(), world.now());
                world.say(ADAPTER, &name, Say::Clear);
                trace.note(world.now(), "feed", format_args!("{name} clear"));
            }
            (phase, chance) => {
                let known = item.state.len();
                let mut fields: Vec<(String, Option<String>)> = Vec::new();
                for _ in 0..rng.usize(..5) {
                    // One beyond those known: a new field.
                    let field = rng.usize(..=known.min(FIELDS_MAX - 1));
                    fields.push((format!("f{field}"), some_value(rng)));
                }
                for (field, value) in &fields {
                    item.state.insert(field.clone(), value.clone());
                }
                item.has_state = true;
                oracle.happened(&name, item.state.clone(), world.now());
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_deref()))
                    .collect();
                let snapshot = phase == Phase::Asked && chance < 85;
                world.say(
                    ADAPTER,
                    &name,
                    Say::Update {
                        snapshot,
                        fields: &fields,
                    },
                );
                trace.note(world.now(), "feed", format_args!("{name} {fields:?}"));
            }
        }
        item.phase = Phase::Live;
        self.published += 1;
    }

    /// Ends all snapshots that have not come: from now on nothing happens.
    pub fn rest(&mut self, world: &mut World) {
        for (name, item) in &mut self.items {
            if item.phase == Phase::Asked {
                item.phase = Phase::Live;
                item.has_state = true;
                world.say(ADAPTER, name, Say::EndOfSnapshot);
            }
        }
    }
}

fn some_value(rng: &mut fastrand::Rng) -> Option<String> {
    const NASTY: [&str; 14] = [
        "",
        "#",
        "$",
        "^",
        "^3",
        "|",
        "||",
        "%",
        "%41",
        "a,b",
        "\r\n",
        "\0\u{7f}",
        "größe 😀",
        "^P[]",
    ];
    match rng.u8(..10) {
        0 => None,
        1..4 => Some(NASTY[rng.usize(..NASTY.len())].to_owned()),
        4 => Some("x".repeat(rng.usize(..200))),
        _ => Some(rng.u32(..50).to_string()),
    }
}
