//! What the main thread and the fleets tell each other: phases one way, notices the other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::fleet::Outcome;
use crate::stats::Interval;

/// Where a run is. Set by the main thread; each fleet follows at its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Sessions connect.
    Ramp,
    /// All that could connect are there; what happens is not measured yet.
    Warmup,
    /// What happens is measured.
    Measure,
    /// Nothing is measured any more; sessions have time to catch up before they are compared.
    Settle,
    /// Sessions end.
    Stop,
}

/// What all fleets of a process share.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
    /// When the window began, ns since the Unix epoch.
    window_ns: AtomicU64,
    /// For each item, the newest time held by any session of any fleet when the window was over.
    pub floors: Mutex<Vec<u64>>,
}

/// What a fleet, another process, or the thread that waits for signals, tells the main thread.
#[derive(Debug, Serialize, Deserialize)]
pub enum Notice {
    /// Every session of a fleet is subscribed or has failed.
    Ready {
        /// Sessions that were subscribed.
        live: u64,
    },
    /// A second of the window is over.
    Interval(Box<Interval>),
    /// A fleet has ended in good order.
    Ended(Box<Outcome>),
    /// A fleet has ended otherwise.
    Broken(String),
    /// The user wants to stop.
    Interrupted,
}

/// Says [`Notice::Broken`] when a fleet's thread ends by a panic.
pub struct TellEnd(pub Sender<Notice>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody listens any more once the run is over.
            let _ = self.0.send(Notice::Broken("a fleet has panicked".into()));
        }
    }
}

impl Control {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        const PHASES: [Phase; 5] = [
            Phase::Ramp,
            Phase::Warmup,
            Phase::Measure,
            Phase::Settle,
            Phase::Stop,
        ];
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// Goes on. `window_ns` is when the window begins or began. The caller wakes the fleets.
    pub fn enter(&self, phase: Phase, window_ns: u64) {
        self.window_ns.store(window_ns, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// When the window began.
    pub fn window_ns(&self) -> u64 {
        self.window_ns.load(Ordering::Relaxed)
    }
}

/// The time of day, as feeds stamp it.
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_as_written() {
        let control = Control::default();
        assert_eq!(control.phase(), Phase::Ramp);
        for phase in [Phase::Warmup, Phase::Measure, Phase::Settle, Phase::Stop] {
            control.enter(phase, 7);
            assert_eq!((control.phase(), control.window_ns()), (phase, 7));
        }
    }
}
