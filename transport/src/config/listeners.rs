//! Listeners, and what HTTP is like on them: addresses, roles, proxies in front, headers, origins, pages.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use super::plan::*;
use super::raw::{self, Raw};
use super::resolve::{Problems, check_name};
use super::value::{Size, Time};
use crate::net::folder::Bounds;
use crate::net::settings::ProxyProtocol;
use crate::wire::origin::{OriginPolicy, OriginRule, Origins};

/// Where clients connect.
pub(super) fn listeners(raw: &Raw, problems: &mut Problems) -> Vec<ListenerPlan> {
    let defaults = [raw::Listener::default()];
    let given = raw.listeners.as_deref().unwrap_or(&defaults);
    if given.is_empty() {
        problems.add("listeners", "there must be at least one");
    }
    let mut plans: Vec<ListenerPlan> = Vec::new();
    for (index, listener) in given.iter().enumerate() {
        let key = format!("listeners[{index}]");
        let name = listener.name();
        check_name(
            &format!("{key}.name"),
            &name,
            plans.iter().map(|plan| plan.name.as_str()),
            problems,
        );
        let plan = plan(raw, listener, &key, problems);
        match listener.address().parse::<SocketAddr>() {
            Ok(address) => {
                if address.port() != 0 && plans.iter().any(|plan| plan.address == address) {
                    problems.add(
                        format!("{key}.address"),
                        format!("{address} is taken by another listener"),
                    );
                }
                plans.push(ListenerPlan {
                    name,
                    address,
                    ..plan
                });
            }
            Err(_) => problems.add(
                format!("{key}.address"),
                format!(
                    "`{}` is not an address and port, such as \"127.0.0.1:8080\" or \"[::]:8080\"",
                    listener.address()
                ),
            ),
        }
    }
    plans
}

/// One listener, but for its name and address.
fn plan(raw: &Raw, listener: &raw::Listener, key: &str, problems: &mut Problems) -> ListenerPlan {
    if let Some(name) = &listener.server_name {
        check_name(
            &format!("{key}.server_name"),
            name,
            [].into_iter(),
            problems,
        );
    }
    let health_path = listener.health();
    if !health_path.is_empty() && !is_path(&health_path) {
        problems.add(
            format!("{key}.health"),
            "is not a path, such as \"/health\"",
        );
    }
    if listener.proxy_protocol() != ProxyProtocol::Off && listener.forwarded_hops() > 0 {
        problems.add(
            format!("{key}.forwarded_hops"),
            "the PROXY header says who the client is: give one or the other",
        );
    }
    problems.check_range(
        &format!("{key}.forwarded_hops"),
        listener.forwarded_hops(),
        0..=HOPS_MAX,
    );
    // What is wrong with the keys for all listeners is told there.
    let mut headers = added_headers("http.add", &raw.http.add(), &mut Problems::default());
    headers.extend(added_headers(
        &format!("{key}.add"),
        &listener.add(),
        problems,
    ));
    ListenerPlan {
        name: String::new(),
        address: ([0; 4], 0).into(),
        server_name: listener.server_name.clone(),
        role: listener.role(),
        prefixes: prefixes(listener, key, problems),
        proxy_protocol: listener.proxy_protocol(),
        forwarded_hops: listener.forwarded_hops(),
        trusted_proxies: trusted_proxies(listener, key, problems),
        added_headers: headers,
        echoed_headers: echoed_headers(listener, key, problems),
        origins: own_origins(raw, listener, key, problems),
        pages: listener.pages(),
        health_path,
    }
}

fn prefixes(listener: &raw::Listener, key: &str, problems: &mut Problems) -> Vec<String> {
    let prefixes = listener.prefixes();
    for (index, prefix) in prefixes.iter().enumerate() {
        if !is_path(prefix) || prefix.ends_with('/') {
            problems.add(
                format!("{key}.prefixes[{index}]"),
                format!("`{prefix}` is not a path such as \"/push\": with a slash before and none behind"),
            );
        }
    }
    if prefixes.len() > LIST_MAX {
        problems.add(format!("{key}.prefixes"), format!("more than {LIST_MAX}"));
    }
    prefixes
}

fn trusted_proxies(listener: &raw::Listener, key: &str, problems: &mut Problems) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (index, text) in listener.trusted_proxies().iter().enumerate() {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => networks.push(network),
            Err(_) => problems.add(
                format!("{key}.trusted_proxies[{index}]"),
                format!("`{text}` is neither an address nor a network, such as \"10.0.0.0/8\""),
            ),
        }
    }
    if networks.len() > LIST_MAX {
        problems.add(
            format!("{key}.trusted_proxies"),
            format!("more than {LIST_MAX}"),
        );
    }
    networks
}

fn echoed_headers(listener: &raw::Listener, key: &str, problems: &mut Problems) -> Vec<String> {
    let names = listener.echo();
    for (index, name) in names.iter().enumerate() {
        let key = format!("{key}.echo[{index}]");
        if !is_token(name) {
            problems.add(key, format!("`{name}` is not the name of a header"));
        } else if is_own(name) {
            problems.add(key, format!("`{name}` is the server's own"));
        }
    }
    if names.len() > HEADERS_ADDED_MAX {
        problems.add(
            format!("{key}.echo"),
            format!("more than {HEADERS_ADDED_MAX} headers"),
        );
    }
    names
}

/// The origins for this listener: each key of its own, else the one for all.
fn own_origins(raw: &Raw, listener: &raw::Listener, key: &str, problems: &mut Problems) -> Origins {
    let common = origins(raw, &mut Problems::default());
    Origins {
        policy: match &listener.allow {
            Some(allow) => origin_policy(&format!("{key}.allow"), allow, problems),
            None => common.policy,
        },
        credentials: listener.credentials.unwrap_or(common.credentials),
        max_age: match listener.max_age {
            Some(max_age) => checked_max_age(&format!("{key}.max_age"), max_age, problems),
            None => common.max_age,
        },
        headers: match &listener.headers {
            Some(headers) => checked_names(&format!("{key}.headers"), headers, problems),
            None => common.headers,
        },
    }
}

/// The origins for all listeners that do not say otherwise.
pub(super) fn origins(raw: &Raw, problems: &mut Problems) -> Origins {
    let raw = &raw.origins;
    Origins {
        policy: origin_policy("origins.allow", &raw.allow(), problems),
        credentials: raw.credentials(),
        max_age: checked_max_age("origins.max_age", raw.max_age(), problems),
        headers: checked_names("origins.headers", &raw.headers(), problems),
    }
}

fn checked_max_age(key: &str, max_age: Time, problems: &mut Problems) -> std::time::Duration {
    problems.check_range(
        key,
        max_age,
        Time::secs(0)..=Time::secs(24 * 3600), // the most that any browser keeps to
    );
    max_age.0
}

fn checked_names(key: &str, names: &[String], problems: &mut Problems) -> Vec<String> {
    for (index, name) in names.iter().enumerate() {
        if !is_token(name) {
            problems.add(
                format!("{key}[{index}]"),
                format!("`{name}` is not the name of a header"),
            );
        }
    }
    names.to_vec()
}

fn origin_policy(key: &str, allow: &[String], problems: &mut Problems) -> OriginPolicy {
    if allow == ["*"] {
        return OriginPolicy::Any;
    }
    let mut rules = Vec::new();
    for (index, origin) in allow.iter().enumerate() {
        let key = format!("{key}[{index}]");
        match OriginRule::parse(origin) {
            Some(rule) => rules.push(rule),
            None if origin == "*" => {
                problems.add(key, "\"*\" allows everything and must stand alone");
            }
            None => problems.add(
                key,
                format!(
                    "`{origin}` is not an origin, such as \"https://www.example.com\" (no path) or \"https://*.example.com\""
                ),
            ),
        }
    }
    OriginPolicy::Listed(rules)
}

/// They are written as they are, so one that is broken, or contradicts the server's own, would break every response.
pub(super) fn added_headers(
    list_key: &str,
    lines: &[String],
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let key = format!("{list_key}[{index}]");
        let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_token(name)) else {
            problems.add(
                key,
                format!("`{line}` is not a header, such as \"X-Frame-Options: DENY\""),
            );
            continue;
        };
        let value = value.trim();
        if is_own(name) {
            problems.add(key, format!("`{name}` is the server's own"));
        } else if value.chars().any(char::is_control) {
            problems.add(key, "contains a control character");
        } else if line.len() > HEADER_BYTES_MAX {
            problems.add(key, format!("is longer than {HEADER_BYTES_MAX} bytes"));
        } else {
            headers.push((name.into(), value.into()));
        }
    }
    if headers.len() > HEADERS_ADDED_MAX {
        problems.add(list_key, format!("more than {HEADERS_ADDED_MAX} headers"));
    }
    headers
}

/// The rest of `[http]`.
pub(super) fn http(raw: &raw::Http, problems: &mut Problems) -> HttpPlan {
    let server = raw.server();
    if server.chars().any(char::is_control) || server.len() > HEADER_BYTES_MAX {
        problems.add("http.server", "cannot be the value of a header");
    }
    HttpPlan {
        server,
        gzip: raw.gzip(),
        legacy: raw.legacy(),
    }
}

/// `[pages]`
pub(super) fn pages(raw: &raw::Pages, directory: &Path, problems: &mut Problems) -> PagesPlan {
    let bound = Size::mib(1024);
    problems.check_range("pages.file_max", raw.file_max(), Size(0)..=Size::mib(16));
    problems.check_range("pages.folder_max", raw.folder_max(), Size(0)..=bound);
    // Joining an absolute path gives that path.
    let folder = raw.folder.as_ref().map(|folder| directory.join(folder));
    if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) {
        problems.add(
            "pages.folder",
            format!("{} is not a folder", folder.display()),
        );
    }
    PagesPlan {
        demo: raw.demo.unwrap_or(folder.is_none()),
        folder,
        bounds: Bounds {
            file_bytes_max: raw.file_max().0,
            folder_bytes_max: raw.folder_max().0,
        },
    }
}

/// Absolute, and nothing that a path of a request would not have once it is decoded.
fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= HEADER_BYTES_MAX
        && !text.contains(['?', '#', '%'])
        && !text.chars().any(char::is_control)
}

/// What a header may be called (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Responses have it already, or it says how they are framed.
fn is_own(name: &str) -> bool {
    OWN_HEADERS.iter().any(|own| match own.strip_suffix('*') {
        Some(start) => name.to_ascii_lowercase().starts_with(start),
        None => name.eq_ignore_ascii_case(own),
    })
}

/// Headers that responses have already, or that say how they are framed; `*` stands for any end.
const OWN_HEADERS: [&str; 18] = [
    "access-control-*",
    "allow",
    "cache-control",
    "connection",
    "content-*",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "pragma",
    "referrer-policy",
    "sec-websocket-*",
    "server",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "x-content-type-options",
];
/// A guess, as the next: every response carries them.
const HEADER_BYTES_MAX: usize = 1_000;
const HEADERS_ADDED_MAX: usize = 20;
/// Entries of a list that each request is held against. A guess.
const LIST_MAX: usize = 100;
/// More proxies in a row than anybody runs. A guess.
const HOPS_MAX: usize = 20;
