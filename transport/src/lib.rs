//! Everything of Brightwire that touches Linux: sockets, threads, the clock, files and signals. What is decided
//! without them is decided in the crate `engine`, which this one drives.
//!
//! From the command line inwards:
//!
//! | Module | What it is for |
//! |---|---|
//! | [`config`] | a TOML file, or the options of `brightwire demo`, become a plan in which every choice is made |
//! | [`import`] | configuration files of the reference product become such a file |
//! | [`preflight`] | `brightwire doctor`: what of this machine stands in the way, and how to fix it |
//! | [`server`] | starts the threads that a plan asks for, and ends them |
//! | [`lifecycle`] | the process from outside: signals, the ports file |
//! | [`runtime`] | the threads' duty cycles and the rings between them; begin with the two tables at its top |
//! | [`reactor`] | how a shard talks to its sockets: io_uring or epoll, behind one set of promises |
//! | [`net`] | listening sockets, a client's connection as a state machine, the buffer in which messages are framed |
//! | [`wire`] | HTTP and WebSocket as bytes in and bytes out, without sockets |
//! | [`adapter`] | data and metadata adapters, in this process and others |
//! | [`builder`] | a server with adapters of one's own |
//!
//! `reactor` is the only module with `unsafe` code, and `runtime::host` the only one that knows glommio.

pub mod adapter;
pub mod builder;
pub mod config;
pub mod import;
pub mod lifecycle;
pub mod net;
pub mod preflight;
pub mod reactor;
pub mod runtime;
pub mod server;
pub mod wire;

pub use adapter::AdapterError;
pub use adapter::data::{DataAdapter, Place, SubscriptionError};
pub use adapter::metadata;
pub use adapter::publisher::{Difference, Gathering, Item, PublishError, Published, Publisher};
pub use builder::{RunningServer, Server, ServerBuilder, ServerError};
pub use lifecycle::log_to_stderr;
