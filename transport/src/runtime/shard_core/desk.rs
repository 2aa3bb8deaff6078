//! All connections of a shard, and what the reactor reports of them.

use super::link::{Line, Link, Talk, line_mut};
use crate::net::connection::{Connection, Phase, Progress, Settings};
use crate::net::settings::RESERVE;
use crate::reactor::{ConnId, Event, EventSink};
use crate::runtime::clock::Clock;
use crate::wire::ws::CloseCode;
use engine::shard::Shard;
use engine::time::{Duration, Instant};
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a peer may take for its part of a WebSocket's closing handshake.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take nothing of an answer that is no matter of the engine's any more. (reference: its write
/// timeout)
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The listeners, and which of them get the last connections.
pub(super) struct Listeners {
    settings: Vec<Arc<Settings>>,
    connections_max: usize,
    /// One share of what is kept free; none if all listeners have the same role.
    share: usize,
}

impl Listeners {
    pub(super) fn new(settings: Vec<Arc<Settings>>, connections_max: usize) -> Self {
        let differ = settings.windows(2).any(|two| two[0].role != two[1].role);
        let share = if differ {
            (connections_max / RESERVE).max(1)
        } else {
            0
        };
        Self {
            settings,
            connections_max,
            share,
        }
    }

    /// The settings of a connection that was accepted when so many were there, unless what is left is kept for others.
    fn admit(&self, listener: u32, connections: usize) -> Option<Arc<Settings>> {
        let settings = self.settings.get(listener as usize)?;
        let kept = self.share * settings.role.shares_left();
        (connections + kept < self.connections_max).then(|| Arc::clone(settings))
    }
}

/// Everything but the reactor, so that the reactor can report to it.
pub(super) struct Desk {
    pub(super) shard: Shard,
    pub(super) links: Vec<Option<Link>>,
    pub(super) listeners: Listeners,
    /// How many links there are.
    pub(super) links_len: usize,
    pub(super) clock: Clock,
    pub(super) now: Instant,
    /// Connections with something of their own to say (answers to HTTP requests, pongs), in the order of asking.
    pub(super) speakers: Vec<ConnId>,
    /// Connections that read on when what they were answered is sent: they answered much, or a response is complete.
    /// Those that are blocked are not listed, and come back when they can be written to.
    pub(super) answered: Vec<ConnId>,
    /// Connections to be closed once all is sent.
    pub(super) finished: Vec<ConnId>,
    /// Connections whose request may take only so long; the same time for all, so in the order of the deadlines.
    pub(super) heads: Deadlines,
    /// Connections in the closing handshake.
    pub(super) closings: Deadlines,
    pub(super) events: usize,
}

pub(super) struct Deadlines {
    pub(super) after: Duration,
    pub(super) queue: VecDeque<(Instant, ConnId)>,
}

impl EventSink for Desk {
    fn on_event(&mut self, event: Event<'_>) {
        if self.events == 0 {
            self.now = self.clock.now(); // the wait for this event may have been long
        }
        self.events += 1;
        match event {
            Event::Accepted {
                conn,
                listener,
                peer,
            } => {
                let Some(settings) = self.listeners.admit(listener, self.links_len) else {
                    return self.finished.push(conn);
                };
                self.insert(Link {
                    connection: Connection::new(settings),
                    line: Line::new(conn, peer, self.now),
                });
                self.heads.start(conn, self.now);
            }
            Event::Received { conn, bytes } => self.on_bytes(conn, bytes),
            Event::Blocked { conn } => {
                if let Some(line) = line_mut(&mut self.links, conn) {
                    line.blocked_since = Some(self.now);
                }
                self.shard.on_blocked(conn, self.now);
            }
            Event::Writable { conn } => {
                if let Some(line) = line_mut(&mut self.links, conn) {
                    line.blocked_since = None;
                    line.waits_since = self.now; // this is when the client got the last of its answer
                    let goes_on = line.answered || line.paused || line.has_ended();
                    if goes_on && !self.answered.contains(&conn) {
                        self.answered.push(conn);
                    }
                    if !line.reply.is_empty() {
                        self.speakers.push(conn);
                    }
                    if line.finished {
                        self.finished.push(conn);
                    }
                }
                self.shard.on_writable(conn, self.now);
            }
            Event::Closed { conn, .. } => {
                self.remove(conn);
                self.shard.on_closed(conn, self.now);
            }
        }
    }
}

impl Desk {
    pub(super) fn new(
        shard: Shard,
        listeners: Listeners,
        clock: Clock,
        head_timeout: Duration,
    ) -> Self {
        let now = clock.now();
        Self {
            shard,
            links: Vec::new(),
            listeners,
            links_len: 0,
            clock,
            now,
            speakers: Vec::new(),
            answered: Vec::new(),
            finished: Vec::new(),
            heads: Deadlines::new(head_timeout),
            closings: Deadlines::new(CLOSING_TIMEOUT),
            events: 0,
        }
    }

    pub(super) fn insert(&mut self, link: Link) {
        let slot = link.line.id.slot as usize;
        if self.links.len() <= slot {
            self.links.resize_with(slot + 1, || None);
        }
        self.links_len += usize::from(self.links[slot].replace(link).is_none());
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Link> {
        let link = self
            .links
            .get_mut(id.slot as usize)?
            .take_if(|link| link.line.id == id)?;
        self.links_len -= 1;
        Some(link)
    }

    pub(super) fn on_bytes(&mut self, id: ConnId, bytes: &mut [u8]) {
        self.drive(id, |connection, talk| connection.on_bytes(bytes, talk));
    }

    pub(super) fn resume(&mut self, id: ConnId) {
        self.drive(id, |connection, talk| connection.resume(talk));
    }

    /// Ends a connection that the engine has done with: with a closing handshake if it still listens.
    pub(super) fn close(&mut self, id: ConnId) {
        let now = self.now;
        match line_mut(&mut self.links, id) {
            // A response that is complete is for the client to have: the connection ends behind it.
            Some(Line {
                response: Some(response),
                ..
            }) if response.ended().is_some() => response.close_after(),
            Some(line) if line.blocked_since.is_some() => {
                line.reply.clear();
                self.finished.push(id);
            }
            Some(_) => {
                self.drive(id, |connection, talk| {
                    connection.close(CloseCode::Normal, talk)
                });
                self.closings.start(id, now);
            }
            None => {}
        }
    }

    /// Lets a connection work on its bytes, with the engine at hand.
    pub(super) fn drive(
        &mut self,
        id: ConnId,
        work: impl FnOnce(&mut Connection, &mut Talk<'_>) -> Progress,
    ) {
        let Some(Some(link)) = self.links.get_mut(id.slot as usize) else {
            return;
        };
        if link.line.id != id {
            return;
        }
        let mut talk = Talk {
            line: &mut link.line,
            shard: &mut self.shard,
            now: self.now,
        };
        let progress = work(&mut link.connection, &mut talk);
        if !link.line.reply.is_empty() {
            link.line.waits_since = self.now;
            self.speakers.push(id);
        }
        match progress {
            // Stopped: it is about to move or to be closed, or the engine owes it a response.
            Progress::Reading | Progress::Stopped => {}
            Progress::Answered => {
                link.line.answered = true;
                self.answered.push(id);
            }
            Progress::Closed => {
                link.line.finished = true;
                self.finished.push(id);
                if link.line.version.is_some() {
                    self.shard.on_closed(id, self.now);
                }
            }
        }
    }

    /// Closes connections that let us wait too long for a request or for the end.
    pub(super) fn on_deadlines(&mut self) {
        while let Some(id) = self.heads.expired(self.now) {
            let Some(Some(link)) = self.links.get_mut(id.slot as usize) else {
                continue;
            };
            let line = &mut link.line;
            let phase = link.connection.phase();
            if line.id != id || !matches!(phase, Phase::Request | Phase::Response) {
                continue;
            }
            let too_long = match line.blocked_since {
                // Sending is all that is left to do, and nobody else looks after it.
                Some(since) if phase == Phase::Request || line.has_ended() => {
                    self.now.since(since) >= ANSWER_TIMEOUT
                }
                _ if phase == Phase::Response => false, // the engine's matter
                _ => self.now.since(line.waits_since) >= self.heads.after,
            };
            if too_long {
                line.reply.clear();
                self.finished.push(id);
                if line.version.is_some() {
                    self.shard.on_closed(id, self.now);
                }
            } else {
                self.heads.start(id, self.now);
            }
        }
        while let Some(id) = self.closings.expired(self.now) {
            if line_mut(&mut self.links, id).is_some() {
                self.finished.push(id);
            }
        }
    }
}

impl Deadlines {
    fn new(after: Duration) -> Self {
        Self {
            after,
            queue: VecDeque::new(),
        }
    }

    pub(super) fn start(&mut self, id: ConnId, now: Instant) {
        self.queue.push_back((now + self.after, id));
    }

    pub(super) fn expired(&mut self, now: Instant) -> Option<ConnId> {
        let (at, id) = *self.queue.front()?;
        (at <= now).then(|| {
            self.queue.pop_front();
            id
        })
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }
}
