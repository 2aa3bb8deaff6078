//! The Rust client `lightstreamer-rs` against the server.
//!
//! Run: `brightwire-peer-rust http://HOST:PORT [TRANSPORT]`. Prints one line a case, `ok NAME` or `not ok NAME: reason`,
//! which `run.mjs` reads. The cases are those of `clients/cases.mjs` as far as this client has the means: it
//! can neither change a live subscription's frequency nor ask for a bandwidth.
//!
//! Run: `brightwire-peer-rust follow TRANSPORT ITEM http://HOST:PORT...`. Clients follow a counter, see `follow`.

mod follow;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::StreamExt;
use lightstreamer_rs::{
    AdapterSet, Client, ClientConfig, FieldSchema, ItemGroup, MaxFrequency, Message, SequenceName,
    ServerAddress, SessionEvent, SessionEvents, Snapshot, Subscription, SubscriptionEvent,
    SubscriptionMode, Transport, UpdateFrequency, UpdateKind, Updates,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Failure>;

const ITEMS: [&str; 3] = ["item1", "item2", "item3"];
const FIELDS: [&str; 4] = ["stock_name", "last_price", "time", "bid"];
/// A bound, not an expectation. This client waits five seconds between polls, and the cases wait for several.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let transport = |name: &str| match name {
        "WS-STREAMING" => Some(Transport::WebSocket),
        "HTTP-STREAMING" => Some(Transport::HttpStreaming),
        "HTTP-POLLING" => Some(Transport::HttpPolling),
        _ => None,
    };
    let (Some(first), Some(transport)) = (
        arguments.next(),
        transport(arguments.next().as_deref().unwrap_or("WS-STREAMING")),
    ) else {
        eprintln!(
            "usage: brightwire-peer-rust http://HOST:PORT|follow [TRANSPORT] [ITEM ADDRESS...]"
        );
        std::process::exit(2);
    };
    if first == "follow" {
        let item = arguments.next().unwrap_or_default();
        return follow::run(transport, &item, arguments).await;
    }
    let address = Address {
        url: first,
        transport,
    };
    report("connects and disconnects", connects(&address)).await;
    report("receives a snapshot and live updates", receives(&address)).await;
    report(
        "adds a second subscription and removes the first",
        removes(&address),
    )
    .await;
    report(
        "is granted the frequency it subscribes with",
        frequency(&address),
    )
    .await;
    // While it polls, this client sends no message: for it a session is bound only while an answer arrives.
    if address.transport != Transport::HttpPolling {
        report("sends messages in an ordered sequence", messages(&address)).await;
    }
    report("is told of an unknown adapter set", unknown_set(&address)).await;
    report(
        "is told of a mode the item does not have",
        unknown_mode(&address),
    )
    .await;
    report(
        "is told of an unknown data adapter",
        unknown_adapter(&address),
    )
    .await;
}

/// Where the server is, and how to talk to it.
struct Address {
    url: String,
    transport: Transport,
}

async fn report(name: &str, case: impl Future<Output = Outcome>) {
    let outcome = match tokio::time::timeout(WAIT_MAX, case).await {
        Ok(outcome) => outcome,
        Err(_) => Err("no end within the time allowed".into()),
    };
    match outcome {
        Ok(()) => println!("ok {name}"),
        Err(error) => println!("not ok {name}: {}", error.to_string().replace('\n', " ")),
    }
}

async fn connects(address: &Address) -> Outcome {
    let client = connect(address, "DEMO").await?;
    Ok(client.disconnect().await?)
}

async fn receives(address: &Address) -> Outcome {
    let client = connect(address, "DEMO").await?;
    let mut updates = client.subscribe(quotes(&ITEMS)?).await?;
    let mut seen = Seen::default();
    while seen.rows.len() < ITEMS.len() || seen.live < 5 {
        seen.take(&next(&mut updates).await?)?;
    }
    Ok(client.disconnect().await?)
}

async fn removes(address: &Address) -> Outcome {
    let client = connect(address, "DEMO").await?;
    let mut first = client.subscribe(quotes(&ITEMS)?).await?;
    let mut second = client.subscribe(quotes(&["item3", "item30"])?).await?;
    let mut seen = Seen::default();
    while seen.rows.len() < 2 {
        seen.take(&next(&mut second).await?)?;
    }
    client.unsubscribe(first.id()).await?;
    while !matches!(next(&mut first).await?, SubscriptionEvent::Unsubscribed) {}
    let live = seen.live;
    while seen.live < live + 3 {
        seen.take(&next(&mut second).await?)?;
    }
    Ok(client.disconnect().await?)
}

async fn frequency(address: &Address) -> Outcome {
    let client = connect(address, "DEMO").await?;
    let wanted = quotes(&ITEMS)?.with_max_frequency(MaxFrequency::limited("2.0")?);
    let mut updates = client.subscribe(wanted).await?;
    loop {
        if let SubscriptionEvent::Reconfigured { max_frequency, .. } = next(&mut updates).await? {
            let UpdateFrequency::Limited { updates_per_second } = &max_frequency else {
                return Err(format!("granted {max_frequency:?} instead of 2 per second").into());
            };
            let granted: f64 = updates_per_second.parse()?;
            expect(granted == 2.0, || {
                format!("granted {granted} instead of 2 per second")
            })?;
            return Ok(client.disconnect().await?);
        }
    }
}

async fn unknown_set(address: &Address) -> Outcome {
    match connect(address, "NO_SUCH_SET").await {
        Ok(_) => Err("the session was created".into()),
        Err(error) => {
            let code = error
                .downcast_ref::<lightstreamer_rs::Error>()
                .and_then(|error| error.server_error())
                .map(|error| error.code());
            // The code's type is the library's own; its text is the number.
            let text = code.map(|code| code.to_string());
            expect(text.as_deref() == Some("2"), || {
                format!("{error} instead of code 2")
            })
        }
    }
}

async fn unknown_mode(address: &Address) -> Outcome {
    // The one that it has is that of whoever came first.
    let first = connect(address, "DEMO").await?;
    let mut updates = first.subscribe(quotes(&["item1"])?).await?;
    let mut seen = Seen::default();
    while seen.rows.is_empty() {
        seen.take(&next(&mut updates).await?)?;
    }
    let wanted = Subscription::new(
        SubscriptionMode::Distinct,
        ItemGroup::from_items(["item1"])?,
        FieldSchema::from_fields(FIELDS)?,
    );
    refused(address, wanted.with_data_adapter("QUOTE_ADAPTER"), "24").await?;
    Ok(first.disconnect().await?)
}

async fn unknown_adapter(address: &Address) -> Outcome {
    refused(
        address,
        quotes(&ITEMS)?.with_data_adapter("NO_SUCH_ADAPTER"),
        "17",
    )
    .await
}

async fn messages(address: &Address) -> Outcome {
    const COUNT: u32 = 10;
    let (client, mut session_events) = open(address, "DEMO").await?;
    for number in 1..=COUNT {
        let progressive = NonZeroU32::new(number).ok_or("messages are numbered from 1")?;
        let message = Message::new(format!("a&b=c {number} \u{1f600}"), progressive);
        let sequence = SequenceName::try_new("ordered")?;
        client.send_message(message.in_sequence(sequence)).await?;
    }
    for number in 1..=u64::from(COUNT) {
        let outcome = loop {
            match session_events.next().await {
                Some(SessionEvent::Message(outcome)) => break outcome,
                Some(_) => {}
                None => return Err("the session ended".into()),
            }
        };
        expect(
            outcome.is_delivered() && outcome.progressive == Some(number),
            || format!("{outcome:?} instead of the delivery of {number}"),
        )?;
    }
    Ok(client.disconnect().await?)
}

async fn refused(address: &Address, wanted: Subscription, code: &str) -> Outcome {
    let client = connect(address, "DEMO").await?;
    let mut updates = client.subscribe(wanted).await?;
    match updates.next().await {
        Some(SubscriptionEvent::Rejected(error)) => {
            expect(error.code().to_string() == code, || {
                format!("{error} instead of code {code}")
            })?;
        }
        other => return Err(format!("{other:?} instead of a refusal").into()),
    }
    Ok(client.disconnect().await?)
}

async fn connect(address: &Address, adapter_set: &str) -> Result<Client, Failure> {
    let (client, mut session_events) = open(address, adapter_set).await?;
    tokio::spawn(async move { while session_events.next().await.is_some() {} });
    Ok(client)
}

async fn open(address: &Address, adapter_set: &str) -> Result<(Client, SessionEvents), Failure> {
    let config = ClientConfig::builder(ServerAddress::try_new(&*address.url)?)
        .with_transport(address.transport)
        .with_adapter_set(AdapterSet::try_new(adapter_set)?)
        .build()?;
    Ok(Client::connect(config).await?)
}

fn quotes(items: &[&str]) -> Result<Subscription, Failure> {
    Ok(Subscription::new(
        SubscriptionMode::Merge,
        ItemGroup::from_items(items.iter().copied())?,
        FieldSchema::from_fields(FIELDS)?,
    )
    .with_data_adapter("QUOTE_ADAPTER")
    .with_snapshot(Snapshot::On))
}

/// The next event; a refusal, an end or something undecodable is a failure here.
async fn next(updates: &mut Updates) -> Result<SubscriptionEvent, Failure> {
    match updates.next().await {
        None => Err("the stream of events ended".into()),
        Some(
            event @ (SubscriptionEvent::Rejected(_)
            | SubscriptionEvent::Undecodable { .. }
            | SubscriptionEvent::Overflow { .. }),
        ) => Err(format!("unexpected: {event:?}").into()),
        Some(event) => Ok(event),
    }
}

/// What was received, checked as it comes.
#[derive(Default)]
struct Seen {
    rows: HashMap<String, Vec<String>>,
    live: usize,
}

impl Seen {
    fn take(&mut self, event: &SubscriptionEvent) -> Outcome {
        let SubscriptionEvent::Update(update) = event else {
            return Ok(());
        };
        let item = update.item_name().to_owned();
        let snapshot = update.kind() == UpdateKind::Snapshot;
        let first = !self.rows.contains_key(&item);
        expect(snapshot == first, || {
            format!("{item}: snapshot is {snapshot}")
        })?;
        let values: Vec<String> = FIELDS
            .iter()
            .filter_map(|field| update.field_by_name(field)?.text().map(str::to_owned))
            .collect();
        expect(values.len() == FIELDS.len(), || {
            format!("{item}: values are missing: {values:?}")
        })?;
        self.live += usize::from(!snapshot);
        self.rows.insert(item, values);
        Ok(())
    }
}

fn expect(condition: bool, what: impl FnOnce() -> String) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(what().into())
    }
}
