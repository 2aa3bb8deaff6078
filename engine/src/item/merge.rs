//! MERGE: one row whose fields change. Ingest's copy of the state, and the order in which the item's fields got
//! their numbers.

use super::fields::{FIELD_BYTES, FieldNames, TooLarge};
use smallvec::SmallVec;

/// Short values live inside the table; 24 bytes hold a price, a time, a quantity.
pub(super) type Value = SmallVec<[u8; 24]>;

/// The current state of a MERGE item.
#[derive(Debug, Default)]
pub struct MergeState {
    names: FieldNames,
    /// As many as there are names, once an event has been merged.
    fields: Vec<Field>,
    /// Fields changed by the event at hand, in the order of their numbers once [`MergeState::changed`] is called.
    changed: Vec<u16>,
    /// What all fields come to, see [`field_bytes`]; replaced values may still be counted.
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Field {
    value: Option<Value>,
    changed: bool,
}

impl MergeState {
    /// No values yet, but fields that are known already.
    pub fn with_names(names: FieldNames) -> Self {
        let fields = vec![Field::default(); names.len()];
        Self {
            names,
            fields,
            ..Self::default()
        }
    }

    /// Merges one event: a field that it does not name keeps its value. Afterwards [`MergeState::changed`] tells
    /// what is different. A field name that is new gets the next number.
    ///
    /// On error nothing has changed but the numbers of new fields.
    pub fn merge(
        &mut self,
        event: &[(&str, Option<&str>)],
        fields_max: usize,
        bytes_max: usize,
    ) -> Result<(), TooLarge> {
        self.forget_changes();
        if self.names.len() + event.len() > fields_max {
            // There may be too many new names among them; then nothing of the event may be taken.
            for (name, _) in event {
                self.names.number(name, 0, fields_max)?;
            }
        }
        // What the fields would come to if nothing were replaced: an upper bound that is cheap to keep.
        let added: usize = event
            .iter()
            .map(|(name, value)| field_bytes(name, value.map_or(0, str::len)))
            .sum();
        if self.bytes + added > bytes_max {
            let kept = self.bytes_beside(event);
            if kept + added > bytes_max {
                return Err(TooLarge);
            }
            self.bytes = kept;
        }
        let mut guess = 0;
        for (name, value) in event {
            let index = self.names.number(name, guess, fields_max)?;
            guess = index + 1;
            if self.fields.len() < self.names.len() {
                self.fields.resize(self.names.len(), Field::default());
            }
            let field = &mut self.fields[index];
            let value = value.map(str::as_bytes);
            if field.value.as_deref() == value {
                continue;
            }
            match (&mut field.value, value) {
                (Some(old), Some(new)) => {
                    old.clear();
                    old.extend_from_slice(new);
                }
                (old, new) => *old = new.map(Value::from_slice),
            }
            if !field.changed {
                field.changed = true;
                self.changed
                    .push(u16::try_from(index).expect("fields_max fits"));
            }
        }
        self.bytes += added;
        self.changed.sort_unstable();
        Ok(())
    }

    /// Sets every field to null; all that were not are then changed.
    pub fn clear(&mut self) {
        self.forget_changes();
        for (index, field) in self.fields.iter_mut().enumerate() {
            if field.value.take().is_some() {
                field.changed = true;
                self.changed
                    .push(u16::try_from(index).expect("fields_max fits"));
            }
        }
    }

    /// Numbers of the fields that the last event changed, ascending.
    pub fn changed(&self) -> &[u16] {
        &self.changed
    }

    /// The item's fields.
    pub fn names(&self) -> &FieldNames {
        &self.names
    }

    /// The item's fields, to name more of them.
    pub fn names_mut(&mut self) -> &mut FieldNames {
        &mut self.names
    }

    /// The fields, without their values.
    pub fn into_names(self) -> FieldNames {
        self.names
    }

    /// The current value of a field.
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.fields.get(index)?.value.as_deref()
    }

    /// What all fields come to at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the fields that the event does not name.
    fn bytes_beside(&self, event: &[(&str, Option<&str>)]) -> usize {
        (0..self.names.len())
            .map(|index| (self.names.name(index), self.value(index)))
            .filter(|(known, _)| !event.iter().any(|(name, _)| name == known))
            .map(|(name, value)| field_bytes(name, value.map_or(0, <[u8]>::len)))
            .sum()
    }

    fn forget_changes(&mut self) {
        for index in self.changed.drain(..) {
            self.fields[usize::from(index)].changed = false;
        }
    }
}

/// What a field adds to the largest records that the item can need: its name once, and its number, length and value.
fn field_bytes(name: &str, value_bytes: usize) -> usize {
    name.len() + FIELD_BYTES + value_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(events: &[&[(&str, Option<&str>)]]) -> MergeState {
        let mut state = MergeState::default();
        for event in events {
            state.merge(event, 100, 1000).unwrap();
        }
        state
    }

    #[test]
    fn a_field_that_is_not_named_keeps_its_value() {
        let state = merged(&[&[("a", Some("1")), ("b", Some("2"))], &[("b", Some("3"))]]);
        assert_eq!(state.value(0), Some(&b"1"[..]));
        assert_eq!(state.value(1), Some(&b"3"[..]));
        assert_eq!(state.changed(), &[1]);
    }

    #[test]
    fn an_equal_value_is_no_change_and_null_is_not_empty() {
        let mut state = merged(&[&[("a", Some("1")), ("b", None)]]);
        state
            .merge(&[("b", None), ("a", Some("1"))], 100, 1000)
            .unwrap();
        assert_eq!(state.changed(), &[] as &[u16]);
        state.merge(&[("b", Some(""))], 100, 1000).unwrap();
        assert_eq!(state.changed(), &[1]);
    }

    #[test]
    fn changes_come_in_the_order_of_the_fields() {
        let state = merged(&[
            &[("a", Some("1")), ("b", Some("1"))],
            &[("b", Some("2")), ("a", Some("2")), ("b", Some("3"))],
        ]);
        assert_eq!(state.changed(), &[0, 1]);
        assert_eq!(state.value(1), Some(&b"3"[..]));
    }

    #[test]
    fn clearing_nulls_all_fields() {
        let mut state = merged(&[&[("a", Some("1")), ("b", None)]]);
        state.clear();
        assert_eq!(state.changed(), &[0]);
        assert_eq!(state.value(0), None);
    }

    #[test]
    fn bounds_hold_and_replaced_values_do_not_count() {
        let mut state = MergeState::default();
        assert_eq!(
            state.merge(&[("a", None), ("b", None)], 1, 20),
            Err(TooLarge)
        );
        for n in 0..100 {
            state
                .merge(
                    &[("a", Some(if n % 2 == 0 { "12345" } else { "54321" }))],
                    1,
                    20,
                )
                .unwrap();
        }
        assert_eq!(
            state.merge(&[("a", Some("123456789012"))], 1, 20),
            Err(TooLarge)
        );
        assert_eq!(state.value(0), Some(&b"54321"[..]));
    }

    #[test]
    fn a_large_value_can_be_replaced() {
        let mut state = MergeState::default();
        for value in ["12345678", "87654321", "1234567890"] {
            state.merge(&[("a", Some(value))], 1, 20).unwrap();
        }
        assert_eq!(state.value(0), Some(&b"1234567890"[..]));
    }

    #[test]
    fn a_refused_event_changes_no_value() {
        let mut state = merged(&[&[("a", Some("1"))]]);
        let event = [("a", Some("2")), ("b", Some("2")), ("c", Some("2"))];
        assert_eq!(state.merge(&event, 2, 10), Err(TooLarge));
        assert_eq!(state.value(0), Some(&b"1"[..]));
        assert_eq!(state.value(1), None);
        assert_eq!(state.changed(), &[] as &[u16]);
    }
}
