//! `adapters.xml`: an adapter set, with what has a counterpart here.

use super::xml::Element;
use super::{Draft, millis, number, whole, yes};
use crate::adapter::literal::Pattern;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// What a class is, by its name.
enum Class {
    Literal,
    Remote { robust: bool },
    Other,
}

fn class(provider: &Element) -> Class {
    let name = provider
        .child("adapter_class")
        .map_or("", |class| class.text.as_str());
    match name {
        "PROXY_FOR_REMOTE_ADAPTER" => Class::Remote { robust: false },
        "ROBUST_PROXY_FOR_REMOTE_ADAPTER" => Class::Remote { robust: true },
        _ if name.ends_with(".LiteralBasedProvider") => Class::Literal,
        _ => Class::Other,
    }
}

pub(super) fn translate(root: &Element, draft: &mut Draft) {
    let mut set = Table::new();
    let name = root.attribute("id").unwrap_or("DEFAULT");
    set.insert("name".into(), name.into());
    if let Some(metadata) = root.child("metadata_provider") {
        match class(metadata) {
            Class::Literal => {
                let rules = literal(metadata, draft);
                if !rules.is_empty() {
                    set.insert("literal".into(), rules.into());
                }
            }
            Class::Remote { robust } => {
                set.insert("metadata".into(), "remote".into());
                set.insert("remote".into(), remote(metadata, robust, draft).into());
            }
            Class::Other => not_here(
                metadata,
                "the built-in metadata adapter decides instead, which lets everybody in",
                draft,
            ),
        }
        leftovers(metadata, draft);
    }
    // Where it is not set it is so there, and not here.
    let first = root.child("metadata_adapter_initialised_first");
    let first = first.is_none_or(|first| yes(&first.text) != Some(false));
    if first && set.contains_key("remote") {
        set.insert("metadata_first".into(), true.into());
    }
    let mut data = Vec::new();
    for provider in root.children_named("data_provider") {
        let mut adapter = Table::new();
        let name = provider.attribute("name").unwrap_or("DEFAULT");
        adapter.insert("name".into(), name.into());
        match class(provider) {
            Class::Remote { robust } => {
                adapter.insert("kind".into(), "remote".into());
                adapter.insert("remote".into(), remote(provider, robust, draft).into());
                data.push(Value::Table(adapter));
            }
            Class::Literal | Class::Other => {
                not_here(provider, &format!("data adapter {name} is left out"), draft);
            }
        }
        leftovers(provider, draft);
    }
    for child in &root.children {
        match child.name.as_str() {
            "metadata_provider" | "data_provider" => {}
            "metadata_adapter_initialised_first" => {}
            "adapter_set_pool" => {
                draft.note(child, "adapter_set_pool", "there are no such threads here")
            }
            other => draft.note(child, other, "not known"),
        }
    }
    if data.is_empty() {
        draft.note(
            root,
            name,
            "the adapter set is left out, since nothing is left that brings data",
        );
    } else {
        set.insert("data".into(), Value::Array(data));
        draft.push("adapter_sets", set);
    }
}

fn not_here(provider: &Element, then: &str, draft: &mut Draft) {
    let class = provider.child("adapter_class");
    let name = class.map_or("(no class)", |class| class.text.as_str());
    let reason = format!(
        "a Java class, which cannot run in this process ({then}); it can run in one of its own, with the SDK for remote adapters"
    );
    draft.note(class.unwrap_or(provider), name, &reason);
}

/// What a provider has besides its class and parameters.
fn leftovers(provider: &Element, draft: &mut Draft) {
    let remote = matches!(class(provider), Class::Remote { .. });
    for child in &provider.children {
        match child.name.as_str() {
            "adapter_class" | "param" | "classloader" | "install_dir" => {}
            "authentication_pool" | "messages_pool" | "mpn_pool" | "data_adapter_pool" => {
                draft.note(
                    child,
                    &child.name,
                    "there are no such threads here; their queues have bounds of their own",
                );
            }
            "sequentialize_table_notifications"
                if yes(&child.text) == Some(false)
                    || remote && provider.name == "metadata_provider" => {}
            other => draft.note(child, other, "has no counterpart"),
        }
    }
}

type Parameters<'x> = BTreeMap<&'x str, &'x Element>;

fn parameters(provider: &Element) -> Parameters<'_> {
    let named = |param: &'_ Element| param.attribute("name").is_some();
    let params = provider
        .children_named("param")
        .filter(|param| named(param));
    params
        .map(|param| (param.attribute("name").unwrap_or_default(), param))
        .collect()
}

/// The rules of the literal adapter. What stands in the file as 0 is no limit.
fn literal(provider: &Element, draft: &mut Draft) -> Table {
    let mut rules = Table::new();
    let mut families = BTreeMap::<u32, Table>::new();
    for (name, param) in parameters(provider) {
        let text = param.text.as_str();
        let value = match name {
            "max_bandwidth" | "max_frequency" | "prefilter_frequency" => {
                number(text).map(|value| (name, value))
            }
            "buffer_size" | "distinct_snapshot_length" => whole(text).map(|value| (name, value)),
            "allowed_users" => {
                let users = text.split(',').filter(|user| !user.is_empty());
                let users = users.map(|user| Value::from(user.trim())).collect();
                Some((name, Value::Array(users)))
            }
            _ => {
                let (key, number) = match name.rsplit_once('_') {
                    Some(("item_family", number)) => ("items", number.parse().ok()),
                    Some(("modes_for_item_family", number)) => ("modes", number.parse().ok()),
                    Some(("data_adapter_for_item_family", number)) => {
                        ("data_adapter", number.parse().ok())
                    }
                    _ => ("", None),
                };
                match (number, key) {
                    (Some(number), "modes") => {
                        let modes = text.split([',', ' ']).filter(|mode| !mode.is_empty());
                        let modes = modes.map(Value::from).collect();
                        families
                            .entry(number)
                            .or_default()
                            .insert(key.into(), Value::Array(modes));
                    }
                    (Some(number), key) => {
                        if key == "items"
                            && let Err(reason) = Pattern::new(text)
                        {
                            draft.note(param, name, &format!("`{text}` is no regular expression here ({reason}), so its family is left out"));
                            continue;
                        }
                        families
                            .entry(number)
                            .or_default()
                            .insert(key.into(), text.into());
                    }
                    (None, _) => draft.note(param, name, "not known"),
                }
                continue;
            }
        };
        match value {
            Some((name, value)) => {
                let zero = value.as_float() == Some(0.0) || value.as_integer() == Some(0);
                if !zero || name == "distinct_snapshot_length" {
                    rules.insert(name.into(), value);
                }
            }
            None => draft.note(param, name, &format!("`{text}` is not a number")),
        }
    }
    // A family without a pattern is none; one without modes has none.
    let families: Vec<Value> = families
        .into_values()
        .filter(|family| family.contains_key("items"))
        .map(|mut family| {
            family
                .entry("modes")
                .or_insert_with(|| Value::Array(Vec::new()));
            Value::Table(family)
        })
        .collect();
    if !families.is_empty() {
        rules.insert("families".into(), Value::Array(families));
    }
    rules
}

fn remote(provider: &Element, robust: bool, draft: &mut Draft) -> Table {
    let parameters = parameters(provider);
    let text = |name: &str| parameters.get(name).map(|param| param.text.as_str());
    let mut remote = Table::new();
    let connects = text("remote_host").is_some();
    let host = text("remote_host")
        .or(text("interface"))
        .unwrap_or("127.0.0.1");
    let prefix = text("remote_params_prefix").unwrap_or_default();
    let with_auth = text("auth").and_then(yes) == Some(true);
    if !robust {
        remote.insert("on_loss".into(), "stop".into());
    }
    if connects {
        remote.insert("connect".into(), true.into());
    } else if text("interface").is_none() {
        draft.note(
            provider,
            "request_reply_port",
            "was open on every address; here it is on 127.0.0.1 only, which `address` changes",
        );
    }
    let mut credentials = BTreeMap::<&str, [String; 2]>::new();
    let mut params = Table::new();
    for (name, param) in &parameters {
        let text = param.text.as_str();
        let mut put = |key: &str, value: Option<Value>, draft: &mut Draft| match value {
            Some(value) => _ = remote.insert(key.into(), value),
            None => draft.note(param, name, &format!("`{text}` cannot be read")),
        };
        match *name {
            "request_reply_port" => put("address", Some(format!("{host}:{text}").into()), draft),
            "notify_port" => put(
                "notify_address",
                Some(format!("{host}:{text}").into()),
                draft,
            ),
            "connection_retry_millis" => put("connect_retry", millis(text), draft),
            // Negative means never, which is what is done if the key is not there.
            "timeout" if !text.starts_with('-') => put("timeout", millis(text), draft),
            "keepalive_timeout_millis" if !text.starts_with('-') => {
                put("keepalive_timeout", millis(text), draft)
            }
            "keepalive_timeout_millis" => {}
            "keepalive_hint_millis" if !text.starts_with('-') => {
                put("keepalive_hint", millis(text), draft)
            }
            "connection_recovery_timeout_millis" if text.starts_with('-') => {
                put("recovery_delay", Some(EVER.into()), draft);
            }
            "connection_recovery_timeout_millis" => put("recovery_delay", millis(text), draft),
            "events_recovery" => put("events_recovery", Some(text.into()), draft),
            "status_item" => put("status_item", Some(text.into()), draft),
            "remote_address_whitelist" => {
                let allow = text.split(',').map(str::trim).filter(|ip| !ip.is_empty());
                put(
                    "allow",
                    Some(Value::Array(allow.map(Value::from).collect())),
                    draft,
                );
            }
            "notify_user_disconnection_code"
                if parameters
                    .get("notify_user_on_disconnection")
                    .is_none_or(|how| how.text == "send_code") =>
            {
                put("unavailable_code", whole(text), draft);
            }
            "notify_user_disconnection_msg" => put("unavailable_text", Some(text.into()), draft),
            "notify_user_on_disconnection" if text == "send_code" || text == "force_retry" => {}
            "notify_user_on_disconnection" if text == "fail" => {
                put("unavailable", Some(text.into()), draft);
            }
            "first_connection_timeout_millis" if text.starts_with('-') => {
                put("start_wait", Some(EVER.into()), draft);
            }
            "first_connection_timeout_millis" => put("start_wait", millis(text), draft),
            "close_notifications_recovery" => put("closes_recovery", Some(text.into()), draft),
            "user_data_timeout" => put("user_data_timeout", millis(text), draft),
            "clear_on_session_close" | "clear_on_new_remote" => {
                put(name, yes(text).map(Value::from), draft);
            }
            // They are Java keystores.
            "tls" if yes(text) == Some(false) => {}
            "tls" => draft.note(
                param,
                name,
                "the files of [remote.tls] are PEM; keytool and openssl translate keystores",
            ),
            "remote_host" | "interface" | "auth" | "remote_params_prefix" => {}
            name if !prefix.is_empty() && name.starts_with(prefix) => {
                // With the prefix: that is how remotes get them.
                params.insert(name.into(), text.into());
            }
            name => match name
                .strip_prefix("auth.credentials.")
                .and_then(|rest| rest.rsplit_once('.'))
            {
                Some((number, "user")) if with_auth => {
                    credentials.entry(number).or_default()[0] = text.into()
                }
                Some((number, "password")) if with_auth => {
                    credentials.entry(number).or_default()[1] = text.into()
                }
                Some(_) if !with_auth => {}
                _ => draft.note(param, name, "has no counterpart, or not with this value"),
            },
        }
    }
    let sequential = provider.child("sequentialize_table_notifications");
    if sequential.is_some_and(|sequential| yes(&sequential.text) == Some(true)) {
        remote.insert("sequential_tables".into(), true.into());
    }
    if !credentials.is_empty() {
        let pairs = credentials
            .into_values()
            .map(|pair| Value::Array(pair.map(Value::from).to_vec()));
        remote.insert("credentials".into(), Value::Array(pairs.collect()));
    }
    if !params.is_empty() {
        remote.insert("params".into(), params.into());
    }
    remote
}

/// A wait without end.
const EVER: &str = "100years";
