//! The bench harness: Brightwire beside others, on one machine, in one run.
//!
//! `brightwire-bench quick` starts one server after another on one core and a crowd of clients on another, and prints
//! one table: Brightwire on both back ends, the floor (a loop that only sends), and every peer that is installed
//! (`scripts/bench-peers`). All clients are the same code ([`crowd`]): they find a mark in what they receive
//! ([`stamp`]), whatever protocol it is framed in ([`dialect`]).
//!
//! | Module | What it is for |
//! |---|---|
//! | [`scenario`] | the loads, by name |
//! | [`contender`] | who is measured: a server, with which program and settings |
//! | [`server`] | how each server is started, and what a comparison with it does not show |
//! | [`floor`] | the least that any server must do |
//! | [`hot`] | the pieces of the hot path, for criterion and for counting |
//! | [`icount`] | their instruction counts, which CI compares |
//! | [`fuzz`] | everything that the network feeds, as fuzz targets |
//! | [`publish`] | the publishing side, open loop or windowed |
//! | [`measure`] | one cell of the table |
//! | [`run`] | all cells, contenders taking turns |
//! | [`quick`], [`vary`] | who takes turns: all servers, or Brightwire with one setting after the other |
//! | [`machine`] | what machine this is, whether it is quiet, CPU time of processes |
//! | [`table`] | the table, and the bounds that Brightwire is held to |

pub mod contender;
pub mod crowd;
pub mod dialect;
pub mod floor;
pub mod fuzz;
pub mod hot;
pub mod icount;
pub mod machine;
pub mod measure;
pub mod publish;
pub mod quick;
pub mod run;
pub mod scenario;
pub mod server;
pub mod stamp;
pub mod table;
pub mod vary;
