//! From records to what clients are owed: each record changes the shard's copy of its item, and then, for each client
//! that looks at it, what waits there.

use super::event_buffer::{EventBuffer, Queue, TableBuffer, Taken};
use super::items::{Change, LocalItem, Rows};
use super::sieve::Sieve;
use super::sub_item::Safe;
use super::{Shard, SubItem};
use crate::counters::Counter;
use crate::ingest::record::{self, Lost};
use crate::item::row::Row;
use crate::time::Instant;

impl Shard {
    /// Ingest has written records, whole ones.
    pub fn on_records(&mut self, records: &[u8], now: Instant) {
        for record in record::read(records) {
            let Some((index, change)) = self.items.apply(&record) else {
                continue;
            };
            if matches!(change, Change::None) || self.config.canary.forgets(&change) {
                continue;
            }
            let item = self.items.get_mut(index);
            let listeners = std::mem::take(&mut item.listeners);
            for &key in &listeners {
                let sub_item = &mut self.sub_items[key];
                let raw = sub_item.raw;
                let passes = |sieve: &mut Sieve| sieve.passes(&change, item, raw);
                if !sub_item.sieve_mut().is_none_or(passes) {
                    self.counters.count(Counter::UpdatesFiltered);
                    if let Some(counted) = sub_item.counted_mut() {
                        counted.took(NOT_SELECTED);
                        if let Some(status) = &mut self.sessions[sub_item.session].status {
                            status.totals.took(NOT_SELECTED);
                        }
                    }
                    continue;
                }
                let Some(taken) = sub_item.take(&change, item, now) else {
                    continue;
                };
                if taken != Taken::default() {
                    let counters = &mut self.counters;
                    counters.add(Counter::UpdatesConflated, taken.conflated.into());
                    counters.add(Counter::UpdatesFiltered, taken.filtered.into());
                    counters.add(Counter::UpdatesLost, taken.lost.into());
                    if let Some(counted) = sub_item.counted_mut() {
                        counted.took(taken);
                        if let Some(status) = &mut self.sessions[sub_item.session].status {
                            status.totals.took(taken);
                        }
                    }
                }
                if sub_item.owed && !(sub_item.waits_for_due && taken.urgent) {
                    continue; // it is queued, or will be when it is due
                }
                let queued_later = sub_item.waits_for_due && !taken.urgent;
                sub_item.owed = true;
                if !queued_later {
                    sub_item.waits_for_due = false;
                    let session = &mut self.sessions[sub_item.session];
                    session.owed.push_back(key);
                    if let Some(conn) = session.conn() {
                        self.conns.make_ready(conn, &mut self.ready);
                    }
                }
            }
            self.items.get_mut(index).listeners = listeners;
        }
    }
}

/// An event that the subscription's selector does not let pass.
const NOT_SELECTED: Taken = Taken {
    urgent: false,
    conflated: 0,
    filtered: 1,
    lost: 0,
};

impl SubItem {
    /// Takes what happened to the item as far as it concerns this subscription; `None` if it does not.
    #[inline]
    fn take(&mut self, change: &Change, item: &mut LocalItem, now: Instant) -> Option<Taken> {
        let taken = match change {
            Change::None => return None,
            Change::Snapshot => return self.take_snapshot(item),
            Change::Merged(safe) => {
                if self.raw {
                    return None;
                }
                self.awaits_snapshot = false;
                let safe = *safe && self.safe != Safe::Nothing;
                let owed = self.owed;
                match self.buffer_mut() {
                    None => Taken {
                        conflated: u32::from(owed),
                        ..Taken::default()
                    },
                    Some(EventBuffer::Queue(queue)) => queue.push(item.row.clone()?, safe),
                    Some(EventBuffer::Table(_)) => return None,
                }
            }
            Change::Event(row, safe) if !self.raw => {
                let safe = *safe && self.safe != Safe::Nothing;
                self.queue()?.push(row.clone(), safe)
            }
            Change::Key(change) if !self.raw => {
                let safe = change.safe && self.safe != Safe::Nothing;
                let (buffer, Rows::Table(table)) = (self.table()?, &mut item.rows) else {
                    return None;
                };
                buffer.push(change, safe, table, now)
            }
            Change::Cleared if !self.raw => match self.buffer_mut()? {
                EventBuffer::Queue(queue) => queue.clear(),
                EventBuffer::Table(buffer) => match &item.rows {
                    Rows::Table(table) => buffer.clear(table),
                    _ => return None,
                },
            },
            Change::Lost(lost) if !self.raw => {
                let safe = match self.safe {
                    Safe::Nothing => 0,
                    _ => lost.safe,
                };
                match (self.buffer_mut()?, &item.rows) {
                    (EventBuffer::Queue(queue), _) => queue.push_lost(lost.events, safe),
                    (EventBuffer::Table(buffer), Rows::Table(table)) => {
                        buffer.push_lost(lost.events, safe, table)
                    }
                    _ => return None,
                }
            }
            Change::Raw(row) if self.raw => self.queue()?.push(row.clone(), false),
            Change::RawLost(lost) if self.raw => self.queue()?.push_lost(lost.events, 0),
            _ => return None,
        };
        (!self.is_settled()).then_some(taken)
    }

    /// The item has something to be shown as a snapshot.
    fn take_snapshot(&mut self, item: &mut LocalItem) -> Option<Taken> {
        if self.raw {
            return None;
        }
        if !self.awaits_snapshot {
            // Asked for none, or has had it: this is no event.
            let taken = item.taken();
            if let Some(buffer) = self.table() {
                buffer.begin(taken);
            }
            return None;
        }
        self.owe_snapshot(item);
        (!self.is_settled()).then(Taken::default)
    }

    /// The client is owed what the shard has of the item, as its snapshot.
    pub(super) fn owe_snapshot(&mut self, item: &LocalItem) {
        self.awaits_snapshot = false;
        let length = self.snapshot_length();
        let (buffer, sieve) = self.sieved_buffer();
        match (buffer, &item.rows) {
            (Some(EventBuffer::Queue(queue)), Rows::History(history)) => match sieve {
                None => queue.snapshot(history.last(length).cloned(), true),
                Some(sieve) => {
                    let all = history.last(usize::MAX).rev();
                    let selected = all.filter(|row| sieve.selects(row, item)).take(length);
                    let selected: Vec<Row> = selected.cloned().collect();
                    queue.snapshot(selected.into_iter().rev(), true);
                }
            },
            (Some(EventBuffer::Table(buffer)), Rows::Table(table)) => buffer.snapshot(table),
            (Some(EventBuffer::Queue(queue)), _) => {
                let row = item.row.clone();
                let selected = row.filter(|row| sieve.is_none_or(|sieve| sieve.selects(row, item)));
                queue.snapshot(selected, false);
            }
            // A snapshot without any value goes out as one, and is not merged with the event that follows it.
            (None, _) => {
                let empty = item.row.clone().filter(Row::is_all_null);
                self.set_buffer(empty.map(|row| EventBuffer::Queue(Queue::for_snapshot(row))));
            }
            _ => {}
        }
        let Lost { events, safe } = item.lost;
        if events > 0 {
            let safe = if self.safe == Safe::Nothing { 0 } else { safe };
            // The snapshot is of before them.
            match (self.buffer_mut(), &item.rows) {
                (Some(EventBuffer::Queue(queue)), _) => _ = queue.push_lost(events, safe),
                (Some(EventBuffer::Table(buffer)), Rows::Table(table)) => {
                    _ = buffer.push_lost(events, safe, table);
                }
                _ => {}
            }
        }
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        match self.buffer_mut()? {
            EventBuffer::Queue(queue) => Some(queue),
            EventBuffer::Table(_) => None,
        }
    }

    fn table(&mut self) -> Option<&mut TableBuffer> {
        match self.buffer_mut()? {
            EventBuffer::Table(buffer) => Some(buffer),
            EventBuffer::Queue(_) => None,
        }
    }
}
