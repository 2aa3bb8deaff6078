//! `quick`: Brightwire on both back ends, the floor, and every peer that is installed.

use std::error::Error;
use std::path::PathBuf;

use crate::contender::Contender;
use crate::run::Options;
use crate::server::Kind;

/// What `quick` can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Quick {
    /// Servers to measure; all if not given
    #[arg(long, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// Another build of Brightwire's program, measured beside this one: what a change has brought
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Quick {
    /// Measures, and prints the table.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let kinds = match self.servers.as_slice() {
            [] => &Kind::ALL,
            kinds => kinds,
        };
        let mut contenders = Vec::new();
        for &kind in kinds {
            contenders.push(Contender::new(kind));
            if let Some(program) = self.against.as_ref().filter(|_| kind.is_brightwire()) {
                contenders.push(Contender {
                    name: format!("{} (against)", kind.name()),
                    program: Some(program.clone()),
                    ..Contender::new(kind)
                });
            }
        }
        let table = self.options.run(contenders)?;
        println!("{table}");
        table.expect_figures()
    }
}
