//! What a key's value may be: read the same from a file, from a flag, and by another process.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use engine::tlcp::request::{BufferSize, Frequency};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::is_no_name;

/// At a moment of the window, a share of the connections breaks. Their clients come back at once and recover.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// Seconds from the beginning of the window.
    pub at: f64,
    /// Of all sessions, 0 to 1.
    pub share: f64,
    /// Whether clients recover their sessions; if not they open new ones (`:new` in a flag).
    #[serde(default = "yes")]
    pub recover: bool,
}

fn yes() -> bool {
    true
}

impl FromStr for Storm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (at, share) = text.split_once(':')?;
            let (share, recover) = match share.strip_suffix(":new") {
                Some(share) => (share, false),
                None => (share, true),
            };
            let storm = Self {
                at: at.parse().ok()?,
                share: share.parse().ok()?,
                recover,
            };
            storm.is_sane().then_some(storm)
        };
        parse().ok_or_else(|| "a storm is S:SHARE, such as 5:0.5, or S:SHARE:new".into())
    }
}

impl Storm {
    pub(super) fn is_sane(self) -> bool {
        (0.0..=86_400.0).contains(&self.at) && self.share > 0.0 && self.share <= 1.0
    }
}

/// Names of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Items(pub Vec<String>);

/// `LS_requested_max_frequency`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxFrequency(pub Frequency);

/// `LS_requested_buffer_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer(pub BufferSize);

/// A number of seconds from 0 to a day.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Seconds(pub f64);

/// A rate above zero; below the upper end so that intervals are not zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

/// A rate, or none at all: so that a flag can take back what a file says.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RateOrNone(pub Option<f64>);

/// Ranges longer than this are slips of the keyboard: what is kept per session and item would not fit any machine.
const ITEMS_MAX: u64 = 1_000_000;

impl FromStr for Items {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((from, to)) = text.split_once("..") {
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|_| format!("'{text}' is not a number"))
            };
            let (from, to) = (number(from)?, number(to)?);
            if from > to || to - from >= ITEMS_MAX {
                return Err(format!(
                    "a range goes up, and over at most {ITEMS_MAX} items"
                ));
            }
            return Ok(Self(
                (from..=to).map(|number| format!("item{number}")).collect(),
            ));
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        // A group is a list of names with blanks between them.
        if names.iter().any(|name| is_no_name(name)) {
            return Err("a name of an item is not empty and has no blanks".into());
        }
        Ok(Self(names))
    }
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |name: &String| name.strip_prefix("item")?.parse::<u64>().ok();
        if let (Some(from), Some(to)) = (
            self.0.first().and_then(number),
            self.0.last().and_then(number),
        ) && self.0.len() > 1
            && (from..=to)
                .map(|number| format!("item{number}"))
                .eq(self.0.iter().cloned())
        {
            return write!(f, "{from}..{to}");
        }
        f.write_str(&self.0.join(","))
    }
}

impl FromStr for MaxFrequency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self(Frequency::Unlimited)),
            "unfiltered" => Ok(Self(Frequency::Unfiltered)),
            _ => Ok(Self(Frequency::Limited(text.parse::<Rate>()?.0))),
        }
    }
}

impl fmt::Display for MaxFrequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Frequency::Unlimited => f.write_str("unlimited"),
            Frequency::Unfiltered => f.write_str("unfiltered"),
            Frequency::Limited(hz) => write!(f, "{hz}"),
        }
    }
}

impl FromStr for Buffer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self(BufferSize::Unlimited)),
            _ => text
                .parse()
                .map(|events| Self(BufferSize::Events(events)))
                .map_err(|_| "a buffer is a number of events, or unlimited".into()),
        }
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            BufferSize::Unlimited => f.write_str("unlimited"),
            BufferSize::Events(events) => write!(f, "{events}"),
        }
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const DAY_S: f64 = 86_400.0;
        text.parse::<f64>()
            .ok()
            .filter(|seconds| (0.0..=DAY_S).contains(seconds))
            .map(Self)
            .ok_or_else(|| "a number of seconds from 0 to 86400".into())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Seconds {
    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>()
            .ok()
            .filter(|rate| (0.001..=1e10).contains(rate))
            .map(Self)
            .ok_or_else(|| "a rate is a number from 0.001 to 1e10".into())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RateOrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => rate.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for RateOrNone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => text
                .parse::<Rate>()
                .map(|rate| Self(Some(rate.0)))
                .map_err(|error| error + ", or none"),
        }
    }
}

/// A word or a number of a file, which is then read as a flag's value would be.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Integer(i64),
    Number(f64),
    Text(String),
}

/// Files have what flags have, in the same words.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match Word::deserialize(deserializer)? {
                    Word::Integer(number) => number.to_string(),
                    Word::Number(number) => number.to_string(),
                    Word::Text(text) => text,
                };
                text.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
as_text!(Items, MaxFrequency, Buffer, Seconds, Rate, RateOrNone);
