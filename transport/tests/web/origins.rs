//! Pages of other origins: what their browsers are told, with every kind of response.

use crate::back_ends::Io;
use crate::on_both_back_ends;
use crate::support::{Answer, CREATE, SUBPROTOCOL, Server, get, post, post_to, upgrade};

on_both_back_ends!(
    every_response_names_the_page_that_may_read_it,
    a_page_that_is_not_allowed_learns_nothing,
    each_listener_has_its_own_rules,
);

const GOOD: &str = "Origin: https://app.good.example\r\n";
const BAD: &str = "Origin: https://good.example\r\n";

const CONFIG: &str = r#"
[origins]
allow = ["https://*.good.example"]
[[listeners]]
address = "127.0.0.1:0"
"#;

/// Requests with every kind of outcome, and their status.
fn requests(headers: &str) -> Vec<(String, &'static str)> {
    let control = "/lightstreamer/control.txt?LS_protocol=TLCP-2.5.0";
    let line = |first: &str| format!("{first}\r\nHost: h\r\n{headers}\r\n");
    vec![
        (post("create_session", headers, CREATE), "200"),
        (post("control", headers, "LS_reqId=1&LS_op=nonsense"), "200"),
        (get("/", headers), "200"),
        (get("/lightstreamer/healthcheck", headers), "200"),
        (line(&format!("OPTIONS {control} HTTP/1.1")), "200"),
        (get("/absent", headers), "404"),
        (line(&format!("DELETE {control} HTTP/1.1")), "405"),
        (line(&format!("HEAD {control} HTTP/1.1")), "405"),
        // Refused at once, and the connection with them.
        (
            upgrade("/lightstreamer", headers, "js.lightstreamer.com"),
            "400",
        ),
        (get("/lightstreamer", headers), "426"),
        (
            format!(
                "POST {control} HTTP/1.1\r\nHost: h\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
            ),
            "411",
        ),
        (
            format!("POST {control} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: x\r\n\r\n"),
            "400",
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: 60000\r\n\r\n"),
            "413",
        ),
        (format!("GET / HTTP/3.0\r\nHost: h\r\n{headers}\r\n"), "505"),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{headers}X: {}\r\n\r\n",
                "x".repeat(60_000)
            ),
            "431",
        ),
    ]
}

fn cors(answer: &Answer) -> [Option<&str>; 2] {
    [
        answer.header("Access-Control-Allow-Origin"),
        answer.header("Access-Control-Allow-Credentials"),
    ]
}

fn every_response_names_the_page_that_may_read_it(io: Io) {
    let server = Server::start(io, CONFIG);
    for (request, status) in requests(GOOD) {
        let answer = server.ask("web", &request);
        let first = request.lines().next().unwrap();
        assert_eq!(answer.status(), status, "{first}");
        assert_eq!(
            cors(&answer),
            [Some("https://app.good.example"), Some("true")],
            "{first}"
        );
        assert!(
            answer.headers("Vary").any(|vary| vary == "Origin"),
            "{first}"
        );
    }
    for (request, status) in requests("") {
        let answer = server.ask("web", &request);
        assert_eq!(answer.status(), status);
        assert_eq!(cors(&answer), [None, None], "{}", answer.head);
    }
    let (head, _) = server
        .connect("web")
        .create_over_websocket("/lightstreamer", GOOD, 1);
    assert!(
        head.contains("\r\nAccess-Control-Allow-Origin: https://app.good.example\r\n"),
        "{head}"
    );
}

fn a_page_that_is_not_allowed_learns_nothing(io: Io) {
    let server = Server::start(io, CONFIG);
    for (request, _) in requests(BAD) {
        assert_eq!(cors(&server.ask("web", &request)), [None, None]);
    }
    let answer = server.ask("web", &post("create_session", BAD, CREATE));
    assert_eq!((answer.status(), answer.text()), ("200", ""));
    let answer = server.ask("web", &upgrade("/lightstreamer", BAD, SUBPROTOCOL));
    assert_eq!(answer.status(), "403");
    let (head, _) = server
        .connect("web")
        .create_over_websocket("/lightstreamer", "", 1);
    assert!(
        !head.contains("Access-Control"),
        "no page, no answer to one: {head}"
    );
}

fn each_listener_has_its_own_rules(io: Io) {
    let server = Server::start(
        io,
        r#"
        [origins]
        allow = []
        [[listeners]]
        name = "one"
        address = "127.0.0.1:0"
        allow = ["*"]
        credentials = false
        max_age = "1m"
        headers = ["X-Token"]
        [[listeners]]
        name = "two"
        address = "127.0.0.1:0"
        "#,
    );
    let target = "/lightstreamer/create_session.txt?LS_protocol=TLCP-2.5.0";
    let preflight = post_to(target, GOOD, "").replace("POST ", "OPTIONS ");
    let answer = server.ask("one", &preflight);
    assert_eq!(cors(&answer), [Some("https://app.good.example"), None]);
    assert_eq!(answer.header("Access-Control-Max-Age"), Some("60"));
    assert_eq!(
        answer.header("Access-Control-Allow-Headers"),
        Some("Content-Type, X-Token")
    );
    let answer = server.ask("two", &preflight);
    assert_eq!((answer.status(), cors(&answer)), ("200", [None, None]));
    let answer = server.ask("two", &post_to(target, "", CREATE));
    assert!(
        !answer.session().is_empty(),
        "clients outside browsers are let in"
    );
}
