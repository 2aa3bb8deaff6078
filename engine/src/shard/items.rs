//! A shard's own copies of the items that its sessions look at.
//!
//! The first subscription to an item makes the shard ask ingest for it; all later ones are served from here, their
//! snapshots included. The last one to leave gives it back. An item's index here is its address on the data ring, and
//! the epoch tells its tenants apart: what is still on its way for the last one is ignored by the next.

use super::SubItemKey;
use super::diffs::{Diffs, FieldDiffs, Parsed, Variant};
use super::tails::{Tail, Tails};
use crate::ingest::demand::Demand;
use crate::ingest::record::{Kind, Record};
use crate::item::row::{Row, RowBuilder};
use crate::item::{ItemName, ItemNameRef};
use crate::tlcp::Dialect;
use crate::tlcp::diff::Formats;
use hashbrown::HashMap;
use std::rc::Rc;

/// A field list, shared by all subscriptions of the shard that ask for the same.
pub type Schema = Rc<[Box<str>]>;

/// The local items, by index and by name.
#[derive(Debug, Default)]
pub struct Items {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<ItemName, u32, foldhash::fast::RandomState>,
    builder: RowBuilder,
    diffs: Diffs,
}

#[derive(Debug, Default)]
struct Slot {
    epoch: u32,
    item: Option<LocalItem>,
}

/// One item as this shard knows it.
#[derive(Debug)]
pub struct LocalItem {
    name: ItemName,
    /// The item's fields in the order of their numbers.
    fields: Vec<Box<str>>,
    /// The current state; `None` until ingest has told it.
    pub row: Option<Row>,
    /// Who looks at the item. The order says nothing.
    pub listeners: Vec<SubItemKey>,
    views: Vec<View>,
    diffs: Diffs,
}

/// An item seen through a schema, in the wording of its [`Tails`].
#[derive(Debug)]
struct View {
    schema: Schema,
    /// Per field of the schema its number in the item, or [`NO_FIELD`].
    map: Vec<u16>,
    users: u32,
    /// Which fields may go out as differences; none, mostly.
    diffs: Option<Box<FieldDiffs>>,
    tails: Tails,
}

/// A field that the item does not have (yet). Beyond every number, so a row gives null for it.
const NO_FIELD: u16 = u16::MAX;

/// What a record did to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that a client would see.
    None,
    /// There is a state now, for those who wait for a snapshot.
    Snapshot,
    /// Something happened, for everybody.
    Event,
}

impl Items {
    /// No items yet.
    pub fn new(diffs: Diffs) -> Self {
        Self {
            diffs,
            ..Self::default()
        }
    }

    /// The index of an item, and the demand for it if nobody here looked at it so far. A listener must be added.
    pub fn open(&mut self, name: ItemNameRef<'_>) -> (u32, Option<Demand>) {
        if let Some(&index) = self.by_name.get(&name) {
            return (index, None);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("subscriptions are bounded")
        });
        let slot = &mut self.slots[index as usize];
        slot.epoch = slot.epoch.wrapping_add(1);
        slot.item = Some(LocalItem {
            name: name.to_owned(),
            fields: Vec::new(),
            row: None,
            listeners: Vec::new(),
            views: Vec::new(),
            diffs: self.diffs,
        });
        self.by_name.insert(name.to_owned(), index);
        (
            index,
            Some(Demand::Want {
                local: index,
                epoch: slot.epoch,
                adapter: name.adapter,
                name: name.name.into(),
            }),
        )
    }

    /// Forgets an item that has no listener, if so; the demand tells ingest.
    pub fn close_if_unused(&mut self, index: u32) -> Option<Demand> {
        let slot = &mut self.slots[index as usize];
        let item = slot.item.take_if(|item| item.listeners.is_empty())?;
        self.by_name.remove(&item.name.as_ref());
        self.free.push(index);
        Some(Demand::Drop {
            local: index,
            epoch: slot.epoch,
        })
    }

    /// A live item.
    pub fn get_mut(&mut self, index: u32) -> &mut LocalItem {
        self.slots[index as usize]
            .item
            .as_mut()
            .expect("listeners keep their item alive")
    }

    /// Takes one record; returns the item's index with what changed, or `None` for a record of an earlier tenant.
    #[inline]
    pub fn apply(&mut self, record: &Record<'_>) -> Option<(u32, Change)> {
        let slot = self
            .slots
            .get_mut(record.local as usize)
            .filter(|slot| slot.epoch == record.epoch)?;
        let item = slot.item.as_mut()?;
        let change = match record.kind {
            Kind::Fields => {
                item.fields.extend(record.names().map(Into::into));
                item.views
                    .iter_mut()
                    .for_each(|view| view.resolve(&item.fields));
                Change::None
            }
            Kind::Snapshot => {
                item.row = Some(build(&mut self.builder, item.fields.len(), None, record));
                Change::Snapshot
            }
            Kind::State => {
                item.row = Some(build(&mut self.builder, item.fields.len(), None, record));
                Change::Event
            }
            Kind::Update => {
                let row = build(
                    &mut self.builder,
                    item.fields.len(),
                    item.row.as_ref(),
                    record,
                );
                item.row = Some(row);
                Change::Event
            }
        };
        Some((record.local, change))
    }

    /// Number of items here now.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// The row after a record: the previous row's values but for those that the record brings.
fn build(
    builder: &mut RowBuilder,
    fields: usize,
    previous: Option<&Row>,
    record: &Record<'_>,
) -> Row {
    builder.start(record.seq, fields);
    let mut filled = 0;
    let keep = |builder: &mut RowBuilder, range: std::ops::Range<usize>| {
        for field in range {
            builder.push(previous.and_then(|row| row.get(field)));
        }
    };
    for (field, value) in record.values() {
        debug_assert!(
            (filled..fields).contains(&field),
            "ascending, and named before"
        );
        keep(builder, filled..field);
        builder.push(value);
        filled = field + 1;
    }
    keep(builder, filled..fields);
    builder.finish()
}

impl LocalItem {
    /// The number of the view for `schema` in a dialect, which is counted as used once more.
    pub fn open_view(&mut self, schema: &Schema, dialect: Dialect) -> u32 {
        let same = self.views.iter().position(|view| {
            view.users > 0 && view.tails.dialect() == dialect && Rc::ptr_eq(&view.schema, schema)
        });
        let index = same.unwrap_or_else(|| {
            let mut view = View {
                schema: Rc::clone(schema),
                map: vec![NO_FIELD; schema.len()],
                users: 0,
                diffs: match dialect {
                    Dialect::Tlcp => FieldDiffs::new(
                        schema.iter().map(|name| (&**name, self.diffs.order)),
                        self.diffs.sizes,
                    ),
                    Dialect::Legacy => None,
                },
                tails: Tails::new(dialect),
            };
            view.resolve(&self.fields);
            match self.views.iter().position(|view| view.users == 0) {
                Some(unused) => {
                    self.views[unused] = view;
                    unused
                }
                None => {
                    self.views.push(view);
                    self.views.len() - 1
                }
            }
        });
        self.views[index].users += 1;
        u32::try_from(index).expect("subscriptions are bounded")
    }

    /// A view is used once less.
    pub fn close_view(&mut self, view: u32) {
        self.views[view as usize].users -= 1;
    }

    /// What takes a client of this view from `base` to the current row. The client decodes these formats of
    /// differences, and holds these fields as JSON.
    #[inline]
    pub fn tail(
        &mut self,
        view: u32,
        base: Option<&Row>,
        client: Formats,
        parsed: Parsed,
    ) -> Tail<'_> {
        let view = &mut self.views[view as usize];
        let row = self
            .row
            .as_ref()
            .expect("nothing is owed before there is a state");
        let diffs = view.diffs.as_deref();
        let variant = diffs.map_or(Variant::PLAIN, |diffs| diffs.variant(client, parsed));
        view.tails.get(&view.map, diffs, base, row, variant)
    }
}

impl View {
    /// Finds the numbers of fields that the item has got meanwhile.
    fn resolve(&mut self, fields: &[Box<str>]) {
        for (number, name) in self
            .map
            .iter_mut()
            .zip(self.schema.iter())
            .filter(|(number, _)| **number == NO_FIELD)
        {
            if let Some(found) = fields.iter().position(|field| field == name) {
                *number = u16::try_from(found).expect("fields are bounded");
            }
        }
    }
}
