//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::feed::FeedArguments;
use crate::null::NullArguments;
use crate::scenario::{GroupKeys, Outputs, RunKeys, Scenario};

/// Load generator of Brightwire.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of them, for as long as the program runs"
)]
pub enum Command {
    /// Connect sessions, subscribe, and measure what arrives
    ///
    /// What is run is told by a scenario file, by flags, or by both: flags override the file's keys. Ends with status 0 if
    /// every session worked (and agreed with the others, with --verify), 1 if not, and 2 if it could not begin.
    /// Ctrl-C ends a run early; what was measured until then is printed.
    Run(RunArguments),
    /// Publish events to a server, at the times that they are meant for
    ///
    /// Speaks the line feed, or the adapter protocol as a remote data adapter. Each event carries the time that it was
    /// meant for and a number, so that `run` finds what is late and what is missing.
    Feed(FeedArguments),
    /// Hold two reports of `run --json` against each other
    Compare(CompareArguments),
    /// Be a server that does nothing but send: what it delivers is what the generator can take at most
    Null(NullArguments),
    /// A process of a run with several; talks to the first one
    #[command(hide = true)]
    Worker,
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    /// Scenario file
    #[arg(value_name = "SCENARIO.toml")]
    pub file: Option<PathBuf>,
    /// Keys of the run.
    #[command(flatten)]
    pub run: RunKeys,
    /// Keys of all groups.
    #[command(flatten)]
    pub group: GroupKeys,
    /// Where the report goes.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// The arguments of `compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArguments {
    /// The earlier report
    pub before: PathBuf,
    /// The later report
    pub after: PathBuf,
}

impl RunArguments {
    /// What is to be run.
    pub fn scenario(&self) -> Result<Scenario, String> {
        Scenario::resolve(self.file.as_deref(), &self.run, &self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
