//! Pages: the demo, embedded in the binary, and the operator's own files; their types, and the headers they are served with.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::hash::{DefaultHasher, Hasher};

use engine::text::push_escaped;

use crate::wire::gzip;
use crate::wire::http::{Context, Request, Response, Status};

/// One file.
#[derive(Debug)]
pub struct Page {
    /// Where it is found, percent-decoded.
    pub path: Cow<'static, str>,
    /// Its `Content-Type`.
    pub content_type: Cow<'static, str>,
    /// Its content.
    pub content: Cow<'static, [u8]>,
    /// The same compressed, if that is wanted and worth it.
    pub gzipped: Option<Vec<u8>>,
    /// Changes with the content; with quotation marks, as it is sent.
    pub etag: String,
    /// Ours, which keeps to a strict policy.
    strict: bool,
}

impl Page {
    /// A file of the operator's, who answers for what it does.
    pub fn new(path: String, content_type: String, content: Vec<u8>) -> Self {
        Self::made(path.into(), content_type.into(), content.into(), false)
    }

    fn made(
        path: Cow<'static, str>,
        content_type: Cow<'static, str>,
        content: Cow<'static, [u8]>,
        strict: bool,
    ) -> Self {
        // Fixed keys, so that all processes of one build agree. Nobody gains by a collision.
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        Self {
            path,
            content_type,
            content,
            gzipped: None,
            etag: format!("\"{:016x}\"", hasher.finish()),
            strict,
        }
    }
}

/// All pages of a listener, in memory: no request makes a shard read a file.
#[derive(Debug, Default)]
pub struct Site {
    pages: HashMap<Cow<'static, str>, Page>,
}

impl Site {
    /// The demo.
    pub fn demo() -> Self {
        let mut site = Self::default();
        const HTML: &str = "text/html; charset=utf-8";
        const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
        const CSS: &str = "text/css; charset=utf-8";
        const SVG: &str = "image/svg+xml; charset=utf-8";
        let favicon = include_bytes!("../../assets/favicon.svg");
        let mut add = |path: &'static str, content_type: &'static str, content: &'static [u8]| {
            site.add(Page::made(
                path.into(),
                content_type.into(),
                content.into(),
                true,
            ));
        };
        let index = include_bytes!("../../assets/index.html");
        add("/", HTML, index);
        add("/index.html", HTML, index);
        add("/app.js", JAVASCRIPT, include_bytes!("../../assets/app.js"));
        add(
            "/tlcp.js",
            JAVASCRIPT,
            include_bytes!("../../assets/tlcp.js"),
        );
        add("/style.css", CSS, include_bytes!("../../assets/style.css"));
        add("/favicon.svg", SVG, favicon);
        // Browsers ask for this name on their own; they go by the type, not by the name.
        add("/favicon.ico", SVG, favicon);
        site
    }

    /// Puts a page in, in place of one of the same path.
    pub fn add(&mut self, page: Page) {
        self.pages.insert(page.path.clone(), page);
    }

    /// Puts all pages of another site in.
    pub fn extend(&mut self, other: Self) {
        self.pages.extend(other.pages);
    }

    /// Compresses what is worth it.
    pub fn gzipped(mut self) -> Self {
        for page in self.pages.values_mut() {
            if gzip::is_worth_it(&page.content_type, page.content.len()) {
                page.gzipped = gzip::compress(&page.content);
            }
        }
        self
    }

    /// The page under a path.
    pub fn find(&self, path: &str) -> Option<&Page> {
        self.pages.get(path)
    }

    /// All pages, in no order.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.pages.values()
    }
}

/// Answers a GET or HEAD request for a file: 200, or 304 if the client's copy is still good.
pub fn write(out: &mut Vec<u8>, page: &Page, request: &Request<'_>, context: &Context<'_>) {
    let known = request
        .all("if-none-match")
        .flat_map(|tags| tags.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == page.etag || tag == "*");
    let status = if known {
        Status::NOT_MODIFIED
    } else {
        Status::OK
    };
    let mut response = Response::begin(out, status, context)
        // Kept by the browser, but asked for each time: a new server must not meet an old page.
        .header("Cache-Control", "no-cache");
    if page.strict {
        response = response
            .header(
                "Content-Security-Policy",
                ContentSecurityPolicy {
                    host: request.header("host"),
                },
            )
            .header("Referrer-Policy", "no-referrer");
    }
    let gzipped = page.gzipped.as_deref();
    if gzipped.is_some() {
        response = response.header("Vary", "Accept-Encoding");
    }
    match gzipped.filter(|_| gzip::is_accepted(request)) {
        // Other bytes, hence a tag that is weak.
        Some(_) if known => response
            .header("ETag", format_args!("W/{}", page.etag))
            .no_body(),
        Some(gzipped) => response
            .header("ETag", format_args!("W/{}", page.etag))
            .header("Content-Encoding", "gzip")
            .body(&page.content_type, gzipped),
        None if known => response.header("ETag", &page.etag).no_body(),
        None => response
            .header("ETag", &page.etag)
            .body(&page.content_type, &page.content),
    }
}

/// Answers a request for a folder that lacks the slash: without it the links of its page would start one level too high.
pub fn write_moved(out: &mut Vec<u8>, path: &str, context: &Context<'_>) {
    let mut location = Vec::with_capacity(path.len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    push_escaped(&mut location, path.as_bytes(), |byte| !plain(byte));
    Response::begin(out, Status::MOVED_PERMANENTLY, context)
        .header("Location", String::from_utf8_lossy(&location))
        .header("Content-Length", 0)
        .no_body();
}

/// What the page may do: load from here, and open WebSockets to here. Nothing inline, nothing foreign, no framing.
struct ContentSecurityPolicy<'a> {
    host: Option<&'a str>,
}

impl Display for ContentSecurityPolicy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; connect-src 'self'",
        )?;
        // That 'self' covers ws: as well is younger than some browsers in use, so the host is named. It is the
        // client's text: only what can be a host and a port is repeated.
        let is_plain = |host: &str| {
            host.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']')
            })
        };
        match self.host.filter(|host| !host.is_empty() && is_plain(host)) {
            Some(host) => write!(f, " ws://{host} wss://{host}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::HEADERS_MAX;
    use std::time::SystemTime;

    fn get(headers: &str) -> String {
        let head = format!("GET / HTTP/1.1\r\n{headers}\r\n");
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let request = Request::parse(head.as_bytes(), &mut lines, 0).unwrap();
        let context = Context {
            keep_alive: true,
            ..Context::new("", SystemTime::UNIX_EPOCH)
        };
        let mut out = Vec::new();
        write(
            &mut out,
            Site::demo().find("/").unwrap(),
            &request,
            &context,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_pages_have_a_charset() {
        let site = Site::demo();
        for page in site.pages() {
            assert!(page.content_type.ends_with("; charset=utf-8"));
        }
        let tag = |path| site.find(path).map(|page| page.etag.clone());
        assert_eq!(tag("/index.html"), tag("/"));
        assert_ne!(tag("/app.js"), tag("/"));
        assert!(tag("/lightstreamer").is_none() && tag("").is_none());
    }

    #[test]
    fn a_page_goes_out_compressed_to_those_who_accept_it() {
        let site = Site::demo().gzipped();
        let page = site.find("/").unwrap();
        let answer = |headers: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
            let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let request = Request::parse(head.as_bytes(), &mut lines, 0).unwrap();
            let mut out = Vec::new();
            write(
                &mut out,
                page,
                &request,
                &Context::new("", SystemTime::UNIX_EPOCH),
            );
            let end = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let body = out.split_off(end);
            (String::from_utf8(out).unwrap(), body)
        };
        let (head, body) = answer("Accept-Encoding: gzip, br\r\n");
        assert!(head.contains("\r\nContent-Encoding: gzip\r\n") && head.contains("ETag: W/\""));
        assert_eq!(Some(&body), page.gzipped.as_ref());
        let (head, body) = answer("");
        assert!(!head.contains("Content-Encoding") && head.contains("\r\nVary: Accept-Encoding"));
        assert_eq!(body, *page.content);
    }

    #[test]
    fn a_known_page_is_not_sent_again() {
        let site = Site::demo();
        let etag = &site.find("/").unwrap().etag;
        assert!(get("Host: h\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(get("Host: h\r\nIf-None-Match: \"x\"\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
        for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".into()] {
            let answer = get(&format!("Host: h\r\nIf-None-Match: {tags}\r\n"));
            assert!(answer.starts_with("HTTP/1.1 304 Not Modified\r\n"));
            assert!(answer.ends_with("\r\n\r\n") && !answer.contains("Content-Length"));
        }
    }

    #[test]
    fn the_policy_names_the_host_but_repeats_no_directives() {
        assert!(
            get("Host: [::1]:8080\r\n")
                .contains("connect-src 'self' ws://[::1]:8080 wss://[::1]:8080\r\n")
        );
        assert!(get("Host: a; script-src *\r\n").contains("connect-src 'self'\r\n"));
    }
}
