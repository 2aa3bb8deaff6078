//! A request's head is there: what it is, and what it will be answered.

use std::sync::Arc;

use engine::tlcp::request::Verb;
use httparse::EMPTY_HEADER;

use super::{BODY_BYTES_MAX, Connection, Host, State, Step};
use crate::net::response::Terms;
use crate::wire::http::{self, HEADERS_MAX, HeadCollector, Request, Status};
use crate::wire::origin::{self, TLCP_METHODS};
use crate::wire::pages;
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

enum Route {
    Page(&'static pages::Page),
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
            Err(status) => (
                bytes.len(),
                self.refuse_and_close(status, "not a request for here", host),
            ),
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
                let step = self.refuse_and_close(status, "the request cannot be served", host);
                return (0, step);
            }
        };
        let origin = request.header("origin");
        let allowed = origin.is_none_or(|origin| settings.origins.policy.allows(origin));
        let terms = Terms {
            http_1_0: request.http_1_0,
            keep_alive: request.keep_alive,
            head_only: request.method == "HEAD",
            origin: origin.filter(|_| allowed).map(Into::into),
        };
        let context = settings.context(&terms, host.now());
        if is_websocket_path(&request.path) && request.method == "GET" {
            let step = match Upgrade::read(&request, &settings.origins.policy) {
                Ok(upgrade) => {
                    upgrade.write_answer(host.reply(), &context);
                    let decoder = Decoder::of_clients(request_bytes_max);
                    self.state = State::WebSocket {
                        decoder,
                        closing: false,
                    };
                    host.upgraded(&upgrade);
                    Step::Continue
                }
                Err(refusal) => self.refuse_and_close(refusal.status, refusal.reason, host),
            };
            return (0, step);
        }
        let route = self.route(&request);
        if request.body_bytes > request_bytes_max && !matches!(route, Route::Tlcp(_)) {
            let reason = "the body is above the request limit";
            let step = self.refuse_and_close(Status::CONTENT_TOO_LARGE, reason, host);
            return (0, step);
        }
        let answer = match route {
            Route::Page(page) if request.body_bytes == 0 => {
                pages::write(host.reply(), page, &request, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Preflight if request.body_bytes == 0 => {
                origin::write_preflight(host.reply(), &settings.origins, &context);
                return (0, self.end_of_request(request.keep_alive, host));
            }
            Route::Tlcp(verb) => return self.on_call(verb, &request, terms, !allowed, rest, host),
            // A page that is asked for with a body: legal and pointless. Not worth a second way to serve it.
            Route::Page(_) | Route::Preflight => (Status::BAD_REQUEST, "this takes no body", None),
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
    fn route(&self, request: &Request<'_>) -> Route {
        let page = if self.settings.pages {
            pages::find(&request.path)
        } else {
            None
        };
        if let Some(verb) = tlcp::verb(&request.path) {
            return match request.method {
                "POST" | "GET" => Route::Tlcp(verb),
                "OPTIONS" => Route::Preflight,
                _ => Route::Refuse(
                    Status::METHOD_NOT_ALLOWED,
                    "not a method for TLCP",
                    Some(TLCP_METHODS),
                ),
            };
        }
        match (request.method, page) {
            ("GET" | "HEAD", Some(page)) => Route::Page(page),
            (_, Some(_)) => Route::Refuse(
                Status::METHOD_NOT_ALLOWED,
                "pages can only be read",
                Some("GET, HEAD"),
            ),
            (_, None) if is_websocket_path(&request.path) => Route::Refuse(
                Status::METHOD_NOT_ALLOWED,
                "this path speaks WebSocket",
                Some("GET"),
            ),
            ("GET" | "HEAD" | "POST" | "OPTIONS", None) => {
                Route::Refuse(Status::NOT_FOUND, "nothing is here", None)
            }
            (_, None) => Route::Refuse(
                Status::METHOD_NOT_ALLOWED,
                "not a method for here",
                Some("GET, HEAD, POST, OPTIONS"),
            ),
        }
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
    fn refuse_and_close(&mut self, status: Status, reason: &str, host: &mut impl Host) -> Step {
        let terms = Terms::default();
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
}

fn is_websocket_path(path: &str) -> bool {
    matches!(path, "/lightstreamer" | "/lightstreamer/")
}
