//! The duty cycle of a shard: wait, read, think, write, and nothing else.
//!
//! One thread runs one [`ShardCore`]: the engine's [`Shard`], the reactor with the sockets, and the shard's ends of the
//! rings. `ShardCore::turn` is the whole of it. Each step of a turn is bounded, so that no source starves another, and
//! all that a turn has to say to a client goes out in one send.

use super::clock::Clock;
use super::ingest_core::IngestCore;
use super::rings::{Command, MovedConnection, ShardPost, ShardRings};
use crate::net::connection::{Connection, Flow, Host, Phase, Progress, Settings, TlcpRequest};
use crate::net::outbox;
use crate::net::response::Responding;
use crate::reactor::{ConnId, Event, EventSink, Reactor};
use crate::wire::ws::{CloseCode, Upgrade};
use engine::counters::Counters;
use engine::ids::ShardId;
use engine::ingest::demand::Demand;
use engine::metadata::Ask;
use engine::shard::{Effect, MovedRequest, Outbox, Part, Peer, Shard, ShardMessage};
use engine::time::{Duration, Instant};
use engine::tlcp::Version;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes of records that one turn takes from ingest. More than the largest record; small enough that sockets are
/// looked at every millisecond or so. (guess)
const RECORD_BYTES_PER_TURN: usize = 1 << 20;
/// Messages of other shards, and answers, that one turn takes from each ring. (guess)
const MESSAGES_PER_TURN: usize = 256;
/// Answers that wait for room in the ring to one shard; what comes beyond is lost, and its client asks again when it has
/// waited in vain. Many rings full: only shards that forward much faster than they take answers get there. (guess)
const TELLS_WAITING_MAX: usize = 16_384;
/// How long a peer may take for its part of a WebSocket's closing handshake.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take nothing of an answer that is no matter of the engine's any more. (reference: its write
/// timeout)
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What a shard core is told at its start.
pub struct Setup {
    /// The engine's half.
    pub shard: Shard,
    /// The shard's ends of the rings.
    pub rings: ShardRings,
    /// What all connections have in common.
    pub connections: Arc<Settings>,
    /// How long a request's head may take to arrive, and a connection stay idle between requests.
    pub head_timeout: Duration,
    /// How long to look for work before going to sleep.
    pub spin: Duration,
    /// The server's clock.
    pub clock: Clock,
}

/// One shard with its sockets and rings.
pub struct ShardCore<R> {
    reactor: R,
    desk: Desk,
    rings: ShardRings,
    /// What did not fit the rings to ingest; goes first next time.
    demands: VecDeque<Demand>,
    asks: VecDeque<Ask>,
    /// By shard: what it is to be told and did not fit the ring; goes first next time.
    tells: Vec<VecDeque<ShardMessage>>,
    spin: Duration,
    idle_since: Option<Instant>,
    stopped: bool,
}

/// Everything but the reactor, so that the reactor can report to it.
struct Desk {
    shard: Shard,
    links: Vec<Option<Link>>,
    settings: Arc<Settings>,
    clock: Clock,
    now: Instant,
    /// Connections with something of their own to say (answers to HTTP requests, pongs), in the order of asking.
    speakers: Vec<ConnId>,
    /// Connections that read on when what they were answered is sent: they answered much, or a response is complete.
    /// Those that are blocked are not listed, and come back when they can be written to.
    answered: Vec<ConnId>,
    /// Connections to be closed once all is sent.
    finished: Vec<ConnId>,
    /// Connections whose request may take only so long; the same time for all, so in the order of the deadlines.
    heads: Deadlines,
    /// Connections in the closing handshake.
    closings: Deadlines,
    events: usize,
}

/// One client connection: its protocol and what it has to say by itself.
struct Link {
    connection: Connection,
    line: Line,
}

struct Line {
    id: ConnId,
    peer: SocketAddr,
    version: Option<Version>,
    reply: Vec<u8>,
    /// The response that is owed, or being written, to a TLCP request over HTTP.
    response: Option<Responding>,
    /// Reads on once the reply is sent.
    answered: bool,
    blocked_since: Option<Instant>,
    finished: bool,
    /// Not read from until its answers are out.
    paused: bool,
    /// When it was accepted, or given its last answer: since when a request is waited for. Bytes do not count, or a
    /// request that drips in would never be late.
    waits_since: Instant,
}

struct Deadlines {
    after: Duration,
    queue: VecDeque<(Instant, ConnId)>,
}

impl<R: Reactor> ShardCore<R> {
    /// A shard on a reactor that already listens.
    pub fn new(reactor: R, setup: Setup) -> Self {
        let waker = reactor.waker();
        let tells = setup.rings.shards.iter().map(|_| VecDeque::new()).collect();
        setup.rings.park.set_wake(move || waker.wake());
        let now = setup.clock.now();
        Self {
            reactor,
            desk: Desk {
                shard: setup.shard,
                links: Vec::new(),
                settings: setup.connections,
                clock: setup.clock,
                now,
                speakers: Vec::new(),
                answered: Vec::new(),
                finished: Vec::new(),
                heads: Deadlines {
                    after: setup.head_timeout,
                    queue: VecDeque::new(),
                },
                closings: Deadlines {
                    after: CLOSING_TIMEOUT,
                    queue: VecDeque::new(),
                },
                events: 0,
            },
            rings: setup.rings,
            demands: VecDeque::new(),
            asks: VecDeque::new(),
            tells,
            spin: setup.spin,
            idle_since: None,
            stopped: false,
        }
    }

    /// Takes turns until the control core says stop.
    pub fn run(mut self) -> io::Result<Counters> {
        while !self.stopped {
            let wait = self.wait(None);
            self.turn(wait)?;
        }
        Ok(self.desk.shard.counters().clone())
    }

    /// The same with ingest on this thread: `threading = "shared"`.
    pub fn run_with(mut self, mut ingest: IngestCore) -> io::Result<(Counters, Counters)> {
        let waker = self.reactor.waker();
        ingest.park().set_wake(move || waker.wake());
        while !self.stopped {
            let wait = self.wait(Some(&ingest));
            self.turn(wait)?;
            ingest.park().awake();
            ingest.turn();
        }
        Ok((self.desk.shard.counters().clone(), ingest.finish()))
    }

    /// How long the next turn may wait for its first event. Says that the core goes to sleep, if it does.
    fn wait(&mut self, ingest: Option<&IngestCore>) -> Option<Duration> {
        let idle = |core: &Self| core.is_idle() && ingest.is_none_or(IngestCore::is_idle);
        if !idle(self) || self.desk.events > 0 && !self.spin.is_zero() {
            self.idle_since = None;
            return Some(Duration::ZERO);
        }
        let now = self.desk.clock.now();
        if now.since(*self.idle_since.get_or_insert(now)) < self.spin {
            std::hint::spin_loop();
            return Some(Duration::ZERO);
        }
        self.rings.park.going_to_sleep();
        if let Some(ingest) = ingest {
            ingest.park().going_to_sleep();
        }
        if !idle(self) {
            return Some(Duration::ZERO); // something came between looking and saying
        }
        let deadlines = [
            self.desk.shard.next_deadline(),
            self.desk.heads.next(),
            self.desk.closings.next(),
            ingest.and_then(IngestCore::next_deadline),
        ];
        deadlines
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.since(now))
    }

    /// Whether there is nothing to do but wait for sockets, other cores and time.
    fn is_idle(&self) -> bool {
        let rings = &self.rings;
        rings.data.is_empty()
            && rings.answer.is_empty()
            && rings.command.is_empty()
            && rings
                .from_shards
                .iter()
                .flatten()
                .all(rtrb::Consumer::is_empty)
            && self.demands.is_empty()
            && self.asks.is_empty()
            && self.tells.iter().all(VecDeque::is_empty)
            && !self.desk.shard.has_output()
            && self.desk.speakers.is_empty()
            && self.desk.answered.is_empty()
            && self.desk.finished.is_empty()
    }

    /// One turn.
    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.desk.events = 0;
        self.reactor.poll(wait, &mut self.desk)?;
        self.rings.park.awake();
        self.desk.now = self.desk.clock.now();
        self.take_records();
        self.take_messages();
        let now = self.desk.now;
        self.desk.shard.on_timers(now);
        self.desk.on_deadlines();
        self.write()?;
        self.carry_out()?;
        self.close_finished();
        self.read_on();
        Ok(())
    }

    fn take_records(&mut self) {
        let Self { rings, desk, .. } = self;
        desk.events += rings.data.drain(RECORD_BYTES_PER_TURN, |records| {
            desk.shard.on_records(records, desk.now)
        });
    }

    fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            let Ok(answer) = self.rings.answer.pop() else {
                break;
            };
            self.desk.shard.on_answer(answer, self.desk.now);
        }
        for from in 0..self.rings.from_shards.len() {
            for _ in 0..MESSAGES_PER_TURN {
                let Some(Ok(post)) = self.rings.from_shards[from]
                    .as_mut()
                    .map(rtrb::Consumer::pop)
                else {
                    break;
                };
                match post {
                    ShardPost::Message(message) => {
                        let from = ShardId(u16::try_from(from).expect("shards are few"));
                        self.desk.shard.on_message(from, message, self.desk.now);
                    }
                    ShardPost::Connection(moved) => self.take_in(*moved),
                }
            }
        }
        while let Ok(command) = self.rings.command.pop() {
            match command {
                Command::Stop => self.stopped = true,
            }
        }
    }

    /// A connection arrives from another shard, in the middle of its conversation.
    fn take_in(&mut self, moved: MovedConnection) {
        let MovedConnection {
            socket,
            connection,
            peer,
            response,
            lines,
            request,
        } = moved;
        let Ok(address) = socket.peer_addr() else {
            return;
        };
        let Ok(id) = self.reactor.adopt(socket) else {
            return;
        };
        let desk = &mut self.desk;
        let mut line = Line::new(id, address, desk.now);
        line.version = Some(peer.version);
        if response.is_some() {
            desk.heads.start(id, desk.now);
        }
        line.response = response;
        desk.insert(Link { connection, line });
        desk.shard.on_moved(id, peer, &lines, &request, desk.now);
        desk.resume(id);
    }

    /// What the engine's clients are owed, and what connections have to say by themselves.
    fn write(&mut self) -> io::Result<()> {
        let Self { reactor, desk, .. } = self;
        let mut out = Out {
            reactor,
            links: &mut desk.links,
            answered: &mut desk.answered,
            settings: &desk.settings,
            start: 0,
        };
        desk.shard.pump(desk.now, &mut out);
        for id in std::mem::take(&mut desk.speakers) {
            let Some(line) = line_mut(&mut desk.links, id)
                .filter(|line| line.blocked_since.is_none() && !line.reply.is_empty())
            else {
                continue;
            };
            let buffer = self.reactor.buffer();
            let start = buffer.len();
            buffer.append(&mut line.reply);
            line.reply = Vec::new();
            self.reactor.send(id, start);
        }
        self.reactor.flush(&mut self.desk)
    }

    /// What the engine wants of others.
    fn carry_out(&mut self) -> io::Result<()> {
        let mut flush = false;
        while let Some(effect) = self.desk.shard.poll_effect() {
            match effect {
                Effect::Demand(demand) => self.demands.push_back(demand),
                Effect::Ask(ask) => self.asks.push_back(ask),
                Effect::Tell { shard, message } => self.tell(shard, message),
                Effect::Move {
                    conn,
                    shard,
                    request,
                    lines,
                } => self.move_to(conn, shard, request, lines),
                Effect::Close(conn) => {
                    self.desk.close(conn);
                    flush = true;
                }
            }
        }
        for index in 0..self.tells.len() {
            self.post_tells(index);
        }
        let before = self.demands.len() + self.asks.len();
        while let Some(demand) = self.demands.pop_front() {
            if let Err(rtrb::PushError::Full(demand)) = self.rings.demand.push(demand) {
                self.demands.push_front(demand);
                break;
            }
        }
        while let Some(ask) = self.asks.pop_front() {
            if let Err(rtrb::PushError::Full(ask)) = self.rings.ask.push(ask) {
                self.asks.push_front(ask);
                break;
            }
        }
        if before > 0 {
            self.rings.ingest.wake_if_parked();
        }
        if flush { self.write() } else { Ok(()) }
    }

    /// A request for a full ring is refused, which slows its client down. An answer has to wait: its client has no other.
    fn tell(&mut self, shard: ShardId, message: ShardMessage) {
        let index = usize::from(shard.0);
        if matches!(message, ShardMessage::Request { .. }) {
            if let Err(ShardPost::Message(message)) = self.post(index, ShardPost::Message(message))
            {
                self.desk.shard.on_undelivered(message);
            }
        } else if let Some(tells) = self.tells.get_mut(index)
            && tells.len() < TELLS_WAITING_MAX
        {
            tells.push_back(message);
        }
    }

    fn post_tells(&mut self, index: usize) {
        while let Some(message) = self.tells[index].pop_front() {
            if let Err(ShardPost::Message(message)) = self.post(index, ShardPost::Message(message))
            {
                return self.tells[index].push_front(message);
            }
        }
    }

    fn post(&mut self, index: usize, post: ShardPost) -> Result<(), ShardPost> {
        let Some(ring) = self.rings.to_shards.get_mut(index).and_then(Option::as_mut) else {
            return Err(post);
        };
        ring.push(post)
            .map_err(|rtrb::PushError::Full(post)| post)?;
        self.rings.shards[index].wake_if_parked();
        Ok(())
    }

    /// Hands a connection to the shard that owns its session. If that fails the connection is closed, and the client
    /// tries again.
    fn move_to(&mut self, id: ConnId, shard: ShardId, request: MovedRequest, lines: Box<[u8]>) {
        let mut unread = Vec::new();
        let socket = self.reactor.release_with_unread(id, &mut unread);
        // The connection holds back what it has not used; these bytes come behind that.
        self.desk.on_bytes(id, &mut unread);
        let Some(link) = self.desk.remove(id) else {
            return;
        };
        let version = link.line.version.unwrap_or(Version::LATEST);
        let peer = Peer {
            ip: ip_text(link.line.peer),
            version,
        };
        match socket {
            Some(socket) => {
                let moved = MovedConnection {
                    socket,
                    connection: link.connection,
                    peer,
                    response: link.line.response,
                    lines,
                    request,
                };
                let _closed_if_full =
                    self.post(usize::from(shard.0), ShardPost::Connection(Box::new(moved)));
            }
            None => self.reactor.close(id),
        }
    }

    /// Connections whose answers are out read on. One that asked for more than it takes is not read from until it has
    /// caught up.
    fn read_on(&mut self) {
        let Self { reactor, desk, .. } = self;
        for id in std::mem::take(&mut desk.answered) {
            let Some(line) = line_mut(&mut desk.links, id) else {
                continue;
            };
            if line.answered && !line.paused {
                line.paused = true;
                reactor.pause(id);
            }
            if line.blocked_since.is_some() {
                continue; // comes back when it can be written to
            }
            if !line.reply.is_empty() {
                desk.answered.push(id);
                continue;
            }
            let ended = line.response.as_ref().and_then(Responding::ended);
            if let Some(keep_alive) = ended {
                line.response = None;
                line.waits_since = desk.now;
                desk.drive(id, |connection, talk| {
                    connection.on_response_end(keep_alive, talk)
                });
            } else if std::mem::take(&mut line.answered) {
                desk.resume(id);
            }
            let caught_up = desk.answered.last() != Some(&id);
            if caught_up
                && let Some(line) = line_mut(&mut desk.links, id)
                && std::mem::take(&mut line.paused)
            {
                reactor.resume(id);
            }
        }
    }

    fn close_finished(&mut self) {
        for id in std::mem::take(&mut self.desk.finished) {
            let blocked = line_mut(&mut self.desk.links, id)
                .is_some_and(|line| line.blocked_since.is_some() && !line.reply.is_empty());
            if !blocked {
                self.desk.remove(id);
                self.reactor.close(id);
            }
        }
    }
}

impl EventSink for Desk {
    fn on_event(&mut self, event: Event<'_>) {
        if self.events == 0 {
            self.now = self.clock.now(); // the wait for this event may have been long
        }
        self.events += 1;
        match event {
            Event::Accepted { conn, peer, .. } => {
                self.insert(Link {
                    connection: Connection::new(Arc::clone(&self.settings)),
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
    fn insert(&mut self, link: Link) {
        let slot = link.line.id.slot as usize;
        if self.links.len() <= slot {
            self.links.resize_with(slot + 1, || None);
        }
        self.links[slot] = Some(link);
    }

    fn remove(&mut self, id: ConnId) -> Option<Link> {
        self.links
            .get_mut(id.slot as usize)?
            .take_if(|link| link.line.id == id)
    }

    fn on_bytes(&mut self, id: ConnId, bytes: &mut [u8]) {
        self.drive(id, |connection, talk| connection.on_bytes(bytes, talk));
    }

    fn resume(&mut self, id: ConnId) {
        self.drive(id, |connection, talk| connection.resume(talk));
    }

    /// Ends a connection that the engine has done with: with a closing handshake if it still listens.
    fn close(&mut self, id: ConnId) {
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
    fn drive(&mut self, id: ConnId, work: impl FnOnce(&mut Connection, &mut Talk<'_>) -> Progress) {
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
    fn on_deadlines(&mut self) {
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

/// What a connection sees of its shard.
struct Talk<'a> {
    line: &'a mut Line,
    shard: &'a mut Shard,
    now: Instant,
}

impl Host for Talk<'_> {
    fn upgraded(&mut self, upgrade: &Upgrade<'_>) {
        let version = Version::parse_subprotocol(upgrade.subprotocol).unwrap_or(Version::LATEST);
        if self.line.version.replace(version).is_some() {
            // The engine knows the connection by its HTTP requests; from here on it is another one.
            self.shard.on_closed(self.line.id, self.now);
        }
        self.shard.on_accept(
            self.line.id,
            Peer {
                ip: ip_text(self.line.peer),
                version,
            },
            self.now,
        );
    }

    fn message(&mut self, text: &str) -> Flow {
        if self.shard.on_request(self.line.id, text, self.now) {
            Flow::Continue
        } else {
            Flow::Stop
        }
    }

    fn request(&mut self, request: TlcpRequest<'_>) {
        let TlcpRequest {
            version,
            http,
            terms,
        } = request;
        let id = self.line.id;
        self.line.version = Some(version);
        self.line.response = Some(Responding::new(terms));
        let peer = Peer {
            ip: ip_text(self.line.peer),
            version,
        };
        // Whether it has moved or not, it is held back until the response is complete.
        self.shard.on_http_request(id, peer, http, self.now);
        if self.line.blocked_since.is_some() {
            // By an answer of ours, when the engine did not know the connection.
            self.shard.on_blocked(id, self.now);
        }
    }

    fn reply(&mut self) -> &mut Vec<u8> {
        &mut self.line.reply
    }

    fn close(&mut self) {} // told by the progress as well

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Frames what the pump writes, behind what the connection itself has to say.
struct Out<'a, R> {
    reactor: &'a mut R,
    links: &'a mut [Option<Link>],
    answered: &'a mut Vec<ConnId>,
    settings: &'a Settings,
    start: usize,
}

impl<R: Reactor> Outbox for Out<'_, R> {
    #[inline]
    fn open(&mut self, _conn: ConnId) -> &mut Vec<u8> {
        let buffer = self.reactor.buffer();
        self.start = outbox::begin(buffer);
        buffer
    }

    #[inline]
    fn send(&mut self, conn: ConnId, part: Part) {
        let buffer = self.reactor.buffer();
        let line = line_mut(self.links, conn);
        let from = match part {
            Part::Message if outbox::is_empty(buffer, self.start) => {
                return outbox::cancel(buffer, self.start);
            }
            Part::Message => outbox::finish(buffer, self.start),
            Part::Response | Part::Stream { .. } => {
                let Some(line) = line else {
                    return outbox::cancel(buffer, self.start);
                };
                let Some(response) = &mut line.response else {
                    debug_assert!(false, "a response to no request");
                    return outbox::cancel(buffer, self.start);
                };
                let now = SystemTime::now();
                let from = response.frame(buffer, self.start, part, self.settings, now);
                if response.ended().is_some() {
                    self.answered.push(conn);
                }
                let Some(from) = from else { return };
                return send(self.reactor, Some(line), from);
            }
        };
        send(self.reactor, line, from);
    }
}

/// Sends what lies in the hot buffer from an index on, behind the connection's own answers: that to the upgrade, a
/// pong, those to earlier requests.
#[inline]
fn send(reactor: &mut impl Reactor, line: Option<&mut Line>, from: usize) {
    let Some(line) = line else {
        return;
    };
    if !line.reply.is_empty() {
        let buffer = reactor.buffer();
        buffer.splice(from..from, line.reply.drain(..));
        line.reply = Vec::new();
    }
    reactor.send(line.id, from);
}

impl Line {
    fn new(id: ConnId, peer: SocketAddr, now: Instant) -> Self {
        Self {
            id,
            peer,
            version: None,
            reply: Vec::new(),
            response: None,
            answered: false,
            blocked_since: None,
            finished: false,
            paused: false,
            waits_since: now,
        }
    }

    /// The response is complete.
    fn has_ended(&self) -> bool {
        self.response
            .as_ref()
            .is_some_and(|response| response.ended().is_some())
    }
}

impl Deadlines {
    fn start(&mut self, id: ConnId, now: Instant) {
        self.queue.push_back((now + self.after, id));
    }

    fn expired(&mut self, now: Instant) -> Option<ConnId> {
        let (at, id) = *self.queue.front()?;
        (at <= now).then(|| {
            self.queue.pop_front();
            id
        })
    }

    fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }
}

#[inline]
fn line_mut(links: &mut [Option<Link>], id: ConnId) -> Option<&mut Line> {
    links
        .get_mut(id.slot as usize)?
        .as_mut()
        .map(|link| &mut link.line)
        .filter(|line| line.id == id)
}

/// An address as `CLIENTIP` tells it: an IPv4 client of a dual-stack socket is shown as what it is.
fn ip_text(peer: SocketAddr) -> Box<str> {
    peer.ip().to_canonical().to_string().into()
}
