//! Writers of requests: the same types that the server parses them into.

use crate::text::{CRLF, is_control, push_decimal, push_escaped, push_integer};
use crate::tlcp::request::{
    Add, Bandwidth, Bind, BufferSize, Control, Create, Frequency, Message, Mode, Op, Request,
    Snapshot, StreamOptions, Ttl,
};

/// Appends a request as the text of a WebSocket message: its name and its line.
pub fn write_message(out: &mut Vec<u8>, request: &Request<'_>) {
    out.extend_from_slice(request.verb().name().as_bytes());
    // The only request without a line of parameters; even an empty one would be one too many.
    if *request != Request::Wsok {
        out.extend_from_slice(CRLF);
        write_line(out, request);
        out.extend_from_slice(CRLF);
    }
}

/// Appends the line of a request, without a line end: for batches, for operations that come with a `create_session`
/// (an empty `req_id` is left out), and for bodies over HTTP. Parameters that have their default are left out.
pub fn write_line(out: &mut Vec<u8>, request: &Request<'_>) {
    let pairs = &mut Pairs {
        start: out.len(),
        out,
    };
    match request {
        Request::Create(request) => create(pairs, request),
        Request::Bind(request) => bind(pairs, request),
        Request::Control(request) => control(pairs, request),
        Request::Message(request) => message(pairs, request),
        Request::Heartbeat { session } => pairs.text("LS_session", session),
        Request::Wsok | Request::SendLog => {}
    }
}

fn create(pairs: &mut Pairs<'_>, request: &Create<'_>) {
    stream_options(pairs, &request.stream);
    if let Some(value) = request.bandwidth {
        bandwidth(pairs, value);
    }
    pairs.text("LS_adapter_set", &request.adapter_set);
    pairs.text("LS_user", &request.user);
    pairs.text("LS_cid", &request.cid);
    pairs.text("LS_old_session", &request.old_session);
    pairs.text("LS_supported_diffs", &request.supported_diffs);
    match request.ttl {
        Ttl::Unknown => {}
        Ttl::Unlimited => pairs.word("LS_ttl_millis", "unlimited"),
        Ttl::Millis(millis) => pairs.number("LS_ttl_millis", millis),
    }
    pairs.text("LS_password", &request.password);
}

fn bind(pairs: &mut Pairs<'_>, request: &Bind<'_>) {
    pairs.text("LS_session", &request.session);
    pairs.optional_number("LS_recovery_from", request.recovery_from);
    stream_options(pairs, &request.stream);
}

fn stream_options(pairs: &mut Pairs<'_>, options: &StreamOptions) {
    match options.polling {
        Some(polling) => {
            pairs.word("LS_polling", "true");
            pairs.number("LS_polling_millis", polling.polling_millis);
            pairs.number("LS_idle_millis", polling.idle_millis);
        }
        None => pairs.flag("LS_send_sync", options.send_sync, true),
    }
    pairs.optional_number("LS_content_length", options.content_length);
    pairs.optional_number("LS_keepalive_millis", options.keepalive_millis);
    pairs.optional_number("LS_inactivity_millis", options.inactivity_millis);
    pairs.flag("LS_reduce_head", options.reduce_head, false);
}

fn control(pairs: &mut Pairs<'_>, request: &Control<'_>) {
    if !request.req_id.is_empty() {
        pairs.word("LS_reqId", &request.req_id);
    }
    pairs.text("LS_session", &request.session);
    match &request.op {
        Op::Add(op) => add(pairs, op),
        Op::Delete { sub_id, ack } => {
            pairs.word("LS_op", "delete");
            pairs.number("LS_subId", *sub_id);
            pairs.flag("LS_ack", *ack, true);
        }
        Op::Reconf {
            sub_id,
            frequency: value,
        } => {
            pairs.word("LS_op", "reconf");
            pairs.number("LS_subId", *sub_id);
            if let Some(value) = value {
                frequency(pairs, *value);
            }
        }
        Op::Constrain { bandwidth: value } => {
            pairs.word("LS_op", "constrain");
            bandwidth(pairs, *value);
        }
        Op::ForceRebind {
            polling_millis,
            close_socket,
        } => {
            pairs.word("LS_op", "force_rebind");
            pairs.optional_number("LS_polling_millis", *polling_millis);
            pairs.flag("LS_close_socket", *close_socket, false);
        }
        Op::Destroy {
            cause_code,
            cause_message,
            close_socket,
        } => {
            pairs.word("LS_op", "destroy");
            pairs.optional_number("LS_cause_code", *cause_code);
            pairs.text("LS_cause_message", cause_message);
            pairs.flag("LS_close_socket", *close_socket, false);
        }
        Op::AddTable { add: op, table } => {
            add(pairs, op);
            if table.silent {
                pairs.word("LS_op", "add_silent"); // the last one counts
            }
            if let Some((start, end)) = table.range {
                pairs.number("LS_start", start);
                pairs.number("LS_end", end);
            }
        }
        Op::Start { sub_id } => {
            pairs.word("LS_op", "start");
            pairs.number("LS_subId", *sub_id);
        }
        Op::Mpn(name) => pairs.word("LS_op", name),
    }
}

fn add(pairs: &mut Pairs<'_>, op: &Add<'_>) {
    pairs.word("LS_op", "add");
    pairs.number("LS_subId", op.sub_id);
    let mode = match op.mode {
        Mode::Raw => "RAW",
        Mode::Merge => "MERGE",
        Mode::Distinct => "DISTINCT",
        Mode::Command => "COMMAND",
    };
    pairs.word("LS_mode", mode);
    pairs.word("LS_group", &op.group);
    pairs.word("LS_schema", &op.schema);
    pairs.text("LS_data_adapter", &op.data_adapter);
    pairs.text("LS_selector", &op.selector);
    match op.snapshot {
        Snapshot::No => {}
        Snapshot::Yes => pairs.word("LS_snapshot", "true"),
        Snapshot::Length(length) => pairs.number("LS_snapshot", length),
    }
    if op.frequency != Frequency::Unlimited {
        frequency(pairs, op.frequency);
    }
    match op.buffer_size {
        None => {}
        Some(BufferSize::Unlimited) => pairs.word("LS_requested_buffer_size", "unlimited"),
        Some(BufferSize::Events(events)) => pairs.number("LS_requested_buffer_size", events),
    }
    pairs.flag("LS_ack", op.ack, true);
}

fn message(pairs: &mut Pairs<'_>, request: &Message<'_>) {
    if !request.req_id.is_empty() {
        pairs.word("LS_reqId", &request.req_id);
    }
    pairs.text("LS_session", &request.session);
    pairs.word("LS_message", &request.text);
    pairs.flag("LS_outcome", request.outcome, true);
    pairs.text("LS_sequence", &request.sequence);
    pairs.optional_number("LS_msg_prog", request.prog);
    pairs.optional_number("LS_max_wait", request.max_wait_millis);
    pairs.flag("LS_ack", request.ack, true);
}

fn bandwidth(pairs: &mut Pairs<'_>, value: Bandwidth) {
    match value {
        Bandwidth::Unlimited => pairs.word("LS_requested_max_bandwidth", "unlimited"),
        Bandwidth::Limited(kbps) => pairs.decimal("LS_requested_max_bandwidth", kbps),
    }
}

fn frequency(pairs: &mut Pairs<'_>, value: Frequency) {
    match value {
        Frequency::Unlimited => pairs.word("LS_requested_max_frequency", "unlimited"),
        Frequency::Unfiltered => pairs.word("LS_requested_max_frequency", "unfiltered"),
        Frequency::Limited(hz) => pairs.decimal("LS_requested_max_frequency", hz),
    }
}

/// The `name=value` pairs of one line.
struct Pairs<'o> {
    out: &'o mut Vec<u8>,
    /// Where the line starts.
    start: usize,
}

impl Pairs<'_> {
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if self.out.len() > self.start {
            self.out.push(b'&');
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'=');
        self.out
    }

    /// Escapes what separates parameters, what decoding gives a meaning, and the blank, as clients do.
    fn word(&mut self, name: &str, value: &str) {
        push_escaped(self.name(name), value.as_bytes(), |byte| {
            is_control(byte) | matches!(byte, b' ' | b'%' | b'&' | b'+' | b'=')
        });
    }

    fn text(&mut self, name: &str, value: &Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.word(name, value.as_ref());
        }
    }

    fn number(&mut self, name: &str, value: impl itoa::Integer) {
        push_integer(self.name(name), value);
    }

    fn optional_number(&mut self, name: &str, value: Option<impl itoa::Integer>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    fn decimal(&mut self, name: &str, value: f64) {
        push_decimal(self.name(name), value);
    }

    fn flag(&mut self, name: &str, value: bool, default: bool) {
        if value != default {
            self.word(name, if value { "true" } else { "false" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: &Request<'_>) -> String {
        let mut out = Vec::new();
        write_message(&mut out, request);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_create_as_official_clients_send_it() {
        let request = Create {
            adapter_set: Some("DEMO".into()),
            cid: Some("mgQkwtwdysogQz2BJ4Ji kOj2Bg".into()),
            ..Create::default()
        };
        assert_eq!(
            written(&Request::Create(request)),
            "create_session\r\nLS_send_sync=false&LS_adapter_set=DEMO&LS_cid=mgQkwtwdysogQz2BJ4Ji%20kOj2Bg\r\n"
        );
    }

    #[test]
    fn requests_without_parameters() {
        assert_eq!(written(&Request::Wsok), "wsok");
        assert_eq!(
            written(&Request::Heartbeat { session: None }),
            "heartbeat\r\n\r\n"
        );
        let stream = StreamOptions {
            send_sync: true,
            ..StreamOptions::default()
        };
        assert_eq!(
            written(&Request::Bind(Bind {
                stream,
                ..Bind::default()
            })),
            "bind_session\r\n\r\n"
        );
    }

    #[test]
    fn values_are_escaped() {
        let request = Control {
            req_id: "1".into(),
            session: None,
            op: Op::Destroy {
                cause_code: Some(-7),
                cause_message: Some("a&b=c+d e%\r\né".into()),
                close_socket: true,
            },
        };
        assert_eq!(
            written(&Request::Control(request)),
            "control\r\nLS_reqId=1&LS_op=destroy&LS_cause_code=-7\
             &LS_cause_message=a%26b%3Dc%2Bd%20e%25%0D%0Aé&LS_close_socket=true\r\n"
        );
    }
}
