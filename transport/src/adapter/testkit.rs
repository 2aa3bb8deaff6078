//! What the tests of the in-process adapters share: events that outlive the ring, and a client's view of items.

use super::feed::FeedCommand;
use super::inbox::FeedInbox;
use engine::ids::ItemId;
use engine::ingest::event::AdapterEvent;

/// An [`AdapterEvent`] that owns its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Item, whether it is of the snapshot, fields.
    Update(u32, bool, Vec<(String, Option<String>)>),
    /// Item.
    EndOfSnapshot(u32),
    /// Item.
    ClearSnapshot(u32),
    /// Item, fields with letters.
    Differences(u32, Vec<(String, Option<String>)>),
    /// Item, and whether a snapshot comes.
    Subscribed(u32, bool),
}

impl Heard {
    /// An update, to compare with.
    pub(super) fn update(item: u32, snapshot: bool, fields: &[(&str, Option<&str>)]) -> Self {
        Self::Update(item, snapshot, own(fields))
    }
}

fn own(fields: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    let own =
        |(name, value): &(&str, Option<&str>)| (String::from(*name), value.map(ToOwned::to_owned));
    fields.iter().map(own).collect()
}

impl From<AdapterEvent<'_>> for Heard {
    fn from(event: AdapterEvent<'_>) -> Self {
        match event {
            AdapterEvent::Update {
                item: ItemId(item),
                snapshot,
                fields,
            } => Self::update(item, snapshot, fields),
            AdapterEvent::EndOfSnapshot { item } => Self::EndOfSnapshot(item.0),
            AdapterEvent::ClearSnapshot { item } => Self::ClearSnapshot(item.0),
            AdapterEvent::Differences { item, fields } => Self::Differences(item.0, own(fields)),
            AdapterEvent::Subscribed {
                item,
                snapshot_available,
            } => Self::Subscribed(item.0, snapshot_available),
        }
    }
}

/// The command to subscribe to an item.
pub(super) fn subscribe(item: u32, name: &str) -> FeedCommand {
    FeedCommand::Subscribe {
        item: ItemId(item),
        name: name.to_owned(),
        merging: None,
    }
}

/// All that has been committed.
pub(super) fn hear(inbox: &mut FeedInbox) -> Vec<Heard> {
    let mut heard = Vec::new();
    inbox.drain(usize::MAX, |event| heard.push(event.into()));
    heard
}
