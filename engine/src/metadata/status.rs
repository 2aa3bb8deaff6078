//! The built-in status adapter: a data adapter that tells each client what became of its own updates. Off unless the
//! configuration gives it a name in an adapter set.
//!
//! | item | fields |
//! |---|---|
//! | `session` | `updates_sent`, `updates_conflated`, `updates_filtered`, `updates_lost`, `bytes_sent`, `bandwidth`, `subscriptions` |
//! | `subscription.N` | the first four, `mode`, `items`, `frequency`, `dispatching`; all null while there is no subscription N |
//!
//! A session sees its own only, so no metadata adapter is asked. What the adapter itself sends is not counted, but for
//! its bytes. Who keeps the counters and tells of them is `shard::status`.

use super::GrantedItem;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Mode;

/// One of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// The whole session.
    Session,
    /// Its subscription of this number.
    Subscription(u32),
}

impl StatusItem {
    /// The item of this name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "session" {
            return Some(Self::Session);
        }
        let number = name.strip_prefix("subscription.")?;
        let plain = number.bytes().all(|digit| digit.is_ascii_digit()) && !number.starts_with('0');
        number
            .parse()
            .ok()
            .filter(|_| plain)
            .map(Self::Subscription)
    }
}

/// The items of a group: names with blanks between.
pub(super) fn items(group: &str, mode: Mode) -> Result<Vec<GrantedItem>, Refusal> {
    if mode != Mode::Merge {
        return Err(Refusal::mode_not_allowed());
    }
    let names = group.split_ascii_whitespace();
    let item = |name: &str| {
        StatusItem::parse(name).map(|_| GrantedItem {
            name: name.into(),
            ..GrantedItem::default()
        })
    };
    let items: Option<Vec<_>> = names.map(item).collect();
    items.ok_or_else(Refusal::bad_group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_names_and_other_names_are_none() {
        assert_eq!(StatusItem::parse("session"), Some(StatusItem::Session));
        let of = StatusItem::parse("subscription.12");
        assert_eq!(of, Some(StatusItem::Subscription(12)));
        for name in [
            "",
            "sessions",
            "subscription.",
            "subscription.x",
            "subscription.+1",
            "subscription.01",
            "subscription.99999999999",
        ] {
            assert_eq!(StatusItem::parse(name), None, "{name}");
        }
        assert_eq!(
            items("session subscription.1", Mode::Merge).unwrap().len(),
            2
        );
        assert_eq!(items("session nothing", Mode::Merge).unwrap_err().code, 21);
        assert_eq!(items("session", Mode::Raw).unwrap_err().code, 24);
    }
}
