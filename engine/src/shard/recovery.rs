//! Recovery: data lines that were written but may not have arrived.
//!
//! A client whose connection broke tells how many data lines it has received, and gets the next ones exactly as they
//! were written the first time (TLCP, Session Recovery). So each session keeps what it wrote last, bounded in bytes and
//! in age; what is older cannot be recovered, and the client then opens a new session.

use crate::time::{Duration, Instant};
use crate::tlcp::notify;
use std::collections::VecDeque;
use std::rc::Rc;

/// The last data lines of one session.
///
/// Most of what is written to one client is written to others as well: of an update, the log has the client's own numbers
/// and a share in the tail: 32 bytes, half a line of the processor's cache, whatever the update's length.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Oldest first, without a gap.
    kept: VecDeque<Kept>,
    /// What they count against the bound.
    bytes: usize,
    /// Data lines of the session up to the last one that is kept.
    end: u64,
}

/// A line of an update, or some lines of another kind.
#[derive(Debug)]
struct Kept {
    /// The tail of an update, or all of the text.
    text: Rc<[u8]>,
    sub_id: u32,
    /// Position of the item within the subscription; zero for what is no update.
    position: u32,
    /// Bytes of the line.
    bytes: u32,
    /// When it was written, in milliseconds that wrap around.
    when: u32,
}

/// How much is kept, and when this is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    bytes_max: usize,
    age_ms_max: u32,
    now_ms: u32,
}

/// What a line counts against the bound besides its bytes. Those count in full for each client, though all that are sent
/// the same hold them together: shares end at any time.
const LINE_OVERHEAD: usize = size_of::<Kept>();
const _: () = assert!(LINE_OVERHEAD <= 32);

impl Bounds {
    /// Whether so many bytes may be given up at once when there is no more room.
    pub fn allow_piece(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max / 8
    }

    /// Bytes and age.
    pub fn new(bytes_max: usize, age_max: Duration, now: Instant) -> Self {
        Self {
            bytes_max,
            // Half of the wrap, some 24 days.
            age_ms_max: u32::try_from(age_max.as_millis())
                .unwrap_or(u32::MAX)
                .min(u32::MAX / 2),
            now_ms: now.as_millis() as u32,
        }
    }
}

impl Kept {
    fn is_update(&self) -> bool {
        self.position != 0
    }

    fn cost(&self) -> usize {
        self.bytes as usize + LINE_OVERHEAD
    }

    fn data_lines(&self) -> u64 {
        match self.is_update() {
            true => 1,
            false => data_lines(&self.text),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.is_update() {
            notify::update_prefix(out, self.sub_id, self.position);
        }
        out.extend_from_slice(&self.text);
    }
}

impl Log {
    /// Keeps the line of an update of so many bytes, which comes behind `lines_before` data lines of the session.
    #[inline]
    pub fn keep_update(
        &mut self,
        (sub_id, position): (u32, u32),
        tail: &Rc<[u8]>,
        bytes: usize,
        lines_before: u64,
        bounds: Bounds,
    ) {
        debug_assert!(position != 0, "positions begin at 1");
        let Ok(bytes) = u32::try_from(bytes) else {
            return self.clear(); // a gap: what comes before it is gone as well
        };
        let kept = Kept {
            text: Rc::clone(tail),
            sub_id,
            position,
            bytes,
            when: bounds.now_ms,
        };
        self.keep(kept, lines_before, 1, bounds);
    }

    /// Keeps so many updates in one piece, which other logs share.
    #[inline]
    pub fn keep_shared(
        &mut self,
        text: &Rc<[u8]>,
        updates: u64,
        lines_before: u64,
        bounds: Bounds,
    ) {
        let Ok(bytes) = u32::try_from(text.len()) else {
            return self.clear();
        };
        let kept = Kept {
            text: Rc::clone(text),
            sub_id: 0,
            position: 0,
            bytes,
            when: bounds.now_ms,
        };
        self.keep(kept, lines_before, updates, bounds);
    }

    /// Keeps lines of other kinds.
    pub fn keep_lines(&mut self, lines: &[u8], lines_before: u64, bounds: Bounds) {
        let Ok(bytes) = u32::try_from(lines.len()) else {
            return self.clear();
        };
        let kept = Kept {
            text: lines.into(),
            sub_id: 0,
            position: 0,
            bytes,
            when: bounds.now_ms,
        };
        self.keep(kept, lines_before, data_lines(lines), bounds);
    }

    #[inline]
    fn keep(&mut self, kept: Kept, lines_before: u64, data_lines: u64, bounds: Bounds) {
        if self.end != lines_before {
            self.clear();
        }
        while let Some(oldest) = self.kept.front()
            && (self.bytes + kept.cost() > bounds.bytes_max
                || bounds.now_ms.wrapping_sub(oldest.when) > bounds.age_ms_max)
        {
            self.bytes -= oldest.cost();
            self.kept.pop_front();
        }
        if kept.cost() > bounds.bytes_max {
            return; // as above
        }
        self.end = lines_before + data_lines;
        self.bytes += kept.cost();
        self.kept.push_back(kept);
    }

    /// Forgets everything: the client has it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What counts against the bound.
    pub fn kept(&self) -> usize {
        self.bytes
    }

    /// The data lines behind the first `received` of `sent`; `None` if they are not kept any more, or were never
    /// written.
    pub fn after(&self, received: u64, sent: u64) -> Option<Vec<u8>> {
        if received == sent {
            return Some(Vec::new());
        }
        let mut missing = sent.checked_sub(received)?;
        if self.end != sent {
            return None;
        }
        let mut first = self.kept.len();
        let mut skipped = 0;
        while missing > 0 {
            first = first.checked_sub(1)?;
            let lines = self.kept[first].data_lines();
            skipped = lines.saturating_sub(missing);
            missing = missing.saturating_sub(lines);
        }
        let mut lines = Vec::new();
        for kept in self.kept.range(first..) {
            kept.write(&mut lines);
        }
        let mut rest = lines.as_slice();
        for _ in 0..skipped {
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

    fn bounds(bytes_max: usize, age_s_max: u64, now_ms: u64) -> Bounds {
        let age_max = Duration::from_secs(age_s_max);
        Bounds::new(bytes_max, age_max, Instant::from_millis(now_ms))
    }

    #[test]
    fn lines_that_do_not_count_are_neither_counted_nor_repeated() {
        let mut log = Log::default();
        log.keep_lines(b"A\r\nCONS,1\r\nB\r\n", 0, bounds(200, 60, 0));
        log.keep_lines(b"C\r\n", 2, bounds(200, 60, 0));
        assert_eq!(log.after(0, 3), Some(b"A\r\nB\r\nC\r\n".to_vec()));
        assert_eq!(log.after(1, 3), Some(b"B\r\nC\r\n".to_vec()));
        assert_eq!(log.after(2, 3), Some(b"C\r\n".to_vec()));
        assert_eq!(log.after(3, 3), Some(Vec::new()));
        assert_eq!(log.after(4, 3), None);
        assert_eq!(data_lines(b"A\r\nCONS,1\r\nB\r\n"), 2);
    }

    /// Also when the milliseconds wrap.
    #[test]
    fn old_lines_are_given_up() {
        for begin in [0, u64::from(u32::MAX) - 5_000] {
            let mut log = Log::default();
            log.keep_lines(b"A\r\n", 0, bounds(200, 10, begin));
            log.keep_lines(b"B\r\n", 1, bounds(200, 10, begin + 9_000));
            assert!(log.after(0, 2).is_some());
            log.keep_lines(b"C\r\n", 2, bounds(200, 10, begin + 11_000));
            assert_eq!(log.after(0, 3), None);
            assert_eq!(log.after(1, 3), Some(b"B\r\nC\r\n".to_vec()));
        }
    }

    proptest! {
        /// Against a log that keeps everything: what is given is right, and what is kept is within the bound. A line that
        /// is larger than it leaves a gap.
        #[test]
        fn gives_exactly_what_was_written(
            writes in prop::collection::vec((1usize..6, any::<bool>(), 0usize..90), 1..60),
            bytes_max in 70usize..400,
        ) {
            let mut log = Log::default();
            let mut all = Vec::new();
            let mut sent = 0u64;
            for (lines, update, filling) in writes {
                let from = all.len();
                let bounds = bounds(bytes_max, 60, 0);
                if update {
                    let tail: Rc<[u8]> = format!("{sent}{}\r\n", "x".repeat(filling)).into_bytes().into();
                    notify::update_prefix(&mut all, 12, 345);
                    all.extend_from_slice(&tail);
                    log.keep_update((12, 345), &tail, all.len() - from, sent, bounds);
                    sent += 1;
                } else {
                    for n in 0..lines {
                        all.extend_from_slice(format!("EOS,1,{}\r\n", sent + n as u64).as_bytes());
                    }
                    log.keep_lines(&all[from..], sent, bounds);
                    sent += lines as u64;
                }
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
                if all.len() - from + LINE_OVERHEAD <= bytes_max {
                    prop_assert!(log.after(sent - 1, sent).is_some(), "the last one is kept");
                }
            }
        }
    }
}
