//! What a shard and its driver tell each other: connections and requests go in, lines and wishes come out.

use super::life::UserSession;
use super::moves::Address;
use crate::ids::{ConnId, ShardId};
use crate::ingest::demand::Demand;
use crate::metadata::Ask;
use crate::metadata::client::{Certificate, Headers};
use crate::tlcp::Version;
use crate::tlcp::request::Verb;
use std::sync::Arc;

/// What the transport knows of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, as `CLIENTIP` shall tell it.
    pub ip: Box<str>,
    /// Its port; 0 if only the address is known.
    pub port: u16,
    /// The name of the listener that it has come to.
    pub listener: Option<Arc<str>>,
    /// The headers of its request, or of the one that became its WebSocket, if a metadata adapter may want them.
    pub headers: Headers,
    /// What its TLS certificate says.
    pub certificate: Certificate,
    /// The version that the client offered.
    pub version: Version,
    /// What `SERVNAME` tells on this connection, if not [`Config::server_name`](super::Config::server_name).
    pub server_name: Option<Arc<str>>,
    /// Sessions may be created on this connection.
    pub may_create: bool,
    /// The client has come by [`Config::control_link`](super::Config::control_link).
    pub by_control_link: bool,
    /// Over HTTP: what is written must be ASCII, so all else is percent-encoded. Apple's clients decode each piece of
    /// a response for itself, and fail where a character straddles two (TLCP, HTTP responses).
    pub ascii: bool,
}

impl Peer {
    /// A client of which nothing else is known.
    pub fn new(ip: impl Into<Box<str>>, version: Version) -> Self {
        Self {
            ip: ip.into(),
            port: 0,
            listener: None,
            headers: Headers::default(),
            certificate: Certificate::NotAsked,
            version,
            server_name: None,
            may_create: true,
            by_control_link: false,
            ascii: false,
        }
    }
}

/// A TLCP request that came over HTTP: `POST /lightstreamer/<verb>.txt?<query>` with a body, or `GET` without.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// What is asked for.
    pub verb: Verb,
    /// The query string, undecoded.
    pub query: &'a str,
    /// The body, undecoded; for `GET` empty.
    pub body: &'a str,
    /// The response's length must be told before it: HTTP/1.0 and `Connection: close` (TLCP, HTTP responses).
    pub identity: bool,
}

/// Where the pump writes. The driver frames and sends.
pub trait Outbox {
    /// The buffer to which this connection's lines are appended. What it holds already is none of the caller's.
    fn open(&mut self, conn: ConnId) -> &mut Vec<u8>;

    /// Sends what was appended since [`Outbox::open`]. If that is nothing, nothing happens, but for the last part of a
    /// stream, which ends it.
    fn send(&mut self, conn: ConnId, part: Part);

    /// Sends to this connection the WebSocket message that was sent last, which consists of this text. Comes in place of
    /// [`Outbox::send`], when nothing was appended. A driver that still has the bytes need not write them again.
    fn repeat(&mut self, conn: ConnId, text: &[u8]) {
        self.open(conn).extend_from_slice(text);
        self.send(conn, Part::Message);
    }
}

/// What a run of lines is to the connection that it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A WebSocket message.
    Message,
    /// All of an HTTP response. The connection is free for the next request.
    Response,
    /// A part of an HTTP response that is written as it comes to be.
    Stream {
        /// The body's length in bytes, should it have to be told beforehand: all parts together stay within it. Only
        /// that of the first part counts.
        content_length: u64,
        /// Nothing follows. The connection is free for the next request, unless the length was told beforehand.
        last: bool,
    },
}

/// What a shard wants of its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell ingest.
    Demand(Demand),
    /// Ask the metadata adapter; to be answered by [`Shard::on_answer`](super::Shard::on_answer).
    Ask(Ask),
    /// Tell another shard; to be given to its [`Shard::on_message`](super::Shard::on_message).
    Tell {
        /// The other shard.
        shard: ShardId,
        /// What to tell.
        message: ShardMessage,
    },
    /// Move a connection to the shard that owns the session it wants to bind, and let
    /// [`Shard::on_moved`](super::Shard::on_moved) there go on with the request. The connection is forgotten here.
    Move {
        /// The connection.
        conn: ConnId,
        /// Where to.
        shard: ShardId,
        /// The request that made it move.
        request: MovedRequest,
        /// Answers that have not been written yet.
        lines: Box<[u8]>,
    },
    /// Close a connection, after what has been sent on it. It is forgotten here.
    Close(ConnId),
}

/// A bind that belongs to another shard, with all that it needs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedRequest {
    /// The request as a WebSocket message.
    pub message: Box<str>,
    /// It came over HTTP, and if so whether its response's length must be told before it.
    pub http_identity: Option<bool>,
    /// Where answers to earlier requests of the connection are still to come.
    pub addresses: Vec<Address>,
}

/// What shards tell each other.
#[derive(Clone, Debug, PartialEq)]
pub enum ShardMessage {
    /// A request for a session of the receiver; the answer goes back to the sender.
    Request {
        /// The connection it came on.
        conn: ConnId,
        /// Over HTTP, the place of its answer.
        slot: Option<u32>,
        /// The request.
        request: Box<str>,
    },
    /// The answer, for the connection that the request came on. If there is nothing to say, without lines.
    Reply {
        /// The connection.
        conn: ConnId,
        /// Over HTTP, the place of the answer.
        slot: Option<u32>,
        /// Whole lines.
        lines: Box<[u8]>,
    },
    /// An answer for a connection that moved on before it came: for the one that once had this address.
    LateReply {
        /// The shard that passed the request on.
        shard: ShardId,
        /// What the connection was called there.
        conn: ConnId,
        /// Whole lines.
        lines: Box<[u8]>,
    },
    /// A client has opened another session in place of this one.
    Replaced {
        /// The old session.
        session: Box<str>,
    },
    /// A client has given a sign of life that asks for nothing.
    Heard {
        /// Its session.
        session: Box<str>,
    },
    /// A user has opened a session, and may have only one.
    UserSession(UserSession),
}
