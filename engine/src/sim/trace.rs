//! What happened in a run, one line each, so that a human can read a failing one.
//!
//! Columns: milliseconds since the start; who acts (`feed`, `c12` for client 12, `sim`); what. In messages, `⏎` stands
//! for CR LF. Writing them down takes most of the time, so a run is only traced when it is known to fail: a seed always
//! gives the same run.

use crate::time::Instant;
use std::collections::VecDeque;
use std::fmt;

/// The last lines of a run.
#[derive(Debug)]
pub struct Trace {
    lines: VecDeque<String>,
    detail: Detail,
}

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing is written down.
    None,
    /// The last lines are kept.
    Last,
    /// All are printed.
    All,
}

/// What a failing run shows: enough for the seconds before, not more than one reads.
const LINES_MAX: usize = 400;

impl Trace {
    /// An empty trace.
    pub fn new(detail: Detail) -> Self {
        Self {
            lines: VecDeque::new(),
            detail,
        }
    }

    /// Adds a line.
    #[inline]
    pub fn note(&mut self, now: Instant, who: impl fmt::Display, what: impl fmt::Display) {
        if self.detail != Detail::None {
            self.write(format!("{:>9} {who:<6} {what}", now.as_millis()));
        }
    }

    fn write(&mut self, line: String) {
        let line = line.replace("\r\n", "⏎");
        if self.detail == Detail::All {
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
