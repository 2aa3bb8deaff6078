//! The client connection seen from outside: streams of bytes, cut at every position; each refusal; holding back and
//! closing; and tungstenite, which was not written by us, at the other end.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use brightwire::net::connection::{
    self, ANSWER_BYTES_MAX, Caller, Connection, Flow, Host, Phase, Progress, Settings, TlcpRequest,
    UNREAD_BYTES_MAX,
};
use brightwire::net::outbox;
use brightwire::net::response::Responding;
use brightwire::wire::origin::{OriginPolicy, OriginRule, Origins};
use brightwire::wire::pages;
use brightwire::wire::ws::{CloseCode, Decoder, Incoming, Upgrade};
use brightwire::wire::ws_client::{Handshake, write_close, write_frame, write_text};
use engine::shard::Part;
use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";
const MASK: [u8; 4] = [1, 2, 3, 250];
const REQUEST_BYTES_MAX: usize = 2_000;

/// Writes down what a connection tells its host.
#[derive(Default)]
struct Recorder {
    events: Vec<String>,
    reply: Vec<u8>,
    /// Length of the reply when the connection became a WebSocket.
    upgraded_at: Option<usize>,
    stop: bool,
    closed: bool,
    /// The last response, which is written at once.
    response: Option<Responding>,
}

impl Host for Recorder {
    fn peer(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn proxied(&mut self, client: SocketAddr) {
        self.events.push(format!("proxied for {client}"));
    }

    fn upgraded(&mut self, upgrade: &Upgrade<'_>, _caller: Caller, _settings: &Settings) {
        self.events.push(format!(
            "{} {:?} {:?}",
            upgrade.subprotocol, upgrade.user_agent, upgrade.origin
        ));
        self.upgraded_at = Some(self.reply.len());
    }

    fn message(&mut self, text: &str) -> Flow {
        self.events.push(format!("message {text}"));
        if self.stop {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }

    fn cut_message(&mut self, beginning: &str) {
        self.events.push(format!("beginning {beginning}"));
    }

    /// Answers with as many lines as the request has bytes, modulo 3; in chunks if there are several.
    fn request(&mut self, request: TlcpRequest<'_>, settings: &Settings) {
        let TlcpRequest {
            version,
            http,
            terms,
            ..
        } = request;
        self.events.push(format!(
            "{} {version:?} {:?} {:?}",
            http.verb.name(),
            http.query,
            http.body
        ));
        assert_eq!(http.identity, terms.identity());
        let mut response = Responding::new(terms);
        let lines = http.body.len() % 3;
        for line in 0..=lines {
            let start = outbox::begin(&mut self.reply);
            self.reply
                .extend_from_slice(format!("REQOK,{line}\r\n").as_bytes());
            let part = match lines {
                0 => Part::Response,
                _ => Part::Stream {
                    content_length: 1_000,
                    last: line == lines,
                },
            };
            let now = SystemTime::UNIX_EPOCH;
            let from = response
                .frame(&mut self.reply, start, part, settings, now)
                .unwrap();
            self.reply.drain(start..from); // a host sends from there
        }
        self.response = Some(response);
    }

    fn reply(&mut self) -> &mut Vec<u8> {
        &mut self.reply
    }

    fn close(&mut self) {
        assert!(!self.closed, "closed once");
        self.closed = true;
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl Recorder {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.reply).into_owned()
    }

    /// What was said over the WebSocket, with the pongs apart.
    fn frames(&self) -> (Vec<String>, Vec<String>) {
        let mut bytes = self.reply[self.upgraded_at.unwrap_or(self.reply.len())..].to_vec();
        let mut decoder = Decoder::of_server(1 << 20);
        let (mut pongs, mut others) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < bytes.len() {
            let (used, incoming) = decoder.next(&mut bytes[at..]).unwrap();
            at += used;
            match incoming.expect("whole frames") {
                Incoming::Pong(payload) => {
                    pongs.push(String::from_utf8_lossy(payload).into_owned())
                }
                other => others.push(format!("{other:?}")),
            }
        }
        (pongs, others)
    }
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        request_bytes_max: REQUEST_BYTES_MAX,
        ..Settings::default()
    })
}

/// Feeds a connection piece by piece; a stopped one is resumed at once.
fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, stop: bool) -> (Connection, Recorder) {
    let mut connection = Connection::new(settings());
    let mut host = Recorder {
        stop,
        ..Recorder::default()
    };
    for piece in pieces {
        // A copy of exactly the piece's size: reading beyond it would be noticed.
        let mut progress = connection.on_bytes(&mut piece.to_vec(), &mut host);
        while matches!(progress, Progress::Stopped | Progress::Answered) {
            progress = match host.response.take() {
                Some(response) => {
                    assert_eq!(connection.phase(), Phase::Response);
                    connection.on_response_end(response.ended().unwrap(), &mut host)
                }
                None => connection.resume(&mut host),
            };
        }
        assert_eq!(progress == Progress::Closed, host.closed);
    }
    (connection, host)
}

/// Everything that must not depend on how the stream is cut. Pongs may: only the last ping of a read is answered.
fn outcome(
    (connection, host): &(Connection, Recorder),
) -> (Vec<String>, String, Vec<String>, Option<String>, Phase) {
    let http = String::from_utf8_lossy(&host.reply[..host.upgraded_at.unwrap_or(host.reply.len())])
        .into_owned();
    let (pongs, frames) = host.frames();
    (
        host.events.clone(),
        http,
        frames,
        pongs.last().cloned(),
        connection.phase(),
    )
}

fn upgrade_with(headers: &[(&str, &str)]) -> Vec<u8> {
    let fixed = "GET /lightstreamer HTTP/1.1\r\n".to_owned()
        + &[
            ("Host", "h"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", SUBPROTOCOL),
        ]
        .into_iter()
        .filter(|(name, _)| !headers.iter().any(|(other, _)| other == name))
        .chain(headers.iter().copied())
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect::<String>()
        + "\r\n";
    fixed.into_bytes()
}

fn upgrade() -> Vec<u8> {
    upgrade_with(&[])
}

fn text(message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_text(&mut out, message, MASK);
    out
}

fn frame(is_final: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, is_final, opcode, payload, MASK);
    out
}

fn ping(payload: &[u8]) -> Vec<u8> {
    frame(true, OpCode::Control(Control::Ping), payload)
}

fn close() -> Vec<u8> {
    let mut out = Vec::new();
    write_close(&mut out, CloseCode::Normal, MASK);
    out
}

/// TLCP requests as different clients send them.
fn tlcp() -> Vec<Vec<u8>> {
    let post = |target: &str, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let version = "LS_protocol=TLCP-2.5.0";
    let large = format!(
        "LS_reqId=9&LS_message={}",
        "\u{e9}".repeat(REQUEST_BYTES_MAX)
    );
    vec![
        post(
            &format!("/lightstreamer/create_session.txt?{version}"),
            "Content-Type: text/plain; charset=utf-8\r\nOrigin: https://a\r\n",
            "LS_polling=true&LS_user=\u{e9}",
        ),
        post(
            &format!("/lightstreamer/control.txt?{version}&LS_session=S1"),
            "Expect: 100-continue\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
            "LS_reqId=1&LS_op=add\r\nLS_reqId=2&LS_op=delete\r\n",
        ),
        get(&format!("/lightstreamer/control.txt?LS_reqId=3&{version}")),
        post(
            "/lightstreamer/msg.txt",
            "",
            &format!("LS_reqId=4&{version}"),
        ),
        post(
            &format!("/lightstreamer/heartbeat.txt?{version}&LS_session=S1"),
            "",
            "\r\n",
        ),
        get(&format!("/lightstreamer/wsok.txt?{version}")),
        post("/lightstreamer/heartbeat.txt", "", "LS_reqId=5"),
        post(
            "/lightstreamer/control.txt?LS_protocol=TLCP-3.0.0",
            "",
            "LS_reqId=6",
        ),
        post(&format!("/lightstreamer/msg.txt?{version}"), "", &large),
        b"OPTIONS /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\n\r\n"
            .to_vec(),
        b"HEAD /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        post(
            &format!("/lightstreamer/send_log.txt?{version}"),
            "",
            "a log",
        ),
    ]
}

fn corpus() -> Vec<Vec<u8>> {
    let first = |payload: &[u8]| frame(false, OpCode::Data(Data::Text), payload);
    let more = |is_final, payload: &[u8]| frame(is_final, OpCode::Data(Data::Continue), payload);
    let http = b"\r\nGET /style.css HTTP/1.1\r\nHost: h\r\n\r\n\
        HEAD /favicon.svg HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /lightstreamer/control.txt?LS_protocol=TLCP-2.5.0 HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n\
        GET /trap HTTP/1.1\r\n\
        PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab\
        OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n\
        GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
    vec![
        [
            upgrade_with(&[("User-Agent", "test"), ("Origin", "https://a")]),
            text("wsok"),
            text("create_session\r\nLS_adapter_set=DEMO&LS_user=\u{e9}"),
            ping(b"1"),
            first(b"con"),
            ping(b"2"),
            more(false, b"tr\xc3"),
            more(true, b"\xb6l"),
            text(""),
            close(),
            text("after the end"),
        ]
        .concat(),
        [&http[..], &upgrade(), &text("now"), &ping(b"p")].concat(),
        [
            &http[..],
            b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n",
        ]
        .concat(),
        b"GET /nothing HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /x HTTP/1.0\r\n\r\nGET"
            .to_vec(),
        [
            upgrade(),
            text("a"),
            frame(true, OpCode::Data(Data::Binary), b"b"),
            text("c"),
        ]
        .concat(),
        [
            upgrade(),
            ping(b"p"),
            text("\u{0}"),
            frame(true, OpCode::Data(Data::Text), b"\xff"),
        ]
        .concat(),
        [
            upgrade(),
            text(&"x".repeat(REQUEST_BYTES_MAX)),
            text(&"y".repeat(REQUEST_BYTES_MAX + 1)),
            text("z"),
            b"\x81\xff\0\0\0\0\x01\0\0\x01\0\0\0\0".to_vec(), // the head of 16 MiB and a byte
        ]
        .concat(),
        [upgrade(), vec![0x81, 1, b'x']].concat(),
        tlcp().concat(),
        [&tlcp().concat()[..], &upgrade(), &text("now")].concat(),
        [
            &tlcp()[1..3].concat()[..],
            b"GET /lightstreamer/bind_session.txt?LS_protocol=TLCP-2.5.0&LS_session=S HTTP/1.0\r\n\r\nGET /",
        ]
        .concat(),
        [
            &tlcp()[1][..],
            b"POST /lightstreamer/bind_session.txt?LS_protocol=TLCP-2.5.0 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
              Content-Length: 13\r\n\r\nLS_session=S1GET /",
        ]
        .concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
    ]
}

#[test]
fn the_corpus_means_what_it_should() {
    let results: Vec<_> = corpus()
        .iter()
        .map(|stream| outcome(&run([&stream[..]], false)))
        .collect();
    let (events, http, frames, pong, phase) = &results[0];
    let expected = [
        "TLCP-2.5.0.lightstreamer.com Some(\"test\") Some(\"https://a\")",
        "message wsok",
        "message create_session\r\nLS_adapter_set=DEMO&LS_user=\u{e9}",
        "message contr\u{f6}l",
        "message ",
    ];
    assert_eq!(events, &expected);
    assert!(
        http.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "RFC 6455's example"
    );
    assert!(http.contains("\r\nSec-WebSocket-Protocol: TLCP-2.5.0.lightstreamer.com\r\n"));
    assert_eq!(
        (frames, pong.as_deref(), *phase),
        (
            &vec!["Close(Some(Normal))".to_owned()],
            Some("2"),
            Phase::Closed
        )
    );

    let statuses = |index: usize| -> Vec<_> {
        results[index]
            .1
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|response| response[..3].to_owned())
            .collect()
    };
    assert_eq!(
        statuses(1),
        ["200", "200", "200", "100", "405", "404", "400", "101"]
    );
    assert_eq!(results[1].0.last().unwrap(), "message now");
    assert_eq!(
        statuses(2),
        ["200", "200", "200", "100", "405", "404", "400", "404"]
    );
    assert_eq!(results[2].4, Phase::Closed);
    assert_eq!(statuses(3), ["404", "404"]);
    assert!(
        results[3].1.contains("\r\nConnection: keep-alive\r\n") && results[3].4 == Phase::Closed
    );
    for (index, code) in [
        (4, "Unsupported"),
        (5, "Invalid"),
        (6, "Size"),
        (7, "Protocol"),
    ] {
        assert_eq!(results[index].2, [format!("Close(Some({code}))")]);
        assert_eq!(results[index].4, Phase::Closed);
    }
    assert_eq!(
        results[6].0[2..],
        [
            format!("beginning {}", "y".repeat(REQUEST_BYTES_MAX)),
            "message z".to_owned()
        ]
    );
    let answers = [
        "200", "100", "200", "200", "200", "200", "404", "400", "200", "200", "200", "405", "200",
    ];
    assert_eq!(statuses(8), answers);
    assert_eq!(results[8].0, tlcp_events());
    assert_eq!(results[8].4, Phase::Request);
    assert_eq!(statuses(9)[..13], answers);
    assert_eq!(results[9].0.last().unwrap(), "message now");
    for (index, last) in [
        (10, "HTTP/1.0 without keep-alive"),
        (11, "Connection: close"),
    ] {
        assert_eq!(results[index].4, Phase::Closed, "{last}");
        let (_, response) = results[index].1.rsplit_once("HTTP/1.1 200 OK\r\n").unwrap();
        assert!(response.contains("\r\nConnection: close\r\n"), "{last}");
        assert!(response.contains("\r\nContent-Length: "), "{last}");
    }
    assert_eq!(
        (statuses(12), statuses(13)),
        (vec!["400".to_owned()], vec!["400".to_owned()])
    );
}

/// What the host hears of [`tlcp`].
fn tlcp_events() -> Vec<String> {
    let version = |minor: u8| format!("Version {{ major: 2, minor: {minor}, sub: 0 }}");
    let query = "LS_protocol=TLCP-2.5.0";
    let event =
        |verb: &str, query: &str, body: &str| format!("{verb} {} {query:?} {body:?}", version(5));
    vec![
        event("create_session", query, "LS_polling=true&LS_user=\u{e9}"),
        event(
            "control",
            &format!("{query}&LS_session=S1"),
            "LS_reqId=1&LS_op=add\r\nLS_reqId=2&LS_op=delete\r\n",
        ),
        event("control", &format!("LS_reqId=3&{query}"), ""),
        event("msg", "", &format!("LS_reqId=4&{query}")),
        event("heartbeat", &format!("{query}&LS_session=S1"), "\r\n"),
        event("send_log", query, "a log"),
    ]
}

#[test]
fn a_cut_at_any_position_changes_nothing() {
    for stream in corpus() {
        let whole = outcome(&run([&stream[..]], false));
        assert_eq!(
            outcome(&run(stream.chunks(1), false)),
            whole,
            "byte by byte"
        );
        assert_eq!(
            outcome(&run([&stream[..]], true)),
            whole,
            "held back after each message"
        );
        for cut in 0..stream.len() {
            let (left, right) = stream.split_at(cut);
            let pieces = [left, right].into_iter().filter(|piece| !piece.is_empty());
            assert_eq!(outcome(&run(pieces, cut % 2 == 0)), whole, "cut at {cut}");
        }
    }
}

proptest! {
    #[test]
    fn many_cuts_change_nothing(index in 0usize..14, sizes in proptest::collection::vec(1usize..80, 1..200), stop: bool) {
        let stream = &corpus()[index];
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        for size in sizes {
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        pieces.retain(|piece| !piece.is_empty());
        prop_assert_eq!(outcome(&run(pieces, stop)), outcome(&run([&stream[..]], false)));
    }

    #[test]
    fn damaged_streams_do_no_harm(index in 0usize..14, cut: u8, position: prop::sample::Index, byte: u8) {
        let mut stream = corpus().swap_remove(index);
        let position = position.index(stream.len());
        stream[position] = byte;
        stream.insert(0, cut);
        connection::fuzz_entry(&stream);
    }
}

#[test]
fn upgrades_that_are_refused() {
    let status = |stream: &[u8], settings: Settings| {
        let mut host = Recorder::default();
        let progress =
            Connection::new(Arc::new(settings)).on_bytes(&mut stream.to_vec(), &mut host);
        assert!(host.closed && progress == Progress::Closed && host.events.is_empty());
        assert!(host.text().contains("\r\nConnection: close\r\n"));
        host.text()[9..12].parse::<u16>().unwrap()
    };
    let with = |name, value| status(&upgrade_with(&[(name, value)]), Settings::default());
    assert_eq!(with("Sec-WebSocket-Protocol", ""), 400);
    assert_eq!(with("Sec-WebSocket-Protocol", "js.lightstreamer.com"), 400);
    assert_eq!(
        with("Sec-WebSocket-Protocol", "TLCP-3.0.0.lightstreamer.com"),
        400
    );
    assert_eq!(with("Sec-WebSocket-Version", "8"), 426);
    assert_eq!(with("Sec-WebSocket-Version", ""), 426);
    assert_eq!(with("Sec-WebSocket-Key", ""), 400);
    assert_eq!(with("Sec-WebSocket-Key", "short"), 400);
    assert_eq!(with("Connection", "close"), 400);
    assert_eq!(with("Upgrade", ""), 426);
    assert_eq!(with("Content-Length", "1"), 400);
    let listed = || Settings {
        origins: Origins {
            policy: OriginPolicy::Listed(vec![OriginRule::parse("https://good").unwrap()]),
            ..Origins::default()
        },
        ..Settings::default()
    };
    assert_eq!(
        status(&upgrade_with(&[("Origin", "https://bad")]), listed()),
        403
    );
    for headers in [&[][..], &[("Origin", "https://good")]] {
        let mut host = Recorder::default();
        let _ = Connection::new(Arc::new(listed())).on_bytes(&mut upgrade_with(headers), &mut host);
        assert!(host.upgraded_at.is_some());
    }
}

#[test]
fn the_other_path_and_several_offers_are_accepted() {
    let stream = upgrade_with(&[("Sec-WebSocket-Protocol", "x, TLCP-2.4.1.lightstreamer.com")]);
    let stream = String::from_utf8(stream)
        .unwrap()
        .replace("/lightstreamer ", "/lightstreamer/ ");
    let (connection, host) = run([stream.as_bytes()], false);
    assert_eq!(connection.phase(), Phase::WebSocket);
    assert!(host.events[0].starts_with("TLCP-2.4.1.lightstreamer.com "));
}

#[test]
fn compression_is_not_accepted() {
    let offer = ("Sec-WebSocket-Extensions", "permessage-deflate");
    let (connection, host) = run([&upgrade_with(&[offer])[..]], false);
    assert_eq!(connection.phase(), Phase::WebSocket);
    assert!(!host.text().contains("Sec-WebSocket-Extensions"));
}

#[test]
fn an_idle_connection_owns_no_memory() {
    let (mut connection, mut host) = run([], false);
    assert_eq!(connection.heap_bytes(), 0);
    let mut feed = |bytes: &[u8]| {
        let _ = connection.on_bytes(&mut bytes.to_vec(), &mut host);
        connection.heap_bytes()
    };
    let upgrade = upgrade();
    assert!(feed(&upgrade[..50]) > 0);
    assert_eq!(feed(&upgrade[50..]), 0);
    let message = text("message");
    assert_eq!(feed(&message), 0);
    assert!(feed(&message[..5]) > 0);
    assert_eq!(feed(&message[5..]), 0);
    assert!(feed(&frame(false, OpCode::Data(Data::Text), b"a")) > 0);
    assert_eq!(feed(&frame(true, OpCode::Data(Data::Continue), b"b")), 0);
}

#[test]
fn of_several_pings_in_one_read_the_last_is_answered() {
    let (_, host) = run(
        [
            &upgrade()[..],
            &[ping(b"1"), ping(b""), ping(b"3")].concat(),
            &ping(b"4"),
        ],
        false,
    );
    assert_eq!(host.frames().0, ["3", "4"]);
}

#[test]
fn a_stopped_connection_moves_to_another_thread_with_its_unread_bytes() {
    let mut connection = Connection::new(settings());
    let mut host = Recorder {
        stop: true,
        ..Recorder::default()
    };
    let mut stream = [
        upgrade(),
        text("bind_session"),
        text("second"),
        text("third"),
    ]
    .concat();
    let late = stream.split_off(stream.len() - 3);
    assert_eq!(
        connection.on_bytes(&mut stream, &mut host),
        Progress::Stopped
    );
    assert_eq!(
        connection.on_bytes(&mut late.clone(), &mut host),
        Progress::Stopped
    );
    assert_eq!(host.events[1..], ["message bind_session"]);
    let host = thread::spawn(move || {
        let mut host = Recorder::default();
        assert_eq!(connection.resume(&mut host), Progress::Reading);
        assert_eq!(connection.heap_bytes(), 0);
        host
    });
    assert_eq!(
        host.join().unwrap().events,
        ["message second", "message third"]
    );
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut connection = Connection::new(settings());
    let mut host = Recorder {
        stop: true,
        ..Recorder::default()
    };
    let mut stream = [upgrade(), text("a")].concat();
    assert_eq!(
        connection.on_bytes(&mut stream, &mut host),
        Progress::Stopped
    );
    let mut piece = vec![0; UNREAD_BYTES_MAX / 4];
    for _ in 0..4 {
        assert_eq!(
            connection.on_bytes(&mut piece, &mut host),
            Progress::Stopped
        );
    }
    assert_eq!(
        connection.on_bytes(&mut piece[..1], &mut host),
        Progress::Closed
    );
    assert_eq!(host.frames().1, ["Close(Some(Policy))"]);
    assert!(host.closed && connection.heap_bytes() == 0);
    assert_eq!(connection.resume(&mut host), Progress::Closed);
}

#[test]
fn pipelined_pages_wait_until_the_answers_are_sent() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let largest = pages::Site::demo().find("/").unwrap().content.len() + 1_000;
    let (mut connection, mut host) = run([], false);
    let mut progress = connection.on_bytes(&mut request.repeat(200), &mut host);
    let (mut answers, mut resumed) = (0, 0);
    loop {
        assert!(host.reply.len() < ANSWER_BYTES_MAX + largest);
        answers += host.text().matches("HTTP/1.1 200 OK\r\n").count();
        host.reply.clear();
        match progress {
            Progress::Answered => {
                resumed += 1;
                progress = connection.resume(&mut host);
            }
            Progress::Reading => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, 200);
    assert!(resumed > 0);
}

#[test]
fn bodies_above_the_limit_and_heads_above_the_limit() {
    let answer = |stream: &[u8]| {
        let (connection, host) = run([stream], false);
        assert_eq!(connection.phase(), Phase::Closed);
        host.text()[9..12].to_owned()
    };
    let post =
        |headers: &str| answer(format!("POST /x HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes());
    assert_eq!(post("Content-Length: 2001\r\n"), "413");
    assert_eq!(
        post("Content-Length: 2001\r\nExpect: 100-continue\r\n"),
        "413"
    );
    assert_eq!(post("Transfer-Encoding: chunked\r\n"), "411");
    assert_eq!(post("Transfer-Encoding: br\r\n"), "501");
    assert_eq!(
        post(&format!("A: {}\r\n", "x".repeat(REQUEST_BYTES_MAX))),
        "431"
    );
    assert_eq!(answer(&[b'x'; REQUEST_BYTES_MAX + 1]), "431");
}

#[test]
fn closing_from_our_side_waits_for_the_peers_close() {
    let (mut connection, mut host) = run([&upgrade()[..]], false);
    assert_eq!(
        connection.close(CloseCode::Normal, &mut host),
        Progress::Reading
    );
    assert_eq!(connection.phase(), Phase::Closing);
    assert_eq!(
        connection.close(CloseCode::Away, &mut host),
        Progress::Reading,
        "no second close frame"
    );
    assert_eq!(
        connection.on_bytes(&mut [text("late"), ping(b"x")].concat(), &mut host),
        Progress::Reading
    );
    assert_eq!(
        connection.on_bytes(&mut close(), &mut host),
        Progress::Closed
    );
    assert_eq!(
        host.frames(),
        (vec![], vec!["Close(Some(Normal))".to_owned()])
    );
    assert!(host.closed && host.events.len() == 1);
    assert_eq!(
        connection.on_bytes(&mut text("dropped"), &mut host),
        Progress::Closed
    );
}

#[test]
fn closing_finds_the_peers_close_among_what_was_held_back() {
    let mut connection = Connection::new(settings());
    let mut host = Recorder {
        stop: true,
        ..Recorder::default()
    };
    let mut stream = [upgrade(), text("a"), text("b"), close()].concat();
    assert_eq!(
        connection.on_bytes(&mut stream, &mut host),
        Progress::Stopped
    );
    assert_eq!(
        connection.close(CloseCode::Normal, &mut host),
        Progress::Closed
    );
    assert_eq!(host.events[1..], ["message a"]);
}

/// Serves one connection: every message comes back, as one line.
fn echo_server(listener: &TcpListener) {
    let (mut socket, _) = listener.accept().unwrap();
    let mut connection = Connection::new(Arc::new(Settings::default()));
    let mut host = Echo(Recorder::default());
    let mut scratch = vec![0; 4096];
    while !host.0.closed {
        let received = socket.read(&mut scratch).unwrap();
        if received == 0 {
            return;
        }
        let progress = connection.on_bytes(&mut scratch[..received], &mut host);
        assert!(matches!(progress, Progress::Reading | Progress::Closed));
        socket.write_all(&host.0.reply).unwrap();
        host.0.reply.clear();
    }
}

struct Echo(Recorder);

impl Host for Echo {
    fn peer(&self) -> IpAddr {
        self.0.peer()
    }
    fn proxied(&mut self, client: SocketAddr) {
        self.0.proxied(client);
    }
    fn upgraded(&mut self, upgrade: &Upgrade<'_>, caller: Caller, settings: &Settings) {
        self.0.upgraded(upgrade, caller, settings);
    }
    fn message(&mut self, text: &str) -> Flow {
        let mut buffer = Vec::new();
        let start = outbox::begin(&mut buffer);
        buffer.extend_from_slice(text.as_bytes());
        buffer.extend_from_slice(b"\r\n");
        let from = outbox::finish(&mut buffer, start);
        self.0.reply.extend_from_slice(&buffer[from..]);
        Flow::Continue
    }
    fn cut_message(&mut self, beginning: &str) {
        self.0.cut_message(beginning);
    }
    fn request(&mut self, request: TlcpRequest<'_>, settings: &Settings) {
        self.0.request(request, settings);
    }
    fn reply(&mut self) -> &mut Vec<u8> {
        &mut self.0.reply
    }
    fn close(&mut self) {
        self.0.close();
    }
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[test]
fn tungstenite_as_the_client() {
    use tungstenite::client::IntoClientRequest;
    use tungstenite::protocol::CloseFrame;
    use tungstenite::{Bytes, Message};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || echo_server(&listener));
    let mut request = format!("ws://{address}/lightstreamer")
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse().unwrap());
    let (mut client, answer) =
        tungstenite::client(request, TcpStream::connect(address).unwrap()).unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], SUBPROTOCOL);
    for length in [0, 1, 125, 126, 4_000, 49_000] {
        let message = "\u{e9}".repeat(length / 2);
        client.send(Message::text(message.clone())).unwrap();
        assert_eq!(client.read().unwrap(), Message::text(message + "\r\n"));
    }
    client
        .send(Message::Ping(Bytes::from_static(b"there?")))
        .unwrap();
    assert_eq!(
        client.read().unwrap(),
        Message::Pong(Bytes::from_static(b"there?"))
    );
    client
        .close(Some(CloseFrame {
            code: CloseCode::Away,
            reason: "enough".into(),
        }))
        .unwrap();
    loop {
        match client.read() {
            Ok(Message::Close(frame)) => assert_eq!(frame.unwrap().code, CloseCode::Away),
            Ok(other) => panic!("{other:?}"),
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    server.join().unwrap();
}

#[test]
#[allow(clippy::result_large_err)] // the shape of tungstenite's callback
fn tungstenite_as_the_server() {
    use tungstenite::Message;
    use tungstenite::handshake::server::{Request, Response};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let confirm = |request: &Request, mut response: Response| {
            let offered = request.headers()["Sec-WebSocket-Protocol"].clone();
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", offered);
            Ok(response)
        };
        let mut server = tungstenite::accept_hdr(socket, confirm).unwrap();
        loop {
            match server.read() {
                Ok(Message::Text(text)) => server.send(Message::Text(text)).unwrap(),
                Ok(Message::Close(frame)) => assert_eq!(frame.unwrap().code, CloseCode::Normal),
                Ok(other) => panic!("{other:?}"),
                Err(tungstenite::Error::ConnectionClosed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut socket = TcpStream::connect(address).unwrap();
    let mut out = Vec::new();
    let handshake = Handshake::request(
        &mut out,
        &address.to_string(),
        "/lightstreamer",
        SUBPROTOCOL,
        &[],
    );
    socket.write_all(&out).unwrap();
    let mut received = Vec::new();
    let mut at = loop {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        received.extend_from_slice(&byte);
        if let Some(head_bytes) = handshake.answer(&received).unwrap() {
            break head_bytes;
        }
    };
    let messages = ["a".repeat(3), "b".repeat(300), "c".repeat(70_000)];
    out.clear();
    for message in &messages {
        write_text(&mut out, message, MASK);
    }
    write_close(&mut out, CloseCode::Normal, MASK);
    // Written by a thread of its own, so that neither end waits for the other to read.
    let mut writer = socket.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&out).unwrap());
    socket.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    server.join().unwrap();

    let mut decoder = Decoder::of_server(1 << 20);
    for message in &messages {
        let (used, incoming) = decoder.next(&mut received[at..]).unwrap();
        at += used;
        assert_eq!(incoming, Some(Incoming::Text(message)));
    }
    let bytes = received.len();
    let (used, incoming) = decoder.next(&mut received[at..]).unwrap();
    assert_eq!(incoming, Some(Incoming::Close(Some(CloseCode::Normal))));
    assert_eq!(at + used, bytes);
}
