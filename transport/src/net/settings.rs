//! What all connections of a listener have in common.

use std::time::SystemTime;

use super::response::Terms;
use crate::wire::http::Context;
use crate::wire::origin::{Cors, Origins};

/// What all connections of a listener have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limit of an HTTP head, an HTTP body and a WebSocket message, each on its own: the limit that TLCP announces in
    /// `CONOK`.
    pub request_bytes_max: usize,
    /// Which pages may connect, and what their browsers are told.
    pub origins: Origins,
    /// Headers of every response, besides our own: names and values, checked.
    pub added_headers: Vec<(String, String)>,
    /// The `Server` header; empty leaves it out.
    pub server_name: String,
    /// Serve the embedded page.
    pub pages: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_bytes_max: 50_000, // the reference product's default
            origins: Origins::default(),
            added_headers: Vec::new(),
            server_name: "Brightwire".into(),
            pages: true,
        }
    }
}

impl Settings {
    /// What a response is written with.
    pub fn context<'a>(&'a self, terms: &'a Terms, now: SystemTime) -> Context<'a> {
        Context {
            http_1_0: terms.http_1_0,
            keep_alive: terms.keep_alive,
            head_only: terms.head_only,
            cors: terms.origin.as_deref().map(|origin| Cors {
                origin,
                credentials: self.origins.credentials,
            }),
            added: &self.added_headers,
            ..Context::new(&self.server_name, now)
        }
    }
}
