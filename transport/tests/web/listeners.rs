//! Several listeners: what each tells of itself, what it is for, and under which paths it serves.

use crate::back_ends::Io;
use crate::on_both_back_ends;
use crate::support::{CREATE, Client, SUBPROTOCOL, Server, get, post, post_to, upgrade};

on_both_back_ends!(
    each_listener_has_its_name_and_its_headers,
    the_server_header_is_the_operators_choice,
    on_a_control_only_listener_sessions_are_not_created,
    the_last_connections_are_for_those_who_serve_what_is_there,
    prefixes_lead_to_tlcp_and_nowhere_else,
    the_health_check_answers_where_it_is_configured,
    apples_clients_get_ascii_over_http,
);

fn each_listener_has_its_name_and_its_headers(io: Io) {
    let server = Server::start(
        io,
        r#"
        [http]
        add = ["X-All: 1"]
        [[listeners]]
        name = "one"
        address = "127.0.0.1:0"
        server_name = "front-1"
        add = ["X-One: 1", "X-One: 2"]
        echo = ["X-Request-Id", "X-Absent"]
        [[listeners]]
        name = "two"
        address = "127.0.0.1:0"
        [sessions]
        server_name = "common"
        "#,
    );
    let headers = "X-Request-Id: a b\r\nx-request-id: c\r\nX-Other: d\r\n";
    let answer = server.ask("one", &post("create_session", headers, CREATE));
    assert_eq!(answer.line("SERVNAME"), Some("front-1"));
    let check = |answer: &crate::support::Answer| {
        assert_eq!(answer.headers("X-One").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(answer.header("X-All"), Some("1"));
        let echoed: Vec<_> = answer.headers("X-Request-Id").collect();
        assert_eq!(echoed, ["a b", "c"]);
        assert_eq!(answer.header("X-Absent"), None);
        assert_eq!(answer.header("X-Other"), None);
    };
    check(&answer);
    check(&server.ask("one", &get("/", headers)));
    check(&server.ask("one", &get("/absent", headers)));
    let (head, lines) = server
        .connect("one")
        .create_over_websocket("/lightstreamer", headers, 2);
    assert!(
        head.contains("\r\nX-One: 2\r\n") && head.contains("\r\nX-Request-Id: c\r\n"),
        "{head}"
    );
    assert_eq!(lines[1], "SERVNAME,front-1");
    let answer = server.ask("two", &post("create_session", headers, CREATE));
    assert_eq!(answer.line("SERVNAME"), Some("common"));
    assert_eq!(
        (answer.header("X-One"), answer.header("X-Request-Id")),
        (None, None)
    );
    assert_eq!(answer.header("X-All"), Some("1"));
}

fn the_server_header_is_the_operators_choice(io: Io) {
    let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    for (config, expected) in [
        ("", Some("Brightwire")),
        ("[http]\nserver = \"web\"\n", Some("web")),
        ("[http]\nserver = \"\"\n", None),
    ] {
        let server = Server::start(io, &format!("{listener}{config}"));
        for request in [
            get("/", ""),
            get("/absent", ""),
            post("create_session", "", CREATE),
        ] {
            assert_eq!(server.ask("web", &request).header("Server"), expected);
        }
    }
}

fn on_a_control_only_listener_sessions_are_not_created(io: Io) {
    let server = Server::start(
        io,
        r#"
        [[listeners]]
        name = "create"
        role = "create-only"
        address = "127.0.0.1:0"
        [[listeners]]
        name = "control"
        role = "control-only"
        address = "127.0.0.1:0"
        "#,
    );
    let refused = "CONERR,70,Session creation not allowed on this port\r\n";
    let answer = server.ask("control", &post("create_session", "", CREATE));
    assert_eq!((answer.status(), answer.text()), ("200", refused));
    let (_, lines) = server
        .connect("control")
        .create_over_websocket("/lightstreamer", "", 1);
    assert_eq!(lines[0], refused.trim_end());

    let session = server
        .ask("create", &post("create_session", "", CREATE))
        .session();
    let bind = format!("LS_session={session}&LS_polling=true&LS_polling_millis=0&LS_idle_millis=0");
    assert_eq!(
        server
            .ask("control", &post("bind_session", "", &bind))
            .session(),
        session
    );
    let constrain =
        format!("LS_session={session}&LS_reqId=1&LS_op=constrain&LS_requested_max_bandwidth=5");
    for listener in ["control", "create"] {
        let answer = server.ask(listener, &post("control", "", &constrain));
        assert_eq!(answer.text(), "REQOK,1\r\n", "{listener}");
    }
}

fn the_last_connections_are_for_those_who_serve_what_is_there(io: Io) {
    let server = Server::start(
        io,
        r#"
        [sessions]
        connections_max = 20
        [[listeners]]
        name = "create"
        role = "create-only"
        address = "127.0.0.1:0"
        [[listeners]]
        name = "general"
        address = "127.0.0.1:0"
        [[listeners]]
        name = "priority"
        role = "priority"
        address = "127.0.0.1:0"
        "#,
    );
    let health = get("/lightstreamer/healthcheck", "");
    // The answer shows that the connection was let in.
    let mut inside: Vec<Client> = Vec::new();
    let mut enter = |listener: &str| {
        let mut client = server.connect(listener);
        client.write(health.as_bytes());
        assert_eq!(client.answer().status(), "200");
        inside.push(client);
    };
    let shut_out = |listener: &str| assert_eq!(server.connect(listener).rest(), b"", "{listener}");
    for _ in 0..18 {
        enter("create");
    }
    shut_out("create");
    enter("general");
    shut_out("general");
    enter("priority");
}

fn prefixes_lead_to_tlcp_and_nowhere_else(io: Io) {
    let server = Server::start(
        io,
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nprefixes = [\"/push\", \"/a/b\"]\n",
    );
    let query = "?LS_protocol=TLCP-2.5.0";
    for prefix in ["", "/push", "/a/b"] {
        let target = format!("{prefix}/lightstreamer/create_session.txt{query}");
        let answer = server.ask("web", &post_to(&target, "", CREATE));
        assert!(!answer.session().is_empty(), "{prefix}");
        let path = format!("{prefix}/lightstreamer");
        let (_, lines) = server.connect("web").create_over_websocket(&path, "", 1);
        assert!(lines[0].starts_with("CONOK,"), "{prefix}");
    }
    for prefix in ["/other", "/push/push", "/pushpush", "//push"] {
        let target = format!("{prefix}/lightstreamer/create_session.txt{query}");
        assert_eq!(
            server.ask("web", &post_to(&target, "", CREATE)).status(),
            "404",
            "{prefix}"
        );
        let path = format!("{prefix}/lightstreamer");
        assert_eq!(
            server.ask("web", &upgrade(&path, "", SUBPROTOCOL)).status(),
            "404",
            "{prefix}"
        );
    }
    assert_eq!(
        server.ask("web", &get("/push/", "")).status(),
        "404",
        "pages have no prefix"
    );
}

fn the_health_check_answers_where_it_is_configured(io: Io) {
    let server = Server::start(
        io,
        r#"
        [[listeners]]
        name = "one"
        address = "127.0.0.1:0"
        pages = false
        [[listeners]]
        name = "two"
        address = "127.0.0.1:0"
        health = "/alive"
        [[listeners]]
        name = "three"
        address = "127.0.0.1:0"
        health = ""
        "#,
    );
    for (listener, path) in [("one", "/lightstreamer/healthcheck"), ("two", "/alive")] {
        let answer = server.ask(listener, &get(path, ""));
        assert_eq!((answer.status(), answer.text()), ("200", "OK\r\n"));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert_eq!(server.ask(listener, &post_to(path, "", "")).status(), "405");
    }
    for listener in ["two", "three"] {
        let answer = server.ask(listener, &get("/lightstreamer/healthcheck", ""));
        assert_eq!(answer.status(), "404");
    }
    assert_eq!(server.ask("one", &get("/", "")).status(), "404", "no pages");
    assert_eq!(server.ask("two", &get("/", "")).status(), "200");
}

fn apples_clients_get_ascii_over_http(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("rows.csv"),
        "item,text\na,\u{20ac} \u{1f600}%\n",
    )
    .unwrap();
    let server = Server::start_in(
        directory,
        io,
        r#"
        [[listeners]]
        address = "127.0.0.1:0"
        [[adapter_sets]]
        [[adapter_sets.data]]
        name = "ROWS"
        kind = "replay"
        file = "rows.csv"
        rate = 100.0
        "#,
    );
    let apple_cid = "oqVfhw.i6%2038eA4BIe4wnce72mBm4k34f8BBM5Sv";
    let (plain, ascii) = ("\u{20ac} \u{1f600}%25", "%E2%82%AC %F0%9F%98%80%25");
    for (cid, headers, expected) in [
        ("x", "", plain),
        (
            "x",
            "User-Agent: App/1 CFNetwork/1568.100.1 Darwin/24.0.0\r\n",
            ascii,
        ),
        (apple_cid, "", ascii),
    ] {
        let mut client = server.connect("web");
        let create = format!(
            "LS_polling=true&LS_polling_millis=0&LS_idle_millis=0&LS_adapter_set=DEMO&LS_cid={cid}"
        );
        let session = client.post("create_session", headers, &create).session();
        let add = format!(
            "LS_session={session}&LS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=a&LS_schema=text\
             &LS_data_adapter=ROWS&LS_snapshot=true"
        );
        assert_eq!(client.post("control", headers, &add).text(), "REQOK,1\r\n");
        let bind = format!(
            "LS_session={session}&LS_polling=true&LS_polling_millis=0&LS_idle_millis=30000"
        );
        let mut update = None;
        while update.is_none() {
            let answer = client.post("bind_session", headers, &bind);
            assert_eq!(
                answer.text().is_ascii(),
                expected == ascii || !answer.text().contains("U,")
            );
            update = answer.line("U,1,1").map(str::to_owned);
        }
        assert_eq!(update.as_deref(), Some(expected), "{cid} {headers}");
    }
}
