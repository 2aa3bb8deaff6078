//! Instruction counts of the hot path, and the file that they are held against.
//!
//! Time is a poor judge on a small or busy machine; the number of instructions is the same in every run. This program
//! runs itself under `valgrind --tool=callgrind`, once for each [piece](crate::hot), and callgrind counts only while the
//! function [`counted_region`] runs: nothing of setting up. It needs no more than the function's name, so no crate.
//!
//! `bench-harness/icounts.toml` has the counts that were recorded, and the compiler and processor that they are of. On
//! another one they say nothing: then nothing is compared, and that is said. A count that is more than 3 % above the
//! recorded one is a failure. It can be recorded as the new one, but a count that is more than 3 % above the least that
//! the piece ever had needs a line that says why.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::hot::{self, PIECES, Piece, Run};

/// Worse by more than this part is a failure: less is what unrelated changes do to inlining.
pub const WORSE_MAX: f64 = 0.03;
/// Operations before counting begins: buffers have grown to their size, and pages are mapped.
const WARMUP: u64 = 2_000;

/// Whether a compiler's counts were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All pieces are as they should be.
    Good,
    /// Some are worse.
    Worse,
    /// The file's counts are of another compiler or processor.
    NotComparable,
}

/// The committed file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Compiler, target and kind of processor.
    pub built_by: String,
    /// The counts.
    #[serde(rename = "piece", default)]
    pub pieces: Vec<Counted>,
}

/// A piece's count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// The piece.
    pub name: String,
    /// Instructions of an operation.
    pub instructions: f64,
    /// The fewest that it ever took.
    pub least: f64,
    /// Why it takes more than 3 % above that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Compiler, target and kind of processor of this program. The processor is the one that callgrind makes up from the
/// machine's: it decides which copies of `memcpy` and of searches run.
pub fn built_by() -> String {
    let avx2 = if has_avx2() { "avx2" } else { "no avx2" };
    format!("{}, {avx2}", env!("BENCH_BUILT_BY"))
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// What callgrind looks at. Its name is told on the command line.
#[inline(never)]
pub fn counted_region(run: &mut Run, operations: u64) {
    run(operations);
}

/// Under callgrind: prepares a piece, and runs it once within the region.
pub fn run_piece(piece: &Piece) {
    let mut run = (piece.prepare)();
    run(WARMUP);
    counted_region(&mut run, piece.operations);
}

/// Counts all pieces.
pub fn count_all() -> Result<Vec<(&'static Piece, f64)>, Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err(
            "counts are of release builds: cargo run --release -p brightwire-bench -- icount"
                .into(),
        );
    }
    let directory = tempfile::tempdir()?;
    PIECES
        .iter()
        .map(|piece| Ok((piece, count(piece, &directory.path().join(piece.name))?)))
        .collect()
}

fn count(piece: &Piece, file: &Path) -> Result<f64, Box<dyn Error>> {
    let mut option = std::ffi::OsString::from("--callgrind-out-file=");
    option.push(file);
    // Without our environment, which would lie on the program's stack and shift it.
    let output = Command::new("valgrind")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted_region*")
        .arg(option)
        .arg(std::env::current_exe()?)
        .args(["icount", "piece", piece.name])
        .output()
        .map_err(|error| format!("valgrind: {error} (on Debian: apt-get install valgrind)"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} under valgrind: {}\n{said}", piece.name, output.status).into());
    }
    let text = fs::read_to_string(file)?;
    let instructions = total(&text).ok_or("callgrind's file has no total")?;
    if instructions == 0 {
        return Err(format!("{}: callgrind did not find the counted region", piece.name).into());
    }
    Ok(instructions as f64 / piece.operations as f64)
}

/// The sum that callgrind writes at the end of its file.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals:"));
    line?.trim().parse().ok()
}

impl Record {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let record: Self =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        record
            .check()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(record)
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut text = String::from(HEAD);
        text += &toml::to_string(self)?;
        Ok(fs::write(path, text)?)
    }

    /// Every piece is there once, and what became worse says why.
    fn check(&self) -> Result<(), String> {
        for piece in &PIECES {
            let found = self
                .pieces
                .iter()
                .filter(|counted| counted.name == piece.name);
            if found.count() != 1 {
                return Err(format!("{} is not there, or twice", piece.name));
            }
        }
        for counted in &self.pieces {
            if hot::find(&counted.name).is_none() {
                return Err(format!("{} is no piece", counted.name));
            }
            let says_why = counted
                .why
                .as_ref()
                .is_some_and(|why| !why.trim().is_empty());
            if is_worse(counted.instructions, counted.least) && !says_why {
                return Err(format!(
                    "{} is worse than it was and does not say why",
                    counted.name
                ));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&Counted> {
        self.pieces.iter().find(|counted| counted.name == name)
    }

    /// Holds new counts against the file's: a table for people, and the verdict.
    pub fn compare(&self, counts: &[(&Piece, f64)], built_by: &str) -> (String, Verdict) {
        let mut text = String::new();
        let mut verdict = Verdict::Good;
        let comparable = self.built_by == built_by;
        if !comparable {
            verdict = Verdict::NotComparable;
            let _ = writeln!(
                text,
                "NOT COMPARED: the recorded counts are of {}, these of {built_by}.",
                self.built_by
            );
        }
        let _ = writeln!(
            text,
            "{:<12}{:>12}{:>12}{:>9}  instructions of",
            "", "recorded", "now", ""
        );
        for (piece, now) in counts {
            let Some(recorded) = self.get(piece.name) else {
                continue;
            };
            let then = recorded.instructions;
            let mark = match () {
                () if !comparable => "",
                () if is_worse(*now, then) => {
                    verdict = Verdict::Worse;
                    "WORSE "
                }
                () if is_worse(then, *now) => "better ",
                () => "",
            };
            let change = format!("{:+.1} %", (now / then - 1.0) * 100.0);
            let operation = piece.operation;
            let _ = writeln!(
                text,
                "{:<12}{then:>12.1}{now:>12.1}{change:>9}  {mark}{operation}",
                piece.name
            );
        }
        match verdict {
            Verdict::Worse => {
                text += "More than 3 % worse is a failure. If it has to be: icount record --why \"...\"\n"
            }
            Verdict::Good if text.contains("better ") => {
                text += "What is better by more than 3 % should be recorded: icount record\n"
            }
            _ => {}
        }
        (text, verdict)
    }

    /// The file with new counts. An error: something is worse, and nobody says why.
    pub fn renew(
        &self,
        counts: &[(&Piece, f64)],
        built_by: &str,
        why: Option<&str>,
    ) -> Result<Self, String> {
        let comparable = self.built_by == built_by;
        let counted = |(piece, now): &(&Piece, f64)| {
            let now = (now * 10.0).round() / 10.0;
            let before = self.get(piece.name).filter(|_| comparable);
            let least = before.map_or(now, |before| before.least.min(now));
            let became_worse = before.is_some_and(|before| is_worse(now, before.instructions));
            let old_reason = before.and_then(|before| before.why.clone());
            let why = match why {
                Some(why) if became_worse || is_worse(now, least) && old_reason.is_none() => {
                    Some(why.to_owned())
                }
                _ if is_worse(now, least) => old_reason.filter(|_| !became_worse),
                _ => None,
            };
            Counted {
                name: piece.name.into(),
                instructions: now,
                least,
                why,
            }
        };
        let record = Self {
            built_by: built_by.into(),
            pieces: counts.iter().map(counted).collect(),
        };
        record.check()?;
        Ok(record)
    }
}

const HEAD: &str = "\
# Instructions of the pieces of the hot path, counted by callgrind; bench-harness/src/icount.rs tells how, and
# bench-harness/src/hot.rs what an operation is. Written by:
#   cargo run --release -p brightwire-bench -- icount record --why \"...\"
# `why` must stand where a piece takes over 3 % more instructions than it ever took.

";

fn is_worse(now: f64, then: f64) -> bool {
    now > then * (1.0 + WORSE_MAX)
}

/// The committed file, from the root of the work tree.
pub fn default_file() -> PathBuf {
    PathBuf::from("bench-harness/icounts.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(factor: f64) -> Vec<(&'static Piece, f64)> {
        PIECES
            .iter()
            .map(|piece| (piece, 1_000.0 * factor))
            .collect()
    }

    fn recorded() -> Record {
        Record::default()
            .renew(&counts(1.0), "rustc 1", None)
            .unwrap()
    }

    #[test]
    fn the_committed_file_is_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Record::read(&root.join(default_file())).unwrap();
    }

    #[test]
    fn three_percent_are_let_pass_and_more_is_not() {
        let record = recorded();
        assert_eq!(record.compare(&counts(1.029), "rustc 1").1, Verdict::Good);
        let (text, verdict) = record.compare(&counts(1.031), "rustc 1");
        assert_eq!(verdict, Verdict::Worse);
        assert!(text.contains("WORSE"), "{text}");
    }

    #[test]
    fn counts_of_another_compiler_are_not_compared() {
        let (text, verdict) = recorded().compare(&counts(2.0), "rustc 2");
        assert_eq!(verdict, Verdict::NotComparable);
        assert!(
            text.contains("NOT COMPARED") && !text.contains("WORSE"),
            "{text}"
        );
        assert!(recorded().renew(&counts(2.0), "rustc 2", None).is_ok());
    }

    #[test]
    fn what_is_worse_must_say_why() {
        let record = recorded();
        assert!(record.renew(&counts(1.1), "rustc 1", None).is_err());
        let worse = record
            .renew(&counts(1.1), "rustc 1", Some("it does more"))
            .unwrap();
        assert_eq!(worse.pieces[0].least, 1_000.0);
        assert_eq!(worse.pieces[0].why.as_deref(), Some("it does more"));
        assert_eq!(worse.compare(&counts(1.1), "rustc 1").1, Verdict::Good);
        // The reason stays as long as it is needed.
        let again = worse.renew(&counts(1.11), "rustc 1", None).unwrap();
        assert!(again.pieces[0].why.is_some());
        let better = again.renew(&counts(0.9), "rustc 1", None).unwrap();
        assert_eq!(
            (better.pieces[0].least, &better.pieces[0].why),
            (900.0, &None)
        );
    }

    /// Many steps of two percent are as bad as one of ten.
    #[test]
    fn creeping_is_found() {
        let mut record = recorded();
        record = record.renew(&counts(1.02), "rustc 1", None).unwrap();
        assert!(record.renew(&counts(1.04), "rustc 1", None).is_err());
        let why = Some("it does more by and by");
        assert!(record.renew(&counts(1.04), "rustc 1", why).is_ok());
    }

    #[test]
    fn a_file_that_lacks_a_reason_or_a_piece_is_refused() {
        let mut record = recorded();
        record.pieces[0].instructions *= 1.1;
        assert!(record.check().unwrap_err().contains("why"));
        let mut record = recorded();
        record.pieces.pop();
        assert!(record.check().is_err());
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("icounts.toml");
        let mut record = recorded();
        record.pieces[1].why = Some("because".into());
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
    }

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("events: Ir\n\nfn=(1)\n0 5\n\ntotals: 42\n"), Some(42));
        assert_eq!(total("events: Ir\n"), None);
    }
}
