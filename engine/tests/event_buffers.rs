//! What waits for a client that takes nothing for a while, in every mode, with every size of buffer, filtered and
//! unfiltered: line by line what a naive model of the rules says, which keeps a plain list of all that waits.

use engine::ids::{DataAdapterId, ShardId};
use engine::sim::world::{Options, Say, WireId, World};
use engine::time::Duration;
use engine::tlcp::Version;
use engine::tlcp::client::{FieldValues, Line};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// An item without a snapshot.
const ITEM: &str = "live1";
const FIELDS: [&str; 2] = ["a", "b"];
const KEYS: [&str; 3] = ["X", "Y", "Z"];

#[derive(Clone, Debug)]
enum Happening {
    /// New values of some fields, of a row where there are several.
    Update(usize, [Option<Option<u8>>; 2]),
    Delete(usize),
    Clear,
    Stall,
    Resume,
}

fn happening() -> impl Strategy<Value = Happening> {
    let value = || prop::option::of(prop::option::of(0u8..4));
    prop_oneof![
        12 => (0..KEYS.len(), [value(), value()]).prop_map(|(key, values)| Happening::Update(key, values)),
        3 => (0..KEYS.len()).prop_map(Happening::Delete),
        1 => Just(Happening::Clear),
        2 => Just(Happening::Stall),
        1 => Just(Happening::Resume),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    mode: &'static str,
    /// `LS_requested_buffer_size`.
    size: Option<usize>,
    unfiltered: bool,
    /// The server's own bound.
    len_max: usize,
}

/// All modes with buffers of one event, of some and of as many as the server allows, which is few or plenty.
fn subscriptions() -> impl Iterator<Item = Subscription> {
    let modes = ["MERGE", "DISTINCT", "COMMAND", "RAW"];
    let sizes = [None, Some(1), Some(3)];
    modes.into_iter().flat_map(move |mode| {
        sizes.into_iter().flat_map(move |size| {
            [false, true].into_iter().flat_map(move |unfiltered| {
                [1, 4, 1_000].into_iter().map(move |len_max| Subscription {
                    mode,
                    size,
                    unfiltered,
                    len_max,
                })
            })
        })
    })
}

type Values = [Option<String>; 2];

/// A line as the client understands it.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Values(Values),
    /// Key, command, and the row.
    Row(&'static str, &'static str, Values),
    Clear,
    Lost(usize),
}

fn play(schedule: &[Happening], subscription: Subscription) -> (Vec<Seen>, Vec<Seen>) {
    let mut options = Options::default();
    options.config.limits.event_buffer_len_max = subscription.len_max;
    let mut world = World::new(options);
    let wire = world.connect(ShardId(0), Version::LATEST);
    let Subscription { mode, size, .. } = subscription;
    let schema = match mode {
        "COMMAND" => "a%20b%20key%20command",
        _ => "a%20b",
    };
    let size = size.map_or("unlimited".to_owned(), |size| size.to_string());
    let frequency = match subscription.unfiltered {
        true => "unfiltered",
        false => "unlimited",
    };
    world.send(wire, "create_session\r\nLS_cid=x");
    world.send(
        wire,
        format!(
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode={mode}&LS_group={ITEM}&LS_schema={schema}\
             &LS_requested_buffer_size={size}&LS_requested_max_frequency={frequency}"
        ),
    );
    world.settle();
    let mut naive = Naive::new(subscription);
    for happening in schedule {
        match happening {
            Happening::Update(key, values) => {
                let values: Vec<_> = (values.iter().zip(FIELDS))
                    .filter_map(|(value, name)| Some((name, (*value)?.map(|n| n.to_string()))))
                    .collect();
                let mut fields: Vec<_> = values
                    .iter()
                    .map(|(name, value)| (*name, value.as_deref()))
                    .collect();
                if mode == "COMMAND" {
                    fields.extend([("key", Some(KEYS[*key])), ("command", Some("UPDATE"))]);
                }
                naive.update(KEYS[*key], &values);
                say(&mut world, &fields);
            }
            Happening::Delete(key) if mode == "COMMAND" => {
                naive.delete(KEYS[*key]);
                let fields = [("key", Some(KEYS[*key])), ("command", Some("DELETE"))];
                say(&mut world, &fields);
            }
            Happening::Delete(_) => {}
            Happening::Clear => {
                naive.clear();
                world.say(DataAdapterId(0), ITEM, Say::Clear);
            }
            Happening::Stall if naive.stalls => {}
            Happening::Stall => {
                world.stall(wire);
                world.send(wire, "wsok"); // the answer is the one message that the socket still takes
                naive.stalls = true;
            }
            Happening::Resume => {
                world.resume(wire);
                naive.stalls = false;
            }
        }
        world.settle();
        naive.settle();
    }
    world.resume(wire);
    world.advance(Duration::from_secs(1));
    naive.stalls = false;
    naive.settle();
    (received(&mut world, wire, mode), naive.sent)
}

fn say(world: &mut World, fields: &[(&str, Option<&str>)]) {
    let snapshot = false;
    world.say(DataAdapterId(0), ITEM, Say::Update { snapshot, fields });
}

fn received(world: &mut World, client: WireId, mode: &str) -> Vec<Seen> {
    let mut item = FieldValues::new(if mode == "COMMAND" { 4 } else { 2 });
    let mut seen = Vec::new();
    for (wire, line) in world.lines() {
        assert_eq!(wire, client);
        match Line::parse(&line).unwrap() {
            Line::Update { values, .. } => {
                item.apply(values).unwrap();
                let values = [0, 1].map(|field| item.get(field).map(str::to_owned));
                let known = |name: Option<&str>, names: &[&'static str]| {
                    names.iter().find(|known| Some(**known) == name).copied()
                };
                seen.push(match known(item.get(2), &KEYS) {
                    Some(key) => {
                        let command = known(item.get(3), &["ADD", "UPDATE", "DELETE"]);
                        Seen::Row(key, command.unwrap(), values)
                    }
                    None => Seen::Values(values),
                });
            }
            Line::Cs { .. } => seen.push(Seen::Clear),
            Line::Ov { lost, .. } => seen.push(Seen::Lost(lost as usize)),
            _ => {}
        }
    }
    seen
}

/// What is to be expected, from lists of everything.
struct Naive {
    is: Subscription,
    stalls: bool,
    /// The item: one row of no name, or all rows, in the order in which they came.
    rows: Vec<(&'static str, Values)>,
    /// COMMAND: the keys that the client knows.
    client: BTreeSet<&'static str>,
    /// COMMAND, after too much has waited: what the client is told first, and the rows that it is then told anew.
    head: Vec<Seen>,
    anew: Vec<&'static str>,
    waiting: Vec<Seen>,
    /// COMMAND, filtered: keys of which a change waits.
    changed: Vec<&'static str>,
    sent: Vec<Seen>,
}

impl Naive {
    fn new(is: Subscription) -> Self {
        Self {
            is,
            stalls: false,
            rows: Vec::new(),
            client: BTreeSet::new(),
            head: Vec::new(),
            anew: Vec::new(),
            waiting: Vec::new(),
            changed: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn row(&self, key: &str) -> Option<&Values> {
        let row = self.rows.iter().find(|(known, _)| *known == key);
        row.map(|(_, values)| values)
    }

    fn update(&mut self, key: &'static str, values: &[(&str, Option<String>)]) {
        let command = self.is.mode == "COMMAND";
        let name = if command { key } else { "" };
        let new = self.row(name).is_none();
        if new {
            self.rows.push((name, Values::default()));
        }
        let row = self.rows.iter_mut().find(|(known, _)| *known == name);
        let (_, state) = row.unwrap();
        if matches!(self.is.mode, "DISTINCT" | "RAW") {
            *state = Values::default(); // what an event does not say is null
        }
        for (name, value) in values {
            let field = FIELDS.iter().position(|field| field == name).unwrap();
            state[field].clone_from(value);
        }
        let state = state.clone();
        match (command, new) {
            (false, _) => self.push(Seen::Values(state)),
            (true, true) => self.change(key, Seen::Row(key, "ADD", state)),
            (true, false) => self.change(key, Seen::Row(key, "UPDATE", state)),
        }
    }

    fn delete(&mut self, key: &'static str) {
        if self.row(key).is_some() {
            self.rows.retain(|(known, _)| *known != key);
            self.change(key, Seen::Row(key, "DELETE", Values::default()));
            self.anew.retain(|known| *known != key);
        }
    }

    fn clear(&mut self) {
        match (self.is.mode, self.is.unfiltered) {
            ("RAW", _) => return,
            ("MERGE", _) => {
                self.rows = vec![("", Values::default())];
                return self.push(Seen::Values(Values::default()));
            }
            ("DISTINCT", false) => self.waiting.retain(|line| *line == Seen::Clear),
            _ => {}
        }
        self.rows.clear();
        self.changed.clear();
        self.client.clear();
        self.anew.clear();
        if self.waiting.last().or(self.head.last()) != Some(&Seen::Clear) {
            self.waiting.push(Seen::Clear);
        }
        self.keep_bound_of_rows();
    }

    /// A row has changed. Filtered, what waits of it is one change, in the place of the first.
    fn change(&mut self, key: &'static str, line: Seen) {
        if self.anew.contains(&key) {
            return; // the client will be told the row as it is then
        }
        let nothing = !self.client.contains(key) && self.row(key).is_none();
        if self.is.unfiltered {
            self.waiting.push(line);
        } else if nothing {
            self.changed.retain(|known| *known != key); // it came and went
        } else if !self.changed.contains(&key) {
            self.changed.push(key);
        }
        self.keep_bound_of_rows();
    }

    /// Too much waits of a table: all of that goes, and the table is told anew.
    fn keep_bound_of_rows(&mut self) {
        let waiting = self.waiting.len() + self.changed.len();
        if self.is.mode != "COMMAND" || waiting <= self.is.len_max {
            return;
        }
        let event = |line: &&Seen| matches!(line, Seen::Row(..));
        let mut lost = self.waiting.drain(..).filter(|line| event(&line)).count();
        // An update that may be merged into what follows is no loss.
        let told = |key: &&&str| self.client.contains(**key) != self.row(key).is_some();
        lost += self.changed.iter().filter(told).count();
        self.changed.clear();
        self.client.clear();
        if self.head.last() == Some(&Seen::Clear) {
            self.head.pop();
        }
        match self.head.last_mut() {
            Some(Seen::Lost(known)) => *known += lost,
            _ if lost > 0 => self.head.push(Seen::Lost(lost)),
            _ => {}
        }
        self.head.push(Seen::Clear);
        self.anew = self.rows.iter().map(|(key, _)| *key).collect();
    }

    /// An event. The oldest that waits has to go where there is no room, and leaves a word where that is due.
    fn push(&mut self, line: Seen) {
        self.waiting.push(line);
        let own = match (self.is.mode, self.is.unfiltered) {
            ("MERGE" | "DISTINCT", false) => self.is.size,
            _ => None,
        };
        let len_max = own.unwrap_or(usize::MAX).min(self.is.len_max);
        let tells = self.is.unfiltered || self.is.mode == "RAW";
        let event = |line: &Seen| matches!(line, Seen::Values(_));
        // What is no event and stands before the first one takes no room.
        while let Some(first) = self.waiting.iter().position(event)
            && self.waiting.len() - first > len_max
        {
            self.waiting.remove(first);
            match first.checked_sub(1).map(|at| &mut self.waiting[at]) {
                _ if !tells => {}
                Some(Seen::Lost(lost)) => *lost += 1,
                _ => self.waiting.insert(first, Seen::Lost(1)),
            }
        }
    }

    /// The client takes all that waits.
    fn settle(&mut self) {
        if self.stalls {
            return;
        }
        self.sent.append(&mut self.head);
        for key in std::mem::take(&mut self.anew) {
            let row = self.row(key).expect("those that go leave the list").clone();
            self.client.insert(key);
            self.sent.push(Seen::Row(key, "ADD", row));
        }
        self.sent.append(&mut self.waiting);
        for key in std::mem::take(&mut self.changed) {
            let line = match self.row(key).cloned() {
                None => {
                    self.client.remove(key);
                    Seen::Row(key, "DELETE", Values::default())
                }
                Some(row) if self.client.insert(key) => Seen::Row(key, "ADD", row),
                Some(row) => Seen::Row(key, "UPDATE", row),
            };
            self.sent.push(line);
        }
    }
}

/// Of two `CS` with nothing but losses between, one says it all, and the server may leave the other out.
fn joined(lines: Vec<Seen>) -> Vec<Seen> {
    let mut joined: Vec<Seen> = Vec::new();
    for line in lines {
        match (joined.as_mut_slice(), line) {
            ([.., Seen::Lost(known)], Seen::Lost(lost)) => *known += lost,
            ([.., Seen::Clear], Seen::Clear) => {}
            ([.., Seen::Lost(known), Seen::Clear, Seen::Lost(lost)], Seen::Clear) => {
                *known += *lost;
                joined.pop();
            }
            ([.., first @ Seen::Clear, lost @ Seen::Lost(_)], Seen::Clear) => {
                std::mem::swap(first, lost);
            }
            (_, line) => joined.push(line),
        }
    }
    joined
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_waits_is_what_a_list_of_everything_leaves(schedule in prop::collection::vec(happening(), 1..80)) {
        for subscription in subscriptions() {
            let (received, expected) = play(&schedule, subscription);
            prop_assert_eq!(joined(received), joined(expected), "{:?}", subscription);
        }
    }
}
