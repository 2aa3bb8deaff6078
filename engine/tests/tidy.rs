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
fn links_lead_somewhere() {
    let texts = || text_files().filter(|file| file.path.ends_with(".md"));
    let headings: Vec<(String, Vec<String>)> = texts()
        .map(|file| {
            let titles = file.text.lines().filter(|line| line.starts_with('#'));
            let anchors = titles.map(anchor).collect();
            (file.path, anchors)
        })
        .collect();
    check(texts(), |file| {
        let mut complaints = Vec::new();
        for behind in file.text.split("](").skip(1) {
            let link = behind.split(')').next().expect("the first part");
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let target = match path {
                "" => file.path.clone(),
                path => beside(&file.path, path),
            };
            let titles = headings.iter().find(|(path, _)| *path == target);
            let is_title = |titles: &Vec<String>| titles.iter().any(|title| title == anchor);
            if !root().join(&target).exists()
                || !anchor.is_empty() && !titles.is_some_and(|(_, titles)| is_title(titles))
            {
                complaints.push(format!("`{link}` leads nowhere"));
            }
        }
        complaints
    });
}

/// How a heading is called in a link: its words in small letters, with hyphens between.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = title
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

/// The path that stands in a file as `link`, from the root.
fn beside(file: &str, link: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in link.split('/').filter(|part| !part.is_empty()) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The README's tables name files by their path from the root, and then others of the same directory by their names.
#[test]
fn the_map_is_true() {
    let readme = text_files().filter(|file| file.path == "README.md");
    check(readme, |file| {
        let rows = file.text.lines().filter(|line| line.starts_with('|'));
        let named: Vec<PathBuf> = rows.flat_map(paths_of_row).collect();
        assert!(named.len() > 50, "the map has lost its paths");
        let missing = named.iter().filter(|path| !root().join(path).exists());
        missing
            .map(|path| format!("there is no {}", path.display()))
            .collect()
    });
}

fn paths_of_row(row: &str) -> Vec<PathBuf> {
    const TOP: [&str; 5] = [
        "engine",
        "transport",
        "loadgen",
        "bench-harness",
        "profiles",
    ];
    let mut paths = Vec::new();
    let mut directory = None;
    for code in row.split('`').skip(1).step_by(2) {
        if TOP.iter().any(|top| code.split('/').next() == Some(*top)) {
            paths.push(PathBuf::from(code));
            directory = code.rsplit_once('/').map(|(directory, _)| directory);
        } else if let Some(directory) = directory
            && (code.ends_with(".rs") || code.ends_with('/'))
        {
            paths.push(Path::new(directory).join(code));
        }
    }
    paths
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
    let root = root();
    let mut paths = Vec::new();
    walk(root, &mut paths);
    paths.sort();
    paths.into_iter().filter_map(move |path| {
        let text = String::from_utf8(fs::read(&path).ok()?).ok()?;
        let path = path.strip_prefix(root).ok()?.to_str()?.to_owned();
        Some(File { path, text })
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
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
