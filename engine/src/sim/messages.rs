//! Messages of the simulator's clients: in sequences and outside of any, with numbers left out, sent again whenever a
//! client cannot be sure; and what the metadata adapter gets of them.
//!
//! The text of a message tells what the adapter shall say to it, its sequence and its number: `no B 7`. So it can be
//! checked that the adapter gets each message once, a sequence in its order, and that clients are told the truth once.

use super::world::Options;
use crate::metadata::Granted;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What one session's client sends, and has heard of it.
#[derive(Debug, Default)]
pub struct Messenger {
    lanes: [Lane; LANES.len()],
}

/// A sequence, or all messages outside of any.
#[derive(Debug, Default)]
struct Lane {
    /// The last number used or left out.
    last: u32,
    /// Messages without an outcome yet, by number.
    open: BTreeMap<u32, Sent>,
    /// Numbers of which it was told that they did not come in time.
    given_up: BTreeSet<u32>,
}

#[derive(Debug)]
struct Sent {
    word: &'static str,
    max_wait_millis: Option<u64>,
}

/// What the metadata adapter got.
#[derive(Debug, Default)]
pub struct Delivered {
    /// By session and sequence: the numbers, in the order in which they came.
    got: BTreeMap<(String, String), Vec<u32>>,
    /// What clients were told never came.
    given_up: BTreeSet<(String, String, u32)>,
    /// How many messages there were.
    pub count: u64,
}

/// Names of the sequences; the last one is how messages outside of any are shown.
const LANES: [&str; 3] = ["A", "B", "*"];
const OUTSIDE: usize = LANES.len() - 1;
/// What the adapter says to messages that begin so.
const ACCEPTED: &str = "ok";
const REFUSED: &str = "no";
const FAILED: &str = "bad";
const CRASHED: &str = "boom";
const REFUSAL_CODE: i64 = -5;
/// Messages without an outcome; a client waits then.
const OPEN_MAX: usize = 30;

/// Lets the metadata adapters of a world say what the messages ask for.
pub fn set_answers(options: &mut Options) {
    let answers = [
        (
            ACCEPTED,
            Ok(Granted::Message {
                response: Some(RESPONSE.into()),
            }),
        ),
        (
            REFUSED,
            Err(Refusal::by_adapter(REFUSAL_CODE, "no, thank you")),
        ),
        (FAILED, Err(Refusal::message_failed())),
        (CRASHED, Err(Refusal::message_adapter_failed())),
    ];
    for (word, answer) in answers {
        options.message_answers.insert(word.into(), Some(answer));
    }
}

const RESPONSE: &str = "yes, well";

impl Messenger {
    /// The next message, if there are not too many under way. Some numbers are left out, and never come.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Option<Message<'static>> {
        let at = rng.usize(..LANES.len());
        let lane = &mut self.lanes[at];
        if lane.open.len() >= OPEN_MAX {
            return None;
        }
        lane.last += match rng.u8(..12) {
            0 => 2,
            1 => rng.u32(2..5),
            _ => 1,
        };
        let prog = lane.last;
        let word = [ACCEPTED, ACCEPTED, ACCEPTED, REFUSED, FAILED, CRASHED][rng.usize(..6)];
        let max_wait_millis = [None, Some(0), Some(300), Some(5_000)][rng.usize(..4)];
        let sent = Sent {
            word,
            max_wait_millis,
        };
        let message = message(at, prog, &sent);
        lane.open.insert(prog, sent);
        Some(message)
    }

    /// All messages of which nothing has been heard, to be sent again.
    pub fn unanswered(&self) -> Vec<Message<'static>> {
        let lanes = self.lanes.iter().enumerate();
        lanes
            .flat_map(|(at, lane)| {
                let open = lane.open.iter();
                open.map(move |(prog, sent)| message(at, *prog, sent))
            })
            .collect()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.open.is_empty())
    }

    /// The client is told that a message was processed, with the adapter's response.
    pub fn on_done(&mut self, sequence: &str, prog: u32, response: &str) -> Result<(), String> {
        let sent = self.lane(sequence)?.conclude(prog)?;
        match sent.word {
            ACCEPTED if response == RESPONSE => Ok(()),
            word => Err(format!("{word} was answered with {response:?}")),
        }
    }

    /// The client is told that a message failed, or that some never came; returns the numbers of the latter.
    pub fn on_failed(
        &mut self,
        sequence: &str,
        prog: u32,
        code: i64,
        text: &str,
    ) -> Result<Vec<u32>, String> {
        let lane = self.lane(sequence)?;
        let count = match code {
            38 => 1,
            39 => text.parse().map_err(|_| "no number".to_owned())?,
            _ => {
                let sent = lane.conclude(prog)?;
                return match (sent.word, code) {
                    (REFUSED, REFUSAL_CODE) | (FAILED, 34) | (CRASHED, 35) => Ok(Vec::new()),
                    (word, _) => Err(format!("{word} was answered with {code}")),
                };
            }
        };
        if count == 0 || count > prog || (code == 39 && count == 1) {
            return Err(format!("{count} numbers up to {prog}"));
        }
        let missing: Vec<u32> = (prog - count + 1..=prog).collect();
        for number in &missing {
            lane.open.remove(number);
            if !lane.given_up.insert(*number) {
                return Err(format!("{number} was given up twice"));
            }
        }
        Ok(missing)
    }

    fn lane(&mut self, sequence: &str) -> Result<&mut Lane, String> {
        let at = LANES.iter().position(|name| *name == sequence);
        at.map(|at| &mut self.lanes[at])
            .ok_or_else(|| format!("no such sequence: {sequence}"))
    }
}

impl Lane {
    fn conclude(&mut self, prog: u32) -> Result<Sent, String> {
        self.open
            .remove(&prog)
            .ok_or_else(|| format!("{prog} was told twice, or never sent"))
    }
}

fn message(lane: usize, prog: u32, sent: &Sent) -> Message<'static> {
    let name = LANES[lane];
    let in_sequence = lane != OUTSIDE;
    Message {
        req_id: "".into(),
        session: None,
        text: format!("{} {name} {prog}", sent.word).into(),
        sequence: in_sequence.then(|| name.into()),
        prog: Some(prog),
        max_wait_millis: sent.max_wait_millis.filter(|_| in_sequence),
        outcome: true,
        ack: prog.is_multiple_of(2),
    }
}

impl Delivered {
    /// The adapter gets a message.
    pub fn on_message(&mut self, session: &str, text: &str) -> Result<(), String> {
        let mut words = text.split(' ').skip(1);
        let (lane, prog) = (
            words.next(),
            words.next().and_then(|prog| prog.parse().ok()),
        );
        let (Some(lane), Some(prog)) = (lane, prog) else {
            return Err(format!("not a message of a client: {text}"));
        };
        self.count += 1;
        let place = (session.to_owned(), lane.to_owned(), prog);
        if self.given_up.contains(&place) {
            return Err(format!("{text} of {session} is processed though given up"));
        }
        let got = self.got.entry((session.to_owned(), lane.to_owned()));
        let got = got.or_default();
        let in_order = lane == LANES[OUTSIDE] || got.last().is_none_or(|last| *last < prog);
        if got.contains(&prog) {
            return Err(format!("{text} of {session} is processed twice"));
        }
        if !in_order {
            return Err(format!("{text} of {session} is processed after {got:?}"));
        }
        got.push(prog);
        Ok(())
    }

    /// A client is told that a message never came.
    pub fn give_up(&mut self, session: &str, sequence: &str, prog: u32) -> Result<(), String> {
        if self.has(session, sequence, prog) {
            return Err(format!("{sequence} {prog} is given up though processed"));
        }
        let place = (session.to_owned(), sequence.to_owned(), prog);
        self.given_up.insert(place);
        Ok(())
    }

    /// Whether the adapter has got a message.
    pub fn has(&self, session: &str, sequence: &str, prog: u32) -> bool {
        let got = self.got.get(&(session.to_owned(), sequence.to_owned()));
        got.is_some_and(|got| got.contains(&prog))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adapter_notices_what_comes_twice_or_out_of_order() {
        let mut delivered = Delivered::default();
        for text in ["ok A 1", "ok A 3", "ok * 4", "no * 2"] {
            assert_eq!(delivered.on_message("S1", text), Ok(()));
        }
        assert!(delivered.on_message("S1", "ok A 2").is_err());
        assert!(delivered.on_message("S1", "ok * 4").is_err());
        assert_eq!(delivered.on_message("S2", "ok A 2"), Ok(()));
        assert!(delivered.has("S1", "A", 3) && !delivered.has("S1", "A", 2));
    }

    #[test]
    fn the_client_notices_what_it_is_told_twice() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut messenger = Messenger::default();
        let message = std::iter::repeat_with(|| messenger.next(&mut rng).unwrap())
            .find(|message| message.text.starts_with(ACCEPTED))
            .unwrap();
        let name = message.sequence.as_deref().unwrap_or("*").to_owned();
        let prog = message.prog.unwrap();
        assert_eq!(messenger.on_done(&name, prog, RESPONSE), Ok(()));
        assert!(messenger.on_done(&name, prog, RESPONSE).is_err());
        assert_eq!(messenger.on_failed("B", 900, 39, "2"), Ok(vec![899, 900]));
        assert!(messenger.on_failed("B", 900, 38, "skipped").is_err());
    }
}
