//! Responses, written into a buffer.

use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

use super::Status;
use crate::wire::origin::Cors;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
