//! The client's end of a WebSocket, as the load generator and tests need it: asking for the upgrade, judging the
//! answer, writing masked frames. What the server sends is decoded with [`Decoder::of_server`].
//!
//! [`Decoder::of_server`]: crate::wire::ws::Decoder::of_server

use std::fmt;
use std::io::Write;

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::wire::http::HEADERS_MAX;
use crate::wire::ws::{HEADER_BYTES_MAX, apply_mask};

/// An upgrade that was asked for and is not answered yet.
#[derive(Debug)]
pub struct Handshake {
    subprotocol: String,
    accept: String,
}

/// The answer to an upgrade is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The bytes are not an HTTP response.
    NotHttp,
    /// The server answered with another status than 101.
    Refused(u16),
    /// The named header is missing or has the wrong value.
    Header(&'static str),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => write!(f, "the answer to the upgrade is not HTTP"),
            Self::Refused(status) => write!(f, "the upgrade was refused with status {status}"),
            Self::Header(name) => write!(f, "the answer to the upgrade has a wrong {name} header"),
        }
    }
}

impl std::error::Error for HandshakeError {}

impl Handshake {
    /// Writes the request for an upgrade, with a fresh key. `headers` are further header lines.
    pub fn request(
        out: &mut Vec<u8>,
        host: &str,
        path: &str,
        subprotocol: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let key = generate_key();
        // Writing into a vector cannot fail.
        let _ = write!(
            out,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n"
        );
        for (name, value) in headers {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Self {
            subprotocol: subprotocol.to_owned(),
            accept: derive_accept_key(key.as_bytes()),
        }
    }

    /// Judges the answer: the length of its head if it is complete and accepts the upgrade (frames follow), `None` if
    /// more bytes are needed.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head_bytes = match response.parse(bytes) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(HandshakeError::NotHttp),
        };
        match response.code {
            Some(101) => (),
            status => return Err(HandshakeError::Refused(status.unwrap_or_default())),
        }
        let expect = |name: &'static str, right: &dyn Fn(&[u8]) -> bool| {
            let mut values = response
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case(name));
            match (values.next(), values.next()) {
                (Some(header), None) if right(header.value) => Ok(()),
                _ => Err(HandshakeError::Header(name)),
            }
        };
        expect("Connection", &|value| {
            value.eq_ignore_ascii_case(b"upgrade")
        })?;
        expect("Upgrade", &|value| value.eq_ignore_ascii_case(b"websocket"))?;
        expect("Sec-WebSocket-Accept", &|value| {
            value == self.accept.as_bytes()
        })?;
        expect("Sec-WebSocket-Protocol", &|value| {
            value == self.subprotocol.as_bytes()
        })?;
        Ok(Some(head_bytes))
    }
}

/// Writes a text message in one frame. The mask should differ from frame to frame; that it cannot be guessed matters
/// only where a foreign page chooses the payload.
pub fn write_text(out: &mut Vec<u8>, text: &str, mask: [u8; 4]) {
    write_frame(out, true, OpCode::Data(Data::Text), text.as_bytes(), mask);
}

/// Writes a close frame.
pub fn write_close(out: &mut Vec<u8>, code: CloseCode, mask: [u8; 4]) {
    write_frame(
        out,
        true,
        OpCode::Control(Control::Close),
        &u16::from(code).to_be_bytes(),
        mask,
    );
}

/// Writes a pong with the payload of a ping.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    write_frame(out, true, OpCode::Control(Control::Pong), payload, mask);
}

/// Writes any frame, legal or not.
pub fn write_frame(
    out: &mut Vec<u8>,
    is_final: bool,
    opcode: OpCode,
    payload: &[u8],
    mask: [u8; 4],
) {
    let header = FrameHeader {
        is_final,
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    out.reserve(HEADER_BYTES_MAX + payload.len());
    // Writing into a vector cannot fail.
    let _ = header.format(payload.len() as u64, out);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBPROTOCOL: &str = "TLCP-2.5.0.lightstreamer.com";

    fn answer(
        handshake: &Handshake,
        accept: &str,
        subprotocol: &str,
    ) -> Result<Option<usize>, HandshakeError> {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        for cut in 0..answer.len() {
            assert_eq!(handshake.answer(&answer.as_bytes()[..cut]), Ok(None));
        }
        let head_bytes = answer.len();
        let result = handshake.answer(&[answer.as_bytes(), b"\x81\x00"].concat());
        assert!(!matches!(result, Ok(Some(bytes)) if bytes != head_bytes));
        result
    }

    #[test]
    fn judges_the_answer() {
        let mut out = Vec::new();
        let handshake = Handshake::request(
            &mut out,
            "h",
            "/lightstreamer",
            SUBPROTOCOL,
            &[("Origin", "o")],
        );
        assert!(
            String::from_utf8(out)
                .unwrap()
                .ends_with("\r\nOrigin: o\r\n\r\n")
        );
        assert!(matches!(
            answer(&handshake, &handshake.accept, SUBPROTOCOL),
            Ok(Some(_))
        ));
        assert_eq!(
            answer(&handshake, "x", SUBPROTOCOL),
            Err(HandshakeError::Header("Sec-WebSocket-Accept"))
        );
        assert_eq!(
            answer(
                &handshake,
                &handshake.accept,
                "TLCP-2.4.0.lightstreamer.com"
            ),
            Err(HandshakeError::Header("Sec-WebSocket-Protocol"))
        );
        assert_eq!(
            handshake.answer(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
            Err(HandshakeError::Refused(403))
        );
        assert_eq!(
            handshake.answer(b"SSH-2.0-x\r\n"),
            Err(HandshakeError::NotHttp)
        );
    }
}
