//! Lines of TLCP, as the engine writes them, into those of the text protocol.

use crate::text::{CRLF, Plus, percent_decode};
use crate::tlcp::cause::Reason;
use std::borrow::Cow;

/// Appends the answers to requests: to those of a batch one each, to a creation or bind one if it is refused.
pub fn answer(out: &mut Vec<u8>, lines: &[u8]) {
    for line in split(lines) {
        let mut arguments = Arguments::of(line);
        match arguments.tag {
            "REQOK" => out.extend_from_slice(b"OK\r\n"),
            "REQERR" => {
                arguments.next(); // the request's name, which is ours
                refusal(out, &mut arguments);
            }
            "CONERR" | "ERROR" => refusal(out, &mut arguments),
            // The session has just been closed: gone, as far as its client can tell.
            "END" => out.extend_from_slice(b"SYNC ERROR\r\n"),
            _ => {}
        }
    }
}

/// Appends the lines of a session's stream, its head among them. What is in the protocol's own words already stays as it
/// is: lines that did not fit a response are looked at again for the next.
pub fn stream(out: &mut Vec<u8>, lines: &[u8]) {
    let mut head = None;
    for line in split(lines) {
        let mut arguments = Arguments::of(line);
        match (arguments.tag, &mut head) {
            ("CONOK", _) => head = Some(Head::new(&mut arguments)),
            ("SERVNAME", Some(head)) => head.server_name = arguments.next(),
            ("CONS", Some(head)) => head.bandwidth = arguments.next(),
            ("NOOP", Some(head)) => head.padding += 1,
            ("CLIENTIP" | "PROG", Some(_)) => {}
            _ => {
                if let Some(head) = head.take() {
                    head.write(out);
                }
                push_line(out, line, arguments);
            }
        }
    }
    if let Some(head) = head {
        head.write(out);
    }
}

/// `LOOP`: bind again, a poll's client after so many milliseconds. The last line of a response.
pub fn loop_(out: &mut Vec<u8>, millis: u64) {
    match millis {
        0 => out.extend_from_slice(b"LOOP\r\n"),
        _ => join(out, &["LOOP ", &millis.to_string()]),
    }
}

/// What the head of a response tells.
struct Head {
    session: String,
    request_limit: String,
    keepalive: String,
    control_link: String,
    server_name: String,
    bandwidth: String,
    padding: usize,
}

impl Head {
    fn new(conok: &mut Arguments<'_>) -> Self {
        Self {
            session: conok.next(),
            request_limit: conok.next(),
            keepalive: conok.next(),
            control_link: conok.next(),
            server_name: String::new(),
            bandwidth: String::new(),
            padding: 0,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"OK\r\n");
        property(out, "SessionId", &self.session);
        if self.control_link != "*" {
            property(out, "ControlAddress", &self.control_link);
        }
        property(out, "KeepaliveMillis", &self.keepalive);
        let limited = self
            .bandwidth
            .starts_with(|first: char| first.is_ascii_digit());
        property(
            out,
            "MaxBandwidth",
            if limited { &self.bandwidth } else { "0" },
        );
        property(out, "RequestLimit", &self.request_limit);
        if !self.server_name.is_empty() {
            property(out, "ServerName", &self.server_name);
        }
        out.extend_from_slice(CRLF);
        for _ in 0..self.padding {
            property(out, "Preamble", PADDING);
        }
    }
}

/// Shorter than TLCP's, so that a head is no longer than the one it is made of: room was counted with that.
const PADDING: &str = "placeholder data";

/// One line of a stream behind its head.
fn push_line(out: &mut Vec<u8>, line: &str, mut arguments: Arguments<'_>) {
    match arguments.tag {
        "PROBE" => out.extend_from_slice(b"PROBE\r\n"),
        "LOOP" => loop_(out, arguments.next().parse().unwrap_or_default()),
        "END" => join(out, &["END ", &arguments.next()]),
        "EOS" => join(out, &[&arguments.next(), ",", &arguments.next(), ",EOS"]),
        "OV" => {
            let (table, item) = (arguments.next(), arguments.next());
            join(out, &[&table, ",", &item, ",OV", &arguments.next()]);
        }
        "MSGDONE" => {
            let sequence = sequence(&mut arguments);
            join(out, &["MSG,", &sequence, ",", &arguments.next(), ",DONE"]);
        }
        "MSGFAIL" => {
            let sequence = sequence(&mut arguments);
            let (prog, code) = (arguments.next(), arguments.next());
            let text = one_line(&arguments.next());
            join(
                out,
                &["MSG,", &sequence, ",", &prog, ",ERR,", &code, ",", &text],
            );
        }
        own if own == "MSG" || own.starts_with(|first: char| first.is_ascii_digit()) => {
            join(out, &[line]);
        }
        _ => {}
    }
}

fn sequence(arguments: &mut Arguments<'_>) -> String {
    match arguments.next() {
        none if none == "*" => "UNORDERED_MESSAGES".into(),
        name => name,
    }
}

/// `ERROR` with code and text; a session that is not here has an answer of its own, by which clients open another.
fn refusal(out: &mut Vec<u8>, arguments: &mut Arguments<'_>) {
    const NO_SESSION: [Reason; 3] = [
        Reason::SESSION_NOT_FOUND,
        Reason::SESSION_ELSEWHERE,
        Reason::CONTROL_ELSEWHERE,
    ];
    let (code, text) = (arguments.next(), arguments.next());
    let is = |reason: &Reason| reason.code.to_string() == code && reason.text == text;
    if NO_SESSION.iter().any(is) {
        return out.extend_from_slice(b"SYNC ERROR\r\n");
    }
    join(out, &["ERROR\r\n", &code, "\r\n", &one_line(&text)]);
}

fn property(out: &mut Vec<u8>, name: &str, value: &str) {
    join(out, &[name, ":", &one_line(value)]);
}

fn one_line(text: &str) -> String {
    text.replace(|character: char| character.is_control(), " ")
}

fn join(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(CRLF);
}

fn split(lines: &[u8]) -> impl Iterator<Item = &str> {
    // What the engine wrote itself is text.
    let text = str::from_utf8(lines).unwrap_or_default();
    text.split_terminator("\r\n")
}

/// A line's tag, and its arguments one by one.
struct Arguments<'a> {
    tag: &'a str,
    rest: std::str::Split<'a, char>,
}

impl<'a> Arguments<'a> {
    fn of(line: &'a str) -> Self {
        let mut rest = line.split(',');
        Self {
            tag: rest.next().unwrap_or_default(),
            rest,
        }
    }

    /// The next argument, decoded; empty if there is none.
    fn next(&mut self) -> String {
        let raw = self.rest.next().unwrap_or_default();
        percent_decode(raw, Plus::IsPlus)
            .unwrap_or(Cow::Borrowed(raw))
            .into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(lines: &str) -> String {
        let mut out = Vec::new();
        answer(&mut out, lines.as_bytes());
        String::from_utf8(out).unwrap()
    }

    fn streamed(lines: &str) -> String {
        let mut out = Vec::new();
        stream(&mut out, lines.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers_keep_their_order() {
        assert_eq!(
            answered(
                "REQOK,1\r\nREQERR,1,19,Specified subscription not found\r\nREQERR,1,20,Session not found\r\n"
            ),
            "OK\r\nERROR\r\n19\r\nSpecified subscription not found\r\nSYNC ERROR\r\n"
        );
    }

    #[test]
    fn a_session_elsewhere_is_none_but_other_meanings_of_its_codes_are_errors() {
        assert_eq!(
            answered("CONERR,21,Session of a different server instance\r\n"),
            "SYNC ERROR\r\n"
        );
        assert_eq!(
            answered("REQERR,1,21,Bad item group name\r\n"),
            "ERROR\r\n21\r\nBad item group name\r\n"
        );
        assert_eq!(
            answered("END,31,Destroy invoked by client\r\n"),
            "SYNC ERROR\r\n"
        );
    }

    #[test]
    fn texts_stay_on_their_line() {
        assert_eq!(
            answered("CONERR,-3,no%2C%0D%0Anever 100%25\r\n"),
            "ERROR\r\n-3\r\nno,  never 100%\r\n"
        );
    }

    #[test]
    fn a_head_is_properties_up_to_an_empty_line() {
        assert_eq!(
            streamed(
                "CONOK,S1,50000,5000,*\r\nSERVNAME,Brightwire\r\nCLIENTIP,::1\r\nNOOP,x\r\nCONS,unlimited\r\nPROBE\r\n"
            ),
            "OK\r\nSessionId:S1\r\nKeepaliveMillis:5000\r\nMaxBandwidth:0\r\nRequestLimit:50000\r\n\
             ServerName:Brightwire\r\n\r\nPreamble:placeholder data\r\nPROBE\r\n"
        );
        assert_eq!(
            streamed("CONOK,S1,9,0,push.example.com:80\r\nCONS,12.5\r\n"),
            "OK\r\nSessionId:S1\r\nControlAddress:push.example.com:80\r\nKeepaliveMillis:0\r\nMaxBandwidth:12.5\r\n\
             RequestLimit:9\r\n\r\n"
        );
    }

    #[test]
    fn lines_of_the_stream() {
        assert_eq!(
            streamed(
                "SUBOK,1,1,1\r\nCONF,1,unlimited,filtered\r\nEOS,1,2\r\nOV,1,2,7\r\nCS,1,2\r\nUNSUB,1\r\nCONS,unlimited\r\n\
                 SYNC,5\r\nMSGDONE,Orders,3,ok\r\nMSGDONE,*,1\r\nMSGFAIL,Orders,4,39,2\r\nLOOP,0\r\nLOOP,500\r\nEND,31,x\r\n"
            ),
            "1,2,EOS\r\n1,2,OV7\r\nMSG,Orders,3,DONE\r\nMSG,UNORDERED_MESSAGES,1,DONE\r\nMSG,Orders,4,ERR,39,2\r\n\
             LOOP\r\nLOOP 500\r\nEND 31\r\n"
        );
        let own = "1,2,EOS\r\n1,2,OV7\r\nMSG,Orders,4,ERR,39,2\r\n";
        assert_eq!(streamed(own), own);
    }
}
