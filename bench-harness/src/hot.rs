//! The hot path in pieces, from a feed's bytes to the lines of a thousand clients: what the criterion benches time and
//! [`icount`](crate::icount) counts.
//!
//! Every piece is deterministic: one seed, no clock, and nothing in what is measured looks anything up by hash. What it
//! works on is made beforehand. A quote has ten fields, of which an event changes four.

mod stage;

use std::hint::black_box;

use brightwire::adapter::line_format;
use brightwire::adapter::remote::probe::RemoteProbe;
use engine::ari::{self, Encoding};
use engine::item::merge::MergeState;
use engine::item::row::{Row, RowBuilder};
use engine::limits::Limits;
use engine::shard::tail_probe::TailProbe;
use engine::time::Duration;
use stage::{Stage, Wire};

/// A piece of the hot path.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its name in files, tables and on the command line.
    pub name: &'static str,
    /// What one operation is.
    pub operation: &'static str,
    /// Operations that are enough to count: setting up costs more than counting.
    pub operations: u64,
    /// Makes what it works on. What is returned does so many operations.
    pub prepare: fn() -> Run,
}

/// Does so many operations.
pub type Run = Box<dyn FnMut(u64)>;

/// All pieces, in the order of the data path.
pub const PIECES: [Piece; 12] = [
    Piece {
        name: "decode-ari",
        operation: "a UD3 line of a remote adapter is read: ten fields",
        operations: 2_000,
        prepare: decode_ari,
    },
    Piece {
        name: "remote-read",
        operation: "a line of a remote adapter, five fields of eight bytes, goes through its proxy and the feed's ring",
        operations: 2_560,
        prepare: remote_read,
    },
    Piece {
        name: "remote",
        operation: "the same, and from there it is merged, encoded as a record and copied to a shard",
        operations: 2_560,
        prepare: remote,
    },
    Piece {
        name: "decode-line",
        operation: "a line of the line feed is read: ten fields",
        operations: 2_000,
        prepare: decode_line,
    },
    Piece {
        name: "merge",
        operation: "an event is merged into its item's state",
        operations: 2_000,
        prepare: merge,
    },
    Piece {
        name: "ingest",
        operation: "an event is merged, encoded as a record, and copied to two shards",
        operations: 2_000,
        prepare: ingest,
    },
    Piece {
        name: "row",
        operation: "a row is made of ten values",
        operations: 2_000,
        prepare: row,
    },
    Piece {
        name: "record",
        operation: "a shard takes a record: row, and one client is owed something",
        operations: 2_000,
        prepare: record,
    },
    Piece {
        name: "tail-miss",
        operation: "a tail is encoded: ten fields, four of them changed",
        operations: 2_000,
        prepare: tail_miss,
    },
    Piece {
        name: "tail-hit",
        operation: "a tail is found",
        operations: 2_000,
        prepare: tail_hit,
    },
    Piece {
        name: "pump-1000",
        operation: "an event goes out to one of 1,000 sessions in step",
        operations: 20_000,
        prepare: pump_1000,
    },
    Piece {
        name: "pump-50x20",
        operation: "an update goes out to one of 50 sessions, 20 items in one message",
        operations: 20_000,
        prepare: pump_50x20,
    },
];

/// The piece of this name.
pub fn find(name: &str) -> Option<&'static Piece> {
    PIECES.iter().find(|piece| piece.name == name)
}

/// Different events that are prepared: enough that no predictor learns them, few enough to stay in a cache.
const EVENTS: usize = 64;
const SEED: u64 = 4;
const FIELDS: [&str; 10] = [
    "last_price",
    "time",
    "pct_change",
    "bid_quantity",
    "bid",
    "ask",
    "ask_quantity",
    "min",
    "max",
    "timestamp",
];
/// Those that an event changes.
const CHANGED: [usize; 4] = [0, 4, 5, 9];

/// The ten values of a quote, one after the other in time. Those that events do not change stay as they are.
fn quotes() -> Vec<[String; 10]> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut quote: [String; 10] = std::array::from_fn(|field| format!("{}.{:02}", 100 + field, 7));
    (0..EVENTS)
        .map(|number| {
            let cents = 10_000 + random.u32(..1_000);
            let price = |cents: u32| format!("{}.{:02}", cents / 100, cents % 100);
            // Unlike the one before in every field that changes.
            let step = number as u32 % 2;
            quote[CHANGED[0]] = price(cents * 2 + step);
            quote[CHANGED[1]] = price(cents * 2 + step + 10);
            quote[CHANGED[2]] = price(cents * 2 + step + 20);
            quote[CHANGED[3]] = (1_700_000_000_000_000_000 + number as u64).to_string();
            quote.clone()
        })
        .collect()
}

fn decode_ari() -> Run {
    let lines: Vec<String> = quotes()
        .iter()
        .map(|quote| {
            let mut line = Vec::new();
            let fields = FIELDS.iter().zip(quote);
            let fields = fields.map(|(name, value)| (*name, Some(value.as_str())));
            ari::remote::update(
                &mut line,
                "1",
                "item1",
                "1a",
                false,
                fields,
                Encoding::Smart,
            );
            let line = String::from_utf8(line).expect("lines are text");
            line.trim_end().to_owned()
        })
        .collect();
    cycle(move |index| {
        let line = ari::read_line(black_box(&lines[index]));
        let Ok(ari::Line::Message { method, tokens, .. }) = line else {
            unreachable!("an update is a message");
        };
        let said = ari::data::read(method, tokens, Encoding::Smart);
        black_box(said.is_ok_and(|said| said.is_some()));
    })
}

/// Items of the remote adapter; each turn has an event of every one.
const REMOTE_ITEMS: usize = 64;

/// A remote data adapter's proxy, and turns of its lines. Five of ten fields are in every line, each unlike the one
/// before.
fn remote_lines(stage: &mut Stage) -> (RemoteProbe, Vec<Vec<u8>>) {
    let names: Vec<String> = (0..REMOTE_ITEMS)
        .map(|item| format!("item{item}"))
        .collect();
    stage.session(0, 0, &names.join("%20"));
    stage.answer_all();
    let mut probe = RemoteProbe::new(1 << 20);
    let ids: Vec<String> = names
        .iter()
        .zip(&stage.wanted)
        .map(|(name, item)| probe.subscribe(*item, name))
        .collect();
    let turn = |number: usize| {
        let mut lines = Vec::new();
        for (name, id) in names.iter().zip(&ids) {
            let values: [String; 5] =
                std::array::from_fn(|field| format!("{:08}", 10_000_000 + number * 7 + field));
            let fields = FIELDS.iter().zip(&values);
            let fields = fields.map(|(name, value)| (*name, Some(value.as_str())));
            let (time, encoding) = ("1795458747514", Encoding::Smart);
            ari::remote::update(&mut lines, time, name, id, number == 0, fields, encoding);
        }
        lines
    };
    let turns = (0..EVENTS).map(turn).collect();
    (probe, turns)
}

/// Takes `operations` events in turns, beginning with the second: the first is the snapshot.
fn remote_turns(mut take: impl FnMut(usize) + 'static) -> Run {
    take(0);
    let mut turn = 1;
    Box::new(move |operations| {
        for _ in 0..operations.div_ceil(REMOTE_ITEMS as u64) {
            take(turn);
            turn = turn % (EVENTS - 1) + 1;
        }
    })
}

fn remote_read() -> Run {
    let (mut probe, turns) = remote_lines(&mut Stage::new(1));
    remote_turns(move |turn| {
        probe.take(black_box(&turns[turn]));
        assert_eq!(probe.skip(), REMOTE_ITEMS);
    })
}

fn remote() -> Run {
    let mut stage = Stage::new(1);
    let (mut probe, turns) = remote_lines(&mut stage);
    remote_turns(move |turn| {
        probe.take(black_box(&turns[turn]));
        let Stage {
            ingest, rings, now, ..
        } = &mut stage;
        let events = probe.drain(|event| ingest.on_adapter(event, *now, rings));
        assert_eq!(events, REMOTE_ITEMS);
        black_box(stage.rings.written());
        stage.rings.clear();
    })
}

fn decode_line() -> Run {
    let lines: Vec<String> = quotes()
        .iter()
        .map(|quote| {
            let fields = FIELDS.iter().zip(quote);
            let fields = fields.map(|(name, value)| format!("\t{name}={value}"));
            format!("item1{}", fields.collect::<String>())
        })
        .collect();
    cycle(move |index| {
        black_box(line_format::read(black_box(lines[index].as_bytes())).is_ok());
    })
}

/// The fields that an event names.
fn changes(quote: &[String; 10]) -> [(&str, Option<&str>); 4] {
    CHANGED.map(|field| (FIELDS[field], Some(quote[field].as_str())))
}

fn all_fields(quote: &[String; 10]) -> [(&str, Option<&str>); 10] {
    std::array::from_fn(|field| (FIELDS[field], Some(quote[field].as_str())))
}

fn merge() -> Run {
    let quotes = quotes();
    let limits = Limits::DEFAULT;
    let mut state = MergeState::default();
    let bounds = (limits.fields_per_item_max, limits.item_bytes_max);
    let first = state.merge(&all_fields(&quotes[EVENTS - 1]), bounds.0, bounds.1);
    first.expect("ten fields are not too many");
    cycle(move |index| {
        let merged = state.merge(black_box(&changes(&quotes[index])), bounds.0, bounds.1);
        black_box(merged.is_ok() && state.changed().len() == CHANGED.len());
    })
}

fn ingest() -> Run {
    let quotes = quotes();
    let mut stage = Stage::new(2);
    for shard in 0..2 {
        stage.session(shard, shard, "item1");
    }
    stage.answer_all();
    let item = stage.wanted[0];
    stage.publish(item, &all_fields(&quotes[EVENTS - 1]), true);
    stage.rings.clear();
    cycle(move |index| {
        stage.publish(item, black_box(&changes(&quotes[index])), false);
        black_box(stage.rings.written());
        stage.rings.clear();
    })
}

fn rows() -> Vec<Row> {
    let mut builder = RowBuilder::default();
    let rows = quotes().into_iter().enumerate();
    rows.map(|(number, quote)| make_row(&mut builder, number as u64, &quote))
        .collect()
}

fn make_row(builder: &mut RowBuilder, seq: u64, quote: &[String; 10]) -> Row {
    builder.start(seq, quote.len());
    for value in quote {
        builder.push(Some(value.as_bytes()));
    }
    builder.finish()
}

fn row() -> Run {
    let quotes = quotes();
    let mut builder = RowBuilder::default();
    cycle(move |index| {
        black_box(make_row(
            &mut builder,
            index as u64,
            black_box(&quotes[index]),
        ));
    })
}

fn record() -> Run {
    let mut stage = Stage::new(1);
    stage.session(0, 0, "item1");
    let turns = stage.turns();
    let mut shard = stage.shards.remove(0);
    let mut now = stage.now;
    cycle(move |index| {
        now += Duration::from_millis(1);
        shard.on_records(black_box(&turns[index]), now);
    })
}

fn tail_miss() -> Run {
    let mut probe = TailProbe::new(rows());
    cycle(move |index| {
        // By the time that a position comes back, the cache has seen all others.
        let (tail, hit) = probe.tail(index, (index + 1) % EVENTS);
        debug_assert!(!hit);
        black_box(tail.len());
    })
}

fn tail_hit() -> Run {
    let mut probe = TailProbe::new(rows());
    probe.tail(0, 1);
    Box::new(move |operations| {
        for _ in 0..operations {
            let (tail, hit) = probe.tail(black_box(0), black_box(1));
            debug_assert!(hit);
            black_box(tail.len());
        }
    })
}

fn pump_1000() -> Run {
    pump(1_000, 1)
}

fn pump_50x20() -> Run {
    pump(50, 20)
}

/// Sessions that look at the same items. A turn brings an event of each item; an operation is an update of a client.
fn pump(sessions: usize, items: usize) -> Run {
    let mut stage = Stage::new(1);
    let names: Vec<String> = (1..=items).map(|item| format!("item{item}")).collect();
    for number in 0..sessions {
        stage.session(0, number, &names.join("%20"));
    }
    let turns = stage.turns();
    let mut shard = stage.shards.remove(0);
    let mut now = stage.now;
    let mut wire = Wire::default();
    let mut turn = 0;
    Box::new(move |operations| {
        let end = wire.lines + operations;
        while wire.lines < end {
            now += Duration::from_millis(1);
            shard.on_records(black_box(&turns[turn % EVENTS]), now);
            shard.pump(now, &mut wire);
            turn += 1;
        }
    })
}

/// One operation for each number, round and round.
fn cycle(mut operation: impl FnMut(usize) + 'static) -> Run {
    let mut index = 0;
    Box::new(move |operations| {
        for _ in 0..operations {
            operation(index);
            index = (index + 1) % EVENTS;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_found() {
        let names: std::collections::BTreeSet<_> = PIECES.iter().map(|piece| piece.name).collect();
        assert_eq!(names.len(), PIECES.len());
        assert!(find("merge").is_some_and(|piece| piece.name == "merge"));
        assert!(find("nothing").is_none());
    }

    #[test]
    fn every_piece_runs() {
        for piece in &PIECES {
            (piece.prepare)()(100);
        }
    }

    #[test]
    fn quotes_change_in_four_fields() {
        for pair in quotes().windows(2) {
            let different = (0..FIELDS.len()).filter(|&field| pair[0][field] != pair[1][field]);
            assert_eq!(different.collect::<Vec<_>>(), CHANGED);
        }
    }

    /// A turn reaches everybody: what is counted per update is an update.
    #[test]
    fn every_client_is_sent_every_update() {
        let mut stage = Stage::new(1);
        for number in 0..3 {
            stage.session(0, number, "item1%20item2");
        }
        let turns = stage.turns();
        let mut wire = Wire::default();
        for (number, turn) in turns.iter().enumerate() {
            stage.shards[0].on_records(turn, stage.now);
            stage.shards[0].pump(stage.now, &mut wire);
            assert_eq!(wire.lines, (number as u64 + 1) * 6);
        }
    }

    #[test]
    fn tails_miss_and_hit_as_they_should() {
        let mut probe = TailProbe::new(rows());
        for index in 0..2 * EVENTS {
            let (_, hit) = probe.tail(index % EVENTS, (index + 1) % EVENTS);
            assert!(!hit);
        }
        let (tail, hit) = probe.tail(0, 1);
        assert!(!hit && tail.ends_with(b"\r\n"));
        assert!(probe.tail(0, 1).1);
    }
}
