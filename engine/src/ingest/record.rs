//! The layout of what travels on the data ring, from ingest to a shard.
//!
//! A record is a head of 32 bytes and a payload; all numbers are little endian. It is addressed to the reader's own
//! tables: `local` is the shard's index of the item and `epoch` the tenant of that index, so the shard needs no look-up,
//! and what was meant for an earlier tenant is recognised.
//!
//! ```text
//!  0 len: u32      whole record, head included
//!  4 kind: u8      see Kind
//!  5 flags: u8     1: the event is trade-safe
//!  6 count: u16    entries of the payload
//!  8 local: u32
//! 12 epoch: u32
//! 16 seq: u64      the event's place in the item's history
//! 24 stamp: u64    when ingest took the event, ns since the driver's origin
//! 32 payload       Fields: count × (len: u16, differences: u8 or NONE_SAID, name)      Lost, RawLost: lost: u32, of it trade-safe: u32
//!                  others: count × (field: u16, len: u32 or NULL, value)
//! ```

use crate::time::Instant;
use crate::tlcp::diff::Order;

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 32;
const NULL: u32 = u32::MAX;
const SAFE: u8 = 1;
const NONE_SAID: u8 = u8::MAX;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names of the item's next fields, in the order of their numbers.
    Fields,
    /// MERGE: the whole state, as a snapshot: for those who asked for one.
    Snapshot,
    /// MERGE: the whole state, as an event: what is left of updates for which the ring had no room.
    State,
    /// MERGE: the fields that an event changed.
    Update,
    /// DISTINCT: an event. COMMAND: what changes for a key; a key that is deleted comes with its command only.
    Event,
    /// The same, as a part of the snapshot: it is for the shard's copy and no event.
    SnapshotEvent,
    /// DISTINCT and COMMAND: the shard's copy is complete.
    EndOfSnapshot,
    /// DISTINCT and COMMAND: all that was before is void.
    Clear,
    /// So many events are missing here, for those to whom nothing may be merged.
    Lost,
    /// An event as the adapter sent it, for those who look at the item in RAW mode.
    Raw,
    /// So many events are missing here, for the same.
    RawLost,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Fields,
        Self::Snapshot,
        Self::State,
        Self::Update,
        Self::Event,
        Self::SnapshotEvent,
        Self::EndOfSnapshot,
        Self::Clear,
        Self::Lost,
        Self::Raw,
        Self::RawLost,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        let kind = *Self::ALL.get(usize::from(byte))?;
        debug_assert_eq!(kind as u8, byte);
        Some(kind)
    }
}

/// How many events are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// All of them, for those to whom nothing may be merged.
    pub events: u32,
    /// Of them, those that may not be merged for anybody.
    pub safe: u32,
}

impl Lost {
    /// These and others.
    #[must_use]
    pub fn and(self, other: Lost) -> Lost {
        Lost {
            events: self.events.saturating_add(other.events),
            safe: self.safe.saturating_add(other.safe),
        }
    }
}

/// Writes one record into a scratch buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    count: u16,
}

impl<'a> Writer<'a> {
    /// Starts a record in `out`, which is cleared. It is addressed later, see [`address`].
    pub fn start(out: &'a mut Vec<u8>, kind: Kind, seq: u64, stamp: Instant) -> Self {
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[kind as u8, 0, 0, 0]);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&stamp.as_nanos().to_le_bytes());
        Self { out, count: 0 }
    }

    /// Appends the name of the next field ([`Kind::Fields`]), with what the data adapter says of differences.
    pub fn name(&mut self, name: &str, differences: Option<Order>) {
        let len = u16::try_from(name.len()).expect("names are bounded");
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.push(differences.map_or(NONE_SAID, Order::to_byte));
        self.out.extend_from_slice(name.as_bytes());
        self.count += 1;
    }

    /// Appends a field's value. Fields must come in ascending order.
    #[inline]
    pub fn value(&mut self, field: u16, value: Option<&[u8]>) {
        self.out.extend_from_slice(&field.to_le_bytes());
        let len = value.map_or(NULL, |value| {
            u32::try_from(value.len()).expect("values are bounded")
        });
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
    }

    /// Appends the numbers of a [`Kind::Lost`] or [`Kind::RawLost`].
    pub fn lost(&mut self, lost: Lost) {
        self.out.extend_from_slice(&lost.events.to_le_bytes());
        self.out.extend_from_slice(&lost.safe.to_le_bytes());
    }

    /// Fills in the head.
    pub fn finish(self) {
        let len = u32::try_from(self.out.len()).expect("records are bounded");
        self.out[0..4].copy_from_slice(&len.to_le_bytes());
        self.out[6..8].copy_from_slice(&self.count.to_le_bytes());
    }
}

/// Addresses a finished record to one reader: the same bytes go to every shard but for these eight.
pub fn address(record: &mut [u8], local: u32, epoch: u32) {
    record[8..12].copy_from_slice(&local.to_le_bytes());
    record[12..16].copy_from_slice(&epoch.to_le_bytes());
}

/// Makes a finished record that of a trade-safe event.
pub fn mark_safe(record: &mut [u8]) {
    record[5] |= SAFE;
}

/// Makes a finished record one of another kind.
pub fn set_kind(record: &mut [u8], kind: Kind) {
    record[4] = kind as u8;
}

/// One record, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it says.
    pub kind: Kind,
    /// The reader's index of the item.
    pub local: u32,
    /// Which tenant of that index is meant.
    pub epoch: u32,
    /// The event's place in the item's history.
    pub seq: u64,
    /// When ingest took the event.
    pub stamp: Instant,
    /// The event may neither be merged into another nor dropped without a word.
    pub safe: bool,
    count: u16,
    payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The names of a [`Kind::Fields`] record, each with what the data adapter says of differences.
    pub fn names(&self) -> impl Iterator<Item = (&'a str, Option<Order>)> {
        let mut rest = self.payload;
        (0..self.count).map_while(move |_| {
            let &[low, high, said] = take(&mut rest, 3)?.first_chunk()?;
            let differences = (said != NONE_SAID).then(|| Order::from_byte(said));
            let name = take(&mut rest, usize::from(u16::from_le_bytes([low, high])))?;
            Some((std::str::from_utf8(name).ok()?, differences))
        })
    }

    /// The numbers of a [`Kind::Lost`] or [`Kind::RawLost`].
    pub fn lost(&self) -> Lost {
        let mut rest = self.payload;
        let mut number = || {
            let bytes = take(&mut rest, 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        Lost {
            events: number(),
            safe: number(),
        }
    }

    /// Number and value of each field of the other kinds, ascending.
    #[inline]
    pub fn values(&self) -> impl Iterator<Item = (usize, Option<&'a [u8]>)> {
        let mut rest = self.payload;
        (0..self.count).map_while(move |_| {
            let head = take(&mut rest, 6)?;
            let field = u16::from_le_bytes([head[0], head[1]]);
            let len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
            let value = if len == NULL {
                None
            } else {
                Some(take(&mut rest, len as usize)?)
            };
            Some((usize::from(field), value))
        })
    }
}

/// Walks whole records; see [`split`] for where they may be cut.
pub fn read(mut records: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let len = whole(records)?;
        let record = take(&mut records, len)?;
        let word =
            |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let long =
            |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
        Some(Record {
            kind: Kind::from_byte(record[4])?,
            count: u16::from_le_bytes([record[6], record[7]]),
            local: word(8),
            epoch: word(12),
            seq: long(16),
            stamp: Instant::from_nanos(long(24)),
            safe: record[5] & SAFE != 0,
            payload: &record[HEAD_BYTES..],
        })
    })
}

/// How many bytes at the start of `bytes` are whole records. The rest is the beginning of one more: a ring's
/// memory ends somewhere, and a record may go on at its other end.
pub fn split(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(len) = whole(&bytes[at..]) {
        at += len;
    }
    at
}

/// The length of the record that `bytes` begins with, as far as its first four bytes tell.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    debug_assert!(len >= HEAD_BYTES);
    Some(len)
}

fn whole(bytes: &[u8]) -> Option<usize> {
    length(bytes).filter(|len| (HEAD_BYTES..=bytes.len()).contains(len))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::start(&mut out, Kind::Update, 9, Instant::from_nanos(5));
        writer.value(1, Some(b"x"));
        writer.value(4, None);
        writer.value(7, Some(b""));
        writer.finish();
        address(&mut out, 3, 2);
        out
    }

    #[test]
    fn reads_what_was_written() {
        let bytes = update();
        let record = read(&bytes).next().unwrap();
        assert_eq!(
            (record.kind, record.local, record.epoch, record.seq),
            (Kind::Update, 3, 2, 9)
        );
        assert_eq!(record.stamp, Instant::from_nanos(5));
        let values: Vec<_> = record.values().collect();
        assert_eq!(
            values,
            [(1, Some(&b"x"[..])), (4, None), (7, Some(&b""[..]))]
        );
    }

    #[test]
    fn names_travel_too() {
        let mut out = Vec::new();
        let mut writer = Writer::start(&mut out, Kind::Fields, 0, Instant::ZERO);
        writer.name("bid", None);
        writer.name("größe", Some(Order::from_letters("TP")));
        writer.name("doc", Some(Order::NONE));
        writer.finish();
        let names: Vec<_> = read(&out).next().unwrap().names().collect();
        let expected = [
            ("bid", None),
            ("größe", Some(Order::from_letters("TP"))),
            ("doc", Some(Order::NONE)),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_cut_record_is_left_for_later() {
        let one = update();
        let two = [one.clone(), one.clone()].concat();
        for cut in 0..two.len() {
            let whole = split(&two[..cut]);
            assert_eq!(whole, cut / one.len() * one.len());
            assert_eq!(read(&two[..cut]).count(), cut / one.len());
        }
    }
}
