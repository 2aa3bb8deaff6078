//! Modes that shards have been granted and not yet made use of.
//!
//! Two shards may ask for an item that nobody looks at, in different modes, at the same moment. The one that is answered
//! first claims the item, and the other is told of it: its client is refused (code 24) rather than left without data.

use crate::item::{ItemName, ItemNameRef};
use crate::metadata::Claim;
use crate::tlcp::request::Mode;
use hashbrown::HashMap;

/// The claims that are not settled: no more than there are answers on their way to shards, and tables of the text protocol
/// that wait for their start, which count as subscriptions.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Each claimed item's mode, and how many claims it is in.
    modes: HashMap<ItemName, (Mode, u32), foldhash::fast::RandomState>,
    open: HashMap<u64, Box<[ItemName]>, foldhash::fast::RandomState>,
    made: u64,
}

impl Claims {
    /// The mode to which an item is claimed.
    pub fn mode(&self, name: &ItemNameRef<'_>) -> Option<Mode> {
        self.modes.get(name).map(|(mode, _)| *mode)
    }

    /// Claims items, none of which is claimed to another mode.
    pub fn make(&mut self, names: Box<[ItemName]>, mode: Mode) -> Claim {
        for name in &names {
            let (known, claims) = self.modes.entry(name.clone()).or_insert((mode, 0));
            debug_assert_eq!(*known, mode);
            *claims += 1;
        }
        self.made += 1;
        self.open.insert(self.made, names);
        Claim(self.made)
    }

    /// The claim has become demands, or nothing.
    pub fn settle(&mut self, claim: Claim) {
        for name in self.open.remove(&claim.0).unwrap_or_default() {
            if let Some((_, claims)) = self.modes.get_mut(&name.as_ref()) {
                *claims -= 1;
                if *claims == 0 {
                    self.modes.remove(&name.as_ref());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::DataAdapterId;

    fn name(name: &str) -> ItemNameRef<'_> {
        ItemNameRef {
            adapter: DataAdapterId(0),
            name,
        }
    }

    #[test]
    fn an_item_is_free_when_its_last_claim_is_settled() {
        let mut claims = Claims::default();
        let twice = [name("a").to_owned(), name("a").to_owned()].into();
        let first = claims.make(twice, Mode::Merge);
        let second = claims.make([name("a").to_owned()].into(), Mode::Merge);
        for claim in [first, second] {
            assert_eq!(claims.mode(&name("a")), Some(Mode::Merge));
            claims.settle(claim);
        }
        assert_eq!(claims.mode(&name("a")), None);
        claims.settle(first); // which means nothing any more
        assert!(claims.modes.is_empty() && claims.open.is_empty());
    }
}
