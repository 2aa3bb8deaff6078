//! What is shown in READMEs: configurations must be accepted, and the commands of the chapter "The protocol by hand", which
//! are run by bash, with the real curl and against the real server, must print what it says.
//!
//! In a block of the kind `console`, a line that begins with `$ ` is a command; it goes on in the next line where it
//! ends with `\` or `|`. What follows up to the next command is what it prints, in which `…` stands for any part of a
//! line, and on a line of its own for any lines.

mod machine;
mod serving;

use brightwire::config::Plan;
use machine::machine;
use serving::Serving;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const CHAPTER: &str = "## The protocol by hand\n";
/// Printed before each command. No server says so.
const MARK: &str = "----- next command -----";

struct Step {
    command: String,
    printed: Vec<String>,
}

/// A README, by its path from the root of the repository.
fn readme(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn every_configuration_is_one() {
    let directory = tempfile::tempdir().unwrap();
    // The file that one of them replays.
    fs::write(directory.path().join("ticks.csv"), "item,bid\n").unwrap();
    for (path, count_min) in [
        ("README.md", 1),
        ("engine/README.md", 2),
        ("transport/src/adapter/README.md", 2),
        ("transport/src/config/README.md", 2),
    ] {
        let text = readme(path);
        let blocks = text.split("```toml\n").skip(1);
        let blocks: Vec<&str> = blocks
            .map(|text| text.split("```").next().unwrap())
            .collect();
        assert!(blocks.len() >= count_min, "{path} has lost configurations");
        for block in blocks {
            let plan = Plan::from_text(block, &machine(), directory.path(), path);
            plan.unwrap_or_else(|error| panic!("{block}\n{error}"));
        }
    }
}

#[test]
fn the_commands_print_what_is_said() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "curl is missing: apt-get install curl"
        );
        eprintln!("skipped: there is no curl here");
        return;
    }
    let steps = steps(&readme("engine/README.md"));
    assert!(steps.len() >= 10, "the chapter has lost its commands");

    let mut script = String::new();
    for step in &steps {
        script += &format!("echo '{MARK}'\n{}\n", step.command);
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Serving::start(directory.path(), &["demo", "--port", "0"]);
    let script = script.replace("127.0.0.1:8080", &server.address("demo").to_string());
    // A limit, not an expectation: what follows a file would wait for ever if the server did not say what it should.
    let output = Command::new("timeout")
        .args(["85", "bash", "-c", &script])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let parts: Vec<&str> = printed.split(&format!("{MARK}\n")).skip(1).collect();
    for (step, part) in steps.iter().zip(&parts) {
        let lines: Vec<&str> = part.lines().collect();
        assert!(
            matches(&step.printed, &lines),
            "$ {}\nprinted\n{part}\ninstead of\n{}\n{said}",
            step.command,
            step.printed.join("\n")
        );
    }
    assert_eq!(parts.len(), steps.len(), "a command did not end: {said}");
}

/// The chapter's commands, with what each prints.
fn steps(readme: &str) -> Vec<Step> {
    let start = readme.find(CHAPTER).expect("the chapter") + CHAPTER.len();
    let chapter = &readme[start..];
    let chapter = &chapter[..chapter.find("\n## ").unwrap_or(chapter.len())];
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut goes_on) = (false, false);
    for line in chapter.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => {
                let last = steps.last_mut();
                if goes_on {
                    let command = &mut last.unwrap().command;
                    command.push('\n');
                    command.push_str(line);
                    goes_on = line.ends_with(['\\', '|']);
                } else if let Some(command) = line.strip_prefix("$ ") {
                    goes_on = line.ends_with(['\\', '|']);
                    steps.push(Step {
                        command: command.into(),
                        printed: Vec::new(),
                    });
                } else {
                    last.expect("a command first").printed.push(line.into());
                }
            }
        }
    }
    steps
}

fn matches(expected: &[String], lines: &[&str]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return lines.is_empty();
    };
    if first == "…" {
        return (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]));
    }
    lines
        .split_first()
        .is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others))
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|start| line.strip_prefix(start)) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = part.is_empty();
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    open || rest.is_empty()
}

#[test]
fn patterns_mean_what_they_say() {
    assert!(line_matches("CONOK,S…,5,*", "CONOK,S1,5,*") && line_matches("U,1,…|…", "U,1,a|b"));
    assert!(!line_matches("REQOK,1", "REQOK,12") && !line_matches("CONOK,S…,5,*", "CONOK,S1,6,*"));
    let pattern = ["a", "…", "b"].map(str::to_owned);
    assert!(matches(&pattern, &["a", "b"]) && matches(&pattern, &["a", "x", "y", "b"]));
    assert!(!matches(&pattern, &["a", "b", "c"]) && !matches(&[], &["a"]));
}
