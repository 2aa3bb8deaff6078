//! What a metadata adapter is asked and told, what it answers, and what it asks by itself.

use super::exception::Exception;
use super::values::{LineWriter, Malformed, Tokens, decode, integer};
use super::{Dialect, Encoding, Mode, Modes, TableLayout};
use std::borrow::Cow;

/// One request. Each has its own method, which the reply repeats.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// `NUS`, or `NUA` where the client's certificate counts: who wants a session?
    User {
        /// As the client gave it.
        user: Option<&'a str>,
        /// As the client gave it.
        password: Option<&'a str>,
        /// The name in the client's certificate, on ports that ask for one: `Some(None)` if there is none.
        principal: Option<Option<&'a str>>,
        /// Headers of the client's request in lower case, and `REQUEST_ID`.
        headers: &'a [(&'a str, &'a str)],
    },
    /// `NNS`: this session opens.
    NewSession {
        /// The session's user.
        user: Option<&'a str>,
        /// The session.
        session: &'a str,
        /// Where the client is and what it is.
        context: &'a [(&'a str, Option<&'a str>)],
    },
    /// `NSC`: this session is closed.
    SessionClosed {
        /// The session.
        session: &'a str,
    },
    /// `GIS`: which items are in this group?
    Items {
        /// The session's user.
        user: Option<&'a str>,
        /// The group.
        group: &'a str,
        /// The session.
        session: &'a str,
    },
    /// `GSC`: which fields are in this schema?
    Schema {
        /// The session's user.
        user: Option<&'a str>,
        /// The group that it is for.
        group: &'a str,
        /// The schema.
        schema: &'a str,
        /// The session.
        session: &'a str,
    },
    /// `GIT`: what are these items, whoever looks at them?
    ItemData {
        /// The items.
        items: &'a [Box<str>],
    },
    /// `GUI`: what may this user have of these items?
    UserItemData {
        /// The user.
        user: Option<&'a str>,
        /// The items.
        items: &'a [Box<str>],
    },
    /// `NUM`: a client sends this.
    Message {
        /// The session's user.
        user: Option<&'a str>,
        /// The session.
        session: &'a str,
        /// The text.
        message: &'a str,
    },
    /// `NNT`: may the session have this subscription?
    NewTable {
        /// The session's user.
        user: Option<&'a str>,
        /// The session.
        session: &'a str,
        /// The subscription.
        table: Table<'a>,
    },
    /// `NTC`: the subscription is over.
    TableClosed {
        /// The session.
        session: &'a str,
        /// The subscription.
        table: Table<'a>,
        /// What became of the updates of each item, if the adapter wanted to know.
        statistics: &'a [Statistics],
    },
}

/// A subscription, as adapters see it.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// Its number within the session.
    pub window: i64,
    /// Its mode.
    pub mode: Mode,
    /// As the client gave it.
    pub group: &'a str,
    /// The data adapter's name.
    pub data_adapter: &'a str,
    /// As the client gave it.
    pub schema: &'a str,
    /// The first and the last item of the group that were asked for, from 1.
    pub range: (usize, usize),
    /// As the client gave it.
    pub selector: Option<&'a str>,
    /// The items, by name.
    pub items: &'a [Box<str>],
}

/// Updates of one item in one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Were sent.
    pub sent: u64,
    /// Should have been sent and were not.
    pub lost: u64,
    /// Were merged into others.
    pub filtered: u64,
}

impl Request<'_> {
    /// The method's name.
    pub fn method(&self) -> &'static str {
        match self {
            Self::User {
                principal: None, ..
            } => "NUS",
            Self::User { .. } => "NUA",
            Self::NewSession { .. } => "NNS",
            Self::SessionClosed { .. } => "NSC",
            Self::Items { .. } => "GIS",
            Self::Schema { .. } => "GSC",
            Self::ItemData { .. } => "GIT",
            Self::UserItemData { .. } => "GUI",
            Self::Message { .. } => "NUM",
            Self::NewTable { .. } => "NNT",
            Self::TableClosed { .. } => "NTC",
        }
    }

    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>, id: &str, dialect: Dialect) {
        let mut line = LineWriter::start(out, id, self.method(), dialect.encoding);
        match *self {
            Self::User {
                user,
                password,
                principal,
                headers,
            } => {
                line.string(user).string(password);
                if let Some(principal) = principal {
                    line.string(principal);
                }
                for (name, value) in headers {
                    line.text(name).text(value);
                }
            }
            Self::NewSession {
                user,
                session,
                context,
            } => {
                line.string(user).text(session);
                for (name, value) in context {
                    line.text(name).string(*value);
                }
            }
            Self::SessionClosed { session } => {
                line.text(session);
            }
            Self::Items {
                user,
                group,
                session,
            } => {
                line.string(user).text(group).text(session);
            }
            Self::Schema {
                user,
                group,
                schema,
                session,
            } => {
                line.string(user).text(group).text(schema).text(session);
            }
            Self::ItemData { items } => {
                for item in items {
                    line.text(item);
                }
            }
            Self::UserItemData { user, items } => {
                line.string(user);
                for item in items {
                    line.text(item);
                }
            }
            Self::Message {
                user,
                session,
                message,
            } => {
                line.string(user).text(session).text(message);
            }
            Self::NewTable {
                user,
                session,
                ref table,
            } => {
                line.string(user).text(session);
                table.write(&mut line, dialect.tables);
            }
            Self::TableClosed {
                session,
                ref table,
                statistics,
            } => {
                line.text(session);
                table.write(&mut line, dialect.tables);
                if dialect.tables == TableLayout::Full {
                    line.integer(statistics.len());
                    for item in statistics {
                        line.long(item.sent).long(item.lost).long(item.filtered);
                    }
                }
            }
        }
        line.end();
    }
}

impl Table<'_> {
    fn write(&self, line: &mut LineWriter<'_>, layout: TableLayout) {
        line.integer(self.window).mode(self.mode).text(self.group);
        if layout != TableLayout::Old {
            line.text(self.data_adapter);
        }
        line.text(self.schema);
        line.integer(self.range.0).integer(self.range.1);
        line.string(self.selector);
        if layout == TableLayout::Full {
            line.integer(self.items.len());
            for item in self.items {
                line.text(item);
            }
        }
    }
}

/// What a metadata adapter says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromMetadata<'a> {
    /// To a request of ours.
    Reply(Result<Reply<'a>, Exception>),
    /// `FST`: end this session.
    Terminate {
        /// The session.
        session: Cow<'a, str>,
        /// Code and text for the client, if the adapter gives any.
        cause: Option<(i64, Option<Cow<'a, str>>)>,
    },
    /// `FUS`: end this subscription.
    Unsubscribe {
        /// The session.
        session: Cow<'a, str>,
        /// The subscription's number within it.
        window: i64,
    },
    /// `FAL`: the adapter as a whole has failed.
    Failed(Exception),
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// `NUS`, `NUA`
    User {
        /// Kilobits per second; `None` is no limit.
        bandwidth_kbps_max: Option<f64>,
        /// `NNT` and `NTC` are wanted.
        wants_tables: bool,
    },
    /// `NNS`
    Session {
        /// Seconds after which the session is to be ended; `None`: never.
        time_to_live_s: Option<u64>,
    },
    /// `GIS`, `GSC`
    Names(Vec<Cow<'a, str>>),
    /// `GIT`, `GUI`
    Items(Vec<ItemData>),
    /// `NNT`
    Table {
        /// The adapter may end the subscription later.
        can_unsubscribe: bool,
        /// `NTC` shall tell what became of the updates.
        wants_statistics: bool,
    },
    /// `NUM`, with what the client shall be told. The SDKs there are send nothing; a string is an extension.
    Message(Option<Cow<'a, str>>),
    /// `NSC`, `NTC`
    Done,
}

/// One item in the answers to `GIT` and `GUI`. The numbers mean different things in the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ItemData {
    /// `GIT`: events in a snapshot in DISTINCT mode. `GUI`: updates in a buffer; 0 is no limit.
    pub length: u64,
    /// `GIT`: updates per second that the source may be thinned out to; 0 is not at all. `GUI`: updates per second
    /// that the user may have; 0 is no limit.
    pub frequency: f64,
    /// The modes that are allowed.
    pub modes: Modes,
}

/// Reads what follows the method. `None`: a method that is not a metadata adapter's.
pub fn read<'a>(
    method: &str,
    mut tokens: Tokens<'a>,
    encoding: Encoding,
) -> Result<Option<FromMetadata<'a>>, Malformed> {
    match method {
        "FST" => {
            let session = tokens.text(encoding)?;
            let cause = match tokens.required()? {
                "I" => Some((integer(tokens.required()?)?, tokens.string(encoding)?)),
                _ => None,
            };
            return Ok(Some(FromMetadata::Terminate { session, cause }));
        }
        "FUS" => {
            let session = tokens.text(encoding)?;
            let window = tokens.integer()?;
            return Ok(Some(FromMetadata::Unsubscribe { session, window }));
        }
        _ => {}
    }
    if let Some(exception) = Exception::read(&tokens, encoding)? {
        return Ok(Some(match method {
            "FAL" => FromMetadata::Failed(exception),
            _ => FromMetadata::Reply(Err(exception)),
        }));
    }
    let reply = match method {
        "NUS" | "NUA" => Reply::User {
            bandwidth_kbps_max: tokens
                .number()?
                .filter(|kbps| *kbps > 0.0 && kbps.is_finite()),
            wants_tables: tokens.boolean()?,
        },
        "NNS" => Reply::Session {
            time_to_live_s: match tokens.required()? {
                "I" => u64::try_from(integer(tokens.required()?)?)
                    .ok()
                    .filter(|seconds| *seconds > 0),
                _ => None,
            },
        },
        "GIS" | "GSC" => {
            let mut names = Vec::new();
            while !tokens.is_at_end() {
                names.push(tokens.text(encoding)?);
            }
            Reply::Names(names)
        }
        "GIT" | "GUI" => {
            let mut items = Vec::new();
            while !tokens.is_at_end() {
                let length = u64::try_from(tokens.integer()?).unwrap_or(0);
                let frequency = tokens.number()?.unwrap_or(0.0).max(0.0);
                tokens.expect("M")?;
                let modes = Modes::parse(tokens.required()?)?;
                items.push(ItemData {
                    length,
                    frequency,
                    modes,
                });
            }
            Reply::Items(items)
        }
        "NNT" => match tokens.clone().next() {
            Some("B") => Reply::Table {
                can_unsubscribe: tokens.boolean()?,
                wants_statistics: tokens.boolean()?,
            },
            _ => Reply::Table {
                can_unsubscribe: false,
                wants_statistics: false,
            },
        },
        "NUM" => match tokens.next() {
            Some("S") => Reply::Message(decode(tokens.required()?, encoding)?),
            _ => Reply::Message(None),
        },
        "NSC" | "NTC" => Reply::Done,
        _ => return Ok(None),
    };
    Ok(Some(FromMetadata::Reply(Ok(reply))))
}

/// Appends the answer to `FST`, or to `FUS` with whether the adapter was entitled to it.
pub fn answer_order(out: &mut Vec<u8>, id: &str, entitled: Option<bool>) {
    match entitled {
        None => LineWriter::start(out, id, "FST", Encoding::Smart)
            .bare("V")
            .end(),
        Some(entitled) => LineWriter::start(out, id, "FUS", Encoding::Smart)
            .boolean(entitled)
            .end(),
    }
}
