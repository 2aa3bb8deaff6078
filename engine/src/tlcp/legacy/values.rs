//! The values of an update in the text protocol: each behind a `|`, in the order of the schema, covering it exactly.
//!
//! | token | meaning |
//! |---|---|
//! | empty | unchanged since the last update of the same item in the same table |
//! | `#` | null |
//! | `$` | the empty string |
//! | other | the value, with `\uXXXX` for what is not printable ASCII and for `\|` and the backslash |
//!
//! A value that begins with `#` or `$` has one more of it in front, which readers strip. Characters beyond 16 bits are
//! two escapes, one for each half of their surrogate pair, so every line is plain ASCII. What a reader does with a run
//! of unchanged fields is the same as in TLCP, except that there is no mark for one: each is an empty token.

use crate::text::push_integer;

/// Appends the beginning of an update's line, up to where the values begin.
#[inline]
pub fn update_prefix(out: &mut Vec<u8>, table: u32, item: u32) {
    push_integer(out, table);
    out.push(b',');
    push_integer(out, item);
}

/// Appends `fields` values, all of them.
pub fn encode_full<'v>(
    out: &mut Vec<u8>,
    fields: usize,
    value: impl Fn(usize) -> Option<&'v [u8]>,
) {
    for field in 0..fields {
        out.push(b'|');
        push_value(out, value(field));
    }
}

/// Appends `fields` values, leaving out those in `current` that are the same in `previous`.
pub fn encode_delta<'c, 'p>(
    out: &mut Vec<u8>,
    fields: usize,
    current: impl Fn(usize) -> Option<&'c [u8]>,
    previous: impl Fn(usize) -> Option<&'p [u8]>,
) {
    for field in 0..fields {
        out.push(b'|');
        let value = current(field);
        if value != previous(field) {
            push_value(out, value);
        }
    }
}

/// Appends the token of one value. Values are known to be UTF-8; what were not would be replaced, not passed on.
pub fn push_value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.push(b'#'),
        Some([]) => out.push(b'$'),
        Some(value) => {
            if let Some(marker @ (b'#' | b'$')) = value.first() {
                out.push(*marker);
            }
            push_text(out, value);
        }
    }
}

/// Appends text with everything escaped that is not plain.
fn push_text(out: &mut Vec<u8>, value: &[u8]) {
    if value.iter().all(|&byte| is_plain(byte)) {
        return out.extend_from_slice(value);
    }
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match u8::try_from(character) {
                Ok(byte) if is_plain(byte) => out.push(byte),
                _ => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        push_unit(out, *unit);
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            push_unit(out, char::REPLACEMENT_CHARACTER as u16);
        }
    }
}

/// Printable ASCII but for the separator and the escape itself.
fn is_plain(byte: u8) -> bool {
    (0x20..0x7F).contains(&byte) && byte != b'|' && byte != b'\\'
}

/// Appends `\uXXXX`.
fn push_unit(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[usize::from(unit >> shift & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row<'a> = &'a [Option<&'a str>];

    fn full(row: Row<'_>) -> String {
        let mut out = Vec::new();
        encode_full(&mut out, row.len(), |field| row[field].map(str::as_bytes));
        String::from_utf8(out).unwrap()
    }

    /// A token as clients of the time read it: markers, one stripped marker, escapes of UTF-16 units.
    fn decode(token: &str) -> Option<String> {
        let text = match token {
            "$" => return Some(String::new()),
            "#" => return None,
            _ => token.strip_prefix(['#', '$']).unwrap_or(token),
        };
        let mut units = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            assert!(first.is_ascii());
            if let Some(escape) = rest.strip_prefix("\\u") {
                units.push(u16::from_str_radix(&escape[..4], 16).unwrap());
                rest = &escape[4..];
            } else {
                units.push(first as u16);
                rest = &rest[1..];
            }
        }
        Some(String::from_utf16(&units).unwrap())
    }

    #[test]
    fn null_and_the_empty_string_have_markers() {
        assert_eq!(full(&[Some("a"), None, Some("")]), "|a|#|$");
    }

    #[test]
    fn a_marker_in_front_of_a_value_is_doubled() {
        assert_eq!(full(&[Some("#"), Some("$ 5"), Some("a#$")]), "|##|$$ 5|a#$");
    }

    #[test]
    fn what_is_not_plain_ascii_is_escaped_in_units_of_16_bits() {
        assert_eq!(
            full(&[Some("A|B\\"), Some("\r\n\t"), Some("é€😀"), Some("100%^2,")]),
            "|A\\u007cB\\u005c|\\u000d\\u000a\\u0009|\\u00e9\\u20ac\\ud83d\\ude00|100%^2,"
        );
    }

    #[test]
    fn what_is_not_text_is_replaced() {
        let mut out = Vec::new();
        push_value(&mut out, Some(b"a\xFFb"));
        assert_eq!(out, b"a\\ufffdb");
    }

    #[test]
    fn unchanged_fields_are_empty_tokens() {
        let (current, previous) = (["1", "2", "3"], ["1", "x", "3"]);
        let mut out = Vec::new();
        update_prefix(&mut out, 4, 7);
        encode_delta(
            &mut out,
            3,
            |field| Some(current[field].as_bytes()),
            |field| Some(previous[field].as_bytes()),
        );
        assert_eq!(out, b"4,7||2|");
    }

    proptest! {
        #[test]
        fn readers_get_back_what_was_written(values in prop::collection::vec(prop::option::of("[#$a|\\\\\r\n€😀]{0,4}"), 1..6)) {
            let row: Vec<_> = values.iter().map(Option::as_deref).collect();
            let encoded = full(&row);
            prop_assert!(encoded.bytes().all(|byte| (0x20..0x7F).contains(&byte)));
            let tokens: Vec<_> = encoded[1..].split('|').map(decode).collect();
            prop_assert_eq!(tokens, values);
        }
    }
}
