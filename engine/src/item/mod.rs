//! What an item is: its name, its fields, its state in each mode.
//!
//! Ingest holds the one true state of an item, by its mode: [`merge::MergeState`], [`distinct::History`] or
//! [`command::CommandState`]. A shard holds immutable copies of it, one [`row::Row`] per event.

pub mod command;
pub mod distinct;
pub mod fields;
pub mod merge;
pub mod row;
pub mod safe;
pub mod selector;
pub mod state;

use crate::ids::DataAdapterId;
use hashbrown::Equivalent;
use std::hash::{Hash, Hasher};

/// An item's full name: the same name in two data adapters means two different items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemName {
    /// The data adapter that supplies the item.
    pub adapter: DataAdapterId,
    /// The name that the metadata adapter gave it.
    pub name: Box<str>,
}

/// [`ItemName`] borrowed, for looking it up without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ItemNameRef<'a> {
    /// The data adapter that supplies the item.
    pub adapter: DataAdapterId,
    /// The name that the metadata adapter gave it.
    pub name: &'a str,
}

impl ItemName {
    /// The same name, borrowed.
    pub fn as_ref(&self) -> ItemNameRef<'_> {
        ItemNameRef {
            adapter: self.adapter,
            name: &self.name,
        }
    }
}

impl ItemNameRef<'_> {
    /// The same name, owned.
    pub fn to_owned(self) -> ItemName {
        ItemName {
            adapter: self.adapter,
            name: self.name.into(),
        }
    }
}

impl Hash for ItemName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Equivalent<ItemName> for ItemNameRef<'_> {
    fn equivalent(&self, key: &ItemName) -> bool {
        *self == key.as_ref()
    }
}
