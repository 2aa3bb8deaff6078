//! Sessions against hand-made servers.

use brightwire::wire::http as server_http;
use brightwire::wire::origin::OriginPolicy;
use brightwire::wire::ws::{Upgrade, frame_header};

use super::*;
use crate::args::{Cli, Command};
use crate::rank;
use crate::stats::Interval;
use clap::Parser;

fn setup(flags: &str) -> Setup {
    let words =
        "loadgen run --server h --items a,b,c --items-per-session 2 --data-adapter Q --frequency 2";
    let words = words.split_whitespace().chain(flags.split_whitespace());
    let Command::Run(arguments) = Cli::try_parse_from(words).unwrap().command else {
        unreachable!("it says run");
    };
    Setup::new(arguments.scenario().unwrap()).unwrap()
}

fn books() -> Books {
    Books {
        interval: Interval::new(0),
        marks: vec![Mark::default(); 4],
        sample: rank::Sample::new(1, 2),
        verifier: None,
        arrived_ns: 1_000,
        clock_ns: || 5_000,
        frames_written: 0,
    }
}

const FIELDS: &str = "--fields price,timestamp";

/// Framed without the server's own check that messages end with a line.
fn message(text: &str) -> Vec<u8> {
    let (header, first) = frame_header(text.len());
    [&header[first..], text.as_bytes()].concat()
}

/// What the session said since the last time, as the server reads it.
fn said(session: &mut Session) -> Vec<String> {
    let mut bytes = std::mem::take(&mut session.reply);
    let mut decoder = Decoder::of_clients(10_000);
    let mut rest = &mut bytes[..];
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (used, incoming) = decoder.next(rest).unwrap();
        if let Some(Incoming::Text(text)) = incoming {
            texts.push(text.to_owned());
        }
        rest = &mut rest[used..];
    }
    texts
}

/// The server's answer to the session's upgrade.
fn accepted(session: &mut Session) -> Vec<u8> {
    let request = std::mem::take(&mut session.reply);
    let mut headers = [httparse::EMPTY_HEADER; server_http::HEADERS_MAX];
    let request = server_http::Request::parse(&request, &mut headers, 0).unwrap();
    let upgrade = Upgrade::read(&request, &OriginPolicy::Any).unwrap();
    let mut answer = Vec::new();
    let context = server_http::Context::new("s", std::time::UNIX_EPOCH);
    upgrade.write_answer(&mut answer, &context);
    answer
}

fn live(flags: &str) -> (Session, Setup, Books) {
    let (setup, mut books) = (setup(&format!("{FIELDS} {flags}")), books());
    let mut session = Session::new(1, 0, 1, 2);
    session.open(Opening::New, &setup, &mut books);
    let mut opening = accepted(&mut session);
    opening.extend(message("WSOK\r\nCONOK,S1,50000,5000,*\r\n"));
    opening.extend(message("SUBOK,1,2,2\r\nCONF,1,2.0,filtered\r\n"));
    session.on_bytes(&mut opening, &setup, &mut books).unwrap();
    assert!(session.is_live());
    session.reply.clear();
    books.interval = Interval::new(0);
    (session, setup, books)
}

#[test]
fn a_session_is_opened_step_by_step() {
    let (setup, mut books) = (setup(FIELDS), books());
    let mut session = Session::new(1, 0, 1, 0);
    session.open(Opening::New, &setup, &mut books);
    let answer = accepted(&mut session);
    // Cut anywhere: the last byte makes the difference.
    for byte in &answer[..answer.len() - 1] {
        session.on_bytes(&mut [*byte], &setup, &mut books).unwrap();
        assert!(session.reply.is_empty());
    }
    let mut last = [*answer.last().unwrap()];
    session.on_bytes(&mut last, &setup, &mut books).unwrap();
    assert_eq!(
        said(&mut session),
        [
            "wsok",
            "create_session\r\nLS_send_sync=false&LS_adapter_set=DEMO\
             &LS_cid=mgQkwtwdysogQz2BJ4Ji%20kOj2Bg&LS_supported_diffs=\r\n"
        ]
    );
    let mut conok = message("WSOK\r\nCONOK,S1,50000,5000,*\r\n");
    session.on_bytes(&mut conok, &setup, &mut books).unwrap();
    assert_eq!(
        said(&mut session),
        [
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=c%20a\
             &LS_schema=price%20timestamp&LS_data_adapter=Q&LS_snapshot=true\
             &LS_requested_max_frequency=2.0&LS_ack=false\r\n"
        ]
    );
    assert!(!session.is_live());
    let mut subok = message("SUBOK,1,2,2\r\n");
    session.on_bytes(&mut subok, &setup, &mut books).unwrap();
    assert!(session.is_live());
    session.destroy(&mut books);
    assert_eq!(
        said(&mut session),
        ["control\r\nLS_reqId=2&LS_op=destroy\r\n"]
    );
}

#[test]
fn snapshots_are_not_timed_and_unchanged_times_neither() {
    let (mut session, setup, mut books) = live("");
    let mut bytes = message("U,1,1,a|900\r\nU,1,2,b|900\r\nU,1,1,|990\r\n");
    bytes.extend(message(
        "PROBE\r\nU,1,2,c|\r\nU,1,2,|4000\r\nU,1,2,|6000\r\n",
    ));
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    let interval = &books.interval;
    assert_eq!(
        (interval.messages, interval.updates, interval.snapshots),
        (2, 6, 2)
    );
    assert_eq!((interval.untimed, interval.from_future), (1, 1));
    let latency = interval.latency().0;
    assert_eq!((latency.len(), latency.min()), (2, 10));
    assert_eq!(
        latency.max(),
        1_000,
        "the clock was read again for what came later"
    );
}

#[test]
fn snapshots_of_other_modes_end_with_a_word() {
    let (mut session, setup, mut books) = live("--mode DISTINCT");
    let mut bytes = message("U,1,1,a|900\r\nU,1,1,b|910\r\nEOS,1,1\r\nU,1,1,c|920\r\n");
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    assert_eq!((books.interval.updates, books.interval.snapshots), (3, 2));
    let (mut session, setup, mut books) = live("--mode RAW");
    let mut bytes = message("U,1,1,a|900\r\n");
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    assert_eq!(books.interval.snapshots, 0);
}

#[test]
fn numbers_tell_what_is_missing() {
    let (setup, mut books) = (
        setup("--fields sequence,timestamp --sequence-field sequence --mode RAW"),
        books(),
    );
    let mut session = Session::new(0, 0, 0, 0);
    session.open(Opening::New, &setup, &mut books);
    let mut bytes = accepted(&mut session);
    bytes.extend(message("CONOK,S1,50000,5000,*\r\nSUBOK,1,2,2\r\n"));
    bytes.extend(message(
        "U,1,1,5|1\r\nU,1,1,6|2\r\nU,1,2,1|2\r\nU,1,1,9|3\r\n",
    ));
    bytes.extend(message("OV,1,1,2\r\nU,1,1,12|4\r\nU,1,1,11|5\r\n"));
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    let interval = &books.interval;
    assert_eq!(
        (interval.skipped, interval.lost, interval.reordered),
        (4, 2, 1)
    );
}

#[test]
fn a_broken_connection_is_recovered() {
    let (mut session, setup, mut books) = live("");
    let mut bytes = message("U,1,1,a|900\r\nU,1,2,b|900\r\n");
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    assert_eq!(session.closed(), Opening::Recover);
    session.open(Opening::Recover, &setup, &mut books);
    let mut bytes = accepted(&mut session);
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    assert_eq!(
        said(&mut session),
        [
            "wsok",
            // SUBOK, CONF and two updates.
            "bind_session\r\nLS_session=S1&LS_recovery_from=4&LS_send_sync=false\r\n"
        ]
    );
    // One line comes again, and is not counted again.
    let mut bytes = message("CONOK,S1,50000,5000,*\r\nPROG,3\r\nU,1,2,b|900\r\nU,1,1,|950\r\n");
    session.on_bytes(&mut bytes, &setup, &mut books).unwrap();
    assert!(session.is_live() && session.is_continued());
    assert_eq!(books.interval.updates, 3);

    // A server that has forgotten it, and one that has a gap.
    for (answer, trouble) in [
        ("CONERR,4,too old\r\n", Trouble::Forgotten),
        (
            "CONOK,S1,50000,5000,*\r\nPROG,9\r\n",
            failed("recovered with a gap"),
        ),
    ] {
        session.closed();
        session.open(Opening::Recover, &setup, &mut books);
        let mut bytes = accepted(&mut session);
        bytes.extend(message(answer));
        let error = session.on_bytes(&mut bytes, &setup, &mut books);
        assert_eq!(error, Err(trouble));
    }
}

fn response(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn polls_follow_each_other() {
    let (setup, mut books) = (
        setup("--fields price,timestamp --transport long-polling --poll-pause 0.5"),
        books(),
    );
    let mut session = Session::new(0, 0, 0, 0);
    session.open(Opening::New, &setup, &mut books);
    let text = String::from_utf8(std::mem::take(&mut session.reply)).unwrap();
    assert!(
        text.starts_with("POST /lightstreamer/create_session.txt"),
        "{text}"
    );
    assert!(text.contains("LS_polling=true&LS_polling_millis=500&LS_idle_millis=19000"));
    assert!(text.contains("\r\nLS_op=add&LS_subId=1"), "{text}");
    let mut bytes = response("CONOK,S7,50000,0,*\r\nSUBOK,1,2,2\r\nU,1,1,a|5\r\nLOOP,500\r\n");
    let progress = session.on_bytes(&mut bytes, &setup, &mut books);
    assert_eq!(progress, Ok(Progress::Poll(Duration::from_millis(500))));
    assert!(session.is_live() && session.is_between_polls());
    session.poll(&setup, &mut books);
    let text = String::from_utf8(std::mem::take(&mut session.reply)).unwrap();
    assert!(
        text.starts_with("POST /lightstreamer/bind_session.txt"),
        "{text}"
    );
    assert!(
        text.contains("\r\n\r\nLS_session=S7&LS_polling=true"),
        "{text}"
    );
    assert!(!session.is_between_polls());
    // The connection breaks while the poll waits.
    assert_eq!(session.closed(), Opening::Recover);
}

#[test]
fn a_stream_over_http_may_be_cut_anywhere() {
    let body = "CONOK,S7,50000,5000,*\r\nSUBOK,1,2,2\r\nU,1,1,a|5\r\nU,1,2,b|6\r\nU,1,1,|7\r\n";
    let chunks: String = body
        .as_bytes()
        .chunks(7)
        .map(|chunk| {
            format!(
                "{:x}\r\n{}\r\n",
                chunk.len(),
                str::from_utf8(chunk).unwrap()
            )
        })
        .collect();
    let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    for size in [1, 2, 5, 1_000] {
        let setup = setup("--fields price,timestamp --transport http-streaming");
        let mut books = books();
        let mut session = Session::new(0, 0, 0, 0);
        session.open(Opening::New, &setup, &mut books);
        for piece in text.as_bytes().chunks(size) {
            let progress = session.on_bytes(&mut piece.to_vec(), &setup, &mut books);
            assert_eq!(progress, Ok(Progress::Same));
        }
        assert_eq!(books.interval.updates, 3);
        assert_eq!(session.id(), Some("S7"));
    }
}

#[test]
fn a_server_that_breaks_the_protocol_is_found_out() {
    for (text, reason) in [
        ("U,1,3,a|1\r\n", "a U line is broken"),
        ("U,1,a|1\r\n", "a U line is broken"),
        ("U,1,1,a|1\nU,1,1,b|1\r\n", "a line does not end with CR LF"),
        ("U,1,1,a|1", "a message does not end with CR LF"),
        ("HELLO\r\n", "a line cannot be read"),
        ("SUBOK,1,2,2\r\n", "out of place"),
        ("UNSUB,1\r\n", "out of place"),
        ("END,31,bye\r\n", "session ended: 31 bye"),
        ("REQERR,1,19,no\r\n", "request refused: 19 no"),
    ] {
        let (mut session, setup, mut books) = live("");
        let error = session.on_bytes(&mut message(text), &setup, &mut books);
        let Err(Trouble::Failed(error)) = error else {
            panic!("{text}: {error:?}");
        };
        assert!(error.starts_with(reason), "{error:?}");
    }
}

#[test]
fn answers_that_are_not_as_asked_are_failures() {
    let (setup, mut books) = (setup(FIELDS), books());
    let mut session = Session::new(0, 0, 0, 0);
    session.open(Opening::New, &setup, &mut books);
    let mut opening = accepted(&mut session);
    opening.extend(message("CONOK,S1,50000,5000,*\r\nSUBOK,1,1,2\r\n"));
    let error = session.on_bytes(&mut opening, &setup, &mut books);
    assert!(matches!(error, Err(Trouble::Failed(error)) if error.contains("not as asked")));

    let mut session = Session::new(0, 0, 0, 0);
    session.open(Opening::New, &setup, &mut books);
    let mut refusal = b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec();
    let error = session.on_bytes(&mut refusal, &setup, &mut books);
    assert!(matches!(error, Err(Trouble::Failed(error)) if error.contains("403")));
}
