//! The response to a TLCP request: what its request says about its form, and the framing of what the engine writes.
//!
//! The engine writes lines and says what they are to the response ([`Part`]); here they become HTTP. Three forms:
//!
//! | the engine writes | the request is | the response has |
//! |---|---|---|
//! | [`Part::Response`] | any | `Content-Length`, the exact one |
//! | [`Part::Stream`] | HTTP/1.1 | `Transfer-Encoding: chunked`, a chunk for each part |
//! | [`Part::Stream`] | HTTP/1.0, or `Connection: close` | a `Content-Length` told beforehand, and the socket is closed at the end |
//!
//! The third form is for clients that know nothing of chunks, nor of bodies without a length (TLCP, HTTP Responses).
//! A response that must break, because its session has moved on, is left without its end: clients ignore a body that
//! ends in order, and act at once on one that does not.

use std::time::SystemTime;

use engine::shard::Part;

use super::connection::Settings;
use super::outbox::{self, HEADER_ROOM_BYTES};
use crate::wire::gzip;
use crate::wire::http::{Response, Status};

/// What a request says about the form of its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The request is HTTP/1.0.
    pub http_1_0: bool,
    /// The client wants to use the connection for another request.
    pub keep_alive: bool,
    /// The request is HEAD: everything but the body.
    pub head_only: bool,
    /// The page of another origin that may read the response.
    pub origin: Option<Box<str>>,
    /// Header lines of the request that go back with the response, see [`Context::echoed`].
    ///
    /// [`Context::echoed`]: crate::wire::http::Context::echoed
    pub echoed: Option<Box<str>>,
    /// The body may be compressed, if it is there as a whole.
    pub gzip: bool,
}

impl Terms {
    /// The length of a stream must be told before it.
    pub fn identity(&self) -> bool {
        self.http_1_0 || !self.keep_alive
    }
}

/// A response that the engine owes, or is writing.
#[derive(Debug)]
pub struct Responding {
    terms: Terms,
    /// The head has been written.
    begun: bool,
    /// Nothing follows; and whether the connection is used again.
    ended: Option<bool>,
}

impl Responding {
    /// Nothing is written yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            begun: false,
            ended: None,
        }
    }

    /// Whether the response is complete, and if so whether the connection is used again.
    pub fn ended(&self) -> Option<bool> {
        self.ended
    }

    /// The connection is not to be used again, whatever the request wanted.
    pub fn close_after(&mut self) {
        self.ended = self.ended.map(|_| false);
    }

    /// Frames what was appended since [`outbox::begin`], and returns the index to send from; `None` if there is nothing
    /// to send, and then the buffer is as before.
    pub fn frame(
        &mut self,
        buffer: &mut Vec<u8>,
        start: usize,
        part: Part,
        settings: &Settings,
        now: SystemTime,
    ) -> Option<usize> {
        debug_assert!(self.ended.is_none(), "one response to one request");
        let payload_bytes = outbox::payload_bytes(buffer, start);
        let mut from = start + HEADER_ROOM_BYTES;
        let (length, keep_alive) = match part {
            Part::Message => {
                debug_assert!(false, "this connection is no WebSocket");
                outbox::cancel(buffer, start);
                return None;
            }
            // A poll that has nothing to say yet: a response to TLCP has at least one line.
            Part::Response if payload_bytes == 0 => {
                outbox::cancel(buffer, start);
                return None;
            }
            Part::Response => {
                self.ended = Some(self.terms.keep_alive);
                let length = if self.terms.gzip {
                    compress(buffer, from)
                } else {
                    Length::Bytes(payload_bytes as u64)
                };
                (length, self.terms.keep_alive)
            }
            Part::Stream { last: false, .. } if payload_bytes == 0 => {
                outbox::cancel(buffer, start);
                return None;
            }
            Part::Stream {
                content_length,
                last,
            } if self.terms.identity() => {
                self.ended = last.then_some(false);
                (Length::Bytes(content_length), false)
            }
            Part::Stream { last, .. } => {
                self.ended = last.then_some(true);
                from = frame_chunk(buffer, start, last);
                (Length::Chunked, true)
            }
        };
        if !self.begun {
            self.begun = true;
            let mut head = Vec::with_capacity(HEAD_BYTES);
            let terms = Terms {
                keep_alive,
                ..std::mem::take(&mut self.terms)
            };
            write_head(&mut head, &terms, length, settings, now);
            self.terms = Terms {
                origin: None, // have done their work
                echoed: None,
                ..terms
            };
            // Moves the body by the length of the head. It is a few KiB, and room for every possible head in front of
            // every message would cost more.
            buffer.splice(from..from, head);
        }
        if from == buffer.len() {
            buffer.truncate(start);
            return None;
        }
        Some(from)
    }
}

/// Writes a response that is there as a whole: its lines are not the engine's.
pub fn write(out: &mut Vec<u8>, lines: &[u8], terms: &Terms, settings: &Settings, now: SystemTime) {
    write_head(out, terms, Length::Bytes(lines.len() as u64), settings, now);
    out.extend_from_slice(lines);
}

/// Compresses a body in its place, if that is worth it.
fn compress(buffer: &mut Vec<u8>, from: usize) -> Length {
    let body = &buffer[from..];
    match gzip::compress(body).filter(|_| gzip::is_worth_it(CONTENT_TYPE, body.len())) {
        Some(gzipped) => {
            buffer.truncate(from);
            buffer.extend_from_slice(&gzipped);
            Length::Gzipped(gzipped.len() as u64)
        }
        None => Length::Bytes(body.len() as u64),
    }
}

enum Length {
    Bytes(u64),
    Gzipped(u64),
    Chunked,
}

/// The headers are the reference product's; they keep browsers, caches and proxies from holding the text back.
fn write_head(
    out: &mut Vec<u8>,
    terms: &Terms,
    length: Length,
    settings: &Settings,
    now: SystemTime,
) {
    let response = Response::begin(out, Status::OK, &settings.context(terms, now))
        .header("Cache-Control", "no-store, no-transform, no-cache")
        .header("Pragma", "no-cache")
        .header("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
        .header("X-Accel-Buffering", "no")
        .header("Content-Type", CONTENT_TYPE);
    match length {
        Length::Gzipped(bytes) => response
            .header("Content-Encoding", "gzip")
            .header("Content-Length", bytes),
        Length::Bytes(bytes) => response.header("Content-Length", bytes),
        Length::Chunked => response.header("Transfer-Encoding", "chunked"),
    }
    .no_body();
}

const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Makes what was appended since [`outbox::begin`] one chunk, and adds the end of the body if it is the last. Returns the
/// index of its first byte.
fn frame_chunk(buffer: &mut Vec<u8>, start: usize, last: bool) -> usize {
    let payload_bytes = outbox::payload_bytes(buffer, start);
    let payload = start + HEADER_ROOM_BYTES;
    let mut from = payload;
    // A chunk of no bytes would be the end of the body.
    if payload_bytes > 0 {
        from -= 2;
        buffer[from..payload].copy_from_slice(b"\r\n");
        let mut rest = payload_bytes;
        while rest > 0 {
            from -= 1;
            buffer[from] = b"0123456789abcdef"[rest & 0xf];
            rest >>= 4;
        }
        buffer.extend_from_slice(b"\r\n");
    }
    if last {
        buffer.extend_from_slice(b"0\r\n\r\n");
    }
    from
}

/// Room for a usual head. (measured: about 400 bytes, and an origin)
const HEAD_BYTES: usize = 512;

// The longest payload whose length fits the room: eight digits.
const _: () = assert!(HEADER_ROOM_BYTES == 8 + 2);

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes out for these parts, each with its lines, and whether the connection is used again.
    fn sent(terms: Terms, parts: &[(&str, Part)]) -> (Vec<String>, Option<bool>) {
        let settings = Settings {
            server_name: "S".into(),
            ..Settings::default()
        };
        let mut response = Responding::new(terms);
        let mut buffer = b"of other connections".to_vec();
        let mut sends = Vec::new();
        for (lines, part) in parts {
            let before = buffer.clone();
            let start = outbox::begin(&mut buffer);
            buffer.extend_from_slice(lines.as_bytes());
            let now = SystemTime::UNIX_EPOCH;
            match response.frame(&mut buffer, start, *part, &settings, now) {
                Some(from) => {
                    assert!(buffer.starts_with(&before) && from >= before.len());
                    sends.push(String::from_utf8(buffer[from..].to_vec()).unwrap());
                }
                None => assert_eq!(buffer, before, "no trace"),
            }
        }
        (sends, response.ended())
    }

    fn http_1_1() -> Terms {
        Terms {
            keep_alive: true,
            ..Terms::default()
        }
    }

    fn stream(last: bool) -> Part {
        Part::Stream {
            content_length: 1_000,
            last,
        }
    }

    fn body(send: &str) -> &str {
        send.split_once("\r\n\r\n").unwrap().1
    }

    #[test]
    fn a_response_goes_out_whole() {
        let (sends, ended) = sent(http_1_1(), &[("REQOK,1\r\n", Part::Response)]);
        let expected = "HTTP/1.1 200 OK\r\nServer: S\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
            X-Content-Type-Options: nosniff\r\nCache-Control: no-store, no-transform, no-cache\r\n\
            Pragma: no-cache\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Accel-Buffering: no\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\r\nREQOK,1\r\n";
        assert_eq!((sends, ended), (vec![expected.to_owned()], Some(true)));
    }

    #[test]
    fn the_request_decides_whether_the_connection_stays() {
        let end = |http_1_0, keep_alive| {
            let terms = Terms {
                http_1_0,
                keep_alive,
                ..Terms::default()
            };
            let (sends, ended) = sent(terms, &[("REQOK\r\n", Part::Response)]);
            let connection = sends[0]
                .lines()
                .find_map(|line| line.strip_prefix("Connection: ").map(str::to_owned));
            (ended.unwrap(), connection)
        };
        assert_eq!(end(false, true), (true, None));
        assert_eq!(end(false, false), (false, Some("close".into())));
        assert_eq!(end(true, false), (false, Some("close".into())));
        assert_eq!(end(true, true), (true, Some("keep-alive".into())));
    }

    #[test]
    fn a_stream_goes_out_in_chunks() {
        let long = format!("{}\r\n", "x".repeat(70_000));
        let parts = [
            ("", stream(false)),
            ("CONOK\r\n", stream(false)),
            ("", stream(false)),
            (&long, stream(false)),
            ("LOOP,0\r\n", stream(true)),
        ];
        let (sends, ended) = sent(http_1_1(), &parts);
        assert_eq!((sends.len(), ended), (3, Some(true)));
        assert!(sends[0].contains("\r\nTransfer-Encoding: chunked\r\n"));
        assert!(!sends[0].contains("Content-Length") && !sends[0].contains("Connection: "));
        assert_eq!(body(&sends[0]), "7\r\nCONOK\r\n\r\n");
        assert_eq!(sends[1], format!("11172\r\n{long}\r\n"));
        assert_eq!(sends[2], "8\r\nLOOP,0\r\n\r\n0\r\n\r\n");
    }

    #[test]
    fn a_stream_may_end_with_its_first_part_or_without_another_line() {
        let (sends, ended) = sent(http_1_1(), &[("END\r\n", stream(true))]);
        assert_eq!(body(&sends[0]), "5\r\nEND\r\n\r\n0\r\n\r\n");
        assert_eq!(ended, Some(true));
        let parts = [("CONOK\r\n", stream(false)), ("", stream(true))];
        let (sends, ended) = sent(http_1_1(), &parts);
        assert_eq!((&*sends[1], ended), ("0\r\n\r\n", Some(true)));
        let (sends, _) = sent(http_1_1(), &[("", stream(true))]);
        assert_eq!(body(&sends[0]), "0\r\n\r\n");
    }

    #[test]
    fn a_client_without_chunks_is_told_the_length_and_closed_at_the_end() {
        for http_1_0 in [true, false] {
            let terms = Terms {
                http_1_0,
                keep_alive: http_1_0, // HTTP/1.0 has no chunks even where it keeps the connection
                ..Terms::default()
            };
            let parts = [("CONOK\r\n", stream(false)), ("LOOP,0\r\n", stream(true))];
            let (sends, ended) = sent(terms.clone(), &parts);
            assert!(sends[0].contains("\r\nContent-Length: 1000\r\n"));
            assert!(sends[0].contains("\r\nConnection: close\r\n"));
            assert_eq!((body(&sends[0]), &*sends[1]), ("CONOK\r\n", "LOOP,0\r\n"));
            assert_eq!(ended, Some(false));
            let parts = [("CONOK\r\n", stream(false)), ("", stream(true))];
            let (sends, ended) = sent(terms, &parts);
            assert_eq!((sends.len(), ended), (1, Some(false)));
        }
    }

    #[test]
    fn a_poll_without_anything_to_say_is_not_over() {
        let (sends, ended) = sent(http_1_1(), &[("", Part::Response)]);
        assert_eq!((sends.len(), ended), (0, None));
    }
}
