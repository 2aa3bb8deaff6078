//! The publishing side: one connection to the server, and when messages go out.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::crowd::nanos;
use crate::dialect::Dialect;
use crate::scenario::PAYLOAD_BYTES;
use crate::stamp;

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

/// An open load on a thread of its own: each time of the schedule sends, however late it has become.
pub struct Schedule {
    thread: JoinHandle<io::Result<Publisher>>,
    stop: Arc<AtomicBool>,
    ticks: Arc<AtomicU64>,
    late_ns_max: Arc<AtomicU64>,
}

impl Schedule {
    /// Starts now.
    pub fn start(mut publisher: Publisher, ticks_hz: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ticks = Arc::new(AtomicU64::new(0));
        let late_ns_max = Arc::new(AtomicU64::new(0));
        let (stopped, counted, late) = (
            Arc::clone(&stop),
            Arc::clone(&ticks),
            Arc::clone(&late_ns_max),
        );
        let thread = thread::spawn(move || {
            let start = Instant::now();
            for tick in 0u64.. {
                let due = start + Duration::from_secs_f64(tick as f64 / ticks_hz);
                if let Some(early) = due.checked_duration_since(Instant::now()) {
                    thread::sleep(early);
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                late.fetch_max(nanos(due.elapsed()), Ordering::Relaxed);
                // Counted first: whoever sees a delivery sees that it was published.
                counted.fetch_add(1, Ordering::SeqCst);
                publisher.publish(due)?;
            }
            Ok(publisher)
        });
        Self {
            thread,
            stop,
            ticks,
            late_ns_max,
        }
    }

    /// How often it has sent.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::SeqCst)
    }

    /// By how much the schedule was missed at worst, ns.
    pub fn late_ns_max(&self) -> u64 {
        self.late_ns_max.load(Ordering::Relaxed)
    }

    /// Ends it; returns how often it has sent in all. The publisher stays connected until the caller has done with it:
    /// servers may drop what an ended connection has sent, and close.
    pub fn stop(self) -> io::Result<(u64, Publisher)> {
        self.stop.store(true, Ordering::Relaxed);
        let publisher = self
            .thread
            .join()
            .map_err(|_| io::Error::other("the publisher has panicked"))??;
        Ok((self.ticks.load(Ordering::SeqCst), publisher))
    }
}
