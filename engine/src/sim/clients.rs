//! Clients as they are at their worst: they subscribe and unsubscribe, stall, vanish, come back on another shard, send
//! requests through connections of others, take their own sessions over. Each reads strictly, and tells the oracle of
//! everything that a client must never see.

use super::feed::Feed;
use super::messages::Messenger;
use super::oracle::Oracle;
use super::trace::Trace;
use super::world::{WireId, World};
use crate::ids::ShardId;
use crate::time::{Duration, Instant};
use crate::tlcp::Version;
use crate::tlcp::client::{FieldValues, Line, complete_lines, write_message};
use crate::tlcp::notify::GrantedBandwidth;
use crate::tlcp::request::{
    Add, Bandwidth, Bind, Control, Create, Frequency, Message, Mode, Op, Request, Snapshot,
    StreamOptions,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a client sees of its surroundings.
pub struct Around<'a> {
    /// The server.
    pub world: &'a mut World,
    /// Who judges.
    pub oracle: &'a mut Oracle,
    /// Who knows the items.
    pub feed: &'a Feed,
    /// Who chooses.
    pub rng: &'a mut fastrand::Rng,
    /// Who writes down.
    pub trace: &'a mut Trace,
    /// Number of shards.
    pub shards: u16,
}

/// One client.
pub struct Client {
    number: usize,
    phase: Phase,
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
    subs: BTreeMap<u32, Sub>,
    /// Subscriptions that the client knows no more, though lines of theirs may be under way.
    zombies: BTreeSet<u32>,
    /// Which subscription a `delete` was about, by its request.
    deletes: BTreeMap<u32, u32>,
    sub_ids: u32,
    req_ids: u32,
    messenger: Messenger,
    meter: Meter,
    last_written: Instant,
    /// `U` lines received.
    pub updates: u64,
    /// Sessions that this client has had.
    pub sessions: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection until then.
    Away(Instant),
    /// Create or bind is under way.
    Opening,
    /// The session streams.
    Live,
    /// The client has left for good.
    Gone,
}

struct Sub {
    items: Vec<String>,
    schema: Vec<String>,
    snapshot: bool,
    asked_hz: Option<f64>,
    state: SubState,
    /// Its request went through another connection, so requests on this one may overtake it.
    sideways: bool,
    granted_hz: Option<f64>,
    fields: Vec<FieldValues>,
    seen: Vec<Option<u64>>,
    sent: Vec<Option<Instant>>,
    /// When the client heard that the subscription is active.
    active_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubState {
    Asked,
    Active,
    Leaving,
}

/// Measures what comes in against the bandwidth that was granted, over every window at once: a bucket that leaks at the
/// granted rate must never hold more than the burst.
#[derive(Default)]
struct Meter {
    bytes_per_s: Option<f64>,
    level: f64,
    at: Instant,
}

/// What a session may save up, and the longest line, which is never cut.
const BURST_S: f64 = 0.25;
const LINE_BYTES_MAX: f64 = 4_000.0;
/// Turns that were skipped, and the wheel's tick. Official clients have the same patience.
const KEEPALIVE_SLACK: Duration = Duration::from_secs(2);
/// What it may take until a shard's demand is heard by ingest, which starts after `SUBOK`: events of that time concern a
/// subscription only if it wants a snapshot.
const DEMAND_SLACK: Duration = Duration::from_secs(3);
const KEEPALIVE: Duration = Duration::from_secs(5);
const SUBS_MAX: usize = 6;

impl Client {
    /// A client that will come at some time.
    pub fn new(number: usize, at: Instant) -> Self {
        Self {
            number,
            phase: Phase::Away(at),
            wire: None,
            old_wire: None,
            side_wire: None,
            session: None,
            data_lines: 0,
            replayed_at: None,
            intact: true,
            stalled_until: None,
            subs: BTreeMap::new(),
            zombies: BTreeSet::new(),
            deletes: BTreeMap::new(),
            sub_ids: 0,
            req_ids: 0,
            messenger: Messenger::default(),
            meter: Meter::default(),
            last_written: Instant::ZERO,
            updates: 0,
            sessions: 0,
        }
    }

    /// Whether the connection is one of this client's.
    pub fn owns(&self, wire: WireId) -> bool {
        [self.wire, self.old_wire, self.side_wire].contains(&Some(wire))
    }

    /// Does something, or something because it is time for it. A calm client only does what it must.
    pub fn act(&mut self, calm: bool, around: &mut Around<'_>) {
        let now = around.world.now();
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
        match self.phase {
            Phase::Away(until) if now >= until => self.come(around),
            Phase::Live if !calm => self.misbehave(around),
            Phase::Opening if !calm && around.rng.u8(..50) == 0 => self.drop_wire(around),
            _ => {}
        }
    }

    /// Connects, and opens or binds a session.
    fn come(&mut self, around: &mut Around<'_>) {
        let wire = self.connect(around);
        self.wire = Some(wire);
        self.phase = Phase::Opening;
        if around.rng.bool() {
            self.send(wire, &Request::Wsok, around);
        }
        self.open(wire, around);
    }

    fn open(&mut self, wire: WireId, around: &mut Around<'_>) {
        let stream = StreamOptions {
            send_sync: around.rng.bool(),
            ..StreamOptions::default()
        };
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
                self.deletes.clear();
                self.messenger = Messenger::default();
                self.data_lines = 0;
                let kbps = [8.0, 40.0, 400.0][around.rng.usize(..3)];
                Request::Create(Create {
                    cid: Some("sim".into()),
                    bandwidth: (around.rng.u8(..3) == 0).then_some(Bandwidth::Limited(kbps)),
                    stream,
                    ..Create::default()
                })
            }
        };
        self.send(wire, &request, around);
    }

    fn misbehave(&mut self, around: &mut Around<'_>) {
        let now = around.world.now();
        let wire = self.wire.expect("a live client has a connection");
        match around.rng.u8(..100) {
            0..30 => self.subscribe(around),
            30..40 => self.send_message(around),
            40..55 => self.unsubscribe(around),
            55..63 => {
                let Some(sub_id) = self.some_sub(around) else {
                    return;
                };
                let frequency =
                    some_frequency(around.rng).map_or(Frequency::Unlimited, Frequency::Limited);
                let op = Op::Reconf {
                    sub_id,
                    frequency: Some(frequency),
                };
                self.control(op, around);
            }
            63..68 => {
                let bandwidth = match around.rng.u8(..4) {
                    0 => Bandwidth::Limited(8.0),
                    1 => Bandwidth::Limited(100.0),
                    _ => Bandwidth::Unlimited,
                };
                self.control(Op::Constrain { bandwidth }, around);
            }
            68..76 if self.stalled_until.is_none() => {
                self.stalled_until = Some(now + some_time(around.rng, 3_000));
                around.world.stall(wire);
            }
            76..84 => self.drop_wire(around),
            84..88 => {
                let op = Op::ForceRebind {
                    polling_millis: None,
                    close_socket: around.rng.bool(),
                };
                self.control(op, around);
            }
            88..90 => {
                let op = Op::Destroy {
                    cause_code: around.rng.bool().then_some(-7),
                    cause_message: Some("bye, bye".into()),
                    close_socket: true,
                };
                self.control(op, around);
            }
            90..94 if self.stalled_until.is_none() && self.old_wire.is_none() => {
                self.take_over(around)
            }
            94..95 => {
                // The page is gone; its session is left to itself.
                self.drop_wire(around);
                self.session = None;
            }
            95..98 => self.babble(around),
            _ => {}
        }
    }

    fn subscribe(&mut self, around: &mut Around<'_>) {
        if self.subs.len() >= SUBS_MAX {
            return;
        }
        self.sub_ids += 1;
        let items = (0..around.rng.usize(1..=3))
            .map(|_| around.feed.some_item(around.rng))
            .collect::<Vec<_>>();
        let schema = Feed::some_schema(around.rng);
        let sub = Sub {
            snapshot: around.rng.bool(),
            asked_hz: some_frequency(around.rng),
            state: SubState::Asked,
            sideways: around.rng.u8(..5) == 0,
            granted_hz: None,
            fields: vec![FieldValues::new(schema.len()); items.len()],
            seen: vec![None; items.len()],
            sent: vec![None; items.len()],
            active_at: around.world.now(),
            items,
            schema,
        };
        let op = Op::Add(add(self.sub_ids, &sub, around.rng.bool()));
        if sub.sideways {
            self.control_sideways(op.clone(), around);
        } else {
            self.control(op, around);
        }
        self.subs.insert(self.sub_ids, sub);
    }

    fn unsubscribe(&mut self, around: &mut Around<'_>) {
        let Some(sub_id) = self.some_sub(around) else {
            return;
        };
        let sub = self.subs.get_mut(&sub_id).expect("just found");
        if sub.state == SubState::Asked && sub.sideways {
            return; // this request would overtake that one
        }
        sub.state = SubState::Leaving;
        let ack = around.rng.bool();
        self.control(Op::Delete { sub_id, ack }, around);
    }

    /// Binds the session to another connection while this one is alive.
    fn take_over(&mut self, around: &mut Around<'_>) {
        let wire = self.connect(around);
        self.old_wire = self.wire.replace(wire);
        self.phase = Phase::Opening;
        self.intact = true;
        let request = Request::Bind(Bind {
            session: self.session.clone().map(Into::into),
            ..Bind::default()
        });
        self.send(wire, &request, around);
    }

    /// Says something that no server understands, through a connection of its own.
    fn babble(&mut self, around: &mut Around<'_>) {
        const NONSENSE: [&str; 7] = [
            "",
            "\r\n",
            "control",
            "control\r\nLS_reqId=%",
            "control\r\nLS_reqId=1&LS_op=add\r\nLS_reqId=2&LS_session=S\r\n",
            "msg\r\nLS_unq=5&LS_reqId=1",
            "create_session\r\nLS_requested_max_bandwidth=-1",
        ];
        let wire = self.side(around);
        let text = NONSENSE[around.rng.usize(..NONSENSE.len())];
        around.world.send(wire, text);
    }

    /// The connection breaks.
    fn drop_wire(&mut self, around: &mut Around<'_>) {
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
        let millis_max = if around.rng.u8(..10) == 0 {
            20_000
        } else {
            2_000
        };
        self.phase = Phase::Away(around.world.now() + some_time(around.rng, millis_max));
    }

    /// The session is over: there will be another.
    fn lose_session(&mut self, around: &mut Around<'_>) {
        self.session = None;
        self.drop_wire(around);
        self.intact = true;
    }

    /// Leaves for good.
    pub fn quit(&mut self, around: &mut Around<'_>) {
        if self.phase == Phase::Live && around.rng.bool() {
            let op = Op::Destroy {
                cause_code: None,
                cause_message: None,
                close_socket: true,
            };
            self.control(op, around);
        } else if let Some(wire) = self.wire {
            around.world.close(wire);
        }
        if let Some(wire) = self.side_wire {
            around.world.close(wire);
        }
        self.phase = Phase::Gone;
    }

    /// What is still open, if anything.
    pub fn waits_for(&self) -> Option<String> {
        if self.phase != Phase::Live {
            return Some(format!("c{} is {:?}", self.number, self.phase));
        }
        let waiting = self
            .subs
            .iter()
            .find(|(_, sub)| sub.state != SubState::Active);
        let Some((sub_id, sub)) = waiting else {
            let idle = self.messenger.is_idle();
            return (!idle).then(|| format!("c{}: a message has no outcome", self.number));
        };
        Some(format!(
            "c{}: subscription {sub_id} is {:?}",
            self.number, sub.state
        ))
    }

    /// Whether everything is as it must be once nothing happens any more.
    pub fn check_final(&self, feed: &Feed, oracle: &mut Oracle) {
        for (sub_id, sub) in &self.subs {
            for (index, item) in sub.items.iter().enumerate() {
                let who = || format!("c{} U,{sub_id},{} ({item})", self.number, index + 1);
                if !feed.is_wanted(item) {
                    oracle.complain(format!(
                        "{}: the adapter was told that nobody wants it",
                        who()
                    ));
                }
                let owed = (sub.snapshot && feed.owes_snapshot(item))
                    || oracle.last_event(item) > sub.active_at + DEMAND_SLACK;
                if sub.fields[index].is_started() {
                    if !oracle.is_current(item, &sub.schema, &sub.fields[index]) {
                        oracle.complain(format!("{}: not the last state", who()));
                    }
                } else if owed {
                    oracle.complain(format!("{}: nothing has come", who()));
                }
            }
        }
    }

    /// The server has closed a connection.
    pub fn on_closed(&mut self, wire: WireId, around: &mut Around<'_>) {
        around
            .trace
            .note(around.world.now(), &*self, format_args!("w{wire} closed"));
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

    /// A message has come.
    pub fn on_message(
        &mut self,
        wire: WireId,
        written: Instant,
        bytes: &[u8],
        around: &mut Around<'_>,
    ) {
        let text = String::from_utf8_lossy(bytes);
        around
            .trace
            .note(around.world.now(), &*self, format_args!("w{wire}< {text}"));
        if self.phase == Phase::Gone {
            return;
        }
        let lines = match complete_lines(&text) {
            Ok(lines) => lines,
            Err(bad) => return self.complain(around, format!("{bad}: {text:?}")),
        };
        let streams = self.side_wire != Some(wire);
        if streams && self.phase == Phase::Live && self.stalled_until.is_none() {
            let silence = written.since(self.last_written);
            if silence > KEEPALIVE + KEEPALIVE_SLACK {
                self.complain(around, format!("silent for {silence:?}"));
            }
            self.last_written = self.last_written.max(written);
        }
        for line in lines {
            match Line::parse(line) {
                Err(bad) => self.complain(around, format!("{bad}: {line:?}")),
                Ok(parsed) if streams => {
                    if !self.owns(wire) {
                        return; // closed while the message was read
                    }
                    self.data_lines += u64::from(parsed.is_data_line());
                    self.on_line(wire, parsed, written, line, around);
                }
                Ok(Line::Reqok { .. }) => {}
                Ok(Line::Reqerr { req_id, code, .. }) => {
                    self.on_refused(&req_id, code, line, around)
                }
                Ok(Line::Error { .. } | Line::Conerr { .. }) => {} // to what it babbled
                Ok(_) => self.complain(around, format!("not on this connection: {line:?}")),
            }
        }
    }

    fn on_line(
        &mut self,
        wire: WireId,
        line: Line<'_>,
        written: Instant,
        text: &str,
        around: &mut Around<'_>,
    ) {
        match line {
            Line::Conok { session_id, .. } => {
                if self.phase != Phase::Opening || self.wire != Some(wire) {
                    return self.complain(around, "CONOK out of turn".into());
                }
                match &self.session {
                    Some(session) if session != session_id => {
                        return self.complain(around, "bound to another session".into());
                    }
                    Some(_) => {}
                    None => {
                        self.session = Some(session_id.to_owned());
                        self.sessions += 1;
                    }
                }
                self.phase = Phase::Live;
                self.intact = true;
                self.last_written = written;
                self.repeat_requests(around);
            }
            Line::Conerr { code: 4 | 20, .. } => self.lose_session(around),
            Line::End { code: 40, .. } if self.old_wire == Some(wire) => {}
            Line::End { code: 31 | -7, .. } => self.lose_session(around),
            Line::Loop { .. } if self.wire != Some(wire) => {} // already binding elsewhere
            Line::Loop { .. } => {
                self.phase = Phase::Opening;
                self.last_written = written;
                self.open(wire, around); // should the socket be closed behind it, the client comes again
            }
            Line::Prog { data_lines } => {
                if data_lines != self.data_lines {
                    self.complain(
                        around,
                        format!("{text}, but {} were received", self.data_lines),
                    );
                }
                // What follows was written before, and is repeated at once: nothing can be said of its pace.
                self.replayed_at = Some(written);
            }
            Line::Cons(bandwidth) => self.meter.set(bandwidth, written),
            Line::Reqerr { req_id, code, .. } => self.on_refused(&req_id, code, text, around),
            Line::Reqok { .. }
            | Line::Wsok
            | Line::Servname(_)
            | Line::Clientip(_)
            | Line::Probe
            | Line::Sync { .. } => {}
            Line::Subok {
                sub_id,
                items,
                fields,
            } => self.on_subok(sub_id, items, fields, around),
            Line::Conf {
                sub_id,
                frequency_hz,
                ..
            } => {
                if let Some(sub) = self.subs.get_mut(&sub_id) {
                    sub.granted_hz = frequency_hz;
                } else if !self.zombies.contains(&sub_id) {
                    self.complain(around, format!("no such subscription: {text}"));
                }
            }
            Line::Unsub { sub_id } => match self.subs.get(&sub_id).map(|sub| sub.state) {
                Some(SubState::Leaving) => {
                    self.subs.remove(&sub_id);
                }
                None if self.zombies.remove(&sub_id) => {}
                _ => self.complain(around, format!("out of turn: {text}")),
            },
            Line::Msgdone {
                sequence,
                prog,
                response,
            } => {
                let (sequence, response) = (
                    sequence.as_deref().unwrap_or("*"),
                    response.as_deref().unwrap_or("(none)"),
                );
                let told = self.messenger.on_done(sequence, prog, response);
                self.check_outcome(told, sequence, Some(prog), &[], around);
            }
            Line::Msgfail {
                sequence,
                prog,
                code,
                text,
            } => {
                let sequence = sequence.as_deref().unwrap_or("*");
                let told = self.messenger.on_failed(sequence, prog, code, &text);
                let missing = told.as_deref().unwrap_or_default().to_vec();
                let processed = missing.is_empty().then_some(prog);
                self.check_outcome(told.map(|_| ()), sequence, processed, &missing, around);
            }
            Line::Update {
                sub_id,
                item,
                values,
            } => {
                self.updates += 1;
                if self.replayed_at != Some(written) {
                    self.meter.count(text.len() + 2, written);
                }
                if self.meter.is_over() {
                    self.complain(around, format!("bandwidth exceeded by {text}"));
                }
                if let Err(complaint) = self.on_update(sub_id, item, values, written, around) {
                    self.complain(around, format!("{complaint}: {text}"));
                }
            }
            _ => self.complain(around, format!("unexpected: {text}")),
        }
    }

    fn on_subok(&mut self, sub_id: u32, items: u32, fields: u32, around: &mut Around<'_>) {
        let Some(sub) = self.subs.get_mut(&sub_id) else {
            // A request that came late, after the subscription had come and gone.
            self.zombies.insert(sub_id);
            return self.control(Op::Delete { sub_id, ack: false }, around);
        };
        if (items as usize, fields as usize) != (sub.items.len(), sub.schema.len()) {
            return self.complain(around, format!("SUBOK,{sub_id} with other counts"));
        }
        match sub.state {
            SubState::Active => return self.complain(around, format!("SUBOK,{sub_id} twice")),
            SubState::Asked => sub.state = SubState::Active,
            SubState::Leaving => {}
        }
        sub.granted_hz = sub.asked_hz;
        sub.active_at = around.world.now();
    }

    fn on_update(
        &mut self,
        sub_id: u32,
        position: u32,
        values: &str,
        written: Instant,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let Some(sub) = self.subs.get_mut(&sub_id) else {
            return match self.zombies.contains(&sub_id) {
                true => Ok(()),
                false => Err("no such subscription".into()),
            };
        };
        if sub.state == SubState::Asked {
            return Err("before SUBOK".into());
        }
        let index = (position as usize).wrapping_sub(1);
        let fields = sub.fields.get_mut(index).ok_or("no such item")?;
        fields.apply(values).map_err(|bad| bad.to_string())?;
        let item = &sub.items[index];
        let place = around
            .oracle
            .place(item, &sub.schema, fields, sub.seen[index]);
        sub.seen[index] =
            Some(place.ok_or_else(|| format!("{item} never was so, or not after what was seen"))?);
        if self.replayed_at == Some(written) {
            sub.sent[index] = None;
            return Ok(());
        }
        if let (Some(hz), Some(last)) = (sub.granted_hz, sub.sent[index])
            && written.since(last) < Duration::from_secs_f64(1.0 / hz)
        {
            return Err(format!(
                "{:?} after the last at {hz} Hz",
                written.since(last)
            ));
        }
        sub.sent[index] = Some(written);
        Ok(())
    }

    fn on_refused(&mut self, req_id: &str, code: i64, text: &str, around: &mut Around<'_>) {
        match code {
            20 if self.phase == Phase::Live => self.lose_session(around),
            19 => {
                // It went, or never came. If it went, its UNSUB may still be under way.
                let sub_id = req_id.parse().ok().and_then(|id| self.deletes.remove(&id));
                if let Some(sub_id) = sub_id
                    && self.subs.remove(&sub_id).is_some()
                {
                    self.zombies.insert(sub_id);
                }
            }
            // 68: it could not be passed on. 65, 67: babble. 32, 33: a message that was sent again.
            20 | 32 | 33 | 65 | 67 => {}
            68 => self.repeat_requests(around),
            _ => self.complain(around, format!("request {req_id}: unexpected: {text}")),
        }
    }

    /// Sends again what may have been lost, as clients do after a bind.
    fn repeat_requests(&mut self, around: &mut Around<'_>) {
        if self.phase != Phase::Live {
            return;
        }
        let repeated: Vec<_> = self
            .subs
            .iter()
            .filter_map(|(&sub_id, sub)| match sub.state {
                SubState::Asked => Some(Op::Add(add(sub_id, sub, false))),
                SubState::Leaving => Some(Op::Delete { sub_id, ack: true }),
                SubState::Active => None,
            })
            .collect();
        for op in repeated {
            self.control(op, around);
        }
        let zombies: Vec<_> = self.zombies.iter().copied().collect();
        for sub_id in zombies {
            self.control(Op::Delete { sub_id, ack: false }, around);
        }
        for message in self.messenger.unanswered() {
            self.say(message, false, around);
        }
    }

    fn send_message(&mut self, around: &mut Around<'_>) {
        if let Some(message) = self.messenger.next(around.rng) {
            let sideways = around.rng.u8(..5) == 0;
            self.say(message, sideways, around);
        }
    }

    fn say(&mut self, message: Message<'static>, sideways: bool, around: &mut Around<'_>) {
        let wire = match (sideways, self.wire) {
            (true, _) => self.side(around),
            (false, Some(wire)) => wire,
            (false, None) => return,
        };
        self.req_ids += 1;
        let session = self.session.clone().filter(|_| sideways);
        let request = Request::Message(Message {
            req_id: self.req_ids.to_string().into(),
            session: session.map(Into::into),
            ..message
        });
        self.send(wire, &request, around);
    }

    /// What the client is told of its messages must be what the metadata adapter knows.
    fn check_outcome(
        &mut self,
        told: Result<(), String>,
        sequence: &str,
        processed: Option<u32>,
        missing: &[u32],
        around: &mut Around<'_>,
    ) {
        let session = self.session.clone().unwrap_or_default();
        let delivered = &mut around.oracle.delivered;
        let mut checks = vec![told];
        if processed.is_some_and(|prog| !delivered.has(&session, sequence, prog)) {
            checks.push(Err("not processed at all".into()));
        }
        let missing = missing.iter();
        checks.extend(missing.map(|prog| delivered.give_up(&session, sequence, *prog)));
        for wrong in checks.into_iter().filter_map(Result::err) {
            self.complain(around, format!("message of {sequence}: {wrong}"));
        }
    }

    fn control(&mut self, op: Op<'_>, around: &mut Around<'_>) {
        let Some(wire) = self.wire else { return };
        self.req_ids += 1;
        if let Op::Delete { sub_id, .. } = op {
            self.deletes.insert(self.req_ids, sub_id);
        }
        let request = Request::Control(Control {
            req_id: self.req_ids.to_string().into(),
            session: None,
            op,
        });
        self.send(wire, &request, around);
    }

    /// Sends a request through a connection that has nothing to do with the session.
    fn control_sideways(&mut self, op: Op<'_>, around: &mut Around<'_>) {
        let wire = self.side(around);
        self.req_ids += 1;
        let request = Request::Control(Control {
            req_id: self.req_ids.to_string().into(),
            session: self.session.clone().map(Into::into),
            op,
        });
        self.send(wire, &request, around);
    }

    fn side(&mut self, around: &mut Around<'_>) -> WireId {
        match self.side_wire {
            Some(wire) => wire,
            None => {
                let wire = self.connect(around);
                *self.side_wire.insert(wire)
            }
        }
    }

    fn send(&self, wire: WireId, request: &Request<'_>, around: &mut Around<'_>) {
        let mut bytes = Vec::new();
        write_message(&mut bytes, request);
        let text = String::from_utf8(bytes).expect("requests are UTF-8");
        around
            .trace
            .note(around.world.now(), self, format_args!("w{wire}> {text}"));
        around.world.send(wire, text);
    }

    /// A connection lands on any shard.
    fn connect(&self, around: &mut Around<'_>) -> WireId {
        let shard = ShardId(around.rng.u16(..around.shards));
        around.world.connect(shard, Version::LATEST)
    }

    fn some_sub(&self, around: &mut Around<'_>) -> Option<u32> {
        let open = || {
            self.subs
                .iter()
                .filter(|(_, sub)| sub.state != SubState::Leaving)
        };
        let count = open().count();
        (count > 0)
            .then(|| open().nth(around.rng.usize(..count)))
            .flatten()
            .map(|(id, _)| *id)
    }

    fn complain(&self, around: &mut Around<'_>, complaint: String) {
        let complaint = format!(
            "{} ms, c{}: {complaint}",
            around.world.now().as_millis(),
            self.number
        );
        around.oracle.complain(complaint);
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("c{}", self.number))
    }
}

impl Meter {
    fn set(&mut self, bandwidth: GrantedBandwidth, now: Instant) {
        self.bytes_per_s = match bandwidth {
            GrantedBandwidth::Limited(kbps) => Some(kbps * 125.0),
            GrantedBandwidth::Unlimited | GrantedBandwidth::Unmanaged => None,
        };
        self.level = 0.0; // a new limit starts with a full burst
        self.at = now;
    }

    fn count(&mut self, bytes: usize, now: Instant) {
        if let Some(rate) = self.bytes_per_s {
            let leaked = now.since(self.at).as_secs_f64() * rate;
            self.level = (self.level - leaked).max(0.0) + bytes as f64;
            self.at = now;
        }
    }

    fn is_over(&self) -> bool {
        self.bytes_per_s
            .is_some_and(|rate| self.level > rate * BURST_S + LINE_BYTES_MAX)
    }
}

fn add(sub_id: u32, sub: &Sub, ack: bool) -> Add<'static> {
    Add {
        sub_id,
        data_adapter: None,
        group: sub.items.join(" ").into(),
        schema: sub.schema.join(" ").into(),
        selector: None,
        mode: Mode::Merge,
        snapshot: if sub.snapshot {
            Snapshot::Yes
        } else {
            Snapshot::No
        },
        frequency: sub
            .asked_hz
            .map_or(Frequency::Unlimited, Frequency::Limited),
        buffer_size: None,
        ack,
    }
}

fn some_frequency(rng: &mut fastrand::Rng) -> Option<f64> {
    [None, None, Some(0.5), Some(2.0), Some(3.0), Some(20.0)][rng.usize(..6)]
}

fn some_time(rng: &mut fastrand::Rng, millis_max: u64) -> Duration {
    Duration::from_millis(rng.u64(1..=millis_max))
}
