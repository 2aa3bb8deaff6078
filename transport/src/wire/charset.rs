//! The charset of a request's body: UTF-8, unless the request declares another that is known here. Bytes that are written as
//! `%XX` are those of UTF-8 in any case (TLCP, Requests).

use std::borrow::Cow;

/// How the bytes of a body stand for characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charset {
    /// What all TLCP clients send, whatever they declare, or if nothing is declared.
    #[default]
    Utf8,
    /// ISO-8859-1: each byte is the character of its number.
    Latin1,
}

impl Charset {
    /// What a `Content-Type` header declares. A name that is not known is passed over: the text may be UTF-8 all the same,
    /// and is refused if it is not.
    pub fn declared(content_type: &str) -> Self {
        let named = content_type
            .split(';')
            .skip(1)
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        let name = named.map_or("", |(_, value)| value.trim().trim_matches('"'));
        match LATIN1_NAMES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
        {
            true => Self::Latin1,
            false => Self::Utf8,
        }
    }

    /// The body in UTF-8, if it is text: at most twice as many bytes.
    pub fn decode(self, body: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Latin1 if !body.is_ascii() => {
                let text: String = body.iter().map(|byte| char::from(*byte)).collect();
                Cow::Owned(text.into_bytes())
            }
            _ => Cow::Borrowed(body),
        }
    }
}

/// The names of ISO-8859-1 in use, of those that are registered for it.
const LATIN1_NAMES: [&str; 5] = ["iso-8859-1", "iso_8859-1", "iso8859-1", "latin1", "l1"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charset_is_honoured_if_it_is_declared_and_known() {
        for (content_type, charset) in [
            ("text/plain", Charset::Utf8),
            ("text/plain; charset=utf-8", Charset::Utf8),
            ("text/plain; charset=x-unknown", Charset::Utf8),
            ("text/plain; charset", Charset::Utf8),
            ("charset=iso-8859-1", Charset::Utf8),
            ("text/plain; charset=iso-8859-1", Charset::Latin1),
            (
                "text/plain;format=flowed;CharSet=\"ISO-8859-1\"",
                Charset::Latin1,
            ),
            (
                "application/x-www-form-urlencoded; charset= latin1 ",
                Charset::Latin1,
            ),
        ] {
            assert_eq!(Charset::declared(content_type), charset, "{content_type}");
        }
        let bytes = b"caf\xe9";
        assert_eq!(*Charset::Latin1.decode(bytes), *"café".as_bytes());
        assert_eq!(*Charset::Utf8.decode(bytes), *bytes);
        assert_eq!(*Charset::Latin1.decode(b"plain"), *b"plain");
    }
}
