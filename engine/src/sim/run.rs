//! One run: a random world, disturbed for a while, then left in peace and judged.

use super::clients::{Around, Client};
use super::feed::Feed;
use super::messages;
use super::oracle::Oracle;
use super::trace::Trace;
use super::world::{Event, Options, World, small_limits};
use crate::counters::Counter;
use crate::shard::Config;
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::fmt;

/// What shall be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Events that the feed publishes, at least.
    pub events: u64,
    /// Number of shards.
    pub shards: u16,
    /// Number of clients, at most.
    pub clients: usize,
    /// Number of items, at most.
    pub items: usize,
    /// Lose a record now and then: the run must fail.
    pub canary: bool,
    /// Print the trace.
    pub verbose: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            events: 20_000,
            shards: 3,
            clients: 200,
            items: 100,
            canary: false,
            verbose: false,
        }
    }
}

/// What came out of a run in which everything was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Virtual time.
    pub millis: u64,
    /// Events of the feed.
    pub events: u64,
    /// Updates that clients received, each of them checked.
    pub updates: u64,
    /// Messages that the metadata adapters got, each of them checked.
    pub messages: u64,
    /// Sessions that clients had.
    pub sessions: u64,
    /// Counters of ingest and of all shards, added up.
    pub counters: BTreeMap<&'static str, u64>,
    /// Over every byte that every client received, with its time: equal runs have equal digests.
    pub digest: u64,
}

/// What went wrong, and what led to it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// The first complaint.
    pub complaint: String,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ms, {} events, {} updates and {} messages checked, {} sessions, digest {:016x}",
            self.millis, self.events, self.updates, self.messages, self.sessions, self.digest
        )?;
        for (name, count) in &self.counters {
            writeln!(f, "  {name} {count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.complaint)?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}: {}", self.seed, self.complaint)
    }
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    let mut run = Run::new(plan);
    for stage in [Run::disturb, Run::calm_down, Run::wind_up] {
        stage(&mut run);
        if run.oracle.complaint().is_some() {
            break; // what follows would only hide it
        }
    }
    run.result()
}

struct Run<'a> {
    plan: &'a Plan,
    rng: fastrand::Rng,
    world: World,
    oracle: Oracle,
    feed: Feed,
    clients: Vec<Client>,
    trace: Trace,
    digest: u64,
    weather: Weather,
}

/// How busy the world is. Each seed has its own.
struct Weather {
    step_micros_max: u64,
    events_max: usize,
    acts_max: usize,
    lazy: u8,
}

/// The largest record of the feed with its names takes about 2,700 bytes: each ring fits that, and some not much more.
const RING_BYTES: std::ops::Range<usize> = 3_000..12_000;
/// In calm, everything must be in order after this much time: longer than any timeout and any limit's wait.
const CALM: Duration = Duration::from_secs(90);

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let mut options = Options {
            seed: rng.u64(..),
            config: Config {
                limits: small_limits(),
                ..Config::default()
            },
            shards: plan.shards,
            ring_bytes: rng.usize(RING_BYTES),
            mail_max: 8,
            delay_max: Duration::from_millis(rng.u64(0..4)),
            answer_delay: Duration::from_millis(rng.u64(0..30)),
            linger: Duration::from_millis(rng.u64(0..2_000)),
            lose_record_each: plan.canary.then_some(200),
            ..Options::default()
        };
        messages::set_answers(&mut options);
        let world = World::new(options);
        let weather = Weather {
            step_micros_max: rng.u64(1_000..20_000),
            events_max: rng.usize(1..30),
            acts_max: rng.usize(1..12),
            lazy: rng.u8(..95),
        };
        let items = rng.usize(1..=plan.items);
        let clients = (0..rng.usize(1..=plan.clients))
            .map(|number| Client::new(number, Instant::from_millis(rng.u64(..2_000))))
            .collect();
        Self {
            plan,
            world,
            oracle: Oracle::default(),
            feed: Feed::new(items),
            clients,
            trace: Trace::new(plan.verbose),
            digest: 0xcbf2_9ce4_8422_2325,
            weather,
            rng,
        }
    }

    /// The feed publishes, and everybody does what they should not.
    fn disturb(&mut self) {
        while self.feed.published() < self.plan.events && self.oracle.complaint().is_none() {
            let micros = self.rng.u64(..self.weather.step_micros_max);
            self.world.skip(Duration::from_micros(micros));
            for _ in 0..self.rng.usize(..=self.weather.events_max) {
                self.feed.act(
                    &mut self.world,
                    &mut self.oracle,
                    &mut self.rng,
                    &mut self.trace,
                );
            }
            for _ in 0..self.rng.usize(..=self.weather.acts_max) {
                let client = self.rng.usize(..self.clients.len());
                self.act(client, false);
                self.hand_out(); // what it would have read before its next act
            }
            self.world.turn(self.weather.lazy);
            self.hand_out();
        }
    }

    /// Nothing happens any more; all come back, and get what they are owed.
    fn calm_down(&mut self) {
        let until = self.world.now() + CALM;
        while self.world.now() < until && self.oracle.complaint().is_none() {
            self.feed.rest(&mut self.world);
            for client in 0..self.clients.len() {
                self.act(client, true);
            }
            self.world.advance(Duration::from_millis(100));
            self.hand_out();
        }
        if let Some(waiting) = self.clients.iter().find_map(Client::waits_for) {
            self.oracle.complain(format!("for ever: {waiting}"));
        }
        if self.world.under_way() != (0, 0) {
            self.oracle
                .complain(format!("still under way: {:?}", self.world.under_way()));
        }
        for client in &self.clients {
            client.check_final(&self.feed, &mut self.oracle);
        }
    }

    /// All leave, and nothing of them remains.
    fn wind_up(&mut self) {
        for client in 0..self.clients.len() {
            self.with(client, |client, around| client.quit(around));
        }
        self.world.advance(CALM);
        self.hand_out();
        let left = [
            ("sessions", self.world.shards().map(|s| s.sessions()).sum()),
            (
                "connections",
                self.world.shards().map(|s| s.connections()).sum(),
            ),
            (
                "items of shards",
                self.world.shards().map(|s| s.items()).sum(),
            ),
            (
                "moved addresses",
                self.world.shards().map(|s| s.moved_addresses()).sum(),
            ),
            ("items of ingest", self.world.ingest().items()),
        ];
        for (what, count) in left {
            if count > 0 {
                self.oracle
                    .complain(format!("{count} {what} are left in the end"));
            }
        }
    }

    fn act(&mut self, client: usize, calm: bool) {
        self.with(client, |client, around| client.act(calm, around));
    }

    fn with(&mut self, client: usize, what: impl FnOnce(&mut Client, &mut Around<'_>)) {
        let mut around = Around {
            world: &mut self.world,
            oracle: &mut self.oracle,
            feed: &self.feed,
            rng: &mut self.rng,
            trace: &mut self.trace,
            shards: self.plan.shards,
        };
        what(&mut self.clients[client], &mut around);
    }

    /// Gives everybody what has reached them.
    fn hand_out(&mut self) {
        while let Some(event) = self.world.poll_event() {
            self.feed.on_event(&event, &self.world, &mut self.oracle);
            match event {
                Event::Message {
                    wire,
                    written,
                    bytes,
                } => {
                    self.mix(&written.as_nanos().to_le_bytes());
                    self.mix(&bytes);
                    if let Some(client) = self.owner(wire) {
                        self.with(client, |client, around| {
                            client.on_message(wire, written, &bytes, around)
                        });
                    }
                }
                Event::Length(..) | Event::End(_) => {} // its clients speak WebSocket
                Event::Closed(wire) => {
                    if let Some(client) = self.owner(wire) {
                        self.with(client, |client, around| client.on_closed(wire, around));
                    }
                }
                Event::Subscribe(_, name) => {
                    self.trace
                        .note(self.world.now(), "feed", format_args!("{name} wanted"));
                }
                Event::Notice(_) => {}
                Event::UserMessage { session, message } => {
                    self.trace.note(
                        self.world.now(),
                        "adapter",
                        format_args!("message of {session}: {message}"),
                    );
                    if let Err(wrong) = self.oracle.delivered.on_message(&session, &message) {
                        self.oracle.complain(wrong);
                    }
                }
                Event::Unsubscribe(_, name) => {
                    self.trace.note(
                        self.world.now(),
                        "feed",
                        format_args!("{name} wanted no more"),
                    );
                }
            }
        }
    }

    fn owner(&self, wire: usize) -> Option<usize> {
        self.clients.iter().position(|client| client.owns(wire))
    }

    /// FNV-1a: not strong, but the same everywhere.
    fn mix(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn result(self) -> Result<Report, Box<Failure>> {
        if let Some(complaint) = self.oracle.complaint() {
            return Err(Box::new(Failure {
                seed: self.plan.seed,
                complaint: complaint.to_owned(),
                trace: self.trace.lines().map(str::to_owned).collect(),
            }));
        }
        let counted = |counter: &Counter| {
            let shards = self.world.shards().map(|shard| shard.counters());
            let count = shards
                .chain([self.world.ingest().counters()])
                .map(|counters| counters.get(*counter))
                .sum();
            (counter.name(), count)
        };
        Ok(Report {
            millis: self.world.now().as_millis(),
            events: self.feed.published(),
            updates: self.clients.iter().map(|client| client.updates).sum(),
            messages: self.oracle.delivered.count,
            sessions: self.clients.iter().map(|client| client.sessions).sum(),
            counters: Counter::ALL.iter().map(counted).collect(),
            digest: self.digest,
        })
    }
}
