//! Compression of bodies that are there as a whole. Streams are not compressed: each update would have to be flushed on its
//! own, with a compressor's memory for each client, and clients that mind the bytes get deltas already.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::http::Request;

/// Below it the head outweighs what is saved. (the reference product's default)
pub const BODY_BYTES_MIN: usize = 1024;

/// Whether a body of this type and length is worth compressing: text is, pictures and archives are compressed already.
pub fn is_worth_it(content_type: &str, body_bytes: usize) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    body_bytes >= BODY_BYTES_MIN
        && (essence.starts_with("text/")
            || ["javascript", "json", "xml", "wasm"]
                .iter()
                .any(|end| essence.ends_with(end)))
}

/// Whether the client takes gzip: HTTP/1.1, and named without being refused by `q=0`.
pub fn is_accepted(request: &Request<'_>) -> bool {
    let mut star = false;
    for coding in request
        .all("accept-encoding")
        .flat_map(|value| value.split(','))
    {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            part.to_ascii_lowercase()
                .strip_prefix("q=")
                .is_some_and(|weight| weight.trim().parse() == Ok(0.0))
        });
        if name.eq_ignore_ascii_case("gzip") {
            return !refused && !request.http_1_0;
        }
        star |= name == "*" && !refused;
    }
    star && !request.http_1_0
}

/// The body compressed; `None` if it does not get shorter.
pub fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body).ok()?; // writing into a vector cannot fail
    encoder
        .finish()
        .ok()
        .filter(|gzipped| gzipped.len() < body.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::HEADERS_MAX;
    use std::io::Read;

    fn accepted(line: &str, version: &str) -> bool {
        let head = format!("GET / HTTP/{version}\r\nHost: h\r\n{line}\r\n\r\n");
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        is_accepted(&Request::parse(head.as_bytes(), &mut lines, 0).unwrap())
    }

    #[test]
    fn the_client_decides() {
        for line in [
            "Accept-Encoding: gzip",
            "Accept-Encoding: br, GZIP;q=0.5",
            "Accept-Encoding: *",
        ] {
            assert!(accepted(line, "1.1"), "{line}");
            assert!(!accepted(line, "1.0"), "{line}");
        }
        for line in [
            "A: b",
            "Accept-Encoding: br",
            "Accept-Encoding: gzip;q=0, *",
            "Accept-Encoding: gzip; Q=0.000",
        ] {
            assert!(!accepted(line, "1.1"), "{line}");
        }
    }

    #[test]
    fn what_comes_out_can_be_read() {
        let body = b"U,1,1,a|b\r\n".repeat(200);
        let gzipped = compress(&body).unwrap();
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&*gzipped)
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, body);
        assert_eq!(compress(b"short"), None);
    }

    #[test]
    fn text_is_worth_it_and_pictures_are_not() {
        assert!(is_worth_it("text/html; charset=utf-8", BODY_BYTES_MIN));
        assert!(is_worth_it("image/svg+xml", 5_000) && is_worth_it("application/json", 5_000));
        assert!(!is_worth_it("text/html", BODY_BYTES_MIN - 1) && !is_worth_it("image/png", 5_000));
    }
}
