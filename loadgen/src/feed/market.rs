//! Invented events: which item, which fields, which values. One seed gives the same events in every run.

use std::time::Duration;

use super::schedule::Schedule;
use super::{Choice, FeedArguments, FeedEvent, Source};

/// Invented items and their events.
pub struct Market {
    items: Vec<String>,
    schedule: Schedule,
    next: Option<Duration>,
    random: fastrand::Rng,
    /// With Zipf's choice: for each item, the sum of the weights up to it.
    weights: Vec<f64>,
    /// The count of each item's events.
    sequences: Vec<u64>,
    names: Vec<String>,
    changed: usize,
    value_bytes: usize,
    /// For COMMAND: for each item, which of its rows are there.
    rows: Option<Vec<Vec<bool>>>,
}

/// Rows of all items together, so that a slip of the keyboard does not eat the machine.
const ROWS_MAX: usize = 50_000_000;

impl Market {
    /// What the arguments ask for.
    pub fn new(arguments: &FeedArguments) -> Result<Self, String> {
        let items = arguments.items.0.clone();
        if arguments.changed > arguments.fields {
            return Err("an event cannot change more fields than there are".into());
        }
        let mut sum = 0.0;
        let weights = match arguments.choice {
            Choice::Uniform => Vec::new(),
            Choice::Zipf => (1..=items.len())
                .map(|rank| {
                    sum += (rank as f64).powf(-arguments.exponent.unwrap_or(1.0));
                    sum
                })
                .collect(),
        };
        let rows = match arguments.keys {
            None => None,
            Some(0) => return Err("an item of COMMAND has at least one row".into()),
            Some(keys) if items.len().saturating_mul(keys as usize) > ROWS_MAX => {
                return Err(format!("more than {ROWS_MAX} rows"));
            }
            Some(keys) => Some(vec![vec![false; keys as usize]; items.len()]),
        };
        Ok(Self {
            schedule: Schedule::new(arguments.rate.0, arguments.burst, arguments.seed),
            next: None,
            random: fastrand::Rng::with_seed(arguments.seed ^ 0x9E37_79B9_7F4A_7C15),
            weights,
            sequences: vec![0; items.len()],
            names: (1..=arguments.fields)
                .map(|number| format!("f{number}"))
                .collect(),
            changed: usize::from(arguments.changed),
            value_bytes: arguments.value_bytes as usize,
            rows,
            items,
        })
    }

    fn choose(&mut self) -> usize {
        match self.weights.last() {
            None => self.random.usize(..self.items.len()),
            Some(sum) => {
                let point = self.random.f64() * sum;
                let index = self.weights.partition_point(|weight| *weight <= point);
                index.min(self.items.len() - 1)
            }
        }
    }

    fn value(random: &mut fastrand::Rng, bytes: usize) -> String {
        // Digits, as prices and quantities are: nothing that any protocol would have to escape.
        (0..bytes).map(|_| random.digit(10)).collect()
    }
}

impl Source for Market {
    fn items(&self) -> &[String] {
        &self.items
    }

    fn next_due(&mut self) -> Option<Duration> {
        let schedule = &mut self.schedule;
        Some(*self.next.get_or_insert_with(|| schedule.next()))
    }

    fn take(&mut self, intended_ns: u64, event: &mut FeedEvent) {
        self.next = None;
        event.item = self.choose();
        event.fields.clear();
        if let Some(rows) = &mut self.rows {
            let rows = &mut rows[event.item];
            let key = self.random.usize(..rows.len());
            let is_new = !std::mem::replace(&mut rows[key], true);
            let command = if is_new { "ADD" } else { "UPDATE" };
            event.fields.push(("key".into(), Some(format!("k{key}"))));
            event.fields.push(("command".into(), Some(command.into())));
        }
        // Neighbours in a ring, from a point that chance has chosen: which ones does not matter, that they differ does.
        let first = self.random.usize(..self.names.len().max(1));
        for step in 0..self.changed {
            let name = &self.names[(first + step) % self.names.len()];
            let value = Self::value(&mut self.random, self.value_bytes);
            event.fields.push((name.clone(), Some(value)));
        }
        self.sequences[event.item] += 1;
        stamp(event, intended_ns, self.sequences[event.item]);
    }

    fn snapshot(&self, item: usize, intended_ns: u64, event: &mut FeedEvent) {
        event.item = item;
        event.fields.clear();
        if self.rows.is_some() {
            return; // the rows come as they are added
        }
        let mut random = fastrand::Rng::with_seed(item as u64);
        for name in &self.names {
            let value = Self::value(&mut random, self.value_bytes);
            event.fields.push((name.clone(), Some(value)));
        }
        stamp(event, intended_ns, self.sequences[item]);
    }
}

/// The time that the event was meant for, and its number among the item's.
pub fn stamp(event: &mut FeedEvent, intended_ns: u64, sequence: u64) {
    event
        .fields
        .push(("timestamp".into(), Some(intended_ns.to_string())));
    event
        .fields
        .push(("sequence".into(), Some(sequence.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn market(flags: &str) -> Market {
        let words = ["loadgen", "feed", "--ari", "h:1"];
        let words = words.into_iter().chain(flags.split_whitespace());
        let Command::Feed(arguments) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!("it says feed");
        };
        Market::new(&arguments).unwrap()
    }

    fn events(market: &mut Market, count: usize) -> Vec<FeedEvent> {
        let mut event = FeedEvent::default();
        (0..count)
            .map(|number| {
                market.next_due().unwrap();
                market.take(number as u64, &mut event);
                event.clone()
            })
            .collect()
    }

    fn field<'e>(event: &'e FeedEvent, name: &str) -> &'e str {
        let found = event.fields.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.as_deref()).unwrap_or("")
    }

    #[test]
    fn events_carry_their_time_and_are_numbered_by_item() {
        let events = events(&mut market("--items 1..3 --fields 5 --changed 2"), 300);
        let mut counts = [0; 3];
        for (number, event) in events.iter().enumerate() {
            counts[event.item] += 1;
            assert_eq!(field(event, "timestamp"), number.to_string());
            assert_eq!(field(event, "sequence"), counts[event.item].to_string());
            assert_eq!(event.fields.len(), 4);
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
    }

    #[test]
    fn few_items_are_busy_with_zipf() {
        let events = events(&mut market("--items 1..100 --choice zipf"), 10_000);
        let first = events.iter().filter(|event| event.item == 0).count();
        let last = events.iter().filter(|event| event.item == 99).count();
        // 1 of 5.19, and a hundredth of that.
        assert!(first.abs_diff(1_928) < 200 && last < 60, "{first} {last}");
    }

    #[test]
    fn rows_are_added_once() {
        let events = events(&mut market("--items a --keys 3"), 50);
        let added = events
            .iter()
            .filter(|event| field(event, "command") == "ADD");
        assert_eq!(added.count(), 3);
    }

    #[test]
    fn one_seed_gives_the_same_events() {
        let text = |seed: &str| format!("{:?}", events(&mut market(seed), 50));
        assert_eq!(text("--seed 5"), text("--seed 5"));
        assert_ne!(text("--seed 5"), text("--seed 6"));
    }
}
