//! The way of a remote data adapter's events as far as ingest, without socket and thread: for those who measure it.

use super::data::Desk;
use super::lines::LineBuffer;
use crate::adapter::feed::{self, FeedCapacity};
use crate::adapter::inbox::FeedInbox;
use crate::config::plan::RemotePlan;
use engine::ids::ItemId;
use engine::ingest::event::AdapterEvent;

/// A data adapter's proxy with a remote that is there, and ingest's end of its feed.
pub struct RemoteProbe {
    desk: Desk,
    incoming: LineBuffer,
    inbox: FeedInbox,
}

impl RemoteProbe {
    /// With an ordinary configuration and a ring of so many bytes.
    pub fn new(ring_bytes: usize) -> Self {
        let plan = RemotePlan::default();
        let capacity = FeedCapacity {
            ring_bytes,
            ..FeedCapacity::default()
        };
        let (feed, inbox) = feed::feed(capacity, || ());
        Self {
            desk: Desk::new(feed, &plan, "probe"),
            incoming: LineBuffer::new(plan.line_bytes_max),
            inbox,
        }
    }

    /// Subscribes to an item; returns the id that its events have to carry.
    pub fn subscribe(&mut self, item: ItemId, name: &str) -> String {
        format!("{:x}", self.desk.probe_subscribe(item, name))
    }

    /// Takes bytes as they come from the remote: whole lines of the versions from 1.9 on.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.incoming.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.incoming.filled(count);
            bytes = &bytes[count..];
            self.desk.probe_lines(&mut self.incoming);
        }
    }

    /// Drops what was taken; returns how many events it were. Costs what taking it from the ring costs.
    pub fn skip(&mut self) -> usize {
        self.drain(|_| ())
    }

    /// Hands what was taken to ingest; returns how many events it were.
    pub fn drain(&mut self, take: impl FnMut(AdapterEvent<'_>)) -> usize {
        self.inbox.drain(usize::MAX, take)
    }
}
