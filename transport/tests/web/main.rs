//! What the server makes of HTTP: TLCP over it, listeners and their roles, proxies in front, pages of other origins, bodies. The binary is started as a process, and asked over real sockets; each test runs on both I/O back ends.

#[path = "../back_ends/mod.rs"]
mod back_ends;
mod bodies;
mod listeners;
mod origins;
mod proxies;
#[path = "../serving/mod.rs"]
mod serving;
mod support;
mod tlcp;

use back_ends::on_both_back_ends;
