//! The demo's items in the other modes, made of the trades of the stock list: for trying clients.
//!
//! | item | mode | fields |
//! |---|---|---|
//! | `trades` | DISTINCT | `time`, `stock`, `price`, `qty`; the snapshot is the last ten |
//! | `ticks` | RAW | `time`, `stock`, `price` |
//! | `portfolio1` | COMMAND | `key` (`item1` to `item30`), `command`, `qty`, `price`; positions come and go |

use super::feed::{Feed, FeedError};
use super::market::{FIELDS, Row, STOCKS};
use engine::ids::ItemId;
use fastrand::Rng;
use std::collections::VecDeque;
use std::fmt::Write;

/// One portfolio, and who asked for it and for the others.
#[derive(Debug, Default)]
pub(super) struct Desk {
    trades: Option<ItemId>,
    ticks: Option<ItemId>,
    portfolio: Option<ItemId>,
    /// Stocks in the portfolio; 0 is none.
    held: [i64; STOCKS],
    /// The last trades, oldest first.
    recent: VecDeque<Trade>,
    rng: Rng,
}

/// One trade, as text.
#[derive(Clone, Debug, Default)]
struct Trade {
    stock: usize,
    name: String,
    time: String,
    price: String,
    qty: String,
}

/// What a snapshot of `trades` shows.
const RECENT: usize = 10;
/// One event of a stock in so many buys or sells all of it (a guess: at the default rate the portfolio changes every few
/// seconds).
const DEAL_ONE_IN: u32 = 40;

impl Desk {
    /// A portfolio of every third stock.
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut desk = Self {
            rng: rng.fork(),
            ..Self::default()
        };
        for held in desk.held.iter_mut().step_by(3) {
            *held = some_quantity(&mut desk.rng);
        }
        desk
    }

    /// Whether anybody looks. While nobody does, nothing is traded here: the stock list alone must be as fast as it can.
    pub(super) fn is_watched(&self) -> bool {
        self.trades.is_some() || self.ticks.is_some() || self.portfolio.is_some()
    }

    /// Serves one of these items, with its snapshot; false if it is none of them. `rows` are the stocks.
    pub(super) fn subscribe(
        &mut self,
        feed: &mut Feed,
        item: ItemId,
        name: &str,
        rows: impl Iterator<Item = Row>,
    ) -> Result<bool, FeedError> {
        match name {
            "trades" => {
                for trade in &self.recent {
                    feed.insist(|feed| feed.update(item, true, &trade.fields()))?;
                }
                self.trades = Some(item);
            }
            "ticks" => self.ticks = Some(item),
            "portfolio1" => {
                for (stock, row) in rows.enumerate().filter(|(stock, _)| self.held[*stock] > 0) {
                    let trade = Trade::of(stock, &row, self.held[stock]);
                    feed.insist(|feed| feed.update(item, true, &trade.position("ADD")))?;
                }
                self.portfolio = Some(item);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The subscription with this number is over, if it is one of these.
    pub(super) fn unsubscribe(&mut self, item: ItemId) {
        for subscribed in [&mut self.trades, &mut self.ticks, &mut self.portfolio] {
            subscribed.take_if(|known| *known == item);
        }
    }

    /// A stock has traded. What the ring has no room for is left out, but for what would break the order of a position's
    /// commands: a deal that cannot be told is not made.
    pub(super) fn traded(&mut self, feed: &mut Feed, stock: usize, row: &Row) {
        let rng = &mut self.rng;
        let trade = Trade::of(stock, row, some_quantity(rng));
        if let Some(item) = self.ticks {
            let [time, stock, price, _] = trade.fields();
            _ = feed.update(item, false, &[time, stock, price]);
        }
        if let Some(item) = self.trades {
            _ = feed.update(item, false, &trade.fields());
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(trade);
        let before = self.held[stock];
        let after = match (rng.u32(0..DEAL_ONE_IN), before) {
            (0, 0) => some_quantity(rng),
            (0, _) => 0,
            (_, before) => before,
        };
        let command = match (before, after) {
            (0, 0) => return,
            (0, _) => "ADD",
            (_, 0) => "DELETE",
            _ => "UPDATE",
        };
        let position = Trade::of(stock, row, after);
        let told = self.portfolio.is_none_or(|item| {
            let fields = position.position(command);
            let count = if after == 0 { 2 } else { fields.len() };
            feed.update(item, false, &fields[..count]).is_ok()
        });
        if told {
            self.held[stock] = after;
        }
    }
}

impl Trade {
    fn of(stock: usize, row: &Row, quantity: i64) -> Self {
        let mut trade = Self {
            stock,
            ..Self::default()
        };
        for ((name, format), value) in FIELDS.iter().zip(row) {
            match *name {
                "stock_name" => format.write(*value, &mut trade.name),
                "time" => format.write(*value, &mut trade.time),
                "last_price" => format.write(*value, &mut trade.price),
                _ => {}
            }
        }
        let written = write!(trade.qty, "{quantity}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        trade
    }

    fn fields(&self) -> [(&str, Option<&str>); 4] {
        [
            ("time", Some(&self.time)),
            ("stock", Some(&self.name)),
            ("price", Some(&self.price)),
            ("qty", Some(&self.qty)),
        ]
    }

    fn position(&self, command: &'static str) -> [(&str, Option<&str>); 4] {
        [
            ("key", Some(KEYS[self.stock])),
            ("command", Some(command)),
            ("qty", Some(&self.qty)),
            ("price", Some(&self.price)),
        ]
    }
}

fn some_quantity(rng: &mut Rng) -> i64 {
    rng.i64(1..=90) * 10
}

/// Keys are names of items, so that clients can look at the stock behind a position.
const KEYS: [&str; STOCKS] = [
    "item1", "item2", "item3", "item4", "item5", "item6", "item7", "item8", "item9", "item10",
    "item11", "item12", "item13", "item14", "item15", "item16", "item17", "item18", "item19",
    "item20", "item21", "item22", "item23", "item24", "item25", "item26", "item27", "item28",
    "item29", "item30",
];

#[cfg(test)]
mod tests {
    use super::super::feed::{FeedCapacity, feed};
    use super::super::market::Stock;
    use super::super::testkit::{Heard, hear};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn positions_are_added_updated_and_deleted_in_this_order() {
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut rng = Rng::with_seed(7);
        let mut stocks: Vec<_> = (0..STOCKS)
            .map(|index| Stock::open(index, &mut rng, 0))
            .collect();
        let mut desk = Desk::new(&mut rng);
        for (item, name) in (1..).zip(["trades", "ticks", "portfolio1"]) {
            let rows = stocks.iter().map(Stock::row);
            assert_eq!(
                desk.subscribe(&mut feed, ItemId(item), name, rows),
                Ok(true)
            );
        }
        let rows = stocks.iter().map(Stock::row);
        let other = desk.subscribe(&mut feed, ItemId(4), "item1", rows);
        assert_eq!(other, Ok(false));
        for turn in 0..3_000 {
            let stock = turn % STOCKS;
            stocks[stock].trade(&mut rng, 0);
            desk.traded(&mut feed, stock, &stocks[stock].row());
        }
        feed.commit();
        let (mut keys, mut counts, mut deals) = (BTreeSet::new(), [0; 3], 0);
        for event in hear(&mut inbox) {
            let Heard::Update(item, _, fields) = event else {
                continue;
            };
            counts[item as usize - 1] += 1;
            let value = |name: &str| {
                let field = fields.iter().find(|(field, _)| field == name);
                field.and_then(|(_, value)| value.clone())
            };
            let (Some(key), Some(command)) = (value("key"), value("command")) else {
                assert_ne!(item, 3);
                continue;
            };
            match command.as_str() {
                "ADD" => assert!(keys.insert(key), "added twice"),
                "UPDATE" => assert!(keys.contains(&key), "updated before it was added"),
                "DELETE" => assert!(keys.remove(&key), "deleted before it was added"),
                other => panic!("{other}"),
            }
            deals += i32::from(command != "UPDATE");
        }
        assert_eq!(counts[..2], [3_000, 3_000]);
        assert!(deals > 50, "{deals}");
    }

    #[test]
    fn trades_begin_with_the_last_ones() {
        let (mut feed, mut inbox) = feed(FeedCapacity::default(), || ());
        let mut rng = Rng::with_seed(7);
        let stock = Stock::open(0, &mut rng, 0);
        let mut desk = Desk::new(&mut rng);
        for _ in 0..RECENT + 5 {
            desk.traded(&mut feed, 0, &stock.row());
        }
        let rows = std::iter::empty();
        desk.subscribe(&mut feed, ItemId(1), "trades", rows)
            .unwrap();
        feed.commit();
        let heard = hear(&mut inbox);
        assert_eq!(heard.len(), RECENT);
        assert!(
            heard
                .iter()
                .all(|event| matches!(event, Heard::Update(1, true, _)))
        );
        desk.unsubscribe(ItemId(1));
        desk.traded(&mut feed, 0, &stock.row());
        feed.commit();
        assert!(hear(&mut inbox).is_empty());
    }
}
