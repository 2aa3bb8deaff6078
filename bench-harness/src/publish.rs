//! The publishing side: one connection to the server, and when messages go out.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::nanos;
use crate::dialect::Dialect;
use crate::scenario::PAYLOAD_BYTES;
use crate::stamp;

/// How long a server may refuse to read what is published.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// A connection that publishes.
pub struct Publisher {
    stream: TcpStream,
    dialect: Dialect,
    items: usize,
    origin: Instant,
    buffer: Vec<u8>,
    payload: Vec<u8>,
}

impl Publisher {
    /// Connects. What the server says back is read and thrown away, by a thread that ends with the connection.
    pub fn connect(
        dialect: Dialect,
        server: SocketAddr,
        items: usize,
        origin: Instant,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        // Clients read on the thread that publishes: a server that waits for them with the publisher's socket full is an
        // error, not the end of the run.
        stream.set_write_timeout(Some(WRITE_MAX))?;
        stream.write_all(&dialect.publisher_hello())?;
        let mut answers = stream.try_clone()?;
        thread::spawn(move || {
            let mut scratch = [0; 4096];
            while answers.read(&mut scratch).is_ok_and(|bytes| bytes > 0) {}
        });
        Ok(Self {
            stream,
            dialect,
            items,
            origin,
            buffer: Vec::new(),
            payload: Vec::new(),
        })
    }

    /// Sends one message for every item, meant for this moment.
    pub fn publish(&mut self, intended: Instant) -> io::Result<()> {
        let intended_ns = nanos(intended.saturating_duration_since(self.origin));
        self.payload.clear();
        stamp::write_payload(&mut self.payload, intended_ns, PAYLOAD_BYTES);
        self.buffer.clear();
        for item in 1..=self.items {
            self.dialect.publish(&mut self.buffer, item, &self.payload);
        }
        self.stream.write_all(&self.buffer)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Ends the reader's thread as well.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// The times of an open load.
pub struct Schedule {
    start: Instant,
    ticks_hz: f64,
    ticks: u64,
    late_max: Duration,
}

impl Schedule {
    /// Starts now.
    pub fn start(ticks_hz: f64) -> Self {
        Self {
            start: Instant::now(),
            ticks_hz,
            ticks: 0,
            late_max: Duration::ZERO,
        }
    }

    /// The next time, if it has come: each one comes out once, however late it has become.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.start + Duration::from_secs_f64(self.ticks as f64 / self.ticks_hz);
        let late = now.checked_duration_since(due)?;
        self.late_max = self.late_max.max(late);
        self.ticks += 1;
        Some(due)
    }

    /// How many times have come.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// By how much the schedule was missed at worst.
    pub fn late_max(&self) -> Duration {
        self.late_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_times_come_out_one_by_one() {
        let mut schedule = Schedule::start(1000.0);
        let start = schedule.start;
        assert_eq!(schedule.due(start), Some(start));
        assert_eq!(schedule.due(start), None);
        let late = start + Duration::from_micros(2500);
        assert_eq!(schedule.due(late), Some(start + Duration::from_millis(1)));
        assert_eq!(schedule.due(late), Some(start + Duration::from_millis(2)));
        assert_eq!(schedule.due(late), None);
        assert_eq!(schedule.ticks(), 3);
        assert_eq!(schedule.late_max(), Duration::from_micros(1500));
    }
}
