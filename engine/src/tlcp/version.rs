//! The protocol version a client speaks, and what may not be used towards older ones.

use crate::text::parse_integer;

/// A version of TLCP. A session keeps that of its creation for all it writes, even when it is bound again by a client
/// that names another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Incompatible changes.
    pub major: u8,
    /// Additions.
    pub minor: u8,
    /// No change of the protocol.
    pub sub: u8,
}

/// The wording in which a session's client is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// TLCP, whatever its version.
    #[default]
    Tlcp,
    /// The text protocol before it: see [`legacy`](super::legacy).
    Legacy,
}

impl Version {
    /// The text protocol before TLCP, which had no version on the wire. No `LS_protocol` leads to it, only its absence.
    pub const LEGACY: Version = Version {
        major: 0,
        minor: 0,
        sub: 0,
    };

    /// The newest version that this server speaks.
    pub const LATEST: Version = Version {
        major: 2,
        minor: 5,
        sub: 0,
    };

    /// Reads `TLCP-2.5.0`, the value of `LS_protocol`.
    pub fn parse(text: &str) -> Option<Version> {
        let mut numbers = text
            .strip_prefix("TLCP-")?
            .split('.')
            .map(|number| parse_integer(number)?.try_into().ok());
        let version = Version {
            major: numbers.next()??,
            minor: numbers.next()??,
            sub: numbers.next()??,
        };
        numbers.next().is_none().then_some(version)
    }

    /// Reads `TLCP-2.5.0.lightstreamer.com`, the name of a WebSocket subprotocol.
    pub fn parse_subprotocol(text: &str) -> Option<Version> {
        Version::parse(text.strip_suffix(".lightstreamer.com")?)
    }

    /// Whether this server speaks it: 2, of any minor and sub-minor. Minor versions only add to the protocol, and a client
    /// that knows of more than this server gets on without, so newer ones are served as [`Version::LATEST`].
    pub fn is_supported(self) -> bool {
        self.major == Self::LATEST.major
    }

    /// The wording that goes with it.
    #[inline]
    pub fn dialect(self) -> Dialect {
        if self == Version::LEGACY {
            Dialect::Legacy
        } else {
            Dialect::Tlcp
        }
    }

    /// Since 2.1 a broken connection can be recovered; an older client's session ends with its connection.
    pub fn has_recovery(self) -> bool {
        self.is_at_least(2, 1)
    }

    /// Since 2.2 a client tries again after `CONERR` 5 and 6; an older one gives up for good.
    pub fn retries_when_overloaded(self) -> bool {
        self.is_at_least(2, 2)
    }

    /// Since 2.4 a field may be sent as a difference to its previous value.
    pub fn has_diffs(self) -> bool {
        self.is_at_least(2, 4)
    }

    /// Since 2.5 `MSGDONE` carries the adapter's response; older clients count the arguments.
    pub fn has_message_response(self) -> bool {
        self.is_at_least(2, 5)
    }

    fn is_at_least(self, major: u8, minor: u8) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_three_numbers() {
        assert_eq!(Version::parse("TLCP-2.5.0"), Some(Version::LATEST));
        assert_eq!(
            Version::parse("TLCP-2.1.17"),
            Some(Version {
                major: 2,
                minor: 1,
                sub: 17
            })
        );
        for bad in [
            "",
            "TLCP-",
            "TLCP-2.5",
            "TLCP-2.5.0.0",
            "TLCP-2.5.x",
            "TLCP-2.+5.0",
            "TLCP-2.500.0",
            "tlcp-2.5.0",
            "2.5.0",
        ] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_subprotocol_has_the_domain_behind_it() {
        assert_eq!(
            Version::parse_subprotocol("TLCP-2.5.0.lightstreamer.com"),
            Some(Version::LATEST)
        );
        for bad in [
            "TLCP-2.5.0",
            "js.lightstreamer.com",
            "TLCP-2.5.0.lightstreamer.com ",
            "TLCP-2.5.lightstreamer.com",
        ] {
            assert_eq!(Version::parse_subprotocol(bad), None, "{bad}");
        }
    }

    #[test]
    fn all_minor_versions_of_two_are_supported() {
        let supported = |text| Version::parse(text).unwrap().is_supported();
        assert!(supported("TLCP-2.0.0") && supported("TLCP-2.5.9") && supported("TLCP-2.9.0"));
        assert!(!supported("TLCP-1.9.0") && !supported("TLCP-3.0.0"));
    }

    #[test]
    fn features_arrive_with_their_versions() {
        let features = |minor| {
            let version = Version {
                major: 2,
                minor,
                sub: 3,
            };
            [
                version.has_recovery(),
                version.retries_when_overloaded(),
                version.has_diffs(),
                version.has_message_response(),
            ]
        };
        assert_eq!(features(0), [false; 4]);
        assert_eq!(features(1), [true, false, false, false]);
        assert_eq!(features(2), [true, true, false, false]);
        assert_eq!(features(4), [true, true, true, false]);
        assert_eq!(features(5), [true; 4]);
        assert_eq!(features(9), [true; 4]);
        assert!(
            Version {
                major: 2,
                minor: 4,
                sub: 9
            } < Version::LATEST
        );
    }
}
