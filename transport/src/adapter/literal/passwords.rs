//! Passwords, of which only hashes are known.
//!
//! A hash is a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$...`), as `brightwire hash-password` and many other programs
//! make them. To compute one is slow and takes memory on purpose, so it is done on the threads of the adapter, never on a
//! shard.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use std::fmt;
use std::str::FromStr;

/// The most memory that a check may take. (guess: several times what is recommended)
const MEMORY_KIB_MAX: u32 = 256 << 10;
/// The most passes over it. (guess)
const PASSES_MAX: u32 = 32;
/// The most lanes. (guess)
const LANES_MAX: u32 = 16;
/// Bytes of salt, as recommended.
const SALT_BYTES: usize = 16;

/// What a password is checked by.
#[derive(Clone, PartialEq)]
pub struct Hash(PasswordHash);

impl Hash {
    /// Reads a PHC string. The error does not repeat it, since it may be a password that was written there by mistake.
    pub fn new(text: &str) -> Result<Self, String> {
        let no_hash = || "is not a hash by argon2; `brightwire hash-password` makes one".to_owned();
        let hash = PasswordHash::from_str(text).map_err(|_| no_hash())?;
        if !hash.algorithm.as_str().starts_with("argon2") || hash.hash.is_none() {
            return Err(no_hash());
        }
        let params = Params::try_from(&hash).map_err(|_| no_hash())?;
        if params.m_cost() > MEMORY_KIB_MAX
            || params.t_cost() > PASSES_MAX
            || params.p_cost() > LANES_MAX
        {
            return Err(format!(
                "takes too much to check: at most m={MEMORY_KIB_MAX}, t={PASSES_MAX} and p={LANES_MAX} are accepted"
            ));
        }
        Ok(Self(hash))
    }

    /// Whether this is the password.
    pub fn verify(&self, password: &str) -> bool {
        Argon2::default()
            .verify_password(password.as_bytes(), &self.0)
            .is_ok()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// Makes the hash of a password: argon2id, with the parameters that are recommended today.
pub fn hash(password: &str) -> Result<String, String> {
    hash_with(&Argon2::default(), password)
}

fn hash_with(argon2: &Argon2<'_>, password: &str) -> Result<String, String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
    let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| error.to_string())?.to_string())
}

/// One that is quick to check, for tests.
#[cfg(test)]
pub(super) fn hash_cheaply(password: &str) -> String {
    let params = Params::new(64, 1, 1, None).unwrap();
    let argon2 = Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::default(),
        params,
    );
    hash_with(&argon2, password).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let text = hash("grüße").unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let known = Hash::new(&text).unwrap();
        assert!(known.verify("grüße"));
        assert!(!known.verify("grusse") && !known.verify(""));
        assert_ne!(text, hash("grüße").unwrap(), "salted");
        assert_eq!(format!("{known:?}"), "Hash");
    }

    /// Made by another program, the reference implementation of argon2, with other parameters.
    #[test]
    fn hashes_of_other_programs_are_understood() {
        for text in [
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
        ] {
            let hash = Hash::new(text).unwrap();
            assert!(
                hash.verify("password") && !hash.verify("Password"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_without_being_repeated() {
        for text in [
            "",
            "my real password",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
        ] {
            let error = Hash::new(text).unwrap_err();
            assert!(error.contains("is not a hash by argon2"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let huge = "$argon2id$v=19$m=1048576,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Hash::new(huge).unwrap_err().contains("too much"));
    }
}
