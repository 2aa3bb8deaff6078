//! One session: from the opening of its connection to its updates, over WebSocket, HTTP streaming or long polling, and
//! again after its connection broke. Bytes in, bytes out; no sockets in here.

mod books;
mod lines;
mod requests;

use std::time::Duration;

use brightwire::wire::ws::{Decoder, Incoming};
use brightwire::wire::ws_client::{self, Handshake};
use engine::tlcp::client::{write_line, write_message};
use engine::tlcp::request::{Bind, Request};

pub use books::{Books, Mark, Setup};
pub use requests::{destroy, item_of};

use crate::http::{self, Piece, ResponseReader};
use crate::scenario::Transport;
use requests::{create, stream_options, subscribe};

const PATH: &str = "/lightstreamer";
const PROTOCOL: &str = "TLCP-2.5.0";
const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";
/// Longest message, or line over HTTP, that is taken: far more than a server has reason to send in one.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What is to be done for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing to do.
    Same,
    /// The next poll is due after so long.
    Poll(Duration),
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// In words that many sessions may share.
    Failed(String),
    /// The server does not have it any more: its client opens another one.
    Forgotten,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a new session.
    New,
    /// With the session that was there, from where it was.
    Recover,
    /// With the session that was there, which waits for its next poll.
    Bind,
}

/// One session.
pub struct Session {
    /// Its number in the run.
    pub number: u32,
    /// Its group, and its number there.
    pub group: usize,
    /// See `group`.
    pub member: u32,
    /// Where its marks begin.
    pub offset: usize,
    /// What it has to say.
    pub reply: Vec<u8>,
    /// The socket takes nothing at present.
    pub blocked: bool,
    /// It does not read, by intention.
    pub stalled: bool,
    stage: Stage,
    wire: Wire,
    /// Its name at the server.
    id: Option<Box<str>>,
    /// Lines that count for recovery.
    data_lines: u64,
    /// Of those that come next, what is known already.
    repeated: u64,
    /// The server has asked for the next bind.
    looped: Option<u64>,
    /// Its connection is not the first that it had.
    continued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is asked yet, or all is over.
    Idle,
    /// The session is asked for.
    Creating,
    /// The subscription is asked for.
    Subscribing,
    /// Updates are due.
    Live,
    /// It was live, and is to be again.
    Recovering,
}

enum Wire {
    None,
    /// The upgrade is asked for. Boxed with the part of the answer that has come: few sessions are here at a time.
    Upgrading(Box<(Handshake, Vec<u8>)>, Opening),
    WebSocket(Decoder),
    Http(Box<HttpWire>),
}

#[derive(Default)]
struct HttpWire {
    reader: ResponseReader,
    /// The beginning of a line.
    partial: Vec<u8>,
}

impl Session {
    /// A session that is not connected.
    pub fn new(number: u32, group: usize, member: u32, offset: usize) -> Self {
        Self {
            number,
            group,
            member,
            offset,
            reply: Vec::new(),
            blocked: false,
            stalled: false,
            stage: Stage::Idle,
            wire: Wire::None,
            id: None,
            data_lines: 0,
            repeated: 0,
            looped: None,
            continued: false,
        }
    }

    /// A new connection is there, or will be soon: asks for what makes it useful.
    pub fn open(&mut self, opening: Opening, setup: &Setup, books: &mut Books) {
        let group = &setup.scenario.groups[self.group];
        self.reply.clear();
        self.blocked = false;
        self.looped = None;
        self.continued = opening != Opening::New;
        if opening == Opening::New {
            self.id = None;
            self.data_lines = 0;
            self.repeated = 0;
            self.stage = Stage::Creating;
            let marks = self.offset..self.offset + group.items_per_session;
            books.marks[marks.clone()].fill(Mark {
                seen: !group.snapshot,
                ..Mark::default()
            });
            if let Some(verifier) = &mut books.verifier {
                verifier.reset(marks, group.fields.len());
            }
        } else {
            self.stage = Stage::Recovering;
        }
        if group.transport == Transport::Websocket {
            let host = &setup.scenario.server;
            let handshake = Handshake::request(&mut self.reply, host, PATH, SUBPROTOCOL, &[]);
            self.wire = Wire::Upgrading(Box::new((handshake, Vec::new())), opening);
        } else {
            self.wire = Wire::Http(Box::default());
            self.ask(opening, setup, books);
        }
    }

    /// Whether the subscription is active.
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Whether it is the session that it was before its connection broke.
    pub fn is_continued(&self) -> bool {
        self.continued
    }

    /// Whether there is a session that could be recovered, or must be ended.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The connection is gone: how the next one should begin.
    pub fn closed(&mut self) -> Opening {
        self.wire = Wire::None;
        self.reply = Vec::new();
        let waits = self.looped.is_some();
        let was_live = matches!(self.stage, Stage::Live | Stage::Recovering) && self.id.is_some();
        self.stage = Stage::Idle;
        match (was_live, waits) {
            (false, _) => Opening::New,
            (true, true) => Opening::Bind,
            (true, false) => Opening::Recover,
        }
    }

    /// Whether the server had the right to close the connection: it has said that it waits for the next bind.
    pub fn is_between_polls(&self) -> bool {
        self.is_live() && self.looped.is_some()
    }

    /// Asks for the next poll, or for the next part of a stream.
    pub fn poll(&mut self, setup: &Setup, books: &mut Books) {
        if self.looped.take().is_some() {
            self.ask(Opening::Bind, setup, books);
        }
    }

    /// Takes what arrived.
    pub fn on_bytes(
        &mut self,
        bytes: &mut [u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, Trouble> {
        match &mut self.wire {
            Wire::None => Ok(Progress::Same),
            Wire::Upgrading(upgrade, opening) => {
                let (handshake, answer) = &mut **upgrade;
                answer.extend_from_slice(bytes);
                let judged = handshake
                    .answer(answer)
                    .map_err(|error| Trouble::Failed(error.to_string()))?;
                let Some(head_bytes) = judged else {
                    return Ok(Progress::Same);
                };
                let mut frames = answer.split_off(head_bytes);
                let opening = *opening;
                self.wire = Wire::WebSocket(Decoder::of_server(MESSAGE_BYTES_MAX));
                self.write(books, "", &Request::Wsok);
                self.ask(opening, setup, books);
                self.on_frames(&mut frames, setup, books)
            }
            Wire::WebSocket(_) => self.on_frames(bytes, setup, books),
            Wire::Http(_) => self.on_response(bytes, setup, books),
        }
    }

    /// Asks for the end of the session, where its connection can carry that.
    pub fn destroy(&mut self, books: &mut Books) {
        if self.id.is_some() && matches!(self.wire, Wire::WebSocket(_)) {
            self.write(books, "", &destroy(None));
        }
    }

    fn ask(&mut self, opening: Opening, setup: &Setup, books: &mut Books) {
        let group = &setup.scenario.groups[self.group];
        let host = &setup.scenario.server;
        let stream = stream_options(group);
        if opening == Opening::New {
            let create = create(&setup.scenario, group, stream);
            if group.transport == Transport::Websocket {
                return self.write(books, host, &create);
            }
            // Over HTTP the subscription comes along: there is only one connection, and it will be busy.
            let mut body = Vec::new();
            write_line(&mut body, &create);
            body.extend_from_slice(b"\r\n");
            write_line(&mut body, &subscribe("", group, self.member));
            http::write_request(&mut self.reply, host, "create_session", PROTOCOL, &body);
            self.stage = Stage::Subscribing;
            return;
        }
        let bind = Request::Bind(Bind {
            session: self.id.as_deref().map(|id| id.to_owned().into()),
            recovery_from: (opening == Opening::Recover).then_some(self.data_lines),
            stream,
        });
        self.write(books, host, &bind);
    }

    fn write(&mut self, books: &mut Books, host: &str, request: &Request<'_>) {
        let mut text = Vec::new();
        if let Wire::Http(_) = self.wire {
            write_line(&mut text, request);
            let verb = request.verb().name();
            return http::write_request(&mut self.reply, host, verb, PROTOCOL, &text);
        }
        write_message(&mut text, request);
        let text = str::from_utf8(&text).expect("requests are made of strings");
        ws_client::write_text(&mut self.reply, text, books.mask());
    }

    fn on_frames(
        &mut self,
        mut bytes: &mut [u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, Trouble> {
        // Taken out while it lends a message, put back unless the session is over.
        let Wire::WebSocket(mut decoder) = std::mem::replace(&mut self.wire, Wire::None) else {
            unreachable!("only a WebSocket has frames");
        };
        // Frames are written as those of a WebSocket meanwhile.
        while !bytes.is_empty() {
            let (used, incoming) = decoder
                .next(bytes)
                .map_err(|violation| failed(format!("WebSocket: {}", violation.reason)))?;
            match incoming {
                None => {}
                Some(Incoming::Text(text)) => {
                    books.interval.messages += 1;
                    if !text.ends_with("\r\n") {
                        return Err(failed("a message does not end with CR LF"));
                    }
                    self.on_lines(text, setup, books)?;
                    if self.looped.is_some() {
                        self.poll(setup, books);
                    }
                }
                Some(Incoming::Ping(payload)) => {
                    ws_client::write_pong(&mut self.reply, payload, books.mask());
                }
                Some(Incoming::Pong(_)) => {}
                // The decoder does not read beginnings only, but that is decided elsewhere.
                Some(Incoming::Cut(_)) => return Err(failed("a message above the limit")),
                Some(Incoming::Close(code)) => {
                    return Err(failed(match code {
                        Some(code) => format!("closed by the server with {}", u16::from(code)),
                        None => "closed by the server".into(),
                    }));
                }
            }
            bytes = &mut bytes[used..];
        }
        decoder.free_lent();
        self.wire = Wire::WebSocket(decoder);
        Ok(Progress::Same)
    }

    fn on_response(
        &mut self,
        bytes: &[u8],
        setup: &Setup,
        books: &mut Books,
    ) -> Result<Progress, Trouble> {
        let mut progress = Progress::Same;
        let mut rest = bytes;
        // Taken out while it lends bytes, put back unless the session is over.
        let Wire::Http(mut wire) = std::mem::replace(&mut self.wire, Wire::None) else {
            unreachable!("only HTTP has responses");
        };
        loop {
            let (used, piece) = wire.reader.next(rest).map_err(Trouble::Failed)?;
            rest = &rest[used..];
            match piece {
                Piece::Body(body) => {
                    books.interval.messages += 1;
                    self.on_body(body, &mut wire.partial, setup, books)?;
                }
                Piece::End => {
                    if !wire.partial.is_empty() {
                        return Err(failed("a response does not end with CR LF"));
                    }
                    let Some(millis) = self.looped else {
                        return Err(failed("a response has ended without LOOP"));
                    };
                    progress = Progress::Poll(Duration::from_millis(millis));
                }
                Piece::More if used == 0 && rest.is_empty() => break,
                Piece::More => {}
            }
            if rest.is_empty() && wire.reader.is_idle() {
                break;
            }
        }
        if wire.partial.is_empty() {
            wire.partial = Vec::new(); // a session between lines owns no buffer
        }
        self.wire = Wire::Http(wire);
        Ok(progress)
    }

    /// A part of a body: whole lines are read, the rest is kept.
    fn on_body(
        &mut self,
        body: &[u8],
        partial: &mut Vec<u8>,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<(), Trouble> {
        let end = memchr::memrchr(b'\n', body).map_or(0, |at| at + 1);
        let (whole, begun) = body.split_at(end);
        if !whole.is_empty() && partial.is_empty() {
            self.on_lines(text(whole)?, setup, books)?;
        } else if !whole.is_empty() {
            partial.extend_from_slice(whole);
            let lines = std::mem::take(partial);
            self.on_lines(text(&lines)?, setup, books)?;
        }
        partial.extend_from_slice(begun);
        if partial.len() > MESSAGE_BYTES_MAX {
            return Err(failed("a line does not end"));
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, Trouble> {
    str::from_utf8(bytes).map_err(|_| failed("a line is not UTF-8"))
}

fn failed(reason: impl Into<String>) -> Trouble {
    Trouble::Failed(reason.into())
}

#[cfg(test)]
mod tests;
