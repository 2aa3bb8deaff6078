//! Recovery: data lines that were written but may not have arrived.
//!
//! A client whose connection broke tells how many data lines it has received, and gets the next ones exactly as they
//! were written the first time (TLCP, Session Recovery). So each session keeps what it wrote last, bounded in bytes and
//! in age; what is older cannot be recovered, and the client then opens a new session.

use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// The last data lines of one session.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// A ring: what is given up in front makes room for what comes behind.
    bytes: VecDeque<u8>,
    /// The writes that `bytes` consists of, oldest first.
    writes: VecDeque<Write>,
}

#[derive(Debug)]
struct Write {
    /// Data lines of the session written before this one.
    lines_before: u64,
    bytes: usize,
    when: Instant,
}

impl Log {
    /// Keeps one write, which begins behind `lines_before` data lines, and gives up what exceeds the bounds.
    pub fn append(
        &mut self,
        lines: &[u8],
        lines_before: u64,
        bytes_max: usize,
        age_max: Duration,
        now: Instant,
    ) {
        while let Some(oldest) = self.writes.front()
            && (self.kept() + lines.len() > bytes_max || now.since(oldest.when) > age_max)
        {
            self.bytes.drain(..oldest.bytes);
            self.writes.pop_front();
        }
        if lines.len() > bytes_max {
            return; // a gap: what comes before it is gone as well
        }
        self.bytes.extend(lines);
        self.writes.push_back(Write {
            lines_before,
            bytes: lines.len(),
            when: now,
        });
    }

    /// Forgets everything: the client has it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes kept.
    pub fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// The data lines behind the first `received` of `sent`; `None` if they are not kept any more, or were never
    /// written.
    pub fn after(&self, received: u64, sent: u64) -> Option<Vec<u8>> {
        if received == sent {
            return Some(Vec::new());
        }
        if received > sent {
            return None;
        }
        let later = self
            .writes
            .partition_point(|write| write.lines_before <= received);
        let first = later.checked_sub(1)?;
        let skipped: usize = self.writes.range(..first).map(|write| write.bytes).sum();
        let lines: Vec<u8> = self.bytes.range(skipped..).copied().collect();
        let mut rest = lines.as_slice();
        for _ in self.writes[first].lines_before..received {
            rest = behind_data_line(rest)?;
        }
        Some(only_data_lines(rest))
    }
}

/// Leaves out what does not count: `CONS` tells what the bandwidth was then, but the head of a response, which comes
/// before these lines, what it is now.
pub(super) fn only_data_lines(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len());
    let mut rest = lines;
    while let Some((line, behind)) = split_line(rest) {
        if is_data_line(line) {
            out.extend_from_slice(line);
        }
        rest = behind;
    }
    out
}

/// Whether a line of a session's stream counts for recovery. All that a log holds does, but for `CONS`.
pub(super) fn is_data_line(line: &[u8]) -> bool {
    !line.starts_with(b"CONS,")
}

/// How many lines of `lines` count for recovery.
pub(super) fn data_lines(lines: &[u8]) -> u64 {
    let mut rest = lines;
    let mut count = 0;
    while let Some((line, behind)) = split_line(rest) {
        count += u64::from(is_data_line(line));
        rest = behind;
    }
    count
}

/// The first line with its end, and what is behind it.
pub(super) fn split_line(lines: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', lines)? + 1;
    Some(lines.split_at(end))
}

fn behind_data_line(mut lines: &[u8]) -> Option<&[u8]> {
    loop {
        let (line, rest) = split_line(lines)?;
        lines = rest;
        if is_data_line(line) {
            return Some(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOREVER: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn lines_that_do_not_count_are_neither_counted_nor_repeated() {
        let mut log = Log::default();
        log.append(b"A\r\nCONS,1\r\nB\r\n", 0, 100, FOREVER, Instant::ZERO);
        log.append(b"C\r\n", 2, 100, FOREVER, Instant::ZERO);
        assert_eq!(log.after(0, 3), Some(b"A\r\nB\r\nC\r\n".to_vec()));
        assert_eq!(log.after(1, 3), Some(b"B\r\nC\r\n".to_vec()));
        assert_eq!(log.after(2, 3), Some(b"C\r\n".to_vec()));
        assert_eq!(log.after(3, 3), Some(Vec::new()));
        assert_eq!(log.after(4, 3), None);
        assert_eq!(data_lines(b"A\r\nCONS,1\r\nB\r\n"), 2);
    }

    #[test]
    fn old_lines_are_given_up() {
        let mut log = Log::default();
        let age = Duration::from_secs(10);
        log.append(b"A\r\n", 0, 100, age, Instant::from_millis(0));
        log.append(b"B\r\n", 1, 100, age, Instant::from_millis(9_000));
        assert!(log.after(0, 2).is_some());
        log.append(b"C\r\n", 2, 100, age, Instant::from_millis(11_000));
        assert_eq!(log.after(0, 3), None);
        assert_eq!(log.after(1, 3), Some(b"B\r\nC\r\n".to_vec()));
    }

    proptest! {
        /// Against a log that keeps everything: what is given is right, and what is kept is within the bound and
        /// reaches back as far as the bound allows.
        #[test]
        fn gives_exactly_what_was_written(writes in prop::collection::vec(1usize..6, 1..60), bytes_max in 20usize..200) {
            let mut log = Log::default();
            let mut all = Vec::new();
            let mut sent = 0u64;
            for lines in writes {
                let from = all.len();
                for n in 0..lines {
                    all.extend_from_slice(format!("U,1,1,{}\r\n", sent + n as u64).as_bytes());
                }
                log.append(&all[from..], sent, bytes_max, FOREVER, Instant::ZERO);
                sent += lines as u64;
                prop_assert!(log.kept() <= bytes_max);
                let mut position = 0;
                for received in 0..=sent {
                    if let Some(lines) = log.after(received, sent) {
                        prop_assert_eq!(lines, &all[position..]);
                    } else {
                        prop_assert!(received < sent);
                    }
                    if let Some((line, _)) = split_line(&all[position..]) {
                        position += line.len();
                    }
                }
            }
        }
    }
}
