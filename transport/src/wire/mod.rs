//! Bytes to messages and back, without a socket: HTTP requests and responses, TLCP within them, WebSocket frames, the
//! embedded page; and the configuration of TLS.
//!
//! Everything here is fed with byte slices, cut wherever the network happened to cut them, and writes into vectors
//! that somebody else sends. It is therefore tested by cutting the same stream at every position and expecting the
//! same result. [`crate::net::connection`] puts the parts together into one client connection.

pub mod authority;
pub mod charset;
pub mod client;
pub mod gzip;
pub mod http;
pub mod origin;
pub mod pages;
pub mod tlcp;
pub mod tls;
pub mod ws;
pub mod ws_client;
