//! What the tests share: the server as a process, remotes that are played by hand, and a strict client.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../server/support/client.rs"]
pub mod client;
pub mod remote;
pub mod server;

pub use client::Client;
pub use remote::{Java, Remote};
pub use server::Server;

use std::time::Duration;

/// A bound on waiting, not an expectation: machines that run several tests at once on two cores stay far below it.
pub const WAIT_MAX: Duration = Duration::from_secs(85);

/// A set `DEMO` with a remote metadata adapter, whose configuration has these further lines, and the stock list.
pub fn metadata(more: &str) -> String {
    format!(
        "[[adapter_sets]]\nname = \"DEMO\"\nmetadata = \"remote\"\n\
         [adapter_sets.remote]\naddress = \"127.0.0.1:0\"\nrecovery_delay = \"0s\"\n{more}\n\
         [[adapter_sets.data]]\nname = \"DEFAULT\"\nkind = \"demo\"\nrate = 200.0\n"
    )
}

/// A set `DEMO` with a remote data adapter `FEED`, whose configuration has these further lines.
pub fn data(more: &str) -> String {
    format!(
        "[[adapter_sets]]\nname = \"DEMO\"\n[[adapter_sets.data]]\nname = \"FEED\"\nkind = \"remote\"\n\
         [adapter_sets.data.remote]\naddress = \"127.0.0.1:0\"\nrecovery_delay = \"0s\"\n{more}\n"
    )
}

/// The request that subscribes to items of `FEED`.
pub fn subscribe(sub_id: u32, mode: &str, group: &str, schema: &str) -> String {
    let (group, schema) = (group.replace(' ', "%20"), schema.replace(' ', "%20"));
    format!(
        "control\r\nLS_reqId=add{sub_id}&LS_op=add&LS_subId={sub_id}&LS_data_adapter=FEED&LS_mode={mode}\
         &LS_group={group}&LS_schema={schema}&LS_snapshot=true"
    )
}
