//! TLCP over HTTP, the engine's half: one response per request, streams with a length, polls that wait.

mod by_hand;

use by_hand::Bench;
use engine::ids::ConnId;
use engine::shard::{HttpRequest, Outbox, Part, Peer};
use engine::time::Duration;
use engine::tlcp::Version;
use engine::tlcp::request::Verb;

/// A client: what it was sent, in order.
#[derive(Default)]
struct Client {
    buffer: Vec<u8>,
    parts: Vec<(ConnId, Part, String)>,
    /// It must be told a response's length before its bytes.
    identity: bool,
}

impl Outbox for Client {
    fn open(&mut self, _: ConnId) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn send(&mut self, conn: ConnId, part: Part) {
        let text = String::from_utf8(self.buffer.clone()).unwrap();
        // As a driver must: the end of a response is sent even if it has no bytes.
        let ends = matches!(part, Part::Response | Part::Stream { last: true, .. });
        if !text.is_empty() || ends {
            self.parts.push((conn, part, text));
        }
    }
}

impl Bench<Client> {
    fn request(&mut self, conn: ConnId, verb: Verb, query: &str, body: &str) {
        let peer = Peer::new("192.0.2.1", Version::LATEST);
        let request = HttpRequest {
            verb,
            query,
            body,
            identity: self.clients.identity,
        };
        self.shard.on_http_request(conn, peer, request, self.now);
        self.settle();
    }

    fn update(&mut self, value: &str, snapshot: bool) {
        self.tell("i", snapshot, &[("a", value.to_owned())]);
        self.settle();
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.settle();
    }

    /// What was sent since the last look, which must be one part.
    fn one(&mut self) -> (ConnId, Part, String) {
        let mut parts = std::mem::take(&mut self.clients.parts);
        assert_eq!(parts.len(), 1, "{parts:?}");
        parts.remove(0)
    }

    /// A session by a synchronous poll, as official clients begin over HTTP; its id.
    fn session(&mut self) -> String {
        let conn = self.conn();
        let body = "LS_polling=true&LS_polling_millis=0&LS_idle_millis=0&LS_cid=x";
        self.request(conn, Verb::CreateSession, "LS_protocol=TLCP-2.5.0", body);
        let (_, part, text) = self.one();
        assert_eq!(part, Part::Response);
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(
            lines[1..],
            [
                "SERVNAME,Brightwire",
                "CLIENTIP,192.0.2.1",
                "CONS,unlimited",
                "LOOP,0",
                ""
            ]
        );
        let id = lines[0].split(',').nth(1).unwrap().to_owned();
        assert_eq!(lines[0], format!("CONOK,{id},50000,0,*"));
        id
    }

    fn subscribe(&mut self, id: &str) {
        let conn = self.conn();
        let add = "LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=i&LS_schema=a&LS_snapshot=true&LS_ack=false";
        self.request(conn, Verb::Control, &format!("LS_session={id}"), add);
        let answer = self
            .clients
            .parts
            .iter()
            .position(|(to, ..)| *to == conn)
            .unwrap();
        let (_, part, text) = self.clients.parts.remove(answer);
        // `LS_ack` counts over WebSocket only.
        assert_eq!((part, text.as_str()), (Part::Response, "REQOK,1\r\n"));
    }
}

#[test]
fn a_stream_is_padded_then_flows_and_ends_with_loop() {
    let mut bench = Bench::<Client>::new();
    let id = bench.session();
    let conn = bench.conn();
    let body = format!("LS_session={id}&LS_send_sync=false");
    bench.request(conn, Verb::BindSession, "", &body);
    let (to, part, head) = bench.one();
    assert_eq!(to, conn);
    assert!(matches!(part, Part::Stream { last: false, .. }));
    assert!(head.len() >= 2048 && head.ends_with("\r\nCONS,unlimited\r\n"));
    assert!(head.contains("\r\nNOOP,sending placeholder data\r\n"));
    bench.subscribe(&id);
    let (to, _, text) = bench.one();
    assert_eq!(
        (to, text.as_str()),
        (conn, "SUBOK,1,1,1\r\nCONF,1,unlimited,filtered\r\n")
    );
    bench.update("1", true);
    assert_eq!(bench.one().2, "U,1,1,1\r\n");
    bench.advance(Duration::from_secs(6));
    assert_eq!(bench.one().2, "PROBE\r\n");

    let other = bench.conn();
    let query = format!("LS_session={id}");
    bench.request(
        other,
        Verb::Control,
        &query,
        "LS_reqId=2&LS_op=force_rebind",
    );
    let mut parts = std::mem::take(&mut bench.clients.parts);
    parts.sort_by_key(|(to, ..)| to.slot);
    assert_eq!(parts[0].2, "LOOP,0\r\n");
    assert!(matches!(parts[0].1, Part::Stream { last: true, .. }));
    assert_eq!(parts[1], (other, Part::Response, "REQOK,2\r\n".to_owned()));
}

#[test]
fn a_response_stays_within_its_length_and_nothing_is_lost() {
    let mut bench = Bench::<Client>::new();
    let id = bench.session();
    bench.subscribe(&id);
    let mut seen = Vec::new();
    let mut conn = bench.conn();
    let body = format!("LS_session={id}&LS_content_length=4000&LS_send_sync=false");
    bench.request(conn, Verb::BindSession, "", &body);
    let (mut used, mut loops, mut length) = (0, 0, None);
    for n in 0..200 {
        bench.update(&format!("{n:03}{}", "x".repeat(97)), n == 0);
        for (to, part, text) in std::mem::take(&mut bench.clients.parts) {
            assert_eq!(to, conn);
            let Part::Stream {
                content_length,
                last,
            } = part
            else {
                panic!("{part:?}")
            };
            let length = *length.get_or_insert(content_length);
            used += text.len() as u64;
            assert!(used <= length, "{used} of {length}");
            seen.extend(
                text.lines()
                    .filter_map(|line| line.strip_prefix("U,1,1,"))
                    .map(|value| value[..3].to_owned()),
            );
            assert_eq!(last, text.ends_with("LOOP,0\r\n"));
            loops += usize::from(last);
        }
        if loops > 0 && length.is_some_and(|_| used > 0) && bench.shard.has_output() {
            unreachable!("everything was settled");
        }
        if loops > 0 {
            loops = 0;
            (used, length) = (0, None);
            conn = bench.conn();
            bench.request(conn, Verb::BindSession, "", &body);
            // The head and what did not fit the last response.
            for (_, part, text) in std::mem::take(&mut bench.clients.parts) {
                if let Part::Stream { content_length, .. } = part {
                    length.get_or_insert(content_length);
                }
                used += text.len() as u64;
                seen.extend(
                    text.lines()
                        .filter_map(|line| line.strip_prefix("U,1,1,"))
                        .map(|value| value[..3].to_owned()),
                );
            }
        }
    }
    let expected: Vec<_> = (0..200).map(|n| format!("{n:03}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_long_poll_waits_for_data_or_its_time() {
    let mut bench = Bench::<Client>::new();
    let id = bench.session();
    bench.subscribe(&id);
    let poll = format!("LS_session={id}&LS_polling=true&LS_polling_millis=0&LS_idle_millis=19000");
    let conn = bench.conn();
    bench.request(conn, Verb::BindSession, "", &poll);
    let (_, part, text) = bench.one();
    assert_eq!(part, Part::Response);
    assert!(
        text.ends_with("SUBOK,1,1,1\r\nCONF,1,unlimited,filtered\r\nLOOP,0\r\n"),
        "{text}"
    );

    // The head goes out at once: clients take it as being connected.
    bench.request(conn, Verb::BindSession, "", &poll);
    let (_, part, text) = bench.one();
    assert!(matches!(part, Part::Stream { last: false, .. }), "{part:?}");
    assert_eq!(
        text,
        format!(
            "CONOK,{id},50000,19000,*\r\nSERVNAME,Brightwire\r\nCLIENTIP,192.0.2.1\r\nCONS,unlimited\r\n"
        )
    );
    bench.advance(Duration::from_secs(8));
    assert_eq!(bench.clients.parts, []);
    bench.update("1", true);
    let (_, part, text) = bench.one();
    assert!(matches!(part, Part::Stream { last: true, .. }), "{part:?}");
    assert_eq!(text, "U,1,1,1\r\nLOOP,0\r\n");

    bench.request(conn, Verb::BindSession, "", &poll);
    bench.one();
    bench.advance(Duration::from_millis(18_999));
    assert_eq!(bench.clients.parts, []);
    bench.advance(Duration::from_millis(1));
    let (_, part, text) = bench.one();
    assert!(matches!(part, Part::Stream { last: true, .. }), "{part:?}");
    assert_eq!(text, "LOOP,0\r\n");
}

#[test]
fn a_poll_whose_length_must_be_told_waits_with_its_head() {
    let mut bench = Bench::<Client>::new();
    bench.clients.identity = true;
    let conn = bench.conn();
    let poll = "LS_polling=true&LS_polling_millis=0&LS_idle_millis=19000";
    bench.request(conn, Verb::CreateSession, "", &format!("LS_cid=x&{poll}"));
    let (_, part, text) = bench.one();
    assert_eq!(part, Part::Response, "nobody could ask for anything yet");
    assert!(text.contains(",50000,19000,*\r\n"), "{text}");
    assert!(text.ends_with("CONS,unlimited\r\nLOOP,0\r\n"), "{text}");

    let id = text["CONOK,".len()..].split(',').next().unwrap();
    let poll = format!("LS_session={id}&{poll}");
    bench.request(conn, Verb::BindSession, "", &poll);
    let (_, part, text) = bench.one();
    assert_eq!(part, Part::Response, "clients are connected by the head");
    assert!(text.ends_with("CONS,unlimited\r\nLOOP,0\r\n"), "{text}");

    bench.request(conn, Verb::BindSession, "", &poll);
    bench.advance(Duration::from_millis(18_999));
    assert_eq!(bench.clients.parts, []);
    bench.advance(Duration::from_millis(1));
    let (_, part, text) = bench.one();
    assert_eq!(part, Part::Response);
    assert!(
        text.starts_with("CONOK,") && text.ends_with("LOOP,0\r\n"),
        "{text}"
    );
}

#[test]
fn a_head_that_waits_does_not_hold_back_what_the_client_asked_for_between_polls() {
    let mut bench = Bench::<Client>::new();
    bench.clients.identity = true;
    let conn = bench.conn();
    let poll = "LS_polling=true&LS_polling_millis=0&LS_idle_millis=19000";
    bench.request(conn, Verb::CreateSession, "", &format!("LS_cid=x&{poll}"));
    let (_, _, text) = bench.one();
    let id = text["CONOK,".len()..].split(',').next().unwrap();
    let poll = format!("LS_session={id}&{poll}");
    bench.request(conn, Verb::BindSession, "", &poll);
    bench.one();
    let constrain =
        format!("LS_session={id}&LS_reqId=1&LS_op=constrain&LS_requested_max_bandwidth=40");
    bench.request(conn, Verb::Control, "", &constrain);
    assert_eq!(bench.one().2, "REQOK,1\r\n");
    bench.request(conn, Verb::BindSession, "", &poll);
    let (_, part, text) = bench.one();
    assert_eq!(part, Part::Response);
    assert!(text.ends_with("CONS,40.0\r\nLOOP,0\r\n"), "{text}");
}

#[test]
fn the_first_poll_after_a_stream_does_not_wait_with_its_head() {
    let mut bench = Bench::<Client>::new();
    bench.clients.identity = true;
    let id = bench.session();
    for _ in 0..2 {
        let poll =
            format!("LS_session={id}&LS_polling=true&LS_polling_millis=0&LS_idle_millis=19000");
        let conn = bench.conn();
        bench.request(conn, Verb::BindSession, "", &poll);
        // Beside it, the stream is told that the session has moved.
        let parts = bench.clients.parts.drain(..);
        let (_, part, text) = parts.into_iter().find(|sent| sent.0 == conn).unwrap();
        assert_eq!(part, Part::Response);
        assert!(text.ends_with("CONS,unlimited\r\nLOOP,0\r\n"), "{text}");
        bench.request(conn, Verb::BindSession, "", &poll);
        assert_eq!(bench.clients.parts, [], "the next one waits");

        let stream = bench.conn();
        let bind = format!("LS_session={id}&LS_keepalive_millis=5000");
        bench.request(stream, Verb::BindSession, "", &bind);
        bench.clients.parts.clear();
    }
}

#[test]
fn a_poll_does_not_wait_with_lines_that_the_client_lacks() {
    let mut bench = Bench::<Client>::new();
    let id = bench.session();
    bench.subscribe(&id);
    let poll = format!("LS_session={id}&LS_polling=true&LS_polling_millis=0&LS_idle_millis=19000");
    let conn = bench.conn();
    bench.request(conn, Verb::BindSession, "", &poll);
    let (_, _, lost) = bench.one();
    let lines = "SUBOK,1,1,1\r\nCONF,1,unlimited,filtered\r\nLOOP,0\r\n";
    assert!(lost.ends_with(lines), "{lost}");

    let recover = format!("{poll}&LS_recovery_from=0");
    bench.request(conn, Verb::BindSession, "", &recover);
    let (_, _, text) = bench.one();
    assert!(text.ends_with(&format!("PROG,0\r\n{lines}")), "{text}");

    // Lacking nothing, it waits.
    let recover = format!("{poll}&LS_recovery_from=2");
    bench.request(conn, Verb::BindSession, "", &recover);
    let (_, _, text) = bench.one();
    assert!(text.ends_with("PROG,2\r\n"), "{text}");
    bench.advance(Duration::from_secs(8));
    assert_eq!(bench.clients.parts, []);
}

#[test]
fn a_batch_is_answered_in_its_order_in_one_response() {
    let mut bench = Bench::<Client>::new();
    let id = bench.session();
    let conn = bench.conn();
    let body = "LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=i&LS_schema=a\r\n\
                LS_reqId=2&LS_op=delete&LS_subId=9\r\n\
                LS_reqId=3&LS_op=add&LS_subId=2&LS_mode=RAW&LS_group=i&LS_schema=%20\r\n\
                LS_reqId=4&LS_op=constrain&LS_requested_max_bandwidth=10&LS_session=Sdead\r\n\
                LS_op=add\r\n";
    bench.request(conn, Verb::Control, &format!("LS_session={id}"), body);
    let (_, part, text) = bench.one();
    assert_eq!(part, Part::Response);
    assert_eq!(
        text,
        "REQOK,1\r\n\
         REQERR,2,19,Specified subscription not found\r\n\
         REQERR,3,23,Bad field schema name\r\n\
         REQERR,4,20,Session not found\r\n\
         ERROR,67,Malformed request\r\n"
    );
    // A heartbeat has an answer over HTTP, and no session is required to be alive.
    bench.request(conn, Verb::Heartbeat, "LS_session=Sdead", "\r\n");
    assert_eq!(bench.one().2, "REQOK\r\n");
}

#[test]
fn refusals_are_whole_responses() {
    let mut bench = Bench::<Client>::new();
    let conn = bench.conn();
    bench.request(
        conn,
        Verb::CreateSession,
        "",
        "LS_adapter_set=NONE&LS_cid=x",
    );
    let refused = "CONERR,2,Requested Adapter Set not available\r\n";
    assert_eq!(bench.one(), (conn, Part::Response, refused.to_owned()));
    bench.request(conn, Verb::BindSession, "", "LS_session=Sdead");
    let refused = "CONERR,20,Session not found\r\n";
    assert_eq!(bench.one(), (conn, Part::Response, refused.to_owned()));
    bench.request(conn, Verb::BindSession, "", "LS_session=%");
    let refused = "CONERR,67,Malformed request\r\n";
    assert_eq!(bench.one(), (conn, Part::Response, refused.to_owned()));
}

#[test]
fn destroying_ends_a_stream_and_a_waiting_poll() {
    for poll in [false, true] {
        let mut bench = Bench::<Client>::new();
        let id = bench.session();
        let conn = bench.conn();
        let mut body = format!("LS_session={id}");
        if poll {
            body += "&LS_polling=true&LS_idle_millis=19000";
        }
        bench.request(conn, Verb::BindSession, "", &body);
        bench.clients.parts.clear();
        let other = bench.conn();
        let query = format!("LS_session={id}");
        bench.request(other, Verb::Control, &query, "LS_reqId=2&LS_op=destroy");
        let mut parts = std::mem::take(&mut bench.clients.parts);
        parts.sort_by_key(|(to, ..)| to.slot);
        assert!(
            parts[0].2.ends_with("END,31,Destroy invoked by client\r\n"),
            "{parts:?}"
        );
        assert!(matches!(parts[0].1, Part::Stream { last: true, .. }));
        assert_eq!(parts[1].2, "REQOK,2\r\n");
    }
}
