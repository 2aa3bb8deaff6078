//! Events in the adapter protocol: a remote data adapter on one connection, as the SDKs of today are, or with a second one
//! for notifications, as older ones are.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use engine::ari::{Encoding, Line, VERSION_OFFERED, read_line, remote};

use super::{FeedEvent, Sink, Source};
use crate::control::unix_ns;

/// A server that hears nothing for long takes the adapter for dead.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A connection to the server, as its remote data adapter.
pub struct Remote {
    /// For requests and replies; for events too, if there is no other.
    requests: Half,
    /// For events, where the server has a second port for them.
    events: Option<Half>,
    asked: Receiver<io::Result<Asked>>,
    by_name: HashMap<String, usize>,
    /// For each item, the id of the subscription, if there is one.
    subscriptions: Vec<Option<String>>,
    is_command: bool,
}

/// What is written on one connection.
struct Half {
    stream: TcpStream,
    buffer: Vec<u8>,
    last_write: Instant,
}

impl Half {
    /// Connects, and says who it is: first of all on each connection.
    fn connect(address: &str, credentials: Option<&str>) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
        let stream = TcpStream::connect(address).map_err(named)?;
        stream.set_nodelay(true)?;
        let mut half = Self {
            stream,
            buffer: Vec::new(),
            last_write: Instant::now(),
        };
        let user = credentials.map(|pair| pair.split_once(':').unwrap_or((pair, "")));
        remote::credentials(&mut half.buffer, user, Some("brightwire loadgen"));
        half.flush()?;
        Ok(half)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.stream.write_all(&self.buffer)?;
            self.buffer.clear();
            self.last_write = Instant::now();
        }
        Ok(())
    }

    fn stay_alive(&mut self) {
        if self.last_write.elapsed() >= KEEPALIVE {
            self.buffer.extend_from_slice(b"KEEPALIVE\r\n");
        }
    }
}

/// What the server asks.
enum Asked {
    Init { id: String },
    Subscribe { id: String, item: String },
    Unsubscribe { id: String, item: String },
    Close { reason: String },
}

impl Remote {
    /// Connects. With `notify`, events go to a port of their own.
    pub fn connect(
        address: &str,
        notify: Option<&str>,
        credentials: Option<&str>,
        items: &[String],
        is_command: bool,
    ) -> io::Result<Self> {
        let requests = Half::connect(address, credentials)?;
        let events = notify
            .map(|address| Half::connect(address, credentials))
            .transpose()?;
        let (sender, asked) = mpsc::channel();
        let reader = BufReader::new(requests.stream.try_clone()?);
        thread::spawn(move || {
            for line in reader.lines() {
                let read = line.and_then(|line| read_request(&line));
                let Some(read) = read.transpose() else {
                    continue;
                };
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        let items = items.iter().enumerate();
        let by_name: HashMap<String, usize> =
            items.map(|(index, name)| (name.clone(), index)).collect();
        Ok(Self {
            requests,
            events,
            asked,
            subscriptions: vec![None; by_name.len()],
            by_name,
            is_command,
        })
    }

    /// Where events are written.
    fn events(&mut self) -> &mut Vec<u8> {
        &mut self.events.as_mut().unwrap_or(&mut self.requests).buffer
    }

    fn answer(&mut self, asked: Asked, source: &dyn Source) -> io::Result<()> {
        match asked {
            Asked::Init { id } => {
                remote::ready(&mut self.requests.buffer, &id, "DPI", VERSION_OFFERED)
            }
            Asked::Subscribe { id, item } => {
                remote::done(&mut self.requests.buffer, &id, "SUB");
                if let Some(&index) = self.by_name.get(&item) {
                    let now_ns = unix_ns();
                    let mut snapshot = FeedEvent::default();
                    source.snapshot(index, now_ns, &mut snapshot);
                    if !snapshot.fields.is_empty() {
                        self.update(&item, &id, true, &snapshot);
                    }
                    // MERGE knows its snapshot by its one event; the others by its end.
                    if self.is_command || snapshot.fields.is_empty() {
                        let time = (now_ns / 1_000_000).to_string();
                        remote::end_of_snapshot(self.events(), &time, &item, &id, Encoding::Smart);
                    }
                    self.subscriptions[index] = Some(id);
                }
            }
            Asked::Unsubscribe { id, item } => {
                if let Some(&index) = self.by_name.get(&item) {
                    self.subscriptions[index] = None;
                }
                remote::done(&mut self.requests.buffer, &id, "USB");
            }
            Asked::Close { reason } => {
                return Err(io::Error::other(format!("the server says: {reason}")));
            }
        }
        Ok(())
    }

    fn update(&mut self, item: &str, subscription: &str, snapshot: bool, event: &FeedEvent) {
        let fields = event.fields.iter();
        let fields = fields.map(|(name, value)| (name.as_str(), Some(value.as_str())));
        let time = (unix_ns() / 1_000_000).to_string();
        remote::update(
            self.events(),
            &time,
            item,
            subscription,
            snapshot,
            fields,
            Encoding::Smart,
        );
    }
}

impl Sink for Remote {
    fn put(&mut self, item: &str, index: usize, event: &FeedEvent) -> io::Result<bool> {
        let Some(subscription) = self.subscriptions[index].take() else {
            return Ok(false);
        };
        self.update(item, &subscription, false, event);
        self.subscriptions[index] = Some(subscription);
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A reply before the events that follow from it, although nobody could complain of the other order.
        self.requests.flush()?;
        self.events.as_mut().map_or(Ok(()), Half::flush)
    }

    fn serve(&mut self, source: &dyn Source) -> io::Result<()> {
        loop {
            match self.asked.try_recv() {
                Ok(asked) => self.answer(asked?, source)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("the server has closed the connection"));
                }
            }
        }
        self.requests.stay_alive();
        self.events.iter_mut().for_each(Half::stay_alive);
        self.flush()
    }
}

/// Reads a line of the server; `None` if there is nothing to do about it.
fn read_request(line: &str) -> io::Result<Option<Asked>> {
    let broken = |error: engine::ari::Malformed| io::Error::other(format!("{error}: {line}"));
    let Line::Message {
        id,
        method,
        mut tokens,
    } = read_line(line.trim_end()).map_err(broken)?
    else {
        return Ok(None);
    };
    let id = id.to_owned();
    let mut item = || {
        let name = tokens.text(Encoding::Smart);
        name.map(String::from).map_err(broken)
    };
    Ok(Some(match method {
        "DPI" => Asked::Init { id },
        "SUB" => Asked::Subscribe { id, item: item()? },
        "USB" => Asked::Unsubscribe { id, item: item()? },
        "CLOSE" => {
            item()?; // "reason"
            Asked::Close { reason: item()? }
        }
        _ => return Err(io::Error::other(format!("an unknown request: {line}"))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let asked = |line: &str| read_request(line).map_err(|error| error.to_string());
        assert!(matches!(
            asked("1a|SUB|S|my%7Citem"),
            Ok(Some(Asked::Subscribe { id, item })) if id == "1a" && item == "my|item"
        ));
        assert!(matches!(
            asked("1b|USB|S|x"),
            Ok(Some(Asked::Unsubscribe { .. }))
        ));
        assert!(matches!(
            asked("2|DPI|S|ARI.version|S|1.9.1"),
            Ok(Some(Asked::Init { .. }))
        ));
        assert!(matches!(
            asked("0|CLOSE|S|reason|S|bye"),
            Ok(Some(Asked::Close { reason })) if reason == "bye"
        ));
        assert!(matches!(asked("KEEPALIVE"), Ok(None)));
        assert!(asked("3|NUS|S|x").is_err());
        assert!(asked("nonsense").is_err());
    }
}
