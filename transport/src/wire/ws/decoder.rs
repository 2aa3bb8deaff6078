//! Frames to messages: bytes, cut anywhere, in; text messages and control frames, whole, out.

use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX};

/// What a peer sent, complete.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// The beginning of a text message that is above the limit.
    Cut(&'a str),
    /// A ping, to be answered with its payload.
    Ping(&'a [u8]),
    /// A pong; nothing depends on it.
    Pong(&'a [u8]),
    /// The peer wants to close, and has nothing more to say.
    Close(Option<CloseCode>),
}

/// The peer broke the protocol: the code to close with, and a word for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// To be sent in the close frame.
    pub code: CloseCode,
    /// For people.
    pub reason: &'static str,
}

impl Violation {
    fn protocol<T>(reason: &'static str) -> Result<T, Self> {
        Err(Self {
            code: CloseCode::Protocol,
            reason,
        })
    }
}

/// Turns bytes, cut anywhere, into messages and control frames.
#[derive(Debug)]
pub struct Decoder {
    /// What came of a frame that is incomplete, still masked: a header of at most [`HEADER_BYTES_MAX`], and no more
    /// payload than the header declares, which is within the limit.
    frame: Vec<u8>,
    /// Payload of the fragments so far: `message.len() <= message_bytes_max`.
    message: Vec<u8>,
    /// Half of the usual width, since there is one for each connection.
    message_bytes_max: u32,
    /// See [`Decoder::cutting`].
    cut_bytes_max: u32,
    /// The message so far is above the limit.
    excess: Option<Box<Excess>>,
    /// The first fragment of a message came, the last one did not.
    fragmented: bool,
    /// Frames must be masked: the peer is a client.
    masked: bool,
    /// What [`Decoder::next`] lent last out of the decoder's own memory, to be freed.
    lent: Lent,
}

#[derive(Debug, PartialEq, Eq)]
enum Lent {
    Nothing,
    Frame,
    Message,
}

/// Where something complete lies.
enum Place {
    Input(Range<usize>),
    Frame(Range<usize>),
    Message,
}

/// A header that was found acceptable, and the frame's measures.
struct Head {
    opcode: OpCode,
    is_final: bool,
    mask: Option<[u8; 4]>,
    header_bytes: usize,
    /// Without the payload of a frame whose message is above the limit.
    frame_bytes: usize,
    overlong: Option<Overlong>,
}

/// How far a message is above the limit.
#[derive(Debug, Default)]
struct Excess {
    /// Payload so far that was not kept.
    dropped: usize,
    /// The frame that is coming.
    frame: Option<Overlong>,
}

/// What is to come of the payload of a frame with which its message goes above the limit: read as it comes, for the most
/// part to be dropped.
#[derive(Clone, Copy, Debug)]
struct Overlong {
    missing: usize,
    is_final: bool,
    mask: Option<[u8; 4]>,
}

impl Decoder {
    /// Decodes what clients send: every frame masked.
    pub fn of_clients(message_bytes_max: usize) -> Self {
        Self {
            frame: Vec::new(),
            message: Vec::new(),
            message_bytes_max: u32::try_from(message_bytes_max).unwrap_or(u32::MAX),
            cut_bytes_max: u32::try_from(message_bytes_max).unwrap_or(u32::MAX),
            excess: None,
            fragmented: false,
            masked: true,
            lent: Lent::Nothing,
        }
    }

    /// Decodes what a server sends: no frame masked.
    pub fn of_server(message_bytes_max: usize) -> Self {
        Self {
            masked: false,
            ..Self::of_clients(message_bytes_max)
        }
    }

    /// Makes a message above the limit no violation, unless it is above this as well: its beginning is read, as
    /// [`Incoming::Cut`], and the rest is dropped as it comes.
    pub fn cutting(mut self, cut_bytes_max: usize) -> Self {
        let cut_bytes_max = u32::try_from(cut_bytes_max).unwrap_or(u32::MAX);
        self.cut_bytes_max = cut_bytes_max.max(self.message_bytes_max);
        self
    }

    /// Takes bytes until something is complete. Returns how many were used, and what was completed; without it all
    /// bytes were used. Payloads are unmasked in place. After a violation nothing more may be decoded.
    pub fn next<'a>(
        &'a mut self,
        bytes: &'a mut [u8],
    ) -> Result<(usize, Option<Incoming<'a>>), Violation> {
        let (used, complete) = self.advance(bytes)?;
        let Some((opcode, place)) = complete else {
            return Ok((used, None));
        };
        let payload = match place {
            Place::Input(range) => &bytes[range],
            Place::Frame(range) => &self.frame[range],
            Place::Message => &self.message,
        };
        let incoming = match opcode {
            OpCode::Control(Control::Ping) => Incoming::Ping(payload),
            OpCode::Control(Control::Pong) => Incoming::Pong(payload),
            OpCode::Control(_) => Incoming::Close(close_code(payload)?),
            OpCode::Data(_) if self.excess.take().is_some() => Incoming::Cut(beginning(payload)?),
            OpCode::Data(_) => Incoming::Text(text(payload)?),
        };
        Ok((used, Some(incoming)))
    }

    /// Frees memory of something that [`Decoder::next`] lent and that has been used. The next call does so too.
    pub fn free_lent(&mut self) {
        match std::mem::replace(&mut self.lent, Lent::Nothing) {
            Lent::Nothing => (),
            Lent::Frame => self.frame = Vec::new(),
            Lent::Message => self.message = Vec::new(),
        }
    }

    /// Bytes of memory held outside this value.
    pub fn heap_bytes(&self) -> usize {
        self.frame.capacity() + self.message.capacity()
    }

    fn advance(&mut self, bytes: &mut [u8]) -> Result<(usize, Option<(OpCode, Place)>), Violation> {
        self.free_lent();
        let mut used = 0;
        loop {
            if let Some(overlong) = self.excess.as_mut().and_then(|excess| excess.frame.take()) {
                used += self.take_overlong(overlong, &mut bytes[used..]);
                if self
                    .excess
                    .as_ref()
                    .is_some_and(|excess| excess.frame.is_some())
                {
                    return Ok((used, None));
                }
                self.fragmented = !overlong.is_final;
                if overlong.is_final {
                    self.lent = Lent::Message;
                    return Ok((used, Some((OpCode::Data(Data::Text), Place::Message))));
                }
                continue;
            }
            // One frame, from where its bytes lie.
            let kept = !self.frame.is_empty();
            let head = if kept {
                let (taken, head) = self.complete_frame(&bytes[used..])?;
                used += taken;
                head
            } else {
                let rest = &bytes[used..];
                let head = self
                    .read_head(rest)?
                    .filter(|head| head.frame_bytes <= rest.len());
                if head.is_none() {
                    self.frame.extend_from_slice(rest);
                    used = bytes.len();
                }
                head
            };
            let Some(head) = head else {
                return Ok((used, None));
            };
            let (place, payload) = if kept {
                let range = head.header_bytes..head.frame_bytes;
                self.lent = Lent::Frame;
                (Place::Frame(range.clone()), &mut self.frame[range])
            } else {
                let range = used + head.header_bytes..used + head.frame_bytes;
                used += head.frame_bytes;
                (Place::Input(range.clone()), &mut bytes[range])
            };
            if let Some(mask) = head.mask {
                apply_mask(payload, mask);
            }
            match head.opcode {
                OpCode::Control(_) => return Ok((used, Some((head.opcode, place)))),
                OpCode::Data(_) if head.overlong.is_some() => {
                    self.free_lent();
                    self.excess.get_or_insert_default().frame = head.overlong;
                    continue;
                }
                OpCode::Data(_) if head.is_final && !self.fragmented => {
                    return Ok((used, Some((head.opcode, place))));
                }
                OpCode::Data(_) => self.message.extend_from_slice(payload),
            }
            // A fragment: its bytes are in `message` now.
            self.free_lent();
            self.fragmented = !head.is_final;
            if head.is_final {
                self.lent = Lent::Message;
                return Ok((used, Some((head.opcode, Place::Message))));
            }
        }
    }

    /// Takes what has come of a frame that is too long: keeps what the message may have, and drops the rest. Returns the
    /// number of bytes taken; the frame stays noted until it is complete.
    fn take_overlong(&mut self, overlong: Overlong, bytes: &mut [u8]) -> usize {
        let Overlong { missing, mask, .. } = overlong;
        let taken = missing.min(bytes.len());
        let kept = taken.min(self.room());
        let payload = &mut bytes[..kept];
        if let Some(mask) = mask {
            apply_mask(payload, mask);
        }
        self.message.extend_from_slice(payload);
        let excess = self.excess.get_or_insert_default();
        excess.dropped += taken - kept;
        excess.frame = (missing > taken).then(|| Overlong {
            missing: missing - taken,
            mask: mask.map(|mut mask| {
                mask.rotate_left(taken % 4);
                mask
            }),
            ..overlong
        });
        taken
    }

    /// How much more payload the message may have.
    fn room(&self) -> usize {
        self.message_bytes_max as usize - self.message.len()
    }

    /// Adds to the incomplete frame what belongs to it, and no more. Returns the number of bytes taken, and the head
    /// if the frame is complete now.
    fn complete_frame(&mut self, bytes: &[u8]) -> Result<(usize, Option<Head>), Violation> {
        let before = self.frame.len();
        // First enough for any header; of a short frame this may be too much, and the surplus is given back.
        let ahead = HEADER_BYTES_MAX.saturating_sub(before).min(bytes.len());
        self.frame.extend_from_slice(&bytes[..ahead]);
        let Some(head) = self.read_head(&self.frame)? else {
            return Ok((ahead, None));
        };
        // Not complete before, so at least `before` bytes stay.
        let missing = head
            .frame_bytes
            .saturating_sub(self.frame.len())
            .min(bytes.len() - ahead);
        self.frame.extend_from_slice(&bytes[ahead..ahead + missing]);
        self.frame.truncate(head.frame_bytes);
        let taken = self.frame.len() - before;
        let complete = self.frame.len() == head.frame_bytes;
        Ok((taken, complete.then_some(head)))
    }

    /// Reads and judges a frame's header; `None` if it is incomplete.
    fn read_head(&self, bytes: &[u8]) -> Result<Option<Head>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let (header, payload_bytes) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(None),
            Err(_) => return Violation::protocol("unknown opcode"),
        };
        let header_bytes = header.len(payload_bytes);
        if cursor.position() != header_bytes as u64 {
            return Violation::protocol("length not in its shortest form");
        }
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Violation::protocol("reserved bit set, but no extension was negotiated");
        }
        match (header.mask.is_some(), self.masked) {
            (false, true) => return Violation::protocol("frame of a client not masked"),
            (true, false) => return Violation::protocol("frame of a server masked"),
            _ => (),
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final => {
                return Violation::protocol("control frame fragmented");
            }
            OpCode::Control(_) if payload_bytes > CONTROL_BYTES_MAX as u64 => {
                return Violation::protocol("control frame too long");
            }
            OpCode::Data(Data::Continue) if !self.fragmented => {
                return Violation::protocol("continuation of nothing");
            }
            OpCode::Data(Data::Text | Data::Binary) if self.fragmented => {
                return Violation::protocol("new message within a fragmented one");
            }
            OpCode::Data(Data::Binary) => {
                return Err(Violation {
                    code: CloseCode::Unsupported,
                    reason: "binary message",
                });
            }
            _ => (),
        }
        // Compared before the cast: a 64-bit length must not be cut to something harmless.
        let is_data = matches!(header.opcode, OpCode::Data(_));
        let dropped = self.excess.as_ref().map_or(0, |excess| excess.dropped);
        let so_far = self.message.len() + dropped;
        if is_data && payload_bytes > (self.cut_bytes_max as usize - so_far) as u64 {
            return Err(Violation {
                code: CloseCode::Size,
                reason: "message above the limit",
            });
        }
        let payload_bytes = payload_bytes as usize;
        let overlong = (is_data && payload_bytes > self.room()).then_some(Overlong {
            missing: payload_bytes,
            is_final: header.is_final,
            mask: header.mask,
        });
        Ok(Some(Head {
            opcode: header.opcode,
            is_final: header.is_final,
            mask: header.mask,
            header_bytes,
            frame_bytes: match overlong {
                Some(_) => header_bytes,
                None => header_bytes + payload_bytes,
            },
            overlong,
        }))
    }
}

/// Masks or unmasks, which is the same: XOR with four bytes over and over.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // Eight is a multiple of four, so the rest begins with the mask's first byte again.
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| Violation {
        code: CloseCode::Invalid,
        reason: "text is not UTF-8",
    })
}

/// The limit may go through a character.
fn beginning(payload: &[u8]) -> Result<&str, Violation> {
    match std::str::from_utf8(payload) {
        Err(error) if error.error_len().is_none() => text(&payload[..error.valid_up_to()]),
        _ => text(payload),
    }
}

fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Violation::protocol("half a close code"),
        [high, low, reason @ ..] => {
            let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
            if !code.is_allowed() {
                return Violation::protocol("close code that may not be sent");
            }
            text(reason)?;
            Ok(Some(code))
        }
    }
}

/// Body of a fuzz target: decodes `data` as a client's frames, once in one piece and once cut in two.
pub fn fuzz_entry(data: &[u8]) {
    let (&cut, stream) = data.split_first().unwrap_or((&0, &[]));
    let cut = usize::from(cut).min(stream.len());
    let whole = fuzz_decode(&[stream]);
    let split = fuzz_decode(&[&stream[..cut], &stream[cut..]]);
    assert_eq!(whole, split, "the position of a cut must not matter");
}

fn fuzz_decode(pieces: &[&[u8]]) -> Vec<String> {
    const BYTES_MAX: usize = 300;
    let mut seen = Vec::new();
    let mut decoder = Decoder::of_clients(BYTES_MAX).cutting(2 * BYTES_MAX);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        while at < piece.len() {
            match decoder.next(&mut piece[at..]) {
                Ok((used, incoming)) => {
                    at += used;
                    seen.extend(incoming.map(|incoming| format!("{incoming:?}")));
                }
                Err(violation) => {
                    seen.push(format!("{violation:?}"));
                    return seen;
                }
            }
            assert!(decoder.heap_bytes() <= 8 * BYTES_MAX, "memory is bounded");
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ws_client::write_frame;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x12, 0x00, 0xfe, 0x7a];
    const TEXT: OpCode = OpCode::Data(Data::Text);
    const CONTINUE: OpCode = OpCode::Data(Data::Continue);

    fn frame(is_final: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, is_final, opcode, payload, MASK);
        out
    }

    /// Decodes a stream cut into pieces of `step` bytes; a violation is the last entry.
    fn decode(stream: &[u8], step: usize, bytes_max: usize) -> Vec<String> {
        decode_with(Decoder::of_clients(bytes_max), stream, step)
    }

    fn decode_with(mut decoder: Decoder, stream: &[u8], step: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for piece in stream.to_vec().chunks_mut(step) {
            let mut at = 0;
            while at < piece.len() {
                match decoder.next(&mut piece[at..]) {
                    Ok((used, incoming)) => {
                        at += used;
                        seen.extend(incoming.map(|incoming| format!("{incoming:?}")));
                    }
                    Err(violation) => {
                        seen.push(u16::from(violation.code).to_string());
                        return seen;
                    }
                }
            }
        }
        decoder.free_lent();
        assert!(decoder.heap_bytes() == 0 || decoder.fragmented || !decoder.frame.is_empty());
        seen
    }

    #[track_caller]
    fn expect(stream: &[u8], expected: &[&str]) {
        for step in 1..=stream.len() {
            assert_eq!(decode(stream, step, 1_000), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn messages_control_frames_and_fragments() {
        let close = frame(
            true,
            OpCode::Control(Control::Close),
            &[0x03, 0xe8, b'b', b'y', b'e'],
        );
        let stream = [
            frame(true, TEXT, b"wsok"),
            frame(true, TEXT, b""),
            frame(false, TEXT, b"h\xc3"),
            frame(true, OpCode::Control(Control::Ping), b"in between"),
            frame(false, CONTINUE, b""),
            frame(true, CONTINUE, b"\xa9"),
            frame(true, OpCode::Control(Control::Pong), b""),
            frame(true, TEXT, &[b'x'; 200]),
            close,
        ];
        let x = format!("Text(\"{}\")", "x".repeat(200));
        let expected = [
            "Text(\"wsok\")",
            "Text(\"\")",
            "Ping([105, 110, 32, 98, 101, 116, 119, 101, 101, 110])",
        ];
        let rest = ["Text(\"h\u{e9}\")", "Pong([])", &x, "Close(Some(Normal))"];
        expect(&stream.concat(), &[&expected[..], &rest[..]].concat());
    }

    #[test]
    fn violations() {
        let set = |mut frame: Vec<u8>, index: usize, value: u8| {
            frame[index] = value;
            frame
        };
        let ok = || frame(true, TEXT, b"abc");
        expect(&set(ok(), 0, 0xc1), &["1002"]); // reserved bit
        expect(&set(ok(), 0, 0x83), &["1002"]); // reserved data opcode
        expect(&set(ok(), 0, 0x8b), &["1002"]); // reserved control opcode
        expect(&[0x81, 3, b'a', b'b', b'c'], &["1002"]); // not masked
        expect(&[0x81, 0xfe, 0, 3, 1, 2, 3, 4, 5, 6, 7], &["1002"]); // long form of a short length
        expect(&frame(true, OpCode::Data(Data::Binary), b"abc"), &["1003"]);
        expect(&frame(true, TEXT, b"\xff"), &["1007"]);
        expect(&frame(true, CONTINUE, b"abc"), &["1002"]);
        expect(
            &[frame(false, TEXT, b"a"), frame(true, TEXT, b"b")].concat(),
            &["1002"],
        );
        expect(
            &[frame(false, TEXT, b"\xc3"), frame(true, CONTINUE, b"a")].concat(),
            &["1007"],
        );
        expect(
            &frame(false, OpCode::Control(Control::Ping), b""),
            &["1002"],
        );
        expect(
            &frame(true, OpCode::Control(Control::Ping), &[0; 126]),
            &["1002"],
        );
        expect(
            &frame(true, OpCode::Control(Control::Close), &[3]),
            &["1002"],
        );
        expect(
            &frame(true, OpCode::Control(Control::Close), &[0x03, 0xed]),
            &["1002"],
        ); // 1005
        expect(
            &frame(true, OpCode::Control(Control::Close), &[0x03, 0xe8, 0xff]),
            &["1007"],
        );
        expect(&frame(true, TEXT, &[b'a'; 1_001]), &["1009"]);
        expect(
            &[
                frame(false, TEXT, &[b'a'; 999]),
                frame(true, CONTINUE, b"aa"),
            ]
            .concat(),
            &["1009"],
        );
        expect(
            &[0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4],
            &["1009"],
        ); // 2^63 and more
    }

    #[test]
    fn the_limit_is_exact() {
        let text = format!("Text(\"{}\")", "a".repeat(1_000));
        expect(&frame(true, TEXT, &[b'a'; 1_000]), &[&text]);
        let stream = [
            frame(false, TEXT, &[b'a'; 999]),
            frame(true, CONTINUE, b"a"),
            frame(true, TEXT, b"b"),
        ]
        .concat();
        expect(&stream, &[&text, "Text(\"b\")"]);
    }

    #[test]
    fn of_a_message_above_the_limit_the_beginning_is_read() {
        let ping = || frame(true, OpCode::Control(Control::Ping), b"");
        let stream = [
            frame(true, TEXT, b"12345678"),
            frame(false, TEXT, b"123"),
            frame(false, CONTINUE, "4é678".as_bytes()), // the limit is within the second character
            ping(),
            frame(false, CONTINUE, b"90"),
            frame(true, CONTINUE, b""),
            frame(true, TEXT, b"12345"),
            frame(true, TEXT, &[b'x'; 20]),
        ]
        .concat();
        let expected = [
            "Cut(\"12345\")",
            "Ping([])",
            "Cut(\"1234\")",
            "Text(\"12345\")",
            "Cut(\"xxxxx\")",
        ];
        let too_long = [
            frame(true, TEXT, &[b'x'; 21]),
            [frame(false, TEXT, &[b'x'; 20]), frame(true, CONTINUE, b"x")].concat(),
        ];
        for step in 1..=stream.len() {
            let decode =
                |stream: &[u8]| decode_with(Decoder::of_clients(5).cutting(20), stream, step);
            assert_eq!(decode(&stream), expected, "in pieces of {step}");
            for stream in &too_long {
                assert_eq!(decode(stream), ["1009"], "in pieces of {step}");
            }
        }
    }

    #[test]
    fn a_whole_message_is_lent_without_a_copy() {
        let mut stream = frame(true, TEXT, b"message");
        let range = stream.as_ptr_range();
        let mut decoder = Decoder::of_clients(100);
        let (_, incoming) = decoder.next(&mut stream).unwrap();
        let Some(Incoming::Text(text)) = incoming else {
            panic!("{incoming:?}")
        };
        assert!(range.contains(&text.as_ptr()));
        assert_eq!(decoder.heap_bytes(), 0);
    }

    proptest! {
        #[test]
        fn masking_is_its_own_inverse_and_bytewise(mut data: Vec<u8>, mask: [u8; 4]) {
            let plain = data.clone();
            apply_mask(&mut data, mask);
            let naive: Vec<u8> = plain.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect();
            prop_assert_eq!(&data, &naive);
            apply_mask(&mut data, mask);
            prop_assert_eq!(data, plain);
        }

        #[test]
        fn arbitrary_bytes_are_decoded_alike_in_pieces(data: Vec<u8>) {
            fuzz_entry(&data);
        }

        #[test]
        fn frames_are_decoded_alike_in_pieces(
            frames in proptest::collection::vec((any::<bool>(), 0u8..11, 0usize..150, any::<u8>()), 0..8),
            cut: u8,
        ) {
            let mut data = vec![cut];
            for (is_final, opcode, len, byte) in frames {
                // Mostly what is legal, so that streams are not over at once.
                let opcode = match opcode {
                    0..=3 => TEXT,
                    4..=6 => CONTINUE,
                    other => OpCode::from(other),
                };
                data.extend(frame(is_final || opcode == TEXT && byte > 99, opcode, &vec![byte & 0x7f; len]));
            }
            fuzz_entry(&data);
        }
    }
}
