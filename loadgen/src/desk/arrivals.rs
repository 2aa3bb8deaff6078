//! What the reactor reports: bytes, and what became of connections.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use brightwire::reactor::{ConnId, Event, EventSink};

use super::seat::SeatState;
use super::{Desk, Step, Timer};
use crate::control::unix_ns;
use crate::session::{Opening, Progress, Trouble};

/// A client whose way back is barred tries again after so long.
const RETRY: Duration = Duration::from_millis(200);

impl EventSink for Desk {
    fn on_event(&mut self, event: Event<'_>) {
        if self.events_from.is_none() {
            // One reading for all that this poll reports: what comes later in the list had arrived as well, and what
            // we take to work on those before it is not the server's.
            self.events_from = Some(Instant::now());
            self.books.arrived_ns = unix_ns();
            if let Event::Received { .. } = event {
                self.note_silence(self.books.arrived_ns);
                self.last_arrival_ns = self.books.arrived_ns;
            }
        }
        match event {
            Event::Received { conn, bytes } => self.on_bytes(conn, bytes),
            Event::Blocked { conn } => {
                if let Some(index) = self.seat_of(conn) {
                    self.seats[index].session.blocked = true;
                }
            }
            Event::Writable { conn } => {
                if let Some(index) = self.seat_of(conn) {
                    self.seats[index].session.blocked = false;
                    self.speakers.push(index);
                }
            }
            Event::Closed { conn, error } => {
                let reason = match error {
                    Some(error) => format!("connection: {error}"),
                    None => "closed by the server without a word".into(),
                };
                self.on_closed(conn, reason);
            }
            Event::Accepted { .. } => {} // nobody listens here
        }
    }
}

impl Desk {
    fn on_bytes(&mut self, id: ConnId, bytes: &mut [u8]) {
        let Some(index) = self.seat_of(id) else {
            return;
        };
        let interval = &mut self.books.interval;
        interval.receives += 1;
        interval.bytes += bytes.len() as u64;
        let seat = &mut self.seats[index];
        let (was_live, count) = (seat.session.is_live(), bytes.len());
        seat.receives = seat.receives.saturating_add(1);
        self.plain.clear();
        let said = match &mut seat.secure {
            None => Ok(bytes),
            Some(secure) => secure
                .receive(bytes, &mut self.plain)
                .map(|()| self.plain.as_mut_slice()),
        };
        let progress = said.map_err(Trouble::Failed).and_then(|said| {
            if said.is_empty() {
                return Ok(Progress::Same); // words of the handshake
            }
            seat.session.on_bytes(said, &self.setup, &mut self.books)
        });
        match progress {
            Ok(Progress::Same) => {}
            Ok(Progress::Poll(after)) if after.is_zero() => {
                seat.session.poll(&self.setup, &mut self.books);
            }
            Ok(Progress::Poll(after)) => {
                let at = Instant::now() + after;
                self.timers.push(Reverse((at, index, Timer::Poll)));
            }
            Err(Trouble::Forgotten) => {
                seat.session.closed();
                self.drop_connection(index);
                return self.wants(index, Opening::New);
            }
            Err(Trouble::Failed(reason)) => {
                self.drop_connection(index);
                return self.lose_seat(index, reason);
            }
        }
        if !was_live && self.seats[index].session.is_live() {
            self.now_live(index, id);
        }
        let seat = &mut self.seats[index];
        if let Some(rate) = self.setup.scenario.groups[seat.session.group].read_rate {
            let now = Instant::now();
            let cost = Duration::from_secs_f64(count as f64 / rate);
            seat.reads_from = seat.reads_from.max(now) + cost;
            if seat.session.is_live() && !seat.session.stalled {
                self.steps.push_back(Step::Pause(id));
                let timer = (seat.reads_from, index, Timer::Read);
                self.timers.push(Reverse(timer));
            }
        }
        if self.seats[index].has_words() {
            self.speakers.push(index);
        }
    }

    /// A session is subscribed, or goes on.
    fn now_live(&mut self, index: usize, id: ConnId) {
        let seat = &mut self.seats[index];
        let took_ns = seat.since.elapsed().as_nanos() as u64;
        let before = std::mem::replace(&mut seat.state, SeatState::Live);
        self.books.interval.connects += 1;
        match before {
            SeatState::New => {
                self.outcome.connect_ns.record(took_ns);
                self.outcome.live += 1;
                self.outcome.ramp_ns = self.start.elapsed().as_nanos() as u64;
                let group = &self.setup.scenario.groups[seat.session.group];
                if seat.session.member < group.stalled {
                    seat.session.stalled = true;
                    self.outcome.stalled += 1;
                    self.steps.push_back(Step::Pause(id));
                }
            }
            SeatState::Replacing => self.outcome.connect_ns.record(took_ns),
            SeatState::Returning => {
                self.outcome.reconnect_ns.record(took_ns);
                self.outcome.recovered += u64::from(seat.session.is_continued());
            }
            SeatState::Live | SeatState::Gone => {}
        }
    }

    /// A connection is gone without our doing.
    fn on_closed(&mut self, id: ConnId, reason: String) {
        let Some(index) = self.seat_of(id) else {
            return;
        };
        self.links[id.slot as usize] = None;
        let seat = &mut self.seats[index];
        seat.conn = None;
        seat.secure = None;
        if seat.session.is_between_polls() {
            seat.session.closed();
            return self.wants(index, Opening::Bind);
        }
        if seat.state == SeatState::Returning {
            // A server under a storm may turn clients away. They come again.
            seat.session.closed();
            let at = Instant::now() + RETRY;
            return self.timers.push(Reverse((at, index, Timer::Retry)));
        }
        self.lose_seat(index, reason);
    }
}
