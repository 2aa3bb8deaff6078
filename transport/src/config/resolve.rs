//! From what was written to what will be done: defaults applied, relations checked, cores chosen.
//!
//! Every function adds what it finds wrong to [`Problems`] and goes on with some value, so that one run reports all
//! mistakes of a file. The plan is handed out only if there are none.

mod sessions;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use super::plan::*;
use super::raw::{self, Raw};
use super::value::{Size, Time};
use crate::runtime::topology::Topology;
use crate::wire::origin::{OriginPolicy, Origins};

/// What is wrong with a configuration: the path of the key, and why.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<(String, String)>);

impl Problems {
    pub(super) fn add(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.0.push((key.into(), reason.into()));
    }

    /// Checks that a number, size or time is within its bounds.
    pub(super) fn check_range<T: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            self.add(
                key,
                format!(
                    "{value} is not between {} and {}",
                    range.start(),
                    range.end()
                ),
            );
        }
    }
}

/// Resolves a file for a machine. Relative paths in it start at `directory`.
pub(super) fn resolve(raw: &Raw, machine: &Topology, directory: &Path) -> Result<Plan, Problems> {
    let mut problems = Problems::default();
    let threading = raw.runtime.threading();
    let shards = shard_count(raw, machine, &mut problems);
    let plan = Plan {
        io: raw.runtime.io(),
        threading,
        shards,
        placement: placement(&raw.placement, threading, shards, machine, &mut problems),
        spin: raw.runtime.spin().0,
        listeners: listeners(raw, &mut problems),
        socket: socket(&raw.socket, &mut problems),
        rings: rings(&raw.rings, &mut problems),
        instance: raw.server.instance(),
        sessions: sessions::resolve(&raw.sessions, &mut problems),
        origins: origins(&raw.origins, &mut problems),
        added_headers: added_headers(&raw.http, &mut problems),
        adapter_sets: super::adapters::adapter_sets(raw, directory, &mut problems),
    };
    problems.check_range(
        "runtime.spin",
        raw.runtime.spin(),
        Time::micros(0)..=Time::secs(1),
    );
    if problems.0.is_empty() {
        Ok(plan)
    } else {
        Err(problems)
    }
}

fn shard_count(raw: &Raw, machine: &Topology, problems: &mut Problems) -> usize {
    let shared = raw.runtime.threading() == Threading::Shared;
    match raw.runtime.shards {
        None if shared => 1,
        None => machine.parallelism.saturating_sub(1).clamp(1, SHARDS_MAX),
        Some(shards) => {
            problems.check_range("runtime.shards", shards, 1..=SHARDS_MAX);
            if shared && shards > 1 {
                problems.add(
                    "runtime.shards",
                    "with threading = \"shared\" there is one thread, hence one shard",
                );
            }
            shards.clamp(1, SHARDS_MAX)
        }
    }
}

fn placement(
    raw: &raw::Placement,
    threading: Threading,
    shards: usize,
    machine: &Topology,
    problems: &mut Problems,
) -> Placement {
    let mut placement = Placement {
        ingest: raw.ingest,
        control: raw.control,
        shards: vec![None; shards],
    };
    if threading == Threading::Shared {
        let keys = [
            ("pin", raw.pin() == Pinning::Auto),
            ("ingest", raw.ingest.is_some()),
            ("control", raw.control.is_some()),
            ("shards", raw.shards.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, given)| *given) {
            problems.add(
                format!("placement.{key}"),
                "with threading = \"shared\" there are no threads to place",
            );
        }
        return placement;
    }

    if raw.pin() == Pinning::Auto {
        if raw.ingest.is_some() || raw.shards.is_some() {
            problems.add(
                "placement.pin",
                "\"auto\" chooses the cores of ingest and shards: do not name them as well",
            );
        }
        match machine.choose(shards + 1) {
            Some(cores) => {
                placement.ingest = Some(cores[0]);
                placement.shards = cores[1..].iter().copied().map(Some).collect();
            }
            None => problems.add(
                "placement.pin",
                format!(
                    "\"auto\" needs {} cores (ingest and {shards} shard(s)), this process may use {}",
                    shards + 1,
                    machine.cores.iter().filter(|core| core.allowed).count()
                ),
            ),
        }
    } else if let Some(cores) = &raw.shards {
        if cores.len() != shards {
            problems.add(
                "placement.shards",
                format!("{} core(s) for {shards} shard(s)", cores.len()),
            );
        }
        placement.shards = cores.iter().copied().map(Some).collect();
    }

    check_cores(&placement, machine, problems);
    placement
}

/// Named cores must exist, and no two busy threads may share one. Control may: it is mostly idle.
fn check_cores(placement: &Placement, machine: &Topology, problems: &mut Problems) {
    let ingest = placement
        .ingest
        .map(|core| ("placement.ingest".to_owned(), core));
    let shards = placement.shards.iter().enumerate();
    let shards =
        shards.filter_map(|(index, core)| Some((format!("placement.shards[{index}]"), (*core)?)));
    let busy: Vec<(String, usize)> = ingest.into_iter().chain(shards).collect();
    let control = placement
        .control
        .map(|core| ("placement.control".to_owned(), core));

    for (key, core) in busy.iter().cloned().chain(control) {
        if machine.core(core).is_none() {
            problems.add(key, format!("core {core} does not exist, or is offline"));
        }
    }
    let mut taken: HashMap<usize, &str> = HashMap::new();
    for (key, core) in &busy {
        match taken.entry(*core) {
            Entry::Vacant(entry) => drop(entry.insert(key)),
            Entry::Occupied(entry) => {
                problems.add(
                    key.as_str(),
                    format!("core {core} is taken by {} already", entry.get()),
                );
            }
        }
    }
}

fn listeners(raw: &Raw, problems: &mut Problems) -> Vec<ListenerPlan> {
    let defaults = [raw::Listener::default()];
    let given = raw.listeners.as_deref().unwrap_or(&defaults);
    if given.is_empty() {
        problems.add("listeners", "there must be at least one");
    }
    let mut plans: Vec<ListenerPlan> = Vec::new();
    for (index, listener) in given.iter().enumerate() {
        let key = format!("listeners[{index}]");
        let name = listener.name();
        check_name(
            &format!("{key}.name"),
            &name,
            plans.iter().map(|plan| plan.name.as_str()),
            problems,
        );
        match listener.address().parse::<SocketAddr>() {
            Ok(address) => {
                if address.port() != 0 && plans.iter().any(|plan| plan.address == address) {
                    problems.add(
                        format!("{key}.address"),
                        format!("{address} is taken by another listener"),
                    );
                }
                plans.push(ListenerPlan { name, address });
            }
            Err(_) => problems.add(
                format!("{key}.address"),
                format!(
                    "`{}` is not an address and port, such as \"127.0.0.1:8080\" or \"[::]:8080\"",
                    listener.address()
                ),
            ),
        }
    }
    plans
}

fn socket(raw: &raw::Socket, problems: &mut Problems) -> SocketPlan {
    // Below 1 KiB not even one update fits; above 16 MiB the kernel would hold what should be conflated.
    let range = Size::kib(1)..=Size::mib(16);
    problems.check_range("socket.notsent_lowat", raw.notsent_lowat(), range.clone());
    if let Some(send_buffer) = raw.send_buffer {
        problems.check_range("socket.send_buffer", send_buffer, range);
    }
    problems.check_range("socket.backlog", raw.backlog(), 1..=65_535);
    problems.check_range(
        "socket.write_timeout",
        raw.write_timeout(),
        Time::secs(1)..=HOUR,
    );
    // Out of range was reported above, so what is cut here is never used.
    let bytes = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
    SocketPlan {
        notsent_lowat: bytes(raw.notsent_lowat()),
        send_buffer: raw.send_buffer.map(bytes),
        backlog: raw.backlog(),
        write_timeout: raw.write_timeout().0,
    }
}

fn rings(raw: &raw::Rings, problems: &mut Problems) -> RingsPlan {
    // The lower bound leaves room for one large record, the upper one is a typing error on today's machines.
    problems.check_range(
        "rings.data_ring",
        raw.data_ring(),
        Size::kib(64)..=Size::mib(1024),
    );
    problems.check_range(
        "rings.control_ring_len",
        raw.control_ring_len(),
        16..=1 << 20,
    );
    RingsPlan {
        data_ring_bytes: raw.data_ring().bytes(),
        control_ring_len: raw.control_ring_len(),
    }
}

fn origins(raw: &raw::Origins, problems: &mut Problems) -> Origins {
    problems.check_range(
        "origins.max_age",
        raw.max_age(),
        Time::secs(0)..=Time::secs(24 * 3600), // the most that any browser keeps to
    );
    let headers = raw.headers();
    for (index, name) in headers.iter().enumerate() {
        if !is_token(name) {
            problems.add(
                format!("origins.headers[{index}]"),
                format!("`{name}` is not the name of a header"),
            );
        }
    }
    Origins {
        policy: origin_policy(raw, problems),
        credentials: raw.credentials(),
        max_age: raw.max_age().0,
        headers,
    }
}

fn origin_policy(raw: &raw::Origins, problems: &mut Problems) -> OriginPolicy {
    let allow = raw.allow();
    if allow == ["*"] {
        return OriginPolicy::Any;
    }
    for (index, origin) in allow.iter().enumerate() {
        let key = format!("origins.allow[{index}]");
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        if origin == "*" {
            problems.add(key, "\"*\" allows everything and must stand alone");
        } else if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' '])) {
            problems.add(
                key,
                format!(
                    "`{origin}` is not an origin, such as \"https://www.example.com\" (no path)"
                ),
            );
        }
    }
    OriginPolicy::Listed(
        allow
            .iter()
            .map(|origin| origin.to_ascii_lowercase())
            .collect(),
    )
}

/// They are written as they are, so one that is broken, or contradicts the server's own, would break every response.
fn added_headers(raw: &raw::Http, problems: &mut Problems) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (index, line) in raw.add().iter().enumerate() {
        let key = format!("http.add[{index}]");
        let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_token(name)) else {
            problems.add(
                key,
                format!("`{line}` is not a header, such as \"X-Frame-Options: DENY\""),
            );
            continue;
        };
        let value = value.trim();
        let own = |own: &&str| match own.strip_suffix('*') {
            Some(start) => name.to_ascii_lowercase().starts_with(start),
            None => name.eq_ignore_ascii_case(own),
        };
        if OWN_HEADERS.iter().any(own) {
            problems.add(key, format!("`{name}` is the server's own"));
        } else if value.chars().any(char::is_control) {
            problems.add(key, "contains a control character");
        } else if line.len() > HEADER_BYTES_MAX {
            problems.add(key, format!("is longer than {HEADER_BYTES_MAX} bytes"));
        } else {
            headers.push((name.into(), value.into()));
        }
    }
    if headers.len() > HEADERS_ADDED_MAX {
        problems.add("http.add", format!("more than {HEADERS_ADDED_MAX} headers"));
    }
    headers
}

/// What a header may be called (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Names go into protocol lines, log lines and the ports file: they must be there, printable, short and different.
pub(super) fn check_name<'a>(
    key: &str,
    name: &str,
    mut others: impl Iterator<Item = &'a str>,
    problems: &mut Problems,
) {
    if name.is_empty() {
        problems.add(key, "must not be empty");
    } else if name.len() > NAME_BYTES_MAX {
        problems.add(key, format!("is longer than {NAME_BYTES_MAX} bytes"));
    } else if name.chars().any(char::is_control) {
        problems.add(key, "contains a control character");
    } else if others.any(|other| other == name) {
        problems.add(key, format!("`{name}` is taken already"));
    }
}

/// More than one ingest core can feed. A guess.
const SHARDS_MAX: usize = 256;
/// Far above what one core serves; catches typing errors. A guess.
const PER_SHARD_MAX: usize = 10_000_000;
/// A guess.
const NAME_BYTES_MAX: usize = 200;
/// Headers that responses have already, or that say how they are framed; `*` stands for any end.
const OWN_HEADERS: [&str; 18] = [
    "access-control-*",
    "allow",
    "cache-control",
    "connection",
    "content-*",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "pragma",
    "referrer-policy",
    "sec-websocket-*",
    "server",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "x-content-type-options",
];
/// A guess, as the next: every response carries them.
const HEADER_BYTES_MAX: usize = 1_000;
const HEADERS_ADDED_MAX: usize = 20;
/// No timer of a connection is useful beyond it. A guess.
pub(super) const HOUR: Time = Time::secs(3600);
