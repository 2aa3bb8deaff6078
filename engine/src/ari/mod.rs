//! The adapter protocol (ARI): lines of text between the server and remote adapters, codec only.
//!
//! One message is one line, tokens are separated by `|`, and every value stands behind a letter that tells its type:
//!
//! ```text
//! request, reply:   <id>|<METHOD>|<type>|<value>|<type>|<value>...
//! notification:     <timestamp>|<METHOD>|<type>|<value>...
//! keepalive:        KEEPALIVE
//! ```
//!
//! | Module | Lines |
//! |---|---|
//! | [`init`] | `RAC`, `MPI`, `DPI`, `CLOSE`: who is there, and which version is spoken |
//! | [`metadata`] | requests to a metadata adapter, its replies, and its own requests |
//! | [`data`] | `SUB`, `USB`, and what a data adapter says of its items |
//! | [`exception`] | the failures that any reply can carry |
//! | [`values`] | tokens, types and the two encodings of strings |
//! | [`remote`] | the lines of the other side, for load generators and tests |
//!
//! A remote chooses the version when it is initialised, and with it how strings are encoded and how tables are laid
//! out; both hold for one connection ([`Dialect`]). The lines around the handshake are in the old encoding always.

pub mod data;
pub mod exception;
pub mod init;
pub mod metadata;
pub mod remote;
pub mod values;

pub use values::{Malformed, Tokens};

/// The line that remotes send when they have nothing to say for a while. Servers never send it.
pub const KEEPALIVE: &str = "KEEPALIVE";

/// What the server offers. Data adapters of the current SDKs refuse anything below 1.9.1, and older remotes answer to
/// whatever is offered with what they know.
pub const VERSION_OFFERED: &str = "1.9.1";

/// A version of the protocol, as a remote chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Has no version numbers: its answer to the init request is empty.
    V1_8_0,
    /// Version numbers, keepalive hint and credentials.
    V1_8_2,
    /// The `CLOSE` line.
    V1_8_3,
    /// Strings in UTF-8, the data adapter's name, items and statistics in tables, requests by remotes.
    V1_9_0,
    /// Data adapters on a single connection. No other difference.
    V1_9_1,
}

impl Version {
    /// Reads a version that a remote chose. 1.8.1 was never used.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::V1_8_0,
            Self::V1_8_2,
            Self::V1_8_3,
            Self::V1_9_0,
            Self::V1_9_1,
        ];
        all.into_iter().find(|version| version.name() == text)
    }

    /// As remotes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_8_0 => "1.8.0",
            Self::V1_8_2 => "1.8.2",
            Self::V1_8_3 => "1.8.3",
            Self::V1_9_0 => "1.9.0",
            Self::V1_9_1 => "1.9.1",
        }
    }

    /// How strings are written from now on.
    pub fn encoding(self) -> Encoding {
        if self >= Self::V1_9_0 {
            Encoding::Smart
        } else {
            Encoding::Old
        }
    }

    /// Whether `CLOSE` may be sent even to a remote that did not say so in its `RAC`.
    pub fn has_close(self) -> bool {
        self >= Self::V1_8_3
    }
}

/// How strings become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As HTML forms are encoded: pure ASCII, a space is `+`. All versions below 1.9, and the handshake of all.
    Old,
    /// UTF-8 with only what would end a token escaped.
    Smart,
}

/// Which parts the description of a table has. The same version is read in two ways by different SDKs: the items'
/// names are required by some and break others, so the choice depends on who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableLayout {
    /// Below 1.9: neither the data adapter's name nor the items.
    Old,
    /// 1.9 without the items' names and statistics.
    Short,
    /// 1.9 with both.
    Full,
}

/// How to speak with one remote, after its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Of strings.
    pub encoding: Encoding,
    /// Of tables.
    pub tables: TableLayout,
}

impl Dialect {
    /// The dialect of a version; `items` tells whether tables name their items where the version knows of that.
    pub fn new(version: Version, items: bool) -> Self {
        let tables = match version.encoding() {
            Encoding::Old => TableLayout::Old,
            Encoding::Smart if items => TableLayout::Full,
            Encoding::Smart => TableLayout::Short,
        };
        Self {
            encoding: version.encoding(),
            tables,
        }
    }
}

/// The modes, by their letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `R`
    Raw,
    /// `M`
    Merge,
    /// `D`
    Distinct,
    /// `C`
    Command,
}

impl Mode {
    /// The letter of the protocol.
    pub fn letter(self) -> u8 {
        match self {
            Self::Raw => b'R',
            Self::Merge => b'M',
            Self::Distinct => b'D',
            Self::Command => b'C',
        }
    }
}

/// A set of modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// No mode.
    pub const NONE: Self = Self(0);

    /// Whether the mode is in the set.
    pub fn contains(self, mode: Mode) -> bool {
        self.0 & 1 << mode as u8 != 0
    }

    /// The set with one more mode.
    #[must_use]
    pub fn with(self, mode: Mode) -> Self {
        Self(self.0 | 1 << mode as u8)
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn parse(token: &str) -> Result<Self, Malformed> {
        if matches!(token, "#" | "$" | "") {
            return Ok(Self::default());
        }
        token.bytes().try_fold(Self::default(), |modes, letter| {
            let all = [Mode::Raw, Mode::Merge, Mode::Distinct, Mode::Command];
            let mode = all.into_iter().find(|mode| mode.letter() == letter);
            mode.map(|mode| modes.with(mode))
                .ok_or(Malformed("an unknown mode"))
        })
    }
}

/// A received line.
#[derive(Clone, Debug)]
pub enum Line<'a> {
    /// Only tells that the remote is alive.
    Keepalive,
    /// Everything else.
    Message {
        /// The id of the request that is answered, or the remote's clock in a notification.
        id: &'a str,
        /// What it is.
        method: &'a str,
        /// The rest.
        tokens: Tokens<'a>,
    },
}

/// Takes a line apart as far as all lines are alike. `line` is without its end.
pub fn read_line(line: &str) -> Result<Line<'_>, Malformed> {
    if line == KEEPALIVE {
        return Ok(Line::Keepalive);
    }
    let mut tokens = Tokens::new(line);
    let id = tokens.required()?;
    let method = tokens.required()?;
    Ok(Line::Message { id, method, tokens })
}
