//! One line of the line feed: what it says, and its escapes.
//!
//! ```text
//! item<TAB>field=value<TAB>field=value     new values; a field without `=` is null
//! !clear<TAB>item                          everything known of the item is void
//! ```
//!
//! A backslash escapes what would end something: `\t`, `\n`, `\r`, `\\`, and `\=` in a field's name. A CR before the
//! LF is ignored, and so are empty lines. Items whose names begin with `!` cannot be published.

use std::borrow::Cow;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// New values of some fields, at least one.
    Update {
        /// The item's name.
        item: Cow<'a, str>,
        /// Fields with their new values.
        fields: Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>,
    },
    /// Everything known of an item is void.
    Clear {
        /// The item's name.
        item: Cow<'a, str>,
    },
    /// An empty line.
    Nothing,
}

/// Reads a line without its LF. The error is for the log of the server.
pub fn read(line: &[u8]) -> Result<Said<'_>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Ok(Said::Nothing);
    }
    let line = str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let (item, rest) = match line.split_once('\t') {
        Some((item, rest)) => (item, rest),
        None => return Err("there is nothing behind the item's name"),
    };
    if let Some(command) = item.strip_prefix('!') {
        return match command {
            "clear" if !rest.is_empty() => Ok(Said::Clear {
                item: unescape(rest)?,
            }),
            _ => Err("the command is unknown"),
        };
    }
    if item.is_empty() {
        return Err("the item has no name");
    }
    // Feeds seldom send what has to be escaped: one look at the line saves one at each name and each value.
    let escaped = memchr::memchr(b'\\', line.as_bytes()).is_some();
    let mut fields = Vec::with_capacity(memchr::memchr_iter(b'\t', rest.as_bytes()).count() + 1);
    for field in rest.split('\t') {
        let split = if escaped {
            split_field(field)
        } else {
            // Names are short: a search costs more to begin than to do.
            let at = field.bytes().position(|byte| byte == b'=');
            at.map(|at| (&field[..at], &field[at + 1..]))
        };
        let (name, value) = match split {
            Some((name, value)) => (name, Some(value)),
            None => (field, None),
        };
        if name.is_empty() {
            return Err("a field has no name");
        }
        fields.push(if escaped {
            (unescape(name)?, value.map(unescape).transpose()?)
        } else {
            (name.into(), value.map(Into::into))
        });
    }
    Ok(Said::Update {
        item: unescape(item)?,
        fields,
    })
}

/// At the first `=` that is not escaped.
fn split_field(field: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let at = from + field[from..].find('=')?;
        let escapes = field[..at].bytes().rev().take_while(|byte| *byte == b'\\');
        if escapes.count() % 2 == 0 {
            return Some((&field[..at], &field[at + 1..]));
        }
        from = at + 1;
    }
}

fn unescape(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !text.contains('\\') {
        return Ok(text.into());
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match characters.next() {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some(same @ ('\\' | '=')) => same,
            _ => return Err("an escape is unknown"),
        });
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn update(line: &str) -> (String, Vec<(String, Option<String>)>) {
        match read(line.as_bytes()).unwrap() {
            Said::Update { item, fields } => (
                item.into_owned(),
                fields
                    .into_iter()
                    .map(|(name, value)| (name.into_owned(), value.map(Cow::into_owned)))
                    .collect(),
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_read() {
        let field = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            update("EURUSD\tbid=1.07\task=\tnote\r"),
            (
                "EURUSD".into(),
                vec![
                    field("bid", Some("1.07")),
                    field("ask", Some("")),
                    field("note", None)
                ]
            )
        );
        assert_eq!(
            update("a\\tb\tx\\=y=1\\\\=2\\n"),
            ("a\tb".into(), vec![field("x=y", Some("1\\=2\n"))])
        );
        assert_eq!(read(b"\r"), Ok(Said::Nothing));
        assert_eq!(
            read(b"!clear\titem1"),
            Ok(Said::Clear {
                item: "item1".into()
            })
        );
    }

    #[test]
    fn broken_lines_are_told() {
        for line in [
            "item",
            "\ta=1",
            "item\t",
            "item\ta=1\t",
            "item\t=1",
            "!drop\titem",
            "!clear\t",
            "item\ta=\\x",
            "item\ta=1\\",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(read(b"item\ta=\xff").is_err());
    }

    proptest! {
        /// What a publisher escapes is what is read; and no bytes at all are a panic.
        #[test]
        fn escapes_are_undone(item in "[^!\r\n][^\r\n]{0,5}", name in ".{1,5}", value in prop::option::of(".{0,9}")) {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
            let field = match &value {
                Some(value) => format!("{}={}", escape(&name).replace('=', "\\="), escape(value)),
                None => escape(&name).replace('=', "\\="),
            };
            prop_assert_eq!(
                update(&format!("{}\t{field}", escape(&item))),
                (item, vec![(name, value)])
            );
        }

        #[test]
        fn any_bytes_are_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(&line);
        }
    }
}
