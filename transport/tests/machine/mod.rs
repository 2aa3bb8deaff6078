//! The machine for which the tests make plans.

use brightwire::runtime::topology::{Core, Topology};

/// A machine of 16 cores, all of them free.
pub fn machine() -> Topology {
    let core = |id| Core {
        id,
        siblings: vec![id],
        node: 0,
        isolated: false,
        allowed: true,
    };
    Topology {
        cores: (0..16).map(core).collect(),
        parallelism: 16,
    }
}
