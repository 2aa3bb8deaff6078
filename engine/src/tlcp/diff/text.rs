//! TLCP-diff: a text as an edit of another one.
//!
//! A script is COPY, ADD, DELETE, COPY, ADD, ... in this cycle: take n characters of the old text, append n characters
//! that follow in the script, skip n characters of the old text. It may end after any section; what the old text has
//! beyond is not taken. Lengths are written to the base 26, all digits but the last in upper case: `d` = 3, `Bd` = 29.
//!
//! A character is a UTF-16 unit for most clients and a grapheme for some. Both count the same for characters below
//! U+0300 where combining marks begin, but for CR LF, which is one grapheme; so only such texts have differences.

use imara_diff::{Algorithm, Diff, Token};

/// Number of characters that are safe to count: those below U+0300.
const SAFE_CHARS: u32 = 0x300;

/// Characters of both texts, without what they begin and end with in common, among which the least edit is looked for:
/// the effort grows with the square of what is different. Beyond, all of the middle is one edit. (measured: noise against
/// noise at the bound takes about a millisecond)
const SEARCH_CHARS_MAX: usize = 2048;

/// The script that makes `current` of `previous`; `None` if one of them is not safe to count in.
pub fn between(previous: &str, current: &str) -> Option<String> {
    let (old, new) = (tokens(previous)?, tokens(current)?);
    let start = common(old.iter().zip(&new));
    let end = common(old[start..].iter().rev().zip(new[start..].iter().rev()));
    let (old_end, new_end) = (old.len() - end, new.len() - end);
    let edits = if old_end - start + new_end - start > SEARCH_CHARS_MAX {
        vec![Edit {
            old: (start, old_end),
            new: (start, new_end),
        }]
    } else {
        let mut diff = Diff::default();
        diff.compute_with(Algorithm::Myers, &old, &new, SAFE_CHARS);
        join(diff.hunks().map(|hunk| Edit {
            old: (hunk.before.start as usize, hunk.before.end as usize),
            new: (hunk.after.start as usize, hunk.after.end as usize),
        }))
    };
    Some(script(&edits, old.len(), &new))
}

/// A run of characters of the old text that gives way to one of the new one; each from, to.
#[derive(Clone, Copy)]
struct Edit {
    old: (usize, usize),
    new: (usize, usize),
}

impl Edit {
    fn deleted(&self) -> usize {
        self.old.1 - self.old.0
    }

    fn added(&self) -> usize {
        self.new.1 - self.new.0
    }

    /// Both edits as one, if writing out what stands unchanged between them takes no more than going around it.
    fn joined(&self, next: &Edit) -> Option<Edit> {
        let joined = Edit {
            old: (self.old.0, next.old.1),
            new: (self.new.0, next.new.1),
        };
        let kept = next.old.0 - self.old.1;
        let apart = self.digits() + digits(kept) + next.digits();
        (joined.digits() + kept <= apart).then_some(joined)
    }

    /// Characters of the two lengths.
    fn digits(&self) -> usize {
        digits(self.added()) + digits(self.deleted())
    }
}

fn common<'t>(pairs: impl Iterator<Item = (&'t Token, &'t Token)>) -> usize {
    pairs.take_while(|(old, new)| old == new).count()
}

fn join(edits: impl Iterator<Item = Edit>) -> Vec<Edit> {
    let mut joined: Vec<Edit> = Vec::new();
    for edit in edits {
        match joined.last().and_then(|last| last.joined(&edit)) {
            Some(both) => *joined.last_mut().expect("just seen") = both,
            None => joined.push(edit),
        }
    }
    joined
}

/// Writes the sections, and none behind the last that has a part in the result.
fn script(edits: &[Edit], old_len: usize, new: &[Token]) -> String {
    let mut out = String::new();
    let mut copied = 0;
    for (index, edit) in edits.iter().enumerate() {
        push_number(&mut out, edit.old.0 - copied);
        copied = edit.old.1;
        let is_last = index + 1 == edits.len() && copied == old_len;
        if is_last && edit.added() == 0 {
            return out;
        }
        push_number(&mut out, edit.added());
        let added = &new[edit.new.0..edit.new.1];
        out.extend(added.iter().filter_map(|token| char::from_u32(token.0)));
        if is_last {
            return out;
        }
        push_number(&mut out, edit.deleted());
    }
    push_number(&mut out, old_len - copied);
    out
}

/// The characters as the numbers that the algorithm works on.
fn tokens(text: &str) -> Option<Vec<Token>> {
    if memchr::memmem::find(text.as_bytes(), b"\r\n").is_some() {
        return None;
    }
    let token = |char: char| Some(u32::from(char)).filter(|code| *code < SAFE_CHARS);
    text.chars().map(|char| token(char).map(Token)).collect()
}

const BASE: usize = 26;

fn digits(number: usize) -> usize {
    number.checked_ilog(BASE).map_or(1, |log| log as usize + 1)
}

fn push_number(out: &mut String, number: usize) {
    // The largest power of the base that is not above the number.
    let mut power = BASE.pow(digits(number) as u32 - 1);
    let mut rest = number;
    while power > 1 {
        out.push(char::from(b'A' + (rest / power) as u8));
        rest %= power;
        power /= BASE;
    }
    out.push(char::from(b'a' + rest as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script_of(previous: &str, current: &str) -> String {
        between(previous, current).unwrap()
    }

    #[test]
    fn numbers_to_the_base_26() {
        for (number, text) in [
            (0, "a"),
            (3, "d"),
            (25, "z"),
            (26, "Ba"),
            (29, "Bd"),
            (40, "Bo"),
            (675, "Zz"),
            (676, "BAa"),
            (17_575, "ZZz"),
            (17_576, "BAAa"),
        ] {
            let mut out = String::new();
            push_number(&mut out, number);
            assert_eq!(out, text);
            assert_eq!(digits(number), text.len());
        }
    }

    #[test]
    fn scripts_end_with_what_contributes() {
        assert_eq!(script_of("foobar", "foo"), "d");
        assert_eq!(script_of("foobar", "fzapbar"), "bdzapcd");
        assert_eq!(script_of("foobar", "zapfoobar"), "adzapag");
        assert_eq!(script_of("foobar", "foobarX"), "gbX");
        assert_eq!(script_of("foobar", "bar"), "aadd");
        assert_eq!(
            script_of(
                "plain text of the document",
                "plain rich text of the document"
            ),
            "gfrich au"
        );
    }

    #[test]
    fn edits_close_to_each_other_are_one() {
        // Apart: a b1 b | b b2 b | b ... ; as one: a d1=2 d ...
        assert_eq!(script_of("a=b;long rest", "1=2;long rest"), "ad1=2dk");
    }

    #[test]
    fn texts_that_clients_count_differently_have_none() {
        for text in ["e\u{301}", "😀", "a\r\nb", "\u{1100}\u{1161}", "日本"] {
            assert_eq!(between(text, "plain"), None, "{text:?}");
            assert_eq!(between("plain", text), None, "{text:?}");
        }
        assert!(between("größe\n\r", "größer\n\r").is_some());
    }

    fn noise(seed: u32, chars: u32) -> String {
        let mixed = |i: u32| (i ^ seed).wrapping_mul(2_654_435_761);
        (0..chars)
            .map(|i| char::from(b'a' + (mixed(i) >> 24) as u8 % 4))
            .collect()
    }

    #[test]
    fn beyond_the_bound_all_that_is_different_is_one_edit() {
        let (old, new) = (noise(1, 50_000), noise(7_777_777, 50_000));
        let script = script_of(&format!("<{old}>"), &format!("<{new}>"));
        let mut expected = "b".to_owned();
        push_number(&mut expected, new.len());
        expected.push_str(&new);
        push_number(&mut expected, old.len());
        expected.push('b');
        assert_eq!(script, expected);
    }
}
