//! Every counter in one table: its name, its unit and a sentence. Metrics, dashboards and tests read this table;
//! operators and developers use the same words.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $unit:literal;)+) => {
        /// A counter of the engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// All counters, in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)+];

            /// The name under which it is published.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)+ }
            }

            /// What is counted.
            pub const fn unit(self) -> &'static str {
                match self { $(Counter::$variant => $unit,)+ }
            }

            /// What it means, in a sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Counter::$variant => concat!($($doc,)+),)+ }
            }
        }
    };
}

counters! {
    /// Events that data adapters have published.
    AdapterEvents = "adapter_events", "events";
    /// Events dropped because their item is not subscribed (any more): normal right after an unsubscription.
    AdapterEventsStale = "adapter_events_stale", "events";
    /// Events refused because the item would have become too large; see the limits.
    AdapterEventsTooLarge = "adapter_events_too_large", "events";
    /// Events that an item's prefilter merged into the next one, or dropped for it.
    AdapterEventsFiltered = "adapter_events_filtered", "events";
    /// Events of COMMAND items that say nothing: no key, no command, or the deletion of a key that is not there.
    CommandEventsIgnored = "command_events_ignored", "events";
    /// Records put into the shards' data rings.
    Records = "records", "records";
    /// Times that a data ring had no room and an item was marked to be sent later, as it is then.
    RingFull = "ring_full", "times";
    /// Items that ingest keeps.
    ItemsOpened = "items_opened", "items";
    /// Items that ingest has given back to their data adapters.
    ItemsClosed = "items_closed", "items";
    /// Items refused because ingest keeps as many as it may.
    ItemsRefused = "items_refused", "items";

    /// Sessions created.
    SessionsOpened = "sessions_opened", "sessions";
    /// Sessions ended, for whatever reason.
    SessionsClosed = "sessions_closed", "sessions";
    /// Session creations that were refused.
    SessionsRefused = "sessions_refused", "sessions";
    /// Sessions that ended because no connection came back for them in time.
    SessionsExpired = "sessions_expired", "sessions";
    /// Subscriptions that became active.
    SubscriptionsOpened = "subscriptions_opened", "subscriptions";
    /// Subscriptions that ended.
    SubscriptionsClosed = "subscriptions_closed", "subscriptions";
    /// Requests taken from clients.
    Requests = "requests", "requests";
    /// Requests answered with an error.
    RequestsRefused = "requests_refused", "requests";
    /// Messages accepted from clients.
    Messages = "messages", "messages";
    /// Bytes of the messages accepted from clients.
    MessageBytes = "message_bytes", "bytes";
    /// Messages that a metadata adapter has processed.
    MessagesDone = "messages_done", "messages";
    /// Messages that a metadata adapter has refused or failed on.
    MessagesFailed = "messages_failed", "messages";
    /// Messages that were given up because they did not come in time.
    MessagesSkipped = "messages_skipped", "messages";
    /// Updates written to clients.
    UpdatesSent = "updates_sent", "updates";
    /// Updates that were merged into a later one before a client got them.
    UpdatesConflated = "updates_conflated", "updates";
    /// Updates that were dropped before a client got them, as its subscription allows: they did not fit the buffer of a
    /// DISTINCT item, or were void.
    UpdatesFiltered = "updates_filtered", "updates";
    /// Updates that clients were told to have lost, because more waited for them than may wait.
    UpdatesLost = "updates_lost", "updates";
    /// Updates whose bytes were found ready in a tail cache.
    TailHits = "tail_hits", "updates";
    /// Updates whose bytes had to be encoded.
    TailMisses = "tail_misses", "updates";
    /// Messages written to connections, each holding all lines of a turn.
    Writes = "writes", "writes";
    /// Those of them that were the same as another connection's of the same turn, so that nothing was composed anew.
    WritesShared = "writes_shared", "writes";
    /// Payload bytes written to connections.
    WrittenBytes = "written_bytes", "bytes";
    /// Times that a connection could not take more for now.
    Blocked = "blocked", "times";
    /// Connections closed because they took nothing for too long.
    WriteTimeouts = "write_timeouts", "connections";
    /// Connections closed because they stayed silent without a session.
    IdleTimeouts = "idle_timeouts", "connections";
    /// Connections closed because their client asked for more than a bound allows.
    Overruns = "overruns", "connections";
    /// Requests passed to the shard that owns their session.
    Forwarded = "forwarded", "requests";
    /// Connections moved to the shard that owns their session.
    Moved = "moved", "connections";
}

/// The counters of one core: one writer, plain numbers.
#[derive(Clone, Debug)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}

impl Counters {
    /// Counts one.
    #[inline]
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] += n;
    }

    /// What was counted so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_explained() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
        assert!(Counter::ALL.iter().all(|c| c.help().trim().ends_with('.')));
    }
}
