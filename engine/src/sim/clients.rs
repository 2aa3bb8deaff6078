//! Clients as they are at their worst: they subscribe and unsubscribe, stall, vanish, come back on another shard and
//! over another transport, send requests through connections of others, take their own sessions over. Each reads strictly,
//! and lets judges look at everything that it is sent.

mod acts;
mod life;
mod lines;
mod meter;
mod subscription;

use super::feed::cast::Role;
use super::messages::Messenger;
use super::oracle::Oracle;
use super::trace::Trace;
use super::weather::Weather;
use super::world::insight::TenancyId;
use super::world::{WireId, World};
use crate::time::{Duration, Instant};
use crate::tlcp::client::{write_line, write_message};
use crate::tlcp::request::{Control, Op, Polling, Request};
use meter::Meter;
use std::collections::{BTreeMap, BTreeSet};
use subscription::{Sub, SubState};

/// What a client sees of its surroundings.
pub struct Around<'a> {
    /// The server.
    pub world: &'a mut World,
    /// Who knows what was published.
    pub oracle: &'a mut Oracle,
    /// Who chooses.
    pub rng: &'a mut fastrand::Rng,
    /// Who writes down.
    pub trace: &'a mut Trace,
    /// By connection, whose it is.
    pub owners: &'a mut Vec<usize>,
    /// What the world is like.
    pub weather: &'a Weather,
}

/// One client.
pub struct Client {
    number: usize,
    phase: Phase,
    manner: Manner,
    /// The connection that the session writes to, or will.
    wire: Option<WireId>,
    /// The one before, on which the end is still to be told.
    old_wire: Option<WireId>,
    /// A connection that only carries requests.
    side_wire: Option<WireId>,
    session: Option<String>,
    /// Data lines received: what recovery goes by.
    data_lines: u64,
    /// When lines were last repeated after a broken connection.
    replayed_at: Option<Instant>,
    /// Everything that was written has been received, so a bind without recovery is safe.
    intact: bool,
    stalled_until: Option<Instant>,
    /// It has done enough.
    calm: bool,
    subs: BTreeMap<u32, Sub>,
    /// Subscriptions that the client knows no more, though lines of theirs may be under way.
    zombies: BTreeSet<u32>,
    /// Which subscription a request was about.
    requests: BTreeMap<u32, (u32, What)>,
    sub_ids: u32,
    req_ids: u32,
    messenger: Messenger,
    /// When what has no answer is asked for again.
    repeat_at: Instant,
    meter: Meter,
    last_written: Instant,
    /// What the client was told.
    pub tally: Tally,
}

/// What a client was told, over its whole life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Sessions.
    pub sessions: u64,
    /// `U` lines.
    pub updates: u64,
    /// Events that were lost, by `OV`.
    pub lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection until then.
    Away(Instant),
    /// Create or bind is under way.
    Opening,
    /// The session is bound: it streams, or a poll waits.
    Live,
    /// The session waits for the next bind, which the client sends then.
    Between(Instant),
    /// The client has left for good.
    Gone,
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, Default)]
struct Manner {
    /// HTTP, not a WebSocket.
    http: bool,
    /// Over HTTP: lengths must be told before the responses.
    identity: bool,
    /// By polls.
    polling: Option<Polling>,
}

/// What a request wants of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Add,
    Delete,
    Reconf,
}

impl Client {
    /// A client that will come at some time.
    pub fn new(number: usize, at: Instant) -> Self {
        Self {
            number,
            phase: Phase::Away(at),
            manner: Manner::default(),
            wire: None,
            old_wire: None,
            side_wire: None,
            session: None,
            data_lines: 0,
            replayed_at: None,
            intact: true,
            stalled_until: None,
            calm: false,
            subs: BTreeMap::new(),
            zombies: BTreeSet::new(),
            requests: BTreeMap::new(),
            sub_ids: 0,
            req_ids: 0,
            messenger: Messenger::default(),
            repeat_at: at,
            meter: Meter::default(),
            last_written: Instant::ZERO,
            tally: Tally::default(),
        }
    }

    /// The session that the client believes to have.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Whether the connection is one of this client's now.
    fn owns(&self, wire: WireId) -> bool {
        [self.wire, self.old_wire, self.side_wire].contains(&Some(wire))
    }

    /// A shard has made a subscription active.
    pub fn on_active(&mut self, sub_id: u32, tenancies: &[TenancyId], oracle: &Oracle) {
        if let Some(sub) = self.subs.get_mut(&sub_id) {
            sub.begin(tenancies, oracle);
        }
    }

    /// What is still open, if anything.
    pub fn waits_for(&self) -> Option<String> {
        let there = match self.phase {
            Phase::Live => true,
            // It has been asked to bind again, and has everything that was written until then.
            Phase::Opening | Phase::Between(_) => self.intact,
            Phase::Away(_) | Phase::Gone => false,
        };
        if !there || self.session.is_none() {
            return Some(format!("{self} is {:?}", self.phase));
        }
        let mut subs = self.subs.iter();
        if let Some((sub_id, sub)) = subs.find(|(_, sub)| sub.state != SubState::Active) {
            return Some(format!("{self}: subscription {sub_id} is {:?}", sub.state));
        }
        let idle = self.messenger.is_idle();
        (!idle).then(|| format!("{self}: a message has no outcome"))
    }

    /// Whether everything is as it must be once nothing happens any more.
    pub fn check_final(&self, oracle: &mut Oracle) {
        let mut complaints = Vec::new();
        for (sub_id, sub) in &self.subs {
            for (index, wrong) in sub.finish(oracle) {
                let name = &oracle.roles[sub.items[index].item].name;
                complaints.push(format!("{self} {sub_id},{} ({name}): {wrong}", index + 1));
            }
        }
        complaints
            .into_iter()
            .for_each(|complaint| oracle.complain(complaint));
    }

    /// Sends a control request about the session: through its WebSocket, or else through another connection.
    fn control(&mut self, op: Op<'_>, around: &mut Around<'_>) {
        let bound = matches!(self.phase, Phase::Live | Phase::Between(_));
        match self
            .wire
            .filter(|wire| bound && !around.world.is_http(*wire))
        {
            Some(wire) => self.control_through(wire, None, op, around),
            None => self.control_sideways(op, around),
        }
    }

    /// Sends a request through a connection that has nothing to do with the session.
    fn control_sideways(&mut self, op: Op<'_>, around: &mut Around<'_>) {
        let wire = self.side(around);
        let session = self.session.clone();
        self.control_through(wire, session, op, around);
    }

    fn control_through(
        &mut self,
        wire: WireId,
        session: Option<String>,
        op: Op<'_>,
        around: &mut Around<'_>,
    ) {
        self.req_ids += 1;
        let about = match &op {
            Op::Add(add) => Some((add.sub_id, What::Add)),
            Op::Delete { sub_id, .. } => Some((*sub_id, What::Delete)),
            Op::Reconf { sub_id, .. } => Some((*sub_id, What::Reconf)),
            _ => None,
        };
        if let Some(about) = about {
            self.requests.insert(self.req_ids, about);
        }
        let request = Request::Control(Control {
            req_id: self.req_ids.to_string().into(),
            session: session.map(Into::into),
            op,
        });
        self.send(wire, &request, around);
    }

    fn send(&self, wire: WireId, request: &Request<'_>, around: &mut Around<'_>) {
        let http = around.world.is_http(wire);
        let mut bytes = Vec::new();
        if http {
            write_line(&mut bytes, request);
        } else {
            write_message(&mut bytes, request);
        }
        let text = String::from_utf8(bytes).expect("requests are UTF-8");
        let now = around.world.now();
        around
            .trace
            .note(now, self, format_args!("w{wire}> {text}"));
        match http {
            true => around.world.request(wire, request.verb(), "", &text),
            false => around.world.send(wire, text),
        }
    }

    fn some_sub(&self, around: &mut Around<'_>) -> Option<u32> {
        let subs = self.subs.iter();
        let open = subs.filter(|(_, sub)| sub.state != SubState::Leaving);
        let open: Vec<u32> = open.map(|(sub_id, _)| *sub_id).collect();
        around.rng.choice(open)
    }

    fn complain(&self, around: &mut Around<'_>, complaint: String) {
        let now = around.world.now().as_millis();
        around
            .oracle
            .complain(format!("{now} ms, {self}: {complaint}"));
    }

    /// The item's own limit on its frequency.
    fn frequency_max(role: &Role, granted: Option<f64>) -> Option<f64> {
        if role.safe {
            return None;
        }
        match (role.frequency_max, granted) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("c{}", self.number))
    }
}

fn some_time(rng: &mut fastrand::Rng, millis_max: u64) -> Duration {
    Duration::from_millis(rng.u64(1..=millis_max))
}
