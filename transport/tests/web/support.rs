//! The server as a process with a configuration of the test's own, and a client that writes bytes and reads answers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use brightwire::wire::ws::{Decoder, Incoming};
use brightwire::wire::ws_client::write_text;
use tempfile::TempDir;

use crate::back_ends::Io;
use crate::serving::Serving;

/// Fails a test that would hang. Nothing is expected to take so long.
const WAIT_MAX: Duration = Duration::from_secs(85);

pub const CREATE: &str =
    "LS_polling=true&LS_polling_millis=0&LS_idle_millis=0&LS_adapter_set=DEMO&LS_cid=x";

/// A running server. Dropping it kills it.
pub struct Server {
    serving: Serving,
    pub directory: TempDir,
}

impl Server {
    /// With `[[listeners]]` and whatever else in the configuration, which may name files of the directory.
    pub fn start_in(directory: TempDir, io: Io, config: &str) -> Self {
        let file = directory.path().join("test.toml");
        let shards = if config.contains("shards = ") {
            ""
        } else {
            "shards = 1\n"
        };
        std::fs::write(
            &file,
            format!("[runtime]\nio = \"{}\"\n{shards}{config}", io.name()),
        )
        .unwrap();
        let arguments = ["run", "--config", file.to_str().unwrap()];
        Self {
            serving: Serving::start(directory.path(), &arguments),
            directory,
        }
    }

    pub fn start(io: Io, config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), io, config)
    }

    /// Where a listener is.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.serving.address(name)
    }

    pub fn connect(&self, name: &str) -> Client {
        Client::connect(self.address(name))
    }

    /// One request on a connection of its own.
    pub fn ask(&self, name: &str, request: &str) -> Answer {
        let mut client = self.connect(name);
        client.write(request.as_bytes());
        if request.starts_with("HEAD ") {
            return client.head();
        }
        client.answer()
    }
}

/// A connection.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

/// A response.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// A TLCP request over HTTP and its answer.
    pub fn post(&mut self, name: &str, headers: &str, body: &str) -> Answer {
        self.write(post(name, headers, body).as_bytes());
        self.answer()
    }

    /// Reads a head.
    pub fn head(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).unwrap();
            assert!(read > 0, "the connection has ended in {head:?}");
        }
        Answer {
            head,
            body: Vec::new(),
        }
    }

    /// Reads a head, and the body that it announces; of a body in chunks all of them.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.header("Transfer-Encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("Content-Length") {
            answer.body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// Reads one chunk; `None` at the end of the body.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.stream.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk's size");
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes.split_off(size), b"\r\n", "the end of a chunk");
        (size > 0).then_some(bytes)
    }

    /// Reads chunks, each of whole lines, until what was read contains a text.
    pub fn chunks_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let chunk = String::from_utf8(self.chunk().expect("more chunks")).unwrap();
            assert!(chunk.ends_with("\r\n"), "whole lines: {chunk:?}");
            read.push_str(&chunk);
        }
        read
    }

    /// Reads so many bytes.
    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).unwrap();
    }

    /// What comes until the server closes in order.
    pub fn end(&mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap();
        rest
    }

    /// What comes until the server closes; nothing if it resets.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// Creates a session over a WebSocket that is asked for with this head; returns the head of the answer and the
    /// first lines.
    pub fn create_over_websocket(
        &mut self,
        path: &str,
        headers: &str,
        lines: usize,
    ) -> (String, Vec<String>) {
        self.write(upgrade(path, headers, SUBPROTOCOL).as_bytes());
        let Answer { head, .. } = self.answer();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let mut frame = Vec::new();
        write_text(
            &mut frame,
            "create_session\r\nLS_adapter_set=DEMO&LS_cid=x",
            [1; 4],
        );
        self.write(&frame);
        let mut decoder = Decoder::of_server(1 << 20);
        let mut read = Vec::new();
        while read.len() < lines {
            let mut bytes = vec![0; 4096];
            let count = loop {
                match self.stream.read(&mut bytes) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    result => break result.unwrap(),
                }
            };
            assert!(count > 0, "the connection has ended after {read:?}");
            bytes.truncate(count);
            let mut at = 0;
            while at < bytes.len() {
                let (used, incoming) = decoder.next(&mut bytes[at..]).unwrap();
                if let Some(Incoming::Text(text)) = incoming {
                    read.extend(text.lines().map(str::to_owned));
                }
                at += used;
            }
        }
        (head, read)
    }
}

pub const QUERY: &str = "LS_protocol=TLCP-2.5.0";
pub const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";

impl Answer {
    pub fn status(&self) -> &str {
        &self.head[9..12]
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub fn headers(&self, name: &str) -> std::vec::IntoIter<&str> {
        let values = self.head.lines().skip(1).filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        values.collect::<Vec<_>>().into_iter()
    }

    pub fn into_text(self) -> String {
        String::from_utf8(self.body).unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// What the line of this tag says behind it.
    pub fn line(&self, tag: &str) -> Option<&str> {
        let mut lines = self.text().lines();
        lines.find_map(|line| line.strip_prefix(tag)?.strip_prefix(','))
    }

    /// The session of a `CONOK`.
    pub fn session(&self) -> String {
        let arguments = self.line("CONOK").expect("CONOK");
        arguments.split(',').next().unwrap().to_owned()
    }
}

pub fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

pub fn post(name: &str, headers: &str, body: &str) -> String {
    post_to(&format!("/lightstreamer/{name}.txt?{QUERY}"), headers, body)
}

pub fn post_to(target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

pub fn upgrade(path: &str, headers: &str, subprotocol: &str) -> String {
    get(
        path,
        &format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n{headers}"
        ),
    )
}
