//! Mutations of inputs, the same for the same seed: what a plain `cargo test` has in place of a fuzzer.

use fastrand::Rng;

/// Bytes that mean something in one protocol or another, and numbers at the edges of types.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"&",
    b"=",
    b"%",
    b"%00",
    b"%ff",
    b"%0d%0a",
    b"+",
    b"|",
    b"#",
    b"$",
    b"^",
    b"^P",
    b"^Tbd",
    b"\0",
    b",",
    b"\\u",
    b"LS_session=",
    b"LS_reqId=1",
    b"LS_unq=3&",
    b"LS_op=add",
    b"0",
    b"-1",
    b"1e308",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"9999999999999999999999",
    b"\xf0\x9f\x98\x80",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"\x81\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0",
];

/// Largest input that is made.
const BYTES_MAX: usize = 8 * 1024;

/// An input like `seed`, with one to eight changes; now and then crossed with `other`.
pub fn mutate(rng: &mut Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.usize(1..=8) {
        let at = rng.usize(0..=bytes.len());
        let end = at + rng.usize(0..=(bytes.len() - at).min(64));
        match rng.u8(0..8) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.usize(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            2 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << rng.u8(0..8);
            }
            3 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] = rng.u8(..);
            }
            4 => bytes.truncate(at),
            5 if !other.is_empty() => {
                let from = rng.usize(0..other.len());
                let until = from + rng.usize(0..=(other.len() - from).min(256));
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            _ => {
                let token = TOKENS[rng.usize(0..TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_within_the_bound() {
        let run = || {
            let mut rng = Rng::with_seed(7);
            (0..200)
                .map(|_| mutate(&mut rng, &[b'x'; BYTES_MAX], b"abc"))
                .collect::<Vec<_>>()
        };
        let inputs = run();
        assert_eq!(inputs, run());
        assert!(inputs.iter().all(|input| input.len() <= BYTES_MAX));
    }
}
