//! How servers and remotes find each other: who is first, who waits, who is who.

use std::net::{TcpListener, TcpStream};

use crate::data::subscribed;
use crate::metadata::session;
use crate::support::remote::{JAVA, rest};
use crate::support::{Client, Remote, Server, data, metadata};

fn credentials(user: &str, password: &str) -> String {
    format!("1|RAC|S|user|S|{user}|S|password|S|{password}|S|enableClosePacket|S|true")
}

#[test]
fn credentials_must_be_right() {
    let server = Server::start(&data(
        "credentials = [[\"shop\", \"r p+w\"], [\"other\", \"\"]]\ntimeout = \"500ms\"",
    ));
    let address = server.port("DEMO.FEED");
    let close = "0|CLOSE|S|reason|S|wrong+credentials";
    for (first, answer) in [
        (credentials("shop", "wrong"), Some(close)),
        (credentials("SHOP", "r+p%2Bw"), Some(close)),
        (credentials("shop", "$"), Some(close)),
        ("1|RAC|S|enableClosePacket|S|true".to_owned(), Some(close)),
        ("1|RAC|S|user|S|shop".to_owned(), None),
        ("1|DPI|S|ARI.version|S|1.9.1".to_owned(), None),
        ("GET / HTTP/1.1".to_owned(), None),
        (String::new(), None), // says nothing in time
    ] {
        let mut remote = Remote::connect(address);
        if !first.is_empty() {
            remote.say(&first);
        }
        let answers: Vec<_> = remote
            .end()
            .into_iter()
            .map(|request| request.line)
            .collect();
        assert_eq!(
            answers,
            Vec::from_iter(answer.map(str::to_owned)),
            "{first}"
        );
    }
    for right in [credentials("shop", "r+p%2Bw"), credentials("other", "$")] {
        let mut remote = Remote::connect(address);
        remote.say("KEEPALIVE");
        remote.say(&right);
        assert_eq!(remote.init("S|ARI.version|S|1.9.1").method, "DPI");
    }
    let log = server.stop();
    assert!(log.contains("wrong credentials, or none"));
    assert!(!log.contains("r p+w") && !log.contains("r+p%2Bw"), "{log}");
}

/// Both connections are asked who they are, and what is wrong with the second is told on the first: nothing is written on
/// a connection for notifications.
#[test]
fn both_connections_need_credentials() {
    let server = Server::start(&data(
        "credentials = [[\"u\", \"p\"]]\nnotify_address = \"127.0.0.1:0\"",
    ));
    let mut remote = Remote::connect(server.port("DEMO.FEED"));
    remote.say(&credentials("u", "p"));
    let mut notify = TcpStream::connect(server.port("DEMO.FEED.notify")).unwrap();
    let wrong = credentials("u", "x").replacen("1|", "1795458746864|", 1);
    Remote::new(notify.try_clone().unwrap()).say(&wrong);
    let close = remote.next().line;
    assert!(
        close.starts_with("0|CLOSE|S|reason|S|wrong+credentials"),
        "{close}"
    );
    assert!(remote.end().is_empty());
    assert_eq!(rest(&mut notify), b"");
}

#[test]
fn addresses_may_be_restricted() {
    let server = Server::start(&data("allow = [\"192.0.2.0/24\"]"));
    for _ in 0..3 {
        assert!(Remote::connect(server.port("DEMO.FEED")).end().is_empty());
    }
    server.logged_times("may not connect from there", 1);
    let server = Server::start(&data("allow = [\"127.0.0.0/8\"]"));
    Remote::ready(server.port("DEMO.FEED"));
}

#[test]
fn a_remote_chooses_the_version() {
    let server = Server::start(&data(""));
    for (version, served) in [
        ("V", true),
        ("S|ARI.version|S|1.8.2", true),
        ("S|ARI.version|S|1.9.0", true),
        ("S|ARI.version|S|1.9.1|S|more|S|later", true),
        ("S|ARI.version|S|1.8.1", false),
        ("S|ARI.version|S|2.0.0", false),
        ("ED|no%7Cthanks", false),
        ("E|Unsupported+protocol+version", false),
        ("S|ARI.version", false),
    ] {
        let mut remote = Remote::connect(server.port("DEMO.FEED"));
        remote.say(JAVA);
        remote.init(version);
        if served {
            let (mut client, _) = Client::with_session(server.web());
            subscribed(
                &mut client,
                &mut remote,
                1,
                "MERGE",
                &format!("a{}", version.len()),
                "f",
            );
            remote.close();
            server.logged("is lost");
        } else {
            assert!(
                remote.next().line.starts_with("0|CLOSE|S|reason|S|"),
                "{version}"
            );
            assert!(remote.end().is_empty());
        }
    }
    let log = server.stop();
    assert!(log.contains("it wants to speak version 2.0.0"), "{log}");
    assert!(
        log.contains("its init has failed (DataProvider): no|thanks"),
        "{log}"
    );
}

/// What a remote has not said that it takes is not sent to it.
#[test]
fn old_remotes_are_not_told_to_close() {
    for (introduction, version, told) in [
        ("", "V", false),
        ("", "S|ARI.version|S|1.8.2", false),
        ("", "S|ARI.version|S|1.8.3", true),
        (JAVA, "S|ARI.version|S|1.9.1", true),
    ] {
        let server = Server::start(&data(""));
        let mut remote = Remote::connect(server.port("DEMO.FEED"));
        if !introduction.is_empty() {
            remote.say(introduction);
        }
        remote.init(version);
        server.logged("is there");
        server.stop();
        assert_eq!(remote.end().len(), usize::from(told), "{version}");
    }
}

/// The server connects to the remote, and keeps trying until that listens.
#[test]
fn the_server_may_connect() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Server::start(&data("connect_retry = \"20ms\"").replace(
        "address = \"127.0.0.1:0\"",
        &format!("connect = true\naddress = \"localhost:{}\"", port.port()),
    ));
    server.logged("cannot connect to localhost");
    let listener = TcpListener::bind(port).unwrap();
    let (mut client, _) = Client::with_session(server.web());
    for value in ["1", "2"] {
        let mut remote = Remote::new(listener.accept().unwrap().0);
        remote.say(JAVA);
        remote.init("S|ARI.version|S|1.9.1");
        let sub = match value {
            "1" => subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f"),
            _ => remote.expect("SUB"),
        };
        remote.notify("UD3", "a", &sub, &format!("|B|1|S|f|S|{value}"));
        assert_eq!(client.update(), format!("U,1,1,{value}"));
        remote.close();
    }
}

/// Clients are let in when the remotes are there that the start waits for.
#[test]
fn a_start_that_waits() {
    let server = Server::begin(&data("start_wait = \"1year\""));
    server.logged("the start waits for this remote adapter");
    let mut remote = Remote::ready(server.early_port("DEMO.FEED"));
    server.serves();
    let (mut client, _) = Client::with_session(server.web());
    subscribed(&mut client, &mut remote, 1, "MERGE", "a", "f");

    let server = Server::begin(&data("start_wait = \"10ms\""));
    server.serves();
    server.logged("the server starts without this remote adapter");

    // A plain proxy waits, and its failure ends the server.
    let server = Server::begin(&data("on_loss = \"stop\""));
    let mut remote = Remote::connect(server.early_port("DEMO.FEED"));
    remote.say(JAVA);
    remote.init("ED|cannot");
    let (status, log) = server.end();
    assert!(!status.success());
    assert!(
        log.contains("DEMO.FEED: its init has failed (DataProvider): cannot"),
        "{log}"
    );

    let server = Server::begin(&data("on_loss = \"stop\""));
    let remote = Remote::ready(server.early_port("DEMO.FEED"));
    server.serves();
    remote.close();
    assert!(!server.end().0.success());

    // It can be stopped while it waits.
    let server = Server::begin(&data("on_loss = \"stop\""));
    server.logged("the start waits for this remote adapter");
    server.terminate();
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
}

/// Data adapters can be kept out until the metadata adapter of their set is there.
#[test]
fn the_metadata_adapter_may_have_to_be_first() {
    let set = metadata("")
        .replace("metadata = ", "metadata_first = true\nmetadata = ")
        .replace(
            "kind = \"demo\"\nrate = 200.0",
            "kind = \"remote\"\n[adapter_sets.data.remote]\naddress = \"127.0.0.1:0\"",
        );
    let server = Server::start(&set);
    let address = server.port("DEMO.DEFAULT");
    assert!(TcpStream::connect(address).is_err(), "nobody listens yet");
    let mut remote = Remote::ready(server.port("DEMO"));
    server.logged("a remote metadata adapter is there");
    let (_client, _) = session(&server, &mut remote, "");
    Remote::ready(address);
    server.logged("a remote data adapter is there");
}
