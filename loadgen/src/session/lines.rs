//! What a session makes of the lines that it is sent.

use engine::tlcp::client::Line;

use super::books::{Books, GroupSetup, Mark, Setup};
use super::requests::{SUB_ID, item_of, subscribe};
use super::{Session, Stage, Trouble, failed};
use crate::rank;
use crate::scenario::SubscriptionMode;
use crate::stats::Interval;
use crate::update::{self, Glance};

impl Session {
    pub(super) fn on_lines(
        &mut self,
        lines: &str,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<(), Trouble> {
        let mut taken = 0;
        for line in update::lines(lines.as_bytes()) {
            let range = taken..taken + line.len();
            taken = range.end + 2;
            if line.starts_with(b"U,") {
                if self.stage != Stage::Live {
                    return Err(failed("an update came before its subscription"));
                }
                if self.repeated > 0 {
                    self.repeated -= 1;
                    continue;
                }
                self.data_lines += 1;
                self.on_update(line, &lines[range], setup, books)?;
            } else {
                self.on_line(&lines[range], setup, books)?;
            }
        }
        if taken != lines.len() {
            return Err(failed("a line does not end with CR LF"));
        }
        Ok(())
    }

    fn on_update(
        &mut self,
        line: &[u8],
        text: &str,
        setup: &Setup,
        books: &mut Books,
    ) -> Result<(), Trouble> {
        let group = &setup.scenario.groups[self.group];
        let GroupSetup {
            stamp_position,
            sequence_position,
            first_item,
        } = setup.groups[self.group];
        let glance = update::glance(line, stamp_position, sequence_position)
            .filter(|glance| glance.item < group.items_per_session)
            .ok_or_else(|| failed("a U line is broken"))?;
        let row = self.offset + glance.item;
        let mark = &mut books.marks[row];
        let interval = &mut books.interval;
        interval.updates += 1;
        let is_snapshot = !mark.seen;
        mark.seen |= group.mode == SubscriptionMode::Merge;
        let skipped = note_order(mark, &glance, is_snapshot, interval);
        let of_group = interval.of(self.group, group.transport);
        of_group.updates += 1;
        of_group.skipped += skipped;
        if is_snapshot {
            interval.snapshots += 1;
        } else if let (Some(stamp_ns), false) = (glance.stamp_ns, self.stalled) {
            if stamp_ns > books.arrived_ns {
                // Arrived while the poll before was being worked on; the clock then read is too old for it.
                books.arrived_ns = (books.clock_ns)();
            }
            if books.sample.wants(stamp_ns) {
                let item = item_of(group, self.member, glance.item) % group.items.0.len();
                books.sample.note(rank::Arrival {
                    item: (first_item + item) as u64,
                    stamp_ns,
                    arrived_ns: books.arrived_ns,
                });
            }
            match books.arrived_ns.checked_sub(stamp_ns) {
                Some(latency_ns) => interval.time(self.group, group.transport, latency_ns),
                None => interval.from_future += 1,
            }
        } else {
            interval.untimed += 1;
        }
        if let Some(verifier) = &mut books.verifier {
            match Line::parse(text) {
                Ok(Line::Update { sub_id, values, .. }) if sub_id == SUB_ID => {
                    verifier.apply(row, values);
                }
                Ok(_) => return Err(failed("an update of another subscription")),
                Err(error) => return Err(failed(format!("a line cannot be read: {error}"))),
            }
        }
        Ok(())
    }

    fn on_line(&mut self, text: &str, setup: &Setup, books: &mut Books) -> Result<(), Trouble> {
        let group = &setup.scenario.groups[self.group];
        let line = Line::parse(text)
            .map_err(|error| failed(format!("a line cannot be read: {error}: {text}")))?;
        if line.is_data_line() {
            if self.repeated > 0 {
                self.repeated -= 1;
                return Ok(());
            }
            self.data_lines += 1;
        }
        match line {
            Line::Conok { session_id, .. } => match self.stage {
                Stage::Creating => {
                    self.id = Some(session_id.into());
                    self.stage = Stage::Subscribing;
                    let subscribe = subscribe("1", group, self.member);
                    self.write(books, "", &subscribe);
                }
                Stage::Subscribing if self.id.is_none() => self.id = Some(session_id.into()),
                Stage::Recovering => self.stage = Stage::Live,
                // The next poll, or the next part of a stream.
                Stage::Live | Stage::Subscribing => {}
                Stage::Idle => return Err(failed(format!("out of place: {text}"))),
            },
            Line::Prog { data_lines } => {
                self.repeated = self
                    .data_lines
                    .checked_sub(data_lines)
                    .ok_or_else(|| failed("recovered with a gap"))?;
            }
            Line::Subok {
                sub_id: SUB_ID,
                items,
                fields,
            }
            | Line::Subcmd {
                sub_id: SUB_ID,
                items,
                fields,
                ..
            } if self.stage == Stage::Subscribing => {
                if (items as usize, fields as usize)
                    != (group.items_per_session, group.fields.len())
                {
                    return Err(failed(format!(
                        "subscribed to {items} items and {fields} fields, not as asked"
                    )));
                }
                self.stage = Stage::Live;
            }
            Line::Ov { lost, .. } => {
                let lost = u64::from(lost);
                books.interval.lost += lost;
                books.interval.of(self.group, group.transport).lost += lost;
            }
            Line::Eos { item, .. } => {
                let item = (item as usize).wrapping_sub(1);
                if item < group.items_per_session {
                    books.marks[self.offset + item].seen = true;
                }
            }
            Line::Loop { millis } => self.looped = Some(millis),
            Line::Conerr { code: 4 | 20, .. } if self.stage == Stage::Recovering => {
                return Err(Trouble::Forgotten);
            }
            Line::Conerr { code, text } => {
                return Err(failed(format!("session refused: {code} {text}")));
            }
            Line::Reqerr { code, text, .. } | Line::Error { code, text } => {
                return Err(failed(format!("request refused: {code} {text}")));
            }
            Line::End { code, text } => {
                return Err(failed(format!("session ended: {code} {text}")));
            }
            Line::Subok { .. } | Line::Subcmd { .. } | Line::Unsub { .. } => {
                return Err(failed(format!("out of place: {text}")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is missing, and what came in the wrong order. Returns how many events are missing before this one.
fn note_order(mark: &mut Mark, glance: &Glance, is_snapshot: bool, interval: &mut Interval) -> u64 {
    let mut skipped = 0;
    let gone_back = match (glance.sequence, glance.stamp_ns) {
        (Some(sequence), _) => {
            interval.numbered += 1;
            let before = mark.sequence;
            mark.sequence = before.max(sequence);
            if before > 0 && sequence > before && !is_snapshot {
                skipped = sequence - before - 1;
            }
            before > 0 && sequence <= before
        }
        (None, Some(stamp_ns)) => {
            let before = mark.stamp_ns;
            mark.stamp_ns = before.max(stamp_ns);
            stamp_ns < before
        }
        (None, None) => false,
    };
    interval.skipped += skipped;
    interval.reordered += u64::from(gone_back && !is_snapshot);
    skipped
}
