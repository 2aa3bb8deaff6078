//! The items that a remote data adapter is asked for, found by the ids of their subscriptions: each event names one, so
//! the id has the item's place in it, and nothing is hashed on the way of an event.

use engine::ids::ItemId;
use slab::Slab;
use std::collections::HashMap;

/// Bits of an id that are the item's place: as many as ingest has for items.
const PLACE_BITS: u32 = 24;

/// The items, and the ids of requests.
pub(super) struct Items {
    places: Slab<Wanted>,
    by_item: HashMap<ItemId, usize, foldhash::fast::RandomState>,
    /// Goes on counting when a remote is replaced, so that nothing of an old one fits a new one.
    serial: u64,
}

/// An item that ingest wants.
pub(super) struct Wanted {
    pub item: ItemId,
    pub name: Box<str>,
    /// The id of the `SUB` that is in force; none while the remote is away, or if it refused.
    pub subscription: Option<u64>,
    /// Clients wait for the end of the snapshot.
    pub awaits_snapshot: bool,
    /// Snapshot events are not used, until the snapshot ends.
    pub hole: bool,
    /// The remote that is there has said something of it.
    pub heard: bool,
}

impl Items {
    pub fn new() -> Self {
        Self {
            places: Slab::new(),
            by_item: HashMap::default(),
            // 0, 1 and 2 have a meaning of their own.
            serial: 0x10,
        }
    }

    /// An id for a request that is about no item.
    pub fn next_id(&mut self) -> u64 {
        self.id_for(0)
    }

    fn id_for(&mut self, place: usize) -> u64 {
        self.serial += 1;
        self.serial << PLACE_BITS | place as u64
    }

    /// Ingest wants an item.
    pub fn insert(&mut self, item: ItemId, name: String) {
        let place = self.places.insert(Wanted {
            item,
            name: name.into(),
            subscription: None,
            awaits_snapshot: true,
            hole: false,
            heard: false,
        });
        debug_assert!(place < 1 << PLACE_BITS, "ingest has no more items");
        self.by_item.insert(item, place);
    }

    /// Ingest wants it no more.
    pub fn remove(&mut self, item: ItemId) -> Option<Wanted> {
        let place = self.by_item.remove(&item)?;
        self.places.try_remove(place)
    }

    pub fn get_mut(&mut self, item: ItemId) -> Option<&mut Wanted> {
        self.places.get_mut(*self.by_item.get(&item)?)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Wanted> {
        self.places.iter_mut().map(|(_, wanted)| wanted)
    }

    /// Makes the id of an item's subscription, which is in force from now on.
    pub fn subscribe(&mut self, item: ItemId) -> Option<(u64, &Wanted)> {
        let place = *self.by_item.get(&item)?;
        let id = self.id_for(place);
        let wanted = self.places.get_mut(place)?;
        wanted.subscription = Some(id);
        Some((id, wanted))
    }

    /// The item whose subscription has this id, if it is in force.
    #[inline]
    pub fn subscribed(&mut self, id: u64) -> Option<&mut Wanted> {
        let place = (id & ((1 << PLACE_BITS) - 1)) as usize;
        self.places
            .get_mut(place)
            .filter(|wanted| wanted.subscription == Some(id))
    }
}

/// The number that an id's text stands for.
#[inline]
pub(super) fn read_id(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.bytes().try_fold(0, |id, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(id << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_its_item_while_it_is_in_force() {
        let mut items = Items::new();
        items.insert(ItemId(7), "a".into());
        items.insert(ItemId(8), "b".into());
        let (first, _) = items.subscribe(ItemId(8)).unwrap();
        assert_eq!(&*items.subscribed(first).unwrap().name, "b");
        let (second, _) = items.subscribe(ItemId(8)).unwrap();
        assert!(items.subscribed(first).is_none());
        assert_eq!(items.subscribed(second).unwrap().item, ItemId(8));
        items.remove(ItemId(8)).unwrap();
        // Its place goes to the next one.
        items.insert(ItemId(9), "c".into());
        assert!(items.subscribed(second).is_none());
        let (third, wanted) = items.subscribe(ItemId(9)).unwrap();
        assert_eq!(&*wanted.name, "c");
        assert_ne!(third, second);
        assert!(items.subscribed(u64::MAX).is_none() && items.subscribed(0).is_none());
        assert!(items.subscribe(ItemId(8)).is_none());
    }

    #[test]
    fn ids_as_text() {
        for id in [0, 0x11, 0x1234_5678_9abc_def0, u64::MAX] {
            assert_eq!(read_id(&format!("{id:x}")), Some(id));
        }
        for text in ["", "+1", "-1", "1F", "g", "11111111111111111", "é"] {
            assert_eq!(read_id(text), None, "{text}");
        }
    }
}
