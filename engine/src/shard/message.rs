//! Messages of clients, on their way through the metadata adapter (TLCP, Message Sending).
//!
//! A message that is accepted gets `REQOK`; what became of it is told on the session's stream, by a data line, when the
//! adapter is done. In a sequence, messages go to the adapter in the order of their numbers, one at a time; numbers that
//! do not come in time are passed over, and the client is told. Messages outside of sequences go at once and
//! concurrently. All of this goes on while the session has no connection.
//!
//! Everything is bounded per session, see [`Limits`]: what exceeds a bound is refused with a code that concerns the one
//! message only. The client forgets it, and in a sequence its number then counts as one that never came.

mod ranges;
mod sequence;
mod unordered;

use super::question::Waiting;
use super::timer::Timer;
use super::{Origin, SessionKey, Shard};
use crate::counters::Counter;
use crate::limits::Limits;
use crate::metadata::{Granted, Question};
use crate::time::{Duration, Instant};
use crate::tlcp::cause::{Reason, Refusal};
use crate::tlcp::notify;
use crate::tlcp::request::{Message, Verb};
use sequence::{Held, Sequence, Skipped, TooLow};
use unordered::Unordered;

/// All messages of one session.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// In the order of their first messages. They stay as long as the session: what was used must be known.
    sequences: Vec<Sequence>,
    unordered: Unordered,
    /// Messages that were accepted and have no outcome yet.
    open: usize,
    /// Their bytes, and those of the names of sequences.
    bytes: usize,
    /// The time of the earliest timer that is set.
    armed: Option<Instant>,
}

/// Where in a session a message belongs: the sequence of this place, or none.
type Lane = Option<usize>;

/// A message inside the adapter.
#[derive(Debug)]
pub(super) struct InAdapter {
    session: SessionKey,
    lane: Lane,
    /// Its number, if the client wants to know its outcome.
    told_as: Option<u32>,
    /// The request that is answered by the outcome, and not before: a message of the text protocol without a number.
    asked_by: Option<Origin>,
    bytes: usize,
}

impl Messages {
    /// Messages that have no outcome yet; and the bytes that are kept.
    pub fn held(&self) -> (usize, usize) {
        (self.open, self.bytes)
    }

    /// Whether the message can be taken.
    fn check(&self, message: &Message<'_>, limits: &Limits) -> Result<(), Refusal> {
        let lane = self.lane(message.sequence.as_deref());
        let number = match (message.prog, lane) {
            (Some(prog), Some(lane)) => self.sequences[lane].check(prog),
            (Some(prog), None) if message.sequence.is_none() => self.unordered.check(prog),
            _ => Ok(()),
        };
        number.map_err(|too_low| match too_low {
            TooLow::Repeated => Refusal::message_repeated(),
            TooLow::PassedOver => Refusal::message_too_late(),
        })?;
        let (mut sequences, mut bytes) = (self.sequences.len(), self.bytes + message.text.len());
        if let (Some(name), None) = (&message.sequence, lane) {
            sequences += 1;
            bytes += name.len();
        }
        if self.open >= limits.messages_per_session_max
            || bytes > limits.message_bytes_per_session_max
        {
            return Err(Refusal::message_failed().with_text("Too many messages wait"));
        }
        if sequences > limits.message_sequences_per_session_max {
            return Err(Refusal::message_failed().with_text("Too many sequences"));
        }
        Ok(())
    }

    /// Takes a message that can be taken. One in a sequence is held there.
    fn take(&mut self, message: &Message<'_>, timeout: Duration, now: Instant) -> Lane {
        self.open += 1;
        self.bytes += message.text.len();
        let Some(name) = message.sequence.as_deref() else {
            if let Some(prog) = message.prog {
                self.unordered.take(prog, now + timeout);
            }
            return None;
        };
        let lane = self.lane(Some(name)).unwrap_or_else(|| {
            self.bytes += name.len();
            self.sequences.push(Sequence::new(name));
            self.sequences.len() - 1
        });
        let wait = message
            .max_wait_millis
            .map_or(timeout, |millis| timeout.min(Duration::from_millis(millis)));
        let held = Held {
            text: (&*message.text).into(),
            outcome: message.outcome,
            wait_until: now + wait,
        };
        if let Some(prog) = message.prog {
            self.sequences[lane].take(prog, held);
        }
        Some(lane)
    }

    fn lane(&self, name: Option<&str>) -> Lane {
        let name = name?;
        self.sequences.iter().position(|known| *known.name == *name)
    }

    fn name(&self, lane: Lane) -> Option<&str> {
        lane.map(|lane| &*self.sequences[lane].name)
    }

    fn give_up(&mut self, lane: Lane, now: Instant, limits: &Limits) -> Option<Skipped> {
        let gaps_max = limits.message_gaps_max;
        match lane {
            Some(lane) => self.sequences[lane].give_up(now, gaps_max),
            None => self.unordered.give_up(now, gaps_max),
        }
    }

    /// When something is to be given up.
    fn deadline(&self) -> Option<Instant> {
        let sequences = self.sequences.iter().filter_map(Sequence::deadline);
        sequences.chain(self.unordered.deadline()).min()
    }
}

/// Whether messages can be taken one after the other by a session that has had none.
pub(super) fn check_first<'a>(
    messages: impl Iterator<Item = &'a Message<'a>>,
    limits: &Limits,
) -> Result<(), Refusal> {
    let mut taken = Messages::default();
    for message in messages {
        taken.check(message, limits)?;
        taken.take(message, Duration::ZERO, Instant::ZERO);
    }
    Ok(())
}

impl Shard {
    /// `msg`
    pub(super) fn message(
        &mut self,
        origin: Origin,
        key: SessionKey,
        message: &Message<'_>,
        now: Instant,
    ) {
        let session = &self.sessions[key];
        let checked = if session.lines.len() > self.config.limits.lines_bytes_max {
            Err(Refusal::message_failed().with_text("Too much waits for this client"))
        } else {
            let messages = session.messages.as_deref();
            messages
                .unwrap_or(&Messages::default())
                .check(message, &self.config.limits)
        };
        if let Err(refusal) = checked {
            let refusal = refusal.for_request(&*message.req_id);
            return self.refuse(origin, Some(Verb::Msg), &refusal);
        }
        if session.is_legacy() && message.sequence.is_none() && message.prog.is_none() {
            return self.take_synchronous(origin, key, message, now);
        }
        self.acknowledge(origin, &message.req_id, message.ack);
        self.take_checked(key, message, now);
    }

    /// Takes a message whose request is answered when the adapter is done with it.
    fn take_synchronous(
        &mut self,
        origin: Origin,
        key: SessionKey,
        message: &Message<'_>,
        now: Instant,
    ) {
        self.counters.count(Counter::Messages);
        let bytes = message.text.len();
        self.counters.add(Counter::MessageBytes, bytes as u64);
        let session = &mut self.sessions[key];
        let messages = session.messages.get_or_insert_default();
        messages.take(message, Duration::ZERO, now);
        let waiting = InAdapter {
            session: key,
            lane: None,
            told_as: None,
            asked_by: Some(origin),
            bytes,
        };
        self.ask_about(waiting, (&*message.text).into(), now);
    }

    /// Takes a message that can be taken.
    pub(super) fn take_checked(&mut self, key: SessionKey, message: &Message<'_>, now: Instant) {
        self.counters.count(Counter::Messages);
        let bytes = message.text.len() as u64;
        self.counters.add(Counter::MessageBytes, bytes);
        let timeout = self.config.missing_message_timeout;
        let session = &mut self.sessions[key];
        let messages = session.messages.get_or_insert_default();
        let lane = messages.take(message, timeout, now);
        if lane.is_none() {
            let told_as = message.prog.filter(|_| message.outcome);
            self.hand_over(key, lane, told_as, (&*message.text).into(), now);
        }
        self.go_on(key, lane, now);
    }

    /// Gives up what has to be, lets the next message of a sequence into the adapter, and sees to the time when
    /// something is to be given up next.
    fn go_on(&mut self, key: SessionKey, lane: Lane, now: Instant) {
        self.give_up(key, lane, now);
        // A message that the adapter cannot even be asked about has its outcome at once, and the next one follows.
        while let Some(messages) = self.messages(key)
            && let Some((prog, held)) = lane.and_then(|lane| messages.sequences[lane].start())
        {
            let told_as = held.outcome.then_some(prog);
            if self.hand_over(key, lane, told_as, held.text, now) {
                break;
            }
        }
        self.arm(key);
    }

    /// Asks the adapter; false if that is not possible, and the message has failed.
    fn hand_over(
        &mut self,
        key: SessionKey,
        lane: Lane,
        told_as: Option<u32>,
        text: Box<str>,
        now: Instant,
    ) -> bool {
        let waiting = InAdapter {
            session: key,
            lane,
            told_as,
            asked_by: None,
            bytes: text.len(),
        };
        self.ask_about(waiting, text, now)
    }

    fn ask_about(&mut self, waiting: InAdapter, text: Box<str>, now: Instant) -> bool {
        let session = &self.sessions[waiting.session];
        let question = Question::Message {
            adapter_set: session.adapter_set,
            user: session.user.clone(),
            session: session.id.clone(),
            message: text,
        };
        let asked = self.try_ask(Waiting::Message(waiting), question, now);
        if let Err(Waiting::Message(waiting)) = asked {
            let refusal = Refusal::message_failed().with_text("The server is overloaded");
            self.conclude(&waiting, Err(refusal));
            return false;
        }
        true
    }

    /// The adapter is done with a message.
    pub(super) fn processed(
        &mut self,
        waiting: InAdapter,
        result: Result<Granted, Refusal>,
        now: Instant,
    ) {
        let result = match result {
            Ok(Granted::Message { response }) => Ok(response),
            Ok(_) => Err(Refusal::message_failed()),
            Err(refusal) => Err(refusal),
        };
        if self.conclude(&waiting, result) {
            self.go_on(waiting.session, waiting.lane, now);
        }
    }

    /// Tells the outcome of a message, and makes room for others. False if its session is gone.
    fn conclude(&mut self, waiting: &InAdapter, result: Result<Option<Box<str>>, Refusal>) -> bool {
        let key = waiting.session;
        if let Some(origin) = waiting.asked_by {
            match &result {
                Ok(_) => self.accept(origin, ""),
                Err(refusal) => {
                    let refusal = refusal.clone().for_request("");
                    self.refuse(origin, Some(Verb::Msg), &refusal);
                }
            }
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let Some(messages) = session.messages.as_deref_mut() else {
            return false;
        };
        messages.open -= 1;
        messages.bytes -= waiting.bytes;
        if let Some(lane) = waiting.lane {
            messages.sequences[lane].done();
        }
        self.counters.count(match result {
            Ok(_) => Counter::MessagesDone,
            Err(_) => Counter::MessagesFailed,
        });
        if let Some(prog) = waiting.told_as {
            let (lines, name) = (&mut session.lines, messages.name(waiting.lane));
            match result {
                Ok(response) => {
                    let response = response.as_deref().unwrap_or_default();
                    notify::msgdone(lines, session.version, name, prog, response);
                }
                Err(refusal) => {
                    notify::msgfail(lines, name, prog, refusal.code, &refusal.text);
                }
            }
            self.wake(key);
        }
        true
    }

    /// Tells the client of the numbers that did not come in time. Whether it wanted to know what becomes of them is not
    /// known; it ignores what does not concern it.
    fn give_up(&mut self, key: SessionKey, lane: Lane, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(messages) = session.messages.as_deref_mut() else {
            return;
        };
        let mut any = false;
        while let Some(skipped) = messages.give_up(lane, now, &self.config.limits) {
            any = true;
            let count = u64::from(skipped.last - skipped.first) + 1;
            self.counters.add(Counter::MessagesSkipped, count);
            let (lines, name) = (&mut session.lines, messages.name(lane));
            if count == 1 {
                let Reason { code, text } = Reason::MESSAGE_SKIPPED;
                notify::msgfail(lines, name, skipped.last, code, text);
            } else {
                let code = Reason::MESSAGES_SKIPPED.code;
                notify::msgfail(lines, name, skipped.last, code, &count.to_string());
            }
        }
        if any {
            self.wake(key);
        }
    }

    /// The time of missing messages may be over.
    pub(super) fn on_missing_messages(&mut self, key: SessionKey, now: Instant) {
        let Some(messages) = self.messages(key) else {
            return;
        };
        if messages.armed.is_some_and(|at| at <= now) {
            messages.armed = None;
        }
        let sequences = messages.sequences.len();
        for lane in (0..sequences).map(Some).chain([None]) {
            let messages = self.messages(key);
            let deadline = messages.and_then(|messages| match lane {
                Some(lane) => messages.sequences[lane].deadline(),
                None => messages.unordered.deadline(),
            });
            if deadline.is_some_and(|at| at <= now) {
                self.go_on(key, lane, now);
            }
        }
        self.arm(key);
    }

    /// Sets a timer for what is to be given up next, unless there is one for then or for earlier.
    fn arm(&mut self, key: SessionKey) {
        let Some(messages) = self.messages(key) else {
            return;
        };
        if let Some(at) = messages.deadline()
            && messages.armed.is_none_or(|armed| at < armed)
        {
            messages.armed = Some(at);
            self.timers.insert(at, Timer::MissingMessages(key));
        }
    }

    fn messages(&mut self, key: SessionKey) -> Option<&mut Messages> {
        self.sessions.get_mut(key)?.messages.as_deref_mut()
    }
}
