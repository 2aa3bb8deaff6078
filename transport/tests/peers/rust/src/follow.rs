//! Follows an item whose every update carries the next number, with one client for each address.
//!
//! Prints what `clients/counter.mjs` reports, one `CLIENT KIND VALUE` a line, until standard input ends.

use std::io::Read;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use lightstreamer_rs::{
    AdapterSet, Client, ClientConfig, ConnectionOptions, FieldSchema, ItemGroup, RetryPolicy,
    ServerAddress, SessionEvent, Subscription, SubscriptionEvent, SubscriptionMode, Transport,
};

use crate::{Address, Failure};

/// Between two attempts. The client is more patient by default; the tests cut it off many times.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Follows the item until standard input ends.
pub async fn run(transport: Transport, item: &str, urls: impl Iterator<Item = String>) {
    for (which, url) in urls.enumerate() {
        let (address, item) = (Address { url, transport }, item.to_owned());
        tokio::spawn(async move {
            if let Err(error) = follow(which, &address, &item).await {
                println!("{which} error {error}");
            }
        });
    }
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = end.await;
    std::process::exit(0); // clients that are cut off would not end by themselves
}

async fn follow(which: usize, address: &Address, item: &str) -> Result<(), Failure> {
    let retry = RetryPolicy::default()
        .with_initial_delay(RETRY_DELAY)
        .with_max_delay(RETRY_DELAY)
        .with_max_attempts(None);
    let options = ConnectionOptions::default()
        .with_retry(retry)
        .with_update_capacity(NonZeroUsize::new(100_000).ok_or("not zero")?);
    let config = ClientConfig::builder(ServerAddress::try_new(&*address.url)?)
        .with_transport(address.transport)
        .with_adapter_set(AdapterSet::try_new("DEMO")?)
        .with_options(options)
        .build()?;
    let (client, mut session) = Client::connect(config).await?;
    let wanted = Subscription::new(
        SubscriptionMode::Raw,
        ItemGroup::from_items([item])?,
        FieldSchema::from_fields(["n"])?,
    );
    let mut updates = client.subscribe(wanted.with_data_adapter("REPLAY")).await?;
    loop {
        tokio::select! {
            event = session.next() => match event {
                Some(SessionEvent::Connected(connected)) => {
                    println!("{which} session {}", connected.session_id);
                    println!("{which} status CONNECTED:{}", address.transport.as_str());
                }
                Some(SessionEvent::Disconnected { .. }) => {
                    println!("{which} status DISCONNECTED:TRYING-RECOVERY");
                }
                Some(SessionEvent::Closed(reason)) => return Err(format!("{reason:?}").into()),
                Some(_) => {}
                None => return Err("the session ended".into()),
            },
            event = updates.next() => match event {
                Some(SubscriptionEvent::Update(update)) => {
                    let number = update.field_by_name("n").and_then(|value| value.text());
                    println!("{which} update {}", number.unwrap_or("null"));
                }
                Some(SubscriptionEvent::Overflow { dropped_count, .. }) => {
                    println!("{which} lost {dropped_count}");
                }
                Some(SubscriptionEvent::Rejected(error)) => {
                    println!("{which} error {error}");
                }
                Some(_) => {}
                None => return Err("the subscription ended".into()),
            },
        }
    }
}
