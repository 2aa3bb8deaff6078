//! Which web pages may talk to the server, and what their browsers are told about it (CORS).
//!
//! A browser says by `Origin` which page is behind a request, and shows the page the response only if that allows it.
//! Clients that are no browsers send no `Origin`; they are always let in and told nothing (TLCP, CORS).

use std::fmt::{self, Display};
use std::time::Duration;

use super::http::{Context, Response, Status};

/// Which pages may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Every page, as the reference product does unless told otherwise.
    #[default]
    Any,
    /// Pages whose origin matches one of these.
    Listed(Vec<OriginRule>),
}

/// Some origins: `https://www.example.com:8443`, or with `*` for any scheme of the web, for any host or any one below a
/// domain, or for any port. Without a port it is the scheme's own. Case does not matter. `null` is the origin of pages
/// that have none: files, sandboxed frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRule {
    text: String,
    scheme: Option<String>,
    host: HostRule,
    port: PortRule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    Any,
    /// Ends like this, dot included, and is longer.
    Below(String),
    Is(String),
    /// The whole origin is `null`.
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortRule {
    Any,
    SchemesOwn,
    Is(u16),
}

impl OriginPolicy {
    /// Whether a page of this origin may connect.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(rules) => rules.iter().any(|rule| rule.matches(origin)),
        }
    }
}

impl OriginRule {
    /// Reads a rule; `None` if it is none, or one of the kind `*.com` that means half of the world.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let rule = |scheme, host, port| Self {
            text: text.clone(),
            scheme,
            host,
            port,
        };
        if text == "null" {
            return Some(rule(None, HostRule::Null, PortRule::Any));
        }
        let (scheme, host, port) = split(&text)?;
        let port = match port {
            None => PortRule::SchemesOwn,
            Some("*") => PortRule::Any,
            Some(port) => PortRule::Is(port.parse().ok()?),
        };
        let host = match host.strip_prefix('*') {
            Some("") => HostRule::Any,
            Some(domain) => {
                let labels = domain.strip_prefix('.')?;
                if !labels.contains('.') {
                    return None;
                }
                HostRule::Below(domain.into())
            }
            None => HostRule::Is(host.into()),
        };
        let names = match &host {
            HostRule::Any | HostRule::Null => "",
            HostRule::Below(name) | HostRule::Is(name) => name,
        };
        if names.contains(['*', '/', ' ', '?', '#', '@', ',']) {
            return None;
        }
        match scheme {
            "*" => Some(rule(None, host, port)),
            "http" | "https" => Some(rule(Some(scheme.into()), host, port)),
            _ => None,
        }
    }

    fn matches(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        if self.host == HostRule::Null || origin == "null" {
            return self.text == origin;
        }
        let Some((scheme, host, port)) = split(&origin) else {
            return false;
        };
        let own = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let Ok(port) = port.map_or(Ok(own), str::parse) else {
            return false;
        };
        let port_fits = match self.port {
            PortRule::Any => true,
            PortRule::SchemesOwn => port == own,
            PortRule::Is(listed) => port == listed,
        };
        let host_fits = match &self.host {
            HostRule::Any => true,
            HostRule::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
            HostRule::Is(listed) => host == listed,
            HostRule::Null => false,
        };
        port_fits && host_fits && self.scheme.as_deref().is_none_or(|listed| scheme == listed)
    }
}

impl Display for OriginRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Scheme, host and port of an origin or a rule.
fn split(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (scheme, rest) = text.split_once("://")?;
    // The colons of an IPv6 address are in brackets.
    let after_host = match rest.find(']') {
        Some(end) if rest.starts_with('[') => end + 1,
        _ => rest.find(':').unwrap_or(rest.len()),
    };
    let (host, port) = rest.split_at(after_host);
    let port = match port {
        "" => None,
        _ => Some(port.strip_prefix(':')?),
    };
    (!host.is_empty()).then_some((scheme, host, port))
}

/// All that is to be known about pages of other origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// Which of them may connect.
    pub policy: OriginPolicy,
    /// Whether their requests may carry cookies and other credentials.
    pub credentials: bool,
    /// How long a browser may go without asking again whether a request is allowed.
    pub max_age: Duration,
    /// Names of request headers that pages may set, besides `Content-Type`.
    pub headers: Vec<String>,
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            policy: OriginPolicy::Any,
            credentials: true, // the reference product's default, as the next
            max_age: Duration::from_secs(3600), // an hour
            headers: Vec::new(),
        }
    }
}

/// The page that a response is for: an origin that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cors<'a> {
    /// Echoed letter by letter, never `*`: with credentials browsers accept nothing else.
    pub origin: &'a str,
    /// See [`Origins::credentials`].
    pub credentials: bool,
}

/// Answers a browser that asks, before the real request, whether it may send it. `context` names the page only if it
/// may; without that the browser takes the answer for a no.
pub fn write_preflight(out: &mut Vec<u8>, origins: &Origins, context: &Context<'_>) {
    let mut response = Response::begin(out, Status::OK, context).header("Allow", TLCP_METHODS);
    if context.cors.is_some() {
        let mut headers = String::from("Content-Type");
        for name in &origins.headers {
            headers.push_str(", ");
            headers.push_str(name);
        }
        response = response
            .header("Access-Control-Allow-Methods", TLCP_METHODS)
            .header("Access-Control-Allow-Headers", headers)
            .header("Access-Control-Max-Age", origins.max_age.as_secs());
    }
    response.header("Content-Length", 0).no_body();
}

/// What can be done with the path of a TLCP request.
pub const TLCP_METHODS: &str = "POST, GET, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn preflight(cors: Option<Cors<'_>>) -> String {
        let origins = Origins {
            headers: vec!["X-Token".into(), "X-Trace".into()],
            ..Origins::default()
        };
        let context = Context {
            cors,
            ..Context::new("", SystemTime::UNIX_EPOCH)
        };
        let mut out = Vec::new();
        write_preflight(&mut out, &origins, &context);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_preflight_names_methods_and_headers_to_pages_that_are_allowed() {
        let answer = preflight(Some(Cors {
            origin: "https://a",
            credentials: true,
        }));
        for line in [
            "HTTP/1.1 200 OK\r\n",
            "\r\nAccess-Control-Allow-Origin: https://a\r\n",
            "\r\nAccess-Control-Allow-Credentials: true\r\n",
            "\r\nVary: Origin\r\n",
            "\r\nAccess-Control-Allow-Methods: POST, GET, OPTIONS\r\n",
            "\r\nAccess-Control-Allow-Headers: Content-Type, X-Token, X-Trace\r\n",
            "\r\nAccess-Control-Max-Age: 3600\r\n",
            "\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(answer.contains(line), "{line:?} in {answer}");
        }
    }

    #[test]
    fn a_preflight_tells_others_nothing() {
        let answer = preflight(None);
        assert!(answer.ends_with("\r\nContent-Length: 0\r\n\r\n"));
        assert!(!answer.contains("Access-Control"), "{answer}");
    }

    #[test]
    fn listed_origins_are_compared_without_regard_to_case() {
        let allows = |rules: &[&str], origin| {
            let rules = rules.iter().map(|rule| OriginRule::parse(rule).unwrap());
            OriginPolicy::Listed(rules.collect()).allows(origin)
        };
        let one = ["https://www.Example.com"];
        for origin in ["https://WWW.example.com", "https://www.example.com:443"] {
            assert!(allows(&one, origin), "{origin}");
        }
        for origin in [
            "http://www.example.com",
            "https://www.example.com:8443",
            "https://www.example.com.evil.org",
            "https://example.com",
            "null",
            "",
        ] {
            assert!(!allows(&one, origin), "{origin}");
        }
        assert!(OriginPolicy::Any.allows("null"));
        assert!(allows(&["null"], "null") && !allows(&["*://*:*"], "null"));
        let below = ["*://*.example.com:*"];
        assert!(allows(&below, "http://a.b.example.com:81"));
        for origin in [
            "https://example.com",
            "https://badexample.com",
            "ftp://a.example.com",
        ] {
            assert!(!allows(&below, origin), "{origin}");
        }
        assert!(allows(&["http://[::1]:8080"], "http://[::1]:8080"));
        assert!(!allows(&["http://[::1]:8080"], "http://[::1]"));
    }

    #[test]
    fn what_is_no_origin_is_no_rule() {
        for text in [
            "",
            "*",
            "www.example.com",
            "https://",
            "https://*.com",
            "https://a*b.com",
            "https://a/b",
            "ftp://a",
            "https://a:port",
            "https://*a.b",
            "https://a:",
        ] {
            assert_eq!(OriginRule::parse(text), None, "{text}");
        }
    }
}
