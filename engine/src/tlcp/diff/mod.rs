//! Value differences: a changed field as an edit of its last value, where that is shorter (TLCP, Real-Time Update).
//!
//! | token | format | module |
//! |---|---|---|
//! | `^P` | JSON Patch, RFC 6902, of two JSON documents | `patch` |
//! | `^T` | TLCP-diff: what to copy from, add to and delete of a text | `text` |
//!
//! Three things must agree before a field is sent so: the adapter (or the default of the configuration) lists formats
//! for the field ([`Order`]), the client decodes them ([`Formats::of_client`]), and the result is shorter than the value.
//! Whatever stands in the way of a difference, the full value is always right.
//!
//! A client that has applied a `^P` holds a parsed document, and its text may differ from ours in blanks and in the
//! order of members. So after a `^P` a field is never sent as `^T` until it was sent in full. Who keeps that state per
//! client is the shard; [`push_changed`] is told it and says what it is afterwards.

mod client;
mod patch;
mod text;

use super::values;

/// How a value can be sent as a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `^P`
    JsonPatch = 1,
    /// `^T`
    Text = 2,
}

/// A set of formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Formats(u8);

/// The formats that may be tried on a field, first come first served. Empty: the field is always sent in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order(u8);

/// From which length on a difference is looked for, and up to which: the same for all fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes that both values must have for a JSON Patch. (the reference product's default is 50 characters)
    pub json_patch_bytes_min: usize,
    /// Bytes that both values must have for a text difference. (guess: below, there is little to win)
    pub text_bytes_min: usize,
    /// Bytes that neither value may exceed, so that one large field cannot hold up a shard. Beyond: sent in full.
    /// (measured: a JSON document is parsed at roughly 100 MB/s)
    pub bytes_max: usize,
}

/// What a changed field was sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The value itself, or a marker for null and the empty string.
    Full,
    /// A difference.
    Diff(Format),
}

impl Formats {
    /// No format.
    pub const NONE: Self = Self(0);
    /// All there are.
    pub const ALL: Self = Self(Format::JsonPatch as u8 | Format::Text as u8);
    /// Number of different sets.
    pub const COUNT: usize = 4;

    /// The set of only `format`.
    pub const fn only(format: Format) -> Self {
        Self(format as u8)
    }

    /// Whether `format` is in it.
    #[inline]
    pub fn has(self, format: Format) -> bool {
        self.0 & format as u8 != 0
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The formats in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The formats in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// A number below [`Formats::COUNT`], different for each set.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Order {
    /// Always in full.
    pub const NONE: Self = Self(0);

    /// The formats in the order given; a repeated one counts where it stands first.
    pub fn new(formats: impl IntoIterator<Item = Format>) -> Self {
        let mut order = Self::NONE;
        for format in formats {
            if !order.formats().has(format) {
                order.0 |= (format as u8) << if order.0 == 0 { 0 } else { 2 };
            }
        }
        order
    }

    /// The formats whose letters these are, as markers have them; other letters mean nothing.
    pub fn from_letters(letters: &str) -> Self {
        Self::new(letters.bytes().filter_map(|letter| match letter {
            b'P' => Some(Format::JsonPatch),
            b'T' => Some(Format::Text),
            _ => None,
        }))
    }

    /// The formats, in their order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Format> {
        [self.0 & 3, self.0 >> 2 & 3]
            .into_iter()
            .filter_map(|format| match format {
                1 => Some(Format::JsonPatch),
                2 => Some(Format::Text),
                _ => None,
            })
    }

    /// The same without their order.
    pub fn formats(self) -> Formats {
        Formats((self.0 | self.0 >> 2) & 3)
    }

    /// Whether there is nothing to try.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// As a byte, for a record.
    pub fn to_byte(self) -> u8 {
        self.0
    }

    /// From a byte; one that is no order's is [`Order::NONE`].
    pub fn from_byte(byte: u8) -> Self {
        let order = Self(byte);
        if Self::new(order.iter()) == order {
            order
        } else {
            Self::NONE
        }
    }
}

impl Sizes {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        json_patch_bytes_min: 50,
        text_bytes_min: 20,
        bytes_max: 128 << 10,
    };
}

impl Default for Sizes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Appends the token of a field that has changed from `previous`: a difference in the first format of `order` that
/// the client knows, that applies to both values and that is shorter; else the value. `holds_json` is whether the
/// client got this field as JSON Patch since it last got it in full.
pub fn push_changed(
    out: &mut Vec<u8>,
    order: Order,
    client: Formats,
    holds_json: bool,
    sizes: &Sizes,
    previous: Option<&[u8]>,
    current: Option<&[u8]>,
) -> Sent {
    let start = out.len();
    values::push_value(out, current);
    let full_bytes = out.len() - start;
    let (Some(previous @ [_, ..]), Some(current @ [_, ..])) = (previous, current) else {
        return Sent::Full; // null and the empty string have no differences, neither to them nor from them
    };
    let (least, most) = (
        previous.len().min(current.len()),
        previous.len().max(current.len()),
    );
    if most > sizes.bytes_max {
        return Sent::Full;
    }
    let (Ok(previous), Ok(current)) = (std::str::from_utf8(previous), std::str::from_utf8(current))
    else {
        debug_assert!(false, "values are UTF-8");
        return Sent::Full;
    };
    for format in order.iter().filter(|format| client.has(*format)) {
        let script = match format {
            Format::JsonPatch if least >= sizes.json_patch_bytes_min => {
                patch::between(previous, current)
            }
            Format::Text if least >= sizes.text_bytes_min && !holds_json => {
                text::between(previous, current)
            }
            _ => None,
        };
        let Some(script) = script else { continue };
        let full_end = out.len();
        out.extend_from_slice(match format {
            Format::JsonPatch => b"^P",
            Format::Text => b"^T",
        });
        values::push_plain(out, script.as_bytes());
        if out.len() - full_end < full_bytes {
            out.drain(start..full_end);
            return Sent::Diff(format);
        }
        out.truncate(full_end);
    }
    Sent::Full
}
