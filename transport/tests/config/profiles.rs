//! The profiles: each is a configuration, and says of each key why it is there and what it was seen to do.

use std::path::Path;

use brightwire::config::Plan;

use crate::machine::machine;
use crate::profiles_directory;

#[test]
fn every_profile_works_and_explains_each_key() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(profiles_directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let plan = Plan::from_text(&text, &machine(), Path::new("/etc/brightwire"), "test.toml");
        plan.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|_| name != "reference.toml") {
            let needs_none =
                pair[1].starts_with("name =") || pair[1].starts_with("sessions_max = 1000");
            let is_key = pair[1].starts_with(|first: char| first.is_ascii_lowercase());
            assert!(
                !is_key || needs_none || pair[0].starts_with('#'),
                "{name}: no sentence for {}",
                pair[1]
            );
        }
        if name != "reference.toml" {
            every_key_has_its_effect(&name, &lines);
        }
        names.push(name);
    }
    names.sort();
    let expected = [
        "balanced.toml",
        "ci.toml",
        "dev.toml",
        "high-fanout.toml",
        "low-latency.toml",
        "reference-product.toml",
        "reference.toml",
    ];
    assert_eq!(names, expected);
}

/// The comment above each key says what the key was seen to do, or that nothing could be seen and why. Addresses, names and
/// plain limits do nothing but what they say.
fn every_key_has_its_effect(name: &str, lines: &[&str]) {
    const PLAIN: [&str; 5] = [
        "name",
        "address",
        "connections_max",
        "sessions_max",
        "backlog",
    ];
    let mut comment = String::new();
    for line in lines {
        if line.starts_with('#') {
            comment.push_str(line);
            continue;
        }
        if let Some((key, _)) = line.split_once(" = ")
            && !PLAIN.contains(&key)
        {
            assert!(
                comment.contains("Measured"),
                "{name}: what does {key} do? {comment}"
            );
        }
        comment.clear();
    }
}
