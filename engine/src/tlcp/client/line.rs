//! The lines that a server writes, read.

use std::borrow::Cow;
use std::fmt;

use crate::text::{Plus, has_control, parse_decimal, parse_integer, parse_signed, percent_decode};
use crate::tlcp::notify::GrantedBandwidth;

/// One line of the server. The writers of [`response`](crate::tlcp::response) and [`notify`](crate::tlcp::notify)
/// tell what each means.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields are named for the arguments of the writers"
)]
pub enum Line<'a> {
    /// The session is created or bound.
    Conok {
        session_id: &'a str,
        request_limit_bytes: u64,
        keepalive_or_idle_ms: u64,
        /// `None` if it is `*`.
        control_link: Option<&'a str>,
    },
    /// It is not.
    Conerr { code: i64, text: Cow<'a, str> },
    /// The session is over.
    End { code: i64, text: Cow<'a, str> },
    /// A request is accepted.
    Reqok {
        /// `None` in the answer to a heartbeat over HTTP.
        req_id: Option<Cow<'a, str>>,
    },
    /// A request is refused.
    Reqerr {
        req_id: Cow<'a, str>,
        code: i64,
        text: Cow<'a, str>,
    },
    /// Something unreadable is refused.
    Error { code: i64, text: Cow<'a, str> },
    /// The WebSocket works.
    Wsok,
    /// The listening socket.
    Servname(&'a str),
    /// The client's address.
    Clientip(&'a str),
    /// The session's bandwidth.
    Cons(GrantedBandwidth),
    /// Padding.
    Noop(Cow<'a, str>),
    /// Nothing else to say.
    Probe,
    /// The server's clock since the bind.
    Sync { seconds: u64 },
    /// Bind again.
    Loop { millis: u64 },
    /// Data lines before the next one.
    Prog { data_lines: u64 },
    /// A subscription is active.
    Subok {
        sub_id: u32,
        items: u32,
        fields: u32,
    },
    /// A COMMAND subscription is active.
    Subcmd {
        sub_id: u32,
        items: u32,
        fields: u32,
        key_position: u32,
        command_position: u32,
    },
    /// A subscription is gone.
    Unsub { sub_id: u32 },
    /// The snapshot is complete.
    Eos { sub_id: u32, item: u32 },
    /// What is known of the item is void.
    Cs { sub_id: u32, item: u32 },
    /// Events were lost.
    Ov { sub_id: u32, item: u32, lost: u32 },
    /// The subscription's frequency.
    Conf {
        sub_id: u32,
        /// `None` if it is `unlimited`.
        frequency_hz: Option<f64>,
        unfiltered: bool,
    },
    /// New values.
    Update {
        sub_id: u32,
        item: u32,
        /// The field list as it is: only the values before it tell what it means, see
        /// [`FieldValues`](super::FieldValues).
        values: &'a str,
    },
    /// A message is dealt with.
    Msgdone {
        /// `None` if it is `*`.
        sequence: Option<Cow<'a, str>>,
        prog: u32,
        /// `None` towards versions before 2.5.
        response: Option<Cow<'a, str>>,
    },
    /// A message failed.
    Msgfail {
        sequence: Option<Cow<'a, str>>,
        prog: u32,
        code: i64,
        text: Cow<'a, str>,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// The text does not end with CR LF.
    Unfinished,
    /// A control character, which includes a CR or LF without its partner.
    Control,
    /// No line of the protocol starts so.
    Tag,
    /// Too few or too many arguments.
    ArgumentCount,
    /// An argument, counted from 1, is not what it should be.
    Argument(usize),
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadLine::Unfinished => f.write_str("no CR LF at the end"),
            BadLine::Control => f.write_str("a control character"),
            BadLine::Tag => f.write_str("no line of the protocol starts so"),
            BadLine::ArgumentCount => f.write_str("wrong number of arguments"),
            BadLine::Argument(number) => write!(f, "bad argument {number}"),
        }
    }
}

impl std::error::Error for BadLine {}

/// The lines of a WebSocket message, or of as much of an HTTP response as ends with a line; without their CR LF.
pub fn complete_lines(text: &str) -> Result<impl Iterator<Item = &str>, BadLine> {
    Ok(text
        .strip_suffix("\r\n")
        .ok_or(BadLine::Unfinished)?
        .split("\r\n"))
}

impl<'a> Line<'a> {
    /// Reads a line, given without its CR LF.
    pub fn parse(line: &'a str) -> Result<Line<'a>, BadLine> {
        if has_control(line.as_bytes()) {
            return Err(BadLine::Control);
        }
        // By far the most frequent line, and the only one whose last argument may contain commas.
        if let Some(arguments) = line.strip_prefix("U,") {
            let mut arguments = Arguments {
                iter: arguments.splitn(3, ','),
                taken: 0,
            };
            let update = Line::Update {
                sub_id: arguments.number()?,
                item: arguments.number()?,
                values: arguments.plain()?,
            };
            return Ok(update);
        }
        let (tag, rest) = match line.split_once(',') {
            Some((tag, rest)) => (tag, Some(rest)),
            None => (line, None),
        };
        let Some(rest) = rest else {
            return match tag {
                "PROBE" => Ok(Line::Probe),
                "WSOK" => Ok(Line::Wsok),
                "REQOK" => Ok(Line::Reqok { req_id: None }),
                _ if TAGS_WITH_ARGUMENTS.contains(&tag) => Err(BadLine::ArgumentCount),
                _ => Err(BadLine::Tag),
            };
        };
        let mut arguments = Arguments {
            iter: rest.split(','),
            taken: 0,
        };
        let line = parse_arguments(tag, &mut arguments)?;
        arguments.finish()?;
        Ok(line)
    }

    /// Whether the line is counted by both ends, for recovery.
    pub fn is_data_line(&self) -> bool {
        matches!(
            self,
            Line::Update { .. }
                | Line::Subok { .. }
                | Line::Subcmd { .. }
                | Line::Unsub { .. }
                | Line::Eos { .. }
                | Line::Cs { .. }
                | Line::Ov { .. }
                | Line::Conf { .. }
                | Line::Msgdone { .. }
                | Line::Msgfail { .. }
        )
    }
}

const TAGS_WITH_ARGUMENTS: [&str; 21] = [
    "CONOK", "CONERR", "END", "REQERR", "ERROR", "SERVNAME", "CLIENTIP", "CONS", "NOOP", "SYNC",
    "LOOP", "PROG", "SUBOK", "SUBCMD", "UNSUB", "EOS", "CS", "OV", "CONF", "MSGDONE", "MSGFAIL",
];

fn parse_arguments<'a>(
    tag: &str,
    arguments: &mut Arguments<impl Iterator<Item = &'a str>>,
) -> Result<Line<'a>, BadLine> {
    // Fields of a struct expression are evaluated as written, which is the order of the arguments.
    Ok(match tag {
        "CONOK" => Line::Conok {
            session_id: arguments.plain()?,
            request_limit_bytes: arguments.number()?,
            keepalive_or_idle_ms: arguments.number()?,
            control_link: Some(arguments.plain()?).filter(|&link| link != "*"),
        },
        "CONERR" => Line::Conerr {
            code: arguments.code()?,
            text: arguments.text()?,
        },
        "END" => Line::End {
            code: arguments.code()?,
            text: arguments.text()?,
        },
        "REQOK" => Line::Reqok {
            req_id: Some(arguments.text()?),
        },
        "REQERR" => Line::Reqerr {
            req_id: arguments.text()?,
            code: arguments.code()?,
            text: arguments.text()?,
        },
        "ERROR" => Line::Error {
            code: arguments.code()?,
            text: arguments.text()?,
        },
        "SERVNAME" => Line::Servname(arguments.plain()?),
        "CLIENTIP" => Line::Clientip(arguments.plain()?),
        "CONS" => Line::Cons(arguments.bandwidth()?),
        "NOOP" => Line::Noop(arguments.text()?),
        "SYNC" => Line::Sync {
            seconds: arguments.number()?,
        },
        "LOOP" => Line::Loop {
            millis: arguments.number()?,
        },
        "PROG" => Line::Prog {
            data_lines: arguments.number()?,
        },
        "SUBOK" => Line::Subok {
            sub_id: arguments.number()?,
            items: arguments.number()?,
            fields: arguments.number()?,
        },
        "SUBCMD" => Line::Subcmd {
            sub_id: arguments.number()?,
            items: arguments.number()?,
            fields: arguments.number()?,
            key_position: arguments.number()?,
            command_position: arguments.number()?,
        },
        "UNSUB" => Line::Unsub {
            sub_id: arguments.number()?,
        },
        "EOS" => Line::Eos {
            sub_id: arguments.number()?,
            item: arguments.number()?,
        },
        "CS" => Line::Cs {
            sub_id: arguments.number()?,
            item: arguments.number()?,
        },
        "OV" => Line::Ov {
            sub_id: arguments.number()?,
            item: arguments.number()?,
            lost: arguments.number()?,
        },
        "CONF" => Line::Conf {
            sub_id: arguments.number()?,
            frequency_hz: arguments.frequency()?,
            unfiltered: arguments.unfiltered()?,
        },
        "MSGDONE" => Line::Msgdone {
            sequence: arguments.sequence()?,
            prog: arguments.number()?,
            response: arguments.optional_text()?,
        },
        "MSGFAIL" => Line::Msgfail {
            sequence: arguments.sequence()?,
            prog: arguments.number()?,
            code: arguments.code()?,
            text: arguments.text()?,
        },
        "PROBE" | "WSOK" => return Err(BadLine::ArgumentCount),
        _ => return Err(BadLine::Tag),
    })
}

/// The arguments of one line, taken from left to right.
struct Arguments<I> {
    iter: I,
    taken: usize,
}

impl<'a, I: Iterator<Item = &'a str>> Arguments<I> {
    /// The next argument as it is: official clients do not decode it.
    fn plain(&mut self) -> Result<&'a str, BadLine> {
        self.taken += 1;
        self.iter.next().ok_or(BadLine::ArgumentCount)
    }

    fn text(&mut self) -> Result<Cow<'a, str>, BadLine> {
        let raw = self.plain()?;
        percent_decode(raw, Plus::IsPlus).map_err(|_| self.bad())
    }

    fn optional_text(&mut self) -> Result<Option<Cow<'a, str>>, BadLine> {
        match self.text() {
            Ok(text) => Ok(Some(text)),
            Err(BadLine::ArgumentCount) => Ok(None),
            Err(bad) => Err(bad),
        }
    }

    fn sequence(&mut self) -> Result<Option<Cow<'a, str>>, BadLine> {
        Ok(Some(self.text()?).filter(|name| name != "*"))
    }

    fn number<T: TryFrom<u64>>(&mut self) -> Result<T, BadLine> {
        let raw = self.plain()?;
        parse_integer(raw)
            .and_then(|number| T::try_from(number).ok())
            .ok_or(self.bad())
    }

    fn code(&mut self) -> Result<i64, BadLine> {
        let raw = self.plain()?;
        parse_signed(raw).ok_or(self.bad())
    }

    fn frequency(&mut self) -> Result<Option<f64>, BadLine> {
        match self.plain()? {
            "unlimited" => Ok(None),
            raw => plain_decimal(raw).map(Some).ok_or(self.bad()),
        }
    }

    fn bandwidth(&mut self) -> Result<GrantedBandwidth, BadLine> {
        match self.plain()? {
            "unlimited" => Ok(GrantedBandwidth::Unlimited),
            "unmanaged" => Ok(GrantedBandwidth::Unmanaged),
            raw => plain_decimal(raw)
                .map(GrantedBandwidth::Limited)
                .ok_or(self.bad()),
        }
    }

    fn unfiltered(&mut self) -> Result<bool, BadLine> {
        match self.plain()? {
            "filtered" => Ok(false),
            "unfiltered" => Ok(true),
            _ => Err(self.bad()),
        }
    }

    fn finish(&mut self) -> Result<(), BadLine> {
        if self.iter.next().is_some() {
            Err(BadLine::ArgumentCount)
        } else {
            Ok(())
        }
    }

    /// The complaint about the argument taken last.
    fn bad(&self) -> BadLine {
        BadLine::Argument(self.taken)
    }
}

/// `\d+(\.\d+)?`, by which some clients check.
fn plain_decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(fraction))
        .then(|| parse_decimal(text))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_must_end_with_a_line_end() {
        let lines =
            |text| complete_lines(text).map(|lines| lines.map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(
            lines("PROBE\r\nLOOP,0\r\n"),
            Ok(vec!["PROBE".into(), "LOOP,0".into()])
        );
        assert_eq!(lines("PROBE\r\nLOOP,0"), Err(BadLine::Unfinished));
        assert_eq!(lines("PROBE\n"), Err(BadLine::Unfinished));
        assert_eq!(lines(""), Err(BadLine::Unfinished));
    }

    #[test]
    fn lines_of_the_transcripts() {
        for (text, line) in [
            (
                "CONOK,S6f3a90c1d2e4b587T1204533,50000,5000,*",
                Line::Conok {
                    session_id: "S6f3a90c1d2e4b587T1204533",
                    request_limit_bytes: 50_000,
                    keepalive_or_idle_ms: 5_000,
                    control_link: None,
                },
            ),
            (
                "SERVNAME,Lightstreamer HTTP Server",
                Line::Servname("Lightstreamer HTTP Server"),
            ),
            ("CONS,12.5", Line::Cons(GrantedBandwidth::Limited(12.5))),
            ("CONS,unmanaged", Line::Cons(GrantedBandwidth::Unmanaged)),
            (
                "CONF,1,2.0,filtered",
                Line::Conf {
                    sub_id: 1,
                    frequency_hz: Some(2.0),
                    unfiltered: false,
                },
            ),
            (
                "CONF,1,unlimited,unfiltered",
                Line::Conf {
                    sub_id: 1,
                    frequency_hz: None,
                    unfiltered: true,
                },
            ),
            (
                "U,1,1,",
                Line::Update {
                    sub_id: 1,
                    item: 1,
                    values: "",
                },
            ),
            (
                "U,1,2,a,b|,^4",
                Line::Update {
                    sub_id: 1,
                    item: 2,
                    values: "a,b|,^4",
                },
            ),
            ("REQOK", Line::Reqok { req_id: None }),
            (
                "END,-7,",
                Line::End {
                    code: -7,
                    text: "".into(),
                },
            ),
            (
                "MSGDONE,Orders,1,accepted%2C id 7",
                Line::Msgdone {
                    sequence: Some("Orders".into()),
                    prog: 1,
                    response: Some("accepted, id 7".into()),
                },
            ),
            (
                "MSGDONE,*,1",
                Line::Msgdone {
                    sequence: None,
                    prog: 1,
                    response: None,
                },
            ),
        ] {
            assert_eq!(Line::parse(text), Ok(line), "{text}");
        }
    }

    #[test]
    fn lines_that_break_a_client_are_refused() {
        for (text, bad) in [
            ("", BadLine::Tag),
            ("HELLO,1", BadLine::Tag),
            ("probe", BadLine::Tag),
            ("NOOP", BadLine::ArgumentCount),
            ("PROBE,", BadLine::ArgumentCount),
            ("U,1,1", BadLine::ArgumentCount),
            ("EOS,1", BadLine::ArgumentCount),
            ("CONERR,1,no, really", BadLine::ArgumentCount),
            ("MSGDONE,*,1,a,b", BadLine::ArgumentCount),
            ("SUBOK,1,+2,3", BadLine::Argument(2)),
            ("U,-1,1,a", BadLine::Argument(1)),
            ("CONS,1e3", BadLine::Argument(1)),
            ("CONS,.5", BadLine::Argument(1)),
            ("CONF,1,3.,filtered", BadLine::Argument(2)),
            ("CONF,1,3.0,Filtered", BadLine::Argument(3)),
            ("ERROR,1,100%", BadLine::Argument(2)),
            ("MSGFAIL,*,1,34,%", BadLine::Argument(4)),
            ("ERROR,1,a\tb", BadLine::Control),
            ("U,1,1,a\rb", BadLine::Control),
        ] {
            assert_eq!(Line::parse(text), Err(bad), "{text:?}");
        }
    }

    #[test]
    fn data_lines_are_those_of_subscriptions_and_messages() {
        let counted = |text| Line::parse(text).unwrap().is_data_line();
        for text in [
            "U,1,1,a",
            "SUBOK,1,1,1",
            "CONF,1,1.0,filtered",
            "UNSUB,1",
            "EOS,1,1",
            "CS,1,1",
            "OV,1,1,1",
        ] {
            assert!(counted(text), "{text}");
        }
        assert!(
            counted("SUBCMD,1,1,2,1,2") && counted("MSGDONE,*,1,") && counted("MSGFAIL,*,1,34,x")
        );
        for text in [
            "PROBE", "CONS,1", "LOOP,0", "END,31,x", "PROG,3", "SYNC,3", "REQOK,1", "NOOP,x",
        ] {
            assert!(!counted(text), "{text}");
        }
    }
}
