//! Where requests begin and end: the name of a WebSocket message, and the lines of a body.

use super::Verb;
use crate::text::parse_integer;
use crate::tlcp::cause::Refusal;

/// Splits a WebSocket message into the request's name, on the first line, and its body.
///
/// The protocol wants CR LF; a bare LF is taken as well, here and in bodies, since web clients of generation 8 write
/// some of theirs so.
pub fn split_message(message: &str) -> Result<(Verb, &str), Refusal> {
    let (name, body) = split_line(message);
    Verb::from_name(name)
        .map(|verb| (verb, body))
        .ok_or_else(Refusal::malformed)
}

/// The request lines of a body; the line end of the last one is optional, and blank lines do not count.
///
/// A body without any line is one empty line, as that is how a heartbeat, or a `bind_session` that leaves everything to
/// its defaults, looks. `wsok` has no lines at all, and `send_log` is one line, whatever it holds.
pub fn lines(verb: Verb, body: &str) -> RequestLines<'_> {
    RequestLines {
        verb,
        rest: (verb != Verb::Wsok).then_some(body),
        blank: true,
    }
}

/// Iterator over the request lines of a body, made by [`lines`].
#[derive(Clone, Debug)]
pub struct RequestLines<'a> {
    verb: Verb,
    /// What is left; `None` when there is nothing more to yield.
    rest: Option<&'a str>,
    /// No line has been yielded yet.
    blank: bool,
}

impl<'a> Iterator for RequestLines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut rest = self.rest.take()?;
        if self.verb == Verb::SendLog {
            return Some(rest);
        }
        while !rest.is_empty() {
            let (line, tail) = match self.verb {
                Verb::Msg if rest.starts_with(COUNTED) => split_counted(rest),
                _ => split_line(rest),
            };
            if !line.is_empty() {
                self.rest = Some(tail);
                self.blank = false;
                return Some(line);
            }
            rest = tail;
        }
        self.blank.then_some("")
    }
}

/// A request line that means the same by itself as `line` does with the query string `query`: for a request that goes
/// on without it. What the line says itself still overrides what is in front of it.
pub fn with_query(query: &str, line: &str) -> String {
    match line.strip_prefix(COUNTED).and_then(|it| it.split_once('&')) {
        _ if query.is_empty() => line.to_owned(),
        Some((count, text)) => {
            // A count that is bad stays so.
            let units = query.encode_utf16().count() as u64 + 1;
            let count = match parse_integer(count) {
                Some(count) => count.saturating_add(units).to_string(),
                None => count.to_owned(),
            };
            format!("{COUNTED}{count}&{query}&{text}")
        }
        None => format!("{query}&{line}"),
    }
}

/// A line of `msg` that starts so tells its own length, and its last parameter is raw text that may contain anything,
/// separators and line ends included. Web clients of generation 8 send messages so over WebSocket:
/// `LS_unq=<n>&<n UTF-16 units of parameters>`.
const COUNTED: &str = "LS_unq=";

/// The last parameter of a counted line.
const RAW: &str = "LS_message=";

/// A line with a raw message, taken apart.
pub(super) struct Counted<'a> {
    /// The parameters before the raw one.
    pub pairs: &'a str,
    /// The raw message. An empty one is left out by those clients, parameter and all.
    pub message: &'a str,
    /// Whether the line is as long as it says.
    pub whole: bool,
}

/// Takes a counted line apart; `None` if the line is an ordinary one.
pub(super) fn parse_counted(line: &str) -> Option<Counted<'_>> {
    let (_, text) = line
        .strip_prefix(COUNTED)?
        .split_once('&')
        .unwrap_or_default();
    let whole = counted_length(line) == Some(line.len());
    let start = if text.starts_with(RAW) {
        Some(0)
    } else {
        text.find("&LS_message=").map(|at| at + 1)
    };
    Some(match start {
        Some(at) => Counted {
            pairs: &text[..at],
            message: &text[at + RAW.len()..],
            whole,
        },
        None => Counted {
            pairs: text,
            message: "",
            whole,
        },
    })
}

/// Splits a counted line off; if it does not end where it says, there is no telling where the next one begins, and all
/// the rest is taken for it, to be refused.
fn split_counted(body: &str) -> (&str, &str) {
    let split = counted_length(body).map(|length| body.split_at(length));
    match split {
        Some((line, tail)) if tail.is_empty() => (line, tail),
        Some((line, tail)) if tail.starts_with("\r\n") || tail.starts_with('\n') => {
            (line, split_line(tail).1)
        }
        _ => (body, ""),
    }
}

/// Bytes of the counted line that `body` starts with; `None` if the count is bad, or cuts a character.
fn counted_length(body: &str) -> Option<usize> {
    let (count, text) = body.strip_prefix(COUNTED)?.split_once('&')?;
    let mut units = parse_integer(count)?;
    let head = body.len() - text.len();
    for (at, character) in text.char_indices() {
        if units == 0 {
            return Some(head + at);
        }
        units = units.checked_sub(character.len_utf16() as u64)?;
    }
    (units == 0).then_some(body.len())
}

/// The first line, without its end, and the rest.
fn split_line(text: &str) -> (&str, &str) {
    match memchr::memchr(b'\n', text.as_bytes()) {
        Some(at) => (
            text[..at].strip_suffix('\r').unwrap_or(&text[..at]),
            &text[at + 1..],
        ),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(verb: Verb, body: &str) -> Vec<&str> {
        lines(verb, body).collect()
    }

    #[test]
    fn a_message_is_a_name_and_a_body() {
        assert_eq!(
            split_message("control\r\na=1\r\nb=2"),
            Ok((Verb::Control, "a=1\r\nb=2"))
        );
        assert_eq!(split_message("heartbeat\n\n"), Ok((Verb::Heartbeat, "\n")));
        assert_eq!(split_message("wsok"), Ok((Verb::Wsok, "")));
    }

    #[test]
    fn a_line_takes_its_query_string_along() {
        assert_eq!(with_query("", "a=1"), "a=1");
        assert_eq!(with_query("q=é", "a=1"), "q=é&a=1");
        let line = "LS_unq=16&LS_message=50% &";
        let joined = with_query("q=é", line);
        assert_eq!(joined, "LS_unq=20&q=é&LS_message=50% &");
        let Some(counted) = parse_counted(&joined) else {
            panic!("still counted")
        };
        assert!(counted.whole && counted.message == "50% &");
    }

    #[test]
    fn an_unknown_name_is_malformed() {
        for message in [
            "",
            "\r\n",
            "Control\r\n",
            "control \r\n",
            "controlx",
            "\r\ncontrol\r\n",
            "LS_op=add",
        ] {
            assert_eq!(
                split_message(message),
                Err(Refusal::malformed()),
                "{message:?}"
            );
        }
    }

    #[test]
    fn lines_end_with_cr_lf_or_lf_and_the_last_end_is_optional() {
        assert_eq!(all(Verb::Control, "a=1\r\nb=2"), ["a=1", "b=2"]);
        assert_eq!(all(Verb::Control, "a=1\r\nb=2\r\n"), ["a=1", "b=2"]);
        assert_eq!(all(Verb::Control, "a=1\nb=2\n"), ["a=1", "b=2"]);
        assert_eq!(
            all(Verb::Control, "\r\na=1\r\n\r\nb=2\r\n\r\n"),
            ["a=1", "b=2"]
        );
    }

    #[test]
    fn an_empty_body_is_one_empty_line() {
        for body in ["", "\r\n", "\n"] {
            assert_eq!(all(Verb::Heartbeat, body), [""]);
            assert_eq!(all(Verb::BindSession, body), [""]);
        }
    }

    #[test]
    fn wsok_has_no_line_and_send_log_has_one() {
        assert_eq!(all(Verb::Wsok, ""), [""; 0]);
        assert_eq!(all(Verb::Wsok, "\r\n"), [""; 0]);
        assert_eq!(all(Verb::SendLog, "a\r\nb\r\n"), ["a\r\nb\r\n"]);
    }

    #[test]
    fn a_counted_line_contains_line_ends() {
        let first = "LS_unq=32&LS_reqId=1&LS_message=a\r\nb&c=%\u{1F600}";
        assert_eq!(
            first.split_once('&').unwrap().1.encode_utf16().count(),
            32,
            "the count is in UTF-16 units"
        );
        assert_eq!(all(Verb::Msg, first), [first]);
        assert_eq!(
            all(Verb::Msg, &format!("{first}\r\nLS_reqId=2\r\n")),
            [first, "LS_reqId=2"]
        );
        assert_eq!(
            all(Verb::Msg, &format!("{first}\nLS_reqId=2")),
            [first, "LS_reqId=2"]
        );
    }

    #[test]
    fn a_counted_line_that_ends_elsewhere_takes_all_the_rest() {
        for body in [
            "LS_unq=5&abc\r\nd",
            "LS_unq=1&\u{1F600}\r\nb",
            "LS_unq=x&abc\r\nd",
            "LS_unq=99999999999999999999&abc\r\nd",
            "LS_unq=2&abc\r\nd",
            "LS_unq=2",
        ] {
            assert_eq!(all(Verb::Msg, body), [body], "{body:?}");
            assert!(!parse_counted(body).unwrap().whole, "{body:?}");
        }
    }

    #[test]
    fn counted_lines_exist_in_messages_only() {
        assert_eq!(all(Verb::Control, "LS_unq=4&a\r\nb"), ["LS_unq=4&a", "b"]);
    }
}
