//! How the server and a remote adapter meet: listening or connecting, credentials, init.

use super::lines::{Broken, Lines};
use crate::config::plan::{RemoteAddress, RemotePlan, TableItems};
use crate::runtime::host::Host;
use engine::ari::exception::Exception;
use engine::ari::init::{self, Credentials, InitReply, NODE_SDK, Role};
use engine::ari::{Dialect, Line, Malformed, Version, read_line};
use smol::Async;
use smol::channel::{Receiver, Sender, bounded};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// How long a remote may keep its name to itself before it is taken for one that has none to tell. Only where no
/// credentials are wanted; SDKs send theirs at once. (guess)
const INTRODUCTION: Duration = Duration::from_secs(1);
/// How long a remote that was told to go may take. (guess)
const FAREWELL: Duration = Duration::from_secs(1);

/// Where connections of one kind come from.
pub(super) enum Port {
    /// They are accepted by a task that turns away whoever comes while nobody waits for a remote.
    Listen {
        accepted: Receiver<Async<TcpStream>>,
        waiting: Rc<Cell<bool>>,
    },
    /// The remote listens.
    Connect(String),
}

impl Port {
    /// `listener` is there exactly if the address is to be listened at.
    pub fn open(
        host: &Host,
        address: &RemoteAddress,
        listener: Option<TcpListener>,
        allow: &[IpAddr],
        adapter: &str,
    ) -> io::Result<Self> {
        match (address, listener) {
            (RemoteAddress::Connect(address), _) => Ok(Self::Connect(address.clone())),
            (RemoteAddress::Listen(address), None) => {
                Err(io::Error::other(format!("nobody listens at {address}")))
            }
            (RemoteAddress::Listen(_), Some(listener)) => {
                let (sender, accepted) = bounded(1);
                let waiting = Rc::new(Cell::new(false));
                let acceptor = Acceptor {
                    host: host.clone(),
                    listener: Async::new(listener)?,
                    sender,
                    waiting: Rc::clone(&waiting),
                    allow: allow.to_vec(),
                    adapter: adapter.to_owned(),
                };
                host.spawn(acceptor.run());
                Ok(Self::Listen { accepted, waiting })
            }
        }
    }

    /// The next connection.
    async fn next(&self, host: &Host, retry: Duration, adapter: &str) -> Async<TcpStream> {
        match self {
            Self::Listen { accepted, waiting } => {
                waiting.set(true);
                match accepted.recv().await {
                    Ok(stream) => stream,
                    Err(_) => smol::future::pending().await, // the acceptor lives as long as the host
                }
            }
            Self::Connect(address) => {
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
    listener: Async<TcpListener>,
    sender: Sender<Async<TcpStream>>,
    waiting: Rc<Cell<bool>>,
    allow: Vec<IpAddr>,
    adapter: String,
}

impl Acceptor {
    async fn run(self) {
        let adapter = &self.adapter;
        loop {
            match self.listener.accept().await {
                Ok((_, peer)) if !self.allow.is_empty() && !self.allow.contains(&peer.ip()) => {
                    tracing::warn!(adapter, %peer, "a remote adapter may not connect from there");
                }
                Ok((_, peer)) if !self.waiting.replace(false) => {
                    // At once, so that it sees a clear failure: one at a time is served.
                    tracing::warn!(adapter, %peer, "a remote adapter is turned away: there is one already, or one has just failed");
                }
                Ok((stream, _)) => {
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
    /// It has gone again.
    Broken(Broken),
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
}

impl Door {
    /// Waits for a remote and gets it ready.
    pub async fn meet(&self, init_id: &str) -> Result<Link, Refused> {
        let (host, retry) = (&self.host, self.plan.connect_retry);
        let requests = self.requests.next(host, retry, &self.adapter);
        let (requests, notifications) = match &self.notifications {
            None => (requests.await, None),
            Some(port) => {
                let second = port.next(host, retry, &self.adapter);
                let (first, second) = smol::future::zip(requests, second).await;
                (first, Some(second))
            }
        };
        let lines = |stream| Lines::new(stream, self.plan.line_bytes_max);
        let mut requests = lines(requests);
        let mut notifications = notifications.map(lines);
        let peer = self.introduction(&mut requests).await?;
        if let Some(lines) = &mut notifications {
            self.introduction(lines).await?;
        }
        let parameters: Vec<(&str, &str)> = self
            .parameters
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        init::init(&mut requests.out, init_id, self.role, &parameters);
        let reply = self.init_reply(&mut requests, init_id);
        let version = match self.in_time(self.plan.timeout, reply).await? {
            InitReply::Ready(version) => version,
            InitReply::VersionUnknown(version) => {
                self.dismiss(&mut requests, &peer, "unsupported protocol version")
                    .await;
                return Err(Refused::Version(version));
            }
            InitReply::Failed(exception) => {
                self.dismiss(&mut requests, &peer, "initialization failed")
                    .await;
                return Err(Refused::Init(exception));
            }
        };
        Ok(Link {
            requests,
            notifications,
            dialect: Dialect::new(version, self.tells_items(&peer)),
            who: who(&peer, version),
            takes_close: peer.takes_close || version.has_close(),
        })
    }

    fn tells_items(&self, peer: &Credentials) -> bool {
        match self.plan.table_items {
            TableItems::Always => true,
            TableItems::Never => false,
            TableItems::Auto => peer.sdk.as_deref() != Some(NODE_SDK),
        }
    }

    /// The remote's first line, if it has one to send.
    async fn introduction(&self, lines: &mut Lines) -> Result<Credentials, Refused> {
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
            self.dismiss(lines, &peer, "wrong credentials").await;
            return Err(Refused::Credentials);
        }
        Ok(peer)
    }

    async fn init_reply(&self, lines: &mut Lines, init_id: &str) -> Result<InitReply, Refused> {
        loop {
            while let Some(line) = lines.next_line()? {
                match read_line(line)? {
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
            match read_line(line)? {
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
    format!("{sdk}, {version:?}")
}

/// Compares secrets without telling by its duration where they differ.
fn equal_in_constant_time(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differences, (x, y)| differences | (x ^ y))
            == 0
}
