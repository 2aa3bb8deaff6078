//! Creations that bring requests to be carried out in the new session (TLCP, Combo Requests).
//!
//! All or nothing: the session comes to be when everything in it is valid and granted, and is then told in one go, its
//! head first. Until then it has no connection and nobody knows its id; its subscriptions are made in it as in any
//! other, and what they have to say waits there. If one is refused it ends again, and the client is told why.
//!
//! A message cannot be granted beforehand, as the question would be the processing. So messages, and whatever else a
//! metadata adapter is not asked about, follow when the session is there.

use super::session::Opening;
use super::{Origin, SessionKey, Shard, message};
use crate::counters::Counter;
use crate::limits::Limits;
use crate::time::Instant;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::{self, Op, Request, Table, Verb};
use std::collections::BTreeSet;

/// The requests of a creation.
#[derive(Debug)]
pub(super) struct Combo {
    /// One request each, known to be valid.
    lines: Vec<Box<str>>,
}

/// A session that comes to be when its subscriptions are granted.
#[derive(Debug)]
pub(super) struct Combining {
    pub opening: Opening,
    combo: Combo,
    undecided: usize,
}

impl Combo {
    /// The requests that come with a creation, in its line or behind it; none for most.
    ///
    /// The query string of an HTTP request belongs to the creation's line: in a `GET`, it is that line.
    pub fn read<'a>(
        query: &str,
        mut lines: impl Iterator<Item = &'a str>,
        limits: &Limits,
    ) -> Result<Option<Combo>, Refusal> {
        let first = lines.next().unwrap_or_default();
        let in_first = request::has_combo(query, first);
        let first = in_first.then(|| request::with_query(query, first).into());
        let lines: Vec<Box<str>> = first.into_iter().chain(lines.map(Into::into)).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        let combo = Combo { lines };
        let mut requests = Vec::new();
        for line in &combo.lines {
            requests.push(request::parse_combo_line("", line)?);
        }
        check(&requests, limits).map_err(|refusal| Refusal::combined_request(&refusal.text))?;
        Ok(Some(combo))
    }

    fn requests(&self) -> impl Iterator<Item = Request<'_>> {
        // They could be parsed once, so they can be again.
        let parse = |line| request::parse_combo_line("", line).ok();
        self.lines.iter().filter_map(move |line| parse(line))
    }
}

/// Finds what would be refused in the session without asking anybody.
fn check(requests: &[Request<'_>], limits: &Limits) -> Result<(), Refusal> {
    let mut subscriptions = BTreeSet::new();
    for request in requests {
        let Request::Control(control) = request else {
            continue;
        };
        match &control.op {
            Op::Start { .. }
            | Op::AddTable {
                table: Table { silent: true, .. },
                ..
            } => {
                return Err(Refusal::bad_argument().with_text("Invalid argument: LS_op"));
            }
            Op::Add(add) | Op::AddTable { add, .. } => {
                if !subscriptions.insert(add.sub_id) {
                    return Err(Refusal::subscription_exists());
                }
                if subscriptions.len() > limits.subscriptions_per_session_max {
                    return Err(Refusal::request_failed().with_text("Too many subscriptions"));
                }
            }
            Op::Delete { sub_id, .. } | Op::Reconf { sub_id, .. } => {
                if !subscriptions.contains(sub_id) {
                    return Err(Refusal::subscription_not_found());
                }
            }
            Op::Mpn(_) => return Err(Refusal::mpn_disabled()),
            Op::Constrain { .. } | Op::ForceRebind { .. } | Op::Destroy { .. } => {}
        }
    }
    let messages = requests.iter().filter_map(|request| match request {
        Request::Message(message) => Some(message),
        _ => None,
    });
    message::check_first(messages, limits)
}

impl Shard {
    /// `create_session` with all its lines.
    pub(super) fn take_creation(&mut self, origin: Origin, query: &str, body: &str, now: Instant) {
        self.counters.count(Counter::Requests);
        let verb = Verb::CreateSession;
        let mut lines = request::lines(verb, body);
        let combo = Combo::read(query, lines.clone(), &self.config.limits);
        let first = lines.next().unwrap_or_default();
        let created = request::parse_line(verb, origin.carrier(), query, first);
        match (created, combo) {
            (Ok(Request::Create(create)), Ok(combo)) => self.create(origin, create, combo, now),
            (Err(refusal), _) | (_, Err(refusal)) => self.refuse_session(origin, &refusal, now),
            (Ok(_), Ok(_)) => {} // the verb says what it is
        }
    }

    /// The session is granted: asks for what shall be in it.
    pub(super) fn combine(
        &mut self,
        key: SessionKey,
        opening: Opening,
        combo: Combo,
        now: Instant,
    ) {
        let nowhere = opening.origin.without_answer();
        let adds: Vec<Box<str>> = {
            let adds_something = |line: &str| {
                let parsed = request::parse_combo_line("", line);
                matches!(parsed, Ok(Request::Control(control)) if is_add(&control.op))
            };
            let adds = combo.lines.iter().filter(|line| adds_something(line));
            adds.cloned().collect()
        };
        self.sessions[key].combining = Some(Box::new(Combining {
            opening,
            combo,
            undecided: adds.len() + 1, // one for this function, so that nothing is complete before its end
        }));
        for line in adds {
            if !self.sessions.contains_key(key) {
                return; // one was refused
            }
            if let Ok(Request::Control(control)) = request::parse_combo_line("", &line)
                && let Op::Add(add) | Op::AddTable { add, .. } = control.op
            {
                self.add(nowhere, key, "", add, Table::default(), now);
            }
        }
        self.combined(key, Ok(()), now);
    }

    /// One of the subscriptions that come with a session is decided.
    pub(super) fn combined(&mut self, key: SessionKey, result: Result<(), Refusal>, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(combining) = &mut session.combining else {
            return;
        };
        combining.undecided -= 1;
        if result.is_ok() && combining.undecided > 0 {
            return;
        }
        let Some(combining) = session.combining.take() else {
            return;
        };
        let Combining { opening, combo, .. } = *combining;
        let conn = opening.origin.conn;
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.opening = false;
        }
        match result {
            Ok(()) if self.conns.get(conn).is_none() => self.end_session(key, None, now),
            Ok(()) => {
                let nowhere = opening.origin.without_answer();
                self.begin_session(key, &opening, now);
                self.follow_up(nowhere, key, &combo, now);
            }
            Err(refusal) => {
                self.end_session(key, None, now);
                let late = opening.deadline.is_some_and(|at| at <= now);
                let refusal = match late {
                    true => Refusal::overloaded(),
                    false => Refusal::combined_request(&reason(&refusal)),
                };
                self.refuse_session(opening.origin, &refusal, now);
            }
        }
        self.take_waiting(conn, now);
    }

    /// Carries out what the metadata adapter was not asked about.
    fn follow_up(&mut self, nowhere: Origin, key: SessionKey, combo: &Combo, now: Instant) {
        for request in combo.requests() {
            if !self.sessions.contains_key(key) {
                return;
            }
            match request {
                Request::Control(control) if !is_add(&control.op) => {
                    self.control(nowhere, key, control, now);
                }
                Request::Message(message) => self.message(nowhere, key, &message, now),
                _ => {}
            }
        }
    }
}

fn is_add(op: &Op<'_>) -> bool {
    matches!(op, Op::Add(_) | Op::AddTable { .. })
}

/// What a client is told, who only sees that there is no session.
fn reason(refusal: &Refusal) -> String {
    let text = &refusal.text;
    match refusal.code {
        ..=0 | 21..=28 => format!("Metadata Provider refusal: {text}"),
        _ => text.to_string(),
    }
}
