//! Writers of the answers to requests. Each appends one complete line.

use super::cause::{Cause, Refusal};
use super::request::Verb;
use crate::text::{CRLF, is_control, push_escaped, push_integer};

/// `CONOK`: a session has been created or bound. Must be the first line of a stream, but for answers of other requests
/// on the same WebSocket.
///
/// `keepalive_or_idle_ms` is what is in force, not what was asked: the keep-alive of a stream, the idle time of a poll.
/// Clients send it back in their next bind, so a keep-alive in the answer to a poll would make every later poll wait.
/// `control_link` is the host that requests shall go to from now on, if it is not the one in use.
pub fn conok(
    out: &mut Vec<u8>,
    session_id: &str,
    request_limit_bytes: u64,
    keepalive_or_idle_ms: u64,
    control_link: Option<&str>,
) {
    out.extend_from_slice(b"CONOK,");
    push_argument(out, session_id);
    out.push(b',');
    push_integer(out, request_limit_bytes);
    out.push(b',');
    push_integer(out, keepalive_or_idle_ms);
    out.push(b',');
    push_argument(out, control_link.unwrap_or("*"));
    out.extend_from_slice(CRLF);
}

/// `CONERR`: a session has not been created or bound.
pub fn conerr(out: &mut Vec<u8>, code: i64, text: &str) {
    code_and_text(out, b"CONERR,", code, text);
}

/// `END`: the session is over. The last line of a stream, or the only answer to the bind of a session that has just
/// been closed.
pub fn end(out: &mut Vec<u8>, cause: &Cause) {
    code_and_text(out, b"END,", cause.code, &cause.text);
}

/// `REQOK`: a control request or a message has been accepted.
pub fn reqok(out: &mut Vec<u8>, req_id: &str) {
    out.extend_from_slice(b"REQOK,");
    push_argument(out, req_id);
    out.extend_from_slice(CRLF);
}

/// `REQOK` without arguments: the answer to a heartbeat over HTTP.
pub fn reqok_bare(out: &mut Vec<u8>) {
    out.extend_from_slice(b"REQOK\r\n");
}

/// `REQERR`: a control request or a message has been refused.
pub fn reqerr(out: &mut Vec<u8>, req_id: &str, code: i64, text: &str) {
    out.extend_from_slice(b"REQERR,");
    push_argument(out, req_id);
    out.push(b',');
    code_and_text(out, b"", code, text);
}

/// `ERROR`: something that cannot be told apart as a request has been refused. It ends every client for good.
pub fn error(out: &mut Vec<u8>, code: i64, text: &str) {
    code_and_text(out, b"ERROR,", code, text);
}

/// `WSOK`: the answer to `wsok`.
pub fn wsok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"WSOK\r\n");
}

/// The answer to a refused request: `CONERR` if it is about opening a session, else `REQERR` if the request has an
/// id, else `ERROR`. `verb` is `None` if not even the name of the request is known.
pub fn refuse(out: &mut Vec<u8>, verb: Option<Verb>, refusal: &Refusal) {
    match (verb, &refusal.req_id) {
        (Some(Verb::CreateSession | Verb::BindSession), _) => {
            conerr(out, refusal.code, &refusal.text)
        }
        (_, Some(req_id)) => reqerr(out, req_id, refusal.code, &refusal.text),
        (_, None) => error(out, refusal.code, &refusal.text),
    }
}

/// Appends an argument of any line but the field list of `U`. The comma is escaped even in the last argument, as many
/// clients split on every comma; nothing else is, as several arguments are used without decoding.
pub(super) fn push_argument(out: &mut Vec<u8>, text: &str) {
    push_escaped(out, text.as_bytes(), |byte| {
        is_control(byte) | (byte == b',') | (byte == b'%')
    });
}

fn code_and_text(out: &mut Vec<u8>, tag: &[u8], code: i64, text: &str) {
    out.extend_from_slice(tag);
    push_integer(out, code);
    out.push(b',');
    push_argument(out, text);
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlcp::cause::Reason;
    use crate::tlcp::line_of as line;

    #[test]
    fn conok_says_star_without_a_control_link() {
        assert_eq!(
            line(|out| conok(out, "S1T2", 50_000, 5_000, None)),
            "CONOK,S1T2,50000,5000,*"
        );
        assert_eq!(
            line(|out| conok(out, "S1T2", 50_000, 0, Some("push2.example.com:8080"))),
            "CONOK,S1T2,50000,0,push2.example.com:8080"
        );
    }

    #[test]
    fn commas_are_escaped_even_in_the_last_argument() {
        assert_eq!(
            line(|out| conerr(out, -3, "no, 100% no\r\n")),
            "CONERR,-3,no%2C 100%25 no%0D%0A"
        );
    }

    #[test]
    fn nothing_else_is_escaped() {
        let text = "a b|c#d$e^f+g&h=i é€😀\"'";
        assert_eq!(line(|out| error(out, 68, text)), format!("ERROR,68,{text}"));
    }

    #[test]
    fn control_answers_carry_the_request_id() {
        assert_eq!(line(|out| reqok(out, "7a")), "REQOK,7a");
        assert_eq!(line(reqok_bare), "REQOK");
        assert_eq!(line(|out| reqerr(out, "8", 19, "gone")), "REQERR,8,19,gone");
        assert_eq!(line(wsok), "WSOK");
    }

    #[test]
    fn end_tells_the_cause() {
        assert_eq!(
            line(|out| end(out, &Reason::DESTROYED_BY_CLIENT.into())),
            "END,31,Destroy invoked by client"
        );
        assert_eq!(
            line(|out| end(out, &Cause::destroyed(Some(-7), None))),
            "END,-7,null"
        );
    }

    #[test]
    fn a_refusal_takes_the_form_that_fits_the_request() {
        let refusal = Refusal::session_not_found();
        let form = |verb, refusal: &Refusal| line(|out| refuse(out, verb, refusal));
        assert_eq!(
            form(Some(Verb::BindSession), &refusal),
            "CONERR,20,Session not found"
        );
        assert_eq!(
            form(Some(Verb::Control), &refusal),
            "ERROR,20,Session not found"
        );
        assert_eq!(
            form(None, &Refusal::malformed()),
            "ERROR,67,Malformed request"
        );
        assert_eq!(
            form(Some(Verb::Control), &refusal.for_request("31")),
            "REQERR,31,20,Session not found"
        );
    }
}
