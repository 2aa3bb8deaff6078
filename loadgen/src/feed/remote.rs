//! Events in the adapter protocol: a remote data adapter on one connection, as the SDKs of today are, or with a second one
//! for notifications, as older ones are.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use engine::ari::{Encoding, Line, VERSION_OFFERED, read_line, remote};

use super::link::Link;
use super::{FeedEvent, Sink, Source};
use crate::control::unix_ns;
use crate::tls::Tls;

/// A server that hears nothing for long takes the adapter for dead.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A connection to the server, as its remote data adapter.
pub struct Remote {
    /// For requests and replies; for events too, if there is no other.
    requests: Link,
    /// For events, where the server has a second port for them.
    events: Option<Link>,
    /// The server has begun to ask.
    is_met: bool,
    by_name: HashMap<String, usize>,
    /// For each item, the id of the subscription, if there is one.
    subscriptions: Vec<Option<String>>,
    is_command: bool,
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
        tls: Option<&Tls>,
        items: &[String],
        is_command: bool,
    ) -> io::Result<Self> {
        let connect = |address: &str| {
            let mut link = Link::connect(address, tls)?;
            // Who one is comes first of all on each connection.
            let user = credentials.map(|pair| pair.split_once(':').unwrap_or((pair, "")));
            remote::credentials(&mut link.buffer, user, Some("brightwire loadgen"));
            link.flush()?;
            Ok::<Link, io::Error>(link)
        };
        let requests = connect(address)?;
        let events = notify.map(connect).transpose()?;
        let items = items.iter().enumerate();
        let by_name: HashMap<String, usize> =
            items.map(|(index, name)| (name.clone(), index)).collect();
        Ok(Self {
            requests,
            events,
            is_met: false,
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
        let fields = fields.map(|(name, value)| (name.as_str(), value.as_deref()));
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
        self.events.as_mut().map_or(Ok(()), Link::flush)
    }

    fn serve(&mut self, source: &dyn Source) -> io::Result<()> {
        for line in self.requests.lines()? {
            if let Some(asked) = read_request(&line)? {
                self.is_met = true;
                self.answer(asked, source)?;
            }
        }
        if let Some(events) = &mut self.events {
            events.lines()?; // nothing is asked there, but the end is told
        }
        for link in [Some(&mut self.requests), self.events.as_mut()] {
            stay_alive(link);
        }
        self.flush()
    }

    fn complaint(&self) -> Option<String> {
        (!self.is_met).then(|| {
            "the server has asked for nothing: is this the address of a remote data adapter, and are user and password right?".into()
        })
    }
}

fn stay_alive(link: Option<&mut Link>) {
    if let Some(link) = link.filter(|link| link.last_write.elapsed() >= KEEPALIVE) {
        link.buffer.extend_from_slice(b"KEEPALIVE\r\n");
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
