//! What shards ask: questions become tasks for the adapter's threads.

use super::super::answer::Kind;
use super::super::calls::Subscribing;
use super::super::lanes::{Task, Work};
use super::super::{Login, MetadataAdapter, Session};
use super::{Desk, Heard, Open, Stage};
use engine::ids::{DataAdapterId, ShardId};
use engine::metadata::{Ask, DEFAULT_NAME, Question};
use engine::tlcp::cause::Refusal;
use std::sync::Arc;
use std::time::Instant;

impl Desk {
    pub(super) fn ask(&mut self, shard: ShardId, ask: Ask, now: Instant) {
        let (token, id, until) = (ask.token, self.next_id, now + self.timeout);
        self.next_id += 1;
        let Some((stage, work)) = self.task(id, ask.question) else {
            return;
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

    /// What a question makes the adapter's threads do. `None` for those that are none.
    fn task(&mut self, id: u64, question: Question) -> Option<(Stage, Result<Work, Refusal>)> {
        Some(match question {
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
            Question::SessionClosed { .. } | Question::Unsubscribed { .. } => return None,
        })
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
