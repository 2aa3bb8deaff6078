//! `loadgen compare`: two reports, figure by figure.

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
        if value.pointer("/updates_per_s").is_none() {
            return Err("this is no report of `loadgen run`".into());
        }
        Ok(value)
    };
    read().map_err(|error| format!("{}: {error}", path.display()))
}

fn table(before: &Value, after: &Value) -> String {
    let mut out = String::new();
    if before.get("scenario") != after.get("scenario") {
        out += "NOTE: the scenarios differ.\n";
        for (key, one, other) in differences(before, after) {
            let _ = writeln!(out, "      {key}: {one} before, {other} after");
        }
    }
    for (name, report) in [("before", before), ("after", after)] {
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
    for figure in FIGURES {
        let number = |report: &Value| report.pointer(figure.pointer).and_then(Value::as_f64);
        let (one, other) = (number(before), number(after));
        if one.is_none() && other.is_none() {
            continue;
        }
        let text = |value: Option<f64>| value.map_or("-".into(), plain);
        let (change, mark) = match (one, other) {
            (Some(one), Some(other)) if one != 0.0 => {
                let change = other / one - 1.0;
                (
                    format!("{:+.1} %", change * 100.0),
                    figure.better.mark(change),
                )
            }
            _ => (String::new(), ""),
        };
        let _ = writeln!(
            out,
            "{:<32}{:>14}{:>14}{change:>10}{mark}",
            figure.name,
            text(one),
            text(other)
        );
    }
    out
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

/// Keys of the scenario that differ, groups left as they are.
fn differences(before: &Value, after: &Value) -> Vec<(String, String, String)> {
    let keys = |report: &Value| -> Vec<String> {
        let scenario = report.get("scenario").and_then(Value::as_object);
        scenario.map_or(Vec::new(), |map| map.keys().cloned().collect())
    };
    let mut names = keys(before);
    names.extend(keys(after));
    names.sort();
    names.dedup();
    // Groups are long: that they differ is said, and both reports have them.
    let get = |report: &Value, key: &str| {
        let text = report["scenario"][key].to_string();
        match text.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    };
    names
        .into_iter()
        .filter(|key| before["scenario"][key] != after["scenario"][key])
        .map(|key| {
            let (one, other) = (get(before, &key), get(after, &key));
            (key, one, other)
        })
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
    fn what_is_no_report_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        fs::write(&path, "{}").unwrap();
        assert!(read(&path).unwrap_err().contains("no report"));
        assert!(read(Path::new("nowhere.json")).is_err());
    }
}
