//! How full a shard is: for each of its bounds, what comes closest to it. It looks at everything, so it is for now and
//! then, not for every turn.

use super::Shard;
use super::event_buffer::EventBuffer;
use super::items::Rows;
use crate::limits::{Gauge, Gauges};

impl Shard {
    /// How many items of a session have something that its client has not been sent; `None` if the session is not of this
    /// shard.
    pub fn owed(&self, session: &str) -> Option<usize> {
        let key = *self.by_id.get(session)?;
        let items = self.sub_items.values();
        Some(
            items
                .filter(|item| item.session == key && item.owed)
                .count(),
        )
    }

    /// What is used of the bounds.
    pub fn gauges(&self) -> Vec<Gauge> {
        let limits = &self.config.limits;
        let mut gauges = Gauges::default();
        gauges.note("sessions", self.sessions.len(), limits.sessions_max);
        gauges.note(
            "subscribed items",
            self.sub_items.len(),
            limits.subscribed_items_max,
        );
        gauges.note(
            "closed sessions",
            self.closed.len(),
            limits.closed_sessions_max,
        );
        gauges.note(
            "questions",
            self.questions.len(),
            limits.questions_max + self.conns.len(), // creations may insist
        );
        gauges.note(
            "bytes kept for recovery",
            self.recovery_bytes,
            limits.recovery_bytes_total_max
                + limits.recovery_bytes_max
                + self.sessions.len() * (limits.recovery_bytes_max / 16), // what each may keep beyond
        );
        for session in self.sessions.values() {
            gauges.note(
                "bytes kept for one recovery",
                session.log.kept(),
                limits.recovery_bytes_max,
            );
            gauges.note(
                "bytes of a session's lines",
                session.lines.len(),
                limits.lines_bytes_max,
            );
            gauges.note(
                "subscriptions of a session",
                session.subscriptions.len(),
                limits.subscriptions_per_session_max,
            );
            gauges.note(
                "entries of a session's queue",
                session.owed.len(),
                2 * self.sub_items.len() + 1, // half of it may be gone
            );
            if let Some(messages) = &session.messages {
                let (open, bytes) = messages.held();
                gauges.note(
                    "messages of a session",
                    open,
                    limits.messages_per_session_max,
                );
                gauges.note(
                    "bytes of a session's messages",
                    bytes,
                    limits.message_bytes_per_session_max,
                );
            }
        }
        for conn in self.conns.iter() {
            gauges.note(
                "bytes of requests that wait",
                conn.waiting_bytes,
                limits.waiting_bytes_max,
            );
            gauges.note(
                "bytes of answers that wait",
                conn.replies.len(),
                limits.lines_bytes_max + limits.recovery_bytes_max,
            );
        }
        for subscription in self.subscriptions.values() {
            gauges.note(
                "requests behind a subscription",
                subscription.deferred.len(),
                limits.deferred_per_subscription_max,
            );
        }
        for sub_item in self.sub_items.values() {
            let Some(buffer) = sub_item.buffer() else {
                continue;
            };
            gauges.note(
                "events that wait for a client and item",
                buffer.events(),
                limits.event_buffer_len_max,
            );
            let (ahead, ahead_max) = match buffer {
                EventBuffer::Queue(queue) => (queue.ahead(), limits.snapshot_len_max + AHEAD_MAX),
                // Each row that a trade has overtaken waits with it.
                EventBuffer::Table(table) => {
                    (table.ahead(), limits.event_buffer_len_max + AHEAD_MAX)
                }
            };
            gauges.note("lines before these", ahead, ahead_max);
            if let EventBuffer::Table(table) = buffer {
                let times = table.times();
                gauges.note("times of keys", times, limits.keys_per_item_max);
            }
        }
        for item in self.items.iter() {
            gauges.note(
                "fields of an item",
                item.fields(),
                limits.fields_per_item_max + SPECIAL_FIELDS,
            );
            match &item.rows {
                Rows::None => {}
                Rows::History(history) => {
                    gauges.note("rows of a history", history.len(), limits.snapshot_len_max);
                    let bytes_max = limits.rows_bytes_max.max(limits.item_bytes_max * 2);
                    gauges.note("bytes of a history", history.bytes(), bytes_max);
                }
                Rows::Table(table) => {
                    gauges.note("rows of a table", table.len(), limits.keys_per_item_max);
                }
            }
        }
        gauges.into()
    }
}

/// `OV`, `EOS`, another `OV`, `CS`.
const AHEAD_MAX: usize = 4;
/// `key` and `command`, which no adapter chooses.
const SPECIAL_FIELDS: usize = 2;
