//! Which sessions and subscriptions a metadata adapter was told of, so that it can be told of their ends: each end once,
//! and a session's after those of all its subscriptions.

use engine::ari::Mode;
use engine::ids::ShardId;
use engine::metadata::Order;
use std::collections::HashMap;

/// The sessions of one adapter set.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: HashMap<Box<str>, Session>,
}

/// A session that the adapter has been asked about.
#[derive(Default)]
pub(super) struct Session {
    /// Who asked.
    pub shard: ShardId,
    /// The adapter wants to hear of subscriptions.
    pub wants_tables: bool,
    /// By their numbers.
    pub tables: HashMap<u32, Told>,
    /// Subscriptions that were over before the adapter had agreed to them.
    pub unwanted: Vec<u32>,
    /// The adapter has agreed to the session, or has at least been asked to.
    pub known: bool,
    /// It is over.
    pub closed: bool,
    /// Questions about it that are open.
    pub busy: u32,
    /// What the adapter wanted before its agreement was told.
    pub held: Vec<Order>,
    /// Who waits for its end.
    pub on_end: Vec<smol::channel::Sender<()>>,
}

/// A subscription that the adapter was told of.
pub(super) struct Told {
    pub mode: Mode,
    pub group: Box<str>,
    pub schema: Box<str>,
    pub data_adapter: Box<str>,
    pub selector: Option<Box<str>>,
    pub items: Vec<Box<str>>,
    /// The adapter may end it.
    pub can_unsubscribe: bool,
}

impl Sessions {
    /// A session begins to be asked about.
    pub fn open(&mut self, id: &str, shard: ShardId) {
        let session = Session {
            shard,
            busy: 1,
            ..Session::default()
        };
        self.by_id.insert(id.into(), session);
    }

    pub fn get(&mut self, id: &str) -> Option<&mut Session> {
        self.by_id.get_mut(id)
    }

    /// Forgets a session, and tells those who wait for that.
    pub fn remove(&mut self, id: &str) {
        if let Some(session) = self.by_id.remove(id) {
            for waiting in session.on_end {
                let _ = waiting.try_send(());
            }
        }
    }

    /// A question about a session is answered. If nothing else is open and the session is over, it is handed out: its
    /// end is to be told.
    pub fn leave(&mut self, id: &str) -> Option<Session> {
        let session = self.by_id.get_mut(id)?;
        session.busy = session.busy.saturating_sub(1);
        self.take_over(id)
    }

    /// A session is over. It is handed out, unless a question about it is open.
    pub fn close(&mut self, id: &str) -> Option<Session> {
        self.by_id.get_mut(id)?.closed = true;
        self.take_over(id)
    }

    fn take_over(&mut self, id: &str) -> Option<Session> {
        let session = self.by_id.get(id)?;
        if session.busy > 0 || !session.closed {
            return None;
        }
        self.by_id.remove(id)
    }
}
