//! What a client knows of one of its subscriptions, and what its judges say.

use super::Client;
use super::meter::Pace;
use crate::sim::feed::cast::Field;
use crate::sim::judge::{Case, Judge, Shown, Terms};
use crate::sim::ledger::KEYS;
use crate::sim::oracle::{ItemIndex, Oracle};
use crate::sim::weather::Weather;
use crate::sim::world::insight::TenancyId;
use crate::time::Instant;
use crate::tlcp::client::FieldValues;
use crate::tlcp::request::{Add, BufferSize, Frequency, Mode, Snapshot};

/// One subscription.
pub struct Sub {
    pub mode: Mode,
    pub items: Vec<SubItem>,
    pub schema: Vec<Field>,
    snapshot: Snapshot,
    frequency: Frequency,
    buffer_size: Option<BufferSize>,
    pub state: SubState,
    pub asked_at: Instant,
    /// Its request went through another connection, so requests on this one may overtake it.
    pub sideways: bool,
    /// The code with which it must be refused.
    pub refusal: Option<i64>,
    pub granted_hz: Option<f64>,
}

/// One item of it.
pub struct SubItem {
    pub item: ItemIndex,
    values: FieldValues,
    judge: Judge,
    pace: Pace,
    /// What it lives on, once it is active; and how much of that was published then.
    tenancy: Option<(TenancyId, u32)>,
    /// When that was; and how many updates have come since.
    active_at: Instant,
    updates: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubState {
    Asked,
    Active,
    Leaving,
}

/// A line about one item.
#[derive(Clone, Copy, Debug)]
pub enum ItemLine<'a> {
    Update(&'a str),
    EndOfSnapshot,
    Clear,
    Lost(u32),
}

impl Sub {
    /// What half of the clients begin with, if there is an item for it: those who have the same may be in step.
    pub fn popular(oracle: &Oracle, weather: &Weather, now: Instant) -> Option<Self> {
        let plain = |sub: &Self| {
            sub.mode == Mode::Merge
                && sub.frequency == Frequency::Unlimited
                && sub.snapshot == Snapshot::Yes
                && sub.refusal.is_none()
        };
        (0..100)
            .map(|seed| Self::some(oracle, weather, now, &mut fastrand::Rng::with_seed(seed)))
            .find(plain)
    }

    /// Some subscription to some items, sometimes to such as must be refused.
    pub fn some(oracle: &Oracle, weather: &Weather, now: Instant, rng: &mut fastrand::Rng) -> Self {
        let first = rng.usize(..oracle.roles.len());
        let mode = match rng.u8(..100) {
            0..15 => Mode::Raw,
            15 => [Mode::Merge, Mode::Distinct, Mode::Command][rng.usize(..3)], // whatever the item is
            _ => oracle.roles[first].mode,
        };
        let fits = |item: &usize| {
            mode == Mode::Raw || oracle.roles[*item].mode == oracle.roles[first].mode
        };
        let others: Vec<usize> = (0..rng.usize(..3))
            .map(|_| rng.usize(..oracle.roles.len()))
            .filter(fits)
            .collect();
        let items: Vec<usize> = std::iter::once(first).chain(others).collect();
        let unfiltered = rng.u8(..4) == 0;
        let frequency = match (unfiltered, some_frequency(rng)) {
            (true, _) => Frequency::Unfiltered,
            (false, Some(hz)) => Frequency::Limited(hz),
            (false, None) => Frequency::Unlimited,
        };
        let snapshot = match (rng.u8(..4), mode) {
            (0, _) => Snapshot::No,
            (1, Mode::Distinct) => Snapshot::Length([1, 2, 7, 1_000][rng.usize(..4)]),
            _ => Snapshot::Yes,
        };
        let buffer_size = match rng.u8(..4) {
            0 => Some(BufferSize::Events(rng.u32(1..8))),
            1 => Some(BufferSize::Unlimited),
            _ => None,
        };
        let safe = items.iter().any(|item| oracle.roles[*item].safe);
        let needed: &[Field] = match mode {
            Mode::Command => &[Field::Number, Field::Key, Field::Command],
            Mode::Raw if oracle.roles[first].mode == Mode::Command => {
                &[Field::Number, Field::Key, Field::Command]
            }
            // In MERGE states can be told apart without.
            Mode::Merge if !unfiltered && !safe && rng.bool() => &[],
            _ => &[Field::Number],
        };
        let schema = Field::some_schema(rng, needed);
        let roles = items.iter().map(|item| &oracle.roles[*item]);
        let refusal = if roles
            .clone()
            .any(|role| mode != Mode::Raw && role.mode != mode)
        {
            Some(24)
        } else if !unfiltered || mode == Mode::Raw {
            None
        } else if roles.clone().any(|role| role.frequency_max.is_some()) {
            Some(26)
        } else if roles
            .clone()
            .any(|role| role.source_frequency_max.is_some())
        {
            Some(27)
        } else {
            None
        };
        let mut sub = Self {
            mode,
            items: Vec::new(),
            schema,
            snapshot,
            frequency,
            buffer_size,
            state: SubState::Asked,
            asked_at: now,
            sideways: rng.u8(..5) == 0,
            refusal,
            granted_hz: None,
        };
        let item = |item: usize| SubItem {
            item,
            values: FieldValues::new(sub.schema.len()),
            judge: Judge::new(&sub.terms(item, oracle, weather)),
            pace: match mode {
                Mode::Command => Pace::Keys(Box::new([None; KEYS.len()])),
                _ => Pace::Item(None),
            },
            tenancy: None,
            active_at: now,
            updates: 0,
        };
        sub.items = items.into_iter().map(item).collect();
        sub
    }

    /// What is asked for, of one item.
    fn terms(&self, item: ItemIndex, oracle: &Oracle, weather: &Weather) -> Terms {
        let (role, limits) = (&oracle.roles[item], &weather.limits);
        let unfiltered = self.is_unfiltered();
        let asked = match self.buffer_size {
            Some(BufferSize::Events(events)) => Some(events),
            Some(BufferSize::Unlimited) => None,
            None => (self.mode == Mode::Merge).then_some(1),
        };
        let filtered_len = [asked, role.buffer_size_max].into_iter().flatten().min();
        let bounded = !unfiltered && matches!(self.mode, Mode::Merge | Mode::Distinct);
        let buffer_len = filtered_len
            .filter(|_| bounded)
            .map_or(usize::MAX, |len| len as usize);
        let buffer_len = buffer_len.min(limits.event_buffer_len_max);
        let length = match self.snapshot {
            Snapshot::No => None,
            Snapshot::Yes => Some(u32::MAX),
            Snapshot::Length(length) => Some(length),
        };
        let length_max = u32::try_from(buffer_len.min(limits.snapshot_len_max)).unwrap_or(u32::MAX);
        Terms {
            mode: self.mode,
            // Nothing is merged or dropped without a word of what is trade-safe either.
            unfiltered: unfiltered || role.safe,
            snapshot: length
                .filter(|_| self.mode != Mode::Raw)
                .map(|length| match self.mode {
                    Mode::Distinct => length.min(role.snapshot_length).min(length_max),
                    _ => 0,
                }),
            buffer_len,
            rings_fit: weather.rings_fit,
        }
    }

    /// The request.
    pub fn add(&self, sub_id: u32, oracle: &Oracle, ack: bool) -> Add<'static> {
        let names = self
            .items
            .iter()
            .map(|item| oracle.roles[item.item].name.as_str());
        let fields = self.schema.iter().map(|field| field.name());
        Add {
            sub_id,
            data_adapter: None,
            group: names.collect::<Vec<_>>().join(" ").into(),
            schema: fields.collect::<Vec<_>>().join(" ").into(),
            selector: None,
            mode: self.mode,
            snapshot: self.snapshot,
            frequency: self.frequency,
            buffer_size: self.buffer_size,
            ack,
        }
    }

    /// Whether nothing may be merged or dropped.
    pub fn is_unfiltered(&self) -> bool {
        self.mode == Mode::Raw || self.frequency == Frequency::Unfiltered
    }

    /// The positions of `key` and `command` in the schema, from 1.
    pub fn special_positions(&self) -> [u32; 2] {
        [Field::Key, Field::Command].map(|special| {
            let at = self.schema.iter().position(|field| *field == special);
            at.map_or(0, |at| u32::try_from(at + 1).expect("few fields"))
        })
    }

    /// It is active from now on. That it is once more is of a repeated request that came behind its end, of which the client
    /// has not heard yet: what is on its way is of the first time.
    pub fn begin(&mut self, tenancies: &[TenancyId], oracle: &Oracle) {
        for (item, tenancy) in self.items.iter_mut().zip(tenancies) {
            let begun = (*tenancy, oracle.published(*tenancy));
            item.tenancy.get_or_insert(begun);
        }
    }

    /// `CONF`
    pub fn set_frequency(&mut self, hz: Option<f64>) {
        let first = std::mem::replace(&mut self.granted_hz, hz).is_none();
        let paces = self.items.iter_mut().map(|item| &mut item.pace);
        paces.for_each(|pace| pace.begin(first));
    }

    /// A line about the item at `position`, counted from 1.
    pub fn on_line(
        &mut self,
        position: u32,
        line: ItemLine<'_>,
        written: Option<Instant>,
        now: Instant,
        oracle: &Oracle,
    ) -> Result<(), String> {
        if self.state == SubState::Asked {
            return Err("before SUBOK".into());
        }
        let index = (position as usize).wrapping_sub(1);
        let item = self.items.get_mut(index).ok_or("no such item")?;
        let (tenancy, active) = item.tenancy.ok_or("not active")?;
        let case = oracle.case(tenancy, self.mode, active);
        let case = case.ok_or("of an item that nobody has asked for")?;
        let case = Case {
            schema: &self.schema,
            ..case
        };
        match line {
            ItemLine::Update(values) => {
                item.values.apply(values).map_err(|bad| bad.to_string())?;
                let shown = item.judge.update(&case, &item.values)?;
                let hz = Client::frequency_max(&case.life.role, self.granted_hz);
                let limited = !matches!(self.mode, Mode::Raw);
                item.pace.check(shown, hz.filter(|_| limited), written)?;
                item.check_source(shown, &case, now)
            }
            ItemLine::EndOfSnapshot => item.judge.end_of_snapshot(&case),
            ItemLine::Clear => item.judge.cleared(&case),
            ItemLine::Lost(lost) => item.judge.lost(&case, lost),
        }
    }

    /// Nothing happens any more: what is wrong with which item.
    pub fn finish(&self, oracle: &Oracle) -> Vec<(usize, String)> {
        let judged = self.items.iter().enumerate().map(|(index, item)| {
            let (tenancy, active) = item.tenancy.ok_or("never active")?;
            let case = oracle.case(tenancy, self.mode, active);
            let case = case.ok_or("nobody has asked for the item")?;
            let now = oracle.life(item.item).ok_or("the item was given back")?;
            if !std::ptr::eq(now, case.life) {
                return Err("it lives on an item that is gone".to_owned());
            }
            let case = Case {
                schema: &self.schema,
                ..case
            };
            item.judge.finish(&case, &item.values).map(|()| index)
        });
        let wrong = judged.enumerate();
        wrong
            .filter_map(|(index, result)| Some((index, result.err()?)))
            .collect()
    }
}

impl SubItem {
    /// A prefilter lets no more updates pass than its rate, over the time since the item is there, and before it as far as a
    /// shard may lag behind; and two more for what it let pass just before, and its clears.
    fn check_source(&mut self, shown: Shown, case: &Case<'_>, now: Instant) -> Result<(), String> {
        let role = &case.life.role;
        let hz = role.source_frequency_max;
        let Some(hz) = hz.filter(|_| role.mode != Mode::Raw && !role.safe) else {
            return Ok(());
        };
        if matches!(self.judge, Judge::Chain(_)) || shown == Shown::Snapshot {
            return Ok(()); // RAW is not thinned out
        }
        self.updates += 1;
        let clears = case.life.clears.len() as f64;
        let seconds = now.since(self.active_at).as_secs_f64() + SHARD_LAG_S;
        let allowed = seconds * hz + 2.0 + clears;
        if f64::from(self.updates) > allowed {
            return Err(format!(
                "{} updates since it was asked for, at {hz} Hz",
                self.updates
            ));
        }
        Ok(())
    }
}

/// Cores that let turns pass, and long steps, can make a shard read so late.
const SHARD_LAG_S: f64 = 1.0;

fn some_frequency(rng: &mut fastrand::Rng) -> Option<f64> {
    [None, None, Some(0.5), Some(2.0), Some(3.0), Some(20.0)][rng.usize(..6)]
}
