//! HTTP/1 as far as a push server needs it: collecting and reading a request's head, and writing responses.
//!
//! What is accepted, and what is not:
//!
//! * A head of at most the request limit and [`HEADERS_MAX`] header lines; more is answered 431.
//! * Bodies with a `Content-Length` up to the request limit; more is 413, unless it is a TLCP request, which has a
//!   better answer. A body is always consumed before its request is answered, so that the next request on the connection
//!   starts where it should.
//! * No `Transfer-Encoding` in requests: 411 for `chunked` (send a length), 501 for anything else. No TLCP client
//!   sends one, and two ways to find the end of a body are the raw material of request smuggling.
//! * Whatever leaves the position of the next request in doubt is answered with `Connection: close`.

mod request;
mod response;

pub use request::{HeadCollector, Request, find_header};
pub use response::{Context, Response, refuse, write_continue};

/// Most header lines of one request. Browsers behind a few proxies send about 30.
pub const HEADERS_MAX: usize = 100;

/// A status line's code and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16, pub &'static str);

impl Status {
    /// The answer to a WebSocket upgrade.
    pub const SWITCHING_PROTOCOLS: Self = Self(101, "Switching Protocols");
    /// Success.
    pub const OK: Self = Self(200, "OK");
    /// The page has another address.
    pub const MOVED_PERMANENTLY: Self = Self(301, "Moved Permanently");
    /// The client's copy is still good.
    pub const NOT_MODIFIED: Self = Self(304, "Not Modified");
    /// The request cannot be understood.
    pub const BAD_REQUEST: Self = Self(400, "Bad Request");
    /// The page that opened the connection is not allowed to.
    pub const FORBIDDEN: Self = Self(403, "Forbidden");
    /// Nothing lives under this path.
    pub const NOT_FOUND: Self = Self(404, "Not Found");
    /// Something lives here, but not for this method.
    pub const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    /// Bodies need a `Content-Length` here.
    pub const LENGTH_REQUIRED: Self = Self(411, "Length Required");
    /// The body is above the request limit.
    pub const CONTENT_TOO_LARGE: Self = Self(413, "Content Too Large");
    /// This path speaks WebSocket only, version 13.
    pub const UPGRADE_REQUIRED: Self = Self(426, "Upgrade Required");
    /// The head is above the request limit, or has too many lines.
    pub const HEAD_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    /// A transfer coding that is not known here.
    pub const NOT_IMPLEMENTED: Self = Self(501, "Not Implemented");
    /// The server cannot take more work now.
    pub const SERVICE_UNAVAILABLE: Self = Self(503, "Service Unavailable");
    /// Not HTTP/1.0 or HTTP/1.1.
    pub const VERSION_NOT_SUPPORTED: Self = Self(505, "HTTP Version Not Supported");
}

/// Body of a fuzz target: reads `data` as a stream of heads, once in one piece and once cut in two.
pub fn fuzz_entry(data: &[u8]) {
    let (&cut, stream) = data.split_first().unwrap_or((&0, &[]));
    let cut = usize::from(cut).min(stream.len());
    let whole = fuzz_read(&[stream]);
    let split = fuzz_read(&[&stream[..cut], &stream[cut..]]);
    assert_eq!(whole, split, "the position of a cut must not matter");
}

fn fuzz_read(pieces: &[&[u8]]) -> Vec<String> {
    const BYTES_MAX: usize = 200;
    let mut seen = Vec::new();
    let mut collector = HeadCollector::default();
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let (used, head) = match collector.collect(&piece[at..], BYTES_MAX) {
                Ok(step) => step,
                Err(status) => {
                    seen.push(format!("{status:?}"));
                    return seen;
                }
            };
            at += used;
            if let Some(head) = head {
                let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
                seen.push(format!(
                    "{:?}",
                    Request::parse(head, &mut headers, BYTES_MAX)
                ));
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_alike_in_pieces(data: Vec<u8>) {
            fuzz_entry(&data);
        }

        #[test]
        fn nearly_http_is_read_alike_in_pieces(
            cut: u8,
            lines in proptest::collection::vec(
                prop_oneof![Just("GET / HTTP/1.1"), Just("Host: h"), Just(""), Just("a: b\r"), Just("Content-Length: 3")],
                0..20,
            ),
            crlf: bool,
        ) {
            let mut data = vec![cut];
            data.extend_from_slice(lines.join(if crlf { "\r\n" } else { "\n" }).as_bytes());
            fuzz_entry(&data);
        }
    }
}
