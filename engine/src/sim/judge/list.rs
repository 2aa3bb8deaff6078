//! DISTINCT: the right snapshot, once; then events, each for itself and in their order. Filtered, some may be dropped,
//! but not the newest; unfiltered, none without a word.

use super::{Case, Chain, Shown, Terms};
use crate::sim::ledger::{Life, View};
use crate::tlcp::client::FieldValues;

/// The judge of a DISTINCT item.
#[derive(Debug)]
pub struct List {
    /// Where nothing may be lost.
    chain: Option<Chain>,
    /// The length of the snapshot at most; `None` if none is wanted.
    snapshot: Option<u32>,
    rings_fit: bool,
    /// The snapshot is told in full.
    ended: bool,
    /// Its first row, and how many there were.
    first: Option<u32>,
    rows: u32,
    /// The event last shown.
    seen: Option<u32>,
    /// `CS` was told since.
    cleared: bool,
    /// What is wrong with the snapshot, unless `CS` follows: then it was cut short.
    cut: Option<String>,
}

impl List {
    /// Nothing has been shown.
    pub fn new(terms: &Terms) -> Self {
        Self {
            chain: terms.unfiltered.then(|| Chain::new(terms)),
            snapshot: terms.snapshot,
            rings_fit: terms.rings_fit,
            ended: terms.snapshot.is_none(),
            first: None,
            rows: 0,
            seen: None,
            cleared: false,
            cut: None,
        }
    }

    /// A row.
    pub fn update(&mut self, case: &Case<'_>, shown: &FieldValues) -> Result<Shown, String> {
        if let Some(cut) = &self.cut {
            return Err(cut.clone());
        }
        let life = case.life;
        let number = Life::number(case.schema, shown)?.ok_or("an event has a number")?;
        if !life.shows(number, View::Sent, case.schema, shown, case.values) {
            return Err(life.explain(number, View::Sent, case.schema, case.values));
        }
        if number <= life.mode_from() || self.seen.is_some_and(|seen| number <= seen) {
            return Err(format!("event {number} behind {:?}", self.seen));
        }
        if !self.ended {
            self.snapshot_row(case, number)?;
            return Ok(Shown::Snapshot);
        }
        if !life.entry(number).is_some_and(|entry| entry.live) {
            return Err(format!("{number} is no event but part of a snapshot"));
        }
        // What a prefilter held is let go later.
        let thinned = life.role.source_frequency_max.is_some();
        if self.seen.is_none() && number <= case.heard && !thinned {
            return Err(format!("event {number}, though {} were before", case.heard));
        }
        self.check_cleared(case, number)?;
        if let Some(chain) = &mut self.chain {
            chain.update(case, shown)?;
        }
        (self.seen, self.cleared) = (Some(number), false);
        Ok(Shown::Event)
    }

    fn snapshot_row(&mut self, case: &Case<'_>, number: u32) -> Result<(), String> {
        let life = case.life;
        if let Some(seen) = self.seen {
            let behind = next_event(life, seen + 1).unwrap_or(number);
            let thinned = life.role.source_frequency_max.is_some();
            if !thinned && behind != number {
                return Err(format!("the snapshot lacks event {behind} before {number}"));
            }
            if life.clear_between(seen, number).is_some() {
                return Err(format!("event {seen} is void, but in the snapshot"));
            }
        }
        self.first.get_or_insert(number);
        self.seen = Some(number);
        self.rows += 1;
        match self.snapshot {
            Some(length) if self.rows > length => {
                Err(format!("a snapshot of {} events", self.rows))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is known from where to where the snapshot must reach.
    fn is_exact(&self, case: &Case<'_>) -> bool {
        self.rings_fit && case.life.role.source_frequency_max.is_none()
    }

    /// `CS` stands where it must, between what was seen and the event with this number.
    fn check_cleared(&self, case: &Case<'_>, until: u32) -> Result<(), String> {
        let after = self.seen.unwrap_or(case.heard);
        let clear = case.life.clear_between(after, until);
        match (clear, self.cleared) {
            (None, true) => Err("cleared for no reason".into()),
            (Some(clear), false) if self.seen.is_some() => Err(format!("{clear} clears, untold")),
            _ => Ok(()),
        }
    }

    /// `EOS`
    pub fn end_of_snapshot(&mut self, case: &Case<'_>) -> Result<(), String> {
        if std::mem::replace(&mut self.ended, true) {
            return Err("the snapshot ends twice, or was not asked for".into());
        }
        let wrong = self.check_snapshot(case);
        if let Some(chain) = &mut self.chain {
            if let Some(last) = self.seen {
                chain.begin(case, last);
            }
            return wrong;
        }
        self.cut = wrong.err();
        Ok(())
    }

    /// The snapshot reaches to the newest event, and far enough back.
    fn check_snapshot(&self, case: &Case<'_>) -> Result<(), String> {
        let (life, length) = (case.life, self.snapshot.unwrap_or(0));
        if length == 0 || !self.is_exact(case) {
            return Ok(());
        }
        let newest = last_event(life, case.heard);
        if let Some(newest) = newest
            && self.seen.is_none_or(|seen| seen < newest)
            && life.clear_between(newest, life.len()).is_none()
        {
            return Err(format!("the snapshot ends before event {newest}"));
        }
        if let Some(first) = self.first
            && self.rows < length
            && let Some(before) = last_event(life, first - 1)
            && life.clear_between(before, first).is_none()
        {
            return Err(format!("the snapshot lacks event {before}, its oldest"));
        }
        Ok(())
    }

    /// `CS`
    pub fn cleared(&mut self, _case: &Case<'_>) -> Result<(), String> {
        if !self.ended {
            return Err("cleared before the end of the snapshot".into());
        }
        (self.cleared, self.cut) = (true, None);
        Ok(())
    }

    /// `OV`
    pub fn lost(&mut self, lost: u32) -> Result<(), String> {
        if let Some(cut) = &self.cut {
            return Err(cut.clone());
        }
        match &mut self.chain {
            Some(_) if !self.ended => Err("a loss within the snapshot".into()),
            Some(chain) => chain.lost(lost),
            None => Err("a loss where events may be dropped".into()),
        }
    }

    /// In the end.
    pub fn finish(&self, case: &Case<'_>) -> Result<(), String> {
        if let Some(cut) = &self.cut {
            return Err(cut.clone());
        }
        let life = case.life;
        if !self.ended {
            return match life.owes_snapshot() {
                true => Err("the snapshot has not come to its end".into()),
                false => Ok(()),
            };
        }
        self.check_cleared(case, life.len())?;
        if let Some(chain) = &self.chain {
            return chain.finish(case);
        }
        let newest = last_event(life, life.len());
        let Some(newest) =
            newest.filter(|newest| life.clear_between(*newest, life.len()).is_none())
        else {
            return Ok(());
        };
        let event = life.mode_events.last() == Some(&newest) && newest > case.since;
        let owed = event || self.snapshot.is_some_and(|length| length > 0) || self.seen.is_some();
        match self.seen {
            Some(seen) if seen == newest => Ok(()),
            _ if owed => Err(format!(
                "{:?} is the newest in the end, not {newest}",
                self.seen
            )),
            _ => Ok(()),
        }
    }
}

/// The first event of the history from this number on.
fn next_event(life: &Life, from: u32) -> Option<u32> {
    (from..=life.len()).find(|number| is_event(life, *number))
}

/// The last one up to this number.
fn last_event(life: &Life, until: u32) -> Option<u32> {
    let from = life.mode_from().saturating_add(1);
    (from..=until.min(life.len()))
        .rev()
        .find(|number| is_event(life, *number))
}

fn is_event(life: &Life, number: u32) -> bool {
    life.entry(number).is_some_and(|entry| !entry.clear)
}
