//! Metadata adapters of one's own.

use crate::Echo;
use crate::client::Client;
use brightwire::metadata::{
    Admission, Answer, Login, MetadataAdapter, MetadataControl, MetadataError, MetadataOptions,
    Mode, Place, Promise, Selector, Session, Statistics, Table,
};
use brightwire::{AdapterError, RunningServer, Server, ServerBuilder};
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Does what names tell it to, and says what it hears.
struct Rules {
    heard: Sender<String>,
    /// Answers that the test gives.
    promises: Arc<Mutex<Vec<Promise<Admission>>>>,
    control: Arc<OnceLock<MetadataControl>>,
    /// Who calls `wait` waits for it.
    gate: Mutex<Receiver<()>>,
    /// Sessions that were in the way once.
    closed: Mutex<Vec<String>>,
    wants_tables: bool,
}

struct Handle {
    hear: Receiver<String>,
    promises: Arc<Mutex<Vec<Promise<Admission>>>>,
    control: Arc<OnceLock<MetadataControl>>,
    gate: Sender<()>,
}

impl Handle {
    fn hear(&self) -> String {
        self.hear.recv_timeout(crate::WAIT_MAX).unwrap()
    }

    fn control(&self) -> &MetadataControl {
        self.control.get().unwrap()
    }
}

fn rules(wants_tables: bool) -> (Rules, Handle) {
    let (heard, hear) = mpsc::channel();
    let (gate, gated) = mpsc::channel();
    let (promises, control) = (Arc::default(), Arc::default());
    let rules = Rules {
        heard,
        promises: Arc::clone(&promises),
        control: Arc::clone(&control),
        gate: Mutex::new(gated),
        closed: Mutex::default(),
        wants_tables,
    };
    let handle = Handle {
        hear,
        promises,
        control,
        gate,
    };
    (rules, handle)
}

impl Rules {
    fn say(&self, what: String) {
        let _ = self.heard.send(what);
    }

    fn wait(&self) {
        self.say("waits".into());
        let _ = self.gate.lock().unwrap().recv();
    }
}

/// What a name asks for.
fn error(name: &str) -> Option<MetadataError> {
    Some(match name {
        "access" => MetadataError::Access,
        "unavailable" => MetadataError::Unavailable,
        "credits" => MetadataError::credits(-5, "No, thank you"),
        "items" => MetadataError::Items,
        "schema" => MetadataError::Schema,
        "notification" => MetadataError::Notification,
        "failed" => MetadataError::Failed("this is for the log".into()),
        "panic" => panic!("this is the adapter's fault"),
        _ => return None,
    })
}

fn check(name: &str) -> Result<(), MetadataError> {
    error(name).map_or(Ok(()), Err)
}

impl MetadataAdapter for Rules {
    fn init(&mut self, place: &Place, control: MetadataControl) -> Result<(), AdapterError> {
        self.say(format!("init {place}"));
        assert!(self.control.set(control).is_ok());
        Ok(())
    }

    fn notify_user(&self, login: &Login) -> Answer<Admission> {
        match login.user() {
            Some("later") => {
                let (promise, answer) = Answer::later();
                self.promises.lock().unwrap().push(promise);
                self.say("promised".into());
                return answer;
            }
            Some("wait") => self.wait(),
            _ => {}
        }
        let user = login.user().unwrap_or_default().to_owned();
        let password = login.password().unwrap_or("none").to_owned();
        let result = check(&user).map(|()| Admission::with_rights(password));
        result.into()
    }

    fn notify_new_session(
        &self,
        session: &Session,
        client: &brightwire::metadata::Client,
    ) -> Result<(), MetadataError> {
        let rights = session.rights::<String>().map(String::as_str);
        if let Some(other) = rights.and_then(|rights| rights.strip_prefix("instead of ")) {
            self.say(format!("conflict with {other}"));
            let mut closed = self.closed.lock().unwrap();
            if !closed.iter().any(|known| known == other) {
                closed.push(other.to_owned());
                return Err(MetadataError::ConflictingSession {
                    session: other.to_owned(),
                    code: -7,
                    text: "one is enough".into(),
                });
            }
        }
        if session.user() == Some("wait for session") {
            self.wait();
        }
        assert_eq!(&*client.ip, "127.0.0.1");
        self.say(format!(
            "new session of {}",
            session.user().unwrap_or("nobody")
        ));
        Ok(())
    }

    fn allowed_max_bandwidth(&self, session: &Session) -> Option<f64> {
        (session.user() == Some("slow")).then_some(50.0)
    }

    fn session_time_to_live(&self, session: &Session) -> Option<Duration> {
        (session.user() == Some("short")).then_some(Duration::from_millis(1))
    }

    fn notify_session_close(&self, session: &Session) {
        self.say(format!("close of {}", session.user().unwrap_or("nobody")));
    }

    fn items(&self, session: &Session, group: &str, _: &str) -> Result<Vec<String>, MetadataError> {
        check(group)?;
        if group == "wait" {
            self.wait();
        }
        let rights = session.rights::<String>().unwrap();
        Ok(group
            .split(' ')
            .map(|item| item.replace("mine", rights))
            .collect())
    }

    fn schema(
        &self,
        _: &Session,
        _: &str,
        _: &str,
        schema: &str,
    ) -> Result<Vec<String>, MetadataError> {
        check(schema)?;
        Ok(schema.split_ascii_whitespace().map(Into::into).collect())
    }

    fn mode_may_be_allowed(&self, item: &str, _: &str, mode: Mode) -> bool {
        item != "list" || mode == Mode::Command
    }

    fn is_mode_allowed(&self, session: &Session, item: &str, _: &str, _: Mode) -> bool {
        item != "private" || session.user() == Some("owner")
    }

    fn allowed_max_item_frequency(&self, _: &Session, item: &str, _: &str) -> Option<f64> {
        (item == "limited").then_some(2.5)
    }

    fn selector(&self, _: &Session, item: &str, _: &str, selector: &str) -> Option<Selector> {
        let mine = selector == "mine" && item != "elsewhere";
        mine.then(|| Selector::new().one_of("name", ["a"]))
    }

    fn wants_tables_notification(&self, _: &Session) -> bool {
        self.wants_tables
    }

    fn notify_new_tables(&self, _: &Session, table: &Table) -> Result<(), MetadataError> {
        self.say(format!(
            "table {} of {:?} in {:?}",
            table.sub_id, table.items, table.mode
        ));
        if table.group == "too many" {
            return Err(MetadataError::credits(-9, "That is too much"));
        }
        Ok(())
    }

    fn notify_tables_close(&self, _: &Session, table: &Table, statistics: &[Statistics]) {
        let sent: u64 = statistics.iter().map(|item| item.sent).sum();
        self.say(format!("table {} closed, {sent} sent", table.sub_id));
    }

    fn notify_user_message(&self, session: &Session, message: &str) -> Answer<Option<String>> {
        if let Err(error) = check(message) {
            return error.into();
        }
        Ok(Some(format!(
            "{} said {message}",
            session.user().unwrap_or("nobody")
        )))
        .into()
    }
}

fn server_with(rules: Rules, options: MetadataOptions) -> RunningServer {
    builder(rules, options).start().unwrap()
}

fn builder(rules: Rules, options: MetadataOptions) -> ServerBuilder {
    Server::builder()
        .listen("127.0.0.1:0")
        .metadata_adapter_with("DEMO", rules, options)
        .data_adapter("DEMO", "ECHO", Echo)
}

fn server(wants_tables: bool) -> (RunningServer, Handle) {
    let (rules, handle) = rules(wants_tables);
    let server = server_with(rules, MetadataOptions::default());
    assert_eq!(handle.hear(), "init DEMO");
    (server, handle)
}

/// Asks for a session and returns the connection.
fn knock(server: &RunningServer, user: &str, password: &str) -> Client {
    let mut client = Client::connect(server.address());
    let user = user.replace(' ', "%20");
    let password = password.replace(' ', "%20");
    client.send(&format!(
        "create_session\r\nLS_adapter_set=DEMO&LS_cid=test&LS_send_sync=false&LS_user={user}&LS_password={password}"
    ));
    client
}

fn session(server: &RunningServer, user: &str, password: &str) -> (Client, String) {
    let mut client = knock(server, user, password);
    let id = client.head();
    (client, id)
}

/// Subscribes, and returns the answer without its beginning.
fn subscribe(client: &mut Client, session: &str, sub_id: u32, group: &str, more: &str) -> String {
    let group = group.replace(' ', "%20");
    let mode = if more.contains("LS_mode") {
        ""
    } else {
        "&LS_mode=MERGE"
    };
    let schema = if more.contains("LS_schema") {
        ""
    } else {
        "&LS_schema=name"
    };
    let adapter = if more.contains("LS_data_adapter") {
        ""
    } else {
        "&LS_data_adapter=ECHO"
    };
    client.send(&format!(
        "control\r\nLS_reqId={sub_id}&LS_op=add&LS_subId={sub_id}&LS_group={group}{mode}{schema}{adapter}{more}&LS_session={session}"
    ));
    let answer = client.answer(&sub_id.to_string());
    answer
        .split_once(&format!(",{sub_id}"))
        .unwrap()
        .1
        .trim_start_matches(',')
        .to_owned()
}

#[test]
fn every_refusal_of_a_user_has_its_code() {
    let (server, _handle) = server(false);
    for (user, expected) in [
        ("access", "CONERR,1,User/password check failed"),
        (
            "unavailable",
            "CONERR,6,Authentication temporarily unavailable%2C retry later",
        ),
        ("credits", "CONERR,-5,No%2C thank you"),
        ("notification", "CONERR,66,Metadata Adapter error"),
        ("failed", "CONERR,66,Metadata Adapter error"),
        ("panic", "CONERR,66,Metadata Adapter error"),
    ] {
        assert_eq!(knock(&server, user, "").line(), expected);
    }
    // And none of that has harmed the adapter.
    session(&server, "ann", "");
    server.stop().unwrap();
}

#[test]
fn what_a_user_was_let_in_with_decides_about_subscriptions() {
    let (server, _handle) = server(false);
    let (mut client, id) = session(&server, "ann", "secret");
    assert_eq!(subscribe(&mut client, &id, 1, "mine", ""), "");
    assert_eq!(client.update(), "U,1,1,secret");
    for (sub_id, group, more, expected) in [
        (2, "items", "", "21,Bad item group name"),
        (
            3,
            "a",
            "&LS_schema=items",
            "22,Item group not allowed for this field schema",
        ),
        (4, "a", "&LS_schema=schema", "23,Bad field schema name"),
        (5, "a", "&LS_schema=%20", "23,Bad field schema name"),
        (6, "list", "", "24,Invalid mode for these items"),
        (7, "a private", "", "24,Invalid mode for these items"),
        (
            8,
            "limited",
            "&LS_requested_max_frequency=unfiltered",
            "26,",
        ),
        (
            9,
            "a",
            "&LS_data_adapter=ELSEWHERE",
            "17,Data Adapter not found",
        ),
        (10, "credits", "", "-5,No%2C thank you"),
        (11, "failed", "", "66,Metadata Adapter error"),
        (12, "panic", "", "66,Metadata Adapter error"),
        (13, "a", "&LS_selector=some", "25,"),
    ] {
        let answer = subscribe(&mut client, &id, sub_id, group, more);
        assert!(answer.starts_with(expected), "{group} {more}: {answer}");
    }
    assert_eq!(subscribe(&mut client, &id, 20, "limited", ""), "");
    let conf = client.line_such(|line| matches!(line, engine::tlcp::client::Line::Conf { .. }));
    assert_eq!(conf, "CONF,20,2.5,filtered");
    server.stop().unwrap();
}

#[test]
fn a_selector_is_what_the_adapter_says_or_the_configuration() {
    let (rules, _handle) = rules(false);
    let selectors = "[[adapter_sets]]\nname = \"DEMO\"\n\
        [[adapter_sets.selectors]]\nname = \"configured\"\nfield = \"name\"\nprefix = \"b\"";
    let server = builder(rules, MetadataOptions::default()).config_text(selectors);
    let server = server.start().unwrap();
    let (mut client, id) = session(&server, "ann", "");
    let refused = |answer: String| answer.starts_with("25,");
    assert!(refused(subscribe(
        &mut client,
        &id,
        1,
        "a",
        "&LS_selector=other"
    )));
    assert!(refused(subscribe(
        &mut client,
        &id,
        2,
        "a elsewhere",
        "&LS_selector=mine"
    )));
    // The first update is one that is selected, and so is the next: what comes of other items would come before.
    for (sub_id, group, more, update) in [
        (3, "a b", "&LS_snapshot=true&LS_selector=mine", "U,3,1,a"),
        (
            4,
            "a b",
            "&LS_snapshot=true&LS_selector=configured",
            "U,4,2,b",
        ),
        (5, "last", "", "U,5,1,last"),
    ] {
        assert_eq!(subscribe(&mut client, &id, sub_id, group, more), "");
        let line =
            client.line_such(|line| matches!(line, engine::tlcp::client::Line::Update { .. }));
        assert_eq!(line, update);
    }
    server.stop().unwrap();
}

#[test]
fn limits_of_a_session_are_told_to_its_client() {
    let (server, handle) = server(false);
    let mut client = knock(&server, "slow", "");
    let cons = client.line_such(|line| matches!(line, engine::tlcp::client::Line::Cons { .. }));
    assert_eq!(cons, "CONS,50.0");
    assert_eq!(handle.hear(), "new session of slow");
    let (mut client, _) = session(&server, "short", "");
    assert_eq!(client.line(), "END,48,Maximum session duration reached");
    assert_eq!(handle.hear(), "new session of short");
    assert_eq!(handle.hear(), "close of short");
    server.stop().unwrap();
}

#[test]
fn an_answer_may_come_later_and_holds_nobody_up() {
    let (rules, handle) = rules(false);
    let one = NonZeroUsize::MIN;
    let options = MetadataOptions {
        user_threads: one,
        ..MetadataOptions::default()
    };
    let server = server_with(rules, options);
    let mut waiting: Vec<Client> = (0..3).map(|_| knock(&server, "later", "")).collect();
    assert_eq!(handle.hear(), "init DEMO");
    for _ in 0..3 {
        assert_eq!(handle.hear(), "promised");
    }
    session(&server, "ann", ""); // though there is one thread
    let mut promises = std::mem::take(&mut *handle.promises.lock().unwrap());
    drop(promises.pop());
    promises.pop().unwrap().keep(Err(MetadataError::Access));
    promises.pop().unwrap().keep(Ok(Admission::default()));
    let mut answers: Vec<String> = waiting.iter_mut().map(Client::line).collect();
    answers.sort();
    assert_eq!(answers[0], "CONERR,1,User/password check failed");
    assert_eq!(answers[1], "CONERR,66,Metadata Adapter error");
    assert!(answers[2].starts_with("CONOK,"), "{answers:?}");
    server.stop().unwrap();
}

#[test]
fn a_full_queue_refuses_at_once_and_subscriptions_go_on() {
    let (rules, handle) = rules(false);
    let options = MetadataOptions {
        user_threads: NonZeroUsize::MIN,
        queue_len: 1,
        ..MetadataOptions::default()
    };
    let server = server_with(rules, options);
    assert_eq!(handle.hear(), "init DEMO");
    let (mut client, id) = session(&server, "ann", "");
    assert_eq!(handle.hear(), "new session of ann");
    let mut first = knock(&server, "wait", "");
    assert_eq!(handle.hear(), "waits"); // the only thread is taken
    let mut others: Vec<Client> = (0..2).map(|_| knock(&server, "bob", "")).collect();
    // One of the others has the only place in the queue.
    let refused = "CONERR,6,The Metadata Adapter has too much to do";
    let (sender, line) = mpsc::channel();
    for (number, mut other) in others.drain(..).enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || sender.send((number, other.line())));
    }
    assert_eq!(line.recv().unwrap().1, refused);
    assert_eq!(subscribe(&mut client, &id, 1, "item", ""), "");
    assert_eq!(client.update(), "U,1,1,item");
    handle.gate.send(()).unwrap();
    assert!(first.line().starts_with("CONOK,"));
    assert!(line.recv().unwrap().1.starts_with("CONOK,"));
    server.stop().unwrap();
}

#[test]
fn who_waits_too_long_is_refused_and_what_is_granted_then_is_taken_back() {
    let (rules, handle) = rules(true);
    let options = MetadataOptions {
        // What shall be in time has so long, however busy the machine is.
        timeout: Duration::from_secs(1),
        ..MetadataOptions::default()
    };
    let server = server_with(rules, options);
    assert_eq!(handle.hear(), "init DEMO");
    let late = "CONERR,6,Authentication temporarily unavailable%2C retry later";
    let mut user = knock(&server, "wait", "");
    assert_eq!(user.line(), late);
    assert_eq!(handle.hear(), "waits");
    handle.gate.send(()).unwrap(); // which is too late: there is no session
    let mut of_session = knock(&server, "wait for session", "");
    assert_eq!(of_session.line(), late);
    assert_eq!(handle.hear(), "waits");
    handle.gate.send(()).unwrap();
    assert_eq!(handle.hear(), "new session of wait for session");
    assert_eq!(handle.hear(), "close of wait for session");
    // The same for a subscription.
    let (mut client, id) = session(&server, "ann", "");
    assert_eq!(handle.hear(), "new session of ann");
    assert_eq!(
        subscribe(&mut client, &id, 1, "wait", ""),
        "66,The Metadata Adapter does not answer"
    );
    assert_eq!(handle.hear(), "waits");
    handle.gate.send(()).unwrap();
    assert_eq!(handle.hear(), "table 1 of [\"wait\"] in Merge");
    assert_eq!(handle.hear(), "table 1 closed, 0 sent");
    server.stop().unwrap();
}

#[test]
fn messages_are_answered() {
    let (server, _handle) = server(false);
    let (mut client, id) = session(&server, "ann", "");
    for (number, message, expected) in [
        (1, "hello", "MSGDONE,*,1,ann said hello"),
        (2, "credits", "MSGFAIL,*,2,-5,No%2C thank you"),
        (3, "notification", "MSGFAIL,*,3,34,Message not processed"),
        (4, "failed", "MSGFAIL,*,4,35,Metadata Adapter error"),
        (5, "panic", "MSGFAIL,*,5,35,Metadata Adapter error"),
    ] {
        client.send(&format!(
            "msg\r\nLS_reqId={number}&LS_message={message}&LS_msg_prog={number}&LS_session={id}"
        ));
        let line = loop {
            let line = client.line();
            if line.starts_with("MSG") {
                break line;
            }
        };
        assert_eq!(line, expected);
    }
    server.stop().unwrap();
}

#[test]
fn a_session_in_the_way_is_closed_first() {
    let (server, handle) = server(false);
    let (mut first, first_id) = session(&server, "old", "");
    assert_eq!(handle.hear(), "new session of old");
    let (_second, second_id) = session(&server, "new", &format!("instead of {first_id}"));
    assert_ne!(first_id, second_id);
    assert_eq!(
        first.line(),
        "END,35,Session closed by a newer session of the user"
    );
    let heard: Vec<String> = (0..4).map(|_| handle.hear()).collect();
    let conflict = format!("conflict with {first_id}");
    assert_eq!(
        heard,
        [&conflict, "close of old", &conflict, "new session of new"]
    );
    // One that is not there leads to a refusal with the adapter's code.
    let mut third = knock(&server, "third", "instead of nobody");
    assert_eq!(third.line(), "CONERR,-7,one is enough");
    server.stop().unwrap();
}

#[test]
fn the_adapter_ends_sessions_and_subscriptions() {
    let (server, handle) = server(true);
    let (mut client, id) = session(&server, "ann", "");
    assert_eq!(handle.hear(), "new session of ann");
    assert_eq!(subscribe(&mut client, &id, 1, "a b", ""), "");
    assert_eq!(handle.hear(), "table 1 of [\"a\", \"b\"] in Merge");
    client.update();
    client.update();
    handle.control().force_unsubscription(&id, 1).unwrap();
    client.line_such(|line| matches!(line, engine::tlcp::client::Line::Unsub { .. }));
    assert_eq!(handle.hear(), "table 1 closed, 2 sent");
    assert_eq!(
        subscribe(&mut client, &id, 2, "too many", ""),
        "-9,That is too much"
    );
    assert_eq!(handle.hear(), "table 2 of [\"too\", \"many\"] in Merge");
    assert_eq!(subscribe(&mut client, &id, 3, "c", ""), "");
    assert_eq!(handle.hear(), "table 3 of [\"c\"] in Merge");
    handle
        .control()
        .force_session_termination(&id, Some((-3, "Closed for today")))
        .unwrap();
    let end = client.line_such(|line| matches!(line, engine::tlcp::client::Line::End { .. }));
    assert_eq!(end, "END,-3,Closed for today");
    assert!(handle.hear().starts_with("table 3 closed"));
    assert_eq!(handle.hear(), "close of ann");
    server.stop().unwrap();
}

#[test]
fn an_adapter_that_cannot_go_on_stops_the_server() {
    let (server, handle) = server(false);
    let (mut client, _) = session(&server, "ann", "");
    handle.control().failure("the database is gone");
    client.end();
    let error = server.stop().unwrap_err().to_string();
    assert_eq!(
        error,
        "metadata: metadata adapter DEMO has failed: the database is gone"
    );
}

/// Cannot start, in two ways.
struct Broken(bool);

impl MetadataAdapter for Broken {
    fn init(&mut self, _: &Place, _: MetadataControl) -> Result<(), AdapterError> {
        assert!(self.0, "it panics");
        Err("there is no database".into())
    }
}

#[test]
fn an_adapter_that_cannot_start_is_told_and_so_is_one_too_many() {
    let refusal = |builder: ServerBuilder| builder.start().err().unwrap().to_string();
    let server = |adapter| {
        Server::builder()
            .listen("127.0.0.1:0")
            .metadata_adapter("DEMO", adapter)
            .data_adapter("DEMO", "ECHO", Echo)
    };
    assert_eq!(
        refusal(server(Broken(true))),
        "metadata adapter DEMO cannot start: there is no database"
    );
    assert_eq!(
        refusal(server(Broken(false))),
        "metadata adapter DEMO has panicked in its init: it panics"
    );
    let twice = server(Broken(true)).metadata_adapter("DEMO", Broken(true));
    assert!(refusal(twice).contains("the set has another metadata adapter already"));
}
