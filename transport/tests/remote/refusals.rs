//! Every kind of exception, and everything else that can go wrong with a request, as the client is told of it.

use std::sync::{Arc, Mutex};

use engine::tlcp::client::Line;

use crate::metadata::{knock, session};
use crate::support::{Java, Remote, Server, metadata};

/// A method, the answer to it, and what the client is told; there, `1` is the number of its request.
type Case = (&'static str, &'static str, &'static str);

const SESSIONS: &[Case] = &[
    ("NUS", "EA|bad user", "CONERR,1,User/password check failed"),
    (
        "NUS",
        "ER|busy",
        "CONERR,6,Authentication temporarily unavailable%2C retry later",
    ),
    (
        "NUS",
        "EC|no credit|-7|please pay é",
        "CONERR,-7,please pay é",
    ),
    ("NUS", "EC|#|0|#", "CONERR,0,"),
    (
        "NUS",
        "EC|codes above zero are the server's|5|x",
        "CONERR,0,x",
    ),
    ("NUS", "E|a secret", "CONERR,66,Metadata Adapter error"),
    ("NUS", "E|#", "CONERR,66,Metadata Adapter error"),
    (
        "NUS",
        "EQ|unknown letter",
        "CONERR,66,Metadata Adapter error",
    ),
    (
        "NUS",
        "EC|no number|x|y",
        "CONERR,66,Metadata Adapter error",
    ),
    ("NUS", "S|nonsense", "CONERR,66,Metadata Adapter error"),
    ("NUS", "D|1|B|%", "CONERR,66,Metadata Adapter error"),
    ("NNS", "EC|no|-1|not now", "CONERR,-1,not now"),
    ("NNS", "EN|refused", "CONERR,66,Metadata Adapter error"),
    ("NNS", "EX|other|-3|in use|#", "CONERR,-3,in use"),
    ("NNS", "E|a secret", "CONERR,66,Metadata Adapter error"),
];

const SUBSCRIPTIONS: &[Case] = &[
    ("GIS", "EI|bad", "REQERR,1,21,Bad item group name"),
    ("GSC", "ES|bad", "REQERR,1,23,Bad field schema name"),
    (
        "GSC",
        "EI|bad for it",
        "REQERR,1,22,Item group not allowed for this field schema",
    ),
    ("GSC", "", "REQERR,1,23,Bad field schema name"),
    ("GIS", "E|a secret", "REQERR,1,66,Metadata Adapter error"),
    ("GIS", "S|a%", "REQERR,1,66,Metadata Adapter error"),
    ("GIS", "S|#", "REQERR,1,66,Metadata Adapter error"),
    ("GIT", "E|a secret", "REQERR,1,66,Metadata Adapter error"),
    ("GIT", "I|1|D|0", "REQERR,1,66,Metadata Adapter error"),
    (
        "GIT",
        "I|1|D|0|M|M|I|1|D|0|M|M",
        "REQERR,1,66,Metadata Adapter error",
    ),
    (
        "GIT",
        "I|1|D|0|M|RDC",
        "REQERR,1,24,Invalid mode for these items",
    ),
    ("GUI", "I|1|D|0|M|X", "REQERR,1,66,Metadata Adapter error"),
    (
        "GUI",
        "I|1|D|0|M|#",
        "REQERR,1,24,Invalid mode for these items",
    ),
    ("NNT", "EC|no|-4|not for you", "REQERR,1,-4,not for you"),
    ("NNT", "EN|refused", "REQERR,1,66,Metadata Adapter error"),
    ("NNT", "E|a secret", "REQERR,1,66,Metadata Adapter error"),
    ("NNT", "B|x|B|y", "REQERR,1,66,Metadata Adapter error"),
];

const MESSAGES: &[Case] = &[
    ("NUM", "EC|no|-1|#", "MSGFAIL,*,1,-1,"),
    ("NUM", "EN|cannot", "MSGFAIL,*,1,34,Message not processed"),
    ("NUM", "E|a secret", "MSGFAIL,*,1,35,Metadata Adapter error"),
    ("NUM", "S|%", "MSGFAIL,*,1,35,Metadata Adapter error"),
];

/// An adapter that is willing, but for what the present case says.
#[derive(Clone, Default)]
struct Unwilling(Arc<Mutex<Option<Case>>>);

impl Unwilling {
    fn serve(&self, remote: Remote) {
        let case = Arc::clone(&self.0);
        remote.serve(move |request| match *case.lock().unwrap() {
            Some((method, answer, _)) if request.method == method => Some(answer.to_owned()),
            _ => Java::answer(request),
        });
    }

    fn set(&self, case: Case) {
        *self.0.lock().unwrap() = Some(case);
    }
}

/// Messages of exceptions are for the log, which has the first of each remote; and what clients are told is not theirs.
fn said_once(server: Server) {
    let log = server.stop();
    let failures = log.matches("requests that the adapter failed on, the first:");
    assert_eq!(failures.count(), 1, "{log}");
    assert!(log.contains("adapter=\"DEMO\""), "{log}");
}

#[test]
fn of_sessions() {
    let server = Server::start(&metadata(""));
    let adapter = Unwilling::default();
    adapter.serve(Remote::ready(server.port("DEMO")));
    for &case in SESSIONS {
        adapter.set(case);
        let mut client = knock(&server, "&LS_user=u");
        assert_eq!(client.line(), case.2, "{case:?}");
    }
    said_once(server);
}

#[test]
fn of_subscriptions() {
    let server = Server::start(&metadata("user_data_timeout = \"0s\""));
    let adapter = Unwilling::default();
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, _) = session(&server, &mut remote, "&LS_user=u");
    adapter.serve(remote);
    for (sub_id, &case) in (1..).zip(SUBSCRIPTIONS) {
        adapter.set(case);
        // Each with an item of its own, since what is known of items is remembered.
        client.send(&format!(
            "control\r\nLS_reqId={sub_id}&LS_op=add&LS_subId={sub_id}&LS_mode=MERGE&LS_group=item{sub_id}&LS_schema=a"
        ));
        let expected = case.2.replacen('1', &sub_id.to_string(), 1);
        assert_eq!(client.answer(&sub_id.to_string()), expected, "{case:?}");
    }
    said_once(server);
}

#[test]
fn of_messages() {
    let server = Server::start(&metadata(""));
    let adapter = Unwilling::default();
    let mut remote = Remote::ready(server.port("DEMO"));
    let (mut client, _) = session(&server, &mut remote, "&LS_user=u");
    adapter.serve(remote);
    for (prog, &case) in (1..).zip(MESSAGES) {
        adapter.set(case);
        client.send(&format!(
            "msg\r\nLS_reqId=m{prog}&LS_message=x&LS_msg_prog={prog}"
        ));
        let failed = client.line_such(|line| matches!(line, Line::Msgfail { .. }));
        let expected = case.2.replacen('1', &prog.to_string(), 1);
        assert_eq!(failed, expected, "{case:?}");
    }
    said_once(server);
}

/// A request that is not answered in time has failed, and an answer that comes later is nobody's.
#[test]
fn by_silence() {
    let server = Server::start(&metadata("timeout = \"300ms\""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let mut client = knock(&server, "&LS_user=u");
    let asked = remote.expect("NUS");
    assert_eq!(
        client.line(),
        "CONERR,6,Authentication temporarily unavailable%2C retry later"
    );
    remote.reply(&asked, "D|0|B|1");
    let (mut client, id) = session(&server, &mut remote, "&LS_user=u");
    client.send(
        "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1&LS_schema=a",
    );
    for method in ["GIS", "GSC", "GIT", "GUI"] {
        Java::answers(&mut remote, method);
    }
    let asked = remote.expect("NNT");
    assert_eq!(
        client.answer("1"),
        "REQERR,1,66,The Metadata Adapter does not answer"
    );
    // It may have agreed, for all that is known: so it is told that nothing came of it.
    assert_eq!(Java::answers(&mut remote, "NTC").values[0], *id);
    remote.reply(&asked, "V");
    client.send("msg\r\nLS_reqId=m&LS_message=x&LS_msg_prog=1");
    remote.expect("NUM");
    let failed = client.line_such(|line| matches!(line, Line::Msgfail { .. }));
    assert_eq!(
        failed,
        "MSGFAIL,*,1,35,The Metadata Adapter does not answer"
    );
    let log = server.stop();
    for (text, count) in [
        ("requests without a reply, the first: NUS", 1),
        ("replies to no request that is open, the first:", 1),
    ] {
        assert_eq!(log.matches(text).count(), count, "{log}");
    }
}

/// The same for a session that the adapter was told of.
#[test]
fn by_silence_about_a_new_session() {
    let server = Server::start(&metadata("timeout = \"300ms\""));
    let mut remote = Remote::ready(server.port("DEMO"));
    let mut client = knock(&server, "&LS_user=u");
    remote.answer("NUS", "D|0|B|1");
    let asked = remote.expect("NNS");
    assert!(client.line().starts_with("CONERR,6,"));
    assert_eq!(remote.expect("NSC").values[0], asked.values[1]);
}
