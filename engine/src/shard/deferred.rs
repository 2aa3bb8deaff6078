//! Control requests about a subscription that cannot be carried out before the metadata adapter has decided about its
//! `add`.
//!
//! A `reconf` must not tell `CONF` before `SUBOK`, and whatever comes behind a `delete` finds the number free only when
//! the `add` before that has run its course: `add`, `delete`, `add` of one number end subscribed. Such requests wait
//! with the subscription, and are carried out in their order.

use super::control::Source;
use super::{Origin, SessionKey, Shard, SubKey};
use crate::time::Instant;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::{Control, Op, Verb};

/// A request that waits.
#[derive(Debug)]
pub(super) struct Deferred {
    origin: Origin,
    message: Box<str>,
}

impl Shard {
    /// The subscription that a request has to wait for, if there is one.
    pub(super) fn defers(&self, key: SessionKey, op: &Op<'_>) -> Option<SubKey> {
        let sub_id = match op {
            Op::Add(add) | Op::AddTable { add, .. } => add.sub_id,
            Op::Delete { sub_id, .. } | Op::Reconf { sub_id, .. } | Op::Start { sub_id } => *sub_id,
            _ => return None,
        };
        let sub = self.subscription(key, sub_id)?;
        let subscription = &self.subscriptions[sub];
        let behind = subscription.delete_on_active || !subscription.deferred.is_empty();
        let waits = behind || matches!(op, Op::Reconf { .. } | Op::Start { .. });
        (waits && !subscription.is_granted()).then_some(sub)
    }

    /// Lets a request wait for the subscription.
    pub(super) fn defer(
        &mut self,
        origin: Origin,
        sub: SubKey,
        control: &Control<'_>,
        source: Source<'_>,
    ) {
        let subscription = &mut self.subscriptions[sub];
        if subscription.deferred.len() >= self.config.limits.deferred_per_subscription_max {
            let refusal = Refusal::request_failed()
                .with_text("Too many requests wait for this subscription")
                .for_request(&*control.req_id);
            return self.refuse(origin, Some(Verb::Control), &refusal);
        }
        // By then, the connection may have another last session.
        let session = &self.sessions[subscription.session].id;
        let message = source.message_for(session);
        subscription.deferred.push(Deferred { origin, message });
    }

    /// Carries out what has waited.
    pub(super) fn undefer(&mut self, deferred: Vec<Deferred>, now: Instant) {
        for Deferred { origin, message } in deferred {
            self.take_message(origin, &message, now);
        }
    }

    /// The session has ended before the adapter decided.
    pub(super) fn refuse_deferred(&mut self, deferred: Vec<Deferred>) {
        for Deferred { origin, message } in deferred {
            if origin.slot.is_some() {
                self.refuse_message(origin, &message, &Refusal::session_not_found());
            } else {
                self.answer_orphan(origin, "");
            }
        }
    }

    /// A request's session has ended before it was decided. Over HTTP it needs an answer. Over a WebSocket the end has
    /// been told, or soon is; a late refusal could be taken for one of the client's next session, and end that.
    pub(super) fn answer_orphan(&mut self, origin: Origin, req_id: &str) {
        if origin.slot.is_some() {
            let refusal = Refusal::session_not_found().for_request(req_id);
            self.refuse(origin, Some(Verb::Control), &refusal);
        } else {
            self.acknowledge(origin, req_id, false);
        }
    }
}
