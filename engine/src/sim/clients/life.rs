//! How a client comes and goes: over which transport it opens or binds its session, what it does when the connection ends
//! or breaks, and how it takes its session over.

use super::{Around, Client, Manner, Phase, some_time};
use crate::ids::ShardId;
use crate::sim::messages::Messenger;
use crate::sim::world::WireId;
use crate::time::{Duration, Instant};
use crate::tlcp::Version;
use crate::tlcp::request::{Bandwidth, Bind, Create, Op, Polling, Request, StreamOptions};

/// Official clients ask again after four seconds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Client {
    /// Does something, or something because it is time for it. A calm client only does what it must.
    pub fn act(&mut self, calm: bool, around: &mut Around<'_>) {
        let now = around.world.now();
        self.calm = calm;
        if let Some(until) = self.stalled_until
            && (now >= until || calm)
        {
            self.stalled_until = None;
            self.last_written = now;
            if let Some(wire) = self.wire {
                around.world.resume(wire);
            }
            return; // it has to read first
        }
        if now >= self.repeat_at {
            self.repeat_at = now + PATIENCE + some_time(around.rng, 1_000);
            self.repeat_requests(PATIENCE, around);
        }
        match self.phase {
            Phase::Away(until) if now >= until => self.come(around),
            Phase::Between(until) if now >= until => self.bind_again(around),
            Phase::Live | Phase::Between(_) if !calm => self.misbehave(around),
            Phase::Opening if !calm && around.rng.u8(..50) == 0 => self.drop_wire(around),
            _ => {}
        }
    }

    /// Connects, and opens or binds a session.
    fn come(&mut self, around: &mut Around<'_>) {
        if let Some(old) = self.old_wire.take() {
            // One that was to take over from it did not come to that.
            self.intact &= around.world.is_drained(old);
            around.world.close(old);
        }
        self.manner = Manner::some(around.rng);
        let wire = self.connect(self.manner, around);
        self.wire = Some(wire);
        if !self.manner.http && around.rng.bool() {
            self.send(wire, &Request::Wsok, around);
        }
        self.open(wire, around);
    }

    /// The next bind, on the same connection or on another one.
    fn bind_again(&mut self, around: &mut Around<'_>) {
        let same = around.rng.u8(..5) > 0;
        let wire = self.wire.filter(|wire| same && around.world.is_open(*wire));
        let Some(wire) = wire else {
            if let Some(wire) = self.wire.take() {
                around.world.close(wire);
            }
            return self.come(around);
        };
        let Manner { http, identity, .. } = self.manner;
        if around.rng.u8(..4) == 0 {
            self.manner = Manner {
                http,
                identity,
                ..Manner::some(around.rng)
            };
        }
        self.open(wire, around);
    }

    fn open(&mut self, wire: WireId, around: &mut Around<'_>) {
        self.phase = Phase::Opening;
        let stream = self.stream_options(around);
        let request = match &self.session {
            Some(session) => {
                let recovers = !self.intact || around.rng.bool();
                Request::Bind(Bind {
                    session: Some(session.clone().into()),
                    recovery_from: recovers.then_some(self.data_lines),
                    stream,
                })
            }
            None => {
                self.subs.clear();
                self.zombies.clear();
                self.requests.clear();
                self.messenger = Messenger::default();
                self.data_lines = 0;
                let kbps = [8.0, 40.0, 400.0][around.rng.usize(..3)];
                let diffs = [None, Some("P"), Some("T"), Some("")][around.rng.usize(..4)];
                Request::Create(Create {
                    cid: Some("sim".into()),
                    bandwidth: (around.rng.u8(..3) == 0).then_some(Bandwidth::Limited(kbps)),
                    supported_diffs: diffs.map(Into::into),
                    stream,
                    ..Create::default()
                })
            }
        };
        self.send(wire, &request, around);
    }

    fn stream_options(&self, around: &mut Around<'_>) -> StreamOptions {
        let length = [None, Some(0), Some(2_000), Some(20_000)][around.rng.usize(..4)];
        StreamOptions {
            send_sync: around.rng.bool(),
            polling: self.manner.polling,
            content_length: length.filter(|_| self.manner.http),
            ..StreamOptions::default()
        }
    }

    /// A connection lands on any shard.
    fn connect(&self, manner: Manner, around: &mut Around<'_>) -> WireId {
        let shard = ShardId(around.rng.u16(..around.weather.shards));
        let wire = match manner.http {
            true => around
                .world
                .connect_http(shard, Version::LATEST, manner.identity),
            false => around.world.connect(shard, Version::LATEST),
        };
        debug_assert_eq!(wire, around.owners.len());
        around.owners.push(self.number);
        wire
    }

    /// A connection that only carries requests.
    pub(super) fn side(&mut self, around: &mut Around<'_>) -> WireId {
        match self.side_wire {
            Some(wire) => wire,
            None => {
                let http = around.rng.bool();
                let manner = Manner {
                    http,
                    ..Manner::default()
                };
                let wire = self.connect(manner, around);
                *self.side_wire.insert(wire)
            }
        }
    }

    /// Binds the session to another connection while this one is alive.
    pub(super) fn take_over(&mut self, around: &mut Around<'_>) {
        self.manner = Manner::some(around.rng);
        let wire = self.connect(self.manner, around);
        self.old_wire = self.wire.replace(wire);
        self.phase = Phase::Opening;
        self.intact = true;
        let request = Request::Bind(Bind {
            session: self.session.clone().map(Into::into),
            recovery_from: None,
            stream: self.stream_options(around),
        });
        self.send(wire, &request, around);
    }

    /// The server has ended the stream regularly.
    pub(super) fn on_loop(&mut self, millis: u64, written: Instant, around: &mut Around<'_>) {
        self.intact = true;
        self.last_written = written;
        let millis_max = millis.max(around.rng.u64(..100));
        let wait = Duration::from_millis(around.rng.u64(..=millis_max));
        self.phase = Phase::Between(around.world.now() + wait);
    }

    /// The connection breaks.
    pub(super) fn drop_wire(&mut self, around: &mut Around<'_>) {
        for wire in [self.wire.take(), self.old_wire.take()]
            .into_iter()
            .flatten()
        {
            self.intact &= around.world.is_drained(wire);
            around.world.close(wire);
        }
        self.stalled_until = None;
        self.leave(around);
    }

    fn leave(&mut self, around: &mut Around<'_>) {
        // Sometimes so long that the session expires.
        let millis_max = match around.rng.u8(..10) {
            _ if self.calm => 200,
            0 => 20_000,
            _ => 2_000,
        };
        self.phase = Phase::Away(around.world.now() + some_time(around.rng, millis_max));
    }

    /// The session is over: there will be another.
    pub(super) fn lose_session(&mut self, around: &mut Around<'_>) {
        self.session = None;
        self.drop_wire(around);
        self.intact = true;
    }

    /// Leaves for good.
    pub fn quit(&mut self, around: &mut Around<'_>) {
        let own = self.wire.filter(|wire| !around.world.is_http(*wire));
        if self.phase == Phase::Live && own.is_some() && around.rng.bool() {
            let op = Op::Destroy {
                cause_code: None,
                cause_message: None,
                close_socket: true,
            };
            self.control(op, around);
        } else if let Some(wire) = self.wire {
            around.world.close(wire);
        }
        self.phase = Phase::Gone;
    }

    /// The server has closed a connection.
    pub fn on_closed(&mut self, wire: WireId, around: &mut Around<'_>) {
        let now = around.world.now();
        around
            .trace
            .note(now, &*self, format_args!("w{wire} closed"));
        if self.side_wire == Some(wire) {
            self.side_wire = None;
        } else if self.old_wire == Some(wire) {
            self.old_wire = None;
        } else if self.wire == Some(wire) {
            // It may have held something that was never received.
            self.intact &= self.phase != Phase::Live || self.stalled_until.is_none();
            self.wire = None;
            self.stalled_until = None;
            self.leave(around);
        }
    }
}

impl Manner {
    fn some(rng: &mut fastrand::Rng) -> Self {
        let http = rng.u8(..5) < 2;
        let polling = (rng.u8(..5) < 2).then(|| Polling {
            polling_millis: [0, 200, 1_000][rng.usize(..3)],
            idle_millis: [0, 500, 3_000][rng.usize(..3)],
        });
        Self {
            http,
            identity: http && rng.u8(..4) == 0,
            polling,
        }
    }
}
