//! The floor by `send(2)`.

use std::io::{self, Write};
use std::net::TcpStream;

/// A list of sockets.
#[derive(Default)]
pub struct Sender {
    clients: Vec<TcpStream>,
}

impl super::Fan for Sender {
    fn join(&mut self, client: TcpStream) -> io::Result<()> {
        self.clients.push(client);
        Ok(())
    }

    fn send_all(&mut self, frames: &[u8]) -> io::Result<()> {
        // A blocking socket: one call does it unless the client is slow, and then all wait, as the floor may.
        self.clients.retain(|client| {
            let sent = (&*client).write_all(frames);
            if let Err(error) = &sent {
                eprintln!("a client has gone: {error}");
            }
            sent.is_ok()
        });
        Ok(())
    }
}
