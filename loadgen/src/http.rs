//! The client's end of HTTP: requests out, and a response in pieces of any size, its body as it comes.

use brightwire::wire::http::HEADERS_MAX;

/// Head of a response at most.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The line with a chunk's length at most, extensions included.
const CHUNK_LINE_MAX: usize = 256;

/// Reads one response after the other.
#[derive(Debug, Default)]
pub struct ResponseReader {
    state: State,
    /// What came of a head or of a chunk's line.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many bytes of a body with a length are still to come.
    Length(u64),
    ChunkLine,
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Behind the last chunk, up to an empty line.
    Trailer,
    /// The body ends with the connection.
    UntilClose,
}

/// What a piece of input has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Nothing yet: more bytes are needed.
    More,
    /// A part of the body.
    Body(&'a [u8]),
    /// The response is complete; the next one may begin.
    End,
}

impl ResponseReader {
    /// Takes what it can use of `bytes`: how much that is, and what it has brought.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Piece<'a>), String> {
        match self.state {
            State::Head => self.head(bytes),
            State::Length(0) => {
                self.state = State::Head;
                Ok((0, Piece::End))
            }
            State::Length(left) => {
                let taken = part(bytes, left);
                self.state = State::Length(left - taken as u64);
                Ok((taken, body(&bytes[..taken])))
            }
            State::Chunk(0) => {
                self.state = State::ChunkEnd;
                Ok((0, Piece::More))
            }
            State::Chunk(left) => {
                let taken = part(bytes, left);
                self.state = State::Chunk(left - taken as u64);
                Ok((taken, body(&bytes[..taken])))
            }
            State::ChunkEnd | State::ChunkLine | State::Trailer => self.line(bytes),
            State::UntilClose => Ok((bytes.len(), body(bytes))),
        }
    }

    /// Whether the reader stands between responses.
    pub fn is_idle(&self) -> bool {
        self.state == State::Head && self.partial.is_empty()
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Piece<'a>), String> {
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head_bytes = match response.parse(&self.partial) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) if self.partial.len() <= HEAD_BYTES_MAX => {
                return Ok((bytes.len(), Piece::More));
            }
            _ => return Err("the server does not answer in HTTP".into()),
        };
        if response.code != Some(200) {
            let code = response.code.unwrap_or_default();
            return Err(format!("answered with status {code}"));
        }
        let find = |name: &str| {
            let mut headers = response.headers.iter();
            headers
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .map(|header| header.value)
        };
        let chunked = |value: &[u8]| value.eq_ignore_ascii_case(b"chunked");
        self.state = if find("Transfer-Encoding").is_some_and(chunked) {
            State::ChunkLine
        } else {
            match find("Content-Length") {
                Some(length) => State::Length(
                    crate::update::parse_u64(length).ok_or("a Content-Length is no number")?,
                ),
                None => State::UntilClose,
            }
        };
        self.partial.clear();
        Ok((head_bytes - before, Piece::More))
    }

    /// A line of the chunked coding.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Piece<'a>), String> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.partial.extend_from_slice(bytes);
            if self.partial.len() > CHUNK_LINE_MAX {
                return Err("a line of the chunked coding does not end".into());
            }
            return Ok((bytes.len(), Piece::More));
        };
        self.partial.extend_from_slice(&bytes[..end]);
        let line = self.partial.trim_ascii();
        let mut piece = Piece::More;
        self.state = match self.state {
            State::ChunkLine => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let digits = str::from_utf8(digits).unwrap_or_default().trim();
                match u64::from_str_radix(digits, 16) {
                    Ok(0) => State::Trailer,
                    Ok(length) => State::Chunk(length),
                    Err(_) => return Err("the length of a chunk is no number".into()),
                }
            }
            State::Trailer if line.is_empty() => {
                piece = Piece::End;
                State::Head
            }
            State::Trailer => State::Trailer,
            _ if line.is_empty() => State::ChunkLine,
            _ => return Err("a chunk is longer than it says".into()),
        };
        self.partial.clear();
        Ok((end + 1, piece))
    }
}

/// Appends a POST of a TLCP request.
pub fn write_request(out: &mut Vec<u8>, host: &str, verb: &str, protocol: &str, body: &[u8]) {
    let head = format!(
        "POST /lightstreamer/{verb}.txt?LS_protocol={protocol} HTTP/1.1\r\nHost: {host}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

fn part(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

fn body(bytes: &[u8]) -> Piece<'_> {
    if bytes.is_empty() {
        Piece::More
    } else {
        Piece::Body(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies of all responses in `input`, read in pieces of `size` bytes.
    fn read(input: &[u8], size: usize) -> Result<Vec<String>, String> {
        let mut reader = ResponseReader::default();
        let (mut responses, mut text) = (Vec::new(), Vec::new());
        for piece in input.chunks(size) {
            let mut rest = piece;
            loop {
                let (used, piece) = reader.next(rest)?;
                rest = &rest[used..];
                match piece {
                    Piece::Body(bytes) => text.extend_from_slice(bytes),
                    Piece::End => {
                        let body = std::mem::take(&mut text);
                        responses.push(String::from_utf8(body).unwrap());
                    }
                    Piece::More if rest.is_empty() && used == 0 => break,
                    Piece::More => {}
                }
                if rest.is_empty() && reader.is_idle() {
                    break;
                }
            }
        }
        Ok(responses)
    }

    const INPUT: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nCONOK,S\r\n2;x=y\r\n\r\n\r\n0\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nREQOK,1\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn responses_are_read_however_they_are_cut() {
        for size in 1..=INPUT.len() {
            assert_eq!(
                read(INPUT, size).unwrap(),
                ["CONOK,S\r\n", "REQOK,1\r\n", ""],
                "{size}"
            );
        }
    }

    #[test]
    fn what_is_no_response_is_found_out() {
        for bad in [
            &b"220 smtp\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(read(bad, bad.len()).is_err());
        }
    }

    #[test]
    fn a_request_is_one_the_server_reads() {
        let mut out = Vec::new();
        write_request(&mut out, "h", "control", "TLCP-2.5.0", b"LS_op=x");
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("POST /lightstreamer/control.txt?LS_protocol=TLCP-2.5.0 HTTP/1.1\r\n")
        );
        assert!(text.ends_with("Content-Length: 7\r\n\r\nLS_op=x"));
    }
}
