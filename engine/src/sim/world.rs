//! The world: ingest and shards driven inline on a virtual clock, with everything between them modelled.
//!
//! The duty cycles are those of the real driver (see [`crate::shard`] for the order of work in a turn); what lies
//! between the halves is made of vectors: data rings with a bound in bytes, queues whose entries arrive after a delay
//! that the seed chooses, sockets that take nothing while their client stalls. Nothing depends on wall time or on the
//! order of a hash table, so the same calls with the same seed give the same run.

pub mod insight;
mod pipes;
mod turns;
mod wires;

use crate::ids::{DataAdapterId, ItemId, ShardId};
use crate::ingest::Ingest;
use crate::ingest::demand::Demand;
use crate::ingest::event::AdapterEvent;
use crate::metadata::{AdapterSets, Answer, Ask, Granted, GrantedItem, Question, literal::Literal};
use crate::shard::session_id::RANDOM_BYTES;
use crate::shard::{Config, Shard};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Cause, Refusal};
use crate::tlcp::client::complete_lines;
use crate::tlcp::request::Mode;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use insight::{Inside, Insight, Opened};
use pipes::{ByteRings, Pipe};
use turns::Mail;
use wires::{ConnSlot, Wire};

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
    /// What they say of each item of a subscription in this mode, on top of what `sets` says.
    pub grants: fn(&mut GrantedItem, Mode) -> Result<(), Refusal>,
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
            grants: |_, _| Ok(()),
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
    /// What outsiders cannot see; see [`World::show_inside`].
    Inside(Inside),
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
    /// Fields may be sent as differences: names with the letters of formats.
    Differences(&'a [(&'a str, Option<&'a str>)]),
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
    insight: Option<Insight>,
    rng: fastrand::Rng,
}

/// A shard with its queues and its table of connections.
struct Node {
    shard: Shard,
    demand: Pipe<Demand>,
    ask: Pipe<Ask>,
    answer: Pipe<(Answer, Option<Opened>)>,
    mail: Pipe<Mail>,
    slots: Vec<ConnSlot>,
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
            insight: None,
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

    /// The lines that have reached clients, in order, each with the time at which it was written. Events of other kinds are
    /// passed over; a message that is no text, or ends within a line, is a panic.
    pub fn lines_in_time(&mut self) -> Vec<(WireId, Instant, String)> {
        let mut lines = Vec::new();
        while let Some(event) = self.poll_event() {
            if let Event::Message {
                wire,
                written,
                bytes,
            } = event
            {
                let text = String::from_utf8(bytes).expect("what is sent is text");
                let whole = complete_lines(&text).expect("messages are whole lines");
                lines.extend(whole.map(|line| (wire, written, line.to_owned())));
            }
        }
        lines
    }

    /// The same without the times.
    pub fn lines(&mut self) -> Vec<(WireId, String)> {
        let lines = self.lines_in_time().into_iter();
        lines.map(|(wire, _, line)| (wire, line)).collect()
    }

    /// An administrator closes a session.
    pub fn close_session(&mut self, id: &str, cause: &Cause) {
        let now = self.now;
        let mut shards = self.nodes.iter_mut().map(|node| &mut node.shard);
        shards.any(|shard| shard.close_session(id, cause, now));
    }

    /// An administrator blocks new sessions on all shards, or no longer.
    pub fn block_sessions(&mut self, blocked: bool) {
        for node in &mut self.nodes {
            node.shard.block(blocked);
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
            Say::Differences(fields) => AdapterEvent::Differences { item, fields },
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
}

/// Where all clients are that say nothing else.
pub const CLIENT_IP: &str = "127.0.0.1";
