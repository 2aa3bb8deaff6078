//! Replays the fuzzers' corpora, and mutations of them that are the same in every run.
//!
//! `BRIGHTWIRE_FUZZ=1000000` makes so many mutations of each corpus, and `BRIGHTWIRE_FUZZ_SEED=7` other ones: a long run by
//! hand. An input that fails is written to `target/fuzz-failures/`, and its path is told.

use brightwire_bench::fuzz::{TARGETS, Target, mutate::mutate};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Mutations in a plain test run: a few seconds in all.
const MUTATIONS: usize = 5_000;
/// The operations target plays whole scripts.
const MUTATED_SCRIPTS: usize = 2_000;

#[test]
fn requests() {
    replay("requests");
}

#[test]
fn legacy() {
    replay("legacy");
}

#[test]
fn http() {
    replay("http");
}

#[test]
fn websocket() {
    replay("websocket");
}

#[test]
fn connection() {
    replay("connection");
}

#[test]
fn proxies() {
    replay("proxies");
}

#[test]
fn server_lines() {
    replay("server_lines");
}

#[test]
fn ari() {
    replay("ari");
}

#[test]
fn operations() {
    replay("operations");
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    for target in TARGETS {
        let binary = fuzz_directory().join(format!("fuzz_targets/{}.rs", target.name));
        let text = std::fs::read_to_string(&binary).expect("a binary");
        let call = format!("run(\"{}\", data)", target.name);
        assert!(text.contains(&call), "{}", binary.display());
        assert!(!corpus(target).is_empty(), "{}", target.name);
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = corpus(target);
    for seed in &seeds {
        check(target, seed);
    }
    let number = |variable| std::env::var(variable).ok()?.parse::<usize>().ok();
    let default = match name {
        "operations" => MUTATED_SCRIPTS,
        _ => MUTATIONS,
    };
    let mutations = number("BRIGHTWIRE_FUZZ").unwrap_or(default);
    let mut rng = fastrand::Rng::with_seed(number("BRIGHTWIRE_FUZZ_SEED").unwrap_or(1) as u64);
    for _ in 0..mutations {
        let (one, other) = (rng.choice(&seeds).unwrap(), rng.choice(&seeds).unwrap());
        check(target, &mutate(&mut rng, one, other));
    }
}

fn check(target: &Target, input: &[u8]) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fuzz-failures");
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("{}-{}", target.name, input.len()));
        std::fs::write(&path, input).unwrap();
        panic!(
            "{}: see above; the input is {}",
            target.name,
            path.display()
        );
    }
}

/// The seeds of a target. The operations' are the engine's transcripts as well, and those of the adapter protocol its
/// recorded lines.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests");
    let mut paths = files(&fuzz_directory().join("corpus").join(target.name));
    match target.name {
        "operations" => paths.extend(files(&engine.join("transcripts"))),
        "ari" => paths.extend(files(&engine.join("ari"))),
        _ => {}
    }
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}
