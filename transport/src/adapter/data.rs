//! Data adapters that others write: [`DataAdapter`], and the loop that calls it on a thread of its own.

use super::feed::{Feed, FeedCapacity, FeedCommand, FeedError};
use super::publisher::{Item, Publisher};
use super::{AdapterError, RunningAdapter, Source};
use engine::ids::ItemId;
use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Brings the events of items into the server.
///
/// All functions are called on one thread, which is the adapter's own: it may take its time, and what it keeps needs no
/// lock. While it takes its time, subscriptions wait for it, but nothing else in the server does. If it panics it ends: its
/// items stay as they are, and the server goes on.
///
/// An adapter that does its own waiting (for a socket, say) has threads of its own, each with a publisher that it gets
/// from [`Publisher::another`]. One that only has something to do from time to time does it in [`DataAdapter::turn`].
///
/// ```
/// use brightwire::{DataAdapter, Item, Publisher, SubscriptionError};
///
/// /// Greets everybody who asks for an item.
/// struct Greeter;
///
/// impl DataAdapter for Greeter {
///     fn subscribe(&mut self, item: &Item, publisher: &mut Publisher) -> Result<(), SubscriptionError> {
///         let greeting = format!("Hello, {}!", item.name());
///         publisher.update(item, &[("greeting", Some(&greeting))])?;
///         Ok(())
///     }
///
///     fn unsubscribe(&mut self, _: &Item, _: &mut Publisher) {}
/// }
/// ```
pub trait DataAdapter: Send + 'static {
    /// The server starts, and goes on when this returns. If it fails, the server does not start.
    fn init(&mut self, place: &Place, publisher: &mut Publisher) -> Result<(), AdapterError> {
        let _ = (place, publisher);
        Ok(())
    }

    /// Whether the events of this item begin with a snapshot: its state (MERGE), its last events (DISTINCT) or its rows
    /// (COMMAND), said by [`Publisher::snapshot`] and ended by [`Publisher::end_of_snapshot`]. Asked before each
    /// [`DataAdapter::subscribe`]. By default there is none: then clients that ask for a snapshot get what has been seen
    /// of the item since somebody subscribed to it.
    fn is_snapshot_available(&mut self, item: &str) -> Result<bool, SubscriptionError> {
        let _ = item;
        Ok(false)
    }

    /// Somebody wants this item, whom nobody wanted before: its events are wanted from now on, beginning with its
    /// snapshot, until [`DataAdapter::unsubscribe`]. They may come later and from another thread. A failure is logged;
    /// clients are not told, they just get no data. In that case there will be no `unsubscribe`.
    fn subscribe(
        &mut self,
        item: &Item,
        publisher: &mut Publisher,
    ) -> Result<(), SubscriptionError>;

    /// Nobody wants this item any more. What is still said of it goes nowhere.
    fn unsubscribe(&mut self, item: &Item, publisher: &mut Publisher);

    /// When [`DataAdapter::turn`] wants to be called; `None`: not at all. Asked after each of the other calls.
    fn next_turn(&self) -> Option<Instant> {
        None
    }

    /// The time that [`DataAdapter::next_turn`] has named has come. A failure ends the adapter: it is logged, and its
    /// items stay as they are.
    fn turn(&mut self, publisher: &mut Publisher) -> Result<(), AdapterError> {
        let _ = publisher;
        Ok(())
    }
}

/// Where an adapter is in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of its adapter set.
    pub adapter_set: String,
    /// Its own name, if it is a data adapter.
    pub data_adapter: Option<String>,
}

/// Why an item cannot be subscribed to. For the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionError(String);

impl SubscriptionError {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for SubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Any error can be the reason: `?` makes it one.
impl<E: std::error::Error> From<E> for SubscriptionError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Starts an adapter on a thread of its own, and waits for its `init`.
pub(crate) fn start(
    adapter: Box<dyn DataAdapter>,
    place: Place,
    capacity: FeedCapacity,
    wake_ingest: impl Fn() + Send + Sync + 'static,
) -> Result<RunningAdapter, String> {
    let (ready, is_ready) = mpsc::sync_channel(1);
    let name = place.to_string();
    let caller = Caller {
        place,
        start: Mutex::new(Some(Start { adapter, ready })),
        ring_bytes: capacity.ring_bytes,
    };
    let running = super::spawn(
        &name,
        Arc::new(caller),
        capacity,
        super::Manners::Interrupts,
        wake_ingest,
    )
    .map_err(|error| format!("data adapter {name}: {error}"))?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok(running),
        Ok(Err(reason)) => Err(format!("data adapter {name} cannot start: {reason}")),
        // Its thread has panicked, and said so.
        Err(_) => Err(format!("data adapter {name} has panicked in its init")),
    }
}

/// A data adapter on its way to its thread.
struct Caller {
    place: Place,
    start: Mutex<Option<Start>>,
    ring_bytes: usize,
}

struct Start {
    adapter: Box<dyn DataAdapter>,
    ready: SyncSender<Result<(), String>>,
}

impl Source for Caller {
    fn is_snapshot_available(&self, _: &str) -> bool {
        false // it is not asked
    }

    fn tells_of_snapshots(&self) -> bool {
        true
    }

    fn merges(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, feed: Feed) {
        let start = self
            .start
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Start { mut adapter, ready }) = start else {
            return; // an adapter runs once
        };
        let mut publisher = Publisher::new(feed, self.ring_bytes);
        let begun = adapter.init(&self.place, &mut publisher);
        let told = begun.as_ref().copied().map_err(ToString::to_string);
        // If the server has given up meanwhile it is of no interest.
        let _ = ready.send(told);
        if begun.is_err() {
            return;
        }
        let mut calls = Calls {
            place: &self.place,
            adapter,
            publisher,
            items: HashMap::new(),
            refused: 0,
        };
        if let Err(failure) = calls.run() {
            tracing::error!(adapter = %self.place, "a data adapter has failed: {failure}");
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.adapter_set)?;
        match &self.data_adapter {
            Some(name) => write!(f, ".{name}"),
            None => Ok(()),
        }
    }
}

/// A data adapter at work.
struct Calls<'c> {
    place: &'c Place,
    adapter: Box<dyn DataAdapter>,
    publisher: Publisher,
    items: HashMap<ItemId, Item>,
    /// Subscriptions that have failed.
    refused: u64,
}

impl Calls<'_> {
    fn run(&mut self) -> Result<(), AdapterError> {
        loop {
            let until = self.adapter.next_turn();
            match self.publisher.feed().next_command(until) {
                Some(FeedCommand::Subscribe {
                    item,
                    name,
                    merging,
                }) => {
                    let item = Item::new(item, name, merging.unwrap_or_default());
                    if self.subscribe(item).is_err() {
                        return Ok(());
                    }
                }
                Some(FeedCommand::Unsubscribe { item }) => {
                    if let Some(item) = self.items.remove(&item) {
                        item.end();
                        self.adapter.unsubscribe(&item, &mut self.publisher);
                    }
                }
                Some(FeedCommand::Stop) => return Ok(()),
                None => self.adapter.turn(&mut self.publisher)?,
            }
        }
    }

    /// The only error is that the server stops.
    fn subscribe(&mut self, item: Item) -> Result<(), FeedError> {
        let snapshot = self.adapter.is_snapshot_available(item.name());
        let taken = match snapshot {
            Ok(snapshot) => {
                self.publisher.subscribed(&item, snapshot)?;
                self.adapter.subscribe(&item, &mut self.publisher)
            }
            Err(refused) => Err(refused),
        };
        match taken {
            Ok(()) => _ = self.items.insert(item.id(), item),
            Err(reason) => {
                self.refused += 1;
                if self.refused == 1 {
                    tracing::warn!(
                        adapter = %self.place,
                        "items are refused by a data adapter, the first, {:?}: {reason}",
                        item.name()
                    );
                }
                // Nobody shall wait for what will not come.
                let feed = self.publisher.feed();
                feed.insist(|feed| feed.end_of_snapshot(item.id()))?;
                item.end();
            }
        }
        Ok(())
    }
}
