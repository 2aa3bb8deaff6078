//! What has come of tasks: shards get their answers, and sessions go on to the next question.

use super::super::calls::{self, Opened, Refused, Subscribed};
use super::super::lanes::Task;
use super::super::{Admission, MetadataError, Session};
use super::{Desk, Heard, Known, Open, Stage};
use engine::ids::ShardId;
use engine::metadata::{Answer, Granted, Order, Token, Word};
use engine::shard::session_id;
use engine::tlcp::cause::{Reason, Refusal};
use std::collections::HashMap;
use std::sync::Arc;

/// How often a session that is in the way of a new one may be closed: one would do, unless the adapter names another
/// one each time. (guess)
const CONFLICTS_MAX: usize = 3;

impl Desk {
    pub(super) fn heard(&mut self, heard: Heard) {
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
    pub(super) fn open_anew(&mut self, id: u64) {
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
    pub(super) fn end(&mut self, id: u64, result: Result<Granted, Refused>) {
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
    pub(super) fn late(&mut self, id: u64) {
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
}
