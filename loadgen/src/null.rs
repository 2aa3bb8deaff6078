//! `loadgen null`: a server that does nothing but send, for the generator's own limit. It lets everybody in, has no
//! sessions, and sends the same prepared lines to all, with the time in the field named `timestamp`.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe;
use brightwire::reactor::uring::UringReactor;
use brightwire::reactor::{ConnId, Event, EventSink, Reactor};
use brightwire::wire::http;
use brightwire::wire::origin::OriginPolicy;
use brightwire::wire::ws::{Decoder, Incoming, Upgrade, frame_header};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::control::unix_ns;
use crate::scenario::Rate;

/// The arguments of `null`.
#[derive(Args, Clone, Debug)]
pub struct NullArguments {
    /// Port on this machine; 0 is a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Messages per second to each session; without it as many as sockets take
    #[arg(long, value_name = "HZ")]
    pub rate: Option<Rate>,
    /// Updates in a message
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub updates: u16,
    /// Length of an update's values, without the time
    #[arg(long, value_name = "BYTES", default_value_t = 80, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub bytes: u16,
}

const CONNECTIONS_MAX: usize = 100_000;
const BACKLOG: i32 = 16_384;
/// Longest message of a client.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Serves until a signal comes.
pub fn serve(arguments: &NullArguments) -> Result<(), Box<dyn Error>> {
    crate::process::allow_open_files_as_far_as_possible(CONNECTIONS_MAX as u64 + 64);
    let probe = probe::probe();
    match probe.obstacle {
        None => run(
            UringReactor::new(probe.features, CONNECTIONS_MAX)?,
            arguments,
        )?,
        Some(_) => run(EpollReactor::new(CONNECTIONS_MAX)?, arguments)?,
    }
    Ok(())
}

fn run(mut reactor: impl Reactor, arguments: &NullArguments) -> io::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.set_tcp_nodelay(true)?;
    listener.set_nonblocking(true)?;
    let address: SocketAddr = ([127, 0, 0, 1], arguments.port).into();
    let bound = listener.bind(&address.into());
    bound.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    listener.listen(BACKLOG)?;
    let listener = TcpListener::from(listener);
    println!("null server: http://{}/", listener.local_addr()?);
    io::stdout().flush()?;
    reactor.listen(listener, 0)?;
    let mut desk = Desk {
        updates: arguments.updates,
        bytes: arguments.bytes,
        ..Desk::default()
    };
    let pause = arguments
        .rate
        .map(|rate| Duration::from_secs_f64(1.0 / rate.0));
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let wait = match pause {
            None if desk.live > 0 => Duration::ZERO,
            None => Duration::from_millis(100),
            Some(_) => due
                .saturating_duration_since(Instant::now())
                .min(Duration::from_millis(100)),
        };
        reactor.poll(Some(wait), &mut desk)?;
        for (id, bytes) in std::mem::take(&mut desk.answers) {
            send(&mut reactor, id, &bytes);
        }
        if Instant::now() < due {
            continue;
        }
        due += pause.unwrap_or_default();
        desk.compose();
        for index in 0..desk.guests.len() {
            if let Some((id, schema)) = desk.wants_more(index) {
                send(&mut reactor, id, &desk.messages[schema]);
            }
        }
        reactor.flush(&mut desk)?;
    }
    Ok(())
}

fn send(reactor: &mut impl Reactor, id: ConnId, bytes: &[u8]) {
    let buffer = reactor.buffer();
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    reactor.send(id, start);
}

#[derive(Default)]
struct Desk {
    updates: u16,
    bytes: u16,
    guests: Vec<Option<Guest>>,
    live: usize,
    /// Schemas that were subscribed to, and for each the message of this turn.
    schemas: Vec<String>,
    messages: Vec<Vec<u8>>,
    answers: Vec<(ConnId, Vec<u8>)>,
}

struct Guest {
    id: ConnId,
    head: Vec<u8>,
    decoder: Option<Decoder>,
    /// What it has subscribed to.
    schema: Option<usize>,
    blocked: bool,
}

impl Desk {
    fn guest(&mut self, id: ConnId) -> Option<&mut Guest> {
        let guest = self.guests.get_mut(id.slot as usize)?.as_mut();
        guest.filter(|guest| guest.id == id)
    }

    fn wants_more(&self, index: usize) -> Option<(ConnId, usize)> {
        let guest = self.guests[index].as_ref()?;
        (!guest.blocked).then_some((guest.id, guest.schema?))
    }

    /// Makes the messages of this turn.
    fn compose(&mut self) {
        let now = unix_ns().to_string();
        for (schema, message) in self.schemas.iter().zip(&mut self.messages) {
            let mut lines = String::new();
            for _ in 0..self.updates {
                lines += "U,1,1,";
                for (number, field) in schema.split("%20").enumerate() {
                    if number > 0 {
                        lines.push('|');
                    }
                    match field {
                        "timestamp" => lines += &now,
                        _ if number == 0 => {
                            lines.extend(std::iter::repeat_n('x', self.bytes.into()))
                        }
                        _ => {}
                    }
                }
                lines += "\r\n";
            }
            message.clear();
            frame(message, &lines);
        }
    }

    fn on_bytes(&mut self, id: ConnId, mut bytes: &mut [u8]) -> Option<()> {
        let guest = self.guest(id)?;
        let mut answer = Vec::new();
        let mut subscribed = None;
        if guest.decoder.is_none() {
            guest.head.extend_from_slice(bytes);
            let mut headers = [httparse::EMPTY_HEADER; http::HEADERS_MAX];
            memchr::memmem::find(&guest.head, b"\r\n\r\n")?;
            let request = http::Request::parse(&guest.head, &mut headers, 0).ok()?;
            let upgrade = Upgrade::read(&request, &OriginPolicy::Any).ok()?;
            upgrade.write_answer(
                &mut answer,
                &http::Context::new("null", std::time::UNIX_EPOCH),
            );
            guest.decoder = Some(Decoder::of_clients(MESSAGE_BYTES_MAX));
            // A client waits for the answer before it sends frames.
            guest.head = Vec::new();
            self.answers.push((id, answer));
            return Some(());
        }
        let decoder = guest.decoder.as_mut()?;
        while !bytes.is_empty() {
            let (used, incoming) = decoder.next(bytes).ok()?;
            if let Some(Incoming::Text(text)) = incoming {
                let value = |name: &str| {
                    let pair = text.split(['&', '\n', '\r']);
                    pair.filter_map(|pair| pair.strip_prefix(name)).next()
                };
                if text.starts_with("wsok") {
                    frame(&mut answer, "WSOK\r\n");
                } else if text.starts_with("create_session") {
                    frame(&mut answer, "CONOK,S0,50000,5000,*\r\nCONS,unlimited\r\n");
                } else if let (Some(group), Some(schema)) =
                    (value("LS_group="), value("LS_schema="))
                {
                    let count = |list: &str| list.split("%20").count();
                    let line = format!("SUBOK,1,{},{}\r\n", count(group), count(schema));
                    frame(&mut answer, &line);
                    subscribed = Some(schema.to_owned());
                }
            }
            bytes = &mut bytes[used..];
        }
        decoder.free_lent();
        if let Some(schema) = subscribed {
            let known = self.schemas.iter().position(|known| *known == schema);
            let index = known.unwrap_or_else(|| {
                self.schemas.push(schema);
                self.messages.push(Vec::new());
                self.schemas.len() - 1
            });
            self.live += 1;
            self.compose();
            self.guest(id)?.schema = Some(index);
        }
        self.answers.push((id, answer));
        Some(())
    }
}

fn frame(out: &mut Vec<u8>, text: &str) {
    let (header, first) = frame_header(text.len());
    out.extend_from_slice(&header[first..]);
    out.extend_from_slice(text.as_bytes());
}

impl EventSink for Desk {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { conn, .. } => {
                let slot = conn.slot as usize;
                if self.guests.len() <= slot {
                    self.guests.resize_with(slot + 1, || None);
                }
                self.guests[slot] = Some(Guest {
                    id: conn,
                    head: Vec::new(),
                    decoder: None,
                    schema: None,
                    blocked: false,
                });
            }
            Event::Received { conn, bytes } => {
                // What makes no sense is not answered: only our own generator comes here.
                let _ = self.on_bytes(conn, bytes);
            }
            Event::Blocked { conn } => {
                if let Some(guest) = self.guest(conn) {
                    guest.blocked = true;
                }
            }
            Event::Writable { conn } => {
                if let Some(guest) = self.guest(conn) {
                    guest.blocked = false;
                }
            }
            Event::Closed { conn, .. } => {
                if let Some(guest) = self.guest(conn) {
                    let was_live = guest.schema.is_some();
                    self.live -= usize::from(was_live);
                    self.guests[conn.slot as usize] = None;
                }
            }
        }
    }
}
