//! Which sessions and subscriptions a metadata adapter was told of, so that it can be told of their ends: each end once,
//! and a session's after those of all its subscriptions.

use engine::ari::Mode;
use engine::ari::metadata::Table;
use engine::ids::ShardId;
use engine::metadata::{Order, Statistics};
use smol::lock::Mutex;
use std::collections::HashMap;
use std::rc::Rc;

/// The sessions of one adapter set.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: HashMap<Box<str>, Session>,
    /// Ids that sessions were asked about first, by which their shards may still call them.
    former: HashMap<Box<str>, Box<str>>,
}

/// A session that the adapter has been asked about.
#[derive(Default)]
pub(super) struct Session {
    /// Who asked.
    pub shard: ShardId,
    /// Its user.
    pub user: Option<Box<str>>,
    /// The adapter is being asked about it.
    pub opening: bool,
    /// The adapter has agreed to it, or may have.
    pub known: bool,
    /// The adapter wants to hear of subscriptions.
    pub wants_tables: bool,
    /// By their numbers.
    pub tables: HashMap<u32, Announced>,
    /// It is over.
    pub closed: bool,
    /// What is still said or asked about it: its end is told behind that.
    pub busy: u32,
    /// What the adapter wanted before its agreement was told: with the subscription that is not agreed to yet, or none
    /// where that is the session.
    pub held: Vec<(Option<u32>, Order)>,
    /// Who waits for its end.
    pub on_end: Vec<smol::channel::Sender<()>>,
    /// Held by whoever tells of a subscription, where that is to be done one at a time.
    pub turn: Rc<Mutex<()>>,
    former_id: Option<Box<str>>,
}

/// A subscription that the adapter was told of.
pub(super) enum Announced {
    /// It has not agreed yet.
    Asked(Pending),
    /// It has.
    Told(Rc<Told>),
}

/// What has happened before the adapter's agreement.
#[derive(Default)]
pub(super) struct Pending {
    /// The subscription is over.
    pub over: bool,
    /// The adapter wants to end it: how it called its requests.
    pub forced: Vec<String>,
}

/// What the adapter knows of a subscription.
pub(super) struct Told {
    pub mode: Mode,
    pub group: Box<str>,
    pub schema: Box<str>,
    pub data_adapter: Box<str>,
    pub selector: Option<Box<str>>,
    pub range: (usize, usize),
    pub items: Vec<Box<str>>,
    /// The adapter may end it.
    pub can_unsubscribe: bool,
    /// The adapter wants to know what became of the updates.
    pub wants_statistics: bool,
}

/// Something that the adapter is told to be over.
pub(super) struct Close {
    pub session: Box<str>,
    /// The subscription; `None` if it is the session.
    pub table: Option<ClosedTable>,
}

/// A subscription that is over.
pub(super) struct ClosedTable {
    pub sub_id: u32,
    pub told: Rc<Told>,
    pub statistics: Box<[Statistics]>,
}

impl Told {
    /// As the adapter is told of it.
    pub fn table(&self, sub_id: u32) -> Table<'_> {
        Table {
            window: i64::from(sub_id),
            mode: self.mode,
            group: &self.group,
            data_adapter: &self.data_adapter,
            schema: &self.schema,
            range: self.range,
            selector: self.selector.as_deref(),
            items: &self.items,
        }
    }
}

impl Sessions {
    /// A session begins to be asked about.
    pub fn open(&mut self, id: &str, shard: ShardId, user: Option<&str>) {
        let session = Session {
            shard,
            user: user.map(Into::into),
            opening: true,
            busy: 1,
            ..Session::default()
        };
        self.by_id.insert(id.into(), session);
    }

    /// The adapter is asked about another id instead. False if there is no such session.
    pub fn rename(&mut self, old: &str, new: &str) -> bool {
        let Some(mut session) = self.by_id.remove(old) else {
            return false;
        };
        // Its shard knows only the first of them.
        let first = session.former_id.take().unwrap_or_else(|| old.into());
        self.former.insert(first.clone(), new.into());
        session.former_id = Some(first);
        self.by_id.insert(new.into(), session);
        true
    }

    /// How a session is called now.
    pub fn name<'s>(&'s self, id: &'s str) -> &'s str {
        match self.by_id.contains_key(id) {
            true => id,
            false => self.former.get(id).map_or(id, |name| name),
        }
    }

    /// A session by its name, or the one that its shard knows.
    pub fn get(&mut self, id: &str) -> Option<&mut Session> {
        match self.former.get(id) {
            Some(name) => self.by_id.get_mut(name),
            None => self.by_id.get_mut(id),
        }
    }

    /// Forgets a session.
    pub fn remove(&mut self, id: &str) -> Option<Session> {
        let name: Box<str> = self.name(id).into();
        let session = self.by_id.remove(&name)?;
        if let Some(former) = &session.former_id {
            self.former.remove(former);
        }
        Some(session)
    }

    /// Something begins to be said or asked about a session; `false` if the session is over.
    pub fn enter(&mut self, id: &str) -> bool {
        self.get(id).is_some_and(|session| {
            session.busy += 1;
            true
        })
    }

    /// It is done. If it was the last and the session is over, the session is handed out: its end is to be told.
    pub fn leave(&mut self, id: &str) -> Option<(Box<str>, Session)> {
        let session = self.get(id)?;
        session.busy = session.busy.saturating_sub(1);
        self.take_over(id)
    }

    /// A session is over. It is handed out, unless something is still said or asked about it.
    pub fn close(&mut self, id: &str) -> Option<(Box<str>, Session)> {
        self.get(id)?.closed = true;
        self.take_over(id)
    }

    fn take_over(&mut self, id: &str) -> Option<(Box<str>, Session)> {
        let session = self.get(id)?;
        if session.busy > 0 || !session.closed {
            return None;
        }
        let name = self.name(id).into();
        Some((name, self.remove(id)?))
    }

    /// The remote has gone: what it asked for is not answered to the next one.
    pub fn forget_requests(&mut self) {
        for session in self.by_id.values_mut() {
            for table in session.tables.values_mut() {
                if let Announced::Asked(pending) = table {
                    pending.forced.clear();
                }
            }
        }
    }
}

impl Session {
    /// Who waits for its end need wait no longer.
    pub fn tell_waiting(&mut self) {
        for waiting in self.on_end.drain(..) {
            let _ = waiting.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_was_renamed_is_found_by_the_name_that_its_shard_knows() {
        let mut sessions = Sessions::default();
        sessions.open("first", ShardId(3), Some("u"));
        assert!(sessions.rename("first", "second"));
        assert!(sessions.rename("second", "third"));
        assert!(!sessions.rename("second", "fourth"));
        assert_eq!(sessions.name("first"), "third");
        assert_eq!(sessions.get("first").unwrap().shard, ShardId(3));
        assert!(sessions.get("second").is_none());
        assert!(sessions.close("first").is_none(), "it is still asked about");
        let (name, session) = sessions.leave("third").unwrap();
        assert_eq!((&*name, session.user.as_deref()), ("third", Some("u")));
        assert!(sessions.get("first").is_none() && sessions.former.is_empty());
    }

    #[test]
    fn an_end_is_handed_out_once_and_behind_all_else() {
        let mut sessions = Sessions::default();
        sessions.open("s", ShardId(0), None);
        assert!(sessions.enter("s"));
        assert!(sessions.leave("s").is_none(), "it goes on");
        assert!(sessions.close("s").is_none());
        assert!(sessions.leave("s").is_some());
        assert!(sessions.leave("s").is_none() && sessions.close("s").is_none());
        assert!(!sessions.enter("s"));
    }
}
