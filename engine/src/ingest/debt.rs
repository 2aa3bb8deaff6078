//! What a shard is owed of an item because its ring had no room, and how it is caught up, by the item's mode.
//!
//! | mode | while the ring is full | when there is room |
//! |---|---|---|
//! | MERGE | the state goes on | the state as it then is |
//! | DISTINCT | the history goes on, and forgets its oldest | the part of the history that the shard lacks |
//! | COMMAND | the log goes on, each key once in it | the part of the log that the shard lacks |
//! | RAW | events are counted | their number |
//!
//! Those to whom nothing may be merged or dropped are told how many events are missing, in every mode. A snapshot of
//! DISTINCT or COMMAND is written in the same way: to a shard that lacks everything.

use super::fanout::{Fanout, Listener, Rings, Subject, encode_state, write};
use super::record::{self, Kind};
use crate::counters::Counters;
use crate::item::command::{Command, CommandState};
use crate::item::fields::FieldNames;
use crate::item::state::State;
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
    /// That it does is a snapshot, to be ended as one.
    snapshot: bool,
    /// First of all, what the shard has is void.
    clear: bool,
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
        self.missed += u64::from(!self.snapshot);
    }

    /// A snapshot of DISTINCT or COMMAND.
    pub fn owe_snapshot(&mut self) {
        self.behind = Some(0);
        self.snapshot = true;
    }

    /// That everything up to `now` is void. A snapshot of which nothing was written is just an empty one.
    pub fn owe_clear(&mut self, now: u64) {
        self.clear |= !self.snapshot || self.behind != Some(0);
        self.behind = Some(now);
        self.void = self.missed;
    }

    /// The whole table, since there is not enough left to tell what changed.
    pub fn owe_everything(&mut self) {
        if self.behind.is_some() {
            self.clear = true;
            self.behind = Some(0);
            self.void = self.missed;
        }
    }

    /// An event for those who look in RAW mode.
    pub fn owe_raw(&mut self) {
        self.raw_lost += 1;
    }
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
            self.lost(Kind::RawLost, debt.raw_lost)?;
            debt.raw_lost = 0;
        }
        match state {
            State::Merge(state) => {
                if debt.missed > 1 {
                    self.lost(Kind::Lost, debt.missed - 1)?; // the state stands for the last one
                    debt.missed = 1;
                }
                if let Some(kind) = debt.state {
                    encode_state(self.scratch, kind, state, self.seq, self.stamp);
                    self.write()?;
                }
                Some(())
            }
            State::Distinct(state) => {
                let Some(after) = debt.behind else {
                    return Some(());
                };
                let mut at = state.history.first_after(|event| event.seq > after);
                self.begin(debt, state.history.len() - at)?;
                while let Some(event) = state.history.get(at) {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(&event.record);
                    record::set_kind(self.scratch, kind(debt));
                    self.write()?;
                    debt.paid(event.seq);
                    at += 1;
                }
                self.end(debt)
            }
            State::Command(table) => {
                let Some(after) = debt.behind else {
                    return Some(());
                };
                self.begin(debt, table.behind(after))?;
                while let Some(after) = debt.behind
                    && let Some(seq) = self.encode_entry(table, after, kind(debt))
                {
                    self.write()?;
                    debt.paid(seq);
                }
                self.end(debt)
            }
        }
    }

    /// What goes before the `remaining` events that can still be told.
    fn begin(&mut self, debt: &mut Debt, remaining: usize) -> Option<()> {
        let open = debt.missed.saturating_sub(debt.void);
        let lost = debt.void + open.saturating_sub(remaining as u64);
        if lost > 0 {
            self.lost(Kind::Lost, lost)?;
            debt.missed -= lost;
            debt.void = 0;
        }
        if debt.clear {
            self.mark(Kind::Clear)?;
            debt.clear = false;
        }
        Some(())
    }

    fn end(&mut self, debt: &mut Debt) -> Option<()> {
        if debt.snapshot {
            self.mark(Kind::EndOfSnapshot)?;
        }
        Some(())
    }

    fn encode_entry(&mut self, table: &CommandState, after: u64, kind: Kind) -> Option<u64> {
        let entry = table.next_after(after)?;
        let mut writer = record::Writer::start(self.scratch, kind, entry.seq, self.stamp);
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
        Some(entry.seq)
    }

    fn lost(&mut self, kind: Kind, lost: u64) -> Option<()> {
        let mut writer = record::Writer::start(self.scratch, kind, self.seq, self.stamp);
        writer.lost(u32::try_from(lost).unwrap_or(u32::MAX));
        writer.finish();
        self.write()
    }

    fn mark(&mut self, kind: Kind) -> Option<()> {
        record::Writer::start(self.scratch, kind, self.seq, self.stamp).finish();
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

fn kind(debt: &Debt) -> Kind {
    match debt.snapshot {
        true => Kind::SnapshotEvent,
        false => Kind::Event,
    }
}
