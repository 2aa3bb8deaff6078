//! Remotes that are silent, slow or wrong: what they do is bounded, is said once with their name, hurts nobody else, and
//! when they come back the state is right.

use std::time::{Duration, Instant};

use engine::tlcp::client::Line;

use crate::data::{start, subscribed};
use crate::support::remote::JAVA;
use crate::support::{Client, Java, Remote, Server, data, metadata, subscribe};

/// A line of 100 MB: the server takes as much of it as a line may have, and closes the connection.
#[test]
fn a_line_that_does_not_end() {
    let (server, mut remote, mut client) = start("");
    let sub = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    remote.notify("UD3", "a", &sub, "|B|1|S|f|S|1");
    assert_eq!(client.update(), "U,1,1,1");
    let before = server.rss_bytes();
    let piece = vec![b'x'; 1 << 20];
    // What comes behind the refusal is read for a moment, and dropped.
    let _closed = (0..100).any(|_| remote.try_write(&piece).is_err());
    remote.end();
    server.logged("a line is longer than 4194304 bytes");
    // Twice the line, since the buffer grows twofold; and what was there is given back.
    assert!(server.rss_bytes() < before + (32 << 20));
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    let sub = remote.expect("SUB");
    remote.notify("UD3", "a", &sub, "|B|1|S|f|S|2");
    assert_eq!(client.update(), "U,1,1,2");
    let log = server.stop();
    assert_eq!(log.matches("a line is longer").count(), 1, "{log}");
}

/// Wrong ids, unknown items, events before any subscription, lines that make no sense: passed over, each kind said once
/// and counted; and what is right among them gets through.
#[test]
fn a_data_adapter_that_lies() {
    let server = Server::start(&data(""));
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    for _ in 0..1_000 {
        remote.say("1|UD3|S|a|S|1f|B|1|S|f|S|before any subscription");
    }
    let (mut client, _) = Client::with_session(server.web());
    let sub = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    let id = sub.id.clone();
    for line in [
        "1|UD3|S|b|S|ID|B|0|S|f|S|another item",
        "1|UD3|S|a|S|zz|B|0|S|f|S|no id",
        "1|UD3|S|a|S|ffffffffffffffffffffffff|B|0|S|f|S|a long id",
        "1|EOS|S|a|S|1",
        "1|UD3|S|a|S|ID|B|2|S|f|S|neither true nor false",
        "1|UD3|S|a|S|ID|B|0|S|f|Q|no such type",
        "1|UD3|S|a|S|ID|B|0|S|f",
        "1|UD3|S|a|S|ID|B|0|S|f|S|%",
        "1|UD3|S|a|S|ID|B|0|S|f|S|%C3",
        "1|UD3|S|a|S|ID|B|0|S|f|Y|not base64!",
        "1|UD3|S|#|S|ID|B|0|S|f|S|no item",
        "1|UD3",
        "1|XYZ|S|a",
        "1|NUS|D|0|B|0",
        "nonsense",
        "|||||",
        "ID|SUB",
        "ID|SUB|X",
        "99|SUB|V",
        "99|USB|V",
        "0|CLOSE|S|reason|S|x",
        "1|RAC|S|user|S|again",
        "KEEPALIVE",
    ] {
        for _ in 0..100 {
            remote.say(&line.replace("ID", &id));
        }
    }
    remote.write(b"\xFF\xFE\n");
    let long = "x".repeat(300 << 10);
    remote.say(&format!("1|UD3|S|a|S|{id}|B|1|S|f|S|{long}"));
    let huge = "x".repeat(2 << 20);
    remote.say(&format!("1|UD3|S|a|S|{id}|B|1|S|f|S|{huge}"));
    remote.say(&format!("1|UD3|S|a|S|{id}|B|1|S|f|S|right"));
    assert_eq!(client.update(), "U,1,1,right");
    let log = server.stop();
    for text in [
        "lines that make no sense, the first:",
        "events of items that are not subscribed to, the first: a",
        "replies to no request that is open, the first: 99",
        "events that are too large, the first:",
    ] {
        assert_eq!(log.matches(text).count(), 1, "{text}\n{log}");
    }
    let warnings = log.lines().filter(|line| line.contains("WARN"));
    assert_eq!(warnings.count(), 4, "{log}");
}

/// The same of a metadata adapter.
#[test]
fn a_metadata_adapter_that_lies() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    for line in [
        "99|NUS|D|0|B|1",
        "zz|NNS|V",
        "1|UD3|S|a|S|1|B|0",
        "64|FST",
        "64|FST|S|#|V",
        "64|FUS|S|x|I|many",
        "2|FAL|V",
        "nonsense",
        "|||",
        "KEEPALIVE",
    ] {
        for _ in 0..100 {
            remote.say(line);
        }
    }
    remote.write(b"\xFF\xFE\n");
    let mut client = crate::metadata::knock(&server, "");
    let id = Java::session(&mut remote);
    assert_eq!(client.head(), id);
    let log = server.stop();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(
        warnings
            .iter()
            .all(|line| line.contains("adapter=\"DEMO\""))
    );
}

/// A subscription that is not answered in time is said; what the adapter then has to say of it is heard all the same.
#[test]
fn a_slow_data_adapter() {
    let (server, mut remote, mut client) = start("timeout = \"100ms\"");
    let slow = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    client.send(&subscribe(2, "MERGE", "b", "f"));
    let quick = remote.expect("SUB");
    remote.reply(&quick, "V");
    server.logged("requests without a reply, the first: a");
    remote.reply(&slow, "V");
    remote.notify("UD3", "a", &slow, "|B|1|S|f|S|1");
    assert_eq!(client.update(), "U,1,1,1");
    server.logged_times("requests without a reply", 1);
}

/// An adapter that says that it has failed is not served any longer; the next one gets all subscriptions.
#[test]
fn adapters_that_fail() {
    let (server, mut remote, mut client) = start("");
    let mut sub = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    for (value, failure) in [
        ("1", "1795458747514|FAL|E|out of order".to_owned()),
        ("2", "ID|SUB|EF|out of order".to_owned()),
        ("3", "2|FAL|E|#".to_owned()),
    ] {
        let fields = format!("|B|1|S|f|S|{value}");
        remote.notify("UD3", "a", &sub, &fields);
        assert_eq!(client.update(), format!("U,1,1,{value}"));
        remote.say(&failure.replace("ID", &sub.id));
        let close = remote.next();
        assert!(
            close.line.starts_with("0|CLOSE|S|reason|S|it+has+failed"),
            "{close:?}"
        );
        remote = Remote::ready(server.port("DEMO.FEED"));
        sub = remote.expect("SUB");
    }

    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    remote.say("2|FAL|E|out of order");
    assert!(remote.next().line.starts_with("0|CLOSE|"));
    Remote::ready(server.port("DEMO"));
    server.logged("it has failed: out of order");
}

/// Silence beyond the keepalive timeout ends a connection, and anything at all that comes keeps it.
#[test]
fn a_remote_that_falls_silent() {
    let server = Server::start(&data("keepalive_timeout = \"1s\""));
    let mut remote = Remote::connect(server.port("DEMO.FEED"));
    remote.say(JAVA);
    let init = remote.init("S|ARI.version|S|1.9.1");
    assert_eq!(init.value("keepalive_hint.millis"), Some("500"));
    // Not a measurement: it has to live for longer than the timeout, however long that takes here.
    let until = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < until {
        remote.say("KEEPALIVE");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.count("is lost"), 0);
    assert_eq!(remote.next().line, "0|CLOSE|S|reason|S|keepalive+timeout");
    server.logged("is lost: keepalive timeout");
}

/// One at a time: a second remote is turned away with a closed connection, however often it tries, and said once.
#[test]
fn a_second_remote_is_turned_away() {
    let (server, mut remote, mut client) = start("");
    for _ in 0..3 {
        let mut second = Remote::connect(server.port("DEMO.FEED"));
        assert!(second.end().is_empty());
    }
    let sub = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    remote.notify("UD3", "a", &sub, "|B|1|S|f|S|1");
    assert_eq!(client.update(), "U,1,1,1");
    server.logged_times("is turned away", 1);
}

/// A remote that answers nothing does not delay sessions of other sets, nor updates.
#[test]
fn a_metadata_adapter_that_does_not_answer_hurts_nobody_else() {
    let other = data("").replace("DEMO", "OTHER");
    let server = Server::start(&format!("{other}{}", metadata("")));
    let mut feed = Remote::ready(server.port("OTHER.FEED"));
    let silent = Remote::ready(server.port("DEMO"));
    let waiting: Vec<_> = (0..100)
        .map(|_| crate::metadata::knock(&server, ""))
        .collect();
    let mut client = Client::connect(server.web());
    client.send("create_session\r\nLS_adapter_set=OTHER&LS_cid=test&LS_send_sync=false");
    client.head();
    let sub = subscribed(&mut client, &mut feed, 1, "MERGE", "a", "f");
    for value in ["1", "2", "3"] {
        feed.notify("UD3", "a", &sub, &format!("|B|0|S|f|S|{value}"));
        let update = client
            .line_such(|line| matches!(line, Line::Update { values, .. } if *values == value));
        assert!(update.ends_with(value));
    }
    drop((silent, waiting));
}
