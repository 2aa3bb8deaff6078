//! TLCP requests over HTTP: their paths, the version they speak, and the answers to those that need no session.
//!
//! `POST /lightstreamer/control.txt?LS_protocol=TLCP-2.5.0` with a body of request lines, or `GET` with everything in
//! the query. Whatever goes wrong with such a request is told in the protocol's own words and with status 200: any
//! other status is a network error to the official clients, which then send the same request again, for ever (TLCP,
//! HTTP Responses). The exceptions are requests that no TLCP client sends.
//!
//! A request without `LS_protocol` is one of the text protocol before TLCP, whose clients are served as well unless the
//! configuration says otherwise.

use engine::text::{Plus, percent_decode};
use engine::tlcp::Version;
use engine::tlcp::cause::Refusal;
use engine::tlcp::request::{self, Carrier, Request, Verb};
use engine::tlcp::{legacy, response};

use super::http::Status;

/// The verb that a path stands for.
pub fn verb(path: &str) -> Option<Verb> {
    let name = path.strip_prefix("/lightstreamer/")?.strip_suffix(".txt")?;
    if name == "dashboard/create_session" {
        return Some(Verb::CreateSession); // another door to the same room, used by the vendor's dashboard
    }
    if let Some(verb) = legacy::verb(name) {
        return Some(verb); // the old names, one of which TLCP has changed
    }
    // `wsok` asks whether a WebSocket works.
    Verb::from_name(name).filter(|verb| *verb != Verb::Wsok)
}

/// What becomes of a request whose body is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The engine answers it.
    Serve {
        /// `LS_protocol`, or [`Version::LEGACY`]
        version: Version,
        /// The body.
        body: &'a str,
    },
    /// These lines answer it.
    Answer(Vec<u8>),
    /// It is not TLCP: status, and a word for people.
    Refuse(Status, &'static str),
}

/// Judges a request. `cut` says that only the beginning of the body was kept, for it is above the request limit;
/// `serves_legacy`, that the text protocol before TLCP is spoken too.
pub fn judge<'a>(
    verb: Verb,
    query: &str,
    body: &'a [u8],
    cut: bool,
    serves_legacy: bool,
) -> Verdict<'a> {
    let body = match std::str::from_utf8(body) {
        Ok(body) => body,
        // A cut may go through a character.
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return judge_garbled(verb, query, body, cut, serves_legacy),
    };
    let first = request::lines(verb, body).next().unwrap_or_default();
    let Some(protocol) = protocol(query).or_else(|| protocol(first)) else {
        // A heartbeat is TLCP's.
        if serves_legacy && !matches!(verb, Verb::Heartbeat | Verb::SendLog | Verb::Wsok) {
            return judge_legacy(verb, body, cut);
        }
        return Verdict::Refuse(
            Status::BAD_REQUEST,
            "LS_protocol is missing: only TLCP is spoken here",
        );
    };
    let Some(version) = Version::parse(protocol).filter(|version| version.is_supported()) else {
        let incompatible = match verb {
            Verb::CreateSession | Verb::BindSession => Refusal::version_unsupported(),
            _ => Refusal::request_incompatible().with_text("Client version not supported"),
        };
        return Verdict::Answer(refuse_lines(verb, query, body, &incompatible));
    };
    if cut {
        let too_long = Refusal::request_too_long();
        return Verdict::Answer(refuse_lines(verb, query, body, &too_long));
    }
    Verdict::Serve { version, body }
}

/// A body that is no text: is refused in the form that the request would have been answered in.
fn judge_garbled(
    verb: Verb,
    query: &str,
    body: &[u8],
    cut: bool,
    serves_legacy: bool,
) -> Verdict<'static> {
    let text = String::from_utf8_lossy(body);
    let reason = Refusal::malformed().with_text("The request is not UTF-8");
    match judge(verb, query, text.as_bytes(), cut, serves_legacy) {
        Verdict::Serve { version, .. } if version == Version::LEGACY => {
            refuse_legacy(verb, &reason)
        }
        Verdict::Serve { .. } => Verdict::Answer(refuse_lines(verb, query, &text, &reason)),
        Verdict::Answer(lines) => Verdict::Answer(lines),
        Verdict::Refuse(status, reason) => Verdict::Refuse(status, reason),
    }
}

fn judge_legacy(verb: Verb, body: &str, cut: bool) -> Verdict<'_> {
    if cut {
        return refuse_legacy(verb, &Refusal::request_too_long());
    }
    let version = Version::LEGACY;
    Verdict::Serve { version, body }
}

fn refuse_legacy(verb: Verb, reason: &Refusal) -> Verdict<'static> {
    let mut lines = Vec::new();
    response::refuse(&mut lines, Some(verb), reason);
    let mut answer = Vec::new();
    legacy::answer(&mut answer, &lines);
    Verdict::Answer(answer)
}

/// Refuses every line for the same reason, each in the form that its client matches it by.
fn refuse_lines(verb: Verb, query: &str, body: &str, reason: &Refusal) -> Vec<u8> {
    let mut out = Vec::new();
    match verb {
        Verb::CreateSession | Verb::BindSession => response::refuse(&mut out, Some(verb), reason),
        Verb::Control | Verb::Msg => {
            for line in request::lines(verb, body) {
                let refusal = match req_id(verb, query, line) {
                    Some(req_id) => reason.clone().for_request(req_id),
                    None => Refusal::malformed(),
                };
                response::refuse(&mut out, Some(verb), &refusal);
            }
        }
        // Nothing depends on them, and an `ERROR` would end the client for good.
        Verb::Heartbeat | Verb::SendLog | Verb::Wsok => response::reqok_bare(&mut out),
    }
    out
}

/// `LS_reqId` of a line, whatever else is in it.
fn req_id(verb: Verb, query: &str, line: &str) -> Option<String> {
    match request::parse_line(verb, Carrier::Http, query, line) {
        Ok(Request::Control(control)) => Some(control.req_id.into_owned()),
        Ok(Request::Message(message)) => Some(message.req_id.into_owned()),
        Ok(_) => None,
        Err(refusal) => refusal.req_id,
    }
}

/// The value of `LS_protocol`. No version needs escapes, so one that has some is none.
fn protocol(pairs: &str) -> Option<&str> {
    pairs.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = percent_decode(name, Plus::IsSpace).ok()?;
        (name == "LS_protocol").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "LS_protocol=TLCP-2.5.0&LS_session=S1";

    fn answer(verb: Verb, query: &str, body: &[u8], cut: bool) -> String {
        match judge(verb, query, body, cut, false) {
            Verdict::Answer(lines) => String::from_utf8(lines).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            (
                "/lightstreamer/create_session.txt",
                Some(Verb::CreateSession),
            ),
            (
                "/lightstreamer/dashboard/create_session.txt",
                Some(Verb::CreateSession),
            ),
            ("/lightstreamer/bind_session.txt", Some(Verb::BindSession)),
            ("/lightstreamer/control.txt", Some(Verb::Control)),
            ("/lightstreamer/msg.txt", Some(Verb::Msg)),
            ("/lightstreamer/heartbeat.txt", Some(Verb::Heartbeat)),
            ("/lightstreamer/send_log.txt", Some(Verb::SendLog)),
            ("/lightstreamer/send_message.txt", Some(Verb::Msg)),
            ("/lightstreamer/wsok.txt", None),
            ("/lightstreamer/dashboard/control.txt", None),
            ("/lightstreamer/control", None),
            ("/lightstreamer/control.js", None),
            ("/control.txt", None),
            ("/lightstreamer", None),
        ] {
            assert_eq!(verb(path), expected, "{path}");
        }
    }

    #[test]
    fn the_version_is_in_the_query_or_in_the_body() {
        let version = |query, body| match judge(Verb::Control, query, body, false, false) {
            Verdict::Serve { version, .. } => Some(version.minor),
            Verdict::Answer(_) => None,
            Verdict::Refuse(status, _) => Some(status.0 as u8),
        };
        assert_eq!(version(QUERY, b"LS_reqId=1"), Some(5));
        assert_eq!(
            version("", b"LS_reqId=1&LS_protocol=TLCP-2.1.0\r\nx"),
            Some(1)
        );
        assert_eq!(version("LS%5Fprotocol=TLCP-2.2.0", b""), Some(2));
        assert_eq!(version("LS_protocol=TLCP-2.9.0", b""), Some(9));
        assert_eq!(version("LS_protocols=TLCP-2.2.0", b""), Some(400u16 as u8));
    }

    #[test]
    fn other_versions_are_told_so_in_the_form_that_fits() {
        for query in [
            "LS_protocol=TLCP-3.0.0",
            "LS_protocol=TLCP-1.9.0",
            "LS_protocol=x",
        ] {
            for verb in [Verb::CreateSession, Verb::BindSession] {
                assert_eq!(
                    answer(verb, query, b"LS_cid=x", false),
                    "CONERR,60,Client version not supported\r\n"
                );
            }
            assert_eq!(
                answer(
                    Verb::Control,
                    query,
                    b"LS_reqId=1&LS_op=add\r\nLS_op=delete\r\n",
                    false
                ),
                "REQERR,1,3,Client version not supported\r\nERROR,67,Malformed request\r\n"
            );
            assert_eq!(answer(Verb::Heartbeat, query, b"\r\n", false), "REQOK\r\n");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_id() {
        let body = "LS_reqId=7&LS_message=caf\u{e9}".as_bytes();
        assert_eq!(
            answer(Verb::Msg, QUERY, &body[..body.len() - 1], true),
            "REQERR,7,68,Request too long\r\n"
        );
        assert_eq!(
            answer(Verb::BindSession, QUERY, b"LS_session=S", true),
            "CONERR,68,Request too long\r\n"
        );
    }

    #[test]
    fn text_must_be_text() {
        let broken: &[&[u8]] = &[b"a\xffb", b"a\xc3", b"\xed\xa0\x80"];
        for body in broken {
            assert_eq!(
                answer(Verb::Control, QUERY, body, false),
                "ERROR,67,Malformed request\r\n"
            );
        }
        let batch = b"LS_reqId=1&LS_op=destroy\r\nLS_reqId=2&LS_op=add&LS_group=\xff";
        assert_eq!(
            answer(Verb::Control, QUERY, batch, false),
            "REQERR,1,67,The request is not UTF-8\r\nREQERR,2,67,The request is not UTF-8\r\n"
        );
        assert_eq!(
            answer(Verb::CreateSession, QUERY, b"LS_user=\xff", false),
            "CONERR,67,The request is not UTF-8\r\n"
        );
        assert_eq!(
            answer(Verb::Msg, QUERY, b"LS_reqId=1&LS_message=\xffb", true),
            "REQERR,1,68,Request too long\r\n"
        );
        assert_eq!(
            judge(Verb::CreateSession, "", b"LS_user=\xff", false, true),
            Verdict::Answer(b"ERROR\r\n67\r\nThe request is not UTF-8\r\n".into())
        );
    }

    #[test]
    fn requests_without_a_version_are_those_of_the_protocol_before() {
        let judged = |verb, cut, legacy| match judge(verb, "LS_user=u", b"LS_op=add", cut, legacy) {
            Verdict::Serve { version, .. } => format!("{version:?}"),
            Verdict::Answer(lines) => String::from_utf8(lines).unwrap(),
            Verdict::Refuse(status, _) => status.0.to_string(),
        };
        let served = format!("{:?}", Version::LEGACY);
        for verb in [
            Verb::CreateSession,
            Verb::BindSession,
            Verb::Control,
            Verb::Msg,
        ] {
            assert_eq!(judged(verb, false, true), served);
            let too_long = "ERROR\r\n68\r\nRequest too long\r\n";
            assert_eq!(judged(verb, true, true), too_long);
            assert_eq!(judged(verb, false, false), "400");
        }
        assert_eq!(judged(Verb::Heartbeat, false, true), "400");
    }
}
