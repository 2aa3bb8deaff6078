//! The line feed: any program that can write lines to a socket is a data adapter.
//!
//! Publishers connect, over TCP or a Unix socket, and write lines (see `line_format`). What the
//! lines say of an item is merged into the item's row, with which later subscribers begin; whatever is subscribed is
//! passed on at once. Publishers are not told what is subscribed: they publish what they have. Several may publish at
//! the same time; each line is one event, and lines of one publisher keep their order.
//!
//! An item that has not been heard of has no snapshot yet; its first line is its snapshot, rather than an empty one
//! now. This fits MERGE, DISTINCT and RAW. A COMMAND item's state is more than its last row; a client sees all of it
//! only if the item was subscribed from the start.
//!
//! | Bound | At the bound |
//! |---|---|
//! | ingest has no room | publishers are not read until it has: TCP makes them wait |
//! | [`PUBLISHERS_MAX`] connections | further ones are closed at once |
//! | [`LINE_BYTES_MAX`] a line | the publisher is disconnected, with a line in the log |
//! | [`ITEMS_MAX`] items | lines of further items are counted and dropped, told once in the log |
//! | the engine's bounds of an item: its fields, their names, its bytes | the line is skipped, as one that cannot be read |
//! | a line that cannot be read | it is skipped; the first of each publisher is told in the log |

mod board;

use super::feed::Feed;
use board::{Board, Publisher};
use smol::channel::{self, Receiver};
use smol::io::{AsyncBufReadExt, AsyncRead, BufReader};
use smol::{Async, LocalExecutor};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections of publishers at a time. (guess)
pub const PUBLISHERS_MAX: usize = 64;
/// Bytes of a line. (guess: a JSON document in one field)
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Items that are remembered. (guess: with rows of 1 KiB it is 1 GiB)
pub const ITEMS_MAX: usize = 1_000_000;

/// What is read from a socket at once: many lines make one commit.
const READ_BYTES: usize = 64 << 10;

/// Where publishers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinesAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket. A socket that an earlier server has left behind is replaced.
    Unix(PathBuf),
}

impl fmt::Display for LinesAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A line feed that listens.
pub struct Lines {
    /// Taken by `run`.
    listener: Mutex<Option<Listener>>,
    address: LinesAddress,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Lines {
    /// Listens from now on; publishers are served once the adapter runs.
    pub fn bind(address: LinesAddress) -> io::Result<Self> {
        let (listener, address) = match address {
            LinesAddress::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let address = LinesAddress::Tcp(listener.local_addr()?);
                (Listener::Tcp(listener), address)
            }
            LinesAddress::Unix(path) => {
                remove_stale(&path)?;
                let listener = UnixListener::bind(&path)?;
                (Listener::Unix(listener), LinesAddress::Unix(path))
            }
        };
        Ok(Self {
            listener: Mutex::new(Some(listener)),
            address,
        })
    }

    /// Where publishers connect; with a port of its own if any was asked for.
    pub fn address(&self) -> &LinesAddress {
        &self.address
    }
}

/// Removes a socket that nobody listens on any more. Anything else at its place is left, and binding fails.
fn remove_stale(path: &PathBuf) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let LinesAddress::Unix(path) = &self.address {
            // If it is gone already, so be it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl super::Source for Lines {
    /// True for every name; see the module's text for what the snapshots are.
    fn is_snapshot_available(&self, _item: &str) -> bool {
        true
    }

    fn run(self: Arc<Self>, mut feed: Feed) {
        let listener = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(listener) = listener else { return };
        // One entry: that something waits is all there is to know.
        let (wake, commands) = channel::bounded(1);
        feed.wake_by(move || _ = wake.try_send(()));
        let desk = Desk {
            board: RefCell::new(Board::new(feed)),
            publishers: Cell::new(0),
        };
        if let Err(error) = smol::block_on(desk.serve(listener, commands)) {
            tracing::error!("the line feed at {} has ended: {error}", self.address);
        }
    }
}

/// All that the tasks of the thread share.
struct Desk {
    board: RefCell<Board>,
    publishers: Cell<usize>,
}

impl Desk {
    /// Until `Stop`.
    async fn serve(self, listener: Listener, commands: Receiver<()>) -> io::Result<()> {
        let desk = Rc::new(self);
        let executor = Rc::new(LocalExecutor::new());
        // Tasks of their own: what wakes a publisher's reader does not ask the listener again.
        let accepting = executor.spawn({
            let (desk, executor) = (Rc::clone(&desk), Rc::clone(&executor));
            async move {
                match listener {
                    Listener::Tcp(listener) => {
                        let listener = Async::new(listener)?;
                        loop {
                            let (stream, peer) = listener.accept().await?;
                            desk.admit(&executor, stream, peer.to_string());
                        }
                    }
                    Listener::Unix(listener) => {
                        let listener = Async::new(listener)?;
                        for number in 1u64.. {
                            let (stream, _) = listener.accept().await?;
                            desk.admit(&executor, stream, format!("number {number}"));
                        }
                        Ok(())
                    }
                }
            }
        });
        let obeying = executor.spawn(async move {
            loop {
                if desk.board.borrow_mut().obey() {
                    return Ok(());
                }
                if commands.recv().await.is_err() {
                    return Ok(());
                }
            }
        });
        executor.run(smol::future::or(obeying, accepting)).await
    }

    fn admit(
        self: &Rc<Self>,
        executor: &LocalExecutor<'static>,
        stream: impl AsyncRead + Unpin + 'static,
        who: String,
    ) {
        if self.publishers.get() >= PUBLISHERS_MAX {
            tracing::warn!("line feed: publisher {who} is one too many and was closed");
            return;
        }
        self.publishers.set(self.publishers.get() + 1);
        let desk = Rc::clone(self);
        executor
            .spawn(async move {
                if let Err(error) = desk.read(stream, &who).await {
                    tracing::warn!("line feed: publisher {who} was disconnected: {error}");
                }
                desk.publishers.set(desk.publishers.get() - 1);
            })
            .detach();
    }

    /// Takes a publisher's lines until it goes.
    async fn read(&self, stream: impl AsyncRead + Unpin, who: &str) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(READ_BYTES, stream);
        let mut publisher = Publisher::new(who);
        loop {
            let bytes = reader.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(());
            }
            let used = bytes.len();
            if self.board.borrow_mut().hear(bytes, &mut publisher).is_err() {
                return Ok(()); // the adapter ends
            }
            if publisher.rest.len() > LINE_BYTES_MAX {
                let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                return Err(io::Error::other(reason));
            }
            reader.consume(used);
            // One publisher's flood does not keep the others, nor the commands, from their turn.
            smol::future::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::FeedCapacity;
    use super::super::testkit::{Heard, hear, subscribe};
    use super::super::{Manners, RunningAdapter, spawn};
    use super::*;
    use engine::limits::Limits;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;

    struct Bench {
        running: RunningAdapter,
        woken: mpsc::Receiver<()>,
        address: LinesAddress,
    }

    impl Bench {
        fn new(address: LinesAddress) -> Self {
            let lines = Arc::new(Lines::bind(address).unwrap());
            let address = lines.address().clone();
            let (wake, woken) = mpsc::channel();
            let running = spawn(
                "lines",
                lines,
                FeedCapacity::default(),
                Manners::Interrupts,
                move || {
                    _ = wake.send(());
                },
            )
            .unwrap();
            Self {
                running,
                woken,
                address,
            }
        }

        fn tcp() -> Self {
            Self::new(LinesAddress::Tcp("127.0.0.1:0".parse().unwrap()))
        }

        fn publisher(&self) -> TcpStream {
            let LinesAddress::Tcp(address) = self.address else {
                panic!("the bench is not on TCP")
            };
            TcpStream::connect(address).unwrap()
        }

        fn subscribe(&mut self, item: u32, name: &str) {
            self.running.inbox.command(subscribe(item, name)).unwrap();
        }

        /// Waits for so many events.
        fn hear(&mut self, events: usize) -> Vec<Heard> {
            let mut heard = Vec::new();
            while heard.len() < events {
                self.woken.recv().unwrap();
                heard.extend(hear(&mut self.running.inbox));
            }
            heard
        }
    }

    #[test]
    fn lines_become_events_and_later_subscribers_get_the_merged_row() {
        let mut bench = Bench::tcp();
        bench.subscribe(1, "a");
        let mut publisher = bench.publisher();
        publisher
            .write_all(b"a\tx=1\ty=2\nnobody\tx=1\na\tx=3\r\n\na\ty\n")
            .unwrap();
        // Of one read, or of several: the subscription may come before, between or behind the lines.
        bench.subscribe(2, "b");
        publisher.write_all(b"b\tz=9\n").unwrap();
        let mut heard = Vec::new();
        while !heard.contains(&Heard::EndOfSnapshot(2)) {
            heard.extend(bench.hear(1));
        }
        assert!(heard.contains(&Heard::EndOfSnapshot(1)));
        assert!(heard.contains(&Heard::update(2, true, &[("z", Some("9"))])));
        bench.subscribe(3, "a");
        assert_eq!(
            bench.hear(2),
            [
                Heard::update(3, true, &[("x", Some("3")), ("y", None)]),
                Heard::EndOfSnapshot(3)
            ]
        );
        publisher.write_all(b"!clear\ta\na\tx=4\n").unwrap();
        assert_eq!(
            bench.hear(2),
            [
                Heard::ClearSnapshot(3),
                Heard::update(3, false, &[("x", Some("4"))])
            ]
        );
        assert_eq!(bench.running.stop(), Ok(()));
    }

    #[test]
    fn broken_lines_harm_nobody_and_endless_ones_end_their_publisher() {
        let mut bench = Bench::tcp();
        bench.subscribe(1, "a");
        let mut bad = bench.publisher();
        bad.write_all(b"\xff\xfe\nno tab\n!boom\tx\na\tx=1\n")
            .unwrap();
        assert_eq!(
            bench.hear(2),
            [
                Heard::update(1, true, &[("x", Some("1"))]),
                Heard::EndOfSnapshot(1)
            ]
        );
        // The server hangs up in the midst of it; how much it takes before is the kernel's business.
        let _ = bad.write_all(&vec![b'x'; LINE_BYTES_MAX + READ_BYTES]);
        let mut answer = Vec::new();
        let _ = bad.read_to_end(&mut answer);
        assert!(answer.is_empty());
        bench.publisher().write_all(b"a\tx=2\n").unwrap();
        assert_eq!(
            bench.hear(1),
            [Heard::update(1, false, &[("x", Some("2"))])]
        );
    }

    #[test]
    fn a_row_does_not_outgrow_what_can_be_sent() {
        let mut bench = Bench::tcp();
        let mut publisher = bench.publisher();
        let limits = Limits::DEFAULT;
        for field in 0..2 * limits.fields_per_item_max {
            writeln!(publisher, "wide\tf{field}=1").unwrap();
        }
        let long = "x".repeat(limits.item_bytes_max / 2);
        writeln!(publisher, "long\ta={long}\nlong\tb={long}\nlong\ta=1\tb=2").unwrap();
        publisher.write_all(b"end\tx=1\n").unwrap();
        bench.subscribe(1, "end");
        bench.hear(2);
        bench.subscribe(2, "wide");
        let heard = bench.hear(2);
        let Heard::Update(_, _, fields) = &heard[0] else {
            panic!("{heard:?}")
        };
        assert_eq!(fields.len(), limits.fields_per_item_max);
        // The line that was too much is skipped; the one behind it makes room.
        bench.subscribe(3, "long");
        assert_eq!(
            bench.hear(2),
            [
                Heard::update(3, true, &[("a", Some("1")), ("b", Some("2"))]),
                Heard::EndOfSnapshot(3)
            ]
        );
        assert_eq!(bench.running.stop(), Ok(()));
    }

    #[test]
    fn a_unix_socket_is_taken_over_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("feed");
        drop(UnixListener::bind(&path).unwrap()); // left behind
        let mut bench = Bench::new(LinesAddress::Unix(path.clone()));
        bench.subscribe(1, "a");
        let mut publisher = UnixStream::connect(&path).unwrap();
        publisher.write_all(b"a\tx=1\n").unwrap();
        assert_eq!(bench.hear(2).len(), 2);
        assert!(
            Lines::bind(LinesAddress::Unix(path.clone())).is_err(),
            "in use"
        );
        assert_eq!(bench.running.stop(), Ok(()));
        assert!(!path.exists());
    }
}
