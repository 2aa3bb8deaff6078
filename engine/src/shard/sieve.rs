//! The selector of a subscription at work on one of its items: see [`crate::item::selector`].

use super::items::{Change, LocalItem};
use crate::item::row::Row;
use crate::item::selector::Selector;
use crate::metadata::AdapterSetId;
use std::sync::Arc;

/// Selectors that the configuration names. Cheap to copy: every shard has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selectors(Option<Arc<[NamedSelector]>>);

/// The set in which it has this name, and what it selects.
pub type NamedSelector = (AdapterSetId, Box<str>, Selector);

impl Selectors {
    /// These.
    pub fn new(selectors: Vec<NamedSelector>) -> Self {
        Self((!selectors.is_empty()).then(|| selectors.into()))
    }

    /// The one of this name in an adapter set.
    pub fn of(&self, set: AdapterSetId, name: &str) -> Option<&Selector> {
        let all = self.0.iter().flat_map(|selectors| selectors.iter());
        let mut found = all.filter(|(known, called, _)| *known == set && **called == *name);
        found.next().map(|(_, _, selector)| selector)
    }
}

/// A selector with the numbers of its fields in an item.
#[derive(Debug)]
pub(super) struct Sieve {
    selector: Selector,
    numbers: Vec<Option<usize>>,
    /// Fields that the item had when they were looked up.
    fields: usize,
}

impl Sieve {
    /// The field numbers are looked up when they are needed.
    pub fn new(selector: Selector) -> Self {
        Self {
            numbers: vec![None; selector.tests().len()],
            selector,
            fields: 0,
        }
    }

    /// Whether a change of the item is for this subscription, which looks at the item in RAW mode or not.
    pub fn passes(&mut self, change: &Change, item: &LocalItem, raw: bool) -> bool {
        match change {
            Change::Merged(_) if !raw => match &item.row {
                Some(row) => self.selects(row, item),
                None => true,
            },
            Change::Event(row, _) if !raw => self.selects(row, item),
            Change::Raw(row) if raw => self.selects(row, item),
            Change::Key(change) if !raw => self.selector.selects_key(&change.key),
            _ => true, // of no event, or none for this subscription
        }
    }

    /// Whether the values of a row pass.
    pub fn selects(&mut self, row: &Row, item: &LocalItem) -> bool {
        let names = item.field_names();
        if names.len() != self.fields {
            for (number, test) in self.numbers.iter_mut().zip(self.selector.tests()) {
                *number = names.iter().position(|name| *name == test.field);
            }
            self.fields = names.len();
        }
        let mut tests = self.selector.tests().iter().zip(&self.numbers);
        tests.all(|(test, number)| {
            let value = number.and_then(|number| row.get(number));
            value.is_some_and(|value| test.check.passes(value))
        })
    }
}
