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

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

use httparse::Header;

use super::origin::Cors;

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

/// Collects a request's head out of byte slices. A head that arrives in one piece is lent from that piece; only a
/// head that was cut owns memory, until it is complete.
#[derive(Debug, Default)]
pub struct HeadCollector {
    /// What came of a head that is not complete: `partial.len() <= bytes_max`.
    partial: Vec<u8>,
    /// `partial` was lent as a whole and is to be freed.
    lent: bool,
}

impl HeadCollector {
    /// Takes bytes until a head is complete. Returns how many were used, and the head up to and including its empty
    /// line if this completed it; without it all bytes were used. An error is the status to answer with, and to close
    /// after: the head is too long, or does not begin like a request.
    ///
    /// Empty lines before a head are skipped, as RFC 9112 section 2.2 asks.
    pub fn collect<'a>(
        &'a mut self,
        bytes: &'a [u8],
        bytes_max: usize,
    ) -> Result<(usize, Option<&'a [u8]>), Status> {
        self.free_lent();
        let mut skipped = 0;
        if self.partial.is_empty() {
            skipped = bytes
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            match bytes.get(skipped) {
                None => return Ok((skipped, None)),
                // Refused at the first byte rather than at the limit: a TLS hello on a plain port, mostly.
                Some(first) if !first.is_ascii_graphic() => {
                    return Err(Status::BAD_REQUEST);
                }
                Some(_) => (),
            }
        }
        let fresh = &bytes[skipped..];
        let Some(used) = find_end(&self.partial, fresh) else {
            if self.partial.len() + fresh.len() > bytes_max {
                return Err(Status::HEAD_TOO_LARGE);
            }
            self.partial.extend_from_slice(fresh);
            return Ok((bytes.len(), None));
        };
        if self.partial.len() + used > bytes_max {
            return Err(Status::HEAD_TOO_LARGE);
        }
        if self.partial.is_empty() {
            return Ok((skipped + used, Some(&fresh[..used])));
        }
        self.partial.extend_from_slice(&fresh[..used]);
        self.lent = true;
        Ok((used, Some(&self.partial)))
    }

    /// What came of a head that was refused before its end.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Frees a head that was lent by [`HeadCollector::collect`] and has been used.
    pub fn free_lent(&mut self) {
        if self.lent {
            *self = Self::default();
        }
    }

    /// Bytes of memory held outside this value.
    pub fn heap_bytes(&self) -> usize {
        self.partial.capacity()
    }
}

/// Index behind the empty line that ends a head, counted in `fresh`. Only `fresh` is searched, with the last two bytes
/// of `partial` as context, so that a head which arrives byte by byte costs no more than one which arrives at once.
fn find_end(partial: &[u8], fresh: &[u8]) -> Option<usize> {
    // An empty line is LF LF or LF CR LF: it is found by its last LF and what precedes it.
    let before = |index: usize, back: usize| -> Option<u8> {
        match index.checked_sub(back) {
            Some(position) => Some(fresh[position]),
            None => partial
                .len()
                .checked_sub(back - index)
                .map(|position| partial[position]),
        }
    };
    memchr::memchr_iter(b'\n', fresh)
        .find(|&index| match before(index, 1) {
            Some(b'\n') => true,
            Some(b'\r') => before(index, 2) == Some(b'\n'),
            _ => false,
        })
        .map(|index| index + 1)
}

/// A request's head, read.
#[derive(Debug)]
pub struct Request<'a> {
    /// `GET`, `POST` and so on, as sent.
    pub method: &'a str,
    /// The path, percent-decoded.
    pub path: Cow<'a, str>,
    /// What follows the `?`, not decoded.
    pub query: Option<&'a str>,
    /// HTTP/1.0 rather than 1.1.
    pub http_1_0: bool,
    /// The client wants to use the connection for another request.
    pub keep_alive: bool,
    /// `Content-Length`, 0 without one: never above the limit given to [`Request::parse`].
    pub body_bytes: usize,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    headers: &'a [Header<'a>],
}

impl<'a> Request<'a> {
    /// Reads a complete head. `headers` is room for the header lines; `bytes_max` bounds the body. An error is the
    /// status to answer with, and to close after.
    pub fn parse(
        head: &'a [u8],
        headers: &'a mut [Header<'a>; HEADERS_MAX],
        bytes_max: usize,
    ) -> Result<Self, Status> {
        let mut parsed = httparse::Request::new(headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => (),
            Ok(httparse::Status::Partial) => return Err(Status::BAD_REQUEST),
            Err(httparse::Error::TooManyHeaders) => return Err(Status::HEAD_TOO_LARGE),
            Err(httparse::Error::Version) => return Err(Status::VERSION_NOT_SUPPORTED),
            Err(_) => return Err(Status::BAD_REQUEST),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Status::BAD_REQUEST);
        };
        let (path, query) = split_target(target).ok_or(Status::BAD_REQUEST)?;
        let mut request = Self {
            method,
            path: percent_decode(path).ok_or(Status::BAD_REQUEST)?,
            query,
            http_1_0: minor == 0,
            keep_alive: false,
            body_bytes: 0,
            expects_continue: false,
            headers: parsed.headers,
        };
        // RFC 9112 section 3.2: exactly one Host since HTTP/1.1.
        match (request.all("host").count(), request.http_1_0) {
            (1, _) | (0, true) => (),
            _ => return Err(Status::BAD_REQUEST),
        }
        request.body_bytes = request.read_body_bytes(bytes_max)?;
        request.keep_alive = !request.has_token("connection", "close")
            && (!request.http_1_0 || request.has_token("connection", "keep-alive"));
        request.expects_continue = !request.http_1_0 && request.has_token("expect", "100-continue");
        Ok(request)
    }

    /// The first header line of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// All header lines of this name which are text, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
            .map(str::trim)
    }

    /// All header lines which are text, in order.
    pub fn texts(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.headers.iter().filter_map(|header| {
            let value = std::str::from_utf8(header.value).ok()?;
            Some((header.name, value.trim()))
        })
    }

    /// A comma-separated header contains this word, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(token))
    }

    fn read_body_bytes(&self, bytes_max: usize) -> Result<usize, Status> {
        // Counted over raw lines: a value that is not text must not make its line invisible here.
        let is = |name: &str| {
            self.headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case(name))
                .count()
        };
        match (is("transfer-encoding"), is("content-length")) {
            (0, 0) => Ok(0),
            (0, 1) => {
                let value = self.header("content-length").ok_or(Status::BAD_REQUEST)?;
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Status::BAD_REQUEST);
                }
                // Only digits, so the one way to fail is to be too large for the type.
                match value.parse::<usize>() {
                    Ok(bytes) if bytes <= bytes_max => Ok(bytes),
                    _ => Err(Status::CONTENT_TOO_LARGE),
                }
            }
            (1, 0) if !self.http_1_0 => match self.header("transfer-encoding") {
                Some(coding) if coding.eq_ignore_ascii_case("chunked") => {
                    Err(Status::LENGTH_REQUIRED)
                }
                _ => Err(Status::NOT_IMPLEMENTED),
            },
            _ => Err(Status::BAD_REQUEST),
        }
    }
}

/// The first header line of this name in a head that could not be read, or not to its end.
pub fn find_header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = head.split(|byte| *byte == b'\n').skip(1);
    lines.find_map(|line| {
        let line = std::str::from_utf8(line.strip_suffix(b"\r")?).ok()?;
        let (found, value) = line.split_once(':')?;
        let value = value.trim();
        (found.eq_ignore_ascii_case(name) && !value.contains(char::is_control)).then_some(value)
    })
}

/// Path and query of a request target in origin form (`/a?b`) or absolute form (`http://host/a?b`, which a server
/// must accept although only proxies are sent it). `OPTIONS *` gives the path `*`.
fn split_target(target: &str) -> Option<(&str, Option<&str>)> {
    let target = target.split('#').next().unwrap_or_default();
    let target = match target.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        _ if target.starts_with('/') || target == "*" => target,
        _ => return None,
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Some((if path.is_empty() { "/" } else { path }, query))
}

/// Replaces `%XX`; `None` if an escape is broken or the result is not UTF-8. `+` stays: it is only special in queries.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .as_bytes()
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        decoded.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        decoded.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// What every response is written with: what the server adds to all of them, and what the request decides.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The `Server` header; empty leaves it out.
    pub server_name: &'a str,
    /// For the `Date` header.
    pub now: SystemTime,
    /// The request was HTTP/1.0, where keeping the connection has to be said.
    pub http_1_0: bool,
    /// Whether the connection is used again.
    pub keep_alive: bool,
    /// The request was HEAD: everything but the body.
    pub head_only: bool,
    /// The page of another origin that may read the response.
    pub cors: Option<Cors<'a>>,
    /// Headers that the operator wants on every response: names and values, checked.
    pub added: &'a [(String, String)],
    /// Header lines of the request that go back as they came, each with its end.
    pub echoed: &'a str,
}

impl<'a> Context<'a> {
    /// For a request of which nothing is known: HTTP/1.1, after which the connection is not used again.
    pub fn new(server_name: &'a str, now: SystemTime) -> Self {
        Self {
            server_name,
            now,
            http_1_0: false,
            keep_alive: false,
            head_only: false,
            cors: None,
            added: &[],
            echoed: "",
        }
    }
}

/// Writes one response, header by header, into a buffer.
#[derive(Debug)]
#[must_use]
pub struct Response<'a> {
    out: &'a mut Vec<u8>,
    head_only: bool,
}

impl<'a> Response<'a> {
    /// Writes the status line and the headers that every response has.
    pub fn begin(out: &'a mut Vec<u8>, status: Status, context: &Context<'_>) -> Self {
        let Status(code, text) = status;
        let mut response = Self {
            out,
            head_only: context.head_only,
        };
        response.line(format_args!("HTTP/1.1 {code} {text}"));
        if !context.server_name.is_empty() {
            response = response.header("Server", context.server_name);
        }
        response = response.header("Date", httpdate::HttpDate::from(context.now));
        // Without it browsers hold back the first bytes of a text stream to guess its type.
        response = response.header("X-Content-Type-Options", "nosniff");
        if let Some(cors) = context.cors {
            response = response.header("Access-Control-Allow-Origin", cors.origin);
            if cors.credentials {
                response = response.header("Access-Control-Allow-Credentials", "true");
            }
            // A cache must not show the response to another page.
            response = response.header("Vary", "Origin");
        }
        for (name, value) in context.added {
            response = response.header(name, value);
        }
        response.out.extend_from_slice(context.echoed.as_bytes());
        match (context.keep_alive, context.http_1_0) {
            // "Upgrade" is written by who knows what to upgrade to.
            _ if status == Status::SWITCHING_PROTOCOLS => response,
            (false, _) => response.header("Connection", "close"),
            (true, true) => response.header("Connection", "keep-alive"),
            (true, false) => response,
        }
    }

    /// One more header. The value must come from us, or be checked: a line break in it would begin another header.
    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.line(format_args!("{name}: {value}"));
        self
    }

    /// Ends the response with a body; the body of a HEAD request's response is left out.
    pub fn body(self, content_type: &str, body: &[u8]) {
        let head_only = self.head_only;
        let mut response = self
            .header("Content-Type", content_type)
            .header("Content-Length", body.len());
        response.line(format_args!(""));
        if !head_only {
            response.out.extend_from_slice(body);
        }
    }

    /// Ends a response whose status has no body: 101, 304.
    pub fn no_body(mut self) {
        self.line(format_args!(""));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a vector cannot fail.
        let _ = self.out.write_fmt(line);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Writes a refusal: a status and, for people, a sentence. `extra` are headers that the status calls for.
pub fn refuse(
    out: &mut Vec<u8>,
    status: Status,
    reason: &str,
    extra: &[(&str, &str)],
    context: &Context<'_>,
) {
    let mut response = Response::begin(out, status, context).header("Cache-Control", "no-store");
    for (name, value) in extra {
        response = response.header(name, value);
    }
    response.body(
        "text/plain; charset=utf-8",
        format!("{} {}: {reason}\n", status.0, status.1).as_bytes(),
    );
}

/// Asks a client that waits with its body to send it.
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
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

    fn parsed<R>(head: &str, see: impl FnOnce(Result<Request<'_>, Status>) -> R) -> R {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        see(Request::parse(head.as_bytes(), &mut headers, 1_000))
    }

    fn status_of(head: &str) -> Option<u16> {
        parsed(head, |result| result.err().map(|status| status.0))
    }

    #[test]
    fn reads_a_head() {
        let head = "POST /a%20b/%C3%A9?x=%20 HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n";
        parsed(head, |request| {
            let request = request.unwrap();
            assert_eq!(
                (request.method, &*request.path, request.query),
                ("POST", "/a b/é", Some("x=%20"))
            );
            assert_eq!(
                (
                    request.body_bytes,
                    request.keep_alive,
                    request.expects_continue
                ),
                (12, true, true)
            );
        });
    }

    #[test]
    fn keep_alive_follows_version_and_connection_header() {
        let keeps = |head: &str| parsed(head, |request| request.unwrap().keep_alive);
        assert!(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!keeps(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Foo, CLOSE\r\n\r\n"
        ));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn targets() {
        for (target, expected) in [
            ("/", Some(("/", None))),
            ("/a?", Some(("/a", Some("")))),
            ("http://host:80/a?b", Some(("/a", Some("b")))),
            ("HTTP://host", Some(("/", None))),
            ("http://host?b", Some(("/", Some("b")))),
            ("*", Some(("*", None))),
            ("a", None),
            ("ftp://host/", None),
        ] {
            assert_eq!(split_target(target), expected, "{target}");
        }
    }

    #[test]
    fn refusals() {
        let body =
            |headers: &str| status_of(&format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
        assert_eq!(body("Content-Length: 1000\r\n"), None);
        assert_eq!(body("Content-Length: 1001\r\n"), Some(413));
        assert_eq!(
            body("Content-Length: 99999999999999999999999\r\n"),
            Some(413)
        );
        assert_eq!(body("Content-Length: +1\r\n"), Some(400));
        assert_eq!(body("Content-Length:\r\n"), Some(400));
        assert_eq!(body("Content-Length: 1, 1\r\n"), Some(400));
        assert_eq!(
            body("Content-Length: 1\r\nContent-Length: 1\r\n"),
            Some(400)
        );
        assert_eq!(body("Transfer-Encoding: chunked\r\n"), Some(411));
        assert_eq!(body("Transfer-Encoding: gzip, chunked\r\n"), Some(501));
        assert_eq!(
            body("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
            Some(400)
        );
        assert_eq!(
            status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some(400)
        );
        assert_eq!(status_of("GET / HTTP/1.1\r\n\r\n"), Some(400), "no Host");
        assert_eq!(
            status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            Some(400)
        );
        assert_eq!(status_of("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"), Some(400));
        assert_eq!(
            status_of("GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n"),
            Some(400),
            "not UTF-8"
        );
        assert_eq!(status_of("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), Some(505));
        assert_eq!(
            status_of("GET / HTTP/1.1\r\nHost : h\r\n\r\n"),
            Some(400),
            "blank before the colon"
        );
        let many = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX)
        );
        assert_eq!(status_of(&many), Some(431));
    }

    #[test]
    fn the_limit_is_exact_wherever_the_head_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..head.len() {
            for (bytes_max, fits) in [(head.len(), true), (head.len() - 1, false)] {
                let mut collector = HeadCollector::default();
                let first = collector
                    .collect(&head[..cut], bytes_max)
                    .map(|step| step.1.is_some());
                assert_eq!(first, Ok(false));
                let second = collector
                    .collect(&head[cut..], bytes_max)
                    .map(|step| step.1.map(<[u8]>::to_vec));
                match fits {
                    true => assert_eq!(second, Ok(Some(head.to_vec())), "cut at {cut}"),
                    false => {
                        assert_eq!(second, Err(Status::HEAD_TOO_LARGE), "cut at {cut}")
                    }
                }
            }
        }
    }

    #[test]
    fn a_head_without_an_end_is_refused_at_the_limit() {
        let mut collector = HeadCollector::default();
        for _ in 0..100 {
            assert_eq!(collector.collect(b"a", 100).map(|step| step.0), Ok(1));
        }
        assert_eq!(collector.collect(b"a", 100), Err(Status::HEAD_TOO_LARGE));
    }

    #[test]
    fn what_is_not_http_is_refused_at_its_first_byte() {
        assert_eq!(
            HeadCollector::default().collect(b"\x16\x03\x01", 100),
            Err(Status::BAD_REQUEST)
        );
    }

    #[test]
    fn memory_is_freed_with_the_head() {
        let mut collector = HeadCollector::default();
        assert!(collector.collect(b"\r\nGET / HT", 100).unwrap().1.is_none());
        assert!(collector.heap_bytes() > 0);
        assert_eq!(
            collector.collect(b"TP/1.1\n\nrest", 100).unwrap(),
            (8, Some(&b"GET / HTTP/1.1\n\n"[..]))
        );
        collector.free_lent();
        assert_eq!(collector.heap_bytes(), 0);
    }

    #[test]
    fn a_response_reads_as_written() {
        let mut out = Vec::new();
        let added = [("X-Frame-Options".to_owned(), "DENY".to_owned())];
        let context = Context {
            cors: Some(Cors {
                origin: "https://a",
                credentials: false,
            }),
            added: &added,
            ..Context::new("S", SystemTime::UNIX_EPOCH)
        };
        refuse(
            &mut out,
            Status::METHOD_NOT_ALLOWED,
            "no",
            &[("Allow", "GET")],
            &context,
        );
        let expected = "HTTP/1.1 405 Method Not Allowed\r\nServer: S\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
            X-Content-Type-Options: nosniff\r\nAccess-Control-Allow-Origin: https://a\r\nVary: Origin\r\n\
            X-Frame-Options: DENY\r\nConnection: close\r\nCache-Control: no-store\r\nAllow: GET\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 27\r\n\r\n405 Method Not Allowed: no\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

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
