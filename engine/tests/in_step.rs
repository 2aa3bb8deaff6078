//! Clients in step share messages: what each is sent is what it would be sent alone.

mod by_hand;

use by_hand::Bench;
use engine::ids::ConnId;
use engine::shard::{Outbox, Part, Peer};
use engine::tlcp::Version;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What every connection was sent, and the sessions of the first ones.
#[derive(Default)]
struct Clients {
    buffer: Vec<u8>,
    last: Vec<u8>,
    texts: BTreeMap<u32, String>,
    repeated: usize,
    sessions: BTreeMap<u32, String>,
}

impl Outbox for Clients {
    fn open(&mut self, _: ConnId) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn send(&mut self, conn: ConnId, _: Part) {
        if !self.buffer.is_empty() {
            self.last.clone_from(&self.buffer);
            let text = self.texts.entry(conn.slot).or_default();
            text.push_str(std::str::from_utf8(&self.buffer).unwrap());
        }
    }

    /// A driver that has kept the bytes of the last message.
    fn repeat(&mut self, conn: ConnId, text: &[u8]) {
        assert!(self.buffer.is_empty());
        assert_eq!(self.last, text, "it is not the message that was sent last");
        self.repeated += 1;
        let sent = self.texts.entry(conn.slot).or_default();
        sent.push_str(std::str::from_utf8(&self.last).unwrap());
    }
}

impl Bench<Clients> {
    /// The data adapter has a snapshot of every item, whatever it has published.
    fn with_items() -> Self {
        let mut bench = Self::new();
        let items = ITEMS.iter().map(|item| ((*item).to_owned(), Vec::new()));
        bench.snapshots.extend(items);
        bench
    }

    fn open(&mut self) -> ConnId {
        let conn = self.conn();
        let peer = Peer::new("192.0.2.1", Version::LATEST);
        self.shard.on_accept(conn, peer, self.now);
        conn
    }

    /// A client with a session.
    fn connect(&mut self) -> ConnId {
        let conn = self.open();
        let create = "create_session\r\nLS_cid=x&LS_send_sync=false&LS_supported_diffs=";
        self.shard.on_request(conn, create, self.now);
        self.settle();
        let text = self.take(conn);
        let id = text.strip_prefix("CONOK,").unwrap().split(',').next();
        let sessions = &mut self.clients.sessions;
        sessions.insert(conn.slot, id.unwrap().to_owned());
        conn
    }

    fn subscribe(&mut self, conn: ConnId, sub: u32, mode: &str, group: &str) {
        let add = format!(
            "control\r\nLS_reqId={sub}&LS_op=add&LS_subId={sub}&LS_mode={mode}&LS_group={group}&LS_schema=a%20b&LS_snapshot=true&LS_ack=false"
        );
        self.shard.on_request(conn, &add, self.now);
        self.settle();
    }

    /// Events of one turn: items with the new values of their fields.
    fn publish(&mut self, events: &[(&str, &[(&'static str, String)])]) {
        for (name, fields) in events {
            let latest = self.snapshots.entry((*name).to_owned()).or_default();
            for (field, value) in *fields {
                latest.retain(|(known, _)| known != field);
                latest.push((field, value.clone()));
            }
            latest.sort();
            self.tell(name, false, fields);
        }
        self.settle();
    }

    /// Everything that a connection was sent since the last look.
    fn take(&mut self, conn: ConnId) -> String {
        self.clients.texts.remove(&conn.slot).unwrap_or_default()
    }

    /// The lines that a client gets which has lost its connection, and says that it has so many.
    fn recover(&mut self, conn: ConnId, received: usize) -> Vec<String> {
        self.shard.on_closed(conn, self.now);
        let id = self.clients.sessions[&conn.slot].clone();
        let next = self.open();
        let bind = format!("bind_session\r\nLS_session={id}&LS_recovery_from={received}");
        self.shard.on_request(next, &bind, self.now);
        self.settle();
        let text = self.take(next);
        let (_, lines) = text.split_once("PROG,").expect("it recovers");
        lines.lines().skip(1).map(str::to_owned).collect()
    }
}

fn fields(a: &str, b: &str) -> Vec<(&'static str, String)> {
    vec![("a", a.to_owned()), ("b", b.to_owned())]
}

/// One is written to; the others follow.
#[test]
fn clients_in_step_are_sent_the_same_bytes() {
    let mut bench = Bench::with_items();
    let clients: Vec<ConnId> = (0..4).map(|_| bench.connect()).collect();
    for &client in &clients {
        bench.subscribe(client, 1, "RAW", "x%20y");
        bench.take(client);
    }
    bench.clients.repeated = 0;
    let events: Vec<_> = (0..3).map(|n| fields(&n.to_string(), "b")).collect();
    let burst = [
        ("x", &*events[0]),
        ("x", &*events[1]),
        ("y", &*events[0]),
        ("x", &*events[2]),
    ];
    bench.publish(&burst);
    assert_eq!(bench.clients.repeated, 3);
    let texts: Vec<_> = clients.iter().map(|&client| bench.take(client)).collect();
    assert!(texts.iter().all(|text| *text == texts[0]));
    let mut lines: Vec<_> = texts[0].lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["U,1,1,0|b", "U,1,1,1|", "U,1,1,2|", "U,1,2,0|b"],
        "{texts:?}"
    );
}

/// One has another number, one has other items, one was blocked: they are written to by themselves, and do not keep the
/// others from following.
#[test]
fn clients_out_of_step_are_written_to_by_themselves() {
    let mut bench = Bench::with_items();
    let clients: Vec<ConnId> = (0..7).map(|_| bench.connect()).collect();
    for (n, &client) in clients.iter().enumerate() {
        let sub = if n == 2 { 7 } else { 1 };
        let group = if n == 4 { "x%20y" } else { "x" };
        bench.subscribe(client, sub, "MERGE", group);
    }
    // After so many turns in which nobody followed, not every message is remembered as a leader.
    for n in 0..9 {
        bench.publish(&[("x", &fields(&n.to_string(), "b"))]);
    }
    bench.shard.on_blocked(clients[1], bench.now);
    bench.publish(&[("x", &fields("1", "missed"))]);
    bench.shard.on_writable(clients[1], bench.now);
    for &client in &clients {
        bench.take(client);
    }
    bench.clients.repeated = 0;
    bench.publish(&[("x", &fields("2", "missed")), ("y", &fields("2", "c"))]);
    assert!(bench.clients.repeated > 0);
    for (n, &client) in clients.iter().enumerate() {
        let expected = match n {
            1 => "U,1,1,2|missed\r\n",
            2 => "U,7,1,2|\r\n",
            4 => "U,1,1,2|\r\nU,1,2,2|c\r\n",
            _ => "U,1,1,2|\r\n",
        };
        assert_eq!(bench.take(client), expected, "client {n}");
    }
}

/// What happens in the property.
#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        client: usize,
        sub: u32,
        mode: usize,
        group: usize,
    },
    Publish(Vec<(usize, u8, u8)>),
    Blocked(usize),
    Writable(usize),
}

const MODES: [&str; 2] = ["MERGE", "RAW"];
const GROUPS: [&str; 3] = ["x", "x%20y", "y%20z%20x"];
const ITEMS: [&str; 3] = ["x", "y", "z"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let subscribe =
        (0usize..4, 1u32..3, 0usize..2, 0usize..3).prop_map(|(client, sub, mode, group)| {
            Step::Subscribe {
                client,
                sub,
                mode,
                group,
            }
        });
    let event = (0usize..3, 0u8..3, 0u8..3);
    let publish = prop::collection::vec(event, 1..6).prop_map(Step::Publish);
    let blocked = (0usize..4).prop_map(Step::Blocked);
    let writable = (0usize..4).prop_map(Step::Writable);
    let later = prop_oneof![1 => subscribe.clone(), 6 => publish, 1 => blocked, 2 => writable];
    (
        prop::collection::vec(subscribe, 3..9),
        prop::collection::vec(later, 1..30),
    )
        .prop_map(|(first, later)| [first, later].concat())
}

/// Plays the steps with some of the clients: what each was sent, as lines.
fn play(steps: &[Step], clients: &[usize], received: usize) -> BTreeMap<usize, Vec<String>> {
    let mut bench = Bench::with_items();
    let conns: BTreeMap<usize, ConnId> = clients
        .iter()
        .map(|&client| (client, bench.connect()))
        .collect();
    for step in steps {
        match step {
            Step::Subscribe {
                client,
                sub,
                mode,
                group,
            } => {
                if let Some(&conn) = conns.get(client) {
                    bench.subscribe(conn, *sub, MODES[*mode], GROUPS[*group]);
                }
            }
            Step::Publish(events) => {
                let events: Vec<_> = events
                    .iter()
                    .map(|(item, a, b)| (ITEMS[*item], fields(&a.to_string(), &b.to_string())))
                    .collect();
                let events: Vec<_> = events
                    .iter()
                    .map(|(item, fields)| (*item, fields.as_slice()))
                    .collect();
                bench.publish(&events);
            }
            Step::Blocked(client) => {
                if let Some(&conn) = conns.get(client) {
                    bench.shard.on_blocked(conn, bench.now);
                }
            }
            Step::Writable(client) => {
                if let Some(&conn) = conns.get(client) {
                    bench.shard.on_writable(conn, bench.now);
                    bench.settle();
                }
            }
        }
    }
    let mut sent = BTreeMap::new();
    for (&client, &conn) in &conns {
        bench.shard.on_writable(conn, bench.now);
        bench.settle();
        let lines: Vec<_> = bench.take(conn).lines().map(str::to_owned).collect();
        // Whatever others share of it, each log has its client's own lines. A repeated subscription is answered with a
        // line that is none of the session's.
        let own: Vec<_> = lines
            .iter()
            .filter(|line| !line.starts_with("REQ"))
            .cloned()
            .collect();
        let received = received.min(own.len());
        assert_eq!(bench.recover(conn, received), own[received..]);
        sent.insert(client, lines);
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// But for the order of what belongs to different items, which nobody promises.
    #[test]
    fn in_company_a_client_is_sent_what_it_is_sent_alone(steps in steps(), received in 0usize..40) {
        let item = |line: &String| line.split(',').take(3).map(str::to_owned).collect::<Vec<_>>();
        let company = play(&steps, &[0, 1, 2, 3], received);
        for client in 0..4 {
            let mut company = company[&client].clone();
            let mut alone = play(&steps, &[client], received).remove(&client).unwrap();
            company.sort_by_key(item);
            alone.sort_by_key(item);
            prop_assert_eq!(company, alone, "client {}", client);
        }
    }
}
