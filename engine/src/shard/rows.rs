//! A shard's copy of a COMMAND item: key -> row, in the order in which the keys came.
//!
//! The order is what snapshots go by: a client that gets the table remembers how far it is, and needs no list of what
//! is still to come. A key that is deleted and added again is a new one at the end.

use crate::ingest::record::Record;
use crate::item::command::{COMMAND, Command, KEY};
use crate::item::row::{Row, RowBuilder};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The rows of one item.
#[derive(Debug, Default)]
pub struct Table {
    key_at: Option<usize>,
    command_at: Option<usize>,
    entries: HashMap<Rc<str>, Entry, foldhash::fast::RandomState>,
    keys: BTreeMap<u64, Rc<str>>,
    /// Place of the last key that came.
    last: u64,
    /// How many records have been taken. What a full ring has held up does not come in the order of its events.
    taken: u64,
    builder: RowBuilder,
}

#[derive(Debug)]
struct Entry {
    place: u64,
    /// The last record of the key, counted as they came.
    taken: u64,
    /// The row as those see it who do not know the key yet, and as the others see it. One of them is there; the other is
    /// made when it is asked for.
    added: Option<Row>,
    updated: Option<Row>,
}

/// What happened to a key.
#[derive(Clone, Debug)]
pub struct KeyChange {
    /// The key.
    pub key: Rc<str>,
    /// Its place in the table.
    pub place: u64,
    /// The record of the key before this one, as [`Table::taken`] counts them; 0 if the key is new.
    pub before: u64,
    /// The row that tells that the key is gone, if it is.
    pub deleted: Option<Row>,
    /// The change is trade-safe.
    pub safe: bool,
    /// If so, the row before it, with whatever command.
    pub old: Option<Row>,
}

impl Table {
    /// The item has got more fields.
    pub fn resolve(&mut self, fields: &[Box<str>]) {
        let find = |name: &str| fields.iter().position(|field| **field == *name);
        self.key_at = self.key_at.or_else(|| find(KEY));
        self.command_at = self.command_at.or_else(|| find(COMMAND));
    }

    /// Place of the last key that came, of those that are there or were.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// How many records have been taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first key from a place on, up to another.
    pub fn next_key(&self, from: u64, until: u64) -> Option<(u64, Rc<str>)> {
        if from > until {
            return None;
        }
        let (place, key) = self.keys.range(from..=until).next()?;
        Some((*place, Rc::clone(key)))
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.keys.clear();
    }

    /// Takes a record; `None` if it changes nothing, as the deletion of a key that never was here.
    pub fn apply(&mut self, fields: usize, record: &Record<'_>) -> Option<KeyChange> {
        let (key_at, command_at) = (self.key_at?, self.command_at?);
        let value_of = |at| record.values().find(|(field, _)| *field == at)?.1;
        let key = std::str::from_utf8(value_of(key_at)?).ok()?;
        self.taken += 1;
        if value_of(command_at).and_then(Command::parse) == Some(Command::Delete) {
            let (key, mut entry) = self.entries.remove_entry(key)?;
            self.keys.remove(&entry.place);
            let stamp = Row::stamp_of(record.seq, Command::Delete);
            let name = Command::Delete.name().as_bytes();
            self.builder.start(stamp, key_at.max(command_at) + 1);
            for field in 0..=key_at.max(command_at) {
                let value = [(key_at, key.as_bytes()), (command_at, name)];
                let value = value.into_iter().find(|(at, _)| *at == field);
                self.builder.push(value.map(|(_, value)| value));
            }
            return Some(KeyChange {
                key,
                place: entry.place,
                before: entry.taken,
                deleted: Some(self.builder.finish()),
                safe: record.safe,
                old: entry.updated.take().or(entry.added.take()),
            });
        }
        let known = self.entries.get_key_value(key);
        let command = match known {
            Some(_) => Command::Update,
            None => Command::Add,
        };
        let old = known.and_then(|(_, entry)| entry.updated.as_ref().or(entry.added.as_ref()));
        let stamp = Row::stamp_of(record.seq, command);
        self.builder.start(stamp, fields);
        let mut values = record.values().peekable();
        for field in 0..fields {
            let named = values.next_if(|(number, _)| *number == field);
            self.builder.push(match named {
                _ if field == command_at => Some(command.name().as_bytes()),
                Some((_, value)) => value,
                None => old.and_then(|row| row.get(field)),
            });
        }
        let row = self.builder.finish();
        if let Some(entry) = self.entries.get_mut(key) {
            let before = std::mem::replace(&mut entry.taken, self.taken);
            let added = entry.added.take();
            let updated = entry.updated.replace(row);
            return Some(KeyChange {
                key: Rc::clone(&self.keys[&entry.place]),
                place: entry.place,
                before,
                deleted: None,
                safe: record.safe,
                old: updated.or(added),
            });
        }
        self.last += 1;
        let key: Rc<str> = key.into();
        self.keys.insert(self.last, Rc::clone(&key));
        let entry = Entry {
            place: self.last,
            taken: self.taken,
            added: Some(row),
            updated: None,
        };
        self.entries.insert(Rc::clone(&key), entry);
        Some(KeyChange {
            key,
            place: self.last,
            before: 0,
            deleted: None,
            safe: record.safe,
            old: None,
        })
    }

    /// The row of a key, as one who is told this command sees it. `None` if the key is not there.
    pub fn row(&mut self, key: &str, command: Command) -> Option<Row> {
        let command_at = self.command_at?;
        let entry = self.entries.get_mut(key)?;
        let (wanted, other) = match command {
            Command::Add => (&mut entry.added, &entry.updated),
            Command::Update | Command::Delete => (&mut entry.updated, &entry.added),
        };
        if wanted.is_none() {
            *wanted = Some(reword(
                &mut self.builder,
                other.as_ref()?,
                command,
                command_at,
            ));
        }
        wanted.clone()
    }

    /// The same values as in `row`, which may be older than what is here, as one who is told this command sees them.
    pub fn worded(&mut self, row: &Row, command: Command) -> Row {
        match self.command_at {
            Some(at) if row.command() != command => reword(&mut self.builder, row, command, at),
            _ => row.clone(),
        }
    }
}

fn reword(builder: &mut RowBuilder, row: &Row, command: Command, command_at: usize) -> Row {
    builder.start(Row::stamp_of(row.seq() >> 2, command), row.len());
    for field in 0..row.len() {
        builder.push(match field == command_at {
            true => Some(command.name().as_bytes()),
            false => row.get(field),
        });
    }
    builder.finish()
}
