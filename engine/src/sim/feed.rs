//! A data adapter that invents events of every kind and mode: fields that appear one after the other, snapshots that come
//! late, are empty or do not come, rows that are deleted before they are added, events that are too large or under
//! numbers that are void.

pub mod cast;
pub mod values;

use super::ledger::{KEYS, Key, Published};
use super::oracle::{ItemIndex, Oracle};
use super::trace::Trace;
use super::world::{Say, World};
use crate::ids::{DataAdapterId, ItemId};
use crate::tlcp::request::Mode;
use cast::{FIELDS, Field};

/// How far the items are, as their adapter sees it.
pub struct Feed {
    items: Vec<Item>,
    /// Numbers that were given back: an adapter may still use them for a moment.
    stale: Vec<ItemId>,
    /// Too large for any item.
    giant: String,
    names: Vec<String>,
    published: u64,
}

#[derive(Default)]
struct Item {
    /// The number under which it was asked for.
    number: Option<ItemId>,
    /// Fields that have been named.
    fields: usize,
    /// Keys that it uses.
    keys: usize,
    text: String,
}

const ADAPTER: DataAdapterId = DataAdapterId(0);

impl Feed {
    /// A feed of so many items, for a server that takes items of so many bytes.
    pub fn new(items: usize, item_bytes_max: usize, rng: &mut fastrand::Rng) -> Self {
        let item = |_| Item {
            keys: [2, 6, 15, KEYS.len()][rng.usize(..4)],
            ..Item::default()
        };
        Self {
            items: (0..items).map(item).collect(),
            stale: Vec::new(),
            giant: "x".repeat(item_bytes_max + 1),
            names: (0..FIELDS)
                .map(|field| Field::Plain(field).name())
                .collect(),
            published: 0,
        }
    }

    /// Events published so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The server wants an item.
    pub fn on_subscribe(&mut self, name: &str, world: &World, oracle: &mut Oracle) {
        let Some(item) = oracle
            .item(name)
            .filter(|item| oracle.life(*item).is_some())
        else {
            return oracle.complain(format!("{name} is asked for, but nobody wants it"));
        };
        let state = &mut self.items[item];
        if state.number.is_some() {
            oracle.complain(format!("{name} is asked for twice"));
        }
        (state.number, state.fields) = (world.number(ADAPTER, name), 0);
    }

    /// The server wants it no more.
    pub fn on_unsubscribe(&mut self, name: &str, oracle: &mut Oracle) {
        let item = oracle.item(name);
        if !item.is_some_and(|item| oracle.given_back(item)) {
            return oracle.complain(format!("{name} is given back though it was not asked for"));
        }
        let number = item.and_then(|item| self.items[item].number.take());
        self.stale.extend(number);
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
            self.say_stale(world, rng);
        }
        let item = rng.usize(..self.items.len());
        if self.items[item].number.is_none() {
            return;
        }
        let Some(life) = oracle.life_mut(item) else {
            return;
        };
        let name = life.role.name.clone();
        match rng.u8(..200) {
            0..30 if life.is_awaited() => return, // still thinking
            30..45 if life.is_awaited() => {
                life.end_snapshot();
                world.say(ADAPTER, &name, Say::EndOfSnapshot);
                trace.note(world.now(), "feed", format_args!("{name} eos"));
            }
            // What a clear may leave out is for `tests/trade_safe.rs`: a state of nulls is no trade and may be merged, and a
            // snapshot may be cut short by it.
            45..48 if life.role.safe => return,
            45..48 => {
                life.clear();
                world.say(ADAPTER, &name, Say::Clear);
                trace.note(world.now(), "feed", format_args!("{name} clear"));
            }
            48 => {
                if rng.bool() {
                    world.say(ADAPTER, &name, Say::EndOfSnapshot); // for no reason, or because it is one
                    life.end_snapshot();
                } else {
                    self.say_giant(item, &name, world, oracle, rng);
                }
            }
            chance => {
                let snapshot = match life.is_awaited() {
                    true => chance < 185,
                    false => chance == 49, // for no reason
                };
                self.publish(item, snapshot, world, oracle, rng, trace);
            }
        }
        self.published += 1;
    }

    /// Publishes an event.
    fn publish(
        &mut self,
        item: ItemIndex,
        snapshot: bool,
        world: &mut World,
        oracle: &mut Oracle,
        rng: &mut fastrand::Rng,
        trace: &mut Trace,
    ) {
        let state = &mut self.items[item];
        let mut published = Published {
            snapshot,
            ..Published::default()
        };
        for _ in 0..rng.usize(..5) {
            // One beyond those known: a new field.
            let field = rng.usize(..=state.fields.min(FIELDS - 1));
            state.fields = state.fields.max(field + 1);
            published.cells.push((field, oracle.values.some(rng)));
        }
        let role = &oracle.roles[item];
        if role.mode == Mode::Command {
            let key = rng.usize(..state.keys);
            let is_there = oracle
                .life(item)
                .is_some_and(|life| life.row(key).is_some());
            (published.key, published.command) = some_change(key, is_there, rng);
        }
        let life = oracle.life_mut(item).expect("the caller has it");
        let number = life.publish(&published);
        let name = life.role.name.clone();
        state.text.clear();
        push_number(&mut state.text, number);
        let mut fields: Vec<(&str, Option<&str>)> = Vec::with_capacity(8);
        fields.push(("n", Some(&state.text)));
        if let Some(key) = published.key {
            fields.push(("key", Some(KEYS[key])));
        }
        if let Some(command) = published.command {
            fields.push(("command", Some(command)));
        }
        let cells = published.cells.iter();
        fields.extend(
            cells.map(|(field, cell)| (self.names[*field].as_str(), oracle.values.text(*cell))),
        );
        let fields = &fields;
        world.say(ADAPTER, &name, Say::Update { snapshot, fields });
        trace.note(
            world.now(),
            "feed",
            format_args!("{name} {snapshot} {fields:?}"),
        );
    }

    /// Publishes something that is too large for any item: it is as if it had not been, but that it ends the snapshot.
    fn say_giant(
        &mut self,
        item: ItemIndex,
        name: &str,
        world: &mut World,
        oracle: &mut Oracle,
        rng: &mut fastrand::Rng,
    ) {
        let snapshot = rng.bool();
        let fields = [
            ("f0", Some(self.giant.as_str())),
            ("key", Some(KEYS[0])),
            ("command", Some("ADD")),
        ];
        let with_key = oracle.roles[item].mode == Mode::Command;
        let fields = &fields[..if with_key { 3 } else { 1 }];
        self.items[item].fields = self.items[item].fields.max(1);
        if let Some(life) = oracle.life_mut(item).filter(|_| !snapshot) {
            life.end_snapshot();
        }
        world.say(ADAPTER, name, Say::Update { snapshot, fields });
    }

    /// Uses a number that was given back. Only for a while: in the end numbers are used again.
    fn say_stale(&mut self, world: &mut World, rng: &mut fastrand::Rng) {
        let number = self.stale.swap_remove(rng.usize(..self.stale.len()));
        if self.items.iter().all(|item| item.number != Some(number)) {
            let fields = &[("f0", Some("stale"))];
            let snapshot = rng.bool();
            world.say_of(number, Say::Update { snapshot, fields });
        }
    }

    /// Ends all snapshots that have not come: from now on nothing happens.
    pub fn rest(&mut self, world: &mut World, oracle: &mut Oracle) {
        for item in 0..self.items.len() {
            if self.items[item].number.is_some()
                && let Some(life) = oracle.life_mut(item)
                && life.is_awaited()
            {
                life.end_snapshot();
                world.say(ADAPTER, &life.role.name, Say::EndOfSnapshot);
            }
        }
    }
}

/// What happens to a row, and sometimes what makes no sense.
fn some_change(
    key: Key,
    is_there: bool,
    rng: &mut fastrand::Rng,
) -> (Option<Key>, Option<&'static str>) {
    let command = match (rng.u8(..100), is_there) {
        (0, _) => return (None, Some("ADD")),
        (1, _) => return (Some(key), None),
        (2, _) => "UPSERT",
        (3..65, true) => "UPDATE",
        (65..85, true) => "DELETE",
        (_, true) => "ADD",
        (3..65, false) => "ADD",
        (65..85, false) => "UPDATE",
        (_, false) => "DELETE",
    };
    (Some(key), Some(command))
}

fn push_number(out: &mut String, number: u32) {
    out.push_str(itoa::Buffer::new().format(number));
}
