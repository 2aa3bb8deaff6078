//! The upgrade of an HTTP connection to a WebSocket: which are accepted, and the answer to them.

use engine::tlcp::Version;
use tungstenite::handshake::derive_accept_key;

use crate::wire::http::{Context, Request, Response, Status};
use crate::wire::origin::OriginPolicy;

/// An upgrade that is acceptable, and what the client said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// The subprotocol that was accepted, as the client wrote it: `TLCP-2.5.0.lightstreamer.com`.
    pub subprotocol: &'a str,
    /// `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// `Origin`: the page, if the client is a browser.
    pub origin: Option<&'a str>,
    key: &'a str,
}

/// An upgrade that is not acceptable: what to answer before closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer with.
    pub status: Status,
    /// For people.
    pub reason: &'static str,
}

impl<'a> Upgrade<'a> {
    /// Judges a request for the WebSocket path.
    pub fn read(request: &Request<'a>, origins: &OriginPolicy) -> Result<Self, Refusal> {
        let refuse = |status, reason| Err(Refusal { status, reason });
        if !request.has_token("upgrade", "websocket") {
            return refuse(Status::UPGRADE_REQUIRED, "this path speaks WebSocket");
        }
        if request.http_1_0 || request.body_bytes > 0 || !request.has_token("connection", "upgrade")
        {
            return refuse(Status::BAD_REQUEST, "not a WebSocket upgrade");
        }
        if request.header("sec-websocket-version") != Some("13") {
            return refuse(Status::UPGRADE_REQUIRED, "WebSocket version 13 is needed");
        }
        let Some(key) = request
            .header("sec-websocket-key")
            .filter(|key| is_key(key))
        else {
            return refuse(Status::BAD_REQUEST, "Sec-WebSocket-Key is missing or wrong");
        };
        let origin = request.header("origin");
        if origin.is_some_and(|origin| !origins.allows(origin)) {
            return refuse(Status::FORBIDDEN, "the page's origin is not allowed");
        }
        let Some(subprotocol) = request
            .all("sec-websocket-protocol")
            .find_map(accept_subprotocol)
        else {
            return refuse(Status::BAD_REQUEST, "no subprotocol of TLCP 2 was offered");
        };
        Ok(Self {
            subprotocol,
            user_agent: request.header("user-agent"),
            origin,
            key,
        })
    }

    /// Writes the answer after which the connection speaks WebSocket.
    pub fn write_answer(&self, out: &mut Vec<u8>, context: &Context<'_>) {
        Response::begin(out, Status::SWITCHING_PROTOCOLS, context)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header(
                "Sec-WebSocket-Accept",
                derive_accept_key(self.key.as_bytes()),
            )
            // Echoed letter by letter: browsers fail a connection whose subprotocol is not among the offered.
            .header("Sec-WebSocket-Protocol", self.subprotocol)
            .no_body();
    }
}

/// The first of a comma-separated list of subprotocols that is spoken here: TLCP 2, of any minor version.
pub fn accept_subprotocol(offered: &str) -> Option<&str> {
    let is_spoken =
        |name: &&str| Version::parse_subprotocol(name).is_some_and(Version::is_supported);
    offered.split(',').map(str::trim).find(is_spoken)
}

/// Sixteen bytes in base64: 22 letters and the padding.
fn is_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key[..22]
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subprotocols() {
        let accepted = |offered| accept_subprotocol(offered);
        assert_eq!(
            accepted("TLCP-2.5.0.lightstreamer.com"),
            Some("TLCP-2.5.0.lightstreamer.com")
        );
        assert_eq!(
            accepted(
                "js.lightstreamer.com, TLCP-2.1.12.lightstreamer.com,TLCP-2.5.0.lightstreamer.com"
            ),
            Some("TLCP-2.1.12.lightstreamer.com")
        );
        assert_eq!(
            accepted("TLCP-2.9.0.lightstreamer.com"),
            Some("TLCP-2.9.0.lightstreamer.com")
        );
        for wrong in [
            "",
            "js.lightstreamer.com",
            "TLCP-3.0.0.lightstreamer.com",
            "TLCP-1.9.0.lightstreamer.com",
            "TLCP-2.5.lightstreamer.com",
            "TLCP-2.5..lightstreamer.com",
            "TLCP-2.5.+1.lightstreamer.com",
            "TLCP-2.5.0.lightstreamer.org",
            "tlcp-2.5.0.lightstreamer.com",
        ] {
            assert_eq!(accepted(wrong), None, "{wrong}");
        }
    }
}
