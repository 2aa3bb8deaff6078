//! Where a request was sent to, as its `Host` header says: whether that is the control link.

/// The host, and the port if it is told, of an address as clients are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    host: Box<str>,
    /// Without one the client uses the port that it knows.
    port: Option<Box<str>>,
}

impl Authority {
    /// Of a control link: `host`, `host:port` or `[ipv6]:port`, perhaps with a scheme and a path.
    pub fn of_link(link: &str) -> Self {
        let link = link.split_once("://").map_or(link, |(_, rest)| rest);
        let authority = link.split('/').next().unwrap_or_default();
        let (host, port) = split(authority);
        Self {
            host: host.into(),
            port: port.map(Into::into),
        }
    }

    /// Whether a `Host` header names it. Clients leave a port out that goes without saying.
    pub fn is_named_by(&self, header: &str) -> bool {
        let (host, port) = split(header.trim());
        let same_port = match (&self.port, port) {
            (None, _) => true,
            (Some(known), Some(port)) => **known == *port,
            (Some(known), None) => matches!(&**known, "80" | "443"),
        };
        same_port && host.eq_ignore_ascii_case(&self.host)
    }
}

/// An address of version 6 has colons of its own, and stands in brackets.
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_known_by_host_and_port() {
        for (link, header, same) in [
            ("push1", "push1", true),
            ("push1", "PUSH1:8080", true),
            ("push1", "push2", false),
            ("push1", "push1.example.com", false),
            ("push1:8080", "push1:8080", true),
            ("push1:8080", "push1:8081", false),
            ("push1:8080", "push1", false),
            ("push1:443", "push1", true),
            ("https://push1:443/base", "push1:443", true),
            ("http://push1/base", " push1 ", true),
            ("[::1]:8080", "[::1]:8080", true),
            ("[::1]", "[::1]:9", true),
            ("[::1]", "[::2]", false),
            ("push1", "", false),
        ] {
            let named = Authority::of_link(link).is_named_by(header);
            assert_eq!(named, same, "{link} {header}");
        }
    }
}
