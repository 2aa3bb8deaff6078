//! The proxy of a remote metadata adapter: requests and their replies.
//!
//! Each question of a shard is a task ([`super::questions`]) that makes its requests one after the other or side by
//! side; the proxy matches replies to requests by their ids and wakes the task. Bounds: shards have a bounded number of
//! questions open, each request a timeout. While the remote is away every request fails at once.

use super::RemoteSet;
use super::asks::{MetadataOutbox, OutboxParts, Told};
use super::data::Ids;
use super::lines::Broken;
use super::meet::{Door, Link, Refused};
use super::questions;
use super::sessions::Sessions;
use super::trouble::{Trouble, Troubles};
use crate::config::plan::{OnLoss, RemotePlan};
use crate::runtime::host::{Host, HostWaker, Waiter};
use engine::ari::exception::Exception;
use engine::ari::metadata::{self, FromMetadata, ItemData, Reply, Request};
use engine::ari::{Dialect, Encoding, Line, read_line};
use engine::ids::ShardId;
use engine::metadata::{Answer, Ask, Order, Word};
use engine::tlcp::cause::{Cause, Reason};
use smol::channel::{Sender, bounded};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What all tasks of one metadata adapter share. No borrow lives across an await.
pub(super) struct Desk {
    pub host: Host,
    pub set: RemoteSet,
    pub plan: RemotePlan,
    pub state: RefCell<State>,
    /// Wakes the proxy, to write what a task wants written.
    waker: HostWaker,
}

/// What changes.
pub(super) struct State {
    pub outbox: MetadataOutbox,
    pub sessions: Sessions,
    /// Answers to `GIT`, which are the same for all users and never change.
    pub item_data: HashMap<Box<str>, ItemData>,
    pub troubles: Troubles,
    /// How to speak with the remote; `None` while it is away.
    dialect: Option<Dialect>,
    /// Requests to be written.
    out: Vec<u8>,
    ids: Ids,
    /// By id: who waits for a reply.
    calls: HashMap<u64, Sender<String>>,
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

/// Serves one remote after the other until the server stops. An error is for the server to stop.
pub(super) async fn run(
    door: Door,
    set: RemoteSet,
    outbox: OutboxParts,
    mut waiter: Waiter,
    waker: HostWaker,
) -> Result<(), String> {
    let adapter = door.adapter.clone();
    let host = door.host.clone();
    let desk = Rc::new(Desk {
        host: host.clone(),
        set,
        plan: door.plan.clone(),
        state: RefCell::new(State {
            outbox: outbox.assemble(),
            sessions: Sessions::default(),
            item_data: HashMap::new(),
            troubles: Troubles::new(&adapter),
            dialect: None,
            out: Vec::new(),
            ids: Ids::new(),
            calls: HashMap::new(),
        }),
        waker,
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
                tracing::warn!(adapter, "a remote adapter is not served: {refused}");
                let wait = match refused {
                    Refused::Broken(Broken::Closed) => Duration::ZERO,
                    _ => door.plan.recovery_delay,
                };
                let until = Some(Instant::now() + wait);
                if !without_remote(&desk, &mut waiter, until).await {
                    return Ok(());
                }
            }
            Some(Ok(mut link)) => {
                tracing::info!(
                    adapter,
                    remote = link.who,
                    "a remote metadata adapter is there"
                );
                {
                    let mut state = desk.state.borrow_mut();
                    state.dialect = Some(link.dialect);
                    state.troubles.clear();
                }
                let end = serve(&desk, &mut link, &mut waiter).await;
                let troubles = {
                    let mut state = desk.state.borrow_mut();
                    state.dialect = None;
                    state.out.clear();
                    state.calls.clear(); // which wakes all who wait
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
                link.farewell(&host, &loss.to_string()).await;
                if door.plan.on_loss == OnLoss::Stop {
                    return Err(format!("{adapter}: {loss}"));
                }
            }
        }
    }
}

/// What was wrong with a remote that was served.
enum Loss {
    Broken(Broken),
    Failed(Exception),
    Silent,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Failed(exception) => write!(f, "it has failed: {}", exception.message),
            Self::Silent => f.write_str("keepalive timeout"),
        }
    }
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

fn take_lines(desk: &Rc<Desk>, link: &mut Link) -> Result<(), Loss> {
    let encoding = link.dialect.encoding;
    while let Some(line) = link.requests.next_line().map_err(Loss::Broken)? {
        let (id, method, tokens) = match read_line(line) {
            Ok(Line::Keepalive) => continue,
            Ok(Line::Message { id, method, tokens }) => (id, method, tokens),
            Err(why) => {
                desk.state
                    .borrow_mut()
                    .troubles
                    .note(Trouble::Malformed, &why);
                continue;
            }
        };
        match method {
            "FST" | "FUS" | "FAL" => match metadata::read(method, tokens, encoding) {
                Ok(Some(FromMetadata::Failed(exception))) => return Err(Loss::Failed(exception)),
                Ok(Some(FromMetadata::Terminate { session, cause })) => {
                    let cause = match cause {
                        Some((code, text)) => {
                            Cause::destroyed(Some(code), Some(&text.unwrap_or_default()))
                        }
                        None => Reason::CLOSED_BY_SERVER.into(),
                    };
                    let session = (&*session).into();
                    order(desk, Order::EndSession { session, cause });
                    metadata::answer_order(&mut desk.state.borrow_mut().out, id, None);
                }
                Ok(Some(FromMetadata::Unsubscribe { session, window })) => {
                    let entitled = force_unsubscription(desk, &session, window);
                    metadata::answer_order(&mut desk.state.borrow_mut().out, id, Some(entitled));
                }
                _ => {
                    let mut state = desk.state.borrow_mut();
                    state.troubles.note(Trouble::Malformed, &method);
                }
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
    }
    Ok(())
}

/// Passes an order on, or holds it back until the session's shard knows that the session was granted.
pub(super) fn order(desk: &Desk, order: Order) {
    let (Order::EndSession { session, .. } | Order::Unsubscribe { session, .. }) = &order;
    let shard = {
        let mut state = desk.state.borrow_mut();
        let Some(known) = state.sessions.get(session) else {
            return; // over already, or another adapter set's
        };
        if known.busy > 0 {
            known.held.push(order);
            return;
        }
        known.shard
    };
    desk.say(shard, Word::Order(order));
}

/// Whether the adapter may end this subscription. One that is over already may be ended.
fn force_unsubscription(desk: &Desk, session: &str, window: i64) -> bool {
    let Ok(sub_id) = u32::try_from(window) else {
        return true;
    };
    {
        let mut state = desk.state.borrow_mut();
        let table = state
            .sessions
            .get(session)
            .and_then(|known| known.tables.get(&sub_id));
        match table {
            None => return true,
            Some(table) if !table.can_unsubscribe => return false,
            Some(_) => {}
        }
    }
    let session = session.into();
    order(desk, Order::Unsubscribe { session, sub_id });
    true
}
