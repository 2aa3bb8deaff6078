//! The world: ingest and shards driven inline on a virtual clock, with everything between them modelled.
//!
//! The duty cycles are those of the real driver (see [`crate::shard`] for the order of work in a turn); what lies
//! between the halves is made of vectors: data rings with a bound in bytes, queues whose entries arrive after a delay
//! that the seed chooses, sockets that take nothing while their client stalls. Nothing depends on wall time or on the
//! order of a hash table, so the same calls with the same seed give the same run.

mod pipes;

use crate::ids::{ConnId, DataAdapterId, ItemId, ShardId};
use crate::ingest::demand::Demand;
use crate::ingest::event::AdapterEvent;
use crate::ingest::record;
use crate::ingest::{Ingest, IngestEffect};
use crate::limits::Limits;
use crate::metadata::{AdapterSets, Answer, Ask, Granted, Question, literal::Literal};
use crate::shard::session_id::RANDOM_BYTES;
use crate::shard::{
    Config, Effect, HttpRequest, MovedRequest, Outbox, Part, Peer, Shard, ShardMessage,
};
use crate::text::CRLF;
use crate::time::{Duration, Instant};
use crate::tlcp::Version;
use crate::tlcp::cause::{Cause, Refusal};
use crate::tlcp::request::Verb;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use pipes::{ByteRings, Pipe};

/// A client's connection, numbered over the whole life of the world.
pub type WireId = usize;

/// What the world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chooses every delay and every skipped turn.
    pub seed: u64,
    /// What each shard is told; number and count of shards are filled in.
    pub config: Config,
    /// Number of shards.
    pub shards: u16,
    /// Capacity of a shard's data ring. Must fit the largest record with its names.
    pub ring_bytes: usize,
    /// Messages that may be under way to one shard from others.
    pub mail_max: usize,
    /// What travels between cores takes up to this long; zero delivers in the next turn.
    pub delay_max: Duration,
    /// What a metadata adapter takes to answer.
    pub answer_delay: Duration,
    /// How long ingest keeps an item that nobody wants.
    pub linger: Duration,
    /// Who answers questions.
    pub sets: AdapterSets,
    /// What the metadata adapters say to messages that begin with these words; `None` is nothing at all. All other
    /// messages are answered by `sets`.
    pub message_answers: BTreeMap<Box<str>, Option<Result<Granted, Refusal>>>,
    /// What they say to the sessions of these users, and to subscriptions of these groups.
    pub user_answers: BTreeMap<Box<str>, Option<Result<Granted, Refusal>>>,
    /// The latter.
    pub group_answers: BTreeMap<Box<str>, Option<Result<Granted, Refusal>>>,
    /// Whether the data adapter has a snapshot of an item.
    pub snapshot_available: fn(&str) -> bool,
    /// Plants a bug: each n-th update record is lost on its way. For testing the tests.
    pub lose_record_each: Option<u64>,
}

impl Default for Options {
    /// One shard, no delays, large rings; adapter sets `DEFAULT` and `DEMO` with MERGE items in the adapters `DEFAULT`
    /// and `QUOTE`; items named `live...` come without a snapshot.
    fn default() -> Self {
        let mut sets = AdapterSets::default();
        sets.add("DEFAULT", Literal::default(), &["DEFAULT", "QUOTE"]);
        sets.add("DEMO", Literal::default(), &["DEFAULT", "QUOTE"]);
        Self {
            seed: 0,
            config: Config::default(),
            shards: 1,
            ring_bytes: 1 << 20,
            mail_max: 1 << 16,
            delay_max: Duration::ZERO,
            answer_delay: Duration::ZERO,
            linger: Duration::from_secs(5),
            sets,
            message_answers: BTreeMap::new(),
            user_answers: BTreeMap::new(),
            group_answers: BTreeMap::new(),
            snapshot_available: |name| !name.starts_with("live"),
            lose_record_each: None,
        }
    }
}

/// What reaches those outside: clients and data adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client receives a message.
    Message {
        /// On this connection.
        wire: WireId,
        /// When the server wrote it; later than that if the client stalled.
        written: Instant,
        /// Whole lines.
        bytes: Vec<u8>,
    },
    /// An HTTP response begins whose length is told before it: so many bytes at most follow.
    Length(WireId, u64),
    /// An HTTP response is complete.
    End(WireId),
    /// The server has closed a connection.
    Closed(WireId),
    /// A data adapter is asked for an item.
    Subscribe(DataAdapterId, Box<str>),
    /// A data adapter is told that an item is wanted no more.
    Unsubscribe(DataAdapterId, Box<str>),
    /// A metadata adapter gets a message.
    UserMessage {
        /// The session of the client.
        session: Box<str>,
        /// The message.
        message: Box<str>,
    },
    /// A metadata adapter is told that something is over.
    Notice(Question),
}

/// What happens to an item, as a data adapter tells it.
#[derive(Clone, Copy, Debug)]
pub enum Say<'a> {
    /// New values, as part of the snapshot or live.
    Update {
        /// Whether it is the snapshot.
        snapshot: bool,
        /// Names and values.
        fields: &'a [(&'a str, Option<&'a str>)],
    },
    /// The snapshot is over.
    EndOfSnapshot,
    /// The state is void.
    Clear,
}

/// Ingest, shards, and all between and around them.
pub struct World {
    options: Options,
    now: Instant,
    ingest: Ingest,
    rings: ByteRings,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    /// Connections with messages that no shard has read yet.
    unread: BTreeSet<WireId>,
    /// The items that data adapters have been asked for.
    subscribed: BTreeMap<(DataAdapterId, Box<str>), ItemId>,
    events: VecDeque<Event>,
    rng: fastrand::Rng,
}

/// A shard with its queues and its table of connections.
struct Node {
    shard: Shard,
    demand: Pipe<Demand>,
    ask: Pipe<Ask>,
    answer: Pipe<Answer>,
    mail: Pipe<Mail>,
    slots: Vec<ConnSlot>,
}

#[derive(Default)]
struct ConnSlot {
    generation: u32,
    wire: Option<WireId>,
}

/// What goes from shard to shard.
enum Mail {
    Message(ShardId, ShardMessage),
    Moved {
        wire: WireId,
        request: MovedRequest,
        lines: Box<[u8]>,
    },
}

/// One connection, from the first byte to the last.
struct Wire {
    peer: Peer,
    place: Place,
    /// How far the exchange is, if the client speaks HTTP and no WebSocket.
    http: Option<Http>,
    /// Messages or HTTP requests of the client that the server has not read.
    unread: VecDeque<Said>,
    /// The client reads nothing.
    stalled: bool,
    /// What was written while the client did not read: the socket holds it.
    stuck: Option<(Instant, Vec<u8>)>,
}

/// What a client sends.
enum Said {
    Message(String),
    Request {
        verb: Verb,
        query: String,
        body: String,
    },
}

/// An HTTP connection.
#[derive(Default)]
struct Http {
    /// Its responses' lengths must be told before them.
    identity: bool,
    /// A request is being answered; the next one waits.
    answering: bool,
    /// What was told of the length of the response under way, and what has been written of it.
    length: Option<u64>,
    written: u64,
    /// The response is complete, but the client has not read all of it.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    At(ShardId, ConnId),
    Moving,
    Closed,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(options: Options) -> Self {
        let sessions = Rc::new(Cell::new(0_u32));
        let node = |shard| {
            let config = Config {
                shard: ShardId(shard),
                shards: options.shards,
                ..options.config.clone()
            };
            let sessions = Rc::clone(&sessions);
            // Not random at all: the n-th session of a world always has the same id.
            let random = move || {
                sessions.set(sessions.get() + 1);
                let mut bytes = [0; RANDOM_BYTES];
                bytes[RANDOM_BYTES - 4..].copy_from_slice(&sessions.get().to_be_bytes());
                bytes
            };
            Node {
                shard: Shard::new(config, random),
                demand: Pipe::default(),
                ask: Pipe::default(),
                answer: Pipe::default(),
                mail: Pipe::default(),
                slots: Vec::new(),
            }
        };
        Self {
            now: Instant::ZERO,
            ingest: Ingest::new(
                usize::from(options.shards),
                options.linger,
                options.config.limits.clone(),
            ),
            rings: ByteRings::new(&options),
            nodes: (0..options.shards).map(node).collect(),
            wires: Vec::new(),
            unread: BTreeSet::new(),
            subscribed: BTreeMap::new(),
            events: VecDeque::new(),
            rng: fastrand::Rng::with_seed(options.seed),
            options,
        }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The half that keeps the items.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    /// The halves that keep the clients.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.nodes.iter().map(|node| &node.shard)
    }

    /// What has reached clients and data adapters, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A client opens a WebSocket, which lands on this shard.
    pub fn connect(&mut self, shard: ShardId, version: Version) -> WireId {
        self.connect_as(shard, Peer::new(CLIENT_IP, version))
    }

    /// The same, by a client of which more is known.
    pub fn connect_as(&mut self, shard: ShardId, peer: Peer) -> WireId {
        let (wire, conn) = self.open(shard, peer.clone(), None);
        self.nodes[usize::from(shard.0)]
            .shard
            .on_accept(conn, peer, self.now);
        wire
    }

    /// A client opens a connection for HTTP, which lands on this shard. With `identity`, the lengths of responses must
    /// be told before them, and a stream is the last of them.
    pub fn connect_http(&mut self, shard: ShardId, version: Version, identity: bool) -> WireId {
        self.connect_http_as(shard, Peer::new(CLIENT_IP, version), identity)
    }

    /// The same, by a client of which more is known.
    pub fn connect_http_as(&mut self, shard: ShardId, peer: Peer, identity: bool) -> WireId {
        let http = Http {
            identity,
            ..Http::default()
        };
        self.open(shard, peer, Some(http)).0
    }

    fn open(&mut self, shard: ShardId, peer: Peer, http: Option<Http>) -> (WireId, ConnId) {
        let wire = self.wires.len();
        self.wires.push(Wire {
            peer,
            place: Place::Closed,
            http,
            unread: VecDeque::new(),
            stalled: false,
            stuck: None,
        });
        (wire, self.settle_in(wire, shard))
    }

    /// A client sends a message; the server reads it in its next turn.
    pub fn send(&mut self, wire: WireId, message: impl Into<String>) {
        self.say_to_server(wire, Said::Message(message.into()));
    }

    /// A client sends a request over HTTP; the server reads it in its next turn, once it has answered those before.
    pub fn request(&mut self, wire: WireId, verb: Verb, query: &str, body: &str) {
        let (query, body) = (query.to_owned(), body.to_owned());
        self.say_to_server(wire, Said::Request { verb, query, body });
    }

    /// Whether the connection is one for HTTP.
    pub fn is_http(&self, wire: WireId) -> bool {
        self.wires[wire].http.is_some()
    }

    fn say_to_server(&mut self, wire: WireId, said: Said) {
        if self.is_open(wire) {
            self.wires[wire].unread.push_back(said);
            self.unread.insert(wire);
        }
    }

    /// A client closes its connection, or the network does. What it has not read is lost.
    pub fn close(&mut self, wire: WireId) {
        if let Place::At(shard, conn) = self.wires[wire].place {
            self.forget(wire, Place::Closed);
            self.nodes[usize::from(shard.0)]
                .shard
                .on_closed(conn, self.now);
        }
        self.wires[wire].place = Place::Closed;
        self.wires[wire].stuck = None;
        self.unread.remove(&wire);
    }

    /// An administrator closes a session.
    pub fn close_session(&mut self, id: &str, cause: &Cause) {
        let now = self.now;
        let mut shards = self.nodes.iter_mut().map(|node| &mut node.shard);
        shards.any(|shard| shard.close_session(id, cause, now));
    }

    /// Whether neither end has closed the connection.
    pub fn is_open(&self, wire: WireId) -> bool {
        self.wires[wire].place != Place::Closed
    }

    /// Whether the client has received all that was written to it.
    pub fn is_drained(&self, wire: WireId) -> bool {
        self.wires[wire].stuck.is_none()
    }

    /// A client stops reading. The socket takes one more message.
    pub fn stall(&mut self, wire: WireId) {
        self.wires[wire].stalled = true;
    }

    /// A client reads again.
    pub fn resume(&mut self, wire: WireId) {
        self.wires[wire].stalled = false;
        let Some((written, bytes)) = self.wires[wire].stuck.take() else {
            return;
        };
        self.events.push_back(Event::Message {
            wire,
            written,
            bytes,
        });
        if let Some(http) = &mut self.wires[wire].http
            && std::mem::take(&mut http.ended)
        {
            http.answering = false;
            self.events.push_back(Event::End(wire));
        }
        if let Place::At(shard, conn) = self.wires[wire].place {
            self.nodes[usize::from(shard.0)]
                .shard
                .on_writable(conn, self.now);
        }
    }

    /// A data adapter says something about an item that it was asked for; otherwise nobody hears it.
    pub fn say(&mut self, adapter: DataAdapterId, name: &str, what: Say<'_>) {
        if let Some(item) = self.number(adapter, name) {
            self.say_of(item, what);
        }
    }

    /// The number under which an item was asked for, if it is wanted now.
    pub fn number(&self, adapter: DataAdapterId, name: &str) -> Option<ItemId> {
        self.subscribed.get(&(adapter, name.into())).copied()
    }

    /// A data adapter says something under a number that it may not use any more.
    pub fn say_of(&mut self, item: ItemId, what: Say<'_>) {
        let event = match what {
            Say::Update { snapshot, fields } => AdapterEvent::Update {
                item,
                snapshot,
                fields,
            },
            Say::EndOfSnapshot => AdapterEvent::EndOfSnapshot { item },
            Say::Clear => AdapterEvent::ClearSnapshot { item },
        };
        self.ingest.on_adapter(event, self.now, &mut self.rings);
    }

    /// Runs until nothing is left to be done at this moment.
    ///
    /// # Panics
    /// If that never comes.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.turn(0) {
                return;
            }
        }
        panic!("the world finds no rest at {:?}", self.now);
    }

    /// Jumps to the next time at which something is due, and settles. False if nothing ever is.
    pub fn step(&mut self) -> bool {
        let Some(next) = self.next_deadline() else {
            return false;
        };
        self.now = self.now.max(next);
        self.settle();
        true
    }

    /// Lets time pass, with everything that happens meanwhile.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        self.settle();
        while self.next_deadline().is_some_and(|next| next <= until) {
            self.step();
        }
        self.now = until;
        self.settle();
    }

    /// Lets a little time pass in one jump, without a turn: the cores were busy elsewhere.
    pub fn skip(&mut self, by: Duration) {
        self.now += by;
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let nodes = self.nodes.iter().flat_map(|node| {
            [
                node.shard.next_deadline(),
                node.demand.next(),
                node.ask.next(),
                node.answer.next(),
                node.mail.next(),
            ]
        });
        nodes.flatten().chain(self.ingest.next_deadline()).min()
    }

    /// Each core does one turn, or, with `lazy` of 100 chances, lets it pass, or reads little where it could read much.
    /// Returns whether there was anything to do.
    pub fn turn(&mut self, lazy: u8) -> bool {
        let mut busy = false;
        if self.rng.u8(..100) >= lazy {
            busy |= self.ingest_turn();
        }
        for index in 0..self.nodes.len() {
            if self.rng.u8(..100) < lazy {
                continue;
            }
            let budget = if self.rng.u8(..100) < lazy {
                self.rng.usize(..self.options.ring_bytes)
            } else {
                usize::MAX
            };
            busy |= self.shard_turn(index, budget);
        }
        busy
    }

    /// Bytes under way on data rings, and entries on all queues between cores.
    pub fn under_way(&self) -> (usize, usize) {
        let entries = |node: &Node| {
            node.demand.queue.len()
                + node.ask.queue.len()
                + node.answer.queue.len()
                + node.mail.queue.len()
        };
        (
            self.rings.rings.iter().map(Vec::len).sum(),
            self.nodes.iter().map(entries).sum(),
        )
    }

    fn ingest_turn(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.nodes.len() {
            let shard = ShardId(u16::try_from(index).expect("shards are few"));
            while let Some(demand) = self.nodes[index].demand.pop(self.now) {
                self.ingest
                    .on_demand(shard, demand, self.now, &mut self.rings);
                busy = true;
            }
            while let Some(ask) = self.nodes[index].ask.pop(self.now) {
                let Some(answer) = self.answer(shard, &ask) else {
                    continue;
                };
                let at = self.arrival() + self.options.answer_delay;
                self.nodes[index].answer.push(at, answer);
                busy = true;
            }
        }
        self.ingest.on_timers(self.now);
        self.ingest.flush(&mut self.rings);
        while let Some(effect) = self.ingest.poll_effect() {
            busy = true;
            match effect {
                IngestEffect::Subscribe {
                    adapter,
                    item,
                    name,
                } => {
                    let available = (self.options.snapshot_available)(&name);
                    self.ingest.on_subscribed(item, available);
                    let before = self.subscribed.insert((adapter, name.clone()), item);
                    assert_eq!(before, None, "{name} is asked for twice");
                    self.events.push_back(Event::Subscribe(adapter, name));
                }
                IngestEffect::Unsubscribe { adapter, item } => {
                    let found = self.subscribed.iter().find(|(_, known)| **known == item);
                    let key = found.expect("given back though not asked for").0.clone();
                    assert_eq!(key.0, adapter);
                    self.subscribed.remove(&key);
                    self.events.push_back(Event::Unsubscribe(adapter, key.1));
                }
            }
        }
        busy
    }

    /// What a metadata adapter says, if anything.
    fn answer(&mut self, shard: ShardId, ask: &Ask) -> Option<Answer> {
        let mut answer = self.options.sets.answer(shard, ask);
        let scripted = match &ask.question {
            Question::Message {
                session, message, ..
            } => {
                self.events.push_back(Event::UserMessage {
                    session: session.clone(),
                    message: message.clone(),
                });
                let word = message.split(' ').next().unwrap_or_default();
                self.options.message_answers.get(word)
            }
            Question::OpenSession { user, .. } => user
                .as_ref()
                .and_then(|user| self.options.user_answers.get(user)),
            Question::Subscribe { group, .. } => self.options.group_answers.get(group),
            notice @ (Question::SessionClosed { .. } | Question::Unsubscribed { .. }) => {
                self.events.push_back(Event::Notice(notice.clone()));
                None
            }
        };
        if let Some(scripted) = scripted {
            answer.result = scripted.clone()?;
        }
        Some(answer)
    }

    fn shard_turn(&mut self, index: usize, budget: usize) -> bool {
        let now = self.now;
        let mut busy = false;
        let mut spent = Vec::new();

        let ring = &mut self.rings.rings[index];
        if !ring.is_empty() {
            // At least one record, or a small budget would never get past a large one.
            let first = record::length(ring).expect("a ring holds whole records");
            let take = record::split(&ring[..budget.clamp(first, ring.len().max(first))]);
            self.nodes[index].shard.on_records(&ring[..take], now);
            ring.drain(..take);
            busy = true;
        }
        while let Some(answer) = self.nodes[index].answer.pop(now) {
            self.nodes[index].shard.on_answer(answer, now);
            busy = true;
        }
        while let Some(mail) = self.nodes[index].mail.pop(now) {
            self.deliver(index, mail);
            busy = true;
        }
        busy |= self.read_requests(index);
        let node = &mut self.nodes[index];
        if node.shard.next_deadline().is_some_and(|at| at <= now) {
            node.shard.on_timers(now);
            busy = true;
        }
        if node.shard.has_output() {
            busy = true;
            let mut outbox = Sockets {
                now,
                slots: &node.slots,
                wires: &mut self.wires,
                events: &mut self.events,
                buffer: Vec::new(),
                blocked: Vec::new(),
                spent: Vec::new(),
            };
            node.shard.pump(now, &mut outbox);
            spent = outbox.spent;
            for conn in outbox.blocked {
                node.shard.on_blocked(conn, now);
            }
        }
        while let Some(effect) = self.nodes[index].shard.poll_effect() {
            self.carry_out(index, effect);
            busy = true;
        }
        for wire in spent {
            if self.is_open(wire) {
                self.close(wire);
                self.events.push_back(Event::Closed(wire));
            }
        }
        busy
    }

    fn read_requests(&mut self, index: usize) -> bool {
        let here = |place: Place| match place {
            Place::At(shard, conn) if usize::from(shard.0) == index => Some(conn),
            _ => None,
        };
        let mut busy = false;
        for wire in self.unread.clone() {
            let Some(conn) = here(self.wires[wire].place) else {
                continue;
            };
            // Bounded, as the real driver's reads are; the rest is for the next turn.
            for _ in 0..REQUESTS_PER_TURN {
                let Wire {
                    http, unread, peer, ..
                } = &mut self.wires[wire];
                if http.as_ref().is_some_and(|http| http.answering) {
                    break;
                }
                let Some(said) = unread.pop_front() else {
                    break;
                };
                busy = true;
                let shard = &mut self.nodes[index].shard;
                let stays = match said {
                    Said::Message(message) => shard.on_request(conn, &message, self.now),
                    Said::Request { verb, query, body } => {
                        let http = http.as_mut().expect("requests come over HTTP");
                        http.answering = true;
                        let request = HttpRequest {
                            verb,
                            query: &query,
                            body: &body,
                            identity: http.identity,
                        };
                        shard.on_http_request(conn, peer.clone(), request, self.now)
                    }
                };
                if !stays {
                    break;
                }
            }
            if self.wires[wire].unread.is_empty() {
                self.unread.remove(&wire);
            }
        }
        busy
    }

    fn deliver(&mut self, index: usize, mail: Mail) {
        let shard = ShardId(u16::try_from(index).expect("shards are few"));
        match mail {
            Mail::Message(from, message) => {
                self.nodes[index].shard.on_message(from, message, self.now)
            }
            Mail::Moved {
                wire,
                request,
                lines,
            } => {
                if self.wires[wire].place != Place::Moving {
                    return; // closed on the way
                }
                let conn = self.settle_in(wire, shard);
                let peer = self.wires[wire].peer.clone();
                let node = &mut self.nodes[index];
                node.shard.on_moved(conn, peer, &lines, &request, self.now);
                if self.wires[wire].stuck.is_some() {
                    self.nodes[index].shard.on_blocked(conn, self.now);
                }
            }
        }
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let from = ShardId(u16::try_from(index).expect("shards are few"));
        let at = self.arrival();
        match effect {
            Effect::Demand(demand) => self.nodes[index].demand.push(at, demand),
            Effect::Ask(ask) => self.nodes[index].ask.push(at, ask),
            Effect::Tell { shard, message } => {
                assert_ne!(shard, from, "a shard talks to itself");
                let mail = &mut self.nodes[usize::from(shard.0)].mail;
                if mail.queue.len() < self.options.mail_max {
                    mail.push(at, Mail::Message(from, message));
                } else {
                    self.nodes[index].shard.on_undelivered(message);
                }
            }
            Effect::Move {
                conn,
                shard,
                request,
                lines,
            } => {
                let wire = self.wire_of(index, conn);
                self.forget(wire, Place::Moving);
                let mail = &mut self.nodes[usize::from(shard.0)].mail;
                if mail.queue.len() < self.options.mail_max {
                    mail.push(
                        at,
                        Mail::Moved {
                            wire,
                            request,
                            lines,
                        },
                    );
                } else {
                    self.close_by_server(wire);
                }
            }
            Effect::Close(conn) => {
                let wire = self.wire_of(index, conn);
                self.forget(wire, Place::Closed);
                self.close_by_server(wire);
            }
        }
    }

    fn close_by_server(&mut self, wire: WireId) {
        self.wires[wire].place = Place::Closed;
        self.wires[wire].stuck = None;
        self.unread.remove(&wire);
        self.events.push_back(Event::Closed(wire));
    }

    /// When something sent to another core now gets there.
    fn arrival(&mut self) -> Instant {
        let nanos = u64::try_from(self.options.delay_max.as_nanos()).expect("a short time");
        self.now + Duration::from_nanos(self.rng.u64(..=nanos))
    }

    /// Gives a connection a slot in a shard's table.
    fn settle_in(&mut self, wire: WireId, shard: ShardId) -> ConnId {
        let slots = &mut self.nodes[usize::from(shard.0)].slots;
        let slot = slots
            .iter()
            .position(|slot| slot.wire.is_none())
            .unwrap_or_else(|| {
                slots.push(ConnSlot::default());
                slots.len() - 1
            });
        slots[slot].generation += 1;
        slots[slot].wire = Some(wire);
        let conn = ConnId {
            slot: u32::try_from(slot).expect("few connections"),
            generation: slots[slot].generation,
        };
        self.wires[wire].place = Place::At(shard, conn);
        if !self.wires[wire].unread.is_empty() {
            self.unread.insert(wire);
        }
        conn
    }

    fn wire_of(&self, index: usize, conn: ConnId) -> WireId {
        let slot = &self.nodes[index].slots[conn.slot as usize];
        assert_eq!(
            slot.generation, conn.generation,
            "a connection that is gone"
        );
        slot.wire.expect("a connection that is gone")
    }

    /// Frees the connection's slot.
    fn forget(&mut self, wire: WireId, place: Place) {
        if let Place::At(shard, conn) = self.wires[wire].place {
            self.nodes[usize::from(shard.0)].slots[conn.slot as usize].wire = None;
        }
        self.wires[wire].place = place;
    }
}

/// What a shard reads of one connection in one turn.
const REQUESTS_PER_TURN: usize = 16;

/// The limits of a world with small rings: its largest record must fit.
pub fn small_limits() -> Limits {
    Limits {
        turn_bytes_max: 2_000,
        fields_per_item_max: 64,
        field_name_bytes_max: 32,
        item_bytes_max: 4_000,
        ..Limits::DEFAULT
    }
}

/// The sockets of one shard, for the length of a pump.
struct Sockets<'a> {
    now: Instant,
    slots: &'a [ConnSlot],
    wires: &'a mut [Wire],
    events: &'a mut VecDeque<Event>,
    buffer: Vec<u8>,
    blocked: Vec<ConnId>,
    /// Connections that are of no use after their last response.
    spent: Vec<WireId>,
}

/// Where all clients are that say nothing else.
pub const CLIENT_IP: &str = "127.0.0.1";

/// Stands for the frame header that a driver leaves room for.
const HEAD: &[u8] = b"\x81\x7e\0\0";

impl Outbox for Sockets<'_> {
    fn open(&mut self, _conn: ConnId) -> &mut Vec<u8> {
        self.buffer.clear();
        self.buffer.extend_from_slice(HEAD);
        &mut self.buffer
    }

    fn send(&mut self, conn: ConnId, part: Part) {
        let bytes = self
            .buffer
            .strip_prefix(HEAD)
            .expect("the head is untouched");
        let slot = &self.slots[conn.slot as usize];
        assert_eq!(
            slot.generation, conn.generation,
            "a connection that is gone"
        );
        let id = slot.wire.expect("a connection that is gone");
        let wire = &mut self.wires[id];
        assert_eq!(
            wire.http.is_some(),
            part != Part::Message,
            "{part:?} on the wrong kind of connection"
        );
        let ends = matches!(part, Part::Response | Part::Stream { last: true, .. });
        if bytes.is_empty() && !ends {
            return;
        }
        assert!(
            bytes.is_empty() || bytes.ends_with(CRLF),
            "a message ends with a line"
        );
        assert!(wire.stuck.is_none(), "written to though it is blocked");
        if let (Some(http), Part::Stream { content_length, .. }) = (&mut wire.http, part) {
            if http.length.is_none() && http.identity {
                self.events.push_back(Event::Length(id, content_length));
            }
            let length = *http.length.get_or_insert(content_length);
            http.written += bytes.len() as u64;
            assert!(http.written <= length, "more than the response may have");
        }
        if wire.stalled {
            wire.stuck = Some((self.now, bytes.to_vec()));
            self.blocked.push(conn);
        } else if !bytes.is_empty() {
            self.events.push_back(Event::Message {
                wire: id,
                written: self.now,
                bytes: bytes.to_vec(),
            });
        }
        if ends && let Some(http) = &mut wire.http {
            (http.length, http.written) = (None, 0);
            if http.identity && part != Part::Response {
                self.spent.push(id); // the rest of the promised length never comes
            }
            http.ended = wire.stalled;
            http.answering = wire.stalled;
            if !wire.stalled {
                self.events.push_back(Event::End(id));
            }
        }
    }
}
