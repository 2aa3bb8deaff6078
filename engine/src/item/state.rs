//! The state that ingest keeps of an item, by the item's mode.

use super::command::CommandState;
use super::distinct::History;
use super::fields::FieldNames;
use super::merge::MergeState;

/// State and fields of one item.
#[derive(Debug)]
pub enum State {
    /// MERGE; and of an item that is looked at in RAW mode only, for who may come later.
    Merge(MergeState),
    /// DISTINCT.
    Distinct(DistinctState),
    /// COMMAND. Boxed, because it is rare and large.
    Command(Box<CommandState>),
}

/// DISTINCT: the last events, as records for the shards' rings.
#[derive(Debug)]
pub struct DistinctState {
    /// The item's fields.
    pub names: FieldNames,
    /// The events.
    pub history: History<StoredEvent>,
}

/// An event of a DISTINCT item as it was or would be written into a ring.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its place in the item's history.
    pub seq: u64,
    /// The whole record.
    pub record: Box<[u8]>,
}

impl Default for State {
    fn default() -> Self {
        State::Merge(MergeState::default())
    }
}

impl State {
    /// The item's fields.
    pub fn names(&self) -> &FieldNames {
        match self {
            State::Merge(state) => state.names(),
            State::Distinct(state) => &state.names,
            State::Command(state) => state.names(),
        }
    }

    /// The item's fields, to name more of them.
    pub fn names_mut(&mut self) -> &mut FieldNames {
        match self {
            State::Merge(state) => state.names_mut(),
            State::Distinct(state) => &mut state.names,
            State::Command(state) => state.names_mut(),
        }
    }

    /// The fields, without the state.
    pub fn into_names(self) -> FieldNames {
        match self {
            State::Merge(state) => state.into_names(),
            State::Distinct(state) => state.names,
            State::Command(state) => state.into_names(),
        }
    }
}
