//! What a client does of its own accord.

use super::subscription::{Sub, SubState};
use super::{Around, Client, Phase, some_time};
use crate::time::Duration;
use crate::tlcp::request::{Bandwidth, Frequency, Message, Op, Request};

const SUBS_MAX: usize = 6;
const REPEATED_MAX: usize = 5;

impl Client {
    pub(super) fn misbehave(&mut self, around: &mut Around<'_>) {
        let now = around.world.now();
        let bound = self.phase == Phase::Live;
        let reads = self.stalled_until.is_none();
        match around.rng.u8(..100) {
            0..30 => self.subscribe(around),
            30..40 => self.send_message(around),
            40..50 => self.unsubscribe(around),
            50..60 => {
                let Some(sub_id) = self.some_sub(around) else {
                    return;
                };
                let hz = [None, Some(0.5), Some(2.0), Some(3.0), Some(20.0)][around.rng.usize(..5)];
                let frequency = hz.map_or(Frequency::Unlimited, Frequency::Limited);
                let op = Op::Reconf {
                    sub_id,
                    frequency: Some(frequency),
                };
                self.control(op, around);
            }
            60..66 => {
                let bandwidth = match around.rng.u8(..4) {
                    0 => Bandwidth::Limited(8.0),
                    1 => Bandwidth::Limited(100.0),
                    _ => Bandwidth::Unlimited,
                };
                self.control(Op::Constrain { bandwidth }, around);
            }
            66..74 if bound && reads => {
                let Some(wire) = self.wire else { return };
                self.stalled_until = Some(now + some_time(around.rng, 3_000));
                around.world.stall(wire);
            }
            74..81 => self.drop_wire(around),
            81..85 => {
                let op = Op::ForceRebind {
                    polling_millis: None,
                    close_socket: around.rng.bool(),
                };
                self.control(op, around);
            }
            85..86 => {
                let op = Op::Destroy {
                    cause_code: around.rng.bool().then_some(-7),
                    cause_message: Some("bye, bye".into()),
                    close_socket: true,
                };
                self.control(op, around);
            }
            86..91 if bound && reads && self.old_wire.is_none() => self.take_over(around),
            91 => {
                // The page is gone; its session is left to itself.
                self.drop_wire(around);
                self.session = None;
            }
            92..95 => self.babble(around),
            _ => {}
        }
    }

    fn subscribe(&mut self, around: &mut Around<'_>) {
        if self.subs.len() >= SUBS_MAX {
            return;
        }
        self.sub_ids += 1;
        let now = around.world.now();
        let popular = (self.sub_ids == 1 && around.rng.bool())
            .then(|| Sub::popular(around.oracle, around.weather, now))
            .flatten();
        let sub =
            popular.unwrap_or_else(|| Sub::some(around.oracle, around.weather, now, around.rng));
        let op = Op::Add(sub.add(self.sub_ids, around.oracle, around.rng.bool()));
        if sub.sideways {
            self.control_sideways(op, around);
        } else {
            self.control(op, around);
        }
        self.subs.insert(self.sub_ids, sub);
    }

    fn unsubscribe(&mut self, around: &mut Around<'_>) {
        let Some(sub_id) = self.some_sub(around) else {
            return;
        };
        let now = around.world.now();
        let sub = self.subs.get_mut(&sub_id).expect("just found");
        if sub.state == SubState::Asked && (sub.sideways || sub.refusal.is_some()) {
            return; // this request would overtake that one
        }
        (sub.state, sub.asked_at) = (SubState::Leaving, now);
        let ack = around.rng.bool();
        self.control(Op::Delete { sub_id, ack }, around);
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
        if !around.world.is_http(wire) {
            let text = NONSENSE[around.rng.usize(..NONSENSE.len())];
            around.world.send(wire, text);
        }
    }

    fn send_message(&mut self, around: &mut Around<'_>) {
        if let Some(message) = self.messenger.next(around.rng) {
            let sideways = around.rng.u8(..5) == 0;
            self.say(message, sideways, around);
        }
    }

    fn say(&mut self, message: Message<'static>, sideways: bool, around: &mut Around<'_>) {
        let own = self
            .wire
            .filter(|wire| !sideways && !around.world.is_http(*wire));
        let (wire, session) = match own {
            Some(wire) => (wire, None),
            None => (self.side(around), self.session.clone()),
        };
        self.req_ids += 1;
        let request = Request::Message(Message {
            req_id: self.req_ids.to_string().into(),
            session: session.map(Into::into),
            ..message
        });
        self.send(wire, &request, around);
    }

    /// Sends again what may have been lost, as clients do after a bind, and after some time without an answer.
    pub(super) fn repeat_requests(&mut self, patience: Duration, around: &mut Around<'_>) {
        if !matches!(self.phase, Phase::Live | Phase::Between(_)) {
            return;
        }
        let now = around.world.now();
        let oracle = &*around.oracle;
        let mut repeated = Vec::new();
        for (&sub_id, sub) in &mut self.subs {
            if now.since(sub.asked_at) < patience {
                continue;
            }
            sub.asked_at = now;
            match sub.state {
                SubState::Asked => repeated.push(Op::Add(sub.add(sub_id, oracle, false))),
                SubState::Leaving => repeated.push(Op::Delete { sub_id, ack: true }),
                SubState::Active => {}
            }
        }
        let zombies = self.zombies.iter();
        repeated.extend(zombies.map(|&sub_id| Op::Delete { sub_id, ack: false }));
        for op in repeated {
            self.control(op, around);
        }
        // Not all of them at once: what has to be passed on to another shard may find no room there.
        for message in self.messenger.unanswered().into_iter().take(REPEATED_MAX) {
            self.say(message, false, around);
        }
    }
}
