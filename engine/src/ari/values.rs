//! Tokens, types and the two encodings of strings.
//!
//! | Token | Meaning |
//! |---|---|
//! | `#` | null |
//! | `$` | the empty string |
//! | other | the string, percent-encoded as far as the encoding wants it |
//!
//! A token is never empty when it is sent: some SDKs skip empty tokens, and all behind would shift. When they come,
//! they are tolerated at the end of a line only.

use super::{Encoding, Mode};
use crate::text::{BadEscape, CRLF, Plus, percent_decode, push_escape, push_escaped, push_integer};
use std::borrow::Cow;
use std::fmt;

/// A line that makes no sense, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<BadEscape> for Malformed {
    fn from(_: BadEscape) -> Self {
        Self("an escape that cannot be decoded")
    }
}

/// The tokens of a line from some place on.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    /// `None` behind the last token.
    rest: Option<&'a str>,
}

impl<'a> Tokens<'a> {
    /// All tokens of a text.
    pub fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The next token that must be there.
    #[inline]
    pub fn required(&mut self) -> Result<&'a str, Malformed> {
        self.next().ok_or(Malformed("the line ends too early"))
    }

    /// Takes a type letter that must be this one.
    #[inline]
    pub fn expect(&mut self, letter: &str) -> Result<(), Malformed> {
        if self.required()? == letter {
            Ok(())
        } else {
            Err(Malformed("a value of another type than expected"))
        }
    }

    /// Whether a byte that [`decode`] would have to look for stands in any of the tokens to come: one search for all
    /// instead of one for each.
    #[inline]
    pub fn has_escapes(&self, encoding: Encoding) -> bool {
        let rest = self.rest.unwrap_or_default().as_bytes();
        match encoding {
            Encoding::Smart => memchr::memchr(b'%', rest).is_some(),
            Encoding::Old => memchr::memchr2(b'%', b'+', rest).is_some(),
        }
    }

    /// Whether nothing comes any more but, possibly, one empty token.
    pub fn is_at_end(&self) -> bool {
        matches!(self.rest, None | Some(""))
    }

    /// `S|<string>`
    pub fn string(&mut self, encoding: Encoding) -> Result<Option<Cow<'a, str>>, Malformed> {
        self.expect("S")?;
        decode(self.required()?, encoding)
    }

    /// `S|<string>` that must not be null.
    pub fn text(&mut self, encoding: Encoding) -> Result<Cow<'a, str>, Malformed> {
        self.string(encoding)?
            .ok_or(Malformed("null where a text must be"))
    }

    /// `I|<integer>`
    pub fn integer(&mut self) -> Result<i64, Malformed> {
        self.expect("I")?;
        integer(self.required()?)
    }

    /// `B|<0 or 1>`
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        self.expect("B")?;
        match self.required()? {
            "1" => Ok(true),
            "0" => Ok(false),
            _ => Err(Malformed("neither true nor false")),
        }
    }

    /// `D|<number>`, in all the spellings of the SDKs' languages. Null and "not a number" are `None`.
    pub fn number(&mut self) -> Result<Option<f64>, Malformed> {
        self.expect("D")?;
        match self.required()? {
            "#" => Ok(None),
            token => {
                let value: f64 = token.parse().map_err(|_| Malformed("not a number"))?;
                Ok((!value.is_nan()).then_some(value))
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        // Every other token is a letter, for which a search costs more than it finds.
        if let [letter, b'|', ..] = rest.as_bytes()
            && *letter != b'|'
        {
            self.rest = Some(&rest[2..]);
            return Some(&rest[..1]);
        }
        match memchr::memchr(b'|', rest.as_bytes()) {
            Some(at) => {
                self.rest = Some(&rest[at + 1..]);
                Some(&rest[..at])
            }
            None => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}

/// A signed integer.
pub(super) fn integer(token: &str) -> Result<i64, Malformed> {
    crate::text::parse_signed(token).ok_or(Malformed("not an integer"))
}

/// The string that a token stands for. Borrows unless something is escaped.
#[inline]
pub fn decode(token: &str, encoding: Encoding) -> Result<Option<Cow<'_, str>>, Malformed> {
    Ok(match token {
        "#" => None,
        "$" | "" => Some(Cow::Borrowed("")),
        token => {
            let plus = match encoding {
                Encoding::Old => Plus::IsSpace,
                Encoding::Smart => Plus::IsPlus,
            };
            Some(percent_decode(token, plus)?)
        }
    })
}

/// [`decode`] for a token in which nothing is escaped.
#[inline]
pub fn decode_plain(token: &str) -> Option<&str> {
    match token {
        "#" => None,
        "$" => Some(""),
        token => Some(token),
    }
}

/// Appends the token of a string.
pub fn encode(out: &mut Vec<u8>, value: Option<&str>, encoding: Encoding) {
    match (value, encoding) {
        (None, _) => out.push(b'#'),
        (Some(""), _) => out.push(b'$'),
        (Some(marker @ ("#" | "$")), _) => push_escape(out, marker.as_bytes()[0]),
        (Some(text), Encoding::Smart) => push_escaped(out, text.as_bytes(), |byte| {
            // The bar and line ends would end the token. A plus would be a space to SDKs that use their language's
            // decoder of form values.
            (byte == b'|') | (byte == b'%') | (byte == b'+') | (byte == b'\r') | (byte == b'\n')
        }),
        (Some(text), Encoding::Old) => {
            for &byte in text.as_bytes() {
                match byte {
                    b' ' => out.push(b'+'),
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte),
                    _ => push_escape(out, byte),
                }
            }
        }
    }
}

/// Writes one line.
pub struct LineWriter<'o> {
    out: &'o mut Vec<u8>,
    encoding: Encoding,
}

impl<'o> LineWriter<'o> {
    /// Begins a line behind whatever `out` holds.
    pub fn start(out: &'o mut Vec<u8>, id: &str, method: &str, encoding: Encoding) -> Self {
        out.extend_from_slice(id.as_bytes());
        out.push(b'|');
        out.extend_from_slice(method.as_bytes());
        Self { out, encoding }
    }

    /// A type letter that stands alone, or a token without a type.
    pub fn bare(&mut self, token: &str) -> &mut Self {
        self.out.push(b'|');
        self.out.extend_from_slice(token.as_bytes());
        self
    }

    /// A string without a type letter in front, as exceptions have it.
    pub fn untyped(&mut self, value: Option<&str>) -> &mut Self {
        self.out.push(b'|');
        encode(self.out, value, self.encoding);
        self
    }

    /// `S|<string>`
    pub fn string(&mut self, value: Option<&str>) -> &mut Self {
        self.bare("S").untyped(value)
    }

    /// `S|<string>`, not null.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.string(Some(value))
    }

    /// `I|<integer>`
    pub fn integer(&mut self, value: impl itoa::Integer) -> &mut Self {
        self.letter_and_integer(b"|I|", value)
    }

    /// `L|<integer>`
    pub fn long(&mut self, value: u64) -> &mut Self {
        self.letter_and_integer(b"|L|", value)
    }

    /// `B|<0 or 1>`
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.bare("B").bare(if value { "1" } else { "0" })
    }

    /// `M|<mode>`
    pub fn mode(&mut self, mode: Mode) -> &mut Self {
        self.out.extend_from_slice(b"|M|");
        self.out.push(mode.letter());
        self
    }

    /// Ends the line.
    pub fn end(&mut self) {
        self.out.extend_from_slice(CRLF);
    }

    fn letter_and_integer(&mut self, letter: &[u8], value: impl itoa::Integer) -> &mut Self {
        self.out.extend_from_slice(letter);
        push_integer(self.out, value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: Option<&str>, encoding: Encoding) -> String {
        let mut out = Vec::new();
        encode(&mut out, value, encoding);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn both_encodings() {
        for (text, old, smart) in [
            (Some("a b"), "a+b", "a b"),
            (Some("50%|x"), "50%25%7Cx", "50%25%7Cx"),
            (Some("é"), "%C3%A9", "é"),
            (Some("#"), "%23", "%23"),
            (Some("$"), "%24", "%24"),
            (Some("a+b"), "a%2Bb", "a%2Bb"),
            (Some("#$ "), "%23%24+", "#$ "),
            (Some("\r\n"), "%0D%0A", "%0D%0A"),
            (Some(""), "$", "$"),
            (None, "#", "#"),
        ] {
            for (encoding, token) in [(Encoding::Old, old), (Encoding::Smart, smart)] {
                assert_eq!(encoded(text, encoding), token);
                assert_eq!(decode(token, encoding).unwrap().as_deref(), text);
            }
        }
    }

    #[test]
    fn remotes_may_escape_more_than_they_must_and_in_lower_case() {
        assert_eq!(
            decode("caf%c3%a9 %40", Encoding::Smart).unwrap().unwrap(),
            "café @"
        );
        assert!(decode("50%", Encoding::Smart).is_err());
    }

    #[test]
    fn numbers_in_the_spellings_of_several_languages() {
        for (token, value) in [
            ("0", Some(0.0)),
            ("12.5", Some(12.5)),
            ("1.0E10", Some(1e10)),
            ("1e+16", Some(1e16)),
            ("Infinity", Some(f64::INFINITY)),
            ("inf", Some(f64::INFINITY)),
            ("NaN", None),
            ("#", None),
        ] {
            let line = format!("D|{token}");
            assert_eq!(Tokens::new(&line).number(), Ok(value), "{token}");
        }
        assert!(Tokens::new("D|1,5").number().is_err());
    }
}
