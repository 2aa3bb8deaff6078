//! COMMAND: per key `ADD (UPDATE)* DELETE`, as the client sees it; all rows in the snapshot; the adapter's table in the
//! end; and, unfiltered, every event of a key that the client knows, or the loss told.
//!
//! Of rows that are shown as a part of the table, in the snapshot or after too much was lost, nobody can tell from outside
//! which of their events were merged into that. So losses are counted from below and from above.

use super::{Case, Shown, Terms};
use crate::item::command::Command;
use crate::sim::feed::cast::Field;
use crate::sim::ledger::{KEYS, Key, Life, RowState, View};
use crate::tlcp::client::FieldValues;

/// The judge of a COMMAND item.
#[derive(Clone, Debug)]
pub struct Table {
    unfiltered: bool,
    wants_snapshot: bool,
    rings_fit: bool,
    /// More keys than may wait: then the client can be shown the table anew.
    may_overflow: bool,
    ended: bool,
    rows: [Row; KEYS.len()],
    /// Entries up to this number may have been merged into rows that are new to the client.
    merged_until: u32,
    /// How many of the item's clears have been told.
    clears: usize,
    /// The table was shown anew at least once.
    anew: bool,
    /// Why `CS` must follow.
    must_clear: Option<String>,
    told: u64,
    /// Events that were not received: certainly, and perhaps because they were merged.
    missing: u64,
    merged: u64,
}

/// What the client knows of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    is_known: bool,
    /// The last event that is accounted for.
    last: u32,
    /// It was told since the last `CS`, and may be gone again.
    is_tracked: bool,
}

impl Table {
    /// Nothing has been shown.
    pub fn new(terms: &Terms) -> Self {
        Self {
            unfiltered: terms.unfiltered,
            wants_snapshot: terms.snapshot.is_some(),
            rings_fit: terms.rings_fit,
            may_overflow: terms.buffer_len < KEYS.len() || terms.unfiltered,
            ended: terms.snapshot.is_none(),
            rows: [Row::default(); KEYS.len()],
            merged_until: 0,
            clears: 0,
            anew: false,
            must_clear: None,
            told: 0,
            missing: 0,
            merged: 0,
        }
    }

    /// A row.
    pub fn update(&mut self, case: &Case<'_>, shown: &FieldValues) -> Result<Shown, String> {
        if let Some(reason) = &self.must_clear {
            return Err(reason.clone());
        }
        let text = |field: Field| {
            let at = case.schema.iter().position(|known| *known == field);
            at.and_then(|at| shown.get(at))
        };
        let key = text(Field::Key).and_then(|key| KEYS.iter().position(|known| *known == key));
        let key = key.ok_or("no such key")?;
        let command = text(Field::Command).and_then(|name| Command::parse(name.as_bytes()));
        let command = command.ok_or("no such command")?;
        let known = self.rows[key].is_known;
        if known != (command != Command::Add) {
            let whether = if known { "known" } else { "not known" };
            return Err(format!("{} of a key that is {whether}", command.name()));
        }
        let is = |number| {
            case.life
                .shows(number, View::Row(command), case.schema, shown, case.values)
        };
        if command == Command::Delete {
            let number = self.deletion(case, key)?;
            if !is(number) {
                return Err("a deleted row has values".into());
            }
            self.account(case, key, number);
            self.rows[key].is_known = false;
            return self.check_losses().map(|()| Shown::Deleted(key));
        }
        let number = Life::number(case.schema, shown)?.ok_or("a row has a number")?;
        let entry = case
            .life
            .entry(number)
            .filter(|entry| entry.key == Some(key));
        let entry = entry.filter(|entry| !matches!(entry.effect, None | Some(Command::Delete)));
        let entry = entry.ok_or_else(|| format!("{number} is no event of {}", KEYS[key]))?;
        if !is(number) {
            return Err(case
                .life
                .explain(number, View::Row(command), case.schema, case.values));
        }
        self.check_order(case, key, number, entry.live)?;
        self.account(case, key, number);
        self.rows[key].is_known = true;
        self.check_losses()?;
        Ok(match command {
            Command::Update => Shown::Updated(key),
            _ => Shown::Added(key),
        })
    }

    /// The event that deletes a row which the client knows.
    fn deletion(&self, case: &Case<'_>, key: Key) -> Result<u32, String> {
        let last = self.rows[key].last;
        let deletes = |number: &u32| {
            let entry = case.life.entry(*number);
            entry.is_some_and(|entry| entry.effect == Some(Command::Delete))
        };
        let events = case.life.key_events(key, last, u32::MAX);
        let number = events.iter().copied().find(deletes);
        let number = number.ok_or_else(|| format!("{} is not deleted", KEYS[key]))?;
        self.check_clear(case, key, number)?;
        Ok(number)
    }

    /// Whether the row of a key may be the one of this event now.
    fn check_order(
        &self,
        case: &Case<'_>,
        key: Key,
        number: u32,
        live: bool,
    ) -> Result<(), String> {
        let Row {
            is_known,
            last,
            is_tracked,
        } = self.rows[key];
        if number < last || (number == last && is_tracked) {
            return Err(format!("event {number} behind {last}"));
        }
        if is_known {
            return self.check_clear(case, key, number);
        }
        if is_tracked || last > 0 {
            return Ok(());
        }
        // The first of this key that the client sees.
        if !self.wants_snapshot && !self.anew && (number <= case.heard || !live) {
            return Err(format!(
                "event {number} is part of a snapshot that was not asked for"
            ));
        }
        let newer = case.life.key_events(key, number, case.heard + 1);
        match newer.last() {
            Some(newer) => Err(format!("event {number}, though {newer} was heard of")),
            None => Ok(()),
        }
    }

    /// What the client knows of a key is not void.
    fn check_clear(&self, case: &Case<'_>, key: Key, until: u32) -> Result<(), String> {
        match case.life.clear_between(self.rows[key].last, until) {
            Some(clear) => Err(format!("{clear} clears, untold")),
            None => Ok(()),
        }
    }

    /// The client is shown the event of a key with this number: what lies between is missing.
    fn account(&mut self, case: &Case<'_>, key: Key, number: u32) {
        let row = self.rows[key];
        let from = if row.last > 0 { row.last } else { case.heard };
        let born_before = case.life.birth(key, number) <= self.merged_until || !self.rings_fit;
        let merged_until = match row.is_tracked {
            true => case.since, // what was published before the subscription was there is not owed
            false if !self.ended => u32::MAX,
            // Rows that were there are shown again, each when its turn comes.
            false if self.anew && born_before => u32::MAX,
            false => self.merged_until.max(case.since),
        };
        let events = case.life.key_events(key, from, number);
        // That a row is gone is not told to those who do not know it, be it that they were not told of it either.
        let untold = |event: &u32| {
            let entry = case.life.entry(*event);
            !row.is_tracked && entry.is_some_and(|entry| entry.effect == Some(Command::Delete))
        };
        let merged = events
            .iter()
            .filter(|event| **event <= merged_until || untold(event));
        let merged = merged.count() as u64;
        self.merged += merged;
        self.missing += events.len() as u64 - merged;
        // Of an event that is told as lost, what it led to can be a part of the table that is shown anew.
        let shown = case
            .life
            .key_events(key, from.max(number - 1), number.saturating_add(1));
        if self.anew && !row.is_tracked && !shown.is_empty() && number <= merged_until {
            self.merged += 1;
        }
        self.rows[key].last = number.max(row.last);
        self.rows[key].is_tracked = true;
    }

    /// A loss is told before what comes behind it.
    fn check_losses(&self) -> Result<(), String> {
        if self.unfiltered && self.missing > self.told {
            return Err(format!(
                "{} events are missing, {} are told",
                self.missing, self.told
            ));
        }
        Ok(())
    }

    /// `EOS`
    pub fn end_of_snapshot(&mut self, case: &Case<'_>) -> Result<(), String> {
        if std::mem::replace(&mut self.ended, true) {
            return Err("the snapshot ends twice, or was not asked for".into());
        }
        self.merged_until = case.life.len();
        // A row that was there all the time has been shown. Where the ring was full, one that changed meanwhile follows.
        let there = |key: &Key| {
            let row = case.life.row(*key);
            let since = |row: &RowState| if self.rings_fit { row.born } else { row.last };
            row.is_some_and(|row| since(row) <= case.heard) && !self.rows[*key].is_known
        };
        let missing = (0..KEYS.len()).find(there);
        // Too much may have waited before all was shown; then the table is shown anew.
        self.must_clear =
            missing.map(|key| format!("the snapshot lacks the row of {:?}", KEYS[key]));
        match &self.must_clear {
            Some(reason) if !self.may_overflow => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    /// `CS`
    pub fn cleared(&mut self, case: &Case<'_>) -> Result<(), String> {
        if !self.ended {
            return Err("cleared before the end of the snapshot".into());
        }
        let told = case.life.clears.iter().filter(|clear| **clear > case.heard);
        let by_adapter = told.count() > self.clears;
        if !by_adapter && !self.may_overflow {
            return Err("cleared for no reason".into());
        }
        self.clears += usize::from(by_adapter);
        self.anew |= self.may_overflow;
        self.must_clear = None;
        self.merged_until = case.life.len();
        for row in &mut self.rows {
            (row.is_known, row.is_tracked) = (false, false);
        }
        Ok(())
    }

    /// `OV`
    pub fn lost(&mut self, _case: &Case<'_>, lost: u32) -> Result<(), String> {
        if !self.ended {
            return Err("a loss within the snapshot".into());
        }
        if !self.may_overflow {
            return Err("a loss where all keys can wait".into());
        }
        if !self.unfiltered && self.must_clear.is_none() {
            self.must_clear = Some("much is lost, but the table is not shown anew".into());
        }
        self.told += u64::from(lost);
        Ok(())
    }

    /// In the end.
    pub fn finish(&self, case: &Case<'_>) -> Result<(), String> {
        let life = case.life;
        if let Some(reason) = &self.must_clear {
            return Err(reason.clone());
        }
        if !self.ended {
            return match life.owes_snapshot() {
                true => Err("the snapshot has not come to its end".into()),
                false => Ok(()),
            };
        }
        for (key, row) in self.rows.iter().enumerate() {
            let name = KEYS[key];
            match life.row(key) {
                None if row.is_known => {
                    return Err(format!("the row of {name:?} is there in the end"));
                }
                Some(state) if row.is_known && state.last != row.last => {
                    let (shown, last) = (row.last, state.last);
                    return Err(format!("event {shown} of {name:?} in the end, not {last}"));
                }
                Some(_) if !row.is_known => {
                    let event = !life.key_events(key, case.since, u32::MAX).is_empty();
                    if self.wants_snapshot || event {
                        return Err(format!("no row of {name:?} in the end"));
                    }
                }
                _ => {}
            }
        }
        if !self.unfiltered {
            return Ok(());
        }
        let mut rest = self.clone();
        (0..KEYS.len()).for_each(|key| rest.account(case, key, u32::MAX));
        let (least, most) = (rest.missing, rest.missing + rest.merged);
        if !(least..=most).contains(&self.told) {
            return Err(format!(
                "{} losses are told of {least} to {most}",
                self.told
            ));
        }
        Ok(())
    }
}
