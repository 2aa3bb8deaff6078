//! The connections of one reactor: slots that are reused, generations that are not.

use super::ConnId;

/// Slots are numbered below this: `uring` has 24 bits for them beside the generation and the kind of an operation.
pub(super) const SLOTS_MAX: usize = 1 << 24;

/// Tenants by [`ConnId`], at most as many as it was made for.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: Vec<Entry<T>>,
    // Used as a stack: the slot that was left last is the warmest.
    free: Vec<u32>,
    tenants: usize,
    tenants_max: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    tenant: Option<T>,
}

impl<T> Table<T> {
    pub(super) fn new(tenants_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            tenants: 0,
            tenants_max: tenants_max.min(SLOTS_MAX),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.tenants >= self.tenants_max
            || (self.free.is_empty() && self.entries.len() >= SLOTS_MAX)
    }

    /// Moves a tenant in, or gives it back if the table is full.
    pub(super) fn insert(&mut self, tenant: T) -> Result<ConnId, T> {
        if self.is_full() {
            return Err(tenant);
        }
        self.tenants += 1;
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.tenant = Some(tenant);
            return Ok(ConnId {
                slot,
                generation: entry.generation,
            });
        }
        let slot = self.entries.len() as u32;
        self.entries.push(Entry {
            generation: 0,
            tenant: Some(tenant),
        });
        Ok(ConnId {
            slot,
            generation: 0,
        })
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        let entry = self.entries.get(id.slot as usize)?;
        if entry.generation == id.generation {
            entry.tenant.as_ref()
        } else {
            None
        }
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation == id.generation {
            entry.tenant.as_mut()
        } else {
            None
        }
    }

    /// Moves a tenant out; its id is never given again.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<T> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let tenant = entry.tenant.take()?;
        self.tenants -= 1;
        // A slot that has used up its generations is retired rather than giving an old id to a new tenant.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free.push(id.slot);
        }
        Some(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_does_not_outlive_its_tenant() {
        let mut table = Table::new(1);
        let first = table.insert('a').unwrap();
        assert_eq!(table.insert('b'), Err('b'));
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('c').unwrap();
        assert_eq!(first.slot, second.slot);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'c'));
    }

    #[test]
    fn a_slot_without_generations_left_is_retired() {
        let mut table = Table::new(2);
        let id = table.insert('a').unwrap();
        table.entries[0].generation = u32::MAX;
        assert_eq!(
            table.remove(ConnId {
                generation: u32::MAX,
                ..id
            }),
            Some('a')
        );
        assert_eq!(table.insert('b').unwrap().slot, 1);
    }
}
