//! From what was written to what will be done: defaults applied, relations checked, cores chosen.
//!
//! Every function adds what it finds wrong to [`Problems`] and goes on with some value, so that one run reports all
//! mistakes of a file. The plan is handed out only if there are none.

mod sessions;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;
use std::path::Path;

use engine::shard::Diffs;
use engine::tlcp::diff::{Format, Order, Sizes};

use super::listeners;
use super::plan::*;
use super::raw::{self, Raw};
use super::value::{Size, Time};
use crate::runtime::topology::Topology;

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
        listeners: listeners::listeners(raw, &mut problems),
        socket: socket(&raw.socket, &mut problems),
        rings: rings(&raw.rings, &mut problems),
        instance: raw.server.instance(),
        sessions: sessions::resolve(&raw.sessions, &mut problems),
        origins: listeners::origins(raw, &mut problems),
        added_headers: listeners::added_headers("http.add", &raw.http.add(), &mut problems),
        http: listeners::http(&raw.http, &mut problems),
        pages: listeners::pages(&raw.pages, directory, &mut problems),
        diffs: diffs(&raw.diffs, &mut problems),
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

fn diffs(raw: &raw::Diffs, problems: &mut Problems) -> Diffs {
    // An item, hence a value, has no more than 256 KiB.
    problems.check_range("diffs.max", raw.max(), Size(0)..=Size::kib(256));
    let format = |format| match format {
        DiffFormat::JsonPatch => Format::JsonPatch,
        DiffFormat::Text => Format::Text,
    };
    Diffs {
        order: Order::new(raw.order().into_iter().map(format)),
        sizes: Sizes {
            json_patch_bytes_min: raw.json_patch_min().bytes(),
            text_bytes_min: raw.text_min().bytes(),
            bytes_max: raw.max().bytes(),
        },
    }
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
/// No timer of a connection is useful beyond it. A guess.
pub(super) const HOUR: Time = Time::secs(3600);
