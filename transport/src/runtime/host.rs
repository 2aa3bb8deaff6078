//! The async host of the ingest and the control core: glommio where io_uring is allowed, smol where it is not.
//!
//! What runs here is small and speaks with few peers: remote adapters, administration, timers, signals. Async reads
//! best for that. Client connections never come here; they belong to the shards' own reactors.
//!
//! * [`run`] makes an executor on the calling thread and drives one future to its end.
//! * [`Host`] is what that future, and everything it spawns, may ask of the executor.
//! * [`wake_pair`] connects the host with threads that know nothing of it: a [`HostWaker`] is given away, the
//!   [`WakeSource`] becomes a [`Waiter`] inside the host.
//!
//! This is the only file that names glommio. Both executors implement the futures-io traits, so TCP will join the
//! list here as two methods of [`Host`] (connect, listen) that return boxed streams, and nothing above will know
//! which executor it runs on.
//!
//! Two properties of the executors show through. smol's reactor is one per process: two hosts on smol take turns
//! in polling it, and a helper thread of its own keeps timers going. glommio's is one per executor, needs 512 KiB of
//! lockable memory (older kernels charge rings to that limit), and leaks one descriptor when it is dropped; hosts
//! live as long as the process, so that does not add up.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use smol::io::{AsyncRead, AsyncReadExt};

use super::park::Pending;
use super::topology;
use crate::config::plan::IoChoice;

/// Which executor to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// glommio, or smol with a line in the log if glommio cannot start.
    Auto,
    /// glommio, or an error.
    Glommio,
    /// smol.
    Smol,
}

impl From<IoChoice> for HostKind {
    fn from(io: IoChoice) -> Self {
        match io {
            IoChoice::Auto => Self::Auto,
            IoChoice::Uring => Self::Glommio,
            IoChoice::Epoll => Self::Smol,
        }
    }
}

/// Drives the future that `make` returns on the calling thread, and returns its result. Tasks that are still
/// running then are dropped. `name` is for the log; `core` pins the thread.
///
/// Fails if the thread cannot be pinned, or if the wanted executor cannot start.
pub fn run<F: Future + 'static>(
    kind: HostKind,
    name: &str,
    core: Option<usize>,
    make: impl FnOnce(Host) -> F,
) -> io::Result<F::Output> {
    if kind != HostKind::Smol {
        match glommio_executor(name, core) {
            Ok(executor) => {
                tracing::debug!(host = name, core, "runs on glommio");
                let looked = Rc::new(Cell::new(Instant::now()));
                let future = make(Host(Executor::Glommio { looked }));
                return Ok(executor.run(async {
                    glommio::spawn_local(heartbeat()).detach();
                    future.await
                }));
            }
            Err(error) if kind == HostKind::Glommio => {
                return Err(io::Error::other(format!(
                    "{name}: glommio cannot start: {error}"
                )));
            }
            Err(error) => tracing::warn!(
                host = name,
                "glommio cannot start, smol takes over: {error}"
            ),
        }
    }
    if let Some(core) = core {
        topology::pin_current_thread(core).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{name}: cannot be pinned to core {core}: {error}"),
            )
        })?;
    }
    tracing::debug!(host = name, core, "runs on smol");
    let executor = Rc::new(smol::LocalExecutor::new());
    let future = make(Host(Executor::Smol(Rc::downgrade(&executor))));
    Ok(smol::block_on(executor.run(future)))
}

/// The executor as its tasks see it. Cheap to clone; cannot leave its thread.
#[derive(Clone, Debug)]
pub struct Host(Executor);

#[derive(Clone, Debug)]
enum Executor {
    /// glommio finds its executor by a thread-local variable.
    Glommio {
        /// When one of its tasks last saw to it that all had a look at timers and I/O.
        looked: Rc<Cell<Instant>>,
    },
    /// Weak, because tasks hold hosts: a strong reference would keep executor and tasks alive in a circle.
    Smol(Weak<smol::LocalExecutor<'static>>),
}

impl Host {
    /// Which executor was chosen; never [`HostKind::Auto`].
    pub fn kind(&self) -> HostKind {
        match self.0 {
            Executor::Glommio { .. } => HostKind::Glommio,
            Executor::Smol(_) => HostKind::Smol,
        }
    }

    /// Runs a future beside the others until it ends or [`run`] does. It starts when the caller waits for something,
    /// never inside this call.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        match &self.0 {
            Executor::Glommio { .. } => {
                // glommio polls a new task at once, inside the caller's borrows; smol does not. Be alike.
                let later = async {
                    smol::future::yield_now().await;
                    future.await;
                };
                glommio::spawn_local(later).detach();
            }
            Executor::Smol(executor) => {
                // Without an executor the host is being taken down, and the future would not be driven anyway.
                if let Some(executor) = executor.upgrade() {
                    executor.spawn(future).detach();
                }
            }
        }
    }

    /// Returns after `duration`.
    pub async fn sleep(&self, duration: Duration) {
        match self.0 {
            Executor::Glommio { .. } => glommio::timer::sleep(duration).await,
            Executor::Smol(_) => {
                smol::Timer::after(duration).await;
            }
        }
    }

    /// Lets the other tasks, and once in a while the executor's I/O, have a turn.
    pub async fn yield_now(&self) {
        match &self.0 {
            // glommio looks after timers and I/O when no task can run. Tasks that only yield would keep it from that, as
            // [`PREEMPT_TIMER`] does not end their turn; all of them come here, and sleep when it is time.
            Executor::Glommio { looked } if looked.get().elapsed() >= LOOK_EVERY => {
                glommio::timer::sleep(A_MOMENT).await;
                looked.set(Instant::now());
            }
            _ => smol::future::yield_now().await,
        }
    }

    /// Makes the receiving end of a wake pair awaitable here.
    pub fn waiter(&self, source: WakeSource) -> io::Result<Waiter> {
        let WakeSource { stream, waker } = source;
        let stream = match self.0 {
            // Everything that glommio does with this type is to wait until the descriptor is readable, and `recv`.
            Executor::Glommio { .. } => {
                WakeStream::Glommio(socket2_of_glommio::Socket::from(stream).into())
            }
            Executor::Smol(_) => WakeStream::Smol(smol::Async::new(stream)?),
        };
        Ok(Waiter {
            host: self.clone(),
            stream,
            waker,
        })
    }
}

/// Makes the two ends by which other threads wake a host. See [`HostWaker`].
pub fn wake_pair() -> io::Result<(HostWaker, WakeSource)> {
    let (receiver, sender) = UnixStream::pair()?;
    receiver.set_nonblocking(true)?;
    sender.set_nonblocking(true)?;
    let waker = HostWaker(Arc::new(Sender {
        stream: sender,
        pending: Pending::new(),
    }));
    Ok((
        waker.clone(),
        WakeSource {
            stream: receiver,
            waker,
        },
    ))
}

/// Wakes a host from any thread by one byte into a socket pair; never blocks. Whatever the waking thread wrote to
/// memory before is visible to the woken task. Wakes that come before the task looks are merged into one.
#[derive(Clone, Debug)]
pub struct HostWaker(Arc<Sender>);

#[derive(Debug)]
struct Sender {
    stream: UnixStream,
    /// The byte on its way.
    pending: Pending,
}

impl HostWaker {
    /// Wakes the task that waits, or the next one that will.
    pub fn wake(&self) {
        if self.0.pending.raise() {
            // The socket can only be full of bytes that will wake the waiter, and only be closed if there is none.
            let _ = (&self.0.stream).write(&[1]);
        }
    }

    /// A second descriptor of the sending end, for those who can do nothing but write a byte: signal handlers.
    pub fn try_clone_stream(&self) -> io::Result<UnixStream> {
        self.0.stream.try_clone()
    }
}

/// The receiving end of a wake pair before it has a host. May be sent to the host's thread.
#[derive(Debug)]
pub struct WakeSource {
    stream: UnixStream,
    /// Keeps the sending end open, so that the socket never reports an end; and the flag.
    waker: HostWaker,
}

impl WakeSource {
    /// A second receiving end, for another host. What one of them takes the other does not see, so only one may wait at
    /// a time, and the other one only if nothing came meanwhile.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            waker: self.waker.clone(),
        })
    }
}

/// Waits for wakes inside a host.
#[derive(Debug)]
pub struct Waiter {
    host: Host,
    stream: WakeStream,
    waker: HostWaker,
}

#[derive(Debug)]
enum WakeStream {
    Glommio(glommio::net::TcpStream),
    Smol(smol::Async<UnixStream>),
}

impl Waiter {
    /// Returns `true` when woken, `false` when `timeout` is over (`None`: never). A wake that came since the last
    /// return makes this one immediate, so the pattern "look for work, then wait" loses nothing.
    pub async fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let Self {
            host,
            stream,
            waker,
        } = self;
        let woken = async {
            stream.drain().await?;
            waker.0.pending.taken();
            Ok(true)
        };
        let ended = match timeout {
            None => woken.await,
            Some(timeout) => {
                let timed_out = async {
                    host.sleep(timeout).await;
                    Ok(false)
                };
                smol::future::or(woken, timed_out).await
            }
        };
        if let Executor::Glommio { looked } = &host.0 {
            looked.set(Instant::now()); // while this task slept, or else a while ago that is short enough
        }
        ended
    }
}

impl WakeStream {
    async fn drain(&mut self) -> io::Result<()> {
        match self {
            Self::Glommio(stream) => drain(stream).await,
            Self::Smol(stream) => drain(stream).await,
        }
    }
}

/// Waits for at least one byte and takes all there are.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    // More than one byte is there only if a signal handler wrote too, or a waker after an earlier look.
    let mut scratch = [0; 64];
    let mut taken = stream.read(&mut scratch).await?;
    while taken == scratch.len() {
        taken = smol::future::poll_once(stream.read(&mut scratch))
            .await
            .transpose()?
            .unwrap_or(0);
    }
    if taken == 0 {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(())
    }
}

/// Keeps glommio from sleeping for longer than [`HEARTBEAT`], whatever there is or is not to wake it: how it sleeps over
/// work is told at [`PREEMPT_TIMER`], and should there be another way to that, nobody waits for ever.
async fn heartbeat() {
    loop {
        // This task is among those that glommio sleeps over if the thread was held up for longer than a beat: then this
        // one, which is still ahead, ends the sleep.
        let mut later = glommio::timer::Timer::new(HEARTBEAT * 100);
        let _ = smol::future::poll_once(&mut later).await;
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

/// A glommio executor on this thread, made small: it carries few sockets and little data.
fn glommio_executor(
    name: &str,
    core: Option<usize>,
) -> Result<glommio::LocalExecutor, glommio::GlommioError<()>> {
    // `Fixed` instead of pinning the thread ourselves: glommio's helper thread must not inherit the core.
    LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        // Idle threads sleep: this is not the place where a microsecond is won by a busy core.
        .spin_before_park(Duration::ZERO)
        .make()
}

/// glommio's own default; it holds three rings of this size, about 10 KiB each.
const RING_DEPTH: usize = 128;
/// Registered buffers, which only files use. glommio rounds up to its minimum, 64 KiB (default: 10 MiB).
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Longer than any thread is held up. glommio starts this timer before it runs tasks, and if it is over when glommio looks
/// for the first of them, then glommio runs none, takes that for "nothing can run", and sleeps until something else
/// happens. (glommio/glommio#53 tells of it; no release has the mend.) A timer of 10 ms was over on a busy machine when the
/// thread had to wait for a processor just there: a server stood still until a debugger interrupted its sleep.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);
/// How long tasks that only yield may keep timers and I/O waiting. (guess)
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A sleep that is not over before it has begun, and little of [`LOOK_EVERY`]. (guess)
const A_MOMENT: Duration = Duration::from_micros(20);

/// A pause that people hardly notice, and ten turns a second of a thread that has nothing to do. (guess)
const HEARTBEAT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::super::park::Park;
    use super::*;

    /// smol always; glommio too where this machine lets it start.
    fn kinds() -> Vec<HostKind> {
        let mut kinds = vec![HostKind::Smol];
        match run(HostKind::Glommio, "probe", None, |_| async {}) {
            Ok(()) => kinds.push(HostKind::Glommio),
            Err(error) => eprintln!("glommio is not tested: {error}"),
        }
        kinds
    }

    /// Longer than any of these tests takes; reaching it is a failure, not a wait.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_result_of_the_future_comes_back() {
        for kind in kinds() {
            let found = run(kind, "test", None, |host| async move { host.kind() }).unwrap();
            assert_eq!(found, kind);
        }
        let found = run(
            HostKind::Auto,
            "test",
            None,
            |host| async move { host.kind() },
        )
        .unwrap();
        assert_ne!(found, HostKind::Auto);
    }

    #[test]
    fn tasks_interleave_and_sleep() {
        for kind in kinds() {
            let order = run(kind, "test", None, |host| async move {
                let order = Rc::new(RefCell::new(Vec::new()));
                let (inner, sleeper) = (order.clone(), host.clone());
                let (waker, source) = wake_pair().unwrap();
                host.spawn(async move {
                    inner.borrow_mut().push("task");
                    sleeper.sleep(Duration::from_millis(1)).await;
                    inner.borrow_mut().push("slept");
                    waker.wake();
                });
                order.borrow_mut().push("main");
                assert!(host.waiter(source).unwrap().wait(Some(LONG)).await.unwrap());
                order.take()
            })
            .unwrap();
            assert_eq!(order, ["main", "task", "slept"], "{kind:?}");
        }
    }

    #[test]
    fn yielding_tasks_starve_neither_timers_nor_wakes() {
        for kind in kinds() {
            run(kind, "test", None, |host| async move {
                let stop = Rc::new(Cell::new(false));
                let (waker, source) = wake_pair().unwrap();
                for _ in 0..3 {
                    let (stop_inner, busy) = (stop.clone(), host.clone());
                    host.spawn(async move {
                        while !stop_inner.get() {
                            busy.yield_now().await;
                        }
                    });
                }
                host.sleep(Duration::from_millis(1)).await;
                let thread = std::thread::spawn(move || waker.wake());
                assert!(host.waiter(source).unwrap().wait(Some(LONG)).await.unwrap());
                stop.set(true);
                thread.join().unwrap();
            })
            .unwrap();
        }
    }

    #[test]
    fn a_wait_ends_by_timeout_and_a_later_wake_is_not_lost() {
        for kind in kinds() {
            run(kind, "test", None, |host| async move {
                let (waker, source) = wake_pair().unwrap();
                let mut waiter = host.waiter(source).unwrap();
                assert!(!waiter.wait(Some(Duration::from_millis(1))).await.unwrap());
                // Many wakes before the wait are one.
                (0..200).for_each(|_| waker.wake());
                assert!(waiter.wait(None).await.unwrap());
                assert!(!waiter.wait(Some(Duration::from_millis(1))).await.unwrap());
                // Bytes that a signal handler wrote, more than fit one read.
                let handler = waker.try_clone_stream().unwrap();
                (0..200).for_each(|_| assert_eq!((&handler).write(b"X").unwrap(), 1));
                waker.wake();
                assert!(waiter.wait(None).await.unwrap());
                assert!(!waiter.wait(Some(Duration::from_millis(1))).await.unwrap());
            })
            .unwrap();
        }
    }

    /// The pattern of the rings between cores: publish, wake; look, wait. Every value must arrive although wakes
    /// are merged; a lost wake-up would leave the waiter asleep until the (very long) timeout.
    #[test]
    fn no_wake_is_lost_between_threads() {
        use std::sync::atomic::AtomicUsize;
        const ROUNDS: usize = 20_000;
        for kind in kinds() {
            let (waker, source) = wake_pair().unwrap();
            let published = Arc::new(AtomicUsize::new(0));
            let (seen_by_host, writer) = (published.clone(), published);
            let thread = std::thread::spawn(move || {
                for round in 1..=ROUNDS {
                    writer.store(round, Ordering::Relaxed);
                    waker.wake();
                    if round % 7 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            run(kind, "test", None, |host| async move {
                let mut waiter = host.waiter(source).unwrap();
                while seen_by_host.load(Ordering::Relaxed) < ROUNDS {
                    assert!(
                        waiter.wait(Some(LONG)).await.unwrap(),
                        "{kind:?} slept through a wake"
                    );
                }
            })
            .unwrap();
            thread.join().unwrap();
        }
    }

    #[test]
    fn tasks_left_behind_are_dropped_with_the_executor() {
        let alive = Rc::new(());
        let inside = alive.clone();
        run(HostKind::Smol, "test", None, |host| async move {
            let keeper = host.clone();
            host.spawn(async move {
                keeper.sleep(LONG).await;
                drop((inside, keeper));
            });
            host.yield_now().await;
        })
        .unwrap();
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    /// The way in which threads call ingest: publish, then wake it if it is parked. With a wake-up lost the writer would
    /// wait for ever.
    #[test]
    fn a_parked_core_is_woken_each_time() {
        const ROUNDS: u64 = 5_000;
        for kind in kinds() {
            let (park, published) = (Arc::new(Park::new()), Arc::new(AtomicU64::new(0)));
            let (waker, source) = wake_pair().unwrap();
            park.set_wake(move || waker.wake());
            let (tell, told) = mpsc::channel();
            let reader = {
                let (park, published) = (Arc::clone(&park), Arc::clone(&published));
                std::thread::spawn(move || {
                    run(kind, "test", None, move |host| async move {
                        let mut waiter = host.waiter(source).unwrap();
                        let mut seen = 0;
                        while seen < ROUNDS {
                            park.going_to_sleep();
                            if published.load(Ordering::Acquire) == seen {
                                // A deadline that is far away, as there often is one.
                                let far = seen.is_multiple_of(2).then_some(LONG);
                                assert!(waiter.wait(far).await.unwrap());
                            }
                            park.awake();
                            let now = published.load(Ordering::Acquire);
                            if now != seen {
                                seen = now;
                                tell.send(seen).unwrap();
                            }
                        }
                    })
                })
            };
            for round in 1..=ROUNDS {
                published.store(round, Ordering::Release);
                park.wake_if_parked();
                assert_eq!(told.recv_timeout(LONG), Ok(round));
            }
            reader.join().unwrap().unwrap();
        }
    }

    /// A thread that has to wait for a processor, at whatever place, must not find glommio's preemption due: see
    /// [`PREEMPT_TIMER`].
    #[test]
    fn glommio_does_not_preempt_a_thread_that_was_held_up() {
        if !kinds().contains(&HostKind::Glommio) {
            return;
        }
        run(HostKind::Glommio, "test", None, |host| async move {
            for _ in 0..2 {
                std::thread::sleep(LOOK_EVERY * 5); // which is the event
                assert!(!glommio::executor().need_preempt());
                host.yield_now().await;
            }
        })
        .unwrap();
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error_for_both() {
        for kind in kinds() {
            assert!(
                run(kind, "test", Some(60_000), |_| async {}).is_err(),
                "{kind:?}"
            );
        }
    }
}
