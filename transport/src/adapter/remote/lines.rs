//! One connection of a remote adapter: lines in, bytes out, both with a bound.

use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::fmt;
use std::io;
use std::net::TcpStream;
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
    /// A line is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the remote has closed the connection"),
            Self::Failed(error) => error.fmt(f),
            Self::LineTooLong(bytes_max) => write!(f, "a line is longer than {bytes_max} bytes"),
            Self::NotUtf8 => f.write_str("a line is not UTF-8"),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// A connection with its two buffers. Nothing that is awaited here loses bytes when it is dropped half-way.
pub(super) struct Lines {
    stream: Async<TcpStream>,
    /// 0 <= parsed <= scanned <= filled <= buffer.len()
    buffer: Vec<u8>,
    parsed: usize,
    /// No line end lies between `parsed` and here.
    scanned: usize,
    filled: usize,
    line_bytes_max: usize,
    at_start: bool,
    /// What is to be written.
    pub out: Vec<u8>,
    /// When something came last.
    pub heard: Instant,
}

impl Lines {
    pub fn new(stream: Async<TcpStream>, line_bytes_max: usize) -> Self {
        // Requests are small and answered one by one.
        let _ = stream.get_ref().set_nodelay(true);
        let _ = socket2::SockRef::from(stream.get_ref()).set_keepalive(true);
        Self {
            stream,
            buffer: Vec::new(),
            parsed: 0,
            scanned: 0,
            filled: 0,
            line_bytes_max,
            at_start: true,
            out: Vec::new(),
            heard: Instant::now(),
        }
    }

    /// The next line that is there as a whole, without its end. Empty lines are passed over.
    pub fn next_line(&mut self) -> Result<Option<&str>, Broken> {
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
            let line = &self.buffer[start..end];
            let empty = matches!(line, b"" | b"\r");
            if !empty {
                let line = &self.buffer[start..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return std::str::from_utf8(line)
                    .map(Some)
                    .map_err(|_| Broken::NotUtf8);
            }
        }
    }

    /// Returns when something was read or written.
    pub async fn turn(&mut self) -> Result<(), Broken> {
        self.make_room();
        let Self {
            stream,
            buffer,
            filled,
            out,
            heard,
            ..
        } = self;
        let mut reader = &*stream;
        let mut writer = &*stream;
        // Writing first: requests are few, and a remote that never stops to talk must hear them too.
        let write = async {
            if out.is_empty() {
                smol::future::pending::<()>().await;
            }
            let written = writer.write(out).await?;
            out.drain(..written);
            Ok(())
        };
        let read = async {
            match reader.read(&mut buffer[*filled..]).await? {
                0 => Err(Broken::Closed),
                count => {
                    *filled += count;
                    *heard = Instant::now();
                    Ok(())
                }
            }
        };
        smol::future::or(write, read).await
    }

    /// Sees to it that there is room to read into. All whole lines have been taken.
    fn make_room(&mut self) {
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
    }

    /// Writes what waits to be written, then returns when the remote has closed the connection.
    pub async fn drain(&mut self) {
        loop {
            (self.parsed, self.scanned, self.filled) = (0, 0, 0);
            if self.turn().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Lines) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, _) = listener.accept().unwrap();
        (remote, Lines::new(Async::new(here).unwrap(), 200_000))
    }

    async fn line(lines: &mut Lines) -> Result<String, Broken> {
        loop {
            if let Some(line) = lines.next_line()? {
                return Ok(line.to_owned());
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
    fn what_is_too_long_or_no_text_ends_the_connection() {
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
            remote.write_all(b"\xFF\n").unwrap();
            assert!(matches!(line(&mut lines).await, Err(Broken::NotUtf8)));
        });
    }
}
