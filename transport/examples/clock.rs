//! A server of one's own with a data adapter of one's own: item `clock` tells the time, once a second.
//!
//!     cargo run --release --example clock
//!
//! Then open <http://127.0.0.1:8080/?adapter=CLOCK&items=clock&fields=time,seconds>. Another address to listen at may follow:
//! `cargo run --release --example clock -- 127.0.0.1:8081`

use brightwire::{AdapterError, DataAdapter, Item, Publisher, SubscriptionError};
use brightwire::{Server, ServerBuilder, ServerError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The adapter: who asked for the clock, and when it ticks.
#[derive(Default)]
struct Clock {
    item: Option<Item>,
    next_tick: Option<Instant>,
}

impl DataAdapter for Clock {
    fn is_snapshot_available(&mut self, _: &str) -> Result<bool, SubscriptionError> {
        Ok(true) // a new client is told the time at once
    }

    fn subscribe(
        &mut self,
        item: &Item,
        publisher: &mut Publisher,
    ) -> Result<(), SubscriptionError> {
        if item.name() != "clock" {
            return Err(SubscriptionError::new("the only item is `clock`"));
        }
        let (time, seconds) = now();
        publisher.snapshot(item, &[("time", Some(&time)), ("seconds", Some(&seconds))])?;
        publisher.end_of_snapshot(item)?;
        self.item = Some(item.clone());
        self.next_tick = Some(Instant::now() + Duration::from_secs(1));
        Ok(())
    }

    fn unsubscribe(&mut self, _: &Item, _: &mut Publisher) {
        (self.item, self.next_tick) = (None, None);
    }

    fn next_turn(&self) -> Option<Instant> {
        self.next_tick
    }

    fn turn(&mut self, publisher: &mut Publisher) -> Result<(), AdapterError> {
        self.next_tick = Some(Instant::now() + Duration::from_secs(1));
        if let Some(item) = &self.item {
            let (time, seconds) = now();
            publisher.update(item, &[("time", Some(&time)), ("seconds", Some(&seconds))])?;
        }
        Ok(())
    }
}

/// The time of day in UTC, and the seconds since 1970.
fn now() -> (String, String) {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    (format!("{h:02}:{m:02}:{s:02}"), seconds.to_string())
}

/// The server, without a start.
pub fn server() -> ServerBuilder {
    Server::builder().data_adapter("DEMO", "CLOCK", Clock::default())
}

fn main() -> Result<(), ServerError> {
    brightwire::log_to_stderr();
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    server().listen(address).run()
}
