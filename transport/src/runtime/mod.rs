//! What runs where: the machine's cores, and the host of everything that is async and small.

pub mod host;
pub mod topology;
