//! Data adapters, as far as they touch this machine.
//!
//! An adapter brings the events of items into the server. Those that live in this process run on a thread of their own;
//! [`feed`] is the pair of rings between that thread and the ingest core. The ones that ship with the server are
//! [`Source`]s, which have the thread to themselves; those that others write are [`data::DataAdapter`]s, which are
//! called on it.
//!
//! | Module | What it is |
//! |---|---|
//! | [`data`], [`publisher`] | the interface for data adapters that others write |
//! | [`metadata`] | the same for metadata adapters, and the desk at which they are asked |
//! | [`feed`], [`inbox`], `record` | the two ends of the rings, and how an event lies in them |
//! | `overflow` | what a full ring has no room for, merged |
//! | [`demo`], `market`, `desk` | the stock list: 30 invented companies on a random walk; their trades in other modes |
//! | [`lines`], [`line_format`] | lines of text from a TCP or Unix socket as a feed |
//! | [`replay`], `pace` | a file as a feed: CSV, or JSON lines |
//! | [`literal`] | the built-in metadata adapter with rules: users, families of items, limits |
//! | [`remote`] | adapters in other processes, over the adapter protocol |

pub mod data;
pub mod demo;
mod desk;
pub mod feed;
pub mod inbox;
pub mod line_format;
pub mod lines;
pub mod literal;
mod market;
pub mod metadata;
mod overflow;
mod pace;
pub mod publisher;
mod record;
pub mod remote;
pub mod replay;
#[cfg(test)]
mod testkit;

use feed::{Feed, FeedCapacity, FeedCommand};
use inbox::FeedInbox;
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The guide for those who write adapters: its program in Rust is a test.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
pub struct Guide;

/// Why an adapter cannot begin, or go on.
pub type AdapterError = Box<dyn std::error::Error + Send + Sync>;

/// A source of events that has a thread of this process to itself.
///
/// The contract is the field's: for an item with a snapshot the adapter answers
/// [`FeedCommand::Subscribe`] with the snapshot's events, then the end of snapshot, then updates; for an item without
/// one, with updates only. MERGE has at most one snapshot event. A subscription that cannot be served is no error
/// that clients hear of: they get no data, as with the reference product, so the adapter ends an empty snapshot and
/// sends nothing more.
///
/// It is shared, not owned, by the thread that runs it, because ingest asks
/// [`Source::is_snapshot_available`] while `run` is under way; what changes belongs into the locals of `run`.
pub trait Source: Send + Sync {
    /// Whether subscriptions of this item begin with a snapshot that is ended by an end of snapshot.
    fn is_snapshot_available(&self, item: &str) -> bool;

    /// It says for itself whether there are snapshots, by [`Feed::subscribed`], and is not asked.
    fn tells_of_snapshots(&self) -> bool {
        false
    }

    /// It looks whether it may merge events ([`feed::Merging`]).
    fn merges(&self) -> bool {
        false
    }

    /// Serves the feed until [`FeedCommand::Stop`].
    fn run(self: Arc<Self>, feed: Feed);
}

/// How a thread that has events for ingest treats the thread that takes them, where both are on one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It interrupts it: whoever takes the events may be on another core, or never sleep.
    Interrupts,
    /// It runs when the other sleeps or yields, which it does before it takes events, or at the end of its slice of time.
    /// Events that are read earlier are not sent earlier, as sending is what that core is busy with; but each of them would
    /// cost two changes of threads.
    GivesWay,
}

impl Manners {
    /// Those towards the one thread of `threading = "shared"`. While that spins it never sleeps, and who gives way would
    /// wait for the end of a slice each time. The thread asks this too: it yields to those who give way.
    pub fn beside_one_thread(spins: bool) -> Self {
        match spins {
            true => Self::Interrupts,
            false => Self::GivesWay,
        }
    }

    /// Those of the calling thread from now on.
    pub fn adopt(self) {
        if self == Self::GivesWay
            && let Err(error) = crate::runtime::topology::give_way()
        {
            tracing::debug!("a thread of adapters interrupts the shard: {error}");
        }
    }
}

/// Starts an adapter on a thread of its own. `wake_ingest` is explained at [`feed::feed`].
pub fn spawn(
    name: &str,
    adapter: Arc<dyn Source>,
    capacity: FeedCapacity,
    manners: Manners,
    wake_ingest: impl Fn() + Send + Sync + 'static,
) -> io::Result<RunningAdapter> {
    let (feed, inbox) = feed::feed(capacity, wake_ingest);
    let shared = Arc::clone(&adapter);
    let thread_name = name.to_owned();
    // A panic ends the adapter, not the server. The feed is dropped on the way, which tells ingest.
    let body = move || {
        manners.adopt();
        panic::catch_unwind(AssertUnwindSafe(|| shared.run(feed))).map_err(|payload| {
            let panic = AdapterPanic {
                adapter: thread_name,
                message: panic_message(payload.as_ref()),
            };
            tracing::error!("{panic}");
            panic
        })
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(RunningAdapter {
        inbox,
        name: name.to_owned(),
        runs: Runs::Here { adapter, thread },
    })
}

/// Who sends the events.
enum Runs {
    /// A thread of this process.
    Here {
        adapter: Arc<dyn Source>,
        thread: JoinHandle<Result<(), AdapterPanic>>,
    },
    /// Another process; its proxy is a task of the thread of all remote adapters.
    Remotely,
}

/// An adapter at work. Dropping this tells it to stop and does not wait for it.
pub struct RunningAdapter {
    /// Where its events arrive.
    pub inbox: FeedInbox,
    name: String,
    runs: Runs,
}

impl RunningAdapter {
    /// An adapter in another process, behind a proxy that feeds `inbox`.
    fn remote(name: &str, inbox: FeedInbox) -> Self {
        Self {
            inbox,
            name: name.to_owned(),
            runs: Runs::Remotely,
        }
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`Source::is_snapshot_available`]; `None` if the adapter says so for itself. The protocol has no such question
    /// for remote adapters: the SDKs end an empty snapshot where there is none.
    pub fn is_snapshot_available(&self, item: &str) -> Option<bool> {
        match &self.runs {
            Runs::Here { adapter, .. } if adapter.tells_of_snapshots() => None,
            Runs::Here { adapter, .. } => Some(adapter.is_snapshot_available(item)),
            Runs::Remotely => Some(true),
        }
    }

    /// See [`Source::merges`].
    pub fn merges(&self) -> bool {
        match &self.runs {
            Runs::Here { adapter, .. } => adapter.merges(),
            Runs::Remotely => false,
        }
    }

    /// Tells the adapter to stop, waits until it has, and says whether it had panicked. Events that were not drained
    /// are lost. A remote adapter is only told: its proxy takes its leave while the rest of the server stops.
    pub fn stop(mut self) -> Result<(), AdapterPanic> {
        // `Stop` needs no room in a ring, so it cannot be handed back.
        let _ = self.inbox.command(FeedCommand::Stop);
        let Runs::Here { thread, .. } = self.runs else {
            return Ok(());
        };
        thread.join().unwrap_or_else(|payload| {
            Err(AdapterPanic {
                adapter: self.name,
                message: panic_message(payload.as_ref()),
            })
        })
    }
}

/// An adapter has ended by a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterPanic {
    /// The adapter's name.
    pub adapter: String,
    /// What it panicked with.
    pub message: String,
}

impl fmt::Display for AdapterPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "data adapter {} has panicked and sends nothing any more: {}",
            self.adapter, self.message
        )
    }
}

impl std::error::Error for AdapterPanic {}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no message)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::feed::FeedState;
    use super::testkit::{self, Heard, hear};
    use super::*;

    #[test]
    fn a_thread_that_gives_way_is_scheduled_so() {
        let policy_of = |manners: Manners| {
            let thread = thread::spawn(move || {
                manners.adopt();
                std::fs::read_to_string("/proc/thread-self/stat").unwrap()
            });
            let stat = thread.join().unwrap();
            // The 41st value; the second may have blanks in it, and ends with the last parenthesis.
            let (_, behind) = stat.rsplit_once(')').unwrap();
            behind.split_whitespace().nth(38).unwrap().to_owned()
        };
        assert_eq!(policy_of(Manners::Interrupts), "0"); // SCHED_OTHER
        assert_eq!(policy_of(Manners::GivesWay), "3"); // SCHED_BATCH
    }

    /// Greets each item, and panics at one of the name "bad".
    struct Greeter;

    impl Source for Greeter {
        fn is_snapshot_available(&self, item: &str) -> bool {
            item != "bad"
        }

        fn run(self: Arc<Self>, mut feed: Feed) {
            loop {
                match feed.next_command(None) {
                    Some(FeedCommand::Subscribe { item, name, .. }) => {
                        assert!(self.is_snapshot_available(&name), "no such item: {name}");
                        feed.update(item, true, &[("hello", Some(&name))]).unwrap();
                    }
                    Some(FeedCommand::Unsubscribe { .. }) | None => {}
                    Some(FeedCommand::Stop) => return,
                }
            }
        }
    }

    fn subscribe(running: &mut RunningAdapter, name: &str) {
        running.inbox.command(testkit::subscribe(3, name)).unwrap();
    }

    fn greeter() -> RunningAdapter {
        spawn(
            "greeter",
            Arc::new(Greeter),
            FeedCapacity::default(),
            Manners::Interrupts,
            || (),
        )
        .unwrap()
    }

    #[test]
    fn an_adapter_answers_and_stops() {
        let mut running = greeter();
        assert_eq!(running.is_snapshot_available("good"), Some(true));
        subscribe(&mut running, "good");
        while running.inbox.is_empty() {
            thread::yield_now();
        }
        assert_eq!(
            hear(&mut running.inbox),
            [Heard::update(3, true, &[("hello", Some("good"))])]
        );
        assert_eq!(running.stop(), Ok(()));
    }

    #[test]
    fn a_panic_is_contained_and_reported() {
        let mut running = greeter();
        subscribe(&mut running, "bad");
        while !running.inbox.is_dead() {
            thread::yield_now();
        }
        assert_eq!(running.inbox.state(), FeedState::Panicked);
        let panic = running.stop().unwrap_err();
        assert_eq!(
            (panic.adapter.as_str(), panic.message.as_str()),
            ("greeter", "no such item: bad")
        );
    }
}
