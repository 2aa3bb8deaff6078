//! A request's head: collected out of what the socket brings, and read.

use std::borrow::Cow;

use httparse::Header;

use super::{HEADERS_MAX, Status};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
