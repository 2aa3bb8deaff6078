//! Subscriptions: from `add` to `UNSUB`, and how often an item may be sent.

use super::canary::Bug;
use super::deferred::Deferred;
use super::event_buffer::{EventBuffer, Overflow, Queue, TableBuffer};
use super::items::Schema;
use super::question::Waiting;
use super::sieve::Sieve;
use super::status::{is_status, local_name};
use super::sub_item::{Safe, SubItem, Terms};
use super::table::Held;
use super::tally::Tally;
use super::{Effect, Origin, SessionKey, Shard, SubItemKey, SubKey};
use crate::counters::Counter;
use crate::ids::DataAdapterId;
use crate::ingest::demand::Demand;
use crate::item::ItemNameRef;
use crate::item::command::{COMMAND, KEY};
use crate::item::safe::TradeSafe;
use crate::limits::Limits;
use crate::metadata::status::StatusItem;
use crate::metadata::{Claim, Granted, GrantedItem, Question};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Reason, Refusal};
use crate::tlcp::notify;
use crate::tlcp::request::{Add, BufferSize, Frequency, Mode, Snapshot, Table, Verb};

/// One subscription of a session.
#[derive(Debug)]
pub(super) struct Subscription {
    pub session: SessionKey,
    pub sub_id: u32,
    /// What was asked for: a repeated `add` must equal it.
    asked: Asked,
    pub mode: Mode,
    snapshot: Snapshot,
    buffer_size: Option<BufferSize>,
    unfiltered: bool,
    /// Updates per second that the client wants at most.
    frequency: Option<f64>,
    /// Items by position; empty until the metadata adapter has answered.
    items: Vec<SubItemKey>,
    pub active: bool,
    /// `delete` came before the answer.
    pub delete_on_active: bool,
    /// What else came before it and has to wait.
    pub deferred: Vec<Deferred>,
    /// What only the text protocol asks for.
    pub table: Table,
    /// Granted, but not started yet (`add_silent`).
    pub held: Option<Box<Held>>,
    /// The metadata adapter wants to know what becomes of its updates.
    pub statistics: bool,
    /// It is to the status adapter, of which no metadata adapter knows.
    of_status: bool,
}

#[derive(Debug, PartialEq)]
struct Asked {
    group: Box<str>,
    schema: Box<str>,
    data_adapter: Option<Box<str>>,
    selector: Option<Box<str>>,
    mode: Mode,
}

/// An `add` that waits for the metadata adapter.
#[derive(Debug)]
pub(super) struct Subscribing {
    pub sub: SubKey,
    origin: Origin,
    req_id: Box<str>,
    ack: bool,
}

impl Subscribing {
    /// The subscription that may come of it.
    pub fn subscription(&self) -> SubKey {
        self.sub
    }
}

impl Subscription {
    /// Whether the metadata adapter has granted it.
    pub fn is_granted(&self) -> bool {
        self.active || self.held.is_some()
    }

    /// Its items, by position.
    pub fn items(&self) -> &[SubItemKey] {
        &self.items
    }

    pub fn is_unfiltered(&self) -> bool {
        self.unfiltered || self.mode == Mode::Raw
    }

    /// Where events of an item wait. `since` is the item's last event so far.
    fn buffer(
        &self,
        granted: &GrantedItem,
        safe: Safe,
        interval: Duration,
        limits: &Limits,
        since: u64,
    ) -> Option<EventBuffer> {
        let len_max = limits.event_buffer_len_max;
        let queue = |asked, overflow| {
            let queue = Queue::new(asked, len_max, overflow);
            Some(EventBuffer::Queue(queue))
        };
        match self.mode {
            Mode::Command => {
                let mut buffer = TableBuffer::new(len_max, self.unfiltered, interval, since);
                buffer.select(granted.selector.clone());
                Some(EventBuffer::Table(Box::new(buffer)))
            }
            Mode::Raw => queue(len_max, Overflow::Tells),
            Mode::Merge | Mode::Distinct if self.unfiltered => queue(len_max, Overflow::Tells),
            Mode::Merge => match self.buffer_len(granted, limits) {
                // The state is what is left of all events; of those that are selected it is not.
                1 if safe == Safe::Nothing && granted.selector.is_none() => None,
                asked => queue(asked, Overflow::Merges),
            },
            Mode::Distinct => queue(self.buffer_len(granted, limits), Overflow::Drops),
        }
    }

    /// Events that may wait: what is asked for and what is allowed, of MERGE and DISTINCT unless unfiltered.
    fn buffer_len(&self, granted: &GrantedItem, limits: &Limits) -> usize {
        let asked = match (self.buffer_size, self.mode) {
            (Some(BufferSize::Events(events)), _) => Some(events),
            (None, Mode::Merge) => Some(1),
            (Some(BufferSize::Unlimited) | None, _) => None,
        };
        let positive = |events: &u32| *events > 0; // zero is an older spelling of unlimited
        let lowest = [asked, granted.buffer_size_max]
            .into_iter()
            .flatten()
            .filter(positive)
            .map(|events| events as usize)
            .min();
        let len_max = limits.event_buffer_len_max;
        lowest.map_or(len_max, |lowest| lowest.min(len_max))
    }

    /// DISTINCT: how many events make up the snapshot.
    fn snapshot_length(&self, granted: &GrantedItem, limits: &Limits) -> u32 {
        let asked = match self.snapshot {
            Snapshot::No => 0,
            Snapshot::Yes => u32::MAX,
            Snapshot::Length(length) => length,
        };
        let buffer = match self.unfiltered {
            true => limits.event_buffer_len_max,
            false => self.buffer_len(granted, limits),
        };
        asked
            .min(granted.snapshot_length)
            .min(u32::try_from(buffer).unwrap_or(u32::MAX))
    }
}

/// A requested frequency as a number; `None` is no limit.
pub(super) fn frequency_hz(frequency: Frequency) -> Option<f64> {
    match frequency {
        Frequency::Limited(hz) => Some(hz),
        Frequency::Unlimited | Frequency::Unfiltered => None,
    }
}

fn lower(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A frequency that is limited at all is not above `highest`.
fn capped(hz: Option<f64>, highest: Option<f64>) -> Option<f64> {
    hz.map(|hz| highest.map_or(hz, |highest| hz.min(highest)))
}

/// Updates per second that the client gets of an item at most, if it wants so many.
fn granted(sub_item: &SubItem, wanted: Option<f64>, highest: Option<f64>) -> Option<f64> {
    match sub_item.safe {
        Safe::Everything => None,
        Safe::Nothing | Safe::Something => capped(lower(wanted, sub_item.frequency_max()), highest),
    }
}

fn interval(hz: Option<f64>) -> Duration {
    hz.map_or(Duration::ZERO, |hz| {
        Duration::try_from_secs_f64(1.0 / hz).unwrap_or(Duration::MAX)
    })
}

impl Shard {
    /// A session's subscription by its number.
    pub(super) fn subscription(&self, key: SessionKey, sub_id: u32) -> Option<SubKey> {
        let subscriptions = &self.sessions[key].subscriptions;
        subscriptions
            .binary_search_by_key(&sub_id, |(id, _)| *id)
            .ok()
            .map(|index| subscriptions[index].1)
    }

    /// `add`. Clients repeat it when they are not sure that it arrived: the same one again is a success that does
    /// nothing.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        key: SessionKey,
        req_id: &str,
        add: Add<'_>,
        table: Table,
        now: Instant,
    ) {
        let asked = Asked {
            group: (&*add.group).into(),
            schema: (&*add.schema).into(),
            data_adapter: add.data_adapter.map(Into::into),
            selector: add.selector.map(Into::into),
            mode: add.mode,
        };
        let refusal = match self.subscription(key, add.sub_id) {
            Some(sub) if self.subscriptions[sub].asked == asked => {
                return self.acknowledge(origin, req_id, add.ack);
            }
            Some(_) => Some(Refusal::subscription_exists()),
            None if self.sessions[key].subscriptions.len()
                >= self.config.limits.subscriptions_per_session_max =>
            {
                Some(Refusal::request_failed().with_text("Too many subscriptions"))
            }
            None => None,
        };
        if let Some(refusal) = refusal {
            return self.refuse(origin, Some(Verb::Control), &refusal.for_request(req_id));
        }
        let session = &mut self.sessions[key];
        let question = Question::Subscribe {
            session: session.id.clone(),
            sub_id: add.sub_id,
            adapter_set: session.adapter_set,
            user: session.user.clone(),
            data_adapter: asked.data_adapter.clone(),
            group: asked.group.clone(),
            range: table.range,
            schema: asked.schema.clone(),
            selector: asked.selector.clone(),
            mode: asked.mode,
        };
        let sub = self.subscriptions.insert(Subscription {
            session: key,
            sub_id: add.sub_id,
            mode: add.mode,
            asked,
            snapshot: match add.mode {
                Mode::Raw => Snapshot::No,
                _ => add.snapshot,
            },
            buffer_size: add.buffer_size,
            unfiltered: add.frequency == Frequency::Unfiltered,
            frequency: frequency_hz(add.frequency).filter(|_| add.mode != Mode::Raw),
            items: Vec::new(),
            active: false,
            delete_on_active: false,
            deferred: Vec::new(),
            table,
            held: None,
            statistics: false,
            of_status: false,
        });
        let at = session
            .subscriptions
            .partition_point(|(id, _)| *id < add.sub_id);
        session.subscriptions.insert(at, (add.sub_id, sub));
        self.ask(
            Waiting::Subscribing(Subscribing {
                sub,
                origin,
                req_id: req_id.into(),
                ack: add.ack,
            }),
            question,
            now,
        );
    }

    /// The metadata adapter has decided about an `add`.
    pub(super) fn subscribed(
        &mut self,
        subscribing: Subscribing,
        result: Result<Granted, Refusal>,
        now: Instant,
    ) {
        let Subscribing {
            sub,
            origin,
            req_id,
            ack,
        } = subscribing;
        let claim = match &result {
            Ok(Granted::Subscription { claim, .. }) => *claim,
            _ => None,
        };
        let Some(subscription) = self.subscriptions.get_mut(sub) else {
            self.settle(claim);
            return self.answer_orphan(origin, &req_id); // its session has ended
        };
        let deferred = std::mem::take(&mut subscription.deferred);
        let adapter_agreed = result.is_ok();
        let result = match result {
            Ok(Granted::Subscription {
                data_adapter,
                mut items,
                fields,
                statistics,
                ..
            }) => {
                subscription.of_status = is_status(data_adapter);
                let checked = self
                    .find_selector(sub, &mut items)
                    .and_then(|()| self.check_granted(sub, data_adapter, &items, &fields));
                checked.map(|()| Held {
                    data_adapter,
                    items,
                    fields,
                    statistics,
                    claim,
                })
            }
            Ok(_) => Err(Refusal::request_failed()),
            Err(refusal) => Err(refusal),
        };
        let granted = match result {
            Ok(granted) => granted,
            Err(refusal) => {
                self.settle(claim);
                let subscription = self.subscriptions.remove(sub).expect("checked above");
                if adapter_agreed && !subscription.of_status {
                    self.note_unsubscribed(
                        subscription.session,
                        subscription.sub_id,
                        Box::default(),
                    );
                }
                self.forget(subscription.session, subscription.sub_id);
                self.combined(subscription.session, Err(refusal.clone()), now);
                self.refuse(origin, Some(Verb::Control), &refusal.for_request(&*req_id));
                return self.undefer(deferred, now);
            }
        };
        self.acknowledge(origin, &req_id, ack);
        let subscription = &mut self.subscriptions[sub];
        let session = subscription.session;
        if subscription.table.silent && !subscription.delete_on_active {
            subscription.held = Some(Box::new(granted));
        } else {
            self.activate(sub, granted);
        }
        self.undefer(deferred, now);
        self.combined(session, Ok(()), now);
    }

    /// Lets ingest know that a granted subscription has demanded all that it will.
    pub(super) fn settle(&mut self, claim: Option<Claim>) {
        let settled = claim.map(|claim| Effect::Demand(Demand::Settled { claim }));
        self.effects.extend(settled);
    }

    /// Begins to send a subscription's items.
    pub(super) fn activate(&mut self, sub: SubKey, granted: Held) {
        let Held {
            data_adapter,
            mut items,
            fields,
            statistics,
            claim,
        } = granted;
        for item in &mut items {
            let configured = self.config.trade_safe.of(data_adapter, &item.name);
            item.trade_safe = configured.and(&item.trade_safe);
        }
        self.counters.count(Counter::SubscriptionsOpened);
        let subscription = &mut self.subscriptions[sub];
        let first = subscription.table.first();
        let (session, sub_id, mode) =
            (subscription.session, subscription.sub_id, subscription.mode);
        let deleted = subscription.delete_on_active;
        subscription.active = true;
        subscription.statistics = statistics;
        let counts = statistics || self.config.status_interval.is_some() && !subscription.of_status;

        let entry = &mut self.sessions[session];
        let (items_count, fields_count) = (count(items.len()), count(fields.len()));
        let position = |name: &str| fields.iter().position(|field| **field == *name);
        match (position(KEY), position(COMMAND)) {
            (Some(key), Some(command)) if mode == Mode::Command => notify::subcmd(
                &mut entry.lines,
                sub_id,
                items_count,
                fields_count,
                count(key + 1),
                count(command + 1),
            ),
            _ => notify::subok(&mut entry.lines, sub_id, items_count, fields_count),
        }
        let dialect = entry.version.dialect();
        let schema = self.intern(fields);
        for (index, granted) in items.iter().enumerate() {
            let status = is_status(data_adapter)
                .then(|| StatusItem::parse(&granted.name))
                .flatten();
            let own_name = status.map(|_| local_name(&self.sessions[session].id, &granted.name));
            let name = ItemNameRef {
                adapter: data_adapter,
                name: own_name.as_ref().unwrap_or(&granted.name),
            };
            let limits = &*self.config.canary.bounds(&self.config.limits);
            let (item, demand) = self.items.open(name, mode, granted, limits);
            self.effects.extend(demand.map(Effect::Demand));
            let local = self.items.get_mut(item);
            let view = local.open_view(&schema, dialect, mode == Mode::Raw);
            let subscription = &self.subscriptions[sub];
            let safe = match granted.trade_safe {
                _ if !granted.trade_safe.shows_in(&schema) => Safe::Nothing,
                _ if self.config.canary.has(Bug::Trade) => Safe::Nothing,
                TradeSafe::Everything => Safe::Everything,
                _ => Safe::Something,
            };
            let unlimited = mode == Mode::Raw || safe == Safe::Everything;
            let frequency_max = granted.frequency_max.filter(|_| !unlimited);
            let wanted = subscription.frequency.filter(|_| !unlimited);
            let highest = self.config.frequency_highest();
            let interval = interval(capped(lower(wanted, frequency_max), highest));
            let wants_snapshot = subscription.snapshot != Snapshot::No;
            let terms = Terms {
                buffer: subscription.buffer(granted, safe, interval, limits, local.taken()),
                snapshot_length: subscription.snapshot_length(granted, limits),
                interval,
                frequency_max,
                sieve: granted
                    .selector
                    .clone()
                    .map(|one| Box::new(Sieve::new(one))),
                counted: counts.then(|| Box::new(Tally::new(wants_snapshot))),
            };
            let mut sub_item = SubItem::new(
                session,
                (sub_id, first + count(index)),
                (item, view),
                (mode == Mode::Raw, safe),
                wants_snapshot,
                terms,
                count(local.listeners.len()),
            );
            if sub_item.awaits_snapshot && (local.row.is_some() || local.complete) {
                sub_item.owe_snapshot(local);
                sub_item.owed = true;
            }
            let owed = sub_item.owed;
            let key = self.sub_items.insert(sub_item);
            self.items.get_mut(item).listeners.push(key);
            self.subscriptions[sub].items.push(key);
            if owed {
                self.sessions[session].owed.push_back(key);
            }
            if let Some(what) = status {
                self.show_status(session, item, what);
            }
        }
        self.settle(claim);
        self.say_conf(sub);
        if deleted {
            self.unsubscribe(session, sub_id, sub);
        }
    }

    /// Finds what the selector means that was asked for, where the metadata adapter has not said so.
    fn find_selector(&self, sub: SubKey, items: &mut [GrantedItem]) -> Result<(), Refusal> {
        let subscription = &self.subscriptions[sub];
        let Some(name) = &subscription.asked.selector else {
            return Ok(());
        };
        let set = self.sessions[subscription.session].adapter_set;
        for item in items {
            let configured = || self.config.selectors.of(set, name).cloned();
            let selector = item.selector.take().or_else(configured);
            let selector = selector.ok_or_else(Refusal::bad_selector)?;
            // Of rows that come and go by other values no client could know which it has.
            if subscription.mode == Mode::Command && !selector.tests_keys_only() {
                return Err(Refusal::bad_selector().with_text(COMMAND_SELECTOR));
            }
            item.selector = Some(selector);
        }
        Ok(())
    }

    /// Whether what the metadata adapter grants can be served as it was asked for.
    fn check_granted(
        &self,
        sub: SubKey,
        data_adapter: DataAdapterId,
        items: &[GrantedItem],
        fields: &[Box<str>],
    ) -> Result<(), Refusal> {
        let subscription = &self.subscriptions[sub];
        let mode = subscription.mode;
        if items.len() > self.config.limits.items_per_subscription_max {
            return Err(Refusal::bad_group().with_text("Too many items"));
        }
        if self.sub_items.len() + items.len() > self.config.limits.subscribed_items_max {
            let text = Reason::LOAD_LIMIT_REACHED.text;
            return Err(Refusal::request_failed().with_text(text));
        }
        if subscription.of_status {
            let known = self.status_items(subscription.session);
            if known + items.len() > self.config.limits.status_items_per_session_max {
                return Err(Refusal::bad_group().with_text("Too many items"));
            }
        }
        if mode == Mode::Command {
            let has = |name: &str| fields.iter().any(|field| **field == *name);
            if !has(KEY) {
                return Err(Refusal::key_field_missing());
            }
            if !has(COMMAND) {
                return Err(Refusal::command_field_missing());
            }
        }
        // RAW is what it is whatever is asked for.
        if subscription.unfiltered && mode != Mode::Raw {
            if items.iter().any(|item| item.frequency_max.is_some()) {
                return Err(Refusal::unfiltered_but_limited());
            }
            let prefiltered = matches!(mode, Mode::Merge | Mode::Distinct)
                && items.iter().any(|item| item.source_frequency_max.is_some());
            if prefiltered {
                return Err(Refusal::unfiltered_but_prefiltered());
            }
        }
        let free = |item: &GrantedItem| {
            let name = ItemNameRef {
                adapter: data_adapter,
                name: &item.name,
            };
            let elsewhere = item.looked_at.is_none_or(|known| known == mode);
            (elsewhere || mode == Mode::Raw) && self.items.check_mode(name, mode).is_ok()
        };
        match items.iter().all(free) {
            true => Ok(()),
            false => Err(Refusal::mode_not_allowed()),
        }
    }

    /// `delete`. One that overtakes its `add`'s answer is carried out behind it.
    pub(super) fn delete(
        &mut self,
        origin: Origin,
        key: SessionKey,
        req_id: &str,
        sub_id: u32,
        ack: bool,
    ) -> Result<(), Refusal> {
        let sub = self
            .subscription(key, sub_id)
            .ok_or_else(Refusal::subscription_not_found)?;
        self.acknowledge(origin, req_id, ack);
        if self.subscriptions[sub].is_granted() {
            self.unsubscribe(key, sub_id, sub);
        } else {
            self.subscriptions[sub].delete_on_active = true;
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, key: SessionKey, sub_id: u32, sub: SubKey) {
        let told = self
            .subscriptions
            .get(sub)
            .is_some_and(|sub| !sub.of_status);
        if told {
            let statistics = self.statistics(sub);
            self.note_unsubscribed(key, sub_id, statistics);
        }
        self.forget(key, sub_id);
        self.remove_subscription(sub);
        let session = &mut self.sessions[key];
        notify::unsub(&mut session.lines, sub_id);
        self.wake(key);
    }

    fn forget(&mut self, key: SessionKey, sub_id: u32) {
        self.sessions[key]
            .subscriptions
            .retain(|(id, _)| *id != sub_id);
    }

    /// Takes a subscription out of all tables but its session's. Updates that were owed are dropped.
    pub(super) fn remove_subscription(&mut self, sub: SubKey) {
        let Some(subscription) = self.subscriptions.remove(sub) else {
            return;
        };
        if subscription.active {
            self.counters.count(Counter::SubscriptionsClosed);
        }
        self.refuse_deferred(subscription.deferred);
        self.settle(subscription.held.and_then(|held| held.claim));
        for key in subscription.items {
            let Some(sub_item) = self.sub_items.remove(key) else {
                continue;
            };
            let item = self.items.get_mut(sub_item.item);
            item.close_view(sub_item.view);
            let at = sub_item.listener_at();
            item.listeners.swap_remove(at as usize);
            if let Some(moved) = item.listeners.get(at as usize) {
                self.sub_items[*moved].set_listener_at(at);
            }
            if sub_item.owed
                && !sub_item.waits_for_due
                && let Some(session) = self.sessions.get_mut(sub_item.session)
            {
                session.forget_owed(&self.sub_items);
            }
            self.effects.extend(
                self.items
                    .close_if_unused(sub_item.item)
                    .map(Effect::Demand),
            );
        }
    }

    /// Changes how often the items of a subscription may be sent. What waits for the old pace is looked at anew.
    pub(super) fn set_frequency(&mut self, sub: SubKey, hz: Option<f64>, now: Instant) {
        let subscription = &mut self.subscriptions[sub];
        subscription.frequency = hz;
        let session = subscription.session;
        let highest = self.config.frequency_highest();
        for &key in &subscription.items {
            let sub_item = &mut self.sub_items[key];
            let wanted = granted(sub_item, hz, highest);
            sub_item.set_interval(interval(wanted), now);
            if sub_item.waits_for_due {
                sub_item.waits_for_due = false;
                self.sessions[session].owed.push_back(key);
            }
        }
    }

    /// The highest frequency granted to any item of a subscription.
    pub(super) fn granted_frequency(&self, sub: SubKey) -> Option<f64> {
        let subscription = &self.subscriptions[sub];
        let (wanted, highest) = (subscription.frequency, self.config.frequency_highest());
        let limit = |key: &SubItemKey| granted(&self.sub_items[*key], wanted, highest);
        let granted = subscription
            .items
            .iter()
            .map(limit)
            .reduce(|a, b| Some(a?.max(b?)));
        granted.unwrap_or(capped(wanted, highest))
    }

    /// `CONF`: the frequency granted, and whether events are filtered.
    pub(super) fn say_conf(&mut self, sub: SubKey) {
        let granted = self.granted_frequency(sub);
        let subscription = &self.subscriptions[sub];
        let key = subscription.session;
        notify::conf(
            &mut self.sessions[key].lines,
            subscription.sub_id,
            granted,
            subscription.is_unfiltered(),
        );
        self.wake(key);
    }

    /// An item may be sent again as far as its frequency goes.
    pub(super) fn on_due(&mut self, key: SubItemKey, version: u32) {
        let Some(sub_item) = self.sub_items.get_mut(key) else {
            return;
        };
        if !sub_item.is_due(version) {
            return;
        }
        sub_item.waits_for_due = false;
        let session = sub_item.session;
        self.sessions[session].owed.push_back(key);
        self.wake(session);
    }

    /// The shared copy of a field list.
    fn intern(&mut self, fields: Vec<Box<str>>) -> Schema {
        let fields: Schema = fields.into();
        if let Some(known) = self.schemas.get(&fields) {
            return known.clone();
        }
        if self.schemas.len() >= self.schemas.capacity() {
            // Before the table grows, those go that nobody uses: the table is bounded by the live subscriptions.
            self.schemas
                .retain(|schema| std::rc::Rc::strong_count(schema) > 1);
        }
        self.schemas.insert(fields.clone());
        fields
    }
}

/// What is told to who would select rows by anything else.
const COMMAND_SELECTOR: &str = "In COMMAND mode a selector can check keys only";

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("items and fields are bounded")
}
