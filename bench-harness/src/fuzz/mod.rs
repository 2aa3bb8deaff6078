//! Fuzz targets: everything that the network feeds, as functions over bytes. None may panic, whatever the bytes.
//!
//! Coverage-guided runs go by `cargo fuzz` (see `bench-harness/fuzz/Cargo.toml`); the test `corpora.rs` replays the seeds
//! and some thousands of [`mutate`]d ones with every `cargo test`.

pub mod mutate;
mod operations;

use engine::ari;
use engine::tlcp::client::{FieldValues, Line, complete_lines};
use engine::tlcp::legacy;
use engine::tlcp::request::{Carrier, Verb, lines, parse_line};

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its binary and of its corpus.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "requests",
        run: engine::tlcp::request::fuzz_entry,
    },
    Target {
        name: "legacy",
        run: legacy_text,
    },
    Target {
        name: "http",
        run: brightwire::wire::http::fuzz_entry,
    },
    Target {
        name: "websocket",
        run: brightwire::wire::ws::fuzz_entry,
    },
    Target {
        name: "connection",
        run: brightwire::net::connection::fuzz_entry,
    },
    Target {
        name: "proxies",
        run: brightwire::net::connection::fuzz_entry_proxies,
    },
    Target {
        name: "server_lines",
        run: server_lines,
    },
    Target {
        name: "ari",
        run: ari_lines,
    },
    Target {
        name: "operations",
        run: operations::play,
    },
];

/// The body of the target of this name, for its binary.
///
/// # Panics
/// If there is none.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target").run)(data);
}

/// The text protocol before TLCP: a verb's letter, a query up to a NUL, a body. What is rewritten is one line of TLCP,
/// and a bind stays as it is when it is rewritten again.
fn legacy_text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (verb, text) = match text.split_at_checked(1) {
        Some(("c", rest)) => (Verb::CreateSession, rest),
        Some(("b", rest)) => (Verb::BindSession, rest),
        Some(("m", rest)) => (Verb::Msg, rest),
        _ => (Verb::Control, text),
    };
    let (query, body) = text.split_once('\0').unwrap_or(("", text));
    for line in lines(verb, body) {
        let Ok(rewritten) = legacy::rewrite(verb, query, line) else {
            continue;
        };
        let _ = parse_line(verb, Carrier::Http, "", &rewritten);
        if verb == Verb::BindSession {
            let again = legacy::rewrite(verb, "", &rewritten);
            assert_eq!(again.as_deref(), Ok(&*rewritten));
        }
    }
    let mut out = Vec::new();
    legacy::answer(&mut out, data);
    legacy::stream(&mut out, data);
    legacy::values::push_value(&mut out, Some(data));
}

/// What a client reads of a server: lines, and field lists on top of each other.
fn server_lines(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut row = FieldValues::new(4);
    let Ok(lines) = complete_lines(text) else {
        let _ = Line::parse(text);
        return;
    };
    for line in lines {
        if let Ok(Line::Update { values, .. }) = Line::parse(line) {
            let _ = row.apply(values);
            assert_eq!(row.iter().len(), 4);
        }
    }
}

/// What a remote adapter says, in both encodings and both roles.
fn ari_lines(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    for line in text.lines() {
        for encoding in [ari::Encoding::Old, ari::Encoding::Smart] {
            let Ok(ari::Line::Message { method, tokens, .. }) = ari::read_line(line) else {
                continue;
            };
            let _ = ari::data::read(method, tokens.clone(), encoding);
            let _ = ari::metadata::read(method, tokens.clone(), encoding);
            let _ = ari::init::Credentials::read(tokens.clone());
            let _ = ari::init::read_init_reply(tokens);
        }
    }
}
