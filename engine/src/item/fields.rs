//! The names of an item's fields, in the order in which they came to be known: a field's place here is its number
//! everywhere else.

use crate::tlcp::diff::Order;

/// The item has more fields, or its values more bytes, than an item may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The fields of one item.
#[derive(Debug, Default)]
pub struct FieldNames {
    names: Vec<Box<str>>,
    bytes: usize,
    /// What the data adapter says of how fields may be sent as differences. Some of them may not be named yet.
    differences: Vec<(Box<str>, Order)>,
}

/// What a field costs on the data ring beside its name and its value: number and length, and the name's length.
pub const FIELD_BYTES: usize = 8;

impl FieldNames {
    /// How many fields the item has had so far.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no field was ever named.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a field.
    pub fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// Notes how a field may be sent as a difference. Only the first word counts, and only before the field is named; and
    /// no more than `fields_max` fields are noted.
    pub fn declare(&mut self, name: &str, order: Order, fields_max: usize) {
        let known =
            self.find(name).is_some() || self.differences.iter().any(|(known, _)| **known == *name);
        if !known && self.differences.len() < fields_max {
            self.differences.push((name.into(), order));
        }
    }

    /// How a field may be sent as a difference, if the data adapter says so.
    pub fn differences(&self, index: usize) -> Option<Order> {
        let mut declared = self.differences.iter();
        let found = declared.find(|(name, _)| *name == self.names[index]);
        found.map(|(_, order)| *order)
    }

    /// The number of a field, if it has been named.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| **known == *name)
    }

    /// What all names come to, with [`FIELD_BYTES`] for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the field `name`; a name that is new gets the next one. Adapters name their fields in the same order
    /// each time, so `guess`, the field after the last one found, is nearly always right.
    #[inline]
    pub fn number(
        &mut self,
        name: &str,
        guess: usize,
        fields_max: usize,
    ) -> Result<usize, TooLarge> {
        if self.names.get(guess).is_some_and(|known| **known == *name) {
            return Ok(guess);
        }
        if let Some(index) = self.names.iter().position(|known| **known == *name) {
            return Ok(index);
        }
        if self.names.len() >= fields_max {
            return Err(TooLarge);
        }
        self.names.push(name.into());
        self.bytes += name.len() + FIELD_BYTES;
        Ok(self.names.len() - 1)
    }

    /// Number and place of each field that an event names, by ascending number; of a field that is named twice, the last
    /// one counts.
    pub fn numbers(
        &mut self,
        event: &[(&str, Option<&str>)],
        fields_max: usize,
        out: &mut Vec<(u16, u16)>,
    ) -> Result<(), TooLarge> {
        out.clear();
        let mut guess = 0;
        for (at, (name, _)) in event.iter().enumerate() {
            let number = self.number(name, guess, fields_max)?;
            guess = number + 1;
            let at = u16::try_from(at).map_err(|_| TooLarge)?;
            out.push((u16::try_from(number).expect("fields_max fits"), at));
        }
        if !out.is_sorted_by(|a, b| a.0 < b.0) {
            out.sort_unstable_by_key(|(number, at)| (*number, std::cmp::Reverse(*at)));
            out.dedup_by_key(|(number, _)| *number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_of_differences_counts_if_it_is_in_time() {
        let mut names = FieldNames::default();
        let [patch, text] = ["P", "T"].map(Order::from_letters);
        names.declare("a", patch, 2);
        names.declare("a", text, 2);
        for name in ["b", "a", "c"] {
            names.number(name, 0, 10).unwrap();
        }
        names.declare("b", text, 2);
        names.declare("d", text, 2);
        names.declare("e", text, 2);
        names.number("d", 0, 10).unwrap();
        names.number("e", 0, 10).unwrap();
        let said: Vec<_> = (0..5).map(|field| names.differences(field)).collect();
        assert_eq!(said, [None, Some(patch), None, Some(text), None]);
    }

    #[test]
    fn fields_keep_their_numbers_and_the_last_of_two_counts() {
        let mut names = FieldNames::default();
        let mut numbers = Vec::new();
        names
            .numbers(&[("a", None), ("b", None)], 3, &mut numbers)
            .unwrap();
        assert_eq!(numbers, [(0, 0), (1, 1)]);
        let event = [("c", None), ("a", None), ("c", Some("x")), ("b", None)];
        names.numbers(&event, 3, &mut numbers).unwrap();
        assert_eq!(numbers, [(0, 1), (1, 3), (2, 2)]);
        assert_eq!(names.bytes(), 3 + 3 * FIELD_BYTES);
        assert_eq!(
            names.numbers(&[("d", None)], 3, &mut numbers),
            Err(TooLarge)
        );
    }
}
