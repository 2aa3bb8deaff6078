//! TLCP requests over HTTP: collecting their bodies, and handing them to the host.

use std::sync::Arc;

use engine::shard::HttpRequest;
use engine::tlcp::request::Verb;

use super::{Caller, Connection, Host, Progress, State, Step, TlcpRequest};
use crate::net::response::{self, Terms};
use crate::wire::charset::Charset;
use crate::wire::http::{self, HeadCollector, Request};
use crate::wire::tlcp::{self, Verdict};

/// A TLCP request whose body is not there yet.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) query: Box<str>,
    pub(super) terms: Terms,
    pub(super) caller: Caller,
    /// See [`Judged::charset`].
    pub(super) charset: Charset,
    /// The page behind the request may not talk to us.
    pub(super) forbidden: bool,
    /// `body.len() + missing <=` the request limit.
    pub(super) body: Vec<u8>,
    pub(super) missing: usize,
    /// How much of the body is above the request limit, and still to come: it is dropped.
    pub(super) excess: usize,
    /// There was such an excess.
    pub(super) cut: bool,
}

/// What is known of a TLCP request before it is read.
#[derive(Clone)]
pub(super) struct Judged {
    pub(super) caller: Caller,
    /// That of the body.
    pub(super) charset: Charset,
    /// See [`Call::forbidden`].
    pub(super) forbidden: bool,
    /// See [`Call::cut`].
    pub(super) cut: bool,
}

impl Connection {
    /// A TLCP request. Its body usually came along with the head, and is then lent from where it lies.
    pub(super) fn on_call(
        &mut self,
        verb: Verb,
        request: &Request<'_>,
        terms: Terms,
        judged: Judged,
        rest: &[u8],
        host: &mut impl Host,
    ) -> (usize, Step) {
        if request.expects_continue && request.body_bytes > 0 {
            http::write_continue(host.reply());
        }
        let query = request.query.unwrap_or_default();
        let kept = request.body_bytes.min(self.settings.request_bytes_max);
        if kept == request.body_bytes && kept <= rest.len() {
            return (
                kept,
                self.call(verb, query, &rest[..kept], terms, judged, host),
            );
        }
        self.state = State::Call(Box::new(Call {
            verb,
            query: query.into(),
            terms,
            caller: judged.caller,
            charset: judged.charset,
            forbidden: judged.forbidden,
            body: Vec::new(),
            missing: kept,
            excess: request.body_bytes - kept,
            cut: kept < request.body_bytes,
        }));
        (0, Step::Continue)
    }

    pub(super) fn call_if_complete(&mut self, host: &mut impl Host) -> Step {
        match &mut self.state {
            State::Call(call) if call.missing + call.excess == 0 => (),
            _ => return Step::Continue,
        }
        let fresh = State::Head(HeadCollector::default());
        let State::Call(call) = std::mem::replace(&mut self.state, fresh) else {
            return Step::Continue;
        };
        let Call {
            verb,
            query,
            terms,
            caller,
            charset,
            forbidden,
            body,
            cut,
            ..
        } = *call;
        let judged = Judged {
            caller,
            charset,
            forbidden,
            cut,
        };
        self.call(verb, &query, &body, terms, judged, host)
    }

    /// A TLCP request is complete: hands it to the host, unless its answer is known here.
    fn call(
        &mut self,
        verb: Verb,
        query: &str,
        body: &[u8],
        terms: Terms,
        judged: Judged,
        host: &mut impl Host,
    ) -> Step {
        let settings = Arc::clone(&self.settings);
        let body = judged.charset.decode(body);
        let verdict = if judged.forbidden {
            // Status 200 and nothing for the page to read (TLCP, CORS).
            Verdict::Answer(Vec::new())
        } else {
            tlcp::judge(verb, query, &body, judged.cut, self.settings.legacy)
        };
        let now = host.now();
        match verdict {
            Verdict::Serve { version, body } => {
                self.state = State::Response;
                let request = TlcpRequest {
                    version,
                    http: HttpRequest {
                        verb,
                        query,
                        body,
                        identity: terms.identity(),
                    },
                    caller: judged.caller,
                    terms,
                };
                host.request(request, &settings);
                return Step::Hold(Progress::Stopped);
            }
            Verdict::Answer(lines) => {
                response::write(host.reply(), &lines, &terms, &self.settings, now);
            }
            Verdict::Refuse(status, reason) => {
                let context = self.settings.context(&terms, now);
                http::refuse(host.reply(), status, reason, &[], &context);
            }
        }
        self.end_of_request(terms.keep_alive, host)
    }
}

impl Call {
    /// Takes what belongs to the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let kept = bytes.len().min(self.missing);
        self.body.extend_from_slice(&bytes[..kept]);
        self.missing -= kept;
        let dropped = (bytes.len() - kept).min(self.excess);
        self.excess -= dropped;
        kept + dropped
    }
}
