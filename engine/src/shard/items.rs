//! A shard's own copies of the items that its sessions look at.
//!
//! The first subscription to an item makes the shard ask ingest for it; all later ones are served from here, their
//! snapshots included. The last one to leave gives it back. An item's index here is its address on the data ring, and
//! the epoch tells its tenants apart: what is still on its way for the last one is ignored by the next.

use super::diffs::{Diffs, FieldDiffs, Variant};
use super::rows::{KeyChange, Table};
use super::status::is_status;
use super::tails::{Tail, Tails, Wanted};
use super::{SubItem, SubItemKey};
use crate::ingest::demand::Demand;
use crate::ingest::record::{Kind, Lost, Record};
use crate::item::distinct::History;
use crate::item::row::{Row, RowBuilder};
use crate::item::{ItemName, ItemNameRef};
use crate::limits::Limits;
use crate::metadata::GrantedItem;
use crate::tlcp::Dialect;
use crate::tlcp::diff::{Formats, Order};
use crate::tlcp::request::Mode;
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
    /// Those of which the data adapter says how they may be sent as differences.
    declared: Vec<(usize, Order)>,
    /// The mode in which the item is looked at here; `None` while that is RAW only.
    mode: Option<Mode>,
    /// Somebody here looks at it in RAW mode.
    raw: bool,
    /// MERGE: the current state; `None` until ingest has told it.
    pub row: Option<Row>,
    /// DISTINCT and COMMAND: what is known of it.
    pub rows: Rows,
    /// DISTINCT and COMMAND: that is complete.
    pub complete: bool,
    /// So many events are missing behind what was told last. What they lead to is told next, but perhaps not in the same turn.
    pub lost: Lost,
    /// Who looks at the item. The order says nothing.
    pub listeners: Vec<SubItemKey>,
    views: Vec<View>,
    diffs: Diffs,
}

/// What modes other than MERGE know of an item. Boxed: most items are MERGE.
#[derive(Debug, Default)]
pub enum Rows {
    /// Nothing: MERGE and RAW.
    #[default]
    None,
    /// The last events.
    History(Box<History<Row>>),
    /// The rows by key.
    Table(Box<Table>),
}

/// An item seen through a schema, in the wording of its [`Tails`].
#[derive(Debug)]
struct View {
    schema: Schema,
    /// In RAW mode: the same event is another row there.
    raw: bool,
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
#[derive(Clone, Debug)]
pub enum Change {
    /// Nothing that a client would see.
    None,
    /// MERGE: there is a state now, for those who wait for a snapshot. DISTINCT and COMMAND: what is known is complete.
    Snapshot,
    /// MERGE: the state has changed, for everybody; by an event that is trade-safe, or not.
    Merged(bool),
    /// DISTINCT: an event, trade-safe or not.
    Event(Row, bool),
    /// COMMAND: a row.
    Key(KeyChange),
    /// DISTINCT and COMMAND: all that was is void.
    Cleared,
    /// Events are missing, for those to whom they may not be merged.
    Lost(Lost),
    /// RAW: an event.
    Raw(Row),
    /// RAW: events are missing.
    RawLost(Lost),
}

/// The item is looked at in another mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeConflict;

impl Items {
    /// No items yet.
    pub fn new(diffs: Diffs) -> Self {
        Self {
            diffs,
            ..Self::default()
        }
    }

    /// Whether the item can be looked at in this mode: MERGE, DISTINCT and COMMAND exclude each other, RAW goes with all.
    pub fn check_mode(&self, name: ItemNameRef<'_>, mode: Mode) -> Result<(), ModeConflict> {
        let known = self
            .by_name
            .get(&name)
            .map(|index| &self.slots[*index as usize]);
        let known = known.and_then(|slot| slot.item.as_ref()?.mode);
        match known {
            Some(known) if mode != Mode::Raw && known != mode => Err(ModeConflict),
            _ => Ok(()),
        }
    }

    /// The index of an item, and the demand for it if nobody here looked at it so far in this mode, and ingest has it. A
    /// listener must be added.
    pub fn open(
        &mut self,
        name: ItemNameRef<'_>,
        mode: Mode,
        granted: &GrantedItem,
        limits: &Limits,
    ) -> (u32, Option<Demand>) {
        let index = match self.by_name.get(&name) {
            Some(&index) => index,
            None => self.add(name),
        };
        let slot = &mut self.slots[index as usize];
        let item = slot.item.as_mut().expect("found or added");
        let new = match mode {
            Mode::Raw => !std::mem::replace(&mut item.raw, true),
            // Checked before, and claimed since.
            _ if item.mode.is_some_and(|known| known != mode) => false,
            _ => item.mode.replace(mode).is_none(),
        };
        let length = (granted.snapshot_length as usize).min(limits.snapshot_len_max);
        match (&mut item.rows, mode) {
            (Rows::None, Mode::Distinct) => {
                let history = History::new(length, limits.rows_bytes_max);
                item.rows = Rows::History(Box::new(history));
            }
            (Rows::History(history), Mode::Distinct) => history.widen(length),
            (Rows::None, Mode::Command) => {
                let mut table = Table::default();
                table.resolve(&item.fields);
                item.rows = Rows::Table(Box::new(table));
            }
            _ => {}
        }
        let demand = (new && !is_status(name.adapter)).then(|| Demand::Want {
            local: index,
            epoch: slot.epoch,
            adapter: name.adapter,
            name: name.name.into(),
            mode,
            snapshot_length: granted.snapshot_length,
            source_frequency_max: granted.source_frequency_max,
            trade_safe: granted.trade_safe.clone(),
        });
        (index, demand)
    }

    fn add(&mut self, name: ItemNameRef<'_>) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("subscriptions are bounded")
        });
        let slot = &mut self.slots[index as usize];
        slot.epoch = slot.epoch.wrapping_add(1);
        slot.item = Some(LocalItem {
            name: name.to_owned(),
            fields: Vec::new(),
            declared: Vec::new(),
            mode: None,
            raw: false,
            row: None,
            rows: Rows::None,
            complete: false,
            lost: Lost::default(),
            listeners: Vec::new(),
            views: Vec::new(),
            diffs: self.diffs,
        });
        self.by_name.insert(name.to_owned(), index);
        index
    }

    /// The tenant of an index now.
    pub fn epoch(&self, index: u32) -> u32 {
        self.slots[index as usize].epoch
    }

    /// Whether this tenant of an index is still there.
    pub fn is_alive(&self, index: u32, epoch: u32) -> bool {
        let slot = &self.slots[index as usize];
        slot.epoch == epoch && slot.item.is_some()
    }

    /// Forgets an item that has no listener, if so; the demand tells ingest.
    pub fn close_if_unused(&mut self, index: u32) -> Option<Demand> {
        let slot = &mut self.slots[index as usize];
        let item = slot.item.take_if(|item| item.listeners.is_empty())?;
        self.by_name.remove(&item.name.as_ref());
        self.free.push(index);
        let drop = Demand::Drop {
            local: index,
            epoch: slot.epoch,
        };
        (!is_status(item.name.adapter)).then_some(drop)
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
        let builder = &mut self.builder;
        let fields = item.fields.len();
        let change = match record.kind {
            Kind::Fields => {
                item.learn(record);
                return Some((record.local, Change::None));
            }
            Kind::Snapshot => {
                item.row = Some(build(builder, fields, None, record));
                Change::Snapshot
            }
            Kind::State => {
                item.row = Some(build(builder, fields, None, record));
                Change::Merged(record.safe)
            }
            Kind::Update => {
                item.row = Some(build(builder, fields, item.row.as_ref(), record));
                Change::Merged(record.safe)
            }
            Kind::Event | Kind::SnapshotEvent => {
                let event = record.kind == Kind::Event;
                match &mut item.rows {
                    Rows::History(history) => {
                        let row = build(builder, fields, None, record);
                        history.push(row.clone(), row.bytes());
                        if event {
                            Change::Event(row, record.safe)
                        } else {
                            Change::None
                        }
                    }
                    Rows::Table(table) => match table.apply(fields, record) {
                        Some(change) if event => Change::Key(change),
                        // A key that came and went while the ring was full: one event more that nobody saw.
                        None if event => Change::Lost(Lost {
                            events: 1,
                            safe: u32::from(record.safe),
                        }),
                        _ => Change::None,
                    },
                    Rows::None => Change::None,
                }
            }
            Kind::EndOfSnapshot => {
                item.complete = true;
                Change::Snapshot
            }
            Kind::Clear => {
                match &mut item.rows {
                    Rows::History(history) => history.clear(),
                    Rows::Table(table) => table.clear(),
                    Rows::None => {}
                }
                // While the snapshot is still coming, nobody has seen anything of it.
                if item.complete {
                    Change::Cleared
                } else {
                    Change::None
                }
            }
            Kind::Lost => {
                if let Rows::History(history) = &mut item.rows {
                    history.clear(); // a snapshot must have no hole; the last events follow
                }
                Change::Lost(record.lost())
            }
            Kind::Raw => Change::Raw(build(builder, fields, None, record)),
            Kind::RawLost => Change::RawLost(record.lost()),
        };
        // In RAW mode the item may be further than in its own.
        if !matches!(record.kind, Kind::Raw | Kind::RawLost) {
            item.lost = match record.kind {
                Kind::Lost => item.lost.and(record.lost()),
                _ => Lost::default(),
            };
        }
        Some((record.local, change))
    }

    /// All items here now.
    pub fn iter(&self) -> impl Iterator<Item = &LocalItem> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
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
    /// How many fields the item has had so far.
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// COMMAND: how many records of it have been taken.
    pub fn taken(&self) -> u64 {
        match &self.rows {
            Rows::Table(table) => table.taken(),
            _ => 0,
        }
    }

    /// Their names.
    pub fn field_names(&self) -> &[Box<str>] {
        &self.fields
    }

    /// More fields are named.
    fn learn(&mut self, record: &Record<'_>) {
        let declared = self.declared.len();
        for (name, differences) in record.names() {
            let order = differences.map(|order| (self.fields.len(), order));
            self.declared.extend(order);
            self.fields.push(name.into());
        }
        for view in &mut self.views {
            view.resolve(&self.fields);
            if self.declared.len() > declared {
                // Of fields that had no name so far there are no values, and so no tails that this makes wrong.
                view.find_diffs(&self.declared, &self.diffs);
            }
        }
        if let Rows::Table(table) = &mut self.rows {
            table.resolve(&self.fields);
        }
    }

    /// The number of the view for `schema` in a dialect, in RAW mode or not, which is counted as used once more.
    pub fn open_view(&mut self, schema: &Schema, dialect: Dialect, raw: bool) -> u32 {
        let same = self.views.iter().position(|view| {
            view.users > 0
                && view.raw == raw
                && view.tails.dialect() == dialect
                && Rc::ptr_eq(&view.schema, schema)
        });
        let index = same.unwrap_or_else(|| {
            let mut view = View {
                schema: Rc::clone(schema),
                raw,
                map: vec![NO_FIELD; schema.len()],
                users: 0,
                diffs: None,
                tails: Tails::new(dialect),
            };
            view.resolve(&self.fields);
            view.find_diffs(&self.declared, &self.diffs);
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

    /// How a client is told of fields that may go out as differences.
    #[inline]
    pub fn variant(&self, of: &SubItem, client: Formats) -> Variant {
        match &self.views[of.view as usize].diffs {
            Some(diffs) => diffs.variant(client, of.parsed()),
            None => Variant::PLAIN,
        }
    }

    /// What takes a client from the row that it has to `row`, through its view. The client decodes these formats of
    /// differences.
    #[inline]
    pub fn tail(
        &mut self,
        of: &SubItem,
        row: &Row,
        client: Formats,
        scratch: &mut Vec<u8>,
    ) -> Tail<'_> {
        let variant = self.variant(of, client);
        let view = &mut self.views[of.view as usize];
        let diffs = view.diffs.as_deref();
        let waiting = of.waiting();
        let wanted = Wanted { variant, waiting };
        let base = of.base.as_ref();
        view.tails.get(&view.map, diffs, base, row, wanted, scratch)
    }
}

impl View {
    /// Finds how its fields may be sent as differences: as the data adapter says, or the configuration.
    fn find_diffs(&mut self, declared: &[(usize, Order)], default: &Diffs) {
        if self.tails.dialect() == Dialect::Legacy {
            return;
        }
        let order = |number: &u16| {
            let mut declared = declared.iter();
            let found = declared.find(|(field, _)| *field == usize::from(*number));
            found.map_or(default.order, |(_, order)| *order)
        };
        let names = self.schema.iter().map(|name| &**name);
        self.diffs = FieldDiffs::new(names.zip(self.map.iter().map(order)), default.sizes);
    }

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
