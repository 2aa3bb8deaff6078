//! Knows everything that was published, and on which part of it each subscription lives; and keeps the first complaint.

use super::feed::cast::Role;
use super::feed::values::Values;
use super::judge::Case;
use super::ledger::Life;
use super::messages::Delivered;
use super::world::insight::TenancyId;
use crate::tlcp::request::Mode;
use std::collections::HashMap;
use std::rc::Rc;

/// The place of an item among all.
pub type ItemIndex = usize;
/// The place of a life among all.
pub type LifeId = usize;

/// What the judges go by.
#[derive(Debug)]
pub struct Oracle {
    /// All values.
    pub values: Values,
    /// The items.
    pub roles: Vec<Rc<Role>>,
    /// The messages of clients.
    pub delivered: Delivered,
    by_name: HashMap<String, ItemIndex>,
    lives: Vec<Life>,
    /// By item, the life that it has now.
    now: Vec<Option<LifeId>>,
    tenancies: HashMap<TenancyId, Tenancy>,
    complaint: Option<String>,
}

/// An item in a shard.
#[derive(Clone, Copy, Debug)]
struct Tenancy {
    life: LifeId,
    /// So much was published when ingest heard of it: for the item's mode, and for RAW.
    heard: [Option<u32>; 2],
}

impl Oracle {
    /// Nothing has been published.
    pub fn new(values: Values, roles: Vec<Role>) -> Self {
        let roles: Vec<_> = roles.into_iter().map(Rc::new).collect();
        let named = roles.iter().enumerate();
        Self {
            values,
            by_name: named
                .map(|(index, role)| (role.name.clone(), index))
                .collect(),
            now: vec![None; roles.len()],
            roles,
            delivered: Delivered::default(),
            lives: Vec::new(),
            tenancies: HashMap::new(),
            complaint: None,
        }
    }

    /// The item with this name.
    pub fn item(&self, name: &str) -> Option<ItemIndex> {
        self.by_name.get(name).copied()
    }

    /// The life that an item has now, if any.
    pub fn life(&self, item: ItemIndex) -> Option<&Life> {
        Some(&self.lives[self.now[item]?])
    }

    /// The same, for the feed to publish.
    pub fn life_mut(&mut self, item: ItemIndex) -> Option<&mut Life> {
        Some(&mut self.lives[self.now[item]?])
    }

    /// Ingest has heard that a shard wants an item.
    pub fn wanted(&mut self, tenancy: TenancyId, name: &str, mode: Mode) {
        let Some(item) = self.item(name) else {
            return self.complain(format!("{name} is wanted, but there is no such item"));
        };
        let life = *self.now[item].get_or_insert_with(|| {
            self.lives.push(Life::new(Rc::clone(&self.roles[item])));
            self.lives.len() - 1
        });
        if mode != Mode::Raw {
            self.lives[life].in_mode();
        }
        let tenancy = self.tenancies.entry(tenancy).or_insert(Tenancy {
            life,
            heard: [None; 2],
        });
        let heard = &mut tenancy.heard[usize::from(mode == Mode::Raw)];
        heard.get_or_insert(self.lives[life].len());
    }

    /// The item is given back to its adapter. False if it was not asked for.
    pub fn given_back(&mut self, item: ItemIndex) -> bool {
        self.now[item].take().is_some()
    }

    /// How much was published of what a subscription lives on, as far as that is known now.
    pub fn published(&self, tenancy: TenancyId) -> u32 {
        let tenancy = self.tenancies.get(&tenancy);
        tenancy.map_or(0, |tenancy| self.lives[tenancy.life].len())
    }

    /// What a judge goes by; `None` if ingest has not heard of it.
    pub fn case(&self, tenancy: TenancyId, mode: Mode, active: u32) -> Option<Case<'_>> {
        let tenancy = self.tenancies.get(&tenancy)?;
        let heard = tenancy.heard[usize::from(mode == Mode::Raw)]?;
        Some(Case {
            life: &self.lives[tenancy.life],
            values: &self.values,
            schema: &[],
            heard,
            since: heard.max(active),
        })
    }

    /// Something is wrong. The first complaint counts.
    pub fn complain(&mut self, complaint: String) {
        self.complaint.get_or_insert(complaint);
    }

    /// The first complaint.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }
}
