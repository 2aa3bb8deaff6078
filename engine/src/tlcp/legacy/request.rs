//! Requests of the text protocol into request lines of TLCP.
//!
//! What differs are the names: of parameters, over the years, and of one path. Values keep their percent-encoding and
//! are not looked at, except where the same thing is said with another word. Only parameters that the old protocol has
//! go through, so that nothing of TLCP's gets in by this door.

use crate::text::{Plus, percent_decode};
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Verb;

/// The requests of the text protocol, by the file name of their path without `.txt`.
pub fn verb(name: &str) -> Option<Verb> {
    match name {
        "create_session" => Some(Verb::CreateSession),
        "bind_session" => Some(Verb::BindSession),
        "control" => Some(Verb::Control),
        "send_message" => Some(Verb::Msg),
        _ => None,
    }
}

/// The name of every rewritten request. The protocol has no names for requests: answers go by their order.
const REQ_ID: &str = "LS_reqId=1";

/// Rewrites one request line, `query` being the query string that holds defaults for it, as one line of TLCP. Doing it
/// twice is like doing it once: a bind that moves to another shard is read again there.
pub fn rewrite(verb: Verb, query: &str, line: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(query.len() + line.len() + 64);
    let mut index = None;
    let (mut sequence, mut prog) = (false, false);
    for pair in query.split('&').chain(line.split('&')) {
        let (raw, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Ok(name) = percent_decode(raw, Plus::IsSpace) else {
            continue; // as good as unknown
        };
        let Some((name, number)) = canonical(verb, &name) else {
            continue;
        };
        if let Some(number) = number {
            if index.is_some_and(|known| known != number) {
                let text = "Malformed request: several tables in one line";
                return Err(Refusal::malformed().with_text(text).for_request("1"));
            }
            index = Some(number);
        }
        let value = match (name, value) {
            // Numbers for which TLCP has a word.
            ("LS_requested_max_bandwidth", "0" | "0.0") => "unlimited",
            // In the place of a sequence's name: none.
            ("LS_sequence", "UNORDERED_MESSAGES") => continue,
            _ => value,
        };
        sequence |= name == "LS_sequence";
        prog |= name == "LS_msg_prog";
        push(&mut out, name, value);
    }
    match verb {
        // The time is told in TLCP only.
        Verb::CreateSession | Verb::BindSession => push(&mut out, "LS_send_sync", "false"),
        // A message without a number is answered when it has been processed, and not told of otherwise.
        Verb::Msg if !sequence && !prog => push(&mut out, "LS_outcome", "false"),
        _ => {}
    }
    match verb {
        Verb::Control | Verb::Msg => Ok(format!("{REQ_ID}&{out}")),
        _ => Ok(out),
    }
}

fn push(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(name);
    out.push('=');
    out.push_str(value);
}

/// TLCP's name of a parameter, and the number behind the old name, if it has one. Case differs between clients.
fn canonical(verb: Verb, name: &str) -> Option<(&'static str, Option<u32>)> {
    if name.eq_ignore_ascii_case("LS_op2") {
        return None; // `create`, said twice: the path says it
    }
    let plain = name.trim_end_matches(|last: char| last.is_ascii_digit());
    let number = match &name[plain.len()..] {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    let known = match verb {
        Verb::CreateSession => CREATE,
        Verb::BindSession => BIND,
        Verb::Control => CONTROL,
        Verb::Msg => MESSAGE,
        _ => &[],
    };
    let (_, new) = known
        .iter()
        .find(|(old, _)| old.eq_ignore_ascii_case(plain))?;
    Some((new, number))
}

type Names = &'static [(&'static str, &'static str)];

const CREATE: Names = &[
    ("LS_adapter", "LS_adapter_set"), // before 5.0
    ("LS_adapter_set", "LS_adapter_set"),
    ("LS_content_length", "LS_content_length"),
    ("LS_idle_millis", "LS_idle_millis"),
    ("LS_keepalive_millis", "LS_keepalive_millis"),
    ("LS_password", "LS_password"),
    ("LS_polling", "LS_polling"),
    ("LS_polling_millis", "LS_polling_millis"),
    ("LS_requested_max_bandwidth", "LS_requested_max_bandwidth"),
    ("LS_user", "LS_user"),
    ("LS_cid", "LS_cid"),
];

const BIND: Names = &[
    ("LS_content_length", "LS_content_length"),
    ("LS_idle_millis", "LS_idle_millis"),
    ("LS_keepalive_millis", "LS_keepalive_millis"),
    ("LS_polling", "LS_polling"),
    ("LS_polling_millis", "LS_polling_millis"),
    ("LS_session", "LS_session"),
];

const CONTROL: Names = &[
    ("LS_data_adapter", "LS_data_adapter"),
    ("LS_end", "LS_end"),
    ("LS_id", "LS_group"),
    ("LS_mode", "LS_mode"),
    ("LS_op", "LS_op"),
    ("LS_polling_millis", "LS_polling_millis"),
    ("LS_requested_buffer_size", "LS_requested_buffer_size"),
    ("LS_requested_max_bandwidth", "LS_requested_max_bandwidth"),
    ("LS_requested_max_frequency", "LS_requested_max_frequency"),
    ("LS_schema", "LS_schema"),
    ("LS_selector", "LS_selector"),
    ("LS_session", "LS_session"),
    ("LS_snapshot", "LS_snapshot"),
    ("LS_start", "LS_start"),
    ("LS_table", "LS_subId"),
    ("LS_window", "LS_subId"), // before 4.0
];

const MESSAGE: Names = &[
    ("LS_max_wait", "LS_max_wait"),
    ("LS_message", "LS_message"),
    ("LS_msg_prog", "LS_msg_prog"),
    ("LS_sequence", "LS_sequence"),
    ("LS_session", "LS_session"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlcp::request::{Carrier, Op, Request, parse_line};

    fn control(line: &str) -> String {
        rewrite(Verb::Control, "", line).unwrap()
    }

    #[test]
    fn tables_become_subscriptions() {
        assert_eq!(
            control(
                "LS_session=S1&LS_op=add&LS_table=1&LS_id=item1+item2&LS_schema=a%20b&LS_mode=MERGE"
            ),
            "LS_reqId=1&LS_session=S1&LS_op=add&LS_subId=1&LS_group=item1+item2&LS_schema=a%20b&LS_mode=MERGE"
        );
    }

    #[test]
    fn names_of_older_clients_differ_in_case_and_have_numbers() {
        assert_eq!(
            control("LS_session=S1&LS_op=add&LS_window1=4&LS_id1=g&LS_mode1=RAW&LS_Snapshot1=true"),
            "LS_reqId=1&LS_session=S1&LS_op=add&LS_subId=4&LS_group=g&LS_mode=RAW&LS_snapshot=true"
        );
        assert_eq!(control("LS_Table=7"), "LS_reqId=1&LS_subId=7");
        let several = rewrite(Verb::Control, "", "LS_window1=4&LS_window2=5").unwrap_err();
        assert_eq!((several.code, several.req_id.as_deref()), (67, Some("1")));
    }

    #[test]
    fn only_what_the_protocol_has_goes_through() {
        assert_eq!(
            rewrite(
                Verb::CreateSession,
                "",
                "LS_op2=create&LS_cid=x&LS_adapter=DEMO&LS_report_info=true&LS_old_session=S2&LS_op=add&LS_ack=false\
                 &LS_requested_max_bandwidth=0&LS_reqId=2"
            )
            .unwrap(),
            "LS_cid=x&LS_adapter_set=DEMO&LS_requested_max_bandwidth=unlimited&LS_send_sync=false"
        );
    }

    #[test]
    fn the_query_holds_defaults() {
        assert_eq!(
            rewrite(Verb::BindSession, "LS_session=S1", "LS_polling=true").unwrap(),
            "LS_session=S1&LS_polling=true&LS_send_sync=false"
        );
    }

    #[test]
    fn a_bind_may_be_rewritten_again() {
        let once = rewrite(Verb::BindSession, "", "LS_session=S1&LS_content_length=9").unwrap();
        assert_eq!(rewrite(Verb::BindSession, "", &once).unwrap(), once);
    }

    #[test]
    fn messages_have_a_number_or_no_outcome() {
        let message = |line| rewrite(Verb::Msg, "", line).unwrap();
        assert_eq!(
            message("LS_session=S1&LS_message=hi"),
            "LS_reqId=1&LS_session=S1&LS_message=hi&LS_outcome=false"
        );
        assert_eq!(
            message("LS_sequence=UNORDERED_MESSAGES&LS_msg_prog=1&LS_message="),
            "LS_reqId=1&LS_msg_prog=1&LS_message="
        );
        assert_eq!(
            message("LS_sequence=a&LS_msg_prog=1&LS_message=x&LS_max_wait=5"),
            "LS_reqId=1&LS_sequence=a&LS_msg_prog=1&LS_message=x&LS_max_wait=5"
        );
    }

    #[test]
    fn what_is_rewritten_is_understood() {
        let line = control("LS_session=S1&LS_op=start&LS_table=3");
        let parsed = parse_line(Verb::Control, Carrier::Http, "", &line);
        assert!(
            matches!(&parsed, Ok(Request::Control(control)) if control.op == Op::Start { sub_id: 3 }),
            "{parsed:?}"
        );
    }
}
