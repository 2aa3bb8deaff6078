//! What the main thread and the fleets tell each other: phases one way, notices the other.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;

/// Where a run is. Set by the main thread; each fleet follows at its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// The phase, shared.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
}

/// What a fleet, or the thread that waits for signals, tells the main thread.
#[derive(Debug)]
pub enum Notice {
    /// Every session of a fleet is subscribed or has failed.
    Ready,
    /// A fleet has ended; its outcome waits to be joined.
    Ended,
    /// The user wants to stop.
    Interrupted,
}

/// Says [`Notice::Ended`] when a fleet's thread ends, however it does.
pub struct TellEnd(pub Sender<Notice>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        // Nobody listens any more once the run is over.
        let _ = self.0.send(Notice::Ended);
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

    /// Goes on. The caller wakes the fleets.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_as_written() {
        let control = Control::default();
        assert_eq!(control.phase(), Phase::Ramp);
        for phase in [Phase::Warmup, Phase::Measure, Phase::Settle, Phase::Stop] {
            control.enter(phase);
            assert_eq!(control.phase(), phase);
        }
    }
}
