//! Proxies in front: by which address the client is known.

use crate::back_ends::Io;
use crate::on_both_back_ends;
use crate::support::{CREATE, Server, post};

on_both_back_ends!(
    the_proxy_header_tells_the_client,
    a_connection_without_a_proxy_header_is_closed,
    forwarded_addresses_are_believed_as_far_as_our_proxies_reach,
    a_client_keeps_its_address_when_its_connection_moves,
);

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x13\x88\0\x50";

fn the_proxy_header_tells_the_client(io: Io) {
    let server = Server::start(
        io,
        r#"
        [[listeners]]
        name = "any"
        address = "127.0.0.1:0"
        proxy_protocol = "any"
        trusted_proxies = ["127.0.0.0/8", "::1"]
        "#,
    );
    let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 80\r\n";
    for (preface, ip) in [
        (&v1[..], "2001:db8::7"),
        (V2, "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"), // the proxy asks for itself
    ] {
        let mut client = server.connect("any");
        // In two pieces, the second with the request behind it.
        client.write(&preface[..9]);
        let request = post("create_session", "X-Forwarded-For: 203.0.113.1\r\n", CREATE);
        client.write([&preface[9..], request.as_bytes()].concat());
        assert_eq!(client.answer().line("CLIENTIP"), Some(ip));
        // It holds for the connection.
        assert_eq!(
            client.post("create_session", "", CREATE).line("CLIENTIP"),
            Some(ip)
        );
        let mut client = server.connect("any");
        client.write(preface);
        let (_, lines) = client.create_over_websocket("/lightstreamer", "", 3);
        assert_eq!(lines[2], format!("CLIENTIP,{ip}"));
    }
}

fn a_connection_without_a_proxy_header_is_closed(io: Io) {
    let server = Server::start(
        io,
        r#"
        [[listeners]]
        name = "v1"
        address = "127.0.0.1:0"
        proxy_protocol = "v1"
        [[listeners]]
        name = "foreign"
        address = "127.0.0.1:0"
        proxy_protocol = "any"
        trusted_proxies = ["192.0.2.0/24"]
        "#,
    );
    let request = post("create_session", "", CREATE);
    for (listener, bytes) in [
        ("v1", request.as_bytes()),
        ("v1", V2),
        ("v1", b"PROXY TCP4 nonsense\r\n"),
        ("foreign", V2),
    ] {
        let mut client = server.connect(listener);
        client.write(bytes);
        assert_eq!(client.rest(), b"", "{listener}");
    }
}

fn forwarded_addresses_are_believed_as_far_as_our_proxies_reach(io: Io) {
    let server = Server::start(
        io,
        r#"
        [[listeners]]
        name = "off"
        address = "127.0.0.1:0"
        [[listeners]]
        name = "one"
        address = "127.0.0.1:0"
        forwarded_hops = 1
        [[listeners]]
        name = "two"
        address = "127.0.0.1:0"
        forwarded_hops = 2
        trusted_proxies = ["127.0.0.1"]
        [[listeners]]
        name = "foreign"
        address = "127.0.0.1:0"
        forwarded_hops = 1
        trusted_proxies = ["192.0.2.0/24"]
        "#,
    );
    let header = "X-Forwarded-For: made.up, 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n";
    for (listener, ip) in [
        ("off", "127.0.0.1"),
        ("one", "192.0.2.7"),
        ("two", "203.0.113.9"),
        ("foreign", "127.0.0.1"),
    ] {
        let mut client = server.connect(listener);
        assert_eq!(
            client
                .post("create_session", header, CREATE)
                .line("CLIENTIP"),
            Some(ip)
        );
        // A proxy's connection may carry another client's request next.
        let answer = client.post("create_session", "", CREATE);
        assert_eq!(answer.line("CLIENTIP"), Some("127.0.0.1"), "{listener}");
        let mut client = server.connect(listener);
        let (_, lines) = client.create_over_websocket("/lightstreamer", header, 3);
        assert_eq!(lines[2], format!("CLIENTIP,{ip}"));
    }
}

fn a_client_keeps_its_address_when_its_connection_moves(io: Io) {
    let server = Server::start(
        io,
        "shards = 3\n[[listeners]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"v2\"\nserver_name = \"behind\"\n",
    );
    let connect = || {
        let mut client = server.connect("web");
        client.write(V2);
        client
    };
    let sessions: Vec<String> = (0..8)
        .map(|_| connect().post("create_session", "", CREATE).session())
        .collect();
    // Whether a connection lands at its session's shard is the kernel's choice: of these binds most move.
    for session in &sessions {
        let bind =
            format!("LS_session={session}&LS_polling=true&LS_polling_millis=0&LS_idle_millis=0");
        let mut client = connect();
        for _ in 0..2 {
            let answer = client.post("bind_session", "", &bind);
            assert_eq!(answer.session(), *session);
            assert_eq!(answer.line("CLIENTIP"), Some("192.0.2.7"));
            assert_eq!(answer.line("SERVNAME"), Some("behind"));
        }
    }
}
