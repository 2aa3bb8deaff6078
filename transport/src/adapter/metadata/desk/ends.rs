//! The ends of sessions and subscriptions, of which the adapter is told after all else about them.

use super::super::lanes::{Task, Work};
use super::{Desk, Heard, Known};
use engine::metadata::{Statistics, Word};
use std::sync::Arc;

impl Desk {
    /// A session that the adapter has not agreed to is none.
    pub(super) fn forget(&mut self, session: &str) {
        if let Some(known) = self.sessions.remove(session) {
            for id in known.on_end {
                self.open_anew(id);
            }
        }
    }

    /// A question about a session is answered: what was held back until then is done.
    pub(super) fn leave(&mut self, session: &str) {
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
    pub(super) fn closed(&mut self, session: &str) {
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
    pub(super) fn unsubscribed(
        &mut self,
        session: &str,
        sub_id: u32,
        statistics: Box<[Statistics]>,
    ) {
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
}
