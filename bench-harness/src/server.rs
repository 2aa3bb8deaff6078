//! The servers that are measured: how each is started, in its fairest configuration, and ended.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::contender::Contender;
use crate::dialect::Protocol;
use crate::floor::Io;
use crate::machine;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Brightwire on io_uring.
    Uring,
    /// Brightwire on epoll.
    Epoll,
    /// The floor by `send(2)`.
    FloorSend,
    /// The floor by io_uring.
    FloorUring,
    /// uWebSockets.js.
    Uws,
    /// Node `ws`.
    NodeWs,
    /// nginx with nchan.
    Nchan,
    /// nats-server.
    Nats,
    /// Mosquitto.
    Mosquitto,
}

impl Kind {
    /// All, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Uring,
        Self::Epoll,
        Self::FloorSend,
        Self::FloorUring,
        Self::Uws,
        Self::NodeWs,
        Self::Nchan,
        Self::Nats,
        Self::Mosquitto,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "brightwire, io_uring",
            Self::Epoll => "brightwire, epoll",
            Self::FloorSend => "floor, send(2)",
            Self::FloorUring => "floor, io_uring",
            Self::Uws => "uWebSockets.js",
            Self::NodeWs => "Node ws",
            Self::Nchan => "nginx+nchan",
            Self::Nats => "nats-server",
            Self::Mosquitto => "Mosquitto",
        }
    }

    /// Whether it is ours.
    pub fn is_brightwire(self) -> bool {
        matches!(self, Self::Uring | Self::Epoll)
    }

    /// Whether it is somebody else's.
    pub fn is_peer(self) -> bool {
        !self.is_brightwire() && !matches!(self, Self::FloorSend | Self::FloorUring)
    }

    /// How it runs, and what a comparison with it does not show, or shows in its favour or disfavour.
    pub fn caveat(self) -> &'static str {
        match self {
            Self::Uring | Self::Epoll => {
                "ingest and shard on one thread (threading = \"shared\") unless a profile says otherwise; RAW subscriptions, so that each message goes out \
                 and none is replaced by a newer one; what was sent lately is kept for recovery, as by default"
            }
            Self::FloorSend | Self::FloorUring => {
                "unfair to Brightwire: no sessions, no subscriptions, no protocol, blocking sockets; one frame is made \
                 for all"
            }
            Self::Uws => {
                "no snapshots, recovery or conflation; one frame is made for all clients of an item. Messages of one \
                 read become one write, as with Brightwire. Unfair to it: the publisher's lines are parsed in JavaScript"
            }
            Self::NodeWs => {
                "no snapshots, recovery or conflation; no publish and subscribe of its own: a loop over a set, as its \
                 own examples have it. One message is one write, unless a socket is full"
            }
            Self::Nchan => {
                "one worker. Unfair to it: each message is an HTTP request of its own, to be answered (a publisher by \
                 WebSocket has one channel only); with 20 items a client still has one connection (multiplexed channels). \
                 No buffer of messages is kept"
            }
            Self::Nats => {
                "subjects with wildcards; WebSocket is a side door of its TCP protocol. Built for many cores, here it \
                 has one (GOMAXPROCS=1)"
            }
            Self::Mosquitto => {
                "a broker for devices; WebSocket by libwebsockets; at most once, not retained"
            }
        }
    }

    /// What its program says of its version.
    pub fn version(self, places: &Places) -> Option<String> {
        let said = |program: &Path, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok()?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8(text).ok()?;
            text.lines().next().map(str::to_owned)
        };
        let package = |name: &str| {
            let file = places.peers.join("node_modules").join(name);
            let text = fs::read_to_string(file.join("package.json")).ok()?;
            let package: serde_json::Value = serde_json::from_str(&text).ok()?;
            let node = said(Path::new("node"), "--version")?;
            Some(format!(
                "{name} {}, Node {node}",
                package["version"].as_str()?
            ))
        };
        match self {
            Self::Uring | Self::Epoll => said(&places.brightwire, "--version"),
            Self::FloorSend | Self::FloorUring => None,
            Self::Uws => package("@trufflesuite/uws-js-unofficial"),
            Self::NodeWs => package("ws"),
            Self::Nchan => said(Path::new(NGINX), "-v"),
            Self::Nats => said(&places.peers.join(NATS), "--version"),
            Self::Mosquitto => said(Path::new(MOSQUITTO), "-h"),
        }
    }
}

const NGINX: &str = "/usr/sbin/nginx";
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const NATS: &str = "venv/bin/nats-server";

/// A server at work. Dropping it ends it.
pub struct Server {
    child: Child,
    /// How its clients speak.
    pub protocol: Protocol,
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where publishers connect.
    pub publisher: SocketAddr,
    _files: TempDir,
}

/// Where programs are, and where they may run.
#[derive(Clone, Debug)]
pub struct Places {
    /// Brightwire's program.
    pub brightwire: PathBuf,
    /// Directory of what `scripts/bench-peers` has installed.
    pub peers: PathBuf,
    /// Cores of the servers, as `taskset -c` reads them.
    pub cores: String,
}

/// What a server says on its standard error, among its files.
const LOG: &str = "log";
/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(15);

impl Server {
    /// Starts a server and waits until it listens. An error tells what is missing.
    pub fn start(contender: &Contender, places: &Places) -> io::Result<Self> {
        let files = tempfile::tempdir()?;
        let starter = Starter {
            places,
            files: &files,
        };
        let (child, protocol, clients, publisher) = match contender.kind {
            Kind::Uring => starter.brightwire(contender, "uring")?,
            Kind::Epoll => starter.brightwire(contender, "epoll")?,
            Kind::FloorSend => starter.floor(Io::Send)?,
            Kind::FloorUring => starter.floor(Io::Uring)?,
            Kind::Uws => starter.node("uws.mjs")?,
            Kind::NodeWs => starter.node("ws.mjs")?,
            Kind::Nchan => starter.nchan()?,
            Kind::Nats => starter.nats()?,
            Kind::Mosquitto => starter.mosquitto()?,
        };
        let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        Ok(Self {
            child,
            protocol,
            clients: local(clients),
            publisher: local(publisher),
            _files: files,
        })
    }

    /// CPU time so far, of all its processes.
    pub fn cpu(&self) -> io::Result<Duration> {
        machine::cpu_of_tree(self.child.id())
    }

    /// Memory that it has, all its processes, in bytes.
    pub fn memory(&self) -> u64 {
        machine::memory_of_tree(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A polite end, so that nginx takes its workers along; then a certain one.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process, its protocol, and the ports of clients and publishers.
type Started = (Child, Protocol, u16, u16);

struct Starter<'a> {
    places: &'a Places,
    files: &'a TempDir,
}

impl Starter<'_> {
    fn brightwire(&self, contender: &Contender, io: &str) -> io::Result<Started> {
        let (clients, publisher) = free_ports()?;
        let config = contender.configuration(io, clients, publisher);
        let path = self.file("brightwire.toml", &config)?;
        let program = contender.program.as_ref();
        let child = self.spawn(
            Command::new(program.unwrap_or(&self.places.brightwire))
                .args(["run", "--config"])
                .arg(path),
        )?;
        self.wait(child, Protocol::Tlcp, clients, publisher)
    }

    fn floor(&self, io: Io) -> io::Result<Started> {
        let io = match io {
            Io::Send => "send",
            Io::Uring => "uring",
        };
        let mut command = Command::new(std::env::current_exe()?);
        self.told_ports(command.args(["floor", "--io", io]), Protocol::Plain)
    }

    fn node(&self, script: &str) -> io::Result<Started> {
        let script = installed(self.places.peers.join(script))?;
        let mut command = Command::new("node");
        self.told_ports(command.arg(script), Protocol::Plain)
    }

    fn nchan(&self) -> io::Result<Started> {
        let module = installed(NCHAN)?;
        let (port, _) = free_ports()?;
        let directory = self.files.path().display();
        let config = format!(
            "load_module {};\ndaemon off;\nworker_processes 1;\nerror_log {directory}/error.log crit;\npid {directory}/pid;\n\
             events {{ worker_connections 20000; }}\n\
             http {{ access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;\n\
             fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n\
             server {{ listen 127.0.0.1:{port}; tcp_nodelay on; keepalive_requests 1000000000;\n\
             location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_store_messages off; }}\n\
             location ~ ^/sub/(.+)$ {{ nchan_subscriber websocket; nchan_channel_id $1;\n\
             nchan_channel_id_split_delimiter \",\"; nchan_subscriber_first_message newest; }} }} }}\n",
            module.display()
        );
        let path = self.file("nginx.conf", &config)?;
        let program = installed(NGINX)?;
        let child = self.spawn(Command::new(program).arg("-c").arg(path))?;
        self.wait(child, Protocol::Nchan, port, port)
    }

    fn nats(&self) -> io::Result<Started> {
        let program = installed(self.places.peers.join(NATS))?;
        let (clients, publisher) = free_ports()?;
        let config = format!(
            "host: 127.0.0.1\nport: {publisher}\nmax_connections: 20000\n\
             websocket {{ host: 127.0.0.1, port: {clients}, no_tls: true, compression: false }}\n"
        );
        let path = self.file("nats.conf", &config)?;
        let child = self.spawn(
            Command::new(program)
                .arg("-c")
                .arg(path)
                .env("GOMAXPROCS", "1"),
        )?;
        self.wait(child, Protocol::Nats, clients, publisher)
    }

    fn mosquitto(&self) -> io::Result<Started> {
        let program = installed(MOSQUITTO)?;
        let (clients, publisher) = free_ports()?;
        let config = format!(
            "per_listener_settings false\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             listener {publisher} 127.0.0.1\nlistener {clients} 127.0.0.1\nprotocol websockets\n"
        );
        let path = self.file("mosquitto.conf", &config)?;
        let child = self.spawn(Command::new(program).arg("-c").arg(path))?;
        self.wait(child, Protocol::Mqtt, clients, publisher)
    }

    fn file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.files.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a process on the servers' core.
    fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let mut pinned = Command::new("taskset");
        pinned
            .arg("-c")
            .arg(&self.places.cores)
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                pinned.env(name, value);
            }
        }
        let log = fs::File::create(self.files.path().join(LOG))?;
        pinned
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        pinned.spawn()
    }

    /// Starts a process that says its ports.
    fn told_ports(&self, command: &mut Command, protocol: Protocol) -> io::Result<Started> {
        let mut child = self.spawn(command)?;
        let output = child.stdout.take().expect("it is piped");
        let (mut clients, mut publisher) = (None, None);
        for line in BufReader::new(output).lines() {
            let line = line?;
            let port = |name| line.strip_prefix(name).and_then(|port| port.parse().ok());
            clients = clients.or(port("clients "));
            publisher = publisher.or(port("publisher "));
            if let (Some(clients), Some(publisher)) = (clients, publisher) {
                return Ok((child, protocol, clients, publisher));
            }
        }
        let _ = child.wait();
        Err(io::Error::other("it ended before it said its ports"))
    }

    /// Waits until a process listens on its ports.
    fn wait(
        &self,
        mut child: Child,
        protocol: Protocol,
        clients: u16,
        publisher: u16,
    ) -> io::Result<Started> {
        let end = Instant::now() + START_MAX;
        for port in [clients, publisher] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                if let Some(status) = child.try_wait()? {
                    let log = fs::read_to_string(self.files.path().join(LOG)).unwrap_or_default();
                    let said = log.lines().last().unwrap_or_default();
                    return Err(io::Error::other(format!("it ended: {status}: {said}")));
                }
                if Instant::now() > end {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(io::Error::other("it does not listen"));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok((child, protocol, clients, publisher))
    }
}

fn installed(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref();
    if path.exists() {
        Ok(path.to_owned())
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("not installed ({})", path.display()),
        ))
    }
}

/// Two ports that nobody has, held at the same time so that they differ.
fn free_ports() -> io::Result<(u16, u16)> {
    let two = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    Ok((two.0.local_addr()?.port(), two.1.local_addr()?.port()))
}
