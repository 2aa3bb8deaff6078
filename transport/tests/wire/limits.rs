//! Each refusal; holding back and closing.

use std::sync::Arc;
use std::thread;

use brightwire::net::connection::{
    ANSWER_BYTES_MAX, Connection, Phase, Progress, Settings, UNREAD_BYTES_MAX,
};
use brightwire::wire::origin::{OriginPolicy, OriginRule, Origins};
use brightwire::wire::pages;
use brightwire::wire::ws::CloseCode;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::*;

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
