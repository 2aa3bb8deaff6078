//! The adapter sets of a configuration: defaults, relations, mistakes.

use super::literal;
use super::plan::{
    AdapterSetPlan, DataAdapterPlan, DataKind, DataKindName, MetadataKindName, MetadataPlan, Pace,
    TradeSafePlan,
};
use super::raw::{self, Raw};
use super::remote::remote;
use super::resolve::{Problems, check_name};
use crate::adapter::lines::LinesAddress;
use engine::item::safe::{ItemPattern, TradeSafe};
use engine::item::selector::{Check, Selector};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

pub(super) fn adapter_sets(
    raw: &Raw,
    directory: &Path,
    problems: &mut Problems,
) -> Vec<AdapterSetPlan> {
    let defaults = [raw::AdapterSet::default()];
    let defaults: &[_] = if raw.own.is_some() { &[] } else { &defaults };
    let given = raw.adapter_sets.as_deref().unwrap_or(defaults);
    let mut plans: Vec<AdapterSetPlan> = Vec::new();
    for (index, set) in given.iter().enumerate() {
        let key = format!("adapter_sets[{index}]");
        let name = set.name();
        check_name(
            &format!("{key}.name"),
            &name,
            plans.iter().map(|plan| plan.name.as_str()),
            problems,
        );
        let selectors = selectors(set, &key, problems);
        let (data, status) = data_adapters(set, raw.own.is_some(), &key, directory, problems);
        let metadata = match set.metadata() {
            MetadataKindName::Literal => {
                if set.remote.is_some() {
                    problems.add(format!("{key}.remote"), "only for metadata = \"remote\"");
                }
                match &set.literal {
                    Some(rules) => {
                        // The program's own are not known here.
                        let known: &[_] = if raw.own.is_some() { &[] } else { &data };
                        literal::rules(rules, &key, known, directory, problems)
                    }
                    None => MetadataPlan::Literal,
                }
            }
            MetadataKindName::Remote => {
                if set.literal.is_some() {
                    problems.add(format!("{key}.literal"), "only for metadata = \"literal\"");
                }
                let plan = remote(set.remote.as_deref(), &key, directory, problems);
                MetadataPlan::Remote(Box::new(plan))
            }
        };
        if set.metadata_first() && !matches!(metadata, MetadataPlan::Remote(_)) {
            problems.add(
                format!("{key}.metadata_first"),
                "only for metadata = \"remote\"",
            );
        }
        plans.push(AdapterSetPlan {
            name,
            metadata,
            metadata_first: set.metadata_first(),
            data,
            status,
            selectors,
        });
    }
    if let Some(own) = &raw.own {
        add_own(own, &mut plans, problems);
    }
    if plans.is_empty() {
        problems.add("adapter_sets", "there must be at least one");
    }
    for (index, plan) in plans.iter().enumerate() {
        if plan.data.is_empty() {
            let key = match index < given.len() {
                true => format!("adapter_sets[{index}].data"),
                false => plan.name.clone(),
            };
            let reason = match plan.status {
                None => "there must be at least one data adapter",
                Some(_) => "there must be a data adapter besides the one that tells of others",
            };
            problems.add(key, reason);
        }
    }
    plans
}

/// Adds the adapters that the program brings along to the sets of the file, or in sets of their own.
fn add_own(own: &raw::OwnAdapters, plans: &mut Vec<AdapterSetPlan>, problems: &mut Problems) {
    for name in &own.metadata {
        let plan = set_plan(plans, name, problems);
        if plan.metadata != MetadataPlan::Literal {
            let reason = "the set has another metadata adapter already, besides the program's";
            problems.add(name.as_str(), reason);
        }
        plan.metadata = MetadataPlan::Own;
    }
    for (set, name) in &own.data {
        let plan = set_plan(plans, set, problems);
        let others = plan.data.iter().map(|plan| &plan.name);
        let others = others.chain(&plan.status).map(String::as_str);
        check_name(&format!("{set}.{name}"), name, others, problems);
        plan.data.push(DataAdapterPlan {
            name: name.clone(),
            kind: DataKind::Own,
            trade_safe: Vec::new(),
        });
    }
    for ((set, name), rule) in &own.trade_safe {
        let key = format!("{set}.{name}.trade_safe");
        if matches!(&rule.what, TradeSafe::Fields(fields) if fields.is_empty()) {
            problems.add(&key, "names no field: `Everything` means all events");
        }
        let set = plans.iter_mut().find(|plan| plan.name == *set);
        let adapter = set.and_then(|set| {
            let mut data = set.data.iter_mut();
            data.find(|plan| plan.name == *name && matches!(plan.kind, DataKind::Own))
        });
        match adapter {
            Some(adapter) => adapter.trade_safe.push(rule.clone()),
            None => problems.add(&key, "the program adds no such data adapter"),
        }
    }
}

fn set_plan<'p>(
    plans: &'p mut Vec<AdapterSetPlan>,
    name: &str,
    problems: &mut Problems,
) -> &'p mut AdapterSetPlan {
    let known = plans.iter().position(|plan| plan.name == name);
    let index = known.unwrap_or_else(|| {
        check_name(name, name, std::iter::empty(), problems);
        plans.push(AdapterSetPlan {
            name: name.to_owned(),
            metadata: MetadataPlan::Literal,
            metadata_first: false,
            data: Vec::new(),
            status: None,
            selectors: BTreeMap::new(),
        });
        plans.len() - 1
    });
    &mut plans[index]
}

/// What stands behind a set's names, and the name of the one that tells clients of their own updates.
fn data_adapters(
    set: &raw::AdapterSet,
    own: bool,
    set_key: &str,
    directory: &Path,
    problems: &mut Problems,
) -> (Vec<DataAdapterPlan>, Option<String>) {
    let defaults = [raw::DataAdapter::default()];
    let defaults: &[_] = if own { &[] } else { &defaults };
    let given = set.data.as_deref().unwrap_or(defaults);
    let mut plans: Vec<DataAdapterPlan> = Vec::new();
    let mut status = None;
    for (index, adapter) in given.iter().enumerate() {
        let key = format!("{set_key}.data[{index}]");
        let name = adapter.name();
        let others = plans.iter().map(|plan| &plan.name);
        let others = others.chain(&status).map(String::as_str);
        check_name(&format!("{key}.name"), &name, others, problems);
        if adapter.remote.is_some() && adapter.kind() != DataKindName::Remote {
            problems.add(format!("{key}.remote"), "only for kind = \"remote\"");
        }
        let kind = match adapter.kind() {
            DataKindName::Remote => {
                refuse_foreign(adapter, &key, &[], problems);
                let plan = remote(adapter.remote.as_deref(), &key, directory, problems);
                DataKind::Remote(Box::new(plan))
            }
            DataKindName::Demo => demo(adapter, &key, problems),
            DataKindName::Replay => replay(adapter, &key, directory, problems),
            DataKindName::Lines => lines(adapter, &key, directory, problems),
            DataKindName::Status => {
                refuse_foreign(adapter, &key, &[], problems);
                if adapter.trade_safe.is_some() {
                    problems.add(format!("{key}.trade_safe"), "not for kind = \"status\"");
                }
                if status.replace(name).is_some() {
                    problems.add(format!("{key}.kind"), "a set has one of this kind at most");
                }
                continue;
            }
        };
        plans.push(DataAdapterPlan {
            name,
            kind,
            trade_safe: trade_safe(adapter, &key, problems),
        });
    }
    (plans, status)
}

/// All tables of one name make one selector.
fn selectors(
    set: &raw::AdapterSet,
    key: &str,
    problems: &mut Problems,
) -> BTreeMap<String, Selector> {
    let mut selectors: BTreeMap<String, Selector> = BTreeMap::new();
    for (index, raw) in set.selectors.iter().flatten().enumerate() {
        let key = format!("{key}.selectors[{index}]");
        let (name, field) = (raw.name(), raw.field());
        for (part, text) in [("name", &name), ("field", &field)] {
            if text.is_empty() {
                problems.add(format!("{key}.{part}"), "must not be empty");
            }
        }
        for (part, number) in [("at_least", raw.at_least), ("at_most", raw.at_most)] {
            if number.is_some_and(|number| !number.is_finite()) {
                problems.add(format!("{key}.{part}"), "is no number");
            }
        }
        let texts = |texts: &Vec<String>| texts.iter().map(|text| text.as_str().into()).collect();
        let prefix = raw.prefix.as_deref();
        let checks = [
            Some(Check::Present),
            raw.one_of.as_ref().map(|list| Check::OneOf(texts(list))),
            prefix.map(|beginning| Check::Prefix(beginning.into())),
            raw.at_least.map(Check::AtLeast),
            raw.at_most.map(Check::AtMost),
        ];
        let selector = selectors.remove(&name).unwrap_or_default();
        let checks = checks.into_iter().flatten();
        let selector = checks.fold(selector, |all, check| all.and(&field, check));
        selectors.insert(name, selector);
    }
    selectors
}

fn trade_safe(
    adapter: &raw::DataAdapter,
    key: &str,
    problems: &mut Problems,
) -> Vec<TradeSafePlan> {
    let rules = adapter.trade_safe.as_deref().unwrap_or_default();
    let mut plans = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let empty = [("items", &rule.items), ("fields", &rule.fields)];
        for (name, _) in empty
            .into_iter()
            .filter(|(_, list)| list.as_ref().is_some_and(Vec::is_empty))
        {
            let key = format!("{key}.trade_safe[{index}].{name}");
            problems.add(key, "names none: leave it out if all are meant");
        }
        let items = rule.items.iter().flatten();
        let fields = rule.fields.as_ref();
        let fields =
            fields.map(|fields| fields.iter().map(|field| field.as_str().into()).collect());
        plans.push(TradeSafePlan {
            items: items.map(|item| ItemPattern::parse(item)).collect(),
            what: fields.map_or(TradeSafe::Everything, TradeSafe::Fields),
        });
    }
    plans
}

fn demo(adapter: &raw::DataAdapter, key: &str, problems: &mut Problems) -> DataKind {
    refuse_foreign(adapter, key, &["rate"], problems);
    let rate = adapter.rate.unwrap_or(DEMO_RATE);
    problems.check_range(&format!("{key}.rate"), rate, PACE_RANGE);
    DataKind::Demo { rate }
}

fn replay(
    adapter: &raw::DataAdapter,
    key: &str,
    directory: &Path,
    problems: &mut Problems,
) -> DataKind {
    refuse_foreign(adapter, key, &["file", "rate", "speed", "repeat"], problems);
    // Joining an absolute path gives that path.
    let file = adapter.file.as_ref().map(|file| directory.join(file));
    match &file {
        None => problems.add(format!("{key}.file"), "kind = \"replay\" needs a file"),
        Some(file) => {
            if let Err(error) = std::fs::File::open(file) {
                problems.add(
                    format!("{key}.file"),
                    format!("{}: {error}", file.display()),
                );
            } else if file.is_dir() {
                problems.add(
                    format!("{key}.file"),
                    format!("{} is a directory", file.display()),
                );
            }
        }
    }
    if let Some(rate) = adapter.rate {
        problems.check_range(&format!("{key}.rate"), rate, PACE_RANGE);
    }
    if let Some(speed) = adapter.speed.filter(|speed| *speed != f64::INFINITY) {
        problems.check_range(&format!("{key}.speed"), speed, PACE_RANGE);
    }
    let pace = match (adapter.rate, adapter.speed) {
        (Some(_), Some(speed)) => {
            problems.add(format!("{key}.speed"), "give either a rate or a speed");
            Pace::Speed(speed)
        }
        (Some(rate), None) => Pace::Rate(rate),
        (None, speed) => Pace::Speed(speed.unwrap_or(1.0)),
    };
    DataKind::Replay {
        file: file.unwrap_or_default(),
        pace,
        looped: adapter.repeat(),
    }
}

fn lines(
    adapter: &raw::DataAdapter,
    key: &str,
    directory: &Path,
    problems: &mut Problems,
) -> DataKind {
    refuse_foreign(adapter, key, &["address"], problems);
    let text = adapter.address.as_deref().unwrap_or_default();
    let address = match text.strip_prefix("unix:") {
        // Joining an absolute path gives that path.
        Some(path) if !path.is_empty() => LinesAddress::Unix(directory.join(path)),
        _ => LinesAddress::Tcp(text.parse().unwrap_or_else(|_| {
            let key = format!("{key}.address");
            problems.add(
                key,
                "kind = \"lines\" needs \"address:port\" or \"unix:/path\"",
            );
            SocketAddr::from(([127, 0, 0, 1], 0))
        })),
    };
    DataKind::Lines { address }
}

/// Keys that mean something to other kinds only.
fn refuse_foreign(adapter: &raw::DataAdapter, key: &str, own: &[&str], problems: &mut Problems) {
    let given = [
        ("rate", adapter.rate.is_some()),
        ("file", adapter.file.is_some()),
        ("speed", adapter.speed.is_some()),
        ("repeat", adapter.repeat()),
        ("address", adapter.address.is_some()),
    ];
    for (name, _) in given
        .into_iter()
        .filter(|(name, given)| *given && !own.contains(name))
    {
        let kind = match adapter.kind() {
            DataKindName::Demo => "demo",
            DataKindName::Replay => "replay",
            DataKindName::Lines => "lines",
            DataKindName::Remote => "remote",
            DataKindName::Status => "status",
        };
        let reason = format!("means nothing with kind = \"{kind}\"");
        problems.add(format!("{key}.{name}"), reason);
    }
}

/// Updates per second, or times as fast. The lower end is one update in about three hours.
const PACE_RANGE: RangeInclusive<f64> = 0.0001..=1e9;
/// Lively, and still readable on a page of thirty stocks.
pub(super) const DEMO_RATE: f64 = 15.0;
