//! What a client makes of the lines that it is sent.

use super::subscription::{ItemLine, SubState};
use super::{Around, Client, Phase, What};
use crate::sim::world::WireId;
use crate::time::{Duration, Instant};
use crate::tlcp::client::{Line, complete_lines};
use crate::tlcp::request::{Mode, Op};

/// Turns that were skipped, and the wheel's tick. Official clients have the same patience.
const KEEPALIVE_SLACK: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(5);
/// What clients send again after a bind is at least so old: polls come often.
const REPEATED_AFTER: Duration = Duration::from_millis(300);

impl Client {
    /// A message has come.
    pub fn on_message(
        &mut self,
        wire: WireId,
        written: Instant,
        bytes: &[u8],
        around: &mut Around<'_>,
    ) {
        let text = String::from_utf8_lossy(bytes);
        let now = around.world.now();
        around
            .trace
            .note(now, &*self, format_args!("w{wire}< {text}"));
        if self.phase == Phase::Gone || !self.owns(wire) {
            return;
        }
        let lines = match complete_lines(&text) {
            Ok(lines) => lines,
            Err(bad) => return self.complain(around, format!("{bad}: {text:?}")),
        };
        let streams = self.side_wire != Some(wire);
        let listens = self.phase == Phase::Live && self.stalled_until.is_none();
        if streams && listens && self.manner.polling.is_none() {
            let silence = written.since(self.last_written);
            if silence > KEEPALIVE + KEEPALIVE_SLACK {
                self.complain(around, format!("silent for {silence:?}"));
            }
        }
        self.last_written = self.last_written.max(written);
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
                Ok(Line::Reqok { req_id }) => self.on_accepted(req_id.as_deref()),
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
        let counts = line.is_data_line() && self.replayed_at != Some(written);
        if counts && is_item_line(&line) && !self.meter.allows(written) {
            self.complain(around, format!("bandwidth exceeded by {text}"));
        }
        if counts {
            self.meter.count(text.len() + 2, written);
        }
        match line {
            Line::Conok { session_id, .. } => self.on_conok(wire, session_id, written, around),
            Line::Conerr { code: 4 | 20, .. } => self.lose_session(around),
            Line::End { code: 40, .. } | Line::Loop { .. } if self.old_wire == Some(wire) => {
                if around.world.is_http(wire) {
                    around.world.close(wire); // a WebSocket is closed by the server
                    self.old_wire = None;
                }
            }
            Line::End {
                code: 31 | 48 | -7, ..
            } => self.lose_session(around),
            Line::Loop { millis } => self.on_loop(millis, written, around),
            Line::Prog { data_lines } => {
                if data_lines != self.data_lines {
                    let received = self.data_lines;
                    self.complain(around, format!("{text}, but {received} were received"));
                }
                // What follows was written before, and is repeated at once: nothing can be said of its pace.
                self.replayed_at = Some(written);
            }
            Line::Cons(bandwidth) => self.meter.set(bandwidth, written),
            Line::Reqerr { req_id, code, .. } => self.on_refused(&req_id, code, text, around),
            Line::Reqok { req_id } => self.on_accepted(req_id.as_deref()),
            Line::Wsok
            | Line::Servname(_)
            | Line::Clientip(_)
            | Line::Noop(_)
            | Line::Probe
            | Line::Sync { .. } => {}
            Line::Subok {
                sub_id,
                items,
                fields,
            } => self.on_subok(sub_id, [items, fields], None, around),
            Line::Subcmd {
                sub_id,
                items,
                fields,
                key_position,
                command_position,
            } => {
                let positions = Some([key_position, command_position]);
                self.on_subok(sub_id, [items, fields], positions, around);
            }
            Line::Conf {
                sub_id,
                frequency_hz,
                unfiltered,
            } => match self.subs.get_mut(&sub_id) {
                Some(sub) if sub.is_unfiltered() == unfiltered => sub.set_frequency(frequency_hz),
                None if self.zombies.contains(&sub_id) => {}
                _ => self.complain(around, format!("out of turn: {text}")),
            },
            Line::Unsub { sub_id } => match self.subs.get(&sub_id).map(|sub| sub.state) {
                Some(SubState::Leaving) => _ = self.subs.remove(&sub_id),
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
                self.tally.updates += 1;
                self.on_item_line(
                    sub_id,
                    item,
                    ItemLine::Update(values),
                    written,
                    text,
                    around,
                );
            }
            Line::Eos { sub_id, item } => {
                self.on_item_line(sub_id, item, ItemLine::EndOfSnapshot, written, text, around);
            }
            Line::Cs { sub_id, item } => {
                self.on_item_line(sub_id, item, ItemLine::Clear, written, text, around);
            }
            Line::Ov { sub_id, item, lost } => {
                self.tally.lost += u64::from(lost);
                self.on_item_line(sub_id, item, ItemLine::Lost(lost), written, text, around);
            }
            Line::Conerr { .. } | Line::End { .. } | Line::Error { .. } => {
                self.complain(around, format!("unexpected: {text}"));
            }
        }
    }

    fn on_conok(&mut self, wire: WireId, id: &str, written: Instant, around: &mut Around<'_>) {
        if self.phase != Phase::Opening || self.wire != Some(wire) {
            return self.complain(around, "CONOK out of turn".into());
        }
        match &self.session {
            Some(session) if session != id => {
                return self.complain(around, "bound to another session".into());
            }
            Some(_) => {}
            None => {
                self.session = Some(id.to_owned());
                self.tally.sessions += 1;
            }
        }
        self.phase = Phase::Live;
        self.intact = true;
        self.last_written = written;
        self.repeat_requests(REPEATED_AFTER, around);
    }

    fn on_subok(
        &mut self,
        sub_id: u32,
        counts: [u32; 2],
        positions: Option<[u32; 2]>,
        around: &mut Around<'_>,
    ) {
        let Some(sub) = self.subs.get_mut(&sub_id) else {
            // A request that came late, after the subscription had come and gone.
            self.zombies.insert(sub_id);
            return self.control(Op::Delete { sub_id, ack: false }, around);
        };
        let expected = [sub.items.len(), sub.schema.len()];
        let special = (sub.mode == Mode::Command).then(|| sub.special_positions());
        if counts.map(|count| count as usize) != expected || positions != special {
            return self.complain(
                around,
                format!("SUBOK or SUBCMD of {sub_id} with other numbers"),
            );
        }
        match (sub.state, sub.refusal) {
            (_, Some(code)) => self.complain(
                around,
                format!("{sub_id} is granted, not refused by {code}"),
            ),
            (SubState::Active, _) => self.complain(around, format!("SUBOK of {sub_id} twice")),
            (SubState::Asked, _) => sub.state = SubState::Active,
            (SubState::Leaving, _) => {}
        }
    }

    fn on_item_line(
        &mut self,
        sub_id: u32,
        position: u32,
        line: ItemLine<'_>,
        written: Instant,
        text: &str,
        around: &mut Around<'_>,
    ) {
        let timely = Some(written).filter(|written| self.replayed_at != Some(*written));
        let now = around.world.now();
        let judged = match self.subs.get_mut(&sub_id) {
            Some(sub) => sub.on_line(position, line, timely, now, around.oracle),
            None if self.zombies.contains(&sub_id) => Ok(()),
            None => Err("no such subscription".into()),
        };
        if let Err(wrong) = judged {
            let item = self
                .subs
                .get(&sub_id)
                .and_then(|sub| sub.items.get(position as usize - 1));
            let name = item
                .map_or("", |item| &around.oracle.roles[item.item].name)
                .to_owned();
            self.complain(around, format!("{name}: {wrong}: {text}"));
        }
    }

    fn on_accepted(&mut self, req_id: Option<&str>) {
        if let Some(req_id) = req_id.and_then(|id| id.parse().ok()) {
            self.requests.remove(&req_id);
        }
    }

    pub(super) fn on_refused(
        &mut self,
        req_id: &str,
        code: i64,
        text: &str,
        around: &mut Around<'_>,
    ) {
        let about = req_id.parse().ok().and_then(|id| self.requests.remove(&id));
        let sub = about.and_then(|(sub_id, _)| self.subs.get(&sub_id));
        match (code, about) {
            (20, _) if self.phase != Phase::Opening => self.lose_session(around),
            // It went, or never came. If it went, its UNSUB may still be under way.
            (19, Some((sub_id, What::Delete))) => {
                if self.subs.remove(&sub_id).is_some() {
                    self.zombies.insert(sub_id);
                }
            }
            // Of a session that is lost.
            (13 | 24 | 26 | 27, None) => {}
            (13, Some((_, What::Reconf))) if sub.is_none_or(|sub| sub.is_unfiltered()) => {}
            (24 | 26 | 27, Some((sub_id, What::Add)))
                if sub.is_none_or(|sub| sub.refusal == Some(code)) =>
            {
                self.subs.remove(&sub_id);
            }
            // 68: it could not be passed on, and is sent again some time. 65, 67: babble. 32, 33: a message that was sent
            // again.
            (19 | 20 | 32 | 33 | 65 | 67 | 68, _) => {}
            _ => self.complain(around, format!("request {req_id}: unexpected: {text}")),
        }
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
}

fn is_item_line(line: &Line<'_>) -> bool {
    matches!(
        line,
        Line::Update { .. } | Line::Eos { .. } | Line::Cs { .. } | Line::Ov { .. }
    )
}
