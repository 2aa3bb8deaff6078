//! The duty cycle of a shard: wait, read, think, write, and nothing else.
//!
//! One thread runs one [`ShardCore`]: the engine's [`Shard`], the reactor with the sockets, and the shard's ends of the
//! rings. `ShardCore::turn` is the whole of it. Each step of a turn is bounded, so that no source starves another, and
//! all that a turn has to say to a client goes out in one send.

mod desk;
mod link;
mod posts;

use super::clock::Clock;
use super::ingest_core::IngestCore;
use super::rings::ShardRings;
use crate::adapter::Manners;
use crate::net::connection::Settings;
use crate::net::response::Responding;
use crate::reactor::Reactor;
use desk::{Desk, Listeners};
use engine::counters::Counters;
use engine::ingest::demand::Demand;
use engine::metadata::Ask;
use engine::shard::{Effect, Shard, ShardMessage};
use engine::time::{Duration, Instant};
use link::{Out, line_mut};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Bytes of records that one turn takes from ingest. More than the largest record; small enough that sockets are
/// looked at every millisecond or so. (guess)
const RECORD_BYTES_PER_TURN: usize = 1 << 20;
/// Messages of other shards, and answers, that one turn takes from each ring. (guess)
const MESSAGES_PER_TURN: usize = 256;

/// What a shard core is told at its start.
pub struct Setup {
    /// The engine's half.
    pub shard: Shard,
    /// The shard's ends of the rings.
    pub rings: ShardRings,
    /// What all connections of a listener have in common, by the listener's number.
    pub connections: Vec<Arc<Settings>>,
    /// Most connections of the reactor.
    pub connections_max: usize,
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
    /// What else the engine wants, until all is written.
    effects: VecDeque<Effect>,
    /// By shard: what it is to be told and did not fit the ring; goes first next time.
    tells: Vec<VecDeque<ShardMessage>>,
    spin: Duration,
    idle_since: Option<Instant>,
    stopped: bool,
}

impl<R: Reactor> ShardCore<R> {
    /// A shard on a reactor that already listens.
    pub fn new(reactor: R, setup: Setup) -> Self {
        let waker = reactor.waker();
        let tells = setup.rings.shards.iter().map(|_| VecDeque::new()).collect();
        setup.rings.park.set_wake(move || waker.wake());
        Self {
            reactor,
            desk: Desk::new(
                setup.shard,
                Listeners::new(setup.connections, setup.connections_max),
                setup.clock,
                setup.head_timeout,
            ),
            rings: setup.rings,
            demands: VecDeque::new(),
            asks: VecDeque::new(),
            effects: VecDeque::new(),
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
            self.turn(wait, None)?;
        }
        Ok(self.desk.shard.counters().clone())
    }

    /// The same with ingest on this thread: `threading = "shared"`.
    pub fn run_with(mut self, mut ingest: IngestCore) -> io::Result<(Counters, Counters)> {
        let waker = self.reactor.waker();
        ingest.park().set_wake(move || waker.wake());
        while !self.stopped {
            let wait = self.wait(Some(&ingest));
            self.turn(wait, Some(&mut ingest))?;
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

    /// One turn. With ingest on this thread, its turn comes between the poll and the records, so that what it has just
    /// been sent goes out at once.
    fn turn(&mut self, wait: Option<Duration>, ingest: Option<&mut IngestCore>) -> io::Result<()> {
        self.desk.events = 0;
        self.reactor.poll(wait, &mut self.desk)?;
        self.rings.park.awake();
        if let Some(ingest) = ingest {
            ingest.park().awake();
            if Manners::beside_one_thread(!self.spin.is_zero()) == Manners::GivesWay {
                // Now adapters read all that has come during the last turn.
                std::thread::yield_now();
            }
            ingest.turn();
        }
        self.desk.now = self.desk.clock.now();
        self.take_records();
        self.take_messages();
        let now = self.desk.now;
        self.desk.shard.on_timers(now);
        self.desk.on_deadlines();
        self.post_to_ingest();
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

    /// What the engine's clients are owed, and what connections have to say by themselves.
    fn write(&mut self) -> io::Result<()> {
        let Self { reactor, desk, .. } = self;
        let mut out = Out {
            reactor,
            links: &mut desk.links,
            answered: &mut desk.answered,
            start: 0,
            clean: false,
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
