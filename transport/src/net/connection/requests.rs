//! A request's head is there: what it is, and what it will be answered.

use std::sync::Arc;

use engine::metadata::client::Headers;
use engine::tlcp::request::Verb;
use httparse::EMPTY_HEADER;

use super::calls::Judged;
use super::{BODY_BYTES_MAX, Caller, Connection, Host, Settings, State, Step};
use crate::net::response::Terms;
use crate::wire::charset::Charset;
use crate::wire::client;
use crate::wire::gzip;
use crate::wire::http::{self, HEADERS_MAX, HeadCollector, Request, Response, Status};
use crate::wire::origin::{self, TLCP_METHODS};
use crate::wire::pages::{self, Page};
use crate::wire::tlcp;
use crate::wire::ws::{Decoder, Upgrade};

/// What a request will be answered once its body is there.
#[derive(Debug)]
pub(super) struct Answer {
    status: Status,
    reason: &'static str,
    /// `Allow` header.
    allow: Option<&'static str>,
    pub(super) terms: Terms,
}

enum Route<'a> {
    Page(&'a Page),
    /// A folder without the slash at its end; to there.
    Folder(String),
    Health,
    Tlcp(Verb),
    /// `OPTIONS` of a TLCP path.
    Preflight,
    /// Status, reason, `Allow` header.
    Refuse(Status, &'static str, Option<&'static str>),
}

impl Connection {
    /// `collector` was taken out of the state, so that the head may be lent while the state changes.
    pub(super) fn read_head(
        &mut self,
        mut collector: HeadCollector,
        bytes: &[u8],
        host: &mut impl Host,
    ) -> (usize, Step) {
        match collector.collect(bytes, self.settings.request_bytes_max) {
            Ok((taken, Some(head))) => {
                let (more, step) = self.on_head(head, &bytes[taken..], host);
                (taken + more, step)
            }
            Ok((taken, None)) => {
                self.state = State::Head(collector);
                (taken, Step::Continue)
            }
            Err(status) => {
                let terms = self.terms_of_broken(collector.partial(), bytes);
                let step = self.refuse_and_close(status, "not a request for here", terms, host);
                (bytes.len(), step)
            }
        }
    }

    /// A request's head is complete: decides what it is, and what it will be answered. `rest` is what has arrived
    /// behind it; returns how much of that was used. The state is a fresh [`State::Head`] when this is called.
    fn on_head(&mut self, head: &[u8], rest: &[u8], host: &mut impl Host) -> (usize, Step) {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let settings = Arc::clone(&self.settings);
        let request_bytes_max = settings.request_bytes_max;
        let body_bytes_max = BODY_BYTES_MAX.max(request_bytes_max);
        let request = match Request::parse(head, &mut headers, body_bytes_max) {
            Ok(request) => request,
            Err(status) => {
                let terms = self.terms_of_broken(head, &[]);
                let reason = "the request cannot be served";
                return (0, self.refuse_and_close(status, reason, terms, host));
            }
        };
        let origin = request.header("origin");
        let allowed = origin.is_none_or(|origin| settings.origins.policy.allows(origin));
        let terms = Terms {
            http_1_0: request.http_1_0,
            keep_alive: request.keep_alive,
            head_only: request.method == "HEAD",
            origin: origin.filter(|_| allowed).map(Into::into),
            echoed: echoed(&request, &settings.echoed_headers),
            gzip: settings.gzip && gzip::is_accepted(&request),
        };
        let path = below_prefix(&request.path, &settings.prefixes);
        let caller = caller(&request, &settings, path, host);
        let context = settings.context(&terms, host.now());
        if is_websocket_path(path) && request.method == "GET" {
            let step = match Upgrade::read(&request, &settings.origins.policy) {
                Ok(upgrade) => {
                    upgrade.write_answer(host.reply(), &context);
                    let decoder = Decoder::of_clients(request_bytes_max).cutting(body_bytes_max);
                    self.state = State::WebSocket {
                        decoder,
                        closing: false,
                    };
                    host.upgraded(&upgrade, caller, &settings);
                    Step::Continue
                }
                Err(refusal) => self.refuse_and_close(refusal.status, refusal.reason, terms, host),
            };
            return (0, step);
        }
        let route = route(&settings, &request, path);
        if request.body_bytes > request_bytes_max && !matches!(route, Route::Tlcp(_)) {
            let reason = "the body is above the request limit";
            let step = self.refuse_and_close(Status::CONTENT_TOO_LARGE, reason, terms, host);
            return (0, step);
        }
        let answer = match route {
            Route::Page(page) if request.body_bytes == 0 => {
                pages::write(host.reply(), page, &request, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Folder(path) if request.body_bytes == 0 => {
                pages::write_moved(host.reply(), &path, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Health if request.body_bytes == 0 => {
                Response::begin(host.reply(), Status::OK, &context)
                    .header("Cache-Control", "no-store")
                    .body("text/plain; charset=utf-8", HEALTHY);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Preflight if request.body_bytes == 0 => {
                origin::write_preflight(host.reply(), &settings.origins, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Tlcp(verb) => {
                let judged = Judged {
                    caller,
                    charset: request
                        .header("content-type")
                        .map_or(Charset::default(), Charset::declared),
                    forbidden: !allowed,
                    cut: false,
                };
                return self.on_call(verb, &request, terms, judged, rest, host);
            }
            // A page that is asked for with a body: legal and pointless. Not worth a second way to serve it.
            Route::Page(_) | Route::Folder(_) | Route::Health | Route::Preflight => {
                (Status::BAD_REQUEST, "this takes no body", None)
            }
            Route::Refuse(status, reason, allow) => (status, reason, allow),
        };
        if request.expects_continue && request.body_bytes > 0 {
            http::write_continue(host.reply());
        }
        let answer = Answer {
            status: answer.0,
            reason: answer.1,
            allow: answer.2,
            terms,
        };
        self.state = State::Body {
            missing: request.body_bytes,
            answer: Box::new(answer),
        };
        (0, self.answer_if_complete(host))
    }
    pub(super) fn answer_if_complete(&mut self, host: &mut impl Host) -> Step {
        let State::Body { missing: 0, answer } = &self.state else {
            return Step::Continue;
        };
        let keep_alive = answer.terms.keep_alive;
        let context = self.settings.context(&answer.terms, host.now());
        let allow = answer.allow.map(|methods| ("Allow", methods));
        http::refuse(
            host.reply(),
            answer.status,
            answer.reason,
            allow.as_slice(),
            &context,
        );
        self.end_of_request(keep_alive, host)
    }

    /// Refuses a request after which nothing that follows can be trusted to be a request.
    fn refuse_and_close(
        &mut self,
        status: Status,
        reason: &str,
        terms: Terms,
        host: &mut impl Host,
    ) -> Step {
        let terms = Terms {
            keep_alive: false,
            ..terms
        };
        let context = self.settings.context(&terms, host.now());
        let upgrade = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
        let extra: &[_] = if status == Status::UPGRADE_REQUIRED {
            &upgrade
        } else {
            &[]
        };
        http::refuse(host.reply(), status, reason, extra, &context);
        Step::Hold(self.finish(host))
    }

    /// What can be said of a head that cannot be read: the page behind it, which else would learn nothing but that
    /// something failed.
    fn terms_of_broken(&self, head: &[u8], more: &[u8]) -> Terms {
        let origin =
            http::find_header(head, "origin").or_else(|| http::find_header(more, "origin"));
        let policy = &self.settings.origins.policy;
        Terms {
            origin: origin
                .filter(|origin| policy.allows(origin))
                .map(Into::into),
            ..Terms::default()
        }
    }
}

/// What a path stands for, and whether the method is one for it.
fn route<'a>(settings: &'a Settings, request: &Request<'_>, path: &str) -> Route<'a> {
    let not_allowed =
        |reason, methods| Route::Refuse(Status::METHOD_NOT_ALLOWED, reason, Some(methods));
    let reads = matches!(request.method, "GET" | "HEAD");
    if let Some(verb) = tlcp::verb(path) {
        return match request.method {
            "POST" | "GET" => Route::Tlcp(verb),
            "OPTIONS" => Route::Preflight,
            _ => not_allowed("not a method for TLCP", TLCP_METHODS),
        };
    }
    if is_websocket_path(path) {
        return not_allowed("this path speaks WebSocket", "GET");
    }
    if !settings.health_path.is_empty() && request.path == settings.health_path {
        return match reads {
            true => Route::Health,
            false => not_allowed("this can only be read", "GET, HEAD"),
        };
    }
    // Pages have no prefix.
    if let Some(page) = settings.site.find(&request.path) {
        return match reads {
            true => Route::Page(page),
            false => not_allowed("pages can only be read", "GET, HEAD"),
        };
    }
    let folder = format!("{}/", request.path);
    if reads && settings.site.find(&folder).is_some() {
        return Route::Folder(folder);
    }
    match request.method {
        "GET" | "HEAD" | "POST" | "OPTIONS" => {
            Route::Refuse(Status::NOT_FOUND, "nothing is here", None)
        }
        _ => not_allowed("not a method for here", "GET, HEAD, POST, OPTIONS"),
    }
}

/// The path without the prefix under which a proxy publishes the server, if one of the configured ones is there.
fn below_prefix<'a>(path: &'a str, prefixes: &[String]) -> &'a str {
    prefixes
        .iter()
        .filter_map(|prefix| path.strip_prefix(prefix.as_str()))
        .find(|rest| is_websocket_path(rest) || rest.starts_with("/lightstreamer/"))
        .unwrap_or(path)
}

fn caller(request: &Request<'_>, settings: &Settings, path: &str, host: &impl Host) -> Caller {
    let opens = is_websocket_path(path) || tlcp::verb(path) == Some(Verb::CreateSession);
    let believed = settings.forwarded_hops > 0 && settings.trusts(host.peer());
    Caller {
        forwarded_for: believed
            .then(|| client::forwarded_for(request, settings.forwarded_hops))
            .flatten(),
        // Part of the text that Apple's network stack names itself by, unless the application names itself.
        ascii: request
            .header("user-agent")
            .is_some_and(|agent| agent.contains("CFNetwork")),
        by_control_link: (settings.control_link.as_ref())
            .zip(request.header("host"))
            .is_some_and(|(link, host)| link.is_named_by(host)),
        headers: match opens && settings.keeps_headers {
            true => Headers::collect(request.texts(), HEADERS_BYTES_KEPT),
            false => Headers::default(),
        },
    }
}

/// The request's header lines of these names. What is above the bound is left out.
fn echoed(request: &Request<'_>, names: &[String]) -> Option<Box<str>> {
    let mut lines = String::new();
    for name in names {
        for value in request.all(name) {
            if lines.len() + name.len() + value.len() > ECHOED_BYTES_MAX {
                continue;
            }
            lines.extend([name, ": ", value, "\r\n"]);
        }
    }
    (!lines.is_empty()).then(|| lines.into())
}

/// Most of the request that goes back with the response. (guess)
const ECHOED_BYTES_MAX: usize = 4096;
/// Most that is kept of the headers of those who want sessions: as long as a WebSocket lives. What is above is left out.
/// (guess: what proxies let pass)
const HEADERS_BYTES_KEPT: usize = 16 << 10;
/// What a health check reads. (the reference product's text)
const HEALTHY: &[u8] = b"OK\r\n";

fn is_websocket_path(path: &str) -> bool {
    matches!(path, "/lightstreamer" | "/lightstreamer/")
}
