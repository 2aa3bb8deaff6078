//! TLCP from the client's side: what the load generator, the simulator and the tests speak.
//!
//! Reading is *strict*: whatever official clients might stumble over is an error here, even where the protocol would
//! let a lenient client go on, so that a server that is almost right is found out.

mod diff;
mod line;
mod row;
mod write;

pub use diff::{apply_patch, apply_text};
pub use line::{BadLine, Line, complete_lines};
pub use row::{BadUpdate, FieldValues};
pub use write::{write_line, write_message};
