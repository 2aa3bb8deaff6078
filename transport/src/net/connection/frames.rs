//! Frames of a WebSocket: messages to the host, pings to be answered, the closing handshake.

use super::{Flow, Host};
use crate::wire::ws::{self, CONTROL_BYTES_MAX, Decoder, Incoming};

/// The payload of the last ping of one read, to be answered at its end.
#[derive(Default)]
pub(super) struct Ping(Option<([u8; CONTROL_BYTES_MAX], usize)>);

/// Reads up to one frame. Returns the number of bytes used, and `None` if this was the end of the WebSocket.
pub(super) fn read_frame<H: Host>(
    decoder: &mut Decoder,
    closing: bool,
    bytes: &mut [u8],
    host: &mut H,
    ping: &mut Ping,
) -> (usize, Option<Flow>) {
    let close = |code, host: &mut H, ping: &mut Ping| {
        if !closing {
            ping.answer(host);
            ws::write_close(host.reply(), code);
        }
    };
    let bytes_given = bytes.len();
    let (taken, incoming) = match decoder.next(bytes) {
        Ok(step) => step,
        Err(violation) => {
            close(Some(violation.code), host, ping);
            return (bytes_given, None);
        }
    };
    let flow = match incoming {
        Some(Incoming::Close(code)) => {
            close(code, host, ping);
            None
        }
        Some(Incoming::Text(text)) if !closing => Some(host.message(text)),
        Some(Incoming::Cut(beginning)) if !closing => {
            host.cut_message(beginning);
            Some(Flow::Continue)
        }
        Some(Incoming::Ping(payload)) if !closing => {
            ping.set(payload);
            Some(Flow::Continue)
        }
        // A pong answers nothing that was asked here; and what comes after our close frame is of no interest.
        Some(Incoming::Text(_) | Incoming::Cut(_) | Incoming::Ping(_) | Incoming::Pong(_))
        | None => Some(Flow::Continue),
    };
    decoder.free_lent();
    (taken, flow)
}

impl Ping {
    pub(super) fn set(&mut self, payload: &[u8]) {
        let (room, len) = self.0.get_or_insert(([0; CONTROL_BYTES_MAX], 0));
        room[..payload.len()].copy_from_slice(payload);
        *len = payload.len();
    }

    pub(super) fn answer(&mut self, host: &mut impl Host) {
        if let Some((room, len)) = self.0.take() {
            ws::write_pong(host.reply(), &room[..len]);
        }
    }
}
