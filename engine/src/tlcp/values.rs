//! The field list of `U`: values between `|`, in the order of the schema, covering it exactly.
//!
//! | token | meaning |
//! |---|---|
//! | empty | unchanged since the last `U` of the same item in the same subscription |
//! | `^k` | the next `k` fields are unchanged |
//! | `#` | null |
//! | `$` | the empty string |
//! | other | the value, percent-encoded |
//!
//! The base that "unchanged" refers to is what was last *sent* for the item, whatever its mode and, in COMMAND,
//! whatever its key; before the first `U` there is none, and all values are written (TLCP, Real-Time Update).
//!
//! This is the innermost loop of the server: no allocation, no formatting machinery, one comparison per field. Values
//! are bytes, known to be UTF-8 by those who took them in; callers lend them by position, so that they can keep them
//! in whatever layout suits them.

use crate::text::{is_control, push_escape, push_escaped, push_integer};

/// From this length on a run of unchanged fields is written as `^k`. `k` empty tokens cost `k` bytes and `^k` costs
/// three (with its separator), so at three it would be a draw; the reference server's samples switch at four.
const RUN_MIN: usize = 4;

/// Appends the list of `fields` values, all of them: the first update of an item, or one without delta delivery.
#[inline]
pub fn encode_full<'v>(
    out: &mut Vec<u8>,
    fields: usize,
    value: impl Fn(usize) -> Option<&'v [u8]>,
) {
    for field in 0..fields {
        if field > 0 {
            out.push(b'|');
        }
        push_value(out, value(field));
    }
}

/// Appends the list of `fields` values, leaving out those in `current` that are the same in `previous`.
#[inline]
pub fn encode_delta<'c, 'p>(
    out: &mut Vec<u8>,
    fields: usize,
    current: impl Fn(usize) -> Option<&'c [u8]>,
    previous: impl Fn(usize) -> Option<&'p [u8]>,
) {
    encode_delta_by(out, fields, current, previous, |out, _, value, _| {
        push_value(out, value);
    });
}

/// The same, where `push` appends the token of a changed field: it is given the field's position, its value and the
/// previous one.
#[inline]
pub fn encode_delta_by<'c, 'p>(
    out: &mut Vec<u8>,
    fields: usize,
    current: impl Fn(usize) -> Option<&'c [u8]>,
    previous: impl Fn(usize) -> Option<&'p [u8]>,
    mut push: impl FnMut(&mut Vec<u8>, usize, Option<&[u8]>, Option<&[u8]>),
) {
    // Each field is decided on sight and looked at once: a run of unchanged fields is counted, and written when
    // something else ends it.
    let mut unchanged = 0;
    for field in 0..fields {
        let (value, before) = (current(field), previous(field));
        if value == before {
            unchanged += 1;
            continue;
        }
        push_run(out, unchanged, field == unchanged);
        if field > 0 {
            out.push(b'|');
        }
        push(out, field, value, before);
        unchanged = 0;
    }
    push_run(out, unchanged, fields == unchanged);
}

/// Appends a run of unchanged fields; `first` if it begins the list, where no separator precedes it.
#[inline]
fn push_run(out: &mut Vec<u8>, unchanged: usize, first: bool) {
    if unchanged >= RUN_MIN {
        if !first {
            out.push(b'|');
        }
        out.push(b'^');
        push_integer(out, unchanged);
    } else {
        // An empty token is nothing but its separator.
        for _ in usize::from(first)..unchanged {
            out.push(b'|');
        }
    }
}

/// Appends the token of one value.
#[inline]
pub fn push_value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.push(b'#'),
        Some([]) => out.push(b'$'),
        // A marker only at the beginning, and some clients take any token that begins so for one.
        Some([marker @ (b'#' | b'$' | b'^'), rest @ ..]) => {
            push_escape(out, *marker);
            push_escaped(out, rest, is_special);
        }
        Some(value) => push_plain(out, value),
    }
}

/// Appends text behind a marker: its first character is none of the token's.
#[inline]
pub fn push_plain(out: &mut Vec<u8>, text: &[u8]) {
    push_escaped(out, text, is_special);
}

/// What no token contains. Commas may stay: the list is the last argument of its line. Without short-circuits, so
/// that blocks of bytes can be tested at once.
#[inline]
fn is_special(byte: u8) -> bool {
    is_control(byte) | (byte == b'%') | (byte == b'|')
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = &'a [Option<&'a str>];

    fn full(row: Row<'_>) -> String {
        let mut out = Vec::new();
        encode_full(&mut out, row.len(), |field| row[field].map(str::as_bytes));
        String::from_utf8(out).unwrap()
    }

    fn delta(current: Row<'_>, previous: Row<'_>) -> String {
        let mut out = Vec::new();
        encode_delta(
            &mut out,
            current.len(),
            |field| current[field].map(str::as_bytes),
            |field| previous[field].map(str::as_bytes),
        );
        String::from_utf8(out).unwrap()
    }

    /// A row of single letters, where `.` marks null.
    fn row(letters: &str) -> Vec<Option<&str>> {
        letters
            .split("")
            .filter(|letter| !letter.is_empty())
            .map(|letter| (letter != ".").then_some(letter))
            .collect()
    }

    #[test]
    fn null_and_the_empty_string_have_markers() {
        assert_eq!(full(&[Some("a"), None, Some(""), Some("b")]), "a|#|$|b");
    }

    #[test]
    fn markers_are_escaped_as_the_first_character_only() {
        assert_eq!(
            full(&[Some("#"), Some("$ 5"), Some("^4"), Some("a#$^")]),
            "%23|%24 5|%5E4|a#$^"
        );
    }

    #[test]
    fn separators_line_ends_and_controls_are_escaped_anywhere() {
        assert_eq!(
            full(&[Some("A|B"), Some("100%"), Some("#|\r\n\t\0\u{7f}")]),
            "A%7CB|100%25|%23%7C%0D%0A%09%00%7F"
        );
    }

    #[test]
    fn commas_blanks_and_other_scripts_are_not_escaped() {
        let text = "a, b é € 😀 e\u{301}";
        assert_eq!(full(&[Some(text)]), text);
    }

    #[test]
    fn an_empty_token_is_an_unchanged_field() {
        assert_eq!(delta(&row("abc"), &row("abx")), "||c");
        assert_eq!(delta(&row("abc"), &row("xbc")), "a||");
        assert_eq!(delta(&row("abc"), &row("xby")), "a||c");
    }

    #[test]
    fn null_is_unchanged_only_after_null() {
        assert_eq!(
            delta(&[None, None, Some("")], &[None, Some(""), None]),
            "|#|$"
        );
    }

    #[test]
    fn runs_from_four_on_are_counted() {
        assert_eq!(delta(&row("abcdef"), &row("abcdex")), "^5|f");
        assert_eq!(delta(&row("abcdef"), &row("abcxef")), "|||d||");
        assert_eq!(delta(&row("abcdef"), &row("xbcdey")), "a|^4|f");
        assert_eq!(delta(&row("abcdef"), &row("xycdef")), "a|b|^4");
        assert_eq!(delta(&row("abcde"), &row("xycde")), "a|b|||");
    }

    #[test]
    fn a_row_without_any_change_still_covers_the_schema() {
        assert_eq!(delta(&row("a"), &row("a")), "");
        assert_eq!(delta(&row("ab"), &row("ab")), "|");
        assert_eq!(delta(&row("abc"), &row("abc")), "||");
        assert_eq!(delta(&row("abcd"), &row("abcd")), "^4");
        assert_eq!(delta(&[], &[]), "");
    }

    #[test]
    fn lines_of_the_transcripts() {
        let first = [
            Some("Anduct"),
            Some("3.04"),
            Some("20:00:33"),
            Some("3.03"),
            None,
            Some(""),
        ];
        assert_eq!(full(&first), "Anduct|3.04|20:00:33|3.03|#|$");
        let second = [
            Some("Anduct"),
            Some("3.07"),
            Some("20:00:54"),
            Some("3.03"),
            None,
            Some(""),
        ];
        assert_eq!(delta(&second, &first), "|3.07|20:00:54|||");
        let third = [
            Some("Anduct"),
            Some("3.1"),
            Some("20:00:54"),
            Some("3.03"),
            None,
            Some(""),
        ];
        assert_eq!(delta(&third, &second), "|3.1|^4");
    }
}
