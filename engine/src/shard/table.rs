//! What tables of the text protocol before TLCP can do that subscriptions of TLCP cannot: be added silently and started
//! later, and take only a range of their group's items ([`crate::metadata::select`]).

use super::{Origin, SessionKey, Shard};
use crate::ids::DataAdapterId;
use crate::metadata::{Claim, GrantedItem};
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Table;

/// What the metadata adapter has granted.
#[derive(Debug)]
pub(super) struct Held {
    pub data_adapter: DataAdapterId,
    pub items: Vec<GrantedItem>,
    pub fields: Vec<Box<str>>,
    /// The adapter wants to know what becomes of the updates.
    pub statistics: bool,
    /// What keeps the items free for the mode until they are demanded.
    pub claim: Option<Claim>,
}

impl Table {
    /// The position of its first item. Updates carry positions in the group, whatever the range.
    pub(super) fn first(self) -> u32 {
        self.range.map_or(1, |(start, _)| start)
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
