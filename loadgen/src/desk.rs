//! What a fleet knows of its sessions: everything but the reactor, so that the reactor can report to it. What is to be
//! done at sockets it says as [`Step`]s.

mod arrivals;
mod disturb;
mod seat;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use brightwire::reactor::ConnId;

use crate::control::unix_ns;
use crate::fleet::{Outcome, SETUP_TIMEOUT};
use crate::rank;
use crate::scenario::{Acks, Storm};
use crate::session::{Books, Opening, Session, Setup, item_of};
use crate::stats::Interval;
use crate::tls::Tls;
use crate::verify::Verifier;
use disturb::Churn;
use seat::{Seat, SeatState};

/// Receives of a second from which on a second one mostly comes before the kernel has waited 40 ms for it. Below that
/// acknowledging late would save nothing, and cost a timer.
const DELAYED_ACK_RECEIVES_MIN: u32 = 50;

/// Something to be done at a socket.
pub enum Step {
    /// Send.
    Send(ConnId, Vec<u8>),
    /// Read no more.
    Pause(ConnId),
    /// Read again.
    Resume(ConnId),
    /// Acknowledge in another way.
    Acknowledge(ConnId, Acks),
    /// Close.
    Close(ConnId),
}

/// The sessions of one fleet.
pub struct Desk {
    /// What sessions report to.
    pub books: Books,
    /// What is to be told of the whole run.
    pub outcome: Outcome,
    /// When the first event of this poll was reported.
    pub events_from: Option<Instant>,
    setup: Arc<Setup>,
    fleet: u32,
    fleets: u32,
    seats: Vec<Seat>,
    /// By the slot of the connection.
    links: Vec<Option<(ConnId, usize)>>,
    start: Instant,
    starts: VecDeque<(usize, Opening)>,
    steps: VecDeque<Step>,
    /// Seats that have something to say.
    speakers: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize, Timer)>>,
    /// Storms that are still to come, the next one last.
    storms: Vec<Storm>,
    churn: Vec<Churn>,
    /// Sessions that look at the same item, at most.
    listeners_max: u32,
    last_arrival_ns: u64,
    /// What arrived, without its TLS.
    plain: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Poll,
    Read,
    Retry,
}

impl Desk {
    /// For every `fleets`-th session of the run.
    pub fn new(setup: Arc<Setup>, fleet: u32, fleets: u32) -> Self {
        let scenario = &setup.scenario;
        let now = Instant::now();
        let mut books = Books {
            interval: Interval::new(0),
            marks: Vec::new(),
            sample: rank::Sample::default(),
            verifier: scenario.verify.then(Verifier::default),
            arrived_ns: 0,
            clock_ns: unix_ns,
            frames_written: fleet,
        };
        let mut listeners = vec![0; setup.items()];
        let numbers = (fleet..scenario.sessions()).step_by(fleets as usize);
        let seats = numbers
            .map(|number| {
                let (index, member) = scenario.group_of(number);
                let (group, derived) = (&scenario.groups[index], &setup.groups[index]);
                let offset = books.marks.len();
                for position in 0..group.items_per_session {
                    let item = item_of(group, member, position) % group.items.0.len();
                    let item = derived.first_item + item;
                    books.marks.push(Default::default());
                    listeners[item] += 1;
                    if let (Some(verifier), Some(stamp)) =
                        (&mut books.verifier, derived.stamp_position)
                    {
                        verifier.add(number, item, group.fields.len(), stamp);
                    }
                }
                Seat {
                    session: Session::new(number, index, member, offset),
                    conn: None,
                    secure: None,
                    state: SeatState::New,
                    since: now,
                    receives: 0,
                    reads_from: now,
                }
            })
            .collect();
        let mut storms = scenario.storms.clone();
        storms.sort_by(|a, b| b.at.total_cmp(&a.at));
        let groups = scenario.groups.iter().enumerate();
        let churn = groups
            .filter(|(_, group)| group.churn > 0.0)
            .map(|(index, group)| Churn {
                group: index,
                rate_hz: group.churn / f64::from(fleets),
                done: 0,
                next: 0,
            })
            .collect();
        Self {
            books,
            outcome: Outcome::default(),
            events_from: None,
            seats,
            links: Vec::new(),
            start: now,
            starts: VecDeque::new(),
            steps: VecDeque::new(),
            speakers: Vec::new(),
            timers: BinaryHeap::new(),
            storms,
            churn,
            listeners_max: listeners.into_iter().max().unwrap_or(0),
            last_arrival_ns: 0,
            plain: Vec::new(),
            setup,
            fleet,
            fleets,
        }
    }

    /// What all sessions have in common.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The number in the run of a seat's session.
    pub fn number(&self, seat: usize) -> u32 {
        self.seats[seat].session.number
    }

    /// Whether a session of this fleet, by its number in the run, is live.
    pub fn is_live(&self, session: u32) -> bool {
        let seat = (session - self.fleet) / self.fleets;
        self.seats[seat as usize].session.is_live()
    }

    /// A seat's session shall be connected.
    pub fn wants(&mut self, seat: usize, opening: Opening) {
        self.starts.push_back((seat, opening));
    }

    /// Whether [`Desk::next_start`] has something.
    pub fn has_starts(&self) -> bool {
        !self.starts.is_empty()
    }

    /// The next connection to make.
    pub fn next_start(&mut self) -> Option<(usize, Opening)> {
        self.starts.pop_front()
    }

    /// The connection is made, or on its way.
    pub fn connected(&mut self, index: usize, id: ConnId, opening: Opening) {
        let slot = id.slot as usize;
        if self.links.len() <= slot {
            self.links.resize(slot + 1, None);
        }
        self.links[slot] = Some((id, index));
        let seat = &mut self.seats[index];
        seat.conn = Some(id);
        match self.setup.tls.as_ref().map(Tls::open).transpose() {
            Ok(secure) => seat.secure = secure,
            Err(reason) => {
                self.drop_connection(index);
                return self.lose_seat(index, reason);
            }
        }
        if seat.state != SeatState::Returning {
            seat.since = Instant::now();
        }
        seat.session.open(opening, &self.setup, &mut self.books);
        self.speakers.push(index);
    }

    /// Whether every session is, or has been, live, or never will be.
    pub fn settled(&self) -> bool {
        self.outcome.live + self.outcome.failed.total() >= self.seats.len() as u64
    }

    /// Sessions that are not live by now will not be waited for.
    pub fn give_up(&mut self) {
        for index in 0..self.seats.len() {
            if self.seats[index].state == SeatState::New {
                self.drop_connection(index);
                self.lose_seat(index, "not subscribed in time".into());
            }
        }
    }

    /// The window begins.
    pub fn begin(&mut self, window_ns: u64) {
        self.books.interval = Interval::new(0);
        self.books.sample = rank::Sample::new(self.fleets, self.listeners_max);
        self.last_arrival_ns = window_ns;
    }

    /// The window is over.
    pub fn end(&mut self) {
        self.outcome.sample = std::mem::take(&mut self.books.sample);
    }

    /// The second at hand is over: how long nothing has come counts up to now, and those who have been away for long are
    /// not waited for any more.
    pub fn close_interval(&mut self) {
        if self.is_deaf() {
            self.last_arrival_ns = unix_ns();
        } else {
            self.note_silence(unix_ns());
        }
        let now = Instant::now();
        for index in 0..self.seats.len() {
            let seat = &self.seats[index];
            let away = matches!(seat.state, SeatState::Returning | SeatState::Replacing);
            if away && now.duration_since(seat.since) > SETUP_TIMEOUT {
                self.drop_connection(index);
                self.lose_seat(index, "did not come back in time".into());
            }
        }
    }

    /// Nobody is there to whom something could be said, or who would listen.
    fn is_deaf(&self) -> bool {
        let mut seats = self.seats.iter();
        seats.all(|seat| seat.session.stalled || seat.state == SeatState::Gone)
    }

    fn note_silence(&mut self, now_ns: u64) {
        let silence_ns = now_ns.saturating_sub(self.last_arrival_ns);
        let interval = &mut self.books.interval;
        interval.silence_ns = interval.silence_ns.max(silence_ns);
    }

    /// Closes a seat's connection and forgets it.
    fn drop_connection(&mut self, index: usize) {
        self.seats[index].secure = None;
        if let Some(id) = self.seats[index].conn.take() {
            self.links[id.slot as usize] = None;
            self.steps.push_back(Step::Close(id));
        }
    }

    /// When [`Desk::run_timers`] has something to do.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Does what is due.
    pub fn run_timers(&mut self, now: Instant) {
        while let Some(Reverse((at, index, timer))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let seat = &mut self.seats[index];
            match (timer, seat.conn) {
                (Timer::Poll, Some(_)) => {
                    seat.session.poll(&self.setup, &mut self.books);
                    self.speakers.push(index);
                }
                (Timer::Read, Some(id)) => self.steps.push_back(Step::Resume(id)),
                (Timer::Retry, None) if seat.state == SeatState::Returning => {
                    let opening = match seat.session.id() {
                        Some(_) => Opening::Recover,
                        None => Opening::New,
                    };
                    self.wants(index, opening);
                }
                _ => {}
            }
        }
    }

    /// The next thing to do at a socket.
    pub fn next_step(&mut self) -> Option<Step> {
        if let Some(step) = self.steps.pop_front() {
            return Some(step);
        }
        while let Some(index) = self.speakers.pop() {
            let seat = &mut self.seats[index];
            if let Some(id) = seat.conn
                && !seat.session.blocked
                && seat.has_words()
            {
                let words = seat.words();
                if !words.is_empty() {
                    return Some(Step::Send(id, words));
                }
            }
        }
        None
    }

    /// Asks for acknowledgements as the scenario says, where the kernel may have changed its mind and it matters. To be
    /// called once a second.
    pub fn acknowledge(&mut self) {
        let acks = self.setup.scenario.acks;
        let receives_min = match acks {
            Acks::Kernel => return,
            Acks::Each => 1,
            Acks::EverySecond => DELAYED_ACK_RECEIVES_MIN,
        };
        for seat in &mut self.seats {
            let receives = std::mem::take(&mut seat.receives);
            if let Some(id) = seat.conn
                && receives >= receives_min
            {
                self.steps.push_back(Step::Acknowledge(id, acks));
            }
        }
    }

    /// Stalled sessions read on.
    pub fn resume_stalled(&mut self) {
        for seat in self.seats.iter().filter(|seat| seat.session.stalled) {
            self.steps.extend(seat.conn.map(Step::Resume));
        }
    }

    /// Asks for the end of all sessions; returns those that must be asked for over another connection.
    pub fn destroy_all(&mut self) -> Vec<String> {
        let mut over_http = Vec::new();
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let Some(id) = seat.session.id().filter(|_| seat.conn.is_some()) else {
                continue;
            };
            let id = id.to_owned();
            seat.session.reply.clear();
            seat.session.destroy(&mut self.books);
            if seat.session.reply.is_empty() {
                over_http.push(id);
            } else {
                self.speakers.push(index);
            }
        }
        over_http
    }

    /// Closes all connections.
    pub fn close_all(&mut self) {
        for index in 0..self.seats.len() {
            self.drop_connection(index);
        }
    }

    fn seat_of(&self, id: ConnId) -> Option<usize> {
        let (known, index) = (*self.links.get(id.slot as usize)?)?;
        (known == id).then_some(index)
    }

    /// A session is over before we wanted it to be.
    pub fn lose_seat(&mut self, index: usize, reason: String) {
        let seat = &mut self.seats[index];
        let before = std::mem::replace(&mut seat.state, SeatState::Gone);
        seat.session.closed();
        if before != SeatState::New {
            self.books.interval.disconnects += 1;
        }
        match before {
            SeatState::Gone => {}
            SeatState::New => self.outcome.failed.count(reason),
            _ if seat.session.stalled => self.outcome.stalled_ended += 1,
            _ => self.outcome.ended.count(reason),
        }
    }
}
