//! The quick look at a `U` line: which item, and the time of the event, without decoding the rest.
//!
//! `--verify` decodes everything with the engine's strict client instead; this is for when the generator must cost
//! less than the server.

use memchr::memchr;

/// What the quick look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The item's position in the group, counted from 0.
    pub item: usize,
    /// The event's time, if the line says it: `None` if the field has not changed, is null or is not a number.
    pub stamp_ns: Option<u64>,
    /// The event's number, likewise.
    pub sequence: Option<u64>,
}

/// Reads a line without its CR LF. `None` if it is no `U` line, or broken in a part that is looked at.
#[inline]
pub fn glance(
    line: &[u8],
    stamp_position: Option<usize>,
    sequence_position: Option<usize>,
) -> Option<Glance> {
    let rest = line.strip_prefix(b"U,")?;
    let rest = &rest[memchr(b',', rest)? + 1..];
    let comma = memchr(b',', rest)?;
    let item = usize::try_from(parse_u64(&rest[..comma])?)
        .ok()?
        .checked_sub(1)?;
    let values = &rest[comma + 1..];
    let number = |position: Option<usize>| parse_u64(field(values, position?)?);
    Some(Glance {
        item,
        stamp_ns: number(stamp_position),
        sequence: number(sequence_position),
    })
}

/// Lines of a message, each without its CR LF; what does not end so is not a line.
pub fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = rest[..end].strip_suffix(b"\r")?;
        rest = &rest[end + 1..];
        Some(line)
    })
}

/// A plain decimal number.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The token of a field in a list, if the list has one for it (TLCP, Real-Time Update): a run `^n` stands for `n`
/// unchanged fields.
fn field(list: &[u8], position: usize) -> Option<&[u8]> {
    let mut rest = list;
    let mut at = 0;
    loop {
        let end = memchr(b'|', rest).unwrap_or(rest.len());
        let token = &rest[..end];
        let fields = match token {
            [b'^', digits @ ..] => usize::try_from(parse_u64(digits).unwrap_or(1)).ok()?,
            _ => 1,
        };
        if position < at + fields {
            return Some(token);
        }
        at = at.checked_add(fields)?;
        rest = rest.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(line: &str, position: usize) -> Option<u64> {
        glance(line.as_bytes(), Some(position), None)
            .unwrap()
            .stamp_ns
    }

    #[test]
    fn the_field_is_found_behind_runs() {
        assert_eq!(stamp("U,1,1,a|b|17", 2), Some(17));
        assert_eq!(stamp("U,1,1,^2|17", 2), Some(17));
        assert_eq!(stamp("U,1,1,a||17|^4", 2), Some(17));
        assert_eq!(stamp("U,1,1,17", 0), Some(17));
        assert_eq!(stamp("U,1,1,^12|18446744073709551615", 12), Some(u64::MAX));
        assert_eq!(stamp("U,1,1,a,b|17", 1), Some(17));
    }

    #[test]
    fn an_unchanged_field_has_no_time() {
        for line in [
            "U,1,1,a|b|",
            "U,1,1,a|^2",
            "U,1,1,^3",
            "U,1,1,a|b|#",
            "U,1,1,a|b|$",
            "U,1,1,a",
            "U,1,1,",
            "U,1,1,a|b|x7",
            "U,1,1,a|b|18446744073709551616",
            "U,1,1,^99999999999999999999|1",
        ] {
            assert_eq!(stamp(line, 2), None, "{line}");
        }
        assert_eq!(glance(b"U,1,3,5", None, None).unwrap().stamp_ns, None);
    }

    #[test]
    fn both_numbers_are_found() {
        let seen = glance(b"U,1,1,9|a|17", Some(2), Some(0)).unwrap();
        assert_eq!((seen.stamp_ns, seen.sequence), (Some(17), Some(9)));
    }

    #[test]
    fn items_count_from_one() {
        assert_eq!(
            glance(b"U,1,30,a", None, None).map(|seen| seen.item),
            Some(29)
        );
        for broken in [
            "U,1,0,a",
            "U,1,a",
            "U,1",
            "U,",
            "SUBOK,1,1,1",
            "",
            "U,1,x,a",
        ] {
            assert_eq!(glance(broken.as_bytes(), None, None), None, "{broken}");
        }
    }

    #[test]
    fn lines_end_with_both_characters() {
        let split = |text: &str| {
            lines(text.as_bytes())
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(split("PROBE\r\nU,1,1,a\r\n"), ["PROBE", "U,1,1,a"]);
        assert_eq!(split("PROBE\r\nU,1"), ["PROBE"]);
        assert!(split("PROBE\n").is_empty());
        assert!(split("").is_empty());
    }
}
