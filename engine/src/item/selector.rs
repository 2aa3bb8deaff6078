//! Selectors: which events of its items a subscription gets. A client names one when it subscribes; what the name means is
//! the metadata adapter's to say, or the configuration's.
//!
//! A selector is a list of tests, all of which an event has to pass. It is data and no function of the adapter's: it runs on
//! the shard's thread, once for each event and each subscription that has one, and a function that takes its time there
//! would hold up every client of the shard. So it costs what its tests cost, and cannot panic.
//!
//! | Mode | What is tested | What is not selected |
//! |---|---|---|
//! | MERGE | the state after the event | is not sent; the next state that is selected has all that changed |
//! | DISTINCT, RAW | the event | is not sent; in DISTINCT it is no part of the snapshot either |
//! | COMMAND | the row's key, and nothing else: it never changes, so each row is told from its ADD to its DELETE or not at all | no row of such a key is told |
//!
//! That everything is void (`CS`) is told in any case, and so is a loss (`OV`): of what is lost nobody knows whether it would
//! have been selected.

use super::command::KEY;
use std::sync::Arc;

/// Which events a subscription gets: those that pass all tests. Cheap to copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector(Arc<Vec<Test>>);

/// One test of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// The field's name. It need not be in the subscription's schema.
    pub field: Box<str>,
    /// What its value must be.
    pub check: Check,
}

/// What the value of a field must be. A null passes no check.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Any value.
    Present,
    /// One of these texts.
    OneOf(Box<[Box<str>]>),
    /// A text that begins so.
    Prefix(Box<str>),
    /// A decimal number not below this one.
    AtLeast(f64),
    /// A decimal number not above this one.
    AtMost(f64),
}

impl Selector {
    /// Selects everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more test.
    #[must_use]
    pub fn and(mut self, field: &str, check: Check) -> Self {
        Arc::make_mut(&mut self.0).push(Test {
            field: field.into(),
            check,
        });
        self
    }

    /// Whether the value is one of these.
    #[must_use]
    pub fn one_of<'t>(self, field: &str, texts: impl IntoIterator<Item = &'t str>) -> Self {
        let texts = texts.into_iter().map(Into::into).collect();
        self.and(field, Check::OneOf(texts))
    }

    /// Whether the value is a number not below this one.
    #[must_use]
    pub fn at_least(self, field: &str, number: f64) -> Self {
        self.and(field, Check::AtLeast(number))
    }

    /// Whether the value is a number not above this one.
    #[must_use]
    pub fn at_most(self, field: &str, number: f64) -> Self {
        self.and(field, Check::AtMost(number))
    }

    /// The tests.
    pub fn tests(&self) -> &[Test] {
        &self.0
    }

    /// Whether it tests the key of a row and nothing else, as it must in COMMAND mode.
    pub fn tests_keys_only(&self) -> bool {
        self.0.iter().all(|test| *test.field == *KEY)
    }

    /// Whether it selects the row of this key.
    pub fn selects_key(&self, key: &str) -> bool {
        self.0.iter().all(|test| test.check.passes(key.as_bytes()))
    }
}

impl Check {
    /// Whether a value passes.
    pub fn passes(&self, value: &[u8]) -> bool {
        let number = || std::str::from_utf8(value).ok()?.parse::<f64>().ok();
        match self {
            Self::Present => true,
            Self::OneOf(texts) => texts.iter().any(|text| text.as_bytes() == value),
            Self::Prefix(beginning) => value.starts_with(beginning.as_bytes()),
            Self::AtLeast(least) => number().is_some_and(|number| number >= *least),
            Self::AtMost(most) => number().is_some_and(|number| number <= *most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_passes_or_does_not() {
        let one_of = Check::OneOf(["buy".into(), "".into()].into());
        for (check, passes, fails) in [
            (Check::Present, vec!["", "x"], vec![]),
            (one_of, vec!["buy", ""], vec!["buys", "BUY"]),
            (
                Check::Prefix("EUR".into()),
                vec!["EUR", "EUR/USD"],
                vec!["EU", "xEUR"],
            ),
            (
                Check::AtLeast(2.5),
                vec!["2.5", "1e3", "3"],
                vec!["2.4", "", "x", "NaN", "-3"],
            ),
            (
                Check::AtMost(2.5),
                vec!["2.5", "-1"],
                vec!["2.6", "", "1,0"],
            ),
        ] {
            for value in passes {
                assert!(check.passes(value.as_bytes()), "{check:?} {value}");
            }
            for value in fails {
                assert!(!check.passes(value.as_bytes()), "{check:?} {value}");
            }
        }
    }

    #[test]
    fn keys_can_be_selected_by_tests_of_nothing_else() {
        let selector = Selector::new().one_of("key", ["a", "b"]);
        assert!(selector.tests_keys_only());
        assert!(selector.selects_key("b") && !selector.selects_key("c"));
        assert!(!selector.at_least("n", 1.0).tests_keys_only());
        assert!(Selector::new().selects_key("anything"));
    }
}
