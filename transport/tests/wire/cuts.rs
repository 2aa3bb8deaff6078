//! Streams of bytes, cut at every position, mean the same.

use brightwire::net::connection::{self, Phase};
use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::*;

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
