//! Session ids: the only credential of every later request, and the address of the shard that owns the session.
//!
//! `S`, 4 hexadecimal digits of the instance's tag, 3 of the shard, 24 random ones (96 bits), `T`, a serial number: letters
//! and digits only, 40 at most, as clients expect. The tag is configured, not random: after a restart an old id must
//! be answered with "session not found", which makes clients open a new one, and not with "another instance", which
//! ends them for good.

use crate::ids::ShardId;

/// Random bytes in a session id.
pub const RANDOM_BYTES: usize = 12;

const INSTANCE_DIGITS: usize = 4;
const SHARD_DIGITS: usize = 3;
const RANDOM_DIGITS: usize = 2 * RANDOM_BYTES;
const SERIAL_MAX: u32 = 10_000_000;

/// Where the session of an id lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The server instance's tag.
    pub instance: u16,
    /// The shard.
    pub shard: ShardId,
}

/// Makes an id.
pub fn make(owner: Owner, random: [u8; RANDOM_BYTES], serial: u32) -> Box<str> {
    let random = u128::from_be_bytes(
        [[0; 4].as_slice(), &random]
            .concat()
            .try_into()
            .expect("16 bytes"),
    );
    let Owner {
        instance,
        shard: ShardId(shard),
    } = owner;
    format!(
        "S{instance:04x}{shard:03x}{random:024x}T{:07}",
        serial % SERIAL_MAX
    )
    .into()
}

/// Another id for the same session-to-be, for an adapter that wants to be asked anew: the same owner and serial number.
/// `None` if `id` is none of ours.
pub fn another(id: &str, random: [u8; RANDOM_BYTES]) -> Option<Box<str>> {
    let serial = id.rsplit_once('T')?.1.parse().ok()?;
    Some(make(owner(id)?, random, serial))
}

/// Reads an id's address; `None` if it is none of ours.
pub fn owner(id: &str) -> Option<Owner> {
    let digits = id
        .strip_prefix('S')?
        .get(..INSTANCE_DIGITS + SHARD_DIGITS + RANDOM_DIGITS)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let instance = u16::from_str_radix(&digits[..INSTANCE_DIGITS], 16).ok()?;
    let shard = u16::from_str_radix(&digits[INSTANCE_DIGITS..][..SHARD_DIGITS], 16).ok()?;
    Some(Owner {
        instance,
        shard: ShardId(shard),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_owner_and_is_plain() {
        let here = Owner {
            instance: 0xbeef,
            shard: ShardId(17),
        };
        let id = make(here, [0xa5; RANDOM_BYTES], 123);
        assert_eq!(&*id, "Sbeef011a5a5a5a5a5a5a5a5a5a5a5a5T0000123");
        assert!(id.len() <= 40);
        assert_eq!(owner(&id), Some(here));
        let other = another(&id, [0x3c; RANDOM_BYTES]).unwrap();
        assert_eq!(&*other, "Sbeef0113c3c3c3c3c3c3c3c3c3c3c3cT0000123");
    }

    #[test]
    fn what_is_no_id_has_no_owner() {
        for text in [
            "",
            "S",
            "Sdead",
            "X0000000",
            "S00000é0a5a5a5a5a5a5a5a5a5a5a5a5T1",
            "Szzzzzzza5a5a5a5a5a5a5a5a5a5a5a5T1",
        ] {
            assert_eq!(owner(text), None, "{text}");
            assert_eq!(another(text, [0; RANDOM_BYTES]), None, "{text}");
        }
    }
}
