//! The rules of the built-in metadata adapter: mistakes, and what is read from files.

use super::plan::{DataAdapterPlan, MetadataPlan, ModeName};
use super::raw;
use super::resolve::{Problems, check_name};
use super::value::Time;
use crate::adapter::literal::passwords::Hash;
use crate::adapter::literal::tokens::{Key, TokenAlgorithm, TokensPlan};
use crate::adapter::literal::{
    Family, ItemLimits, Literal, LiteralPlan, Pattern, Rights, UserPlan,
};
use engine::tlcp::request::Mode;
use std::ops::RangeInclusive;
use std::path::Path;

/// `set_key` is the adapter set's, and `data` are its data adapters.
pub(super) fn rules(
    raw: &raw::Literal,
    set_key: &str,
    data: &[DataAdapterPlan],
    directory: &Path,
    problems: &mut Problems,
) -> MetadataPlan {
    let key = format!("{set_key}.literal");
    let allowed_users = raw.allowed_users();
    for (index, name) in allowed_users.iter().enumerate() {
        if name.is_empty() {
            problems.add(format!("{key}.allowed_users[{index}]"), "must not be empty");
        }
    }
    let families = raw.families.iter().flatten().enumerate();
    let families = families.filter_map(|(index, raw)| {
        family(raw, &format!("{key}.families[{index}]"), data, problems)
    });
    let families: Vec<Family> = families.collect();
    let mut users: Vec<UserPlan> = Vec::new();
    for (index, raw) in raw.users.iter().flatten().enumerate() {
        let key = format!("{key}.users[{index}]");
        let others = users.iter().map(|user| user.name.as_str());
        let others = others.chain(allowed_users.iter().map(String::as_str));
        let name = raw.name.as_deref().unwrap_or_default();
        check_name(&format!("{key}.name"), name, others, problems);
        users.extend(user(raw, &key, problems));
    }
    let tokens = raw.tokens.as_deref();
    let tokens = tokens.and_then(|raw| tokens_of(raw, &key, directory, problems));
    let plan = LiteralPlan {
        allowed_users,
        users,
        tokens,
        families,
        max_bandwidth: positive(raw.max_bandwidth, &key, "max_bandwidth", problems),
        limits: ItemLimits {
            max_frequency: positive(raw.max_frequency, &key, "max_frequency", problems),
            buffer_size: buffer(raw.buffer_size, &key, problems),
            distinct_snapshot_length: Some(raw.distinct_snapshot_length()),
            prefilter_frequency: positive(
                raw.prefilter_frequency,
                &key,
                "prefilter_frequency",
                problems,
            ),
        },
    };
    // What is wrong with a key is only found when it is used.
    if let Err(reason) = Literal::new(plan.clone()) {
        problems.add(format!("{key}.tokens.key_file"), reason);
    }
    MetadataPlan::Rules(Box::new(plan))
}

fn family(
    raw: &raw::Family,
    key: &str,
    data: &[DataAdapterPlan],
    problems: &mut Problems,
) -> Option<Family> {
    if let Some(adapter) = &raw.data_adapter
        && !data.is_empty()
        && !data.iter().any(|plan| plan.name == *adapter)
    {
        let reason = format!("the set has no data adapter `{adapter}`");
        problems.add(format!("{key}.data_adapter"), reason);
    }
    let modes = raw.modes.iter().flatten().map(|mode| match mode {
        ModeName::Raw => Mode::Raw,
        ModeName::Merge => Mode::Merge,
        ModeName::Distinct => Mode::Distinct,
        ModeName::Command => Mode::Command,
    });
    if raw.modes.is_none() {
        problems.add(format!("{key}.modes"), "a family needs modes, if only []");
    }
    let limits = ItemLimits {
        max_frequency: positive(raw.max_frequency, key, "max_frequency", problems),
        buffer_size: buffer(raw.buffer_size, key, problems),
        distinct_snapshot_length: raw.distinct_snapshot_length,
        prefilter_frequency: positive(
            raw.prefilter_frequency,
            key,
            "prefilter_frequency",
            problems,
        ),
    };
    let Some(items) = &raw.items else {
        problems.add(format!("{key}.items"), "a family needs a pattern of items");
        return None;
    };
    Some(Family {
        items: pattern(items, &format!("{key}.items"), problems)?,
        data_adapter: raw.data_adapter.clone(),
        modes: modes.collect(),
        limits,
    })
}

fn user(raw: &raw::User, key: &str, problems: &mut Problems) -> Option<UserPlan> {
    let patterns = |items: &Vec<String>| {
        let patterns = items.iter().enumerate();
        let patterns = patterns
            .filter_map(|(index, item)| pattern(item, &format!("{key}.items[{index}]"), problems));
        patterns.collect()
    };
    let items = raw.items.as_ref().map(patterns);
    let rights = Rights {
        items,
        max_frequency: positive(raw.max_frequency, key, "max_frequency", problems),
        max_bandwidth: positive(raw.max_bandwidth, key, "max_bandwidth", problems),
        until: None,
    };
    match Hash::new(raw.password.as_deref().unwrap_or_default()) {
        Ok(password) => Some(UserPlan {
            name: raw.name.clone().unwrap_or_default(),
            password,
            rights,
        }),
        Err(reason) => {
            problems.add(format!("{key}.password"), reason);
            None
        }
    }
}

fn tokens_of(
    raw: &raw::Tokens,
    literal_key: &str,
    directory: &Path,
    problems: &mut Problems,
) -> Option<TokensPlan> {
    let key = format!("{literal_key}.tokens");
    problems.check_range(
        &format!("{key}.leeway"),
        raw.leeway(),
        Time::secs(0)..=Time::secs(3600),
    );
    let Some(file) = &raw.key_file else {
        problems.add(format!("{key}.key_file"), "tokens need a key");
        return None;
    };
    // Joining an absolute path gives that path.
    let path = directory.join(file);
    let mut bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let reason = format!("{}: {error}", path.display());
            problems.add(format!("{key}.key_file"), reason);
            return None;
        }
    };
    if raw.algorithm() == TokenAlgorithm::Hs256 {
        // Editors put it there.
        bytes.pop_if(|last| *last == b'\n');
        bytes.pop_if(|last| *last == b'\r');
    }
    Some(TokensPlan {
        algorithm: raw.algorithm(),
        key: Key(bytes),
        issuer: raw.issuer.clone(),
        audience: raw.audience.clone(),
        leeway: raw.leeway().0,
    })
}

fn pattern(text: &str, key: &str, problems: &mut Problems) -> Option<Pattern> {
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(reason) => {
            problems.add(
                key,
                format!("`{text}` is not a regular expression: {reason}"),
            );
            None
        }
    }
}

fn positive(value: Option<f64>, key: &str, name: &str, problems: &mut Problems) -> Option<f64> {
    if let Some(value) = value {
        problems.check_range(&format!("{key}.{name}"), value, LIMIT_RANGE);
    }
    value
}

fn buffer(value: Option<u32>, key: &str, problems: &mut Problems) -> Option<u32> {
    if value == Some(0) {
        problems.add(
            format!("{key}.buffer_size"),
            "is at least 1; leave it out for no limit",
        );
    }
    value
}

/// Updates per second, or kilobits. The lower end is one update in about three hours.
const LIMIT_RANGE: RangeInclusive<f64> = 0.0001..=1e9;
