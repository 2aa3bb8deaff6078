//! The threads on which a metadata adapter is called.
//!
//! | Lane | Calls | When its queue is full |
//! |---|---|---|
//! | users | `notify_user` | the session is refused, to be tried again |
//! | sessions | what else a new session takes | never: those that are let in are bounded by the questions that shards may have open |
//! | subscriptions | what a subscription takes | the subscription is refused |
//! | messages | `notify_user_message` | the message is refused |
//! | notices | ends of sessions and subscriptions, on one thread, so in their order | the notice is lost, and that is logged |

use super::control::Wires;
use super::desk::Heard;
use super::{MetadataAdapter, MetadataOptions};
use crate::adapter::panic_message;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Notices that may wait: an adapter that takes its time over ends must not make the server remember them for ever. (guess)
const NOTICES_MAX: usize = 100_000;
/// How long a server that stops waits for calls that are under way. (guess)
const FAREWELL: Duration = Duration::from_secs(5);

/// A call, or several, to be made on some thread.
pub(super) struct Task {
    /// The question that it is for.
    pub id: u64,
    /// When nobody waits for it any more.
    pub until: Option<Instant>,
    pub work: Work,
}

/// What is to be called. The result is for the desk, unless it comes later.
pub(super) type Work = Box<dyn FnOnce(&dyn MetadataAdapter) -> Option<Heard> + Send>;

/// The queues before the threads. Dropping this ends them.
pub(super) struct Lanes {
    pub users: Lane,
    pub sessions: Lane,
    pub subscriptions: Lane,
    pub messages: Lane,
    pub notices: Lane,
    /// Disconnected when all threads have ended.
    alive: Receiver<()>,
}

pub(super) struct Lane(Sender<Task>);

impl Lane {
    /// Queues a task; `false` if there is no room for it.
    pub fn push(&self, task: Task) -> bool {
        self.0.try_send(task).is_ok()
    }
}

impl Lanes {
    pub fn start(
        name: &str,
        adapter: &Arc<dyn MetadataAdapter>,
        wires: &Arc<Wires>,
        options: &MetadataOptions,
    ) -> io::Result<Self> {
        let (last, alive) = bounded(0);
        let lane = |what: &str, threads: usize, queue_len: Option<usize>| {
            let (sender, tasks) = queue_len.map_or_else(unbounded, bounded);
            for _ in 0..threads {
                let (tasks, adapter, wires, last) = (
                    Receiver::clone(&tasks),
                    Arc::clone(adapter),
                    Arc::clone(wires),
                    Sender::clone(&last),
                );
                thread::Builder::new()
                    .name(format!("{name} {what}"))
                    .spawn(move || {
                        work(&tasks, &*adapter, &wires);
                        drop(adapter);
                        drop::<Sender<()>>(last);
                    })?;
            }
            io::Result::Ok(Lane(sender))
        };
        let queue_len = Some(options.queue_len.max(1));
        Ok(Self {
            users: lane("users", options.user_threads.get(), queue_len)?,
            sessions: lane("sessions", options.session_threads.get(), None)?,
            subscriptions: lane(
                "subscriptions",
                options.subscription_threads.get(),
                queue_len,
            )?,
            messages: lane("messages", options.message_threads.get(), queue_len)?,
            notices: lane("notices", 1, Some(NOTICES_MAX))?,
            alive,
        })
    }

    /// Ends the threads, and waits a while for those that are busy.
    pub fn stop(self, name: &str) {
        let Self {
            users,
            sessions,
            subscriptions,
            messages,
            notices,
            alive,
        } = self;
        drop((users, sessions, subscriptions, messages, notices));
        if alive.recv_timeout(FAREWELL) == Err(crossbeam::channel::RecvTimeoutError::Timeout) {
            tracing::warn!(
                adapter = name,
                "a metadata adapter does not return from a call"
            );
        }
    }
}

fn work(tasks: &Receiver<Task>, adapter: &dyn MetadataAdapter, wires: &Wires) {
    while let Ok(Task { id, until, work }) = tasks.recv() {
        let heard = if until.is_some_and(|until| Instant::now() >= until) {
            Some(Heard::Failed(
                id,
                "there was no thread for it in time".into(),
            ))
        } else {
            panic::catch_unwind(AssertUnwindSafe(|| work(adapter))).unwrap_or_else(|payload| {
                let reason = format!("it has panicked: {}", panic_message(payload.as_ref()));
                Some(Heard::Failed(id, reason))
            })
        };
        if let Some(heard) = heard {
            wires.hear(heard);
        }
    }
}
