//! What the sessions of a run have in common, and what they report to.

use crate::rank;
use crate::scenario::Scenario;
use crate::stats::Interval;
use crate::tls::Tls;
use crate::verify::Verifier;

/// What all sessions of a run have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is run.
    pub scenario: Scenario,
    /// What follows from it for each group.
    pub groups: Vec<GroupSetup>,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
}

/// What follows from a group's keys.
#[derive(Clone, Debug)]
pub struct GroupSetup {
    /// The position among the fields of the event's time.
    pub stamp_position: Option<usize>,
    /// The position among the fields of the event's number.
    pub sequence_position: Option<usize>,
    /// The number in the run of the group's first item.
    pub first_item: usize,
}

impl Setup {
    /// Works out what follows from a scenario.
    pub fn new(scenario: Scenario) -> Result<Self, String> {
        let authorities = scenario.tls_authorities.as_ref();
        let tls = authorities
            .map(|path| Tls::new(&scenario.server, path, scenario.tls_any_name, None))
            .transpose()?;
        let mut first_item = 0;
        let groups = scenario
            .groups
            .iter()
            .map(|group| {
                let setup = GroupSetup {
                    stamp_position: scenario.timestamp_position(group),
                    sequence_position: scenario.sequence_position(group),
                    first_item,
                };
                first_item += group.items.0.len();
                setup
            })
            .collect();
        Ok(Self {
            scenario,
            groups,
            tls,
        })
    }

    /// Items of all groups; the same name in two groups counts twice.
    pub fn items(&self) -> usize {
        let groups = self.scenario.groups.iter();
        groups.map(|group| group.items.0.len()).sum()
    }
}

/// What sessions report to: the books of one fleet.
pub struct Books {
    /// The second at hand.
    pub interval: Interval,
    /// For each session of the fleet, one after the other, and each item of its group: how far it is.
    pub marks: Vec<Mark>,
    /// Who is served first: of some events, all arrivals.
    pub sample: rank::Sample,
    /// The strict client, if asked for.
    pub verifier: Option<Verifier>,
    /// When the bytes arrived, ns since the Unix epoch.
    pub arrived_ns: u64,
    /// The clock, for bytes that arrived after [`Books::arrived_ns`] was read.
    pub clock_ns: fn() -> u64,
    /// Made into masks of frames.
    pub frames_written: u32,
}

/// How far a session is with one of its items.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// The snapshot is over.
    pub(super) seen: bool,
    pub(super) stamp_ns: u64,
    pub(super) sequence: u64,
}

impl Books {
    /// Another mask for each frame, as the protocol asks. It need not be secret: no proxy can be fooled by a text that
    /// we choose ourselves.
    pub(super) fn mask(&mut self) -> [u8; 4] {
        self.frames_written = self.frames_written.wrapping_add(1);
        // The golden ratio, by which consecutive numbers are spread over all bits.
        self.frames_written.wrapping_mul(0x9E37_79B9).to_ne_bytes()
    }
}
