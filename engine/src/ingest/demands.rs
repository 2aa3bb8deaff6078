//! What a shard's demand does: items are looked for or opened, claimed, and shown as they are.

use super::demand::Demand;
use super::fanout::Rings;
use super::items::{SnapshotPhase, item, item_mut};
use super::prefilter::Prefilter;
use super::record::Kind;
use super::{Ingest, IngestEffect};
use crate::counters::Counter;
use crate::ids::{DataAdapterId, ItemId, ShardId};
use crate::item::state::State;
use crate::item::{ItemName, ItemNameRef};
use crate::metadata::{Answer, Granted};
use crate::time::Instant;
use crate::tlcp::request::Mode;

impl Ingest {
    /// A shard wants an item, or wants it no more.
    ///
    /// A live item's snapshot is written before the shard is listed as a listener, in the same step: no update can
    /// come between, since nobody else writes.
    pub fn on_demand(
        &mut self,
        shard: ShardId,
        demand: Demand,
        now: Instant,
        rings: &mut impl Rings,
    ) {
        match demand {
            Demand::Want {
                local,
                epoch,
                adapter,
                name,
                mode,
                snapshot_length,
                source_frequency_max,
                trade_safe,
            } => {
                let name = ItemNameRef {
                    adapter,
                    name: &name,
                };
                let Some(id) = self.find_or_open(name, mode) else {
                    self.counters.count(Counter::ItemsRefused);
                    return; // the subscription stays without data, as one that its adapter refuses
                };
                let wanted = &mut self.wanted[usize::from(shard.0)];
                if wanted.len() <= local as usize {
                    wanted.resize(local as usize + 1, None);
                }
                wanted[local as usize] = Some(id);
                let item = item_mut(&mut self.items, id).expect("just found or opened");
                item.lingers_until = None;
                if mode != Mode::Raw {
                    item.set_mode(mode, snapshot_length, &self.limits);
                    if matches!(mode, Mode::Merge | Mode::Distinct) {
                        Prefilter::set(&mut item.prefilter, source_frequency_max);
                    }
                    if !trade_safe.is_nothing() {
                        let safe = item.safe.get_or_insert_default();
                        **safe = trade_safe.and(safe);
                    }
                }
                let raw = mode == Mode::Raw;
                if item.subject.listeners.add(shard, local, epoch, raw) && !raw {
                    self.send_snapshot(id, Some(shard), rings);
                }
                self.tell_merging(id);
            }
            Demand::Settled { claim } => self.claims.settle(claim),
            Demand::Drop { local, .. } => self.on_drop(shard, local, now),
        }
    }

    /// Tells the shard that a metadata adapter answers in which mode each item is looked at already, on whatever shard:
    /// an item is MERGE, DISTINCT or COMMAND to all who look at it. If no other mode is in the way, the items are claimed
    /// to the one that was asked for, until the shard says [`Demand::Settled`]. An answer that the shard has no use for in
    /// the end keeps others away for as long, which is less than they would have to wait for a refusal.
    pub fn claim(&mut self, answer: &mut Answer) {
        let Ok(Granted::Subscription {
            data_adapter,
            items,
            mode,
            claim,
            ..
        }) = &mut answer.result
        else {
            return;
        };
        if *mode == Mode::Raw || *data_adapter == DataAdapterId::STATUS {
            return;
        }
        let mut free = !items.is_empty();
        for granted in &mut *items {
            let name = ItemNameRef {
                adapter: *data_adapter,
                name: &granted.name,
            };
            let known = self
                .by_name
                .get(&name)
                .and_then(|id| item(&self.items, *id));
            granted.looked_at = known
                .filter(|item| item.subject.listeners.any_state())
                .and_then(|item| item.mode)
                .or_else(|| self.claims.mode(&name));
            free &= granted.looked_at.is_none_or(|known| known == *mode);
        }
        *claim = free.then(|| {
            let names = items.iter().map(|granted| ItemName {
                adapter: *data_adapter,
                name: granted.name.clone(),
            });
            self.claims.make(names.collect(), *mode)
        });
    }

    /// Sends what there is, if it may be shown, to one shard or to all.
    pub(super) fn send_snapshot(
        &mut self,
        id: ItemId,
        to: Option<ShardId>,
        rings: &mut impl Rings,
    ) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        let (fanout, counters) = (&mut self.fanout, &mut self.counters);
        let phase = item.snapshot;
        match item.subject.state {
            State::Merge(_) => {
                let something = phase == SnapshotPhase::None && item.subject.seq > 0;
                if phase == SnapshotPhase::Complete || something {
                    fanout.send_state(&mut item.subject, Kind::Snapshot, to, rings, counters);
                }
            }
            State::Distinct(_) | State::Command(_) => {
                if matches!(phase, SnapshotPhase::Complete | SnapshotPhase::None) {
                    fanout.send_snapshot(&mut item.subject, to, rings, counters);
                }
            }
        }
    }

    fn on_drop(&mut self, shard: ShardId, local: u32, now: Instant) {
        let Some(id) = self.wanted[usize::from(shard.0)]
            .get_mut(local as usize)
            .and_then(Option::take)
        else {
            return; // an item that was refused
        };
        let item = item_mut(&mut self.items, id).expect("wanted items are alive");
        self.fanout.forget(shard, &mut item.subject);
        if item.subject.listeners.is_empty() {
            item.lingers_until = Some(self.linger.start(id, now));
        }
        self.tell_merging(id);
    }

    /// Tells the adapter whether it may merge the item's events, if that has changed.
    fn tell_merging(&mut self, id: ItemId) {
        let item = item_mut(&mut self.items, id).expect("the caller has it");
        let allowed = item.mode == Some(Mode::Merge)
            && item.safe.is_none()
            && !item.subject.listeners.any_raw();
        if allowed != item.merging {
            item.merging = allowed;
            self.effects.push_back(IngestEffect::Merging {
                adapter: item.name.adapter,
                item: id,
                allowed,
            });
        }
    }
}
