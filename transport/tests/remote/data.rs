//! What a data adapter is asked, and what becomes of what it says.

use engine::tlcp::client::Line;

use crate::support::remote::JAVA;
use crate::support::{Client, Remote, Server, data, subscribe};

/// A server with a data adapter that is ready, and a client with a session.
pub fn start(more: &str) -> (Server, Remote, Client) {
    let server = Server::start(&data(more));
    let remote = Remote::ready(server.port("DEMO.FEED"));
    server.logged("is there");
    let (client, _) = Client::with_session(server.web());
    (server, remote, client)
}

/// Makes the client subscribe; returns what the adapter is asked for.
pub fn subscribed(
    client: &mut Client,
    remote: &mut Remote,
    sub_id: u32,
    mode: &str,
    item: &str,
    schema: &str,
) -> crate::support::remote::Request {
    client.send(&subscribe(sub_id, mode, item, schema));
    client.line_such(|line| matches!(line, Line::Conf { .. }));
    remote.expect("SUB")
}

#[test]
fn init_has_the_adapter_and_its_parameters() {
    let server = Server::start(&data(
        "keepalive_hint = \"5s\"\nparams = { \"remote:greeting\" = \"hello wörld\" }",
    ));
    let mut remote = Remote::connect(server.port("DEMO.FEED"));
    remote.say(JAVA);
    let init = remote.init("S|ARI.version|S|1.9.1");
    assert!(init.line.is_ascii(), "{}", init.line);
    for (name, value) in [
        ("ARI.version", "1.9.1"),
        ("keepalive_hint.millis", "5000"),
        ("adapters_conf.id", "DEMO"),
        ("data_provider.name", "FEED"),
        ("remote%3Agreeting", "hello+w%C3%B6rld"),
    ] {
        assert_eq!(init.value(name), Some(value), "{}", init.line);
    }
}

/// Replies to subscriptions may come behind events, and values in every form that SDKs give them.
#[test]
fn values_in_all_forms_before_the_subscription_is_confirmed() {
    let (_server, mut remote, mut client) = start("");
    let schema = "message time empty bytes f0 plus";
    let sub = subscribed(&mut client, &mut remote, 1, "MERGE", "tèst|x", schema);
    assert_eq!(sub.values, ["tèst%7Cx"]);
    remote.write(b"\n\r\n");
    remote.notify(
        "UD3",
        "tèst%7Cx",
        &sub,
        "|B|1|S|message|S|a%7Cb%2Bc%25d #$ é€\0|S|time|S|#|S|empty|S|$|S|bytes|Y|AGHp|I|4|S|f0|S|v0|S|plus|S|1%2b1",
    );
    remote.notify("EOS", "tèst%7Cx", &sub, "");
    let update = client.update();
    let Ok(Line::Update { values, .. }) = Line::parse(&update) else {
        unreachable!("an update");
    };
    assert_eq!(values, "a%7Cb+c%25d #$ é€%00|#|$|%00aé|v0|1+1", "{update}");
    remote.reply(&sub, "V");
    // In pieces, with line feeds only.
    for (value, expected) in [("%23", "U,1,1,%23|^5"), ("2", "U,1,1,2|^5")] {
        let id = &sub.id;
        let line = format!("1|UD3|S|tèst%7Cx|S|{id}|B|0|S|message|S|{value}\n");
        for byte in line.bytes() {
            remote.write(&[byte]);
        }
        assert_eq!(client.update(), expected);
    }
    // Without fields, with the token that some SDKs leave at the end.
    remote.notify("UD3", "tèst%7Cx", &sub, "|B|0|");
    assert_eq!(client.update(), "U,1,1,^6");
}

/// Versions below 1.9 are all in the form encoding; so is what is said to them.
#[test]
fn the_old_encoding() {
    let server = Server::start(&data(""));
    let mut remote = Remote::connect(server.port("DEMO.FEED"));
    remote.write(b"\xEF\xBB\xBF");
    remote.say("KEEPALIVE");
    remote.init("V");
    let (mut client, _) = Client::with_session(server.web());
    let sub = subscribed(&mut client, &mut remote, 1, "MERGE", "tèst|b", "f");
    assert_eq!(sub.values, ["t%C3%A8st%7Cb"]);
    remote.notify("UD3", "t%C3%A8st%7Cb", &sub, "|B|1|S|f|S|1+1%2B1");
    assert_eq!(client.update(), "U,1,1,1 1+1");
}

/// Items are asked for once for all clients, and given back when nobody wants them any more: in turn, under new ids.
#[test]
fn subscriptions_of_an_item_alternate_and_events_of_earlier_ones_are_not_heard() {
    let (server, mut remote, mut client) = {
        let server = Server::start(&format!(
            "[sessions]\nsubscription_linger = \"0s\"\n{}",
            data("")
        ));
        let remote = Remote::ready(server.port("DEMO.FEED"));
        let (client, _) = Client::with_session(server.web());
        (server, remote, client)
    };
    let first = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    client.send(&subscribe(2, "MERGE", "a", "f"));
    client.answer("add2");
    for sub_id in [1, 2] {
        client.send(&format!(
            "control\r\nLS_reqId=d&LS_op=delete&LS_subId={sub_id}"
        ));
        client.answer("d");
    }
    // No answer to the first: it is obsolete, and some SDKs do not answer then.
    let off = remote.expect("USB");
    let second = subscribed(&mut client, &mut remote, 3, "MERGE", "a", "f");
    assert_ne!(first.id, second.id);
    remote.notify("UD3", "a", &first, "|B|0|S|f|S|old");
    remote.notify("EOS", "a", &first, "");
    remote.reply(&off, "V");
    remote.reply(&second, "V");
    remote.notify("UD3", "a", &second, "|B|1|S|f|S|new");
    assert_eq!(client.update(), "U,3,1,new");
    let log = server.stop();
    assert_eq!(
        log.matches("items that are not subscribed to, the first: a")
            .count(),
        1
    );
}

#[test]
fn a_refused_item_has_no_data_until_all_have_left_it() {
    let server = Server::start(&format!(
        "[sessions]\nsubscription_linger = \"0s\"\n{}",
        data("")
    ));
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    let (mut client, _) = Client::with_session(server.web());
    let refused = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
    remote.reply(&refused, "EU|no such item%7Cé");
    remote.notify("UD3", "a", &refused, "|B|0|S|f|S|not heard");
    server.logged("items refused by the adapter, the first: a: no such item|é");
    client.send("control\r\nLS_reqId=d&LS_op=delete&LS_subId=1");
    client.line_such(|line| matches!(line, Line::Unsub { .. }));
    // Not unsubscribed from; and whoever comes now makes the adapter be asked again.
    let again = subscribed(&mut client, &mut remote, 2, "MERGE", "a", "f");
    remote.reply(&again, "V");
    remote.notify("UD3", "a", &again, "|B|1|S|f|S|1");
    assert_eq!(client.update(), "U,2,1,1");
}

#[test]
fn snapshots_in_each_mode() {
    let (_server, mut remote, mut client) = start("");
    // DISTINCT: nobody sees anything before its end; what comes late is an event as others.
    let sub = subscribed(&mut client, &mut remote, 1, "DISTINCT", "news", "f");
    for value in ["1", "2"] {
        remote.notify("UD3", "news", &sub, &format!("|B|1|S|f|S|{value}"));
    }
    remote.notify("EOS", "news", &sub, "");
    let lines = [client.line(), client.line(), client.line()];
    assert_eq!(lines, ["U,1,1,1", "U,1,1,2", "EOS,1,1"]);
    remote.notify("UD3", "news", &sub, "|B|1|S|f|S|late");
    remote.notify("EOS", "news", &sub, "");
    assert_eq!(client.line(), "U,1,1,late");
    remote.notify("CLS", "news", &sub, "");
    assert_eq!(client.line(), "CS,1,1");

    // COMMAND: keys and commands are fields as others.
    let sub = subscribed(
        &mut client,
        &mut remote,
        2,
        "COMMAND",
        "list",
        "key command f",
    );
    for (key, value) in [("a", "1"), ("b", "2")] {
        let fields = format!("|B|1|S|key|S|{key}|S|command|S|ADD|S|f|S|{value}");
        remote.notify("UD3", "list", &sub, &fields);
    }
    // An update ends the snapshot as well.
    remote.notify(
        "UD3",
        "list",
        &sub,
        "|B|0|S|key|S|c|S|command|S|ADD|S|f|S|3",
    );
    let lines: Vec<_> = (0..4).map(|_| client.line()).collect();
    assert_eq!(lines[..3], ["U,2,1,a|ADD|1", "U,2,1,b||2", "EOS,2,1"]);
    assert_eq!(lines[3], "U,2,1,c||3");
    remote.notify("UD3", "list", &sub, "|B|0|S|key|S|a|S|command|S|DELETE");
    assert_eq!(client.line(), "U,2,1,a|DELETE|#");

    // MERGE: a clear is an update in which all is null.
    let sub = subscribed(&mut client, &mut remote, 3, "MERGE", "quote", "f g");
    remote.notify("UD3", "quote", &sub, "|B|1|S|f|S|1|S|g|S|2");
    assert_eq!(client.update(), "U,3,1,1|2");
    remote.notify("CLS", "quote", &sub, "");
    assert_eq!(client.update(), "U,3,1,#|#");

    // RAW has no snapshot.
    let sub = subscribed(&mut client, &mut remote, 4, "RAW", "log", "f");
    remote.notify("UD3", "log", &sub, "|B|1|S|f|S|snapshot");
    remote.notify("EOS", "log", &sub, "");
    remote.notify("UD3", "log", &sub, "|B|0|S|f|S|event");
    assert_eq!(client.update(), "U,4,1,event");
}

/// Ten thousand items at once: all are asked for, and all snapshots arrive, whatever order the adapter has.
#[test]
fn ten_thousand_items_at_once() {
    const ITEMS: usize = 10_000;
    let server = Server::start(&format!(
        "[sessions]\nrequest_limit = \"1MiB\"\n{}",
        data("")
    ));
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    let (mut client, _) = Client::with_session(server.web());
    let names: Vec<_> = (0..ITEMS).map(|number| format!("i{number}")).collect();
    client.send(&subscribe(1, "MERGE", &names.join(" "), "f"));
    client.answer("add1");
    let mut lines = String::new();
    for _ in 0..ITEMS {
        let sub = remote.expect("SUB");
        let (id, item) = (&sub.id, &sub.values[0]);
        lines.insert_str(
            0,
            &format!("{id}|SUB|V\r\n1|UD3|S|{item}|S|{id}|B|1|S|f|S|{item}\r\n"),
        );
    }
    let writer = std::thread::spawn(move || {
        remote.write(lines.as_bytes());
        remote
    });
    let mut seen = vec![false; ITEMS];
    for _ in 0..ITEMS {
        let update = client.update();
        let Ok(Line::Update { item, values, .. }) = Line::parse(&update) else {
            unreachable!("an update");
        };
        let index = item as usize - 1;
        assert_eq!(values, names[index]);
        assert!(!std::mem::replace(&mut seen[index], true), "{update}");
    }
    drop(writer.join().unwrap());
}

#[test]
fn two_connections_in_any_order() {
    for notify_first in [false, true] {
        let server = Server::start(&data("notify_address = \"127.0.0.1:0\""));
        let (requests, notifications) = (server.port("DEMO.FEED"), server.port("DEMO.FEED.notify"));
        let (mut remote, mut notify) = if notify_first {
            let notify = Remote::connect(notifications);
            (Remote::connect(requests), notify)
        } else {
            (Remote::connect(requests), Remote::connect(notifications))
        };
        notify.say("1795458746864|RAC|S|enableClosePacket|S|true");
        remote.say("1|RAC|S|enableClosePacket|S|true");
        remote.init("S|ARI.version|S|1.8.3");
        let (mut client, _) = Client::with_session(server.web());
        let sub = subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");
        notify.notify("UD3", "a", &sub, "|B|1|S|f|S|1");
        assert_eq!(client.update(), "U,1,1,1");
        remote.reply(&sub, "V");
        // If one is lost the other is closed, and the next remote brings both.
        notify.close();
        assert_eq!(
            remote.next().line,
            "0|CLOSE|S|reason|S|the+remote+has+closed+the+connection"
        );
        assert!(remote.end().is_empty());
        server.logged("is lost");
        let notify = Remote::connect(notifications);
        let mut remote = Remote::connect(requests);
        remote.init("S|ARI.version|S|1.8.3");
        assert_eq!(remote.expect("SUB").values, ["a"]);
        drop(notify);
    }
}

/// A remote that dies between its two connections does not get in the way of the next.
#[test]
fn a_remote_that_dies_half_connected_is_forgotten() {
    let server = Server::start(&data("notify_address = \"127.0.0.1:0\""));
    let (requests, notifications) = (server.port("DEMO.FEED"), server.port("DEMO.FEED.notify"));
    let mut dying = Remote::connect(requests);
    dying.say("1|RAC|S|enableClosePacket|S|true");
    dying.close();
    server.logged("closed before anything was said");
    let mut remote = Remote::connect(requests);
    remote.say("1|RAC|S|enableClosePacket|S|true");
    let _notify = Remote::connect(notifications);
    assert_eq!(remote.init("S|ARI.version|S|1.8.3").method, "DPI");
}
