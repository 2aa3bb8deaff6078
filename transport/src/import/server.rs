//! `lightstreamer_conf.xml`: listeners, sessions, limits.

use super::xml::Element;
use super::{Draft, bytes, millis, number, whole, yes};
use toml::{Table, Value};

/// How the text of an element becomes a value.
type Read = fn(&str) -> Option<Value>;

/// Elements that are one key here: their name, the table and key, and how to read them.
const KEYS: &[(&str, &str, &str, Read)] = &[
    ("read_timeout_millis", "sessions", "head_timeout", millis),
    ("request_limit", "sessions", "request_limit", bytes),
    ("write_timeout_millis", "socket", "write_timeout", millis),
    (
        "max_streaming_millis",
        "sessions",
        "streaming_time_max",
        millis,
    ),
    (
        "session_timeout_millis",
        "sessions",
        "session_timeout",
        millis,
    ),
    (
        "session_recovery_millis",
        "sessions",
        "recovery_timeout",
        millis,
    ),
    (
        "subscription_timeout_millis",
        "sessions",
        "subscription_linger",
        millis,
    ),
    (
        "missing_message_timeout_millis",
        "sessions",
        "missing_message_timeout",
        millis,
    ),
    ("max_delay_millis", "sessions", "max_delay", millis),
    ("default_keepalive_millis", "sessions", "keepalive", millis),
    ("min_keepalive_millis", "sessions", "keepalive_min", millis),
    ("max_keepalive_millis", "sessions", "keepalive_max", millis),
    ("max_polling_millis", "sessions", "polling_max", millis),
    ("max_idle_millis", "sessions", "poll_wait_max", millis),
    (
        "min_interpoll_millis",
        "sessions",
        "poll_interval_min",
        millis,
    ),
    ("control_link_address", "sessions", "control_link", text),
    (
        "max_session_duration_minutes",
        "sessions",
        "duration_max",
        minutes,
    ),
    (
        "jsonpatch_min_length",
        "diffs",
        "json_patch_min",
        bytes_or_none,
    ),
];

/// Elements without a counterpart, and why none is missing.
const NEEDLESS: &[(&str, &str)] = &[
    ("edition_conf", "there are no editions"),
    (
        "logback_properties",
        "the environment variable BRIGHTWIRE_LOG chooses what is logged",
    ),
    (
        "adapters_dir",
        "give the files of adapters to `brightwire import` as well",
    ),
    (
        "enable_expansion_for_adapters_config",
        "there are no variables in configuration files",
    ),
    (
        "env_prefix",
        "there are no variables in configuration files",
    ),
    (
        "sendbuf",
        "socket.notsent_lowat keeps the kernel from holding what could be conflated",
    ),
    (
        "max_recovery_length",
        "sessions.recovery_memory has a default that is larger",
    ),
    (
        "max_recovery_poll_length",
        "sessions.recovery_memory is for polls too",
    ),
    (
        "use_enriched_content_type",
        "the content type is the same always",
    ),
    ("compression_threshold", "it is 1,024 bytes always"),
    ("show_password_on_request_log", "passwords are not logged"),
];

fn text(text: &str) -> Option<Value> {
    Some(text.into())
}

fn minutes(text: &str) -> Option<Value> {
    let minutes: u64 = text.parse().ok()?;
    Some(format!("{minutes}m").into())
}

fn bytes_or_none(text: &str) -> Option<Value> {
    if text == "none" {
        Some("0B".into())
    } else {
        bytes(text)
    }
}

pub(super) fn translate(root: &Element, draft: &mut Draft) {
    let prefixes: Vec<Value> = root
        .children_named("service_url_prefix")
        .map(|prefix| prefix.text.as_str().into())
        .collect();
    let mut diffs = Vec::new();
    for child in &root.children {
        let name = child.name.as_str();
        if let Some((_, table, key, read)) = KEYS.iter().find(|(known, ..)| *known == name) {
            match read(&child.text) {
                Some(value) => draft.set(table, key, value),
                None => draft.note(child, name, &format!("`{}` cannot be read", child.text)),
            }
            if child
                .attribute("randomize")
                .is_some_and(|how| yes(how) == Some(true))
            {
                draft.note(child, "randomize", "there is nothing like it");
            }
            continue;
        }
        if let Some((_, reason)) = NEEDLESS.iter().find(|(known, _)| *known == name) {
            draft.note(child, name, reason);
            continue;
        }
        match name {
            "http_server" => listener(child, &prefixes, draft),
            "https_server" => draft.note(
                child,
                name,
                "this server does not end TLS: put a proxy in front",
            ),
            "cross_domain_policy" => origins(child, draft),
            "service_url_prefix" => {}
            "content_length" => content_length(child, draft),
            "default_diff_order" => match child.text.as_str() {
                "jsonpatch" => diffs.push(Value::from("json_patch")),
                "diff_match_patch" => diffs.push(Value::from("text")),
                other => draft.note(child, name, &format!("`{other}` is not known")),
            },
            "use_compression" => match yes(&child.text) {
                Some(on) => draft.set("http", "gzip", on),
                None => draft.note(child, name, "AUTO is N here"),
            },
            "max_sessions" => {
                match whole(&child.text) {
                    Some(count) => draft.set("sessions", "sessions_max", count),
                    None => draft.note(child, name, "cannot be read"),
                }
                draft.note(
                    child,
                    name,
                    "sessions.sessions_max is the bound of each shard, not of all together",
                );
            }
            "max_buffer_size" if child.text == "1000" => {}
            "delta_delivery" => match yes(&child.text) {
                Some(true) => {}
                Some(false) => draft.set("sessions", "delta_delivery", false),
                None => draft.note(child, name, "cannot be read"),
            },
            "forward_cookies" if yes(&child.text) == Some(true) => {}
            "web_server" => web_server(child, draft),
            "healthcheck" => draft.note(
                child,
                name,
                "every listener has one, unless its key `health` is \"\"",
            ),
            pool if pool.ends_with("_pool_size") || pool.contains("_pool_max_") => {
                draft.note(
                    child,
                    name,
                    "there are no such threads here; see runtime.shards",
                );
            }
            _ => draft.note(child, name, "has no counterpart, or not with this value"),
        }
    }
    if !diffs.is_empty() {
        draft.set("diffs", "order", Value::Array(diffs));
    }
}

fn listener(server: &Element, prefixes: &[Value], draft: &mut Draft) {
    let mut listener = Table::new();
    let name = server.attribute("name").unwrap_or("web");
    listener.insert("name".into(), name.into());
    listener.insert("server_name".into(), name.into());
    if !prefixes.is_empty() {
        listener.insert("prefixes".into(), Value::Array(prefixes.to_vec()));
    }
    let port = server
        .child("port")
        .map_or("8080", |port| port.text.as_str());
    let interface = server
        .child("listening_interface")
        .map(|interface| interface.text.as_str());
    if interface.is_none() {
        draft.note(
            server,
            name,
            "was open on every address; here it is on 127.0.0.1 only, which `address` changes",
        );
    }
    let address = format!("{}:{port}", interface.unwrap_or("127.0.0.1"));
    listener.insert("address".into(), address.into());
    for child in &server.children {
        let text = child.text.as_str();
        match child.name.as_str() {
            "port" | "listening_interface" => {}
            "backlog" => match whole(text) {
                Some(backlog) => draft.set("socket", "backlog", backlog),
                None => draft.note(child, "backlog", "cannot be read"),
            },
            "port_type" => {
                let role = match text {
                    "GENERAL_PURPOSE" => "general",
                    "CREATE_ONLY" => "create-only",
                    "CONTROL_ONLY" => "control-only",
                    "PRIORITY" => "priority",
                    other => {
                        draft.note(child, "port_type", &format!("`{other}` is not known"));
                        continue;
                    }
                };
                listener.insert("role".into(), role.into());
            }
            "response_http_headers" => {
                let named =
                    |element: &Element| element.attribute("name").unwrap_or_default().to_owned();
                let echo: Vec<Value> = child
                    .children_named("echo")
                    .map(|echo| named(echo).into())
                    .collect();
                let add = child.children_named("add");
                let add: Vec<Value> = add
                    .map(|add| format!("{}: {}", named(add), add.text).into())
                    .collect();
                listener.insert("echo".into(), Value::Array(echo));
                listener.insert("add".into(), Value::Array(add));
            }
            "client_identification" => identification(child, &mut listener, draft),
            other => draft.note(child, other, "has no counterpart"),
        }
    }
    draft.push("listeners", listener);
}

fn identification(element: &Element, listener: &mut Table, draft: &mut Draft) {
    if element.attribute("private").and_then(yes) == Some(true) {
        draft.set("sessions", "tell_client_ip", false);
    }
    for child in &element.children {
        match (child.name.as_str(), yes(&child.text)) {
            ("proxy_protocol_enabled", Some(on)) => {
                listener.insert(
                    "proxy_protocol".into(),
                    if on { "any" } else { "off" }.into(),
                );
            }
            ("skip_local_forwards", _) => match whole(&child.text) {
                Some(hops) => _ = listener.insert("forwarded_hops".into(), hops),
                None => draft.note(child, "skip_local_forwards", "cannot be read"),
            },
            ("log_forwards", Some(false)) => {}
            (other, _) => draft.note(child, other, "has no counterpart"),
        }
    }
}

fn origins(policy: &Element, draft: &mut Draft) {
    if let Some(age) = policy.attribute("options_max_age").and_then(number) {
        draft.set(
            "origins",
            "max_age",
            format!("{}s", age.as_float().unwrap_or_default()),
        );
    }
    if let Some(headers) = policy.attribute("accept_extra_headers") {
        let headers = headers
            .split(',')
            .map(str::trim)
            .filter(|header| !header.is_empty());
        draft.set(
            "origins",
            "headers",
            Value::Array(headers.map(Value::from).collect()),
        );
    }
    if let Some(credentials) = policy.attribute("accept_credentials").and_then(yes) {
        draft.set("origins", "credentials", credentials);
    }
    let allow: Vec<Value> = policy
        .children_named("allow_access_from")
        .map(|rule| {
            let part = |name| rule.attribute(name).unwrap_or("*");
            match (part("scheme"), part("host"), part("port")) {
                ("*", "*", "*") => "*".into(),
                (scheme, host, port) => format!("{scheme}://{host}:{port}").into(),
            }
        })
        .collect();
    draft.set("origins", "allow", Value::Array(allow));
}

fn content_length(element: &Element, draft: &mut Draft) {
    for child in &element.children {
        match (child.name.as_str(), bytes(&child.text)) {
            ("default", Some(value)) => draft.set("sessions", "content_length", value),
            (other, _) => draft.note(child, other, "one length serves all clients"),
        }
    }
    if let Some(value) = bytes(&element.text) {
        draft.set("sessions", "content_length", value);
    }
}

fn web_server(element: &Element, draft: &mut Draft) {
    let on = element
        .child("enabled")
        .is_none_or(|enabled| yes(&enabled.text) != Some(false));
    for child in &element.children {
        match child.name.as_str() {
            "enabled" => {}
            "pages_dir" if on => draft.set("pages", "folder", child.text.as_str()),
            "pages_dir" => {}
            other => draft.note(child, other, "has no counterpart"),
        }
    }
    if !on {
        draft.set("pages", "demo", false);
    }
}
