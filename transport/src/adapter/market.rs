//! The demo's stocks: a random walk of 30 invented companies, and the rows that clients see of them.
//!
//! No clock and no feed in here: [`Stock::trade`] is told the time, so one seed gives one history.

use fastrand::Rng;
use std::fmt::Write;

/// How many stocks there are.
pub(super) const STOCKS: usize = NAMES.len();

/// The fields of a row, in the order of its values. Names and formats are those that pages written for the
/// reference product's stock list expect; `timestamp` is ours.
pub(super) const FIELDS: [(&str, Format); 14] = [
    ("stock_name", Format::Name),
    ("last_price", Format::Hundredths),
    ("time", Format::TimeOfDay),
    ("pct_change", Format::Hundredths),
    ("bid_quantity", Format::Whole),
    ("bid", Format::Hundredths),
    ("ask", Format::Hundredths),
    ("ask_quantity", Format::Whole),
    ("min", Format::Hundredths),
    ("max", Format::Hundredths),
    ("ref_price", Format::Hundredths),
    ("open_price", Format::Hundredths),
    ("item_status", Format::Status),
    ("timestamp", Format::Whole),
];

/// The values of one row, each a number that its field's [`Format`] makes text of. Numbers rather than text, because
/// most of what an event does is to compare them with what was sent before.
pub(super) type Row = [i64; FIELDS.len()];

/// How a value of a [`Row`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Index of a company.
    Name,
    /// Two decimals, a minus if below zero, no plus.
    Hundredths,
    /// Seconds of the day as `HH:MM:SS`.
    TimeOfDay,
    /// An integer.
    Whole,
    /// `active` or `inactive`.
    Status,
}

impl Format {
    /// Appends the text of `value`.
    pub(super) fn write(self, value: i64, out: &mut String) {
        let written = match self {
            Self::Name => out.write_str(NAMES[value as usize % STOCKS]),
            Self::Hundredths => {
                let sign = if value < 0 { "-" } else { "" };
                let digits = value.unsigned_abs();
                write!(out, "{sign}{}.{:02}", digits / 100, digits % 100)
            }
            Self::TimeOfDay => {
                let (hours, minutes, seconds) = (value / 3600, value / 60 % 60, value % 60);
                write!(out, "{hours:02}:{minutes:02}:{seconds:02}")
            }
            Self::Whole => write!(out, "{value}"),
            Self::Status => out.write_str(if value != 0 { "active" } else { "inactive" }),
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
}

/// One company's day. Prices are in hundredths of whatever currency the reader imagines.
#[derive(Clone, Debug)]
pub(super) struct Stock {
    index: usize,
    last: i64,
    bid: i64,
    ask: i64,
    bid_quantity: i64,
    ask_quantity: i64,
    min: i64,
    max: i64,
    reference: i64,
    open: i64,
    /// Events until a suspended stock trades again; 0 for one that trades.
    halted_events: u32,
    /// Seconds of the day at the last trade.
    traded_s: i64,
    /// Nanoseconds since the Unix epoch at the last event.
    stamp_ns: i64,
}

/// How far a price may go from the reference price, in percent: what keeps a walk of days readable (a guess).
const SWING_PERCENT_MAX: i64 = 20;
/// One event in so many suspends the stock for a few events, so that pages see `inactive` too (a guess).
const HALT_ONE_IN: u32 = 2_000;
/// Where a day begins.
const DAY_S: u64 = 24 * 60 * 60;

impl Stock {
    /// The stock before its first trade, at `unix_ns`.
    pub(super) fn open(index: usize, rng: &mut Rng, unix_ns: u64) -> Self {
        let reference = rng.i64(400..12_000);
        let open = reference + reference * rng.i64(-200..=200) / 10_000;
        let mut stock = Self {
            index,
            last: open,
            bid: open,
            ask: open,
            bid_quantity: 0,
            ask_quantity: 0,
            min: open,
            max: open,
            reference,
            open,
            halted_events: 0,
            traded_s: 0,
            stamp_ns: 0,
        };
        stock.quote(rng);
        stock.stamp(unix_ns);
        stock
    }

    /// The next event, at `unix_ns`.
    pub(super) fn trade(&mut self, rng: &mut Rng, unix_ns: u64) {
        if self.halted_events > 0 {
            self.halted_events -= 1;
        } else if rng.u32(0..HALT_ONE_IN) == 0 {
            self.halted_events = rng.u32(3..10);
        }
        if self.halted_events > 0 {
            // A suspended stock is still spoken of, but it does not trade: the time of the last trade stands.
            self.stamp_ns = unix_ns as i64;
            return;
        }
        // A tenth of a percent of noise, and a fiftieth of the way home: the walk wanders within a few percent.
        let noise = self.reference / 1_000 + 1;
        let pull = (self.reference - self.last) / 50;
        let swing = self.reference * SWING_PERCENT_MAX / 100;
        self.last = (self.last + rng.i64(-noise..=noise) + pull)
            .clamp(self.reference - swing, self.reference + swing);
        self.min = self.min.min(self.last);
        self.max = self.max.max(self.last);
        self.quote(rng);
        self.stamp(unix_ns);
    }

    /// What clients see.
    pub(super) fn row(&self) -> Row {
        [
            self.index as i64,
            self.last,
            self.traded_s,
            hundredths_of_percent(self.last - self.reference, self.reference),
            self.bid_quantity,
            self.bid,
            self.ask,
            self.ask_quantity,
            self.min,
            self.max,
            self.reference,
            self.open,
            i64::from(self.halted_events == 0),
            self.stamp_ns,
        ]
    }

    /// The trade took one side of the book; the other side is a little away, so `bid < ask` always.
    fn quote(&mut self, rng: &mut Rng) {
        let spread = rng.i64(1..=1 + self.last / 1_000);
        if rng.bool() {
            (self.bid, self.ask) = (self.last, self.last + spread);
            self.bid_quantity = lots(rng);
        } else {
            (self.bid, self.ask) = (self.last - spread, self.last);
            self.ask_quantity = lots(rng);
        }
        if self.bid_quantity == 0 || rng.u8(0..4) == 0 {
            self.bid_quantity = lots(rng);
        }
        if self.ask_quantity == 0 || rng.u8(0..4) == 0 {
            self.ask_quantity = lots(rng);
        }
    }

    fn stamp(&mut self, unix_ns: u64) {
        self.stamp_ns = unix_ns as i64;
        self.traded_s = (unix_ns / 1_000_000_000 % DAY_S) as i64;
    }
}

fn lots(rng: &mut Rng) -> i64 {
    rng.i64(1..=200) * 500
}

/// `part / whole` in hundredths of a percent, rounded half away from zero as a reader would.
fn hundredths_of_percent(part: i64, whole: i64) -> i64 {
    let half = if part < 0 { -whole } else { whole };
    (part * 20_000 + half) / (whole * 2)
}

/// Invented for this demo; any likeness is chance.
const NAMES: [&str; 30] = [
    "Alder and Finch",
    "Basaltine Foods",
    "Caldermoor Marine",
    "Dunwick Rail",
    "Eastgale Optics",
    "Fennimore Paper",
    "Granbury Tools",
    "Harrowell Glass",
    "Inverloch Turbines",
    "Junipers Mill",
    "Kestrelway Freight",
    "Larkhollow Dairy",
    "Marlowick Steel",
    "Northwold Thrift",
    "Orchard Row Media",
    "Penvale Cables",
    "Quayhouse Hotels",
    "Ravensey Mining",
    "Saltmere Wind",
    "Thornbeck Labs",
    "Underhay Cider",
    "Valecraft Ceramics",
    "Wexmoor Textiles",
    "Xylander Biotech",
    "Yarrowdale Timber",
    "Zephyrine Cycles",
    "Ashwater Mutual",
    "Brindlecote Robotics",
    "Cobalt Quarry",
    "Drumlin Waterworks",
];

#[cfg(test)]
mod tests {
    use super::*;
    // By name: proptest's prelude has an `Rng` too.
    use fastrand::Rng;
    use proptest::prelude::*;

    const NOON_NS: u64 = (20_000 * DAY_S + 12 * 3600 + 34 * 60 + 56) * 1_000_000_000 + 789;

    /// The text of a field.
    fn text(row: &Row, name: &str) -> String {
        let at = FIELDS.iter().position(|(field, _)| *field == name).unwrap();
        let mut out = String::new();
        FIELDS[at].1.write(row[at], &mut out);
        out
    }

    /// A price as a client reads it, checked for its two decimals.
    fn decimal(row: &Row, name: &str) -> f64 {
        let text = text(row, name);
        assert_eq!(
            text.split_once('.').map(|(_, decimals)| decimals.len()),
            Some(2),
            "{text}"
        );
        text.parse().unwrap()
    }

    #[test]
    fn a_row_reads_as_pages_expect() {
        let mut rng = Rng::with_seed(1);
        let row = Stock::open(0, &mut rng, NOON_NS).row();
        assert_eq!(text(&row, "stock_name"), "Alder and Finch");
        assert_eq!(text(&row, "time"), "12:34:56");
        assert_eq!(text(&row, "item_status"), "active");
        assert_eq!(text(&row, "timestamp"), NOON_NS.to_string());
        let mut out = String::new();
        Format::Hundredths.write(-7, &mut out);
        assert_eq!(out, "-0.07");
    }

    #[test]
    fn percent_rounds_half_away_from_zero() {
        assert_eq!(hundredths_of_percent(1, 3), 3_333);
        assert_eq!(hundredths_of_percent(-1, 3), -3_333);
        assert_eq!(hundredths_of_percent(1, 20_000), 1, "0.005 % is 0.01");
        assert_eq!(hundredths_of_percent(-1, 20_000), -1);
        assert_eq!(hundredths_of_percent(0, 100), 0);
    }

    #[test]
    fn one_seed_gives_one_history() {
        let history = |seed| {
            let mut rng = Rng::with_seed(seed);
            let mut stock = Stock::open(0, &mut rng, 0);
            let mut rows = Vec::new();
            for number in 0..100 {
                stock.trade(&mut rng, number);
                rows.push(stock.row());
            }
            rows
        };
        assert_eq!(history(5), history(5));
        assert_ne!(history(5), history(6));
    }

    #[test]
    fn a_suspended_stock_stands_still_but_is_spoken_of() {
        let mut rng = Rng::with_seed(2);
        let mut stock = Stock::open(0, &mut rng, NOON_NS);
        let (mut halts, mut active) = (0, true);
        for number in 1..50_000 {
            let before = stock.row();
            stock.trade(&mut rng, NOON_NS + number);
            let now_active = text(&stock.row(), "item_status") == "active";
            halts += u32::from(active && !now_active);
            if !now_active {
                assert_eq!(
                    text(&stock.row(), "last_price"),
                    text(&before, "last_price")
                );
                assert_ne!(text(&stock.row(), "timestamp"), text(&before, "timestamp"));
            }
            active = now_active;
        }
        assert!((5..100).contains(&halts), "{halts} suspensions");
    }

    proptest! {
        #[test]
        fn rows_are_consistent(seed: u64, index in 0..STOCKS, events in 0..2_000_u64) {
            let mut rng = Rng::with_seed(seed);
            let mut stock = Stock::open(index, &mut rng, NOON_NS);
            for number in 0..events {
                stock.trade(&mut rng, NOON_NS + number);
                let row = stock.row();
                let price = |name| decimal(&row, name);
                let (last, reference) = (price("last_price"), price("ref_price"));
                prop_assert!(price("bid") > 0.0 && price("bid") < price("ask"));
                prop_assert!(price("bid") <= last && last <= price("ask"));
                prop_assert!(price("min") <= last && last <= price("max"));
                prop_assert!(price("min") <= price("open_price") && price("open_price") <= price("max"));
                // Half of the last digit, and a hair for the binary fractions.
                let pct = 100.0 * (last - reference) / reference;
                prop_assert!((pct - price("pct_change")).abs() <= 0.005 + 1e-9);
                prop_assert!(row[4] > 0 && row[7] > 0);
            }
        }
    }
}
