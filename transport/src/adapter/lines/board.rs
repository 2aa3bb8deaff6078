//! What is known of the items, who wants it, and what a line changes.

use super::ITEMS_MAX;
use crate::adapter::feed::{Feed, FeedCommand, FeedError};
use crate::adapter::line_format::{self, Said};
use engine::ids::ItemId;
use engine::limits::Limits;
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

/// What is known, and who wants it.
pub(super) struct Board {
    feed: Feed,
    items: HashMap<String, Item>,
    /// Names by the numbers of their subscriptions.
    names: HashMap<ItemId, String>,
    refused_items: u64,
}

#[derive(Default)]
struct Item {
    subscription: Option<ItemId>,
    /// Subscribed before anything was known: the first line is the snapshot.
    awaits_snapshot: bool,
    /// The latest value of each field, in the order of their first appearance.
    row: Vec<(String, Option<String>)>,
    /// Bytes of the row, as the engine counts them.
    bytes: usize,
}

/// A publisher.
pub(super) struct Publisher<'a> {
    who: &'a str,
    /// The beginning of a line whose end is still to come.
    pub rest: Vec<u8>,
    /// It has been told of in the log.
    complained: bool,
}

impl<'a> Publisher<'a> {
    pub fn new(who: &'a str) -> Self {
        Self {
            who,
            rest: Vec::new(),
            complained: false,
        }
    }
}

enum Trouble {
    /// The adapter shall stop.
    Stopped,
    /// The line makes no sense.
    Line(&'static str),
}

impl From<FeedError> for Trouble {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Stopped => Self::Stopped,
            FeedError::TooLarge { .. } => Self::Line("it is too large for the feed"),
            FeedError::Full => Self::Line("there is no room"), // not met: the feed insists
        }
    }
}

impl Board {
    pub fn new(feed: Feed) -> Self {
        Self {
            feed,
            items: HashMap::new(),
            names: HashMap::new(),
            refused_items: 0,
        }
    }

    /// Carries out what ingest wants; whether that is to stop.
    pub fn obey(&mut self) -> bool {
        while let Some(command) = self.feed.next_command(Some(Instant::now())) {
            match command {
                FeedCommand::Stop => return true,
                FeedCommand::Subscribe { item, name, .. } => {
                    if let Err(FeedError::Stopped) = self.subscribe(item, name) {
                        return true;
                    }
                }
                FeedCommand::Unsubscribe { item } => self.unsubscribe(item),
            }
        }
        self.feed.commit();
        false
    }

    fn subscribe(&mut self, id: ItemId, name: String) -> Result<(), FeedError> {
        self.names.insert(id, name.clone());
        let item = self.items.entry(name).or_default();
        item.subscription = Some(id);
        item.awaits_snapshot = item.row.is_empty();
        if item.awaits_snapshot {
            return Ok(());
        }
        let row = &item.row;
        let told = self
            .feed
            .insist(|feed| feed.update_from(id, true, borrowed(row)));
        if let Err(error @ FeedError::TooLarge { .. }) = &told {
            tracing::warn!("line feed: an item has no snapshot: {error}"); // the ring is very small
        } else {
            told?;
        }
        self.feed.insist(|feed| feed.end_of_snapshot(id))
    }

    fn unsubscribe(&mut self, id: ItemId) {
        let Some(name) = self.names.remove(&id) else {
            return;
        };
        let Some(item) = self.items.get_mut(&name) else {
            return;
        };
        // The same name may have been subscribed anew meanwhile.
        item.subscription
            .take_if(|subscription| *subscription == id);
        if item.row.is_empty() && item.subscription.is_none() {
            self.items.remove(&name);
        }
    }

    /// Takes what a publisher has sent. What was subscribed before that came wants all of it, so it goes first.
    pub fn hear(&mut self, bytes: &[u8], publisher: &mut Publisher<'_>) -> Result<(), ()> {
        if self.obey() {
            return Err(());
        }
        self.take_all(bytes, publisher)
    }

    /// Takes what a publisher has sent, line by line. The error is that the adapter shall stop.
    fn take_all(&mut self, bytes: &[u8], publisher: &mut Publisher<'_>) -> Result<(), ()> {
        let mut bytes = bytes;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, behind) = (&bytes[..end], &bytes[end + 1..]);
            let taken = if publisher.rest.is_empty() {
                self.take(line)
            } else {
                let mut whole = std::mem::take(&mut publisher.rest);
                whole.extend_from_slice(line);
                self.take(&whole)
            };
            match taken {
                Ok(()) => {}
                Err(Trouble::Stopped) => return Err(()),
                Err(Trouble::Line(reason)) => {
                    if !std::mem::replace(&mut publisher.complained, true) {
                        tracing::warn!(
                            "line feed: a line of publisher {} is skipped: {reason}; further ones are not told",
                            publisher.who
                        );
                    }
                }
            }
            bytes = behind;
        }
        publisher.rest.extend_from_slice(bytes);
        self.feed.commit();
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Trouble> {
        let (name, fields) = match line_format::read(line).map_err(Trouble::Line)? {
            Said::Nothing => return Ok(()),
            Said::Update { item, fields } => (item, Some(fields)),
            Said::Clear { item } => (item, None),
        };
        if !self.items.contains_key(&*name) {
            if fields.is_none() {
                return Ok(()); // nothing is known of it
            }
            if self.items.len() >= ITEMS_MAX {
                self.refused_items += 1;
                if self.refused_items == 1 {
                    tracing::warn!("line feed: there are more than {ITEMS_MAX} items");
                }
                return Ok(());
            }
            self.items
                .insert(name.clone().into_owned(), Item::default());
        }
        let item = self.items.get_mut(&*name).expect("just found or inserted");
        let Some(fields) = fields else {
            item.row.clear();
            item.bytes = 0;
            return match item.subscription.filter(|_| !item.awaits_snapshot) {
                Some(id) => Ok(self.feed.insist(|feed| feed.clear_snapshot(id))?),
                None => Ok(()),
            };
        };
        item.must_hold(&fields).map_err(Trouble::Line)?;
        for (name, value) in &fields {
            item.set(name, value.as_deref());
        }
        let Some(id) = item.subscription else {
            return Ok(());
        };
        let first = std::mem::take(&mut item.awaits_snapshot);
        let event = fields
            .iter()
            .map(|(name, value)| (&**name, value.as_deref()));
        self.feed
            .insist(|feed| feed.update_from(id, first, event.clone()))?;
        if first {
            self.feed.insist(|feed| feed.end_of_snapshot(id))?;
        }
        Ok(())
    }
}

impl Item {
    /// Whether the row may take these values: one that outgrew the engine's bounds could not be sent to anybody.
    fn must_hold(
        &self,
        fields: &[(Cow<'_, str>, Option<Cow<'_, str>>)],
    ) -> Result<(), &'static str> {
        let limits = Limits::DEFAULT;
        let bytes = |name: &str, value: &Option<Cow<'_, str>>| field_bytes(name, value.as_deref());
        let new: usize = fields.iter().map(|(name, value)| bytes(name, value)).sum();
        if fields
            .iter()
            .any(|(name, _)| name.len() > limits.field_name_bytes_max)
        {
            return Err("the name of a field is too long");
        }
        // As a rule there is room even if all of it were new.
        if self.row.len() + fields.len() <= limits.fields_per_item_max
            && self.bytes + new <= limits.item_bytes_max
        {
            return Ok(());
        }
        let is_new = |name: &str| self.row.iter().all(|(known, _)| known != name);
        let added = fields.iter().filter(|(name, _)| is_new(name)).count();
        if self.row.len() + added > limits.fields_per_item_max {
            return Err("the item would have too many fields");
        }
        let stays = |name: &str| fields.iter().all(|(changed, _)| changed != name);
        let kept = self.row.iter().filter(|(name, _)| stays(name));
        let kept: usize = kept
            .map(|(name, value)| field_bytes(name, value.as_deref()))
            .sum();
        if kept + new > limits.item_bytes_max {
            return Err("the item would be too large");
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        self.bytes += field_bytes(name, value);
        let Some((_, known)) = self.row.iter_mut().find(|(known, _)| known == name) else {
            self.row.push((name.to_owned(), value.map(str::to_owned)));
            return;
        };
        self.bytes -= field_bytes(name, known.as_deref());
        match (known, value) {
            (Some(known), Some(value)) => {
                // In place: a feed in full flow allocates nothing here.
                known.clear();
                known.push_str(value);
            }
            (known, value) => *known = value.map(str::to_owned),
        }
    }
}

/// What a field counts for, as the engine counts it.
fn field_bytes(name: &str, value: Option<&str>) -> usize {
    name.len() + value.map_or(0, str::len) + 8
}

fn borrowed(
    row: &[(String, Option<String>)],
) -> impl Iterator<Item = (&str, Option<&str>)> + Clone {
    row.iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
}
