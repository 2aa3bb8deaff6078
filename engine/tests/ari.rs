//! The adapter protocol against lines recorded with real SDKs: what they wrote must be understood, and what was
//! written to them must come out of our writer in the same bytes.

use std::borrow::Cow;

use engine::ari::data::{DiffKind, DiffOrder, Event, FromData};
use engine::ari::exception::{Exception, ForClient, Kind};
use engine::ari::init::{self, Credentials, InitReply, Role};
use engine::ari::metadata::{FromMetadata, Reply, Request, Statistics, Table};
use engine::ari::values::{Tokens, decode};
use engine::ari::{
    Dialect, Encoding, Line, Malformed, Mode, Version, data, metadata, read_line, remote,
};
use proptest::prelude::*;

struct Recording {
    name: &'static str,
    text: &'static str,
    dialect: Dialect,
}

/// Each SDK with the dialect that it ends up with.
fn recordings() -> [Recording; 4] {
    let recording = |name, text, version, items| Recording {
        name,
        text,
        dialect: Dialect::new(version, items),
    };
    [
        recording(
            "python-1.3.1",
            include_str!("ari/python-1.3.1.txt"),
            Version::V1_8_3,
            true,
        ),
        recording(
            "node-1.5.3",
            include_str!("ari/node-1.5.3.txt"),
            Version::V1_8_3,
            true,
        ),
        recording(
            "node-1.8.1",
            include_str!("ari/node-1.8.1.txt"),
            Version::V1_9_1,
            false,
        ),
        recording(
            "java-1.7.1",
            include_str!("ari/java-1.7.1.txt"),
            Version::V1_9_1,
            true,
        ),
    ]
}

/// Calls `check` with role and line of each line in one direction.
fn each(recording: &Recording, direction: &str, mut check: impl FnMut(Role, &str)) {
    let mut count = 0;
    for line in recording.text.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        let role = match parts.next() {
            Some("metadata") => Role::Metadata,
            _ => Role::Data,
        };
        if parts.next() == Some(direction) {
            check(role, &parts.next().unwrap().replace("\\x00", "\0"));
            count += 1;
        }
    }
    assert!(count > 20, "{}: {count} lines", recording.name);
}

/// What a line of a remote means; only that it is understood counts here.
fn understand(role: Role, line: &str, encoding: Encoding) -> Result<(), Malformed> {
    let Line::Message { method, tokens, .. } = read_line(line)? else {
        return Ok(());
    };
    let known = match (method, role) {
        (init::CREDENTIALS, _) => Credentials::read(tokens).map(|_| true),
        ("MPI" | "DPI", _) => init::read_init_reply(tokens).map(|_| true),
        // Mobile push is not served, so these are never asked for.
        ("MDA" | "MSA" | "MDC", _) => Ok(true),
        (_, Role::Data) => data::read(method, tokens, encoding).map(|known| known.is_some()),
        (_, Role::Metadata) => {
            metadata::read(method, tokens, encoding).map(|known| known.is_some())
        }
    };
    known?.then_some(()).ok_or(Malformed("an unknown method"))
}

#[test]
fn every_line_of_the_sdks_is_understood() {
    for recording in recordings() {
        each(&recording, "<", |role, line| {
            understand(role, line, recording.dialect.encoding)
                .unwrap_or_else(|error| panic!("{}: {line}: {error}", recording.name));
        });
    }
}

/// Most of what SDKs send is read the short way.
#[test]
fn updates_of_the_sdks_are_read_the_short_way_unless_something_is_escaped() {
    let mut plain = 0;
    for recording in recordings() {
        each(&recording, "<", |_, line| {
            let encoding = recording.dialect.encoding;
            let found = data::read_plain_update(line, encoding);
            let update = line.contains("|UD3|");
            let special = line.contains('%') || line.contains("|Y|") || line.contains("|I|");
            let special = special || encoding == Encoding::Old && line.contains('+');
            assert_eq!(found.is_some(), update && !special, "{line}");
            plain += usize::from(found.is_some());
        });
    }
    assert!(plain > 0, "none of them is");
}

#[test]
fn every_line_of_the_server_is_written_again() {
    for recording in recordings() {
        each(&recording, ">", |role, line| {
            if let Some(written) = rewrite(role, line, recording.dialect) {
                assert_eq!(written, line, "{}", recording.name);
            }
        });
    }
}

/// Reads a request as a remote would, and writes it anew. `None`: a method of mobile push.
fn rewrite(role: Role, line: &str, dialect: Dialect) -> Option<String> {
    let Ok(Line::Message { id, method, tokens }) = read_line(line) else {
        panic!("the server writes messages only");
    };
    let mut tokens = tokens;
    let mut out = Vec::new();
    let encoding = dialect.encoding;
    match method {
        "MDA" | "MSA" | "MDC" => return None,
        "CLOSE" => {
            assert_eq!(tokens.text(Encoding::Old).unwrap(), "reason");
            init::close(&mut out, &tokens.text(Encoding::Old).unwrap());
        }
        "MPI" | "DPI" => {
            let pairs = strings(&mut tokens, Encoding::Old);
            let pairs: Vec<_> = pairs.iter().map(|text| text.as_deref().unwrap()).collect();
            let pairs: Vec<_> = pairs.chunks(2).map(|pair| (pair[0], pair[1])).collect();
            assert_eq!(pairs[0], ("ARI.version", "1.9.1"));
            init::init(&mut out, id, role, &pairs[1..]);
        }
        "SUB" => data::subscribe(&mut out, id, &tokens.text(encoding).unwrap(), encoding),
        "USB" => data::unsubscribe(&mut out, id, &tokens.text(encoding).unwrap(), encoding),
        "FST" | "FUS" => {
            let entitled = (method == "FUS").then(|| tokens.boolean().unwrap());
            metadata::answer_order(&mut out, id, entitled);
        }
        _ => request(&mut out, id, method, tokens, dialect),
    }
    let text = String::from_utf8(out).unwrap();
    Some(text.strip_suffix("\r\n").unwrap().to_owned())
}

fn request(out: &mut Vec<u8>, id: &str, method: &str, mut tokens: Tokens<'_>, dialect: Dialect) {
    let encoding = dialect.encoding;
    let next = |tokens: &mut Tokens<'_>| tokens.string(encoding).unwrap().map(String::from);
    let user = match method {
        "NSC" | "NTC" | "GIT" => None,
        _ => next(&mut tokens),
    };
    let user = user.as_deref();
    let request = match method {
        "NUS" | "NUA" => {
            let password = next(&mut tokens);
            let principal = (method == "NUA").then(|| next(&mut tokens));
            let headers = strings(&mut tokens, encoding);
            let headers: Vec<_> = headers
                .chunks(2)
                .map(|pair| (pair[0].as_deref().unwrap(), pair[1].as_deref().unwrap()))
                .collect();
            return Request::User {
                user,
                password: password.as_deref(),
                principal: principal.as_ref().map(Option::as_deref),
                headers: &headers,
            }
            .write(out, id, dialect);
        }
        "NNS" => {
            let session = next(&mut tokens).unwrap();
            let context = strings(&mut tokens, encoding);
            let context: Vec<_> = context
                .chunks(2)
                .map(|pair| (pair[0].as_deref().unwrap(), pair[1].as_deref()))
                .collect();
            return Request::NewSession {
                user,
                session: &session,
                context: &context,
            }
            .write(out, id, dialect);
        }
        "GIS" | "GSC" | "NUM" | "NSC" => {
            let texts = strings(&mut tokens, encoding);
            let texts: Vec<_> = texts.iter().map(|text| text.as_deref().unwrap()).collect();
            return match (method, &*texts) {
                ("GIS", [group, session]) => Request::Items {
                    user,
                    group,
                    session,
                },
                ("GSC", [group, schema, session]) => Request::Schema {
                    user,
                    group,
                    schema,
                    session,
                },
                ("NUM", [session, message]) => Request::Message {
                    user,
                    session,
                    message,
                },
                ("NSC", [session]) => Request::SessionClosed { session },
                _ => panic!("{method} with {} texts", texts.len()),
            }
            .write(out, id, dialect);
        }
        "GIT" | "GUI" => {
            let items = strings(&mut tokens, encoding);
            let items: Vec<Box<str>> = items.into_iter().map(|text| text.unwrap().into()).collect();
            return if method == "GIT" {
                Request::ItemData { items: &items }.write(out, id, dialect)
            } else {
                Request::UserItemData {
                    user,
                    items: &items,
                }
                .write(out, id, dialect)
            };
        }
        other => other,
    };
    let session = next(&mut tokens).unwrap();
    let window = tokens.integer().unwrap();
    assert_eq!((tokens.next(), tokens.next()), (Some("M"), Some("M")));
    let group = next(&mut tokens).unwrap();
    let adapter = (encoding == Encoding::Smart).then(|| next(&mut tokens).unwrap());
    let schema = next(&mut tokens).unwrap();
    let range = (
        tokens.integer().unwrap() as usize,
        tokens.integer().unwrap() as usize,
    );
    let selector = next(&mut tokens);
    let count = |tokens: &mut Tokens<'_>| match tokens.is_at_end() {
        true => 0,
        false => tokens.integer().unwrap(),
    };
    let items: Vec<Box<str>> = (0..count(&mut tokens))
        .map(|_| next(&mut tokens).unwrap().into())
        .collect();
    let long = |tokens: &mut Tokens<'_>| {
        tokens.expect("L").unwrap();
        tokens.required().unwrap().parse::<u64>().unwrap()
    };
    let statistics: Vec<_> = (0..count(&mut tokens))
        .map(|_| Statistics {
            sent: long(&mut tokens),
            lost: long(&mut tokens),
            filtered: long(&mut tokens),
        })
        .collect();
    let table = Table {
        window,
        mode: Mode::Merge,
        group: &group,
        data_adapter: adapter.as_deref().unwrap_or("not told"),
        schema: &schema,
        range,
        selector: selector.as_deref(),
        items: &items,
    };
    match request {
        "NNT" => Request::NewTable {
            user,
            session: &session,
            table,
        },
        "NTC" => Request::TableClosed {
            session: &session,
            table,
            statistics: &statistics,
        },
        other => panic!("{other} is not known"),
    }
    .write(out, id, dialect);
}

fn strings(tokens: &mut Tokens<'_>, encoding: Encoding) -> Vec<Option<String>> {
    let mut all = Vec::new();
    while !tokens.is_at_end() {
        all.push(tokens.string(encoding).unwrap().map(String::from));
    }
    all
}

fn from_data(line: &str, encoding: Encoding) -> Result<FromData<'_>, Malformed> {
    let Line::Message { method, tokens, .. } = read_line(line)? else {
        panic!("a keepalive");
    };
    Ok(data::read(method, tokens, encoding)?.expect("a method of data adapters"))
}

fn from_metadata(line: &str, encoding: Encoding) -> Result<FromMetadata<'_>, Malformed> {
    let Line::Message { method, tokens, .. } = read_line(line)? else {
        panic!("a keepalive");
    };
    Ok(metadata::read(method, tokens, encoding)?.expect("a method of metadata adapters"))
}

fn fields_of(line: &str, encoding: Encoding) -> Vec<(String, Option<String>)> {
    match from_data(line, encoding) {
        Ok(FromData::Notification {
            event: Event::Update { fields, .. },
            ..
        }) => fields
            .into_iter()
            .map(|(name, value)| (name.into(), value.map(Cow::into_owned)))
            .collect(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn values_of_updates() {
    let some = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let old = "9|UD3|S|i+1|S|a|B|1|S|message|S|Hello+World|S|time|S|#|S|empty|S|$|S|sp|S|a%7Cb%2Bc%25d+%23%24+%C3%A9";
    assert_eq!(
        fields_of(old, Encoding::Old),
        [
            some("message", "Hello World"),
            ("time".into(), None),
            some("empty", ""),
            some("sp", "a|b+c%d #$ é")
        ]
    );
    assert_eq!(
        fields_of(
            "9|UD3|S|i|S|a|B|0|S|bytes|Y|AGFi|S|more|Y|6Q%3D%3D",
            Encoding::Old
        ),
        [some("bytes", "\0ab"), some("more", "é")]
    );
    // Numbered fields of old events.
    assert_eq!(
        fields_of(
            "9|UD3|S|i|S|a|B|0|I|0|S|f0|S|v0|I|1|S|f1|S|v1",
            Encoding::Smart
        ),
        [some("f0", "v0"), some("f1", "v1")]
    );
    for empty in ["9|UD3|S|i|S|a|B|0", "9|UD3|S|i|S|a|B|0|"] {
        assert_eq!(fields_of(empty, Encoding::Smart), []);
    }
}

#[test]
fn orders_of_differences() {
    let line = "9|DFD|S|item1|S|1d|S|message|F|JM|S|x|F|#|S|y|F|$";
    let Ok(FromData::Notification {
        item,
        subscription,
        event: Event::DiffOrder(orders),
    }) = from_data(line, Encoding::Smart)
    else {
        panic!("not read");
    };
    assert_eq!((&*item, subscription), ("item1", "1d"));
    let order = |name: &'static str, order| (Cow::Borrowed(name), order);
    let both = vec![DiffKind::JsonPatch, DiffKind::DiffMatchPatch];
    assert_eq!(
        orders,
        [
            order("message", DiffOrder::Try(both)),
            order("x", DiffOrder::Unspecified),
            order("y", DiffOrder::Try(Vec::new()))
        ]
    );
}

#[test]
fn every_kind_of_exception() {
    let client = |code, text: &str| ForClient {
        code,
        text: text.into(),
    };
    for (line, kind, message) in [
        ("a|NUS|EA|Bad+user", Kind::Access, "Bad user"),
        ("a|NUS|ER|busy", Kind::ResourceUnavailable, "busy"),
        (
            "a|NUS|EC|no+credit|-7|please+pay",
            Kind::Credits(client(-7, "please pay")),
            "no credit",
        ),
        (
            "a|NUM|EC|refused|-1|#",
            Kind::Credits(client(-1, "")),
            "refused",
        ),
        (
            "a|NNS|EX|conflict|-2|msg+for+user|Sold",
            Kind::ConflictingSession {
                client: client(-2, "msg for user"),
                session: Some("Sold".into()),
            },
            "conflict",
        ),
        ("a|GIS|EI|bad+group", Kind::Items, "bad group"),
        ("a|GSC|ES|bad+schema", Kind::Schema, "bad schema"),
        ("a|NNT|EN|no", Kind::Notification, "no"),
        ("a|NNT|E|#", Kind::Generic, ""),
        ("a|NNT|E", Kind::Generic, ""),
        ("a|NUM|EQ|of+the+future", Kind::Generic, "of the future"),
    ] {
        let message = message.to_owned();
        assert_eq!(
            from_metadata(line, Encoding::Old),
            Ok(FromMetadata::Reply(Err(Exception { kind, message }))),
            "{line}"
        );
    }
    for (line, kind) in [
        ("a|SUB|EU|x", Kind::Subscription),
        ("a|SUB|EF|x", Kind::Failure),
        ("a|SUB|E|x", Kind::Generic),
    ] {
        let message = "x".into();
        assert_eq!(
            from_data(line, Encoding::Old),
            Ok(FromData::Subscribed(Err(Exception { kind, message })))
        );
    }
    let failed = |line| init::read_init_reply(Tokens::new(line)).unwrap();
    for (line, kind) in [
        ("EM|x", Kind::MetadataProvider),
        ("ED|x", Kind::DataProvider),
    ] {
        let message = "x".into();
        assert_eq!(failed(line), InitReply::Failed(Exception { kind, message }));
    }
}

#[test]
fn versions_that_remotes_choose() {
    let chosen = |line| init::read_init_reply(Tokens::new(line)).unwrap();
    assert_eq!(chosen("V"), InitReply::Ready(Version::V1_8_0));
    assert_eq!(
        chosen("S|ARI.version|S|1.8.2"),
        InitReply::Ready(Version::V1_8_2)
    );
    assert_eq!(
        chosen("S|x|S|y|S|ARI.version|S|1.9.0"),
        InitReply::Ready(Version::V1_9_0)
    );
    assert_eq!(
        chosen("S|ARI.version|S|1.8.1"),
        InitReply::VersionUnknown("1.8.1".into())
    );
    assert!(!Version::V1_8_2.has_close() && Version::V1_8_3.has_close());
}

#[test]
fn replies_in_all_their_forms() {
    let reply = |line| match from_metadata(line, Encoding::Smart) {
        Ok(FromMetadata::Reply(Ok(reply))) => reply,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        reply("a|NNS|V"),
        Reply::Session {
            time_to_live_s: None
        }
    );
    assert_eq!(
        reply("a|NNS|I|-1"),
        Reply::Session {
            time_to_live_s: None
        }
    );
    assert_eq!(
        reply("a|NNS|I|3600"),
        Reply::Session {
            time_to_live_s: Some(3600)
        }
    );
    for (line, flags) in [
        ("a|NNT|V", (false, false)),
        ("a|NNT|B|1|B|0", (true, false)),
    ] {
        let (can_unsubscribe, wants_statistics) = flags;
        assert_eq!(
            reply(line),
            Reply::Table {
                can_unsubscribe,
                wants_statistics
            }
        );
    }
    assert_eq!(reply("a|GIS"), Reply::Names(vec![]));
    assert_eq!(reply("a|GIS|"), Reply::Names(vec![]));
    assert_eq!(
        reply("a|GIS|S|x|S|y"),
        Reply::Names(vec!["x".into(), "y".into()])
    );
    assert_eq!(reply("a|NUM|V"), Reply::Message(None));
    assert_eq!(
        reply("a|NUM|S|got it"),
        Reply::Message(Some("got it".into()))
    );
    let Reply::Items(items) = reply("a|GUI|I|0|D|#|M|$|I|5|D|2.5|M|RC") else {
        panic!("no items");
    };
    assert!(!items[0].modes.contains(Mode::Merge) && items[0].frequency == 0.0);
    assert!(items[1].modes.contains(Mode::Command) && !items[1].modes.contains(Mode::Merge));
    assert_eq!((items[1].length, items[1].frequency), (5, 2.5));
}

#[test]
fn orders_by_the_adapter() {
    assert_eq!(
        from_metadata("64|FST|S|s|I|-9|S|bye bye", Encoding::Smart),
        Ok(FromMetadata::Terminate {
            session: "s".into(),
            cause: Some((-9, Some("bye bye".into()))),
        })
    );
    assert_eq!(
        from_metadata("64|FST|S|s|V", Encoding::Smart),
        Ok(FromMetadata::Terminate {
            session: "s".into(),
            cause: None
        })
    );
    assert_eq!(
        from_metadata("64|FUS|S|s|I|1", Encoding::Smart),
        Ok(FromMetadata::Unsubscribe {
            session: "s".into(),
            window: 1
        })
    );
    assert!(matches!(
        from_metadata("2|FAL|E|#", Encoding::Smart),
        Ok(FromMetadata::Failed(_))
    ));
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    for line in [
        "",
        "a",
        "a|UD3",
        "a|UD3|S|i",
        "a|UD3|S|i|S|x|B|2",
        "a|UD3|S|i|S|x|B|1|S|f",
        "a|UD3|S|i|S|x|B|1|S|f|S",
        "a|UD3|S|i|S|x|B|1|S|f|Q|v",
        "a|UD3|S|i|S|x|B|1|S|f|S|50%",
        "a|UD3|S|i|S|x|B|1|S|f|Y|???",
        "a|UD3|S|#|S|x|B|1",
        "a|UD3|S|||S|x|B|1", // two empty tokens are not a bar
        "a|DFD|S|i|S|x|S|f|F|Q",
        "a|SUB",
        "a|SUB|X",
        "a|FAL|V",
    ] {
        assert!(
            understand(Role::Data, line, Encoding::Smart).is_err(),
            "{line}"
        );
    }
    for line in [
        "a|NUS|V",
        "a|NUS|D|x|B|1",
        "a|GIT|I|1|D|0",
        "a|GIT|I|1|D|0|M|X",
        "a|NUM|EC|x",
        "a|FUS|S|s",
    ] {
        assert!(
            understand(Role::Metadata, line, Encoding::Smart).is_err(),
            "{line}"
        );
    }
}

fn any_encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Old), Just(Encoding::Smart)]
}

proptest! {
    /// Any text, with characters that mean something to the protocol more often than not.
    #[test]
    fn texts_survive(text in prop::option::of("[|%+#$\r\n a-cé€\u{0}]{0,12}"), encoding in any_encoding()) {
        let mut token = Vec::new();
        engine::ari::values::encode(&mut token, text.as_deref(), encoding);
        let token = String::from_utf8(token).unwrap();
        prop_assert!(!token.is_empty() && !token.contains(['|', '\r', '\n']));
        prop_assert!(encoding == Encoding::Smart || token.is_ascii());
        let decoded = decode(&token, encoding).unwrap();
        prop_assert_eq!(decoded.as_deref(), text.as_deref());
    }

    #[test]
    fn updates_survive(
        item in "[|%+#$ a-cé]{1,8}",
        snapshot: bool,
        fields in prop::collection::vec(("[|%+#$ a-cé]{1,6}", prop::option::of("[|%+#$\r\n a-cé]{0,8}")), 0..12),
        encoding in any_encoding(),
    ) {
        let mut line = Vec::new();
        let lent = fields.iter().map(|(name, value)| (&**name, value.as_deref()));
        remote::update(&mut line, "7", &item, "1f", snapshot, lent, encoding);
        let line = String::from_utf8(line).unwrap();
        let found = from_data(line.trim_end_matches("\r\n"), encoding).unwrap();
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value.map(Cow::Owned)));
        prop_assert_eq!(found, FromData::Notification {
            item: item.into(),
            subscription: "1f",
            event: Event::Update { snapshot, fields: fields.collect() },
        });
    }

    /// The short way of reading an update gives what the long way gives, or nothing.
    #[test]
    fn plain_updates_are_read_alike(
        line in "[a1]{0,3}\\|UD3\\|S\\|[aé|%+]{0,20}\\|S\\|[a1]{1,2}\\|B\\|[012]?(\\|[SI]\\|[ab#$%+é]{0,40}){0,9}\\|?",
        encoding in any_encoding(),
    ) {
        if let Some(plain) = data::read_plain_update(&line, encoding) {
            let fields = plain.fields.iter();
            let fields = fields.map(|(name, value)| ((*name).into(), value.map(Cow::Borrowed)));
            prop_assert_eq!(from_data(&line, encoding), Ok(FromData::Notification {
                item: plain.item.into(),
                subscription: plain.subscription,
                event: Event::Update { snapshot: plain.snapshot, fields: fields.collect() },
            }));
        } else if !line.contains(['%', '+']) && !line.contains("|I|") {
            prop_assert!(from_data(&line, encoding).is_err());
        }
    }

    /// Whatever comes, nothing panics.
    #[test]
    fn any_line_is_read_or_refused(
        line in "[a1]\\|(UD3|EOS|CLS|DFD|SUB|FAL|NUS|NNS|GIS|GIT|NNT|NUM|FST|FUS|RAC|MPI)(\\|[SBIDMYEVF#$%1-]{0,3}){0,9}",
        encoding in any_encoding(),
    ) {
        let _ = understand(Role::Data, &line, encoding);
        let _ = understand(Role::Metadata, &line, encoding);
    }
}
