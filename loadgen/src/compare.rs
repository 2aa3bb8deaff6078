//! `loadgen compare`: two reports, figure by figure.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::args::CompareArguments;

/// A figure: where it stands in the report, what it is, and whether more of it is better.
struct Figure {
    pointer: &'static str,
    name: &'static str,
    better: Better,
}

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
    /// It depends.
    Neither,
}

/// Characters of a key's value that are shown.
const TEXT_MAX: usize = 60;
/// Differences below this are not worth a word: runs of the same thing differ by more. (guess)
const NOTABLE: f64 = 0.05;

const FIGURES: [Figure; 19] = [
    figure("/updates_per_s", "updates/s", Better::More),
    figure("/updates_per_message", "updates a message", Better::Neither),
    figure("/bytes_per_update", "bytes of an update", Better::Less),
    figure("/lost", "events lost", Better::Less),
    figure("/conflated", "events left out", Better::Neither),
    figure("/reordered", "updates reordered", Better::Less),
    figure("/latency/p50_ns", "latency p50, ns", Better::Less),
    figure("/latency/p90_ns", "latency p90, ns", Better::Less),
    figure("/latency/p99_ns", "latency p99, ns", Better::Less),
    figure("/latency/p999_ns", "latency p99.9, ns", Better::Less),
    figure("/latency/p9999_ns", "latency p99.99, ns", Better::Less),
    figure("/latency/max_ns", "latency max, ns", Better::Less),
    figure("/silence_max_ns", "longest silence, ns", Better::Less),
    figure(
        "/server/cpu_ns_per_update",
        "server CPU of an update, ns",
        Better::Less,
    ),
    figure("/server/cores", "server cores", Better::Less),
    figure(
        "/memory/server_bytes_per_session",
        "server memory of a session, B",
        Better::Less,
    ),
    figure(
        "/memory/kernel_bytes_per_session",
        "kernel memory of a session, B",
        Better::Less,
    ),
    figure("/sessions/connects_per_s", "connects/s", Better::More),
    figure(
        "/generator/cpu_ns_per_update",
        "generator CPU of an update, ns",
        Better::Neither,
    ),
];

const fn figure(pointer: &'static str, name: &'static str, better: Better) -> Figure {
    Figure {
        pointer,
        name,
        better,
    }
}

/// Prints the comparison.
pub fn compare(arguments: &CompareArguments) -> Result<(), Box<dyn Error>> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    print!("{}", table(&before, &after));
    Ok(())
}

fn read(path: &Path) -> Result<Value, String> {
    let read = || -> Result<Value, Box<dyn Error>> {
        let value: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let rate = value.pointer("/updates_per_s").and_then(Value::as_f64);
        if rate.is_none() || value.get("scenario").is_none_or(|it| !it.is_object()) {
            return Err("this is no report of `loadgen run`".into());
        }
        Ok(value)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

fn table(before: &Value, after: &Value) -> String {
    let mut out = String::new();
    let different = differences(before, after);
    if !different.is_empty() {
        out += "NOTE: the scenarios differ: this compares different things.\n";
    }
    for (key, one, other) in different {
        let _ = writeln!(out, "      {key}: {one} before, {other} after");
    }
    for (pointer, what) in [
        ("/version", "versions of loadgen"),
        ("/machine/cpu", "processors"),
        ("/machine/cores", "numbers of cores"),
        ("/machine/kernel", "kernels"),
        ("/generator/io", "back ends of the generator"),
    ] {
        let (one, other) = (before.pointer(pointer), after.pointer(pointer));
        if let (Some(one), Some(other)) = (one, other)
            && one != other
        {
            let _ = writeln!(out, "NOTE: the {what} differ: {one} before, {other} after");
        }
    }
    for (name, report) in [("before", before), ("after", after)] {
        for (pointer, bad, what) in [
            ("/interrupted", true, "was interrupted"),
            ("/success", false, "has FAILED"),
        ] {
            if report.pointer(pointer) == Some(&Value::Bool(bad)) {
                let _ = writeln!(out, "NOTE: {name}: the run {what}");
            }
        }
        let notes = report.pointer("/generator/notes").and_then(Value::as_array);
        for note in notes.into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(out, "NOTE: {name}: {note}");
        }
    }
    let _ = writeln!(
        out,
        "{:<32}{:>14}{:>14}{:>10}",
        "", "before", "after", "change"
    );
    let figures = FIGURES.iter().map(|figure| {
        let number = |report: &Value| report.pointer(figure.pointer).and_then(Value::as_f64);
        let name = figure.name.to_owned();
        (name, figure.better, number(before), number(after))
    });
    for (name, better, one, other) in figures.chain(of_groups(before, after)) {
        if one.is_none() && other.is_none() {
            continue;
        }
        let text = |value: Option<f64>| value.map_or("-".into(), plain);
        let (change, mark) = match (one, other) {
            (Some(one), Some(other)) if one != 0.0 => {
                let change = other / one - 1.0;
                // Not "-0.0 %".
                let percent = (change * 1_000.0).round() / 10.0 + 0.0;
                (format!("{percent:+.1} %"), better.mark(change))
            }
            // From nothing to something: no percentage tells it.
            (Some(one), Some(other)) if other != one => ("new".into(), better.mark(other.signum())),
            _ => (String::new(), ""),
        };
        let _ = writeln!(
            out,
            "{:<32}{:>14}{:>14}{change:>10}{mark}",
            name,
            text(one),
            text(other)
        );
    }
    out + "One run each: what differs may be chance. Repeat both, in turns, before you believe it.\n"
}

/// Of groups, if there are several: by their names, as far as both reports have them.
fn of_groups(before: &Value, after: &Value) -> Vec<(String, Better, Option<f64>, Option<f64>)> {
    let groups = |report: &Value| -> BTreeMap<String, Value> {
        let groups = report.pointer("/by_group").and_then(Value::as_array);
        let named = groups.into_iter().flatten().filter_map(|group| {
            let name = group.get("name")?.as_str()?;
            Some((name.to_owned(), group.clone()))
        });
        named.collect()
    };
    let (before, after) = (groups(before), groups(after));
    let mut figures = Vec::new();
    if before.len().max(after.len()) < 2 {
        return figures;
    }
    for (name, one) in &before {
        let Some(other) = after.get(name) else {
            continue;
        };
        for (pointer, what, better) in [
            ("/updates_per_s", "updates/s", Better::More),
            ("/lost", "events lost", Better::Less),
            ("/latency/p50_ns", "p50, ns", Better::Less),
            ("/latency/p99_ns", "p99, ns", Better::Less),
            ("/latency/p999_ns", "p99.9, ns", Better::Less),
        ] {
            let number = |report: &Value| report.pointer(pointer).and_then(Value::as_f64);
            let (one, other) = (number(one), number(other));
            figures.push((format!("{name}: {what}"), better, one, other));
        }
    }
    figures
}

/// A whole number, or one with a little behind the point if it is small.
fn plain(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

impl Better {
    fn mark(self, change: f64) -> &'static str {
        match self {
            _ if change.abs() < NOTABLE => "",
            Self::More if change > 0.0 => "  better",
            Self::Less if change < 0.0 => "  better",
            Self::More | Self::Less => "  worse",
            Self::Neither => "",
        }
    }
}

/// A scenario's keys, with those of its groups one by one; where runs were of different places is no difference.
fn keys_of(report: &Value) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    let scenario = report.get("scenario").and_then(Value::as_object);
    for (key, value) in scenario.into_iter().flatten() {
        match value.as_array().filter(|_| key == "groups") {
            None => {
                keys.insert(key.clone(), value.clone());
            }
            Some(groups) => {
                for (index, group) in groups.iter().enumerate() {
                    for (key, value) in group.as_object().into_iter().flatten() {
                        keys.insert(format!("group {}: {key}", index + 1), value.clone());
                    }
                }
            }
        }
    }
    // Another process each time.
    keys.remove("server_pid");
    keys
}

/// Keys of the scenario that differ.
fn differences(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let (one, other) = (keys_of(before), keys_of(after));
    let get = |keys: &BTreeMap<String, Value>, key: &str| {
        let text = keys.get(key).map_or("-".into(), Value::to_string);
        match text.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    };
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names
        .into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| (key.clone(), get(&one, key), get(&other, key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_held_against_each_other() {
        let report = |updates: f64, p99: u64, sessions: u32| {
            json!({"updates_per_s": updates, "latency": {"p99_ns": p99}, "lost": 0,
                   "scenario": {"sessions": sessions, "server": "h:1"}})
        };
        let text = table(&report(100.0, 2_000, 5), &report(150.0, 4_000, 5));
        assert!(text.contains("+50.0 %  better"), "{text}");
        assert!(text.contains("+100.0 %  worse"), "{text}");
        assert!(!text.contains("NOTE"), "{text}");
        let text = table(&report(100.0, 2_000, 5), &report(101.0, 2_000, 6));
        assert!(text.contains("sessions: 5 before, 6 after"), "{text}");
        assert!(!text.contains("better"), "{text}");
    }

    #[test]
    fn what_makes_a_comparison_unfair_is_told() {
        let report = |lost: u32, more: Value| {
            let mut report = json!({"updates_per_s": 1.0, "lost": lost, "success": true, "interrupted": false,
                "machine": {"cpu": "x", "cores": 2, "kernel": "6.1"},
                "scenario": {"server_pid": lost, "groups": [{"name": "a", "sessions": 5}]}});
            let (map, more) = (report.as_object_mut().unwrap(), more);
            map.extend(more.as_object().unwrap().clone());
            report
        };
        let text = table(&report(0, json!({})), &report(7, json!({})));
        assert!(!text.contains("NOTE"), "{text}");
        assert!(
            text.contains("new  worse"),
            "from none lost to seven: {text}"
        );
        for (more, says) in [
            (json!({"success": false}), "after: the run has FAILED"),
            (
                json!({"interrupted": true}),
                "after: the run was interrupted",
            ),
            (json!({"machine": {"cpu": "y"}}), "the processors differ"),
            (
                json!({"scenario": {"groups": [{"name": "a", "sessions": 6}]}}),
                "group 1: sessions: 5 before, 6 after",
            ),
            (
                json!({"scenario": {"groups": [{"name": "a", "sessions": 5}, {"name": "b"}]}}),
                "group 2: name: - before, \"b\" after",
            ),
        ] {
            let text = table(&report(0, json!({})), &report(0, more));
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn groups_of_the_same_name_are_held_against_each_other() {
        let report =
            |groups: Value| json!({"updates_per_s": 1.0, "by_group": groups, "scenario": {}});
        let group = |name: &str, p99: u64| json!({"name": name, "latency": {"p99_ns": p99}});
        let two = report(json!([group("a", 100), group("b", 100)]));
        let text = table(&two, &report(json!([group("c", 1), group("b", 300)])));
        assert!(text.contains("b: p99, ns"), "{text}");
        assert!(text.contains("+200.0 %  worse"), "{text}");
        assert!(
            !text.contains("a: p99") && !text.contains("c: p99"),
            "{text}"
        );
        let lone = report(json!([group("b", 100)]));
        assert!(!table(&lone, &lone).contains("b: p99"));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        for text in [
            "{}",
            "{\"updates_per_s\": null, \"scenario\": {}}",
            "{\"updates_per_s\": 1}",
            "[]",
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().contains("no report"), "{text}");
        }
        assert!(read(Path::new("nowhere.json")).is_err());
    }
}
