//! What an adapter's event does to an item, by the item's mode, and what the shards are told of it.

use super::Ingest;
use super::event::AdapterEvent;
use super::fanout::{Rings, store};
use super::items::{SnapshotPhase, item_mut};
use super::record::Kind;
use crate::counters::Counter;
use crate::ids::ItemId;
use crate::item::command::{Command, KEY, Refused, TableLimits};
use crate::item::state::State;
use crate::time::Instant;
use crate::tlcp::diff::Order;
use crate::tlcp::request::Mode;

/// The fields of an event.
type Fields<'a> = &'a [(&'a str, Option<&'a str>)];

impl Ingest {
    /// A data adapter says something.
    #[inline]
    pub fn on_adapter(&mut self, event: AdapterEvent<'_>, now: Instant, rings: &mut impl Rings) {
        let (AdapterEvent::Update { item: id, .. }
        | AdapterEvent::EndOfSnapshot { item: id }
        | AdapterEvent::ClearSnapshot { item: id }
        | AdapterEvent::Differences { item: id, .. }
        | AdapterEvent::Subscribed { item: id, .. }) = event;
        self.counters.count(Counter::AdapterEvents);
        let Some(item) = item_mut(&mut self.items, id) else {
            self.counters.count(Counter::AdapterEventsStale);
            return;
        };
        let starts = matches!(
            item.snapshot,
            SnapshotPhase::Awaited | SnapshotPhase::Unknown
        );
        let mode = item.mode;
        match event {
            AdapterEvent::Update {
                snapshot, fields, ..
            } => {
                let fits = fields
                    .iter()
                    .all(|(name, _)| name.len() <= self.limits.field_name_bytes_max);
                if starts && !snapshot {
                    self.end_snapshot(id, rings);
                }
                let starts = starts && snapshot;
                let taken = fits
                    && match mode {
                        None | Some(Mode::Raw | Mode::Merge) => {
                            self.merge(id, fields, starts, now, rings)
                        }
                        Some(Mode::Distinct) => self.append(id, fields, starts, now, rings),
                        Some(Mode::Command) => self.change(id, fields, starts, now, rings),
                    };
                if !taken {
                    self.counters.count(Counter::AdapterEventsTooLarge);
                } else if !snapshot {
                    self.pass_on(id, fields, now, rings);
                }
            }
            AdapterEvent::Differences { fields, .. } => {
                let names = item.subject.state.names_mut();
                for &(name, letters) in fields {
                    if let Some(letters) = letters
                        && name.len() <= self.limits.field_name_bytes_max
                    {
                        let order = Order::from_letters(letters);
                        names.declare(name, order, self.limits.fields_per_item_max);
                    }
                }
            }
            AdapterEvent::EndOfSnapshot { .. } if starts => {
                item.snapshot = SnapshotPhase::Complete;
                self.send_snapshot(id, None, rings);
            }
            AdapterEvent::EndOfSnapshot { .. } => {} // unexpected: ignored
            AdapterEvent::ClearSnapshot { .. } => self.clear(id, starts, now, rings),
            AdapterEvent::Subscribed {
                snapshot_available, ..
            } => self.on_subscribed(id, snapshot_available),
        }
    }

    /// Live events come: whether the snapshot was empty or is just not ended by the adapter, it is what there is, and
    /// comes first. An adapter that has not said whether it has snapshots has none, as far as MERGE is concerned.
    fn end_snapshot(&mut self, id: ItemId, rings: &mut impl Rings) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        item.snapshot = match item.snapshot {
            SnapshotPhase::Unknown => SnapshotPhase::None,
            _ => SnapshotPhase::Complete,
        };
        self.send_snapshot(id, None, rings);
    }

    /// MERGE. False if the item would become too large, and so for the others.
    #[inline]
    fn merge(
        &mut self,
        id: ItemId,
        fields: Fields<'_>,
        starts: bool,
        now: Instant,
        rings: &mut impl Rings,
    ) -> bool {
        let mut item = item_mut(&mut self.items, id).expect("the caller has it");
        let mut safe = false;
        if let (Some(rule), State::Merge(state)) = (&item.safe, &item.subject.state) {
            safe = !starts && item.mode.is_some() && rule.marks_change(fields, state);
            if safe {
                self.make_way(id, None, rings);
                item = item_mut(&mut self.items, id).expect("it was there");
            }
        }
        let State::Merge(state) = &mut item.subject.state else {
            return true;
        };
        let (fields_max, bytes_max) = (self.limits.fields_per_item_max, self.limits.item_bytes_max);
        if state.merge(fields, fields_max, bytes_max).is_err() {
            return false;
        }
        item.subject.seq += 1;
        item.subject.stamp = now;
        let (fanout, counters) = (&mut self.fanout, &mut self.counters);
        if starts {
            if item.mode.is_some() {
                // MERGE has one snapshot event at most, so the first one completes it.
                item.snapshot = SnapshotPhase::Complete;
                fanout.send_state(&mut item.subject, Kind::Snapshot, None, rings, counters);
            }
            return true;
        }
        if let Some(prefilter) = &mut item.prefilter
            && !prefilter.passes(now, safe)
        {
            prefilter.hold(None, id, &mut self.held, counters);
            return true;
        }
        if item.mode.is_some() {
            fanout.send_changes(&mut item.subject, safe, rings, counters);
        }
        if safe {
            fanout.hold(&mut item.subject, None, &self.limits);
        }
        true
    }

    /// A trade-safe event comes, in COMMAND one of the row `key`. What waits before it goes before it.
    fn make_way(&mut self, id: ItemId, key: Option<&str>, rings: &mut impl Rings) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        let (fanout, counters) = (&mut self.fanout, &mut self.counters);
        let subject = &mut item.subject;
        let held = item.prefilter.as_mut();
        match held.and_then(|prefilter| prefilter.take_held(id, &mut self.held)) {
            Some(Some(event)) => {
                fanout.send_stored(subject, &event, rings, counters);
                if let State::Distinct(state) = &mut subject.state {
                    let bytes = event.record.len();
                    state.history.push(event, bytes);
                }
            }
            Some(None) => fanout.send_state(subject, Kind::State, None, rings, counters),
            None => {}
        }
        fanout.make_way(subject, key, &self.limits, rings, counters);
    }

    /// DISTINCT.
    fn append(
        &mut self,
        id: ItemId,
        fields: Fields<'_>,
        starts: bool,
        now: Instant,
        rings: &mut impl Rings,
    ) -> bool {
        let mut item = item_mut(&mut self.items, id).expect("the caller has it");
        let mut safe = false;
        if let Some(rule) = &item.safe {
            safe = !starts && rule.marks(fields);
            if safe {
                self.make_way(id, None, rings);
                item = item_mut(&mut self.items, id).expect("it was there");
            }
        }
        let subject = &mut item.subject;
        let names = subject.state.names_mut();
        let fields_max = self.limits.fields_per_item_max;
        if names
            .numbers(fields, fields_max, &mut self.numbers)
            .is_err()
            || names.bytes() + values_bytes(fields) > self.limits.item_bytes_max
        {
            return false;
        }
        subject.seq += 1;
        subject.stamp = now;
        let fanout = &mut self.fanout;
        let record = fanout.encode_event(subject, Kind::Event, fields, &self.numbers, None, safe);
        let event = store(record, subject.seq);
        if !starts
            && let Some(prefilter) = &mut item.prefilter
            && !prefilter.passes(now, safe)
        {
            prefilter.hold(Some(event), id, &mut self.held, &mut self.counters);
            return true;
        }
        if !starts {
            fanout.send_event(subject, subject.seq - 1, safe, rings, &mut self.counters);
        }
        if safe {
            fanout.hold(subject, None, &self.limits);
        }
        if let State::Distinct(state) = &mut subject.state {
            let bytes = event.record.len();
            state.history.push(event, bytes);
        }
        true
    }

    /// COMMAND.
    fn change(
        &mut self,
        id: ItemId,
        fields: Fields<'_>,
        starts: bool,
        now: Instant,
        rings: &mut impl Rings,
    ) -> bool {
        let mut item = item_mut(&mut self.items, id).expect("the caller has it");
        let key = fields.iter().rfind(|(name, _)| *name == KEY);
        let key = key.and_then(|(_, key)| *key);
        let mut safe = false;
        if let (Some(rule), State::Command(table), Some(key)) =
            (&item.safe, &item.subject.state, key)
        {
            let row = table.entry(key);
            let is_new = |name: &str, value: &[u8]| {
                let known = table.names().find(name);
                row.and_then(|row| row.value(known?)) != Some(value)
            };
            safe = !starts && rule.marks_where(fields, is_new);
            if safe {
                self.make_way(id, Some(key), rings);
                item = item_mut(&mut self.items, id).expect("it was there");
            }
        }
        let subject = &mut item.subject;
        let State::Command(table) = &mut subject.state else {
            return true;
        };
        let limits = TableLimits {
            fields_max: self.limits.fields_per_item_max,
            row_bytes_max: self.limits.item_bytes_max,
            keys_max: self.limits.keys_per_item_max,
            bytes_max: self.limits.rows_bytes_max,
        };
        let names = table.names_mut();
        if names
            .numbers(fields, limits.fields_max, &mut self.numbers)
            .is_err()
        {
            return false;
        }
        let seq = subject.seq + 1;
        let command = match table.apply(fields, &self.numbers, seq, &limits) {
            Ok(command) => command,
            Err(Refused::TooLarge) => return false,
            Err(Refused::Malformed | Refused::Unknown) => {
                // To those who look in RAW mode it is an event, to be told from the one before.
                subject.seq = seq;
                self.counters.count(Counter::CommandEventsIgnored);
                return true;
            }
        };
        subject.seq = seq;
        subject.stamp = now;
        if !starts {
            let command = Some((table.command_at(), command));
            let fanout = &mut self.fanout;
            fanout.encode_event(subject, Kind::Event, fields, &self.numbers, command, safe);
            fanout.send_event(subject, seq - 1, safe, rings, &mut self.counters);
            if safe {
                fanout.hold(subject, key, &self.limits);
            }
        }
        // Only now is it known who has to be told later.
        if command == Command::Delete
            && let (State::Command(table), Some(key)) = (&mut subject.state, key)
        {
            if !subject.listeners.any_debt() {
                table.forget(key);
            } else if table.deleted() > limits.keys_max {
                // Too many deleted keys are kept for shards that lag: they are told everything anew instead.
                table.forget_deleted();
                let debts = subject.listeners.0.iter_mut();
                for debt in debts.filter_map(|listener| listener.debt.as_mut()) {
                    debt.owe_everything(seq);
                }
            }
        }
        true
    }

    /// Passes a live event on to those who look at the item in RAW mode, as it is.
    #[inline]
    fn pass_on(&mut self, id: ItemId, fields: Fields<'_>, now: Instant, rings: &mut impl Rings) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        let subject = &mut item.subject;
        if !subject.listeners.any_raw() {
            return;
        }
        let names = subject.state.names_mut();
        let fields_max = self.limits.fields_per_item_max.max(names.len());
        // What the mode did not take for another reason may still be too large.
        if names.numbers(fields, fields_max, &mut self.numbers).is_ok()
            && names.bytes() + values_bytes(fields) <= self.limits.item_bytes_max
        {
            subject.stamp = now;
            let fanout = &mut self.fanout;
            fanout.encode_event(subject, Kind::Raw, fields, &self.numbers, None, false);
            fanout.send_raw(subject, rings, &mut self.counters);
        }
    }

    /// All that is known of an item is void. For MERGE that is an event that nulls all fields; for RAW it is nothing.
    fn clear(&mut self, id: ItemId, starts: bool, now: Instant, rings: &mut impl Rings) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        if let Some(prefilter) = &mut item.prefilter {
            prefilter.drop_held(id, &mut self.held);
        }
        if starts {
            item.snapshot = SnapshotPhase::Complete;
            if !matches!(item.subject.state, State::Merge(_)) {
                self.send_snapshot(id, None, rings); // what has come of it, and that it is complete
            }
        }
        let item = item_mut(&mut self.items, id).expect("it was there");
        let (fanout, counters) = (&mut self.fanout, &mut self.counters);
        let subject = &mut item.subject;
        subject.seq += 1;
        subject.stamp = now;
        match &mut subject.state {
            State::Merge(state) => {
                state.clear();
                let kind = if starts { Kind::Snapshot } else { Kind::State };
                return fanout.send_state(subject, kind, None, rings, counters);
            }
            State::Distinct(state) => state.history.clear(),
            State::Command(table) => table.clear(),
        }
        fanout.send_clear(subject, rings, counters);
    }
}

fn values_bytes(fields: Fields<'_>) -> usize {
    let bytes = |(_, value): &(&str, Option<&str>)| value.map_or(0, str::len);
    fields.iter().map(bytes).sum()
}
