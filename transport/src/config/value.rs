//! Sizes and durations as configuration files write them: text with a unit, such as `"8KiB"` and `"30ms"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes: `"1500B"`, `"8KiB"` (1,024 bytes each), `"8kB"` (1,000 bytes each).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time: `"50us"`, `"30ms"`, `"5s"`, `"2m"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Size {
    /// `count` times 1,024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` times 1,048,576 bytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As a length in memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Time {
    /// `count` seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// `count` microseconds.
    pub const fn micros(count: u64) -> Self {
        Self(Duration::from_micros(count))
    }
}

impl fmt::Display for Size {
    /// In the largest unit that gives a whole number, so that what is printed can be read back exactly.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let whole = self.0 >> shift;
            if whole > 0 && whole << shift == self.0 {
                return write!(formatter, "{whole}{unit}");
            }
        }
        write!(formatter, "{}B", self.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(formatter)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let reason = || {
            format!(
                "`{text}` is not a size: write a number and a unit, such as \"8KiB\" or \"1500B\""
            )
        };
        // The library also reads "8" and "8K"; here everybody shall see at once what was meant.
        if !text.ends_with(['b', 'B']) {
            return Err(reason());
        }
        text.parse::<ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| reason())
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| {
            format!(
                "`{text}` is not a duration: write a number and a unit, such as \"30ms\" or \"5s\""
            )
        })
    }
}

/// Both are strings in the file, read and written alike.
macro_rules! as_text {
    ($Type:ident, $expecting:literal) => {
        impl Serialize for $Type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $Type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $Type;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$Type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

as_text!(Size, "a size with a unit, such as \"8KiB\"");
as_text!(Time, "a duration with a unit, such as \"30ms\"");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_need_a_unit_and_mean_what_they_say() {
        for (text, bytes) in [
            ("0B", 0),
            ("1500B", 1500),
            ("8KiB", 8192),
            ("8kB", 8000),
            ("1.5MiB", 3 << 19),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "8", "8K", "KiB", "B", "-8KiB", "8KiBs", "8 zB"] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.contains("8KiB"), "{text}: {error}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_mean_what_they_say() {
        for (text, micros) in [
            ("50us", 50),
            ("30ms", 30_000),
            ("5s", 5_000_000),
            ("1m 30s", 90_000_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Time::micros(micros)), "{text}");
        }
        for text in ["", "30", "ms", "-1s", "5 parsecs"] {
            let error = text.parse::<Time>().unwrap_err();
            assert!(error.contains("30ms"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in 0..1u64 << 50, shift in 0..30u32, nanos in 0..u64::MAX) {
            for size in [Size(bytes), Size(bytes >> shift << shift)] {
                // The library computes in floating point above 2^53; no size of ours comes near.
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
            let time = Time(Duration::from_nanos(nanos));
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
