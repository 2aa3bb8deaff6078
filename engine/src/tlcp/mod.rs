//! TLCP, the client protocol: codec only. Knows nothing of sessions, items or sockets, and depends on no other
//! module of the crate but [`crate::text`].

pub mod request;
