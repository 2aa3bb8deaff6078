//! One connection of a remote adapter: lines in, bytes out, both with a bound.

use super::stream::Stream;
use smol::io::{AsyncRead, AsyncWrite};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// What one read asks for. Large enough that a busy feed is read in few calls, and small enough for the cache. (guess)
const READ_BYTES: usize = 64 << 10;

/// UTF-8's mark, which some remotes send first.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) enum Broken {
    /// The remote has closed it.
    Closed,
    /// The kernel says so.
    Failed(io::Error),
    /// A line is longer than the configuration allows.
    LineTooLong(usize),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the remote has closed the connection"),
            Self::Failed(error) => error.fmt(f),
            Self::LineTooLong(bytes_max) => write!(f, "a line is longer than {bytes_max} bytes"),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS without its word of farewell: the remote's process has ended.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// A line that is not UTF-8.
pub(super) const NOT_UTF8: &str = "a line is not UTF-8";

/// A connection with its two buffers. Nothing that is awaited here loses bytes when it is dropped half-way.
pub(super) struct Lines {
    stream: Stream,
    incoming: LineBuffer,
    /// What is to be written.
    pub out: Vec<u8>,
    /// The stream may hold back some of what was written.
    unflushed: bool,
    /// When something came last.
    pub heard: Instant,
}

/// What has come, cut into lines.
pub(super) struct LineBuffer {
    /// 0 <= parsed <= scanned <= filled <= buffer.len()
    buffer: Vec<u8>,
    parsed: usize,
    /// No line end lies between `parsed` and here.
    scanned: usize,
    filled: usize,
    line_bytes_max: usize,
    at_start: bool,
}

impl LineBuffer {
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            parsed: 0,
            scanned: 0,
            filled: 0,
            line_bytes_max,
            at_start: true,
        }
    }

    /// The next line that is there as a whole, without its end, or [`NOT_UTF8`]. Empty lines are passed over.
    #[inline]
    pub fn next_line(&mut self) -> Result<Option<Result<&str, &'static str>>, Broken> {
        loop {
            if self.at_start && self.filled >= BYTE_ORDER_MARK.len() {
                self.at_start = false;
                if self.buffer.starts_with(BYTE_ORDER_MARK) {
                    self.parsed = BYTE_ORDER_MARK.len();
                    self.scanned = self.parsed;
                }
            }
            let unseen = &self.buffer[self.scanned..self.filled];
            let Some(length) = memchr::memchr(b'\n', unseen) else {
                self.scanned = self.filled;
                if self.filled - self.parsed > self.line_bytes_max {
                    return Err(Broken::LineTooLong(self.line_bytes_max));
                }
                return Ok(None);
            };
            let (start, end) = (self.parsed, self.scanned + length);
            self.parsed = end + 1;
            self.scanned = self.parsed;
            if end - start > self.line_bytes_max {
                return Err(Broken::LineTooLong(self.line_bytes_max));
            }
            let empty = matches!(&self.buffer[start..end], b"" | b"\r");
            if !empty {
                let line = &self.buffer[start..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return Ok(Some(std::str::from_utf8(line).map_err(|_| NOT_UTF8)));
            }
        }
    }

    /// Where to read to. All whole lines must have been taken.
    pub fn room(&mut self) -> &mut [u8] {
        if self.parsed == self.filled {
            (self.parsed, self.scanned, self.filled) = (0, 0, 0);
        } else if self.buffer.len() - self.filled < READ_BYTES {
            self.buffer.copy_within(self.parsed..self.filled, 0);
            self.scanned -= self.parsed;
            self.filled -= self.parsed;
            self.parsed = 0;
        }
        if self.buffer.len() - self.filled < READ_BYTES {
            // Twofold, so that a long line is not moved once per read.
            let wanted = (self.buffer.len() * 2).max(self.filled + READ_BYTES);
            self.buffer.resize(wanted, 0);
        } else if self.filled == 0 && self.buffer.len() > 4 * READ_BYTES {
            // A long line has passed; its memory is not kept.
            self.buffer = vec![0; READ_BYTES];
        }
        &mut self.buffer[self.filled..]
    }

    /// So many bytes were read to [`LineBuffer::room`].
    pub fn filled(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Drops what is there.
    fn clear(&mut self) {
        (self.parsed, self.scanned, self.filled) = (0, 0, 0);
    }

    /// What is there is more than a line may be.
    fn is_full(&self) -> bool {
        self.filled - self.parsed > self.line_bytes_max
    }
}

impl Lines {
    pub fn new(stream: Stream, line_bytes_max: usize) -> Self {
        Self {
            stream,
            incoming: LineBuffer::new(line_bytes_max),
            out: Vec::new(),
            unflushed: false,
            heard: Instant::now(),
        }
    }

    /// See [`LineBuffer::next_line`].
    #[inline]
    pub fn next_line(&mut self) -> Result<Option<Result<&str, &'static str>>, Broken> {
        self.incoming.next_line()
    }

    /// What has come.
    pub fn incoming(&mut self) -> &mut LineBuffer {
        &mut self.incoming
    }

    /// Returns when something was read or written.
    pub async fn turn(&mut self) -> Result<(), Broken> {
        poll_fn(|context| self.poll_turn(context)).await
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Self {
            stream,
            incoming,
            out,
            unflushed,
            heard,
        } = self;
        let mut stream = Pin::new(stream);
        // Writing first: requests are few, and a remote that never stops to talk must hear them too.
        if !out.is_empty()
            && let Poll::Ready(written) = stream.as_mut().poll_write(context, out)
        {
            out.drain(..written?);
            *unflushed = true;
            return Poll::Ready(Ok(()));
        }
        if *unflushed && let Poll::Ready(flushed) = stream.as_mut().poll_flush(context) {
            flushed?;
            *unflushed = false;
        }
        match ready!(stream.poll_read(context, incoming.room()))? {
            0 => Poll::Ready(Err(Broken::Closed)),
            count => {
                incoming.filled(count);
                *heard = Instant::now();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Returns when the connection is of no use any more. What comes meanwhile is kept, up to one line's length.
    pub async fn until_gone(&mut self) -> Broken {
        loop {
            if let Err(broken) = self.turn().await {
                return broken;
            }
            if self.incoming.is_full() {
                return Broken::LineTooLong(self.incoming.line_bytes_max);
            }
        }
    }

    /// Writes what waits to be written, then returns when the remote has closed the connection.
    pub async fn drain(&mut self) {
        loop {
            self.incoming.clear();
            if self.turn().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::Async;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, Lines) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, _) = listener.accept().unwrap();
        let stream = Stream::Plain(Async::new(here).unwrap());
        (remote, Lines::new(stream, 200_000))
    }

    async fn line(lines: &mut Lines) -> Result<String, Broken> {
        loop {
            if let Some(line) = lines.next_line()? {
                return Ok(line.unwrap_or_else(|not_text| not_text).to_owned());
            }
            lines.turn().await?;
        }
    }

    #[test]
    fn lines_in_pieces_with_both_ends_and_a_mark() {
        let (mut remote, mut lines) = pair();
        smol::block_on(async {
            remote
                .write_all(b"\xEF\xBB\xBFone\r\ntwo\n\r\n\nthr")
                .unwrap();
            assert_eq!(line(&mut lines).await.unwrap(), "one");
            assert_eq!(line(&mut lines).await.unwrap(), "two");
            let long = "x".repeat(150_000);
            let writer = std::thread::spawn(move || {
                remote
                    .write_all(format!("ee\n{long}\nend\n").as_bytes())
                    .unwrap();
                remote
            });
            assert_eq!(line(&mut lines).await.unwrap(), "three");
            assert_eq!(line(&mut lines).await.unwrap().len(), 150_000);
            assert_eq!(line(&mut lines).await.unwrap(), "end");
            drop(writer.join().unwrap());
            assert!(matches!(line(&mut lines).await, Err(Broken::Closed)));
        });
    }

    #[test]
    fn what_is_too_long_ends_the_connection_and_what_is_no_text_is_told() {
        let (mut remote, mut lines) = pair();
        smol::block_on(async {
            let writer = std::thread::spawn(move || {
                // The other end closes before all of this is written.
                let _ = remote.write_all(&[b'x'; 1_000_000]);
            });
            assert!(matches!(
                line(&mut lines).await,
                Err(Broken::LineTooLong(200_000))
            ));
            drop(lines);
            writer.join().unwrap();
        });
        let (mut remote, mut lines) = pair();
        smol::block_on(async {
            remote.write_all(b"\xFF\nnext\n").unwrap();
            assert_eq!(line(&mut lines).await.unwrap(), NOT_UTF8);
            assert_eq!(line(&mut lines).await.unwrap(), "next");
        });
    }
}
