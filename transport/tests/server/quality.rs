//! Quality of service as it is configured, over real sockets.

use std::io::{BufRead, BufReader, Write};
use std::iter;
use std::net::TcpStream;

use crate::on_both_back_ends;
use crate::support::{Client, Feed, Io, Server, Setup, WAIT_MAX};

on_both_back_ends!(
    trades_arrive_though_quotes_are_conflated,
    a_remote_adapter_says_how_fields_are_sent,
    a_session_reads_its_own_counters,
);

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

/// A remote data adapter, as one of the Java SDK speaks, declares the formats of two of three fields.
fn a_remote_adapter_says_how_fields_are_sent(io: Io) {
    const LONG: &str = "a text of which little changes";
    let setup = Setup {
        more: "[[adapter_sets.data]]\nname = \"FAR\"\nkind = \"remote\"\n\
               [adapter_sets.data.remote]\naddress = \"127.0.0.1:0\"\n[diffs]\norder = [\"text\"]\n",
        ..Setup::default()
    };
    let server = Server::start(io, setup);
    let address = server.address_of("DEMO.FAR");
    // One that comes before the server waits for it is turned away.
    let (mut remote, mut lines, init) = iter::repeat_with(|| {
        let remote = TcpStream::connect(address).unwrap();
        remote.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let lines = BufReader::new(remote.try_clone().unwrap()).lines();
        let mut lines = lines
            .map_while(Result::ok)
            .filter(|line| line != "KEEPALIVE");
        let init = lines.next()?;
        Some((remote, lines, init))
    })
    .find_map(|met| met)
    .unwrap();
    let (id, _) = init.split_once("|DPI|").unwrap();
    write!(remote, "{id}|DPI|S|ARI.version|S|1.9.1\r\n").unwrap();

    let (mut client, session) = Client::with_session(server.address);
    client.send(&format!(
        "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_data_adapter=FAR&LS_mode=MERGE&LS_group=doc\
         &LS_schema=a%20b%20c&LS_snapshot=true&LS_session={session}"
    ));
    let subscribe = lines.next().unwrap();
    let (id, item) = subscribe.split_once("|SUB|").unwrap();
    assert_eq!(item, "S|doc");
    let update = |snapshot: u8, value: &str| {
        format!("7|UD3|S|doc|S|{id}|B|{snapshot}|S|a|S|{value}|S|b|S|{value}|S|c|S|{value}\r\n")
    };
    write!(
        remote,
        "{id}|SUB|V\r\n7|DFD|S|doc|S|{id}|S|a|F|JM|S|b|F|$|S|c|F|#\r\n{}",
        update(1, LONG)
    )
    .unwrap();
    assert_eq!(client.update(), format!("U,1,1,{LONG}|{LONG}|{LONG}"));
    let changed = LONG.replace("little", "nothing");
    write!(remote, "{}", update(0, &changed)).unwrap();
    let line = client.update();
    let fields: Vec<_> = line.strip_prefix("U,1,1,").unwrap().split('|').collect();
    assert!(fields[0].starts_with("^T"), "{line}");
    assert_eq!(fields[1], changed);
    assert_eq!(
        fields[2], fields[0],
        "the configuration says it of the third"
    );
}

/// What a client counts is what it is told, in the end; another client's updates are not among them.
fn a_session_reads_its_own_counters(io: Io) {
    let feed = Feed::new(300, 10);
    let rows = feed.csv();
    let setup = Setup {
        replay: Some(&rows),
        rate_hz: 2_000.0,
        sessions: "status_interval = \"100ms\"",
        more: "[[adapter_sets.data]]\nname = \"STATUS\"\nkind = \"status\"\n",
        ..Setup::default()
    };
    let server = Server::start(io, setup);
    let (mut other, other_id) = Client::with_session(server.address);
    let (mut client, id) = Client::with_session(server.address);
    let status = |session: &str| {
        format!(
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_data_adapter=STATUS&LS_mode=MERGE\
             &LS_group=session%20subscription.2&LS_schema=updates_sent%20mode&LS_snapshot=true&LS_session={session}"
        )
    };
    client.send_together(&[&status(&id), &feed.subscribe(2, &id)]);
    let mut counted = feed.counted();
    let mut told = [0, 0];
    while counted.last != Some(299) || told != [counted.updates; 2] {
        let line = client.update();
        match line.strip_prefix("U,1,") {
            None => {
                counted.take(line.strip_prefix("U,2,1,").map(|_| &*line).unwrap());
            }
            Some(line) => {
                let (item, values) = line.split_once(',').unwrap();
                let item: usize = item.parse().unwrap();
                let (sent, mode) = values.split_once('|').unwrap();
                assert!(["", "MERGE", "#"].contains(&mode), "{line}");
                if !["", "#"].contains(&sent) {
                    told[item - 1] = sent.parse().unwrap();
                }
                assert!(told[item - 1] <= counted.updates, "{line}");
            }
        }
    }
    other.send(&status(&other_id));
    let mut first = [other.update(), other.update()];
    first.sort();
    assert_eq!(first, ["U,1,1,0|#", "U,1,2,#|#"]);
}
