//! How the server and a remote adapter meet: listening or connecting, TLS, credentials, init.

use super::lines::{Broken, Lines};
use super::stream::{Security, Stream};
use crate::config::plan::{OnLoss, RemoteAddress, RemotePlan, TableItems};
use crate::runtime::host::Host;
use engine::ari::exception::Exception;
use engine::ari::init::{self, Credentials, InitReply, NODE_SDK, Role};
use engine::ari::{Dialect, Line, Malformed, Version, read_line};
use engine::text::equal_in_constant_time;
use ipnet::IpNet;
use rustls::pki_types::ServerName;
use smol::Async;
use smol::channel::{Receiver, Sender, bounded};
use socket2::Socket;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::time::Duration;

/// How long a remote may keep its name to itself before it is taken for one that has none to tell. Only where no
/// credentials are wanted; SDKs send theirs at once. (guess)
const INTRODUCTION: Duration = Duration::from_secs(1);
/// How long a remote that was told to go may take. (guess)
const FAREWELL: Duration = Duration::from_secs(1);
/// How long one of two connections waits for the other before that is worth a word. (guess)
const PAIRING: Duration = Duration::from_secs(5);
/// How long a remote waits for the one before it to be gone: whoever restarts it may be quicker than its end. (guess)
const HANDOVER: Duration = Duration::from_millis(250);
/// Connections that may wait to be accepted: one is served, all others are turned away. (guess)
const BACKLOG: i32 = 16;

/// Waits until something has happened once; for the metadata adapter of a set to be there.
#[derive(Clone)]
pub(super) enum Gate {
    /// It need not happen.
    Open,
    /// It happens when the other end of the channel is dropped.
    After(Receiver<()>),
}

impl Gate {
    async fn passed(&self) {
        if let Self::After(opened) = self {
            while opened.recv().await.is_ok() {}
        }
    }
}

/// Where connections of one kind come from.
pub(super) struct Port {
    source: Source,
    security: Security,
}

enum Source {
    /// They are accepted by a task that turns away whoever comes while nobody waits for a remote. Whoever waits says so.
    Listen {
        accepted: Receiver<Async<TcpStream>>,
        waits: Sender<()>,
    },
    /// The remote listens.
    Connect { address: String, gate: Gate },
}

/// What ports of an adapter have in common.
pub(super) struct Surroundings<'a> {
    pub host: &'a Host,
    pub allow: &'a [IpNet],
    pub adapter: &'a str,
    pub gate: &'a Gate,
}

impl Port {
    /// `bound` is there exactly if the address is to be listened at.
    pub fn open(
        around: &Surroundings<'_>,
        address: &RemoteAddress,
        bound: Option<Socket>,
        security: Security,
    ) -> io::Result<Self> {
        let source = match (address, bound) {
            (RemoteAddress::Connect(address), _) => Source::Connect {
                address: address.clone(),
                gate: around.gate.clone(),
            },
            (RemoteAddress::Listen(address), None) => {
                return Err(io::Error::other(format!("nobody listens at {address}")));
            }
            (RemoteAddress::Listen(_), Some(socket)) => {
                let (sender, accepted) = bounded(1);
                let (waits, waiting) = bounded(1);
                let acceptor = Acceptor {
                    host: around.host.clone(),
                    sender,
                    waiting,
                    allow: around.allow.to_vec(),
                    adapter: around.adapter.to_owned(),
                };
                around.host.spawn(acceptor.run(socket, around.gate.clone()));
                Source::Listen { accepted, waits }
            }
        };
        Ok(Self { source, security })
    }

    /// The next connection, as the kernel gives it.
    async fn next(&self, host: &Host, retry: Duration, adapter: &str) -> Async<TcpStream> {
        match &self.source {
            Source::Listen { accepted, waits } => {
                let _ = waits.try_send(()); // once is enough
                match accepted.recv().await {
                    Ok(stream) => stream,
                    Err(_) => smol::future::pending().await, // the acceptor lives as long as the host
                }
            }
            Source::Connect { address, gate } => {
                gate.passed().await;
                let mut said = false;
                loop {
                    match connect(address).await {
                        Ok(stream) => return stream,
                        Err(error) if !said => {
                            said = true;
                            tracing::warn!(adapter, "cannot connect to {address} yet: {error}");
                        }
                        Err(_) => {}
                    }
                    host.sleep(retry).await;
                }
            }
        }
    }
}

/// Claims an address, without listening there yet: whoever connects is refused.
pub(super) fn bind(address: std::net::SocketAddr) -> io::Result<Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Listens at an address that was claimed.
pub(super) fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)
}

/// The name that a host's certificate must have; `address` is a host and a port.
pub(super) fn host_name(address: &str) -> Option<ServerName<'static>> {
    let (host, _) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

async fn connect(address: &str) -> io::Result<Async<TcpStream>> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in smol::net::resolve(address).await? {
        match Async::<TcpStream>::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Accepts connections at one address.
struct Acceptor {
    host: Host,
    sender: Sender<Async<TcpStream>>,
    waiting: Receiver<()>,
    allow: Vec<IpNet>,
    adapter: String,
}

impl Acceptor {
    async fn run(self, socket: Socket, gate: Gate) {
        let adapter = &self.adapter;
        let listener = match gate {
            Gate::Open => Async::new(TcpListener::from(socket)),
            gate => {
                gate.passed().await;
                listen(&socket).and_then(|()| Async::new(TcpListener::from(socket)))
            }
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(adapter, "cannot listen: {error}"),
        };
        // Said once until one is let in: whoever tries in vain may try often.
        let (mut said_foreign, mut said_second) = (false, false);
        loop {
            match listener.accept().await {
                Ok((_, peer)) if !self.admits(peer) => {
                    if !std::mem::replace(&mut said_foreign, true) {
                        tracing::warn!(adapter, %peer, "a remote adapter may not connect from there");
                    }
                }
                Ok((_, peer)) if !self.is_awaited().await => {
                    // So that it sees a clear failure: one at a time is served.
                    if !std::mem::replace(&mut said_second, true) {
                        tracing::warn!(adapter, %peer, "a remote adapter is turned away: there is one already, or one has just failed");
                    }
                }
                Ok((stream, _)) => {
                    (said_foreign, said_second) = (false, false);
                    if self.sender.send(stream).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(adapter, "cannot accept a remote adapter: {error}");
                    self.host.sleep(Duration::from_millis(100)).await; // out of descriptors, most likely
                }
            }
        }
    }

    /// Whether somebody waits for a remote, or will in a moment: the end of the one before may be on its way.
    async fn is_awaited(&self) -> bool {
        let awaited = async { self.waiting.recv().await.is_ok() };
        let not_now = async {
            self.host.sleep(HANDOVER).await;
            false
        };
        smol::future::or(awaited, not_now).await
    }

    fn admits(&self, peer: std::net::SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&ip))
    }
}

/// Why a remote that came is not served.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is not who it should be.
    Credentials,
    /// Its adapter could not be initialised.
    Init(Exception),
    /// It wants a version that this server does not speak.
    Version(String),
    /// It did not answer in time.
    Silent,
    /// It says what makes no sense.
    Malformed(Malformed),
    /// It sends something else than what belongs here.
    Unexpected(String),
    /// No TLS comes about with it.
    Tls(io::Error),
    /// It has gone again.
    Broken(Broken),
}

impl Refused {
    /// Nothing was said: a look whether somebody listens, or a remote that has just ended.
    pub fn is_silent_end(&self) -> bool {
        matches!(self, Self::Broken(Broken::Closed))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("wrong credentials, or none"),
            Self::Init(exception) => write!(
                f,
                "its init has failed ({:?}): {}",
                exception.kind, exception.message
            ),
            Self::Version(version) => write!(f, "it wants to speak version {version}"),
            Self::Silent => f.write_str("it does not answer"),
            Self::Malformed(why) => write!(f, "it says what makes no sense: {why}"),
            Self::Unexpected(method) => write!(f, "it says {method} instead of what is its turn"),
            Self::Tls(error) => write!(f, "no TLS comes about: {error}"),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

impl From<Broken> for Refused {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Malformed> for Refused {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}

/// A remote adapter, ready for requests.
pub(super) struct Link {
    /// Requests and replies; notifications too, if there is no connection for them.
    pub requests: Lines,
    /// Notifications.
    pub notifications: Option<Lines>,
    /// How to speak with it.
    pub dialect: Dialect,
    /// For the log.
    pub who: String,
    takes_close: bool,
}

impl Link {
    /// Returns when something was read or written.
    pub async fn turn(&mut self) -> Result<(), Broken> {
        match &mut self.notifications {
            None => self.requests.turn().await,
            Some(notifications) => {
                smol::future::or(self.requests.turn(), notifications.turn()).await
            }
        }
    }

    /// Says why, if the remote takes that, and waits a little until it is gone.
    pub async fn farewell(mut self, host: &Host, reason: &str) {
        if self.takes_close {
            init::close(&mut self.requests.out, reason);
        }
        dismiss(host, &mut self.requests).await;
    }
}

async fn dismiss(host: &Host, lines: &mut Lines) {
    if !lines.out.is_empty() {
        smol::future::or(lines.drain(), host.sleep(FAREWELL)).await;
    }
}

/// The ports of one adapter, and what a remote is told first.
pub(super) struct Door {
    pub host: Host,
    pub plan: RemotePlan,
    pub role: Role,
    /// For the log.
    pub adapter: String,
    pub requests: Port,
    pub notifications: Option<Port>,
    /// Names and values for init.
    pub parameters: Vec<(String, String)>,
    /// Dropped when the first remote is there: the server's start may wait for that, and other adapters of the set.
    pub wait_for_first: Vec<Sender<()>>,
}

impl Door {
    /// How long to wait after an attempt that failed, which is said in the log. An error is for the server to stop.
    pub fn pause_after(&self, refused: &Refused) -> Result<Duration, String> {
        let adapter = &self.adapter;
        if refused.is_silent_end() {
            tracing::debug!(adapter, "a connection was closed before anything was said");
            return Ok(Duration::ZERO);
        }
        tracing::warn!(adapter, "a remote adapter is not served: {refused}");
        match refused {
            Refused::Init(_) | Refused::Version(_) if self.plan.on_loss == OnLoss::Stop => {
                Err(format!("{adapter}: {refused}"))
            }
            _ => Ok(self.plan.recovery_delay),
        }
    }

    /// Waits for a remote and gets it ready.
    pub async fn meet(&self, init_id: &str) -> Result<Link, Refused> {
        let (requests, notifications) = match &self.notifications {
            None => (self.introduced(&self.requests, true).await, Ok(None)),
            Some(port) => self.both(port).await,
        };
        let (mut requests, peer) = requests?;
        let notifications = match notifications {
            Ok(notifications) => notifications,
            Err(refused) => {
                self.dismiss(&mut requests, &peer, &refused.to_string())
                    .await;
                return Err(refused);
            }
        };
        let parameters: Vec<(&str, &str)> = self
            .parameters
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        init::init(&mut requests.out, init_id, self.role, &parameters);
        let reply = self.init_reply(&mut requests, init_id);
        let refused = match self.in_time(self.plan.timeout, reply).await {
            Ok(InitReply::Ready(version)) => {
                return Ok(Link {
                    requests,
                    notifications,
                    dialect: Dialect::new(version, self.tells_items(&peer)),
                    who: who(&peer, version),
                    takes_close: peer.takes_close || version.has_close(),
                });
            }
            Ok(InitReply::VersionUnknown(version)) => Refused::Version(version),
            Ok(InitReply::Failed(exception)) => Refused::Init(exception),
            Err(refused) => refused,
        };
        let reason = match &refused {
            Refused::Version(_) => "unsupported protocol version".to_owned(),
            Refused::Init(_) => "initialization failed".to_owned(),
            other => other.to_string(),
        };
        self.dismiss(&mut requests, &peer, &reason).await;
        Err(refused)
    }

    /// The two connections of a remote, in whichever order they come. If one of them is of no use the other is none
    /// either.
    async fn both(
        &self,
        second: &Port,
    ) -> (
        Result<(Lines, Credentials), Refused>,
        Result<Option<Lines>, Refused>,
    ) {
        enum Came {
            Requests(Result<(Lines, Credentials), Refused>),
            Notifications(Result<(Lines, Credentials), Refused>),
        }
        let mut requests = pin!(self.introduced(&self.requests, true));
        let mut notifications = pin!(self.introduced(second, false));
        let came = smol::future::or(async { Came::Requests(requests.as_mut().await) }, async {
            Came::Notifications(notifications.as_mut().await)
        });
        match came.await {
            Came::Requests(Err(refused)) | Came::Notifications(Err(refused)) => {
                (Err(refused), Ok(None))
            }
            Came::Requests(Ok((mut lines, peer))) => {
                let other = self.paired(&mut lines, notifications).await;
                (Ok((lines, peer)), other.map(|(lines, _)| Some(lines)))
            }
            Came::Notifications(Ok((mut lines, _))) => {
                let other = self.paired(&mut lines, requests).await;
                (other, Ok(Some(lines)))
            }
        }
    }

    /// Waits for the other connection, as long as the first one is there.
    async fn paired<T>(
        &self,
        first: &mut Lines,
        other: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let gone = async { Err(Refused::Broken(first.until_gone().await)) };
        let late = async {
            self.host.sleep(PAIRING).await;
            let adapter = &self.adapter;
            tracing::warn!(
                adapter,
                "a remote adapter has made one of its two connections only; if its SDK uses a single one, leave out notify_address"
            );
            smol::future::pending().await
        };
        smol::future::or(other, smol::future::or(gone, late)).await
    }

    /// The next connection at a port, secured, with what its first line says. `hears`: the remote reads there what it is
    /// told.
    async fn introduced(&self, port: &Port, hears: bool) -> Result<(Lines, Credentials), Refused> {
        let socket = port.next(&self.host, self.plan.connect_retry, &self.adapter);
        let socket = socket.await;
        let secured = async { port.security.secure(socket).await.map_err(Refused::Tls) };
        let stream: Stream = self.in_time(self.plan.timeout, secured).await?;
        let mut lines = Lines::new(stream, self.plan.line_bytes_max);
        let peer = self.introduction(&mut lines, hears).await?;
        Ok((lines, peer))
    }

    fn tells_items(&self, peer: &Credentials) -> bool {
        match self.plan.table_items {
            TableItems::Always => true,
            TableItems::Never => false,
            TableItems::Auto => peer.sdk.as_deref() != Some(NODE_SDK),
        }
    }

    /// The remote's first line, if it has one to send.
    async fn introduction(&self, lines: &mut Lines, hears: bool) -> Result<Credentials, Refused> {
        let required = !self.plan.credentials.is_empty();
        let wait = if required {
            self.plan.timeout
        } else {
            INTRODUCTION
        };
        let found = self.in_time(wait, first(lines)).await;
        let peer = match found {
            Err(Refused::Silent) if !required => return Ok(Credentials::default()),
            Err(refused) => return Err(refused),
            Ok(peer) => peer,
        };
        let known = |(user, password): &(String, String)| {
            let same = |given: &Option<String>, wanted: &str| {
                equal_in_constant_time(given.as_deref().unwrap_or_default(), wanted)
            };
            same(&peer.user, user) & same(&peer.password, password)
        };
        if required && !self.plan.credentials.iter().any(known) {
            // Nothing is ever written on a connection for notifications.
            if hears {
                self.dismiss(lines, &peer, "wrong credentials").await;
            }
            return Err(Refused::Credentials);
        }
        Ok(peer)
    }

    async fn init_reply(&self, lines: &mut Lines, init_id: &str) -> Result<InitReply, Refused> {
        loop {
            while let Some(line) = lines.next_line()? {
                match read_line(line.map_err(Malformed)?)? {
                    Line::Keepalive => {}
                    Line::Message { id, method, tokens }
                        if id == init_id && method == self.role.init_method() =>
                    {
                        return Ok(init::read_init_reply(tokens)?);
                    }
                    // A remote that introduces itself late.
                    Line::Message { method, .. } if method == init::CREDENTIALS => {}
                    Line::Message { method, .. } => return Err(Refused::Unexpected(method.into())),
                }
            }
            lines.turn().await?;
        }
    }

    async fn in_time<T>(
        &self,
        wait: Duration,
        work: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let late = async {
            self.host.sleep(wait).await;
            Err(Refused::Silent)
        };
        smol::future::or(work, late).await
    }

    async fn dismiss(&self, lines: &mut Lines, peer: &Credentials, reason: &str) {
        if peer.takes_close {
            init::close(&mut lines.out, reason);
        }
        dismiss(&self.host, lines).await;
    }
}

async fn first(lines: &mut Lines) -> Result<Credentials, Refused> {
    loop {
        while let Some(line) = lines.next_line()? {
            match read_line(line.map_err(Malformed)?)? {
                Line::Keepalive => {} // some SDKs may send one too early
                Line::Message { method, tokens, .. } if method == init::CREDENTIALS => {
                    return Ok(Credentials::read(tokens)?);
                }
                Line::Message { method, .. } => return Err(Refused::Unexpected(method.into())),
            }
        }
        lines.turn().await?;
    }
}

fn who(peer: &Credentials, version: Version) -> String {
    let sdk = peer.sdk.as_deref().unwrap_or("unnamed SDK");
    format!("{sdk}, ARI {}", version.name())
}
