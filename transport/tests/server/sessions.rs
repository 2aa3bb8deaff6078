//! What the configuration says of sessions, as clients see it. What it means in detail is shown in the engine's
//! transcripts; here it has to get there.

use crate::on_both_back_ends;
use crate::support::{Client, Ended, Io, Server, Setup};
use brightwire::wire::ws::CloseCode;

on_both_back_ends!(
    what_is_configured_of_sessions_is_what_clients_see,
    sessions_end_at_their_age,
    a_newer_minor_version_is_served,
);

fn start(io: Io, sessions: &str) -> Server {
    let setup = Setup {
        shards: 2,
        sessions,
        ..Setup::default()
    };
    Server::start(io, setup)
}

fn what_is_configured_of_sessions_is_what_clients_see(io: Io) {
    let server = start(
        io,
        "control_link = \"push1.example.com\"\ntell_client_ip = false\ncid_required = true\n\
         one_per_user = true\nstreaming_time_max = \"1s\"\n[server]\ninstance = 7\n",
    );
    let create = "create_session\r\nLS_adapter_set=DEMO&LS_user=ann&LS_send_sync=false";
    let open = || {
        let mut client = Client::connect(server.address);
        client.send(&format!("{create}&LS_cid=test"));
        let head = client.line();
        assert!(head.starts_with("CONOK,S0007"), "{head}");
        assert!(head.ends_with(",push1.example.com"), "{head}");
        assert!(client.line().starts_with("SERVNAME,"));
        assert_eq!(client.line(), "CONS,unlimited");
        client
    };
    let mut unknown = Client::connect(server.address);
    unknown.send(create);
    assert!(unknown.line().starts_with("CONERR,71,"));
    unknown.send("bind_session\r\nLS_session=S0008000000000000000000000000000T0000001");
    assert!(unknown.line().starts_with("CONERR,21,"));

    let mut first = open();
    let mut second = open();
    // Wherever the two are, the older one ends; it may have been asked to bind again before that.
    loop {
        match first.line() {
            line if line == "LOOP,0" => first.send("bind_session\r\nLS_send_sync=false"),
            line if line.starts_with("END,") => {
                assert_eq!(line, "END,35,Session closed by a newer session of the user");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(second.line(), "LOOP,0");
    server.stop();
}

fn sessions_end_at_their_age(io: Io) {
    let server = start(io, "duration_max = \"1s\"");
    let (mut client, _) = Client::with_session(server.address);
    assert_eq!(client.line(), "END,48,Maximum session duration reached");
    assert_eq!(client.end(), Ended::Close(Some(CloseCode::Normal)));
    server.stop();
}

fn a_newer_minor_version_is_served(io: Io) {
    use std::io::{Read, Write};
    let server = start(io, "");
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let body = "LS_polling=true&LS_cid=test&LS_adapter_set=DEMO";
    let length = body.len();
    for (version, answer) in [("2.9.0", "\r\nCONOK,S"), ("3.0.0", "\r\nCONERR,60,")] {
        write!(
            stream,
            "POST /lightstreamer/create_session.txt?LS_protocol=TLCP-{version} HTTP/1.1\r\n\
             Host: h\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut bytes = [0; 4096];
        let mut text = String::new();
        while !text.contains(answer) {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{version}: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
    server.stop();
}
