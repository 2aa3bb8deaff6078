//! How one event of an in-process adapter lies in the feed's byte ring.
//!
//! ```text
//! header  | bytes u32 | item u32 | kind u8 | 0 u8 | field_count u16 |     12 bytes, little endian
//! table   | name_bytes u32 | value_bytes u32, or NULL |                    8 bytes for each field
//! text    | name value name value ...                                      one run of UTF-8
//! ```
//!
//! `bytes` counts the whole record. The lengths stand apart from the text so that the reader proves the text to be
//! UTF-8 once for the whole record - one long run, which is what the standard library's check is fast at - and
//! then only cuts it. Lengths are `u32` because a value is any text an adapter likes to send, not only a price.

use engine::ids::ItemId;
use engine::ingest::event::AdapterEvent;

/// Field names with their values, as the engine takes them.
pub(super) type Field<'a> = (&'a str, Option<&'a str>);

/// What every record starts with.
pub(super) const HEADER_BYTES: usize = 12;
/// One field's lengths.
const TABLE_ENTRY_BYTES: usize = 8;
/// The length that says "no value"; a real one cannot get there, since a ring is smaller than this.
const NULL: u32 = u32::MAX;

const UPDATE: u8 = 1;
const SNAPSHOT_UPDATE: u8 = 2;
const END_OF_SNAPSHOT: u8 = 3;
const CLEAR_SNAPSHOT: u8 = 4;
const SUBSCRIBED: u8 = 5;
const SUBSCRIBED_WITHOUT_SNAPSHOT: u8 = 6;
const DIFFERENCES: u8 = 7;

/// How many bytes an update with these fields takes, and how many fields there are.
pub(super) fn measure<'f>(fields: impl Iterator<Item = Field<'f>>) -> (usize, usize) {
    let mut bytes = HEADER_BYTES;
    let mut count = 0;
    for (name, value) in fields {
        bytes += TABLE_ENTRY_BYTES + name.len() + value.map_or(0, str::len);
        count += 1;
    }
    (bytes, count)
}

/// Appends an update that [`measure`] found to have `bytes` bytes and `count` fields.
pub(super) fn put_update<'f>(
    out: &mut Vec<u8>,
    item: ItemId,
    snapshot: bool,
    (bytes, count): (usize, usize),
    fields: impl Iterator<Item = Field<'f>> + Clone,
) {
    let kind = if snapshot { SNAPSHOT_UPDATE } else { UPDATE };
    put_fields(out, item, kind, (bytes, count), fields);
}

/// Appends how fields may be sent as differences; the values are letters of formats.
pub(super) fn put_differences<'f>(
    out: &mut Vec<u8>,
    item: ItemId,
    (bytes, count): (usize, usize),
    fields: impl Iterator<Item = Field<'f>> + Clone,
) {
    put_fields(out, item, DIFFERENCES, (bytes, count), fields);
}

fn put_fields<'f>(
    out: &mut Vec<u8>,
    item: ItemId,
    kind: u8,
    (bytes, count): (usize, usize),
    fields: impl Iterator<Item = Field<'f>> + Clone,
) {
    let start = out.len();
    put_header(out, bytes, item, kind, count);
    for (name, value) in fields.clone() {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        let value_bytes = value.map_or(NULL, |value| value.len() as u32);
        out.extend_from_slice(&value_bytes.to_le_bytes());
    }
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
    debug_assert_eq!(out.len() - start, bytes, "measured and written differ");
}

/// Appends an end of snapshot.
pub(super) fn put_end_of_snapshot(out: &mut Vec<u8>, item: ItemId) {
    put_header(out, HEADER_BYTES, item, END_OF_SNAPSHOT, 0);
}

/// Appends a clear of the snapshot.
pub(super) fn put_clear_snapshot(out: &mut Vec<u8>, item: ItemId) {
    put_header(out, HEADER_BYTES, item, CLEAR_SNAPSHOT, 0);
}

/// Appends what the adapter says of a new subscription.
pub(super) fn put_subscribed(out: &mut Vec<u8>, item: ItemId, snapshot_available: bool) {
    let kind = if snapshot_available {
        SUBSCRIBED
    } else {
        SUBSCRIBED_WITHOUT_SNAPSHOT
    };
    put_header(out, HEADER_BYTES, item, kind, 0);
}

/// The length that a record claims, from its first bytes. `None` if they are too few, or the claim is absurd.
pub(super) fn claimed_bytes(record: &[u8]) -> Option<usize> {
    let bytes = u32::from_le_bytes(*record.first_chunk()?) as usize;
    (bytes >= HEADER_BYTES).then_some(bytes)
}

/// Reads one whole record; `fields` is scratch that the event borrows. `None` if the record makes no sense, which
/// only a bug can bring about: the writer is the other half of this file.
pub(super) fn decode<'a, 's>(
    record: &'a [u8],
    fields: &'s mut Vec<Field<'a>>,
) -> Option<AdapterEvent<'s>>
where
    'a: 's,
{
    let (header, body) = record.split_first_chunk::<HEADER_BYTES>()?;
    let item = ItemId(u32::from_le_bytes([
        header[4], header[5], header[6], header[7],
    ]));
    let field_count = usize::from(u16::from_le_bytes([header[10], header[11]]));
    let snapshot = match header[8] {
        UPDATE | DIFFERENCES => false,
        SNAPSHOT_UPDATE => true,
        END_OF_SNAPSHOT => return Some(AdapterEvent::EndOfSnapshot { item }),
        CLEAR_SNAPSHOT => return Some(AdapterEvent::ClearSnapshot { item }),
        kind @ (SUBSCRIBED | SUBSCRIBED_WITHOUT_SNAPSHOT) => {
            return Some(AdapterEvent::Subscribed {
                item,
                snapshot_available: kind == SUBSCRIBED,
            });
        }
        _ => return None,
    };
    let (table, text) = body.split_at_checked(field_count * TABLE_ENTRY_BYTES)?;
    let mut text = std::str::from_utf8(text).ok()?;
    fields.clear();
    for entry in table.as_chunks::<TABLE_ENTRY_BYTES>().0 {
        let [n0, n1, n2, n3, v0, v1, v2, v3] = *entry;
        let value_bytes = u32::from_le_bytes([v0, v1, v2, v3]);
        let (name, rest) = text.split_at_checked(u32::from_le_bytes([n0, n1, n2, n3]) as usize)?;
        text = rest;
        let value = if value_bytes == NULL {
            None
        } else {
            let (value, rest) = text.split_at_checked(value_bytes as usize)?;
            text = rest;
            Some(value)
        };
        fields.push((name, value));
    }
    text.is_empty().then_some(match header[8] {
        DIFFERENCES => AdapterEvent::Differences { item, fields },
        _ => AdapterEvent::Update {
            item,
            snapshot,
            fields,
        },
    })
}

fn put_header(out: &mut Vec<u8>, bytes: usize, item: ItemId, kind: u8, field_count: usize) {
    let mut header = [0; HEADER_BYTES];
    // Both counts fit: the feed refuses records beyond a quarter of its ring and beyond 65,535 fields.
    header[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
    header[4..8].copy_from_slice(&item.0.to_le_bytes());
    header[8] = kind;
    header[10..].copy_from_slice(&(field_count as u16).to_le_bytes());
    out.extend_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(snapshot: bool, fields: &[Field<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        let size = measure(fields.iter().copied());
        put_update(&mut out, ItemId(7), snapshot, size, fields.iter().copied());
        out
    }

    #[test]
    fn null_and_empty_stay_apart() {
        let fields = [("a", None), ("b", Some("")), ("", Some("é|\n"))];
        let bytes = record(true, &fields);
        assert_eq!(
            decode(&bytes, &mut Vec::new()),
            Some(AdapterEvent::Update {
                item: ItemId(7),
                snapshot: true,
                fields: &fields
            })
        );
    }

    #[test]
    fn differences_are_no_update() {
        let fields = [("doc", Some("PT")), ("text", Some(""))];
        let mut bytes = Vec::new();
        let size = measure(fields.into_iter());
        put_differences(&mut bytes, ItemId(7), size, fields.into_iter());
        assert_eq!(
            decode(&bytes, &mut Vec::new()),
            Some(AdapterEvent::Differences {
                item: ItemId(7),
                fields: &fields
            })
        );
    }

    #[test]
    fn a_length_that_cuts_a_character_is_not_decoded() {
        let mut bytes = record(false, &[("n", Some("é"))]);
        // The value is made one byte shorter, the name one longer: the sum is right, the cut is not.
        bytes[HEADER_BYTES] += 1;
        bytes[HEADER_BYTES + 4] -= 1;
        assert_eq!(decode(&bytes, &mut Vec::new()), None);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            snapshot: bool,
            fields in prop::collection::vec((".*", prop::option::of(".*")), 0..20),
        ) {
            let fields: Vec<Field<'_>> = fields.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let bytes = record(snapshot, &fields);
            prop_assert_eq!(claimed_bytes(&bytes), Some(bytes.len()));
            let mut scratch = Vec::new();
            prop_assert_eq!(
                decode(&bytes, &mut scratch),
                Some(AdapterEvent::Update { item: ItemId(7), snapshot, fields: &fields })
            );
        }

        #[test]
        fn damage_is_never_a_panic(
            mut bytes in Just(record(false, &[("last_price", Some("12.34")), ("bid", None), ("é", Some("ü"))])),
            at in 0..60_usize,
            value: u8,
            keep in 0..80_usize,
        ) {
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(keep);
            let _ = claimed_bytes(&bytes);
            let _ = decode(&bytes, &mut Vec::new());
        }
    }
}
