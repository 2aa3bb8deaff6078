//! Request lines into requests: which parameters each request has, what they default to, and what is refused.

use std::borrow::Cow;

use super::params::{Key, Params, bad, missing, parse_count, parse_rate};
use super::{
    Add, Bandwidth, Bind, BufferSize, Carrier, Control, Create, Frequency, Message, Mode, Op,
    Polling, Request, Snapshot, StreamOptions, Table, Ttl, Verb, lines, split_message,
};
use crate::text::parse_integer;
use crate::tlcp::cause::Refusal;

/// Parses one request line. `query` is the query string of an HTTP request, which holds defaults for every line, and
/// is empty on a WebSocket.
///
/// A refusal carries the request's id if it has one, wherever in the line the fault is: an `ERROR`, which a refusal
/// without an id becomes, ends the client for good.
pub fn parse_line<'a>(
    verb: Verb,
    carrier: Carrier,
    query: &'a str,
    line: &'a str,
) -> Result<Request<'a>, Refusal> {
    let params = &mut Params::read(query, line);
    match verb {
        // Whatever they come with is ignored.
        Verb::Wsok => Ok(Request::Wsok),
        Verb::SendLog => Ok(Request::SendLog),
        Verb::Heartbeat => params.check().map(|()| Request::Heartbeat {
            session: params.take(Key::Session),
        }),
        Verb::CreateSession => create(params, carrier).map(Request::Create),
        Verb::BindSession => bind(params, carrier).map(Request::Bind),
        Verb::Control | Verb::Msg => {
            let req_id = take_req_id(params).ok_or_else(Refusal::malformed)?;
            control_or_msg(verb, carrier, params, req_id.clone())
                .map_err(|refusal| refusal.for_request(req_id))
        }
    }
}

/// Parses an operation that comes with `create_session`, to be carried out in the new session: a control request, or a
/// message, for which the protocol has no words but which a client sends. It has neither id nor session, so those are
/// empty in the result. Any refusal is one of the whole creation, code 64.
pub fn parse_combo_line<'a>(query: &'a str, line: &'a str) -> Result<Request<'a>, Refusal> {
    let mut params = Params::read(query, line);
    let verb = if params.has(Key::Op) {
        Verb::Control
    } else {
        Verb::Msg
    };
    params.take(Key::Session);
    // The session goes without saying, which is so on a WebSocket only.
    control_or_msg(verb, Carrier::WebSocket, &mut params, Cow::Borrowed(""))
        .map_err(|refusal| Refusal::combined_request(&refusal.text))
}

/// Whether the first line of a `create_session` holds an operation besides the parameters of the creation. It is then
/// to be given to [`parse_combo_line`] as well, before the lines that follow it.
pub fn has_combo(query: &str, line: &str) -> bool {
    let params = Params::read(query, line);
    params.has(Key::Op) || params.has(Key::Message)
}

/// The refusal of a request that exceeds the limit told in `CONOK`. `beginning` is as much of the line as there is; an
/// id that is cut off with it is not recognised as such, but clients put it first.
pub fn too_long(query: &str, beginning: &str) -> Refusal {
    match take_req_id(&mut Params::read(query, beginning)) {
        Some(req_id) => Refusal::request_too_long().for_request(req_id),
        None => Refusal::malformed(),
    }
}

/// For fuzzing: feeds bytes to everything in this module that the network feeds. Must not panic.
pub fn fuzz_entry(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (query, message) = text.split_once('\0').unwrap_or(("", text));
    let (verb, body) = split_message(message).unwrap_or((Verb::Control, message));
    for line in lines(verb, body) {
        for carrier in [Carrier::WebSocket, Carrier::Http] {
            let _ = parse_line(verb, carrier, query, line);
        }
        let _ = (
            has_combo(query, line),
            parse_combo_line(query, line),
            too_long(query, line),
        );
    }
}

/// An empty id could not be told from none in an answer.
fn take_req_id<'a>(params: &mut Params<'a>) -> Option<Cow<'a, str>> {
    params.take(Key::ReqId).filter(|req_id| !req_id.is_empty())
}

fn create<'a>(params: &mut Params<'a>, carrier: Carrier) -> Result<Create<'a>, Refusal> {
    params.check()?;
    let ttl = params
        .parsed(Key::TtlMillis, parse_ttl)?
        .or(params.parsed(Key::Ttl, parse_ttl)?);
    Ok(Create {
        adapter_set: params.take(Key::AdapterSet),
        user: params.take(Key::User),
        password: params.take(Key::Password),
        cid: params.take(Key::Cid),
        old_session: params.take(Key::OldSession),
        bandwidth: params.parsed(Key::MaxBandwidth, parse_bandwidth)?,
        supported_diffs: params.take(Key::SupportedDiffs),
        ttl: ttl.unwrap_or_default(),
        stream: stream_options(params, carrier)?,
    })
}

fn bind<'a>(params: &mut Params<'a>, carrier: Carrier) -> Result<Bind<'a>, Refusal> {
    params.check()?;
    Ok(Bind {
        session: session(params, carrier)?,
        recovery_from: params.integer(Key::RecoveryFrom)?,
        stream: stream_options(params, carrier)?,
    })
}

/// A parameter that the kind of response does not have is not looked at, so a bad value in it does no harm.
fn stream_options(params: &mut Params<'_>, carrier: Carrier) -> Result<StreamOptions, Refusal> {
    let mut options = StreamOptions {
        reduce_head: params.boolean(Key::ReduceHead, false)?,
        ..StreamOptions::default()
    };
    if carrier == Carrier::Http {
        options.content_length = params.integer(Key::ContentLength)?;
    }
    if params.boolean(Key::Polling, false)? {
        options.polling = Some(Polling {
            polling_millis: params.integer(Key::PollingMillis)?.unwrap_or(0),
            idle_millis: params.integer(Key::IdleMillis)?.unwrap_or(0),
        });
    } else {
        options.keepalive_millis = params.integer(Key::KeepaliveMillis)?;
        options.inactivity_millis = params.integer(Key::InactivityMillis)?;
        options.send_sync = params.boolean(Key::SendSync, true)?;
    }
    Ok(options)
}

/// A WebSocket has a last session, to which requests go that name none.
fn session<'a>(params: &mut Params<'a>, carrier: Carrier) -> Result<Option<Cow<'a, str>>, Refusal> {
    match (params.take(Key::Session), carrier) {
        (None, Carrier::Http) => Err(missing(Key::Session)),
        (session, _) => Ok(session),
    }
}

fn control_or_msg<'a>(
    verb: Verb,
    carrier: Carrier,
    params: &mut Params<'a>,
    req_id: Cow<'a, str>,
) -> Result<Request<'a>, Refusal> {
    params.check()?;
    let session = session(params, carrier)?;
    match verb {
        Verb::Msg => Ok(Request::Message(message(params, carrier, req_id, session)?)),
        _ => Ok(Request::Control(Control {
            req_id,
            session,
            op: op(params, carrier)?,
        })),
    }
}

fn op<'a>(params: &mut Params<'a>, carrier: Carrier) -> Result<Op<'a>, Refusal> {
    let name = params.required(Key::Op)?;
    Ok(match &*name {
        "add" if !params.has(Key::Start) && !params.has(Key::End) => Op::Add(add(params, carrier)?),
        "add" | "add_silent" => Op::AddTable {
            add: add(params, carrier)?,
            table: Table {
                silent: name == "add_silent",
                range: range(params)?,
            },
        },
        "start" => Op::Start {
            sub_id: sub_id(params)?,
        },
        "delete" => Op::Delete {
            sub_id: sub_id(params)?,
            ack: ack(params, carrier)?,
        },
        "reconf" => Op::Reconf {
            sub_id: sub_id(params)?,
            frequency: params.parsed(Key::MaxFrequency, parse_frequency)?,
        },
        "constrain" => Op::Constrain {
            bandwidth: params.required_parsed(Key::MaxBandwidth, parse_bandwidth)?,
        },
        "force_rebind" => Op::ForceRebind {
            polling_millis: params.integer(Key::PollingMillis)?,
            close_socket: params.boolean(Key::CloseSocket, false)?,
        },
        "destroy" => Op::Destroy {
            cause_code: params.signed(Key::CauseCode)?,
            cause_message: params.take(Key::CauseMessage),
            close_socket: params.boolean(Key::CloseSocket, false)?,
        },
        "register" => Op::Mpn("register"),
        "reset_badge" => Op::Mpn("reset_badge"),
        "activate" => Op::Mpn("activate"),
        "pn_reconf" => Op::Mpn("pn_reconf"),
        "deactivate" => Op::Mpn("deactivate"),
        _ => return Err(bad(Key::Op)),
    })
}

/// What a mode has no use for is not looked at.
fn add<'a>(params: &mut Params<'a>, carrier: Carrier) -> Result<Add<'a>, Refusal> {
    let sub_id = sub_id(params)?;
    let mode = params.required_parsed(Key::Mode, parse_mode)?;
    let frequency = match mode {
        Mode::Raw => Frequency::Unlimited,
        _ => params
            .parsed(Key::MaxFrequency, parse_frequency)?
            .unwrap_or(Frequency::Unlimited),
    };
    let snapshot = match mode {
        Mode::Raw => Snapshot::No,
        _ => params
            .parsed(Key::Snapshot, |value| parse_snapshot(value, mode))?
            .unwrap_or(Snapshot::No),
    };
    let buffer_size = match mode {
        Mode::Raw | Mode::Command => None,
        _ if frequency == Frequency::Unfiltered => None,
        _ => params.parsed(Key::BufferSize, parse_buffer_size)?,
    };
    Ok(Add {
        sub_id,
        data_adapter: params.take(Key::DataAdapter),
        group: params.required(Key::Group)?,
        schema: params.required(Key::Schema)?,
        selector: params.take(Key::Selector),
        mode,
        snapshot,
        frequency,
        buffer_size,
        ack: ack(params, carrier)?,
    })
}

/// An end that is left out is the group's.
fn range(params: &mut Params<'_>) -> Result<Option<(u32, u32)>, Refusal> {
    let (start, end) = (params.ordinal(Key::Start)?, params.ordinal(Key::End)?);
    match (start, end) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) if start > end => Err(bad(Key::End)),
        (start, end) => Ok(Some((start.unwrap_or(1), end.unwrap_or(u32::MAX)))),
    }
}

fn message<'a>(
    params: &mut Params<'a>,
    carrier: Carrier,
    req_id: Cow<'a, str>,
    session: Option<Cow<'a, str>>,
) -> Result<Message<'a>, Refusal> {
    let text = params.required(Key::Message)?;
    let sequence = params.take(Key::Sequence);
    if sequence
        .as_deref()
        .is_some_and(|name| !is_sequence_name(name))
    {
        return Err(bad(Key::Sequence));
    }
    let prog = params.ordinal(Key::MsgProg)?;
    let outcome = params.boolean(Key::Outcome, true)?;
    // Without a number, neither the place in the sequence nor the outcome could be told.
    if prog.is_none() && (sequence.is_some() || outcome) {
        return Err(missing(Key::MsgProg));
    }
    let max_wait_millis = if sequence.is_some() {
        params.integer(Key::MaxWait)?
    } else {
        None
    };
    Ok(Message {
        req_id,
        session,
        text,
        sequence,
        prog,
        max_wait_millis,
        outcome,
        ack: ack(params, carrier)?,
    })
}

/// Over HTTP there is always an answer, so whether one is wanted is not looked at.
fn ack(params: &mut Params<'_>, carrier: Carrier) -> Result<bool, Refusal> {
    match carrier {
        Carrier::WebSocket => params.boolean(Key::Ack, true),
        Carrier::Http => Ok(true),
    }
}

fn sub_id(params: &mut Params<'_>) -> Result<u32, Refusal> {
    params
        .ordinal(Key::SubId)?
        .ok_or_else(|| missing(Key::SubId))
}

/// The one name that would pass is what an older protocol calls messages outside of any sequence.
fn is_sequence_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name != "UNORDERED_MESSAGES"
}

fn parse_mode(value: &str) -> Option<Mode> {
    match value {
        "RAW" => Some(Mode::Raw),
        "MERGE" => Some(Mode::Merge),
        "DISTINCT" => Some(Mode::Distinct),
        "COMMAND" => Some(Mode::Command),
        _ => None,
    }
}

fn parse_snapshot(value: &str, mode: Mode) -> Option<Snapshot> {
    match value {
        _ if value.eq_ignore_ascii_case("true") => Some(Snapshot::Yes),
        _ if value.eq_ignore_ascii_case("false") => Some(Snapshot::No),
        _ if mode == Mode::Distinct => parse_count(value).map(Snapshot::Length),
        _ => None,
    }
}

/// Zero is how the protocol before TLCP spelt "unlimited".
fn parse_frequency(value: &str) -> Option<Frequency> {
    match value {
        "unlimited" => Some(Frequency::Unlimited),
        "unfiltered" => Some(Frequency::Unfiltered),
        _ if parse_integer(value) == Some(0) => Some(Frequency::Unlimited),
        _ => parse_rate(value).map(Frequency::Limited),
    }
}

fn parse_bandwidth(value: &str) -> Option<Bandwidth> {
    match value {
        "unlimited" => Some(Bandwidth::Unlimited),
        _ => parse_rate(value).map(Bandwidth::Limited),
    }
}

/// Zero is how the protocol before TLCP spelt "unlimited".
fn parse_buffer_size(value: &str) -> Option<BufferSize> {
    match value {
        "unlimited" => Some(BufferSize::Unlimited),
        _ => Some(match parse_count(value)? {
            0 => BufferSize::Unlimited,
            events => BufferSize::Events(events),
        }),
    }
}

fn parse_ttl(value: &str) -> Option<Ttl> {
    match value {
        "unknown" => Some(Ttl::Unknown),
        "unlimited" => Some(Ttl::Unlimited),
        _ => parse_integer(value).map(Ttl::Millis),
    }
}

#[cfg(test)]
mod tests;
