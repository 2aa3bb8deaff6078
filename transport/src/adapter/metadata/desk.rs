//! The desk of a metadata adapter in this process: what shards ask it, and who waits for what.
//!
//! It has a thread, on which nothing waits: questions come in by a ring from ingest, become tasks for the adapter's
//! threads ([`super::lanes`]), and what has come of them goes back by another ring. All bookkeeping is here, so no lock is
//! needed. Sessions and subscriptions whose end the adapter must be told are kept until then; a session's end is told after
//! all else about it.
//!
//! Bounds: the queues of the lanes; beyond them questions are refused at once. Sessions and subscriptions are bounded by the
//! shards that have them.

mod asked;
mod ends;
mod heard;

use super::calls::{Opened, Refused, Subscribed};
use super::control::{MetadataControl, Wires};
use super::lanes::Lanes;
use super::{
    Admission, Login, MetadataAdapter, MetadataError, MetadataOptions, Place, Session, Table,
};
use crate::adapter::panic_message;
use crate::adapter::remote::MetadataInbox;
use crate::adapter::remote::asks::{self, MetadataOutbox, OutboxParts, Told};
use crate::runtime::host::{self, HostKind, Waiter, WakeSource};
use engine::ids::{DataAdapterId, ShardId};
use engine::metadata::{AdapterSetId, Order, Question, Token, Word};
use engine::tlcp::request::Mode;
use std::collections::{HashMap, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What has come of a task.
pub(super) enum Heard {
    User(u64, Result<Admission, MetadataError>),
    Session(u64, Result<Opened, MetadataError>),
    Subscription(u64, Result<Subscribed, Refused>),
    Message(u64, Result<Option<String>, MetadataError>),
    /// The adapter was told of the end of a session, for which these questions wait.
    Ended(Vec<u64>),
    /// The task did not get to its end.
    Failed(u64, String),
}

/// A desk on its way to its thread.
pub(crate) struct Start {
    place: Place,
    set: AdapterSetId,
    data: Vec<(Box<str>, DataAdapterId)>,
    options: MetadataOptions,
    adapter: Arc<dyn MetadataAdapter>,
    wires: Arc<Wires>,
    outbox: OutboxParts,
    source: WakeSource,
}

/// Initialises an adapter. `data` are the names and numbers of its set's data adapters.
pub(crate) fn start(
    mut adapter: Box<dyn MetadataAdapter>,
    place: Place,
    set: AdapterSetId,
    data: Vec<(Box<str>, DataAdapterId)>,
    options: MetadataOptions,
    wake_ingest: impl Fn() + Send + 'static,
) -> Result<(MetadataInbox, Start), String> {
    let (waker, source) = host::wake_pair().map_err(|error| error.to_string())?;
    let wires = Wires::new(waker.clone());
    let (inbox, outbox) = asks::asks(waker, wake_ingest);
    let control = MetadataControl(Arc::clone(&wires));
    let init = AssertUnwindSafe(|| adapter.init(&place, control));
    match panic::catch_unwind(init) {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => {
            return Err(format!("metadata adapter {place} cannot start: {reason}"));
        }
        Err(payload) => {
            let message = panic_message(payload.as_ref());
            return Err(format!(
                "metadata adapter {place} has panicked in its init: {message}"
            ));
        }
    }
    let start = Start {
        place,
        set,
        data,
        options,
        adapter: Arc::from(adapter),
        wires,
        outbox,
        source,
    };
    Ok((inbox, start))
}

impl Start {
    /// Serves until the server stops. An error is for the server to stop.
    pub fn run(self) -> Result<(), String> {
        let name = self.place.to_string();
        let lanes = Lanes::start(&name, &self.adapter, &self.wires, &self.options)
            .map_err(|error| format!("metadata adapter {name}: {error}"))?;
        drop(self.adapter); // its threads have it
        let mut desk = Desk {
            name,
            set: self.set,
            data: self.data,
            timeout: self.options.timeout,
            lanes,
            wires: self.wires,
            outbox: self.outbox.assemble(),
            open: HashMap::new(),
            next_id: 0,
            deadlines: VecDeque::new(),
            sessions: HashMap::new(),
            failures: 0,
            lost_notices: 0,
        };
        let source = self.source;
        let serve = |host: host::Host| async move {
            let waiter = host.waiter(source).map_err(|error| error.to_string())?;
            let end = desk.serve(waiter).await;
            desk.lanes.stop(&desk.name);
            end
        };
        host::run(HostKind::Smol, "metadata", None, serve).map_err(|error| error.to_string())?
    }
}

struct Desk {
    name: String,
    set: AdapterSetId,
    data: Vec<(Box<str>, DataAdapterId)>,
    timeout: Duration,
    lanes: Lanes,
    wires: Arc<Wires>,
    outbox: MetadataOutbox,
    /// Questions by their numbers.
    open: HashMap<u64, Open>,
    next_id: u64,
    /// When they are late, in the order of asking, since all have the same time. May name questions that are answered.
    deadlines: VecDeque<(Instant, u64)>,
    sessions: HashMap<Box<str>, Known>,
    failures: u64,
    lost_notices: u64,
}

/// A question.
struct Open {
    shard: ShardId,
    token: Token,
    until: Instant,
    /// Who asked has been told that it takes too long.
    late: bool,
    stage: Stage,
}

enum Stage {
    /// The user is asked about.
    User {
        session: Box<str>,
        login: Arc<Login>,
    },
    /// The session is.
    Session {
        session: Arc<Session>,
        /// The id that the question had.
        asked: Box<str>,
        login: Arc<Login>,
        conflicts: usize,
    },
    Subscription {
        session: Box<str>,
        data_adapter: DataAdapterId,
        sub_id: u32,
        mode: Mode,
    },
    Message {
        session: Box<str>,
    },
}

/// A session that the adapter has agreed to, or is asked about.
struct Known {
    session: Arc<Session>,
    shard: ShardId,
    wants_tables: bool,
    /// The adapter has agreed.
    granted: bool,
    closed: bool,
    /// Questions about it that are open.
    busy: u32,
    /// Subscriptions that the adapter was told of.
    tables: HashMap<u32, Arc<Table>>,
    /// Subscriptions that were over before the adapter had agreed to them.
    unwanted: Vec<u32>,
    /// What the adapter wanted while a question was open.
    held: Vec<Order>,
    /// Questions that wait for its end.
    on_end: Vec<u64>,
}

impl Desk {
    async fn serve(&mut self, mut waiter: Waiter) -> Result<(), String> {
        loop {
            if let Some(reason) = self.wires.failure.get() {
                return Err(format!(
                    "metadata adapter {} has failed: {reason}",
                    self.name
                ));
            }
            if self.outbox.is_stopped() {
                return Ok(());
            }
            self.turn(Instant::now());
            if waiter.wait(self.next_wait()).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Everything that has come.
    fn turn(&mut self, now: Instant) {
        while let Some(told) = self.outbox.take() {
            match told {
                Told::Ask(shard, ask) => self.ask(shard, ask, now),
                Told::Note(Question::SessionClosed { session }) => self.closed(&session),
                Told::Note(Question::Unsubscribed {
                    session,
                    sub_id,
                    statistics,
                }) => self.unsubscribed(&session, sub_id, statistics),
                Told::Note(_) => {}
            }
        }
        while let Some(heard) = self.wires.heard.pop() {
            self.heard(heard);
        }
        while let Some(order) = self.wires.orders.pop() {
            self.order(order);
        }
        while let Some((_, id)) = self.deadlines.front().filter(|(until, _)| *until <= now) {
            self.late(*id);
            self.deadlines.pop_front();
        }
        self.outbox.flush();
    }

    fn next_wait(&self) -> Option<Duration> {
        // No wake tells that ingest has room again.
        const OWED: Duration = Duration::from_millis(1);
        let late = self.deadlines.front();
        let wait = late.map(|(until, _)| until.saturating_duration_since(Instant::now()));
        match self.outbox.owes() {
            true => Some(wait.map_or(OWED, |wait| wait.min(OWED))),
            false => wait,
        }
    }

    /// Passes on what the adapter wants, or holds it back until the shard knows of the session or subscription.
    fn order(&mut self, order: Order) {
        let (Order::EndSession { session, .. } | Order::Unsubscribe { session, .. }) = &order;
        let Some(known) = self.sessions.get_mut(session) else {
            return; // over already, or another adapter set's
        };
        let shard_knows = match &order {
            Order::EndSession { .. } => known.granted,
            Order::Unsubscribe { sub_id, .. } => known.tables.contains_key(sub_id),
        };
        if shard_knows {
            let shard = known.shard;
            self.outbox.say(shard, Word::Order(order));
        } else if known.busy > 0 && !known.held.contains(&order) {
            known.held.push(order);
        }
    }
}
