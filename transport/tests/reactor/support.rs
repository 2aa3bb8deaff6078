//! The world that the tests play in.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use brightwire::reactor::probe::{Features, probe};
use brightwire::reactor::{ConnId, Event, Reactor};

/// One reactor with one listener, and a log of all it reports.
pub struct World<R> {
    pub reactor: R,
    pub address: SocketAddr,
    pub log: Log,
}

/// What was reported. Checks on the way what every event has to obey.
#[derive(Default)]
pub struct Log {
    pub accepted: Vec<(ConnId, u32, SocketAddr)>,
    pub received: HashMap<ConnId, Vec<u8>>,
    pub blocked: Vec<ConnId>,
    pub writable: Vec<ConnId>,
    pub closed: HashMap<ConnId, Option<io::ErrorKind>>,
    blocked_now: HashSet<ConnId>,
    // Closed or released by the test.
    forgotten: HashSet<ConnId>,
}

impl Log {
    pub fn on_event(&mut self, event: Event<'_>) {
        let conn = match event {
            Event::Accepted { conn, .. }
            | Event::Received { conn, .. }
            | Event::Blocked { conn }
            | Event::Writable { conn }
            | Event::Closed { conn, .. } => conn,
        };
        assert!(!self.closed.contains_key(&conn), "{event:?} after the end");
        assert!(
            !self.forgotten.contains(&conn),
            "{event:?} after it was closed or released"
        );
        match event {
            Event::Accepted {
                conn,
                listener,
                peer,
            } => {
                assert!(
                    self.accepted.iter().all(|(known, ..)| *known != conn),
                    "an id came back"
                );
                self.accepted.push((conn, listener, peer));
            }
            Event::Received { conn, bytes } => {
                assert!(!bytes.is_empty());
                self.received
                    .entry(conn)
                    .or_default()
                    .extend_from_slice(bytes);
                // Frames are unmasked in place.
                bytes.fill(0xff);
            }
            Event::Blocked { conn } => {
                assert!(self.blocked_now.insert(conn), "blocked twice");
                self.blocked.push(conn);
            }
            Event::Writable { conn } => {
                assert!(
                    self.blocked_now.remove(&conn),
                    "writable without having been blocked"
                );
                self.writable.push(conn);
            }
            Event::Closed { conn, error } => {
                self.closed.insert(conn, error.map(|error| error.kind()));
            }
        }
    }

    pub fn received(&self, conn: ConnId) -> &[u8] {
        self.received.get(&conn).map_or(&[], Vec::as_slice)
    }

    pub fn is_blocked(&self, conn: ConnId) -> bool {
        self.blocked_now.contains(&conn)
    }

    pub fn forget(&mut self, conn: ConnId) {
        self.forgotten.insert(conn);
    }
}

impl<R: Reactor> World<R> {
    pub fn new(mut reactor: R) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        reactor.listen(socket, LISTENER).unwrap();
        Self {
            reactor,
            address,
            log: Log::default(),
        }
    }

    pub fn poll(&mut self, wait: Option<Duration>) -> usize {
        self.reactor
            .poll(wait, &mut |event: Event<'_>| self.log.on_event(event))
            .unwrap()
    }

    pub fn flush(&mut self) {
        self.reactor
            .flush(&mut |event: Event<'_>| self.log.on_event(event))
            .unwrap();
    }

    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let buffer = self.reactor.buffer();
        let start = buffer.len();
        buffer.extend_from_slice(bytes);
        self.reactor.send(conn, start);
    }

    pub fn run_until(&mut self, is_done: impl Fn(&Log) -> bool) {
        let start = Instant::now();
        while !is_done(&self.log) {
            self.poll(Some(Duration::from_secs(1)));
            assert!(
                start.elapsed() < PATIENCE,
                "what was waited for did not happen"
            );
        }
    }

    /// A client and the connection that was accepted for it.
    pub fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.address).unwrap();
        let address = client.local_addr().unwrap();
        let is_it = |accepted: &&(ConnId, u32, SocketAddr)| accepted.2 == address;
        let before = self.log.accepted.len();
        self.run_until(|log| {
            log.accepted[before..]
                .iter()
                .any(|accepted| is_it(&accepted))
        });
        let conn = self.log.accepted[before..].iter().find(is_it).unwrap().0;
        (client, conn)
    }

    /// Sends more than the buffers of both ends hold, so that the connection stays blocked until the client reads;
    /// returns everything that was sent.
    pub fn send_until_blocked(&mut self, conn: ConnId) -> Vec<u8> {
        let mut random = Random(42);
        let sent: Vec<u8> = (0..MORE_THAN_SOCKETS_HOLD)
            .map(|_| random.below(256) as u8)
            .collect();
        self.send(conn, &sent);
        self.flush();
        assert!(self.log.is_blocked(conn));
        sent
    }
}

/// The other end of a connection in the soak.
pub struct Client {
    pub socket: TcpStream,
    pub conn: ConnId,
    pub said: Vec<u8>,
    pub sent: Vec<u8>,
    pub heard: Vec<u8>,
}

impl Client {
    pub fn new(socket: TcpStream, conn: ConnId) -> Self {
        Self {
            socket,
            conn,
            said: Vec::new(),
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }

    pub fn read_some(&mut self) {
        let mut bytes = [0; 70_000];
        if let Ok(read) = self.socket.read(&mut bytes) {
            self.heard.extend_from_slice(&bytes[..read]);
        }
    }
}

pub fn reset_by_peer(client: TcpStream) {
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

pub fn open_files_soft_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line.split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap_or(usize::MAX)
}

pub fn uring_features() -> Option<Features> {
    let found = probe();
    if !found.is_usable() {
        println!("left out: {found}");
    }
    found.is_usable().then_some(found.features)
}

/// xorshift: the same doings for the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

pub const LISTENER: u32 = 3;

// Linux lets a sender's buffer grow to 4 MiB and a receiver's to 6 MiB (32 on recent kernels, but only if it reads).
pub const MORE_THAN_SOCKETS_HOLD: usize = 16 << 20;

// Before a test is called hung; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(30);
