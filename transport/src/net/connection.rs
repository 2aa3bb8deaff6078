//! One client connection as a state machine over bytes: HTTP requests, TLCP among them, one of which may turn it into a
//! WebSocket.
//!
//! A connection owns no socket and no buffer. It is shown the bytes that arrived, in the reactor's own memory, and
//! tells its [`Host`] what they mean; what it has to answer by itself (pages, refusals, pongs, closing) it appends to
//! the host's buffer. Memory of its own it needs only while something is cut in the middle, or held back.
//!
//! # Holding back
//!
//! The host may stop the flow after a message, because the connection is about to move to the shard that owns its
//! session; and a TLCP request over HTTP always stops it until its response is complete
//! ([`Connection::on_response_end`]). What was not used then stays in the connection, which is `Send` and
//! takes it along, and [`Connection::resume`] goes on. The host should pause reading meanwhile; what arrives all the
//! same is kept up to [`UNREAD_BYTES_MAX`], beyond which the connection is closed.
//!
//! # Time
//!
//! There is none here. That a request, a WebSocket without a session or the peer's part of a close takes too long is
//! for the host to judge; [`Connection::phase`] tells it what is being waited for.

mod calls;
mod frames;
mod fuzz;
mod requests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use engine::metadata::client::Headers;
use engine::shard::HttpRequest;
use engine::tlcp::Version;

use super::response::Terms;
use super::settings::ProxyProtocol;
pub use super::settings::Settings;
use crate::wire::client::{self, Preface};
use crate::wire::http::HeadCollector;
use crate::wire::ws::{self, CloseCode, Decoder, Upgrade};
use calls::Call;
use frames::{Ping, read_frame};
pub use fuzz::{fuzz_entry, fuzz_entry_proxies};
use requests::Answer;

/// Most bytes kept for a connection that is held back. A pause takes effect after what is already in hand: one read of
/// 64 KiB and a share of the ring's receive buffers. A guess with room to spare.
pub const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// After so many bytes of answers the connection wants them sent before it reads on, so that a client which pipelines
/// requests for pages and reads none of them cannot make the server hold more than this and one page.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Longest body, or message of a WebSocket, that is read to its end in order to refuse it by its request's id; a longer one
/// ends the connection.
/// Nothing above the request limit is kept. A guess: what a client may send by mistake.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A TLCP request that came over HTTP. Texts are lent for the call.
#[derive(Clone, Debug)]
pub struct TlcpRequest<'a> {
    /// `LS_protocol`: one that is spoken here.
    pub version: Version,
    /// What is asked for.
    pub http: HttpRequest<'a>,
    /// Who sent it.
    pub caller: Caller,
    /// The form of its response.
    pub terms: Terms,
}

/// What a request's head says of who sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The client, according to a proxy that is believed.
    pub forwarded_for: Option<IpAddr>,
    /// It is one of Apple's network stack, to whose clients HTTP bodies must be ASCII.
    pub ascii: bool,
    /// It has followed the control link.
    pub by_control_link: bool,
    /// The headers, if the request may open a session and a metadata adapter may want them.
    pub headers: Headers,
}

/// What a connection needs from the shard that it lives in.
pub trait Host {
    /// The address at the other end: a proxy's until [`Host::proxied`].
    fn peer(&self) -> IpAddr;

    /// The proxy at the other end has said by a PROXY header who its client is.
    fn proxied(&mut self, client: SocketAddr);

    /// The connection is a WebSocket now. The answer to the upgrade is in [`Host::reply`]: it must go out before
    /// anything that the host sends on this connection from here on.
    fn upgraded(&mut self, upgrade: &Upgrade<'_>, caller: Caller, settings: &Settings);

    /// A text message has arrived. The text is lent for the call.
    fn message(&mut self, text: &str) -> Flow;

    /// The beginning of a text message above the request limit has arrived; the rest was dropped.
    fn cut_message(&mut self, beginning: &str);

    /// A TLCP request has arrived over HTTP. The host owes a response, and calls [`Connection::on_response_end`] once it
    /// has been sent; until then the connection is held back.
    fn request(&mut self, request: TlcpRequest<'_>, settings: &Settings);

    /// Where the connection appends what it has to say. Sent by the host after the call, in the order of appending.
    fn reply(&mut self) -> &mut Vec<u8>;

    /// Nothing more will be read or said: the socket is to be closed once the reply is sent.
    fn close(&mut self);

    /// For the `Date` header.
    fn now(&self) -> SystemTime;
}

/// Whether the connection may go on after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Deliver the next one.
    Continue,
    /// Deliver nothing until [`Connection::resume`].
    Stop,
}

/// How far a connection got with the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All bytes are used; more may come.
    Reading,
    /// The host said [`Flow::Stop`], and continues with [`Connection::resume`]; or it owes a response, and continues with
    /// [`Connection::on_response_end`].
    Stopped,
    /// Much was answered. Send the reply, and when the connection can be sent to again, [`Connection::resume`].
    Answered,
    /// [`Host::close`] was called; bytes are dropped from now on.
    Closed,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request, or the rest of one.
    Request,
    /// The host's response.
    Response,
    /// Messages.
    WebSocket,
    /// The peer's close frame, after ours.
    Closing,
    /// Nothing: [`Host::close`] was called.
    Closed,
}

/// The protocol state of one client connection.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<Settings>,
    state: State,
    /// Held back: `read <= bytes.len()`, which is at most one read of the socket or [`UNREAD_BYTES_MAX`].
    unread: Unread,
    /// Bytes are only collected until [`Connection::resume`].
    held: bool,
}

#[derive(Debug)]
enum State {
    /// Waiting for a PROXY header; what came of it is at most [`client::PROXY_BYTES_MAX`] and one read.
    Proxy(Vec<u8>),
    /// Waiting for a request's head.
    Head(HeadCollector),
    /// Skipping the rest of a body whose request has its answer waiting. Boxed, because it is rare and short.
    Body { missing: usize, answer: Box<Answer> },
    /// Collecting the body of a TLCP request.
    Call(Box<Call>),
    /// The host owes the response to a TLCP request.
    Response,
    /// Exchanging messages; or, with `closing`, waiting for the peer's close frame and dropping what comes before it.
    WebSocket { decoder: Decoder, closing: bool },
    /// Over.
    Closed,
}

#[derive(Debug, Default)]
struct Unread {
    bytes: Vec<u8>,
    read: usize,
}

/// What one step of reading led to.
enum Step {
    Continue,
    Hold(Progress),
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(settings: Arc<Settings>) -> Self {
        let state = match settings.proxy_protocol {
            ProxyProtocol::Off => State::Head(HeadCollector::default()),
            ProxyProtocol::V1 | ProxyProtocol::V2 | ProxyProtocol::Any => State::Proxy(Vec::new()),
        };
        Self {
            settings,
            state,
            unread: Unread::default(),
            held: false,
        }
    }

    /// Takes bytes that arrived. They may be changed in place.
    pub fn on_bytes(&mut self, bytes: &mut [u8], host: &mut impl Host) -> Progress {
        if matches!(self.state, State::Closed) {
            return Progress::Closed;
        }
        if self.held {
            return self.keep(bytes, host);
        }
        let (used, progress) = self.read(bytes, host);
        if self.held && used < bytes.len() {
            self.unread.bytes.extend_from_slice(&bytes[used..]);
        }
        progress
    }

    /// Goes on with what was held back.
    pub fn resume(&mut self, host: &mut impl Host) -> Progress {
        if matches!(self.state, State::Closed) {
            return Progress::Closed;
        }
        self.held = false;
        let mut unread = std::mem::take(&mut self.unread);
        let (used, progress) = self.read(&mut unread.bytes[unread.read..], host);
        unread.read += used;
        if self.held && unread.read < unread.bytes.len() {
            self.unread = unread;
        }
        progress
    }

    /// Ends the connection from our side: a WebSocket with a close frame, after which [`Host::close`] follows when the
    /// peer has answered it; anything else at once. What the peer still says is dropped.
    pub fn close(&mut self, code: CloseCode, host: &mut impl Host) -> Progress {
        match &mut self.state {
            State::WebSocket { closing, .. } => {
                if !*closing {
                    *closing = true;
                    ws::write_close(host.reply(), Some(code));
                }
                // The peer's close frame may be among what was held back.
                self.resume(host)
            }
            // A response in the making is left without its end, which tells the client that it broke.
            State::Proxy(_)
            | State::Head(_)
            | State::Body { .. }
            | State::Call(_)
            | State::Response => self.finish(host),
            State::Closed => Progress::Closed,
        }
    }

    /// The response to a TLCP request is complete and sent: goes on with the next request, or ends the connection if it
    /// is not to be used again.
    pub fn on_response_end(&mut self, keep_alive: bool, host: &mut impl Host) -> Progress {
        match self.state {
            State::Closed => Progress::Closed,
            _ if !keep_alive => self.finish(host),
            State::Response => {
                self.state = State::Head(HeadCollector::default());
                self.resume(host)
            }
            _ => self.resume(host),
        }
    }

    /// What all connections of its listener have in common.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is being waited for.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Proxy(_) | State::Head(_) | State::Body { .. } | State::Call(_) => {
                Phase::Request
            }
            State::Response => Phase::Response,
            State::WebSocket { closing: false, .. } => Phase::WebSocket,
            State::WebSocket { closing: true, .. } => Phase::Closing,
            State::Closed => Phase::Closed,
        }
    }

    /// Bytes of memory held outside this value: none while nothing is incomplete or held back.
    pub fn heap_bytes(&self) -> usize {
        let state = match &self.state {
            State::Proxy(partial) => partial.capacity(),
            State::Head(collector) => collector.heap_bytes(),
            State::Body { .. } => size_of::<Answer>(),
            State::Call(call) => size_of::<Call>() + call.query.len() + call.body.capacity(),
            State::WebSocket { decoder, .. } => decoder.heap_bytes(),
            State::Response | State::Closed => 0,
        };
        state + self.unread.bytes.capacity()
    }

    fn keep(&mut self, bytes: &[u8], host: &mut impl Host) -> Progress {
        let unread = &mut self.unread;
        if unread.bytes.len() - unread.read + bytes.len() > UNREAD_BYTES_MAX {
            if matches!(self.state, State::WebSocket { closing: false, .. }) {
                ws::write_close(host.reply(), Some(CloseCode::Policy));
            }
            return self.finish(host);
        }
        unread.bytes.drain(..unread.read);
        unread.read = 0;
        unread.bytes.extend_from_slice(bytes);
        Progress::Stopped
    }

    /// Works through bytes until they are used up or the flow stops. Returns the number used.
    fn read(&mut self, bytes: &mut [u8], host: &mut impl Host) -> (usize, Progress) {
        let mut used = 0;
        let mut answered_bytes = 0;
        let mut ping = Ping::default();
        let progress = loop {
            if matches!(self.state, State::Response) {
                break Progress::Stopped;
            }
            if used == bytes.len() {
                break Progress::Reading;
            }
            let before = host.reply().len();
            let rest = &mut bytes[used..];
            let (taken, step) = match &mut self.state {
                State::Proxy(partial) => {
                    let partial = std::mem::take(partial);
                    self.read_proxy_header(partial, rest, host)
                }
                State::Head(collector) => {
                    let collector = std::mem::take(collector);
                    self.read_head(collector, rest, host)
                }
                State::Body { missing, .. } => {
                    let taken = rest.len().min(*missing);
                    *missing -= taken;
                    (taken, self.answer_if_complete(host))
                }
                State::Call(call) => {
                    let taken = call.take(rest);
                    (taken, self.call_if_complete(host))
                }
                State::WebSocket { decoder, closing } => {
                    match read_frame(decoder, *closing, rest, host, &mut ping) {
                        (taken, Some(Flow::Continue)) => (taken, Step::Continue),
                        (taken, Some(Flow::Stop)) => (taken, Step::Hold(Progress::Stopped)),
                        (taken, None) => (taken, Step::Hold(self.finish(host))),
                    }
                }
                State::Response => break Progress::Stopped,
                State::Closed => break Progress::Closed,
            };
            used += taken;
            if let Step::Hold(progress) = step {
                break progress;
            }
            answered_bytes += host.reply().len().saturating_sub(before);
            if answered_bytes >= ANSWER_BYTES_MAX && used < bytes.len() {
                break Progress::Answered;
            }
        };
        if progress != Progress::Closed {
            ping.answer(host);
        }
        self.held = matches!(progress, Progress::Stopped | Progress::Answered);
        (used, progress)
    }

    /// `partial` was taken out of the state.
    fn read_proxy_header(
        &mut self,
        mut partial: Vec<u8>,
        bytes: &[u8],
        host: &mut impl Host,
    ) -> (usize, Step) {
        if !self.settings.trusts(host.peer()) {
            return (bytes.len(), Step::Hold(self.finish(host)));
        }
        let accepted = self.settings.proxy_protocol;
        let (v1, v2) = (accepted != ProxyProtocol::V2, accepted != ProxyProtocol::V1);
        let before = partial.len();
        partial.extend_from_slice(bytes);
        match client::read_proxy_header(&partial, v1, v2) {
            Preface::Incomplete => {
                self.state = State::Proxy(partial);
                (bytes.len(), Step::Continue)
            }
            Preface::Complete(header_bytes, client) => {
                if let Some(client) = client {
                    host.proxied(client);
                }
                self.state = State::Head(HeadCollector::default());
                // What came before was incomplete, so the header ends in these bytes.
                (header_bytes - before, Step::Continue)
            }
            // Nothing is answered: nobody who speaks HTTP is meant to connect here.
            Preface::Broken => (bytes.len(), Step::Hold(self.finish(host))),
        }
    }

    fn end_of_request(&mut self, keep_alive: bool, host: &mut impl Host) -> Step {
        if !keep_alive {
            return Step::Hold(self.finish(host));
        }
        self.state = State::Head(HeadCollector::default());
        Step::Continue
    }

    fn finish(&mut self, host: &mut impl Host) -> Progress {
        self.state = State::Closed;
        self.unread = Unread::default();
        host.close();
        Progress::Closed
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Connection>();
    // Every idle connection costs this much: look twice before it grows.
    assert!(size_of::<Connection>() <= 128);
};
