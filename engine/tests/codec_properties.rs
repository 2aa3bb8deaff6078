//! The TLCP codec against its opposite: what the server writes a strict client reads back, and the other way round.

use std::borrow::Cow;

use engine::tlcp::cause::{Cause, Refusal};
use engine::tlcp::client::{FieldValues, Line, complete_lines, write_line, write_message};
use engine::tlcp::notify::{self, GrantedBandwidth};
use engine::tlcp::request::{
    Add, Bandwidth, Bind, BufferSize, Carrier, Control, Create, Frequency, Message, Mode, Op,
    Polling, Request, Snapshot, StreamOptions, Ttl, Verb, fuzz_entry, lines, parse_combo_line,
    parse_line, split_message,
};
use engine::tlcp::{Version, response, values};
use proptest::prelude::*;

/// A value: `None` is null.
type Value = Option<String>;

/// Values made of what the encoding has a meaning for, of what is often got wrong, and of anything.
fn value() -> impl Strategy<Value = Value> {
    let piece = prop_oneof![
        Just("#"),
        Just("$"),
        Just("^"),
        Just("^4"),
        Just("^P"),
        Just("^T"),
        Just("|"),
        Just("%"),
        Just("%7C"),
        Just("%2"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just(","),
        Just(" "),
        Just("+"),
        Just("\0"),
        Just("\u{7f}"),
        Just("\u{1F468}\u{200D}\u{1F469}"),
        Just("e\u{301}"),
        Just("\u{FEFF}"),
        Just("\u{85}\u{2028}"),
        Just("3.14"),
        Just("a longer piece of text, without anything special in it"),
    ];
    let nasty = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(String::new())),
        4 => nasty.prop_map(Some),
        2 => any::<String>().prop_map(Some),
    ]
}

/// A first row, and the changes of later ones: `None` leaves a field as it is. Mostly unchanged, so that runs get long.
fn rows() -> impl Strategy<Value = (Vec<Value>, Vec<Vec<Option<Value>>>)> {
    (0_usize..24).prop_flat_map(|fields| {
        let change = prop_oneof![3 => Just(None), 1 => value().prop_map(Some)];
        let changes = prop::collection::vec(change, fields);
        (
            prop::collection::vec(value(), fields),
            prop::collection::vec(changes, 0..8),
        )
    })
}

fn full(row: &[Value]) -> String {
    let mut out = Vec::new();
    values::encode_full(&mut out, row.len(), |field| {
        row[field].as_deref().map(str::as_bytes)
    });
    String::from_utf8(out).unwrap()
}

fn delta(row: &[Value], previous: &[Value]) -> String {
    let mut out = Vec::new();
    values::encode_delta(
        &mut out,
        row.len(),
        |field| row[field].as_deref().map(str::as_bytes),
        |field| previous[field].as_deref().map(str::as_bytes),
    );
    String::from_utf8(out).unwrap()
}

fn read(client: &FieldValues) -> Vec<Value> {
    client
        .iter()
        .map(|value| value.map(str::to_owned))
        .collect()
}

proptest! {
    #[test]
    fn a_client_reads_the_rows_that_were_written((first, changes) in rows()) {
        let mut client = FieldValues::new(first.len());
        client.apply(&full(&first)).unwrap();
        prop_assert_eq!(read(&client), &first[..]);
        let mut row = first;
        for change in changes {
            let previous = row.clone();
            for (value, change) in row.iter_mut().zip(change) {
                if let Some(change) = change {
                    *value = change;
                }
            }
            let list = delta(&row, &previous);
            client.apply(&list).unwrap();
            prop_assert_eq!(read(&client), &row[..], "after {:?}", list);
        }
    }

    #[test]
    fn a_field_list_is_one_line_and_leaves_out_what_it_can((first, changes) in rows()) {
        prop_assert!(!full(&first).bytes().any(|byte| byte < 0x20 || byte == 0x7F));
        for change in changes {
            let row: Vec<_> =
                first.iter().zip(change).map(|(old, change)| change.unwrap_or_else(|| old.clone())).collect();
            let list = delta(&row, &first);
            let line = format!("U,1,1,{list}");
            prop_assert_eq!(Line::parse(&line), Ok(Line::Update { sub_id: 1, item: 1, values: &list }));
            prop_assert!(list.len() <= full(&row).len());
            let empty_run = list.split('|').collect::<Vec<_>>().split(|token| !token.is_empty()).map(<[_]>::len).max();
            prop_assert!(empty_run < Some(4), "a long run in {:?}", list);
        }
    }

    #[test]
    fn a_client_reads_the_texts_that_were_written(id in text(), words in text(), code in any::<i64>(), prog in 1..u32::MAX) {
        let mut out = Vec::new();
        response::reqok(&mut out, &id);
        response::reqerr(&mut out, &id, code, &words);
        response::conerr(&mut out, code, &words);
        response::error(&mut out, code, &words);
        response::end(&mut out, &Cause { code, text: words.clone().into() });
        notify::noop(&mut out, &words);
        notify::msgdone(&mut out, Version::LATEST, Some("Orders"), prog, &words);
        notify::msgfail(&mut out, None, prog, code, &words);
        let text = String::from_utf8(out).unwrap();
        let read: Vec<_> = complete_lines(&text).unwrap().map(|line| Line::parse(line).unwrap()).collect();
        let (id, words) = (Cow::from(id), Cow::from(words));
        let expected = [
            Line::Reqok { req_id: Some(id.clone()) },
            Line::Reqerr { req_id: id, code, text: words.clone() },
            Line::Conerr { code, text: words.clone() },
            Line::Error { code, text: words.clone() },
            Line::End { code, text: words.clone() },
            Line::Noop(words.clone()),
            Line::Msgdone { sequence: Some("Orders".into()), prog, response: Some(words.clone()) },
            Line::Msgfail { sequence: None, prog, code, text: words },
        ];
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn a_client_reads_the_numbers_that_were_written(a in any::<u32>(), b in any::<u32>(), long in any::<u64>(), rate in rate()) {
        let mut out = Vec::new();
        response::conok(&mut out, "S1T2", long, u64::from(a), Some("host:80"));
        notify::cons(&mut out, GrantedBandwidth::Limited(rate));
        notify::conf(&mut out, a, Some(rate), true);
        notify::sync(&mut out, long);
        notify::loop_(&mut out, long);
        notify::prog(&mut out, long);
        notify::subok(&mut out, a, b, 3);
        notify::subcmd(&mut out, a, b, 3, 1, 2);
        notify::unsub(&mut out, a);
        notify::eos(&mut out, a, b);
        notify::cs(&mut out, a, b);
        notify::ov(&mut out, a, b, 7);
        let text = String::from_utf8(out).unwrap();
        let read: Vec<_> = complete_lines(&text).unwrap().map(|line| Line::parse(line).unwrap()).collect();
        let expected = [
            Line::Conok {
                session_id: "S1T2",
                request_limit_bytes: long,
                keepalive_or_idle_ms: u64::from(a),
                control_link: Some("host:80"),
            },
            Line::Cons(GrantedBandwidth::Limited(rate)),
            Line::Conf { sub_id: a, frequency_hz: Some(rate), unfiltered: true },
            Line::Sync { seconds: long },
            Line::Loop { millis: long },
            Line::Prog { data_lines: long },
            Line::Subok { sub_id: a, items: b, fields: 3 },
            Line::Subcmd { sub_id: a, items: b, fields: 3, key_position: 1, command_position: 2 },
            Line::Unsub { sub_id: a },
            Line::Eos { sub_id: a, item: b },
            Line::Cs { sub_id: a, item: b },
            Line::Ov { sub_id: a, item: b, lost: 7 },
        ];
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn the_server_reads_the_request_that_was_written(request in request()) {
        let mut out = Vec::new();
        write_message(&mut out, &request);
        let message = String::from_utf8(out).unwrap();
        let (verb, body) = split_message(&message).unwrap();
        let read: Vec<_> =
            lines(verb, body).map(|line| parse_line(verb, Carrier::WebSocket, "", line).unwrap()).collect();
        let expected = if request == Request::Wsok { vec![] } else { vec![request] };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn operations_travel_with_a_creation(operations in prop::collection::vec(op(), 1..4)) {
        let operations: Vec<_> = operations
            .into_iter()
            .map(|op| Request::Control(Control { req_id: "".into(), session: None, op }))
            .collect();
        let mut out = Vec::new();
        write_message(&mut out, &Request::Create(Create::default()));
        for operation in &operations {
            write_line(&mut out, operation);
            out.extend_from_slice(b"\r\n");
        }
        let message = String::from_utf8(out).unwrap();
        let (verb, body) = split_message(&message).unwrap();
        let read: Vec<_> = lines(verb, body).skip(1).map(|line| parse_combo_line("", line).unwrap()).collect();
        prop_assert_eq!(read, operations);
    }

    #[test]
    fn a_raw_message_is_read_as_it_is(words in text(), others in 0..3_usize) {
        let parameters = format!("LS_reqId=1&LS_outcome=false&LS_message={words}");
        let mut body = format!("LS_unq={}&{parameters}", parameters.encode_utf16().count());
        for _ in 0..others {
            body.push_str("\r\nLS_reqId=2&LS_outcome=false&LS_message=other");
        }
        let read: Vec<_> = lines(Verb::Msg, &body)
            .map(|line| match parse_line(Verb::Msg, Carrier::WebSocket, "", line) {
                Ok(Request::Message(message)) => message.text.into_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(&read[0], &words);
        prop_assert_eq!(read.len(), others + 1);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        fuzz_entry(text.as_bytes());
        fuzz_entry(&bytes);
    }

    #[test]
    fn no_almost_request_makes_the_parser_panic(message in almost_request()) {
        fuzz_entry(message.as_bytes());
    }

    #[test]
    fn no_text_makes_the_client_panic(line in any::<String>(), list in "[|^#$%0-9PTab]{0,20}", fields in 0..6_usize) {
        let _ = Line::parse(&line);
        let _ = Line::parse(&format!("U,1,1,{list}"));
        let mut client = FieldValues::new(fields);
        let _ = client.apply(&list);
        let _ = client.apply(&vec!["a"; fields].join("|"));
        let _ = client.apply(&list);
    }

    #[test]
    fn the_client_reads_almost_lines_without_panic(
        tag in prop::sample::select(vec!["U", "CONOK", "SUBOK", "CONF", "CONS", "MSGDONE", "MSGFAIL", "REQERR", "END"]),
        arguments in prop::collection::vec("[-0-9.a%,*]{0,4}", 0..5),
    ) {
        let _ = Line::parse(&format!("{tag},{}", arguments.join(",")));
    }
}

#[test]
fn a_long_value_survives_in_any_company() {
    let plain = "x".repeat(100_000);
    let nasty = "|%\r\n😀e\u{301}#$^,".repeat(5_000);
    for long in [plain, nasty] {
        let first = vec![Some(long.clone()), None, Some(long.clone())];
        let second = vec![
            Some(long.clone()),
            Some(long.clone()),
            Some(format!("{long}!")),
        ];
        let mut client = FieldValues::new(3);
        client.apply(&full(&first)).unwrap();
        assert_eq!(read(&client), first);
        client.apply(&delta(&second, &first)).unwrap();
        assert_eq!(read(&client), second);
    }
}

/// What clients write in the conversations that the protocol's documentation and their own tests show. Each must be
/// taken, or refused with the code that the client expects.
#[test]
fn requests_of_whole_conversations() {
    for (message, outcome) in [
        ("wsok", Ok(())),
        (
            "create_session\r\nLS_adapter_set=DEMO&LS_cid=mgQkwtwdysogQz2BJ4Ji%20kOj2Bg&LS_send_sync=false&LS_cause=api",
            Ok(()),
        ),
        (
            "create_session\r\nLS_adapter_set=A&LS_cid=x&LS_supported_diffs=T&LS_send_sync=false\r\n",
            Ok(()),
        ),
        (
            "bind_session\r\nLS_session=S1&LS_phase=4105&LS_cause=loop1&",
            Ok(()),
        ),
        (
            "bind_session\r\nLS_polling=true&LS_polling_millis=500&LS_idle_millis=19000",
            Ok(()),
        ),
        (
            "bind_session\r\nLS_session=S1&LS_keepalive_millis=5000&LS_send_sync=false&LS_cause=recovery.loop",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1%20item2&LS_schema=name%20last%20time%20bid%20ask%20note&LS_data_adapter=QUOTE&LS_snapshot=true&LS_ack=false",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=4&LS_op=add&LS_subId=3&LS_mode=DISTINCT&LS_group=chat&LS_schema=time%20text&LS_snapshot=2&LS_ack=false",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=5&LS_op=add&LS_subId=4&LS_mode=COMMAND&LS_group=portfolio1&LS_schema=key%20command%20qty%20px&LS_snapshot=true&LS_ack=false",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=2&LS_subId=1&LS_op=delete&LS_ack=false",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=3&LS_op=destroy&LS_close_socket=true&LS_cause=api",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=9&LS_op=constrain&LS_requested_max_bandwidth=12.5",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=20&LS_subId=1&LS_op=reconf&LS_requested_max_frequency=2.0",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=23&LS_op=force_rebind&LS_cause=http.streaming.unavailable",
            Ok(()),
        ),
        (
            "control\r\nLS_reqId=24&LS_op=destroy&LS_cause_code=-7&LS_cause_message=maintenance",
            Ok(()),
        ),
        (
            "msg\r\nLS_reqId=10&LS_message=one&LS_sequence=Orders&LS_msg_prog=1",
            Ok(()),
        ),
        (
            "msg\r\nLS_reqId=11&LS_message=four&LS_sequence=Orders&LS_msg_prog=4&LS_max_wait=1000",
            Ok(()),
        ),
        (
            "msg\r\nLS_reqId=14&LS_message=fire&LS_outcome=false&LS_ack=false",
            Ok(()),
        ),
        ("heartbeat\r\n\r\n", Ok(())),
        ("heartbeat\n", Ok(())),
        (
            "control\r\nLS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=g&LS_schema=s",
            Err((67, None)),
        ),
        (
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=merge&LS_group=g&LS_schema=s",
            Err((65, Some("1"))),
        ),
        (
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_schema=s",
            Err((67, Some("1"))),
        ),
        (
            "msg\r\nLS_reqId=1&LS_message=x&LS_sequence=UNORDERED_MESSAGES&LS_msg_prog=1",
            Err((65, Some("1"))),
        ),
        ("hello\r\n", Err((67, None))),
    ] {
        let parsed = split_message(message).and_then(|(verb, body)| {
            lines(verb, body)
                .try_for_each(|line| parse_line(verb, Carrier::WebSocket, "", line).map(drop))
        });
        let expected = outcome.map_err(|(code, req_id)| (code, req_id.map(str::to_owned)));
        let found = parsed.map_err(|Refusal { code, req_id, .. }| (code, req_id));
        assert_eq!(found, expected, "{message}");
    }
}

fn text() -> impl Strategy<Value = String> {
    value().prop_map(Option::unwrap_or_default)
}

fn cow() -> impl Strategy<Value = Cow<'static, str>> {
    text().prop_map(Cow::Owned)
}

fn optional() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    prop::option::of(cow())
}

fn req_id() -> impl Strategy<Value = Cow<'static, str>> {
    "[A-Za-z0-9]{1,8}".prop_map(Cow::Owned)
}

/// Any number above zero, the very small and the very large included.
fn rate() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NORMAL, POSITIVE, SUBNORMAL};
    prop_oneof![0.01..1000.0, POSITIVE | NORMAL | SUBNORMAL]
}

fn bandwidth() -> impl Strategy<Value = Bandwidth> {
    prop_oneof![
        Just(Bandwidth::Unlimited),
        rate().prop_map(Bandwidth::Limited)
    ]
}

fn frequency() -> impl Strategy<Value = Frequency> {
    prop_oneof![
        Just(Frequency::Unlimited),
        Just(Frequency::Unfiltered),
        rate().prop_map(Frequency::Limited)
    ]
}

fn stream_options() -> impl Strategy<Value = StreamOptions> {
    let millis = || prop::option::of(any::<u64>());
    let streaming = (millis(), millis(), any::<bool>(), any::<bool>()).prop_map(
        |(keepalive_millis, inactivity_millis, send_sync, reduce_head)| StreamOptions {
            keepalive_millis,
            inactivity_millis,
            send_sync,
            reduce_head,
            ..StreamOptions::default()
        },
    );
    let polling =
        (any::<u64>(), any::<u64>()).prop_map(|(polling_millis, idle_millis)| StreamOptions {
            polling: Some(Polling {
                polling_millis,
                idle_millis,
            }),
            ..StreamOptions::default()
        });
    prop_oneof![streaming, polling]
}

fn create() -> impl Strategy<Value = Create<'static>> {
    let ttl = prop_oneof![
        Just(Ttl::Unknown),
        Just(Ttl::Unlimited),
        any::<u64>().prop_map(Ttl::Millis)
    ];
    let texts = (
        optional(),
        optional(),
        optional(),
        optional(),
        optional(),
        optional(),
    );
    (texts, prop::option::of(bandwidth()), ttl, stream_options()).prop_map(
        |(
            (adapter_set, user, password, cid, old_session, supported_diffs),
            bandwidth,
            ttl,
            stream,
        )| Create {
            adapter_set,
            user,
            password,
            cid,
            old_session,
            bandwidth,
            supported_diffs,
            ttl,
            stream,
        },
    )
}

fn add() -> impl Strategy<Value = Add<'static>> {
    let mode = prop::sample::select(vec![Mode::Raw, Mode::Merge, Mode::Distinct, Mode::Command]);
    let snapshot = prop_oneof![
        Just(Snapshot::No),
        Just(Snapshot::Yes),
        any::<u32>().prop_map(Snapshot::Length)
    ];
    let buffer = prop_oneof![
        Just(BufferSize::Unlimited),
        (1..u32::MAX).prop_map(BufferSize::Events)
    ];
    let texts = (optional(), cow(), cow(), optional());
    (
        1..u32::MAX,
        texts,
        mode,
        snapshot,
        frequency(),
        prop::option::of(buffer),
        any::<bool>(),
    )
        .prop_map(
            |(
                sub_id,
                (data_adapter, group, schema, selector),
                mode,
                snapshot,
                frequency,
                buffer_size,
                ack,
            )| Add {
                sub_id,
                data_adapter,
                group,
                schema,
                selector,
                mode,
                // What a mode has no use for does not get through.
                snapshot: match (mode, snapshot) {
                    (Mode::Raw, _) => Snapshot::No,
                    (Mode::Merge | Mode::Command, Snapshot::Length(_)) => Snapshot::Yes,
                    (_, snapshot) => snapshot,
                },
                frequency: if mode == Mode::Raw {
                    Frequency::Unlimited
                } else {
                    frequency
                },
                buffer_size: buffer_size.filter(|_| {
                    matches!(mode, Mode::Merge | Mode::Distinct)
                        && frequency != Frequency::Unfiltered
                }),
                ack,
            },
        )
}

fn op() -> impl Strategy<Value = Op<'static>> {
    prop_oneof![
        3 => add().prop_map(Op::Add),
        1 => (1..u32::MAX, any::<bool>()).prop_map(|(sub_id, ack)| Op::Delete { sub_id, ack }),
        1 => (1..u32::MAX, prop::option::of(frequency()))
            .prop_map(|(sub_id, frequency)| Op::Reconf { sub_id, frequency }),
        1 => bandwidth().prop_map(|bandwidth| Op::Constrain { bandwidth }),
        1 => (prop::option::of(any::<u64>()), any::<bool>())
            .prop_map(|(polling_millis, close_socket)| Op::ForceRebind { polling_millis, close_socket }),
        1 => (prop::option::of(any::<i64>()), optional(), any::<bool>()).prop_map(
            |(cause_code, cause_message, close_socket)| Op::Destroy { cause_code, cause_message, close_socket }
        ),
        1 => Just(Op::Mpn("register")),
    ]
}

fn message() -> impl Strategy<Value = Message<'static>> {
    let sequence = prop::option::of("[A-Za-z0-9_]{1,9}".prop_map(Cow::Owned));
    let flags = (any::<bool>(), any::<bool>());
    (
        req_id(),
        optional(),
        cow(),
        sequence,
        1..u32::MAX,
        prop::option::of(any::<u64>()),
        flags,
    )
        .prop_map(
            |(req_id, session, text, sequence, prog, max_wait, (outcome, ack))| Message {
                req_id,
                session,
                text,
                max_wait_millis: max_wait.filter(|_| sequence.is_some()),
                prog: Some(prog).filter(|_| outcome || sequence.is_some()),
                sequence,
                outcome,
                ack,
            },
        )
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let bind = (optional(), prop::option::of(any::<u64>()), stream_options()).prop_map(
        |(session, recovery_from, stream)| Bind {
            session,
            recovery_from,
            stream,
        },
    );
    let control = (req_id(), optional(), op()).prop_map(|(req_id, session, op)| Control {
        req_id,
        session,
        op,
    });
    prop_oneof![
        2 => create().prop_map(Request::Create),
        2 => bind.prop_map(Request::Bind),
        6 => control.prop_map(Request::Control),
        3 => message().prop_map(Request::Message),
        1 => optional().prop_map(|session| Request::Heartbeat { session }),
        1 => Just(Request::Wsok),
        1 => Just(Request::SendLog),
    ]
}

/// Messages made of the right pieces in the wrong places.
fn almost_request() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "control",
        "msg",
        "create_session",
        "bind_session",
        "heartbeat",
        "",
    ]);
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "LS_reqId=1", "LS_op=add", "LS_op=reconf", "LS_subId=1", "LS_subId=", "LS_mode=MERGE", "LS_group=g",
            "LS_schema=s", "LS_snapshot=1", "LS_unq=", "LS_unq=3&", "LS_unq=30&", "LS_message=m", "LS_msg_prog=1",
            "LS_sequence=S", "LS_polling=true", "LS_requested_max_frequency=", "LS_session=S1",
        ]).prop_map(str::to_owned),
        4 => prop::sample::select(vec!["&", "&", "\r\n", "\n", "=", "%", "%4", "%41", "+", "\0", "😀"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    (name, prop::collection::vec(piece, 0..16))
        .prop_map(|(name, pieces)| format!("{name}\r\n{}", pieces.concat()))
}
