//! Which requests a shard's question takes, and what their replies mean.
//!
//! | Question | Requests |
//! |---|---|
//! | a session | `NUS`, then `NNS`; again `NNS` when the session that was in its way is closed |
//! | a subscription | `GIS` and `GSC` side by side, then `GIT` and `GUI` side by side, then `NNT` if wanted |
//! | a message | `NUM` |
//! | the end of a subscription | `NTC`, if the adapter was told of it |
//! | the end of a session | `NTC` for each subscription left, then `NSC` |
//!
//! What the adapter may say no with, and what clients are told, is at the end of the file.

use super::metadata::{Desk, Failure, Replied};
use super::sessions::{Session, Told};
use super::trouble::Trouble;
use engine::ari::exception::{Exception, ForClient, Kind};
use engine::ari::metadata::{ItemData, Reply, Request, Table};
use engine::ari::{Mode, Modes};
use engine::ids::ShardId;
use engine::metadata::client::Certificate;
use engine::metadata::{Client, DEFAULT_NAME, Granted, GrantedItem, Order, Question, Word, select};
use engine::tlcp::cause::{Reason, Refusal};
use engine::tlcp::cid;
use engine::tlcp::request::Mode as TlcpMode;
use smol::channel::bounded;
use std::rc::Rc;
use std::time::Duration;

/// How often a session that is in the way of a new one may be closed: one would do, unless the adapter names another
/// one each time. (guess)
const CONFLICTS_MAX: usize = 3;
/// Items whose answers to `GIT` are kept. They are small; a server with more items asks again. (guess)
const ITEM_DATA_MAX: usize = 200_000;

/// Finds the answer to a question.
pub(super) async fn answer(
    desk: &Rc<Desk>,
    shard: ShardId,
    question: &Question,
) -> Result<Granted, Refusal> {
    match question {
        Question::OpenSession {
            session,
            user,
            password,
            client,
            ..
        } => {
            desk.state.borrow_mut().sessions.open(session, shard);
            let opening = Opening {
                session,
                user: user.as_deref(),
                password: password.as_deref(),
                client,
            };
            let opened = opening.run(desk).await;
            opened.map_err(|failure| refuse_session(desk, failure))
        }
        Question::Subscribe {
            session,
            sub_id,
            user,
            data_adapter,
            group,
            range,
            schema,
            selector,
            mode,
            ..
        } => {
            let entered = enter(desk, session);
            if !entered {
                return Err(Refusal::session_not_found());
            }
            let subscribing = Subscribing {
                session,
                sub_id: *sub_id,
                user: user.as_deref(),
                data_adapter: data_adapter.as_deref().unwrap_or(DEFAULT_NAME),
                group,
                range: *range,
                schema,
                selector: selector.as_deref(),
                mode: mode_of(*mode),
            };
            subscribing.run(desk).await
        }
        Question::Message {
            session,
            user,
            message,
            ..
        } => {
            if !enter(desk, session) {
                return Err(Refusal::session_not_found());
            }
            let request = Request::Message {
                user: user.as_deref(),
                session,
                message,
            };
            let response = async {
                match desk.call(request).await?.read()? {
                    Reply::Message(response) => Ok(response.map(|text| text.as_ref().into())),
                    _ => Err(Failure::Malformed),
                }
            };
            match response.await {
                Ok(response) => Ok(Granted::Message { response }),
                Err(failure) => Err(refuse_message(desk, failure)),
            }
        }
        Question::SessionClosed { .. } | Question::Unsubscribed { .. } => {
            Ok(Granted::Message { response: None })
        }
    }
}

/// A question was answered, and its shard told: what was held back until then is done.
pub(super) fn answered(desk: &Rc<Desk>, question: &Question) {
    let (Question::OpenSession { session, .. }
    | Question::Subscribe { session, .. }
    | Question::Message { session, .. }) = question
    else {
        return;
    };
    let (over, shard, held) = {
        let mut state = desk.state.borrow_mut();
        let over = state.sessions.leave(session);
        match state.sessions.get(session) {
            Some(known) if known.busy == 0 => (over, known.shard, std::mem::take(&mut known.held)),
            _ => (over, ShardId::default(), Vec::new()),
        }
    };
    for order in held {
        desk.say(shard, Word::Order(order));
    }
    if let Some(over) = over {
        tell_end(desk, session.clone(), over);
    }
}

/// Something is over.
pub(super) fn note(desk: &Rc<Desk>, question: Question) {
    match question {
        Question::SessionClosed { session } => {
            let over = desk.state.borrow_mut().sessions.close(&session);
            if let Some(over) = over {
                tell_end(desk, session, over);
            }
        }
        Question::Unsubscribed {
            session, sub_id, ..
        } => {
            let table = {
                let mut state = desk.state.borrow_mut();
                let Some(known) = state.sessions.get(&session) else {
                    return;
                };
                match known.tables.remove(&sub_id) {
                    Some(table) => {
                        known.busy += 1; // the session's end is told after this one
                        table
                    }
                    None => {
                        // The adapter may be asked about it just now; the list is short, since questions are few.
                        if known.busy > 0 && known.wants_tables {
                            known.unwanted.push(sub_id);
                        }
                        return;
                    }
                }
            };
            let desk_of_task = Rc::clone(desk);
            desk.host.spawn(async move {
                let desk = desk_of_task;
                tell_table_end(&desk, &session, sub_id, &table).await;
                let over = desk.state.borrow_mut().sessions.leave(&session);
                if let Some(over) = over {
                    tell_end(&desk, session, over);
                }
            });
        }
        _ => {}
    }
}

/// A question about a session begins; `false` if the session is over.
fn enter(desk: &Desk, session: &str) -> bool {
    let mut state = desk.state.borrow_mut();
    match state.sessions.get(session) {
        Some(known) => {
            known.busy += 1;
            true
        }
        None => false,
    }
}

/// Tells the end of a session that is already forgotten here.
fn tell_end(desk: &Rc<Desk>, id: Box<str>, mut session: Session) {
    let desk_of_task = Rc::clone(desk);
    desk.host.spawn(async move {
        let desk = desk_of_task;
        if session.known {
            for (sub_id, table) in std::mem::take(&mut session.tables) {
                tell_table_end(&desk, &id, sub_id, &table).await;
            }
            let told = desk.call(Request::SessionClosed { session: &id }).await;
            let told = told.and_then(|reply| reply.read().map(drop));
            note_failure(&desk, "NSC", told);
        }
        for waiting in session.on_end {
            let _ = waiting.try_send(());
        }
    });
}

async fn tell_table_end(desk: &Desk, session: &str, sub_id: u32, table: &Told) {
    let request = Request::TableClosed {
        session,
        table: table.table(sub_id),
        // Not counted: adapters that want them are told that there are none.
        statistics: &[],
    };
    let told = desk.call(request).await;
    let told = told.and_then(|reply| reply.read().map(drop));
    note_failure(desk, "NTC", told);
}

fn note_failure(desk: &Desk, method: &str, told: Result<(), Failure>) {
    if let Err(Failure::Exception(exception)) = told {
        let what = format!("{method}: {}", exception.message);
        desk.state
            .borrow_mut()
            .troubles
            .note(Trouble::Failed, &what);
    }
}

/// A session on its way.
struct Opening<'q> {
    session: &'q str,
    user: Option<&'q str>,
    password: Option<&'q str>,
    client: &'q Client,
}

impl Opening<'_> {
    async fn run(&self, desk: &Rc<Desk>) -> Result<Granted, Failure> {
        let result = self.ask(desk).await;
        if result.is_err() {
            desk.state.borrow_mut().sessions.remove(self.session);
        }
        result
    }

    async fn ask(&self, desk: &Rc<Desk>) -> Result<Granted, Failure> {
        // One request makes one session, so that the session's id can name both.
        let mut headers: Vec<_> = self.client.headers.iter().collect();
        headers.push(("REQUEST_ID", self.session));
        let principal = match &self.client.certificate {
            Certificate::NotAsked => None,
            Certificate::Missing => Some(None),
            Certificate::Principal(name) => Some(Some(&**name)),
        };
        let user = desk.call(Request::User {
            user: self.user,
            password: self.password,
            principal,
            headers: &headers,
        });
        let user = user.await?;
        let Reply::User {
            bandwidth_kbps_max,
            wants_tables,
        } = user.read()?
        else {
            return Err(Failure::Malformed);
        };
        let mut conflicts = 0;
        let time_to_live_s = loop {
            match self.open(desk).await {
                Err(Failure::Exception(Exception {
                    kind: Kind::ConflictingSession { client, session },
                    message,
                })) => {
                    conflicts += 1;
                    let other = session.filter(|_| conflicts <= CONFLICTS_MAX);
                    let closed = match &other {
                        Some(other) => close_other(desk, other).await,
                        None => false,
                    };
                    if !closed {
                        let kind = Kind::Credits(client);
                        return Err(Failure::Exception(Exception { kind, message }));
                    }
                }
                other => break other?,
            }
        };
        if let Some(known) = desk.state.borrow_mut().sessions.get(self.session) {
            known.wants_tables = wants_tables;
            known.known = true;
        }
        Ok(Granted::Session {
            adapter_set: desk.set.id,
            session: None,
            bandwidth_kbps_max,
            time_to_live: time_to_live_s.map(Duration::from_secs),
            notices: true,
        })
    }

    async fn open(&self, desk: &Desk) -> Result<Option<u64>, Failure> {
        let client = self.client;
        let port = (client.port > 0).then(|| client.port.to_string());
        let cid = client.cid.as_deref();
        let (library, version) = match cid.and_then(cid::library) {
            Some((library, version)) => (Some(library), version),
            None => (cid, None),
        };
        let context = [
            ("REMOTE_IP", Some(&*client.ip)),
            ("REMOTE_PORT", port.as_deref()),
            ("USER_AGENT", client.headers.get("user-agent")),
            ("FORWARDING_INFO", client.headers.get("x-forwarded-for")),
            ("LOCAL_SERVER", client.listener.as_deref()),
            ("CLIENT_TYPE", library),
            ("CLIENT_VERSION", version),
            ("REQUEST_ID", Some(self.session)),
        ];
        let request = Request::NewSession {
            user: self.user,
            session: self.session,
            context: &context,
        };
        match desk.call(request).await?.read()? {
            Reply::Session { time_to_live_s } => Ok(time_to_live_s),
            _ => Err(Failure::Malformed),
        }
    }
}

/// Closes a session that is in the way of another, and waits until the adapter has been told.
async fn close_other(desk: &Desk, session: &str) -> bool {
    let ended = {
        let mut state = desk.state.borrow_mut();
        let Some(known) = state.sessions.get(session) else {
            return false;
        };
        let (sender, ended) = bounded(1);
        known.on_end.push(sender);
        ended
    };
    let cause = Reason::REPLACED_BY_NEWER.into();
    let session = session.into();
    super::metadata::order(desk, Order::EndSession { session, cause });
    let ended = async { ended.recv().await.is_ok() };
    let late = async {
        desk.host.sleep(desk.plan.timeout).await;
        false
    };
    smol::future::or(ended, late).await
}

/// A subscription on its way.
struct Subscribing<'q> {
    session: &'q str,
    sub_id: u32,
    user: Option<&'q str>,
    data_adapter: &'q str,
    group: &'q str,
    range: Option<(u32, u32)>,
    schema: &'q str,
    selector: Option<&'q str>,
    mode: Mode,
}

impl Subscribing<'_> {
    async fn run(&self, desk: &Rc<Desk>) -> Result<Granted, Refusal> {
        let known = desk
            .set
            .data
            .iter()
            .find(|(name, _)| **name == *self.data_adapter);
        let (_, data_adapter) = *known.ok_or_else(Refusal::data_adapter_unknown)?;
        let refuse = |failure| refuse_subscription(desk, failure);
        let (items, fields) = self.names(desk).await.map_err(refuse)?;
        let items = select(items, self.range)?;
        if fields.is_empty() {
            return Err(Refusal::bad_schema());
        }
        let granted = match items.is_empty() {
            true => Vec::new(),
            false => self.rules(desk, &items).await.map_err(refuse)?,
        };
        let allowed = granted.iter().all(|(_, modes)| modes.contains(self.mode));
        if !allowed {
            return Err(Refusal::mode_not_allowed());
        }
        let wants_tables = match desk.state.borrow_mut().sessions.get(self.session) {
            Some(known) => known.wants_tables,
            None => return Err(Refusal::session_not_found()),
        };
        if wants_tables {
            self.announce(desk, &items).await.map_err(refuse)?;
        }
        Ok(Granted::Subscription {
            data_adapter,
            items: granted.into_iter().map(|(item, _)| item).collect(),
            fields,
            statistics: false,
        })
    }

    /// What group and schema stand for.
    async fn names(&self, desk: &Desk) -> Result<(Vec<Box<str>>, Vec<Box<str>>), Failure> {
        let items = desk.call(Request::Items {
            user: self.user,
            group: self.group,
            session: self.session,
        });
        let fields = desk.call(Request::Schema {
            user: self.user,
            group: self.group,
            schema: self.schema,
            session: self.session,
        });
        let (items, fields) = smol::future::zip(items, fields).await;
        Ok((names(&items?)?, names(&fields?)?))
    }

    /// What the user may have of the items, and in which modes.
    async fn rules(
        &self,
        desk: &Desk,
        items: &[Box<str>],
    ) -> Result<Vec<(GrantedItem, Modes)>, Failure> {
        let unknown: Vec<Box<str>> = {
            let state = desk.state.borrow();
            let unknown = items
                .iter()
                .filter(|item| !state.item_data.contains_key(*item));
            unknown.cloned().collect()
        };
        let general = async {
            match unknown.is_empty() {
                true => Ok(Vec::new()),
                false => {
                    let reply = desk.call(Request::ItemData { items: &unknown }).await?;
                    item_data(&reply, unknown.len())
                }
            }
        };
        let user = self.user;
        let personal = async {
            let reply = desk.call(Request::UserItemData { user, items }).await?;
            item_data(&reply, items.len())
        };
        let (general, personal) = smol::future::zip(general, personal).await;
        let (general, personal) = (general?, personal?);
        let mut state = desk.state.borrow_mut();
        if state.item_data.len() + unknown.len() > ITEM_DATA_MAX {
            state.item_data.clear();
        }
        state.item_data.extend(unknown.into_iter().zip(general));
        let rules = items.iter().zip(personal).map(|(name, personal)| {
            let general = state
                .item_data
                .get(name)
                .copied()
                .ok_or(Failure::Malformed)?;
            let positive = |value: f64| (value > 0.0 && value.is_finite()).then_some(value);
            let item = GrantedItem {
                name: name.clone(),
                frequency_max: positive(personal.frequency),
                buffer_size_max: match personal.length {
                    0 => None,
                    length => Some(u32::try_from(length).unwrap_or(u32::MAX)),
                },
                source_frequency_max: positive(general.frequency),
                snapshot_length: u32::try_from(general.length).unwrap_or(u32::MAX),
                ..GrantedItem::default()
            };
            Ok((item, general.modes.and(personal.modes)))
        });
        rules.collect()
    }

    /// Tells the adapter of the subscription, which it may refuse.
    async fn announce(&self, desk: &Rc<Desk>, items: &[Box<str>]) -> Result<(), Failure> {
        let mut told = Told {
            mode: self.mode,
            group: self.group.into(),
            schema: self.schema.into(),
            data_adapter: self.data_adapter.into(),
            selector: self.selector.map(Into::into),
            items: items.to_vec(),
            can_unsubscribe: false,
        };
        let reply = desk.call(Request::NewTable {
            user: self.user,
            session: self.session,
            table: told.table(self.sub_id),
        });
        let reply = reply.await?;
        let Reply::Table {
            can_unsubscribe, ..
        } = reply.read()?
        else {
            return Err(Failure::Malformed);
        };
        told.can_unsubscribe = can_unsubscribe;
        let unwanted = {
            let mut state = desk.state.borrow_mut();
            let Some(known) = state.sessions.get(self.session) else {
                return Ok(());
            };
            known.tables.insert(self.sub_id, told);
            let at = known.unwanted.iter().position(|id| *id == self.sub_id);
            at.map(|at| known.unwanted.swap_remove(at)).is_some()
        };
        if unwanted {
            let (session, sub_id) = (self.session.into(), self.sub_id);
            let statistics = Box::default();
            note(
                desk,
                Question::Unsubscribed {
                    session,
                    sub_id,
                    statistics,
                },
            );
        }
        Ok(())
    }
}

impl Told {
    fn table(&self, sub_id: u32) -> Table<'_> {
        Table {
            window: i64::from(sub_id),
            mode: self.mode,
            group: &self.group,
            data_adapter: &self.data_adapter,
            schema: &self.schema,
            range: (1, self.items.len()),
            selector: self.selector.as_deref(),
            items: &self.items,
        }
    }
}

fn names(reply: &Replied) -> Result<Vec<Box<str>>, Failure> {
    match reply.read()? {
        Reply::Names(names) => Ok(names.iter().map(|name| (**name).into()).collect()),
        _ => Err(Failure::Malformed),
    }
}

/// One for each item that was asked about.
fn item_data(reply: &Replied, count: usize) -> Result<Vec<ItemData>, Failure> {
    match reply.read()? {
        Reply::Items(items) if items.len() == count => Ok(items),
        _ => Err(Failure::Malformed),
    }
}

fn mode_of(mode: TlcpMode) -> Mode {
    match mode {
        TlcpMode::Raw => Mode::Raw,
        TlcpMode::Merge => Mode::Merge,
        TlcpMode::Distinct => Mode::Distinct,
        TlcpMode::Command => Mode::Command,
    }
}

// What clients are told. Messages of exceptions are for the log: they may say what is nobody's business.

fn refuse_session(desk: &Desk, failure: Failure) -> Refusal {
    match failure {
        Failure::Away | Failure::Lost => match &desk.plan.unavailable {
            Some((code, text)) => Refusal::by_adapter(*code, text.clone()),
            None => Refusal::authentication_unavailable(),
        },
        Failure::Late => Refusal::authentication_unavailable(),
        Failure::Malformed => failed(desk, "a malformed reply", Refusal::adapter_failed()),
        Failure::Exception(exception) => match exception.kind {
            Kind::Access => Refusal::authentication_failed(),
            Kind::ResourceUnavailable => Refusal::authentication_unavailable(),
            Kind::Credits(client) | Kind::ConflictingSession { client, .. } => told(client),
            _ => failed(desk, &exception.message, Refusal::adapter_failed()),
        },
    }
}

fn refuse_subscription(desk: &Desk, failure: Failure) -> Refusal {
    match failure {
        Failure::Away | Failure::Lost => {
            Refusal::adapter_failed().with_text("The Metadata Adapter is not connected")
        }
        Failure::Late => {
            Refusal::adapter_failed().with_text("The Metadata Adapter does not answer")
        }
        Failure::Malformed => failed(desk, "a malformed reply", Refusal::adapter_failed()),
        Failure::Exception(exception) => match exception.kind {
            Kind::Items => Refusal::bad_group(),
            Kind::Schema => Refusal::bad_schema(),
            Kind::Credits(client) => told(client),
            _ => failed(desk, &exception.message, Refusal::adapter_failed()),
        },
    }
}

fn refuse_message(desk: &Desk, failure: Failure) -> Refusal {
    match failure {
        Failure::Away | Failure::Lost => {
            Refusal::message_failed().with_text("The Metadata Adapter is not connected")
        }
        Failure::Late => {
            Refusal::message_adapter_failed().with_text("The Metadata Adapter does not answer")
        }
        Failure::Malformed => failed(desk, "a malformed reply", Refusal::message_adapter_failed()),
        Failure::Exception(exception) => match exception.kind {
            Kind::Credits(client) => told(client),
            Kind::Notification => Refusal::message_failed(),
            _ => failed(desk, &exception.message, Refusal::message_adapter_failed()),
        },
    }
}

fn told(client: ForClient) -> Refusal {
    Refusal::by_adapter(client.code, client.text)
}

fn failed(desk: &Desk, what: &str, refusal: Refusal) -> Refusal {
    desk.state
        .borrow_mut()
        .troubles
        .note(Trouble::Failed, &what);
    refusal
}
