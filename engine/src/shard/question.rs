//! Questions to the metadata adapter: what was asked, and what goes on when the answer is there.
//!
//! The table is the waiting room. A request whose fate hangs on an adapter leaves here what it needs to go on; the
//! shard serves others meanwhile. Who has lost interest (a client that left, a subscription removed) is found out when
//! the answer comes: keys of the dead find nothing.

use super::message::InAdapter;
use super::session::Opening;
use super::subscription::Subscribing;
use super::timer::Timer;
use super::{Effect, QuestionKey, SessionKey, Shard, SubKey};
use crate::metadata::{Ask, Granted, Order, Question, Statistics, Token};
use crate::time::Instant;
use crate::tlcp::cause::Refusal;
use slotmap::{Key, KeyData};

/// A request that waits for an answer.
#[derive(Debug)]
pub(super) enum Waiting {
    /// `create_session`
    Opening(Box<Opening>),
    /// `add`
    Subscribing(Subscribing),
    /// `msg`
    Message(InAdapter),
}

/// The question that a token names.
pub(super) fn key(token: Token) -> QuestionKey {
    KeyData::from_ffi(token.0).into()
}

impl Shard {
    /// Asks, and lets the request wait. If too many wait already, the answer is no.
    pub(super) fn ask(&mut self, waiting: Waiting, question: Question, now: Instant) {
        if let Err(waiting) = self.try_ask(waiting, question, now) {
            let refusal = match waiting {
                Waiting::Opening(_) => Refusal::overloaded(),
                _ => Refusal::request_failed().with_text("The server is overloaded"),
            };
            self.resume(waiting, Err(refusal), now);
        }
    }

    /// Asks, and lets the request wait. If too many wait already, the request is given back.
    pub(super) fn try_ask(
        &mut self,
        waiting: Waiting,
        question: Question,
        now: Instant,
    ) -> Result<(), Waiting> {
        // A connection opens one session at a time: those that insist are bounded by the connections.
        let insists = matches!(&waiting, Waiting::Opening(opening) if opening.unlimited);
        if self.questions.len() >= self.config.limits.questions_max && !insists {
            return Err(waiting);
        }
        let until = now + self.config.question_timeout;
        let until = self.deadline(&waiting).map_or(until, |at| until.min(at));
        let key = self.questions.insert(waiting);
        self.timers.insert(until, Timer::Question(key));
        self.effects.push_back(Effect::Ask(Ask {
            token: Token(key.data().as_ffi()),
            question,
        }));
        Ok(())
    }

    /// The adapter has not answered in time.
    pub(super) fn on_question_timeout(&mut self, question: QuestionKey, now: Instant) {
        if let Some(waiting) = self.questions.remove(question) {
            // Should the adapter agree later on, it has to know that nothing came of it.
            match &waiting {
                Waiting::Opening(opening) => {
                    let session = opening.id.clone();
                    self.note(Question::SessionClosed { session });
                }
                Waiting::Subscribing(subscribing) => {
                    let sub = self.subscriptions.get(subscribing.subscription());
                    if let Some((session, sub_id)) = sub.map(|sub| (sub.session, sub.sub_id)) {
                        self.note_unsubscribed(session, sub_id, Box::default());
                    }
                }
                Waiting::Message(_) => {}
            }
            let refusal = unanswered(&waiting, now);
            self.resume(waiting, Err(refusal), now);
        }
    }

    /// When the client does not wait any longer, if it has said so.
    fn deadline(&self, waiting: &Waiting) -> Option<Instant> {
        match waiting {
            Waiting::Opening(opening) => opening.deadline,
            Waiting::Subscribing(subscribing) => {
                let session = self.subscriptions.get(subscribing.sub)?.session;
                let combining = self.sessions.get(session)?.combining.as_ref()?;
                combining.opening.deadline
            }
            Waiting::Message(_) => None,
        }
    }

    /// Tells the metadata adapter something that it need not answer.
    pub(super) fn note(&mut self, question: Question) {
        self.effects.push_back(Effect::Ask(Ask {
            token: Token(QuestionKey::null().data().as_ffi()),
            question,
        }));
    }

    /// Tells the metadata adapter that a subscription is over, if it wants to know.
    pub(super) fn note_unsubscribed(
        &mut self,
        session: SessionKey,
        sub_id: u32,
        statistics: Box<[Statistics]>,
    ) {
        if let Some(session) = self.sessions.get(session).filter(|session| session.notices) {
            let session = session.id.clone();
            self.note(Question::Unsubscribed {
                session,
                sub_id,
                statistics,
            });
        }
    }

    /// What became of a subscription's updates; nothing if nobody wanted to know.
    pub(super) fn statistics(&self, sub: SubKey) -> Box<[Statistics]> {
        let subscription = self.subscriptions.get(sub).filter(|sub| sub.statistics);
        let items = subscription.map(|sub| sub.items()).unwrap_or_default();
        let counted = items.iter().map(|item| {
            let counted = self.sub_items.get(*item)?.counted()?;
            Some(counted.statistics())
        });
        counted.collect::<Option<_>>().unwrap_or_default()
    }

    /// The metadata adapter wants something.
    pub fn on_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::EndSession { session, cause } => {
                if let Some(&key) = self.by_id.get(&session) {
                    self.end_session(key, Some(&cause), now);
                }
            }
            Order::Unsubscribe { session, sub_id } => {
                let Some(&key) = self.by_id.get(&session) else {
                    return;
                };
                if let Some(sub) = self.subscription(key, sub_id) {
                    self.unsubscribe(key, sub_id, sub);
                }
            }
        }
    }

    /// Goes on with a request that waited.
    pub(super) fn resume(
        &mut self,
        waiting: Waiting,
        result: Result<Granted, Refusal>,
        now: Instant,
    ) {
        match waiting {
            Waiting::Opening(opening) => self.opened(*opening, result, now),
            Waiting::Subscribing(subscribing) => self.subscribed(subscribing, result, now),
            Waiting::Message(message) => self.processed(message, result, now),
        }
    }
}

/// What a client is told whose question found no answer: something that makes it try again, where it can.
fn unanswered(waiting: &Waiting, now: Instant) -> Refusal {
    match waiting {
        Waiting::Opening(opening) if opening.deadline.is_some_and(|at| at <= now) => {
            Refusal::overloaded()
        }
        Waiting::Opening(_) => Refusal::authentication_unavailable(),
        Waiting::Subscribing(_) => {
            Refusal::request_failed().with_text("The Metadata Adapter does not answer")
        }
        Waiting::Message(_) => {
            Refusal::message_adapter_failed().with_text("The Metadata Adapter does not answer")
        }
    }
}
