//! `brightwire import`: configuration files of the reference product become one of ours.
//!
//! An importer rather than a second format: whoever moves here does so once, and has one format to learn afterwards. What
//! cannot be translated is listed, with the line and the reason, rather than left out in silence. The result is read as
//! `brightwire check` reads it; what a check would refuse is taken out and listed too.
//!
//! | Module | What it is |
//! |---|---|
//! | `xml` | a file as a tree of elements |
//! | `adapters` | `adapters.xml`: an adapter set |
//! | `server` | `lightstreamer_conf.xml`: all else |

mod adapters;
mod server;
mod xml;

use crate::config::Plan;
use crate::runtime::topology::Topology;
use std::path::Path;
use toml::{Table, Value};
use xml::Element;

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// A configuration file.
    pub toml: String,
    /// What it does not have of the files, each with its place and the reason.
    pub notes: Vec<String>,
}

/// Translates files, given as their names and texts. The error says which is none that is known.
pub fn import(files: &[(String, String)], machine: &Topology) -> Result<Imported, String> {
    let mut draft = Draft::default();
    for (name, text) in files {
        let root = xml::parse(text).map_err(|reason| format!("{name}: {reason}"))?;
        draft.source.clone_from(name);
        match root.name.as_str() {
            "adapters_conf" => adapters::translate(&root, &mut draft),
            "lightstreamer_conf" => server::translate(&root, &mut draft),
            other => {
                return Err(format!(
                    "{name}: <{other}> is neither <adapters_conf> nor <lightstreamer_conf>"
                ));
            }
        }
    }
    draft.settle(machine);
    Ok(draft.finish())
}

/// A configuration that comes to be.
#[derive(Default)]
struct Draft {
    /// The file at hand.
    source: String,
    table: Table,
    notes: Vec<String>,
}

impl Draft {
    /// Sets a key of a table, which comes to be if need be.
    fn set(&mut self, table: &str, key: &str, value: impl Into<Value>) {
        let entry = self
            .table
            .entry(table)
            .or_insert_with(|| Table::new().into());
        if let Value::Table(table) = entry {
            table.insert(key.to_owned(), value.into());
        }
    }

    /// Adds a table to a list of tables.
    fn push(&mut self, list: &str, table: Table) {
        let entry = self
            .table
            .entry(list)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = entry {
            list.push(table.into());
        }
    }

    /// Something has no counterpart, or another one than one might think.
    fn note(&mut self, element: &Element, what: &str, reason: &str) {
        let (source, line) = (&self.source, element.line);
        self.notes
            .push(format!("{source}:{line}: {what}: {reason}"));
    }

    /// Takes out what would not be accepted.
    fn settle(&mut self, machine: &Topology) {
        // Each round takes out one value at least, or is the last.
        loop {
            let text = self.text();
            let Err(error) = Plan::from_text(&text, machine, Path::new(""), "import") else {
                return;
            };
            let mut taken = false;
            for problem in error.problems {
                if remove(&mut self.table, &problem.key) {
                    taken = true;
                    let reason = problem.reason;
                    self.notes
                        .push(format!("{}: left out: {reason}", problem.key));
                    // Places in lists have moved: what else is wrong is found in the next round.
                    break;
                }
            }
            if !taken {
                return;
            }
        }
    }

    fn text(&self) -> String {
        // Tables of text, numbers and lists can be written.
        toml::to_string(&self.table).unwrap_or_default()
    }

    fn finish(self) -> Imported {
        let mut toml =
            String::from("# Made by `brightwire import`; `brightwire check` says what it means.\n");
        if !self.notes.is_empty() {
            toml.push_str("#\n# Not as it was:\n");
            for note in &self.notes {
                toml.push_str(&format!("# * {}\n", note.replace('\n', " ")));
            }
        }
        toml.push('\n');
        toml.push_str(&self.text());
        Imported {
            toml,
            notes: self.notes,
        }
    }
}

/// Takes out the value at a path such as `listeners[0].address`; if it is not there, the innermost table around it.
fn remove(table: &mut Table, path: &str) -> bool {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let (name, index) = match first.split_once('[') {
        Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
        None => (first, None),
    };
    match (table.get_mut(name), index) {
        (None, _) => false,
        (Some(Value::Array(list)), Some(index)) if index < list.len() => {
            let inner = match (&mut list[index], rest) {
                (Value::Table(table), Some(rest)) => remove(table, rest),
                _ => false,
            };
            if !inner {
                list.remove(index);
            }
            true
        }
        (Some(Value::Table(inner)), _) => match rest {
            Some(rest) if remove(inner, rest) => true,
            _ => table.remove(name).is_some(),
        },
        _ => table.remove(name).is_some(),
    }
}

/// A time in milliseconds, as a configuration has it.
fn millis(text: &str) -> Option<Value> {
    let millis: u64 = text.parse().ok()?;
    Some(format!("{millis}ms").into())
}

fn bytes(text: &str) -> Option<Value> {
    let bytes: u64 = text.parse().ok()?;
    Some(format!("{bytes}B").into())
}

fn number(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok()?;
    number.is_finite().then_some(number.into())
}

fn whole(text: &str) -> Option<Value> {
    text.parse::<i64>().ok().map(Into::into)
}

fn yes(text: &str) -> Option<bool> {
    match text {
        "Y" | "y" | "true" => Some(true),
        "N" | "n" | "false" => Some(false),
        _ => None,
    }
}
