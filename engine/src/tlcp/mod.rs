//! TLCP, the client protocol: codec only. Knows nothing of sessions, items or sockets, and depends on no other
//! module of the crate but [`crate::text`].
//!
//! | direction | module |
//! |---|---|
//! | client to server | [`request`]: lines of parameters into typed requests |
//! | server to client, answers | [`response`]: `CONOK`, `REQOK` ..., with the codes and texts of [`cause`] |
//! | server to client, stream | [`notify`]: `SUBOK`, `CONF` ...; [`values`]: the field list of `U`; [`diff`]: values as edits |
//! | the protocol before | [`legacy`]: other words for much of the same |
//! | the other end | [`client`]: the same protocol as a client sees it |
//!
//! Every writer appends one complete line, CR LF included, to a byte buffer that the caller owns: a line never spans
//! two WebSocket messages, so lines are the unit in which everything above this module counts.

pub mod cause;
pub mod cid;
pub mod client;
pub mod diff;
pub mod legacy;
pub mod notify;
pub mod request;
pub mod response;
pub mod values;
mod version;

pub use version::{Dialect, Version};

/// For the writers' tests: what is written, which must be one line.
#[cfg(test)]
fn line_of(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let line = String::from_utf8(out).unwrap();
    line.strip_suffix("\r\n")
        .expect("ends with CR LF")
        .to_owned()
}
