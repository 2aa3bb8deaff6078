//! What a plan means to ingest, to a shard and to its connections.

use super::adapters::set_id;
use crate::config::plan::{ListenerPlan, MetadataPlan, Plan, WhenBlocked};
use crate::net::folder;
use crate::net::settings::Settings;
use crate::runtime::clock::Clock;
use crate::runtime::rings::ShardRings;
use crate::wire::authority::Authority;
use crate::wire::pages::Site;
use engine::ids::DataAdapterId;
use engine::item::safe::{SafeRule, SafeRules};
use engine::limits::Limits;
use engine::shard::{Config, Selectors};
use std::sync::Arc;

/// What one shard is told; made on the thread that spawns it, since [`Shard`] itself cannot leave its own.
pub(super) struct ShardSetup {
    pub config: Config,
    pub rings: ShardRings,
    pub connections: Vec<Arc<Settings>>,
    pub connections_max: usize,
    pub head_timeout: std::time::Duration,
    pub spin: std::time::Duration,
    pub clock: Clock,
}

pub(super) fn setup(
    plan: &Plan,
    listeners: &[Settings],
    rings: ShardRings,
    clock: Clock,
) -> ShardSetup {
    let sessions = &plan.sessions;
    let with_status = plan.adapter_sets.iter().any(|set| set.status.is_some());
    let config = Config {
        shard: rings.shard,
        shards: u16::try_from(plan.shards).expect("the plan bounds the shards"),
        server_name: sessions.server_name.clone(),
        keepalive_default: sessions.keepalive_default,
        keepalive_min: sessions.keepalive_min,
        keepalive_max: sessions.keepalive_max,
        session_timeout: sessions.session_timeout,
        recovery_timeout: sessions.recovery_timeout,
        recovery_age_max: sessions.recovery_age,
        instance: plan.instance,
        bandwidth_kbps_max: sessions.bandwidth_kbps_max,
        update_delay_max: sessions.max_delay,
        delta_delivery: sessions.delta_delivery,
        snapshot_rows_per_s_max: sessions.snapshot_rows_max,
        poll_interval_min: sessions.poll_interval_min,
        polling_max: sessions.polling_max,
        idle_max: sessions.poll_wait_max,
        content_length_default: sessions.content_length,
        streaming_time_max: sessions.streaming_time_max,
        session_duration_max: sessions.duration_max,
        closed_memory: sessions.closed_memory,
        missing_message_timeout: sessions.missing_message_timeout,
        one_session_per_user: sessions.one_per_user,
        take_over_silent: sessions.take_over_silent,
        cid_required: sessions.cid_required,
        blocked_try_again: sessions.blocked == WhenBlocked::TryAgain,
        tell_client_ip: sessions.tell_client_ip,
        control_link: sessions.control_link.clone(),
        idle_timeout: sessions.idle_timeout,
        write_timeout: plan.socket.write_timeout,
        diffs: plan.diffs,
        trade_safe: trade_safe(plan),
        selectors: selectors(plan),
        status_interval: with_status.then_some(sessions.status_interval),
        limits: limits(plan),
        ..Config::default()
    };
    ShardSetup {
        config,
        rings,
        // Each shard has its own, so that no two cores count references to one.
        connections: listeners.iter().cloned().map(Arc::new).collect(),
        connections_max: sessions.connections_max,
        head_timeout: sessions.head_timeout,
        spin: plan.spin,
        clock,
    }
}

/// Events that are never merged away, by the numbers of their data adapters: these are counted as [`AdapterSets`] does.
fn trade_safe(plan: &Plan) -> SafeRules {
    let adapters = plan.adapter_sets.iter().flat_map(|set| &set.data);
    let rules = (0..).zip(adapters).flat_map(|(number, adapter)| {
        adapter.trade_safe.iter().map(move |rule| SafeRule {
            adapter: DataAdapterId(number),
            items: rule.items.clone().into(),
            what: rule.what.clone(),
        })
    });
    SafeRules::new(rules.collect())
}

/// What clients may select by, by the numbers of their adapter sets.
fn selectors(plan: &Plan) -> Selectors {
    let sets = (0..).map(set_id).zip(&plan.adapter_sets);
    let selectors = sets.flat_map(|(number, set)| {
        let named = set.selectors.iter();
        named.map(move |(name, selector)| (number, name.as_str().into(), selector.clone()))
    });
    Selectors::new(selectors.collect())
}

pub(super) fn limits(plan: &Plan) -> Limits {
    let limits = Limits {
        request_bytes_max: plan.sessions.request_limit,
        sessions_max: plan.sessions.sessions_max,
        subscribed_items_max: plan.sessions.subscribed_items_max,
        recovery_bytes_max: plan.sessions.recovery_memory,
        recovery_bytes_total_max: plan.sessions.recovery_memory_shard,
        ..Limits::DEFAULT
    };
    limits.for_ring(plan.rings.data_ring_bytes)
}

/// What the connections of each listener have in common.
pub(super) fn settings(plan: &Plan) -> Result<Vec<Settings>, String> {
    let site = Arc::new(site(plan)?);
    let keeps_headers = plan
        .adapter_sets
        .iter()
        .any(|set| matches!(set.metadata, MetadataPlan::Remote(_) | MetadataPlan::Own));
    let settings = |listener: &ListenerPlan| Settings {
        request_bytes_max: plan.sessions.request_limit,
        origins: listener.origins.clone(),
        added_headers: listener.added_headers.clone(),
        echoed_headers: listener.echoed_headers.clone(),
        server_name: plan.http.server.clone(),
        name: Some(listener.name.as_str().into()),
        keeps_headers,
        servname: listener.server_name.as_deref().map(Into::into),
        role: listener.role,
        prefixes: listener.prefixes.clone(),
        proxy_protocol: listener.proxy_protocol,
        trusted_proxies: listener.trusted_proxies.clone(),
        forwarded_hops: listener.forwarded_hops,
        gzip: plan.http.gzip,
        control_link: plan
            .sessions
            .control_link
            .as_deref()
            .map(Authority::of_link),
        legacy: plan.http.legacy,
        health_path: listener.health_path.clone(),
        site: if listener.pages {
            Arc::clone(&site)
        } else {
            Arc::default()
        },
    };
    Ok(plan.listeners.iter().map(settings).collect())
}

/// The pages, read from disk before any shard runs.
fn site(plan: &Plan) -> Result<Site, String> {
    let mut site = if plan.pages.demo {
        Site::demo()
    } else {
        Site::default()
    };
    if let Some(folder) = &plan.pages.folder {
        site.extend(folder::load(folder, plan.pages.bounds)?);
    }
    Ok(if plan.http.gzip { site.gzipped() } else { site })
}
