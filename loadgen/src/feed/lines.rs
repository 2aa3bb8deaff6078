//! Events as lines of the server's line feed.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::{FeedEvent, Sink, Source};

/// A connection to the line feed.
pub struct Lines {
    address: String,
    stream: Box<dyn Write>,
    buffer: Vec<u8>,
}

impl Lines {
    /// Connects.
    pub fn connect(address: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let stream: Box<dyn Write> = match address.strip_prefix("unix:") {
            Some(path) => Box::new(UnixStream::connect(path).map_err(named)?),
            None => {
                let stream = TcpStream::connect(address).map_err(named)?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(Self {
            address: address.to_owned(),
            stream,
            buffer: Vec::new(),
        })
    }
}

impl Sink for Lines {
    fn put(&mut self, item: &str, _: usize, event: &FeedEvent) -> io::Result<bool> {
        escape(&mut self.buffer, item, false);
        for (name, value) in &event.fields {
            self.buffer.push(b'\t');
            escape(&mut self.buffer, name, true);
            // A name alone is a null.
            if let Some(value) = value {
                self.buffer.push(b'=');
                escape(&mut self.buffer, value, false);
            }
        }
        self.buffer.push(b'\n');
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| {
            let address = &self.address;
            io::Error::new(
                error.kind(),
                format!("{address}: {error}: is this the address of a line feed?"),
            )
        })
    }

    fn serve(&mut self, _: &dyn Source) -> io::Result<()> {
        Ok(()) // the server asks for nothing
    }
}

fn escape(out: &mut Vec<u8>, text: &str, is_name: bool) {
    for byte in text.bytes() {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'=' if is_name => out.extend_from_slice(b"\\="),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brightwire::adapter::line_format::{Said, read};

    #[test]
    fn what_is_written_the_server_reads() {
        let mut lines = Lines {
            address: String::new(),
            stream: Box::new(io::sink()),
            buffer: Vec::new(),
        };
        let event = FeedEvent {
            item: 0,
            fields: vec![
                ("a=b\\".into(), Some("x\ty\r\n=".into())),
                ("nothing".into(), None),
            ],
        };
        assert!(lines.put("my\titem", 0, &event).unwrap());
        let line = lines.buffer.strip_suffix(b"\n").unwrap();
        let Ok(Said::Update { item, fields }) = read(line) else {
            panic!("{:?}", String::from_utf8_lossy(line));
        };
        assert_eq!(item, "my\titem");
        let expected = [
            ("a=b\\".into(), Some("x\ty\r\n=".into())),
            ("nothing".into(), None),
        ];
        assert_eq!(fields, expected);
    }
}
