//! Client connections: listening for them, what one of them holds, and the framing of what is sent to it.

pub mod connection;
pub mod folder;
pub mod listener;
pub mod outbox;
pub mod response;
pub mod settings;
