//! What a client asks for, parsed out of one request line.
//!
//! A request arrives as a name (the first line of a WebSocket message, or an HTTP path) and a body of lines, each of
//! them a request of its own: [`split_message`], then [`lines`], then [`parse_line`] for each. `create_session` is the
//! exception: its further lines are requests to be carried out in the new session ([`parse_combo_line`]).
//!
//! What is refused here is what no session needs to be asked for: values that cannot be (code 65) and requests that
//! cannot be read or lack something mandatory (code 67).

mod lines;
mod params;
mod parse;

use std::borrow::Cow;

pub use lines::{RequestLines, lines, split_message, with_query};
pub use parse::{fuzz_entry, has_combo, parse_combo_line, parse_line, too_long};

/// What carries a request. Some parameters exist on one of the two only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A WebSocket message: the session may be left to the socket, and answers may be waived (`LS_ack`).
    WebSocket,
    /// An HTTP request: the session must be named, and every request is answered.
    Http,
}

/// The name of a request: the first line of a WebSocket message, or the file name of an HTTP path without `.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `create_session`
    CreateSession,
    /// `bind_session`
    BindSession,
    /// `control`
    Control,
    /// `msg`
    Msg,
    /// `heartbeat`
    Heartbeat,
    /// `wsok`, on WebSocket only
    Wsok,
    /// `send_log`, the remote log of web clients of generation 8: acknowledged and dropped
    SendLog,
}

impl Verb {
    /// The verb of a request name; names are exact.
    pub fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name)
    }

    /// The request name.
    pub fn name(self) -> &'static str {
        match self {
            Verb::CreateSession => "create_session",
            Verb::BindSession => "bind_session",
            Verb::Control => "control",
            Verb::Msg => "msg",
            Verb::Heartbeat => "heartbeat",
            Verb::Wsok => "wsok",
            Verb::SendLog => "send_log",
        }
    }

    const ALL: [Verb; 7] = [
        Verb::CreateSession,
        Verb::BindSession,
        Verb::Control,
        Verb::Msg,
        Verb::Heartbeat,
        Verb::Wsok,
        Verb::SendLog,
    ];
}

/// One request line, parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// Open a session, and bind it to this connection.
    Create(Create<'a>),
    /// Bind an existing session to this connection.
    Bind(Bind<'a>),
    /// Change something in a session.
    Control(Control<'a>),
    /// A message for the metadata adapter.
    Message(Message<'a>),
    /// The client is alive.
    Heartbeat {
        /// `LS_session`, if given.
        session: Option<Cow<'a, str>>,
    },
    /// Echo check of a WebSocket.
    Wsok,
    /// Remote log line, to be acknowledged with a bare `REQOK`.
    SendLog,
}

impl Request<'_> {
    /// The name that the request goes by.
    pub fn verb(&self) -> Verb {
        match self {
            Request::Create(_) => Verb::CreateSession,
            Request::Bind(_) => Verb::BindSession,
            Request::Control(_) => Verb::Control,
            Request::Message(_) => Verb::Msg,
            Request::Heartbeat { .. } => Verb::Heartbeat,
            Request::Wsok => Verb::Wsok,
            Request::SendLog => Verb::SendLog,
        }
    }
}

/// How a stream or poll response shall behave: the parameters that `create_session` and `bind_session` share.
/// Parameters that do not apply to the kind of response are already `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamOptions {
    /// `LS_polling`, with its two times in milliseconds; `None` is streaming.
    pub polling: Option<Polling>,
    /// `LS_content_length`, bytes.
    pub content_length: Option<u64>,
    /// `LS_keepalive_millis`, streaming only.
    pub keepalive_millis: Option<u64>,
    /// `LS_inactivity_millis`, streaming only.
    pub inactivity_millis: Option<u64>,
    /// `LS_send_sync`, streaming only, default true.
    pub send_sync: bool,
    /// `LS_reduce_head`, default false.
    pub reduce_head: bool,
}

/// Times of a polling response, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polling {
    /// `LS_polling_millis`: how long after this response the client intends to poll again.
    pub polling_millis: u64,
    /// `LS_idle_millis`: how long the response may wait for data; 0 is a synchronous poll.
    pub idle_millis: u64,
}

/// `create_session`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create<'a> {
    /// `LS_adapter_set`; `None` means the set named `DEFAULT`.
    pub adapter_set: Option<Cow<'a, str>>,
    /// `LS_user`: absent is not the same as empty.
    pub user: Option<Cow<'a, str>>,
    /// `LS_password`
    pub password: Option<Cow<'a, str>>,
    /// `LS_cid`, opaque
    pub cid: Option<Cow<'a, str>>,
    /// `LS_old_session`: the session that this one replaces.
    pub old_session: Option<Cow<'a, str>>,
    /// `LS_requested_max_bandwidth`
    pub bandwidth: Option<Bandwidth>,
    /// `LS_supported_diffs`: the letters given; `None` means all.
    pub supported_diffs: Option<Cow<'a, str>>,
    /// `LS_ttl_millis` (or the older spelling `LS_ttl`)
    pub ttl: Ttl,
    /// How the response shall behave.
    pub stream: StreamOptions,
}

/// `LS_ttl_millis`: how long a creation may be pending before it is discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// The client does not say.
    #[default]
    Unknown,
    /// Never refuse for overload.
    Unlimited,
    /// Milliseconds.
    Millis(u64),
}

/// `bind_session`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bind<'a> {
    /// `LS_session`; on WebSocket the default is the socket's last session.
    pub session: Option<Cow<'a, str>>,
    /// `LS_recovery_from`: how many data lines the client has received.
    pub recovery_from: Option<u64>,
    /// How the response shall behave.
    pub stream: StreamOptions,
}

/// `control`: one operation on a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Control<'a> {
    /// `LS_reqId`, echoed verbatim.
    pub req_id: Cow<'a, str>,
    /// `LS_session`; on WebSocket the default is the socket's last session.
    pub session: Option<Cow<'a, str>>,
    /// What to do.
    pub op: Op<'a>,
}

/// `LS_op` with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Op<'a> {
    /// `add`: subscribe.
    Add(Add<'a>),
    /// `delete`: unsubscribe.
    Delete {
        /// `LS_subId`
        sub_id: u32,
        /// `LS_ack`
        ack: bool,
    },
    /// `reconf`: change a subscription's frequency.
    Reconf {
        /// `LS_subId`
        sub_id: u32,
        /// `LS_requested_max_frequency`; absent means no change.
        frequency: Option<Frequency>,
    },
    /// `constrain`: change the session's bandwidth.
    Constrain {
        /// `LS_requested_max_bandwidth`
        bandwidth: Bandwidth,
    },
    /// `force_rebind`: end the stream response, keep the session.
    ForceRebind {
        /// `LS_polling_millis`: how long the client needs until it binds again.
        polling_millis: Option<u64>,
        /// `LS_close_socket`
        close_socket: bool,
    },
    /// `destroy`: end the session.
    Destroy {
        /// `LS_cause_code`
        cause_code: Option<i64>,
        /// `LS_cause_message`
        cause_message: Option<Cow<'a, str>>,
        /// `LS_close_socket`
        close_socket: bool,
    },
    /// `add` and `add_silent` of the text protocol before TLCP, which can do more than TLCP's `add`.
    AddTable {
        /// What TLCP knows of it.
        add: Add<'a>,
        /// What it does not.
        table: Table,
    },
    /// `start` of the text protocol: what was added silently is to be sent from now on.
    Start {
        /// `LS_subId`
        sub_id: u32,
    },
    /// An operation of mobile push notifications, by its name.
    Mpn(&'static str),
}

/// `LS_op=add`.
#[derive(Clone, Debug, PartialEq)]
pub struct Add<'a> {
    /// `LS_subId`, at least 1.
    pub sub_id: u32,
    /// `LS_data_adapter`; `None` means the adapter named `DEFAULT`.
    pub data_adapter: Option<Cow<'a, str>>,
    /// `LS_group`
    pub group: Cow<'a, str>,
    /// `LS_schema`
    pub schema: Cow<'a, str>,
    /// `LS_selector`
    pub selector: Option<Cow<'a, str>>,
    /// `LS_mode`
    pub mode: Mode,
    /// `LS_snapshot`
    pub snapshot: Snapshot,
    /// `LS_requested_max_frequency`
    pub frequency: Frequency,
    /// `LS_requested_buffer_size`; `None` means the mode's default.
    pub buffer_size: Option<BufferSize>,
    /// `LS_ack`
    pub ack: bool,
}

/// What a subscription of the text protocol before TLCP can have and one of TLCP cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// `add_silent`: nothing is sent before `start`.
    pub silent: bool,
    /// `LS_start` and `LS_end`: of the group's items, counted from 1, only those from here to there, both included.
    pub range: Option<(u32, u32)>,
}

/// `LS_mode`: what an item's events mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every event as it is.
    Raw,
    /// One row whose fields change.
    Merge,
    /// A sequence of independent events.
    Distinct,
    /// A table of rows, by key.
    Command,
}

/// `LS_snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// `false`
    No,
    /// `true`
    Yes,
    /// A number of events, for DISTINCT.
    Length(u32),
}

/// `LS_requested_max_frequency`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frequency {
    /// As fast as the item and the line allow; updates may still be merged.
    Unlimited,
    /// Updates per second and item, more than zero.
    Limited(f64),
    /// Nothing may be merged or dropped.
    Unfiltered,
}

/// `LS_requested_max_bandwidth`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bandwidth {
    /// No limit.
    Unlimited,
    /// Kilobits per second, more than zero.
    Limited(f64),
}

/// `LS_requested_buffer_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferSize {
    /// As many events as the server's limit allows.
    Unlimited,
    /// This many events.
    Events(u32),
}

/// `msg`.
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    /// `LS_reqId`, echoed verbatim.
    pub req_id: Cow<'a, str>,
    /// `LS_session`; on WebSocket the default is the socket's last session.
    pub session: Option<Cow<'a, str>>,
    /// `LS_message`
    pub text: Cow<'a, str>,
    /// `LS_sequence`
    pub sequence: Option<Cow<'a, str>>,
    /// `LS_msg_prog`, at least 1
    pub prog: Option<u32>,
    /// `LS_max_wait`, milliseconds
    pub max_wait_millis: Option<u64>,
    /// `LS_outcome`
    pub outcome: bool,
    /// `LS_ack`
    pub ack: bool,
}
