//! Frames one message in the hot buffer that all connections of a shard share.
//!
//! How long a frame header is depends on the length of the payload, which is known last. Instead of moving the payload
//! or composing it elsewhere, room for the longest header is left before it and the header is then written up against
//! it. What stays unused of the room lies between two sends in the buffer, and goes when the reactor empties it.
//!
//! ```
//! use brightwire::net::outbox;
//!
//! let mut buffer = b"earlier sends".to_vec();
//! let start = outbox::begin(&mut buffer);
//! buffer.extend_from_slice(b"PROBE\r\n");
//! let send_from = outbox::finish(&mut buffer, start);
//! assert_eq!(buffer[send_from..], *b"\x81\x07PROBE\r\n");
//! ```
//!
//! A message holds whole lines: what is written between `begin` and `finish` must end with a line's end (TLCP clients
//! split every message on its own). Its length is bounded by the caller; one frame carries it, however long.

use crate::wire::ws::{SERVER_HEADER_BYTES_MAX, frame_header};

/// Bytes left before a payload. Enough for a chunk header of an HTTP streaming response too: eight hexadecimal digits
/// and a line end.
pub const HEADER_ROOM_BYTES: usize = SERVER_HEADER_BYTES_MAX;

/// Leaves room for a header at the end of the buffer. The caller appends the payload; then comes
/// [`finish`] or [`cancel`] with the index returned here.
#[must_use]
pub fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER_ROOM_BYTES]);
    start
}

/// Whether nothing was appended since [`begin`].
#[must_use]
pub fn is_empty(buffer: &[u8], start: usize) -> bool {
    payload_bytes(buffer, start) == 0
}

/// Bytes appended since [`begin`].
#[must_use]
pub fn payload_bytes(buffer: &[u8], start: usize) -> usize {
    buffer.len() - start - HEADER_ROOM_BYTES
}

/// Makes what was appended since [`begin`] one WebSocket text message, and returns the index to send from.
#[must_use]
pub fn finish(buffer: &mut [u8], start: usize) -> usize {
    debug_assert!(
        buffer[..].ends_with(b"\r\n") || is_empty(buffer, start),
        "a line must not span two messages"
    );
    let (header, first) = frame_header(payload_bytes(buffer, start));
    buffer[start + first..start + HEADER_ROOM_BYTES].copy_from_slice(&header[first..]);
    start + first
}

/// Takes back everything since [`begin`]: there was nothing to say after all.
pub fn cancel(buffer: &mut Vec<u8>, start: usize) {
    debug_assert!(start + HEADER_ROOM_BYTES <= buffer.len());
    buffer.truncate(start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ws::{Decoder, Incoming};

    #[test]
    fn messages_of_every_header_length_follow_each_other() {
        let mut buffer = Vec::new();
        let mut wire = Vec::new();
        let lens = [2, 125, 126, 65_535, 65_536, 200_000];
        for len in lens {
            let start = begin(&mut buffer);
            assert!(is_empty(&buffer, start));
            buffer.resize(buffer.len() + len - 2, b'x');
            buffer.extend_from_slice(b"\r\n");
            assert_eq!(payload_bytes(&buffer, start), len);
            let from = finish(&mut buffer, start);
            wire.extend_from_slice(&buffer[from..]);
        }
        let mut decoder = Decoder::of_server(1 << 20);
        let mut at = 0;
        for len in lens {
            let (used, incoming) = decoder.next(&mut wire[at..]).unwrap();
            at += used;
            assert!(matches!(incoming, Some(Incoming::Text(text)) if text.len() == len));
        }
        assert_eq!(at, wire.len());
    }

    #[test]
    fn a_cancelled_message_leaves_no_trace() {
        let mut buffer = b"before".to_vec();
        let start = begin(&mut buffer);
        buffer.extend_from_slice(b"U,1,1,a");
        cancel(&mut buffer, start);
        assert_eq!(buffer, b"before");
    }
}
