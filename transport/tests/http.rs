//! TLCP over HTTP, end to end: the server binary, real sockets, and requests as clients send them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Fails a test that would hang. Nothing is expected to take so long.
const PATIENCE: Duration = Duration::from_secs(30);

const QUERY: &str = "LS_protocol=TLCP-2.5.0";
const CREATE: &str =
    "LS_polling=true&LS_polling_millis=0&LS_idle_millis=0&LS_adapter_set=DEMO&LS_cid=x";
const ADD: &str = "LS_op=add&LS_mode=MERGE&LS_group=item1%20item2&LS_schema=stock_name%20last_price\
    &LS_data_adapter=QUOTE_ADAPTER&LS_snapshot=true";

// ---- the server ----

struct Server {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Server {
    /// With these lines in its configuration.
    fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("test.toml");
        let shards = if config.contains("shards = ") {
            ""
        } else {
            "shards = 3\n"
        };
        let text = format!(
            "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[runtime]\nspin = \"0s\"\n{shards}{config}"
        );
        std::fs::write(&file, text).unwrap();
        let ports = directory.path().join("ports.toml");
        let mut process = Command::new(env!("CARGO_BIN_EXE_brightwire"))
            .args(["run", "--config"])
            .arg(&file)
            .arg("--ports-file")
            .arg(&ports)
            .env("BRIGHTWIRE_LOG", "error")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = await_address(&mut process, &ports);
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            socket: BufReader::new(socket),
        }
    }

    /// A session that is not bound, over a connection of its own.
    fn create(&self) -> String {
        session_of(&self.connect().post("create_session", CREATE).body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The file appears when the server listens. There is nothing to be awaited but the file itself.
fn await_address(process: &mut Child, ports: &Path) -> SocketAddr {
    let started = std::time::Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(ports) {
            let table: HashMap<String, HashMap<String, SocketAddr>> =
                toml::from_str(&text).unwrap();
            return table["listeners"]["web"];
        }
        assert!(
            process.try_wait().unwrap().is_none(),
            "the server has ended"
        );
        assert!(started.elapsed() < PATIENCE, "no ports file");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// ---- a client ----

struct Client {
    socket: BufReader<TcpStream>,
}

struct Response {
    head: String,
    body: String,
}

impl Response {
    fn status(&self) -> &str {
        &self.head[9..12]
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

impl Client {
    fn write(&mut self, bytes: &str) {
        self.socket.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    fn post(&mut self, name: &str, body: &str) -> Response {
        self.write(&post(name, "", body));
        self.response()
    }

    /// Reads a head up to and including its empty line.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let before = head.len();
            self.socket.read_line(&mut head).unwrap();
            assert!(head.len() > before, "the connection has ended in {head:?}");
        }
        head
    }

    fn response(&mut self) -> Response {
        let head = self.head();
        let mut body = String::new();
        if header(&head, "Transfer-Encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.push_str(&chunk);
            }
        } else if let Some(length) = header(&head, "Content-Length") {
            let mut bytes = vec![0; length.parse().unwrap()];
            self.socket.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes).unwrap();
        }
        Response { head, body }
    }

    /// The next chunk; `None` at the end of the body.
    fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        self.socket.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk's size");
        let mut bytes = vec![0; size + 2];
        self.socket.read_exact(&mut bytes).unwrap();
        let chunk = String::from_utf8(bytes).unwrap();
        let chunk = chunk.strip_suffix("\r\n").expect("the end of a chunk");
        assert!(
            chunk.is_empty() || chunk.ends_with("\r\n"),
            "whole lines: {chunk:?}"
        );
        (size > 0).then(|| chunk.to_owned())
    }

    /// Reads chunks until what was read contains a text.
    fn chunks_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            read.push_str(&self.chunk().expect("more chunks"));
        }
        read
    }

    /// What comes until the server closes.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.socket.read_to_string(&mut rest).unwrap();
        rest
    }
}

fn post(name: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /lightstreamer/{name}.txt?{QUERY} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn session_of(lines: &str) -> String {
    let rest = lines.strip_prefix("CONOK,").expect(lines);
    rest.split(',').next().unwrap().to_owned()
}

fn tags(lines: &str) -> Vec<&str> {
    lines
        .lines()
        .map(|line| line.split(',').next().unwrap())
        .collect()
}

// ---- the tests ----

#[test]
fn a_synchronous_poll_creates_a_session() {
    let server = Server::start("");
    let mut client = server.connect();
    for _ in 0..2 {
        // The connection is used again.
        let response = client.post("create_session", CREATE);
        assert_eq!(response.status(), "200");
        assert_eq!(
            response.header("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(response.header("X-Accel-Buffering"), Some("no"));
        assert_eq!(response.header("Connection"), None);
        assert_eq!(
            tags(&response.body),
            ["CONOK", "SERVNAME", "CLIENTIP", "CONS", "LOOP"]
        );
    }
    client.write(&format!(
        "GET /lightstreamer/create_session.txt?{QUERY}&{CREATE} HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    assert_eq!(tags(&client.response().body)[0], "CONOK");
}

#[test]
fn a_batch_is_answered_in_its_order_and_pipelined_requests_in_theirs() {
    let server = Server::start("");
    let session = server.create();
    let mut client = server.connect();
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
    client.write(&format!(
        "{}{heartbeat}{page}{}",
        post("control", "Expect: 100-continue\r\n", &batch),
        post("control", "", "LS_reqId=a&LS_op=destroy&LS_session=Snone")
    ));
    assert!(client.head().starts_with("HTTP/1.1 100 Continue\r\n"));
    let answers = client.response().body;
    let ids: Vec<u32> = answers
        .lines()
        .map(|line| line.split(',').nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids, (1..=20).collect::<Vec<_>>(), "{answers}");
    assert_eq!(client.response().body, "REQOK\r\n");
    assert!(client.response().body.starts_with("<svg"));
    assert_eq!(client.response().body, "REQERR,a,20,Session not found\r\n");
}

#[test]
fn a_stream_comes_in_chunks_and_its_connection_is_used_again() {
    let server = Server::start("");
    let session = server.create();
    let mut stream = server.connect();
    let bind = format!("LS_session={session}&LS_content_length=50000000&LS_send_sync=false");
    stream.write(&post("bind_session", "", &bind));
    let head = stream.head();
    assert_eq!(header(&head, "Transfer-Encoding"), Some("chunked"));
    assert_eq!(header(&head, "Content-Length"), None);
    assert!(stream.chunks_until("CONS,").starts_with("CONOK,"));

    let mut control = server.connect();
    let add = format!("LS_reqId=1&LS_session={session}&{ADD}&LS_subId=1");
    assert_eq!(control.post("control", &add).body, "REQOK,1\r\n");
    let lines = stream.chunks_until("U,1,2,");
    assert!(tags(&lines).starts_with(&["SUBOK", "CONF", "U"]), "{lines}");
    stream.chunks_until("U,1,"); // and on

    let rebind = format!("LS_reqId=2&LS_session={session}&LS_op=force_rebind");
    assert_eq!(control.post("control", &rebind).body, "REQOK,2\r\n");
    let mut rest = String::new();
    while let Some(chunk) = stream.chunk() {
        rest.push_str(&chunk);
    }
    assert!(rest.ends_with("LOOP,0\r\n"), "{rest}");
    let poll = format!("LS_session={session}&LS_polling=true&LS_idle_millis=0");
    assert_eq!(tags(&stream.post("bind_session", &poll).body)[0], "CONOK");
}

#[test]
fn a_client_without_chunks_gets_a_length_beforehand() {
    let server = Server::start("");
    for request in [
        "HTTP/1.1\r\nHost: h\r\nConnection: close\r\n",
        "HTTP/1.0\r\n",
        "HTTP/1.0\r\nConnection: keep-alive\r\n",
    ] {
        let session = server.create();
        let mut stream = server.connect();
        let body = format!("LS_session={session}&LS_content_length=9000");
        let length = body.len();
        stream.write(&format!(
            "POST /lightstreamer/bind_session.txt?{QUERY} {request}Content-Length: {length}\r\n\r\n{body}"
        ));
        let head = stream.head();
        assert_eq!(header(&head, "Content-Length"), Some("9000"));
        assert_eq!(header(&head, "Connection"), Some("close"));
        assert_eq!(header(&head, "Transfer-Encoding"), None);
        let rebind = format!("LS_reqId=1&LS_session={session}&LS_op=force_rebind");
        assert_eq!(
            server.connect().post("control", &rebind).body,
            "REQOK,1\r\n"
        );
        let lines = stream.rest();
        assert!(lines.starts_with("CONOK,") && lines.ends_with("LOOP,0\r\n"));
    }
}

#[test]
fn a_poll_waits_for_data_and_what_is_pipelined_waits_behind_it() {
    let server = Server::start("");
    let session = server.create();
    let mut poll = server.connect();
    let body = format!("LS_session={session}&LS_polling=true&LS_idle_millis=30000");
    let heartbeat = post("heartbeat", "", &format!("LS_session={session}"));
    poll.write(&(post("bind_session", "", &body) + &heartbeat));
    let add = format!("LS_reqId=1&LS_session={session}&{ADD}&LS_subId=1");
    assert_eq!(server.connect().post("control", &add).body, "REQOK,1\r\n");
    let response = poll.response();
    let lines = tags(&response.body);
    assert_eq!(lines[0], "CONOK");
    assert!(
        lines.contains(&"SUBOK") && lines.last() == Some(&"LOOP"),
        "{lines:?}"
    );
    assert_eq!(poll.response().body, "REQOK\r\n");
}

#[test]
fn a_waiting_response_outlives_the_timeout_of_an_idle_connection() {
    let server = Server::start("[sessions]\nhead_timeout = \"1s\"\n");
    let session = server.create();
    let mut poll = server.connect();
    let body = format!("LS_session={session}&LS_polling=true&LS_idle_millis=3000");
    poll.write(&post("bind_session", "", &body));
    let mut idle = server.connect();
    assert_eq!(idle.post("heartbeat", "LS_session=S").body, "REQOK\r\n");
    assert_eq!(idle.rest(), "", "closed");
    let mut half = server.connect();
    half.write(
        "POST /lightstreamer/control.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nLS_",
    );
    assert_eq!(half.rest(), "", "closed");
    assert_eq!(
        tags(&poll.response().body),
        tags("CONOK\nSERVNAME\nCLIENTIP\nCONS\nLOOP")
    );
    // The time begins anew with the end of the response.
    assert_eq!(poll.post("heartbeat", "LS_session=S").body, "REQOK\r\n");
}

#[test]
fn a_bind_moves_to_the_shard_of_its_session() {
    let server = Server::start("");
    let session = server.create();
    let body = format!("LS_session={session}&LS_polling=true&LS_idle_millis=0");
    // The kernel spreads connections over the shards: most of these arrive at a wrong one.
    for round in 0..12 {
        let mut client = server.connect();
        let heartbeat = post("heartbeat", "", &format!("LS_session={session}"));
        let origin = format!("Origin: https://{round}\r\n");
        client.write(&(post("bind_session", &origin, &body) + &heartbeat));
        let response = client.response();
        assert_eq!(tags(&response.body)[0], "CONOK");
        let expected = format!("https://{round}");
        assert_eq!(
            response.header("Access-Control-Allow-Origin"),
            Some(&*expected)
        );
        assert_eq!(client.response().body, "REQOK\r\n");
        assert_eq!(tags(&client.post("bind_session", &body).body)[0], "CONOK");
        // Chunked or not, the form of the response moves along too.
        let mut client = server.connect();
        client.write(&post("bind_session", "Connection: close\r\n", &body));
        let response = client.response();
        assert_eq!(response.header("Connection"), Some("close"));
        assert_eq!(tags(&response.body)[0], "CONOK");
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn a_stream_whose_session_recovers_elsewhere_is_left_without_an_end() {
    let server = Server::start("");
    let session = server.create();
    let mut old = server.connect();
    old.write(&post("bind_session", "", &format!("LS_session={session}")));
    old.head();
    old.chunks_until("CONS,");
    let recovery = format!(
        "LS_session={session}&LS_recovery_from=0&LS_polling=true&LS_idle_millis=0&LS_cause=http.error"
    );
    let response = server.connect().post("bind_session", &recovery);
    assert!(response.body.contains("PROG,0\r\n"), "{}", response.body);
    let rest = old.rest();
    assert!(
        !rest.contains("\r\n0\r\n") && !rest.starts_with('0'),
        "{rest:?}"
    );
}

#[test]
fn who_follows_the_control_link_is_taken_over_silently() {
    let server = Server::start("[sessions]\ncontrol_link = \"push1:8080\"\n");
    let session = server.create();
    // Each says another cause: the same request once more would be silent as well.
    let bind = |host: &str, cause: u32| {
        let body = format!("LS_session={session}&LS_cause={cause}");
        let request = post("bind_session", "", &body);
        let mut client = server.connect();
        client.write(&request.replace("Host: h\r\n", &format!("Host: {host}\r\n")));
        client.head();
        client.chunks_until("CONS,");
        client
    };
    let mut first = bind("h", 1);
    let mut linked = bind("push1:8080", 2);
    assert!(!first.rest().contains("END,"));
    // Only the first bind is one that follows it.
    let _last = bind("push1:8080", 3);
    assert!(linked.rest().contains("END,40,"));
}

#[test]
fn a_body_may_be_in_another_charset() {
    let server = Server::start("");
    let mut client = server.connect();
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
        client.write(&head.replace("-Length: 0", &format!("-Length: {length}")));
        client.socket.get_mut().write_all(bytes).unwrap();
        let response = client.response();
        assert!(
            response.body.starts_with(answer),
            "{charset}: {}",
            response.body
        );
    }
}

#[test]
fn an_aborted_stream_can_be_recovered() {
    let server = Server::start("");
    let session = server.create();
    let mut stream = server.connect();
    stream.write(&post("bind_session", "", &format!("LS_session={session}")));
    stream.head();
    stream.chunks_until("CONS,");
    let add = format!("LS_reqId=1&LS_session={session}&{ADD}&LS_subId=1");
    assert_eq!(server.connect().post("control", &add).body, "REQOK,1\r\n");
    stream.chunks_until("U,1,2,");
    stream.socket.get_mut().shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let recovery =
        format!("LS_session={session}&LS_recovery_from=2&LS_polling=true&LS_idle_millis=0");
    let lines = server.connect().post("bind_session", &recovery).body;
    let (_, replay) = lines.split_once("PROG,2\r\n").expect(&lines);
    assert!(replay.starts_with("U,1,"), "{lines}");
    assert!(lines.ends_with("LOOP,0\r\n"), "{lines}");
}

#[test]
fn refusals_of_tlcp_have_status_200() {
    let server = Server::start("[sessions]\nrequest_limit = \"2KiB\"\n");
    let mut client = server.connect();
    let long = format!("LS_reqId=7&LS_session=S&LS_message={}", "x".repeat(100_000));
    let response = client.post("msg", &long);
    assert_eq!(
        (response.status(), &*response.body),
        ("200", "REQERR,7,68,Request too long\r\n")
    );
    client.write(
        "POST /lightstreamer/create_session.txt?LS_protocol=TLCP-3.0.0 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        client.response().body,
        "CONERR,60,Client version not supported\r\n"
    );
    assert_eq!(
        client.post("bind_session", "LS_session=S1").body,
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
        assert_eq!(client.response().status(), status, "{request}");
    }
}

#[test]
fn pages_of_other_origins() {
    let server = Server::start(
        "[origins]\nallow = [\"https://good\"]\nheaders = [\"X-Trace\"]\nmax_age = \"10m\"\n",
    );
    let mut client = server.connect();
    let mut with_origin = |origin: &str, request: &str| {
        client.write(&request.replace("Host: h\r\n", &format!("Host: h\r\nOrigin: {origin}\r\n")));
        client.response()
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
        assert_eq!((response.status(), &*response.body), ("200", ""));
        assert!(!response.head.contains("Access-Control"));
    }
    // No browser: let in, and told nothing.
    let response = client.post("create_session", CREATE);
    assert_eq!(tags(&response.body)[0], "CONOK");
    assert!(!response.head.contains("Access-Control"));
}

#[test]
fn added_headers_are_on_every_response() {
    let server = Server::start("[http]\nadd = [\"X-Frame-Options: DENY\", \"X-Served-By:a\"]\n");
    let mut client = server.connect();
    let upgrade = "GET /lightstreamer HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: TLCP-2.5.0.lightstreamer.com\r\n\r\n";
    let requests = [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "200"),
        ("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "404"),
        (&post("create_session", "", CREATE), "200"),
        (upgrade, "101"), // on a connection that the engine knows by its HTTP requests
    ];
    for (request, status) in requests {
        client.write(request);
        let response = client.response();
        assert_eq!(response.status(), status);
        assert_eq!(response.header("X-Frame-Options"), Some("DENY"), "{status}");
        assert_eq!(response.header("X-Served-By"), Some("a"), "{status}");
    }
    // It is a WebSocket now: an unmasked frame is refused by a close frame.
    client.write("\u{1}\u{4}wsok");
    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[0], 0x88, "a close frame");
}

#[test]
fn what_a_socket_does_not_take_at_once_still_arrives() {
    for io in ["auto", "epoll"] {
        overfill(&Server::start(&format!(
            "io = \"{io}\"\n[socket]\nsend_buffer = \"4KiB\"\n"
        )));
    }
}

fn overfill(server: &Server) {
    let mut client = server.connect();
    // More answers than all buffers between hold, asked for without reading any.
    let requests = 400;
    let page = "GET /app.js HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut asking = client.socket.get_ref().try_clone().unwrap();
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
        assert!(client.response().body.len() > 1_000);
        assert_eq!(tags(&client.response().body)[0], "CONOK");
    }
    assert_eq!(client.response().body, "REQOK\r\n");
    assert_eq!(client.rest(), "");
    asker.join().unwrap();
}

#[test]
fn a_connection_is_closed_only_behind_the_whole_of_its_last_response() {
    let server = Server::start(
        "shards = 1\n[socket]\nsend_buffer = \"4KiB\"\n[sessions]\nrequest_limit = \"1MiB\"\n",
    );
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client {
        socket: BufReader::new(socket),
    };
    let lines = 20_000;
    let batch: String = (0..lines)
        .map(|id| format!("LS_reqId={id}&LS_op=destroy&LS_session=S\r\n"))
        .collect();
    client.write(&post("control", "Connection: close\r\n", &batch));
    // Two answers on another connection: the shard has had its turns to close the first one, which is blocked.
    let mut other = server.connect();
    for _ in 0..2 {
        assert_eq!(other.post("heartbeat", "LS_session=S").body, "REQOK\r\n");
    }
    let answers = client.response().body;
    assert_eq!(answers.lines().count(), lines);
    assert_eq!(client.rest(), "");
}
