//! `[sessions]`: defaults applied, relations checked.

use std::time::Duration;

use super::super::plan::SessionPlan;
use super::super::raw;
use super::super::value::{Size, Time};
use super::{HOUR, PER_SHARD_MAX, Problems, check_name};

pub(super) fn resolve(raw: &raw::Sessions, problems: &mut Problems) -> SessionPlan {
    check_keepalive(raw, problems);
    check_times(raw, problems);
    check_bounds(raw, problems);
    let server_name = raw.server_name();
    check_name(
        "sessions.server_name",
        &server_name,
        [].into_iter(),
        problems,
    );
    SessionPlan {
        keepalive_default: raw.keepalive().0,
        keepalive_min: raw.keepalive_min().0,
        keepalive_max: raw.keepalive_max().0,
        session_timeout: raw.session_timeout().0,
        recovery_timeout: raw.recovery_timeout().0,
        idle_timeout: raw.idle_timeout().0,
        head_timeout: raw.head_timeout().0,
        request_limit: raw.request_limit().bytes(),
        server_name,
        subscription_linger: raw.subscription_linger().0,
        connections_max: raw.connections_max(),
        sessions_max: raw.sessions_max(),
        subscribed_items_max: raw.subscribed_items_max(),
        blocked: raw.blocked(),
        duration_max: raw.duration_max.map(|time| time.0),
        streaming_time_max: raw.streaming_time_max.map(|time| time.0),
        bandwidth_kbps_max: raw.bandwidth_max,
        max_delay: raw.max_delay().0,
        delta_delivery: raw.delta_delivery(),
        snapshot_rows_max: raw.snapshot_rows_max,
        poll_interval_min: raw.poll_interval_min().0,
        polling_max: raw.polling_max().0,
        poll_wait_max: raw.poll_wait_max().0,
        content_length: raw.content_length().0,
        recovery_memory: raw.recovery_memory().bytes(),
        recovery_memory_shard: raw.recovery_memory_shard().bytes(),
        recovery_age: raw.recovery_age().0,
        closed_memory: raw.closed_memory().0,
        missing_message_timeout: raw.missing_message_timeout().0,
        status_interval: raw.status_interval().0,
        one_per_user: raw.one_per_user(),
        take_over_silent: raw.take_over_silent(),
        cid_required: raw.cid_required(),
        tell_client_ip: raw.tell_client_ip(),
        control_link: raw.control_link.clone(),
    }
}

fn check_keepalive(raw: &raw::Sessions, problems: &mut Problems) {
    let (min, default, max) = (raw.keepalive_min(), raw.keepalive(), raw.keepalive_max());
    problems.check_range(
        "sessions.keepalive_min",
        min,
        Time(Duration::from_millis(100))..=HOUR,
    );
    problems.check_range(
        "sessions.keepalive_max",
        max,
        Time(Duration::from_millis(100))..=HOUR,
    );
    if min > max {
        problems.add(
            "sessions.keepalive_min",
            format!("{min} is above keepalive_max ({max})"),
        );
    } else if default < min {
        problems.add(
            "sessions.keepalive",
            format!("{default} is below keepalive_min ({min})"),
        );
    } else if default > max {
        problems.add(
            "sessions.keepalive",
            format!("{default} is above keepalive_max ({max})"),
        );
    }
}

fn check_times(raw: &raw::Sessions, problems: &mut Problems) {
    let timers = [
        ("session_timeout", raw.session_timeout()),
        ("recovery_timeout", raw.recovery_timeout()),
        ("idle_timeout", raw.idle_timeout()),
        ("head_timeout", raw.head_timeout()),
    ];
    for (key, time) in timers {
        problems.check_range(
            &format!("sessions.{key}"),
            time,
            Time::secs(1)..=Time::secs(24 * 3600),
        );
    }
    let ages = [
        ("duration_max", raw.duration_max),
        ("streaming_time_max", raw.streaming_time_max),
    ];
    for (key, time) in ages {
        if let Some(time) = time {
            problems.check_range(&format!("sessions.{key}"), time, Time::secs(1)..=YEAR);
        }
    }
    let intervals = [
        ("poll_interval_min", raw.poll_interval_min(), MINUTE),
        ("polling_max", raw.polling_max(), HOUR),
        ("poll_wait_max", raw.poll_wait_max(), HOUR),
        ("max_delay", raw.max_delay(), Time::secs(1)),
        ("closed_memory", raw.closed_memory(), MINUTE),
        ("recovery_age", raw.recovery_age(), HOUR),
        (
            "missing_message_timeout",
            raw.missing_message_timeout(),
            HOUR,
        ),
    ];
    for (key, time, most) in intervals {
        problems.check_range(&format!("sessions.{key}"), time, Time::secs(0)..=most);
    }
    problems.check_range(
        "sessions.status_interval",
        raw.status_interval(),
        Time(Duration::from_millis(100))..=HOUR,
    );
    problems.check_range(
        "sessions.subscription_linger",
        raw.subscription_linger(),
        Time::secs(0)..=HOUR,
    );
}

fn check_bounds(raw: &raw::Sessions, problems: &mut Problems) {
    if let Some(rows) = raw.snapshot_rows_max {
        problems.check_range("sessions.snapshot_rows_max", rows, 1..=1_000_000);
    }
    if let Some(kbps) = raw.bandwidth_max
        && !BANDWIDTH_KBPS_RANGE.contains(&kbps)
    {
        problems.add(
            "sessions.bandwidth_max",
            format!("{kbps} is not between 0.1 and 1000000000 (kilobits per second)"),
        );
    }
    let sizes = [
        (
            "content_length",
            raw.content_length(),
            Size(4096)..=Size(1 << 40),
        ),
        (
            "recovery_memory",
            raw.recovery_memory(),
            Size(0)..=Size::mib(1024),
        ),
        (
            "recovery_memory_shard",
            raw.recovery_memory_shard(),
            Size(0)..=Size(1 << 40),
        ),
    ];
    for (key, size, range) in sizes {
        problems.check_range(&format!("sessions.{key}"), size, range);
    }
    if let Some(link) = &raw.control_link
        && (link.is_empty()
            || !link
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b','))
    {
        let reason = "is not a host with or without a port, such as \"push1.example.com:443\"";
        problems.add("sessions.control_link", reason);
    }
    // Official clients send requests of a few hundred bytes; large ones carry messages.
    problems.check_range(
        "sessions.request_limit",
        raw.request_limit(),
        Size::kib(1)..=Size::mib(16),
    );
    problems.check_range(
        "sessions.connections_max",
        raw.connections_max(),
        1..=PER_SHARD_MAX,
    );
    problems.check_range(
        "sessions.sessions_max",
        raw.sessions_max(),
        1..=PER_SHARD_MAX,
    );
    problems.check_range(
        "sessions.subscribed_items_max",
        raw.subscribed_items_max(),
        1..=1_000_000_000,
    );
}

/// Below, a line would take minutes; above, there is no such network.
const BANDWIDTH_KBPS_RANGE: std::ops::RangeInclusive<f64> = 0.1..=1e9;
const MINUTE: Time = Time::secs(60);
/// Catches typing errors.
const YEAR: Time = Time::secs(365 * 24 * 3600);
