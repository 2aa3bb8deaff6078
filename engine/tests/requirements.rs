//! Keeps the table of rules true: `requirements/*.toml` say for each rule of the protocol what shows that it is kept.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    rule: Vec<Rule>,
}

/// A rule, with what shows it or why nothing does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    id: String,
    text: String,
    #[serde(default)]
    shown: Vec<String>,
    exception: Option<String>,
}

#[test]
fn every_rule_is_shown_or_excepted_and_every_transcript_shows_one() {
    let rules = rules();
    let mut complaints = Vec::new();
    let mut ids = BTreeSet::new();
    let mut named = BTreeSet::new();
    for rule in &rules {
        let id = &rule.id;
        if !ids.insert(id.as_str()) {
            complaints.push(format!("{id}: there are two of this name"));
        }
        if rule.text.is_empty() {
            complaints.push(format!("{id}: says nothing"));
        }
        match (&rule.exception, rule.shown.is_empty()) {
            (None, true) => complaints.push(format!("{id}: is shown by nothing")),
            (Some(_), false) => complaints.push(format!("{id}: is shown, and excepted")),
            (Some(reason), true) if reason.len() < 20 => {
                complaints.push(format!("{id}: an exception needs a reason"))
            }
            _ => {}
        }
        for name in &rule.shown {
            named.insert(name.as_str());
            if !exists(name) {
                complaints.push(format!("{id}: there is no {name}"));
            }
        }
    }
    for transcript in transcripts() {
        if !named.contains(transcript.as_str()) {
            complaints.push(format!(
                "{transcript}: say in requirements/*.toml what it shows"
            ));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn names_of_nothing_are_noticed() {
    assert!(exists("g1-session-merge-destroy.txt"));
    assert!(!exists("g1-session-merge.txt"));
    let here = "engine/tests/requirements.rs";
    assert!(exists(&format!("{here}::names_of_nothing_are_noticed")));
    assert!(!exists(&format!("{here}::names_of_nothing")));
    assert!(!exists(&format!("{here}::names")));
    assert!(!exists("engine/tests/nowhere.rs::exists"));
    let peers = "transport/tests/peers/two_level.mjs";
    assert!(exists(&format!("{peers}::hundreds of rows")) && !exists(&format!("{peers}::rows of")));
}

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for entry in fs::read_dir(tests().join("requirements")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let table: Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            rules.extend(table.rule);
        }
    }
    rules
}

/// Whether there is a transcript, or a test `file::name`, of this name.
fn exists(name: &str) -> bool {
    let Some((file, test)) = name.split_once("::") else {
        return tests().join("transcripts").join(name).is_file();
    };
    let root = tests().join("../..");
    let Ok(code) = fs::read_to_string(root.join(file)) else {
        return false;
    };
    if file.ends_with(".mjs") {
        // Tests have sentences for names there.
        return ['\'', '`']
            .iter()
            .any(|quote| code.contains(&format!("{quote}{test}")));
    }
    code.contains(&format!("fn {test}("))
}

fn transcripts() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(tests().join("transcripts")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".txt"))
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
