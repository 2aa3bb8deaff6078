//! MERGE, filtered: a client sees states that were, in their order, and the last one in the end. What lies between may
//! be skipped.

use super::{Case, Shown, Terms};
use crate::sim::ledger::{Life, View};
use crate::tlcp::client::FieldValues;

/// The judge of a MERGE item.
#[derive(Debug)]
pub struct Latest {
    wants_snapshot: bool,
    /// The state last shown, by the number of its entry.
    seen: Option<u32>,
}

impl Latest {
    /// Nothing has been shown.
    pub fn new(terms: &Terms) -> Self {
        Self {
            wants_snapshot: terms.snapshot.is_some(),
            seen: None,
        }
    }

    /// A row.
    pub fn update(&mut self, case: &Case<'_>, shown: &FieldValues) -> Result<Shown, String> {
        let life = case.life;
        // What a prefilter let go may be the state of which a snapshot was made before.
        let again = life.role.source_frequency_max.is_some();
        let first = match self.seen {
            Some(seen) => seen + u32::from(!again),
            None if self.wants_snapshot => case.heard,
            None if again => 1,
            None => case.heard + 1,
        };
        let by_snapshot = self.seen.is_none() && self.wants_snapshot;
        let needs_event = self.seen.is_none() && !by_snapshot;
        let is = |number: &u32| {
            life.shows(*number, View::State, case.schema, shown, case.values)
                && (!needs_event || life.entry(*number).is_some_and(|entry| entry.live))
        };
        let number = match Life::number(case.schema, shown) {
            Ok(Some(number)) => Some(number).filter(is),
            // Without a number, the first that looks like it: one who sees states in their order is never suspected.
            Ok(None) | Err(_) => (first..=life.len()).find(is),
        };
        let number =
            number.ok_or("no state or no event looks like this, or none that may follow")?;
        if number < first {
            return Err(format!(
                "state {number} though {first} is the first to be shown"
            ));
        }
        self.seen = Some(number);
        Ok(if by_snapshot {
            Shown::Snapshot
        } else {
            Shown::Event
        })
    }

    /// In the end.
    pub fn finish(&self, case: &Case<'_>, shown: &FieldValues) -> Result<(), String> {
        let life = case.life;
        let last = || life.shows(life.len(), View::State, case.schema, shown, case.values);
        let event = life
            .mode_events
            .last()
            .is_some_and(|last| *last > case.since);
        let owed = event || (self.wants_snapshot && life.owes_snapshot());
        match self.seen {
            None if owed => Err("nothing has come".into()),
            Some(seen) if seen < life.len() && !last() => Err(format!(
                "state {seen} in the end, though {} is the last",
                life.len()
            )),
            _ => Ok(()),
        }
    }
}
