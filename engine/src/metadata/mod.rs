//! What shards ask of metadata adapters, and what they are told.
//!
//! The metadata adapter decides who may do what. Shards never wait for it: a request that needs a decision becomes an
//! [`Ask`] and parks; the [`Answer`] resumes it. A question bundles all that one request needs to know, so that it
//! crosses between cores once, however many calls to an adapter it takes on the other side.

pub mod client;
pub mod literal;
pub mod status;

use crate::ids::{DataAdapterId, ShardId};
use crate::item::safe::TradeSafe;
use crate::item::selector::Selector;
use crate::time::Duration;
use crate::tlcp::cause::{Cause, Refusal};
use crate::tlcp::request::Mode;
pub use client::Client;
use literal::Literal;

/// An adapter set, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdapterSetId(pub u16);

/// Names a question; the shard that asked finds the waiting request by it, or finds that it no longer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// Names what a granted subscription has claimed; to be given back with
/// [`Demand::Settled`](crate::ingest::demand::Demand::Settled).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim(pub u64);

/// A question with its token.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// To be given back with the answer.
    pub token: Token,
    /// What is asked.
    pub question: Question,
}

/// What a request needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// May this user open a session in this adapter set?
    OpenSession {
        /// The session's id, should it come to be.
        session: Box<str>,
        /// The adapter set's name.
        adapter_set: Box<str>,
        /// Absent is not the same as empty.
        user: Option<Box<str>>,
        /// Absent is not the same as empty.
        password: Option<Box<str>>,
        /// Who wants it.
        client: Box<Client>,
    },
    /// May this user subscribe to this, and what is it?
    Subscribe {
        /// The session's id.
        session: Box<str>,
        /// The subscription's number within it.
        sub_id: u32,
        /// The session's adapter set.
        adapter_set: AdapterSetId,
        /// The session's user.
        user: Option<Box<str>>,
        /// The data adapter's name; `None` means the one named `DEFAULT`.
        data_adapter: Option<Box<str>>,
        /// Stands for a list of items.
        group: Box<str>,
        /// Which of these items are wanted, the first and the last, from 1; `None`: all. See [`select`].
        range: Option<(u32, u32)>,
        /// Stands for a list of fields.
        schema: Box<str>,
        /// A filter known to the adapter.
        selector: Option<Box<str>>,
        /// How the events shall be understood.
        mode: Mode,
    },
    /// Here is a message of this user. The answer tells what became of it; the messages of one sequence are asked about
    /// one after the other, so no order has to be kept by who answers.
    Message {
        /// The session's adapter set.
        adapter_set: AdapterSetId,
        /// The session's user.
        user: Option<Box<str>>,
        /// The session's id.
        session: Box<str>,
        /// The message.
        message: Box<str>,
    },
    /// A session is over, or did not come to be though it was granted. Nobody waits for the answer.
    SessionClosed {
        /// The session's id.
        session: Box<str>,
    },
    /// A subscription is over, or did not come to be though it was granted, while its session lives on. Nobody waits for
    /// the answer.
    Unsubscribed {
        /// The session's id.
        session: Box<str>,
        /// The subscription's number within it.
        sub_id: u32,
        /// What became of the updates of each item, if that was wanted ([`Granted::Subscription`]).
        statistics: Box<[Statistics]>,
    },
}

/// What became of the updates of one item in one subscription. Snapshots do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Updates that were sent.
    pub sent: u64,
    /// Updates that should have been sent and were not.
    pub lost: u64,
    /// Updates that were merged into others, or replaced by them, as the subscription allows.
    pub filtered: u64,
}

/// What an adapter says to a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// To a question.
    Answer(Answer),
    /// Of its own accord.
    Order(Order),
}

/// What an adapter wants of a shard. A session or subscription that is gone already is no error.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// End a session.
    EndSession {
        /// The session's id.
        session: Box<str>,
        /// What its client is told.
        cause: Cause,
    },
    /// End a subscription.
    Unsubscribe {
        /// The session's id.
        session: Box<str>,
        /// The subscription's number within it.
        sub_id: u32,
    },
}

/// An answer to the question with this token.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The question's token.
    pub token: Token,
    /// What is granted, or why not.
    pub result: Result<Granted, Refusal>,
}

/// What is granted.
#[derive(Clone, Debug, PartialEq)]
pub enum Granted {
    /// To [`Question::OpenSession`].
    Session {
        /// The set's number, for later questions.
        adapter_set: AdapterSetId,
        /// The id that the adapter has agreed to, if that is not the one in the question. It was made of that one
        /// ([`session_id::another`](crate::shard::session_id::another)).
        session: Option<Box<str>>,
        /// Kilobits per second at most; `None` is no limit.
        bandwidth_kbps_max: Option<f64>,
        /// The age at which the session ends, and its client has to open another; `None`: as the server is configured.
        time_to_live: Option<Duration>,
        /// The adapter is to be told of the session's end, and of its subscriptions' ends.
        notices: bool,
    },
    /// To [`Question::Subscribe`].
    Subscription {
        /// Who supplies the items.
        data_adapter: DataAdapterId,
        /// The items of the group that are wanted, in order.
        items: Vec<GrantedItem>,
        /// The fields of the schema, in order.
        fields: Vec<Box<str>>,
        /// The adapter wants to know what becomes of the updates.
        statistics: bool,
        /// The mode that was asked for.
        mode: Mode,
        /// Holds the items to that mode until the shard has made use of the answer. No adapter's business, see
        /// [`Ingest::claim`](crate::ingest::Ingest::claim).
        claim: Option<Claim>,
    },
    /// To [`Question::Message`]. An adapter that does not want a message refuses it with a code of its own
    /// ([`Refusal::by_adapter`]); one that could not deal with it says [`Refusal::message_failed`], and for one that
    /// failed unexpectedly [`Refusal::message_adapter_failed`] is said.
    Message {
        /// What the adapter has to say to the client.
        response: Option<Box<str>>,
    },
}

/// One item of a group, as granted to one user.
///
/// Whether the item may be subscribed to in the mode at hand is the metadata adapter's to check: what is here is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrantedItem {
    /// Its name, which clients never see: updates carry its position.
    pub name: Box<str>,
    /// Updates per second that this user may have at most; `None` is no limit.
    pub frequency_max: Option<f64>,
    /// Events that may wait for this user at most (MERGE and DISTINCT); `None` is no limit but the server's.
    pub buffer_size_max: Option<u32>,
    /// The rate to which the item's events are thinned out for everybody (MERGE and DISTINCT); `None` leaves them alone.
    pub source_frequency_max: Option<f64>,
    /// Events that make up the snapshot in DISTINCT mode, at most.
    pub snapshot_length: u32,
    /// Which of the item's events may not be merged, for everybody. What the configuration says of the item is added.
    pub trade_safe: TradeSafe,
    /// What the selector means that the client named, if the adapter says so. Else the configuration does.
    pub selector: Option<Selector>,
    /// The mode, if not RAW, in which somebody looks at the item already, or is about to. No adapter's business: ingest
    /// knows, see [`Ingest::claim`](crate::ingest::Ingest::claim).
    pub looked_at: Option<Mode>,
}

/// The adapter sets of a server, as far as questions are concerned.
#[derive(Clone, Debug, Default)]
pub struct AdapterSets {
    sets: Vec<AdapterSet>,
    adapters: u16,
}

/// One adapter set.
#[derive(Clone, Debug)]
struct AdapterSet {
    name: Box<str>,
    /// `None`: an adapter elsewhere, which the driver asks.
    metadata: Option<Literal>,
    data: Vec<(Box<str>, DataAdapterId)>,
    /// The name of the status adapter, if the set has it.
    status: Option<Box<str>>,
}

/// The name that a client means when it names no adapter set or data adapter.
pub const DEFAULT_NAME: &str = "DEFAULT";

impl AdapterSets {
    /// Adds a set with its data adapters, and returns the numbers of these in the same order.
    pub fn add(
        &mut self,
        name: &str,
        metadata: Literal,
        data_adapters: &[&str],
    ) -> Vec<DataAdapterId> {
        self.add_set(name, Some(metadata), data_adapters)
    }

    /// The same for a set whose metadata adapter is elsewhere: see [`AdapterSets::elsewhere`].
    pub fn add_elsewhere(&mut self, name: &str, data_adapters: &[&str]) -> Vec<DataAdapterId> {
        self.add_set(name, None, data_adapters)
    }

    /// Gives a set the built-in [`status`] adapter under this name, which none of its others has.
    pub fn add_status(&mut self, set: AdapterSetId, name: &str) {
        self.sets[usize::from(set.0)].status = Some(name.into());
    }

    /// The set whose metadata adapter is elsewhere and must be asked. `None`: [`AdapterSets::answer`] does.
    pub fn elsewhere(&self, question: &Question) -> Option<AdapterSetId> {
        let index = match question {
            Question::OpenSession { adapter_set, .. } => self.position(adapter_set)?,
            Question::Subscribe {
                adapter_set,
                data_adapter,
                ..
            } if self.is_status(*adapter_set, data_adapter.as_deref()) => return None,
            Question::Subscribe { adapter_set, .. } | Question::Message { adapter_set, .. } => {
                usize::from(adapter_set.0)
            }
            Question::SessionClosed { .. } | Question::Unsubscribed { .. } => return None,
        };
        self.sets[index].metadata.is_none().then(|| set_id(index))
    }

    /// Whether a set's data adapter of this name is the status adapter.
    fn is_status(&self, set: AdapterSetId, data_adapter: Option<&str>) -> bool {
        let name = data_adapter.unwrap_or(DEFAULT_NAME);
        self.sets[usize::from(set.0)].status.as_deref() == Some(name)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.sets.iter().position(|set| *set.name == *name)
    }

    fn add_set(
        &mut self,
        name: &str,
        metadata: Option<Literal>,
        data_adapters: &[&str],
    ) -> Vec<DataAdapterId> {
        let ids: Vec<_> = (self.adapters..)
            .map(DataAdapterId)
            .take(data_adapters.len())
            .collect();
        self.adapters += u16::try_from(ids.len()).expect("a configuration has few adapters");
        let data = data_adapters
            .iter()
            .map(|&name| name.into())
            .zip(ids.iter().copied())
            .collect();
        self.sets.push(AdapterSet {
            name: name.into(),
            metadata,
            data,
            status: None,
        });
        ids
    }

    /// Answers a question at once, as the built-in metadata adapter can. `from` is the shard that asks.
    pub fn answer(&self, _from: ShardId, ask: &Ask) -> Answer {
        Answer {
            token: ask.token,
            result: self.decide(&ask.question),
        }
    }

    fn decide(&self, question: &Question) -> Result<Granted, Refusal> {
        match question {
            Question::OpenSession {
                adapter_set,
                user,
                password,
                ..
            } => {
                let index = self.position(adapter_set);
                let index = index.ok_or_else(Refusal::adapter_set_unavailable)?;
                self.literal(set_id(index))?
                    .open_session(user.as_deref(), password.as_deref())?;
                Ok(Granted::Session {
                    adapter_set: set_id(index),
                    session: None,
                    bandwidth_kbps_max: None,
                    time_to_live: None,
                    notices: false,
                })
            }
            Question::Subscribe {
                adapter_set,
                data_adapter,
                group,
                range,
                schema,
                selector,
                mode,
                ..
            } => {
                if self.is_status(*adapter_set, data_adapter.as_deref()) {
                    if selector.is_some() {
                        return Err(Refusal::bad_selector());
                    }
                    return Ok(Granted::Subscription {
                        data_adapter: DataAdapterId::STATUS,
                        items: select(status::items(group, *mode)?, *range)?,
                        fields: Literal::default().fields(schema)?,
                        statistics: false,
                        mode: *mode,
                        claim: None,
                    });
                }
                let set = &self.sets[usize::from(adapter_set.0)];
                let metadata = self.literal(*adapter_set)?;
                let name = data_adapter.as_deref().unwrap_or(DEFAULT_NAME);
                let adapter = set.data.iter().find(|(known, _)| &**known == name);
                let (_, data_adapter) = adapter.ok_or_else(Refusal::data_adapter_unknown)?;
                Ok(Granted::Subscription {
                    data_adapter: *data_adapter,
                    items: select(metadata.items(group, *mode)?, *range)?,
                    fields: metadata.fields(schema)?,
                    statistics: false,
                    mode: *mode,
                    claim: None,
                })
            }
            // This adapter has no use for messages, and nothing against them.
            Question::Message { .. } => Ok(Granted::Message { response: None }),
            // Nor does it keep account of sessions; and nobody waits for this.
            Question::SessionClosed { .. } | Question::Unsubscribed { .. } => {
                Ok(Granted::Message { response: None })
            }
        }
    }

    fn literal(&self, set: AdapterSetId) -> Result<&Literal, Refusal> {
        let metadata = self.sets[usize::from(set.0)].metadata.as_ref();
        metadata.ok_or_else(Refusal::adapter_failed)
    }
}

/// The items of a group that a subscription takes. A range that begins behind the group's end is an error; one that ends
/// there is cut off.
pub fn select<T>(mut items: Vec<T>, range: Option<(u32, u32)>) -> Result<Vec<T>, Refusal> {
    let Some((first, last)) = range else {
        return Ok(items);
    };
    let before = (first as usize).saturating_sub(1);
    if before >= items.len() {
        return Err(Refusal::bad_group().with_text("The item group has no such range"));
    }
    items.truncate(last as usize);
    items.drain(..before.min(items.len()));
    Ok(items)
}

fn set_id(index: usize) -> AdapterSetId {
    AdapterSetId(u16::try_from(index).expect("a configuration has few sets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_group() {
        let selected = |range| {
            let names = select(vec!["a", "b", "c"], range);
            names
                .map(|names| names.concat())
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(selected(None), Ok("abc".into()));
        assert_eq!(selected(Some((2, 3))), Ok("bc".into()));
        assert_eq!(selected(Some((2, 2))), Ok("b".into()));
        assert_eq!(selected(Some((1, u32::MAX))), Ok("abc".into()));
        assert_eq!(selected(Some((4, 4))), Err(21));
        assert_eq!(
            select(Vec::<&str>::new(), Some((1, 1))).unwrap_err().code,
            21
        );
    }
}
