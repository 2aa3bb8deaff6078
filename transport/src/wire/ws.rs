//! WebSocket (RFC 6455): the upgrade, and frames in both directions, for text messages only and without extensions.
//!
//! The decoder lends a message from the caller's own receive buffer whenever the message lies in it as a whole, which
//! is nearly always; it owns memory only while a frame or a fragmented message is incomplete. Handshake arithmetic and
//! frame headers come from tungstenite; its `WebSocket` type does not fit here, because it owns a stream and two
//! buffers per connection.

mod decoder;
mod upgrade;

pub use decoder::{Decoder, Incoming, Violation, apply_mask, fuzz_entry};
pub use upgrade::{Refusal, Upgrade, accept_subprotocol};

use tungstenite::protocol::frame::FrameHeader;
pub use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest header of a frame that a server sends: two bytes and a 64-bit length, no mask.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;

/// Longest header of any frame: a client's has four bytes of mask more.
pub const HEADER_BYTES_MAX: usize = SERVER_HEADER_BYTES_MAX + 4;

/// Longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The header of a text message of `payload_bytes` in one frame: an array in which it is aligned to the right, and
/// the index of its first byte. So it can be copied, or written, into room that was left before the payload.
pub fn frame_header(payload_bytes: usize) -> ([u8; SERVER_HEADER_BYTES_MAX], usize) {
    let mut room = [0; SERVER_HEADER_BYTES_MAX];
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    let start = SERVER_HEADER_BYTES_MAX - header.len(payload_bytes as u64);
    // `len` is what `format` writes, so the slice is filled exactly.
    let written = header.format(payload_bytes as u64, &mut &mut room[start..]);
    debug_assert!(written.is_ok());
    (room, start)
}

/// Writes a pong. `payload` is that of a ping, hence short enough.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Control::Pong, payload);
}

/// Writes a close frame; without a code only in answer to one without a code.
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>) {
    match code {
        Some(code) => write_control(out, Control::Close, &u16::from(code).to_be_bytes()),
        None => write_control(out, Control::Close, &[]),
    }
}

fn write_control(out: &mut Vec<u8>, opcode: Control, payload: &[u8]) {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
    let header = FrameHeader {
        opcode: OpCode::Control(opcode),
        ..FrameHeader::default()
    };
    // Writing into a vector cannot fail.
    let _ = header.format(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_aligned_to_the_right() {
        for (bytes, expected) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (room, start) = frame_header(bytes);
            assert_eq!(&room[start..], expected);
        }
    }
}
