//! RAW, and what is unfiltered: every event is received, or its loss is told in its place.

use super::{Case, Shown, Terms};
use crate::sim::ledger::{Life, View};
use crate::tlcp::client::FieldValues;
use crate::tlcp::request::Mode;

/// The judge of an item of which nothing may be lost without a word.
#[derive(Debug)]
pub struct Chain {
    mode: Mode,
    wants_snapshot: bool,
    /// The place of the next event among all of them; not known before the first update that tells its number.
    next: Option<usize>,
    /// Losses told since the last update.
    told: usize,
    /// Events received and told while `next` was not known.
    before: usize,
    /// A MERGE client that wants a snapshot has had it.
    begun: bool,
}

impl Chain {
    /// Nothing has been shown.
    pub fn new(terms: &Terms) -> Self {
        Self {
            mode: terms.mode,
            wants_snapshot: terms.mode == Mode::Merge && terms.snapshot.is_some(),
            next: None,
            told: 0,
            before: 0,
            begun: false,
        }
    }

    /// The numbers of all events.
    fn events<'a>(&self, case: &Case<'a>) -> &'a [u32] {
        match self.mode {
            Mode::Raw => &case.life.raw_events,
            _ => &case.life.mode_events,
        }
    }

    /// How many events there are up to this number.
    fn place(events: &[u32], number: u32) -> usize {
        events.partition_point(|event| *event <= number)
    }

    /// Events are known to begin at this number: a snapshot ends there.
    pub fn begin(&mut self, case: &Case<'_>, number: u32) {
        self.next = Some(Self::place(self.events(case), number));
    }

    /// A row.
    pub fn update(&mut self, case: &Case<'_>, shown: &FieldValues) -> Result<Shown, String> {
        let (events, life) = (self.events(case), case.life);
        let view = match self.mode {
            Mode::Merge => View::State,
            _ => View::Sent,
        };
        let is = |number: u32| life.shows(number, view, case.schema, shown, case.values);
        if let Some(next) = self.next {
            let at = next + self.told;
            let number = events.get(at).copied();
            let number =
                number.ok_or_else(|| format!("{} losses, but not so many events", self.told))?;
            if !is(number) {
                return Err(format!(
                    "event {number} was expected behind {} losses",
                    self.told
                ));
            }
            (self.next, self.told) = (Some(at + 1), 0);
            return Ok(Shown::Event);
        }
        let first = self.wants_snapshot && !std::mem::replace(&mut self.begun, true);
        let Some(number) = Life::number(case.schema, shown)? else {
            // A clear, or a snapshot without values: which one of them will be told by the next number.
            let clears = life.clears.iter().filter(|clear| **clear >= case.heard);
            if self.mode != Mode::Merge || !clears.chain([&0]).any(|number| is(*number)) {
                return Err("no event looks like this".into());
            }
            self.before += self.told + usize::from(!first);
            self.told = 0;
            return Ok(if first { Shown::Snapshot } else { Shown::Event });
        };
        if !is(number) {
            return Err(life.explain(number, view, case.schema, case.values));
        }
        if first {
            return self.snapshot(case, number);
        }
        let at = Self::place(events, number) - 1;
        if events.get(at) != Some(&number) {
            return Err(format!("{number} is no event"));
        }
        let before = self.before + self.told;
        self.check_start(case, at.checked_sub(before))?;
        (self.next, self.told) = (Some(at + 1), 0);
        Ok(Shown::Event)
    }

    /// The first event that counts for the client: none after `since` may be missing before it, and none up to `heard`
    /// can be meant.
    fn check_start(&self, case: &Case<'_>, start: Option<usize>) -> Result<(), String> {
        let events = self.events(case);
        let (earliest, latest) = (
            Self::place(events, case.heard),
            Self::place(events, case.since),
        );
        // A snapshot may be newer than `heard`; then what it contains is no event for the client.
        match start {
            Some(start) if start < earliest => Err("more events than there were".into()),
            None => Err("more losses than events".into()),
            Some(start) if start > latest && !self.wants_snapshot => {
                Err(format!("{} events are missing", start - latest))
            }
            Some(_) => Ok(()),
        }
    }

    /// MERGE: the first update, which shows the state with this number.
    fn snapshot(&mut self, case: &Case<'_>, number: u32) -> Result<Shown, String> {
        if number < case.heard {
            return Err(format!(
                "a snapshot of {number}, though {} was heard of",
                case.heard
            ));
        }
        let events = self.events(case);
        let at = Self::place(events, number);
        // With a full ring the snapshot goes as the last of some events; the others are lost.
        let missing = at.saturating_sub(Self::place(events, case.since) + 1);
        let possible = at - Self::place(events, case.heard).min(at);
        if self.told < missing || self.told > possible {
            return Err(format!(
                "{} losses before the snapshot, not {missing}",
                self.told
            ));
        }
        (self.next, self.told) = (Some(at), 0);
        Ok(Shown::Snapshot)
    }

    /// `OV`
    pub fn lost(&mut self, lost: u32) -> Result<(), String> {
        self.told += lost as usize;
        Ok(())
    }

    /// Losses told since the last update.
    pub fn told(&self) -> usize {
        self.told
    }

    /// The number of the last event that was received, if it is known.
    pub fn last(&self, case: &Case<'_>) -> Option<u32> {
        let next = self.next?;
        Some(
            next.checked_sub(1)
                .map_or(0, |last| self.events(case)[last]),
        )
    }

    /// The number of the event that the next update shows, if it is known.
    pub fn expected(&self, case: &Case<'_>) -> Option<u32> {
        self.events(case).get(self.next? + self.told).copied()
    }

    /// In the end.
    pub fn finish(&self, case: &Case<'_>) -> Result<(), String> {
        let events = self.events(case);
        let Some(next) = self.next else {
            if self.wants_snapshot && !self.begun {
                return match case.life.owes_snapshot() {
                    true => Err("nothing has come".into()),
                    false => Ok(()),
                };
            }
            return self.check_start(case, events.len().checked_sub(self.before + self.told));
        };
        match (events.len() - next).cmp(&self.told) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(format!(
                "{} events are missing in the end",
                events.len() - next - self.told
            )),
            std::cmp::Ordering::Less => Err("more losses than events in the end".into()),
        }
    }
}
