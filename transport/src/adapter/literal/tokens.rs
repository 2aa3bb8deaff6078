//! Signed tokens in place of passwords: JWT, signed by whoever knows the users.
//!
//! | Claim | Meaning |
//! |---|---|
//! | `sub` | the user, who must log in by this name; required |
//! | `exp` | when the token expires, and with it the session; required |
//! | `nbf` | when it begins to be valid |
//! | `iss`, `aud` | must be those of the configuration, if it names any; a token for some `aud` is refused where none is named |
//! | `items` | patterns of the items that the user may have; all if it is missing |
//! | `max_frequency` | updates per second and item |
//! | `max_bandwidth` | kilobits per second |

use super::{Pattern, Rights};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Patterns in one token. (guess)
const PATTERNS_MAX: usize = 100;
/// Bytes of a secret for HS256, at least: as many as the signature has. (RFC 7518)
pub const SECRET_BYTES_MIN: usize = 32;

/// Which tokens are accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct TokensPlan {
    /// How they are signed.
    pub algorithm: TokenAlgorithm,
    /// The secret, or the public key as PEM.
    pub key: Key,
    /// Who must have issued them.
    pub issuer: Option<String>,
    /// For whom they must be.
    pub audience: Option<String>,
    /// By how much the clocks may differ.
    pub leeway: Duration,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenAlgorithm {
    /// By a secret that both sides know.
    #[serde(rename = "HS256")]
    Hs256,
    /// By a private key; this side has the public one (Ed25519).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A key, which is not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// What checks tokens.
pub(super) struct Tokens {
    key: DecodingKey,
    validation: Validation,
    leeway: Duration,
}

/// Whether a password looks like a token: three parts of letters that base64 has, with dots between.
pub(super) fn is_one(password: &str) -> bool {
    let mut parts = password.split('.');
    let mut part = || {
        parts.next().is_some_and(|part| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !part.is_empty() && part.bytes().all(plain)
        })
    };
    part() && part() && part() && parts.next().is_none()
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    items: Option<Vec<String>>,
    max_frequency: Option<f64>,
    max_bandwidth: Option<f64>,
}

impl Tokens {
    /// The error says what is wrong with the key.
    pub fn new(plan: &TokensPlan) -> Result<Self, String> {
        let (algorithm, key) = match plan.algorithm {
            TokenAlgorithm::Hs256 if plan.key.0.len() < SECRET_BYTES_MIN => {
                return Err(format!(
                    "a secret for HS256 has at least {SECRET_BYTES_MIN} bytes, this one {}",
                    plan.key.0.len()
                ));
            }
            TokenAlgorithm::Hs256 => (Algorithm::HS256, DecodingKey::from_secret(&plan.key.0)),
            TokenAlgorithm::EdDsa => {
                let key = DecodingKey::from_ed_pem(&plan.key.0).map_err(|_| {
                    "is not a public key for EdDSA (Ed25519) in PEM format".to_owned()
                })?;
                (Algorithm::EdDSA, key)
            }
        };
        let mut validation = Validation::new(algorithm);
        // Times may have fractions, which the library does not read where numbers are kept as they are written
        // (serde_json's `arbitrary_precision`): they are compared here.
        validation.validate_exp = false;
        let mut required = vec!["sub"];
        if let Some(issuer) = &plan.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &plan.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self {
            key,
            validation,
            leeway: plan.leeway,
        })
    }

    /// What a user may have by a token, or why it is not accepted.
    pub fn check(&self, user: &str, token: &str) -> Result<Rights, String> {
        let token = decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| error.to_string())?;
        let claims = token.claims;
        if claims.sub != user {
            return Err("it is another user's".into());
        }
        let (now, leeway) = (
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
            self.leeway.as_secs_f64(),
        );
        if claims.exp + leeway <= now {
            return Err("it has expired".into());
        }
        if claims.nbf.is_some_and(|begins| begins - leeway > now) {
            return Err("it is not valid yet".into());
        }
        let limit = |name: &str, value: Option<f64>| match value {
            Some(value) if !(value > 0.0 && value.is_finite()) => {
                Err(format!("{name} is {value}, which is no limit"))
            }
            value => Ok(value),
        };
        let items = match claims.items {
            Some(items) if items.len() > PATTERNS_MAX => {
                return Err(format!("it has more than {PATTERNS_MAX} patterns of items"));
            }
            Some(items) => {
                let patterns = items.iter().map(|item| Pattern::new(item));
                Some(patterns.collect::<Result<_, _>>()?)
            }
            None => None,
        };
        // It may be a time that no clock here will show.
        let expires = Duration::try_from_secs_f64(claims.exp).ok();
        let until = expires.and_then(|expires| UNIX_EPOCH.checked_add(expires + self.leeway));
        Ok(Rights {
            items,
            max_frequency: limit("max_frequency", claims.max_frequency)?,
            max_bandwidth: limit("max_bandwidth", claims.max_bandwidth)?,
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, Engine};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// The first pair of keys in the specification of Ed25519 (RFC 8032), which is nobody's.
    const PRIVATE: [u8; 32] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    const PUBLIC: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07,
        0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07,
        0x51, 0x1a,
    ];

    fn seconds_since_1970() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }

    fn pem(kind: &str, prefix: &[u8], key: &[u8]) -> Vec<u8> {
        let body = BASE64_STANDARD.encode([prefix, key].concat());
        format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n").into_bytes()
    }

    fn public_pem() -> Vec<u8> {
        let prefix = [
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
        ];
        pem("PUBLIC KEY", &prefix, &PUBLIC)
    }

    fn plan(algorithm: TokenAlgorithm, key: &[u8]) -> TokensPlan {
        TokensPlan {
            algorithm,
            key: Key(key.to_vec()),
            issuer: None,
            audience: None,
            leeway: Duration::ZERO,
        }
    }

    fn claims(more: &[(&str, Value)]) -> Value {
        let mut claims = json!({"sub": "ann", "exp": seconds_since_1970() + 3600});
        for (name, value) in more {
            claims[name] = value.clone();
        }
        claims
    }

    fn token(claims: &Value) -> String {
        let key = EncodingKey::from_secret(SECRET);
        encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    }

    fn check(plan: &TokensPlan, claims: &Value) -> Result<Rights, String> {
        Tokens::new(plan).unwrap().check("ann", &token(claims))
    }

    #[test]
    fn a_good_token_grants_what_it_says_until_it_expires() {
        let plan = plan(TokenAlgorithm::Hs256, SECRET);
        let rights = check(&plan, &claims(&[])).unwrap();
        assert_eq!((rights.items, rights.max_frequency), (None, None));
        let until = rights.until.unwrap();
        let left = until.duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000));
        let fraction = claims(&[("exp", json!(seconds_since_1970() as f64 + 0.5 + 3600.0))]);
        assert!(check(&plan, &fraction).is_ok());
        let more = [
            ("items", json!(["item[0-9]+", "news"])),
            ("max_frequency", json!(2)),
            ("max_bandwidth", json!(50.5)),
        ];
        let rights = check(&plan, &claims(&more)).unwrap();
        let items = rights.items.unwrap();
        assert!(items[0].matches("item7") && !items[0].matches("item"));
        assert_eq!(
            (rights.max_frequency, rights.max_bandwidth),
            (Some(2.0), Some(50.5))
        );
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        let plan = plan(TokenAlgorithm::Hs256, SECRET);
        let now = seconds_since_1970();
        for (name, value, reason) in [
            ("exp", json!(now), "it has expired"),
            ("exp", json!(now as f64 - 0.5), "it has expired"),
            ("nbf", json!(now + 3600), "not valid yet"),
            ("exp", Value::Null, "invalid type: null"),
            ("exp", json!("soon"), "invalid type: string"),
            ("sub", json!("bob"), "another user"),
            ("sub", Value::Null, "invalid type: null"),
            ("aud", json!("another server"), "InvalidAudience"),
            ("items", json!(["a["]), "unclosed character class"),
            ("items", json!(vec!["a"; 101]), "more than 100"),
            ("items", json!("a"), "invalid type"),
            ("max_frequency", json!(0), "no limit"),
            ("max_bandwidth", json!(-1), "no limit"),
        ] {
            let error = check(&plan, &claims(&[(name, value.clone())])).unwrap_err();
            assert!(error.contains(reason), "{name} = {value}: {error}");
        }
        for missing in ["exp", "sub"] {
            let mut claims = claims(&[]);
            claims.as_object_mut().unwrap().remove(missing);
            let error = check(&plan, &claims).unwrap_err();
            assert!(error.contains(missing), "{missing}: {error}");
        }
    }

    #[test]
    fn issuer_and_audience_must_be_there_if_they_are_asked_for() {
        let mut plan = plan(TokenAlgorithm::Hs256, SECRET);
        plan.issuer = Some("login".into());
        plan.audience = Some("shop".into());
        let (iss, aud) = (("iss", json!("login")), ("aud", json!(["shop", "x"])));
        assert!(check(&plan, &claims(&[iss.clone(), aud.clone()])).is_ok());
        assert!(check(&plan, &claims(std::slice::from_ref(&iss))).is_err());
        assert!(check(&plan, &claims(&[aud])).is_err());
        assert!(check(&plan, &claims(&[iss, ("aud", json!("other"))])).is_err());
    }

    #[test]
    fn clocks_may_differ_by_the_leeway() {
        let mut plan = plan(TokenAlgorithm::Hs256, SECRET);
        plan.leeway = Duration::from_secs(600);
        let claims = claims(&[("exp", json!(seconds_since_1970() - 30))]);
        let until = check(&plan, &claims).unwrap().until.unwrap();
        assert!(until > SystemTime::now());
    }

    #[test]
    fn only_the_signature_of_the_configuration_counts() {
        let tokens = Tokens::new(&plan(TokenAlgorithm::Hs256, SECRET)).unwrap();
        let good = token(&claims(&[]));
        assert!(tokens.check("ann", &good).is_ok());
        let (signed, _) = good.rsplit_once('.').unwrap();
        assert!(tokens.check("ann", &format!("{signed}.AAAA")).is_err());
        // "none", and a shared secret that is the public key: the oldest tricks.
        let none = BASE64_STANDARD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let (_, body) = signed.split_once('.').unwrap();
        let none = none.trim_end_matches('=');
        assert!(tokens.check("ann", &format!("{none}.{body}.AAAA")).is_err());
        let public = public_pem();
        let by_public = EncodingKey::from_secret(&public);
        let forged = encode(&Header::new(Algorithm::HS256), &claims(&[]), &by_public).unwrap();
        let tokens = Tokens::new(&plan(TokenAlgorithm::EdDsa, &public)).unwrap();
        assert!(tokens.check("ann", &forged).is_err());
        assert!(tokens.check("ann", &good).is_err());
    }

    #[test]
    fn a_private_key_signs_and_the_public_one_checks() {
        let prefix = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let private = pem("PRIVATE KEY", &prefix, &PRIVATE);
        let key = EncodingKey::from_ed_pem(&private).unwrap();
        let signed = encode(&Header::new(Algorithm::EdDSA), &claims(&[]), &key).unwrap();
        let tokens = Tokens::new(&plan(TokenAlgorithm::EdDsa, &public_pem())).unwrap();
        assert!(tokens.check("ann", &signed).is_ok());
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let error = |algorithm, key: &[u8]| Tokens::new(&plan(algorithm, key)).err().unwrap();
        assert!(error(TokenAlgorithm::Hs256, b"short").contains("at least 32 bytes, this one 5"));
        assert!(error(TokenAlgorithm::EdDsa, b"no pem").contains("not a public key"));
        assert!(error(TokenAlgorithm::EdDsa, SECRET).contains("not a public key"));
        assert_eq!(format!("{:?}", Key(SECRET.to_vec())), "Key");
    }

    #[test]
    fn a_token_is_told_from_a_password() {
        assert!(is_one("eyJhbGciOi.eyJzdWIi.c2ln_-"));
        for password in [
            "", "secret", "a.b", "a.b.", "a.b.c.d", "a b.c.d", "ä.b.c", "..", "a.b.c=",
        ] {
            assert!(!is_one(password), "{password}");
        }
    }
}
