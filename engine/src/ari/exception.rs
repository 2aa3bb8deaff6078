//! Failures in replies: `<id>|<METHOD>|E<kind>|<message>` and, for some kinds, what the client shall be told.

use super::Encoding;
use super::values::{Malformed, Tokens, decode, integer};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// What kind of failure.
    pub kind: Kind,
    /// For the log; clients are not told.
    pub message: String,
}

/// The kinds of failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `E`, or a letter that is not known: the adapter failed.
    Generic,
    /// `EM`: the metadata adapter cannot be initialised.
    MetadataProvider,
    /// `ED`: the data adapter cannot be initialised.
    DataProvider,
    /// `EA`: the user is refused.
    Access,
    /// `ER`: the user cannot be checked now; the client shall try again.
    ResourceUnavailable,
    /// `EC`: refused, with a code and a text for the client.
    Credits(ForClient),
    /// `EX`: another session of the user is in the way.
    ConflictingSession {
        /// What the client is told if closing that session does not help.
        client: ForClient,
        /// The session in the way.
        session: Option<String>,
    },
    /// `EI`: the group makes no sense.
    Items,
    /// `ES`: the schema makes no sense.
    Schema,
    /// `EN`: refused without a word for the client.
    Notification,
    /// `EU`: the item cannot be subscribed to, or unsubscribed from.
    Subscription,
    /// `EF`: the data adapter as a whole has failed.
    Failure,
}

/// What an adapter wants a client to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForClient {
    /// Zero or below; the protocol's own codes are above.
    pub code: i64,
    /// Null is sent as an empty text.
    pub text: String,
}

impl Exception {
    /// Reads the tokens from the type on, if the type begins with `E`. `None`: it is no exception.
    pub fn read(tokens: &Tokens<'_>, encoding: Encoding) -> Result<Option<Self>, Malformed> {
        let mut tokens = tokens.clone();
        let Some(letters) = tokens.next().and_then(|token| token.strip_prefix('E')) else {
            return Ok(None);
        };
        let text = |tokens: &mut Tokens<'_>| -> Result<Option<String>, Malformed> {
            let token = tokens.next().unwrap_or("#");
            Ok(decode(token, encoding)?.map(Into::into))
        };
        let message = text(&mut tokens)?.unwrap_or_default();
        let kind = match letters {
            "M" => Kind::MetadataProvider,
            "D" => Kind::DataProvider,
            "A" => Kind::Access,
            "R" => Kind::ResourceUnavailable,
            "C" | "X" => {
                let client = ForClient {
                    code: integer(tokens.required()?)?,
                    text: text(&mut tokens)?.unwrap_or_default(),
                };
                if letters == "C" {
                    Kind::Credits(client)
                } else {
                    let session = text(&mut tokens)?;
                    Kind::ConflictingSession { client, session }
                }
            }
            "I" => Kind::Items,
            "S" => Kind::Schema,
            "N" => Kind::Notification,
            "U" => Kind::Subscription,
            "F" => Kind::Failure,
            _ => Kind::Generic,
        };
        Ok(Some(Self { kind, message }))
    }
}
