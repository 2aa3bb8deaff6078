//! Clients that fall silent: each kind of silence has its timeout, and what is waited for is the end that it brings.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use brightwire::wire::ws::CloseCode;
use engine::tlcp::client::Line;

use crate::on_both_back_ends;
use crate::support::client::{bind_message, read};
use crate::support::{Client, Ended, Feed, Io, Server, Setup, WAIT_MAX, wait_until};

on_both_back_ends!(
    connections_without_a_request_are_closed,
    a_head_that_drips_in_is_closed,
    a_websocket_without_a_session_is_closed,
    a_connection_that_takes_nothing_is_closed,
    the_session_of_a_killed_client_expires,
    time_asleep_is_not_held_against_anybody,
    quiet_streams_are_kept_alive,
);

fn start(io: Io, sessions: &str) -> Server {
    Server::start(
        io,
        Setup {
            sessions,
            ..Setup::default()
        },
    )
}

fn tcp(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream
}

/// Reads to the end; a reset is one as well.
fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count) = read(stream, &mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    bytes
}

fn connections_without_a_request_are_closed(io: Io) {
    let server = start(io, "head_timeout = \"1s\"");
    for part in ["", "G", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let mut stream = tcp(&server);
        stream.write_all(part.as_bytes()).unwrap();
        assert_eq!(drain(&mut stream), b"", "{part:?}");
    }
    // Likewise the silence behind a request, and within its body.
    let mut stream = tcp(&server);
    stream
        .write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert!(drain(&mut stream).starts_with(b"HTTP/1.1 200 OK\r\n"));
    let mut stream = tcp(&server);
    stream
        .write_all(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc")
        .unwrap();
    assert_eq!(drain(&mut stream), b"");
    server.stop();
}

/// A byte now and then must not keep a connection open for ever.
fn a_head_that_drips_in_is_closed(io: Io) {
    let server = start(io, "head_timeout = \"1s\"");
    let mut stream = tcp(&server);
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_millis(50)))
        .unwrap();
    // Within the bound of a wait; at this pace the head would take far longer.
    for _ in 0..WAIT_MAX.as_millis() / 50 {
        if stream.write_all(b"x").is_err() {
            break;
        }
        match stream.read(&mut [0; 1]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => {
                server.stop();
                return;
            }
        }
    }
    panic!("still open");
}

fn a_websocket_without_a_session_is_closed(io: Io) {
    let server = start(io, "idle_timeout = \"1s\"");
    let mut client = Client::connect(server.address);
    assert_eq!(client.end(), Ended::Close(Some(CloseCode::Normal)));
    // The close frame is not answered: that is waited for a while, and then it is over all the same.
    assert_eq!(drain(&mut client.stream), b"");

    let (mut client, id) = Client::with_session(server.address);
    client.force_rebind(&id, |_| ());
    assert_eq!(client.end(), Ended::Close(Some(CloseCode::Normal)));
    client.stream.shutdown(Shutdown::Both).unwrap();
    Client::connect(server.address).bind(&id);
    server.stop();
}

/// A WebSocket that does not read what streams on it, and a client that does not read its pages.
fn a_connection_that_takes_nothing_is_closed(io: Io) {
    let feed = Feed::new(60_000, 4_000);
    let server = Server::start(
        io,
        Setup {
            socket: "write_timeout = \"1s\"\nsend_buffer = \"8KiB\"",
            sessions: "recovery_timeout = \"1s\"",
            replay: Some(&feed.csv()),
            rate_hz: 2_000.0,
            ..Setup::default()
        },
    );
    let stream = TcpStream::connect(server.address).unwrap();
    socket2::SockRef::from(&stream)
        .set_recv_buffer_size(4096)
        .unwrap();
    let mut stalled = Client::upgrade(stream, &[]).unwrap();
    let id = stalled.create("");
    stalled.send(&feed.subscribe(1, &id));
    let mut pages = tcp(&server);
    let requests = "GET /app.js HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1_000);
    pages.write_all(requests.as_bytes()).unwrap();

    // The session is lost once its connection is given up and nobody comes back for it. A client may not see that by
    // asking on the same connection, but on another.
    let mut other = Client::connect(server.address);
    wait_until("the session has expired", || {
        other.send(&format!(
            "control\r\nLS_reqId=1&LS_op=reconf&LS_subId=77&LS_session={id}"
        ));
        let answer = other.answer("1");
        assert!(
            answer.starts_with("REQERR,1,19,") || answer.starts_with("REQERR,1,20,"),
            "{answer}"
        );
        answer.starts_with("REQERR,1,20,")
    });
    // Nobody tells a peer that takes nothing: where the connections are gone is the server's side.
    for stream in [&stalled.stream, &pages] {
        let peer = stream.local_addr().unwrap();
        wait_until("the connection is given up", || !server.is_connected(peer));
    }
    server.stop();
}

fn the_session_of_a_killed_client_expires(io: Io) {
    let server = start(io, "recovery_timeout = \"1s\"");
    let (killed, id) = Client::with_session(server.address);
    socket2::SockRef::from(&killed.stream)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(killed); // a reset, as of a process that is killed with unread data
    let mut client = Client::connect(server.address);
    wait_until("the session has expired", || {
        client.send(&format!(
            "control\r\nLS_reqId=1&LS_op=reconf&LS_subId=7&LS_session={id}"
        ));
        client.answer("1").starts_with("REQERR,1,20,")
    });
    client.send(&bind_message(&id));
    let line = client.line();
    assert!(line.starts_with("CONERR,20,"), "{line}");
    server.stop();
}

/// The server sleeps while nothing happens. Whoever ends its sleep must not be judged by the time before it.
fn time_asleep_is_not_held_against_anybody(io: Io) {
    let server = start(io, "idle_timeout = \"1s\"");
    for _ in 0..3 {
        let stream = TcpStream::connect(server.address).unwrap();
        // Not a wait for anything: the connection is accepted, and then time passes in which nothing happens.
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        let mut client = Client::upgrade(stream, &[]).unwrap();
        client.send("wsok");
        assert_eq!(client.line(), "WSOK");
    }
    server.stop();
}

fn quiet_streams_are_kept_alive(io: Io) {
    let server = start(io, "keepalive_min = \"100ms\"");
    let mut client = Client::connect(server.address);
    let id = client.create("&LS_keepalive_millis=100");
    for _ in 0..3 {
        let line = client.line();
        assert_eq!(Line::parse(&line), Ok(Line::Probe));
    }
    client.force_rebind(&id, |line| assert_eq!(line, "PROBE"));
    server.stop();
}
