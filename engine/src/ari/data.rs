//! What a data adapter is asked, and what it says of its items.
//!
//! Every notification carries the id of the `SUB` that it belongs to, and may come before the reply to it. Which lines
//! are notifications the method tells, since they may share a connection with replies.
//!
//! The decoder looks at each byte three times, for UTF-8, for escapes and for bars, the first two in vector steps over
//! the whole line, and allocates only for values with escapes and for updates of more than eight fields.

use super::Encoding;
use super::exception::Exception;
use super::values::{LineWriter, Malformed, Tokens, decode, decode_plain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Appends `SUB`: the adapter shall speak of an item, under this id.
pub fn subscribe(out: &mut Vec<u8>, id: &str, item: &str, encoding: Encoding) {
    LineWriter::start(out, id, "SUB", encoding).text(item).end();
}

/// Appends `USB`: the adapter shall speak of an item no more.
pub fn unsubscribe(out: &mut Vec<u8>, id: &str, item: &str, encoding: Encoding) {
    LineWriter::start(out, id, "USB", encoding).text(item).end();
}

/// What a data adapter says.
#[expect(
    clippy::large_enum_variant,
    reason = "updates are nearly all there is, and a box each would be an allocation each"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum FromData<'a> {
    /// To `SUB`: done, or why not.
    Subscribed(Result<(), Exception>),
    /// To `USB`: done, or why not.
    Unsubscribed(Result<(), Exception>),
    /// Of an item.
    Notification {
        /// The item's name.
        item: Cow<'a, str>,
        /// The id of the `SUB`.
        subscription: &'a str,
        /// What has happened.
        event: Event<'a>,
    },
    /// The adapter as a whole has failed.
    Failed(Exception),
}

/// What has happened to an item.
#[expect(
    clippy::large_enum_variant,
    reason = "updates are nearly all there is, and a box each would be an allocation each"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// `UD3`
    Update {
        /// Belongs to the snapshot.
        snapshot: bool,
        /// Names and values of the fields that the event names.
        fields: Fields<'a>,
    },
    /// `EOS`
    EndOfSnapshot,
    /// `CLS`
    ClearSnapshot,
    /// `DFD`: for some fields, how their values may be sent as differences.
    DiffOrder(Vec<(Cow<'a, str>, DiffOrder)>),
}

/// Fields of an update. Eight fit without an allocation, which is most of what feeds send.
pub type Fields<'a> = SmallVec<[(Cow<'a, str>, Option<Cow<'a, str>>); 8]>;

/// In which order kinds of differences are to be tried for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffOrder {
    /// The adapter has nothing to say about it.
    Unspecified,
    /// These, in this order; none at all if empty.
    Try(Vec<DiffKind>),
}

/// A kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffKind {
    /// `J`
    JsonPatch,
    /// `M`, which clients know as TLCP-diff.
    DiffMatchPatch,
}

/// Reads what follows the method. `None`: a method that is not a data adapter's.
pub fn read<'a>(
    method: &str,
    mut tokens: Tokens<'a>,
    encoding: Encoding,
) -> Result<Option<FromData<'a>>, Malformed> {
    Ok(Some(match method {
        "UD3" => {
            let (item, subscription) = subject(&mut tokens, encoding)?;
            let event = Event::Update {
                snapshot: tokens.boolean()?,
                fields: fields(tokens, encoding)?,
            };
            FromData::Notification {
                item,
                subscription,
                event,
            }
        }
        "EOS" | "CLS" | "DFD" => {
            let (item, subscription) = subject(&mut tokens, encoding)?;
            let event = match method {
                "EOS" => Event::EndOfSnapshot,
                "CLS" => Event::ClearSnapshot,
                _ => Event::DiffOrder(diff_orders(tokens, encoding)?),
            };
            FromData::Notification {
                item,
                subscription,
                event,
            }
        }
        "SUB" => FromData::Subscribed(done(&tokens, encoding)?),
        "USB" => FromData::Unsubscribed(done(&tokens, encoding)?),
        "FAL" => FromData::Failed(
            Exception::read(&tokens, encoding)?
                .ok_or(Malformed("a failure without an exception"))?,
        ),
        _ => return Ok(None),
    }))
}

/// Fields of a [`PlainUpdate`].
pub type PlainFields<'a> = SmallVec<[(&'a str, Option<&'a str>); 8]>;

/// An update in whose line nothing is escaped: all texts as they stand there.
#[derive(Debug, PartialEq)]
pub struct PlainUpdate<'a> {
    /// The item's name.
    pub item: &'a str,
    /// The id of the `SUB`.
    pub subscription: &'a str,
    /// Belongs to the snapshot.
    pub snapshot: bool,
    /// Names and values of the fields that the event names.
    pub fields: PlainFields<'a>,
}

/// Reads a line that is an update as feeds send them by the million: `UD3` with strings in which nothing is escaped.
/// `None`: it is something else, or makes no sense; [`read`] says what. What is read here, that would read alike.
#[inline]
pub fn read_plain_update(line: &str, encoding: Encoding) -> Option<PlainUpdate<'_>> {
    let mut cursor = Cursor { line, at: 0 };
    let _time = cursor.token()?;
    cursor.skip(b"UD3|S|")?;
    if Tokens::new(&line[cursor.at..]).has_escapes(encoding) {
        return None;
    }
    let item = cursor.token()?;
    cursor.skip(b"S|")?;
    let subscription = cursor.token()?;
    cursor.skip(b"B|")?;
    let snapshot = match cursor.token().unwrap_or_else(|| cursor.last()) {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let mut fields = PlainFields::new();
    while cursor.at < line.len() {
        cursor.skip(b"S|")?;
        let name = cursor.token()?;
        cursor.skip(b"S|")?;
        let value = cursor.token().unwrap_or_else(|| cursor.last());
        fields.push((decode_plain(name)?, decode_plain(value)));
    }
    Some(PlainUpdate {
        item: decode_plain(item)?,
        subscription,
        snapshot,
        fields,
    })
}

/// A place in a line, `at <= line.len()`, always at the beginning of a token or at the end.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The token here, if another one follows, which is then here.
    #[inline]
    fn token(&mut self) -> Option<&'a str> {
        let length = find_bar(&self.line.as_bytes()[self.at..])?;
        let token = &self.line[self.at..self.at + length];
        self.at += length + 1;
        Some(token)
    }

    /// The rest of the line.
    #[inline]
    fn last(&mut self) -> &'a str {
        let token = &self.line[self.at..];
        self.at = self.line.len();
        token
    }

    /// Goes past what must stand here.
    #[inline]
    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        let here = self.line.as_bytes()[self.at..].starts_with(expected);
        here.then(|| self.at += expected.len())
    }
}

/// Where the first bar is. Tokens are short: eight bytes at a time are looked at where they lie, and a search that is
/// made for long texts begins behind 32 of them.
#[inline]
fn find_bar(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const BARS: u64 = u64::from_le_bytes([b'|'; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        if at == 32 {
            return memchr::memchr(b'|', &bytes[at..]).map(|found| at + found);
        }
        let differs = u64::from_le_bytes(*chunk) ^ BARS;
        // The lowest bit that is set is of the first byte that is zero here.
        let zero = differs.wrapping_sub(ONES) & !differs & HIGH;
        if zero != 0 {
            return Some(at + zero.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|byte| *byte == b'|')?;
    Some(at + rest)
}

/// `S|<item>|S|<id of the SUB>`. Our ids have no characters that any encoding would touch.
#[inline]
fn subject<'a>(
    tokens: &mut Tokens<'a>,
    encoding: Encoding,
) -> Result<(Cow<'a, str>, &'a str), Malformed> {
    let item = tokens.text(encoding)?;
    tokens.expect("S")?;
    Ok((item, tokens.required()?))
}

#[inline]
fn fields<'a>(mut tokens: Tokens<'a>, encoding: Encoding) -> Result<Fields<'a>, Malformed> {
    let mut fields = Fields::new();
    // Feeds seldom send what has to be escaped.
    let escaped = tokens.has_escapes(encoding);
    let decode = |token| {
        if escaped {
            decode(token, encoding)
        } else {
            Ok(decode_plain(token).map(Cow::Borrowed))
        }
    };
    while !tokens.is_at_end() {
        let mut letter = tokens.required()?;
        if letter == "I" {
            // Old events of the Java and .NET SDKs number their fields. The name follows all the same.
            tokens.required()?;
            letter = tokens.required()?;
        }
        if letter != "S" {
            return Err(Malformed("a field without a name"));
        }
        let name = decode(tokens.required()?)?.ok_or(Malformed("a field without a name"))?;
        let value = match tokens.required()? {
            "S" => decode(tokens.required()?)?,
            "Y" => bytes(tokens.required()?, encoding)?,
            _ => return Err(Malformed("a value of an unknown type")),
        };
        fields.push((name, value));
    }
    Ok(fields)
}

/// Bytes in Base64, each of which stands for the character of its number, as the SDKs that have no such type send them.
fn bytes(token: &str, encoding: Encoding) -> Result<Option<Cow<'_, str>>, Malformed> {
    // The padding and the signs of Base64 may be escaped; a plus is a digit here and never a space.
    let encoding = match encoding {
        Encoding::Old if token.contains('+') => Encoding::Smart,
        other => other,
    };
    let Some(text) = decode(token, encoding)? else {
        return Ok(None);
    };
    let bytes = BASE64
        .decode(text.as_bytes())
        .map_err(|_| Malformed("bytes that are not Base64"))?;
    Ok(Some(bytes.into_iter().map(char::from).collect()))
}

fn diff_orders<'a>(
    mut tokens: Tokens<'a>,
    encoding: Encoding,
) -> Result<Vec<(Cow<'a, str>, DiffOrder)>, Malformed> {
    let mut orders = Vec::new();
    while !tokens.is_at_end() {
        let name = tokens.text(encoding)?;
        tokens.expect("F")?;
        let order = match tokens.required()? {
            "#" => DiffOrder::Unspecified,
            "$" => DiffOrder::Try(Vec::new()),
            letters => {
                let kind = |letter| match letter {
                    b'J' => Ok(DiffKind::JsonPatch),
                    b'M' => Ok(DiffKind::DiffMatchPatch),
                    _ => Err(Malformed("an unknown kind of difference")),
                };
                DiffOrder::Try(letters.bytes().map(kind).collect::<Result<_, _>>()?)
            }
        };
        orders.push((name, order));
    }
    Ok(orders)
}

/// `V` or an exception.
pub(super) fn done(
    tokens: &Tokens<'_>,
    encoding: Encoding,
) -> Result<Result<(), Exception>, Malformed> {
    if let Some(exception) = Exception::read(tokens, encoding)? {
        return Ok(Err(exception));
    }
    match tokens.clone().next() {
        Some("V") => Ok(Ok(())),
        _ => Err(Malformed("neither done nor failed")),
    }
}
