//! A connection to the server of a remote adapter: lines out, lines in, with TLS or without.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::tls::{Secure, Tls};

/// How long connecting and TLS's handshake may take each.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces of what was received that wait to be read; behind that the server waits.
const PIECES_MAX: usize = 64;
const PIECE_BYTES_MAX: usize = 16 << 10;
/// Longest line that is taken: names of items are the longest things that a server says.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How long a write that failed waits for the reason that the server may have sent before.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A connection.
pub struct Link {
    /// What is said with the next [`Link::flush`].
    pub buffer: Vec<u8>,
    /// When something was said last.
    pub last_write: Instant,
    address: String,
    stream: TcpStream,
    secure: Option<Secure>,
    heard: Receiver<io::Result<Vec<u8>>>,
    /// What was heard and is no whole line yet.
    partial: Vec<u8>,
}

impl Link {
    /// Connects; with TLS if there is one, which is then spoken from the beginning.
    pub fn connect(address: &str, tls: Option<&Tls>) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let stream = TcpStream::connect(address).map_err(named)?;
        stream.set_nodelay(true)?;
        let mut partial = Vec::new();
        let secure = tls
            .map(|tls| handshake(&stream, tls, &mut partial))
            .transpose()
            .map_err(named)?;
        let (sender, heard) = mpsc::sync_channel(PIECES_MAX);
        let mut reader = stream.try_clone()?;
        thread::spawn(move || {
            loop {
                let mut piece = vec![0; PIECE_BYTES_MAX];
                let read = reader.read(&mut piece).map(|read| {
                    piece.truncate(read);
                    piece
                });
                let is_last = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Self {
            buffer: Vec::new(),
            last_write: Instant::now(),
            address: address.to_owned(),
            stream,
            secure,
            heard,
            partial,
        })
    }

    /// Says what is in the buffer.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let said = match &mut self.secure {
            None => self.stream.write_all(&self.buffer),
            Some(secure) => secure
                .send(&self.buffer)
                .and_then(|bytes| self.stream.write_all(&bytes)),
        };
        self.buffer.clear();
        self.last_write = Instant::now();
        said.map_err(|error| self.why_closed(error))
    }

    /// The lines that have come meanwhile.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        loop {
            match self.heard.try_recv() {
                Ok(piece) => self.take(piece)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(self.closed()),
            }
        }
        let Some(end) = memchr::memrchr(b'\n', &self.partial) else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        let text = String::from_utf8(whole)
            .map_err(|_| io::Error::other(format!("{}: a line is not UTF-8", self.address)))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn take(&mut self, piece: io::Result<Vec<u8>>) -> io::Result<()> {
        let named = |reason: String| io::Error::other(format!("{}: {reason}", self.address));
        let piece = piece.map_err(|error| named(error.to_string()))?;
        if piece.is_empty() {
            return Err(self.closed());
        }
        match &mut self.secure {
            None => self.partial.extend_from_slice(&piece),
            Some(secure) => secure.receive(&piece, &mut self.partial).map_err(named)?,
        }
        if self.partial.len() > LINE_BYTES_MAX && !self.partial.contains(&b'\n') {
            return Err(named("a line does not end".into()));
        }
        Ok(())
    }

    fn closed(&self) -> io::Error {
        io::Error::other(format!(
            "{}: the server has closed the connection",
            self.address
        ))
    }

    /// A write has failed. What the server said before it closed tells more, if it comes.
    fn why_closed(&mut self, error: io::Error) -> io::Error {
        let until = Instant::now() + LAST_WORDS;
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(wait) {
                Ok(piece) => {
                    if let Err(reason) = self.take(piece) {
                        return reason;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return io::Error::new(error.kind(), format!("{}: {error}", self.address));
                }
            }
        }
    }
}

/// Goes through TLS's handshake. What the server says at once behind it is put into `plain`.
fn handshake(mut stream: &TcpStream, tls: &Tls, plain: &mut Vec<u8>) -> io::Result<Secure> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut secure = tls.open().map_err(io::Error::other)?;
    let mut piece = vec![0; PIECE_BYTES_MAX];
    loop {
        let words = secure.send(b"")?;
        stream.write_all(&words)?;
        if !secure.is_opening() {
            break;
        }
        let read = match stream.read(&mut piece) {
            Ok(0) => return Err(io::Error::other("closed during the handshake of TLS")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other("no answer to the handshake of TLS"));
            }
            read => read?,
        };
        let heard = secure.receive(&piece[..read], plain);
        heard.map_err(io::Error::other)?;
    }
    stream.set_read_timeout(None)?;
    Ok(secure)
}
