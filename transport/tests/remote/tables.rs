//! How subscriptions are told to metadata adapters: the layouts of the versions and SDKs, statistics, orders of the
//! adapter, and the order of all that.

use engine::tlcp::client::Line;

use crate::metadata::session;
use crate::support::remote::JAVA;
use crate::support::{Client, Java, Remote, Server, metadata};

const NODE: &str = "1|RAC|S|enableClosePacket|S|true|S|SDK|S|Node.js+Adapter+SDK";

fn add(client: &mut Client, sub_id: u32) {
    client.send(&format!(
        "control\r\nLS_reqId=add{sub_id}&LS_op=add&LS_subId={sub_id}&LS_mode=MERGE&LS_group=item1%20item2\
         &LS_schema=last_price&LS_snapshot=true&LS_requested_max_frequency=1"
    ));
}

/// What a subscription takes before `NNT`.
fn before_table(remote: &mut Remote) {
    for method in ["GIS", "GSC", "GIT", "GUI"] {
        Java::answers(remote, method);
    }
}

#[test]
fn each_sdk_gets_the_layout_that_it_can_read() {
    let full = "|I|1|M|M|S|item1 item2|S|DEFAULT|S|last_price|I|1|I|2|S|#|I|2|S|item1|S|item2";
    let short = "|I|1|M|M|S|item1 item2|S|DEFAULT|S|last_price|I|1|I|2|S|#";
    let old = "|I|1|M|M|S|item1+item2|S|last_price|I|1|I|2|S|#";
    let none = "|I|0";
    for (introduction, version, table_items, table, statistics) in [
        (JAVA, "S|ARI.version|S|1.9.1", "auto", full, none),
        (JAVA, "S|ARI.version|S|1.9.0", "auto", full, none),
        (NODE, "S|ARI.version|S|1.9.1", "auto", short, ""),
        (NODE, "S|ARI.version|S|1.9.1", "always", full, none),
        (JAVA, "S|ARI.version|S|1.9.1", "never", short, ""),
        (NODE, "S|ARI.version|S|1.8.3", "auto", old, ""),
        ("", "S|ARI.version|S|1.8.2", "always", old, ""),
        ("", "V", "auto", old, ""),
    ] {
        let server = Server::start(&metadata(&format!("table_items = \"{table_items}\"")));
        let mut remote = Remote::connect(server.port("DEMO"));
        if !introduction.is_empty() {
            remote.say(introduction);
        }
        remote.init(version);
        let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
        add(&mut client, 1);
        for method in ["GIS", "GSC"] {
            let asked = remote.expect(method);
            let names = asked.values[asked.values.len() - 2].replace('+', " ");
            let names: Vec<_> = names.split(' ').map(|name| format!("S|{name}")).collect();
            remote.reply(&asked, &names.join("|"));
        }
        for method in ["GIT", "GUI"] {
            Java::answers(&mut remote, method);
        }
        let told = remote.answer("NNT", "V");
        let expected = format!("{}|NNT|S|u|S|{id}{table}", told.id);
        assert_eq!(
            told.line, expected,
            "{introduction} {version} {table_items}"
        );
        assert_eq!(client.answer("add1"), "REQOK,add1");
        client.send("control\r\nLS_reqId=d&LS_op=delete&LS_subId=1");
        let closed = remote.answer("NTC", "V");
        let expected = format!("{}|NTC|S|{id}{table}{statistics}", closed.id);
        assert_eq!(
            closed.line, expected,
            "{introduction} {version} {table_items}"
        );
    }
}

#[test]
fn statistics_are_told_to_those_who_want_them() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, _) = session(&server, &mut remote, "&LS_user=u");
    add(&mut client, 1);
    before_table(&mut remote);
    remote.answer("NNT", "B|0|B|1");
    // Of each item a snapshot and one update at least, while more come than the frequency lets through.
    let mut updates = [0, 0];
    while updates.iter().any(|count| *count < 2) {
        let line = client.update();
        let Ok(Line::Update { item, .. }) = Line::parse(&line) else {
            unreachable!("an update");
        };
        updates[item as usize - 1] += 1;
    }
    client.send("control\r\nLS_reqId=d&LS_op=delete&LS_subId=1");
    let closed = remote.answer("NTC", "V");
    let (_, statistics) = closed.line.rsplit_once("|I|2|L|").unwrap();
    let numbers: Vec<u64> = statistics
        .split("|L|")
        .map(|number| number.parse().unwrap())
        .collect();
    let [sent_1, lost_1, filtered_1, sent_2, lost_2, filtered_2] = numbers[..] else {
        panic!("three of each item: {}", closed.line);
    };
    assert!(
        sent_1 >= updates[0] - 1 && sent_2 >= updates[1] - 1,
        "{}",
        closed.line
    );
    assert_eq!((lost_1, lost_2), (0, 0));
    assert!(filtered_1 + filtered_2 > 0, "{}", closed.line);
}

#[test]
fn a_session_ends_behind_all_its_subscriptions() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
    for sub_id in [1, 2] {
        add(&mut client, sub_id);
        Java::subscription(&mut remote);
    }
    client.send("control\r\nLS_reqId=d&LS_op=delete&LS_subId=1");
    let first = remote.expect("NTC");
    client.send("control\r\nLS_reqId=e&LS_op=destroy");
    client.line_such(|line| matches!(line, Line::End { .. }));
    // Nothing of the session's end before that of its first subscription is answered.
    let (_other, _) = session(&server, &mut remote, "");
    remote.reply(&first, "V");
    let second = remote.answer("NTC", "V");
    assert_eq!((&*first.values[1], &*second.values[1]), ("1", "2"));
    assert_eq!(remote.expect("NSC").values, [id]);
}

#[test]
fn subscriptions_of_a_session_can_be_told_one_at_a_time() {
    for (more, sequential) in [("", false), ("sequential_tables = true", true)] {
        let server = Server::start(&metadata(more));
        let mut remote = Remote::ready(server.port("DEMO"));
        let (mut client, _) = session(&server, &mut remote, "&LS_user=u");
        add(&mut client, 1);
        before_table(&mut remote);
        let first = remote.expect("NNT");
        add(&mut client, 2);
        for method in ["GIS", "GSC"] {
            Java::answers(&mut remote, method);
        }
        if sequential {
            // The second is asked about when the first is answered: a session's requests come before.
            let (_other, _) = session(&server, &mut remote, "");
            remote.reply(&first, "V");
            remote.expect("NNT");
        } else {
            let second = remote.expect("NNT");
            remote.reply(&second, "V");
            assert_eq!(client.answer("add2"), "REQOK,add2");
            remote.reply(&first, "V");
            assert_eq!(client.answer("add1"), "REQOK,add1");
        }
    }
}

#[test]
fn the_adapter_ends_a_session() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    for (order, end) in [
        ("I|-9|S|bye é%7C", "END,-9,bye é|"),
        ("I|-9|S|#", "END,-9,"),
        ("I|5|S|x", "END,0,x"),
        ("V", "END,32,Session closed by the server"),
    ] {
        let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
        remote.say(&format!("64|FST|S|{id}|{order}"));
        assert_eq!(remote.next().line, "64|FST|V");
        let told = client.line_such(|line| matches!(line, Line::End { .. }));
        assert_eq!(told, end);
        assert_eq!(Java::answers(&mut remote, "NSC").values[..], [&*id]);
        // It is over already, which is no error; nor is one that never was.
        remote.say(&format!("65|FST|S|{id}|V\r\n66|FST|S|Sunknown|V"));
        assert_eq!(remote.next().line, "65|FST|V");
        assert_eq!(remote.next().line, "66|FST|V");
    }
}

/// The adapter may be quicker to end a session than to agree to it.
#[test]
fn a_session_that_is_not_agreed_to_yet_ends_behind_its_agreement() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let mut client = crate::metadata::knock(&server, "");
    Java::answers(&mut remote, "NUS");
    let asked = remote.expect("NNS");
    remote.say(&format!("64|FST|S|{}|I|-1|S|no", asked.values[1]));
    assert_eq!(remote.next().line, "64|FST|V");
    remote.reply(&asked, "V");
    assert_eq!(client.head(), asked.values[1]);
    let end = client.line_such(|line| matches!(line, Line::End { .. }));
    assert_eq!(end, "END,-1,no");
    assert_eq!(remote.expect("NSC").values[0], asked.values[1]);
}

#[test]
fn the_adapter_ends_a_subscription_if_it_is_entitled_to() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
    add(&mut client, 1);
    before_table(&mut remote);
    remote.answer("NNT", "B|1|B|0");
    add(&mut client, 2);
    Java::subscription(&mut remote);
    client.answer("add2");
    for (window, answer) in [("1", "B|1"), ("2", "B|0"), ("9", "B|1"), ("-1", "B|1")] {
        remote.say(&format!("64|FUS|S|{id}|I|{window}"));
        assert_eq!(remote.next().line, format!("64|FUS|{answer}"));
        if window == "1" {
            let told = client.line_such(|line| matches!(line, Line::Unsub { .. }));
            assert_eq!(told, "UNSUB,1");
            assert_eq!(Java::answers(&mut remote, "NTC").values[1], "1");
        }
    }
    remote.say("64|FUS|S|Sunknown|I|1");
    assert_eq!(remote.next().line, "64|FUS|B|1");
}

/// Whether it is entitled is not known before it has answered, so its request waits.
#[test]
fn a_subscription_that_is_not_agreed_to_yet_ends_behind_its_agreement() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
    add(&mut client, 1);
    before_table(&mut remote);
    for (sub_id, entitled) in [(1, true), (2, false)] {
        let asked = remote.expect("NNT");
        remote.say(&format!("64|FUS|S|{id}|I|{sub_id}"));
        let (_other, _) = session(&server, &mut remote, ""); // nothing is said of it yet
        remote.reply(&asked, &format!("B|{}|B|0", u8::from(entitled)));
        let answer = remote.next().line;
        assert_eq!(answer, format!("64|FUS|B|{}", u8::from(entitled)));
        assert_eq!(
            client.answer(&format!("add{sub_id}")),
            format!("REQOK,add{sub_id}")
        );
        if entitled {
            client.line_such(|line| matches!(line, Line::Unsub { sub_id: 1, .. }));
            assert_eq!(Java::answers(&mut remote, "NTC").values[1], "1");
            add(&mut client, 2);
            for method in ["GIS", "GSC"] {
                Java::answers(&mut remote, method);
            }
        }
    }
}
