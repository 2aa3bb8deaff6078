//! The built-in metadata adapter: a group is its items' names, a schema is its fields' names, and the rules come
//! from the configuration.

use super::GrantedItem;
use crate::text::equal_in_constant_time;
use crate::tlcp::cause::Refusal;
use crate::tlcp::request::Mode;

/// Rules of one adapter set.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// The modes in which items may be subscribed to.
    pub modes: Vec<Mode>,
    /// Updates per second and item that any client may have; `None` is no limit.
    pub frequency_max: Option<f64>,
    /// Events that may wait for any client and item (MERGE and DISTINCT); `None` is no limit but the server's.
    pub buffer_size_max: Option<u32>,
    /// Updates per second to which each item is thinned out for everybody; `None` leaves items alone.
    pub source_frequency_max: Option<f64>,
    /// Events that make up the snapshot of an item in DISTINCT mode, at most.
    pub snapshot_length: u32,
    /// Who may open a session; `None` lets everybody in, with or without a name.
    pub users: Option<Vec<(Box<str>, Box<str>)>>,
}

/// Length of DISTINCT snapshots unless told otherwise: that of the reference product's adapter of this kind.
const SNAPSHOT_LENGTH: u32 = 10;

impl Default for Literal {
    /// Everybody may subscribe to everything, in every mode and without limits.
    fn default() -> Self {
        Self {
            modes: vec![Mode::Raw, Mode::Merge, Mode::Distinct, Mode::Command],
            frequency_max: None,
            buffer_size_max: None,
            source_frequency_max: None,
            snapshot_length: SNAPSHOT_LENGTH,
            users: None,
        }
    }
}

impl Literal {
    /// Lets a user in, or not.
    pub fn open_session(&self, user: Option<&str>, password: Option<&str>) -> Result<(), Refusal> {
        let Some(users) = &self.users else {
            return Ok(());
        };
        let known = |(name, secret): &(Box<str>, Box<str>)| {
            Some(&**name) == user && equal_in_constant_time(secret, password.unwrap_or_default())
        };
        if users.iter().any(known) {
            Ok(())
        } else {
            Err(Refusal::authentication_failed())
        }
    }

    /// The items of a group: names with blanks between. A group without items is legal.
    pub fn items(&self, group: &str, mode: Mode) -> Result<Vec<GrantedItem>, Refusal> {
        if !self.modes.contains(&mode) {
            return Err(Refusal::mode_not_allowed());
        }
        let item = |name: &str| GrantedItem {
            name: name.into(),
            frequency_max: self.frequency_max,
            buffer_size_max: self.buffer_size_max,
            source_frequency_max: self.source_frequency_max,
            snapshot_length: self.snapshot_length,
            ..GrantedItem::default()
        };
        Ok(group.split_ascii_whitespace().map(item).collect())
    }

    /// The fields of a schema: names with blanks between, at least one.
    pub fn fields(&self, schema: &str) -> Result<Vec<Box<str>>, Refusal> {
        let fields: Vec<Box<str>> = schema.split_ascii_whitespace().map(Into::into).collect();
        if fields.is_empty() {
            Err(Refusal::bad_schema())
        } else {
            Ok(fields)
        }
    }
}
