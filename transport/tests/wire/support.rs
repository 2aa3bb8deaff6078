//! A host that writes down what its connection tells it, and what clients send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use brightwire::net::connection::{
    Caller, Connection, Flow, Host, Phase, Progress, Settings, TlcpRequest,
};
use brightwire::net::outbox;
use brightwire::net::response::Responding;
use brightwire::wire::ws::{CloseCode, Decoder, Incoming, Upgrade};
use brightwire::wire::ws_client::{write_close, write_frame, write_text};
use engine::shard::Part;
use tungstenite::protocol::frame::coding::{Control, OpCode};

pub const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";
pub const MASK: [u8; 4] = [1, 2, 3, 250];
pub const REQUEST_BYTES_MAX: usize = 2_000;

/// Writes down what a connection tells its host.
#[derive(Default)]
pub struct Recorder {
    pub events: Vec<String>,
    pub reply: Vec<u8>,
    /// Length of the reply when the connection became a WebSocket.
    pub upgraded_at: Option<usize>,
    pub stop: bool,
    pub closed: bool,
    /// The last response, which is written at once.
    pub response: Option<Responding>,
}

impl Host for Recorder {
    fn peer(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn proxied(&mut self, client: SocketAddr) {
        self.events.push(format!("proxied for {client}"));
    }

    fn upgraded(&mut self, upgrade: &Upgrade<'_>, _caller: Caller, _settings: &Settings) {
        self.events.push(format!(
            "{} {:?} {:?}",
            upgrade.subprotocol, upgrade.user_agent, upgrade.origin
        ));
        self.upgraded_at = Some(self.reply.len());
    }

    fn message(&mut self, text: &str) -> Flow {
        self.events.push(format!("message {text}"));
        if self.stop {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }

    fn cut_message(&mut self, beginning: &str) {
        self.events.push(format!("beginning {beginning}"));
    }

    /// Answers with as many lines as the request has bytes, modulo 3; in chunks if there are several.
    fn request(&mut self, request: TlcpRequest<'_>, settings: &Settings) {
        let TlcpRequest {
            version,
            http,
            terms,
            ..
        } = request;
        self.events.push(format!(
            "{} {version:?} {:?} {:?}",
            http.verb.name(),
            http.query,
            http.body
        ));
        assert_eq!(http.identity, terms.identity());
        let mut response = Responding::new(terms);
        let lines = http.body.len() % 3;
        for line in 0..=lines {
            let start = outbox::begin(&mut self.reply);
            self.reply
                .extend_from_slice(format!("REQOK,{line}\r\n").as_bytes());
            let part = match lines {
                0 => Part::Response,
                _ => Part::Stream {
                    content_length: 1_000,
                    last: line == lines,
                },
            };
            let now = SystemTime::UNIX_EPOCH;
            let from = response
                .frame(&mut self.reply, start, part, settings, now)
                .unwrap();
            self.reply.drain(start..from); // a host sends from there
        }
        self.response = Some(response);
    }

    fn reply(&mut self) -> &mut Vec<u8> {
        &mut self.reply
    }

    fn close(&mut self) {
        assert!(!self.closed, "closed once");
        self.closed = true;
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl Recorder {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.reply).into_owned()
    }

    /// What was said over the WebSocket, with the pongs apart.
    pub fn frames(&self) -> (Vec<String>, Vec<String>) {
        let mut bytes = self.reply[self.upgraded_at.unwrap_or(self.reply.len())..].to_vec();
        let mut decoder = Decoder::of_server(1 << 20);
        let (mut pongs, mut others) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < bytes.len() {
            let (used, incoming) = decoder.next(&mut bytes[at..]).unwrap();
            at += used;
            match incoming.expect("whole frames") {
                Incoming::Pong(payload) => {
                    pongs.push(String::from_utf8_lossy(payload).into_owned())
                }
                other => others.push(format!("{other:?}")),
            }
        }
        (pongs, others)
    }
}

pub fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        request_bytes_max: REQUEST_BYTES_MAX,
        ..Settings::default()
    })
}

/// Feeds a connection piece by piece; a stopped one is resumed at once.
pub fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, stop: bool) -> (Connection, Recorder) {
    let mut connection = Connection::new(settings());
    let mut host = Recorder {
        stop,
        ..Recorder::default()
    };
    for piece in pieces {
        // A copy of exactly the piece's size: reading beyond it would be noticed.
        let mut progress = connection.on_bytes(&mut piece.to_vec(), &mut host);
        while matches!(progress, Progress::Stopped | Progress::Answered) {
            progress = match host.response.take() {
                Some(response) => {
                    assert_eq!(connection.phase(), Phase::Response);
                    connection.on_response_end(response.ended().unwrap(), &mut host)
                }
                None => connection.resume(&mut host),
            };
        }
        assert_eq!(progress == Progress::Closed, host.closed);
    }
    (connection, host)
}

/// Everything that must not depend on how the stream is cut. Pongs may: only the last ping of a read is answered.
pub fn outcome(
    (connection, host): &(Connection, Recorder),
) -> (Vec<String>, String, Vec<String>, Option<String>, Phase) {
    let http = String::from_utf8_lossy(&host.reply[..host.upgraded_at.unwrap_or(host.reply.len())])
        .into_owned();
    let (pongs, frames) = host.frames();
    (
        host.events.clone(),
        http,
        frames,
        pongs.last().cloned(),
        connection.phase(),
    )
}

pub fn upgrade_with(headers: &[(&str, &str)]) -> Vec<u8> {
    let fixed = "GET /lightstreamer HTTP/1.1\r\n".to_owned()
        + &[
            ("Host", "h"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", SUBPROTOCOL),
        ]
        .into_iter()
        .filter(|(name, _)| !headers.iter().any(|(other, _)| other == name))
        .chain(headers.iter().copied())
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect::<String>()
        + "\r\n";
    fixed.into_bytes()
}

pub fn upgrade() -> Vec<u8> {
    upgrade_with(&[])
}

pub fn text(message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_text(&mut out, message, MASK);
    out
}

pub fn frame(is_final: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, is_final, opcode, payload, MASK);
    out
}

pub fn ping(payload: &[u8]) -> Vec<u8> {
    frame(true, OpCode::Control(Control::Ping), payload)
}

pub fn close() -> Vec<u8> {
    let mut out = Vec::new();
    write_close(&mut out, CloseCode::Normal, MASK);
    out
}
