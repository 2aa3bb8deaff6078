//! Clients that send too much, or nonsense: each gets the answer that it deserves, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;

use brightwire::wire::ws::CloseCode;
use engine::tlcp::client::Line;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::on_both_back_ends;
use crate::support::client::{framed, read};
use crate::support::{Client, Ended, Feed, Io, Server, Setup, WAIT_MAX, wait_until};

on_both_back_ends!(
    broken_frames_end_their_connection_only,
    a_message_far_over_the_limit_costs_nothing,
    what_is_no_http_is_refused,
    a_thousand_requests_in_one_message,
    unknown_parameters_and_requests,
    pages_that_nobody_reads_cost_no_core,
    connections_have_a_limit_and_make_room,
);

const FEED: Feed = Feed::new(60_000, 20);

fn start(io: Io) -> Server {
    Server::start(
        io,
        Setup {
            replay: Some(&FEED.csv()),
            ..Setup::default()
        },
    )
}

fn broken_frames_end_their_connection_only(io: Io) {
    const TEXT: OpCode = OpCode::Data(Data::Text);
    let server = start(io);
    let (mut bystander, id) = Client::with_session(server.address);
    let mut counted = FEED.counted();
    bystander.send(&FEED.subscribe(1, &id));
    type Deed = fn(&mut Client);
    let cases: [(Deed, CloseCode); 8] = [
        // The header of a frame of 16 MiB and one byte.
        (
            |c| c.send_bytes(b"\x81\xff\0\0\0\0\x01\0\0\x01\0\0\0\0"),
            CloseCode::Size,
        ),
        (|c| c.send_bytes(b"\x81\x04wsok"), CloseCode::Protocol),
        (
            |c| c.send_bytes(b"\xc1\x84\0\0\0\0wsok"),
            CloseCode::Protocol,
        ),
        (
            |c| c.send_frame(OpCode::Data(Data::Reserved(3)), b"wsok"),
            CloseCode::Protocol,
        ),
        (
            |c| c.send_frame(OpCode::Data(Data::Continue), b"wsok"),
            CloseCode::Protocol,
        ),
        (
            |c| c.send_frame(OpCode::Control(Control::Ping), &[0; 126]),
            CloseCode::Protocol,
        ),
        (
            |c| c.send_frame(OpCode::Data(Data::Binary), b"wsok"),
            CloseCode::Unsupported,
        ),
        (|c| c.send_frame(TEXT, b"wsok\xff"), CloseCode::Invalid),
    ];
    for (number, (deed, code)) in cases.into_iter().enumerate() {
        let mut culprit = Client::connect(server.address);
        // What came before is still answered.
        culprit.send("wsok");
        assert_eq!(culprit.line(), "WSOK");
        deed(&mut culprit);
        assert_eq!(culprit.end(), Ended::Close(Some(code)), "case {number}");
        // The same in the middle of a session that streams.
        let (mut culprit, id) = Client::with_session(server.address);
        culprit.send(&FEED.subscribe(1, &id));
        counted.take(&bystander.update()).unwrap();
        deed(&mut culprit);
        assert_eq!(culprit.end(), Ended::Close(Some(code)), "case {number}");
        counted.take(&bystander.update()).unwrap();
    }
    server.stop();
}

/// It is read to its end, so that its request can be refused by its id and the session goes on, but it is not kept.
fn a_message_far_over_the_limit_costs_nothing(io: Io) {
    const CLIENTS: usize = 8;
    const MESSAGE_BYTES: usize = 8 << 20;
    let server = start(io);
    let (mut bystander, _) = Client::with_session(server.address);
    let before = server.rss_bytes();
    let group = "x".repeat(MESSAGE_BYTES);
    let message = framed(&[&format!(
        "control\r\nLS_reqId=7&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_schema=bid&LS_group={group}"
    )]);
    let mut culprits: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let (mut culprit, _) = Client::with_session(server.address);
            culprit.stream.write_all(&message).unwrap();
            assert_eq!(culprit.line(), "REQERR,7,68,Request too long");
            culprit
        })
        .collect();
    for culprit in &mut culprits {
        culprit.send("wsok");
        while culprit.line() != "WSOK" {} // probes come in between
    }
    let grown = server.rss_bytes().saturating_sub(before);
    assert!(grown < MESSAGE_BYTES as u64, "grown by {grown} bytes");
    bystander.send("wsok");
    assert_eq!(bystander.line(), "WSOK");
    server.stop();
}

fn what_is_no_http_is_refused(io: Io) {
    let server = start(io);
    let upgrade = |lines: &str| {
        format!(
            "GET /lightstreamer HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{lines}\r\n"
        )
    };
    let huge = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(60_000));
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "X: x\r\n".repeat(1_000)
    );
    for (request, statuses) in [
        (
            "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03\r\n\r\n",
            ["400", "400"],
        ),
        ("SSH-2.0-OpenSSH_9.7\r\n\r\n", ["400", "400"]),
        ("GET / HTTP/1.1\r\n\r\n", ["400", "400"]),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ["400", "400"],
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n",
            ["413", "413"],
        ),
        (&huge, ["431", "400"]),
        (&many, ["431", "400"]),
        (&upgrade("Sec-WebSocket-Version: 12\r\n"), ["426", "426"]),
        (
            &upgrade("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"),
            ["400", "400"],
        ),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .unwrap_or_else(|error| panic!("{error}: {request:.40?}"));
        let status = answer.strip_prefix("HTTP/1.1 ").unwrap().get(..3).unwrap();
        assert!(statuses.contains(&status), "{status} for {request:.60?}");
    }
    let (mut client, id) = Client::with_session(server.address);
    client.force_rebind(&id, |_| ());
    server.stop();
}

fn a_thousand_requests_in_one_message(io: Io) {
    let server = start(io);
    let (mut client, _) = Client::with_session(server.address);
    let lines: Vec<String> = (0..1_000)
        .map(|id| match id % 2 {
            0 => format!("LS_reqId={id}&LS_op=delete&LS_subId=7"),
            _ => format!("LS_reqId={id}&LS_op=reconf&LS_subId=1"),
        })
        .collect();
    let message = format!("control\r\n{}", lines.join("\r\n"));
    assert!(message.len() <= 50_000);
    client.send(&FEED.subscribe(1, ""[..].trim()).replace("&LS_session=", ""));
    assert_eq!(client.answer("add1"), "REQOK,add1");
    client.send(&message);
    for id in 0..1_000 {
        let answer =
            client.line_such(|line| matches!(line, Line::Reqok { .. } | Line::Reqerr { .. }));
        match id % 2 {
            0 => assert!(answer.starts_with(&format!("REQERR,{id},19,")), "{answer}"),
            _ => assert_eq!(answer, format!("REQOK,{id}")),
        }
    }
    server.stop();
}

fn unknown_parameters_and_requests(io: Io) {
    let server = start(io);
    let mut client = Client::connect(server.address);
    let id = client.create("&LS_unknown=1&other=%20&LS_op2=x");
    client.send(&format!("{}&LS_unknown=2&x=y", FEED.subscribe(1, &id)));
    assert_eq!(client.line(), "REQOK,add1");
    client.send("control\r\nLS_reqId=1&LS_op=delete&LS_subId=1&LS_cause=later&none=");
    assert_eq!(client.answer("1"), "REQOK,1");
    for nonsense in [
        "abracadabra\r\nLS_reqId=1",
        "abracadabra",
        "\r\n",
        "control2\r\n\r\n",
        "WSOK",
    ] {
        client.send(nonsense);
        let line = client.line_such(|line| matches!(line, Line::Error { .. }));
        assert!(line.starts_with("ERROR,67,"), "{line} to {nonsense:?}");
        client.send("wsok");
        client.line_such(|line| matches!(line, Line::Wsok));
    }
    server.stop();
}

/// Clients that ask for pages without end and read none of them: the server holds a bound of answers for each, and
/// sleeps until they read.
fn pages_that_nobody_reads_cost_no_core(io: Io) {
    const CLIENTS: usize = 4;
    let server = start(io);
    let before = server.rss_bytes();
    let requests = "GET /app.js HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.set_nonblocking(true).unwrap();
        // Until the server reads no more, for a while at least: then it cannot send more either.
        let mut refusals = 0;
        while refusals < 50 {
            match stream.write(requests.as_bytes()) {
                Ok(_) => refusals = 0,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    refusals += 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(_) => break, // closed: it held back more than it may
            }
        }
        stream.set_nonblocking(false).unwrap();
        clients.push(stream);
    }
    let mut asleep = 0;
    wait_until("the server sleeps", || {
        asleep = if server.sleeps() { asleep + 1 } else { 0 };
        asleep == 20
    });
    let grown = server.rss_bytes().saturating_sub(before);
    // What they ask for comes to more than a gigabyte. The allocator keeps some megabytes of what passes through.
    assert!(grown < 32 << 20, "grown by {grown} bytes");
    // Others are served, and who reads after all gets whole pages.
    let (mut client, _) = Client::with_session(server.address);
    client.send("wsok");
    assert_eq!(client.line(), "WSOK");
    for mut stream in clients {
        let mut piece = [0; 256];
        let count = read(&mut stream, &mut piece).unwrap();
        assert!(piece[..count].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    server.stop();
}

fn connections_have_a_limit_and_make_room(io: Io) {
    let server = Server::start(
        io,
        Setup {
            sessions: "connections_max = 8",
            ..Setup::default()
        },
    );
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(server.address)).collect();
    for _ in 0..20 {
        let stream = TcpStream::connect(server.address).unwrap();
        let ended = Client::upgrade(stream, &[]).err();
        assert!(
            matches!(ended, Some(Ended::Eof | Ended::Reset)),
            "{ended:?}"
        );
    }
    for client in &mut clients {
        client.send("wsok");
        assert_eq!(client.line(), "WSOK");
    }
    clients.truncate(5);
    // The server hears of it when it hears of it.
    wait_until("there is room again", || {
        let stream = TcpStream::connect(server.address).unwrap();
        clients.extend(Client::upgrade(stream, &[]).ok());
        clients.len() == 8
    });
    server.stop();
}
