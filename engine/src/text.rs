//! Text that both protocols share: percent-encoding, numbers, the line end, and the comparison of secrets.
//!
//! Reading is strict about what would be ambiguous (a lone `%`, a sign, broken UTF-8) since everything here is fed by
//! the network; writing never allocates but for the growth of the caller's buffer.

use std::borrow::Cow;
use std::io::Write;

/// Ends every line of both protocols.
pub const CRLF: &[u8] = b"\r\n";

/// The text holds a `%` that is not followed by two hexadecimal digits, or its decoded form is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape;

/// Whether `+` stands for a space. It does in parameters, where HTML forms put it; clients write `%2B` for a plus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// `+` is a space: request parameters.
    IsSpace,
    /// `+` is itself: everything that the server writes.
    IsPlus,
}

/// Decodes `%XX`; borrows when there is nothing to decode.
pub fn percent_decode(raw: &str, plus: Plus) -> Result<Cow<'_, str>, BadEscape> {
    let bytes = raw.as_bytes();
    let first = match plus {
        Plus::IsSpace => memchr::memchr2(b'%', b'+', bytes),
        Plus::IsPlus => memchr::memchr(b'%', bytes),
    };
    let Some(first) = first else {
        return Ok(Cow::Borrowed(raw));
    };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut at = first;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (hex_digit(bytes.get(at))?, hex_digit(bytes.get(at + 1))?);
                at += 2;
                high << 4 | low
            }
            b'+' if plus == Plus::IsSpace => b' ',
            _ => byte,
        });
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| BadEscape)
}

/// Decodes `%XX` onto the end of `out`, for readers that keep their buffers. On an error `out` is as before.
pub fn percent_decode_into(raw: &str, out: &mut String) -> Result<(), BadEscape> {
    match memchr::memchr(b'%', raw.as_bytes()) {
        None => out.push_str(raw),
        Some(_) => out.push_str(&percent_decode(raw, Plus::IsPlus)?),
    }
    Ok(())
}

fn hex_digit(byte: Option<&u8>) -> Result<u8, BadEscape> {
    let digit = byte
        .and_then(|&byte| char::from(byte).to_digit(16))
        .ok_or(BadEscape)?;
    Ok(digit as u8)
}

/// Replaces every byte from an index on that is not ASCII by its `%XX`. What is there must be text whose reader decodes
/// that, and in which `%` is encoded already: whole lines of TLCP.
pub fn escape_non_ascii(out: &mut Vec<u8>, from: usize) {
    if out[from..].is_ascii() {
        return;
    }
    let raw = out.split_off(from);
    push_escaped(out, &raw, |byte| !byte.is_ascii());
}

/// Appends `bytes` with `%XX` for each byte that `special` picks. `special` sees single bytes of UTF-8, so it must
/// leave those from 0x80 on alone, or pick all of them.
#[inline]
pub fn push_escaped(out: &mut Vec<u8>, bytes: &[u8], special: impl Fn(u8) -> bool + Copy) {
    let mut rest = bytes;
    while let Some(at) = find(rest, special) {
        out.extend_from_slice(&rest[..at]);
        push_escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends `%XX` for one byte.
#[inline]
pub fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

/// The first byte that `special` picks. Blocks are tested without a branch per byte, which the compiler turns into
/// vector instructions: measured on x86-64, as fast as byte by byte up to 15 bytes, and 3 to 5 times as fast from 64 on.
/// `memchr` looks for three bytes at most, so it would need several passes.
#[inline]
fn find(bytes: &[u8], special: impl Fn(u8) -> bool + Copy) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<16>();
    let clean = blocks
        .iter()
        .take_while(|block| !block.iter().fold(false, |any, &byte| any | special(byte)))
        .count();
    let start = clean * 16;
    bytes[start..]
        .iter()
        .position(|&byte| special(byte))
        .map(|at| start + at)
}

/// C0 controls and DEL: never sent raw, though the protocols only insist on CR and LF.
#[inline]
pub fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7F
}

/// Whether there is a control character anywhere.
pub fn has_control(bytes: &[u8]) -> bool {
    find(bytes, is_control).is_some()
}

/// Appends an integer in decimal.
#[inline]
pub fn push_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a decimal number that matches `\d+\.\d+`: the shortest digits that read back as the same number, never an
/// exponent, and always a fraction (`2.0`), as clients are used to. The protocol
/// has no sign and no infinity, so what is below zero or not a number is written as zero, and infinity as the largest
/// number.
pub fn push_decimal(out: &mut Vec<u8>, value: f64) {
    let value = value.clamp(0.0, f64::MAX);
    let value = if value > 0.0 { value } else { 0.0 };
    write!(out, "{value}").expect("a Vec takes everything");
    if value.fract() == 0.0 {
        out.extend_from_slice(b".0");
    }
}

/// A non-negative decimal integer: digits only, no sign, no blanks.
pub fn parse_integer(text: &str) -> Option<u64> {
    digits(text).then(|| text.parse().ok()).flatten()
}

/// A decimal integer that may carry a minus sign.
pub fn parse_signed(text: &str) -> Option<i64> {
    digits(text.strip_prefix('-').unwrap_or(text))
        .then(|| text.parse().ok())
        .flatten()
}

/// A non-negative finite decimal number with a dot. An exponent is taken too: some clients leave the spelling to their
/// runtime, and several of those write small numbers as `1.0E-4`.
pub fn parse_decimal(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'));
    let starts = text.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    (plain && starts)
        .then(|| text.parse().ok())
        .flatten()
        .filter(|value: &f64| value.is_finite())
}

/// Compares secrets without telling by its duration where they differ.
pub fn equal_in_constant_time(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differences, (x, y)| differences | (x ^ y))
            == 0
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(value: f64) -> String {
        let mut out = Vec::new();
        push_decimal(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, text.as_bytes(), |byte| {
            is_control(byte) || byte == b','
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decoding_borrows_when_there_is_nothing_to_decode() {
        assert!(matches!(
            percent_decode("plain é", Plus::IsSpace),
            Ok(Cow::Borrowed("plain é"))
        ));
        assert!(matches!(
            percent_decode("1+1", Plus::IsPlus),
            Ok(Cow::Borrowed("1+1"))
        ));
    }

    #[test]
    fn decoding_takes_both_cases_of_digits_and_utf8() {
        assert_eq!(
            percent_decode("a%2Cb%2c%E2%82%AC", Plus::IsPlus).unwrap(),
            "a,b,€"
        );
        assert_eq!(percent_decode("a+b%2B", Plus::IsSpace).unwrap(), "a b+");
    }

    #[test]
    fn a_percent_without_two_digits_is_refused() {
        for bad in ["%", "a%", "%2", "%2G", "%%20", "% 20", "%+1"] {
            assert_eq!(percent_decode(bad, Plus::IsPlus), Err(BadEscape), "{bad}");
        }
    }

    #[test]
    fn escapes_that_are_not_utf8_are_refused() {
        for bad in ["%FF", "%C3", "%E2%82", "%ED%A0%80", "%C0%80"] {
            assert_eq!(percent_decode(bad, Plus::IsPlus), Err(BadEscape), "{bad}");
        }
    }

    #[test]
    fn decoding_into_a_buffer_leaves_it_alone_on_an_error() {
        let mut out = String::from("kept ");
        percent_decode_into("a%7Cb", &mut out).unwrap();
        assert_eq!(percent_decode_into("lost%", &mut out), Err(BadEscape));
        assert_eq!(out, "kept a|b");
    }

    #[test]
    fn escaping_finds_special_bytes_at_every_distance() {
        for length in 0..50 {
            let clean = "x".repeat(length);
            assert_eq!(escaped(&clean), clean);
            assert_eq!(
                escaped(&format!("{clean},{clean}")),
                format!("{clean}%2C{clean}")
            );
        }
        assert_eq!(escaped("\u{7f}\u{0}\r\n,é"), "%7F%00%0D%0A%2Cé");
    }

    #[test]
    fn decimals_have_a_fraction_and_no_exponent() {
        for (value, text) in [
            (2.0, "2.0"),
            (0.5, "0.5"),
            (12.25, "12.25"),
            (1e-7, "0.0000001"),
            (1e21, "1000000000000000000000.0"),
        ] {
            assert_eq!(decimal(value), text);
        }
        for odd in [-1.0, -0.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(decimal(odd), "0.0");
        }
        assert!(
            decimal(f64::INFINITY)
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        );
    }

    #[test]
    fn integers_are_digits_only() {
        assert_eq!(parse_integer("0050"), Some(50));
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1.0",
            "1e3",
            "٣",
            "99999999999999999999",
        ] {
            assert_eq!(parse_integer(bad), None, "{bad}");
        }
        assert_eq!(parse_signed("-7"), Some(-7));
        assert_eq!(parse_signed("7"), Some(7));
        for bad in ["", "-", "--1", "+1"] {
            assert_eq!(parse_signed(bad), None, "{bad}");
        }
    }

    #[test]
    fn decimals_are_finite_and_not_negative() {
        assert_eq!(parse_decimal("12.5"), Some(12.5));
        assert_eq!(parse_decimal("3"), Some(3.0));
        assert_eq!(parse_decimal("1.0E-4"), Some(0.0001));
        for bad in [
            "", "-1", "+1", "inf", "NaN", "infinity", "1,5", "0x10", "1e999", ".", "e5", "1.2.3",
        ] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }
}
