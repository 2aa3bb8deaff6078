//! Which web pages may talk to the server, and what their browsers are told about it (CORS).
//!
//! A browser says by `Origin` which page is behind a request, and shows the page the response only if that allows it.
//! Clients that are no browsers send no `Origin`; they are always let in and told nothing (TLCP, CORS).

use std::time::Duration;

use super::http::{Context, Response, Status};

/// Which pages may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Every page, as the reference product does unless told otherwise.
    #[default]
    Any,
    /// Pages of these origins, written like `https://www.example.com:8443`; compared without regard to case.
    Listed(Vec<String>),
}

impl OriginPolicy {
    /// Whether a page of this origin may connect.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(origins) => origins
                .iter()
                .any(|listed| listed.eq_ignore_ascii_case(origin)),
        }
    }
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
        let policy = OriginPolicy::Listed(vec!["https://www.example.com".into()]);
        assert!(policy.allows("https://WWW.example.com"));
        assert!(!policy.allows("http://www.example.com") && !policy.allows("null"));
        assert!(OriginPolicy::Any.allows("null"));
    }
}
