//! The client's end of TLS: bytes in and bytes out, as all of a session.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use brightwire::wire::tls::{self, Identity};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// What all connections of a run have in common.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// To a server whose certificate one of the `authorities` has signed; `any_name` lets it be one for another host.
    /// `own` is the certificate to present.
    pub fn new(
        server: &str,
        authorities: &Path,
        any_name: bool,
        own: Option<&Identity>,
    ) -> Result<Self, String> {
        let config =
            tls::connecting(own, authorities, any_name).map_err(|error| error.to_string())?;
        let mut config = Arc::unwrap_or_clone(config);
        // Clients that never met would share each other's tickets, and save what real ones must pay.
        config.resumption = Resumption::disabled();
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| format!("server {server}: {error}"))?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// The beginning of a connection.
    pub fn open(&self) -> Result<Secure, String> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(failed)?;
        // What is said during the handshake waits in there: a request or two.
        connection.set_buffer_limit(None);
        Ok(Secure(Box::new(connection)))
    }

    /// Over a socket that waits.
    pub fn stream(
        &self,
        socket: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        Ok(StreamOwned::new(*self.open()?.0, socket))
    }
}

/// One connection.
pub struct Secure(Box<ClientConnection>);

impl Secure {
    /// Takes what arrived, and appends what was said to `plain`.
    pub fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes).map_err(failed)?;
            let said = self.0.process_new_packets().map_err(failed)?;
            let start = plain.len();
            plain.resize(start + said.plaintext_bytes_to_read(), 0);
            let read = self.0.reader().read_exact(&mut plain[start..]);
            read.map_err(failed)?;
        }
        Ok(())
    }

    /// What has to be sent to say `plain`: nothing yet during the handshake, which may have words of its own.
    pub fn send(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        self.0.writer().write_all(plain)?;
        let mut bytes = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Whether the handshake goes on.
    pub fn is_opening(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Whether there is something to be sent, whatever the session says.
    pub fn wants_to_send(&self) -> bool {
        self.0.wants_write()
    }
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("TLS: {error}")
}

#[cfg(test)]
#[path = "../tests/support/certificates.rs"]
mod certificates;

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ServerConnection;

    /// Both ends of a connection to a server that calls itself localhost.
    fn ends(directory: &Path, name: &str) -> (Secure, ServerConnection) {
        certificates::make(directory);
        let own = certificates::identity(directory, "localhost");
        let server = ServerConnection::new(tls::listening(&own, None).unwrap()).unwrap();
        let authority = directory.join("authority.pem");
        let tls = Tls::new(name, &authority, false, None).unwrap();
        (tls.open().unwrap(), server)
    }

    /// Whatever the pieces, what one end says the other hears.
    #[test]
    fn words_pass_in_pieces_of_any_size() {
        let directory = tempfile::tempdir().unwrap();
        for size in [1, 7, 1_000_000] {
            let (mut client, mut server) = ends(directory.path(), "localhost:1");
            let mut plain = Vec::new();
            let mut sent = client.send(b"hello").unwrap();
            let mut heard = Vec::new();
            let answer = vec![b'x'; 50_000];
            let mut answered = false;
            while plain.len() < answer.len() {
                for piece in sent.chunks(size) {
                    let mut piece = piece;
                    while !piece.is_empty() {
                        server.read_tls(&mut piece).unwrap();
                        let said = server.process_new_packets().unwrap();
                        let mut buffer = vec![0; said.plaintext_bytes_to_read()];
                        server.reader().read_exact(&mut buffer).unwrap();
                        heard.extend(buffer);
                    }
                }
                if heard == b"hello" && !answered {
                    answered = true;
                    server.writer().write_all(&answer).unwrap();
                }
                let mut back = Vec::new();
                while server.wants_write() {
                    server.write_tls(&mut back).unwrap();
                }
                assert!(!back.is_empty(), "neither has anything to say");
                for piece in back.chunks(size) {
                    client.receive(piece, &mut plain).unwrap();
                }
                sent = client.send(b"").unwrap();
            }
            assert_eq!((heard.as_slice(), plain), (&b"hello"[..], answer));
        }
    }

    #[test]
    fn who_has_the_wrong_name_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut client, mut server) = ends(directory.path(), "127.0.0.1:1");
        let hello = client.send(b"").unwrap();
        server.read_tls(&mut hello.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut back = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        let error = client.receive(&back, &mut Vec::new()).unwrap_err();
        assert!(
            error.contains("TLS: ") && error.contains("certificate"),
            "{error}"
        );
    }
}
