//! HTTP exchanges: one request, one response.
//!
//! Over WebSocket an answer goes out when it is there. Over HTTP all lines of a batch are answered in one response, in
//! the order of the request, whichever adapter or shard was quicker: clients of an older generation match them by
//! position (TLCP, Batches). A creation or bind is answered by a single line only if it is refused; else its response is
//! the session's stream.

use super::control::Source;
use super::{HttpRequest, Origin, Peer, Shard};
use crate::ids::ConnId;
use crate::time::Instant;
use crate::tlcp::request::{self, Carrier, Verb};
use crate::tlcp::response;
use crate::tlcp::{Dialect, legacy};

/// What a connection is, as far as answers are concerned.
#[derive(Debug)]
pub(super) enum Wire {
    /// A WebSocket: answers go out as they come.
    WebSocket,
    /// HTTP without a request.
    Idle,
    /// HTTP, collecting the answers to a request.
    Answering(Answers),
    /// HTTP, the response being a session's stream or poll.
    Stream,
}

/// The answers to one request's lines, by position.
#[derive(Debug)]
pub(super) struct Answers {
    slots: Vec<Option<Vec<u8>>>,
    missing: usize,
}

impl Answers {
    fn new(lines: usize) -> Self {
        Self {
            slots: vec![None; lines],
            missing: lines,
        }
    }

    /// Puts an answer into its place. One that comes twice is an error of ours, and changes nothing.
    pub fn put(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return;
        };
        debug_assert!(place.is_none(), "each line is answered once");
        if place.is_none() {
            write(place.insert(Vec::new()));
            self.missing -= 1;
        }
    }

    /// Whether nothing is missing.
    pub fn are_complete(&self) -> bool {
        self.missing == 0
    }

    /// All of them, in order.
    pub fn write(&self, out: &mut Vec<u8>) {
        for answer in self.slots.iter().flatten() {
            out.extend_from_slice(answer);
        }
    }
}

impl Shard {
    /// Begins an exchange on an HTTP connection, which may be new here.
    pub(super) fn begin_exchange(
        &mut self,
        conn: ConnId,
        peer: Peer,
        request: HttpRequest<'_>,
        now: Instant,
    ) {
        let lines: Vec<&str> = request::lines(request.verb, request.body).collect();
        let answers = match request.verb {
            Verb::CreateSession | Verb::BindSession => 1,
            _ => lines.len(),
        };
        if self.conns.get(conn).is_none() {
            self.conns.insert(conn, peer.clone(), now);
            self.watch(conn, now);
        }
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        debug_assert!(
            !matches!(entry.wire, Wire::Answering(_) | Wire::Stream),
            "the driver delivers one request at a time"
        );
        let dialect = peer.version.dialect();
        entry.peer = peer;
        entry.last_read = now;
        entry.identity = request.identity;
        entry.wire = Wire::Answering(Answers::new(answers));
        // What comes with a creation is known to TLCP only.
        if request.verb == Verb::CreateSession && dialect == Dialect::Tlcp {
            let origin = Origin {
                slot: Some(0),
                ..self.here(conn)
            };
            return self.take_creation(origin, request.query, request.body, now);
        }
        let too_much =
            request.query.len() * lines.len().saturating_sub(1) > REPEATED_QUERY_BYTES_MAX;
        for (slot, line) in lines.into_iter().enumerate() {
            let origin = Origin {
                shard: self.config.shard,
                conn,
                slot: Some(u32::try_from(slot).expect("requests are bounded")),
            };
            if slot >= answers {
                break; // a creation or a bind has one line
            }
            if too_much {
                let refusal = request::too_long("", line);
                self.refuse(origin, Some(request.verb), &refusal);
                continue;
            }
            match dialect {
                Dialect::Tlcp => self.take_line(
                    origin,
                    Source {
                        verb: request.verb,
                        query: request.query,
                        line,
                    },
                    now,
                ),
                Dialect::Legacy => match legacy::rewrite(request.verb, request.query, line) {
                    Ok(line) => self.take_line(
                        origin,
                        Source {
                            verb: request.verb,
                            query: "",
                            line: &line,
                        },
                        now,
                    ),
                    Err(refusal) => self.refuse(origin, Some(request.verb), &refusal),
                },
            }
        }
    }

    fn take_line(&mut self, origin: Origin, source: Source<'_>, now: Instant) {
        match request::parse_line(source.verb, Carrier::Http, source.query, source.line) {
            Ok(parsed) => self.take_request(origin, parsed, source, now),
            Err(refusal) => self.refuse(origin, Some(source.verb), &refusal),
        }
    }

    /// A heartbeat over HTTP has an answer.
    pub(super) fn answer_heartbeat(&mut self, origin: Origin) {
        if origin.slot.is_some() {
            self.reply(origin, response::reqok_bare);
        }
    }
}

/// What a request's lines may make of its query string, which is read again for each of them, as it holds their defaults.
/// Beyond, they are refused as too long. Clients put some hundred bytes there, and a whole body of the shortest lines then
/// stays below; what the limits would allow, half a second of work for one request, is a hundred times as much.
const REPEATED_QUERY_BYTES_MAX: usize = 8 << 20;
