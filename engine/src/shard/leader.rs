//! Clients in step are sent the same messages: the one that is written first leads, and what the others are sent is
//! compared with it instead of being written again.
//!
//! A message is the same if it consists of the same steps: the same item, through the same view, from the same row to the
//! same row, under the same numbers of the client. That is nearly always so where all clients of an application
//! subscribe to the same. Then neither lines nor frame are written anew, the driver sends the bytes that it has, and all
//! logs share one copy. Each client's own state is brought forward step by step, as if the lines had been written.
//!
//! Leaders do not outlive a turn. Where nobody follows, fewer and fewer messages are remembered as leaders.

use super::SubItem;
use super::canary::{Bug, Canary};
use super::diffs::{Parsed, Variant};
use super::event_buffer::Next;
use super::tails::{self, Tail};
use std::rc::Rc;

/// The last message that others may be the same as.
#[derive(Debug, Default)]
pub(super) struct Leader {
    steps: Vec<Step>,
    /// All lines.
    text: Vec<u8>,
    /// The same for the logs of those that follow, once there is one.
    shared: Option<Rc<[u8]>>,
    /// It is whole, so others may follow.
    leads: bool,
    /// It is the message that was written last.
    new: bool,
    /// The driver has sent nothing else since.
    at_hand: bool,
    followed: bool,
    /// Messages that were others since somebody followed.
    others: u32,
    /// Leaders in a row that nobody followed, up to a bound.
    alone: u32,
    /// Messages until another one is remembered.
    pause: u32,
    /// Somebody might follow in this turn.
    company: bool,
}

/// One line of a message: an update.
#[derive(Debug)]
struct Step {
    sub_id: u32,
    position: u32,
    item: u32,
    view: u32,
    base: u64,
    row: u64,
    variant: Variant,
    /// What the client holds as JSON after it.
    parsed: Parsed,
    /// Where the line ends in the text.
    end: usize,
    tail: Rc<[u8]>,
}

/// Where nobody follows, a leader is remembered at least once in so many messages, as a power of two.
const ALONE_MAX: u32 = 4;
/// A leader that somebody has followed is replaced after so many others in a row: some clients are always out of step.
const OTHERS_MAX: u32 = 4;

impl Step {
    #[inline]
    fn is(&self, sub_item: &SubItem, next: &Next, variant: Variant, canary: Canary) -> bool {
        let Next::Row(row) = next else { return false };
        self.row == row.seq()
            && self.base == tails::base_seq(sub_item.base.as_ref())
            && self.variant == variant
            && self.item == sub_item.item
            && (self.is_to(sub_item) || canary.has(Bug::Step))
            && sub_item.counted().is_none()
    }

    /// The same fields, under the same numbers.
    #[inline]
    fn is_to(&self, sub_item: &SubItem) -> bool {
        self.view == sub_item.view
            && (self.sub_id, self.position) == (sub_item.sub_id, sub_item.position)
    }
}

impl Leader {
    /// A turn begins, with so many connections to be written to: nobody leads.
    pub fn rest(&mut self, connections: usize) {
        self.company = connections > 1;
        self.leads = false;
        self.new = false;
        self.at_hand = false;
    }

    /// A message is sent, or something else is.
    #[inline]
    pub fn note_sent(&mut self) {
        self.at_hand = std::mem::take(&mut self.new);
    }

    /// The leader is sent to one more: whether the driver has it at hand.
    #[inline]
    pub fn note_repeated(&mut self) -> bool {
        std::mem::replace(&mut self.at_hand, true)
    }

    /// Whether there is one to follow.
    #[inline]
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// If what goes out next is the step behind so many: what the client holds as JSON after it.
    #[inline]
    pub fn is_next(
        &self,
        steps: usize,
        sub_item: &SubItem,
        next: &Next,
        variant: Variant,
        canary: Canary,
    ) -> Option<Parsed> {
        let step = self.steps.get(steps)?;
        let is_next = step.is(sub_item, next, variant, canary);
        is_next.then_some(step.parsed)
    }

    /// Steps in all.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// All lines.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The lines of the first so many steps.
    pub fn beginning(&self, steps: usize) -> &[u8] {
        match steps.checked_sub(1) {
            Some(last) => &self.text[..self.steps[last].end],
            None => &[],
        }
    }

    /// A line by itself: the client's numbers, the tail, and the length of both.
    pub fn line(&self, step: usize) -> ((u32, u32), &Rc<[u8]>, usize) {
        let begin = self.beginning(step).len();
        let step = &self.steps[step];
        ((step.sub_id, step.position), &step.tail, step.end - begin)
    }

    /// Somebody has followed to the end: the text for his log.
    pub fn follow(&mut self) -> &Rc<[u8]> {
        self.followed = true;
        self.others = 0;
        self.shared
            .get_or_insert_with(|| self.text.as_slice().into())
    }

    /// A message becomes another one behind so many steps, or altogether. Whether it shall lead.
    pub fn begin(&mut self, steps: usize) -> bool {
        if !self.company {
            return false;
        }
        if self.leads && self.followed && self.others < OTHERS_MAX {
            self.others += 1;
            return false;
        }
        if let Some(pause) = self.pause.checked_sub(1) {
            self.pause = pause;
            return false;
        }
        if std::mem::take(&mut self.followed) {
            self.alone = 0;
        } else {
            self.pause = (1 << self.alone) - 1;
            self.alone = (self.alone + 1).min(ALONE_MAX);
        }
        self.leads = false;
        self.others = 0;
        self.shared = None;
        self.steps.truncate(steps);
        true
    }

    /// Its next line, which ends there.
    #[inline]
    pub fn step(&mut self, sub_item: &SubItem, next: &Next, tail: &Tail<'_>, end: usize) {
        let Next::Row(row) = next else { return };
        self.steps.push(Step {
            sub_id: sub_item.sub_id,
            position: sub_item.position,
            item: sub_item.item,
            view: sub_item.view,
            base: tails::base_seq(sub_item.base.as_ref()),
            row: row.seq(),
            variant: tail.variant,
            parsed: tail.parsed,
            end,
            tail: Rc::clone(tail.bytes),
        });
    }

    /// It is whole.
    pub fn lead(&mut self, text: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(text);
        self.leads = !self.steps.is_empty();
        self.new = self.leads;
    }
}
