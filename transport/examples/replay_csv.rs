//! A data adapter with a thread of its own: it replays a CSV file, a row every 100 ms, again and again.
//!
//!     cargo run --release --example replay_csv -- ticks.csv
//!
//! Another address to listen at may follow, `127.0.0.1:8081` say. The first line of the file names the columns. Column `item`
//! says which item a row is about; the others are its fields. (The server has a replay that can do more: kind = "replay".
//! This one shows how an adapter looks that brings its own thread along.)

use brightwire::{
    AdapterError, DataAdapter, Item, Place, PublishError, Publisher, SubscriptionError,
};
use brightwire::{Server, ServerBuilder, ServerError};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The items that somebody wants, by name. The adapter's thread fills it, the replaying thread looks.
type Wanted = Arc<Mutex<HashMap<String, Item>>>;

struct Replay {
    file: PathBuf,
    pause: Duration,
    wanted: Wanted,
}

impl DataAdapter for Replay {
    fn init(&mut self, _: &Place, publisher: &mut Publisher) -> Result<(), AdapterError> {
        let mut reader = csv::Reader::from_path(&self.file)?;
        let columns = reader.headers()?.clone();
        let item_at = columns
            .iter()
            .position(|name| name == "item")
            .ok_or("there is no column `item`")?;
        let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
        // A publisher belongs to one thread, so the other one gets its own.
        let mut publisher = publisher.another().ok_or("the server stops")?;
        let (wanted, pause) = (Arc::clone(&self.wanted), self.pause);
        thread::spawn(move || {
            for row in rows.iter().cycle() {
                let item = wanted.lock().unwrap().get(&row[item_at]).cloned();
                let fields: Vec<_> = columns
                    .iter()
                    .zip(row.iter().map(Some))
                    .filter(|(name, _)| *name != "item")
                    .collect();
                match item.map(|item| publisher.update(&item, &fields)) {
                    Some(Err(PublishError::Stopped)) => return,
                    None if publisher.is_stopped() => return,
                    // Sent; merged with an earlier row, if the server is slower; or nobody wants it any more.
                    _ => thread::sleep(pause),
                }
            }
        });
        Ok(())
    }

    fn subscribe(&mut self, item: &Item, _: &mut Publisher) -> Result<(), SubscriptionError> {
        self.wanted
            .lock()
            .unwrap()
            .insert(item.name().to_owned(), item.clone());
        Ok(())
    }

    fn unsubscribe(&mut self, item: &Item, _: &mut Publisher) {
        self.wanted.lock().unwrap().remove(item.name());
    }
}

/// The server, without a start.
pub fn server(file: impl Into<PathBuf>, pause: Duration) -> ServerBuilder {
    let (file, wanted) = (file.into(), Wanted::default());
    Server::builder().data_adapter(
        "DEMO",
        "REPLAY",
        Replay {
            file,
            pause,
            wanted,
        },
    )
}

fn main() -> Result<(), ServerError> {
    brightwire::log_to_stderr();
    let mut arguments = std::env::args().skip(1);
    let Some(file) = arguments.next() else {
        eprintln!("which file? cargo run --release --example replay_csv -- ticks.csv");
        std::process::exit(2);
    };
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    server(file, Duration::from_millis(100))
        .listen(address)
        .run()
}
