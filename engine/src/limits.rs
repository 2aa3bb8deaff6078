//! Every bound of the engine in one place, with its unit and what happens at the bound.
//!
//! Where a number comes from: `reference` is the default of the reference product, `guess` is ours and waits for a
//! measurement.

/// The bounds, with their defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one request (a WebSocket message; an HTTP head or body). Told to clients in `CONOK`, who split their
    /// batches by it. Beyond: the transport closes the connection. (reference)
    pub request_bytes_max: usize,
    /// Bytes of requests that may wait on one connection for the session they need. Beyond: the connection is closed.
    /// (guess: twice what one request may hold)
    pub waiting_bytes_max: usize,
    /// Bytes of answers and other lines that may wait for one client. Only requests of that client make them. Beyond:
    /// its connection is closed. (guess)
    pub lines_bytes_max: usize,
    /// Bytes written to one session in one turn before others get theirs. Beyond: the rest follows in the next turn.
    /// (guess: a few TLS records; small beside a socket's buffer)
    pub turn_bytes_max: usize,
    /// Bytes of written lines kept per session, for a client that lost its connection. A line counts 32 besides its
    /// length, and in full for each session, though the text of an update is kept once for all that were sent it in step.
    /// Beyond: the oldest are given up, and a client that lacks them opens a new session. (the reference keeps 1,600; a
    /// phone that changes networks needs some seconds' worth)
    pub recovery_bytes_max: usize,
    /// Bytes of written lines kept for all sessions of one shard. Beyond: each session keeps a sixteenth of the above.
    /// (guess)
    pub recovery_bytes_total_max: usize,
    /// Sessions of one shard. Beyond: `CONERR,8`. (guess: what a shard's memory holds)
    pub sessions_max: usize,
    /// Items of all subscriptions of one shard: what each event may have to be looked at for, and most of the memory. Beyond:
    /// `CONERR,9` for new sessions, `REQERR,68` for subscriptions. (guess: some gigabytes)
    pub subscribed_items_max: usize,
    /// Closed sessions of one shard whose causes are remembered for the binds on their way. Beyond: the oldest is
    /// forgotten, and its client told that there is no such session. (guess)
    pub closed_sessions_max: usize,
    /// Subscriptions of one session. Beyond: `REQERR,68`. (guess: two-level push makes one per key)
    pub subscriptions_per_session_max: usize,
    /// Requests about one subscription that wait for the metadata adapter to decide about it. Beyond: `REQERR,68`. (guess:
    /// clients change their minds some times, programs that fail do so for ever)
    pub deferred_per_subscription_max: usize,
    /// Items of the status adapter that one session may look at. Beyond: `REQERR,21`. (guess: each is looked at once an
    /// interval)
    pub status_items_per_session_max: usize,
    /// Items of one subscription. Beyond: `REQERR,21`. (guess)
    pub items_per_subscription_max: usize,
    /// Messages of one session that have no outcome yet: inside the adapter, in line for it, or waiting for numbers that
    /// are missing. Beyond: `REQERR,34`. (guess)
    pub messages_per_session_max: usize,
    /// Bytes of these messages, and of the names of the session's sequences. Beyond: `REQERR,34`. (guess: twenty of the
    /// largest requests)
    pub message_bytes_per_session_max: usize,
    /// Sequences of one session, which remember the numbers they have used. Beyond: `REQERR,34`. (guess)
    pub message_sequences_per_session_max: usize,
    /// Runs of missing numbers that are remembered, for each sequence and for messages outside of any. Beyond: whether
    /// an old number was used or passed over cannot be told; and outside of sequences, the oldest run is given up before
    /// its time. (guess)
    pub message_gaps_max: usize,
    /// Questions that one shard may have open with the metadata adapters. Beyond: the request is refused as
    /// overload. (guess)
    pub questions_max: usize,
    /// Fields of one item. Beyond: the event is dropped and counted. (guess; numbers of fields are 16 bit)
    pub fields_per_item_max: usize,
    /// Bytes of one field name. Beyond: the event is dropped and counted. (guess)
    pub field_name_bytes_max: usize,
    /// Bytes of all field names and values of one item, with eight more for each. Beyond: the event is dropped and
    /// counted. (guess; a data ring must hold several times this, see [`Limits::for_ring`])
    pub item_bytes_max: usize,
    /// Events that may wait for one client and item where events are kept: DISTINCT, COMMAND, RAW, unfiltered, and MERGE
    /// with a larger buffer. Beyond: as the mode says, see `shard::event_buffer`. (reference)
    pub event_buffer_len_max: usize,
    /// Events of one item that ingest and each shard keep for DISTINCT snapshots, whatever the metadata adapter says.
    /// Beyond: the oldest go. (reference: no snapshot is longer than an event buffer)
    pub snapshot_len_max: usize,
    /// Keys of one COMMAND item. Beyond: the event is dropped and counted. (guess: the longest lists people look at)
    pub keys_per_item_max: usize,
    /// Bytes of all rows kept of one DISTINCT or COMMAND item. Beyond: DISTINCT drops the oldest, COMMAND the event, and
    /// it is counted. (guess)
    pub rows_bytes_max: usize,
    /// Bytes of trade-safe events of one item, and of what goes before them, that are kept for one shard while its ring is
    /// full; and no more of them than `event_buffer_len_max`. Beyond: the oldest go, and clients are told. As much again
    /// for rows that a snapshot still owes as they were before such events; beyond: the row comes with its event only.
    /// (guess: some thousand trades)
    pub held_bytes_max: usize,
    /// Items that ingest keeps. Beyond: the subscription gets no data, and that is counted. (item numbers are 24 bit)
    pub items_max: usize,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        request_bytes_max: 50_000,
        waiting_bytes_max: 100_000,
        lines_bytes_max: 1 << 20,
        turn_bytes_max: 64 << 10,
        recovery_bytes_max: 64 << 10,
        recovery_bytes_total_max: 512 << 20,
        sessions_max: 1_000_000,
        subscribed_items_max: 10_000_000,
        closed_sessions_max: 10_000,
        subscriptions_per_session_max: 10_000,
        deferred_per_subscription_max: 16,
        status_items_per_session_max: 100,
        items_per_subscription_max: 10_000,
        messages_per_session_max: 1_000,
        message_bytes_per_session_max: 1 << 20,
        message_sequences_per_session_max: 1_000,
        message_gaps_max: 64,
        questions_max: 100_000,
        fields_per_item_max: 1_000,
        field_name_bytes_max: 256,
        item_bytes_max: 256 << 10,
        event_buffer_len_max: 1_000,
        snapshot_len_max: 1_000,
        keys_per_item_max: 100_000,
        rows_bytes_max: 64 << 20,
        held_bytes_max: 1 << 20,
        items_max: 4_000_000,
    };

    /// The same, but with items small enough that the largest record and its field names fill no more than a quarter
    /// of a data ring of so many bytes: one that did not fit at all would never be sent.
    pub fn for_ring(self, data_ring_bytes: usize) -> Self {
        Self {
            item_bytes_max: self.item_bytes_max.min(data_ring_bytes / 4),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How far one of the bounds is reached: what is fullest of all that it bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What is measured.
    pub what: &'static str,
    /// How much of it there is.
    pub used: usize,
    /// How much of it there may be.
    pub max: usize,
}

/// The gauges of one core, one for each bound.
#[derive(Debug, Default)]
pub struct Gauges(Vec<Gauge>);

impl Gauges {
    /// Notes how much there is of something, which counts if it is the fullest so far.
    pub fn note(&mut self, what: &'static str, used: usize, max: usize) {
        match self.0.iter_mut().find(|gauge| gauge.what == what) {
            Some(gauge) if used * gauge.max <= gauge.used * max => {}
            Some(gauge) => *gauge = Gauge { what, used, max },
            None => self.0.push(Gauge { what, used, max }),
        }
    }
}

impl From<Gauges> for Vec<Gauge> {
    fn from(gauges: Gauges) -> Self {
        gauges.0
    }
}

// Relations that the code relies on.
const _: () = {
    let limits = Limits::DEFAULT;
    assert!(limits.waiting_bytes_max >= limits.request_bytes_max);
    assert!(limits.fields_per_item_max <= u16::MAX as usize);
    assert!(limits.field_name_bytes_max <= u16::MAX as usize);
    assert!(limits.item_bytes_max < 1 << 30);
    assert!(limits.snapshot_len_max <= limits.event_buffer_len_max);
    assert!(limits.rows_bytes_max >= limits.item_bytes_max);
    assert!(limits.held_bytes_max >= limits.item_bytes_max);
    assert!(limits.items_max < 1 << 24);
    assert!(
        limits.fields_per_item_max * (limits.field_name_bytes_max + 2) <= 2 * limits.item_bytes_max
    );
};
