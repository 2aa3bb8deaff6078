//! Quality of service as it is configured, over real sockets.

use crate::on_both_back_ends;
use crate::support::{Client, Feed, Io, Server, Setup};

on_both_back_ends!(trades_arrive_though_quotes_are_conflated);

/// The feed's field `hundreds` is declared as trade-safe, and the client wants one update in a thousand seconds: all
/// that it gets are the rows in which that field changes, each behind the row before it.
fn trades_arrive_though_quotes_are_conflated(io: Io) {
    let feed = Feed::new(450, 10);
    let rows = feed.csv();
    let setup = Setup {
        replay: Some(&rows),
        rate_hz: 2_000.0,
        replay_tables: "[[adapter_sets.data.trade_safe]]\nitems = [\"count*\"]\nfields = [\"hundreds\"]\n",
        ..Setup::default()
    };
    let server = Server::start(io, setup);
    let (mut client, id) = Client::with_session(server.address);
    let frequency = "&LS_requested_max_frequency=0.001";
    client.send(&format!("{}{frequency}", feed.subscribe(1, &id)));
    let mut counted = feed.counted();
    let mut rows = Vec::new();
    while rows.last() != Some(&400) {
        let line = client.update();
        rows.extend(counted.take(&line));
    }
    let first = rows.remove(0);
    assert!(first < 100, "the snapshot is row {first}");
    assert_eq!(rows, [99, 100, 199, 200, 299, 300, 399, 400]);
}
