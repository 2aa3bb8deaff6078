//! What was published of an item, and what it means in the item's mode: the rules of the page, told once more and as
//! plainly as possible, for the judges to go by.
//!
//! An item has a life each time that its data adapter is asked for it. Everything that is published in a life is an entry
//! with a number, from 1 on, which stands in the field `n` of the event. So most updates tell by themselves which event
//! they show.

use super::feed::cast::{FIELDS, Field, Role};
use super::feed::values::{Cell, Values};
use crate::item::command::Command;
use crate::tlcp::client::FieldValues;
use crate::tlcp::request::Mode;
use std::rc::Rc;

/// The place of a key in [`KEYS`].
pub type Key = usize;

/// Keys of rows, nasty ones among them.
pub const KEYS: [&str; 40] = [
    "k0",
    "k1",
    "k2",
    "|",
    "",
    "#",
    "k3",
    "$",
    "^4",
    "a,b",
    "\r\n",
    "größe 😀",
    "%7C",
    " ",
    "k4",
    "k5",
    "k6",
    "k7",
    "k8",
    "k9",
    "k10",
    "k11",
    "k12",
    "k13",
    "k14",
    "k15",
    "k16",
    "k17",
    "k18",
    "k19",
    "k20",
    "k21",
    "k22",
    "k23",
    "k24",
    "k25",
    "k26",
    "k27",
    "k28",
    "k29",
];

/// Something that was published.
#[derive(Clone, Debug)]
pub struct Entry {
    /// That all before is void.
    pub clear: bool,
    /// An event, for those who look at the item in its mode; else it is part of a snapshot, or means nothing there.
    pub live: bool,
    /// An event, for those who look at it in RAW mode.
    pub raw: bool,
    /// The plain fields as they were published; null if not named.
    sent: [Cell; FIELDS],
    /// MERGE: what they are afterwards. COMMAND: those of the row.
    state: [Cell; FIELDS],
    /// The key that was published.
    pub key: Option<Key>,
    /// The command that was.
    command: Option<&'static str>,
    /// COMMAND: what it comes to.
    pub effect: Option<Command>,
}

/// What an adapter says.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// As part of the snapshot.
    pub snapshot: bool,
    /// Plain fields and their values.
    pub cells: Vec<(usize, Cell)>,
    /// The key, if one is named.
    pub key: Option<Key>,
    /// The command, if one is named.
    pub command: Option<&'static str>,
}

/// A row of a COMMAND item.
#[derive(Clone, Copy, Debug)]
pub struct RowState {
    /// Number of the event that added it.
    pub born: u32,
    /// Number of its last event.
    pub last: u32,
    cells: [Cell; FIELDS],
}

/// Which values of an entry are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As published: RAW and DISTINCT.
    Sent,
    /// The state of a MERGE item.
    State,
    /// A row of a COMMAND item, under this command.
    Row(Command),
}

/// One life of an item.
#[derive(Debug)]
pub struct Life {
    /// The item.
    pub role: Rc<Role>,
    entries: Vec<Entry>,
    /// So much had been published when somebody first looked at the item in its own mode.
    mode_from: Option<u32>,
    /// The adapter still owes the snapshot.
    awaited: bool,
    rows: [Option<RowState>; KEYS.len()],
    /// By key: numbers of its live events.
    key_events: Vec<Vec<u32>>,
    /// By key: numbers of the events that added its row.
    births: Vec<Vec<u32>>,
    /// Numbers of the live events in the item's mode.
    pub mode_events: Vec<u32>,
    /// Numbers of the events in RAW mode.
    pub raw_events: Vec<u32>,
    /// Numbers of the entries that void all before.
    pub clears: Vec<u32>,
}

impl Life {
    /// The data adapter is asked for the item.
    pub fn new(role: Rc<Role>) -> Self {
        Self {
            awaited: !role.live,
            role,
            entries: Vec::new(),
            mode_from: None,
            rows: [None; KEYS.len()],
            key_events: vec![Vec::new(); KEYS.len()],
            births: vec![Vec::new(); KEYS.len()],
            mode_events: Vec::new(),
            raw_events: Vec::new(),
            clears: Vec::new(),
        }
    }

    /// How much has been published.
    pub fn len(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("a run is short")
    }

    /// Whether nothing has been.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the snapshot is still to come.
    pub fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Whether one who asks for the snapshot must have got it by now.
    pub fn owes_snapshot(&self) -> bool {
        let something = self.role.mode != Mode::Merge || !self.role.live || !self.is_empty();
        !self.awaited && something
    }

    /// Somebody looks at the item in its own mode. What was published before serves MERGE only.
    pub fn in_mode(&mut self) {
        if self.mode_from.is_none() {
            self.mode_from = Some(self.len());
            if self.role.mode == Mode::Merge && !self.is_empty() {
                self.awaited = false; // its one snapshot event has been seen
            }
        }
    }

    /// Where the history begins that the item's mode knows.
    pub fn mode_from(&self) -> u32 {
        self.mode_from.unwrap_or(u32::MAX)
    }

    /// Values are published. Returns the number of the entry.
    pub fn publish(&mut self, published: &Published) -> u32 {
        let number = self.len() + 1;
        if !published.snapshot {
            self.awaited = false;
        }
        let starts = self.awaited;
        let mut entry = Entry {
            clear: false,
            live: !starts,
            raw: !published.snapshot,
            sent: [Cell::NULL; FIELDS],
            state: [Cell::NULL; FIELDS],
            key: published.key,
            command: published.command,
            effect: None,
        };
        for (field, cell) in &published.cells {
            entry.sent[*field] = *cell;
        }
        match self.role.mode {
            Mode::Merge => {
                entry.state = self.entries.last().map_or(entry.state, |last| last.state);
                for (field, cell) in &published.cells {
                    entry.state[*field] = *cell;
                }
                if self.mode_from.is_some() {
                    self.awaited = false; // one snapshot event is all there can be
                }
            }
            Mode::Command if self.mode_from.is_some() => self.change(&mut entry, published, number),
            Mode::Command | Mode::Raw => entry.live = false,
            Mode::Distinct => entry.live &= self.mode_from.is_some(),
        }
        if entry.live {
            self.mode_events.push(number);
        }
        if entry.raw {
            self.raw_events.push(number);
        }
        self.entries.push(entry);
        number
    }

    /// COMMAND: what an event does to its row.
    fn change(&mut self, entry: &mut Entry, published: &Published, number: u32) {
        let command = published
            .command
            .and_then(|name| Command::parse(name.as_bytes()));
        let (Some(key), Some(command)) = (published.key, command) else {
            entry.live = false;
            return;
        };
        let row = &mut self.rows[key];
        entry.effect = match (command, &row) {
            (Command::Delete, None) => None,
            (Command::Delete, Some(_)) => Some(Command::Delete),
            (Command::Add | Command::Update, None) => Some(Command::Add),
            (Command::Add | Command::Update, Some(_)) => Some(Command::Update),
        };
        match entry.effect {
            None => {
                entry.live = false;
                return;
            }
            Some(Command::Delete) => *row = None,
            Some(Command::Add | Command::Update) => {
                let row = row.get_or_insert(RowState {
                    born: number,
                    last: number,
                    cells: [Cell::NULL; FIELDS],
                });
                row.last = number;
                for (field, cell) in &published.cells {
                    row.cells[*field] = *cell;
                }
                entry.state = row.cells;
            }
        }
        if entry.effect == Some(Command::Add) {
            self.births[key].push(number);
        }
        if entry.live {
            self.key_events[key].push(number);
        }
    }

    /// The adapter ends the snapshot.
    pub fn end_snapshot(&mut self) {
        self.awaited = false;
    }

    /// All that was is void. For MERGE that is an event, for RAW nothing.
    pub fn clear(&mut self) {
        let number = self.len() + 1;
        let live = self.role.mode == Mode::Merge && !self.awaited;
        self.awaited = false;
        self.rows = [None; KEYS.len()];
        if live {
            self.mode_events.push(number);
        }
        self.clears.push(number);
        self.entries.push(Entry {
            clear: true,
            live,
            raw: false,
            sent: [Cell::NULL; FIELDS],
            state: [Cell::NULL; FIELDS],
            key: None,
            command: None,
            effect: None,
        });
    }

    /// An entry by its number.
    pub fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get((number as usize).checked_sub(1)?)
    }

    /// The row of a key, if it is there.
    pub fn row(&self, key: Key) -> Option<&RowState> {
        self.rows[key].as_ref()
    }

    /// The first entry behind `after` that voids what was, up to `until`.
    pub fn clear_between(&self, after: u32, until: u32) -> Option<u32> {
        let at = self.clears.partition_point(|clear| *clear <= after);
        self.clears.get(at).copied().filter(|clear| *clear <= until)
    }

    /// The live events of a key behind `after` and before `before`.
    pub fn key_events(&self, key: Key, after: u32, before: u32) -> &[u32] {
        let events = &self.key_events[key];
        let from = events.partition_point(|number| *number <= after);
        let to = events.partition_point(|number| *number < before);
        &events[from.min(to)..to]
    }

    /// The last event up to this one that added the row of a key; 0 if none did.
    pub fn birth(&self, key: Key, number: u32) -> u32 {
        let births = &self.births[key];
        let at = births.partition_point(|birth| *birth <= number);
        at.checked_sub(1).map_or(0, |at| births[at])
    }

    /// Which event an update shows, by its field `n`; `None` for one without a number. An error if there is no such field.
    pub fn number(schema: &[Field], shown: &FieldValues) -> Result<Option<u32>, String> {
        let at = schema.iter().position(|field| *field == Field::Number);
        let text = shown.get(at.ok_or("no number is asked for")?);
        let number = text.map(|text| text.parse().map_err(|_| format!("no number: {text}")));
        number.transpose()
    }

    /// Whether what a client shows is the entry with this number; 0 is the beginning, when nothing had a value.
    pub fn shows(
        &self,
        number: u32,
        view: View,
        schema: &[Field],
        shown: &FieldValues,
        values: &Values,
    ) -> bool {
        let places = schema.iter().enumerate();
        let mut wrong = places.filter(|(at, field)| match self.value(number, view, **field) {
            Expected::Cell(cell) => !values.is(cell, shown, *at),
            Expected::Text(text) => shown.get(*at) != text,
            Expected::Number(number) => {
                shown.get(*at).and_then(|text| text.parse().ok()) != Some(number)
            }
        });
        wrong.next().is_none()
    }

    /// What a client should show, for a complaint.
    pub fn explain(&self, number: u32, view: View, schema: &[Field], values: &Values) -> String {
        let text = |field: &Field| match self.value(number, view, *field) {
            Expected::Cell(cell) => format!("{:?}", values.text(cell)),
            Expected::Text(text) => format!("{text:?}"),
            Expected::Number(number) => number.to_string(),
        };
        let texts: Vec<_> = schema.iter().map(text).collect();
        format!("event {number} should look like {}", texts.join(" | "))
    }

    fn value(&self, number: u32, view: View, field: Field) -> Expected {
        let Some(entry) = self.entry(number) else {
            return Expected::Text(None);
        };
        match (field, view) {
            (Field::Number, View::Row(Command::Delete)) => Expected::Text(None),
            (Field::Number, _) if entry.clear => Expected::Text(None),
            (Field::Number, _) => Expected::Number(number),
            (Field::Key, _) => Expected::Text(entry.key.map(|key| KEYS[key])),
            (Field::Command, View::Row(command)) => Expected::Text(Some(command.name())),
            (Field::Command, _) => Expected::Text(entry.command),
            (Field::Plain(field), View::Sent) => Expected::Cell(entry.sent[field]),
            (Field::Plain(field), _) => Expected::Cell(entry.state[field]),
            (Field::Unknown, _) => Expected::Text(None),
        }
    }
}

/// What a field must be.
enum Expected {
    Cell(Cell),
    Text(Option<&'static str>),
    Number(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: &str) -> Life {
        let mut life = Life::new(Rc::new(Role::read(name).unwrap()));
        life.in_mode();
        life
    }

    fn row(key: Key, command: &'static str) -> Published {
        Published {
            key: Some(key),
            command: Some(command),
            ..Published::default()
        }
    }

    #[test]
    fn events_that_break_the_rules_of_a_table_are_repaired() {
        let mut life = life("c1-live");
        for (command, effect) in [
            ("DELETE", None),
            ("UPDATE", Some(Command::Add)),
            ("ADD", Some(Command::Update)),
            ("UPSERT", None),
            ("DELETE", Some(Command::Delete)),
        ] {
            let number = life.publish(&row(1, command));
            assert_eq!(life.entry(number).unwrap().effect, effect, "{command}");
        }
        assert_eq!(life.key_events(1, 0, 9), [2, 3, 5]);
        assert_eq!(life.key_events(1, 2, 5), [3]);
        assert_eq!(life.raw_events, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_snapshot_is_no_event_and_a_live_event_ends_it() {
        let snapshot = Published {
            snapshot: true,
            ..Published::default()
        };
        let mut distinct = life("d1-snap3");
        distinct.publish(&snapshot);
        assert!(distinct.is_awaited());
        distinct.publish(&Published::default());
        distinct.publish(&snapshot); // too late: an event
        assert_eq!(
            (&distinct.mode_events[..], &distinct.raw_events[..]),
            (&[2, 3][..], &[2][..])
        );
        let mut merge = life("m1");
        merge.publish(&snapshot);
        assert!(!merge.is_awaited());
        merge.clear();
        assert_eq!(merge.mode_events, [2]);
        assert_eq!(merge.clear_between(1, 2), Some(2));
    }
}
