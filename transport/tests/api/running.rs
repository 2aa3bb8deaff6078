//! What a program can want of a server that it has started.

use crate::Echo;
use crate::client::Client;
use brightwire::Server;
use std::net::SocketAddr;

/// A wish takes its way to each shard: both have heard of it when new sessions have been answered so many times.
fn all_say(address: SocketAddr, wanted: &str) {
    let mut times = 0;
    while times < 16 {
        let mut client = Client::connect(address);
        client.send("create_session\r\nLS_adapter_set=DEMO&LS_cid=test");
        match client.line().starts_with(wanted) {
            true => times += 1,
            false => times = 0,
        }
    }
}

#[test]
fn sessions_are_blocked_and_let_in_again() {
    let server = Server::builder()
        .config_text("[runtime]\nshards = 2\n[sessions]\nblocked = \"refuse\"")
        .listen("127.0.0.1:0")
        .data_adapter("DEMO", "ECHO", Echo)
        .start()
        .unwrap();
    let address = server.address();
    all_say(address, "CONOK,");
    let (mut old, session) = Client::with_session(address);
    server.block_sessions(true);
    all_say(address, "CONERR,10,");
    old.send(&crate::subscribe(&session, 1, "ECHO", "item", "name"));
    assert_eq!(old.update(), "U,1,1,item");
    server.block_sessions(false);
    all_say(address, "CONOK,");
    server.block_sessions(true);
    server.stop().unwrap();
}
