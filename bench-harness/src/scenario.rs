//! What is measured: named loads, the same for every server.

/// Bytes of every message: a small quote.
pub const PAYLOAD_BYTES: usize = 100;

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name in tables and on the command line.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub purpose: &'static str,
    /// Client connections.
    pub sessions: usize,
    /// Items; every session subscribes to all of them.
    pub items: usize,
    /// How messages are sent.
    pub load: Load,
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// At fixed times, whatever the server does: so many deliveries a second in all. Each time brings one message for
    /// every item.
    Open {
        /// Messages that reach a client, a second, over all clients.
        deliveries_hz: f64,
    },
    /// The next message as soon as fewer than so many are on their way: what the server can do at most.
    Window {
        /// Messages on their way.
        messages: u64,
    },
}

impl Scenario {
    /// Messages for one client that one time of the schedule brings.
    pub fn burst(&self) -> usize {
        self.items
    }

    /// Times a second, for an open load.
    pub fn ticks_hz(&self) -> Option<f64> {
        match self.load {
            Load::Open { deliveries_hz } => {
                Some(deliveries_hz / (self.sessions * self.burst()) as f64)
            }
            Load::Window { .. } => None,
        }
    }
}

/// The scenarios of `quick`. Rates and numbers are those of the published peers' table that this one wants to be
/// compared with: 50,000 deliveries a second, 1 and 16 messages on their way.
pub const QUICK: [Scenario; 5] = [
    Scenario {
        name: "open-100",
        purpose: "100 sessions with 1 item, 50,000 deliveries/s",
        sessions: 100,
        items: 1,
        load: Load::Open {
            deliveries_hz: 50_000.0,
        },
    },
    Scenario {
        name: "open-1000",
        purpose: "1,000 sessions with 1 item, 50,000 deliveries/s",
        sessions: 1_000,
        items: 1,
        load: Load::Open {
            deliveries_hz: 50_000.0,
        },
    },
    Scenario {
        name: "lone-1000",
        purpose: "1,000 sessions with 1 item, one message on its way: 1 update per write, as fast as it goes",
        sessions: 1_000,
        items: 1,
        load: Load::Window { messages: 1 },
    },
    Scenario {
        name: "window-1000",
        purpose: "1,000 sessions with 1 item, 16 messages on their way: servers may coalesce",
        sessions: 1_000,
        items: 1,
        load: Load::Window { messages: 16 },
    },
    Scenario {
        name: "many-200x20",
        purpose: "200 sessions with 20 items each, 200,000 deliveries/s",
        sessions: 200,
        items: 20,
        load: Load::Open {
            deliveries_hz: 200_000.0,
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_make_the_deliveries_that_they_promise() {
        for scenario in QUICK {
            let Load::Open { deliveries_hz } = scenario.load else {
                assert_eq!(scenario.ticks_hz(), None);
                continue;
            };
            let ticks = scenario.ticks_hz().unwrap();
            let per_tick = (scenario.sessions * scenario.burst()) as f64;
            assert!((ticks * per_tick - deliveries_hz).abs() < 1e-6);
            assert!(
                ticks >= 10.0,
                "{}: too few to tell percentiles",
                scenario.name
            );
        }
    }

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<_> = QUICK.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), QUICK.len());
    }
}
