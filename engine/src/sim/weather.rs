//! What a run's world is like: each seed has its own limits, delays and manners of the server, from the mild to the
//! absurd.

use super::feed::cast::{self, RECORD_BYTES_MAX};
use super::messages;
use super::world::Options;
use crate::limits::Limits;
use crate::shard::canary::{Bug, Canary};
use crate::shard::{Config, Diffs};
use crate::time::Duration;
use crate::tlcp::diff::{Format, Order, Sizes};

/// How busy and how rough the world is.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Number of shards.
    pub shards: u16,
    /// The server's bounds.
    pub limits: Limits,
    /// Data rings never are full.
    pub rings_fit: bool,
    /// The longest time that passes in one step.
    pub step_micros_max: u64,
    /// Events of the feed in one step.
    pub events_max: usize,
    /// Acts of clients in one step.
    pub acts_max: usize,
    /// In so many of 100 turns a core does nothing, or little.
    pub lazy: u8,
}

impl Weather {
    /// Some weather, for a world of up to so many shards; and what the world is made of.
    pub fn some(shards_max: u16, bug: Option<Bug>, rng: &mut fastrand::Rng) -> (Self, Options) {
        let limits = some_limits(rng);
        let rings_fit = rng.bool();
        let weather = Self {
            shards: rng.u16(1..=shards_max),
            limits: limits.clone(),
            rings_fit,
            step_micros_max: [2_000, 10_000, 50_000][rng.usize(..3)],
            events_max: [4, 15, 60][rng.usize(..3)],
            acts_max: [2, 8, 30][rng.usize(..3)],
            lazy: rng.u8(..95),
        };
        let mut options = Options {
            seed: rng.u64(..),
            config: some_config(limits, bug, rng),
            shards: weather.shards,
            ring_bytes: match rings_fit {
                true => 4 << 20,
                false => rng.usize(RECORD_BYTES_MAX..12_000),
            },
            mail_max: 8,
            delay_max: Duration::from_millis(rng.u64(..4)),
            answer_delay: Duration::from_millis(rng.u64(..30)),
            linger: Duration::from_millis(rng.u64(..2_000)),
            grants: cast::grant,
            snapshot_available: cast::has_snapshot,
            ..Options::default()
        };
        messages::set_answers(&mut options);
        (weather, options)
    }
}

fn some_limits(rng: &mut fastrand::Rng) -> Limits {
    let event_buffer_len_max = [4, 10, 50, 200][rng.usize(..4)];
    Limits {
        turn_bytes_max: [500, 2_000, 64 << 10][rng.usize(..3)],
        recovery_bytes_max: [3_000, 20_000, 64 << 10][rng.usize(..3)],
        recovery_bytes_total_max: [100_000, 10 << 20][rng.usize(..2)],
        event_buffer_len_max,
        snapshot_len_max: event_buffer_len_max,
        fields_per_item_max: 64,
        field_name_bytes_max: 32,
        item_bytes_max: 4_000,
        ..Limits::DEFAULT
    }
}

fn some_config(limits: Limits, bug: Option<Bug>, rng: &mut fastrand::Rng) -> Config {
    let mut sometimes = |millis: u64| (rng.u8(..3) == 0).then(|| Duration::from_millis(millis));
    let config = Config {
        update_delay_max: sometimes(30).unwrap_or_default(),
        poll_interval_min: sometimes(100).unwrap_or_default(),
        streaming_time_max: sometimes(10_000),
        session_duration_max: sometimes(60_000),
        ..Config::default()
    };
    let formats = [Format::JsonPatch, Format::Text];
    let order = match rng.u8(..4) {
        0 => Order::NONE,
        1 => Order::new(formats),
        2 => Order::new([formats[1], formats[0]]),
        _ => Order::new([formats[rng.usize(..2)]]),
    };
    Config {
        bandwidth_kbps_max: (rng.u8(..4) == 0).then_some(200.0),
        snapshot_rows_per_s_max: (rng.u8(..4) == 0).then_some(100),
        diffs: Diffs {
            order,
            sizes: Sizes {
                json_patch_bytes_min: 20,
                text_bytes_min: 5,
                ..Sizes::DEFAULT
            },
        },
        limits,
        canary: Canary::new(bug),
        ..config
    }
}
