//! One run: a random world, disturbed for a while, then left in peace and judged.

use super::clients::{Around, Client, Tally};
use super::feed::Feed;
use super::feed::cast::Role;
use super::feed::values::Values;
use super::oracle::Oracle;
use super::trace::{Detail, Trace};
use super::weather::Weather;
use super::world::insight::Inside;
use super::world::{Event, World};
use crate::counters::Counter;
use crate::limits::Gauge;
use crate::shard::canary::Bug;
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
    /// Number of shards, at most.
    pub shards: u16,
    /// Number of clients, at most.
    pub clients: usize,
    /// Number of items, at most.
    pub items: usize,
    /// A bug to be planted: the run should fail.
    pub bug: Option<Bug>,
    /// Print the trace.
    pub verbose: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            events: 20_000,
            shards: 4,
            clients: 300,
            items: 100,
            bug: None,
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
    /// Updates that clients received, each of them judged.
    pub updates: u64,
    /// Events that they were told to have lost.
    pub lost: u64,
    /// Messages that the metadata adapters got, each of them checked.
    pub messages: u64,
    /// Clients; and sessions that they had.
    pub clients: usize,
    /// The latter.
    pub sessions: u64,
    /// Counters of ingest and of all shards, added up.
    pub counters: BTreeMap<&'static str, u64>,
    /// What came closest to its bound: in hundredths of it.
    pub fullest: BTreeMap<&'static str, usize>,
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
            "{} ms, {} events, {} updates and {} losses judged, {} messages, {} clients, {} sessions, digest {:016x}",
            self.millis,
            self.events,
            self.updates,
            self.lost,
            self.messages,
            self.clients,
            self.sessions,
            self.digest
        )
    }
}

impl Report {
    /// The counters, and how full everything was; one line each.
    pub fn details(&self) -> String {
        let counters = self
            .counters
            .iter()
            .map(|(name, count)| format!("  {name} {count}\n"));
        let fullest = self
            .fullest
            .iter()
            .map(|(what, used)| format!("  {what}: {used} %\n"));
        counters.chain(fullest).collect()
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

/// Runs a plan; once more with a trace if it fails.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    match plan.verbose {
        true => attempt(plan, Detail::All),
        false => attempt(plan, Detail::None).or_else(|_| attempt(plan, Detail::Last)),
    }
}

fn attempt(plan: &Plan, detail: Detail) -> Result<Report, Box<Failure>> {
    let mut run = Run::new(plan, detail);
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
    /// By connection, whose it is.
    owners: Vec<usize>,
    trace: Trace,
    weather: Weather,
    fullest: BTreeMap<&'static str, usize>,
    digest: u64,
    turns: u64,
}

/// In calm, everything must be in order after this much time: longer than any timeout and any limit's wait.
const CALM_MAX: Duration = Duration::from_secs(900);
/// Clients that were away come back, and sessions that were lost are given up.
const CALM_MIN: Duration = Duration::from_secs(25);
/// So much later nothing is left of clients that went away.
const GONE: Duration = Duration::from_secs(90);
/// Turns from one look at how full everything is to the next.
const GAUGED_EACH: u64 = 50;

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, detail: Detail) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let (weather, options) = Weather::some(plan.shards, plan.bug, &mut rng);
        let values = Values::new(&mut rng);
        let roles = (0..rng.usize(1..=plan.items)).map(|number| Role::some(number, &mut rng));
        let roles: Vec<Role> = roles.collect();
        let feed = Feed::new(roles.len(), weather.limits.item_bytes_max, &mut rng);
        let mut world = World::new(options);
        world.show_inside();
        let clients = (0..rng.usize(1..=plan.clients))
            .map(|number| Client::new(number, Instant::from_millis(rng.u64(..2_000))))
            .collect();
        Self {
            plan,
            world,
            oracle: Oracle::new(values, roles),
            feed,
            clients,
            owners: Vec::new(),
            trace: Trace::new(detail),
            weather,
            fullest: BTreeMap::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            turns: 0,
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
            self.turns += 1;
            if self.turns.is_multiple_of(GAUGED_EACH) {
                self.gauge();
            }
        }
    }

    /// Nothing happens any more; all come back, and get what they are owed. Each client is judged at a moment at which
    /// it has that: there may be none at which all have, since some are always asked to bind again.
    fn calm_down(&mut self) {
        let (from, mut step) = (self.world.now(), Duration::from_millis(100));
        let mut open: Vec<usize> = (0..self.clients.len()).collect();
        while !open.is_empty() && self.world.now() < from + CALM_MAX {
            self.feed.rest(&mut self.world, &mut self.oracle);
            for client in 0..self.clients.len() {
                self.act(client, true);
            }
            self.world.advance(step);
            self.hand_out();
            if self.oracle.complaint().is_some() {
                return;
            }
            if self.world.now() > from + CALM_MIN {
                step = Duration::from_secs(1);
                open.retain(|client| self.waits_for(*client).is_some());
            }
        }
        self.gauge();
        if let Some(waiting) = open.first().and_then(|client| self.waits_for(*client)) {
            self.oracle.complain(format!("for ever: {waiting}"));
        }
        self.world.advance(Duration::from_secs(1)); // for what was just asked
        if self.world.under_way() != (0, 0) {
            self.oracle
                .complain(format!("still under way: {:?}", self.world.under_way()));
        }
    }

    /// What a client still waits for; if nothing, it is judged.
    fn waits_for(&mut self, client: usize) -> Option<String> {
        let client = &self.clients[client];
        let waiting = client.waits_for();
        if waiting.is_some() {
            return waiting;
        }
        let session = client.session()?;
        let owed = self.world.shards().find_map(|shard| shard.owed(session));
        match owed {
            Some(0) => {
                client.check_final(&mut self.oracle);
                None
            }
            _ => Some(format!("{client} is owed {owed:?}")),
        }
    }

    /// All leave, and nothing of them remains.
    fn wind_up(&mut self) {
        for client in 0..self.clients.len() {
            self.with(client, |client, around| client.quit(around));
        }
        self.world.advance(GONE);
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

    /// Looks whether everything is within its bound.
    fn gauge(&mut self) {
        let shards = self.world.shards().flat_map(|shard| shard.gauges());
        let gauges: Vec<Gauge> = shards.chain(self.world.ingest().gauges()).collect();
        for Gauge { what, used, max } in gauges {
            if used > max {
                let now = self.world.now().as_millis();
                self.oracle
                    .complain(format!("{now} ms: {what}: {used}, more than {max}"));
            }
            let fullest = self.fullest.entry(what).or_default();
            *fullest = (*fullest).max(used * 100 / max.max(1));
        }
    }

    fn act(&mut self, client: usize, calm: bool) {
        self.with(client, |client, around| client.act(calm, around));
    }

    fn with(&mut self, client: usize, what: impl FnOnce(&mut Client, &mut Around<'_>)) {
        let mut around = Around {
            world: &mut self.world,
            oracle: &mut self.oracle,
            rng: &mut self.rng,
            trace: &mut self.trace,
            owners: &mut self.owners,
            weather: &self.weather,
        };
        what(&mut self.clients[client], &mut around);
    }

    /// Gives everybody what has reached them.
    fn hand_out(&mut self) {
        while let Some(event) = self.world.poll_event() {
            let now = self.world.now();
            match event {
                Event::Message {
                    wire,
                    written,
                    bytes,
                } => {
                    self.mix(&written.as_nanos().to_le_bytes());
                    self.mix(&bytes);
                    self.with(self.owners[wire], |client, around| {
                        client.on_message(wire, written, &bytes, around)
                    });
                }
                Event::Length(..) | Event::End(_) | Event::Notice(_) => {}
                Event::Closed(wire) => {
                    self.with(self.owners[wire], |client, around| {
                        client.on_closed(wire, around)
                    });
                }
                Event::Subscribe(_, name) => {
                    self.trace.note(now, "feed", format_args!("{name} wanted"));
                    self.feed.on_subscribe(&name, &self.world, &mut self.oracle);
                }
                Event::Unsubscribe(_, name) => {
                    self.trace
                        .note(now, "feed", format_args!("{name} wanted no more"));
                    self.feed.on_unsubscribe(&name, &mut self.oracle);
                }
                Event::UserMessage { session, message } => {
                    self.trace.note(
                        now,
                        "adapter",
                        format_args!("message of {session}: {message}"),
                    );
                    if let Err(wrong) = self.oracle.delivered.on_message(&session, &message) {
                        self.oracle.complain(wrong);
                    }
                }
                Event::Inside(inside) => self.on_inside(inside),
            }
        }
    }

    fn on_inside(&mut self, inside: Inside) {
        self.trace
            .note(self.world.now(), "sim", format_args!("{inside:?}"));
        match inside {
            Inside::Wanted {
                tenancy,
                name,
                mode,
            } => self.oracle.wanted(tenancy, &name, mode),
            Inside::Active {
                session,
                sub_id,
                tenancies,
            } => {
                let mut clients = self.clients.iter_mut();
                if let Some(client) = clients.find(|client| client.session() == Some(&session)) {
                    client.on_active(sub_id, &tenancies, &self.oracle);
                }
            }
        }
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
        let total = |count: fn(&Tally) -> u64| -> u64 {
            self.clients.iter().map(|client| count(&client.tally)).sum()
        };
        Ok(Report {
            millis: self.world.now().as_millis(),
            events: self.feed.published(),
            updates: total(|tally| tally.updates),
            lost: total(|tally| tally.lost),
            messages: self.oracle.delivered.count,
            clients: self.clients.len(),
            sessions: total(|tally| tally.sessions),
            counters: Counter::ALL.iter().map(counted).collect(),
            fullest: self.fullest,
            digest: self.digest,
        })
    }
}
