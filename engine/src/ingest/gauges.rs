//! How full ingest is: for each of its bounds, what comes closest to it. It looks at everything, so it is for now and
//! then, not for every turn.

use super::Ingest;
use crate::item::state::State;
use crate::limits::{Gauge, Gauges};

impl Ingest {
    /// What is used of the bounds.
    pub fn gauges(&self) -> Vec<Gauge> {
        let limits = &self.limits;
        let mut gauges = Gauges::default();
        let shards = self.wanted.len();
        let items = self.by_name.len();
        gauges.note("items", items, limits.items_max);
        gauges.note("items owed to a shard", self.fanout.owed_max(), items);
        gauges.note("items that are held back", self.held.len(), items);
        for item in self.items.iter().filter_map(|slot| slot.item.as_ref()) {
            let state = &item.subject.state;
            gauges.note("shards of an item", item.subject.listeners.len(), shards);
            gauges.note(
                "fields of an item",
                state.names().len(),
                limits.fields_per_item_max + SPECIAL_FIELDS,
            );
            match state {
                State::Merge(state) => {
                    gauges.note("bytes of an item", state.bytes(), limits.item_bytes_max);
                }
                State::Distinct(state) => {
                    let (len, bytes) = (state.history.len(), state.history.bytes());
                    gauges.note("rows of a history", len, limits.snapshot_len_max);
                    let bytes_max = limits.rows_bytes_max.max(limits.item_bytes_max * 2);
                    gauges.note("bytes of a history", bytes, bytes_max);
                }
                State::Command(table) => {
                    gauges.note("rows of a table", table.len(), limits.keys_per_item_max);
                    gauges.note("bytes of a table", table.bytes(), limits.rows_bytes_max);
                    gauges.note(
                        "deleted rows kept for shards that are behind",
                        table.deleted(),
                        limits.keys_per_item_max,
                    );
                }
            }
        }
        gauges.into()
    }
}

/// `key` and `command`, which no adapter chooses.
const SPECIAL_FIELDS: usize = 2;
