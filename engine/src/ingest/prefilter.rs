//! The prefilter: an item that is faster than anybody may receive is thinned out once for everybody. Conflation 1 of
//! the data path.
//!
//! It has no buffer: of the events that come within one interval, MERGE keeps the state that they lead to and DISTINCT
//! the last one, and that is passed on when the interval is over. So the last event of a burst always arrives. A
//! trade-safe event passes at once, behind what is held.

use super::Ingest;
use super::items::item_mut;
use crate::counters::{Counter, Counters};
use crate::ids::ItemId;
use crate::ingest::record::Kind;
use crate::item::state::{State, StoredEvent};
use crate::time::{Duration, Instant};
use std::collections::BTreeSet;

/// The prefilter of one item.
#[derive(Debug)]
pub(super) struct Prefilter {
    interval: Duration,
    /// No event before this.
    due: Instant,
    /// Something waits for that.
    holds: bool,
    /// DISTINCT: what it is.
    event: Option<StoredEvent>,
}

/// The items whose prefilter holds something, by the time at which it lets go.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeSet<(Instant, u32)>);

impl Held {
    /// An item that may be passed on now.
    pub fn released(&mut self, now: Instant) -> Option<ItemId> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first().map(|(_, item)| ItemId(item))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn forget(&mut self, prefilter: &Prefilter, item: ItemId) {
        if prefilter.holds {
            self.0.remove(&(prefilter.due, item.0));
        }
    }
}

impl Prefilter {
    /// Sets the rate of an item. One that holds something keeps its appointment.
    pub fn set(prefilter: &mut Option<Box<Prefilter>>, hz: Option<f64>) {
        let Some(hz) = hz.filter(|hz| *hz > 0.0) else {
            if prefilter.as_ref().is_some_and(|prefilter| !prefilter.holds) {
                *prefilter = None;
            }
            return;
        };
        let interval = Duration::try_from_secs_f64(1.0 / hz).unwrap_or(Duration::MAX);
        match prefilter {
            Some(prefilter) => prefilter.interval = interval,
            None => {
                *prefilter = Some(Box::new(Prefilter {
                    interval,
                    due: Instant::ZERO,
                    holds: false,
                    event: None,
                }));
            }
        }
    }

    /// Whether an event may pass now, as one that is `safe` always may behind what was held; if not, it is to be held
    /// ([`Prefilter::hold`]).
    pub fn passes(&mut self, now: Instant, safe: bool) -> bool {
        if !safe && (self.holds || now < self.due) {
            return false;
        }
        self.due = now + self.interval;
        true
    }

    /// Takes out what is held, if something is; in DISTINCT with the event.
    pub fn take_held(&mut self, item: ItemId, held: &mut Held) -> Option<Option<StoredEvent>> {
        let event = self.event.take();
        held.forget(self, item);
        std::mem::take(&mut self.holds).then_some(event)
    }

    /// Keeps an event until it may pass. One whose place it takes is counted.
    pub fn hold(
        &mut self,
        event: Option<StoredEvent>,
        item: ItemId,
        held: &mut Held,
        counters: &mut Counters,
    ) {
        self.event = event;
        if self.holds {
            counters.count(Counter::AdapterEventsFiltered);
        } else {
            self.holds = true;
            held.0.insert((self.due, item.0));
        }
    }

    /// What is held is void.
    pub fn drop_held(&mut self, item: ItemId, held: &mut Held) {
        self.take_held(item, held);
    }
}

impl Ingest {
    /// Passes on what the prefilter of an item held. It is owed like what a full ring had no room for, and sent by the
    /// next flush.
    pub(super) fn release(&mut self, id: ItemId, now: Instant) {
        let Some(item) = item_mut(&mut self.items, id) else {
            return;
        };
        let Some(prefilter) = &mut item.prefilter else {
            return;
        };
        prefilter.holds = false;
        prefilter.due = now + prefilter.interval;
        let event = prefilter.event.take();
        match (&mut item.subject.state, event) {
            (State::Merge(_), _) => {
                self.fanout
                    .owe(&mut item.subject, |debt| debt.owe_state(Kind::State));
            }
            (State::Distinct(state), Some(event)) => {
                let before = event.seq - 1;
                let bytes = event.record.len();
                state.history.push(event, bytes);
                self.fanout
                    .owe(&mut item.subject, |debt| debt.owe_event(before));
            }
            _ => self.counters.count(Counter::AdapterEventsStale),
        }
    }
}
