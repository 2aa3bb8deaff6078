//! Clients that mean harm, over HTTP and with fragments: errors in the protocol's own words where a client can be answered,
//! else the end of the connection; and another session streams on meanwhile. What breaks frames and what is no HTTP at
//! all is in `limits.rs`, what takes too long in `timeouts.rs`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use brightwire::wire::ws::CloseCode;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::on_both_back_ends;
use crate::support::client::framed;
use crate::support::{Client, Counted, Ended, Feed, Io, Server, Setup, WAIT_MAX};

on_both_back_ends!(
    heads_and_bodies_beyond_the_limit,
    what_cannot_be_decoded,
    garbage_behind_requests,
    a_thousand_requests_in_one_batch,
    a_long_query_for_each_of_many_lines,
    fragments_in_all_orders,
    requests_that_stop_in_the_middle,
    sessions_that_belong_to_nobody,
);

const FEED: Feed = Feed::new(60_000, 20);

/// A server, and a client that streams while others do harm.
struct Bystander {
    server: Server,
    client: Client,
    id: String,
    counted: Counted,
    rss_bytes: u64,
}

/// What a server may grow by in these tests: far above the allocator's moods, far below what a client sends in some.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

impl Bystander {
    fn new(io: Io) -> Self {
        let server = Server::start(
            io,
            Setup {
                replay: Some(&FEED.csv()),
                ..Setup::default()
            },
        );
        let (mut client, id) = Client::with_session(server.address);
        client.send(&FEED.subscribe(1, &id));
        let rss_bytes = server.rss_bytes();
        let mut bystander = Self {
            server,
            client,
            id,
            counted: FEED.counted(),
            rss_bytes,
        };
        bystander.goes_on();
        bystander
    }

    /// The next update comes, and is the right one.
    fn goes_on(&mut self) {
        self.counted.take(&self.client.update()).unwrap();
    }

    /// What is left when all is over: a server that has not grown, and the session.
    fn end(mut self) {
        self.goes_on();
        let grown = self.server.rss_bytes().saturating_sub(self.rss_bytes);
        assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");
        let (counted, id) = (&mut self.counted, &self.id);
        self.client.force_rebind(id, |line| counted.take(line));
        self.server.stop();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream
    }

    /// What the server says to these bytes until it ends the connection, which the client does not.
    fn says(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused before all of it is sent; and then a reset may follow the answer.
        let _refused_midway = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("answers are text")
    }

    /// The body of the answer to one request; the connection is closed behind it.
    fn answer(&self, name: &str, query: &str, body: &[u8]) -> (String, String) {
        let answer = self.says(&request(name, query, body));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
        let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].to_owned();
        (status, body.to_owned())
    }
}

/// A request on a connection that is closed after it.
fn request(name: &str, query: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /lightstreamer/{name}.txt?LS_protocol=TLCP-2.5.0{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Codes of requests that are too large stay local to the request; what cannot be a request at all gets a status.
fn heads_and_bodies_beyond_the_limit(io: Io) {
    let mut bystander = Bystander::new(io);
    let long = "x".repeat(60_000);
    for (name, body, expected) in [
        (
            "msg",
            format!("LS_reqId=5&LS_message={long}"),
            "REQERR,5,68,Request too long\r\n",
        ),
        (
            "control",
            format!("LS_op=add&LS_group={long}"),
            "ERROR,67,Malformed request\r\n",
        ),
        (
            "create_session",
            format!("LS_user={long}"),
            "CONERR,68,Request too long\r\n",
        ),
        ("heartbeat", long.clone(), "REQOK\r\n"),
    ] {
        let (status, answer) = bystander.answer(name, "", body.as_bytes());
        assert_eq!((&*status, &*answer), ("200", expected));
        bystander.goes_on();
    }
    // Ten bodies of 16 MB leave nothing behind.
    for _ in 0..10 {
        let body = vec![b'x'; 16 << 20];
        let (_, answer) = bystander.answer("control", "", &body);
        assert_eq!(answer, "ERROR,67,Malformed request\r\n");
        bystander.goes_on();
    }
    for head in [
        format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {long}\r\n\r\n"),
        format!("POST /lightstreamer/control.txt?{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
    ] {
        let answer = bystander.says(head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer:.80}");
        bystander.goes_on();
    }
    bystander.end();
}

fn what_cannot_be_decoded(io: Io) {
    let mut bystander = Bystander::new(io);
    for (body, status, expected) in [
        // A percent sign without two digits, or with some that are no text.
        (
            &b"LS_reqId=1&LS_op=%zz&LS_session=S"[..],
            "200",
            "REQERR,1,67,Malformed request\r\n",
        ),
        (
            b"LS_session=%C3%28&LS_reqId=2&LS_op=add",
            "200",
            "REQERR,2,67,Malformed request\r\n",
        ),
        (
            b"LS_reqId=%&LS_op=add",
            "200",
            "ERROR,67,Malformed request\r\n",
        ),
        (b"\0\0\0&\r\n=&=&=", "200", ""),
        // Bytes that are no text at all.
        (
            b"LS_reqId=1&LS_op=\xff\xfe",
            "200",
            "REQERR,1,67,The request is not UTF-8\r\n",
        ),
        (b"\xc3", "200", "ERROR,67,Malformed request\r\n"),
    ] {
        let (told, answer) = bystander.answer("control", "", body);
        assert_eq!(told, status, "{body:?}");
        if !expected.is_empty() {
            assert_eq!(answer, expected);
        }
        bystander.goes_on();
    }
    bystander.end();
}

/// What comes before the garbage is answered; then the connection ends.
fn garbage_behind_requests(io: Io) {
    let mut bystander = Bystander::new(io);
    let heartbeat =
        b"POST /lightstreamer/heartbeat.txt?LS_protocol=TLCP-2.5.0 HTTP/1.1\r\nHost: h\r\n\
        Content-Length: 2\r\n\r\n\r\n";
    for garbage in [
        &b"\x81\x84\0\0\0\0wsok"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"POST /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"POST /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\xff\xff\xff\xff\r\n\r\n",
    ] {
        let mut bytes = heartbeat.repeat(50);
        bytes.extend_from_slice(garbage);
        let answer = bystander.says(&bytes);
        assert_eq!(answer.matches("\r\n\r\nREQOK\r\n").count(), 50, "{garbage:?}");
        let (_, last) = answer.rsplit_once("HTTP/1.1 ").unwrap();
        assert!(last.starts_with('4') || last.starts_with('5'), "{last}");
        bystander.goes_on();
    }
    bystander.end();
}

/// One answer for each line, in their order.
fn a_thousand_requests_in_one_batch(io: Io) {
    let mut bystander = Bystander::new(io);
    let id = bystander.id.clone();
    let lines: Vec<String> = (0..1_000)
        .map(|number| match number % 3 {
            0 => format!("LS_reqId={number}&LS_op=delete&LS_subId=7"),
            1 => format!("LS_reqId={number}&LS_op=nonsense"),
            _ => "LS_op=add".to_owned(),
        })
        .collect();
    let query = format!("&LS_session={id}");
    let (status, answer) = bystander.answer("control", &query, lines.join("\r\n").as_bytes());
    assert_eq!(status, "200");
    let answers: Vec<_> = answer.lines().collect();
    assert_eq!(answers.len(), 1_000);
    for (number, answer) in answers.into_iter().enumerate() {
        let expected = match number % 3 {
            0 => format!("REQERR,{number},19,Specified subscription not found"),
            1 => format!("REQERR,{number},65,Invalid argument: LS_op"),
            _ => "ERROR,67,Malformed request".to_owned(),
        };
        assert_eq!(answer, expected);
    }
    bystander.goes_on();
    bystander.end();
}

/// The query string holds defaults for every line, so a long one with many lines is much to read: the largest that pass
/// the limits must not keep the shard from serving others.
fn a_long_query_for_each_of_many_lines(io: Io) {
    let mut bystander = Bystander::new(io);
    let query = format!("&LS_group={}", "%41".repeat(15_000));
    let body = "LS_reqId=1\n".repeat(4_000);
    for protocol in ["LS_protocol=TLCP-2.5.0", ""] {
        let bytes = request("control", &query, body.as_bytes());
        let text = String::from_utf8(bytes).unwrap();
        let answer = bystander.says(
            text.replacen("LS_protocol=TLCP-2.5.0", protocol, 1)
                .as_bytes(),
        );
        let told = match protocol {
            "" => "ERROR\r\n68\r\nRequest too long\r\n",
            _ => "REQERR,1,68,Request too long\r\n",
        };
        assert_eq!(answer.matches(told).count(), 4_000, "{answer:.300}");
        bystander.goes_on();
    }
    bystander.end();
}

fn fragments_in_all_orders(io: Io) {
    const TEXT: OpCode = OpCode::Data(Data::Text);
    const CONTINUE: OpCode = OpCode::Data(Data::Continue);
    let mut bystander = Bystander::new(io);
    // A message in single bytes, with pings between them, is a message.
    let mut client = Client::connect(bystander.server.address);
    let parts: Vec<&[u8]> = b"wsok".chunks(1).collect();
    let mut bytes = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let opcode = if number == 0 { 1 } else { 0 };
        let last = if number + 1 == parts.len() { 0x80 } else { 0 };
        bytes.extend_from_slice(&[opcode | last, 0x81, 0, 0, 0, 0, part[0]]);
        bytes.extend_from_slice(&[0x89, 0x80, 0, 0, 0, 0]);
    }
    client.send_bytes(&bytes);
    let mut line = client.line();
    while line.starts_with("NOOP,pong") {
        line = client.line(); // how the test's client shows pongs
    }
    assert_eq!(line, "WSOK");
    // Fragments that together exceed the limit; a message within a message; fragments without an end.
    let piece = |first: u8, length: usize| {
        let mut bytes = vec![first, 0xfe];
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.resize(bytes.len() + length, b'x');
        bytes
    };
    let many: Vec<u8> = (0..60)
        .flat_map(|number| match number {
            0 => piece(1, 1_000),
            59 => piece(0x80, 1_000),
            _ => piece(0, 1_000),
        })
        .collect();
    let mut client = Client::connect(bystander.server.address);
    client.send_bytes(&many);
    assert_eq!(client.line(), "ERROR,67,Malformed request");
    let mut client = Client::connect(bystander.server.address);
    let mut bytes = piece(1, 10);
    bytes.extend(framed(&["wsok"]));
    client.send_bytes(&bytes);
    assert_eq!(client.end(), Ended::Close(Some(CloseCode::Protocol)));
    let mut client = Client::connect(bystander.server.address);
    client.send_frame(CONTINUE, b"wsok");
    assert_eq!(client.end(), Ended::Close(Some(CloseCode::Protocol)));
    // A character cut in two by fragments is whole; one that is never completed is not.
    let mut client = Client::connect(bystander.server.address);
    client.send_bytes(&[0x01, 0x81, 0, 0, 0, 0, 0xc3, 0x80, 0x81, 0, 0, 0, 0, 0xa9]);
    assert_eq!(client.line(), "ERROR,67,Malformed request");
    client.send_frame(TEXT, b"\xc3");
    assert_eq!(client.end(), Ended::Close(Some(CloseCode::Invalid)));
    bystander.goes_on();
    bystander.end();
}

/// A client may vanish at any byte; nothing waits for the rest.
fn requests_that_stop_in_the_middle(io: Io) {
    let mut bystander = Bystander::new(io);
    let whole = request(
        "create_session",
        "",
        b"LS_cid=x&LS_adapter_set=DEMO&LS_polling=true",
    );
    for end in (0..whole.len()).step_by(7) {
        let mut stream = bystander.connect();
        stream.write_all(&whole[..end]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
        assert!(
            !String::from_utf8_lossy(&rest).contains("CONOK"),
            "a session out of half a request"
        );
    }
    bystander.goes_on();
    bystander.end();
}

/// Requests for sessions that cannot be: guessed, malformed, of shards and servers that do not exist.
fn sessions_that_belong_to_nobody(io: Io) {
    let mut bystander = Bystander::new(io);
    let flipped: String = bystander.id.chars().rev().collect();
    let long = "S".repeat(40_000);
    for id in [
        "",
        "S",
        "S0T0",
        "%00",
        "Sffffffffffffffffffffffffffffffff",
        &flipped,
        &long,
    ] {
        let body = format!("LS_reqId=1&LS_op=destroy&LS_session={id}");
        let (status, answer) = bystander.answer("control", "", body.as_bytes());
        assert_eq!(status, "200");
        assert!(
            answer.starts_with("REQERR,1,20,") || answer.starts_with("REQERR,1,11,"),
            "{answer}"
        );
        bystander.goes_on();
    }
    bystander.end();
}
