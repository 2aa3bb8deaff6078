//! The demo page as a browser gets it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::on_both_back_ends;
use crate::support::{Io, Server, Setup, WAIT_MAX};

on_both_back_ends!(pages_are_served_with_their_policy_and_their_tag);

/// One request on a connection of its own; head and body of the answer.
fn get(server: &Server, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
        server.address
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let body = answer.split_off(end);
    (String::from_utf8(answer).unwrap(), body)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn pages_are_served_with_their_policy_and_their_tag(io: Io) {
    let server = Server::start(io, Setup::default());
    for path in ["/", "/app.js", "/tlcp.js", "/style.css", "/favicon.ico"] {
        let (head, body) = get(&server, path, "");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = header(&head, "content-length").unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), body.len());
        let policy = header(&head, "content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(
            policy.contains(&format!("ws://{}", server.address)),
            "{policy}"
        );
        let tag = header(&head, "etag").unwrap();
        let (head, body) = get(&server, path, &format!("If-None-Match: {tag}\r\n"));
        assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{head}");
        assert!(body.is_empty());
        let (head, _) = get(&server, path, "If-None-Match: \"other\"\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    }
    let (head, _) = get(&server, "/absent", "");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    server.stop();
}
