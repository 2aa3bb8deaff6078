//! Listening sockets: one per shard on the same port, with the options that accepted connections inherit.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// How to listen. Linux hands the TCP options down to every accepted connection, which saves the system calls there.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address and port; with port 0 the kernel chooses one.
    pub address: SocketAddr,
    /// Connections that wait to be accepted, per socket. The kernel cuts it to `net.core.somaxconn`.
    pub backlog: u32,
    /// Unsent bytes above which a connection counts as not writable (`TCP_NOTSENT_LOWAT`). It keeps the backlog of a slow
    /// client out of the kernel, where it could not be conflated any more, without shrinking what is in flight.
    pub notsent_lowat_bytes: u32,
    /// How long sent data may stay unacknowledged before the kernel gives the connection up (`TCP_USER_TIMEOUT`).
    pub user_timeout: Duration,
    /// Silence after which the kernel asks whether the peer is still there, and the pause between such questions.
    pub keepalive: Duration,
    /// Fixed kernel send buffer; `None` lets the kernel size it by the connection.
    pub send_buffer_bytes: Option<usize>,
}

impl Options {
    /// Defaults for an address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            backlog: 4_096,                // somaxconn's default since Linux 5.4
            notsent_lowat_bytes: 8 * 1024, // a guess: several full frames, but few updates to wait behind
            user_timeout: Duration::from_secs(30), // a guess: well above a session's timeout, so that one decides
            keepalive: Duration::from_secs(60), // a guess: below the idle limits of common NAT devices
            send_buffer_bytes: None,
        }
    }
}

/// Why listening failed, in words that say what to do.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        write!(f, "cannot listen on {address}: {source}")?;
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "; `ss -ltnp 'sport = :{}'` shows which process has the port",
                    address.port()
                )
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "; ports below net.ipv4.ip_unprivileged_port_start (1024) need the capability CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(
                    f,
                    "; no interface of this machine has this address, `ip address` shows which there are"
                )
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Opens `sockets` listening sockets on the same port, among which the kernel spreads new connections. They are in
/// non-blocking mode. With port 0 the first one's port is everybody's.
pub fn listen(options: &Options, sockets: usize) -> Result<Vec<TcpListener>, ListenError> {
    let fail = |address| move |source| ListenError { address, source };
    let mut address = options.address;
    // SO_REUSEPORT would also let a second server of the same user join the port, and silently take half of the
    // connections. So the port is first claimed for a moment without it, which fails if anybody listens there.
    if address.port() != 0 {
        open(options)
            .and_then(|socket| socket.bind(&address.into()))
            .map_err(fail(address))?;
    }
    let mut listeners = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let listener = listen_one(options, address).map_err(fail(address))?;
        address = listener.local_addr().map_err(fail(address))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listen_one(options: &Options, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(options)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // An update is written when it is due; waiting for more to fill a packet is the pump's decision, not the kernel's.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(options.notsent_lowat_bytes)?;
    socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    let keepalive = TcpKeepalive::new()
        .with_time(options.keepalive)
        .with_interval(options.keepalive);
    socket.set_tcp_keepalive(&keepalive)?;
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn open(options: &Options) -> io::Result<Socket> {
    let domain = Domain::for_address(options.address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server must not wait for its predecessor's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        // `[::]` serves IPv4 too, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    fn loopback(port: u16) -> Options {
        Options::new((Ipv4Addr::LOCALHOST, port).into())
    }

    #[test]
    fn accepted_connections_inherit_the_options() {
        let options = Options {
            send_buffer_bytes: Some(64 * 1024),
            ..loopback(0)
        };
        let listener = listen(&options, 1).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), options.keepalive);
        assert_eq!(
            accepted.tcp_keepalive_interval().unwrap(),
            options.keepalive
        );
        assert_eq!(
            accepted.tcp_notsent_lowat().unwrap(),
            options.notsent_lowat_bytes
        );
        assert_eq!(
            accepted.tcp_user_timeout().unwrap(),
            Some(options.user_timeout)
        );
        // The kernel doubles the value for its bookkeeping.
        assert_eq!(accepted.send_buffer_size().unwrap(), 128 * 1024);
    }

    #[test]
    fn all_sockets_share_the_first_ones_port() {
        let listeners = listen(&loopback(0), 3).unwrap();
        let addresses: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        assert_ne!(addresses[0].port(), 0);
        assert_eq!(addresses, [addresses[0]; 3]);
    }

    #[test]
    fn a_second_server_does_not_share_the_port() {
        let first = listen(&loopback(0), 2).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let message = listen(&loopback(port), 2).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")),
            "{message}"
        );
        assert!(message.contains("ss -ltnp"), "{message}");
        drop(first);
        assert_eq!(listen(&loopback(port), 2).unwrap().len(), 2);
    }

    #[test]
    fn a_foreign_address_is_named_as_such() {
        // TEST-NET-1: no machine has it.
        let message = listen(&Options::new(([192, 0, 2, 1], 0).into()), 1)
            .unwrap_err()
            .to_string();
        assert!(message.contains("no interface"), "{message}");
    }

    #[test]
    fn the_ipv6_wildcard_serves_ipv4_too() {
        let Ok(listeners) = listen(&Options::new((Ipv6Addr::UNSPECIFIED, 0).into()), 1) else {
            eprintln!("skipped: no IPv6 here");
            return;
        };
        let port = listeners[0].local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
