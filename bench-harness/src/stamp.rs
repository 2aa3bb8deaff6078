//! The mark that every message carries: when it was meant to be sent.
//!
//! It is found in the bytes of the connection whatever protocol they are framed in, so one crowd of clients measures
//! every server by the same code, and costs about the same with each.

use memchr::memmem::Finder;

/// What a mark begins with.
const PREFIX: &[u8] = b"~t=";
/// Nanoseconds, with leading zeros.
const DIGITS: usize = 16;
/// Length of a mark.
pub const MARK_BYTES: usize = PREFIX.len() + DIGITS;

/// Writes a payload of `bytes` in all, or of the mark's length if that is more.
pub fn write_payload(out: &mut Vec<u8>, intended_ns: u64, bytes: usize) {
    let end = out.len() + bytes;
    out.extend_from_slice(PREFIX);
    out.extend_from_slice(format!("{intended_ns:0DIGITS$}").as_bytes());
    if out.len() < end {
        out.resize(end, b'x');
    }
}

/// Finds marks in what one connection receives, in pieces of any size.
#[derive(Debug, Default)]
pub struct Marks {
    /// The end of the last piece, which may be the beginning of a mark.
    carried: Vec<u8>,
}

/// A reusable searcher.
pub struct MarkFinder(Finder<'static>);

impl Default for MarkFinder {
    fn default() -> Self {
        Self(Finder::new(PREFIX))
    }
}

impl MarkFinder {
    /// Calls `found` with the time of each mark that ends in this piece.
    pub fn feed(&self, marks: &mut Marks, bytes: &[u8], mut found: impl FnMut(u64)) {
        if marks.carried.is_empty() {
            return self.search(bytes, &mut marks.carried, &mut found);
        }
        let mut joined = std::mem::take(&mut marks.carried);
        joined.extend_from_slice(bytes);
        self.search(&joined, &mut marks.carried, &mut found);
    }

    /// Finds the whole marks, and puts what may be the beginning of the next one into `carried`.
    fn search(&self, bytes: &[u8], carried: &mut Vec<u8>, found: &mut dyn FnMut(u64)) {
        let mut rest = bytes;
        while let Some(at) = self.0.find(rest) {
            let Some(digits) = rest.get(at + PREFIX.len()..at + MARK_BYTES) else {
                break;
            };
            let digit = |byte: &u8| u64::from(byte.wrapping_sub(b'0') % 10);
            found(digits.iter().fold(0, |time, byte| time * 10 + digit(byte)));
            rest = &rest[at + MARK_BYTES..];
        }
        let tail = &rest[rest.len().saturating_sub(MARK_BYTES - 1)..];
        if let Some(at) = memchr::memchr(PREFIX[0], tail) {
            carried.extend_from_slice(&tail[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the bytes are cut, each mark is found once, and in order.
        #[test]
        fn marks_survive_every_cut(
            messages in prop::collection::vec((0u64..10_000_000_000_000_000, 0usize..60, "[~ta0]{0,9}"), 0..20),
            cuts in prop::collection::vec(1usize..40, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (time, length, noise) in &messages {
                bytes.extend_from_slice(noise.as_bytes());
                bytes.push(b'\n');
                write_payload(&mut bytes, *time, *length);
                bytes.push(b'\n');
            }
            let finder = MarkFinder::default();
            let mut marks = Marks::default();
            let mut found = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, later) = rest.split_at((*cut).min(rest.len()));
                finder.feed(&mut marks, piece, |time| found.push(time));
                rest = later;
            }
            let sent: Vec<u64> = messages.iter().map(|(time, ..)| *time).collect();
            prop_assert_eq!(found, sent);
        }
    }

    #[test]
    fn payloads_have_the_size_asked_for() {
        let mut out = Vec::new();
        write_payload(&mut out, 7, 100);
        assert_eq!(out.len(), 100);
        assert!(out.starts_with(b"~t=0000000000000007x"));
    }
}
