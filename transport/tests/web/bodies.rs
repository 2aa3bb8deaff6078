//! Bodies: pages from a folder, compression, and how requests follow each other on a connection.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use flate2::read::GzDecoder;

use crate::back_ends::Io;
use crate::on_both_back_ends;
use crate::support::{CREATE, Server, get, post, post_to};

on_both_back_ends!(
    a_folder_is_served_and_nothing_beside_it,
    what_is_there_as_a_whole_is_compressed_for_those_who_accept_it,
    a_body_may_wait_for_leave_and_an_offered_upgrade_is_passed_over,
    requests_follow_each_other_on_one_connection,
    old_clients_are_told_the_length_and_closed,
);

fn a_folder_is_served_and_nothing_beside_it(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("pages/sub")).unwrap();
    fs::write(root.join("secret.txt"), "secret").unwrap();
    fs::write(root.join("pages/index.html"), "<p>caf\u{e9}").unwrap();
    fs::write(root.join("pages/sub/index.html"), "<b>").unwrap();
    fs::write(root.join("pages/a b.js"), "1").unwrap();
    fs::write(root.join("pages/.hidden"), "secret").unwrap();
    symlink("../secret.txt", root.join("pages/link.txt")).unwrap();
    symlink("/", root.join("pages/top")).unwrap();
    let server = Server::start_in(
        directory,
        io,
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[pages]\nfolder = \"pages\"\n",
    );
    for (path, content_type, body) in [
        ("/", "text/html; charset=utf-8", "<p>caf\u{e9}"),
        ("/index.html", "text/html; charset=utf-8", "<p>caf\u{e9}"),
        ("/sub/", "text/html; charset=utf-8", "<b>"),
        ("/a%20b.js", "text/javascript; charset=utf-8", "1"),
    ] {
        let answer = server.ask("web", &get(path, ""));
        assert_eq!((answer.status(), answer.text()), ("200", body), "{path}");
        assert_eq!(answer.header("Content-Type"), Some(content_type));
        let tag = answer.header("ETag").unwrap();
        let again = server.ask("web", &get(path, &format!("If-None-Match: {tag}\r\n")));
        assert_eq!((again.status(), again.text()), ("304", ""));
    }
    let moved = server.ask("web", &get("/sub", ""));
    assert_eq!(
        (moved.status(), moved.header("Location")),
        ("301", Some("/sub/"))
    );
    for path in [
        "/secret.txt",
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/.hidden",
        "/link.txt",
        "/top/etc/passwd",
        "/top",
        "//index.html",
        "/app.js", // the demo's
    ] {
        let answer = server.ask("web", &get(path, ""));
        assert_eq!(answer.status(), "404", "{path}");
    }
    // A file that appears later is not there.
    fs::write(server.directory.path().join("pages/late.txt"), "late").unwrap();
    assert_eq!(server.ask("web", &get("/late.txt", "")).status(), "404");
    let mut client = server.connect("web");
    client.write(
        get("/", "Connection: close\r\n")
            .replace("GET", "HEAD")
            .as_bytes(),
    );
    let head = String::from_utf8(client.rest()).unwrap();
    assert!(
        head.contains("\r\nContent-Length: 8\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let answer = server.ask("web", &post_to("/", "", "x"));
    assert_eq!(
        (answer.status(), answer.header("Allow")),
        ("405", Some("GET, HEAD"))
    );
}

fn what_is_there_as_a_whole_is_compressed_for_those_who_accept_it(io: Io) {
    let config = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[http]\ngzip = true\n";
    let server = Server::start(io, config);
    let unzipped = |body: &[u8]| {
        let mut text = String::new();
        GzDecoder::new(body).read_to_string(&mut text).unwrap();
        text
    };
    const GZIP: &str = "Accept-Encoding: gzip, deflate\r\n";

    let plain = server.ask("web", &get("/", ""));
    assert_eq!(plain.header("Content-Encoding"), None);
    let zipped = server.ask("web", &get("/", GZIP));
    assert_eq!(zipped.header("Content-Encoding"), Some("gzip"));
    assert_eq!(unzipped(&zipped.body), plain.text());
    assert!(zipped.body.len() < plain.body.len());

    // A batch whose answers are long enough.
    let mut client = server.connect("web");
    let lines: String = (0..100)
        .map(|id| format!("LS_reqId={id}&LS_op=delete&LS_subId=1&LS_session=S\r\n"))
        .collect();
    let plain = client.post("control", "", &lines);
    assert!(plain.body.len() >= 1024 && plain.header("Content-Encoding").is_none());
    let zipped = client.post("control", GZIP, &lines);
    assert_eq!(zipped.header("Content-Encoding"), Some("gzip"));
    assert_eq!(unzipped(&zipped.body), plain.text());
    // Short ones stay as they are.
    let answer = client.post("create_session", GZIP, CREATE);
    assert_eq!(answer.header("Content-Encoding"), None);

    // So do streams; this one ends at once, since its session is bound elsewhere.
    let session = answer.session();
    let bind = format!("LS_session={session}&LS_content_length=3000");
    client.write(post("bind_session", GZIP, &bind).as_bytes());
    let mut other = server.connect("web");
    let rebind = format!("LS_session={session}&LS_reqId=1&LS_op=force_rebind");
    // The stream is there once its session can be told to leave it.
    while other.post("control", "", &rebind).text() != "REQOK,1\r\n" {}
    let stream = client.answer();
    assert_eq!(stream.header("Transfer-Encoding"), Some("chunked"));
    assert_eq!(stream.header("Content-Encoding"), None);
    assert!(stream.text().starts_with("CONOK,"), "{}", stream.text());

    let off = Server::start(io, "[[listeners]]\naddress = \"127.0.0.1:0\"\n");
    assert_eq!(
        off.ask("web", &get("/", GZIP)).header("Content-Encoding"),
        None
    );
}

const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

fn a_body_may_wait_for_leave_and_an_offered_upgrade_is_passed_over(io: Io) {
    let server = Server::start(io, LISTENER);
    let mut client = server.connect("web");
    let request = post("create_session", "Expect: 100-continue\r\n", CREATE);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    client.write(format!("{head}\r\n\r\n").as_bytes());
    assert_eq!(client.answer().head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write(body.as_bytes());
    assert!(!client.answer().session().is_empty());

    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n";
    let answer = client.post("create_session", h2c, CREATE);
    assert!(
        answer.head.starts_with("HTTP/1.1 200 OK\r\n"),
        "{}",
        answer.head
    );
    assert!(!answer.session().is_empty() && answer.header("Upgrade").is_none());
}

fn requests_follow_each_other_on_one_connection(io: Io) {
    let server = Server::start(io, LISTENER);
    let mut client = server.connect("web");
    let session = client.post("create_session", "", CREATE).session();
    let constrain = |id: u32| {
        format!("LS_session={session}&LS_reqId={id}&LS_op=constrain&LS_requested_max_bandwidth=9")
    };
    // All at once, a page and a refusal between them: answers come in the order of the requests.
    let mut all = String::new();
    for id in 0..20 {
        all += &post("control", "", &constrain(id));
        all += &get("/absent", "");
    }
    all += &get("/", "");
    client.write(all.as_bytes());
    for id in 0..20 {
        assert_eq!(client.answer().text(), format!("REQOK,{id}\r\n"));
        assert_eq!(client.answer().status(), "404");
    }
    assert_eq!(client.answer().status(), "200");
    // The last one says that it is the last.
    let last = client.post("control", "Connection: close\r\n", &constrain(99));
    assert_eq!(
        (last.text(), last.header("Connection")),
        ("REQOK,99\r\n", Some("close"))
    );
    assert_eq!(client.rest(), b"");
}

fn old_clients_are_told_the_length_and_closed(io: Io) {
    let server = Server::start(io, LISTENER);
    for (version, header) in [("HTTP/1.0", ""), ("HTTP/1.1", "Connection: close\r\n")] {
        let mut client = server.connect("web");
        let request = post(
            "create_session",
            header,
            "LS_adapter_set=DEMO&LS_cid=x&LS_content_length=3000",
        );
        client.write(request.replace("HTTP/1.1", version).as_bytes());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte);
            head.push(char::from(byte[0]));
        }
        assert!(
            head.contains("\r\nConnection: close\r\n") && !head.contains("chunked"),
            "{head}"
        );
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap();
        assert!(length.parse::<usize>().unwrap() >= 3000, "{head}");
    }
}
