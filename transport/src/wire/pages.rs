//! The demo page, embedded in the binary: files, their types, and the headers they are served with.

use std::fmt::{self, Display};
use std::hash::{DefaultHasher, Hasher};
use std::sync::LazyLock;

use crate::wire::http::{Context, Request, Response, Status};

/// One file.
#[derive(Debug)]
pub struct Page {
    /// Where it is found, percent-decoded.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static [u8],
    /// Changes with the content; with quotation marks, as it is sent.
    pub etag: String,
}

static PAGES: LazyLock<[Page; 6]> = LazyLock::new(|| {
    const HTML: &str = "text/html; charset=utf-8";
    const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
    const CSS: &str = "text/css; charset=utf-8";
    const SVG: &str = "image/svg+xml; charset=utf-8";
    let favicon = include_bytes!("../../assets/favicon.svg");
    [
        page("/", HTML, include_bytes!("../../assets/index.html")),
        page("/app.js", JAVASCRIPT, include_bytes!("../../assets/app.js")),
        page(
            "/tlcp.js",
            JAVASCRIPT,
            include_bytes!("../../assets/tlcp.js"),
        ),
        page("/style.css", CSS, include_bytes!("../../assets/style.css")),
        page("/favicon.svg", SVG, favicon),
        // Browsers ask for this name on their own; they go by the type, not by the name.
        page("/favicon.ico", SVG, favicon),
    ]
});

fn page(path: &'static str, content_type: &'static str, content: &'static [u8]) -> Page {
    // Fixed keys, so that all processes of one build agree. Nobody gains by a collision.
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    Page {
        path,
        content_type,
        content,
        etag: format!("\"{:016x}\"", hasher.finish()),
    }
}

/// The file under a path; `/index.html` is another name of `/`.
pub fn find(path: &str) -> Option<&'static Page> {
    let path = if path == "/index.html" { "/" } else { path };
    PAGES.iter().find(|page| page.path == path)
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
    let response = Response::begin(out, status, context)
        // Kept by the browser, but asked for each time: a new server must not meet an old page.
        .header("Cache-Control", "no-cache")
        .header("ETag", &page.etag)
        .header(
            "Content-Security-Policy",
            ContentSecurityPolicy {
                host: request.header("host"),
            },
        )
        .header("Referrer-Policy", "no-referrer");
    if known {
        response.no_body()
    } else {
        response.body(page.content_type, page.content)
    }
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
        write(&mut out, find("/").unwrap(), &request, &context);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_pages_have_a_charset_and_different_paths() {
        for page in PAGES.iter() {
            assert!(page.content_type.ends_with("; charset=utf-8"));
            assert!(std::ptr::eq(find(page.path).unwrap(), page));
        }
        assert!(std::ptr::eq(
            find("/index.html").unwrap(),
            find("/").unwrap()
        ));
        assert!(find("/lightstreamer").is_none() && find("").is_none());
    }

    #[test]
    fn a_known_page_is_not_sent_again() {
        let etag = &find("/").unwrap().etag;
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
