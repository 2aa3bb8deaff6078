//! The turns of the cores: what each takes in, in the real driver's order, and what becomes of what it wants.

use super::insight::Opened;
use super::wires::{Place, Said, Sockets, Wire};
use super::{Event, WireId, World};
use crate::ids::ShardId;
use crate::ingest::IngestEffect;
use crate::ingest::record;
use crate::metadata::{Answer, Ask, Granted, Question};
use crate::shard::{Effect, HttpRequest, MovedRequest, ShardMessage};
use crate::time::{Duration, Instant};

/// What goes from shard to shard.
pub(super) enum Mail {
    Message(ShardId, ShardMessage),
    Moved {
        wire: WireId,
        request: MovedRequest,
        lines: Box<[u8]>,
    },
}

impl World {
    pub(super) fn ingest_turn(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.nodes.len() {
            let shard = ShardId(u16::try_from(index).expect("shards are few"));
            while let Some(demand) = self.nodes[index].demand.pop(self.now) {
                let heard = self.insight.as_mut();
                let heard = heard.and_then(|insight| insight.heard(index, &demand));
                self.tell_inside(self.events.len(), heard);
                self.ingest
                    .on_demand(shard, demand, self.now, &mut self.rings);
                busy = true;
            }
            while let Some(ask) = self.nodes[index].ask.pop(self.now) {
                let Some(mut answer) = self.answer(shard, &ask) else {
                    continue;
                };
                self.ingest.claim(&mut answer);
                let granted = answer.result.as_ref().ok();
                let opened = granted.and_then(|granted| Opened::new(&ask, granted));
                let at = self.arrival() + self.options.answer_delay;
                self.nodes[index].answer.push(at, (answer, opened));
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
                IngestEffect::Merging { .. } => {} // its adapters say all that happens
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
        if let (Question::Subscribe { mode, .. }, Ok(Granted::Subscription { items, .. })) =
            (&ask.question, &mut answer.result)
        {
            let grants = self.options.grants;
            if let Err(refusal) = items.iter_mut().try_for_each(|item| grants(item, *mode)) {
                answer.result = Err(refusal);
            }
        }
        Some(answer)
    }

    pub(super) fn shard_turn(&mut self, index: usize, budget: usize) -> bool {
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
        let mut opened = Vec::new();
        while let Some((answer, subscription)) = self.nodes[index].answer.pop(now) {
            self.nodes[index].shard.on_answer(answer, now);
            opened.extend(subscription);
            busy = true;
        }
        while let Some(mail) = self.nodes[index].mail.pop(now) {
            self.deliver(index, mail);
            busy = true;
        }
        busy |= self.read_requests(index);
        let events_before = self.events.len();
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
        for subscription in opened {
            let insight = self.insight.as_ref();
            let active = insight.and_then(|insight| insight.active(index, subscription));
            self.tell_inside(events_before, active); // before its first line
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
            Effect::Demand(demand) => {
                if let Some(insight) = &mut self.insight {
                    insight.demanded(index, &demand);
                }
                self.nodes[index].demand.push(at, demand);
            }
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

    /// When something sent to another core now gets there.
    fn arrival(&mut self) -> Instant {
        let nanos = u64::try_from(self.options.delay_max.as_nanos()).expect("a short time");
        self.now + Duration::from_nanos(self.rng.u64(..=nanos))
    }
}

/// What a shard reads of one connection in one turn.
const REQUESTS_PER_TURN: usize = 16;
