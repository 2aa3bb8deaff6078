//! The server: everything that a plan asks for, running together.

use std::error::Error;
use std::path::PathBuf;

use crate::config::Plan;

/// Runs the server until it is told to stop.
pub fn run(_plan: Plan, _ports_file: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    Err("not built yet".into())
}
