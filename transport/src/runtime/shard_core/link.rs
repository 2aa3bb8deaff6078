//! One client connection of a shard: its protocol, what it has to say by itself, and what goes to and fro between it and
//! the engine.

use crate::net::connection::{Caller, Connection, Flow, Host, Settings, TlcpRequest};
use crate::net::outbox;
use crate::net::response::Responding;
use crate::reactor::{ConnId, Reactor};
use crate::wire::ws::Upgrade;
use engine::shard::{Outbox, Part, Peer, Shard};
use engine::time::Instant;
use engine::tlcp::Version;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// One client connection: its protocol and what it has to say by itself.
///
/// In the order in which it is written here, as is [`Line`]: what every message touches lies together.
#[repr(C)]
pub(super) struct Link {
    pub(super) line: Line,
    pub(super) connection: Connection,
}

#[repr(C)]
pub(super) struct Line {
    pub(super) id: ConnId,
    pub(super) reply: Vec<u8>,
    pub(super) peer: SocketAddr,
    pub(super) version: Option<Version>,
    /// What the last request said of who sent it.
    pub(super) caller: Caller,
    /// The response that is owed, or being written, to a TLCP request over HTTP.
    pub(super) response: Option<Responding>,
    /// Reads on once the reply is sent.
    pub(super) answered: bool,
    pub(super) blocked_since: Option<Instant>,
    pub(super) finished: bool,
    /// Not read from until its answers are out.
    pub(super) paused: bool,
    /// When it was accepted, or given its last answer: since when a request is waited for. Bytes do not count, or a
    /// request that drips in would never be late.
    pub(super) waits_since: Instant,
}

/// What a connection sees of its shard.
pub(super) struct Talk<'a> {
    pub(super) line: &'a mut Line,
    pub(super) shard: &'a mut Shard,
    pub(super) now: Instant,
}

impl Host for Talk<'_> {
    fn peer(&self) -> IpAddr {
        self.line.peer.ip()
    }

    fn proxied(&mut self, client: SocketAddr) {
        self.line.peer = client;
    }

    fn upgraded(&mut self, upgrade: &Upgrade<'_>, caller: Caller, settings: &Settings) {
        let version = Version::parse_subprotocol(upgrade.subprotocol).unwrap_or(Version::LATEST);
        self.line.caller = caller;
        let peer = self.line.peer(version, settings);
        if self.line.version.replace(version).is_some() {
            // The engine knows the connection by its HTTP requests; from here on it is another one.
            self.shard.on_closed(self.line.id, self.now);
        }
        self.shard.on_accept(self.line.id, peer, self.now);
    }

    fn message(&mut self, text: &str) -> Flow {
        if self.shard.on_request(self.line.id, text, self.now) {
            Flow::Continue
        } else {
            Flow::Stop
        }
    }

    fn cut_message(&mut self, beginning: &str) {
        self.shard.on_cut_request(self.line.id, beginning, self.now);
    }

    fn request(&mut self, request: TlcpRequest<'_>, settings: &Settings) {
        let TlcpRequest {
            version,
            http,
            caller,
            terms,
        } = request;
        let id = self.line.id;
        self.line.version = Some(version);
        self.line.response = Some(Responding::new(terms));
        self.line.caller = caller;
        let peer = self.line.peer(version, settings);
        // Whether it has moved or not, it is held back until the response is complete.
        self.shard.on_http_request(id, peer, http, self.now);
        if self.line.blocked_since.is_some() {
            // By an answer of ours, when the engine did not know the connection.
            self.shard.on_blocked(id, self.now);
        }
    }

    fn reply(&mut self) -> &mut Vec<u8> {
        &mut self.line.reply
    }

    fn close(&mut self) {} // told by the progress as well

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Frames what the pump writes, behind what the connection itself has to say.
pub(super) struct Out<'a, R> {
    pub(super) reactor: &'a mut R,
    pub(super) links: &'a mut [Option<Link>],
    pub(super) answered: &'a mut Vec<ConnId>,
    pub(super) start: usize,
    /// The last send was the engine's message and nothing besides.
    pub(super) clean: bool,
}

impl<R: Reactor> Outbox for Out<'_, R> {
    #[inline]
    fn open(&mut self, _conn: ConnId) -> &mut Vec<u8> {
        let buffer = self.reactor.buffer();
        self.start = outbox::begin(buffer);
        buffer
    }

    #[inline]
    fn send(&mut self, conn: ConnId, part: Part) {
        let buffer = self.reactor.buffer();
        let from = match part {
            Part::Message if outbox::is_empty(buffer, self.start) => {
                return outbox::cancel(buffer, self.start);
            }
            Part::Message => outbox::finish(buffer, self.start),
            Part::Response | Part::Stream { .. } => {
                let Some(Link { connection, line }) = link_mut(self.links, conn) else {
                    return outbox::cancel(buffer, self.start);
                };
                let Some(response) = &mut line.response else {
                    debug_assert!(false, "a response to no request");
                    return outbox::cancel(buffer, self.start);
                };
                let now = SystemTime::now();
                self.clean = false;
                let from = response.frame(buffer, self.start, part, connection.settings(), now);
                if response.ended().is_some() {
                    self.answered.push(conn);
                }
                let Some(from) = from else { return };
                return send(self.reactor, Some(line), from);
            }
        };
        let line = line_mut(self.links, conn);
        self.clean = line.as_ref().is_some_and(|line| line.reply.is_empty());
        send(self.reactor, line, from);
    }

    #[inline]
    fn repeat(&mut self, conn: ConnId, text: &[u8]) {
        outbox::cancel(self.reactor.buffer(), self.start);
        let line = line_mut(self.links, conn);
        let clean = self.clean && line.is_some_and(|line| line.reply.is_empty());
        if !clean || !self.reactor.send_again(conn) {
            self.open(conn).extend_from_slice(text);
            self.send(conn, Part::Message);
        }
    }
}

/// Sends what lies in the hot buffer from an index on, behind the connection's own answers: that to the upgrade, a
/// pong, those to earlier requests.
#[inline]
fn send(reactor: &mut impl Reactor, line: Option<&mut Line>, from: usize) {
    let Some(line) = line else {
        return;
    };
    if !line.reply.is_empty() {
        let buffer = reactor.buffer();
        buffer.splice(from..from, line.reply.drain(..));
        line.reply = Vec::new();
    }
    reactor.send(line.id, from);
}

impl Line {
    pub(super) fn new(id: ConnId, peer: SocketAddr, now: Instant) -> Self {
        Self {
            id,
            peer,
            version: None,
            caller: Caller::default(),
            reply: Vec::new(),
            response: None,
            answered: false,
            blocked_since: None,
            finished: false,
            paused: false,
            waits_since: now,
        }
    }

    /// The client as the engine shall know it. Of a proxy's client we know what the proxy says.
    pub(super) fn peer(&self, version: Version, settings: &Settings) -> Peer {
        let ip = self.caller.forwarded_for.unwrap_or(self.peer.ip());
        Peer {
            port: match self.caller.forwarded_for {
                Some(_) => 0,
                None => self.peer.port(),
            },
            listener: settings.name.clone(),
            headers: self.caller.headers.clone(),
            server_name: settings.servname.clone(),
            may_create: settings.role.creates(),
            by_control_link: self.caller.by_control_link,
            ascii: self.caller.ascii,
            // An IPv4 client of a dual-stack socket is shown as what it is.
            ..Peer::new(ip.to_canonical().to_string(), version)
        }
    }

    /// The response is complete.
    pub(super) fn has_ended(&self) -> bool {
        self.response
            .as_ref()
            .is_some_and(|response| response.ended().is_some())
    }
}

#[inline]
pub(super) fn line_mut(links: &mut [Option<Link>], id: ConnId) -> Option<&mut Line> {
    link_mut(links, id).map(|link| &mut link.line)
}

#[inline]
fn link_mut(links: &mut [Option<Link>], id: ConnId) -> Option<&mut Link> {
    links
        .get_mut(id.slot as usize)?
        .as_mut()
        .filter(|link| link.line.id == id)
}
