//! Remotes that go and come back: what becomes of items, of sessions and of what was to be told.

use engine::tlcp::client::Line;

use crate::data::{start, subscribed};
use crate::metadata::{knock, knock_early, session};
use crate::support::{Client, Java, Remote, Server, data, metadata, subscribe};

/// The remote goes, and another one comes and is asked for the item again: a list with the row that is there, and then
/// an update. Returns what a client sees of that.
fn of_a_return(policy: &str, mode: &str, before: &[&str], after: &[&str]) -> Vec<String> {
    let (server, mut remote, mut client) = start(&format!("events_recovery = \"{policy}\""));
    let sub = subscribed(&mut client, &mut remote, 1, mode, "a", "key command f");
    for line in before {
        say(&mut remote, &sub, line);
    }
    let mut lines: Vec<String> = Vec::new();
    lines.extend((0..before.len()).map(|_| client.line()));
    assert!(
        lines.iter().all(|line| !line.starts_with("PROBE")),
        "{lines:?}"
    );
    lines.clear();
    remote.close();
    server.logged("is lost");
    if policy == "enforce_snapshot" {
        lines.push(client.line());
    }
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    let sub = remote.expect("SUB");
    remote.reply(&sub, "V");
    for line in after {
        say(&mut remote, &sub, line);
    }
    let last = after.last().unwrap();
    let last = last.rsplit_once('|').unwrap().1;
    loop {
        lines.push(client.line());
        assert_ne!(lines.last().unwrap(), "PROBE", "{lines:?}");
        if lines.last().unwrap().contains(last) {
            return lines;
        }
    }
}

fn say(remote: &mut Remote, sub: &crate::support::remote::Request, line: &str) {
    match line {
        "EOS" => remote.notify("EOS", "a", sub, ""),
        fields => remote.notify("UD3", "a", sub, fields),
    }
}

#[test]
fn items_of_a_data_adapter_that_returns() {
    let merge: (&[_], &[_]) = (
        &["|B|1|S|f|S|1"],
        &["|B|1|S|f|S|snapshot", "EOS", "|B|0|S|key|S|last"],
    );
    // Of events that follow each other closely a client may see the last only.
    for (policy, expected, merged) in [
        (
            "use_snapshot",
            &["U,1,1,||snapshot", "U,1,1,last||"][..],
            &["U,1,1,last||snapshot"][..],
        ),
        ("leave_hole", &["U,1,1,last||"], &["U,1,1,last||"]),
        (
            "enforce_snapshot",
            &["U,1,1,||#", "U,1,1,||snapshot", "U,1,1,last||"],
            &["U,1,1,||#", "U,1,1,last||snapshot"],
        ),
    ] {
        let lines = of_a_return(policy, "MERGE", merge.0, merge.1);
        assert!(lines == expected || lines == merged, "{policy}: {lines:?}");
    }

    let row = |key: &str, command: &str, value: &str, snapshot: u8| {
        format!("|B|{snapshot}|S|key|S|{key}|S|command|S|{command}|S|f|S|{value}")
    };
    let before = [row("x", "ADD", "1", 1), "EOS".into()];
    let after = [
        row("y", "ADD", "2", 1),
        "EOS".into(),
        row("z", "ADD", "last", 0),
    ];
    let before: Vec<_> = before.iter().map(String::as_str).collect();
    let after: Vec<_> = after.iter().map(String::as_str).collect();
    for (policy, expected) in [
        ("use_snapshot", &["U,1,1,y||2", "U,1,1,z||last"][..]),
        ("leave_hole", &["U,1,1,z||last"]),
        (
            "enforce_snapshot",
            &["CS,1,1", "U,1,1,y||2", "U,1,1,z||last"],
        ),
    ] {
        let lines = of_a_return(policy, "COMMAND", &before, &after);
        assert_eq!(lines, expected, "{policy}");
    }
}

/// Without its remote, subscriptions are accepted and their snapshots are empty; and the status item tells.
#[test]
fn a_data_adapter_that_has_not_come_yet() {
    let server = Server::start(&data("status_item = \"status\""));
    let (mut client, _) = Client::with_session(server.web());
    client.send(&subscribe(1, "MERGE", "status", "status"));
    assert_eq!(client.update(), "U,1,1,connecting");
    client.send(&subscribe(2, "DISTINCT", "news", "f"));
    let end = client.line_such(|line| matches!(line, Line::Eos { .. }));
    assert_eq!(end, "EOS,2,1");
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    assert_eq!(client.update(), "U,1,1,connected");
    let sub = remote.expect("SUB");
    assert_eq!(sub.values, ["news"]);
    remote.notify("UD3", "news", &sub, "|B|1|S|f|S|1");
    assert_eq!(client.update(), "U,2,1,1");
    remote.close();
    assert_eq!(client.update(), "U,1,1,reconnecting");
    // The item itself is never asked for.
    let mut remote = Remote::ready(server.port("DEMO.FEED"));
    assert_eq!(remote.expect("SUB").values, ["news"]);
    assert_eq!(client.update(), "U,1,1,connected");
}

/// What clients are told who want a session while the adapter is not there, or goes away just then.
#[test]
fn sessions_while_a_metadata_adapter_is_away() {
    for (more, expected) in [
        ("", "CONERR,6,"),
        (
            "unavailable = \"fail\"",
            "CONERR,66,The Metadata Adapter is not connected",
        ),
        (
            "unavailable_code = -10\nunavailable_text = \"Closed\"",
            "CONERR,-10,Closed",
        ),
    ] {
        let server = Server::start(&metadata(more));
        let line = knock_early(&server, "").line();
        assert!(line.starts_with(expected), "{line}");
        let mut remote = Remote::ready(server.port("DEMO"));
        let (mut old, _) = session(&server, &mut remote, "");
        let mut client = knock(&server, "");
        remote.expect("NUS");
        remote.close();
        let line = client.line();
        assert!(line.starts_with(expected), "{line}");
        // Sessions that are there live on; what needs the adapter fails.
        old.send("control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=a&LS_schema=b");
        assert_eq!(
            old.answer("1"),
            "REQERR,1,66,The Metadata Adapter is not connected"
        );
        old.send("msg\r\nLS_reqId=m&LS_message=x&LS_msg_prog=1");
        let failed = old.line_such(|line| matches!(line, Line::Msgfail { .. }));
        assert_eq!(
            failed,
            "MSGFAIL,*,1,34,The Metadata Adapter is not connected"
        );
        let mut remote = Remote::ready(server.port("DEMO"));
        let (_new, _) = session(&server, &mut remote, "");
    }
}

/// Ends that got lost with a remote are told to the next one, or not, as configured.
#[test]
fn ends_that_a_remote_was_not_told_of() {
    for (policy, expected) in [
        ("unneeded", &[][..]),
        ("optimistic", &["NTC 2", "NSC"]),
        ("pessimistic", &["NTC 1", "NTC 2", "NSC"]),
    ] {
        let server = Server::start(&metadata(&format!("closes_recovery = \"{policy}\"")));
        let mut remote = Remote::ready(server.port("DEMO"));
        let (mut client, id) = session(&server, &mut remote, "");
        for sub_id in 1..=3 {
            client.send(&format!(
                "control\r\nLS_reqId=a{sub_id}&LS_op=add&LS_subId={sub_id}&LS_mode=MERGE&LS_group=item1&LS_schema=a"
            ));
            Java::subscription(&mut remote);
        }
        // The end of the first is not answered, that of the third is; then the remote goes.
        for sub_id in [1, 3] {
            client.send(&format!(
                "control\r\nLS_reqId=d&LS_op=delete&LS_subId={sub_id}"
            ));
            let told = remote.expect("NTC");
            assert_eq!(told.values[1], sub_id.to_string());
            if sub_id == 3 {
                remote.reply(&told, "V");
            }
        }
        let (_other, _) = session(&server, &mut remote, ""); // the answer was read
        remote.close();
        server.logged("is lost");
        client.send("control\r\nLS_reqId=e&LS_op=destroy");
        client.line_such(|line| matches!(line, Line::End { .. }));
        // What is refused now comes behind the end of the session.
        assert!(knock_early(&server, "").line().starts_with("CONERR,6,"));
        let mut remote = Remote::ready(server.port("DEMO"));
        let mut told = Vec::new();
        // What is asked last comes behind all that is told again, but for what waits for answers.
        let mut last = knock(&server, "");
        let mut opened = false;
        while !opened || told.len() < expected.len() {
            let request = remote.next();
            remote.reply(&request, &Java::answer(&request).unwrap());
            match &*request.method {
                "NTC" if request.values[1] == "3" => {} // was answered, but behind one that was not
                "NTC" => told.push(format!("NTC {}", request.values[1])),
                "NSC" => {
                    assert_eq!(request.values[..], [&*id]);
                    told.push("NSC".into());
                }
                "NNS" => opened = true,
                _ => {}
            }
        }
        last.head();
        assert_eq!(told, expected, "{policy}");
    }
}
