//! Connections that moved to another shard while answers to their requests were still to come.
//!
//! A request for a session of another shard is answered to the shard that passed it on, wherever its connection has gone
//! meanwhile. So a connection takes its former addresses along as long as answers are under way to them; the shard that
//! it lives on knows them ([`Moves::arrived`]), and each shard that it left passes on what still comes
//! ([`Moves::departed`]). Every request that was passed on is answered exactly once, if only with nothing, so both are
//! counted down to their end.

use super::{Shard, ShardMessage};
use crate::ids::{ConnId, ShardId};
use hashbrown::HashMap;

/// Where a connection was, as far as answers are still to come there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The shard.
    pub shard: ShardId,
    /// What the connection was called there.
    pub conn: ConnId,
    /// How many answers are still to come.
    pub awaited: u32,
}

/// What names an address.
type Place = (ShardId, ConnId);

/// The addresses that are not where they seem to be.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Connections of this shard by their former addresses, here or elsewhere.
    arrived: HashMap<Place, ConnId, foldhash::quality::RandomState>,
    /// To which shard a connection went from here, and how many answers it still gets by the address.
    departed: HashMap<Place, (ShardId, u32), foldhash::quality::RandomState>,
}

impl Shard {
    /// A connection leaves for another shard, with `own` as its address here. Returns the addresses that it takes along.
    pub(super) fn depart(
        &mut self,
        former: Vec<Address>,
        own: Address,
        to: ShardId,
    ) -> Vec<Address> {
        let awaiting = former.into_iter().chain([own]);
        let addresses: Vec<Address> = awaiting.filter(|address| address.awaited > 0).collect();
        for address in &addresses {
            let place = (address.shard, address.conn);
            self.moves.arrived.remove(&place);
            if self.moves.departed.len() < self.config.limits.questions_max {
                self.moves.departed.insert(place, (to, address.awaited));
            }
        }
        addresses
    }

    /// A connection has come with its former addresses. One of them may be of this shard.
    pub(super) fn arrive(&mut self, conn: ConnId, addresses: &[Address]) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        entry.addresses = addresses.to_vec();
        for address in addresses {
            let place = (address.shard, address.conn);
            self.moves.departed.remove(&place);
            self.moves.arrived.insert(place, conn);
        }
    }

    /// A connection is gone: nobody waits for answers to its former addresses.
    pub(super) fn forget_addresses(&mut self, addresses: &[Address]) {
        for address in addresses {
            self.moves.arrived.remove(&(address.shard, address.conn));
        }
    }

    /// Gives an answer to the connection that once had the address, or passes it on to where that went.
    pub(super) fn answer_former(&mut self, shard: ShardId, conn: ConnId, lines: Box<[u8]>) {
        let place = (shard, conn);
        if let Some(&here) = self.moves.arrived.get(&place) {
            let Some(entry) = self.conns.get_mut(here) else {
                return;
            };
            let addresses = &mut entry.addresses;
            if let Some(at) = addresses.iter().position(|a| (a.shard, a.conn) == place) {
                addresses[at].awaited -= 1;
                if addresses[at].awaited == 0 {
                    addresses.swap_remove(at);
                    self.moves.arrived.remove(&place);
                }
            }
            let origin = self.here(here);
            self.reply(origin, |out| out.extend_from_slice(&lines));
        } else if let Some((to, awaited)) = self.moves.departed.get_mut(&place) {
            let to = *to;
            *awaited -= 1;
            if *awaited == 0 {
                self.moves.departed.remove(&place);
            }
            self.tell(to, ShardMessage::LateReply { shard, conn, lines });
        } // else it is gone
    }

    /// Number of addresses that are not where they seem to be: none where no answers are under way.
    pub fn moved_addresses(&self) -> usize {
        self.moves.arrived.len() + self.moves.departed.len()
    }
}
