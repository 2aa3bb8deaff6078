//! Who the client is, where proxies stand between: the PROXY protocol and `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{Error, ParseConfig, ProxyHeader};

use super::http::Request;

/// Longest PROXY header that is taken. One with all extensions that are in use has some hundred bytes; the format's own
/// limit is 64 KiB. (guess)
pub const PROXY_BYTES_MAX: usize = 4096;

/// Longest header of version 1, by its definition.
const V1_BYTES_MAX: usize = 107;

/// What the beginning of a connection was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// Not complete yet.
    Incomplete,
    /// A header of so many bytes; and the client, unless the proxy speaks for itself (a health check, mostly).
    Complete(usize, Option<SocketAddr>),
    /// No header, or none of an accepted version.
    Broken,
}

/// Reads a PROXY header from what a connection has sent so far.
pub fn read_proxy_header(bytes: &[u8], allow_v1: bool, allow_v2: bool) -> Preface {
    if bytes.is_empty() {
        return Preface::Incomplete;
    }
    // Told at the first byte that differs; the parser would wait for the rest.
    let begins = |start: &[u8]| {
        let common = bytes.len().min(start.len());
        bytes[..common] == start[..common]
    };
    if !(allow_v1 && begins(b"PROXY ") || allow_v2 && begins(b"\r\n\r\n\0\r\nQUIT\n")) {
        return Preface::Broken;
    }
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1,
        allow_v2,
    };
    // The parser would look for CR LF beyond a bare line end, and take what stands between for a part of the line.
    let is_text = bytes[0] == b'P';
    let header = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if is_text && end < V1_BYTES_MAX => &bytes[..=end],
        None if is_text && bytes.len() < V1_BYTES_MAX => return Preface::Incomplete,
        _ if is_text => return Preface::Broken,
        _ => bytes,
    };
    match ProxyHeader::parse(header, config) {
        Ok((_, used)) if used > PROXY_BYTES_MAX => Preface::Broken,
        Ok((header, used)) => {
            Preface::Complete(used, header.proxied_address().map(|proxied| proxied.source))
        }
        // It also misses something in a line that is there as a whole, and short of a field.
        Err(Error::BufferTooShort) if !is_text && bytes.len() < PROXY_BYTES_MAX => {
            Preface::Incomplete
        }
        Err(_) => Preface::Broken,
    }
}

/// The client according to `X-Forwarded-For`. Each proxy appends the address that it was called from, so with `hops`
/// proxies of ours the client is the entry at that place from the end; what stands before it the client may have made up.
pub fn forwarded_for(request: &Request<'_>, hops: usize) -> Option<IpAddr> {
    let place = hops.checked_sub(1)?;
    let mut entries: Vec<&str> = Vec::new();
    for line in request.all("x-forwarded-for") {
        entries.extend(line.split(','));
    }
    let entry = entries.iter().rev().nth(place)?.trim();
    parse_address(entry)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse_address(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    bare.parse()
        .ok()
        .or_else(|| entry.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::HEADERS_MAX;

    #[test]
    fn proxy_headers_are_read_wherever_they_are_cut() {
        let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\nGET";
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x13\x88\0\x50GET";
        for header in [&v1[..], &v2[..]] {
            let end = header.len() - 3;
            for cut in 0..end {
                let seen = read_proxy_header(&header[..cut], true, true);
                assert_eq!(seen, Preface::Incomplete, "at {cut}");
            }
            let client = "192.0.2.7:5000".parse().ok();
            assert_eq!(
                read_proxy_header(header, true, true),
                Preface::Complete(end, client)
            );
        }
        assert_eq!(read_proxy_header(v1, false, true), Preface::Broken);
        assert_eq!(read_proxy_header(v2, true, false), Preface::Broken);
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        let unknown = b"PROXY UNKNOWN\r\n";
        assert_eq!(
            read_proxy_header(unknown, true, false),
            Preface::Complete(unknown.len(), None)
        );
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        assert_eq!(
            read_proxy_header(local, false, true),
            Preface::Complete(local.len(), None)
        );
    }

    #[test]
    fn what_is_no_header_is_told_at_once() {
        for bytes in [
            "G",
            "PROXX",
            "PROXY TCP4 nonsense\r\n",
            "PROXY UNKNOWN\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(
                read_proxy_header(bytes.as_bytes(), true, true),
                Preface::Broken
            );
        }
        let mut long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
        long.resize(PROXY_BYTES_MAX, 0);
        assert_eq!(read_proxy_header(&long, true, true), Preface::Broken);
    }

    #[test]
    fn the_client_is_the_entry_that_our_own_proxies_vouch_for() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n\
            X-Forwarded-For: [2001:db8::1]:443\r\n\r\n";
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let request = Request::parse(head.as_bytes(), &mut lines, 0).unwrap();
        let client = |hops| forwarded_for(&request, hops).map(|ip| ip.to_string());
        assert_eq!(client(0), None);
        assert_eq!(client(1).as_deref(), Some("2001:db8::1"));
        assert_eq!(client(2).as_deref(), Some("192.0.2.7"));
        assert_eq!(client(3).as_deref(), Some("203.0.113.9"));
        assert_eq!(client(4), None);
        assert_eq!(parse_address("unknown"), None);
        assert_eq!(parse_address("[::1]"), "::1".parse().ok());
        assert_eq!(parse_address("192.0.2.1:80"), "192.0.2.1".parse().ok());
    }
}
