//! Plays the transcripts in `tests/transcripts` against ingest and shards, and compares every line.
//!
//! ```text
//! # a comment
//! ! shards 2               the world: shards, users name:password ..., answer_delay_ms, max_sessions, modes,
//! !                        frequency_max, source_frequency_max, buffer_size_max, event_buffer_len_max, snapshot_length,
//! !                        and what else `Stage::configure` knows
//! ! selector large n>=10   what clients may name as a selector: see `selected`
//! ! message x refused -5 no  what the metadata adapter says to messages that begin with this word: see `scripted_answer`
//! ! user x refused -5 no   what it says to a session of this user; and to a subscription of a group likewise
//! ~ connect 1 shard=1      client 1 opens a WebSocket (version=2.0.0 for an old client)
//! ~ connect 1 http         it opens a connection for HTTP (identity: response lengths are told beforehand)
//! ~ connect 1 legacy       the same, for the text protocol before TLCP
//! ~ connect 1 control_only sessions may not be created there (name=X: what SERVNAME tells there; ascii;
//!                          linked: it came by the control link)
//! C1> wsok                 client 1 sends a message; ⏎ stands for CR LF
//! C1+ wsok                 the same, but it arrives together with what the next step sends
//! C1< WSOK                 client 1 receives a line
//! C1> control?LS_a=1⏎b     over HTTP: path, query and body
//! ~ length 1 5000          client 1 is told the length of the response that begins
//! ~ end 1                  client 1's response is complete
//! A< subscribe item1       the data adapter is asked for an item (of the adapter QUOTE: QUOTE/item1)
//! A< message {S1} x        the metadata adapter gets a message of a session
//! A> snapshot item1 a=1    the data adapter speaks: snapshot, update, eos, clear; # is null, $ is empty, %XX any byte;
//!                          differences doc=PT: formats in which a field may be sent
//! @ 30ms                   time passes
//! ~ block 1                client 1 reads nothing (unblock, close)
//! ~ closed 1               the server has closed the connection
//! ~ administrator 1        an administrator closes the session {S1}
//! ~ block_sessions 1       an administrator blocks new sessions (0: no longer)
//! ```
//!
//! `{S1}` is the id of the first session that a client saw, and so on. What a step causes stands behind it, and nothing
//! may be missing or left over. With `UPDATE=1` in the environment the files are rewritten with what really happened:
//! read the difference before you believe it.

use engine::ids::{DataAdapterId, ShardId};
use engine::item::safe::{ItemPattern, SafeRule, SafeRules, TradeSafe};
use engine::item::selector::{Check, Selector};
use engine::metadata::{AdapterSetId, AdapterSets, Granted, literal::Literal};
use engine::shard::{Config, Peer, Selectors};
use engine::sim::world::{CLIENT_IP, Event, Options, Say, WireId, World};
use engine::text::{Plus, percent_decode};
use engine::time::Duration;
use engine::tlcp::cause::{Reason, Refusal};
use engine::tlcp::diff::{Format, Order};
use engine::tlcp::request::{Mode, Verb};
use engine::tlcp::{Version, legacy};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

#[test]
fn transcripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are transcripts");
    let mut failures = String::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let played = std::panic::catch_unwind(|| play(&text));
        let Ok(played) = played else {
            writeln!(failures, "{}: panicked, see above", path.display()).unwrap();
            continue;
        };
        if played == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, played).unwrap();
        } else {
            writeln!(
                failures,
                "{}:\n{}",
                path.display(),
                difference(&text, &played)
            )
            .unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn a_wrong_line_a_missing_one_and_one_too_many_are_told() {
    let good = "~ connect 1\nC1> wsok\nC1< WSOK\n";
    assert_eq!(play(good), good);
    for (bad, told) in [
        (
            "~ connect 1\nC1> wsok\nC1< WSOk\n",
            "- C1< WSOk\n+ C1< WSOK\n",
        ),
        ("~ connect 1\nC1> wsok\n", "+ C1< WSOK\n"),
        (
            "~ connect 1\nC1> wsok\nC1< WSOK\nC1< PROBE\n",
            "- C1< PROBE\n",
        ),
    ] {
        let difference = difference(bad, &play(bad));
        assert!(difference.ends_with(told), "{difference}");
    }
}

/// The transcript as it really goes: the steps and comments of `text`, each with what it causes.
fn play(text: &str) -> String {
    let mut stage = Stage::new(text);
    for line in text.lines() {
        if is_expectation(line) {
            continue;
        }
        stage.played.push_str(line);
        stage.played.push('\n');
        if stage.step(line) {
            stage.show_events();
        }
    }
    stage.played
}

fn is_expectation(line: &str) -> bool {
    ["~ closed ", "~ end ", "~ length "]
        .iter()
        .any(|event| line.starts_with(event))
        || line
            .split_once("< ")
            .is_some_and(|(who, _)| who == "A" || client(who).is_some())
}

fn client(who: &str) -> Option<u32> {
    who.strip_prefix('C')?.parse().ok()
}

fn mode(name: &str) -> Mode {
    match name {
        "RAW" => Mode::Raw,
        "MERGE" => Mode::Merge,
        "DISTINCT" => Mode::Distinct,
        "COMMAND" => Mode::Command,
        _ => panic!("not a mode: {name}"),
    }
}

/// `field>=number`, `field<=number`, `field^=beginning`, `field=text,text`.
fn selected(all: Selector, check: &str) -> Selector {
    let number = |text: &str| text.parse().expect("a number");
    if let Some((field, least)) = check.split_once(">=") {
        all.at_least(field, number(least))
    } else if let Some((field, most)) = check.split_once("<=") {
        all.at_most(field, number(most))
    } else if let Some((field, beginning)) = check.split_once("^=") {
        all.and(field, Check::Prefix(beginning.into()))
    } else {
        let (field, texts) = check.split_once('=').expect("a check");
        all.one_of(field, texts.split(','))
    }
}

/// `done <response>`, `refused <code> <text>`, `failed` (the adapter could not deal with it), `crashed`, `silent`.
fn scripted_answer(text: &str) -> Option<Result<Granted, Refusal>> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match verb {
        "done" => Some(Ok(Granted::Message {
            response: Some(rest.into()),
        })),
        "refused" => {
            let (code, text) = rest.split_once(' ').expect("a code and a text");
            let code = code.parse().unwrap();
            Some(Err(Refusal::by_adapter(code, text.to_owned())))
        }
        "failed" => Some(Err(Refusal::message_failed())),
        "crashed" => Some(Err(Refusal::message_adapter_failed())),
        "adapter_failed" => Some(Err(Refusal::adapter_failed())),
        "unavailable" => Some(Err(Refusal::authentication_unavailable())),
        "bad_group" => Some(Err(Refusal::bad_group())),
        "bad_group_for_schema" => Some(Err(Refusal::bad_group_for_schema())),
        "silent" => None,
        _ => panic!("not an answer: {text}"),
    }
}

struct Stage {
    world: World,
    wires: BTreeMap<u32, WireId>,
    sessions: Vec<String>,
    played: String,
}

impl Stage {
    fn new(text: &str) -> Self {
        let mut options = Options::default();
        let mut literal = Literal::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("! ")) {
            let (key, value) = line.split_once(' ').expect("a key and a value");
            match key {
                "shards" => options.shards = value.parse().unwrap(),
                "answer_delay_ms" => {
                    options.answer_delay = Duration::from_millis(value.parse().unwrap())
                }
                "modes" => literal.modes = value.split(' ').map(mode).collect(),
                "buffer_size_max" => literal.buffer_size_max = Some(value.parse().unwrap()),
                "snapshot_length" => literal.snapshot_length = value.parse().unwrap(),
                "source_frequency_max" => {
                    literal.source_frequency_max = Some(value.parse().unwrap());
                }
                "ring_bytes" => options.ring_bytes = value.parse().unwrap(),
                "event_buffer_len_max" => {
                    options.config.limits.event_buffer_len_max = value.parse().unwrap();
                }
                "frequency_max" => literal.frequency_max = Some(value.parse().unwrap()),
                "message" | "user" | "group" => {
                    let (word, answer) = value.split_once(' ').expect("a word and an answer");
                    let answers = match key {
                        "message" => &mut options.message_answers,
                        "user" => &mut options.user_answers,
                        _ => &mut options.group_answers,
                    };
                    answers.insert(word.into(), scripted_answer(answer));
                }
                "users" => {
                    let user = |pair: &str| {
                        let (name, password) = pair.split_once(':').unwrap();
                        (name.into(), password.into())
                    };
                    literal.users = Some(value.split(' ').map(user).collect());
                }
                _ => Self::configure(&mut options.config, key, value),
            }
        }
        options.sets = AdapterSets::default();
        for (index, set) in (0..).zip(["DEFAULT", "DEMO"]) {
            let sets = &mut options.sets;
            sets.add(set, literal.clone(), &["DEFAULT", "QUOTE"]);
            if options.config.status_interval.is_some() {
                sets.add_status(AdapterSetId(index), "STATUS");
            }
        }
        Self {
            world: World::new(options),
            wires: BTreeMap::new(),
            sessions: Vec::new(),
            played: String::new(),
        }
    }

    fn configure(config: &mut Config, key: &str, value: &str) {
        let time = || Duration::from_millis(value.parse().unwrap());
        match key {
            "max_sessions" => config.limits.sessions_max = value.parse().unwrap(),
            "max_subscribed_items" => config.limits.subscribed_items_max = value.parse().unwrap(),
            "blocked_try_again" => config.blocked_try_again = value.parse().unwrap(),
            "max_closed" => config.limits.closed_sessions_max = value.parse().unwrap(),
            "max_subscriptions" => {
                config.limits.subscriptions_per_session_max = value.parse().unwrap()
            }
            "max_items" => config.limits.items_per_subscription_max = value.parse().unwrap(),
            "max_recovery_bytes" => config.limits.recovery_bytes_max = value.parse().unwrap(),
            "instance" => config.instance = value.parse().unwrap(),
            "question_timeout_ms" => config.question_timeout = time(),
            "missing_message_timeout_ms" => config.missing_message_timeout = time(),
            "max_questions" => config.limits.questions_max = value.parse().unwrap(),
            "max_messages" => config.limits.messages_per_session_max = value.parse().unwrap(),
            "max_sequences" => {
                config.limits.message_sequences_per_session_max = value.parse().unwrap()
            }
            "delta_delivery" => config.delta_delivery = value.parse().unwrap(),
            "diffs" => {
                let format = |letter| match letter {
                    "P" => Format::JsonPatch,
                    "T" => Format::Text,
                    _ => panic!("not a format: {letter}"),
                };
                config.diffs.order = Order::new(value.split(' ').map(format));
            }
            "json_patch_bytes_min" => {
                config.diffs.sizes.json_patch_bytes_min = value.parse().unwrap()
            }
            "text_bytes_min" => config.diffs.sizes.text_bytes_min = value.parse().unwrap(),
            "bandwidth_kbps_max" => config.bandwidth_kbps_max = Some(value.parse().unwrap()),
            "update_delay_ms" => config.update_delay_max = time(),
            "snapshot_rows_per_s_max" => {
                config.snapshot_rows_per_s_max = Some(value.parse().unwrap())
            }
            "status_interval_ms" => config.status_interval = Some(time()),
            "trade_safe" => {
                let mut words = value.split(' ');
                let items: Box<[_]> = words.next().into_iter().map(ItemPattern::parse).collect();
                let fields: Box<[_]> = words.map(Into::into).collect();
                let what = match fields.is_empty() {
                    true => TradeSafe::Everything,
                    false => TradeSafe::Fields(fields),
                };
                let rule = |adapter| SafeRule {
                    adapter: DataAdapterId(adapter),
                    items: Box::clone(&items),
                    what: what.clone(),
                };
                config.trade_safe = SafeRules::new((0..4).map(rule).collect());
            }
            "selector" => {
                let (name, checks) = value.split_once(' ').expect("a name and checks");
                let selector = checks.split(' ').fold(Selector::new(), selected);
                let sets = (0..2).map(AdapterSetId);
                let named = sets.map(|set| (set, name.into(), selector.clone()));
                config.selectors = Selectors::new(named.collect());
            }
            "poll_interval_ms" => config.poll_interval_min = time(),
            "streaming_time_ms" => config.streaming_time_max = Some(time()),
            "session_duration_ms" => config.session_duration_max = Some(time()),
            "one_session_per_user" => config.one_session_per_user = value.parse().unwrap(),
            "take_over_silent" => config.take_over_silent = value.parse().unwrap(),
            "cid_required" => config.cid_required = value.parse().unwrap(),
            "tell_client_ip" => config.tell_client_ip = value.parse().unwrap(),
            "control_link" => config.control_link = Some(value.to_owned()),
            _ => panic!("unknown setting: {key}"),
        }
    }

    /// Carries out a line; false if the world shall not run yet.
    fn step(&mut self, line: &str) -> bool {
        if line.is_empty() || line.starts_with(['#', '!']) {
            return false;
        }
        let (who, what) = line.split_once(' ').expect("somebody and something");
        if let Some(who) = who.strip_suffix(['>', '+']) {
            match client(who) {
                Some(number) => self.client_says(self.wires[&number], what),
                None => self.adapter_says(what),
            }
            let waits = line.split(' ').next().unwrap().ends_with('+');
            if !waits {
                self.world.settle();
            }
            return !waits;
        }
        match who {
            "@" => {
                let millis = what.strip_suffix("ms").expect("milliseconds");
                self.world
                    .advance(Duration::from_millis(millis.parse().unwrap()));
            }
            "~" => self.happens(what),
            _ => panic!("not understood: {line}"),
        }
        true
    }

    fn happens(&mut self, what: &str) {
        let mut words = what.split(' ');
        let event = words.next().unwrap();
        let number: u32 = words.next().expect("a client").parse().unwrap();
        match event {
            "connect" => {
                let mut shard = ShardId(0);
                let mut peer = Peer::new(CLIENT_IP, Version::LATEST);
                let (mut http, mut identity) = (false, false);
                for word in words {
                    match word.split_once('=') {
                        None if word == "http" => http = true,
                        None if word == "identity" => (http, identity) = (true, true),
                        None if word == "legacy" => {
                            http = true;
                            peer.version = Version::LEGACY;
                        }
                        None if word == "control_only" => peer.may_create = false,
                        None if word == "linked" => peer.by_control_link = true,
                        None if word == "ascii" => peer.ascii = true,
                        Some(("name", value)) => peer.server_name = Some(value.into()),
                        Some(("shard", value)) => shard = ShardId(value.parse().unwrap()),
                        Some(("version", value)) => {
                            peer.version = Version::parse(&format!("TLCP-{value}")).unwrap()
                        }
                        _ => panic!("not understood: {what}"),
                    }
                }
                let wire = match http {
                    true => self.world.connect_http_as(shard, peer, identity),
                    false => self.world.connect_as(shard, peer),
                };
                self.wires.insert(number, wire);
            }
            "administrator" => {
                let id = &self.sessions[number as usize - 1];
                let cause = Reason::CLOSED_BY_SERVER.into();
                self.world.close_session(id, &cause);
            }
            "block_sessions" => self.world.block_sessions(number != 0),
            "close" => self.world.close(self.wires[&number]),
            "block" => self.world.stall(self.wires[&number]),
            "unblock" => self.world.resume(self.wires[&number]),
            _ => panic!("not understood: {what}"),
        }
        self.world.settle();
    }

    fn client_says(&mut self, wire: WireId, what: &str) {
        let text = self.with_ids(what);
        if !self.world.is_http(wire) {
            return self.world.send(wire, text.replace('⏎', "\r\n"));
        }
        let (target, body) = text.split_once('⏎').unwrap_or((&text, ""));
        let (name, query) = target.split_once('?').unwrap_or((target, ""));
        let verb = Verb::from_name(name).or_else(|| legacy::verb(name));
        let verb = verb.expect("the name of a request");
        let body = body.replace('⏎', "\r\n");
        self.world.request(wire, verb, query, &body);
    }

    fn adapter_says(&mut self, what: &str) {
        let mut words = what.split(' ').filter(|word| !word.is_empty());
        let verb = words.next().unwrap();
        let item = words.next().expect("an item");
        let (adapters, name) = match item.strip_prefix("QUOTE/") {
            Some(name) => ([1, 3], name),
            None => ([0, 2], item),
        };
        let decode = |text: &str| percent_decode(text, Plus::IsPlus).unwrap().into_owned();
        let fields: Vec<(String, Option<String>)> = words
            .map(|word| {
                let (name, value) = word.split_once('=').expect("name=value");
                let value = match value {
                    "#" => None,
                    "$" => Some(String::new()),
                    _ => Some(decode(value)),
                };
                (decode(name), value)
            })
            .collect();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let say = match verb {
            "update" | "snapshot" => Say::Update {
                snapshot: verb == "snapshot",
                fields: &fields,
            },
            "eos" => Say::EndOfSnapshot,
            "clear" => Say::Clear,
            "differences" => Say::Differences(&fields),
            _ => panic!("not understood: {what}"),
        };
        for adapter in adapters.map(DataAdapterId) {
            self.world.say(adapter, name, say);
        }
    }

    fn show_events(&mut self) {
        while let Some(event) = self.world.poll_event() {
            let item = |adapter: DataAdapterId, name: &str| match adapter.0 % 2 {
                0 => name.to_owned(),
                _ => format!("QUOTE/{name}"),
            };
            match event {
                Event::Message { wire, bytes, .. } => {
                    let number = self.number(wire);
                    let text = String::from_utf8(bytes).expect("lines are UTF-8");
                    let mut lines = text.split_terminator("\r\n").peekable();
                    while let Some(line) = lines.next() {
                        self.learn_id(line);
                        if line.starts_with("NOOP,") || line.starts_with("Preamble:") {
                            // Padding is shown once, however much there is.
                            while lines.next_if_eq(&line).is_some() {}
                        }
                        let line = self.without_ids(line);
                        writeln!(self.played, "C{number}< {line}").unwrap();
                    }
                }
                Event::Length(wire, bytes) => {
                    let number = self.number(wire);
                    writeln!(self.played, "~ length {number} {bytes}").unwrap();
                }
                Event::End(wire) => {
                    let number = self.number(wire);
                    writeln!(self.played, "~ end {number}").unwrap();
                }
                Event::Closed(wire) => {
                    let number = self.number(wire);
                    writeln!(self.played, "~ closed {number}").unwrap();
                }
                Event::Subscribe(adapter, name) => {
                    writeln!(self.played, "A< subscribe {}", item(adapter, &name)).unwrap();
                }
                Event::Notice(_) | Event::Inside(_) => {}
                Event::UserMessage { session, message } => {
                    let session = self.without_ids(&session);
                    let message = message.replace("\r\n", "⏎");
                    writeln!(self.played, "A< message {session} {message}").unwrap();
                }
                Event::Unsubscribe(adapter, name) => {
                    writeln!(self.played, "A< unsubscribe {}", item(adapter, &name)).unwrap();
                }
            }
        }
    }

    fn number(&self, wire: WireId) -> u32 {
        let mut wires = self.wires.iter();
        *wires.find(|(_, known)| **known == wire).expect("known").0
    }

    fn learn_id(&mut self, line: &str) {
        let conok = line.strip_prefix("CONOK,");
        if let Some(arguments) = conok.or_else(|| line.strip_prefix("SessionId:")) {
            let id = arguments.split(',').next().unwrap();
            if !self.sessions.iter().any(|known| known == id) {
                self.sessions.push(id.to_owned());
            }
        }
    }

    fn with_ids(&self, text: &str) -> String {
        self.sessions
            .iter()
            .enumerate()
            .fold(text.to_owned(), |text, (index, id)| {
                text.replace(&format!("{{S{}}}", index + 1), id)
            })
    }

    fn without_ids(&self, text: &str) -> String {
        self.sessions
            .iter()
            .enumerate()
            .fold(text.to_owned(), |text, (index, id)| {
                text.replace(id, &format!("{{S{}}}", index + 1))
            })
    }
}

/// What differs, by the longest common subsequence of lines, with the step before it.
fn difference(expected: &str, actual: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out, mut context) = (0, 0, String::new(), None);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            context = Some(a[i]);
            i += 1;
            j += 1;
            continue;
        }
        if let Some(context) = context.take() {
            writeln!(out, "  {context}").unwrap();
        }
        if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            writeln!(out, "- {}", a[i]).unwrap();
            i += 1;
        } else {
            writeln!(out, "+ {}", b[j]).unwrap();
            j += 1;
        }
    }
    out
}
