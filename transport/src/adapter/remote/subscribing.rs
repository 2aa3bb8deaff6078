//! The way of a subscription: `GIS` and `GSC` side by side, then `GIT` and `GUI` side by side for what is not remembered,
//! then `NNT` if it is wanted.

use super::metadata::{Desk, Failure, Replied};
use super::refusals;
use super::sessions::{Announced, Pending, Told};
use engine::ari::metadata::{ItemData, Reply, Request};
use engine::ari::{Mode, Modes};
use engine::metadata::{Granted, GrantedItem, Order, Question, select};
use engine::tlcp::cause::Refusal;
use std::rc::Rc;
use std::time::Instant;

/// A subscription on its way.
pub(super) struct Subscribing<'q> {
    pub session: &'q str,
    pub sub_id: u32,
    pub user: Option<&'q str>,
    pub data_adapter: &'q str,
    pub group: &'q str,
    pub range: Option<(u32, u32)>,
    pub schema: &'q str,
    pub selector: Option<&'q str>,
    pub mode: Mode,
    /// The same in the words of clients.
    pub asked: engine::tlcp::request::Mode,
}

/// The names that a request was answered with.
type Names = Vec<Box<str>>;

impl Subscribing<'_> {
    pub async fn run(&self, desk: &Rc<Desk>) -> Result<Granted, Refusal> {
        let known = desk
            .set
            .data
            .iter()
            .find(|(name, _)| **name == *self.data_adapter);
        let (_, data_adapter) = *known.ok_or_else(Refusal::data_adapter_unknown)?;
        let (items, fields) = self.names(desk).await;
        let refuse = |failure| refusals::subscription(desk, failure, false);
        let items = items.map_err(refuse)?;
        let fields = fields.map_err(|failure| refusals::subscription(desk, failure, true))?;
        let items = select(items, self.range)?;
        if fields.is_empty() {
            return Err(Refusal::bad_schema());
        }
        let granted = match items.is_empty() {
            true => Vec::new(),
            false => self.rules(desk, &items).await.map_err(refuse)?,
        };
        let allowed = granted.iter().all(|(_, modes)| modes.contains(self.mode));
        if !allowed {
            return Err(Refusal::mode_not_allowed());
        }
        let wants_tables = match desk.state.borrow_mut().sessions.get(self.session) {
            Some(known) => known.wants_tables,
            None => return Err(Refusal::session_not_found()),
        };
        let statistics = match wants_tables {
            true => self.announce(desk, &items).await.map_err(refuse)?,
            false => false,
        };
        Ok(Granted::Subscription {
            data_adapter,
            items: granted.into_iter().map(|(item, _)| item).collect(),
            fields,
            statistics,
            mode: self.asked,
            claim: None,
        })
    }

    /// What group and schema stand for.
    async fn names(&self, desk: &Desk) -> (Result<Names, Failure>, Result<Names, Failure>) {
        let items = desk.call(Request::Items {
            user: self.user,
            group: self.group,
            session: self.session,
        });
        let fields = desk.call(Request::Schema {
            user: self.user,
            group: self.group,
            schema: self.schema,
            session: self.session,
        });
        let (items, fields) = smol::future::zip(items, fields).await;
        let read = |reply: Result<Replied, Failure>| match reply?.read()? {
            Reply::Names(names) => Ok(names.iter().map(|name| (**name).into()).collect()),
            _ => Err(Failure::Malformed),
        };
        (read(items), read(fields))
    }

    /// What the user may have of the items, and in which modes.
    async fn rules(
        &self,
        desk: &Desk,
        items: &[Box<str>],
    ) -> Result<Vec<(GrantedItem, Modes)>, Failure> {
        let (general, personal) =
            smol::future::zip(self.general(desk, items), self.personal(desk, items)).await;
        let rules = items.iter().zip(general?.into_iter().zip(personal?));
        let positive = |value: f64| (value > 0.0 && value.is_finite()).then_some(value);
        let rules = rules.map(|(name, (general, personal))| {
            let item = GrantedItem {
                name: name.clone(),
                frequency_max: positive(personal.frequency),
                buffer_size_max: match personal.length {
                    0 => None,
                    length => Some(u32::try_from(length).unwrap_or(u32::MAX)),
                },
                source_frequency_max: positive(general.frequency),
                snapshot_length: u32::try_from(general.length).unwrap_or(u32::MAX),
                ..GrantedItem::default()
            };
            (item, general.modes.and(personal.modes))
        });
        Ok(rules.collect())
    }

    /// What the items are for all users.
    async fn general(&self, desk: &Desk, items: &[Box<str>]) -> Result<Vec<ItemData>, Failure> {
        let known = |name: &str| desk.state.borrow().memory.item(name);
        let (known, unknown) = part(items, known);
        if unknown.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let reply = desk.call(Request::ItemData { items: &unknown }).await?;
        let learnt = item_data(&reply, unknown.len())?;
        let found = fill(known, &learnt);
        let memory = &mut desk.state.borrow_mut().memory;
        memory.learn(unknown.into_iter().zip(learnt));
        Ok(found)
    }

    /// What they are for this user.
    async fn personal(&self, desk: &Desk, items: &[Box<str>]) -> Result<Vec<ItemData>, Failure> {
        let (user, now) = (self.user, Instant::now());
        let known = |name: &str| desk.state.borrow().memory.user_item(user, name, now);
        let (known, unknown) = part(items, known);
        if unknown.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let items = &unknown;
        let reply = desk.call(Request::UserItemData { user, items }).await?;
        let learnt = item_data(&reply, unknown.len())?;
        let found = fill(known, &learnt);
        let memory = &mut desk.state.borrow_mut().memory;
        memory.learn_of_user(user, unknown.into_iter().zip(learnt), Instant::now());
        Ok(found)
    }

    /// Tells the adapter of the subscription, which it may refuse. Returns whether it wants to know what becomes of the
    /// updates.
    async fn announce(&self, desk: &Rc<Desk>, items: &[Box<str>]) -> Result<bool, Failure> {
        let first = self.range.map_or(1, |(first, _)| first as usize);
        let mut told = Told {
            mode: self.mode,
            group: self.group.into(),
            schema: self.schema.into(),
            data_adapter: self.data_adapter.into(),
            selector: self.selector.map(Into::into),
            range: (first, first + items.len() - usize::from(!items.is_empty())),
            items: items.to_vec(),
            can_unsubscribe: false,
            wants_statistics: false,
        };
        let turn = {
            let mut state = desk.state.borrow_mut();
            let Some(known) = state.sessions.get(self.session) else {
                return Ok(false);
            };
            let asked = Announced::Asked(Pending::default());
            known.tables.insert(self.sub_id, asked);
            Rc::clone(&known.turn)
        };
        let reply = {
            let _turn = match desk.plan.sequential_tables {
                true => Some(turn.lock().await),
                false => None,
            };
            let table = told.table(self.sub_id);
            let reply = desk.call(Request::NewTable {
                user: self.user,
                session: self.session,
                table,
            });
            reply.await
        };
        let agreed = reply.and_then(|reply| match reply.read()? {
            Reply::Table {
                can_unsubscribe,
                wants_statistics,
            } => Ok((can_unsubscribe, wants_statistics)),
            _ => Err(Failure::Malformed),
        });
        // One that has not answered in time may have agreed.
        let known_there = matches!(agreed, Ok(_) | Err(Failure::Late));
        if let Ok((can_unsubscribe, wants_statistics)) = agreed {
            told.can_unsubscribe = can_unsubscribe;
            told.wants_statistics = wants_statistics;
        }
        let (can_unsubscribe, wants_statistics) = (told.can_unsubscribe, told.wants_statistics);
        let pending = {
            let mut state = desk.state.borrow_mut();
            let name = state.sessions.name(self.session).into();
            let Some(known) = state.sessions.get(self.session) else {
                return agreed.map(|_| false);
            };
            let pending = match known.tables.remove(&self.sub_id) {
                Some(Announced::Asked(pending)) => pending,
                _ => Pending::default(),
            };
            if known_there {
                let told = Announced::Told(Rc::new(told));
                known.tables.insert(self.sub_id, told);
            }
            if agreed.is_ok() && can_unsubscribe && !pending.forced.is_empty() {
                let sub_id = self.sub_id;
                let order = Order::Unsubscribe {
                    session: name,
                    sub_id,
                };
                known.held.push((Some(sub_id), order));
            }
            pending
        };
        // What it does not know of any more it may end.
        desk.answer_forced(&pending.forced, can_unsubscribe || agreed.is_err());
        if known_there && (pending.over || agreed.is_err()) {
            let over = Question::Unsubscribed {
                session: self.session.into(),
                sub_id: self.sub_id,
                statistics: Box::default(),
            };
            super::questions::note(desk, over);
        }
        agreed.map(|_| wants_statistics)
    }
}

/// What is known of the items, and the names of those of which nothing is.
fn part(
    items: &[Box<str>],
    known: impl Fn(&str) -> Option<ItemData>,
) -> (Vec<Option<ItemData>>, Vec<Box<str>>) {
    let found: Vec<_> = items.iter().map(|name| known(name)).collect();
    let unknown = items.iter().zip(&found).filter(|(_, data)| data.is_none());
    let unknown = unknown.map(|(name, _)| name.clone()).collect();
    (found, unknown)
}

/// Puts what was learnt in the places of what was not known.
fn fill(known: Vec<Option<ItemData>>, learnt: &[ItemData]) -> Vec<ItemData> {
    let mut learnt = learnt.iter().copied();
    known
        .into_iter()
        .filter_map(|known| known.or_else(|| learnt.next()))
        .collect()
}

/// One for each item that was asked about.
fn item_data(reply: &Replied, count: usize) -> Result<Vec<ItemData>, Failure> {
    match reply.read()? {
        Reply::Items(items) if items.len() == count => Ok(items),
        _ => Err(Failure::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(length: u64) -> ItemData {
        ItemData {
            length,
            frequency: 0.0,
            modes: Modes::NONE,
        }
    }

    #[test]
    fn what_is_known_and_what_is_learnt_come_together_in_order() {
        let items: Vec<Box<str>> = ["a", "b", "c", "b"].map(Into::into).into();
        let (known, unknown) = part(&items, |name| (name == "b").then(|| data(2)));
        assert_eq!(unknown, ["a".into(), "c".into()]);
        let all = fill(known, &[data(1), data(3)]);
        assert_eq!(all, [data(1), data(2), data(3), data(2)]);
    }
}
