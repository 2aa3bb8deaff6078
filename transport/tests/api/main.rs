//! Servers with adapters of one's own: the interface for Rust, and the examples, with a client over a real socket.

// Each file of tests uses a part of the client.
#[allow(dead_code)]
#[path = "../server/support/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../../examples/clock.rs"]
mod clock;
mod data;
mod examples;
mod literal;
mod metadata;
#[allow(dead_code)]
#[path = "../../examples/replay_csv.rs"]
mod replay_csv;
mod running;

use brightwire::{DataAdapter, Item, Publisher, SubscriptionError};
use std::time::Duration;

/// A bound on waiting, not an expectation.
const WAIT_MAX: Duration = Duration::from_secs(85);

/// Publishes one event of each item, which is also a row of a table.
struct Echo;

impl DataAdapter for Echo {
    fn subscribe(
        &mut self,
        item: &Item,
        publisher: &mut Publisher,
    ) -> Result<(), SubscriptionError> {
        publisher.update(
            item,
            &[
                ("name", Some(item.name())),
                ("key", Some("k")),
                ("command", Some("ADD")),
            ],
        )?;
        Ok(())
    }

    fn unsubscribe(&mut self, _: &Item, _: &mut Publisher) {}
}

/// The request that subscribes to items of a data adapter, in MERGE mode with a snapshot.
fn subscribe(session: &str, sub_id: u32, adapter: &str, group: &str, schema: &str) -> String {
    format!(
        "control\r\nLS_reqId=add{sub_id}&LS_op=add&LS_subId={sub_id}&LS_data_adapter={adapter}&LS_mode=MERGE\
         &LS_group={group}&LS_schema={schema}&LS_snapshot=true&LS_session={session}"
    )
}
