//! What is done to the sessions by intention: storms break connections, and churn lets sessions come and go.

use std::time::{Duration, Instant};

use super::seat::SeatState;
use super::{Desk, Step};
use crate::control::unix_ns;
use crate::scenario::Storm;
use crate::session::Opening;

/// The coming and going of a group's sessions.
pub(super) struct Churn {
    pub group: usize,
    pub rate_hz: f64,
    pub done: u64,
    /// Where the search for the next to go begins.
    pub next: usize,
}

impl Desk {
    /// Breaks connections, and lets sessions go, where that is due.
    pub fn disturb(&mut self, window_ns: u64) {
        let elapsed_s = unix_ns().saturating_sub(window_ns) as f64 / 1e9;
        while let Some(storm) = self.storms.pop_if(|storm| storm.at <= elapsed_s) {
            self.storm(storm);
        }
        let mut churn = std::mem::take(&mut self.churn);
        for churn in &mut churn {
            while (churn.done as f64) < elapsed_s * churn.rate_hz {
                churn.done += 1;
                self.replace_one(churn);
            }
        }
        self.churn = churn;
    }

    /// How long until [`Desk::disturb`] has something to do.
    pub fn next_disturbance(&self, window_ns: u64) -> Option<Duration> {
        let storm = self.storms.last().map(|storm| storm.at);
        let churn = self.churn.iter();
        let churn = churn.map(|churn| churn.done as f64 / churn.rate_hz);
        let at_s = storm.into_iter().chain(churn).min_by(f64::total_cmp)?;
        let at_ns = window_ns + (at_s * 1e9) as u64;
        Some(Duration::from_nanos(at_ns.saturating_sub(unix_ns())))
    }

    fn storm(&mut self, storm: Storm) {
        let now = Instant::now();
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if seat.state != SeatState::Live || seat.session.stalled {
                continue;
            }
            // Spread over all groups and items; the same ones in every run.
            let spread = seat.session.number.wrapping_mul(0x9E37_79B9);
            if f64::from(spread) >= storm.share * f64::from(u32::MAX) {
                continue;
            }
            seat.state = SeatState::Returning;
            seat.since = now;
            let back = seat.session.closed();
            let opening = if storm.recover { back } else { Opening::New };
            self.drop_connection(index);
            self.books.interval.disconnects += 1;
            self.wants(index, opening);
        }
    }

    fn replace_one(&mut self, churn: &mut Churn) {
        for _ in 0..self.seats.len() {
            let index = churn.next % self.seats.len();
            churn.next = index + 1;
            let seat = &mut self.seats[index];
            if seat.session.group != churn.group
                || seat.state != SeatState::Live
                || seat.session.stalled
            {
                continue;
            }
            seat.session.destroy(&mut self.books);
            seat.state = SeatState::Replacing;
            seat.since = Instant::now();
            let farewell = seat.words();
            if let (Some(id), false) = (seat.conn, farewell.is_empty() || seat.session.blocked) {
                self.steps.push_back(Step::Send(id, farewell));
            }
            seat.session.closed();
            self.drop_connection(index);
            self.outcome.churned += 1;
            self.books.interval.disconnects += 1;
            return self.wants(index, Opening::New);
        }
    }
}
