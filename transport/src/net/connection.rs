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

use std::sync::Arc;
use std::time::SystemTime;

use engine::shard::HttpRequest;
use engine::tlcp::Version;
use engine::tlcp::request::Verb;
use httparse::EMPTY_HEADER;

use super::response::{self, Terms};
use crate::wire::http::{self, Context, HEADERS_MAX, HeadCollector, Request, Status};
use crate::wire::origin::{self, Cors, Origins, TLCP_METHODS};
use crate::wire::pages;
use crate::wire::tlcp::{self, Verdict};
use crate::wire::ws::{self, CONTROL_BYTES_MAX, CloseCode, Decoder, Incoming, Upgrade};

/// Most bytes kept for a connection that is held back. A pause takes effect after what is already in hand: one read of
/// 64 KiB and a share of the ring's receive buffers. A guess with room to spare.
pub const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// After so many bytes of answers the connection wants them sent before it reads on, so that a client which pipelines
/// requests for pages and reads none of them cannot make the server hold more than this and one page.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Longest body that is read to its end in order to refuse it by its request's id; a longer one ends the connection.
/// Nothing above the request limit is kept. A guess: what a client may send by mistake.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What all connections of a listener have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limit of an HTTP head, an HTTP body and a WebSocket message, each on its own: the limit that TLCP announces in
    /// `CONOK`.
    pub request_bytes_max: usize,
    /// Which pages may connect, and what their browsers are told.
    pub origins: Origins,
    /// Headers of every response, besides our own: names and values, checked.
    pub added_headers: Vec<(String, String)>,
    /// The `Server` header; empty leaves it out.
    pub server_name: String,
    /// Serve the embedded page.
    pub pages: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_bytes_max: 50_000, // the reference product's default
            origins: Origins::default(),
            added_headers: Vec::new(),
            server_name: "Brightwire".into(),
            pages: true,
        }
    }
}

impl Settings {
    /// What a response is written with.
    pub fn context<'a>(&'a self, terms: &'a Terms, now: SystemTime) -> Context<'a> {
        Context {
            http_1_0: terms.http_1_0,
            keep_alive: terms.keep_alive,
            head_only: terms.head_only,
            cors: terms.origin.as_deref().map(|origin| Cors {
                origin,
                credentials: self.origins.credentials,
            }),
            added: &self.added_headers,
            ..Context::new(&self.server_name, now)
        }
    }
}

/// A TLCP request that came over HTTP. Texts are lent for the call.
#[derive(Clone, Debug)]
pub struct TlcpRequest<'a> {
    /// `LS_protocol`: one that is spoken here.
    pub version: Version,
    /// What is asked for.
    pub http: HttpRequest<'a>,
    /// The form of its response.
    pub terms: Terms,
}

/// What a connection needs from the shard that it lives in.
pub trait Host {
    /// The connection is a WebSocket now. The answer to the upgrade is in [`Host::reply`]: it must go out before
    /// anything that the host sends on this connection from here on.
    fn upgraded(&mut self, upgrade: &Upgrade<'_>);

    /// A text message has arrived. The text is lent for the call.
    fn message(&mut self, text: &str) -> Flow;

    /// A TLCP request has arrived over HTTP. The host owes a response, and calls [`Connection::on_response_end`] once it
    /// has been sent; until then the connection is held back.
    fn request(&mut self, request: TlcpRequest<'_>);

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

/// What a request will be answered once its body is there.
#[derive(Debug)]
struct Answer {
    status: Status,
    reason: &'static str,
    /// `Allow` header.
    allow: Option<&'static str>,
    terms: Terms,
}

/// A TLCP request whose body is not there yet.
#[derive(Debug)]
struct Call {
    verb: Verb,
    query: Box<str>,
    terms: Terms,
    /// The page behind the request may not talk to us.
    forbidden: bool,
    /// `body.len() + missing <=` the request limit.
    body: Vec<u8>,
    missing: usize,
    /// How much of the body is above the request limit, and still to come: it is dropped.
    excess: usize,
    /// There was such an excess.
    cut: bool,
}

#[derive(Debug, Default)]
struct Unread {
    bytes: Vec<u8>,
    read: usize,
}

/// The payload of the last ping of one read, to be answered at its end.
#[derive(Default)]
struct Ping(Option<([u8; CONTROL_BYTES_MAX], usize)>);

/// What one step of reading led to.
enum Step {
    Continue,
    Hold(Progress),
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            state: State::Head(HeadCollector::default()),
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
            State::Head(_) | State::Body { .. } | State::Call(_) | State::Response => {
                self.finish(host)
            }
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

    /// What is being waited for.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Head(_) | State::Body { .. } | State::Call(_) => Phase::Request,
            State::Response => Phase::Response,
            State::WebSocket { closing: false, .. } => Phase::WebSocket,
            State::WebSocket { closing: true, .. } => Phase::Closing,
            State::Closed => Phase::Closed,
        }
    }

    /// Bytes of memory held outside this value: none while nothing is incomplete or held back.
    pub fn heap_bytes(&self) -> usize {
        let state = match &self.state {
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

    /// `collector` was taken out of the state, so that the head may be lent while the state changes.
    fn read_head(
        &mut self,
        mut collector: HeadCollector,
        bytes: &[u8],
        host: &mut impl Host,
    ) -> (usize, Step) {
        match collector.collect(bytes, self.settings.request_bytes_max) {
            Ok((taken, Some(head))) => {
                let (more, step) = self.on_head(head, &bytes[taken..], host);
                (taken + more, step)
            }
            Ok((taken, None)) => {
                self.state = State::Head(collector);
                (taken, Step::Continue)
            }
            Err(status) => (
                bytes.len(),
                self.refuse_and_close(status, "not a request for here", host),
            ),
        }
    }

    /// A request's head is complete: decides what it is, and what it will be answered. `rest` is what has arrived
    /// behind it; returns how much of that was used. The state is a fresh [`State::Head`] when this is called.
    fn on_head(&mut self, head: &[u8], rest: &[u8], host: &mut impl Host) -> (usize, Step) {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let settings = Arc::clone(&self.settings);
        let request_bytes_max = settings.request_bytes_max;
        let body_bytes_max = BODY_BYTES_MAX.max(request_bytes_max);
        let request = match Request::parse(head, &mut headers, body_bytes_max) {
            Ok(request) => request,
            Err(status) => {
                let step = self.refuse_and_close(status, "the request cannot be served", host);
                return (0, step);
            }
        };
        let origin = request.header("origin");
        let allowed = origin.is_none_or(|origin| settings.origins.policy.allows(origin));
        let terms = Terms {
            http_1_0: request.http_1_0,
            keep_alive: request.keep_alive,
            head_only: request.method == "HEAD",
            origin: origin.filter(|_| allowed).map(Into::into),
        };
        let context = settings.context(&terms, host.now());
        if is_websocket_path(&request.path) && request.method == "GET" {
            let step = match Upgrade::read(&request, &settings.origins.policy) {
                Ok(upgrade) => {
                    upgrade.write_answer(host.reply(), &context);
                    let decoder = Decoder::of_clients(request_bytes_max);
                    self.state = State::WebSocket {
                        decoder,
                        closing: false,
                    };
                    host.upgraded(&upgrade);
                    Step::Continue
                }
                Err(refusal) => self.refuse_and_close(refusal.status, refusal.reason, host),
            };
            return (0, step);
        }
        let route = self.route(&request);
        if request.body_bytes > request_bytes_max && !matches!(route, Route::Tlcp(_)) {
            let reason = "the body is above the request limit";
            let step = self.refuse_and_close(Status::CONTENT_TOO_LARGE, reason, host);
            return (0, step);
        }
        let answer = match route {
            Route::Page(page) if request.body_bytes == 0 => {
                pages::write(host.reply(), page, &request, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Preflight if request.body_bytes == 0 => {
                origin::write_preflight(host.reply(), &settings.origins, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Tlcp(verb) => return self.on_call(verb, &request, terms, !allowed, rest, host),
            // A page that is asked for with a body: legal and pointless. Not worth a second way to serve it.
            Route::Page(_) | Route::Preflight => (Status::BAD_REQUEST, "this takes no body", None),
            Route::Refuse(status, reason, allow) => (status, reason, allow),
        };
        if request.expects_continue && request.body_bytes > 0 {
            http::write_continue(host.reply());
        }
        let answer = Answer {
            status: answer.0,
            reason: answer.1,
            allow: answer.2,
            terms,
        };
        self.state = State::Body {
            missing: request.body_bytes,
            answer: Box::new(answer),
        };
        (0, self.answer_if_complete(host))
    }

    /// A TLCP request. Its body usually came along with the head, and is then lent from where it lies.
    fn on_call(
        &mut self,
        verb: Verb,
        request: &Request<'_>,
        terms: Terms,
        forbidden: bool,
        rest: &[u8],
        host: &mut impl Host,
    ) -> (usize, Step) {
        if request.expects_continue && request.body_bytes > 0 {
            http::write_continue(host.reply());
        }
        let query = request.query.unwrap_or_default();
        let kept = request.body_bytes.min(self.settings.request_bytes_max);
        if kept == request.body_bytes && kept <= rest.len() {
            let judged = Judged {
                forbidden,
                cut: false,
            };
            return (
                kept,
                self.call(verb, query, &rest[..kept], terms, judged, host),
            );
        }
        self.state = State::Call(Box::new(Call {
            verb,
            query: query.into(),
            terms,
            forbidden,
            body: Vec::new(),
            missing: kept,
            excess: request.body_bytes - kept,
            cut: kept < request.body_bytes,
        }));
        (0, Step::Continue)
    }

    fn call_if_complete(&mut self, host: &mut impl Host) -> Step {
        match &mut self.state {
            State::Call(call) if call.missing + call.excess == 0 => (),
            _ => return Step::Continue,
        }
        let fresh = State::Head(HeadCollector::default());
        let State::Call(call) = std::mem::replace(&mut self.state, fresh) else {
            return Step::Continue;
        };
        let Call {
            verb,
            query,
            terms,
            forbidden,
            body,
            cut,
            ..
        } = *call;
        self.call(verb, &query, &body, terms, Judged { forbidden, cut }, host)
    }

    /// A TLCP request is complete: hands it to the host, unless its answer is known here.
    fn call(
        &mut self,
        verb: Verb,
        query: &str,
        body: &[u8],
        terms: Terms,
        Judged { forbidden, cut }: Judged,
        host: &mut impl Host,
    ) -> Step {
        let verdict = if forbidden {
            // Status 200 and nothing for the page to read (TLCP, CORS).
            Verdict::Answer(Vec::new())
        } else {
            tlcp::judge(verb, query, body, cut)
        };
        let now = host.now();
        match verdict {
            Verdict::Serve { version, body } => {
                self.state = State::Response;
                host.request(TlcpRequest {
                    version,
                    http: HttpRequest {
                        verb,
                        query,
                        body,
                        identity: terms.identity(),
                    },
                    terms,
                });
                return Step::Hold(Progress::Stopped);
            }
            Verdict::Answer(lines) => {
                response::write(host.reply(), &lines, &terms, &self.settings, now);
            }
            Verdict::Refuse(status, reason) => {
                let context = self.settings.context(&terms, now);
                http::refuse(host.reply(), status, reason, &[], &context);
            }
        }
        self.end_of_request(terms.keep_alive, host)
    }

    fn route(&self, request: &Request<'_>) -> Route {
        let page = if self.settings.pages {
            pages::find(&request.path)
        } else {
            None
        };
        if let Some(verb) = tlcp::verb(&request.path) {
            return match request.method {
                "POST" | "GET" => Route::Tlcp(verb),
                "OPTIONS" => Route::Preflight,
                _ => Route::Refuse(
                    Status::METHOD_NOT_ALLOWED,
                    "not a method for TLCP",
                    Some(TLCP_METHODS),
                ),
            };
        }
        match (request.method, page) {
            ("GET" | "HEAD", Some(page)) => Route::Page(page),
            (_, Some(_)) => Route::Refuse(
                Status::METHOD_NOT_ALLOWED,
                "pages can only be read",
                Some("GET, HEAD"),
            ),
            (_, None) if is_websocket_path(&request.path) => Route::Refuse(
                Status::METHOD_NOT_ALLOWED,
                "this path speaks WebSocket",
                Some("GET"),
            ),
            ("GET" | "HEAD" | "POST" | "OPTIONS", None) => {
                Route::Refuse(Status::NOT_FOUND, "nothing is here", None)
            }
            (_, None) => Route::Refuse(
                Status::METHOD_NOT_ALLOWED,
                "not a method for here",
                Some("GET, HEAD, POST, OPTIONS"),
            ),
        }
    }

    fn answer_if_complete(&mut self, host: &mut impl Host) -> Step {
        let State::Body { missing: 0, answer } = &self.state else {
            return Step::Continue;
        };
        let keep_alive = answer.terms.keep_alive;
        let context = self.settings.context(&answer.terms, host.now());
        let allow = answer.allow.map(|methods| ("Allow", methods));
        http::refuse(
            host.reply(),
            answer.status,
            answer.reason,
            allow.as_slice(),
            &context,
        );
        self.end_of_request(keep_alive, host)
    }

    fn end_of_request(&mut self, keep_alive: bool, host: &mut impl Host) -> Step {
        if !keep_alive {
            return Step::Hold(self.finish(host));
        }
        self.state = State::Head(HeadCollector::default());
        Step::Continue
    }

    /// Refuses a request after which nothing that follows can be trusted to be a request.
    fn refuse_and_close(&mut self, status: Status, reason: &str, host: &mut impl Host) -> Step {
        let terms = Terms::default();
        let context = self.settings.context(&terms, host.now());
        let upgrade = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
        let extra: &[_] = if status == Status::UPGRADE_REQUIRED {
            &upgrade
        } else {
            &[]
        };
        http::refuse(host.reply(), status, reason, extra, &context);
        Step::Hold(self.finish(host))
    }

    fn finish(&mut self, host: &mut impl Host) -> Progress {
        self.state = State::Closed;
        self.unread = Unread::default();
        host.close();
        Progress::Closed
    }
}

/// Reads up to one frame. Returns the number of bytes used, and `None` if this was the end of the WebSocket.
fn read_frame<H: Host>(
    decoder: &mut Decoder,
    closing: bool,
    bytes: &mut [u8],
    host: &mut H,
    ping: &mut Ping,
) -> (usize, Option<Flow>) {
    let close = |code, host: &mut H, ping: &mut Ping| {
        if !closing {
            ping.answer(host);
            ws::write_close(host.reply(), code);
        }
    };
    let bytes_given = bytes.len();
    let (taken, incoming) = match decoder.next(bytes) {
        Ok(step) => step,
        Err(violation) => {
            close(Some(violation.code), host, ping);
            return (bytes_given, None);
        }
    };
    let flow = match incoming {
        Some(Incoming::Close(code)) => {
            close(code, host, ping);
            None
        }
        Some(Incoming::Text(text)) if !closing => Some(host.message(text)),
        Some(Incoming::Ping(payload)) if !closing => {
            ping.set(payload);
            Some(Flow::Continue)
        }
        // A pong answers nothing that was asked here; and what comes after our close frame is of no interest.
        Some(Incoming::Text(_) | Incoming::Ping(_) | Incoming::Pong(_)) | None => {
            Some(Flow::Continue)
        }
    };
    decoder.free_lent();
    (taken, flow)
}

impl Call {
    /// Takes what belongs to the body.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let kept = bytes.len().min(self.missing);
        self.body.extend_from_slice(&bytes[..kept]);
        self.missing -= kept;
        let dropped = (bytes.len() - kept).min(self.excess);
        self.excess -= dropped;
        kept + dropped
    }
}

/// What is known of a TLCP request before it is read.
struct Judged {
    /// See [`Call::forbidden`].
    forbidden: bool,
    /// See [`Call::cut`].
    cut: bool,
}

enum Route {
    Page(&'static pages::Page),
    Tlcp(Verb),
    /// `OPTIONS` of a TLCP path.
    Preflight,
    /// Status, reason, `Allow` header.
    Refuse(Status, &'static str, Option<&'static str>),
}

fn is_websocket_path(path: &str) -> bool {
    matches!(path, "/lightstreamer" | "/lightstreamer/")
}

impl Ping {
    fn set(&mut self, payload: &[u8]) {
        let (room, len) = self.0.get_or_insert(([0; CONTROL_BYTES_MAX], 0));
        room[..payload.len()].copy_from_slice(payload);
        *len = payload.len();
    }

    fn answer(&mut self, host: &mut impl Host) {
        if let Some((room, len)) = self.0.take() {
            ws::write_pong(host.reply(), &room[..len]);
        }
    }
}

/// Body of a fuzz target: everything a peer can send, once in one piece and once cut in two. Pongs are left out of the
/// comparison, since only the last ping of a read is answered.
pub fn fuzz_entry(data: &[u8]) {
    let (&cut, stream) = data.split_first().unwrap_or((&0, &[]));
    let cut = usize::from(cut).min(stream.len());
    assert_eq!(
        fuzz_run(&[stream]),
        fuzz_run(&[&stream[..cut], &stream[cut..]]),
        "the position of a cut must not matter"
    );
}

fn fuzz_run(pieces: &[&[u8]]) -> Vec<String> {
    #[derive(Default)]
    struct Recorder {
        seen: Vec<String>,
        reply: Vec<u8>,
        upgraded: bool,
    }
    impl Host for Recorder {
        fn upgraded(&mut self, upgrade: &Upgrade<'_>) {
            self.seen.push(format!("{upgrade:?}"));
            self.upgraded = true;
        }
        fn message(&mut self, text: &str) -> Flow {
            self.seen.push(text.to_owned());
            if text.len().is_multiple_of(2) {
                Flow::Continue
            } else {
                Flow::Stop
            }
        }
        fn request(&mut self, request: TlcpRequest<'_>) {
            self.seen.push(format!("{request:?}"));
        }
        fn reply(&mut self) -> &mut Vec<u8> {
            &mut self.reply
        }
        fn close(&mut self) {
            self.seen.push("closed".into());
        }
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
    }
    let settings = Settings {
        request_bytes_max: 400,
        ..Settings::default()
    };
    let mut connection = Connection::new(Arc::new(settings));
    let mut host = Recorder::default();
    let mut http = Vec::new();
    for piece in pieces {
        let mut progress = connection.on_bytes(&mut piece.to_vec(), &mut host);
        loop {
            // Answers of HTTP come before the upgrade, pongs and the close frame after it.
            if !host.upgraded {
                http.append(&mut host.reply);
            }
            match progress {
                Progress::Stopped if connection.phase() == Phase::Response => {
                    progress = connection.on_response_end(true, &mut host);
                }
                Progress::Stopped | Progress::Answered => progress = connection.resume(&mut host),
                Progress::Reading | Progress::Closed => break,
            }
        }
    }
    if !host.upgraded {
        host.seen.push(String::from_utf8_lossy(&http).into_owned());
    }
    host.seen
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Connection>();
    // Every idle connection costs this much: look twice before it grows.
    assert!(size_of::<Connection>() <= 128);
};
