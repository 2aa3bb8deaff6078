//! What tables of the text protocol before TLCP can do that subscriptions of TLCP cannot: be added silently and started
//! later, and take only a range of their group's items.

use super::{Origin, SessionKey, Shard};
use crate::ids::DataAdapterId;
use crate::metadata::GrantedItem;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Table;

/// What the metadata adapter has granted.
#[derive(Debug)]
pub(super) struct Held {
    pub data_adapter: DataAdapterId,
    pub items: Vec<GrantedItem>,
    pub fields: Vec<Box<str>>,
}

impl Table {
    /// The position of its first item. Updates carry positions in the group, whatever the range.
    pub(super) fn first(self) -> u32 {
        self.range.map_or(1, |(start, _)| start)
    }

    /// The items of a group that it takes. A range that begins behind the group's end is an error; one that ends there is
    /// cut off.
    pub(super) fn select(self, mut items: Vec<GrantedItem>) -> Result<Vec<GrantedItem>, Refusal> {
        let Some((start, end)) = self.range else {
            return Ok(items);
        };
        let (before, end) = (start as usize - 1, end as usize);
        if before >= items.len() {
            return Err(Refusal::bad_group().with_text("The item group has no such range"));
        }
        items.truncate(end);
        items.drain(..before);
        Ok(items)
    }
}

impl Shard {
    /// `start`: a table that was added silently is sent from now on. One that is being sent goes on.
    pub(super) fn start(
        &mut self,
        origin: Origin,
        key: SessionKey,
        req_id: &str,
        sub_id: u32,
    ) -> Result<(), Refusal> {
        let sub = self
            .subscription(key, sub_id)
            .ok_or_else(Refusal::subscription_not_found)?;
        self.accept(origin, req_id);
        if let Some(granted) = self.subscriptions[sub].held.take() {
            self.activate(sub, *granted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(range: Option<(u32, u32)>, names: &[&str]) -> Result<Vec<Box<str>>, i64> {
        let item = |name: &&str| GrantedItem {
            name: (*name).into(),
            ..GrantedItem::default()
        };
        let table = Table {
            silent: false,
            range,
        };
        let selected = table.select(names.iter().map(item).collect());
        selected
            .map(|items| items.into_iter().map(|item| item.name).collect())
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_range_is_cut_to_the_group() {
        let names = &["a", "b", "c"];
        let selected = |range| select(range, names).map(|names| names.concat());
        assert_eq!(selected(None), Ok("abc".into()));
        assert_eq!(selected(Some((2, 3))), Ok("bc".into()));
        assert_eq!(selected(Some((2, 2))), Ok("b".into()));
        assert_eq!(selected(Some((1, u32::MAX))), Ok("abc".into()));
        assert_eq!(selected(Some((4, 4))), Err(21));
        assert_eq!(select(Some((1, 1)), &[]), Err(21));
    }
}
