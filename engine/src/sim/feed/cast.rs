//! Who plays: the items of a run, and what the metadata adapter says of them. Everything stands in an item's name, so a
//! trace explains itself: `d7-snap3-src2` is item 7, for DISTINCT, with snapshots of three events, thinned out to 2 Hz.

use super::values::BYTES_MAX;
use crate::item::safe::TradeSafe;
use crate::metadata::GrantedItem;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Mode;

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The mode that it is made for. RAW goes with each.
    pub mode: Mode,
    /// The data adapter has no snapshot of it.
    pub live: bool,
    /// Events that make up its snapshot (DISTINCT).
    pub snapshot_length: u32,
    /// Updates per second that a client may have.
    pub frequency_max: Option<f64>,
    /// Events that may wait for a client.
    pub buffer_size_max: Option<u32>,
    /// Updates per second to which it is thinned out.
    pub source_frequency_max: Option<f64>,
    /// Its events are trade-safe (MERGE and DISTINCT).
    pub safe: bool,
}

/// A field of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The number of the event in the item's history: which event an update shows.
    Number,
    /// The key of a row.
    Key,
    /// What happens to the row.
    Command,
    /// Any other.
    Plain(usize),
    /// One that does not exist.
    Unknown,
}

/// Plain fields that an item has in the end.
pub const FIELDS: usize = 8;
/// The largest record, with the names of its fields before it: no ring may be smaller.
pub const RECORD_BYTES_MAX: usize = (FIELDS + 3) * (BYTES_MAX + 20) + 2 * 32;

impl Role {
    /// Some item with this number.
    pub fn some(number: usize, rng: &mut fastrand::Rng) -> Self {
        let mode = match rng.u8(..20) {
            0..8 => Mode::Merge,
            8..12 => Mode::Distinct,
            12..17 => Mode::Command,
            _ => Mode::Raw,
        };
        let mut role = Self {
            name: String::new(),
            mode,
            live: rng.u8(..3) == 0,
            snapshot_length: [0, 1, 3, 10, 30][rng.usize(..5)],
            frequency_max: (rng.u8(..6) == 0).then(|| [0.5, 2.0, 10.0][rng.usize(..3)]),
            buffer_size_max: (rng.u8(..6) == 0).then(|| rng.u32(1..6)),
            source_frequency_max: (rng.u8(..6) == 0).then(|| [1.0, 5.0, 20.0][rng.usize(..3)]),
            safe: rng.u8(..6) == 0,
        };
        if mode != Mode::Distinct {
            role.snapshot_length = 0;
        }
        if !matches!(mode, Mode::Merge | Mode::Distinct) {
            (role.source_frequency_max, role.buffer_size_max) = (None, None);
            role.safe = false;
        }
        if mode == Mode::Raw {
            role.frequency_max = None;
        }
        role.name = role.spell(number);
        role
    }

    fn spell(&self, number: usize) -> String {
        let letter = match self.mode {
            Mode::Merge => 'm',
            Mode::Distinct => 'd',
            Mode::Command => 'c',
            Mode::Raw => 'r',
        };
        let mut name = format!("{letter}{number}");
        let mut add = |what: &str, value: Option<String>| {
            if let Some(value) = value {
                name.push_str(&format!("-{what}{value}"));
            }
        };
        add("live", self.live.then(String::new));
        let snaps = self.mode == Mode::Distinct;
        add("snap", snaps.then(|| self.snapshot_length.to_string()));
        add("max", self.frequency_max.map(|hz| hz.to_string()));
        add("buf", self.buffer_size_max.map(|size| size.to_string()));
        add("src", self.source_frequency_max.map(|hz| hz.to_string()));
        add("safe", self.safe.then(String::new));
        name
    }

    /// Reads an item's name.
    pub fn read(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let mode = match parts.next()?.as_bytes().first()? {
            b'm' => Mode::Merge,
            b'd' => Mode::Distinct,
            b'c' => Mode::Command,
            b'r' => Mode::Raw,
            _ => return None,
        };
        let mut role = Self {
            name: name.to_owned(),
            mode,
            live: false,
            snapshot_length: 0,
            frequency_max: None,
            buffer_size_max: None,
            source_frequency_max: None,
            safe: false,
        };
        for part in parts {
            if part == "live" {
                role.live = true;
            } else if part == "safe" {
                role.safe = true;
            } else if let Some(length) = part.strip_prefix("snap") {
                role.snapshot_length = length.parse().ok()?;
            } else if let Some(hz) = part.strip_prefix("max") {
                role.frequency_max = Some(hz.parse().ok()?);
            } else if let Some(size) = part.strip_prefix("buf") {
                role.buffer_size_max = Some(size.parse().ok()?);
            } else {
                role.source_frequency_max = Some(part.strip_prefix("src")?.parse().ok()?);
            }
        }
        Some(role)
    }
}

/// What the metadata adapter says of an item.
pub fn grant(item: &mut GrantedItem, mode: Mode) -> Result<(), Refusal> {
    let role = Role::read(&item.name).ok_or_else(Refusal::bad_group)?;
    if mode != Mode::Raw && mode != role.mode {
        return Err(Refusal::mode_not_allowed());
    }
    item.frequency_max = role.frequency_max;
    item.buffer_size_max = role.buffer_size_max;
    item.source_frequency_max = role.source_frequency_max;
    item.snapshot_length = role.snapshot_length;
    if role.safe {
        item.trade_safe = TradeSafe::Everything;
    }
    Ok(())
}

/// Whether the data adapter has a snapshot of an item.
pub fn has_snapshot(name: &str) -> bool {
    Role::read(name).is_some_and(|role| !role.live)
}

impl Field {
    /// The field's name.
    pub fn name(self) -> String {
        match self {
            Field::Number => "n".into(),
            Field::Key => "key".into(),
            Field::Command => "command".into(),
            Field::Plain(number) => format!("f{number}"),
            Field::Unknown => "nowhere".into(),
        }
    }

    /// Some fields, with these among them.
    pub fn some_schema(rng: &mut fastrand::Rng, needed: &[Field]) -> Vec<Field> {
        let mut fields: Vec<Field> = (0..FIELDS).map(Field::Plain).collect();
        fields.push(Field::Unknown);
        rng.shuffle(&mut fields);
        fields.truncate(rng.usize(1..=fields.len()));
        for field in needed {
            fields.insert(rng.usize(..=fields.len()), *field);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_the_item_is() {
        let mut rng = fastrand::Rng::with_seed(1);
        for number in 0..500 {
            let role = Role::some(number, &mut rng);
            assert_eq!(Role::read(&role.name), Some(role));
        }
        assert_eq!(Role::read("x1"), None);
        assert!(has_snapshot("m1") && !has_snapshot("m1-live-max0.5"));
    }
}
