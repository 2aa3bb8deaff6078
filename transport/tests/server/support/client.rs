//! A blocking TLCP client over WebSocket that takes nothing for granted: every frame, line and answer is checked.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use brightwire::wire::ws::{CloseCode, Decoder, Incoming};
use brightwire::wire::ws_client::{self, Handshake};
use engine::shard::session_id;
use engine::tlcp::client::{Line, complete_lines};
use tungstenite::protocol::frame::coding::OpCode;

use super::WAIT_MAX;

/// The subprotocol that the clients speak.
pub const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";
/// What servers may send in one message: far above the pump's turn and the lines that may wait.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Any mask does: no page chose the payload.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x0f, 0x96];

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    decoder: Decoder,
    lines: VecDeque<String>,
    ended: Option<Ended>,
}

/// How a connection ended, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a close frame.
    Close(Option<CloseCode>),
    /// By the end of the stream, without one.
    Eof,
    /// By a reset.
    Reset,
}

impl Client {
    /// A WebSocket without a session.
    pub fn connect(address: SocketAddr) -> Self {
        Self::upgrade(TcpStream::connect(address).unwrap(), &[]).unwrap()
    }

    /// Asks for the upgrade on a fresh connection, with further bytes in the same write. The error is how the server
    /// ended it instead of answering.
    pub fn upgrade(mut stream: TcpStream, behind: &[u8]) -> Result<Self, Ended> {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut out = Vec::new();
        let handshake =
            Handshake::request(&mut out, "localhost", "/lightstreamer", SUBPROTOCOL, &[]);
        out.extend_from_slice(behind);
        stream.write_all(&out).map_err(|_| Ended::Reset)?;
        let mut bytes = Vec::new();
        let head_bytes = loop {
            let mut piece = [0; 4096];
            match read(&mut stream, &mut piece) {
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(ended) => return Err(ended),
            }
            if let Some(head_bytes) = handshake.answer(&bytes).unwrap() {
                break head_bytes;
            }
        };
        let mut client = Self {
            stream,
            decoder: Decoder::of_server(MESSAGE_BYTES_MAX),
            lines: VecDeque::new(),
            ended: None,
        };
        client.decode(&mut bytes[head_bytes..]);
        Ok(client)
    }

    /// A client with a session; returns its id as well. All that belongs to the head is read.
    pub fn with_session(address: SocketAddr) -> (Self, String) {
        let mut client = Self::connect(address);
        let id = client.create("");
        (client, id)
    }

    /// Creates a session. `more` are further parameters, starting with `&`.
    pub fn create(&mut self, more: &str) -> String {
        self.send(&format!(
            "create_session\r\nLS_adapter_set=DEMO&LS_cid=test&LS_send_sync=false{more}"
        ));
        self.head()
    }

    /// Binds a session, which must succeed.
    pub fn bind(&mut self, id: &str) {
        self.send(&bind_message(id));
        assert_eq!(self.head(), id);
    }

    /// Reads the head of a stream and returns the session's id. What was still on its way of another session's stream
    /// would be an error.
    pub fn head(&mut self) -> String {
        let line = self.line();
        let Ok(Line::Conok { session_id, .. }) = Line::parse(&line) else {
            panic!("{line} instead of CONOK");
        };
        for expected in ["SERVNAME,", "CLIENTIP,", "CONS,"] {
            let line = self.line();
            assert!(line.starts_with(expected), "{line} instead of {expected}");
        }
        session_id.to_owned()
    }

    /// Ends the stream of the connection's session and reads to its end; the session then waits for a bind.
    /// Lines of the session in between go to `take`.
    pub fn force_rebind<T>(&mut self, id: &str, mut take: impl FnMut(&str) -> T) {
        self.send(&format!(
            "control\r\nLS_reqId=rebind&LS_op=force_rebind&LS_session={id}"
        ));
        let mut accepted = false;
        loop {
            let line = self.line();
            match Line::parse(&line) {
                Ok(Line::Reqok {
                    req_id: Some(req_id),
                }) if req_id == "rebind" => accepted = true,
                Ok(Line::Loop { .. }) => break,
                _ => drop(take(&line)),
            }
        }
        assert!(accepted, "LOOP without REQOK before it");
    }

    /// Sends a message.
    pub fn send(&mut self, message: &str) {
        self.send_bytes(&framed(&[message]));
    }

    /// Sends messages in one write.
    pub fn send_together(&mut self, messages: &[&str]) {
        self.send_bytes(&framed(messages));
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends any frame, legal or not.
    pub fn send_frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut out = Vec::new();
        ws_client::write_frame(&mut out, true, opcode, payload, MASK);
        self.send_bytes(&out);
    }

    /// The next line.
    pub fn line(&mut self) -> String {
        self.next()
            .unwrap_or_else(|ended| panic!("the connection has ended: {ended:?}"))
    }

    /// The next line of which `wanted` says yes. Others are dropped; a stream that has nothing but others is given up.
    pub fn line_such(&mut self, wanted: impl Fn(&Line<'_>) -> bool) -> String {
        let start = Instant::now();
        loop {
            let line = self.line();
            if wanted(&Line::parse(&line).unwrap()) {
                return line;
            }
            assert!(start.elapsed() < WAIT_MAX, "in vain, at last: {line}");
        }
    }

    /// The answer to a request, other lines dropped: `REQOK,<id>` or `REQERR,<id>,...`.
    pub fn answer(&mut self, id: &str) -> String {
        self.line_such(|line| match line {
            Line::Reqok {
                req_id: Some(req_id),
            }
            | Line::Reqerr { req_id, .. } => req_id == id,
            _ => false,
        })
    }

    /// The next update, other lines dropped.
    pub fn update(&mut self) -> String {
        self.line_such(|line| matches!(line, Line::Update { .. }))
    }

    /// The next line, or how the connection ended.
    pub fn next(&mut self) -> Result<String, Ended> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            if let Some(ended) = self.ended {
                return Err(ended);
            }
            match read(&mut self.stream, &mut buffer) {
                Ok(count) => self.decode(&mut buffer[..count]),
                Err(ended) => self.ended = Some(ended),
            }
        }
    }

    /// Reads to the end of the connection, and says how it came.
    pub fn end(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.next() {
                return ended;
            }
        }
    }

    fn decode(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            assert_eq!(self.ended, None, "bytes behind the close frame");
            let (used, incoming) = self.decoder.next(bytes).unwrap();
            match incoming {
                Some(Incoming::Text(text)) => {
                    for line in complete_lines(text).unwrap() {
                        if let Err(error) = Line::parse(line) {
                            panic!("{error}: {line}");
                        }
                        self.lines.push_back(line.to_owned());
                    }
                }
                Some(Incoming::Close(code)) => self.ended = Some(Ended::Close(code)),
                Some(Incoming::Pong(payload)) => {
                    let payload = std::str::from_utf8(payload).unwrap();
                    self.lines.push_back(format!("NOOP,pong {payload}"));
                }
                Some(Incoming::Cut(_) | Incoming::Ping(_)) => panic!("no server sends this"),
                None => {}
            }
            bytes = &mut bytes[used..];
        }
    }
}

/// Messages as frames behind each other.
pub fn framed(messages: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        ws_client::write_text(&mut out, message, MASK);
    }
    out
}

/// The message that binds a session.
pub fn bind_message(id: &str) -> String {
    format!("bind_session\r\nLS_session={id}&LS_send_sync=false")
}

/// The shard that a session lives on, as its id tells.
pub fn shard_of(id: &str) -> u16 {
    session_id::owner(id).unwrap().shard.0
}

/// Reads once. Gives up a wait without bound.
pub fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Ended> {
    loop {
        return match stream.read(buffer) {
            Ok(0) => Err(Ended::Eof),
            Ok(read) => Ok(read),
            Err(error) => match error.kind() {
                // Trying io_uring leaves work behind that interrupts the thread a moment later.
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => {
                    panic!("nothing came within {:?}", stream.read_timeout())
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Err(Ended::Reset),
                _ => panic!("{error}"),
            },
        };
    }
}
