//! Park and wake: how a core that finds nothing to do goes to sleep, and how another one wakes it.
//!
//! A writer publishes into a ring and then asks whether the reader is parked; the reader says that it parks and then
//! looks into its rings once more. Both have a full fence between the two steps, so at least one of them sees what the
//! other did: either the writer sees the flag and wakes, or the reader sees the data and stays awake. Nobody pays for
//! a wake-up (a system call of several microseconds) while the reader is awake. That is [`Park`].
//!
//! Where many threads wake one by bytes through a socket, [`Pending`] spares them all bytes but the first.
//!
//! These are the only lock-free protocols of the product; the tests below go through every order in which their steps
//! can meet.

use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A boolean that threads share, and the fence beside it: the machine's, or those of a model.
pub trait Flag {
    /// With its first value.
    fn new(value: bool) -> Self;
    /// As of [`AtomicBool`].
    fn load(&self, order: Ordering) -> bool;
    /// As of [`AtomicBool`].
    fn store(&self, value: bool, order: Ordering);
    /// As of [`AtomicBool`].
    fn swap(&self, value: bool, order: Ordering) -> bool;
    /// As [`fence`].
    fn fence(order: Ordering);
}

impl Flag for AtomicBool {
    fn new(value: bool) -> Self {
        Self::new(value)
    }

    #[inline]
    fn load(&self, order: Ordering) -> bool {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: bool, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.swap(value, order)
    }

    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }
}

/// The sleep of one core, shared by that core and all that write to it.
pub struct Park<F: Flag = AtomicBool> {
    parked: CachePadded<F>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Park {
    /// Of a core that is awake.
    pub fn new() -> Self {
        Self::awake_core()
    }
}

impl<F: Flag> Park<F> {
    fn awake_core() -> Self {
        Self {
            parked: CachePadded::new(F::new(false)),
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
        F::fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            self.wake
                .get()
                .expect("a parked core has said how it is woken")();
        }
    }

    /// For the core: says that it is going to sleep. It must then look into its rings once more, and sleep only if
    /// they are empty; in the end it calls [`Park::awake`].
    pub fn going_to_sleep(&self) {
        // A store would do: it comes after all swaps that found what was there before it. The model does not know that.
        self.parked.swap(true, Ordering::Relaxed);
        F::fence(Ordering::SeqCst);
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

/// Whether a byte is on its way that will wake somebody and that nobody has taken yet, so that further wakes need none.
#[derive(Debug)]
pub struct Pending<F: Flag = AtomicBool>(F);

impl Pending {
    /// With no byte on its way.
    pub fn new() -> Self {
        Self::none()
    }
}

impl<F: Flag> Pending<F> {
    fn none() -> Self {
        Self(F::new(false))
    }

    /// For wakers, after publishing: whether they have to send a byte.
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// For who was woken, after taking all bytes there were and before looking for data: a waker that still found a byte
    /// on its way published before this, and its data will be found.
    pub fn taken(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::atomic as modelled;
    use loom::sync::{Condvar, Mutex};
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

    impl Flag for modelled::AtomicBool {
        fn new(value: bool) -> Self {
            Self::new(value)
        }

        fn load(&self, order: Ordering) -> bool {
            self.load(order)
        }

        fn store(&self, value: bool, order: Ordering) {
            self.store(value, order);
        }

        fn swap(&self, value: bool, order: Ordering) -> bool {
            self.swap(value, order)
        }

        fn fence(order: Ordering) {
            modelled::fence(order);
        }
    }

    /// A planted mistake: no fence.
    struct Unfenced(modelled::AtomicBool);

    impl Flag for Unfenced {
        fn new(value: bool) -> Self {
            Self(modelled::AtomicBool::new(value))
        }

        fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        fn store(&self, value: bool, order: Ordering) {
            self.0.store(value, order);
        }

        fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }

        fn fence(_: Ordering) {}
    }

    /// What of a socket matters here: its bytes, and that a reader sleeps while there are none. Who sleeps for ever is a
    /// deadlock to the model.
    #[derive(Default)]
    struct Socket {
        bytes: Mutex<usize>,
        came: Condvar,
    }

    impl Socket {
        fn send(&self) {
            *self.bytes.lock().unwrap() += 1;
            self.came.notify_one();
        }

        fn take_all(&self, wait: bool) -> bool {
            let mut bytes = self.bytes.lock().unwrap();
            while wait && *bytes == 0 {
                bytes = self.came.wait(bytes).unwrap();
            }
            std::mem::take(&mut *bytes) > 0
        }
    }

    /// What the model's reader does, apart from what it should.
    #[derive(Clone, Copy, Default)]
    struct Ways {
        /// Its first sleep ends by itself, as if it had had a deadline.
        times_out: bool,
        /// A planted mistake: it forgets the byte on its way before it takes it.
        takes_late: bool,
    }

    /// The orders in which writers, each with a ring of its own, meet a reader that sleeps whenever it may.
    fn writers_meet_a_reader<F: Flag + Send + Sync + 'static>(writers: usize, ways: Ways) {
        let mut model = loom::model::Builder::new();
        // Switches from a thread that could go on. Without a bound the orders of two writers are too many.
        model.preemption_bound = (writers > 1).then_some(3);
        model.check(move || {
            let park = Arc::new(Park::<F>::awake_core());
            let (pending, socket) = (Arc::new(Pending::<F>::none()), Arc::new(Socket::default()));
            let waker = (Arc::clone(&pending), Arc::clone(&socket));
            park.set_wake(move || {
                let (pending, socket) = &waker;
                if pending.raise() {
                    socket.send();
                }
            });
            let rings: Arc<[_]> = (0..writers)
                .map(|_| modelled::AtomicUsize::new(0))
                .collect();
            for writer in 0..writers {
                let (park, rings) = (Arc::clone(&park), Arc::clone(&rings));
                loom::thread::spawn(move || {
                    rings[writer].store(1, Ordering::Release);
                    park.wake_if_parked();
                });
            }
            let look = || {
                let published = rings.iter().map(|ring| ring.load(Ordering::Acquire));
                published.sum::<usize>()
            };
            let (mut seen, mut wait) = (0, !ways.times_out);
            while seen < writers {
                park.going_to_sleep();
                if look() == seen {
                    if ways.takes_late {
                        pending.taken();
                    }
                    if socket.take_all(wait) && !ways.takes_late {
                        pending.taken();
                    }
                    wait = true;
                }
                park.awake();
                seen = look();
            }
        });
    }

    #[test]
    fn no_order_of_steps_loses_a_wake_up() {
        for times_out in [false, true] {
            let ways = Ways {
                times_out,
                ..Ways::default()
            };
            writers_meet_a_reader::<modelled::AtomicBool>(1, ways);
            writers_meet_a_reader::<modelled::AtomicBool>(2, ways);
        }
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_model_notices_a_missing_fence() {
        writers_meet_a_reader::<Unfenced>(1, Ways::default());
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_model_notices_a_byte_that_is_forgotten_too_early() {
        let ways = Ways {
            takes_late: true,
            ..Ways::default()
        };
        writers_meet_a_reader::<modelled::AtomicBool>(2, ways);
    }
}
