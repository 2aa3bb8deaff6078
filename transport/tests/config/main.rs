//! What is decided before the server starts: configuration files and the command line, profiles and the system's files beside
//! them, what `doctor` says of machines, and what `import` makes of files of the reference product.

mod adapters;
mod command_line;
mod doctor;
mod files;
mod import;
#[path = "../machine/mod.rs"]
mod machine;
mod profiles;
mod rules;
mod system_files;

use std::path::{Path, PathBuf};

use brightwire::config::{ConfigError, Plan};
use machine::machine;

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Plan::from_text(text, &machine(), Path::new("/etc/brightwire"), "test.toml")
}

/// The messages of a file that must be refused, one per line.
fn refusal(text: &str) -> String {
    plan(text).expect_err("the file was accepted").to_string()
}

fn profiles_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles")
}
