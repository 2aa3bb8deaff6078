//! Trade-safe conflation: events of declared items, or with values in declared fields, are never merged into others and
//! never dropped without a word. Quotes are conflated, trades are not.
//!
//! An event is trade-safe if its item is declared as a whole, or if it brings a value in a declared field: in MERGE and
//! COMMAND one that is not null and differs from what was there, in DISTINCT one that is not null. So in MERGE one of the
//! declared fields should differ with each trade, as its number, its time or the total volume does.
//!
//! Such an event goes out for itself, and what waits before it goes before it, wherever events are conflated:
//!
//! | place | what happens | at the bound |
//! |---|---|---|
//! | full ring from a data adapter | an adapter that can merge events of MERGE items may not do so with this item | the adapter's |
//! | prefilter (`ingest::prefilter`) | both pass at once | none is needed: nothing waits |
//! | full ring to a shard (`ingest::held`) | both are kept, until there is room | the oldest go, and are told (`OV`) |
//! | client (`shard::event_buffer`) | both are kept; no frequency holds them back | the oldest go, and are told (`OV`); in COMMAND all that waits goes, and the table is sent anew |

use super::merge::MergeState;
use crate::ids::DataAdapterId;
use std::sync::Arc;

/// Which events of an item are trade-safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TradeSafe {
    /// None.
    #[default]
    Nothing,
    /// Those that bring values in these fields.
    Fields(Box<[Box<str>]>),
    /// All.
    Everything,
}

/// Which items of a data adapter a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemPattern {
    /// The one of this name.
    Name(Box<str>),
    /// All whose name begins so.
    Prefix(Box<str>),
}

/// What the configuration says of the items of one data adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeRule {
    /// The adapter.
    pub adapter: DataAdapterId,
    /// The items; all of them if there is none.
    pub items: Box<[ItemPattern]>,
    /// What is trade-safe of them.
    pub what: TradeSafe,
}

/// What the configuration says of all items. Cheap to copy: every shard has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafeRules(Option<Arc<[SafeRule]>>);

impl TradeSafe {
    /// Both.
    #[must_use]
    pub fn and(self, other: &TradeSafe) -> TradeSafe {
        match (self, other) {
            (TradeSafe::Everything, _) | (_, TradeSafe::Everything) => TradeSafe::Everything,
            (known, TradeSafe::Nothing) => known,
            (TradeSafe::Nothing, other) => other.clone(),
            (TradeSafe::Fields(known), TradeSafe::Fields(more)) => {
                let mut fields = known.into_vec();
                for field in more {
                    if !fields.contains(field) {
                        fields.push(field.clone());
                    }
                }
                TradeSafe::Fields(fields.into())
            }
        }
    }

    /// Whether none is.
    pub fn is_nothing(&self) -> bool {
        *self == TradeSafe::Nothing
    }

    /// Whether one who sees these fields may see a trade-safe event.
    pub fn shows_in(&self, schema: &[Box<str>]) -> bool {
        match self {
            TradeSafe::Nothing => false,
            TradeSafe::Fields(fields) => fields.iter().any(|field| schema.contains(field)),
            TradeSafe::Everything => true,
        }
    }

    /// Whether an event of DISTINCT is.
    pub fn marks(&self, event: &[(&str, Option<&str>)]) -> bool {
        self.marks_where(event, |_, _| true)
    }

    /// Whether an event of MERGE is, which is not merged yet.
    pub fn marks_change(&self, event: &[(&str, Option<&str>)], state: &MergeState) -> bool {
        self.marks_where(event, |name, value| {
            let known = state.names().find(name);
            known.and_then(|field| state.value(field)) != Some(value)
        })
    }

    /// Whether an event is, by its values in declared fields that `counts`.
    pub fn marks_where(
        &self,
        event: &[(&str, Option<&str>)],
        counts: impl Fn(&str, &[u8]) -> bool,
    ) -> bool {
        let declared = match self {
            TradeSafe::Nothing => return false,
            TradeSafe::Everything => return true,
            TradeSafe::Fields(fields) => fields,
        };
        event.iter().any(|&(name, value)| {
            let declared = declared.iter().any(|field| **field == *name);
            declared && value.is_some_and(|value| counts(name, value.as_bytes()))
        })
    }
}

impl SafeRules {
    /// These rules.
    pub fn new(rules: Vec<SafeRule>) -> Self {
        Self((!rules.is_empty()).then(|| rules.into()))
    }

    /// What they say of an item, all together.
    pub fn of(&self, adapter: DataAdapterId, item: &str) -> TradeSafe {
        let rules = self.0.iter().flat_map(|rules| rules.iter());
        let rules = rules.filter(|rule| {
            rule.adapter == adapter
                && (rule.items.is_empty()
                    || rule.items.iter().any(|pattern| pattern.is_met_by(item)))
        });
        rules.fold(TradeSafe::Nothing, |all, rule| all.and(&rule.what))
    }
}

impl ItemPattern {
    /// Reads a pattern: a name, or the beginning of one with an asterisk behind it.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Prefix(beginning.into()),
            None => Self::Name(text.into()),
        }
    }

    fn is_met_by(&self, item: &str) -> bool {
        match self {
            Self::Name(name) => **name == *item,
            Self::Prefix(beginning) => item.starts_with(&**beginning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &[&str]) -> TradeSafe {
        TradeSafe::Fields(names.iter().map(|name| (*name).into()).collect())
    }

    fn rule(adapter: u16, items: &[&str], what: TradeSafe) -> SafeRule {
        SafeRule {
            adapter: DataAdapterId(adapter),
            items: items.iter().map(|text| ItemPattern::parse(text)).collect(),
            what,
        }
    }

    #[test]
    fn rules_add_up_and_are_each_for_one_adapter() {
        let rules = SafeRules::new(vec![
            rule(0, &["EUR*", "gold"], fields(&["last"])),
            rule(0, &[], fields(&["volume", "last"])),
            rule(1, &["tape"], TradeSafe::Everything),
            rule(1, &["*"], fields(&["last"])),
        ]);
        let of = |adapter, item| rules.of(DataAdapterId(adapter), item);
        assert_eq!(of(0, "EUR/USD"), fields(&["last", "volume"]));
        assert_eq!(of(0, "gold"), fields(&["last", "volume"]));
        assert_eq!(of(0, "golden"), fields(&["volume", "last"]));
        assert_eq!(of(1, "tape"), TradeSafe::Everything);
        assert_eq!(of(1, "tapes"), fields(&["last"]));
        assert_eq!(of(2, "tape"), TradeSafe::Nothing);
        assert_eq!(
            SafeRules::default().of(DataAdapterId(0), "x"),
            TradeSafe::Nothing
        );
    }

    #[test]
    fn a_value_counts_that_is_new_and_not_null() {
        let safe = fields(&["last"]);
        let mut state = MergeState::default();
        let marks = |state: &MergeState, value| {
            safe.marks_change(&[("bid", Some("1")), ("last", value)], state)
        };
        assert!(marks(&state, Some("")));
        assert!(!marks(&state, None));
        state.merge(&[("last", Some("5"))], 10, 1000).unwrap();
        assert!(!marks(&state, Some("5")) && marks(&state, Some("6")) && !marks(&state, None));
        assert!(safe.marks(&[("last", Some("5"))]) && !safe.marks(&[("last", None)]));
        assert!(!safe.marks(&[("bid", Some("5"))]));
        assert!(
            TradeSafe::Everything.marks(&[]) && !TradeSafe::Nothing.marks(&[("last", Some("5"))])
        );
        assert!(safe.shows_in(&["bid".into(), "last".into()]) && !safe.shows_in(&["bid".into()]));
    }
}
