//! TLCP over HTTP, end to end: the server binary, real sockets, and requests as clients send them.

use std::io::Write;
use std::net::Shutdown;

use crate::back_ends::Io;
use crate::on_both_back_ends;
use crate::support::{CREATE, Client, QUERY, SUBPROTOCOL, Server, get, post, upgrade};

on_both_back_ends!(
    a_synchronous_poll_creates_a_session,
    a_batch_is_answered_in_its_order_and_pipelined_requests_in_theirs,
    a_stream_comes_in_chunks_and_its_connection_is_used_again,
    a_client_without_chunks_gets_a_length_beforehand,
    a_poll_waits_for_data_and_what_is_pipelined_waits_behind_it,
    a_waiting_response_outlives_the_timeout_of_an_idle_connection,
    a_bind_moves_to_the_shard_of_its_session,
    a_stream_whose_session_recovers_elsewhere_is_left_without_an_end,
    who_follows_the_control_link_is_taken_over_silently,
    a_body_may_be_in_another_charset,
    an_aborted_stream_can_be_recovered,
    refusals_of_tlcp_have_status_200,
    pages_of_other_origins,
    added_headers_are_on_every_response,
    what_a_socket_does_not_take_at_once_still_arrives,
    a_connection_is_closed_only_behind_the_whole_of_its_last_response,
);

const ADD: &str = "LS_op=add&LS_mode=MERGE&LS_group=item1%20item2&LS_schema=stock_name%20last_price\
    &LS_data_adapter=QUOTE_ADAPTER&LS_snapshot=true";

/// A server of three shards, with these lines in its configuration behind those of `[runtime]`.
fn start(io: Io, config: &str) -> Server {
    let shards = if config.starts_with("shards = ") {
        ""
    } else {
        "shards = 3\n"
    };
    let listener = "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n";
    Server::start(io, &format!("spin = \"0s\"\n{shards}{config}{listener}"))
}

impl Server {
    /// A session that is not bound, over a connection of its own.
    fn create(&self) -> String {
        self.connect("web")
            .post("create_session", "", CREATE)
            .session()
    }
}

fn tags(lines: &str) -> Vec<&str> {
    lines
        .lines()
        .map(|line| line.split(',').next().unwrap())
        .collect()
}

fn a_synchronous_poll_creates_a_session(io: Io) {
    let server = start(io, "");
    let mut client = server.connect("web");
    for _ in 0..2 {
        // The connection is used again.
        let response = client.post("create_session", "", CREATE);
        assert_eq!(response.status(), "200");
        assert_eq!(
            response.header("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(response.header("X-Accel-Buffering"), Some("no"));
        assert_eq!(response.header("Connection"), None);
        assert_eq!(
            tags(response.text()),
            ["CONOK", "SERVNAME", "CLIENTIP", "CONS", "LOOP"]
        );
    }
    client.write(format!(
        "GET /lightstreamer/create_session.txt?{QUERY}&{CREATE} HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    assert_eq!(tags(client.answer().text())[0], "CONOK");
}

fn a_batch_is_answered_in_its_order_and_pipelined_requests_in_theirs(io: Io) {
    let server = start(io, "");
    let session = server.create();
    let mut client = server.connect("web");
    let mut batch = String::new();
    for id in 1..=20 {
        let line = match id % 3 {
            0 => format!("LS_op=delete&LS_subId={id}"),
            _ => format!("{ADD}&LS_subId={id}"),
        };
        batch += &format!("LS_reqId={id}&LS_session={session}&{line}\r\n");
    }
    let heartbeat = post("heartbeat", "", &format!("LS_session={session}"));
    let page = "GET /favicon.svg HTTP/1.1\r\nHost: h\r\n\r\n";
    client.write(format!(
        "{}{heartbeat}{page}{}",
        post("control", "Expect: 100-continue\r\n", &batch),
        post("control", "", "LS_reqId=a&LS_op=destroy&LS_session=Snone")
    ));
    assert!(client.head().head.starts_with("HTTP/1.1 100 Continue\r\n"));
    let answers = client.answer().into_text();
    let ids: Vec<u32> = answers
        .lines()
        .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>(), "{answers}");
    assert_eq!(client.answer().text(), "REQOK\r\n");
    assert!(client.answer().text().starts_with("<svg"));
    assert_eq!(client.answer().text(), "REQERR,a,20,Session not found\r\n");
}

fn a_stream_comes_in_chunks_and_its_connection_is_used_again(io: Io) {
    let server = start(io, "");
    let session = server.create();
    let mut stream = server.connect("web");
    let bind = format!("LS_session={session}&LS_content_length=50000000&LS_send_sync=false");
    stream.write(post("bind_session", "", &bind));
    let head = stream.head();
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
    assert_eq!(head.header("Content-Length"), None);
    assert!(stream.chunks_until("CONS,").starts_with("CONOK,"));

    let mut control = server.connect("web");
    let add = format!("LS_reqId=1&LS_session={session}&{ADD}&LS_subId=1");
    assert_eq!(control.post("control", "", &add).text(), "REQOK,1\r\n");
    let lines = stream.chunks_until("U,1,2,");
    assert!(tags(&lines).starts_with(&["SUBOK", "CONF", "U"]), "{lines}");
    stream.chunks_until("U,1,"); // and on

    let rebind = format!("LS_reqId=2&LS_session={session}&LS_op=force_rebind");
    assert_eq!(control.post("control", "", &rebind).text(), "REQOK,2\r\n");
    let mut rest = String::new();
    while let Some(chunk) = stream.chunk() {
        rest.push_str(str::from_utf8(&chunk).unwrap());
    }
    assert!(rest.ends_with("LOOP,0\r\n"), "{rest}");
    let poll = format!("LS_session={session}&LS_polling=true&LS_idle_millis=0");
    assert_eq!(
        tags(stream.post("bind_session", "", &poll).text())[0],
        "CONOK"
    );
}

fn a_client_without_chunks_gets_a_length_beforehand(io: Io) {
    let server = start(io, "");
    for request in [
        "HTTP/1.1\r\nHost: h\r\nConnection: close\r\n",
        "HTTP/1.0\r\n",
        "HTTP/1.0\r\nConnection: keep-alive\r\n",
    ] {
        let session = server.create();
        let mut stream = server.connect("web");
        let body = format!("LS_session={session}&LS_content_length=9000");
        let length = body.len();
        stream.write(format!(
            "POST /lightstreamer/bind_session.txt?{QUERY} {request}Content-Length: {length}\r\n\r\n{body}"
        ));
        let head = stream.head();
        assert_eq!(head.header("Content-Length"), Some("9000"));
        assert_eq!(head.header("Connection"), Some("close"));
        assert_eq!(head.header("Transfer-Encoding"), None);
        let rebind = format!("LS_reqId=1&LS_session={session}&LS_op=force_rebind");
        assert_eq!(
            server.connect("web").post("control", "", &rebind).text(),
            "REQOK,1\r\n"
        );
        let lines = stream.end();
        assert!(lines.starts_with("CONOK,") && lines.ends_with("LOOP,0\r\n"));
    }
}

fn a_poll_waits_for_data_and_what_is_pipelined_waits_behind_it(io: Io) {
    let server = start(io, "");
    let session = server.create();
    let mut poll = server.connect("web");
    let body = format!("LS_session={session}&LS_polling=true&LS_idle_millis=30000");
    let heartbeat = post("heartbeat", "", &format!("LS_session={session}"));
    poll.write(post("bind_session", "", &body) + &heartbeat);
    let add = format!("LS_reqId=1&LS_session={session}&{ADD}&LS_subId=1");
    assert_eq!(
        server.connect("web").post("control", "", &add).text(),
        "REQOK,1\r\n"
    );
    let response = poll.answer();
    let lines = tags(response.text());
    assert_eq!(lines[0], "CONOK");
    assert!(
        lines.contains(&"SUBOK") && lines.last() == Some(&"LOOP"),
        "{lines:?}"
    );
    assert_eq!(poll.answer().text(), "REQOK\r\n");
}

fn a_waiting_response_outlives_the_timeout_of_an_idle_connection(io: Io) {
    let server = start(io, "[sessions]\nhead_timeout = \"1s\"\n");
    let session = server.create();
    let mut poll = server.connect("web");
    let body = format!("LS_session={session}&LS_polling=true&LS_idle_millis=3000");
    poll.write(post("bind_session", "", &body));
    let mut idle = server.connect("web");
    assert_eq!(
        idle.post("heartbeat", "", "LS_session=S").text(),
        "REQOK\r\n"
    );
    assert_eq!(idle.end(), "", "closed");
    let mut half = server.connect("web");
    half.write(
        "POST /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nLS_",
    );
    assert_eq!(half.end(), "", "closed");
    assert_eq!(
        tags(poll.answer().text()),
        tags("CONOK\nSERVNAME\nCLIENTIP\nCONS\nLOOP")
    );
    // The time begins anew with the end of the response.
    assert_eq!(
        poll.post("heartbeat", "", "LS_session=S").text(),
        "REQOK\r\n"
    );
}

fn a_bind_moves_to_the_shard_of_its_session(io: Io) {
    let server = start(io, "");
    let session = server.create();
    let body = format!("LS_session={session}&LS_polling=true&LS_idle_millis=0");
    // The kernel spreads connections over the shards: most of these arrive at a wrong one.
    for round in 0..12 {
        let mut client = server.connect("web");
        let heartbeat = post("heartbeat", "", &format!("LS_session={session}"));
        let origin = format!("Origin: https://{round}\r\n");
        client.write(post("bind_session", &origin, &body) + &heartbeat);
        let response = client.answer();
        assert_eq!(tags(response.text())[0], "CONOK");
        let expected = format!("https://{round}");
        assert_eq!(
            response.header("Access-Control-Allow-Origin"),
            Some(&*expected)
        );
        assert_eq!(client.answer().text(), "REQOK\r\n");
        assert_eq!(
            tags(client.post("bind_session", "", &body).text())[0],
            "CONOK"
        );
        // Chunked or not, the form of the response moves along too.
        let mut client = server.connect("web");
        client.write(post("bind_session", "Connection: close\r\n", &body));
        let response = client.answer();
        assert_eq!(response.header("Connection"), Some("close"));
        assert_eq!(tags(response.text())[0], "CONOK");
        assert_eq!(client.end(), "");
    }
}

fn a_stream_whose_session_recovers_elsewhere_is_left_without_an_end(io: Io) {
    let server = start(io, "");
    let session = server.create();
    let mut old = server.connect("web");
    old.write(post("bind_session", "", &format!("LS_session={session}")));
    old.head();
    old.chunks_until("CONS,");
    let recovery = format!(
        "LS_session={session}&LS_recovery_from=0&LS_polling=true&LS_idle_millis=0&LS_cause=http.error"
    );
    let response = server.connect("web").post("bind_session", "", &recovery);
    assert!(
        response.text().contains("PROG,0\r\n"),
        "{}",
        response.text()
    );
    let rest = old.end();
    assert!(
        !rest.contains("\r\n0\r\n") && !rest.starts_with('0'),
        "{rest:?}"
    );
}

fn who_follows_the_control_link_is_taken_over_silently(io: Io) {
    let server = start(io, "[sessions]\ncontrol_link = \"push1:8080\"\n");
    let session = server.create();
    // Each says another cause: the same request once more would be silent as well.
    let bind = |host: &str, cause: u32| {
        let body = format!("LS_session={session}&LS_cause={cause}");
        let request = post("bind_session", "", &body);
        let mut client = server.connect("web");
        client.write(request.replace("Host: h\r\n", &format!("Host: {host}\r\n")));
        client.head();
        client.chunks_until("CONS,");
        client
    };
    let mut first = bind("h", 1);
    let mut linked = bind("push1:8080", 2);
    assert!(!first.end().contains("END,"));
    // Only the first bind is one that follows it.
    let _last = bind("push1:8080", 3);
    assert!(linked.end().contains("END,40,"));
}

fn a_body_may_be_in_another_charset(io: Io) {
    let server = start(io, "");
    let mut client = server.connect("web");
    let body = "LS_reqId=1&LS_op=destroy&LS_session=\u{e9}";
    let latin1: Vec<u8> = body.chars().map(|c| c as u8).collect();
    for (charset, bytes, answer) in [
        ("utf-8", body.as_bytes(), "REQERR,1,20,"),
        ("unknown", body.as_bytes(), "REQERR,1,20,"),
        ("iso-8859-1", &latin1, "REQERR,1,20,"),
        ("utf-8", &latin1, "REQERR,1,67,The request is not UTF-8"),
    ] {
        let length = bytes.len();
        let declared = format!("Content-Type: text/plain; charset={charset}\r\n");
        let head = post("control", &declared, "");
        client.write(head.replace("-Length: 0", &format!("-Length: {length}")));
        client.write(bytes);
        let response = client.answer();
        assert!(
            response.text().starts_with(answer),
            "{charset}: {}",
            response.text()
        );
    }
}

fn an_aborted_stream_can_be_recovered(io: Io) {
    let server = start(io, "");
    let session = server.create();
    let mut stream = server.connect("web");
    stream.write(post("bind_session", "", &format!("LS_session={session}")));
    stream.head();
    stream.chunks_until("CONS,");
    let add = format!("LS_reqId=1&LS_session={session}&{ADD}&LS_subId=1");
    assert_eq!(
        server.connect("web").post("control", "", &add).text(),
        "REQOK,1\r\n"
    );
    stream.chunks_until("U,1,2,");
    stream.stream.get_mut().shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let recovery =
        format!("LS_session={session}&LS_recovery_from=2&LS_polling=true&LS_idle_millis=0");
    let lines = server
        .connect("web")
        .post("bind_session", "", &recovery)
        .into_text();
    let (_, replay) = lines.split_once("PROG,2\r\n").expect(&lines);
    assert!(replay.starts_with("U,1,"), "{lines}");
    assert!(lines.ends_with("LOOP,0\r\n"), "{lines}");
}

fn refusals_of_tlcp_have_status_200(io: Io) {
    let server = start(io, "[sessions]\nrequest_limit = \"2KiB\"\n");
    let mut client = server.connect("web");
    let long = format!("LS_reqId=7&LS_session=S&LS_message={}", "x".repeat(100_000));
    let response = client.post("msg", "", &long);
    assert_eq!(
        (response.status(), response.text()),
        ("200", "REQERR,7,68,Request too long\r\n")
    );
    client.write(
        "POST /lightstreamer/create_session.txt?LS_protocol=TLCP-3.0.0 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        client.answer().text(),
        "CONERR,60,Client version not supported\r\n"
    );
    assert_eq!(
        client.post("bind_session", "", "LS_session=S1").text(),
        "CONERR,20,Session not found\r\n"
    );
    for (request, status) in [
        (
            "POST /lightstreamer/heartbeat.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "400",
        ),
        (
            "GET /lightstreamer/wsok.txt?LS_protocol=TLCP-2.5.0 HTTP/1.1\r\nHost: h\r\n\r\n",
            "404",
        ),
        (
            "PUT /lightstreamer/msg.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "405",
        ),
    ] {
        client.write(request);
        assert_eq!(client.answer().status(), status, "{request}");
    }
}

fn pages_of_other_origins(io: Io) {
    let server = start(
        io,
        "[origins]\nallow = [\"https://good\"]\nheaders = [\"X-Trace\"]\nmax_age = \"10m\"\n",
    );
    let mut client = server.connect("web");
    let mut with_origin = |origin: &str, request: &str| {
        client.write(request.replace("Host: h\r\n", &format!("Host: h\r\nOrigin: {origin}\r\n")));
        client.answer()
    };
    let create = post("create_session", "", CREATE);
    let options = "OPTIONS /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\n\r\n";
    let nothing = "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n";
    for request in [&create, options, nothing] {
        let response = with_origin("https://good", request);
        assert_eq!(
            response.header("Access-Control-Allow-Origin"),
            Some("https://good")
        );
        assert_eq!(
            response.header("Access-Control-Allow-Credentials"),
            Some("true")
        );
        assert_eq!(response.header("Vary"), Some("Origin"));
    }
    let preflight = with_origin("https://good", options);
    assert_eq!(
        preflight.header("Access-Control-Allow-Headers"),
        Some("Content-Type, X-Trace")
    );
    assert_eq!(preflight.header("Access-Control-Max-Age"), Some("600"));
    for request in [&create, options] {
        let response = with_origin("https://bad", request);
        assert_eq!((response.status(), response.text()), ("200", ""));
        assert!(!response.head.contains("Access-Control"));
    }
    // No browser: let in, and told nothing.
    let response = client.post("create_session", "", CREATE);
    assert_eq!(tags(response.text())[0], "CONOK");
    assert!(!response.head.contains("Access-Control"));
}

fn added_headers_are_on_every_response(io: Io) {
    let server = start(
        io,
        "[http]\nadd = [\"X-Frame-Options: DENY\", \"X-Served-By:a\"]\n",
    );
    let mut client = server.connect("web");
    let upgrade = upgrade("/lightstreamer", "", SUBPROTOCOL);
    let requests = [
        (get("/", ""), "200"),
        (get("/nothing", ""), "404"),
        (post("create_session", "", CREATE), "200"),
        (upgrade, "101"), // on a connection that the engine knows by its HTTP requests
    ];
    for (request, status) in requests {
        client.write(request);
        let response = client.answer();
        assert_eq!(response.status(), status);
        assert_eq!(response.header("X-Frame-Options"), Some("DENY"), "{status}");
        assert_eq!(response.header("X-Served-By"), Some("a"), "{status}");
    }
    // It is a WebSocket now: an unmasked frame is refused by a close frame.
    client.write("\u{1}\u{4}wsok");
    assert_eq!(client.rest()[0], 0x88, "a close frame");
}

fn what_a_socket_does_not_take_at_once_still_arrives(io: Io) {
    let server = start(io, "[socket]\nsend_buffer = \"4KiB\"\n");
    let mut client = server.connect("web");
    // More answers than all buffers between hold, asked for without reading any.
    let requests = 400;
    let page = "GET /app.js HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut asking = client.stream.get_ref().try_clone().unwrap();
    let asker = std::thread::spawn(move || {
        let create = post("create_session", "", CREATE);
        for _ in 0..requests {
            asking.write_all(page.as_bytes()).unwrap();
            asking.write_all(create.as_bytes()).unwrap();
        }
        asking
            .write_all(post("heartbeat", "Connection: close\r\n", "LS_session=S").as_bytes())
            .unwrap();
    });
    for _ in 0..requests {
        assert!(client.answer().text().len() > 1_000);
        assert_eq!(tags(client.answer().text())[0], "CONOK");
    }
    assert_eq!(client.answer().text(), "REQOK\r\n");
    assert_eq!(client.end(), "");
    asker.join().unwrap();
}

fn a_connection_is_closed_only_behind_the_whole_of_its_last_response(io: Io) {
    let server = start(
        io,
        "shards = 1\n[socket]\nsend_buffer = \"4KiB\"\n[sessions]\nrequest_limit = \"1MiB\"\n",
    );
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(&server.address("web").into()).unwrap();
    let mut client = Client::new(socket.into());
    let lines = 20_000;
    let batch: String = (0..lines)
        .map(|id| format!("LS_reqId={id}&LS_op=destroy&LS_session=S\r\n"))
        .collect();
    client.write(post("control", "Connection: close\r\n", &batch));
    // Two answers on another connection: the shard has had its turns to close the first one, which is blocked.
    let mut other = server.connect("web");
    for _ in 0..2 {
        assert_eq!(
            other.post("heartbeat", "", "LS_session=S").text(),
            "REQOK\r\n"
        );
    }
    let answers = client.answer().into_text();
    assert_eq!(answers.lines().count(), lines);
    assert_eq!(client.end(), "");
}
