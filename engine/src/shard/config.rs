//! What a shard is told at its start: times, bounds, and what its server wants to be like.

use super::canary::Canary;
use super::diffs::Diffs;
use super::sieve::Selectors;
use crate::ids::ShardId;
use crate::item::safe::SafeRules;
use crate::limits::Limits;
use crate::time::Duration;

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Tag of this server among those that serve the same clients; must survive a restart.
    pub instance: u16,
    /// `SERVNAME`
    pub server_name: String,
    /// Keep-alive of a client that asks for none.
    pub keepalive_default: Duration,
    /// The shortest keep-alive that a client may ask for.
    pub keepalive_min: Duration,
    /// The longest keep-alive that a client may ask for.
    pub keepalive_max: Duration,
    /// How long a session lives without a connection after a regular end of its last one.
    pub session_timeout: Duration,
    /// How long it lives after its connection broke.
    pub recovery_timeout: Duration,
    /// How long a connection may stay open without a session and without a request.
    pub idle_timeout: Duration,
    /// How long a connection may take nothing before it is closed.
    pub write_timeout: Duration,
    /// The longest time that a poll may wait for data.
    pub idle_max: Duration,
    /// The longest time that a client may announce until its next poll.
    pub polling_max: Duration,
    /// Bytes of a streaming response over HTTP whose client does not say.
    pub content_length_default: u64,
    /// How long written lines are kept for clients that lost them.
    pub recovery_age_max: Duration,
    /// The most that a session may be sent, in kilobits per second, whatever its client asks for and its metadata adapter
    /// allows; `None` is no limit.
    pub bandwidth_kbps_max: Option<f64>,
    /// How long updates of a stream may wait for others, so that they share a write. Only those wait that follow a write
    /// so closely: the first update after a pause goes at once.
    pub update_delay_max: Duration,
    /// How many rows of snapshots a session is sent in a second; `None` is no limit. See `loading`.
    pub snapshot_rows_per_s_max: Option<u32>,
    /// The least time between the starts of two polls of a session; one that comes earlier is held.
    pub poll_interval_min: Duration,
    /// How long a stream may last before its client is asked to bind again; `None` is no limit.
    pub streaming_time_max: Option<Duration>,
    /// How old a session may become; `None` is no limit.
    pub session_duration_max: Option<Duration>,
    /// How long the cause is remembered of a session that was closed, for the bind that is on its way.
    pub closed_memory: Duration,
    /// A user has one session: a new one ends the older ones, on all shards. Sessions without a user name are not
    /// concerned.
    pub one_session_per_user: bool,
    /// The connection of a session that is bound elsewhere is closed without a word, also if its client did not ask
    /// for recovery.
    pub take_over_silent: bool,
    /// A client must say by `LS_cid` what it is.
    pub cid_required: bool,
    /// What clients are told that want a session while none are opened ([`Shard::block`](super::Shard::block)): to try again, or to give up.
    pub blocked_try_again: bool,
    /// Whether clients are told their address.
    pub tell_client_ip: bool,
    /// The host that clients shall send all further requests to, if it is not the one they know.
    pub control_link: Option<String>,
    /// How long a metadata adapter may think.
    pub question_timeout: Duration,
    /// How long the messages of a sequence wait for one that is missing, unless their client is less patient.
    pub missing_message_timeout: Duration,
    /// How often the counters of a session are told to its client at most, if that looks at the status adapter; `None`:
    /// there is none, and nothing is counted for it.
    pub status_interval: Option<Duration>,
    /// Whether updates leave out values that have not changed since the last one. Otherwise every update has all values,
    /// and no row is kept for the sake of the next.
    pub delta_delivery: bool,
    /// Fields that go out as differences.
    pub diffs: Diffs,
    /// Events that may not be merged.
    pub trade_safe: SafeRules,
    /// What clients may select by, besides what metadata adapters say.
    pub selectors: Selectors,
    /// The bounds.
    pub limits: Limits,
    /// A bug, to test the tests.
    pub canary: Canary,
}

impl Config {
    /// Updates per second that a subscription may have if it is limited at all: where updates wait for others, more would not
    /// be sent one by one.
    pub(super) fn frequency_highest(&self) -> Option<f64> {
        let wait_s = self.update_delay_max.as_secs_f64();
        // In thousandths, as clients are told: 30 ms make 33.333.
        (wait_s > 0.0).then(|| (1000.0 / wait_s).floor() / 1000.0)
    }
}

impl Default for Config {
    /// One shard, with the reference product's times.
    fn default() -> Self {
        Self {
            shard: ShardId(0),
            shards: 1,
            instance: 0,
            server_name: "Brightwire".into(),
            keepalive_default: Duration::from_secs(5),
            keepalive_min: Duration::from_secs(1),
            keepalive_max: Duration::from_secs(30),
            session_timeout: Duration::from_secs(10),
            recovery_timeout: Duration::from_secs(13),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(120),
            idle_max: Duration::from_secs(30),
            polling_max: Duration::from_secs(15),
            content_length_default: 4_000_000,
            recovery_age_max: Duration::from_secs(30),
            bandwidth_kbps_max: None,
            update_delay_max: Duration::ZERO,
            snapshot_rows_per_s_max: None,
            poll_interval_min: Duration::ZERO,
            streaming_time_max: None,
            session_duration_max: None,
            closed_memory: Duration::from_secs(5),
            one_session_per_user: false,
            take_over_silent: false,
            cid_required: false,
            blocked_try_again: true,
            tell_client_ip: true,
            control_link: None,
            question_timeout: Duration::from_secs(30),
            missing_message_timeout: Duration::from_secs(30),
            status_interval: None,
            delta_delivery: true,
            diffs: Diffs::default(),
            trade_safe: SafeRules::default(),
            selectors: Selectors::default(),
            limits: Limits::DEFAULT,
            canary: Canary::default(),
        }
    }
}
