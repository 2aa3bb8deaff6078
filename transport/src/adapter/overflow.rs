//! What a publisher could not put into its ring, merged item by item, until ingest takes it.
//!
//! Where everybody looks at an item in MERGE mode, only its last state counts. So a publisher that finds the ring full
//! need not wait nor lose anything: it merges the event with what waits already. The box with all that waits lies in a
//! cell which either side swaps out without waiting ([`super::feed`]): the publisher takes it, adds to it and puts it
//! back; ingest, when it has nothing else to do, takes it for good.
//!
//! **Order.** While a box waits, all events of items that may be merged go into it, so nothing newer of them is in the
//! ring. The box says how many records went into the ring before it, and ingest reads exactly those first.
//!
//! **Bounds**: one row for each item, and [`OVERFLOW_BYTES_MAX`] in all. Beyond, the publisher is told that there is no
//! room.

use super::record::Field;
use engine::ids::ItemId;
use engine::ingest::event::AdapterEvent;
use std::collections::{HashMap, VecDeque};

/// Bytes of all that waits. A guess: the last states of some hundred thousand items.
const OVERFLOW_BYTES_MAX: usize = 64 << 20;
/// What a row costs besides its text. An estimate.
const ROW_BYTES: usize = 128;
/// What a field costs besides its text. An estimate.
const FIELD_BYTES: usize = 48;

/// All that waits.
pub(super) struct Overflow {
    /// The records of the ring that come first, counted from the feed's start.
    pub(super) after: u64,
    rows: VecDeque<(ItemId, Row)>,
    /// Where in `rows` an item is. Only while the publisher adds.
    places: HashMap<ItemId, usize>,
    bytes: usize,
}

/// What waits of one item.
#[derive(Default)]
struct Row {
    /// What was known before is void.
    cleared: bool,
    /// The fields are of the snapshot.
    snapshot: bool,
    /// The snapshot is complete.
    ended: bool,
    fields: Vec<(Box<str>, Option<String>)>,
    bytes: usize,
}

/// What happens to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'f> {
    /// An event, or an event of the snapshot.
    Update(bool, &'f [Field<'f>]),
    EndOfSnapshot,
    ClearSnapshot,
}

impl Overflow {
    /// An empty one, behind so many records.
    pub(super) fn new(after: u64) -> Self {
        Self {
            after,
            rows: VecDeque::new(),
            places: HashMap::new(),
            bytes: 0,
        }
    }

    /// Whether something of this item waits.
    pub(super) fn has(&self, item: ItemId) -> bool {
        self.places.contains_key(&item)
    }

    /// Merges a change with what waits of the item; `false` if there is no room for it.
    pub(super) fn add(&mut self, item: ItemId, change: Change<'_>) -> bool {
        let known = self.places.get(&item).copied();
        let growth = match (known, change) {
            (Some(place), Change::Update(_, fields)) => self.rows[place].1.growth(fields),
            (None, Change::Update(_, fields)) => ROW_BYTES + Row::default().growth(fields),
            (Some(_), _) => 0,
            (None, _) => ROW_BYTES,
        };
        if self.bytes + growth > OVERFLOW_BYTES_MAX {
            return false;
        }
        let place = known.unwrap_or_else(|| {
            self.places.insert(item, self.rows.len());
            self.rows.push_back((item, Row::default()));
            self.rows.len() - 1
        });
        let row = &mut self.rows[place].1;
        self.bytes -= row.bytes;
        row.bytes += growth;
        match change {
            Change::Update(snapshot, fields) => row.update(snapshot, fields),
            Change::EndOfSnapshot => row.ended = true,
            Change::ClearSnapshot => {
                *row = Row {
                    cleared: true,
                    bytes: ROW_BYTES,
                    ..Row::default()
                }
            }
        }
        self.bytes += row.bytes;
        true
    }

    /// Hands the next row to `f` as up to three events, and says how many it were; `None` if that was all.
    pub(super) fn take(&mut self, f: &mut impl FnMut(AdapterEvent<'_>)) -> Option<usize> {
        let (item, row) = self.rows.pop_front()?;
        let mut events = 0;
        let mut say = |event: AdapterEvent<'_>| {
            f(event);
            events += 1;
        };
        if row.cleared {
            say(AdapterEvent::ClearSnapshot { item });
        }
        if !row.fields.is_empty() {
            let fields: Vec<Field<'_>> = row
                .fields
                .iter()
                .map(|(name, value)| (&**name, value.as_deref()))
                .collect();
            say(AdapterEvent::Update {
                item,
                snapshot: row.snapshot,
                fields: &fields,
            });
        }
        if row.ended {
            say(AdapterEvent::EndOfSnapshot { item });
        }
        Some(events)
    }
}

impl Row {
    fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|(known, _)| **known == *name)
    }

    /// By how many bytes these fields may make the row grow: an upper bound, since what they replace is not deducted.
    fn growth(&self, fields: &[Field<'_>]) -> usize {
        let growth = |(name, value): &Field<'_>| {
            let value_bytes = value.map_or(0, str::len);
            match self.place(name) {
                Some(place) => {
                    let room = self.fields[place].1.as_ref().map_or(0, String::len);
                    value_bytes.saturating_sub(room)
                }
                None => FIELD_BYTES + name.len() + value_bytes,
            }
        };
        fields.iter().map(growth).sum()
    }

    fn update(&mut self, snapshot: bool, fields: &[Field<'_>]) {
        if self.fields.is_empty() {
            self.snapshot = snapshot;
        }
        for (name, value) in fields {
            match self.place(name) {
                Some(place) => match (&mut self.fields[place].1, value) {
                    (Some(known), Some(value)) => {
                        known.clear();
                        known.push_str(value);
                    }
                    (known, value) => *known = value.map(ToOwned::to_owned),
                },
                None => self
                    .fields
                    .push(((*name).into(), value.map(ToOwned::to_owned))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::Heard;
    use super::*;

    fn all(mut overflow: Overflow) -> Vec<Heard> {
        let mut heard = Vec::new();
        while overflow
            .take(&mut |event| heard.push(Heard::from(event)))
            .is_some()
        {}
        heard
    }

    #[test]
    fn the_newest_value_of_each_field_is_kept_in_the_order_of_the_items() {
        let mut overflow = Overflow::new(7);
        let mut update = |item, fields: &[Field<'_>]| {
            assert!(overflow.add(ItemId(item), Change::Update(false, fields)));
        };
        update(1, &[("bid", Some("1")), ("ask", Some("2"))]);
        update(2, &[("bid", Some("9"))]);
        update(1, &[("bid", Some("3")), ("note", None)]);
        update(1, &[("ask", None)]);
        assert!(overflow.has(ItemId(2)) && !overflow.has(ItemId(3)));
        assert_eq!(
            all(overflow),
            [
                Heard::update(
                    1,
                    false,
                    &[("bid", Some("3")), ("ask", None), ("note", None)]
                ),
                Heard::update(2, false, &[("bid", Some("9"))]),
            ]
        );
    }

    #[test]
    fn a_clear_voids_what_waits_and_an_end_stays_behind() {
        let mut overflow = Overflow::new(0);
        let item = ItemId(1);
        for change in [
            Change::Update(true, &[("bid", Some("1"))]),
            Change::EndOfSnapshot,
            Change::Update(false, &[("bid", Some("2"))]),
        ] {
            assert!(overflow.add(item, change));
        }
        assert!(overflow.add(ItemId(2), Change::Update(false, &[("bid", Some("1"))])));
        assert!(overflow.add(ItemId(2), Change::ClearSnapshot));
        assert!(overflow.add(ItemId(2), Change::Update(true, &[("ask", Some("5"))])));
        assert_eq!(
            all(overflow),
            [
                Heard::update(1, true, &[("bid", Some("2"))]),
                Heard::EndOfSnapshot(1),
                Heard::ClearSnapshot(2),
                Heard::update(2, true, &[("ask", Some("5"))]),
            ]
        );
    }

    #[test]
    fn there_is_a_bound_and_what_waits_stays_as_it_was_at_it() {
        let mut overflow = Overflow::new(0);
        let long = "x".repeat(OVERFLOW_BYTES_MAX / 2);
        assert!(overflow.add(ItemId(1), Change::Update(false, &[("a", Some(&long))])));
        assert!(!overflow.add(ItemId(1), Change::Update(false, &[("b", Some(&long))])));
        assert!(!overflow.add(ItemId(2), Change::Update(false, &[("b", Some(&long))])));
        assert!(overflow.add(ItemId(1), Change::Update(false, &[("a", Some("1"))])));
        assert_eq!(
            all(overflow),
            [Heard::update(1, false, &[("a", Some("1"))])]
        );
    }
}
