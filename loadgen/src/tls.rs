//! The client's end of TLS: bytes in and bytes out, as all of a session.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use brightwire::wire::tls;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::scenario::Scenario;

/// What all connections of a run have in common.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// `None` if the scenario wants none.
    pub fn new(scenario: &Scenario) -> Result<Option<Self>, String> {
        let Some(authorities) = &scenario.tls_authorities else {
            return Ok(None);
        };
        let config = tls::connecting(None, authorities, scenario.tls_any_name)
            .map_err(|error| error.to_string())?;
        let mut config = Arc::unwrap_or_clone(config);
        // Clients that never met would share each other's tickets, and save what real ones must pay.
        config.resumption = Resumption::disabled();
        let host = scenario.server.rsplit_once(':').map(|(host, _)| host);
        let host = host.unwrap_or(&scenario.server);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| format!("server {}: {error}", scenario.server))?;
        Ok(Some(Self {
            config: Arc::new(config),
            name,
        }))
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

    /// Whether there is something to be sent, whatever the session says.
    pub fn wants_to_send(&self) -> bool {
        self.0.wants_write()
    }
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("TLS: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection};

    fn scenario(server: &str, authorities: &std::path::Path) -> Scenario {
        let path = authorities.to_str().unwrap();
        let words = [
            "loadgen",
            "run",
            "--server",
            server,
            "--tls-authorities",
            path,
        ];
        let Command::Run(arguments) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!("it says run");
        };
        arguments.scenario().unwrap()
    }

    fn server(directory: &std::path::Path) -> (ServerConnection, std::path::PathBuf) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = directory.join("own.pem");
        std::fs::write(&path, own.cert.pem()).unwrap();
        let chain = vec![CertificateDer::from(own.cert.der().to_vec())];
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        (ServerConnection::new(Arc::new(config)).unwrap(), path)
    }

    /// Whatever the pieces, what one end says the other hears.
    #[test]
    fn words_pass_in_pieces_of_any_size() {
        let directory = tempfile::tempdir().unwrap();
        for size in [1, 7, 1_000_000] {
            let (mut server, authorities) = server(directory.path());
            let tls = Tls::new(&scenario("localhost:1", &authorities))
                .unwrap()
                .unwrap();
            let mut client = tls.open().unwrap();
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
        let (mut server, authorities) = server(directory.path());
        let tls = Tls::new(&scenario("127.0.0.1:1", &authorities))
            .unwrap()
            .unwrap();
        let mut client = tls.open().unwrap();
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
