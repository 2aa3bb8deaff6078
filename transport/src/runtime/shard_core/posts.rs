//! What crosses between a shard and other cores: effects of the engine, messages, and connections that move.

use super::link::{Line, Link};
use super::{MESSAGES_PER_TURN, ShardCore};
use crate::reactor::{ConnId, Reactor};
use crate::runtime::rings::{Command, MovedConnection, ShardPost};
use engine::ids::ShardId;
use engine::metadata::Word;
use engine::shard::{Effect, MovedRequest, ShardMessage};
use engine::tlcp::Version;
use std::io;

/// Answers that wait for room in the ring to one shard; what comes beyond is lost, and its client asks again when it has
/// waited in vain. Many rings full: only shards that forward much faster than they take answers get there. (guess)
const TELLS_WAITING_MAX: usize = 16_384;

impl<R: Reactor> ShardCore<R> {
    pub(super) fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.rings.answer.pop() {
                Ok(Word::Answer(answer)) => self.desk.shard.on_answer(answer, self.desk.now),
                Ok(Word::Order(order)) => self.desk.shard.on_order(order, self.desk.now),
                Err(_) => break,
            }
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
                Command::Block(blocked) => self.desk.shard.block(blocked),
            }
        }
    }

    /// A connection arrives from another shard, in the middle of its conversation.
    pub(super) fn take_in(&mut self, moved: MovedConnection) {
        let MovedConnection {
            socket,
            connection,
            address,
            caller,
            peer,
            response,
            lines,
            request,
        } = moved;
        let Ok(id) = self.reactor.adopt(socket) else {
            return;
        };
        let desk = &mut self.desk;
        let mut line = Line::new(id, address, desk.now);
        line.version = Some(peer.version);
        line.caller = caller;
        if response.is_some() {
            desk.heads.start(id, desk.now);
        }
        line.response = response;
        desk.insert(Link { connection, line });
        desk.shard.on_moved(id, peer, &lines, &request, desk.now);
        desk.resume(id);
    }

    /// What the engine wants of ingest, before clients are told anything: see `IngestCore::turn`.
    pub(super) fn post_to_ingest(&mut self) {
        while let Some(effect) = self.desk.shard.poll_effect() {
            match effect {
                Effect::Demand(demand) => self.demands.push_back(demand),
                Effect::Ask(ask) => self.asks.push_back(ask),
                other => self.effects.push_back(other),
            }
        }
        if self.demands.is_empty() && self.asks.is_empty() {
            return;
        }
        let before = self.demands.len();
        while let Some(demand) = self.demands.pop_front() {
            if let Err(rtrb::PushError::Full(demand)) = self.rings.demand.push(demand) {
                self.demands.push_front(demand);
                break;
            }
        }
        if self.demands.len() < before {
            self.rings.demands.raise();
        }
        while self.demands.is_empty()
            && let Some(ask) = self.asks.pop_front()
        {
            if let Err(rtrb::PushError::Full(ask)) = self.rings.ask.push(ask) {
                self.asks.push_front(ask);
                break;
            }
        }
        self.rings.ingest.wake_if_parked();
    }

    /// What the engine wants of others.
    pub(super) fn carry_out(&mut self) -> io::Result<()> {
        let mut flush = false;
        loop {
            self.post_to_ingest(); // what the pump has brought about, or another effect
            let Some(effect) = self.effects.pop_front() else {
                break;
            };
            match effect {
                Effect::Demand(_) | Effect::Ask(_) => {} // posted already
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
        if flush { self.write() } else { Ok(()) }
    }

    /// A request for a full ring is refused, which slows its client down. An answer has to wait: its client has no other.
    pub(super) fn tell(&mut self, shard: ShardId, message: ShardMessage) {
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

    pub(super) fn post_tells(&mut self, index: usize) {
        while let Some(message) = self.tells[index].pop_front() {
            if let Err(ShardPost::Message(message)) = self.post(index, ShardPost::Message(message))
            {
                return self.tells[index].push_front(message);
            }
        }
    }

    pub(super) fn post(&mut self, index: usize, post: ShardPost) -> Result<(), ShardPost> {
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
    pub(super) fn move_to(
        &mut self,
        id: ConnId,
        shard: ShardId,
        request: MovedRequest,
        lines: Box<[u8]>,
    ) {
        let mut unread = Vec::new();
        let socket = self.reactor.release_with_unread(id, &mut unread);
        // The connection holds back what it has not used; these bytes come behind that.
        self.desk.on_bytes(id, &mut unread);
        let Some(link) = self.desk.remove(id) else {
            return;
        };
        let version = link.line.version.unwrap_or(Version::LATEST);
        let peer = link.line.peer(version, link.connection.settings());
        match socket {
            Some(socket) => {
                let moved = MovedConnection {
                    socket,
                    connection: link.connection,
                    address: link.line.peer,
                    caller: link.line.caller,
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
}
