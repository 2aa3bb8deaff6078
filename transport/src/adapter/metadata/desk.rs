//! The desk of a metadata adapter in this process: what shards ask it, and who waits for what.
//!
//! It has a thread, on which nothing waits: questions come in by a ring from ingest, become tasks for the adapter's
//! threads ([`super::lanes`]), and what has come of them goes back by another ring. All bookkeeping is here, so no lock is
//! needed. Sessions and subscriptions whose end the adapter must be told are kept until then; a session's end is told after
//! all else about it.
//!
//! Bounds: the queues of the lanes; beyond them questions are refused at once. Sessions and subscriptions are bounded by the
//! shards that have them.

use super::answer::Kind;
use super::calls::{self, Opened, Refused, Subscribed, Subscribing};
use super::control::{MetadataControl, Wires};
use super::lanes::{Lanes, Task, Work};
use super::{
    Admission, Login, MetadataAdapter, MetadataError, MetadataOptions, Place, Session, Table,
};
use crate::adapter::panic_message;
use crate::adapter::remote::MetadataInbox;
use crate::adapter::remote::asks::{self, MetadataOutbox, OutboxParts, Told};
use crate::runtime::host::{self, HostKind, Waiter, WakeSource};
use engine::ids::{DataAdapterId, ShardId};
use engine::metadata::{
    AdapterSetId, Answer, Ask, DEFAULT_NAME, Granted, Order, Question, Statistics, Token, Word,
};
use engine::shard::session_id;
use engine::tlcp::cause::{Reason, Refusal};
use engine::tlcp::request::Mode;
use std::collections::{HashMap, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a session that is in the way of a new one may be closed: one would do, unless the adapter names another
/// one each time. (guess)
const CONFLICTS_MAX: usize = 3;

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

    fn ask(&mut self, shard: ShardId, ask: Ask, now: Instant) {
        let (token, id, until) = (ask.token, self.next_id, now + self.timeout);
        self.next_id += 1;
        let (stage, work): (_, Result<Work, Refusal>) = match ask.question {
            Question::OpenSession {
                session,
                user,
                password,
                client,
                ..
            } => {
                let login = Arc::new(Login {
                    user,
                    password,
                    client,
                });
                let work = self.notify_user(id, Arc::clone(&login));
                (Stage::User { session, login }, Ok(work))
            }
            Question::Subscribe {
                session,
                sub_id,
                data_adapter,
                group,
                range,
                schema,
                selector,
                mode,
                ..
            } => {
                let data_adapter = data_adapter.unwrap_or_else(|| DEFAULT_NAME.into());
                let known = self.data.iter().find(|(name, _)| *name == data_adapter);
                let number = known.map(|(_, number)| *number);
                let entered = self.enter(&session);
                let work = match (entered, number) {
                    (None, _) => Err(Refusal::session_not_found()),
                    (_, None) => Err(Refusal::data_adapter_unknown()),
                    (Some((session, wants_tables)), Some(_)) => {
                        let subscribing = Subscribing {
                            session,
                            sub_id,
                            data_adapter,
                            group,
                            range,
                            schema,
                            selector,
                            mode,
                            wants_tables,
                        };
                        Ok(Box::new(move |adapter: &dyn MetadataAdapter| {
                            Some(Heard::Subscription(id, subscribing.run(adapter)))
                        }) as Work)
                    }
                };
                let stage = Stage::Subscription {
                    session,
                    data_adapter: number.unwrap_or(DataAdapterId(0)),
                    sub_id,
                    mode,
                };
                (stage, work)
            }
            Question::Message {
                session, message, ..
            } => {
                let work = match self.enter(&session) {
                    None => Err(Refusal::session_not_found()),
                    Some((session, _)) => Ok(self.notify_message(id, session, message)),
                };
                (Stage::Message { session }, work)
            }
            Question::SessionClosed { .. } | Question::Unsubscribed { .. } => return,
        };
        let lane = match stage {
            Stage::User { .. } | Stage::Session { .. } => &self.lanes.users,
            Stage::Subscription { .. } => &self.lanes.subscriptions,
            Stage::Message { .. } => &self.lanes.messages,
        };
        let refusal = match work {
            Ok(work) => {
                let until = Some(until);
                (!lane.push(Task { id, until, work })).then(|| too_much(&stage))
            }
            Err(refusal) => Some(refusal),
        };
        let open = Open {
            shard,
            token,
            until,
            late: false,
            stage,
        };
        self.open.insert(id, open);
        match refusal {
            None => self.deadlines.push_back((until, id)),
            Some(refusal) => self.end(id, Err(refusal.into())),
        }
    }

    /// A question about a session begins. `None` if the session is over.
    fn enter(&mut self, session: &str) -> Option<(Arc<Session>, bool)> {
        let known = self.sessions.get_mut(session)?;
        known.busy += 1;
        Some((Arc::clone(&known.session), known.wants_tables))
    }

    fn notify_user(&self, id: u64, login: Arc<Login>) -> Work {
        let wires = Arc::clone(&self.wires);
        Box::new(move |adapter| match adapter.notify_user(&login).0 {
            Kind::Now(result) => Some(Heard::User(id, result)),
            Kind::Later(slot) => {
                slot.then(Box::new(move |result| wires.hear(Heard::User(id, result))));
                None
            }
        })
    }

    fn notify_message(&self, id: u64, session: Arc<Session>, message: Box<str>) -> Work {
        let wires = Arc::clone(&self.wires);
        Box::new(
            move |adapter| match adapter.notify_user_message(&session, &message).0 {
                Kind::Now(result) => Some(Heard::Message(id, result)),
                Kind::Later(slot) => {
                    slot.then(Box::new(move |result| {
                        wires.hear(Heard::Message(id, result))
                    }));
                    None
                }
            },
        )
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::User(id, Ok(admission)) => self.admit(id, admission),
            Heard::User(id, Err(error)) => self.end(id, Err(calls::session(error))),
            Heard::Session(id, Ok(opened)) => self.opened(id, opened),
            Heard::Session(
                id,
                Err(MetadataError::ConflictingSession {
                    session,
                    code,
                    text,
                }),
            ) => {
                if !self.close_other(id, &session) {
                    self.end(
                        id,
                        Err(calls::session(MetadataError::Credits { code, text })),
                    );
                }
            }
            Heard::Session(id, Err(error)) => self.end(id, Err(calls::session(error))),
            Heard::Subscription(id, Ok(subscribed)) => self.subscribed(id, subscribed),
            Heard::Subscription(id, Err(refused)) => self.end(id, Err(refused)),
            Heard::Message(id, Ok(response)) => {
                let response = response.map(Into::into);
                self.end(id, Ok(Granted::Message { response }));
            }
            Heard::Message(id, Err(error)) => self.end(id, Err(calls::message(error))),
            Heard::Ended(waiting) => {
                for id in waiting {
                    self.open_anew(id);
                }
            }
            Heard::Failed(id, reason) => {
                let error = MetadataError::Failed(reason);
                let refused = match self.open.get(&id).map(|open| &open.stage) {
                    Some(Stage::User { .. } | Stage::Session { .. }) => calls::session(error),
                    Some(Stage::Subscription { .. }) => Refused {
                        refusal: Refusal::adapter_failed(),
                        failure: Some(error.to_string()),
                    },
                    Some(Stage::Message { .. }) => calls::message(error),
                    None => return,
                };
                self.end(id, Err(refused));
            }
        }
    }

    /// The user is let in: now for the session.
    fn admit(&mut self, id: u64, admission: Admission) {
        let Some(open) = self.open.get_mut(&id) else {
            return; // it has taken too long
        };
        let Stage::User { session, login } = &open.stage else {
            return;
        };
        let (asked, login) = (session.clone(), Arc::clone(login));
        let session = Arc::new(Session {
            id: asked.clone(),
            user: login.user.clone(),
            rights: admission.rights,
        });
        open.stage = Stage::Session {
            session,
            asked,
            login,
            conflicts: 0,
        };
        self.open_session(id);
    }

    fn open_session(&mut self, id: u64) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let Stage::Session { session, login, .. } = &open.stage else {
            return;
        };
        let known = Known {
            session: Arc::clone(session),
            shard: open.shard,
            wants_tables: false,
            granted: false,
            closed: false,
            busy: 1,
            tables: HashMap::new(),
            unwanted: Vec::new(),
            held: Vec::new(),
            on_end: Vec::new(),
        };
        self.sessions.insert(session.id.clone(), known);
        let (session, login) = (Arc::clone(session), Arc::clone(login));
        let task = Task {
            id,
            until: Some(open.until),
            work: Box::new(move |adapter| {
                let opened = calls::open(adapter, &session, &login.client);
                Some(Heard::Session(id, opened))
            }),
        };
        if !self.lanes.sessions.push(task) {
            self.end(id, Err(Refusal::authentication_unavailable().into()));
        }
    }

    fn opened(&mut self, id: u64, opened: Opened) {
        let Some(Open {
            late,
            stage: Stage::Session { session, asked, .. },
            ..
        }) = self.open.get(&id)
        else {
            return;
        };
        if let Some(known) = self.sessions.get_mut(&session.id) {
            known.granted = true;
            known.wants_tables = opened.wants_tables;
            known.closed |= late; // its client was refused
        }
        let renamed = (*session.id != **asked).then(|| session.id.clone());
        let granted = Granted::Session {
            adapter_set: self.set,
            session: renamed,
            bandwidth_kbps_max: opened.bandwidth_kbps_max,
            time_to_live: opened.time_to_live,
            notices: true,
        };
        self.end(id, Ok(granted));
    }

    /// Closes the session that is in the way of another; `false` if it is not to be found.
    fn close_other(&mut self, id: u64, other: &str) -> bool {
        let Some(Open {
            stage: Stage::Session {
                session, conflicts, ..
            },
            ..
        }) = self.open.get_mut(&id)
        else {
            return true; // nobody waits for it
        };
        *conflicts += 1;
        if *conflicts > CONFLICTS_MAX || *session.id == *other {
            return false;
        }
        let session = session.id.clone();
        let Some(known) = self.sessions.get_mut(other) else {
            return false;
        };
        known.on_end.push(id);
        self.forget(&session);
        self.order(Order::EndSession {
            session: other.into(),
            cause: Reason::REPLACED_BY_NEWER.into(),
        });
        true
    }

    /// What was in the way of a session is gone. It is asked about under another id.
    fn open_anew(&mut self, id: u64) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.late {
            self.open.remove(&id);
            return;
        }
        let Stage::Session { session, asked, .. } = &mut open.stage else {
            return;
        };
        let mut random = [0; session_id::RANDOM_BYTES];
        let filled = getrandom::fill(&mut random).is_ok();
        match session_id::another(asked, random).filter(|_| filled) {
            Some(another) => {
                *session = Arc::new(Session {
                    id: another,
                    user: session.user.clone(),
                    rights: session.rights.clone(),
                });
                self.open_session(id);
            }
            None => self.end(id, Err(Refusal::adapter_failed().into())),
        }
    }

    fn subscribed(&mut self, id: u64, subscribed: Subscribed) {
        let Some(Open {
            late,
            stage:
                Stage::Subscription {
                    session,
                    data_adapter,
                    sub_id,
                    mode,
                },
            ..
        }) = self.open.get(&id)
        else {
            return;
        };
        let (data_adapter, sub_id, mode) = (*data_adapter, *sub_id, *mode);
        let (session, late) = (session.clone(), *late);
        let statistics = subscribed.table.is_some();
        let mut unwanted = late;
        if let (Some(known), Some(table)) = (self.sessions.get_mut(&session), subscribed.table) {
            known.tables.insert(sub_id, table);
            if let Some(at) = known.unwanted.iter().position(|id| *id == sub_id) {
                known.unwanted.swap_remove(at);
                unwanted = true;
            }
        }
        let granted = Granted::Subscription {
            data_adapter,
            items: subscribed.items,
            fields: subscribed.fields,
            statistics,
            mode,
            claim: None,
        };
        if unwanted {
            self.unsubscribed(&session, sub_id, Box::default());
        }
        self.end(id, Ok(granted));
    }

    /// A question is answered.
    fn end(&mut self, id: u64, result: Result<Granted, Refused>) {
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        let session = match &open.stage {
            Stage::User { .. } => None,
            Stage::Session { session, .. } => {
                if result.is_err() {
                    self.forget(&session.id.clone());
                }
                Some(session.id.clone())
            }
            Stage::Subscription { session, .. } | Stage::Message { session } => {
                Some(session.clone())
            }
        };
        let result = result.map_err(|refused| {
            if let Some(failure) = refused.failure {
                self.failures += 1;
                match self.failures {
                    1 => tracing::warn!(
                        adapter = self.name,
                        "a metadata adapter fails, for the first time: {failure}"
                    ),
                    _ => {
                        tracing::debug!(adapter = self.name, "a metadata adapter fails: {failure}")
                    }
                }
            }
            refused.refusal
        });
        if !open.late {
            self.say(open.shard, open.token, result);
        }
        if let Some(session) = session {
            self.leave(&session);
        }
    }

    fn say(&mut self, shard: ShardId, token: Token, result: Result<Granted, Refusal>) {
        self.outbox
            .say(shard, Word::Answer(Answer { token, result }));
    }

    /// Nobody waits for this question any longer. What comes of it is still looked after.
    fn late(&mut self, id: u64) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let refusal = match open.stage {
            Stage::User { .. } | Stage::Session { .. } => Refusal::authentication_unavailable(),
            Stage::Subscription { .. } => {
                Refusal::adapter_failed().with_text("The Metadata Adapter does not answer")
            }
            Stage::Message { .. } => {
                Refusal::message_adapter_failed().with_text("The Metadata Adapter does not answer")
            }
        };
        open.late = true;
        let (shard, token) = (open.shard, open.token);
        if matches!(open.stage, Stage::User { .. }) {
            self.open.remove(&id); // nothing was granted yet
        }
        self.say(shard, token, Err(refusal));
    }

    /// A session that the adapter has not agreed to is none.
    fn forget(&mut self, session: &str) {
        if let Some(known) = self.sessions.remove(session) {
            for id in known.on_end {
                self.open_anew(id);
            }
        }
    }

    /// A question about a session is answered: what was held back until then is done.
    fn leave(&mut self, session: &str) {
        let Some(known) = self.sessions.get_mut(session) else {
            return;
        };
        known.busy = known.busy.saturating_sub(1);
        if known.busy > 0 {
            return;
        }
        known.unwanted.clear();
        if known.closed {
            return self.tell_end(session);
        }
        let shard = known.shard;
        for order in std::mem::take(&mut known.held) {
            self.outbox.say(shard, Word::Order(order));
        }
    }

    /// A session is over.
    fn closed(&mut self, session: &str) {
        if let Some(known) = self.sessions.get_mut(session) {
            known.closed = true;
            if known.busy == 0 {
                self.tell_end(session);
            }
        }
    }

    fn tell_end(&mut self, session: &str) {
        let Some(known) = self.sessions.remove(session) else {
            return;
        };
        let Known {
            session,
            granted,
            tables,
            on_end,
            ..
        } = known;
        if !granted {
            return self.heard(Heard::Ended(on_end));
        }
        let told = self.notice(Box::new(move |adapter| {
            for table in tables.values() {
                adapter.notify_tables_close(&session, table, &[]);
            }
            adapter.notify_session_close(&session);
            (!on_end.is_empty()).then_some(Heard::Ended(on_end))
        }));
        debug_assert!(told || self.lost_notices > 0);
    }

    /// A subscription is over.
    fn unsubscribed(&mut self, session: &str, sub_id: u32, statistics: Box<[Statistics]>) {
        let Some(known) = self.sessions.get_mut(session) else {
            return;
        };
        match known.tables.remove(&sub_id) {
            Some(table) => {
                let session = Arc::clone(&known.session);
                self.notice(Box::new(move |adapter| {
                    adapter.notify_tables_close(&session, &table, &statistics);
                    None
                }));
            }
            // The adapter may be asked about it just now; the list is short, since it is cleared when nothing is open.
            None if known.busy > 0 && known.wants_tables => known.unwanted.push(sub_id),
            None => {}
        }
    }

    fn notice(&mut self, work: Work) -> bool {
        let told = self.lanes.notices.push(Task {
            id: u64::MAX,
            until: None,
            work,
        });
        if !told {
            self.lost_notices += 1;
            if self.lost_notices == 1 {
                tracing::error!(
                    adapter = self.name,
                    "a metadata adapter is too slow to be told of every session's end"
                );
            }
        }
        told
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

/// What a client is told whose question finds a full queue.
fn too_much(stage: &Stage) -> Refusal {
    let refusal = match stage {
        Stage::User { .. } | Stage::Session { .. } => Refusal::authentication_unavailable(),
        Stage::Subscription { .. } => Refusal::adapter_failed(),
        Stage::Message { .. } => Refusal::message_adapter_failed(),
    };
    refusal.with_text("The Metadata Adapter has too much to do")
}
