//! What a shard is owed of an item because its ring had no room, and how it is caught up, by the item's mode.
//!
//! | mode | while the ring is full | when there is room |
//! |---|---|---|
//! | MERGE | the state goes on | the state as it then is |
//! | DISTINCT | the history goes on, and forgets its oldest | the part of the history that the shard lacks |
//! | COMMAND | the log goes on, each key once in it | the part of the log that the shard lacks |
//! | RAW | events are counted | their number |
//! | any, trade-safe events | they are kept, with what waits before them (see `held`) | these, before all else but a snapshot |
//!
//! Those to whom nothing may be merged or dropped are told how many events are missing, in every mode. A snapshot of
//! DISTINCT or COMMAND is written in the same way: to a shard that lacks everything. What has come since it was asked for
//! is no part of it, but events: for clients without a snapshot too, which wait for these only. So a row that has changed
//! meanwhile is not in the snapshot, but follows it. A trade, however, follows the row that it changed: that is kept for the
//! snapshot.

use super::fanout::{Fanout, Listener, Rings, Subject, encode_state, write};
use super::held::{First, Held, Kept};
use super::record::{self, Kind, Lost};
use crate::counters::Counters;
use crate::item::command::{Command, CommandState, LogEntry};
use crate::item::fields::FieldNames;
use crate::item::state::{DistinctState, State};
use crate::limits::Limits;
use crate::time::Instant;

/// What one shard is owed of one item.
#[derive(Debug, Default)]
pub struct Debt {
    /// RAW events that could not be written.
    raw_lost: u64,
    /// MERGE: the state, as a snapshot or as an event.
    state: Option<Kind>,
    /// Events that had to be written and were not, as far as it is not told yet. In DISTINCT and COMMAND some of them
    /// may still come.
    missed: u64,
    /// Of them, those that will not come in any case.
    void: u64,
    /// DISTINCT and COMMAND: the shard lacks what came after this event.
    behind: Option<u64>,
    /// Before that, what the shard has is void.
    clear: bool,
    /// Before all that, what may not be merged.
    held: Option<Box<Held>>,
    /// First of all, a snapshot of DISTINCT or COMMAND.
    snapshot: Option<Box<Snapshot>>,
}

/// A snapshot that is still to be written, or to be ended.
#[derive(Debug, Default)]
struct Snapshot {
    /// It is written up to this event.
    after: u64,
    /// It ends with this one.
    until: u64,
    /// What is written of it is void: it starts again.
    restart: bool,
    /// COMMAND: rows of it that trades have changed since, as they were.
    rows: Kept,
}

impl Debt {
    /// The whole state of a MERGE item. As an event if there is an event among what was skipped.
    pub fn owe_state(&mut self, kind: Kind) {
        if kind == Kind::State {
            self.missed += 1;
        }
        if kind == Kind::State || self.state.is_none() {
            self.state = Some(kind);
        }
    }

    /// An event of DISTINCT or COMMAND; `before` is the one before it.
    pub fn owe_event(&mut self, before: u64) {
        if self.behind.is_none() {
            self.behind = Some(before);
        }
        self.missed += 1;
    }

    /// A snapshot of DISTINCT or COMMAND: of everything up to `now`. It is the first thing that a shard is told of an item's
    /// mode.
    pub fn owe_snapshot(&mut self, now: u64) {
        debug_assert!(self.held.is_none(), "no event goes before a snapshot");
        self.behind = Some(now);
        self.snapshot = Some(Box::new(Snapshot {
            until: now,
            ..Snapshot::default()
        }));
    }

    /// That everything up to `now` is void.
    pub fn owe_clear(&mut self, now: u64) {
        self.clear |= !self.renew_snapshot(now);
        self.behind = Some(now);
        self.void = self.missed;
    }

    /// The whole table as it is `now`, since there is not enough left to tell what changed.
    pub fn owe_everything(&mut self, now: u64) {
        if let Some(held) = &mut self.held {
            held.forget_rows();
        }
        if self.renew_snapshot(now) {
            self.behind = Some(now);
            self.void = self.missed;
        } else if self.behind.is_some() {
            self.clear = true;
            self.behind = Some(0);
            self.void = self.missed;
        }
    }

    /// Makes a snapshot that is owed one of what is there `now`. False if there is none, or if trades wait behind it: it is
    /// what they changed.
    fn renew_snapshot(&mut self, now: u64) -> bool {
        let Some(snapshot) = &mut self.snapshot else {
            return false;
        };
        if self.held.is_some() {
            return false;
        }
        snapshot.restart |= snapshot.after > 0;
        (snapshot.after, snapshot.until) = (0, now);
        true
    }

    /// An event for those who look in RAW mode.
    pub fn owe_raw(&mut self) {
        self.raw_lost += 1;
    }

    /// Keeps the record of a trade-safe event; of COMMAND, with its place.
    pub(super) fn hold(&mut self, record: &[u8], row: Option<u64>, limits: &Limits) {
        let held = self.held.get_or_insert_default();
        match row {
            None => held.push(record, limits),
            Some(seq) => held.push_row(record, seq, limits),
        }
        self.owe_dropped();
    }

    /// A trade-safe event is coming: what waits is kept in front of it, in COMMAND what waits of its row. `at` is the place
    /// and the time of the item's last event.
    pub(super) fn hold_waiting(
        &mut self,
        scratch: &mut Vec<u8>,
        state: &State,
        key: Option<&str>,
        at: (u64, Instant),
        limits: &Limits,
    ) {
        self.keep_waiting(scratch, state, key, at, limits);
        self.owe_dropped();
    }

    fn keep_waiting(
        &mut self,
        scratch: &mut Vec<u8>,
        state: &State,
        key: Option<&str>,
        at: (u64, Instant),
        limits: &Limits,
    ) {
        let lost = match state {
            State::Merge(_) => self.missed.saturating_sub(1), // the state stands for the last one
            State::Distinct(state) => self.behind.map_or(0, |after| {
                let first = state.history.first_after(|event| event.seq > after);
                self.lost((state.history.len() - first) as u64)
            }),
            State::Command(table) => self.behind.filter(|_| self.missed > 0).map_or(0, |after| {
                // Where very many rows wait, it is not worth to count them for each trade: these losses are told behind it.
                match table.behind_at_most(after, limits.event_buffer_len_max) {
                    Some(rows) => {
                        let told = self
                            .held
                            .as_ref()
                            .map_or(0, |held| held.last_rows(after, table));
                        self.lost((rows - told) as u64)
                    }
                    None if self.clear => self.void.min(self.missed),
                    None => 0,
                }
            }),
        };
        let held = self.held.get_or_insert_default();
        if lost > 0 {
            encode_lost(scratch, Kind::Lost, lost, at);
            held.push(scratch, limits);
            self.missed -= lost;
            self.void = 0;
        }
        if std::mem::take(&mut self.clear) {
            record::Writer::start(scratch, Kind::Clear, at.0, at.1).finish();
            held.push(scratch, limits);
        }
        match (state, key) {
            (State::Merge(state), _) => {
                if let Some(kind) = self.state.take() {
                    encode_state(scratch, kind, state, at.0, at.1);
                    held.push(scratch, limits);
                    self.missed = 0;
                }
            }
            (State::Distinct(state), _) => {
                let Some(after) = self.behind.take() else {
                    return;
                };
                let mut next = state.history.first_after(|event| event.seq > after);
                while let Some(event) = state.history.get(next) {
                    held.push(&event.record, limits);
                    next += 1;
                }
                self.missed = 0;
            }
            (State::Command(table), Some(key)) => {
                let Some(entry) = table.entry(key) else {
                    return;
                };
                if let Some(snapshot) = &mut self.snapshot
                    && (snapshot.after + 1..=snapshot.until).contains(&entry.seq)
                    && entry.is_live()
                {
                    encode_entry(scratch, Kind::SnapshotEvent, table, &entry, at.1);
                    snapshot.rows.push(scratch, limits);
                }
                if self.behind.is_some_and(|after| entry.seq > after) && !held.has_row(entry.seq) {
                    encode_entry(scratch, Kind::Event, table, &entry, at.1);
                    self.missed = self.missed.saturating_sub(1);
                    held.push_row(scratch, entry.seq, limits);
                }
            }
            _ => {}
        }
    }

    /// The shard lacks the rows of those events of which no record is kept any more.
    fn owe_dropped(&mut self) {
        let dropped = self.held.as_mut().and_then(|held| held.take_dropped_row());
        if let Some(seq) = dropped {
            let before = seq - 1;
            self.behind = Some(self.behind.map_or(before, |behind| behind.min(before)));
        }
    }

    /// How many events will not come, if `remaining` still can.
    fn lost(&self, remaining: u64) -> u64 {
        let open = self.missed.saturating_sub(self.void);
        // A row that was told as lost, and is owed all the same, is missed no more when it is kept again.
        (self.void + open.saturating_sub(remaining)).min(self.missed)
    }
}

/// Makes the record of so many losses. Trade-safe ones are counted where they are kept.
fn encode_lost(scratch: &mut Vec<u8>, kind: Kind, lost: u64, (seq, stamp): (u64, Instant)) {
    let mut writer = record::Writer::start(scratch, kind, seq, stamp);
    writer.lost(Lost {
        events: u32::try_from(lost).unwrap_or(u32::MAX),
        safe: 0,
    });
    writer.finish();
}

/// Makes the record of a row as it is, or of its end.
pub(super) fn encode_entry(
    scratch: &mut Vec<u8>,
    kind: Kind,
    table: &CommandState,
    entry: &LogEntry<'_>,
    stamp: Instant,
) {
    let mut writer = record::Writer::start(scratch, kind, entry.seq, stamp);
    let fields = u16::try_from(table.names().len()).expect("fields are bounded");
    for field in 0..fields {
        if field == table.command_at() {
            let command = match entry.is_live() {
                true => Command::Update,
                false => Command::Delete,
            };
            writer.value(field, Some(command.name().as_bytes()));
        } else if field == table.key_at() {
            writer.value(field, Some(entry.key.as_bytes()));
        } else if entry.is_live() {
            writer.value(field, entry.value(usize::from(field)));
        }
    }
    writer.finish();
}

/// Writes as much as there is room for of what the listener at `index` is owed; true if that is all of it.
pub(super) fn settle(
    fanout: &mut Fanout,
    subject: &mut Subject,
    index: usize,
    rings: &mut impl Rings,
    counters: &mut Counters,
) -> bool {
    let listener = &mut subject.listeners.0[index];
    let Some(mut debt) = listener.debt.take() else {
        return true;
    };
    let mut payer = Payer {
        scratch: &mut fanout.scratch,
        names_record: &mut fanout.names,
        names: subject.state.names(),
        listener,
        rings,
        counters,
        seq: subject.seq,
        stamp: subject.stamp,
    };
    let settled = payer.pay(&mut debt, &subject.state).is_some();
    if !settled {
        listener.debt = Some(debt);
    } else if let State::Command(table) = &mut subject.state
        && !subject.listeners.any_debt()
    {
        table.forget_deleted();
    }
    settled
}

/// Writes to one listener. Every step is all or nothing, and is struck off the debt when it is done; `None` means that
/// there is no more room.
struct Payer<'a, R> {
    scratch: &'a mut Vec<u8>,
    names_record: &'a mut Vec<u8>,
    names: &'a FieldNames,
    listener: &'a mut Listener,
    rings: &'a mut R,
    counters: &'a mut Counters,
    seq: u64,
    stamp: Instant,
}

impl<R: Rings> Payer<'_, R> {
    fn pay(&mut self, debt: &mut Debt, state: &State) -> Option<()> {
        if debt.raw_lost > 0 {
            self.lost(Kind::RawLost, debt.raw_lost, self.seq)?;
            debt.raw_lost = 0;
        }
        if let Some(snapshot) = &mut debt.snapshot {
            self.pay_snapshot(snapshot, state)?;
            debt.snapshot = None;
        }
        while let Some(held) = &mut debt.held
            && let Some(first) = held.first()
        {
            let after = debt.behind.unwrap_or(self.seq);
            self.write_held(&first, after)?;
            held.pop();
        }
        match state {
            State::Merge(state) => {
                if debt.missed > 1 {
                    self.lost(Kind::Lost, debt.missed - 1, self.seq)?; // the state stands for the last one
                    debt.missed = 1;
                }
                if let Some(kind) = debt.state {
                    encode_state(self.scratch, kind, state, self.seq, self.stamp);
                    self.write()?;
                }
                Some(())
            }
            State::Distinct(state) => {
                let encode =
                    |payer: &mut Self, after| payer.encode_stored(state, Kind::Event, after);
                let behind = |after| {
                    let first = state.history.first_after(|event| event.seq > after);
                    state.history.len() - first
                };
                self.pay_log(debt, encode, behind)
            }
            State::Command(table) => {
                let held = debt.held.take();
                let is_held = |seq| held.as_ref().is_some_and(|held| held.has_row(seq));
                let encode = |payer: &mut Self, after| {
                    let mut entry = table.next_after(after)?;
                    while is_held(entry.seq) {
                        entry = table.next_after(entry.seq)?; // was told before
                    }
                    encode_entry(payer.scratch, Kind::Event, table, &entry, payer.stamp);
                    Some(entry.seq)
                };
                let behind = |after| {
                    let told = held.as_ref().map_or(0, |held| held.last_rows(after, table));
                    table.behind(after) - told
                };
                let paid = self.pay_log(debt, encode, behind);
                debt.held = held;
                paid
            }
        }
    }

    /// Writes what the shard lacks of a snapshot, and its end.
    fn pay_snapshot(&mut self, snapshot: &mut Snapshot, state: &State) -> Option<()> {
        if let State::Distinct(state) = state {
            let oldest = state.history.get(0).map_or(u64::MAX, |event| event.seq);
            // The history has gone on without the shard: a snapshot must have no hole.
            snapshot.restart |= 0 < snapshot.after && snapshot.after < oldest;
        }
        if snapshot.restart {
            self.mark(Kind::Clear, snapshot.after)?;
            snapshot.restart = false;
        }
        loop {
            let (kind, after) = (Kind::SnapshotEvent, snapshot.after);
            let next = match state {
                State::Merge(_) => None,
                State::Distinct(state) => self.encode_stored(state, kind, after),
                State::Command(table) => table.next_after(after).map(|entry| {
                    encode_entry(self.scratch, kind, table, &entry, self.stamp);
                    entry.seq
                }),
            };
            let Some(seq) = next.filter(|seq| *seq <= snapshot.until) else {
                break;
            };
            self.write()?;
            snapshot.after = seq;
        }
        while let Some(row) = snapshot.rows.first() {
            self.scratch.clear();
            self.scratch.extend_from_slice(row);
            self.write()?;
            snapshot.rows.pop();
        }
        self.mark(Kind::EndOfSnapshot, snapshot.until)
    }

    /// Makes the record of the first event of a history after another, as one of a kind, and tells which it is.
    fn encode_stored(&mut self, state: &DistinctState, kind: Kind, after: u64) -> Option<u64> {
        let at = state.history.first_after(|event| event.seq > after);
        let event = state.history.get(at)?;
        self.scratch.clear();
        self.scratch.extend_from_slice(&event.record);
        record::set_kind(self.scratch, kind);
        Some(event.seq)
    }

    /// Writes what the shard lacks of a history or a table. `encode` makes the record of the first entry after an event, and
    /// tells its event; `behind` tells how many entries there are.
    fn pay_log(
        &mut self,
        debt: &mut Debt,
        encode: impl Fn(&mut Self, u64) -> Option<u64>,
        behind: impl Fn(u64) -> usize,
    ) -> Option<()> {
        let Some(mut after) = debt.behind else {
            return Some(());
        };
        self.begin(debt, after, behind(after))?;
        while let Some(seq) = encode(self, after) {
            self.write()?;
            after = seq;
            debt.paid(seq);
        }
        Some(())
    }

    /// What goes before the `remaining` events behind `after` that can still be told.
    fn begin(&mut self, debt: &mut Debt, after: u64, remaining: usize) -> Option<()> {
        let lost = debt.lost(remaining as u64);
        if lost > 0 {
            self.lost(Kind::Lost, lost, after)?;
            debt.missed -= lost;
            debt.void = 0;
        }
        if debt.clear {
            self.mark(Kind::Clear, after)?;
            debt.clear = false;
        }
        Some(())
    }

    fn lost(&mut self, kind: Kind, lost: u64, seq: u64) -> Option<()> {
        encode_lost(self.scratch, kind, lost, (seq, self.stamp));
        self.write()
    }

    fn write_held(&mut self, first: &First<'_>, after: u64) -> Option<()> {
        match first {
            First::Lost(lost) => {
                let mut writer = record::Writer::start(self.scratch, Kind::Lost, after, self.stamp);
                writer.lost(*lost);
                writer.finish();
            }
            First::Clear => return self.mark(Kind::Clear, after),
            First::Record(record) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(record);
            }
        }
        self.write()
    }

    /// Marks carry the number of the event that they stand behind: what follows may be older than the newest.
    fn mark(&mut self, kind: Kind, seq: u64) -> Option<()> {
        record::Writer::start(self.scratch, kind, seq, self.stamp).finish();
        self.write()
    }

    fn write(&mut self) -> Option<()> {
        write(
            self.scratch,
            self.names_record,
            self.names,
            self.listener,
            self.rings,
            self.counters,
        )
        .then_some(())
    }
}

impl Debt {
    fn paid(&mut self, seq: u64) {
        self.behind = Some(seq);
        self.missed = self.missed.saturating_sub(1);
    }
}
