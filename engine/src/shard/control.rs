//! Requests: which session each one means, and the control operations other than subscribing.

use super::bind::Target;
use super::subscription::frequency_hz;
use super::{Origin, SessionKey, Shard, ShardMessage};
use crate::counters::Counter;
use crate::ids::ShardId;
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Cause, Refusal};
use crate::tlcp::request::{
    self, Bandwidth, Carrier, Control, Frequency, Mode, Op, Request, Table, Verb,
};
use crate::tlcp::{notify, response};

impl Shard {
    /// Carries out the requests of one message, in their order.
    pub(super) fn take_message(&mut self, origin: Origin, message: &str, now: Instant) {
        if self.waits_for_session(origin, message, now) {
            return;
        }
        let (verb, body) = match request::split_message(message) {
            Ok(parts) => parts,
            Err(refusal) => return self.refuse(origin, None, &refusal),
        };
        if verb == Verb::Wsok {
            self.counters.count(Counter::Requests);
            return self.reply(origin, response::wsok); // the one request without any line
        }
        if verb == Verb::CreateSession {
            return self.take_creation(origin, "", body, now);
        }
        for line in request::lines(verb, body) {
            match request::parse_line(verb, origin.carrier(), "", line) {
                Ok(request) => {
                    let source = Source {
                        verb,
                        query: "",
                        line,
                    };
                    self.take_request(origin, request, source, now);
                }
                Err(refusal) => self.refuse(origin, Some(verb), &refusal),
            }
        }
    }

    /// Refuses what a message begins with that is above the limit.
    pub(super) fn refuse_cut_message(&mut self, origin: Origin, beginning: &str) {
        let (verb, body) = match request::split_message(beginning) {
            Ok(parts) => parts,
            Err(refusal) => return self.refuse(origin, None, &refusal),
        };
        match verb {
            Verb::Control | Verb::Msg => {
                for line in request::lines(verb, body) {
                    self.refuse(origin, Some(verb), &request::too_long("", line));
                }
            }
            _ => self.refuse(origin, Some(verb), &Refusal::request_too_long()),
        }
    }

    /// Carries out one request.
    pub(super) fn take_request(
        &mut self,
        origin: Origin,
        request: Request<'_>,
        source: Source<'_>,
        now: Instant,
    ) {
        self.counters.count(Counter::Requests);
        match request {
            Request::Wsok => {} // answered before its lines were looked for
            Request::SendLog => self.reply(origin, response::reqok_bare),
            Request::Heartbeat { session } => self.heartbeat(origin, session.as_deref(), now),
            Request::Create(create) => self.create(origin, create, None, now),
            Request::Bind(bind) => self.bind(origin, bind, source.message(), now),
            Request::Control(control) => {
                let session = control.session.as_deref();
                if let Some(key) = self.find(origin, session, &control.req_id, source) {
                    self.heard(key, now);
                    if let Some(sub) = self.defers(key, &control.op) {
                        return self.defer(origin, sub, &control, source);
                    }
                    self.control(origin, key, control, now);
                }
            }
            Request::Message(message) => {
                let session = message.session.as_deref();
                if let Some(key) = self.find(origin, session, &message.req_id, source) {
                    self.heard(key, now);
                    self.message(origin, key, &message, now);
                }
            }
        }
    }

    /// Keeps a message back that came behind a creation the metadata adapter has not decided about: it may mean that
    /// very session.
    fn waits_for_session(&mut self, origin: Origin, message: &str, now: Instant) -> bool {
        let conn = origin.conn;
        if origin.shard != self.config.shard {
            return false;
        }
        let Some(entry) = self.conns.get_mut(conn).filter(|entry| entry.opening) else {
            return false;
        };
        if message.starts_with(Verb::Wsok.name()) {
            return false;
        }
        entry.waiting_bytes += message.len();
        if entry.waiting_bytes > self.config.limits.waiting_bytes_max {
            self.counters.count(Counter::Overruns);
            self.drop_connection(conn, now);
        } else {
            entry.waiting.push_back(message.into());
        }
        true
    }

    /// The session of a request on this shard. A request for another shard's session is passed on; one for no session
    /// is refused.
    fn find(
        &mut self,
        origin: Origin,
        session: Option<&str>,
        req_id: &str,
        source: Source<'_>,
    ) -> Option<SessionKey> {
        let refusal = match self.target(origin, session) {
            Target::Here(key) if self.speaks_other_dialect(origin, key) => {
                Refusal::request_incompatible()
            }
            Target::Here(key) => return Some(key),
            Target::Shard(shard) => {
                self.forward(origin, shard, source.message());
                return None;
            }
            Target::Elsewhere => Refusal::control_elsewhere(),
            Target::Nowhere => Refusal::session_not_found(),
        };
        self.refuse(origin, Some(source.verb), &refusal.for_request(req_id));
        None
    }

    /// Whether a request of one protocol family means a session of the other. Those that another shard has passed on are
    /// not looked at: they do no harm.
    fn speaks_other_dialect(&self, origin: Origin, key: SessionKey) -> bool {
        let entry = self.conns.get(origin.conn);
        origin.shard == self.config.shard
            && entry.is_some_and(|entry| entry.is_legacy() != self.sessions[key].is_legacy())
    }

    fn forward(&mut self, origin: Origin, shard: ShardId, request: Box<str>) {
        if origin.shard != self.config.shard {
            return; // what another shard forwarded named a session of this one
        }
        self.counters.count(Counter::Forwarded);
        if let Some(entry) = self.conns.get_mut(origin.conn) {
            entry.awaited += 1;
        }
        let Origin { conn, slot, .. } = origin;
        self.tell(
            shard,
            ShardMessage::Request {
                conn,
                slot,
                request,
            },
        );
    }

    /// Refuses requests that were not carried out.
    pub(super) fn refuse_message(&mut self, origin: Origin, message: &str, refusal: &Refusal) {
        let Ok((verb, body)) = request::split_message(message) else {
            return;
        };
        for line in request::lines(verb, body) {
            let req_id = match request::parse_line(verb, origin.carrier(), "", line) {
                Ok(Request::Control(control)) => control.req_id,
                Ok(Request::Message(message)) => message.req_id,
                _ => continue,
            };
            let refusal = refusal.clone().for_request(req_id);
            self.refuse(origin, Some(verb), &refusal);
        }
    }

    pub(super) fn refuse(&mut self, origin: Origin, verb: Option<Verb>, refusal: &Refusal) {
        self.counters.count(Counter::RequestsRefused);
        self.reply(origin, |out| response::refuse(out, verb, refusal));
    }

    pub(super) fn control(
        &mut self,
        origin: Origin,
        key: SessionKey,
        control: Control<'_>,
        now: Instant,
    ) {
        let req_id = &*control.req_id;
        let destroys = matches!(control.op, Op::Destroy { .. });
        if !destroys && self.sessions[key].lines.len() > self.config.limits.lines_bytes_max {
            let refusal = Refusal::request_failed()
                .with_text("Too much waits for this client")
                .for_request(req_id);
            return self.refuse(origin, Some(Verb::Control), &refusal);
        }
        let done = match control.op {
            Op::Add(add) => {
                return self.add(origin, key, req_id, add, Table::default(), now);
            }
            // A client of TLCP has no such operations; and parameters that are none are ignored.
            Op::Start { .. }
            | Op::AddTable {
                table: Table { silent: true, .. },
                ..
            } if !self.sessions[key].is_legacy() => {
                Err(Refusal::bad_argument().with_text("Invalid argument: LS_op"))
            }
            Op::AddTable { add, table } => {
                let legacy = self.sessions[key].is_legacy();
                let table = if legacy { table } else { Table::default() };
                return self.add(origin, key, req_id, add, table, now);
            }
            Op::Start { sub_id } => self.start(origin, key, req_id, sub_id),
            Op::Delete { sub_id, ack } => self.delete(origin, key, req_id, sub_id, ack),
            Op::Reconf { sub_id, frequency } => {
                self.reconf(origin, key, req_id, (sub_id, frequency), now)
            }
            Op::Constrain { bandwidth } => self.constrain(origin, key, req_id, bandwidth, now),
            Op::ForceRebind {
                polling_millis,
                close_socket,
            } => {
                self.accept(origin, req_id);
                let polling = Duration::from_millis(polling_millis.unwrap_or(0));
                let wait = self.config.session_timeout + polling.min(self.config.polling_max);
                self.rebind(key, wait, close_socket, now);
                Ok(())
            }
            Op::Destroy {
                cause_code,
                cause_message,
                ..
            } => {
                self.accept(origin, req_id);
                self.end_session(
                    key,
                    Some(&Cause::destroyed(cause_code, cause_message.as_deref())),
                    now,
                );
                Ok(())
            }
            Op::Mpn(_) => Err(Refusal::mpn_disabled()),
        };
        if let Err(refusal) = done {
            self.refuse(origin, Some(Verb::Control), &refusal.for_request(req_id));
        }
    }

    /// A request has been carried out whose client may not want to hear of it. Another shard always does: see `moves`.
    pub(super) fn acknowledge(&mut self, origin: Origin, req_id: &str, wanted: bool) {
        if wanted {
            self.accept(origin, req_id);
        } else if origin.shard != self.config.shard {
            self.reply(origin, |_| {});
        }
    }

    pub(super) fn accept(&mut self, origin: Origin, req_id: &str) {
        self.reply(origin, |out| response::reqok(out, req_id));
    }

    /// `reconf`: `CONF` goes before the first update at the new pace, and is sent even if nothing changes.
    fn reconf(
        &mut self,
        origin: Origin,
        key: SessionKey,
        req_id: &str,
        (sub_id, frequency): (u32, Option<Frequency>),
        now: Instant,
    ) -> Result<(), Refusal> {
        let sub = self
            .subscription(key, sub_id)
            .ok_or_else(Refusal::subscription_not_found)?;
        let raw = self.subscriptions[sub].mode == Mode::Raw; // has no frequency, and takes it for granted
        if let Some(frequency) = frequency.filter(|_| !raw) {
            if frequency == Frequency::Unfiltered || self.subscriptions[sub].is_unfiltered() {
                return Err(Refusal::frequency_fixed());
            }
            self.set_frequency(sub, frequency_hz(frequency), now);
        }
        self.accept(origin, req_id);
        self.say_conf(sub);
        Ok(())
    }

    fn constrain(
        &mut self,
        origin: Origin,
        key: SessionKey,
        req_id: &str,
        bandwidth: Bandwidth,
        now: Instant,
    ) -> Result<(), Refusal> {
        let session = &mut self.sessions[key];
        session.set_bandwidth(bandwidth, now);
        // Without a connection it is the head of the next response that says it, unless that is one which waits.
        if !session.reduce_head && (session.conn().is_some() || session.head_waits) {
            let granted = session.granted_bandwidth();
            notify::cons(&mut session.lines, granted);
        }
        self.accept(origin, req_id);
        self.wake(key);
        Ok(())
    }

    /// Puts the session's connection on the ready list, if it has one.
    pub(super) fn wake(&mut self, key: SessionKey) {
        if let Some(conn) = self.sessions.get(key).and_then(|session| session.conn()) {
            self.conns.make_ready(conn, &mut self.ready);
        }
    }
}

/// What a request was parsed from, in case it has to go elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub verb: Verb,
    /// The query string of an HTTP request.
    pub query: &'a str,
    pub line: &'a str,
}

impl Source<'_> {
    /// The request as a WebSocket message.
    pub fn message(self) -> Box<str> {
        let name = self.verb.name();
        let line = request::with_query(self.query, self.line);
        format!("{name}\r\n{line}").into()
    }

    /// The same, for this session even if the request leaves it to its connection.
    pub fn message_for(self, session: &str) -> Box<str> {
        let query = format!("LS_session={session}&{}", self.query);
        let query = query.as_str();
        Source { query, ..self }.message()
    }
}

impl Origin {
    /// The same connection, for a request whose answer nobody shall see: it has no place.
    pub fn without_answer(self) -> Origin {
        let slot = Some(u32::MAX);
        Origin { slot, ..self }
    }

    /// Whether some parameters count that only count on one of them.
    pub fn carrier(self) -> Carrier {
        match self.slot {
            Some(_) => Carrier::Http,
            None => Carrier::WebSocket,
        }
    }
}
