//! COMMAND: a table of rows by key. Ingest's copy of it, and the rules by which events become `ADD (UPDATE)* DELETE` per
//! key whatever an adapter says.
//!
//! The table is at the same time a log: each key stands at the place of its last event. A shard that is behind is
//! caught up by the part of the log that it has not seen, where each key occurs once, with what it is now. Keys that
//! are deleted stay in the log as long as a shard is behind.

use super::fields::{FIELD_BYTES, FieldNames, TooLarge};
use super::merge::Value;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The field by which rows are told apart.
pub const KEY: &str = "key";
/// The field that says what happens to the row.
pub const COMMAND: &str = "command";

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The key is new.
    Add = 0,
    /// Fields of the row change.
    Update = 1,
    /// The key is gone.
    Delete = 2,
}

impl Command {
    /// The value of the field `command`.
    pub fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Update => "UPDATE",
            Command::Delete => "DELETE",
        }
    }

    /// Reads the field `command`.
    pub fn parse(value: &[u8]) -> Option<Command> {
        [Command::Add, Command::Update, Command::Delete]
            .into_iter()
            .find(|command| command.name().as_bytes() == value)
    }
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many fields, keys or bytes.
    TooLarge,
    /// No key, or no command that is one.
    Malformed,
    /// There is no such key to delete.
    Unknown,
}

impl From<TooLarge> for Refused {
    fn from(TooLarge: TooLarge) -> Self {
        Refused::TooLarge
    }
}

/// The bounds of a table.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// Fields of the item.
    pub fields_max: usize,
    /// Bytes of one row with the item's names.
    pub row_bytes_max: usize,
    /// Live keys.
    pub keys_max: usize,
    /// Bytes of all rows.
    pub bytes_max: usize,
}

/// Ingest's copy of the table.
#[derive(Debug)]
pub struct CommandState {
    names: FieldNames,
    key_at: u16,
    command_at: u16,
    rows: HashMap<Box<str>, KeyRow, foldhash::fast::RandomState>,
    /// The key of each event that is the last one of its key.
    log: BTreeMap<u64, Box<str>>,
    /// Keys in the log that are deleted.
    dead: usize,
    bytes: usize,
}

#[derive(Debug)]
struct KeyRow {
    seq: u64,
    /// `None`: deleted.
    values: Option<Vec<Option<Value>>>,
}

/// One entry of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// The event's place in the item's history.
    pub seq: u64,
    /// The row's key.
    pub key: &'a str,
    values: Option<&'a [Option<Value>]>,
}

impl<'a> LogEntry<'a> {
    /// Whether the key has a row.
    pub fn is_live(&self) -> bool {
        self.values.is_some()
    }

    /// A field of the row.
    pub fn value(&self, field: usize) -> Option<&'a [u8]> {
        self.values?.get(field)?.as_deref()
    }
}

impl CommandState {
    /// An empty table, perhaps of an item whose fields are known already. The two special fields get their numbers now.
    pub fn new(mut names: FieldNames, fields_max: usize) -> Self {
        let fields_max = fields_max.max(names.len() + 2); // these two are no adapter's choice
        let mut number = |name| {
            let number = names.number(name, 0, fields_max).expect("there is room");
            u16::try_from(number).expect("fields are bounded")
        };
        let (key_at, command_at) = (number(KEY), number(COMMAND));
        Self {
            names,
            key_at,
            command_at,
            rows: HashMap::default(),
            log: BTreeMap::new(),
            dead: 0,
            bytes: 0,
        }
    }

    /// The item's fields.
    pub fn names(&self) -> &FieldNames {
        &self.names
    }

    /// The item's fields, to name more of them.
    pub fn names_mut(&mut self) -> &mut FieldNames {
        &mut self.names
    }

    /// The fields, without the rows.
    pub fn into_names(self) -> FieldNames {
        self.names
    }

    /// Number of the field `key`.
    pub fn key_at(&self) -> u16 {
        self.key_at
    }

    /// Number of the field `command`.
    pub fn command_at(&self) -> u16 {
        self.command_at
    }

    /// Number of live keys.
    pub fn len(&self) -> usize {
        self.rows.len() - self.dead
    }

    /// What the bytes of all rows come to.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no key is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes one event, and tells what it is to those who have seen all before it. `numbers` is what
    /// [`FieldNames::numbers`] says of it. An event that adds a key which is there updates it, one that updates a key
    /// which is not there adds it; a field that is not named keeps its value. A deleted key stays in the log until it is
    /// forgotten ([`CommandState::forget`]).
    ///
    /// On error nothing has changed.
    pub fn apply(
        &mut self,
        event: &[(&str, Option<&str>)],
        numbers: &[(u16, u16)],
        seq: u64,
        limits: &TableLimits,
    ) -> Result<Command, Refused> {
        let value_of = |number: u16| {
            let found = numbers.iter().find(|(known, _)| *known == number)?;
            event[usize::from(found.1)].1
        };
        let key = value_of(self.key_at).ok_or(Refused::Malformed)?;
        let command = value_of(self.command_at).and_then(|value| Command::parse(value.as_bytes()));
        let command = command.ok_or(Refused::Malformed)?;
        let known = self.rows.get(key).filter(|row| row.values.is_some());
        if command == Command::Delete {
            if known.is_none() {
                return Err(Refused::Unknown);
            }
            self.delete(key, seq);
            return Ok(Command::Delete);
        }
        let len = self.len();
        let old = known.and_then(|row| row.values.as_deref());
        let (old_bytes, command) = match old {
            Some(values) => (row_bytes(values), Command::Update),
            None if len >= limits.keys_max => return Err(Refused::TooLarge),
            None => (0, Command::Add),
        };
        let mut values = old.map(<[_]>::to_vec).unwrap_or_default();
        values.resize(self.names.len(), None);
        for (number, at) in numbers
            .iter()
            .filter(|(number, _)| *number != self.command_at)
        {
            values[usize::from(*number)] = event[usize::from(*at)]
                .1
                .map(|value| Value::from_slice(value.as_bytes()));
        }
        let bytes = row_bytes(&values);
        if bytes + self.names.bytes() > limits.row_bytes_max
            || self.bytes - old_bytes + bytes > limits.bytes_max
        {
            return Err(Refused::TooLarge);
        }
        self.bytes = self.bytes - old_bytes + bytes;
        let values = Some(values);
        if let Some(row) = self.rows.get_mut(key) {
            self.dead -= usize::from(row.values.is_none());
            let key = self.log.remove(&row.seq).expect("each key is in the log");
            self.log.insert(seq, key);
            *row = KeyRow { seq, values };
        } else {
            self.log.insert(seq, key.into());
            self.rows.insert(key.into(), KeyRow { seq, values });
        }
        Ok(command)
    }

    fn delete(&mut self, key: &str, seq: u64) {
        let row = self.rows.get_mut(key).expect("known");
        self.bytes -= row.values.take().as_deref().map_or(0, row_bytes);
        let name = self.log.remove(&row.seq).expect("each key is in the log");
        row.seq = seq;
        self.log.insert(seq, name);
        self.dead += 1;
    }

    /// Forgets a key if it is deleted: all shards have been told.
    pub fn forget(&mut self, key: &str) {
        if self.rows.get(key).is_some_and(|row| row.values.is_none())
            && let Some(row) = self.rows.remove(key)
        {
            self.log.remove(&row.seq);
            self.dead -= 1;
        }
    }

    /// Deletes all keys, and forgets those that were deleted before.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.log.clear();
        self.dead = 0;
        self.bytes = 0;
    }

    /// Number of deleted keys in the log.
    pub fn deleted(&self) -> usize {
        self.dead
    }

    /// Forgets the deleted keys: no shard is behind.
    pub fn forget_deleted(&mut self) {
        if self.dead > 0 {
            let rows = &self.rows;
            self.log
                .retain(|_, key| rows.get(key).is_some_and(|row| row.values.is_some()));
            self.rows.retain(|_, row| row.values.is_some());
            self.dead = 0;
        }
    }

    /// The last event of a key, if there is one.
    pub fn entry(&self, key: &str) -> Option<LogEntry<'_>> {
        let (key, row) = self.rows.get_key_value(key)?;
        Some(LogEntry {
            seq: row.seq,
            key,
            values: row.values.as_deref(),
        })
    }

    /// Whether this is the last event of a key.
    pub fn is_last(&self, seq: u64) -> bool {
        self.log.contains_key(&seq)
    }

    /// How many keys have had their last event after `seq`.
    pub fn behind(&self, seq: u64) -> usize {
        match seq {
            0 => self.log.len(),
            _ => self.log.range(seq + 1..).count(),
        }
    }

    /// The same, unless that is more than `max`.
    pub fn behind_at_most(&self, seq: u64, max: usize) -> Option<usize> {
        let keys = self.log.range(seq + 1..).take(max + 1).count();
        (keys <= max).then_some(keys)
    }

    /// The first entry of the log after `seq`.
    pub fn next_after(&self, seq: u64) -> Option<LogEntry<'_>> {
        let (seq, key) = self.log.range(seq + 1..).next()?;
        let values = self.rows[key].values.as_deref();
        Some(LogEntry {
            seq: *seq,
            key,
            values,
        })
    }
}

fn row_bytes(values: &[Option<Value>]) -> usize {
    values
        .iter()
        .map(|value| FIELD_BYTES + value.as_ref().map_or(0, |value| value.len()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TableLimits = TableLimits {
        fields_max: 10,
        row_bytes_max: 200,
        keys_max: 2,
        bytes_max: 1_000,
    };

    struct Table(CommandState, u64);

    impl Table {
        fn new() -> Self {
            Self(CommandState::new(FieldNames::default(), 10), 0)
        }

        fn event(&mut self, text: &str, keep: bool) -> Result<Command, Refused> {
            let mut words = text.split(' ');
            let names = ["key", "command", "qty"];
            let event: Vec<_> = names
                .into_iter()
                .zip(&mut words)
                .filter(|(_, value)| *value != "-")
                .map(|(name, value)| (name, Some(value)))
                .collect();
            let mut numbers = Vec::new();
            self.0.names_mut().numbers(&event, 10, &mut numbers)?;
            self.1 += 1;
            let command = self.0.apply(&event, &numbers, self.1, &LIMITS);
            if !keep && let Some((_, Some(key))) = event.first() {
                self.0.forget(key);
            }
            command
        }

        fn log(&self, after: u64) -> Vec<String> {
            let mut at = after;
            std::iter::from_fn(|| {
                let entry = self.0.next_after(at)?;
                at = entry.seq;
                let qty = entry
                    .value(2)
                    .map(|v| String::from_utf8_lossy(v).into_owned());
                Some(format!("{} {} {qty:?}", entry.key, entry.is_live()))
            })
            .collect()
        }
    }

    #[test]
    fn sequences_that_break_the_rules_are_repaired() {
        let mut table = Table::new();
        assert_eq!(table.event("a UPDATE 1", false), Ok(Command::Add));
        assert_eq!(table.event("a ADD 2", false), Ok(Command::Update));
        assert_eq!(table.event("b DELETE", false), Err(Refused::Unknown));
        assert_eq!(table.event("a DELETE", false), Ok(Command::Delete));
        assert_eq!(table.event("a DELETE", false), Err(Refused::Unknown));
        assert_eq!(table.event("a UPSERT 1", false), Err(Refused::Malformed));
        assert_eq!(table.event("- ADD 1", false), Err(Refused::Malformed));
        assert!(table.0.is_empty());
        assert_eq!(table.log(0), [""; 0]);
    }

    #[test]
    fn the_log_has_each_key_once_and_the_dead_as_long_as_wanted() {
        let mut table = Table::new();
        table.event("a ADD 1", true).unwrap();
        table.event("b ADD 2", true).unwrap();
        table.event("a UPDATE 3", true).unwrap();
        assert_eq!(table.log(0), ["b true Some(\"2\")", "a true Some(\"3\")"]);
        table.event("b DELETE", true).unwrap();
        assert_eq!(table.log(2), ["a true Some(\"3\")", "b false None"]);
        assert_eq!(table.0.behind(2), 2);
        assert_eq!(table.event("c ADD 1", true), Ok(Command::Add));
        assert_eq!(table.event("d ADD 1", true), Err(Refused::TooLarge));
        table.0.forget_deleted();
        assert_eq!(table.log(2), ["a true Some(\"3\")", "c true Some(\"1\")"]);
        assert_eq!(table.event("b ADD 1", true), Err(Refused::TooLarge));
    }

    #[test]
    fn a_field_that_is_not_named_keeps_its_value_per_key() {
        let mut table = Table::new();
        table.event("a ADD 1", false).unwrap();
        table.event("b ADD 2", false).unwrap();
        table.event("a UPDATE", false).unwrap();
        assert_eq!(table.log(0), ["b true Some(\"2\")", "a true Some(\"1\")"]);
        let long = format!("a UPDATE {}", "x".repeat(500));
        assert_eq!(table.event(&long, false), Err(Refused::TooLarge));
        assert_eq!(table.log(0), ["b true Some(\"2\")", "a true Some(\"1\")"]);
    }
}
