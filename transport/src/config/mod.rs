//! Placeholder.
pub struct Plan;
