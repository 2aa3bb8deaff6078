//! The proxy of a remote metadata adapter: requests and their replies.
//!
//! Each question of a shard is a task ([`super::questions`]) that makes its requests one after the other or side by
//! side; the proxy matches replies to requests by their ids and wakes the task. Requests are of kinds, and of each kind
//! only so many wait for a reply at a time, so that slow messages do not keep anybody from opening a session. Each has
//! a timeout from the moment in which it is written. While the remote is away every request fails at once.

use super::RemoteSet;
use super::asks::{MetadataOutbox, OutboxParts, Told};
use super::closes::Closes;
use super::meet::{Door, Link};
use super::memory::Memory;
use super::questions;
use super::sessions::{Announced, Sessions};
use super::trouble::{Loss, Trouble, Troubles};
use crate::config::plan::{OnLoss, RemotePlan};
use crate::runtime::host::{Host, HostWaker, Waiter};
use engine::ari::exception::Exception;
use engine::ari::metadata::{self, FromMetadata, Reply, Request};
use engine::ari::{Dialect, Encoding, Line, read_line};
use engine::ids::ShardId;
use engine::metadata::{Answer, Ask, Order, Word};
use engine::tlcp::cause::{Cause, Reason};
use smol::channel::{Sender, bounded};
use smol::lock::Semaphore;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Requests of the remote that wait for its own agreement to a subscription. (guess: one would do)
const FORCED_MAX: usize = 100;

/// What all tasks of one metadata adapter share. No borrow lives across an await.
pub(super) struct Desk {
    pub host: Host,
    pub set: RemoteSet,
    pub plan: RemotePlan,
    pub state: RefCell<State>,
    /// By kind: how many requests more may wait for a reply.
    room: [Semaphore; 4],
    /// Wakes the proxy, to write what a task wants written.
    waker: HostWaker,
}

/// What changes.
pub(super) struct State {
    pub outbox: MetadataOutbox,
    pub sessions: Sessions,
    pub memory: Memory,
    pub closes: Closes,
    pub troubles: Troubles,
    /// How to speak with the remote; `None` while it is away.
    dialect: Option<Dialect>,
    /// Requests to be written.
    out: Vec<u8>,
    ids: Ids,
    /// By id: who waits for a reply.
    calls: HashMap<u64, Sender<String>>,
}

/// Numbers of requests, as hexadecimal text on the wire. They go on counting when a remote is replaced, so that
/// nothing of an old one fits a new one.
struct Ids(u64);

impl Ids {
    fn new() -> Self {
        // 0, 1 and 2 have a meaning of their own.
        Self(0x10)
    }

    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// Why a request found no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The remote is away.
    Away,
    /// It has gone, before it answered.
    Lost,
    /// It has not answered in time.
    Late,
    /// It has answered what makes no sense.
    Malformed,
    /// It, or its adapter, says no.
    Exception(Exception),
}

/// A reply as it came, with how to read it.
pub(super) struct Replied {
    line: String,
    encoding: Encoding,
}

impl Replied {
    /// What it says.
    pub fn read(&self) -> Result<Reply<'_>, Failure> {
        let Ok(Line::Message { method, tokens, .. }) = read_line(&self.line) else {
            return Err(Failure::Malformed);
        };
        match metadata::read(method, tokens, self.encoding) {
            Ok(Some(FromMetadata::Reply(reply))) => reply.map_err(Failure::Exception),
            _ => Err(Failure::Malformed),
        }
    }
}

impl Desk {
    /// Makes a request and waits for its reply.
    pub async fn call(&self, request: Request<'_>) -> Result<Replied, Failure> {
        let _turn = self.room[kind(&request)].acquire().await;
        let (id, encoding, reply) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let Some(dialect) = state.dialect else {
                return Err(Failure::Away);
            };
            let id = state.ids.next();
            request.write(&mut state.out, &format!("{id:x}"), dialect);
            let (sender, reply) = bounded(1);
            state.calls.insert(id, sender);
            (id, dialect.encoding, reply)
        };
        self.waker.wake();
        let answered = async { reply.recv().await.map_err(|_| Failure::Lost) };
        let late = async {
            self.host.sleep(self.plan.timeout).await;
            Err(Failure::Late)
        };
        let line = smol::future::or(answered, late).await;
        if matches!(line, Err(Failure::Late)) {
            let mut state = self.state.borrow_mut();
            state.calls.remove(&id);
            state.troubles.note(Trouble::NoReply, &request.method());
        }
        Ok(Replied {
            line: line?,
            encoding,
        })
    }

    /// Sends something to a shard.
    pub fn say(&self, shard: ShardId, word: Word) {
        self.state.borrow_mut().outbox.say(shard, word);
    }

    /// Answers a remote's request to end a subscription: whether it is entitled to it.
    pub fn answer_forced(&self, ids: &[String], entitled: bool) {
        let mut state = self.state.borrow_mut();
        for id in ids {
            metadata::answer_order(&mut state.out, id, Some(entitled));
        }
        if !ids.is_empty() {
            self.waker.wake();
        }
    }

    fn answer(self: &Rc<Self>, shard: ShardId, ask: Ask) {
        let desk = Rc::clone(self);
        self.host.spawn(async move {
            let result = questions::answer(&desk, shard, &ask.question).await;
            let token = ask.token;
            desk.say(shard, Word::Answer(Answer { token, result }));
            questions::answered(&desk, &ask.question);
        });
    }
}

/// Requests of one kind share a limit.
fn kind(request: &Request<'_>) -> usize {
    match request {
        Request::User { .. } | Request::NewSession { .. } => 0,
        Request::Message { .. } => 1,
        Request::SessionClosed { .. } | Request::TableClosed { .. } => 2,
        Request::Items { .. }
        | Request::Schema { .. }
        | Request::ItemData { .. }
        | Request::UserItemData { .. }
        | Request::NewTable { .. } => 3,
    }
}

/// Serves one remote after the other until the server stops. An error is for the server to stop.
pub(super) async fn run(
    mut door: Door,
    set: RemoteSet,
    outbox: OutboxParts,
    mut waiter: Waiter,
    waker: HostWaker,
) -> Result<(), String> {
    let adapter = door.adapter.clone();
    let host = door.host.clone();
    let plan = door.plan.clone();
    let desk = Rc::new(Desk {
        host: host.clone(),
        set,
        state: RefCell::new(State {
            outbox: outbox.assemble(),
            sessions: Sessions::default(),
            memory: Memory::new(plan.user_data_timeout, plan.clear_on_session_close),
            closes: Closes::new(plan.closes_recovery, &adapter),
            troubles: Troubles::new(&adapter),
            dialect: None,
            out: Vec::new(),
            ids: Ids::new(),
            calls: HashMap::new(),
        }),
        room: [(); 4].map(|()| Semaphore::new(plan.pending_max)),
        waker,
        plan,
    });
    loop {
        let init_id = format!("{:x}", desk.state.borrow_mut().ids.next());
        let met = async { Some(door.meet(&init_id).await) };
        let idle = async {
            without_remote(&desk, &mut waiter, None).await;
            None
        };
        match smol::future::or(met, idle).await {
            None => return Ok(()),
            Some(Err(refused)) => {
                let until = Instant::now() + door.pause_after(&refused)?;
                if !without_remote(&desk, &mut waiter, Some(until)).await {
                    return Ok(());
                }
            }
            Some(Ok(mut link)) => {
                tracing::info!(
                    adapter,
                    remote = link.who,
                    "a remote metadata adapter is there"
                );
                door.wait_for_first.clear();
                begin(&desk, link.dialect);
                let end = serve(&desk, &mut link, &mut waiter).await;
                let troubles = {
                    let mut state = desk.state.borrow_mut();
                    state.dialect = None;
                    state.out.clear();
                    state.calls.clear(); // which wakes all who wait
                    state.sessions.forget_requests();
                    state.troubles.summary()
                };
                let Some(loss) = end else {
                    link.farewell(&host, "server shutdown").await;
                    return Ok(());
                };
                tracing::warn!(
                    adapter,
                    "the remote metadata adapter is lost: {loss}{troubles}"
                );
                let reason = loss.to_string();
                if door.plan.on_loss == OnLoss::Stop {
                    link.farewell(&host, &reason).await;
                    return Err(format!("{adapter}: {reason}"));
                }
                // Whoever asks meanwhile is not kept waiting.
                let leaver = host.clone();
                host.spawn(async move { link.farewell(&leaver, &reason).await });
            }
        }
    }
}

/// A remote is there.
fn begin(desk: &Rc<Desk>, dialect: Dialect) {
    let again = {
        let mut state = desk.state.borrow_mut();
        state.dialect = Some(dialect);
        state.troubles.clear();
        if desk.plan.clear_on_new_remote {
            state.memory.forget_items();
        }
        state.closes.replay()
    };
    questions::tell_again(desk, again);
}

/// Takes what ingest has to say; `false` when the server stops.
fn take_told(desk: &Rc<Desk>) -> bool {
    loop {
        let told = {
            let mut state = desk.state.borrow_mut();
            if state.outbox.is_stopped() {
                return false;
            }
            state.outbox.flush();
            state.outbox.take()
        };
        match told {
            Some(Told::Ask(shard, ask)) => desk.answer(shard, ask),
            Some(Told::Note(question)) => questions::note(desk, question),
            None => return true,
        }
    }
}

/// How long the proxy may sleep: not long while ingest has no room for what it is owed, which no wake tells of.
fn nap(desk: &Desk, wait: Option<Duration>) -> Option<Duration> {
    const OWED: Duration = Duration::from_millis(1);
    if desk.state.borrow().outbox.owes() {
        Some(wait.map_or(OWED, |wait| wait.min(OWED)))
    } else {
        wait
    }
}

async fn without_remote(desk: &Rc<Desk>, waiter: &mut Waiter, until: Option<Instant>) -> bool {
    loop {
        if !take_told(desk) {
            return false;
        }
        let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
        if wait.is_some_and(|wait| wait.is_zero()) {
            return true;
        }
        if waiter.wait(nap(desk, wait)).await.is_err() {
            return false;
        }
    }
}

/// Serves a remote until it is gone; `None` when the server stops.
async fn serve(desk: &Rc<Desk>, link: &mut Link, waiter: &mut Waiter) -> Option<Loss> {
    loop {
        if !take_told(desk) {
            return None;
        }
        if let Err(loss) = take_lines(desk, link) {
            return Some(loss);
        }
        link.requests.out.append(&mut desk.state.borrow_mut().out);
        let now = Instant::now();
        let silence_ends = desk
            .plan
            .keepalive_timeout
            .map(|wait| link.requests.heard + wait);
        if silence_ends.is_some_and(|at| at <= now) {
            return Some(Loss::Silent);
        }
        let wait = silence_ends.map(|at| at.saturating_duration_since(now));
        // The tasks that were woken have their turn, and the other adapters.
        desk.host.yield_now().await;
        let turn = async {
            link.turn()
                .await
                .map_err(|broken| Some(Loss::Broken(broken)))
        };
        let woken = async {
            waiter
                .wait(nap(desk, wait))
                .await
                .map(drop)
                .map_err(|_| None)
        };
        if let Err(end) = smol::future::or(turn, woken).await {
            return end;
        }
    }
}

fn take_lines(desk: &Desk, link: &mut Link) -> Result<(), Loss> {
    let encoding = link.dialect.encoding;
    while let Some(line) = link.requests.next_line().map_err(Loss::Broken)? {
        let line = line.map_err(engine::ari::Malformed);
        match line.and_then(|line| take_line(desk, line, encoding)) {
            Ok(None) => {}
            Ok(Some(exception)) => return Err(Loss::Failed(exception)),
            Err(why) => {
                let mut state = desk.state.borrow_mut();
                state.troubles.note(Trouble::Malformed, &why);
            }
        }
    }
    Ok(())
}

/// Takes a line; returns the failure that it tells of the adapter as a whole.
fn take_line(
    desk: &Desk,
    line: &str,
    encoding: Encoding,
) -> Result<Option<Exception>, engine::ari::Malformed> {
    let (id, method, tokens) = match read_line(line)? {
        Line::Keepalive => return Ok(None),
        Line::Message { id, method, tokens } => (id, method, tokens),
    };
    match method {
        "FST" | "FUS" | "FAL" => match metadata::read(method, tokens, encoding)? {
            Some(FromMetadata::Failed(exception)) => return Ok(Some(exception)),
            Some(FromMetadata::Terminate { session, cause }) => {
                let cause = match cause {
                    Some((code, text)) => {
                        Cause::destroyed(Some(code), Some(&text.unwrap_or_default()))
                    }
                    None => Reason::CLOSED_BY_SERVER.into(),
                };
                end_session(desk, &session, cause);
                metadata::answer_order(&mut desk.state.borrow_mut().out, id, None);
            }
            Some(FromMetadata::Unsubscribe { session, window }) => {
                if let Some(entitled) = force_unsubscription(desk, &session, window, id) {
                    let mut state = desk.state.borrow_mut();
                    metadata::answer_order(&mut state.out, id, Some(entitled));
                }
            }
            _ => return Err(engine::ari::Malformed("a failure without an exception")),
        },
        "RAC" => {} // it introduces itself late
        _ => {
            let mut state = desk.state.borrow_mut();
            let number = u64::from_str_radix(id, 16).ok();
            match number.and_then(|id| state.calls.remove(&id)) {
                Some(call) => _ = call.try_send(line.to_owned()),
                None => state.troubles.note(Trouble::LateReply, &id),
            }
        }
    }
    Ok(None)
}

/// Ends a session of this adapter set: behind the answer that grants it, if that is still to come. One that is over
/// already, or another adapter set's, is no error.
pub(super) fn end_session(desk: &Desk, session: &str, cause: Cause) {
    let (shard, order) = {
        let mut state = desk.state.borrow_mut();
        let name = state.sessions.name(session).into();
        let Some(known) = state.sessions.get(session) else {
            return;
        };
        let order = Order::EndSession {
            session: name,
            cause,
        };
        if known.opening {
            known.held.retain(|(of, _)| of.is_some()); // once is enough
            known.held.push((None, order));
            return;
        }
        (known.shard, order)
    };
    desk.say(shard, Word::Order(order));
}

/// Whether the adapter may end this subscription, as it wants to. One that is over already may be ended. `None`: it is
/// not known yet, and the request `id` is answered later.
fn force_unsubscription(desk: &Desk, session: &str, window: i64, id: &str) -> Option<bool> {
    let Ok(sub_id) = u32::try_from(window) else {
        return Some(true);
    };
    let (shard, session) = {
        let mut state = desk.state.borrow_mut();
        let name: Box<str> = state.sessions.name(session).into();
        let Some(known) = state.sessions.get(session) else {
            return Some(true);
        };
        match known.tables.get_mut(&sub_id) {
            None => return Some(true),
            Some(Announced::Asked(pending)) => {
                if pending.forced.len() == FORCED_MAX {
                    return Some(false);
                }
                pending.forced.push(id.to_owned());
                return None;
            }
            Some(Announced::Told(table)) if !table.can_unsubscribe => return Some(false),
            Some(Announced::Told(_)) => {}
        }
        let order = Order::Unsubscribe {
            session: name.clone(),
            sub_id,
        };
        if let Some(at) = known.held.iter().position(|(of, _)| *of == Some(sub_id)) {
            known.held[at].1 = order; // its agreement is not told yet
            return Some(true);
        }
        (known.shard, name)
    };
    desk.say(shard, Word::Order(Order::Unsubscribe { session, sub_id }));
    Some(true)
}
