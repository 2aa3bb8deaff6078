//! Who wants a session, as far as the transport and the request tell.

use std::fmt;
use std::sync::Arc;

/// A client that wants a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub ip: Box<str>,
    /// Its port; 0 if only the address is known, as a proxy told it.
    pub port: u16,
    /// The name of the listener that it has come to.
    pub listener: Option<Arc<str>>,
    /// The headers of its HTTP request, or of the one that became its WebSocket.
    pub headers: Headers,
    /// What its TLS certificate says.
    pub certificate: Certificate,
    /// What it says that it is: `LS_cid`.
    pub cid: Option<Box<str>>,
}

/// The certificate of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Clients are not asked for one there.
    #[default]
    NotAsked,
    /// They are, and this one has none.
    Missing,
    /// The name in it.
    Principal(Arc<str>),
}

/// The headers of a request, in one allocation that the connection and its questions share. Names are in lower case and
/// come once: a header that is repeated has its values joined by commas.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<str>>);

impl Headers {
    /// Keeps the headers of a request. What would make them larger than `bytes_max` is left out.
    pub fn collect<'h>(
        headers: impl Iterator<Item = (&'h str, &'h str)> + Clone,
        bytes_max: usize,
    ) -> Self {
        let mut text = String::new();
        for (at, (name, value)) in headers.clone().enumerate() {
            let same = |(other, _): &(&str, &str)| other.eq_ignore_ascii_case(name);
            if headers.clone().take(at).any(|other| same(&other)) {
                continue; // it went with the first of this name
            }
            // Neither names nor values contain line ends: the request's head was cut at them.
            let before = text.len();
            text.extend(name.chars().map(|letter| letter.to_ascii_lowercase()));
            text.push('\n');
            text.push_str(value);
            for (_, value) in headers.clone().skip(at + 1).filter(same) {
                text.push(',');
                text.push_str(value);
            }
            text.push('\n');
            if text.len() > bytes_max {
                text.truncate(before);
            }
        }
        Self((!text.is_empty()).then(|| text.into()))
    }

    /// Names and values, in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut lines = self.0.as_deref().unwrap_or_default().split_terminator('\n');
        std::iter::from_fn(move || Some((lines.next()?, lines.next()?)))
    }

    /// The value of a header; the name is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }
}

impl fmt::Debug for Headers {
    /// Names only: values are what clients prove by that they are who they say.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_repeated_headers_joined() {
        let given = [("Host", "a"), ("X-A", "1"), ("Cookie", ""), ("x-a", "2")];
        let headers = Headers::collect(given.into_iter(), 1000);
        let kept: Vec<_> = headers.iter().collect();
        assert_eq!(kept, [("host", "a"), ("x-a", "1,2"), ("cookie", "")]);
        assert_eq!(headers.get("x-a"), Some("1,2"));
        assert_eq!(headers.get("x-b"), None);
        assert_eq!(format!("{headers:?}"), r#"["host", "x-a", "cookie"]"#);
    }

    #[test]
    fn what_is_above_the_bound_is_left_out() {
        let given = [("a", "1"), ("long", "0123456789"), ("b", "2")];
        let headers = Headers::collect(given.into_iter(), 10);
        let kept: Vec<_> = headers.iter().collect();
        assert_eq!(kept, [("a", "1"), ("b", "2")]);
        assert_eq!(Headers::collect([].into_iter(), 10), Headers::default());
    }
}
