//! House rules that a machine can keep: where the architecture has borders, and what no file may contain.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository, with its path from the root.
struct File {
    path: String,
    text: String,
}

const LINES_MAX: usize = 1_000;

#[test]
fn every_rust_file_says_what_it_is_for() {
    check(rust_files(), |file| {
        if !file.text.starts_with("//!") {
            return vec!["does not start with `//!`: say what the file is for".into()];
        }
        Vec::new()
    });
}

#[test]
fn the_engine_is_pure() {
    const FORBIDDEN: [(&str, &str); 8] = [
        ("std::net", "the engine has no sockets"),
        ("std::thread", "the engine has no threads"),
        ("std::fs", "the engine has no files"),
        ("Instant::now", "time is an argument"),
        ("SystemTime", "time is an argument"),
        ("unsafe", "the engine is safe code"),
        ("async fn", "the engine never waits"),
        (".await", "the engine never waits"),
    ];
    let engine = rust_files().filter(|file| file.path.starts_with("engine/src/"));
    check(engine, |file| {
        find_in_code(file, |line| {
            let line = line.replace("#![forbid(unsafe_code)]", "");
            FORBIDDEN
                .iter()
                .find(|(word, _)| contains_word(&line, word))
                .map(|(word, why)| format!("`{word}`: {why}"))
        })
    });
}

#[test]
fn glommio_has_one_home() {
    let others = rust_files().filter(|file| file.path != "transport/src/runtime/host.rs");
    check(others, |file| {
        find_in_code(file, |line| {
            line.contains("glommio::")
                .then(|| "`glommio::` belongs into transport/src/runtime/host.rs only".into())
        })
    });
}

#[test]
fn unsafe_code_is_the_reactors() {
    let others = rust_files().filter(|file| {
        (file.path.starts_with("transport/") || file.path.starts_with("loadgen/"))
            && !file.path.starts_with("transport/src/reactor/")
    });
    check(others, |file| {
        find_in_code(file, |line| {
            let unsafe_code = words(line).any(|word| word == "unsafe");
            unsafe_code.then(|| "`unsafe` belongs under transport/src/reactor/ only".into())
        })
    });
}

#[test]
fn nothing_is_left_over() {
    // Written in halves, so that this file does not find itself.
    let leftovers = [
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
    ];
    check(rust_files(), |file| {
        find(file, |line| {
            let found = leftovers
                .iter()
                .find(|leftover| line.contains(**leftover))?;
            Some(format!("`{found}` is left over"))
        })
    });
}

#[test]
fn no_file_is_too_long() {
    check(rust_files(), |file| {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            return vec![format!(
                "{lines} lines: split it (the limit is {LINES_MAX})"
            )];
        }
        Vec::new()
    });
}

/// A codec may become a crate of its own one day: it knows nothing of the engine but its text functions.
#[test]
fn the_codec_stands_alone() {
    let codecs = rust_files().filter(|file| codec_of(file).is_some());
    check(codecs, |file| {
        let codec = codec_of(file).expect("just filtered");
        find_in_code(file, |line| {
            let mut uses = line.match_indices("crate::");
            let foreign = uses.find_map(|(at, prefix)| {
                let module = words(&line[at + prefix.len()..]).next()?;
                (![codec, "text"].contains(&module)).then(|| module.to_owned())
            })?;
            Some(format!(
                "refers to `crate::{foreign}`: the codec may use `text` only"
            ))
        })
    });
}

fn codec_of(file: &File) -> Option<&'static str> {
    ["tlcp", "ari"]
        .into_iter()
        .find(|codec| file.path.starts_with(&format!("engine/src/{codec}")))
}

#[test]
fn no_path_of_somebodys_machine() {
    let homes = ["work", "root", "home", "Users"].map(|directory| format!("/{directory}/"));
    check(text_files(), |file| {
        find(file, |line| {
            let home = homes.iter().find(|home| {
                line.match_indices(home.as_str()).any(|(at, _)| {
                    // A path starts there, and is no part of a longer one or of an address.
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || ".-_~/}".contains(c))
                })
            })?;
            Some(format!("`{home}...` exists on somebody's machine only"))
        })
    });
}

#[test]
fn comments_and_strings_are_told_from_code() {
    let file = File {
        path: "x.rs".into(),
        text: "//! unsafe\nlet a = 1; // unsafe\nlet b = \"unsafe\";\nunsafe { c() }\n".into(),
    };
    let found = find_in_code(&file, |line| {
        line.contains("unsafe").then(|| "found".into())
    });
    assert_eq!(found, ["line 4: found"]);
}

fn check(files: impl Iterator<Item = File>, complaints: impl Fn(&File) -> Vec<String>) {
    let mut count = 0;
    let mut report = String::new();
    for file in files {
        count += 1;
        for complaint in complaints(&file) {
            report.push_str(&format!("{}: {complaint}\n", file.path));
        }
    }
    assert!(count > 0, "no file was looked at: has the layout changed?");
    assert!(report.is_empty(), "\n{report}");
}

fn find(file: &File, complaint: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(number, line)| Some(format!("line {}: {}", number + 1, complaint(line)?)))
        .collect()
}

/// Like [`find`], without comments and the contents of strings on one line.
fn find_in_code(file: &File, complaint: impl Fn(&str) -> Option<String>) -> Vec<String> {
    find(file, |line| complaint(&code(line)))
}

fn code(line: &str) -> String {
    let mut code = String::new();
    let mut characters = line.chars().peekable();
    let mut in_string = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => {
                characters.next();
            }
            '\'' if !in_string && characters.peek() == Some(&'"') => {
                characters.next(); // the character '"'
            }
            '"' => in_string = !in_string,
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if in_string => {}
            _ => code.push(character),
        }
    }
    code
}

/// Whether `word` stands in the line, not as the beginning of a longer one.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let behind = line[at + word.len()..].chars().next();
        !behind.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

fn rust_files() -> impl Iterator<Item = File> {
    text_files().filter(|file| file.path.ends_with(".rs"))
}

/// Everything that is text and not made by a tool.
fn text_files() -> impl Iterator<Item = File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace");
    let mut paths = Vec::new();
    walk(root, &mut paths);
    paths.sort();
    paths.into_iter().filter_map(move |path| {
        let text = String::from_utf8(fs::read(&path).ok()?).ok()?;
        let path = path.strip_prefix(root).ok()?.to_str()?.to_owned();
        Some(File { path, text })
    })
}

fn walk(directory: &Path, paths: &mut Vec<PathBuf>) {
    const SKIPPED: [&str; 4] = ["target", "node_modules", ".git", "corpus"];
    for entry in fs::read_dir(directory).expect("the repository can be read") {
        let entry = entry.expect("the repository can be read");
        let name = entry.file_name();
        let kind = entry.file_type().expect("the repository can be read");
        // In a second work tree `.git` is a file.
        if SKIPPED.iter().any(|skipped| name == *skipped) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), paths);
        } else if kind.is_file() && name != "Cargo.lock" {
            paths.push(entry.path());
        }
    }
}
