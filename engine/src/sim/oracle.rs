//! Knows every state that every item had, and so what a client may see and what it must see in the end.

use super::messages::Delivered;
use crate::time::{Duration, Instant};
use crate::tlcp::client::FieldValues;
use std::collections::{BTreeMap, VecDeque};

/// An item's values at one moment; a field that is missing is null.
pub type State = BTreeMap<String, Option<String>>;

/// The states of all items, each item's counted from the beginning of the run.
#[derive(Debug, Default)]
pub struct Oracle {
    items: BTreeMap<String, History>,
    /// The messages of clients.
    pub delivered: Delivered,
    complaint: Option<String>,
}

#[derive(Debug, Default)]
struct History {
    /// Number of the first state kept.
    first: u64,
    last_event: Instant,
    /// With the time from which on it was so.
    states: VecDeque<(Instant, State)>,
}

/// How long a state is kept after the next one came: longer than what any client sees can be late. Clients stall for
/// three seconds at most.
const KEPT: Duration = Duration::from_secs(30);

impl Oracle {
    /// The item has a new state.
    pub fn happened(&mut self, item: &str, state: State, now: Instant) {
        let history = self.items.entry(item.to_owned()).or_default();
        history.states.push_back((now, state));
        history.last_event = now;
        while history
            .states
            .get(1)
            .is_some_and(|(since, _)| now.since(*since) > KEPT)
        {
            history.states.pop_front();
            history.first += 1;
        }
    }

    /// The item starts anew, without any value: what an empty snapshot shows. Unlike all other states, this one is no
    /// event, of which everybody must be told.
    pub fn starts(&mut self, item: &str, now: Instant) {
        let last_event = self.last_event(item);
        self.happened(item, State::new(), now);
        self.items.entry(item.to_owned()).or_default().last_event = last_event;
    }

    /// When the item had its last event.
    pub fn last_event(&self, item: &str) -> Instant {
        self.items
            .get(item)
            .map_or(Instant::ZERO, |history| history.last_event)
    }

    /// The number of the first state after `seen` that looks like `values` through `schema`. By taking the first one,
    /// a client that sees states of the feed in their order is never suspected.
    pub fn place(
        &self,
        item: &str,
        schema: &[String],
        values: &FieldValues,
        seen: Option<u64>,
    ) -> Option<u64> {
        let history = self.items.get(item)?;
        let from = seen
            .map_or(history.first, |seen| seen + 1)
            .max(history.first);
        let skip = usize::try_from(from - history.first).expect("a run is short");
        history
            .states
            .iter()
            .skip(skip)
            .position(|(_, state)| looks_like(state, schema, values))
            .map(|at| from + at as u64)
    }

    /// Whether `values` are the item's last state.
    pub fn is_current(&self, item: &str, schema: &[String], values: &FieldValues) -> bool {
        let last = self.items.get(item).and_then(|item| item.states.back());
        last.is_some_and(|(_, state)| looks_like(state, schema, values))
    }

    /// Something is wrong. The first complaint counts.
    pub fn complain(&mut self, complaint: String) {
        self.complaint.get_or_insert(complaint);
    }

    /// The first complaint.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}

fn looks_like(state: &State, schema: &[String], values: &FieldValues) -> bool {
    schema
        .iter()
        .zip(values.iter())
        .all(|(field, value)| state.get(field).and_then(|known| known.as_deref()) == value)
}
