//! What all connections of a listener have in common.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::response::Terms;
use crate::wire::authority::Authority;
use crate::wire::http::Context;
use crate::wire::origin::{Cors, Origins};
use crate::wire::pages::Site;

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
    /// Names of request headers that go back with the response, as they came.
    pub echoed_headers: Vec<String>,
    /// The `Server` header; empty leaves it out.
    pub server_name: String,
    /// The listener's name, for metadata adapters.
    pub name: Option<Arc<str>>,
    /// A metadata adapter may want to know the headers of those who want sessions.
    pub keeps_headers: bool,
    /// What `SERVNAME` tells, if not what all listeners tell.
    pub servname: Option<Arc<str>>,
    /// What the listener is for.
    pub role: Role,
    /// What may stand before `/lightstreamer`: each begins with a slash and ends without one.
    pub prefixes: Vec<String>,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// From where such a header, or `X-Forwarded-For`, is believed. Without any, from everywhere.
    pub trusted_proxies: Vec<IpNet>,
    /// How many proxies in front add to `X-Forwarded-For`; 0: it is not looked at.
    pub forwarded_hops: usize,
    /// Bodies that are there as a whole are compressed, where that is worth it and the client accepts it.
    pub gzip: bool,
    /// Where clients are told to send everything after the creation of their session.
    pub control_link: Option<Authority>,
    /// The text protocol before TLCP is served.
    pub legacy: bool,
    /// Where the health check is; empty: nowhere.
    pub health_path: String,
    /// The pages.
    pub site: Arc<Site>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    #[default]
    General,
    /// Where clients begin. Everything is served, but when connections are short these are refused first.
    CreateOnly,
    /// For sessions that are there; none is created.
    ControlOnly,
    /// Everything, for few: operators get in when others do not.
    Priority,
}

/// Whether connections begin with a PROXY header, and which. There is no detection: a client could write one as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// Version 1: a line of text.
    V1,
    /// Version 2: binary.
    V2,
    /// Either.
    Any,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_bytes_max: 50_000, // the reference product's default
            origins: Origins::default(),
            added_headers: Vec::new(),
            echoed_headers: Vec::new(),
            server_name: "Brightwire".into(),
            name: None,
            keeps_headers: false,
            servname: None,
            role: Role::General,
            prefixes: Vec::new(),
            proxy_protocol: ProxyProtocol::Off,
            trusted_proxies: Vec::new(),
            forwarded_hops: 0,
            gzip: false,
            control_link: None,
            legacy: true,
            health_path: String::new(),
            site: Arc::new(Site::demo()),
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
            echoed: terms.echoed.as_deref().unwrap_or_default(),
            ..Context::new(&self.server_name, now)
        }
    }

    /// Whether what a proxy at this address says of its client is believed.
    pub fn trusts(&self, proxy: IpAddr) -> bool {
        let proxy = proxy.to_canonical();
        self.trusted_proxies.is_empty()
            || self.trusted_proxies.iter().any(|net| net.contains(&proxy))
    }
}

impl Role {
    /// Sessions may be created.
    pub fn creates(self) -> bool {
        self != Self::ControlOnly
    }

    /// How many shares of the connections kept free (see [`RESERVE`]) are out of this role's reach.
    pub fn shares_left(self) -> usize {
        match self {
            Self::CreateOnly => 2,
            Self::General => 1,
            Self::ControlOnly | Self::Priority => 0,
        }
    }
}

/// Where listeners differ in role, one share of a shard's connections is this part of them: the last one is kept for
/// roles that serve sessions which are there, and operators; the one before it is also out of reach for those where
/// clients begin. (guess)
pub const RESERVE: usize = 20;
