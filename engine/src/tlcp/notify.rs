//! Writers of the lines of a stream. Each appends one complete line; none allocates but for the buffer's growth.
//!
//! `U`, `SUBOK`, `SUBCMD`, `UNSUB`, `EOS`, `CS`, `OV`, `CONF`, `MSGDONE` and `MSGFAIL` are *data lines*: both ends count
//! them, and recovery after a broken connection goes by that count (TLCP, Session Recovery).

use super::Version;
use super::response::push_argument;
use crate::text::{CRLF, push_decimal, push_integer};

/// What `CONS` tells of a session's bandwidth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GrantedBandwidth {
    /// Kilobits per second.
    Limited(f64),
    /// No limit at the moment; the client may set one.
    Unlimited,
    /// No limit, and the client cannot set one.
    Unmanaged,
}

/// `SERVNAME`: the name of the listening socket.
pub fn servname(out: &mut Vec<u8>, name: &str) {
    text_line(out, b"SERVNAME,", name);
}

/// `CLIENTIP`: the client's address as the server sees it. Clients that see it change give up what they learned about
/// the transports that work.
pub fn clientip(out: &mut Vec<u8>, address: &str) {
    text_line(out, b"CLIENTIP,", address);
}

/// `CONS`: the bandwidth granted to the session.
pub fn cons(out: &mut Vec<u8>, bandwidth: GrantedBandwidth) {
    out.extend_from_slice(b"CONS,");
    push_bandwidth(out, bandwidth);
    out.extend_from_slice(CRLF);
}

/// `NOOP`: padding for what stands between server and client and holds back the first bytes of a response.
pub fn noop(out: &mut Vec<u8>, text: &str) {
    text_line(out, b"NOOP,", text);
}

/// `PROBE`: nothing was written for the keep-alive time.
pub fn probe(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PROBE\r\n");
}

/// `SYNC`: whole seconds since the connection was bound, for clients that measure how late they are.
pub fn sync(out: &mut Vec<u8>, seconds: u64) {
    numbers(out, b"SYNC,", [seconds]);
}

/// `LOOP`: bind again after so many milliseconds. The last line of a response.
pub fn loop_(out: &mut Vec<u8>, millis: u64) {
    numbers(out, b"LOOP,", [millis]);
}

/// `PROG`: so many data lines come before the next one. Only after a bind that asked for recovery.
pub fn prog(out: &mut Vec<u8>, data_lines: u64) {
    numbers(out, b"PROG,", [data_lines]);
}

/// `SUBOK`: a RAW, MERGE or DISTINCT subscription is active.
pub fn subok(out: &mut Vec<u8>, sub_id: u32, items: u32, fields: u32) {
    numbers(out, b"SUBOK,", [sub_id, items, fields]);
}

/// `SUBCMD`: a COMMAND subscription is active. Positions of the two special fields count from 1.
pub fn subcmd(
    out: &mut Vec<u8>,
    sub_id: u32,
    items: u32,
    fields: u32,
    key_position: u32,
    command_position: u32,
) {
    numbers(
        out,
        b"SUBCMD,",
        [sub_id, items, fields, key_position, command_position],
    );
}

/// `UNSUB`: the subscription is gone; nothing follows for its number.
pub fn unsub(out: &mut Vec<u8>, sub_id: u32) {
    numbers(out, b"UNSUB,", [sub_id]);
}

/// `EOS`: the item's snapshot is complete. Items count from 1.
pub fn eos(out: &mut Vec<u8>, sub_id: u32, item: u32) {
    numbers(out, b"EOS,", [sub_id, item]);
}

/// `CS`: the item's rows or events are void. The base for unchanged fields is not.
pub fn cs(out: &mut Vec<u8>, sub_id: u32, item: u32) {
    numbers(out, b"CS,", [sub_id, item]);
}

/// `OV`: so many events of the item were lost at this point.
pub fn ov(out: &mut Vec<u8>, sub_id: u32, item: u32, lost: u32) {
    numbers(out, b"OV,", [sub_id, item, lost]);
}

/// `CONF`: the frequency granted to a subscription, in updates per second and item; `None` is no limit.
pub fn conf(out: &mut Vec<u8>, sub_id: u32, frequency_hz: Option<f64>, unfiltered: bool) {
    out.extend_from_slice(b"CONF,");
    push_integer(out, sub_id);
    out.push(b',');
    push_frequency(out, frequency_hz);
    out.extend_from_slice(if unfiltered {
        b",unfiltered\r\n".as_slice()
    } else {
        b",filtered\r\n"
    });
}

/// A frequency as `CONF` has it.
pub fn push_frequency(out: &mut Vec<u8>, hz: Option<f64>) {
    match hz {
        Some(hz) => push_decimal(out, hz),
        None => out.extend_from_slice(b"unlimited"),
    }
}

/// A bandwidth as `CONS` has it.
pub fn push_bandwidth(out: &mut Vec<u8>, bandwidth: GrantedBandwidth) {
    match bandwidth {
        GrantedBandwidth::Limited(kbps) => push_decimal(out, kbps),
        GrantedBandwidth::Unlimited => out.extend_from_slice(b"unlimited"),
        GrantedBandwidth::Unmanaged => out.extend_from_slice(b"unmanaged"),
    }
}

/// The beginning of `U`: the caller appends the field list ([`values`](super::values)) and the line end.
#[inline]
pub fn update_prefix(out: &mut Vec<u8>, sub_id: u32, item: u32) {
    // Composed aside, so that the buffer is asked for room once: this is written for every update of every client.
    let mut text = *b"U,..........,..........,";
    let mut length = 2;
    for number in [sub_id, item] {
        match u8::try_from(number) {
            Ok(digit) if digit < 10 => {
                text[length] = b'0' + digit;
                length += 1;
            }
            _ => {
                let mut buffer = itoa::Buffer::new();
                let digits = buffer.format(number).as_bytes();
                text[length..length + digits.len()].copy_from_slice(digits);
                length += digits.len();
            }
        }
        text[length] = b',';
        length += 1;
    }
    out.extend_from_slice(&text[..length]);
}

/// `MSGDONE`: the metadata adapter has dealt with a message. `sequence` is `None` for a message outside of any.
/// Clients of versions before 2.5 count the arguments, so they get none for the response.
pub fn msgdone(
    out: &mut Vec<u8>,
    version: Version,
    sequence: Option<&str>,
    prog: u32,
    response: &str,
) {
    message_prefix(out, b"MSGDONE,", sequence, prog);
    if version.has_message_response() {
        out.push(b',');
        push_argument(out, response);
    }
    out.extend_from_slice(CRLF);
}

/// `MSGFAIL`: a message was refused, failed, or never came. With code 39, `prog` is the last of several that never
/// came and `text` is their count.
pub fn msgfail(out: &mut Vec<u8>, sequence: Option<&str>, prog: u32, code: i64, text: &str) {
    message_prefix(out, b"MSGFAIL,", sequence, prog);
    out.push(b',');
    push_integer(out, code);
    out.push(b',');
    push_argument(out, text);
    out.extend_from_slice(CRLF);
}

fn message_prefix(out: &mut Vec<u8>, tag: &[u8], sequence: Option<&str>, prog: u32) {
    out.extend_from_slice(tag);
    push_argument(out, sequence.unwrap_or("*"));
    out.push(b',');
    push_integer(out, prog);
}

fn text_line(out: &mut Vec<u8>, tag: &[u8], text: &str) {
    out.extend_from_slice(tag);
    push_argument(out, text);
    out.extend_from_slice(CRLF);
}

fn numbers<const COUNT: usize>(
    out: &mut Vec<u8>,
    tag: &[u8],
    numbers: [impl itoa::Integer; COUNT],
) {
    out.extend_from_slice(tag);
    for (at, number) in numbers.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_integer(out, number);
    }
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlcp::line_of as line;

    #[test]
    fn session_lines() {
        assert_eq!(
            line(|out| servname(out, "Lightstreamer HTTP Server")),
            "SERVNAME,Lightstreamer HTTP Server"
        );
        assert_eq!(line(|out| clientip(out, "::1")), "CLIENTIP,::1");
        assert_eq!(
            line(|out| noop(out, "sending placeholder data")),
            "NOOP,sending placeholder data"
        );
        assert_eq!(line(probe), "PROBE");
        assert_eq!(line(|out| sync(out, 15)), "SYNC,15");
        assert_eq!(line(|out| loop_(out, 0)), "LOOP,0");
        assert_eq!(line(|out| prog(out, 11)), "PROG,11");
    }

    #[test]
    fn bandwidth_is_a_number_or_one_of_two_words() {
        assert_eq!(
            line(|out| cons(out, GrantedBandwidth::Limited(12.5))),
            "CONS,12.5"
        );
        assert_eq!(
            line(|out| cons(out, GrantedBandwidth::Limited(50.0))),
            "CONS,50.0"
        );
        assert_eq!(
            line(|out| cons(out, GrantedBandwidth::Unlimited)),
            "CONS,unlimited"
        );
        assert_eq!(
            line(|out| cons(out, GrantedBandwidth::Unmanaged)),
            "CONS,unmanaged"
        );
    }

    #[test]
    fn subscription_lines() {
        assert_eq!(line(|out| subok(out, 1, 2, 6)), "SUBOK,1,2,6");
        assert_eq!(line(|out| subcmd(out, 4, 1, 4, 1, 2)), "SUBCMD,4,1,4,1,2");
        assert_eq!(line(|out| unsub(out, u32::MAX)), "UNSUB,4294967295");
        assert_eq!(line(|out| eos(out, 3, 1)), "EOS,3,1");
        assert_eq!(line(|out| cs(out, 3, 1)), "CS,3,1");
        assert_eq!(line(|out| ov(out, 3, 1, 7)), "OV,3,1,7");
    }

    #[test]
    fn conf_tells_frequency_and_filtering() {
        assert_eq!(
            line(|out| conf(out, 1, Some(2.0), false)),
            "CONF,1,2.0,filtered"
        );
        assert_eq!(
            line(|out| conf(out, 1, None, true)),
            "CONF,1,unlimited,unfiltered"
        );
    }

    #[test]
    fn an_update_starts_with_subscription_and_item() {
        let mut out = Vec::new();
        update_prefix(&mut out, 12, 345);
        assert_eq!(out, b"U,12,345,");
    }

    #[test]
    fn msgdone_has_a_response_since_2_5_only() {
        let older = Version {
            major: 2,
            minor: 4,
            sub: 0,
        };
        assert_eq!(
            line(|out| msgdone(out, Version::LATEST, Some("Orders"), 1, "accepted, id 7")),
            "MSGDONE,Orders,1,accepted%2C id 7"
        );
        assert_eq!(
            line(|out| msgdone(out, Version::LATEST, Some("Orders"), 4, "")),
            "MSGDONE,Orders,4,"
        );
        assert_eq!(
            line(|out| msgdone(out, older, None, 1, "lost")),
            "MSGDONE,*,1"
        );
    }

    #[test]
    fn msgfail_always_has_four_arguments() {
        assert_eq!(
            line(|out| msgfail(out, None, 1, -5, "denied by adapter")),
            "MSGFAIL,*,1,-5,denied by adapter"
        );
        assert_eq!(
            line(|out| msgfail(out, Some("Orders"), 3, 39, "2")),
            "MSGFAIL,Orders,3,39,2"
        );
    }
}
