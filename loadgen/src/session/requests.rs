//! What a session asks for.

use std::time::Duration;

use engine::tlcp::request::{
    Add, Bandwidth, Control, Create, Op, Polling, Request, Snapshot, StreamOptions,
};

use crate::scenario::{Group, Scenario, Transport};

/// The `LS_cid` that the protocol has for clients that are nobody's product.
const CLIENT_ID: &str = "mgQkwtwdysogQz2BJ4Ji kOj2Bg";
/// The only subscription of each session.
pub(super) const SUB_ID: u32 = 1;
/// How long a poll may wait for data.
const POLL_IDLE: Duration = Duration::from_secs(19);

pub(super) fn stream_options(group: &Group) -> StreamOptions {
    let polling = (group.transport == Transport::LongPolling).then(|| Polling {
        polling_millis: group.poll_pause.duration().as_millis() as u64,
        idle_millis: POLL_IDLE.as_millis() as u64,
    });
    StreamOptions {
        polling,
        ..StreamOptions::default()
    }
}

pub(super) fn create<'a>(
    scenario: &'a Scenario,
    group: &Group,
    stream: StreamOptions,
) -> Request<'a> {
    Request::Create(Create {
        adapter_set: Some(scenario.adapter_set.as_str().into()),
        cid: Some(CLIENT_ID.into()),
        bandwidth: group.bandwidth.map(Bandwidth::Limited),
        // Differences are the server's choice, and the quick look does not know them.
        supported_diffs: Some("".into()),
        stream,
        ..Create::default()
    })
}

pub(super) fn subscribe<'a>(req_id: &'a str, group: &'a Group, member: u32) -> Request<'a> {
    let names = (0..group.items_per_session).map(|position| {
        let items = &group.items.0;
        items[item_of(group, member, position) % items.len()].as_str()
    });
    let add = Add {
        sub_id: SUB_ID,
        data_adapter: Some(group.data_adapter.as_str().into()),
        group: names.collect::<Vec<_>>().join(" ").into(),
        schema: group.fields.join(" ").into(),
        selector: None,
        mode: group.mode.into(),
        snapshot: if group.snapshot {
            Snapshot::Yes
        } else {
            Snapshot::No
        },
        frequency: group.frequency.0,
        buffer_size: group.buffer.map(|buffer| buffer.0),
        ack: req_id.is_empty(),
    };
    Request::Control(Control {
        req_id: req_id.into(),
        session: None,
        op: Op::Add(add),
    })
}

/// Ends a session: of this connection, or the one named.
pub fn destroy(session: Option<&str>) -> Request<'_> {
    Request::Control(Control {
        req_id: "2".into(),
        session: session.map(Into::into),
        op: Op::Destroy {
            cause_code: None,
            cause_message: None,
            close_socket: false,
        },
    })
}

/// The number among the group's items of what a member has at a position; to be taken modulo their count.
pub fn item_of(group: &Group, member: u32, position: usize) -> usize {
    member as usize * group.items_per_session + position
}
