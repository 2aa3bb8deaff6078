//! Metadata adapters that others write: [`MetadataAdapter`], and what it is told and answers.
//!
//! | Module | What it is |
//! |---|---|
//! | [`answer`] | an answer, now or later |
//! | [`control`] | what an adapter wants of the server of its own accord |
//! | `desk` | what shards ask, and who waits for what; on a thread of its own |
//! | `calls` | which calls a question takes, and what clients are told of their results |
//! | `lanes` | the threads on which the adapter is called, and the queues before them |

pub mod answer;
mod calls;
pub mod control;
pub(crate) mod desk;
mod lanes;

pub use crate::adapter::data::Place;
pub use answer::{Answer, Promise};
pub use control::MetadataControl;
pub use engine::item::safe::TradeSafe;
pub use engine::item::selector::{Check, Selector};
pub use engine::metadata::client::{Certificate, Headers};
pub use engine::metadata::{Client, Statistics};
pub use engine::tlcp::request::Mode;

use crate::adapter::AdapterError;
use std::any::Any;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Decides who may do what.
///
/// Its functions are called on several threads at once ([`MetadataOptions`] says on how many), none of which serves
/// clients: an adapter may take its time, and looks after what it keeps itself. Users that log in wait for other threads
/// than those who subscribe, and these for others than messages, so that a slow login holds up no subscription. An adapter
/// that would rather not block a thread answers [later](Answer::later). A call that panics counts as failed.
///
/// Every function has a default: an adapter that overrides none lets everybody in, to everything; a group is its items'
/// names with blanks between, and a schema its fields' names.
///
/// ```
/// use brightwire::metadata::{Admission, Answer, Login, MetadataAdapter, MetadataError};
///
/// /// Only Ann may come in.
/// struct OnlyAnn;
///
/// impl MetadataAdapter for OnlyAnn {
///     fn notify_user(&self, login: &Login) -> Answer<Admission> {
///         match (login.user(), login.password()) {
///             (Some("ann"), Some("secret")) => Answer::ok(),
///             _ => MetadataError::Access.into(),
///         }
///     }
/// }
/// ```
///
/// What a client is told that is refused:
///
/// | Error | session | subscription | message |
/// |---|---|---|---|
/// | [`Access`](MetadataError::Access) | 1 | 66 | 35 |
/// | [`Unavailable`](MetadataError::Unavailable) | 6: try again | 66 | 35 |
/// | [`Credits`](MetadataError::Credits) | the code and text | the code and text | the code and text |
/// | [`ConflictingSession`](MetadataError::ConflictingSession) | the other session is closed, and the adapter asked again | 66 | 35 |
/// | [`Items`](MetadataError::Items) | 66 | 21, or 22 if it is the schema that is asked about | 35 |
/// | [`Schema`](MetadataError::Schema) | 66 | 23 | 35 |
/// | [`Notification`](MetadataError::Notification) | 66 | 66 | 34 |
/// | [`Failed`](MetadataError::Failed), a panic | 66 | 66 | 35 |
/// | no answer in time | 6: try again | 66 | 35 |
#[allow(unused_variables)]
pub trait MetadataAdapter: Send + Sync + 'static {
    /// The server starts, and goes on when this returns. If it fails, the server does not start.
    fn init(&mut self, place: &Place, control: MetadataControl) -> Result<(), AdapterError> {
        Ok(())
    }

    /// Somebody wants a session. What is granted with [`Admission::with_rights`] can be seen in all later calls about the
    /// session.
    fn notify_user(&self, login: &Login) -> Answer<Admission> {
        Answer::ok()
    }

    /// A session opens whose user was let in. The adapter may still refuse it, or name another session that must be closed
    /// first. It hears of the session's end by [`MetadataAdapter::notify_session_close`].
    fn notify_new_session(&self, session: &Session, client: &Client) -> Result<(), MetadataError> {
        Ok(())
    }

    /// Kilobits per second that the session may be sent at most; `None` is no limit.
    fn allowed_max_bandwidth(&self, session: &Session) -> Option<f64> {
        None
    }

    /// The age at which the session ends, and its client opens another; `None`: as the server is configured.
    fn session_time_to_live(&self, session: &Session) -> Option<Duration> {
        None
    }

    /// A session is over. Called once for each session that [`MetadataAdapter::notify_new_session`] has agreed to, after
    /// all other calls about it.
    fn notify_session_close(&self, session: &Session) {}

    /// The items of a group, in order. They need not have the names that the client gave: it never sees them.
    fn items(
        &self,
        session: &Session,
        group: &str,
        data_adapter: &str,
    ) -> Result<Vec<String>, MetadataError> {
        Ok(names(group))
    }

    /// The fields of a schema, in order; at least one.
    fn schema(
        &self,
        session: &Session,
        group: &str,
        data_adapter: &str,
        schema: &str,
    ) -> Result<Vec<String>, MetadataError> {
        Ok(names(schema))
    }

    /// Whether this item may be looked at in this mode by anybody.
    fn mode_may_be_allowed(&self, item: &str, data_adapter: &str, mode: Mode) -> bool {
        true
    }

    /// Whether this session may look at the item in this mode.
    fn is_mode_allowed(
        &self,
        session: &Session,
        item: &str,
        data_adapter: &str,
        mode: Mode,
    ) -> bool {
        true
    }

    /// Updates per second of this item that the session may have at most; `None` is no limit. With a limit, the item
    /// cannot be had unfiltered.
    fn allowed_max_item_frequency(
        &self,
        session: &Session,
        item: &str,
        data_adapter: &str,
    ) -> Option<f64> {
        None
    }

    /// Events of this item that may wait for the session at most (MERGE and DISTINCT); `None` is no limit but the
    /// server's.
    fn allowed_buffer_size(
        &self,
        session: &Session,
        item: &str,
        data_adapter: &str,
    ) -> Option<u32> {
        None
    }

    /// The rate to which the item's events are thinned out for everybody (MERGE and DISTINCT); `None` leaves them alone.
    fn min_source_frequency(&self, item: &str, data_adapter: &str) -> Option<f64> {
        None
    }

    /// How many events make up the item's snapshot in DISTINCT mode, at most.
    fn distinct_snapshot_length(&self, item: &str, data_adapter: &str) -> u32 {
        0
    }

    /// Which of the item's events are never merged into others nor dropped without a word, for nobody. What the
    /// configuration says of the item is added.
    fn trade_safe(&self, item: &str, data_adapter: &str) -> TradeSafe {
        TradeSafe::Nothing
    }

    /// What the session means by this selector, which it named when it subscribed to the item: the events that it gets are
    /// those that pass. With `None`, and by default, it is what the configuration says of the name; one that is not there
    /// either is refused with code 25. An adapter that wants to refuse others does so in
    /// [`MetadataAdapter::notify_new_tables`].
    fn selector(
        &self,
        session: &Session,
        item: &str,
        data_adapter: &str,
        selector: &str,
    ) -> Option<Selector> {
        None
    }

    /// Whether the two functions below shall be called for this session.
    fn wants_tables_notification(&self, session: &Session) -> bool {
        false
    }

    /// The session subscribes, and all else is decided. The adapter may still refuse it.
    fn notify_new_tables(&self, session: &Session, table: &Table) -> Result<(), MetadataError> {
        Ok(())
    }

    /// A subscription is over that [`MetadataAdapter::notify_new_tables`] has agreed to, with what became of the updates of
    /// each of its items.
    fn notify_tables_close(&self, session: &Session, table: &Table, statistics: &[Statistics]) {}

    /// The client has sent a message. What is answered goes back to it. The messages of one sequence come in their order
    /// and one after the other. By default none is wanted.
    fn notify_user_message(&self, session: &Session, message: &str) -> Answer<Option<String>> {
        MetadataError::Notification.into()
    }
}

fn names(list: &str) -> Vec<String> {
    list.split_ascii_whitespace().map(Into::into).collect()
}

/// Who wants a session.
pub struct Login {
    pub(crate) user: Option<Box<str>>,
    pub(crate) password: Option<Box<str>>,
    pub(crate) client: Box<Client>,
}

impl Login {
    /// The user's name, as the client gave it. Absent is not the same as empty.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, as the client gave it.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Where the client is, the headers of its request, and what it says that it is.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Login {
    /// Without the password, so that it does not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// A user is let in.
#[derive(Clone, Default)]
pub struct Admission {
    rights: Rights,
}

impl Admission {
    /// With something of the adapter's own, to be found again by [`Session::rights`].
    pub fn with_rights<T: Any + Send + Sync>(rights: T) -> Self {
        Self {
            rights: Rights(Some(Arc::new(rights))),
        }
    }
}

#[derive(Clone, Default)]
struct Rights(Option<Arc<dyn Any + Send + Sync>>);

/// A session, or one that is about to be.
pub struct Session {
    id: Box<str>,
    user: Option<Box<str>>,
    rights: Rights,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its user's name, as the client gave it.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What the adapter has let the user in with, if it was of this type.
    pub fn rights<T: Any>(&self) -> Option<&T> {
        self.rights.0.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its number within the session.
    pub sub_id: u32,
    /// Its mode.
    pub mode: Mode,
    /// The group, as the client gave it.
    pub group: String,
    /// The schema, as the client gave it.
    pub schema: String,
    /// The data adapter.
    pub data_adapter: String,
    /// The selector, as the client gave it.
    pub selector: Option<String>,
    /// The items that are subscribed to.
    pub items: Vec<String>,
}

/// Why something is refused, or has failed. Each kind is an exception of the reference product's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// The user is unknown, or the password is wrong.
    Access,
    /// It cannot be told now whether the user is known.
    Unavailable,
    /// A refusal with a code of the adapter's own, 0 or below, and a text, both of which the client is told.
    Credits {
        /// The code. One above 0, which would be the protocol's, counts as 0.
        code: i64,
        /// The text.
        text: String,
    },
    /// Another session must be closed before this one can open. It is, and [`MetadataAdapter::notify_new_session`] asked
    /// again, for a session of another id.
    ConflictingSession {
        /// The other session.
        session: String,
        /// What the client is told if the other session cannot be found.
        code: i64,
        /// The text to that.
        text: String,
    },
    /// The item group is unknown; said about a schema: it does not fit the group.
    Items,
    /// The schema is unknown.
    Schema,
    /// The adapter has no use for this, or cannot deal with it.
    Notification,
    /// The adapter has failed. The reason is for the log; clients are not told.
    Failed(String),
}

impl MetadataError {
    /// A refusal with a code of the adapter's own and a text.
    pub fn credits(code: i64, text: impl Into<String>) -> Self {
        Self::Credits {
            code,
            text: text.into(),
        }
    }
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access => f.write_str("user or password is wrong"),
            Self::Unavailable => f.write_str("it cannot be told now"),
            Self::Credits { code, text } => write!(f, "{text} (code {code})"),
            Self::ConflictingSession { session, .. } => {
                write!(f, "session {session} is in the way")
            }
            Self::Items => f.write_str("the item group is unknown"),
            Self::Schema => f.write_str("the schema is unknown"),
            Self::Notification => f.write_str("not wanted"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// Any other error is a failure: `?` makes it one.
impl<E: std::error::Error> From<E> for MetadataError {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// How a metadata adapter is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataOptions {
    /// Threads for [`MetadataAdapter::notify_user`].
    pub user_threads: NonZeroUsize,
    /// Threads for the other calls that a new session takes.
    pub session_threads: NonZeroUsize,
    /// Threads for the calls that a subscription takes.
    pub subscription_threads: NonZeroUsize,
    /// Threads for [`MetadataAdapter::notify_user_message`].
    pub message_threads: NonZeroUsize,
    /// Users that may wait for a thread; as many subscriptions, and as many messages. Beyond, they are refused at once:
    /// sessions with code 6, which makes clients try again.
    pub queue_len: usize,
    /// How long a question may take, its time in the queue included, before who waits for it is refused.
    pub timeout: Duration,
}

impl Default for MetadataOptions {
    /// 4 threads each; 10,000 may wait; 10 seconds, as the reference product gives remote adapters. Else guesses.
    fn default() -> Self {
        const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();
        Self {
            user_threads: FOUR,
            session_threads: FOUR,
            subscription_threads: FOUR,
            message_threads: FOUR,
            queue_len: 10_000,
            timeout: Duration::from_secs(10),
        }
    }
}
