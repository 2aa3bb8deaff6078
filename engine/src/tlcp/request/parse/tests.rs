//! What each request may look like, by example.

use super::*;
use crate::tlcp::cause::Reason;

fn ws(verb: Verb, line: &str) -> Result<Request<'_>, Refusal> {
    parse_line(verb, Carrier::WebSocket, "", line)
}

fn http<'a>(verb: Verb, query: &'a str, line: &'a str) -> Result<Request<'a>, Refusal> {
    parse_line(verb, Carrier::Http, query, line)
}

fn created(line: &str) -> Create<'_> {
    match ws(Verb::CreateSession, line) {
        Ok(Request::Create(create)) => create,
        other => panic!("{other:?}"),
    }
}

fn operation(line: &str) -> Result<Op<'_>, Refusal> {
    match ws(Verb::Control, line)? {
        Request::Control(control) => Ok(control.op),
        other => panic!("{other:?}"),
    }
}

fn added(rest: &str) -> Result<Add<'static>, Refusal> {
    let line = format!("LS_reqId=1&LS_op=add&LS_subId=1&LS_group=g&LS_schema=s&{rest}").leak();
    match operation(line)? {
        Op::Add(add) => Ok(add),
        other => panic!("{other:?}"),
    }
}

fn messaged(line: &str) -> Result<Message<'_>, Refusal> {
    match ws(Verb::Msg, line)? {
        Request::Message(message) => Ok(message),
        other => panic!("{other:?}"),
    }
}

/// The code and id of a refusal.
fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (i64, Option<String>) {
    let refusal = result.expect_err("must be refused");
    (refusal.code, refusal.req_id)
}

fn with_id(code: i64) -> (i64, Option<String>) {
    (code, Some("1".into()))
}

const ADD: Add<'static> = Add {
    sub_id: 1,
    data_adapter: None,
    group: Cow::Borrowed("g"),
    schema: Cow::Borrowed("s"),
    selector: None,
    mode: Mode::Merge,
    snapshot: Snapshot::No,
    frequency: Frequency::Unlimited,
    buffer_size: None,
    ack: true,
};

#[test]
fn every_verb_has_its_name() {
    for verb in Verb::ALL {
        assert_eq!(Verb::from_name(verb.name()), Some(verb));
    }
    assert_eq!(Verb::from_name("CONTROL"), None);
}

#[test]
fn unified_clients_create_on_a_websocket() {
    let create = created(
        "LS_adapter_set=DEMO&LS_user=me&LS_cid=mgQkwtwdysogQz2BJ4Ji%20kOj2Bg&LS_old_session=S1&LS_send_sync=false\
         &LS_cause=api&LS_password=",
    );
    let expected = Create {
        adapter_set: Some("DEMO".into()),
        user: Some("me".into()),
        password: Some("".into()),
        cid: Some("mgQkwtwdysogQz2BJ4Ji kOj2Bg".into()),
        old_session: Some("S1".into()),
        ..Create::default()
    };
    assert_eq!(create, expected);
}

#[test]
fn unified_clients_create_over_http_by_a_synchronous_poll() {
    let line = "LS_polling=true&LS_polling_millis=0&LS_idle_millis=0&LS_adapter_set=DEMO&LS_cid=x&LS_cause=api";
    let Ok(Request::Create(create)) = http(Verb::CreateSession, "LS_protocol=TLCP-2.5.0", line)
    else {
        panic!()
    };
    assert_eq!(
        create.stream,
        StreamOptions {
            polling: Some(Polling::default()),
            ..StreamOptions::default()
        }
    );
}

#[test]
fn older_clients_leave_an_ampersand_behind_and_encode_twice() {
    let web8 = "LS_phase=4103&LS_cause=new.api&LS_polling=true&LS_polling_millis=0&LS_idle_millis=0\
                &LS_cid=mgQkwtwdysogQz2BJ4Ji%2520kOj2Bg&LS_adapter_set=DEMO&";
    let create = created(web8);
    assert_eq!(create.cid.as_deref(), Some("mgQkwtwdysogQz2BJ4Ji%20kOj2Bg"));
    assert_eq!(create.adapter_set.as_deref(), Some("DEMO"));
}

#[test]
fn a_create_without_parameters_has_defaults() {
    let defaults = created("");
    assert!(defaults.stream.send_sync && !defaults.stream.reduce_head);
    assert_eq!(
        (defaults.user, defaults.ttl, defaults.bandwidth),
        (None, Ttl::Unknown, None)
    );
}

#[test]
fn ttl_has_two_spellings() {
    assert_eq!(created("LS_ttl_millis=unlimited").ttl, Ttl::Unlimited);
    assert_eq!(created("LS_ttl=4000").ttl, Ttl::Millis(4000));
    assert_eq!(
        created("LS_ttl=4000&LS_ttl_millis=unknown").ttl,
        Ttl::Unknown
    );
    assert_eq!(
        refused(ws(Verb::CreateSession, "LS_ttl_millis=soon")),
        (65, None)
    );
}

#[test]
fn supported_diffs_may_be_empty_which_is_not_absent() {
    assert_eq!(
        created("LS_supported_diffs=").supported_diffs.as_deref(),
        Some("")
    );
    assert_eq!(
        created("LS_supported_diffs=P,%20T")
            .supported_diffs
            .as_deref(),
        Some("P, T")
    );
    assert_eq!(created("").supported_diffs, None);
}

#[test]
fn bandwidth_is_above_zero() {
    assert_eq!(
        created("LS_requested_max_bandwidth=12.5").bandwidth,
        Some(Bandwidth::Limited(12.5))
    );
    assert_eq!(
        created("LS_requested_max_bandwidth=unlimited").bandwidth,
        Some(Bandwidth::Unlimited)
    );
    for bad in ["0", "0.0", "-1", "", "lots", "NaN"] {
        let line = format!("LS_requested_max_bandwidth={bad}");
        assert_eq!(refused(ws(Verb::CreateSession, &line)), (65, None), "{bad}");
    }
}

#[test]
fn streaming_parameters_are_ignored_in_polls_and_the_other_way_round() {
    let stream = |line| created(line).stream;
    let polling = stream(
        "LS_polling=true&LS_polling_millis=500&LS_idle_millis=19000&LS_keepalive_millis=x&LS_inactivity_millis=x\
         &LS_send_sync=x",
    );
    let expected = StreamOptions {
        polling: Some(Polling {
            polling_millis: 500,
            idle_millis: 19_000,
        }),
        ..StreamOptions::default()
    };
    assert_eq!(polling, expected);
    let streaming = stream(
        "LS_polling_millis=x&LS_idle_millis=x&LS_keepalive_millis=5000&LS_inactivity_millis=9000",
    );
    let expected = StreamOptions {
        keepalive_millis: Some(5000),
        inactivity_millis: Some(9000),
        send_sync: true,
        ..StreamOptions::default()
    };
    assert_eq!(streaming, expected);
}

#[test]
fn content_length_counts_over_http_only() {
    let line = "LS_session=S1&LS_content_length=50000000&LS_send_sync=false&LS_cause=http.loop";
    let Ok(Request::Bind(bind)) = http(Verb::BindSession, "", line) else {
        panic!()
    };
    assert_eq!(bind.stream.content_length, Some(50_000_000));
    let Ok(Request::Bind(bind)) = ws(Verb::BindSession, line) else {
        panic!()
    };
    assert_eq!(bind.stream.content_length, None);
}

#[test]
fn recovery_is_a_bind_that_tells_the_count() {
    let line =
        "LS_session=S1&LS_recovery_from=11&LS_polling=true&LS_polling_millis=0&LS_idle_millis=0";
    let Ok(Request::Bind(bind)) = ws(Verb::BindSession, line) else {
        panic!()
    };
    assert_eq!(
        (bind.session.as_deref(), bind.recovery_from),
        (Some("S1"), Some(11))
    );
    assert_eq!(
        refused(ws(Verb::BindSession, "LS_recovery_from=-1")),
        (65, None)
    );
}

#[test]
fn the_session_is_optional_on_a_websocket_and_mandatory_over_http() {
    assert_eq!(
        ws(Verb::BindSession, "").map(|request| request.verb()),
        Ok(Verb::BindSession)
    );
    assert_eq!(refused(http(Verb::BindSession, "", "")), (67, None));
    assert!(ws(Verb::Control, "LS_reqId=1&LS_op=destroy").is_ok());
    assert_eq!(
        refused(http(Verb::Control, "", "LS_reqId=1&LS_op=destroy")),
        with_id(67)
    );
    assert_eq!(
        refused(http(
            Verb::Msg,
            "",
            "LS_reqId=1&LS_message=&LS_outcome=false"
        )),
        with_id(67)
    );
}

#[test]
fn the_query_string_names_the_default_session() {
    let session = |line| match http(Verb::Control, "LS_protocol=TLCP-2.5.0&LS_session=Sq", line) {
        Ok(Request::Control(control)) => control.session.map(Cow::into_owned),
        other => panic!("{other:?}"),
    };
    assert_eq!(session("LS_reqId=1&LS_op=destroy").as_deref(), Some("Sq"));
    assert_eq!(
        session("LS_reqId=1&LS_op=destroy&LS_session=Sb").as_deref(),
        Some("Sb")
    );
}

#[test]
fn a_get_request_has_everything_in_the_query_string() {
    let request = http(
        Verb::Control,
        "LS_session=S1&LS_reqId=1&LS_op=delete&LS_subId=3",
        "",
    );
    let Ok(Request::Control(control)) = request else {
        panic!()
    };
    assert_eq!(
        control.op,
        Op::Delete {
            sub_id: 3,
            ack: true
        }
    );
}

#[test]
fn an_add_as_clients_send_it() {
    let line = "LS_reqId=1&LS_op=add&LS_subId=57&LS_mode=MERGE&LS_group=item1%20item2&LS_schema=name%20last\
                &LS_data_adapter=QUOTE&LS_selector=sel&LS_snapshot=true&LS_requested_max_frequency=2.0\
                &LS_requested_buffer_size=3&LS_ack=false";
    let expected = Add {
        sub_id: 57,
        data_adapter: Some("QUOTE".into()),
        group: "item1 item2".into(),
        schema: "name last".into(),
        selector: Some("sel".into()),
        mode: Mode::Merge,
        snapshot: Snapshot::Yes,
        frequency: Frequency::Limited(2.0),
        buffer_size: Some(BufferSize::Events(3)),
        ack: false,
    };
    assert_eq!(operation(line), Ok(Op::Add(expected)));
    assert_eq!(added("LS_mode=MERGE"), Ok(ADD));
}

#[test]
fn an_answer_can_be_waived_on_a_websocket_only() {
    let line = "LS_session=S1&LS_reqId=1&LS_op=delete&LS_subId=1&LS_ack=false";
    let ack = |request| match request {
        Ok(Request::Control(Control {
            op: Op::Delete { ack, .. },
            ..
        })) => ack,
        other => panic!("{other:?}"),
    };
    assert!(!ack(ws(Verb::Control, line)));
    assert!(ack(http(Verb::Control, "", line)));
}

#[test]
fn mandatory_parameters_of_add_are_missed() {
    for line in [
        "LS_reqId=1",
        "LS_reqId=1&LS_op=add&LS_mode=RAW&LS_group=g&LS_schema=s",
        "LS_reqId=1&LS_op=add&LS_subId=1&LS_group=g&LS_schema=s",
        "LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=RAW&LS_schema=s",
        "LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=RAW&LS_group=g",
        "LS_reqId=1&LS_op=delete",
        "LS_reqId=1&LS_op=reconf",
        "LS_reqId=1&LS_op=constrain",
    ] {
        assert_eq!(refused(operation(line)), with_id(67), "{line}");
    }
}

#[test]
fn values_that_cannot_be_are_refused() {
    for rest in [
        "LS_mode=merge",
        "LS_mode=",
        "LS_mode=MERGE&LS_subId=0",
        "LS_mode=MERGE&LS_subId=4294967296",
        "LS_mode=MERGE&LS_subId=-1",
        "LS_mode=MERGE&LS_snapshot=10",
        "LS_mode=COMMAND&LS_snapshot=10",
        "LS_mode=DISTINCT&LS_snapshot=-1",
        "LS_mode=MERGE&LS_requested_max_frequency=-1",
        "LS_mode=MERGE&LS_requested_max_frequency=fast",
        "LS_mode=MERGE&LS_requested_buffer_size=1.5",
        "LS_mode=MERGE&LS_ack=0",
    ] {
        assert_eq!(refused(added(rest)), with_id(65), "{rest}");
    }
    assert_eq!(
        refused(operation("LS_reqId=1&LS_op=frobnicate")),
        with_id(65)
    );
}

#[test]
fn snapshots_have_a_length_in_distinct_only() {
    let snapshot = |rest: &str| added(rest).unwrap().snapshot;
    assert_eq!(
        snapshot("LS_mode=DISTINCT&LS_snapshot=2"),
        Snapshot::Length(2)
    );
    assert_eq!(
        snapshot("LS_mode=DISTINCT&LS_snapshot=99999999999"),
        Snapshot::Length(u32::MAX)
    );
    assert_eq!(snapshot("LS_mode=COMMAND&LS_snapshot=True"), Snapshot::Yes);
    assert_eq!(snapshot("LS_mode=MERGE&LS_snapshot=false"), Snapshot::No);
}

#[test]
fn a_mode_ignores_what_it_has_no_use_for() {
    let raw =
        added("LS_mode=RAW&LS_snapshot=x&LS_requested_max_frequency=x&LS_requested_buffer_size=x");
    assert_eq!(
        raw,
        Ok(Add {
            mode: Mode::Raw,
            ..ADD
        })
    );
    let command = added("LS_mode=COMMAND&LS_requested_buffer_size=x");
    assert_eq!(
        command,
        Ok(Add {
            mode: Mode::Command,
            ..ADD
        })
    );
    let unfiltered =
        added("LS_mode=MERGE&LS_requested_max_frequency=unfiltered&LS_requested_buffer_size=x");
    assert_eq!(
        unfiltered,
        Ok(Add {
            frequency: Frequency::Unfiltered,
            ..ADD
        })
    );
}

#[test]
fn zero_is_an_older_spelling_of_unlimited() {
    let add =
        added("LS_mode=DISTINCT&LS_requested_max_frequency=0&LS_requested_buffer_size=0").unwrap();
    assert_eq!(
        (add.frequency, add.buffer_size),
        (Frequency::Unlimited, Some(BufferSize::Unlimited))
    );
    let add = added(
        "LS_mode=DISTINCT&LS_requested_max_frequency=unlimited&LS_requested_buffer_size=unlimited",
    )
    .unwrap();
    assert_eq!(
        (add.frequency, add.buffer_size),
        (Frequency::Unlimited, Some(BufferSize::Unlimited))
    );
}

#[test]
fn the_other_operations() {
    for (rest, op) in [
        (
            "LS_subId=1&LS_op=delete&LS_ack=false&LS_cause=zombie",
            Op::Delete {
                sub_id: 1,
                ack: false,
            },
        ),
        (
            "LS_subId=1&LS_op=reconf&LS_requested_max_frequency=2.0",
            Op::Reconf {
                sub_id: 1,
                frequency: Some(Frequency::Limited(2.0)),
            },
        ),
        (
            "LS_subId=1&LS_op=reconf&LS_requested_max_frequency=unfiltered",
            Op::Reconf {
                sub_id: 1,
                frequency: Some(Frequency::Unfiltered),
            },
        ),
        (
            "LS_subId=1&LS_op=reconf",
            Op::Reconf {
                sub_id: 1,
                frequency: None,
            },
        ),
        (
            "LS_op=constrain&LS_requested_max_bandwidth=12.5",
            Op::Constrain {
                bandwidth: Bandwidth::Limited(12.5),
            },
        ),
        (
            "LS_op=constrain&LS_requested_max_bandwidth=unlimited",
            Op::Constrain {
                bandwidth: Bandwidth::Unlimited,
            },
        ),
        (
            "LS_op=force_rebind&LS_close_socket=true&LS_cause=x",
            Op::ForceRebind {
                polling_millis: None,
                close_socket: true,
            },
        ),
        (
            "LS_op=force_rebind&LS_polling_millis=70",
            Op::ForceRebind {
                polling_millis: Some(70),
                close_socket: false,
            },
        ),
        (
            "LS_op=destroy&LS_close_socket=true&LS_cause=api",
            Op::Destroy {
                cause_code: None,
                cause_message: None,
                close_socket: true,
            },
        ),
        (
            "LS_op=destroy&LS_cause_code=-7&LS_cause_message=maintenance",
            Op::Destroy {
                cause_code: Some(-7),
                cause_message: Some("maintenance".into()),
                close_socket: false,
            },
        ),
        ("LS_op=pn_reconf&PN_deviceId=x", Op::Mpn("pn_reconf")),
    ] {
        assert_eq!(operation(&format!("LS_reqId=1&{rest}")), Ok(op), "{rest}");
    }
}

#[test]
fn the_request_id_is_found_behind_the_fault() {
    assert_eq!(
        refused(operation("LS_op=%&LS_subId=%FF&LS_reqId=1")),
        with_id(67)
    );
    assert_eq!(
        refused(operation(
            "LS_op=constrain&LS_requested_max_bandwidth=0&LS_reqId=1"
        )),
        with_id(65)
    );
}

#[test]
fn without_a_usable_id_the_request_is_malformed_whatever_else_it_is() {
    for line in [
        "",
        "LS_op=add&LS_subId=1",
        "LS_reqId=&LS_op=destroy",
        "LS_reqId=%&LS_op=destroy",
        "garbage",
    ] {
        assert_eq!(
            ws(Verb::Control, line),
            Err(Reason::MALFORMED.into()),
            "{line}"
        );
        assert_eq!(ws(Verb::Msg, line), Err(Reason::MALFORMED.into()), "{line}");
    }
}

#[test]
fn a_message_of_a_sequence() {
    let message = messaged(
        "LS_reqId=11&LS_message=four+%2B&LS_sequence=Orders_2&LS_msg_prog=4&LS_max_wait=1000&LS_ack=false",
    );
    let expected = Message {
        req_id: "11".into(),
        session: None,
        text: "four +".into(),
        sequence: Some("Orders_2".into()),
        prog: Some(4),
        max_wait_millis: Some(1000),
        outcome: true,
        ack: false,
    };
    assert_eq!(message, Ok(expected));
}

#[test]
fn a_message_needs_a_number_unless_nobody_asks_for_its_outcome() {
    assert!(messaged("LS_reqId=1&LS_message=&LS_outcome=false").is_ok());
    assert!(messaged("LS_reqId=1&LS_message=x&LS_msg_prog=1").is_ok());
    assert_eq!(refused(messaged("LS_reqId=1&LS_message=x")), with_id(67));
    assert_eq!(
        refused(messaged(
            "LS_reqId=1&LS_message=x&LS_sequence=S&LS_outcome=false"
        )),
        with_id(67)
    );
    assert_eq!(refused(messaged("LS_reqId=1&LS_msg_prog=1")), with_id(67));
    assert_eq!(
        refused(messaged("LS_reqId=1&LS_message=x&LS_msg_prog=0")),
        with_id(65)
    );
}

#[test]
fn sequence_names_are_letters_digits_and_underscores() {
    for name in ["", "UNORDERED_MESSAGES", "a-b", "a.b", "%C3%A9", "a,b"] {
        let line = format!("LS_reqId=1&LS_message=x&LS_msg_prog=1&LS_sequence={name}");
        assert_eq!(refused(messaged(&line)), with_id(65), "{name}");
    }
}

#[test]
fn the_wait_counts_in_sequences_only() {
    let message = messaged("LS_reqId=1&LS_message=x&LS_msg_prog=1&LS_max_wait=x").unwrap();
    assert_eq!(message.max_wait_millis, None);
    assert_eq!(
        refused(messaged(
            "LS_reqId=1&LS_message=x&LS_msg_prog=1&LS_sequence=S&LS_max_wait=-1"
        )),
        with_id(65)
    );
}

#[test]
fn a_counted_message_is_raw() {
    let message = messaged("LS_unq=47&LS_reqId=1&LS_outcome=false&LS_message=a&b=%\r\n+").unwrap();
    assert_eq!(message.text, "a&b=%\r\n+");
    assert_eq!(
        refused(messaged(
            "LS_unq=46&LS_reqId=1&LS_outcome=false&LS_message=a&b=%\r\n+"
        )),
        with_id(67)
    );
}

#[test]
fn heartbeat_wsok_and_send_log_are_always_fine() {
    assert_eq!(
        ws(Verb::Heartbeat, ""),
        Ok(Request::Heartbeat { session: None })
    );
    assert_eq!(
        http(Verb::Heartbeat, "LS_session=S1", ""),
        Ok(Request::Heartbeat {
            session: Some("S1".into())
        })
    );
    assert_eq!(ws(Verb::Wsok, "whatever"), Ok(Request::Wsok));
    assert_eq!(ws(Verb::SendLog, "%%%"), Ok(Request::SendLog));
}

#[test]
fn operations_that_come_with_a_creation_have_neither_id_nor_session() {
    let body = "LS_adapter_set=A&LS_cid=x\r\nLS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=g&LS_schema=s\r\n\
                LS_message=one&LS_outcome=false\r\n";
    let mut lines = lines(Verb::CreateSession, body);
    let first = lines.next().unwrap();
    assert!(!has_combo("", first));
    let rest: Vec<_> = lines
        .map(|line| parse_combo_line("LS_session=ignored", line))
        .collect();
    let Ok(Request::Control(control)) = &rest[0] else {
        panic!("{rest:?}")
    };
    assert_eq!(
        control,
        &Control {
            req_id: "".into(),
            session: None,
            op: Op::Add(ADD)
        }
    );
    let Ok(Request::Message(message)) = &rest[1] else {
        panic!("{rest:?}")
    };
    assert_eq!(
        (&*message.req_id, &*message.text, message.outcome),
        ("", "one", false)
    );
}

#[test]
fn an_operation_may_share_the_line_with_the_creation() {
    let line = "LS_adapter_set=A&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=g&LS_schema=s";
    assert!(has_combo("", line));
    assert_eq!(created(line).adapter_set.as_deref(), Some("A"));
    assert!(parse_combo_line("", line).is_ok());
}

#[test]
fn a_bad_operation_refuses_the_whole_creation() {
    let refusal = parse_combo_line("", "LS_op=add&LS_subId=1&LS_mode=x").unwrap_err();
    assert_eq!(refusal.code, 64);
    assert_eq!(
        refusal.text,
        "Unexpected error while initializing the session: Invalid argument: LS_mode"
    );
}

#[test]
fn a_request_that_is_too_long_stays_local_if_it_has_an_id() {
    assert_eq!(
        too_long("", "LS_reqId=1&LS_op=add&LS_group=aaaaa")
            .req_id
            .as_deref(),
        Some("1")
    );
    assert_eq!(
        too_long("", "LS_reqId=1&LS_op=add&LS_group=aaaaa%").code,
        68
    );
    assert_eq!(
        too_long("", "LS_op=add&LS_group=aaaaa"),
        Refusal::malformed()
    );
}
