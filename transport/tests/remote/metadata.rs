//! What a metadata adapter is asked, when, and what becomes of its answers.

use engine::tlcp::client::Line;

use crate::support::remote::{JAVA, Request};
use crate::support::{Client, Java, Remote, Server, metadata};

const CREATE: &str = "create_session\r\nLS_adapter_set=DEMO&LS_cid=pcYgxn8m8%20feOojyA1V681i3g2.pz482hB5DM9Kj%20uWurb&LS_send_sync=false";

/// A client that wants a session, once the metadata adapter is there.
pub fn knock(server: &Server, more: &str) -> Client {
    server.has_metadata_adapter();
    knock_early(server, more)
}

/// A client that wants a session, whether the metadata adapter is there or not.
pub fn knock_early(server: &Server, more: &str) -> Client {
    let mut client = Client::connect(server.web());
    client.send(&format!("{CREATE}{more}"));
    client
}

/// A client with a session, and the session's id.
pub fn session(server: &Server, remote: &mut Remote, more: &str) -> (Client, String) {
    let mut client = knock(server, more);
    let asked = Java::session(remote);
    let told = client.head();
    assert_eq!(asked, told);
    (client, told)
}

fn add(sub_id: u32, more: &str) -> String {
    format!(
        "control\r\nLS_reqId={sub_id}&LS_op=add&LS_subId={sub_id}&LS_mode=MERGE&LS_schema=last_price{more}"
    )
}

#[test]
fn a_session_is_asked_about_with_all_that_is_known_of_its_client() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::connect(server.port("DEMO"));
    remote.say(JAVA);
    let init = remote.init("S|ARI.version|S|1.9.1|S|later|S|more");
    assert_eq!(init.method, "MPI");
    assert_eq!(init.value("ARI.version"), Some("1.9.1"));
    assert_eq!(init.value("adapters_conf.id"), Some("DEMO"));
    assert!(init.value("server.instance_id").is_some());
    assert!(init.value("proxy.instance_id").is_some());
    assert_eq!(init.value("keepalive_hint.millis"), None);

    let mut client = knock(&server, "&LS_user=al%20%C3%A9%7C&LS_password=p%2B%25");
    let user = remote.answer("NUS", "D|50.5|B|1");
    assert_eq!(user.values[..2], ["al é%7C", "p%2B%25"]);
    assert_eq!(user.value("host"), Some("localhost"));
    assert_eq!(user.value("upgrade"), Some("websocket"));
    let request_id = user.value("REQUEST_ID").unwrap();

    let new = remote.answer("NNS", "V");
    assert_eq!(new.values[0], "al é%7C");
    assert_eq!(new.value("REQUEST_ID"), Some(request_id));
    assert_eq!(new.value("REMOTE_IP"), Some("127.0.0.1"));
    let port = client.stream.local_addr().unwrap().port().to_string();
    assert_eq!(new.value("REMOTE_PORT"), Some(&*port));
    assert_eq!(new.value("USER_AGENT"), Some("#"));
    assert_eq!(new.value("FORWARDING_INFO"), Some("#"));
    assert_eq!(new.value("LOCAL_SERVER"), Some("web"));
    assert_eq!(new.value("CLIENT_TYPE"), Some("javascript_client"));
    assert_eq!(new.value("CLIENT_VERSION"), Some("9"));

    let conok = client.line();
    assert!(conok.starts_with(&format!("CONOK,{},", new.values[1])));
    let cons = client.line_such(|line| matches!(line, Line::Cons { .. }));
    assert_eq!(cons, "CONS,50.5");

    client.send("control\r\nLS_reqId=1&LS_op=destroy");
    let closed = remote.answer("NSC", "V");
    assert_eq!(closed.values, [new.values[1].clone()]);
    server.stop();
    assert_eq!(remote.next().line, "0|CLOSE|S|reason|S|server+shutdown");
    assert!(remote.end().is_empty());
}

#[test]
fn a_user_without_name_and_password_is_null_and_an_empty_one_is_not() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let _client = knock(&server, "");
    assert_eq!(remote.expect("NUS").values[..2], ["#", "#"]);
    let _client = knock(&server, "&LS_user=&LS_password=");
    assert_eq!(remote.expect("NUS").values[..2], ["$", "$"]);
}

/// An age that the adapter sets ends the session, and makes its client open another.
#[test]
fn a_session_may_be_given_a_time_to_live() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let mut client = knock(&server, "");
    remote.answer("NUS", "D|0|B|0");
    let new = remote.answer("NNS", "I|1");
    assert_eq!(client.head(), new.values[1]);
    let end = client.line_such(|line| matches!(line, Line::End { .. }));
    assert!(end.starts_with("END,48,"), "{end}");
    assert_eq!(remote.expect("NSC").values, [new.values[1].clone()]);
}

/// The adapter names a session that is in the way. It is closed and told to be, then the adapter is asked anew, by another
/// name and for the same request.
#[test]
fn a_session_that_is_in_the_way_is_closed() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut first, old) = session(&server, &mut remote, "&LS_user=u");
    let mut second = knock(&server, "&LS_user=u");
    let user = remote.answer("NUS", "D|0|B|0");
    let refused = remote.answer("NNS", &format!("EX|conflict|-2|one at a time|{old}"));
    assert_eq!(remote.answer("NSC", "V").values, [old]);
    let again = remote.answer("NNS", "V");
    assert_ne!(again.values[1], refused.values[1]);
    assert_eq!(again.value("REQUEST_ID"), user.value("REQUEST_ID"));
    assert_eq!(again.value("REQUEST_ID"), refused.value("REQUEST_ID"));
    assert_eq!(second.head(), again.values[1]);
    let end = first.line_such(|line| matches!(line, Line::End { .. }));
    assert_eq!(end, "END,35,Session closed by a newer session of the user");
    // The new session is what it is called now, for requests and for the adapter.
    second.send("control\r\nLS_reqId=1&LS_op=destroy");
    assert_eq!(remote.answer("NSC", "V").values, [again.values[1].clone()]);
}

#[test]
fn a_conflict_that_cannot_be_solved_is_told_to_the_client() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let mut client = knock(&server, "&LS_user=u");
    remote.answer("NUS", "D|0|B|0");
    remote.answer("NNS", "EX|conflict|-2|one at a time|Sunknown");
    assert_eq!(client.line(), "CONERR,-2,one at a time");
}

#[test]
fn items_and_schema_are_asked_about_side_by_side_and_answers_are_remembered() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
    client.send(&add(1, "&LS_group=item1%20item2"));
    let (items, schema) = (remote.expect("GIS"), remote.expect("GSC"));
    assert_eq!(items.values, ["u", "item1 item2", &*id]);
    assert_eq!(schema.values, ["u", "item1 item2", "last_price", &*id]);
    // In any order.
    remote.reply(&schema, "S|last_price");
    remote.reply(&items, "S|item1|S|item2|");
    let (general, personal) = (remote.expect("GIT"), remote.expect("GUI"));
    assert_eq!(general.values, ["item1", "item2"]);
    assert_eq!(personal.values, ["u", "item1", "item2"]);
    remote.reply(&personal, "I|0|D|2.0|M|RM|I|0|D|0.0|M|RM");
    remote.reply(&general, "I|10|D|0.0|M|RMDC|I|10|D|0|M|RMDC");
    let table = remote.answer("NNT", "V");
    assert_eq!(
        table.values[..8],
        [
            "u",
            &*id,
            "1",
            "M",
            "item1 item2",
            "DEFAULT",
            "last_price",
            "1"
        ]
    );
    assert_eq!(client.answer("1"), "REQOK,1");
    let conf = client.line_such(|line| matches!(line, Line::Conf { .. }));
    assert_eq!(conf, "CONF,1,unlimited,filtered");

    // The same items again: only what is new is asked about.
    client.send(&add(2, "&LS_group=item1%20item3"));
    for method in ["GIS", "GSC"] {
        Java::answers(&mut remote, method);
    }
    assert_eq!(Java::answers(&mut remote, "GIT").values, ["item3"]);
    assert_eq!(Java::answers(&mut remote, "GUI").values, ["u", "item3"]);
    Java::answers(&mut remote, "NNT");
    client.send(&add(3, "&LS_group=item1"));
    assert_eq!(Java::subscription(&mut remote), ["GIS", "GSC", "NNT"]);
    let conf = client.line_such(|line| matches!(line, Line::Conf { sub_id: 3, .. }));
    assert_eq!(conf, "CONF,3,2.0,filtered");

    // Another user is asked about for himself.
    let (mut other, _) = session(&server, &mut remote, "&LS_user=v");
    other.send(&add(1, "&LS_group=item1"));
    assert_eq!(
        Java::subscription(&mut remote),
        ["GIS", "GSC", "GUI", "NNT"]
    );

    // With the user's last session what he may have is forgotten.
    client.send("control\r\nLS_reqId=9&LS_op=destroy");
    for method in ["NTC", "NTC", "NTC", "NSC"] {
        Java::answers(&mut remote, method);
    }
    let (mut client, _) = session(&server, &mut remote, "&LS_user=u");
    client.send(&add(1, "&LS_group=item1"));
    assert_eq!(
        Java::subscription(&mut remote),
        ["GIS", "GSC", "GUI", "NNT"]
    );
}

/// What is remembered of items for all users outlives a remote, unless the configuration says otherwise.
#[test]
fn a_new_remote_is_asked_again_only_if_that_is_configured() {
    for (more, expected) in [
        ("", &["GIS", "GSC", "GUI", "NNT"][..]),
        (
            "clear_on_new_remote = true",
            &["GIS", "GSC", "GIT", "GUI", "NNT"],
        ),
    ] {
        let server = Server::start(&metadata(&format!("user_data_timeout = \"0s\"\n{more}")));
        let mut remote = Remote::ready(server.port("DEMO"));
        let (mut client, _) = session(&server, &mut remote, "");
        client.send(&add(1, "&LS_group=item1"));
        Java::subscription(&mut remote);
        remote.close();
        server.logged("is lost");
        let mut remote = Remote::ready(server.port("DEMO"));
        server.logged("is there");
        client.send(&add(2, "&LS_group=item1"));
        assert_eq!(Java::subscription(&mut remote), expected);
    }
}

#[test]
fn a_user_who_wants_no_tables_has_none_announced() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let mut client = knock(&server, "");
    remote.answer("NUS", "D|0|B|0");
    Java::answers(&mut remote, "NNS");
    client.head();
    client.send(&add(1, "&LS_group=item1"));
    for method in ["GIS", "GSC", "GIT", "GUI"] {
        Java::answers(&mut remote, method);
    }
    assert_eq!(client.answer("1"), "REQOK,1");
    client.send("control\r\nLS_reqId=9&LS_op=destroy");
    assert_eq!(remote.next().method, "NSC");
}

#[test]
fn limits_of_items_hold() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, _) = session(&server, &mut remote, "");
    let answer = |request: &Request| match (&*request.method, &*request.values[0]) {
        ("GIT", "prefiltered") => Some("I|0|D|1.5|M|RMDC".into()),
        ("GUI", _) if request.values[1] == "limited" => Some("I|3|D|2|M|RMDC".into()),
        ("GUI", _) if request.values[1] == "raw" => Some("I|0|D|0|M|R".into()),
        ("GUI", _) if request.values[1] == "none" => Some("I|0|D|0|M|$".into()),
        _ => Java::answer(request),
    };
    remote.serve(answer);
    let unfiltered = "&LS_requested_max_frequency=unfiltered";
    for (sub_id, group, more, expected) in [
        (1, "limited", unfiltered, "REQERR,1,26,"),
        (2, "prefiltered", unfiltered, "REQERR,2,27,"),
        (3, "raw", "", "REQERR,3,24,"),
        (4, "none", "", "REQERR,4,24,"),
        (5, "limited", "", "REQOK,5"),
    ] {
        client.send(&add(sub_id, &format!("&LS_group={group}{more}")));
        let answer = client.answer(&sub_id.to_string());
        assert!(answer.starts_with(expected), "{answer}");
    }
    let conf = client.line_such(|line| matches!(line, Line::Conf { .. }));
    assert_eq!(conf, "CONF,5,2.0,filtered");
}

/// Replies of the SDKs are empty; a text is an extension, and goes to the client.
#[test]
fn a_message_may_be_answered_with_a_text() {
    let server = Server::start(&metadata(""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
    for (prog, answer, expected) in [
        (1, "V", "MSGDONE,A,1,"),
        (2, "S|taken, é%7C", "MSGDONE,A,2,taken%2C é|"),
        (3, "S|#", "MSGDONE,A,3,"),
    ] {
        client.send(&format!(
            "msg\r\nLS_reqId={prog}&LS_message=a%2Bb%20%7C&LS_sequence=A&LS_msg_prog={prog}"
        ));
        let message = remote.answer("NUM", answer);
        assert_eq!(message.values, ["u", &*id, "a%2Bb %7C"]);
        let done = client.line_such(|line| matches!(line, Line::Msgdone { .. }));
        assert_eq!(done, expected);
    }
}

/// Requests of one kind wait for each other beyond the limit, and those of other kinds do not wait with them.
#[test]
fn slow_messages_keep_nobody_from_opening_a_session() {
    let server = Server::start(&metadata("pending_limit = 2"));
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, _) = session(&server, &mut remote, "");
    for number in 1..=4 {
        client.send(&format!(
            "msg\r\nLS_reqId={number}&LS_message=m{number}&LS_outcome=false"
        ));
    }
    let (first, second) = (remote.expect("NUM"), remote.expect("NUM"));
    let (_other, _) = session(&server, &mut remote, "");
    remote.reply(&second, "V");
    let third = remote.expect("NUM");
    remote.reply(&first, "V");
    let fourth = remote.expect("NUM");
    let texts = [first, second, third, fourth].map(|message| message.values[2].clone());
    assert_eq!(texts, ["m1", "m2", "m3", "m4"]);
}
