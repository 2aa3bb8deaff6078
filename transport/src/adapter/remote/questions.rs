//! Which requests a shard's question takes, and what a metadata adapter is told to be over.
//!
//! | Question | Requests |
//! |---|---|
//! | a session | see [`super::opening`] |
//! | a subscription | see [`super::subscribing`] |
//! | a message | `NUM` |
//! | the end of a subscription | `NTC`, if the adapter was told of it |
//! | the end of a session | `NTC` for each subscription left, then `NSC` |

use super::closes::CloseId;
use super::metadata::{Desk, Failure};
use super::opening::Opening;
use super::refusals;
use super::sessions::{Announced, Close, ClosedTable, Session};
use super::subscribing::Subscribing;
use super::trouble::Trouble;
use engine::ari::Mode;
use engine::ari::metadata::{self, Reply, Request};
use engine::ids::ShardId;
use engine::metadata::{DEFAULT_NAME, Granted, Question, Statistics, Word};
use engine::tlcp::cause::Refusal;
use engine::tlcp::request::Mode as TlcpMode;
use std::collections::HashMap;
use std::rc::Rc;

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
            let user = user.as_deref();
            desk.state.borrow_mut().sessions.open(session, shard, user);
            let opening = Opening {
                session,
                user,
                password: password.as_deref(),
                client,
            };
            let opened = opening.run(desk).await;
            opened.map_err(|failure| refusals::session(desk, failure))
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
            if !desk.state.borrow_mut().sessions.enter(session) {
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
                asked: *mode,
            };
            subscribing.run(desk).await
        }
        Question::Message {
            session,
            user,
            message,
            ..
        } => {
            if !desk.state.borrow_mut().sessions.enter(session) {
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
                Err(failure) => Err(refusals::message(desk, failure)),
            }
        }
        Question::SessionClosed { .. } | Question::Unsubscribed { .. } => {
            Ok(Granted::Message { response: None })
        }
    }
}

/// A question was answered, and its shard told: what was held back until then is done.
pub(super) fn answered(desk: &Rc<Desk>, question: &Question) {
    let (session, of) = match question {
        Question::OpenSession { session, .. } => (session, None),
        Question::Subscribe {
            session, sub_id, ..
        } => (session, Some(*sub_id)),
        Question::Message { session, .. } => return leave(desk, session),
        Question::SessionClosed { .. } | Question::Unsubscribed { .. } => return,
    };
    let held = {
        let mut state = desk.state.borrow_mut();
        state.sessions.get(session).map(|known| {
            if of.is_none() {
                known.opening = false;
                // A session that was refused is over.
                known.closed |= !known.known;
            }
            let held = std::mem::take(&mut known.held);
            let (now, later): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.0 == of);
            known.held = later;
            (known.shard, now)
        })
    };
    if let Some((shard, held)) = held {
        for (_, order) in held {
            desk.say(shard, Word::Order(order));
        }
    }
    leave(desk, session);
}

/// Something is over.
pub(super) fn note(desk: &Rc<Desk>, question: Question) {
    match question {
        Question::SessionClosed { session } => {
            let over = desk.state.borrow_mut().sessions.close(&session);
            if let Some((name, over)) = over {
                tell_end(desk, name, over);
            }
        }
        Question::Unsubscribed {
            session,
            sub_id,
            statistics,
        } => {
            let close = {
                let mut state = desk.state.borrow_mut();
                let name: Box<str> = state.sessions.name(&session).into();
                let Some(known) = state.sessions.get(&session) else {
                    return;
                };
                match known.tables.get_mut(&sub_id) {
                    // It is told when the adapter has answered.
                    Some(Announced::Asked(pending)) => return pending.over = true,
                    Some(Announced::Told(_)) => {}
                    None => return,
                }
                known.busy += 1; // the session's end is told after this one
                closed_table(known, &name, sub_id, statistics)
            };
            let Some(close) = close else {
                return leave(desk, &session);
            };
            let (desk_of_task, turn) = (Rc::clone(desk), turn_of(desk, &session));
            let close = Rc::new(close);
            let id = desk.state.borrow_mut().closes.begin(&close);
            desk.host.spawn(async move {
                let desk = desk_of_task;
                {
                    let _turn = match desk.plan.sequential_tables {
                        true => Some(turn.lock().await),
                        false => None,
                    };
                    tell(&desk, id, &close).await;
                }
                leave(&desk, &session);
            });
        }
        _ => {}
    }
}

/// Tells a remote of ends that got lost with the one before. The ends of one session in their order.
pub(super) fn tell_again(desk: &Rc<Desk>, closes: Vec<(CloseId, Rc<Close>)>) {
    let mut by_session: HashMap<Box<str>, Vec<(CloseId, Rc<Close>)>> = HashMap::new();
    for (id, close) in closes {
        let all = by_session.entry(close.session.clone()).or_default();
        all.push((id, close));
    }
    for (session, closes) in by_session {
        // If it lives, its own end is told after these.
        let lives = desk.state.borrow_mut().sessions.enter(&session);
        let desk_of_task = Rc::clone(desk);
        desk.host.spawn(async move {
            let desk = desk_of_task;
            for (id, close) in closes {
                tell(&desk, Some(id), &close).await;
            }
            if lives {
                leave(&desk, &session);
            }
        });
    }
}

/// Something that was said or asked about a session is done.
fn leave(desk: &Rc<Desk>, session: &str) {
    let over = desk.state.borrow_mut().sessions.leave(session);
    if let Some((name, over)) = over {
        tell_end(desk, name, over);
    }
}

/// Tells the end of a session that is already forgotten here.
fn tell_end(desk: &Rc<Desk>, name: Box<str>, mut session: Session) {
    let mut closes = Vec::new();
    {
        let mut state = desk.state.borrow_mut();
        if session.known {
            state.memory.session_closed(session.user.as_deref());
            let sub_ids: Vec<u32> = session.tables.keys().copied().collect();
            for sub_id in sub_ids {
                let close = closed_table(&mut session, &name, sub_id, Box::default());
                closes.extend(close.map(Rc::new));
            }
            closes.push(Rc::new(Close {
                session: name,
                table: None,
            }));
        }
    }
    let ids: Vec<_> = {
        let mut state = desk.state.borrow_mut();
        let begin = closes.iter().map(|close| state.closes.begin(close));
        begin.collect()
    };
    let desk_of_task = Rc::clone(desk);
    desk.host.spawn(async move {
        for (id, close) in ids.into_iter().zip(closes) {
            tell(&desk_of_task, id, &close).await;
        }
        session.tell_waiting();
    });
}

/// Takes a subscription out of those that the adapter knows.
fn closed_table(
    session: &mut Session,
    name: &str,
    sub_id: u32,
    statistics: Box<[Statistics]>,
) -> Option<Close> {
    match session.tables.remove(&sub_id) {
        Some(Announced::Told(told)) => Some(Close {
            session: name.into(),
            table: Some(ClosedTable {
                sub_id,
                told,
                statistics,
            }),
        }),
        _ => None,
    }
}

fn turn_of(desk: &Desk, session: &str) -> Rc<smol::lock::Mutex<()>> {
    let mut state = desk.state.borrow_mut();
    let known = state.sessions.get(session);
    known.map_or_else(Rc::default, |known| Rc::clone(&known.turn))
}

/// Tells an end. One that the remote cannot be told now may be told to the next.
async fn tell(desk: &Desk, id: Option<CloseId>, close: &Close) {
    let session = &*close.session;
    let statistics: Vec<metadata::Statistics>;
    let request = match &close.table {
        None => Request::SessionClosed { session },
        Some(table) => {
            let counted = table.statistics.iter().map(|item| metadata::Statistics {
                sent: item.sent,
                lost: item.lost,
                filtered: item.filtered,
            });
            // Adapters that did not ask are told that there are none.
            statistics = match table.told.wants_statistics {
                true => counted.collect(),
                false => Vec::new(),
            };
            Request::TableClosed {
                session,
                table: table.told.table(table.sub_id),
                statistics: &statistics,
            }
        }
    };
    let method = request.method();
    let told = desk.call(request).await;
    let told = told.and_then(|reply| reply.read().map(drop));
    if matches!(told, Err(Failure::Away | Failure::Lost)) {
        return;
    }
    let mut state = desk.state.borrow_mut();
    state.closes.answered(id);
    if let Err(Failure::Exception(exception)) = told {
        let what = format!("{method}: {}", exception.message);
        state.troubles.note(Trouble::Failed, &what);
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
