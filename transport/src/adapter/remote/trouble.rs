//! What remotes do wrong: what ends them; and what does not, said once per connection and kind and counted from then on,
//! so that a bad remote cannot fill the log.

use super::lines::Broken;
use engine::ari::exception::Exception;
use std::fmt;

/// What was wrong with a remote that was served.
pub(super) enum Loss {
    Broken(Broken),
    Failed(Exception),
    Silent,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Failed(exception) => write!(f, "it has failed: {}", exception.message),
            Self::Silent => f.write_str("keepalive timeout"),
        }
    }
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A line that makes no sense.
    Malformed,
    /// An event of an item that is not subscribed to under this id.
    Stale,
    /// An event that no ring can take.
    TooLarge,
    /// The adapter refuses an item.
    Refused,
    /// A reply to nothing, or after its time.
    LateReply,
    /// A request that was not answered in time.
    NoReply,
    /// A request that the adapter failed on, rather than refused.
    Failed,
}

impl Trouble {
    const ALL: [Self; 7] = [
        Self::Malformed,
        Self::Stale,
        Self::TooLarge,
        Self::Refused,
        Self::LateReply,
        Self::NoReply,
        Self::Failed,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Malformed => "lines that make no sense",
            Self::Stale => "events of items that are not subscribed to",
            Self::TooLarge => "events that are too large",
            Self::Refused => "items refused by the adapter",
            Self::LateReply => "replies to no request that is open",
            Self::NoReply => "requests without a reply",
            Self::Failed => "requests that the adapter failed on",
        }
    }
}

/// The troubles with one connection.
pub(super) struct Troubles {
    adapter: String,
    counts: [u64; Trouble::ALL.len()],
}

impl Troubles {
    pub fn new(adapter: &str) -> Self {
        Self {
            adapter: adapter.to_owned(),
            counts: [0; Trouble::ALL.len()],
        }
    }

    /// A new connection.
    pub fn clear(&mut self) {
        self.counts = [0; Trouble::ALL.len()];
    }

    /// It has happened again, or for the first time.
    pub fn note(&mut self, trouble: Trouble, what: &dyn fmt::Display) {
        let count = &mut self.counts[trouble as usize];
        *count += 1;
        if *count == 1 {
            let adapter = &self.adapter;
            // What comes from the remote is cut: a line may be long.
            let what: String = what.to_string().chars().take(200).collect();
            tracing::warn!(adapter, "{}, the first: {what}", trouble.text());
        }
    }

    /// For the end of the connection: what was counted.
    pub fn summary(&self) -> String {
        let told = Trouble::ALL
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0);
        told.map(|(trouble, count)| format!("; {}: {count}", trouble.text()))
            .collect()
    }
}
