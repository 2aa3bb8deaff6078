//! Messages of clients, and creations that bring requests, over real sockets.

use engine::tlcp::client::Line;

use crate::on_both_back_ends;
use crate::support::{Client, Io, Server, Setup};

on_both_back_ends!(messages_are_processed_in_order, a_creation_brings_requests);

/// The built-in metadata adapter accepts every message. Half of them go through another connection, which may be one of
/// another shard; each later number comes before the one in front of it.
fn messages_are_processed_in_order(io: Io) {
    let setup = Setup {
        shards: 2,
        ..Setup::default()
    };
    let server = Server::start(io, setup);
    let (mut client, id) = Client::with_session(server.address);
    let (mut other, _) = Client::with_session(server.address);
    for prog in (1..=20).step_by(2) {
        let message = |prog: u32| {
            format!(
                "msg\r\nLS_reqId=m{prog}&LS_session={id}&LS_message=x&LS_sequence=A&LS_msg_prog={prog}"
            )
        };
        other.send(&message(prog + 1));
        assert_eq!(
            other.answer(&format!("m{}", prog + 1)),
            format!("REQOK,m{}", prog + 1)
        );
        client.send(&message(prog));
        for done in [prog, prog + 1] {
            let line = client.line_such(|line| matches!(line, Line::Msgdone { .. }));
            assert_eq!(line, format!("MSGDONE,A,{done},"));
        }
    }
    other.send(&format!(
        "msg\r\nLS_reqId=again&LS_session={id}&LS_message=x&LS_sequence=A&LS_msg_prog=20"
    ));
    let refused = other.answer("again");
    assert!(refused.starts_with("REQERR,again,33,"), "{refused}");
}

fn a_creation_brings_requests(io: Io) {
    let server = Server::start(io, Setup::default());
    let mut client = Client::connect(server.address);
    client.create("\r\nLS_message=hello&LS_msg_prog=1");
    let line = client.line_such(|line| matches!(line, Line::Msgdone { .. }));
    assert_eq!(line, "MSGDONE,*,1,");

    let mut client = Client::connect(server.address);
    client.send("create_session\r\nLS_adapter_set=DEMO&LS_cid=test\r\nLS_op=delete&LS_subId=1");
    let line = client.line();
    assert!(line.starts_with("CONERR,64,"), "{line}");
}
