//! What happened in a run, one line each, so that a human can read a failing one.
//!
//! Columns: milliseconds since the start; who acts (`feed`, `c12` for client 12, `sim`); what. In messages, `⏎` stands
//! for CR LF. Only the last lines are kept, unless the run is verbose and prints them all.

use crate::time::Instant;
use std::collections::VecDeque;
use std::fmt;

/// The last lines of a run.
#[derive(Debug)]
pub struct Trace {
    lines: VecDeque<String>,
    verbose: bool,
}

/// What a failing run shows: enough for the seconds before, not more than one reads.
const LINES_MAX: usize = 400;

impl Trace {
    /// An empty trace.
    pub fn new(verbose: bool) -> Self {
        Self {
            lines: VecDeque::new(),
            verbose,
        }
    }

    /// Adds a line.
    pub fn note(&mut self, now: Instant, who: impl fmt::Display, what: impl fmt::Display) {
        let line = format!("{:>9} {who:<6} {what}", now.as_millis()).replace("\r\n", "⏎");
        if self.verbose {
            println!("{line}");
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
