//! The text protocol before TLCP, which clients up to generation 6.0 speak: codec only.
//!
//! It does much of what TLCP does, in other words, over HTTP alone. So it is a front-end: [`rewrite`] turns its request
//! lines into those of TLCP before the engine reads them, and [`answer`] and [`stream`] turn the engine's lines into its
//! own before they are sent. Only updates, of which there are many, are written in it from the start ([`values`]).
//!
//! | TLCP | text protocol |
//! |---|---|
//! | `CONOK`, `SERVNAME`, `CONS` at the head of a response | `OK`, a property a line, an empty line |
//! | `NOOP` | `Preamble:` and padding |
//! | `CONERR`, `REQERR`, `ERROR` | `ERROR`, a line with the code, a line with the text; `SYNC ERROR` if there is no such session |
//! | `REQOK` | `OK` |
//! | `U,1,2,a\|b` | `1,2\|a\|b` |
//! | `EOS,1,2` and `OV,1,2,7` | `1,2,EOS` and `1,2,OV7` |
//! | `MSGDONE,seq,3` and `MSGFAIL,seq,3,38,text` | `MSG,seq,3,DONE` and `MSG,seq,3,ERR,38,text` |
//! | `LOOP,0` and `LOOP,500` | `LOOP` and `LOOP 500` |
//! | `END,31,text` | `END 31` |
//! | `PROBE` | `PROBE` |
//! | all others | nothing: the protocol has no words for them |
//!
//! There is no recovery: a session ends with its connection, unless that was told `LOOP`.

mod reply;
mod request;
pub mod values;

pub use reply::{answer, loop_, stream};
pub use request::{rewrite, verb};
