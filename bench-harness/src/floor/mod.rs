//! The floor: a server that does nothing but send. What a push server costs above this is its own work; what it costs
//! below, it has saved by asking the kernel less often.
//!
//! One thread. Lines `item payload` come from a publisher; each becomes a WebSocket frame, and all frames that one
//! read has brought go to each client in one send. Clients are let in by another thread, which only runs while they
//! connect. There are no sessions, no subscriptions, no decisions.

mod send;
mod uring;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

/// How the floor sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Io {
    /// `send(2)`, one call for each client.
    Send,
    /// io_uring, batches of sends in one call.
    Uring,
}

/// Frames of one read: far more than 20 messages of 100 bytes.
const READ_BYTES: usize = 64 << 10;

/// Serves clients and one publisher until the publisher goes. Prints `clients PORT` and `publisher PORT`.
pub fn run(io: Io) -> io::Result<()> {
    // The standard library's queue of 128 would turn a crowd away.
    let clients = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    clients.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    clients.listen(4096)?;
    let clients = TcpListener::from(clients);
    let publisher = TcpListener::bind("127.0.0.1:0")?;
    println!("clients {}", clients.local_addr()?.port());
    println!("publisher {}", publisher.local_addr()?.port());
    io::stdout().flush()?;
    let (sender, joined) = mpsc::channel();
    thread::spawn(move || {
        for client in clients.incoming().flatten() {
            match upgrade(client) {
                Ok(client) => {
                    if sender.send(client).is_err() {
                        return;
                    }
                }
                Err(error) => eprintln!("a client was not let in: {error}"),
            }
        }
    });
    // One publisher after another, each with a crowd of its own.
    for source in publisher.incoming() {
        let source = source?;
        match io {
            Io::Send => relay(source, &joined, send::Sender::default())?,
            Io::Uring => relay(source, &joined, uring::Sender::new()?)?,
        }
    }
    Ok(())
}

/// Sends frames to many.
trait Fan {
    /// A client has come.
    fn join(&mut self, client: TcpStream) -> io::Result<()>;
    /// Sends the same bytes to all; those that are gone are forgotten.
    fn send_all(&mut self, frames: &[u8]) -> io::Result<()>;
}

fn relay(mut source: TcpStream, joined: &Receiver<TcpStream>, mut fan: impl Fan) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let (mut filled, mut frames) = (0, Vec::new());
    loop {
        let read = source.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        while let Ok(client) = joined.try_recv() {
            fan.join(client)?;
        }
        frames.clear();
        let mut from = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[from..filled]) {
            let line = &buffer[from..from + length];
            let blank = memchr::memchr(b' ', line).map_or(0, |at| at + 1);
            frame(&mut frames, &line[blank..]);
            from += length + 1;
        }
        buffer.copy_within(from..filled, 0);
        filled -= from;
        if !frames.is_empty() {
            fan.send_all(&frames)?;
        }
    }
}

fn frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => out.push(length),
        _ => {
            out.push(126);
            let length = u16::try_from(payload.len()).expect("payloads are small");
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Answers the upgrade. What the client says afterwards is never read: it is one small message.
fn upgrade(client: TcpStream) -> io::Result<TcpStream> {
    client.set_nodelay(true)?;
    let mut key = String::new();
    for line in BufReader::new(&client).lines() {
        let line = line?;
        if let Some(value) = line.strip_prefix("Sec-WebSocket-Key: ") {
            key = derive_accept_key(value.trim().as_bytes());
        }
        if line.is_empty() {
            break;
        }
    }
    write!(
        &client,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
    )?;
    Ok(client)
}
