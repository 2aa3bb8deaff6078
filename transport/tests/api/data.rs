//! Data adapters of one's own.

use crate::client::Client;
use crate::subscribe;
use brightwire::metadata::TradeSafe;
use brightwire::{
    AdapterError, DataAdapter, Difference, Item, Place, PublishError, Published, Publisher, Server,
    ServerBuilder, SubscriptionError,
};
use engine::tlcp::client::Line;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

type Subscribe = Box<dyn FnMut(&Item, &mut Publisher) -> Result<(), SubscriptionError> + Send>;

/// An adapter made of what it does at a subscription, which tells of what it hears.
struct Scripted {
    snapshot: bool,
    subscribe: Subscribe,
    heard: Sender<String>,
}

impl Scripted {
    fn new(
        snapshot: bool,
        subscribe: impl FnMut(&Item, &mut Publisher) -> Result<(), SubscriptionError> + Send + 'static,
    ) -> (Self, Receiver<String>) {
        let (heard, hear) = mpsc::channel();
        let subscribe = Box::new(subscribe);
        let adapter = Self {
            snapshot,
            subscribe,
            heard,
        };
        (adapter, hear)
    }
}

impl DataAdapter for Scripted {
    fn init(&mut self, place: &Place, _: &mut Publisher) -> Result<(), AdapterError> {
        self.heard.send(format!("init {place}"))?;
        Ok(())
    }

    fn is_snapshot_available(&mut self, item: &str) -> Result<bool, SubscriptionError> {
        match item {
            "unheard-of" => Err(SubscriptionError::new("never heard of it")),
            _ => Ok(self.snapshot),
        }
    }

    fn subscribe(
        &mut self,
        item: &Item,
        publisher: &mut Publisher,
    ) -> Result<(), SubscriptionError> {
        self.heard.send(format!("subscribe {}", item.name()))?;
        (self.subscribe)(item, publisher)
    }

    fn unsubscribe(&mut self, item: &Item, _: &mut Publisher) {
        let _ = self.heard.send(format!("unsubscribe {}", item.name()));
    }
}

fn server(adapter: impl DataAdapter) -> ServerBuilder {
    Server::builder()
        .config_text("[sessions]\nsubscription_linger = \"0s\"")
        .listen("127.0.0.1:0")
        .data_adapter("DEMO", "OWN", adapter)
}

#[test]
fn an_adapter_hears_of_items_and_its_events_reach_clients() {
    let (adapter, hear) = Scripted::new(true, |item, publisher| {
        publisher.snapshot(item, &[("a", Some("1")), ("b", None)])?;
        publisher.end_of_snapshot(item)?;
        assert_eq!(publisher.update(item, &[("b", Some(""))])?, Published::Sent);
        Ok(())
    });
    let server = server(adapter).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "item", "a%20b"));
    // The second event may have come before the first was sent.
    let first = client.update();
    if first == "U,1,1,1|#" {
        assert_eq!(client.update(), "U,1,1,|$");
    } else {
        assert_eq!(first, "U,1,1,1|$");
    }
    client.send(&format!(
        "control\r\nLS_reqId=9&LS_op=delete&LS_subId=1&LS_session={session}"
    ));
    let heard: Vec<String> = (0..3).map(|_| hear.recv().unwrap()).collect();
    assert_eq!(
        heard,
        ["init DEMO.OWN", "subscribe item", "unsubscribe item"]
    );
    server.stop().unwrap();
}

#[test]
fn an_item_without_a_snapshot_begins_with_its_first_event() {
    let (adapter, _hear) = Scripted::new(false, |item, publisher| {
        publisher.update(item, &[("a", Some("1"))])?;
        Ok(())
    });
    let server = server(adapter).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "item", "a%20b"));
    assert_eq!(client.update(), "U,1,1,1|#");
    server.stop().unwrap();
}

#[test]
fn an_item_that_is_refused_is_without_data_and_the_others_are_served() {
    let (adapter, hear) = Scripted::new(true, |item, publisher| {
        if item.name() == "bad" {
            return Err(SubscriptionError::new("I do not like it"));
        }
        publisher.snapshot(item, &[("a", Some("1"))])?;
        publisher.end_of_snapshot(item)?;
        Ok(())
    });
    let server = server(adapter).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    for (sub_id, item) in [(1, "unheard-of"), (2, "bad"), (3, "good")] {
        client.send(&subscribe(&session, sub_id, "OWN", item, "a"));
    }
    // An empty snapshot is an update without values.
    let mut updates: Vec<String> = (0..3).map(|_| client.update()).collect();
    updates.sort();
    assert_eq!(updates, ["U,1,1,#", "U,2,1,#", "U,3,1,1"]);
    for sub_id in [1, 2, 3] {
        client.send(&format!(
            "control\r\nLS_reqId=9&LS_op=delete&LS_subId={sub_id}&LS_session={session}"
        ));
    }
    let heard: Vec<String> = (0..4).map(|_| hear.recv().unwrap()).collect();
    assert_eq!(
        heard[1..],
        ["subscribe bad", "subscribe good", "unsubscribe good"],
        "{heard:?}"
    );
    server.stop().unwrap();
}

#[test]
fn an_adapter_that_panics_ends_and_the_server_goes_on() {
    let (bad, _heard) = Scripted::new(true, |item, publisher| {
        publisher.snapshot(item, &[("a", Some("1"))])?;
        assert_ne!(item.name(), "bad", "this is the adapter's fault");
        Ok(())
    });
    let (good, _hear) = Scripted::new(true, |item, publisher| {
        publisher.snapshot(item, &[("a", Some("2"))])?;
        Ok(())
    });
    let server = server(bad)
        .data_adapter("DEMO", "GOOD", good)
        .start()
        .unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "bad", "a"));
    assert_eq!(client.update(), "U,1,1,1", "what it had said is not lost");
    client.send(&subscribe(&session, 2, "OWN", "good", "a"));
    client.send(&subscribe(&session, 3, "GOOD", "good", "a"));
    assert_eq!(client.update(), "U,3,1,2");
    server.stop().unwrap();
}

/// Ticks at its turns, and fails at the third.
struct Failing {
    item: Option<Item>,
    turns: u32,
}

impl DataAdapter for Failing {
    fn subscribe(&mut self, item: &Item, _: &mut Publisher) -> Result<(), SubscriptionError> {
        self.item = Some(item.clone());
        Ok(())
    }

    fn unsubscribe(&mut self, _: &Item, _: &mut Publisher) {}

    fn next_turn(&self) -> Option<Instant> {
        self.item.is_some().then(Instant::now)
    }

    fn turn(&mut self, publisher: &mut Publisher) -> Result<(), AdapterError> {
        self.turns += 1;
        if self.turns > 3 {
            return Err("the source is closed".into());
        }
        let turns = self.turns.to_string();
        let item = self.item.as_ref().unwrap();
        publisher.update(item, &[("turns", Some(&turns))])?;
        Ok(())
    }
}

#[test]
fn an_adapter_that_fails_leaves_its_items_as_they_are() {
    let adapter = Failing {
        item: None,
        turns: 0,
    };
    let server = server(adapter).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "item", "turns"));
    while client.update() != "U,1,1,3" {}
    client.send(&subscribe(&session, 2, "OWN", "item", "turns"));
    assert_eq!(
        client.update(),
        "U,2,1,3",
        "a later client sees the last state"
    );
    server.stop().unwrap();
}

#[test]
fn publishers_of_other_threads_publish_too_and_hear_of_the_end() {
    let (ended, wait) = mpsc::channel();
    let (adapter, _hear) = Scripted::new(false, move |item, publisher| {
        let (mut other, item, ended) = (publisher.another().unwrap(), item.clone(), ended.clone());
        std::thread::spawn(move || {
            let mut number = 0_u64;
            let error = loop {
                number += 1;
                if let Err(error) = other.update(&item, &[("n", Some(&number.to_string()))]) {
                    break error;
                }
            };
            ended.send(error).unwrap();
        });
        Ok(())
    });
    let server = server(adapter).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "item", "n"));
    let number = |line: String| -> u64 { line["U,1,1,".len()..].parse().unwrap() };
    let mut last = 0;
    for _ in 0..100 {
        let next = number(client.update());
        assert!(last < next, "{next} after {last}");
        last = next;
    }
    client.send(&format!(
        "control\r\nLS_reqId=9&LS_op=delete&LS_subId=1&LS_session={session}"
    ));
    assert_eq!(wait.recv().unwrap(), PublishError::Unsubscribed);
    client.send(&subscribe(&session, 2, "OWN", "item", "n"));
    while !client.update().starts_with("U,2,") {}
    server.stop().unwrap();
    assert_eq!(wait.recv().unwrap(), PublishError::Stopped);
}

#[test]
fn mistakes_are_told_before_anything_starts() {
    let nothing = || Scripted::new(false, |_, _| Ok(())).0;
    let refusal = |builder: ServerBuilder| {
        let error = builder.listen("127.0.0.1:0").start().err().unwrap();
        error.to_string()
    };
    let twice = server(nothing()).data_adapter("DEMO", "OWN", nothing());
    assert_eq!(refusal(twice), "builder: DEMO.OWN: `OWN` is taken already");
    assert_eq!(
        refusal(Server::builder()),
        "builder: adapter_sets: there must be at least one"
    );
    let wrong = server(nothing()).config_text("\n[sesions]");
    assert!(refusal(wrong).starts_with("builder:2: sesions: unknown field"));
    let gone = Server::builder().config_file("no/such.toml");
    assert!(refusal(gone).starts_with("no/such.toml: "));
}

#[test]
fn adapters_of_a_file_stand_beside_the_programs_own() {
    let items = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&items);
    let (adapter, _hear) = Scripted::new(false, move |item, publisher| {
        asked.lock().unwrap().push(item.name().to_owned());
        publisher.update(item, &[("a", Some("own"))])?;
        Ok(())
    });
    let text = "[[adapter_sets]]\nname = \"DEMO\"\n[[adapter_sets.data]]\nname = \"STOCKS\"\n";
    let server = server(adapter).config_text(text).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "item1", "a"));
    assert_eq!(client.update(), "U,1,1,own");
    client.send(&subscribe(&session, 2, "STOCKS", "item1", "stock_name"));
    let stock = client.update();
    assert!(
        stock.starts_with("U,2,1,") && !stock.contains('#'),
        "{stock}"
    );
    assert_eq!(*items.lock().unwrap(), ["item1"]);
    server.stop().unwrap();
}

#[test]
fn fields_go_out_as_differences_if_the_adapter_says_so() {
    const LONG: &str = "a text of which little changes";
    let mut first = None;
    let (adapter, _hear) = Scripted::new(true, move |item, publisher| {
        match first.take() {
            None => {
                publisher.declare_differences(item, &[("a", &[Difference::Text]), ("b", &[])])?;
                publisher.snapshot(item, &[("a", Some(LONG)), ("b", Some(LONG))])?;
                publisher.end_of_snapshot(item)?;
                first = Some(item.clone());
            }
            Some(first) => {
                let changed = LONG.replace("little", "nothing");
                publisher.update(&first, &[("a", Some(&changed)), ("b", Some(&changed))])?;
            }
        }
        Ok(())
    });
    let server = server(adapter).start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    client.send(&subscribe(&session, 1, "OWN", "item", "a%20b"));
    assert_eq!(client.update(), format!("U,1,1,{LONG}|{LONG}"));
    client.send(&subscribe(&session, 2, "OWN", "other", "a"));
    let update = client.update();
    assert!(
        update.starts_with("U,1,1,^T") && update.ends_with("|a text of which nothing changes"),
        "{update}"
    );
    server.stop().unwrap();
}

/// The first update is the last for a long time, but for trades.
#[test]
fn trades_of_an_adapter_are_not_merged_if_the_program_says_so() {
    let (adapter, _hear) = Scripted::new(true, |item, publisher| {
        publisher.snapshot(item, &[("bid", Some("0")), ("last", Some("0"))])?;
        for (field, value) in [("bid", "1"), ("bid", "2"), ("last", "3"), ("bid", "4")] {
            publisher.update(item, &[(field, Some(value))])?;
        }
        Ok(())
    });
    let last = || TradeSafe::Fields(["last".into()].into());
    let server = server(adapter).trade_safe("DEMO", "OWN", &["stocks/*"], last());
    let server = server.start().unwrap();
    let (mut client, session) = Client::with_session(server.address());
    let slow = "&LS_requested_max_frequency=0.001";
    let add = subscribe(&session, 1, "OWN", "stocks/A", "bid%20last");
    client.send(&format!("{add}{slow}"));
    for line in ["U,1,1,0|0", "U,1,1,2|", "U,1,1,|3"] {
        assert_eq!(client.update(), line);
    }
    server.stop().unwrap();

    let unknown = Server::builder().trade_safe("DEMO", "OWN", &[], last());
    let error = unknown.start().err().unwrap().to_string();
    let reason = "the program adds no such data adapter";
    assert!(error.contains(reason), "{error}");
}

/// Once a client is told of its subscription, every event is one that it gets: here each is published because of that,
/// and there is no snapshot that would show it otherwise. Another client, of whatever shard, keeps the item alive.
#[test]
fn an_event_that_follows_a_subscription_is_not_missed() {
    let (publishers, publisher) = mpsc::channel();
    let (adapter, _hear) = Scripted::new(false, move |item, publisher| {
        let other = publisher.another().expect("one more");
        publishers.send((item.clone(), other)).unwrap();
        Ok(())
    });
    let config = "[runtime]\nshards = 2\n[sessions]\nsubscription_linger = \"0s\"";
    let server = server(adapter).config_text(config).start().unwrap();
    let (mut keeper, session) = Client::with_session(server.address());
    keeper.send(&subscribe(&session, 1, "OWN", "item", "n"));
    let (item, mut publisher) = publisher.recv().unwrap();
    for client in 0..4 {
        let (mut client_of_any_shard, session) = Client::with_session(server.address());
        for sub_id in 1..=100 {
            let add = subscribe(&session, sub_id, "OWN", "item", "n");
            let add = add.replace("LS_snapshot=true", "LS_snapshot=false");
            client_of_any_shard.send(&add);
            client_of_any_shard.line_such(|line| matches!(line, Line::Subok { .. }));
            let n = format!("{client}.{sub_id}");
            publisher.update(&item, &[("n", Some(&n))]).unwrap();
            assert_eq!(client_of_any_shard.update(), format!("U,{sub_id},1,{n}"));
            client_of_any_shard.send(&format!(
                "control\r\nLS_reqId=d&LS_op=delete&LS_subId={sub_id}&LS_session={session}"
            ));
            client_of_any_shard.line_such(|line| matches!(line, Line::Unsub { .. }));
        }
    }
    server.stop().unwrap();
}
