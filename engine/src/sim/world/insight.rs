//! What only the world can see: when ingest hears of a shard's demand, and which demand a subscription lives on. A judge
//! who knows that can tell exactly from which event on a client must have been told everything.

use super::{Event, World};
use crate::ids::DataAdapterId;
use crate::ingest::demand::Demand;
use crate::metadata::{Ask, Granted, Question};
use crate::tlcp::request::Mode;
use std::collections::BTreeMap;

/// An item in one shard, from its first listener there to its last, numbered over the whole life of the world.
pub type TenancyId = usize;

/// Something that goes on inside the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Ingest has heard that a shard wants an item in a mode: the next event is for that shard too.
    Wanted {
        /// Who wants it.
        tenancy: TenancyId,
        /// The item.
        name: Box<str>,
        /// RAW, or the item's own mode.
        mode: Mode,
    },
    /// A shard has made a subscription active: the next event that it hears of is for that subscription too.
    Active {
        /// The session.
        session: Box<str>,
        /// The subscription.
        sub_id: u32,
        /// What its items live on.
        tenancies: Vec<TenancyId>,
    },
}

/// What is known of demands that are under way.
#[derive(Default)]
pub(super) struct Insight {
    count: usize,
    /// By shard, index and epoch.
    by_address: BTreeMap<(usize, u32, u32), Tenancy>,
    /// By shard and name: those of now.
    by_name: BTreeMap<(usize, Name), TenancyId>,
}

type Name = (DataAdapterId, Box<str>);

struct Tenancy {
    id: TenancyId,
    name: Name,
}

/// A subscription that is granted.
pub(super) struct Opened {
    session: Box<str>,
    sub_id: u32,
    names: Vec<Name>,
}

impl Opened {
    pub fn new(ask: &Ask, granted: &Granted) -> Option<Self> {
        let (
            Question::Subscribe {
                session, sub_id, ..
            },
            Granted::Subscription {
                data_adapter,
                items,
                ..
            },
        ) = (&ask.question, granted)
        else {
            return None;
        };
        let name = |item: &crate::metadata::GrantedItem| (*data_adapter, item.name.clone());
        Some(Self {
            session: session.clone(),
            sub_id: *sub_id,
            names: items.iter().map(name).collect(),
        })
    }
}

impl Insight {
    /// A shard sends a demand.
    pub fn demanded(&mut self, shard: usize, demand: &Demand) {
        match demand {
            Demand::Want {
                local,
                epoch,
                adapter,
                name,
                ..
            } => {
                let name = (*adapter, name.clone());
                let count = &mut self.count;
                let tenancy = self.by_address.entry((shard, *local, *epoch));
                let tenancy = tenancy.or_insert_with(|| {
                    *count += 1;
                    Tenancy {
                        id: *count - 1,
                        name: name.clone(),
                    }
                });
                self.by_name.insert((shard, name), tenancy.id);
            }
            Demand::Settled { .. } => {}
            Demand::Drop { local, epoch } => {
                if let Some(tenancy) = self.by_address.get(&(shard, *local, *epoch)) {
                    self.by_name.remove(&(shard, tenancy.name.clone()));
                }
            }
        }
    }

    /// Ingest hears it.
    pub fn heard(&mut self, shard: usize, demand: &Demand) -> Option<Inside> {
        match demand {
            Demand::Want {
                local,
                epoch,
                name,
                mode,
                ..
            } => Some(Inside::Wanted {
                tenancy: self.by_address.get(&(shard, *local, *epoch))?.id,
                name: name.clone(),
                mode: *mode,
            }),
            Demand::Settled { .. } => None,
            Demand::Drop { local, epoch } => {
                self.by_address.remove(&(shard, *local, *epoch));
                None
            }
        }
    }

    /// A shard has taken the answer to a subscription, and said what it demands.
    pub fn active(&self, shard: usize, opened: Opened) -> Option<Inside> {
        let names = opened.names.into_iter();
        let tenancies = names.map(|name| self.by_name.get(&(shard, name)).copied());
        Some(Inside::Active {
            session: opened.session,
            sub_id: opened.sub_id,
            tenancies: tenancies.collect::<Option<_>>()?,
        })
    }
}

impl World {
    /// Tells of demands and subscriptions from now on ([`Event::Inside`]).
    pub fn show_inside(&mut self) {
        self.insight = Some(Insight::default());
    }

    pub(super) fn tell_inside(&mut self, at: usize, inside: Option<Inside>) {
        if let Some(inside) = inside {
            self.events.insert(at, Event::Inside(inside));
        }
    }
}
