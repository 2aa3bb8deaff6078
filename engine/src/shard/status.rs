//! The built-in status adapter's data: counters of a session, as `MERGE` items that only this session can see (see
//! [`crate::metadata::status`]).
//!
//! Its items never leave the shard. Counters are kept where updates are at hand anyway; while a client looks, a timer makes
//! an event of what has changed, no oftener than once in `status_interval`, and everything behind that is as for other
//! items: frequency, bandwidth, conflation. Where nobody looks there is no timer.

use super::tally::Tally;
use super::timer::Timer;
use super::{SessionKey, Shard};
use crate::ids::DataAdapterId;
use crate::ingest::record::{self, Kind};
use crate::metadata::status::StatusItem;
use crate::text::push_integer;
use crate::time::Instant;
use crate::tlcp::notify;
use crate::tlcp::request::Mode;

/// What is counted of a session.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// What became of its updates.
    pub totals: Tally,
    /// Bytes of the lines that it was sent.
    pub bytes: u64,
    /// What its client looks at, each item once. May have items that are gone.
    shown: Vec<Shown>,
    /// What was told may be told anew from then on.
    due: Instant,
    /// The timer of this number counts, if one is set.
    version: u32,
}

/// An item that a client looks at.
#[derive(Debug)]
struct Shown {
    /// Its index among the shard's items, and the tenant of that.
    item: u32,
    epoch: u32,
    what: StatusItem,
    /// What was told last.
    told: Values,
    /// How often something was told.
    events: u64,
}

/// The values of an item's fields.
type Values = Vec<Option<Box<str>>>;

/// The fields that both kinds of items begin with.
const COUNTS: [&str; 4] = [
    "updates_sent",
    "updates_conflated",
    "updates_filtered",
    "updates_lost",
];
/// Told with the others, but no reason to tell: every event of this adapter changes it.
const BYTES_SENT: &str = "bytes_sent";

/// The fields of an item, in the order of their values.
fn fields(what: StatusItem) -> impl Iterator<Item = &'static str> {
    let more: &[_] = match what {
        StatusItem::Session => &[BYTES_SENT, "bandwidth", "subscriptions"],
        StatusItem::Subscription(_) => &["mode", "items", "frequency", "dispatching"],
    };
    COUNTS.into_iter().chain(more.iter().copied())
}

impl Shard {
    /// How many items of the adapter a session looks at.
    pub(super) fn status_items(&self, key: SessionKey) -> usize {
        let status = self.sessions[key].status.as_ref();
        let alive = |shown: &&Shown| self.items.is_alive(shown.item, shown.epoch);
        status.map_or(0, |status| status.shown.iter().filter(alive).count())
    }

    /// A client looks at one of the items. It is told in the next turn.
    pub(super) fn show_status(&mut self, key: SessionKey, item: u32, what: StatusItem) {
        let epoch = self.items.epoch(item);
        let Some(status) = &mut self.sessions[key].status else {
            return; // the adapter is not configured
        };
        let known = |shown: &Shown| (shown.item, shown.epoch) == (item, epoch);
        if status.shown.iter().any(known) {
            return; // its snapshot is there, or comes
        }
        status.shown.push(Shown {
            item,
            epoch,
            what,
            told: Vec::new(),
            events: 0,
        });
        status.version = status.version.wrapping_add(1);
        let timer = Timer::Status(key, status.version);
        self.timers.insert(Instant::ZERO, timer);
    }

    /// It is time to tell of items that are new, and of what has changed.
    pub(super) fn on_status(&mut self, key: SessionKey, version: u32, now: Instant) {
        let session = self.sessions.get_mut(key);
        let status = session.and_then(|session| session.status.as_mut());
        let Some(status) = status.filter(|status| status.version == version) else {
            return;
        };
        let is_due = status.due <= now;
        let mut all = std::mem::take(&mut status.shown);
        all.retain(|shown| self.items.is_alive(shown.item, shown.epoch));
        for shown in &mut all {
            if shown.events == 0 {
                self.introduce(shown, now);
                shown.told = self.status_of(key, shown.what);
                self.tell_status(shown, Kind::Snapshot, |_| true, now);
            } else if is_due {
                self.tell_changes(key, shown, now);
            }
        }
        let (Some(interval), Some(status)) =
            (self.config.status_interval, &mut self.sessions[key].status)
        else {
            return;
        };
        if is_due {
            status.due = now + interval;
        }
        if !all.is_empty() {
            self.timers.insert(status.due, Timer::Status(key, version));
        }
        status.shown = all;
    }

    /// Names the fields of an item.
    fn introduce(&mut self, shown: &Shown, now: Instant) {
        let mut record = Vec::new();
        let mut writer = record::Writer::start(&mut record, Kind::Fields, 0, now);
        fields(shown.what).for_each(|name| writer.name(name, None));
        writer.finish();
        record::address(&mut record, shown.item, shown.epoch);
        self.on_records(&record, now);
    }

    /// Makes an event of what has changed, if that is more than the number of bytes.
    fn tell_changes(&mut self, key: SessionKey, shown: &mut Shown, now: Instant) {
        let values = self.status_of(key, shown.what);
        let changed: Vec<bool> = values
            .iter()
            .zip(&shown.told)
            .map(|(a, b)| a != b)
            .collect();
        let mut reasons = fields(shown.what).zip(&changed);
        if reasons.any(|(name, changed)| *changed && name != BYTES_SENT) {
            shown.told = values;
            self.tell_status(shown, Kind::Update, |field| changed[field], now);
        }
    }

    /// Makes an event of an item's values, as ingest would.
    fn tell_status(
        &mut self,
        shown: &mut Shown,
        kind: Kind,
        is_told: impl Fn(usize) -> bool,
        now: Instant,
    ) {
        shown.events += 1;
        let mut record = Vec::new();
        let mut writer = record::Writer::start(&mut record, kind, shown.events, now);
        for (field, value) in shown
            .told
            .iter()
            .enumerate()
            .filter(|(field, _)| is_told(*field))
        {
            let number = u16::try_from(field).expect("there are few fields");
            writer.value(number, value.as_deref().map(str::as_bytes));
        }
        writer.finish();
        record::address(&mut record, shown.item, shown.epoch);
        self.on_records(&record, now);
    }

    /// The present values of an item's fields.
    fn status_of(&self, key: SessionKey, what: StatusItem) -> Values {
        let session = &self.sessions[key];
        let status = session.status.as_ref();
        match what {
            StatusItem::Session => {
                let (totals, bytes) = status.map_or((Tally::default(), 0), |status| {
                    (status.totals, status.bytes)
                });
                let mut values = counts(&totals);
                values.push(text(|out| push_integer(out, bytes)));
                let bandwidth = session.granted_bandwidth();
                values.push(text(|out| notify::push_bandwidth(out, bandwidth)));
                let subscriptions = session.subscriptions.len() as u64;
                values.push(text(|out| push_integer(out, subscriptions)));
                values
            }
            StatusItem::Subscription(sub_id) => {
                let sub = self.subscription(key, sub_id);
                let sub = sub.map(|sub| (&self.subscriptions[sub], sub));
                let Some((subscription, sub)) = sub.filter(|(sub, _)| sub.active) else {
                    return fields(what).map(|_| None).collect();
                };
                let items = subscription.items();
                let mut all = Tally::default();
                for tally in items
                    .iter()
                    .filter_map(|item| self.sub_items[*item].counted())
                {
                    all += tally;
                }
                let mut values = counts(&all);
                values.push(Some(mode_name(subscription.mode).into()));
                values.push(text(|out| push_integer(out, items.len() as u64)));
                values.push(text(|out| {
                    notify::push_frequency(out, self.granted_frequency(sub))
                }));
                let dispatching = match subscription.is_unfiltered() {
                    true => "unfiltered",
                    false => "filtered",
                };
                values.push(Some(dispatching.into()));
                values
            }
        }
    }
}

fn counts(tally: &Tally) -> Values {
    let counts = [tally.sent, tally.conflated, tally.filtered, tally.lost];
    counts
        .map(|count| text(|out| push_integer(out, count)))
        .into()
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> Option<Box<str>> {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).ok().map(Into::into)
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Raw => "RAW",
        Mode::Merge => "MERGE",
        Mode::Distinct => "DISTINCT",
        Mode::Command => "COMMAND",
    }
}

/// The name of an item of the status adapter among the shard's items: each session has its own.
pub(super) fn local_name(session: &str, item: &str) -> Box<str> {
    format!("{session}/{item}").into()
}

/// Whether items are this adapter's: then they never leave the shard.
pub(super) fn is_status(adapter: DataAdapterId) -> bool {
    adapter == DataAdapterId::STATUS
}
