//! Where connections come from, and how they are made without waiting.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use engine::tlcp::client::write_line;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, SockRef, Socket, Type};

use crate::http;
use crate::scenario::Acks;
use crate::session::{Setup, destroy};

/// Sessions from one source address. The kernel gives a source address about 28,000 ports by default
/// (`net.ipv4.ip_local_port_range`), less those that wait out an earlier run.
const SESSIONS_PER_SOURCE: u32 = 20_000;
/// How long the server may take to confirm the end of sessions. Nothing depends on it.
const FAREWELL: Duration = Duration::from_secs(5);
/// Sessions that one request ends, so that it stays below any server's limit.
const FAREWELLS_PER_REQUEST: usize = 200;

/// The server, and the addresses to come from.
#[derive(Clone, Debug)]
pub struct Doors {
    server: SocketAddr,
    sources: Vec<IpAddr>,
}

impl Doors {
    /// Without sources, the kernel chooses.
    pub fn new(server: SocketAddr, sources: &[IpAddr]) -> Self {
        Self {
            server,
            sources: sources.to_vec(),
        }
    }

    /// Whether the addresses to come from are this machine's, and of the server's kind.
    pub fn check(&self) -> Result<(), String> {
        for source in &self.sources {
            if source.is_ipv4() != self.server.is_ipv4() {
                return Err(format!(
                    "source {source}: the server is at {}, another kind of address",
                    self.server.ip()
                ));
            }
            let bound = Socket::new(Domain::for_address(self.server), Type::STREAM, None)
                .and_then(|socket| socket.bind(&SocketAddr::new(*source, 0).into()));
            bound.map_err(|error| format!("source {source}: {error}"))?;
        }
        Ok(())
    }

    /// Starts to connect the session with this number. The reactor treats a socket that is not connected yet as one that
    /// takes no bytes at present, so nobody has to wait for it.
    pub fn connect(&self, number: u32) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        if let Some(source) = self.source(number) {
            // The port is chosen when it is known for which server: each has all of them, and the kernel need not look for
            // one that nobody else has.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            // On this machine a refusal is there already; later it may be told in other words.
            _ => match socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(socket.into()),
            },
        }
    }

    /// The address to connect from: those given take turns. Without any it is the kernel's choice as long as its ports
    /// suffice; beyond that, others of the loopback network, if the server is there.
    fn source(&self, number: u32) -> Option<IpAddr> {
        if !self.sources.is_empty() {
            return Some(self.sources[number as usize % self.sources.len()]);
        }
        let IpAddr::V4(address) = self.server.ip() else {
            return None;
        };
        let index = u8::try_from(number / SESSIONS_PER_SOURCE).unwrap_or(u8::MAX);
        (address.is_loopback() && index > 0).then(|| Ipv4Addr::new(127, 0, 1, index).into())
    }
}

/// Has the kernel acknowledge in this way from now on. It goes back to its own after a while: every second message ends
/// when one waits in vain for the next, and each ends when we send something.
pub fn acknowledge(socket: BorrowedFd<'_>, acks: Acks) -> io::Result<()> {
    match acks {
        Acks::Kernel => Ok(()),
        Acks::Each => SockRef::from(&socket).set_tcp_quickack(true),
        Acks::EverySecond => SockRef::from(&socket).set_tcp_quickack(false),
    }
}

/// Why a connection could not be begun, in words that help.
pub fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => format!(
            "connect: no port is left to come from ({error}): name more --sources, or widen net.ipv4.ip_local_port_range"
        ),
        _ => format!("connect: {error}"),
    }
}

/// Ends sessions whose own connections are busy with a response.
pub fn destroy_over_http(server: SocketAddr, setup: &Setup, sessions: &[String]) -> io::Result<()> {
    if sessions.is_empty() {
        return Ok(());
    }
    let mut socket = TcpStream::connect_timeout(&server, FAREWELL)?;
    socket.set_read_timeout(Some(FAREWELL))?;
    socket.set_write_timeout(Some(FAREWELL))?;
    let host = &setup.scenario.server;
    match &setup.tls {
        None => destroy_by(&mut socket, host, sessions),
        Some(tls) => {
            let mut stream = tls.stream(socket).map_err(io::Error::other)?;
            destroy_by(&mut stream, host, sessions)
        }
    }
}

fn destroy_by(stream: &mut (impl Read + Write), host: &str, sessions: &[String]) -> io::Result<()> {
    for part in sessions.chunks(FAREWELLS_PER_REQUEST) {
        let mut body = Vec::new();
        for session in part {
            write_line(&mut body, &destroy(Some(session)));
            body.extend_from_slice(b"\r\n");
        }
        let mut request = Vec::new();
        http::write_request(&mut request, host, "control", "TLCP-2.5.0", &body);
        stream.write_all(&request)?;
        let mut reader = http::ResponseReader::default();
        let mut scratch = [0; 4096];
        'response: loop {
            let read = stream.read(&mut scratch)?;
            let mut rest = &scratch[..read];
            loop {
                let (used, piece) = reader.next(rest).map_err(io::Error::other)?;
                rest = &rest[used..];
                match piece {
                    http::Piece::End => break 'response,
                    http::Piece::More if used == 0 && rest.is_empty() => break,
                    http::Piece::More | http::Piece::Body(_) => {}
                }
            }
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sessions_than_ports_come_from_other_addresses() {
        let source = |server: &str, number| Doors::new(server.parse().unwrap(), &[]).source(number);
        let local = "127.0.0.1:8080";
        assert_eq!(source(local, 0), None);
        assert_eq!(source(local, SESSIONS_PER_SOURCE - 1), None);
        assert_eq!(
            source(local, SESSIONS_PER_SOURCE),
            Some("127.0.1.1".parse().unwrap())
        );
        assert_eq!(source(local, 999_999), Some("127.0.1.49".parse().unwrap()));
        for elsewhere in ["10.0.0.1:80", "[::1]:80"] {
            assert_eq!(source(elsewhere, 999_999), None);
        }
    }

    #[test]
    fn sources_must_be_ours_and_of_the_servers_kind() {
        let check = |server: &str, source: &str| {
            Doors::new(server.parse().unwrap(), &[source.parse().unwrap()]).check()
        };
        assert_eq!(check("127.0.0.1:80", "127.0.0.9"), Ok(()));
        assert!(check("127.0.0.1:80", "::1").is_err());
        // Set aside for documents: nobody's.
        let error = check("127.0.0.1:80", "192.0.2.1").unwrap_err();
        assert!(error.starts_with("source 192.0.2.1: "), "{error}");
    }

    #[test]
    fn a_lack_of_ports_is_explained() {
        let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        assert!(explain(&error).contains("--sources"));
        let error = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert!(explain(&error).starts_with("connect: Connection refused"));
    }

    #[test]
    fn sources_that_are_given_take_turns() {
        let sources = ["127.0.0.2", "127.0.0.3"].map(|text| text.parse().unwrap());
        let doors = Doors::new("127.0.0.1:80".parse().unwrap(), &sources);
        assert_eq!(doors.source(0), Some(sources[0]));
        assert_eq!(doors.source(3), Some(sources[1]));
    }
}
