//! What `doctor` has found, for people.

use std::fmt;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but could be better; or could not be found out.
    Note,
    /// The server, or what the configuration asks for, will not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How serious it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// Why it matters; empty if all is well.
    pub why: String,
    /// How to fix it; empty if all is well.
    pub fix: String,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            why: String::new(),
            fix: String::new(),
        }
    }

    pub(super) fn note(
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Note,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    pub(super) fn problem(
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Problem,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// Whether something will not work.
    pub fn has_problem(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Problem)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Problem => "PROBLEM",
            };
            writeln!(formatter, "{level:<8} {}", finding.what)?;
            if !finding.why.is_empty() {
                writeln!(formatter, "         why: {}", finding.why)?;
            }
            if !finding.fix.is_empty() {
                writeln!(formatter, "         fix: {}", finding.fix)?;
            }
        }
        Ok(())
    }
}

/// A subject of which nothing can be said.
pub(super) fn unknown(subject: &str) -> Finding {
    Finding::note(format!("{subject}: cannot be found out here"), "", "")
}
