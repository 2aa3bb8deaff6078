//! The rules of the built-in metadata adapter, as clients meet them.

use crate::Echo;
use crate::client::Client;
use brightwire::adapter::literal::passwords;
use brightwire::{RunningServer, Server};
use engine::tlcp::client::Line;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// A server whose set DEMO has these rules, which begin behind `[adapter_sets.literal]`.
fn server(rules: &str) -> RunningServer {
    Server::builder()
        .listen("127.0.0.1:0")
        .config_text(format!(
            "[[adapter_sets]]\nname = \"DEMO\"\n[adapter_sets.literal]\n{rules}"
        ))
        .data_adapter("DEMO", "ECHO", Echo)
        .data_adapter("DEMO", "OTHER", Echo)
        .start()
        .unwrap()
}

fn knock(server: &RunningServer, credentials: &str) -> Client {
    let mut client = Client::connect(server.address());
    client.send(&format!(
        "create_session\r\nLS_adapter_set=DEMO&LS_cid=test&LS_send_sync=false{credentials}"
    ));
    client
}

fn session(server: &RunningServer, credentials: &str) -> (Client, String) {
    let mut client = knock(server, credentials);
    let id = client.head();
    (client, id)
}

const WRONG: &str = "CONERR,1,User/password check failed";

/// Subscribes in a mode, and returns the code of the refusal; 0 is a yes.
fn subscribe(
    client: &mut Client,
    session: &str,
    sub_id: u32,
    mode: &str,
    group: &str,
    more: &str,
) -> i64 {
    let group = group.replace(' ', "%20");
    client.send(&format!(
        "control\r\nLS_reqId={sub_id}&LS_op=add&LS_subId={sub_id}&LS_mode={mode}&LS_group={group}\
         &LS_schema=key%20command%20name{more}&LS_session={session}"
    ));
    let answer = client.answer(&sub_id.to_string());
    match Line::parse(&answer).unwrap() {
        Line::Reqerr { code, .. } => code,
        _ => 0,
    }
}

const ECHO: &str = "&LS_data_adapter=ECHO";
const OTHER: &str = "&LS_data_adapter=OTHER";

#[test]
fn families_decide_about_modes() {
    let server = server(
        "[[adapter_sets.literal.families]]\nitems = \"list.*\"\ndata_adapter = \"ECHO\"\nmodes = [\"COMMAND\"]\n\
         [[adapter_sets.literal.families]]\nitems = \"(list|item)[0-9]+\"\nmodes = [\"MERGE\", \"RAW\"]\nmax_frequency = 4.0\n\
         [[adapter_sets.literal.families]]\nitems = \"item.*\"\nmodes = [\"DISTINCT\"]\nprefilter_frequency = 9.0\n",
    );
    let (mut client, id) = session(&server, "");
    for (sub_id, (mode, group, more, code)) in (1..).zip([
        ("COMMAND", "list1", ECHO, 0),
        ("MERGE", "list1", ECHO, 24),
        ("MERGE", "list1", OTHER, 0),
        ("COMMAND", "list1", OTHER, 24),
        ("MERGE", "item1 item2", ECHO, 0),
        ("RAW", "item1", ECHO, 0),
        ("DISTINCT", "item1", ECHO, 24),
        ("DISTINCT", "itemX", ECHO, 0),
        ("MERGE", "item1 itemX", ECHO, 24),
        ("MERGE", "unheard-of", ECHO, 24),
        ("MERGE", "item1", "&LS_data_adapter=NONE", 17),
        (
            "MERGE",
            "item3",
            "&LS_data_adapter=ECHO&LS_requested_max_frequency=unfiltered",
            26,
        ),
        (
            "DISTINCT",
            "itemY",
            "&LS_data_adapter=ECHO&LS_requested_max_frequency=unfiltered",
            27,
        ),
        ("MERGE", "item1", "&LS_data_adapter=ECHO&LS_selector=s", 25),
    ]) {
        let answered = subscribe(&mut client, &id, sub_id, mode, group, more);
        assert_eq!(answered, code, "{mode} {group} {more}");
    }
    server.stop().unwrap();
}

#[test]
fn limits_are_told_to_clients() {
    let server = server("max_bandwidth = 40.0\nmax_frequency = 3.0\nbuffer_size = 5\n");
    let mut client = knock(&server, "");
    let cons = client.line_such(|line| matches!(line, Line::Cons { .. }));
    assert_eq!(cons, "CONS,40.0");
    let (mut client, id) = session(&server, "");
    assert_eq!(subscribe(&mut client, &id, 1, "MERGE", "item", ECHO), 0);
    let conf = client.line_such(|line| matches!(line, Line::Conf { .. }));
    assert_eq!(conf, "CONF,1,3.0,filtered");
    server.stop().unwrap();
}

#[test]
fn users_are_known_by_name_or_by_password_and_have_rights() {
    let hash = passwords::hash("p&w d").unwrap();
    let server = server(&format!(
        "allowed_users = [\"guest\"]\n[[adapter_sets.literal.users]]\nname = \"ann\"\npassword = \"{hash}\"\n\
         items = [\"mine.*\", \"news\"]\nmax_frequency = 2.0\nmax_bandwidth = 30.0\n"
    ));
    for credentials in [
        "",
        "&LS_user=ann",
        "&LS_user=ann&LS_password=wrong",
        "&LS_user=eve&LS_password=p%26w%20d",
        "&LS_password=p%26w%20d",
    ] {
        assert_eq!(knock(&server, credentials).line(), WRONG, "{credentials}");
    }
    let (mut guest, id) = session(&server, "&LS_user=guest");
    assert_eq!(subscribe(&mut guest, &id, 1, "MERGE", "anything", ECHO), 0);
    let mut client = knock(&server, "&LS_user=ann&LS_password=p%26w%20d");
    let conok = client.line();
    let id = conok.split(',').nth(1).unwrap().to_owned();
    let cons = client.line_such(|line| matches!(line, Line::Cons { .. }));
    assert_eq!(cons, "CONS,30.0");
    assert_eq!(
        subscribe(&mut client, &id, 1, "MERGE", "mine1 news", ECHO),
        0
    );
    let conf = client.line_such(|line| matches!(line, Line::Conf { .. }));
    assert_eq!(conf, "CONF,1,2.0,filtered");
    assert_eq!(
        subscribe(&mut client, &id, 2, "MERGE", "mine1 yours", ECHO),
        21
    );
    server.stop().unwrap();
}

const SECRET: &str = "a secret that is long enough for HS256";

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

fn token(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn token_server() -> (RunningServer, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let server = server(&format!(
        "[adapter_sets.literal.tokens]\nalgorithm = \"HS256\"\nkey_file = {file:?}\nissuer = \"login\"\n"
    ));
    (server, directory)
}

#[test]
fn a_token_stands_for_a_password_and_its_claims_are_rights() {
    let (server, _directory) = token_server();
    let good = json!({"sub": "ann", "iss": "login", "exp": now() + 3600.0, "items": ["item[0-9]"], "max_frequency": 1.5});
    let credentials =
        |user: &str, claims: &Value| format!("&LS_user={user}&LS_password={}", token(claims));
    let (mut client, id) = session(&server, &credentials("ann", &good));
    assert_eq!(subscribe(&mut client, &id, 1, "MERGE", "item1", ECHO), 0);
    let conf = client.line_such(|line| matches!(line, Line::Conf { .. }));
    assert_eq!(conf, "CONF,1,1.5,filtered");
    assert_eq!(subscribe(&mut client, &id, 2, "MERGE", "item10", ECHO), 21);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    for refused in [
        credentials("bob", &good),
        credentials("ann", &with("iss", json!("somebody"))),
        credentials("ann", &with("exp", json!(now() - 1.0))),
        "&LS_user=ann&LS_password=a.b.c".to_owned(),
        "&LS_user=ann&LS_password=secret".to_owned(),
        "&LS_user=ann".to_owned(),
    ] {
        assert_eq!(knock(&server, &refused).line(), WRONG, "{refused}");
    }
    server.stop().unwrap();
}

#[test]
fn a_session_ends_with_its_token() {
    let (server, _directory) = token_server();
    let claims = json!({"sub": "ann", "iss": "login", "exp": now() + 1.5});
    let credentials = format!("&LS_user=ann&LS_password={}", token(&claims));
    let mut client = knock(&server, &credentials);
    let end = client.line_such(|line| matches!(line, Line::End { .. } | Line::Conerr { .. }));
    // A machine that takes longer than the token lives gives no session at all.
    assert!(
        end == "END,48,Maximum session duration reached" || end == WRONG,
        "{end}"
    );
    // Its client, which opens another session after code 48, is told that it needs another token.
    assert_eq!(knock(&server, &credentials).line(), WRONG);
    server.stop().unwrap();
}
