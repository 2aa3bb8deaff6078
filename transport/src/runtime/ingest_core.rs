//! The duty cycle of the ingest core: what shards want, what adapters say, what shards are sent.

use super::clock::Clock;
use super::host::{Host, Waiter};
use super::park::Park;
use super::rings::{Command, IngestRings};
use crate::adapter::RunningAdapter;
use crate::adapter::feed::{FeedCommand, Merging};
use crate::adapter::remote::MetadataInbox;
use engine::counters::Counters;
use engine::ids::{ItemId, ShardId};
use engine::ingest::{Ingest, IngestEffect};
use engine::metadata::{AdapterSetId, AdapterSets, Word};
use engine::time::{Duration, Instant};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Events that one turn takes from each data adapter: what one commit publishes. Their records fit a data ring of the
/// default size many times. (guess)
const EVENTS_PER_TURN: usize = 4096;
/// Questions that one turn takes from each shard. (guess)
const REQUESTS_PER_TURN: usize = 1024;

/// Ingest with its ends of the rings and its data adapters.
pub struct IngestCore {
    ingest: Ingest,
    sets: AdapterSets,
    /// By [`engine::ids::DataAdapterId`].
    adapters: Vec<Adapter>,
    rings: IngestRings,
    /// By shard: answers that did not fit the ring.
    answers: Vec<VecDeque<Word>>,
    /// The metadata adapters in other processes, with the sets that they decide for.
    metadata: Vec<(AdapterSetId, MetadataInbox)>,
    clock: Clock,
    stopped: bool,
}

struct Adapter {
    running: RunningAdapter,
    /// Commands that did not fit the ring: at most two per item.
    commands: VecDeque<FeedCommand>,
    /// Its items, if it wants to know which of them it may merge.
    merging: HashMap<ItemId, Merging>,
    reported_dead: bool,
}

impl IngestCore {
    /// `adapters` are in the order of their numbers in `sets`.
    pub fn new(
        ingest: Ingest,
        sets: AdapterSets,
        adapters: Vec<RunningAdapter>,
        metadata: Vec<(AdapterSetId, MetadataInbox)>,
        rings: IngestRings,
        clock: Clock,
    ) -> Self {
        let adapter = |running| Adapter {
            running,
            commands: VecDeque::new(),
            merging: HashMap::new(),
            reported_dead: false,
        };
        let answers = rings.answer.iter().map(|_| VecDeque::new()).collect();
        Self {
            ingest,
            sets,
            adapters: adapters.into_iter().map(adapter).collect(),
            rings,
            answers,
            metadata,
            clock,
            stopped: false,
        }
    }

    /// Takes turns on a host until the control core says stop, sleeping when there is nothing to do.
    pub async fn run(
        mut self,
        host: Host,
        mut waiter: Waiter,
        spin: Duration,
    ) -> io::Result<Counters> {
        let park = Arc::clone(self.park());
        let mut idle_since = None;
        loop {
            let worked = self.turn();
            if self.stopped {
                return Ok(self.finish());
            }
            if worked || !self.is_idle() {
                idle_since = None;
                host.yield_now().await;
                continue;
            }
            let now = self.clock.now();
            if now.since(*idle_since.get_or_insert(now)) < spin {
                std::hint::spin_loop();
                host.yield_now().await;
                continue;
            }
            park.going_to_sleep();
            if self.is_idle() {
                waiter
                    .wait(self.next_deadline().map(|at| at.since(now)))
                    .await?;
            }
            park.awake();
        }
    }

    /// Ends the adapters.
    pub fn finish(self) -> Counters {
        drop(self.metadata); // which tells them to stop
        for adapter in self.adapters {
            if let Err(panic) = adapter.running.stop() {
                tracing::error!("{panic}");
            }
        }
        self.ingest.counters().clone()
    }

    /// Ingest's sleep.
    pub fn park(&self) -> &Arc<Park> {
        &self.rings.park
    }

    /// Whether there is nothing to do but wait for others and for time.
    pub fn is_idle(&self) -> bool {
        self.rings.demand.iter().all(rtrb::Consumer::is_empty)
            && self.rings.ask.iter().all(rtrb::Consumer::is_empty)
            && self.rings.command.is_empty()
            && self
                .adapters
                .iter()
                .all(|adapter| adapter.running.inbox.is_empty() && adapter.commands.is_empty())
            && self.answers.iter().all(VecDeque::is_empty)
            && self.metadata.iter().all(|(_, inbox)| inbox.is_empty())
            && !self.ingest.owes()
    }

    /// When [`IngestCore::turn`] has something to do though nothing comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ingest.next_deadline()
    }

    /// One turn; whether it did anything.
    ///
    /// A shard posts its demands before it tells clients of subscriptions, and before questions that come behind. Ingest
    /// looks for demands before each question and each event: an event that was published because somebody is subscribed
    /// finds the item wanted, and a question that follows the end of a subscription finds it ended.
    pub fn turn(&mut self) -> bool {
        let now = self.clock.now();
        self.rings.data.refresh();
        let mut worked = self.take_demands(now);
        worked |= self.take_questions(now);
        self.ingest.on_timers(now);
        worked |= self.tell_adapters();
        worked |= self.take_events(now);
        self.ingest.flush(&mut self.rings.data);
        self.rings.data.commit();
        while let Ok(command) = self.rings.command.pop() {
            match command {
                Command::Stop => self.stopped = true,
                Command::Block(_) => {} // the shards open sessions
            }
        }
        worked
    }

    fn take_demands(&mut self, now: Instant) -> bool {
        let risen = self.rings.demands.rises();
        if risen {
            take_demands(&mut self.ingest, &mut self.rings, now);
        }
        risen
    }

    fn take_questions(&mut self, now: Instant) -> bool {
        let mut worked = false;
        for (_, inbox) in &mut self.metadata {
            for _ in 0..REQUESTS_PER_TURN {
                let Some((shard, word)) = inbox.take() else {
                    break;
                };
                let word = match word {
                    Word::Answer(mut answer) => {
                        self.ingest.claim(&mut answer);
                        Word::Answer(answer)
                    }
                    order @ Word::Order(_) => order,
                };
                // A session id that names a shard we do not have is none of ours.
                if let Some(words) = self.answers.get_mut(usize::from(shard.0)) {
                    words.push_back(word);
                }
            }
        }
        for (shard, words) in self.answers.iter_mut().enumerate() {
            for _ in 0..REQUESTS_PER_TURN {
                let Ok(ask) = self.rings.ask[shard].pop() else {
                    break;
                };
                if self.rings.demands.rises() {
                    take_demands(&mut self.ingest, &mut self.rings, now);
                }
                worked = true;
                let answer = match self.sets.elsewhere(&ask.question) {
                    Some(set) => {
                        let inbox = self.metadata.iter_mut().find(|(of, _)| *of == set);
                        let (_, inbox) = inbox.expect("each such set has one");
                        inbox.ask(shard_id(shard), ask)
                    }
                    None => {
                        for (_, inbox) in &mut self.metadata {
                            inbox.note(&ask.question);
                        }
                        Some(self.sets.answer(shard_id(shard), &ask))
                    }
                };
                words.extend(answer.map(|mut answer| {
                    self.ingest.claim(&mut answer);
                    Word::Answer(answer)
                }));
            }
            let waiting = words.len();
            while let Some(word) = words.pop_front() {
                if let Err(rtrb::PushError::Full(word)) = self.rings.answer[shard].push(word) {
                    words.push_front(word);
                    break;
                }
            }
            if words.len() < waiting {
                worked = true;
                self.rings.data.wake(shard_id(shard));
            }
        }
        worked
    }

    /// Passes on which items are wanted.
    fn tell_adapters(&mut self) -> bool {
        let mut worked = false;
        while let Some(effect) = self.ingest.poll_effect() {
            worked = true;
            match effect {
                IngestEffect::Subscribe {
                    adapter,
                    item,
                    name,
                } => {
                    let adapter = &mut self.adapters[usize::from(adapter.0)];
                    if let Some(available) = adapter.running.is_snapshot_available(&name) {
                        self.ingest.on_subscribed(item, available);
                    }
                    let merging = adapter.running.merges().then(Merging::default);
                    adapter
                        .merging
                        .extend(merging.clone().map(|merging| (item, merging)));
                    adapter.commands.push_back(FeedCommand::Subscribe {
                        item,
                        name: name.into(),
                        merging,
                    });
                }
                IngestEffect::Unsubscribe { adapter, item } => {
                    let adapter = &mut self.adapters[usize::from(adapter.0)];
                    adapter.merging.remove(&item);
                    adapter
                        .commands
                        .push_back(FeedCommand::Unsubscribe { item });
                }
                IngestEffect::Merging {
                    adapter,
                    item,
                    allowed,
                } => {
                    let adapter = &self.adapters[usize::from(adapter.0)];
                    if let Some(merging) = adapter.merging.get(&item) {
                        merging.allow(allowed);
                    }
                }
            }
        }
        for adapter in &mut self.adapters {
            if adapter.running.inbox.is_dead() {
                adapter.commands.clear();
            }
            while let Some(command) = adapter.commands.pop_front() {
                if let Err(command) = adapter.running.inbox.command(command) {
                    adapter.commands.push_front(command);
                    break;
                }
            }
        }
        worked
    }

    fn take_events(&mut self, now: Instant) -> bool {
        let Self {
            ingest,
            adapters,
            rings,
            ..
        } = self;
        let mut events = 0;
        for adapter in adapters {
            events += adapter.running.inbox.drain(EVENTS_PER_TURN, |event| {
                if rings.demands.rises() {
                    take_demands(ingest, rings, now);
                }
                ingest.on_adapter(event, now, &mut rings.data)
            });
            if adapter.running.inbox.is_dead() && !adapter.reported_dead {
                adapter.reported_dead = true;
                tracing::error!(
                    adapter = adapter.running.name(),
                    "a data adapter has ended; its items stay as they are"
                );
            }
        }
        events > 0
    }
}

/// All that shards have posted by now, which is no more than their rings hold.
fn take_demands(ingest: &mut Ingest, rings: &mut IngestRings, now: Instant) {
    for (shard, ring) in rings.demand.iter_mut().enumerate() {
        for _ in 0..ring.slots() {
            let Ok(demand) = ring.pop() else { break };
            ingest.on_demand(shard_id(shard), demand, now, &mut rings.data);
        }
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("shards are few"))
}
