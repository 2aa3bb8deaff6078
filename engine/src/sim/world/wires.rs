//! Connections: what clients have sent and not received, and the sockets that the pump writes to.

use super::{CLIENT_IP, Event, WireId, World};
use crate::ids::{ConnId, ShardId};
use crate::shard::{Outbox, Part, Peer};
use crate::text::CRLF;
use crate::time::Instant;
use crate::tlcp::Version;
use crate::tlcp::request::Verb;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct ConnSlot {
    pub generation: u32,
    pub wire: Option<WireId>,
}

/// One connection, from the first byte to the last.
pub(super) struct Wire {
    pub peer: Peer,
    pub place: Place,
    /// How far the exchange is, if the client speaks HTTP and no WebSocket.
    pub http: Option<Http>,
    /// Messages or HTTP requests of the client that the server has not read.
    pub unread: VecDeque<Said>,
    /// The client reads nothing.
    pub stalled: bool,
    /// What was written while the client did not read: the socket holds it.
    pub stuck: Option<(Instant, Vec<u8>)>,
}

/// What a client sends.
pub(super) enum Said {
    Message(String),
    Request {
        verb: Verb,
        query: String,
        body: String,
    },
}

/// An HTTP connection.
#[derive(Default)]
pub(super) struct Http {
    /// Its responses' lengths must be told before them.
    pub identity: bool,
    /// A request is being answered; the next one waits.
    pub answering: bool,
    /// What was told of the length of the response under way, and what has been written of it.
    pub length: Option<u64>,
    pub written: u64,
    /// The response is complete, but the client has not read all of it.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    At(ShardId, ConnId),
    Moving,
    Closed,
}

impl World {
    /// A client opens a WebSocket, which lands on this shard.
    pub fn connect(&mut self, shard: ShardId, version: Version) -> WireId {
        self.connect_as(shard, Peer::new(CLIENT_IP, version))
    }

    /// The same, by a client of which more is known.
    pub fn connect_as(&mut self, shard: ShardId, peer: Peer) -> WireId {
        let (wire, conn) = self.open(shard, peer.clone(), None);
        self.nodes[usize::from(shard.0)]
            .shard
            .on_accept(conn, peer, self.now);
        wire
    }

    /// A client opens a connection for HTTP, which lands on this shard. With `identity`, the lengths of responses must
    /// be told before them, and a stream is the last of them.
    pub fn connect_http(&mut self, shard: ShardId, version: Version, identity: bool) -> WireId {
        self.connect_http_as(shard, Peer::new(CLIENT_IP, version), identity)
    }

    /// The same, by a client of which more is known.
    pub fn connect_http_as(&mut self, shard: ShardId, peer: Peer, identity: bool) -> WireId {
        let http = Http {
            identity,
            ..Http::default()
        };
        self.open(shard, peer, Some(http)).0
    }

    fn open(&mut self, shard: ShardId, peer: Peer, http: Option<Http>) -> (WireId, ConnId) {
        let wire = self.wires.len();
        self.wires.push(Wire {
            peer,
            place: Place::Closed,
            http,
            unread: VecDeque::new(),
            stalled: false,
            stuck: None,
        });
        (wire, self.settle_in(wire, shard))
    }

    /// A client sends a message; the server reads it in its next turn.
    pub fn send(&mut self, wire: WireId, message: impl Into<String>) {
        self.say_to_server(wire, Said::Message(message.into()));
    }

    /// A client sends a request over HTTP; the server reads it in its next turn, once it has answered those before.
    pub fn request(&mut self, wire: WireId, verb: Verb, query: &str, body: &str) {
        let (query, body) = (query.to_owned(), body.to_owned());
        self.say_to_server(wire, Said::Request { verb, query, body });
    }

    /// Whether the connection is one for HTTP.
    pub fn is_http(&self, wire: WireId) -> bool {
        self.wires[wire].http.is_some()
    }

    fn say_to_server(&mut self, wire: WireId, said: Said) {
        if self.is_open(wire) {
            self.wires[wire].unread.push_back(said);
            self.unread.insert(wire);
        }
    }

    /// A client closes its connection, or the network does. What it has not read is lost.
    pub fn close(&mut self, wire: WireId) {
        if let Place::At(shard, conn) = self.wires[wire].place {
            self.forget(wire, Place::Closed);
            self.nodes[usize::from(shard.0)]
                .shard
                .on_closed(conn, self.now);
        }
        self.wires[wire].place = Place::Closed;
        self.wires[wire].stuck = None;
        self.unread.remove(&wire);
    }

    /// Whether neither end has closed the connection.
    pub fn is_open(&self, wire: WireId) -> bool {
        self.wires[wire].place != Place::Closed
    }

    /// Whether the client has received all that was written to it.
    pub fn is_drained(&self, wire: WireId) -> bool {
        self.wires[wire].stuck.is_none()
    }

    /// A client stops reading. The socket takes one more message.
    pub fn stall(&mut self, wire: WireId) {
        self.wires[wire].stalled = true;
    }

    /// A client reads again.
    pub fn resume(&mut self, wire: WireId) {
        self.wires[wire].stalled = false;
        let Some((written, bytes)) = self.wires[wire].stuck.take() else {
            return;
        };
        self.events.push_back(Event::Message {
            wire,
            written,
            bytes,
        });
        if let Some(http) = &mut self.wires[wire].http
            && std::mem::take(&mut http.ended)
        {
            http.answering = false;
            self.events.push_back(Event::End(wire));
        }
        if let Place::At(shard, conn) = self.wires[wire].place {
            self.nodes[usize::from(shard.0)]
                .shard
                .on_writable(conn, self.now);
        }
    }

    pub(super) fn close_by_server(&mut self, wire: WireId) {
        self.wires[wire].place = Place::Closed;
        self.wires[wire].stuck = None;
        self.unread.remove(&wire);
        self.events.push_back(Event::Closed(wire));
    }

    /// Gives a connection a slot in a shard's table.
    pub(super) fn settle_in(&mut self, wire: WireId, shard: ShardId) -> ConnId {
        let slots = &mut self.nodes[usize::from(shard.0)].slots;
        let slot = slots
            .iter()
            .position(|slot| slot.wire.is_none())
            .unwrap_or_else(|| {
                slots.push(ConnSlot::default());
                slots.len() - 1
            });
        slots[slot].generation += 1;
        slots[slot].wire = Some(wire);
        let conn = ConnId {
            slot: u32::try_from(slot).expect("few connections"),
            generation: slots[slot].generation,
        };
        self.wires[wire].place = Place::At(shard, conn);
        if !self.wires[wire].unread.is_empty() {
            self.unread.insert(wire);
        }
        conn
    }

    pub(super) fn wire_of(&self, index: usize, conn: ConnId) -> WireId {
        let slot = &self.nodes[index].slots[conn.slot as usize];
        assert_eq!(
            slot.generation, conn.generation,
            "a connection that is gone"
        );
        slot.wire.expect("a connection that is gone")
    }

    /// Frees the connection's slot.
    pub(super) fn forget(&mut self, wire: WireId, place: Place) {
        if let Place::At(shard, conn) = self.wires[wire].place {
            self.nodes[usize::from(shard.0)].slots[conn.slot as usize].wire = None;
        }
        self.wires[wire].place = place;
    }
}

/// The sockets of one shard, for the length of a pump.
pub(super) struct Sockets<'a> {
    pub now: Instant,
    pub slots: &'a [ConnSlot],
    pub wires: &'a mut [Wire],
    pub events: &'a mut VecDeque<Event>,
    pub buffer: Vec<u8>,
    pub blocked: Vec<ConnId>,
    /// Connections that are of no use after their last response.
    pub spent: Vec<WireId>,
}

/// Stands for the frame header that a driver leaves room for.
const HEAD: &[u8] = b"\x81\x7e\0\0";

impl Outbox for Sockets<'_> {
    fn open(&mut self, _conn: ConnId) -> &mut Vec<u8> {
        self.buffer.clear();
        self.buffer.extend_from_slice(HEAD);
        &mut self.buffer
    }

    fn send(&mut self, conn: ConnId, part: Part) {
        let bytes = self
            .buffer
            .strip_prefix(HEAD)
            .expect("the head is untouched");
        let slot = &self.slots[conn.slot as usize];
        assert_eq!(
            slot.generation, conn.generation,
            "a connection that is gone"
        );
        let id = slot.wire.expect("a connection that is gone");
        let wire = &mut self.wires[id];
        assert_eq!(
            wire.http.is_some(),
            part != Part::Message,
            "{part:?} on the wrong kind of connection"
        );
        let ends = matches!(part, Part::Response | Part::Stream { last: true, .. });
        if bytes.is_empty() && !ends {
            return;
        }
        assert!(
            bytes.is_empty() || bytes.ends_with(CRLF),
            "a message ends with a line"
        );
        assert!(wire.stuck.is_none(), "written to though it is blocked");
        if let (Some(http), Part::Stream { content_length, .. }) = (&mut wire.http, part) {
            if http.length.is_none() && http.identity {
                self.events.push_back(Event::Length(id, content_length));
            }
            let length = *http.length.get_or_insert(content_length);
            http.written += bytes.len() as u64;
            assert!(http.written <= length, "more than the response may have");
        }
        if wire.stalled {
            wire.stuck = Some((self.now, bytes.to_vec()));
            self.blocked.push(conn);
        } else if !bytes.is_empty() {
            self.events.push_back(Event::Message {
                wire: id,
                written: self.now,
                bytes: bytes.to_vec(),
            });
        }
        if ends && let Some(http) = &mut wire.http {
            (http.length, http.written) = (None, 0);
            if http.identity && part != Part::Response {
                self.spent.push(id); // the rest of the promised length never comes
            }
            http.ended = wire.stalled;
            http.answering = wire.stalled;
            if !wire.stalled {
                self.events.push_back(Event::End(id));
            }
        }
    }
}
