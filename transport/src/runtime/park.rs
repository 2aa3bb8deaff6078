//! Park and wake: how a core that finds nothing to do goes to sleep, and how another one wakes it.
//!
//! A writer publishes into a ring and then asks whether the reader is parked; the reader says that it parks and then
//! looks into its rings once more. Both have a full fence between the two steps, so at least one of them sees what the
//! other did: either the writer sees the flag and wakes, or the reader sees the data and stays awake. Nobody pays for
//! a wake-up (a system call of several microseconds) while the reader is awake.
//!
//! This is the only lock-free protocol of the product; its model is in the tests below.

use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The sleep of one core, shared by that core and all that write to it.
pub struct Park {
    parked: CachePadded<AtomicBool>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Park {
    /// Of a core that is awake.
    pub fn new() -> Self {
        Self {
            parked: CachePadded::new(AtomicBool::new(false)),
            wake: OnceLock::new(),
        }
    }

    /// Tells how the core is woken. The core calls it once, before it first parks.
    pub fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        let first = self.wake.set(Box::new(wake));
        debug_assert!(first.is_ok(), "a core has one way to be woken");
    }

    /// For writers, after publishing: wakes the core if it sleeps.
    #[inline]
    pub fn wake_if_parked(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            self.wake
                .get()
                .expect("a parked core has said how it is woken")();
        }
    }

    /// For the core: says that it is going to sleep. It must then look into its rings once more, and sleep only if
    /// they are empty; in the end it calls [`Park::awake`].
    pub fn going_to_sleep(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// For the core: it is awake again.
    pub fn awake(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }
}

impl Default for Park {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc;

    /// A reader that parks as often as it can and a writer that publishes one by one: with a wake-up lost, the reader
    /// would sleep for ever and the test never end.
    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = 20_000;
        let park = Arc::new(Park::new());
        let published = Arc::new(AtomicU64::new(0));
        let (wake, sleep) = mpsc::channel();
        park.set_wake(move || wake.send(()).expect("the reader is there"));
        let reader = {
            let (park, published) = (Arc::clone(&park), Arc::clone(&published));
            std::thread::spawn(move || {
                let mut seen = 0;
                while seen < ROUNDS {
                    park.going_to_sleep();
                    if published.load(Ordering::Acquire) == seen {
                        sleep.recv().expect("the writer is there");
                    }
                    park.awake();
                    seen = published.load(Ordering::Acquire);
                    while sleep.try_recv().is_ok() {}
                }
            })
        };
        for round in 1..=ROUNDS {
            published.store(round, Ordering::Release);
            park.wake_if_parked();
            if round % 7 == 0 {
                std::thread::yield_now();
            }
        }
        reader.join().expect("the reader ends");
    }
}
