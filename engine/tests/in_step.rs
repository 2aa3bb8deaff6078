//! Clients in step share messages: what each is sent is what it would be sent alone.

use engine::ids::{ConnId, ItemId, ShardId};
use engine::ingest::event::AdapterEvent;
use engine::ingest::fanout::Rings;
use engine::ingest::{Ingest, IngestEffect};
use engine::limits::Limits;
use engine::metadata::AdapterSets;
use engine::metadata::literal::Literal;
use engine::shard::{Config, Effect, Outbox, Part, Peer, Shard};
use engine::time::{Duration, Instant};
use engine::tlcp::Version;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A shard and ingest with an adapter that has the latest values of all items.
struct World {
    shard: Shard,
    ingest: Ingest,
    sets: AdapterSets,
    records: Records,
    latest: BTreeMap<String, Vec<(&'static str, String)>>,
    items: BTreeMap<String, ItemId>,
    sent: Sent,
    now: Instant,
    connections: u32,
    sessions: BTreeMap<u32, String>,
}

#[derive(Default)]
struct Records(Vec<u8>);

impl Rings for Records {
    fn room(&self, _: ShardId) -> usize {
        usize::MAX
    }

    fn write(&mut self, _: ShardId, record: &[u8]) {
        self.0.extend_from_slice(record);
    }
}

/// What every connection was sent.
#[derive(Default)]
struct Sent {
    buffer: Vec<u8>,
    last: Vec<u8>,
    texts: BTreeMap<u32, String>,
    repeated: usize,
}

impl Outbox for Sent {
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

impl World {
    fn new() -> Self {
        let mut sets = AdapterSets::default();
        sets.add("DEFAULT", Literal::default(), &["DEFAULT"]);
        let mut serial = 0u8;
        let random = move || {
            serial += 1;
            [serial; 12]
        };
        Self {
            shard: Shard::new(Config::default(), random),
            ingest: Ingest::new(1, Duration::ZERO, Limits::DEFAULT),
            sets,
            records: Records::default(),
            latest: BTreeMap::new(),
            items: BTreeMap::new(),
            sent: Sent::default(),
            now: Instant::from_millis(1),
            connections: 0,
            sessions: BTreeMap::new(),
        }
    }

    fn open(&mut self) -> ConnId {
        self.connections += 1;
        let conn = ConnId {
            slot: self.connections,
            generation: 0,
        };
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
        let text = self.sent.texts.remove(&conn.slot).unwrap();
        let id = text.strip_prefix("CONOK,").unwrap().split(',').next();
        self.sessions.insert(conn.slot, id.unwrap().to_owned());
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
            let latest = self.latest.entry((*name).to_owned()).or_default();
            for (field, value) in *fields {
                latest.retain(|(known, _)| known != field);
                latest.push((field, value.clone()));
            }
            latest.sort();
            if let Some(&item) = self.items.get(*name) {
                self.tell(item, false, fields);
            }
        }
        self.settle();
    }

    fn tell(&mut self, item: ItemId, snapshot: bool, fields: &[(&'static str, String)]) {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, Some(value.as_str())))
            .collect();
        let event = AdapterEvent::Update {
            item,
            snapshot,
            fields: &fields,
        };
        self.ingest.on_adapter(event, self.now, &mut self.records);
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            let records = std::mem::take(&mut self.records.0);
            self.shard.on_records(&records, self.now);
            self.shard.on_timers(self.now);
            self.shard.pump(self.now, &mut self.sent);
            while let Some(effect) = self.shard.poll_effect() {
                busy = true;
                match effect {
                    Effect::Ask(ask) => {
                        let answer = self.sets.answer(ShardId(0), &ask);
                        self.shard.on_answer(answer, self.now);
                    }
                    Effect::Demand(demand) => {
                        self.ingest
                            .on_demand(ShardId(0), demand, self.now, &mut self.records);
                    }
                    _ => {}
                }
            }
            while let Some(effect) = self.ingest.poll_effect() {
                if let IngestEffect::Subscribe { item, name, .. } = effect {
                    self.ingest.on_subscribed(item, true);
                    self.items.insert(name.to_string(), item);
                    let latest = self.latest.get(&*name).cloned().unwrap_or_default();
                    self.tell(item, true, &latest);
                    let end = AdapterEvent::EndOfSnapshot { item };
                    self.ingest.on_adapter(end, self.now, &mut self.records);
                }
            }
            if !busy && !self.shard.has_output() && self.records.0.is_empty() {
                return;
            }
        }
    }

    /// Everything that a connection was sent since the last look.
    fn take(&mut self, conn: ConnId) -> String {
        self.sent.texts.remove(&conn.slot).unwrap_or_default()
    }

    /// The lines that a client gets which has lost its connection, and says that it has so many.
    fn recover(&mut self, conn: ConnId, received: usize) -> Vec<String> {
        self.shard.on_closed(conn, self.now);
        let id = self.sessions[&conn.slot].clone();
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
    let mut world = World::new();
    let clients: Vec<ConnId> = (0..4).map(|_| world.connect()).collect();
    for &client in &clients {
        world.subscribe(client, 1, "RAW", "x%20y");
        world.take(client);
    }
    world.sent.repeated = 0;
    let events: Vec<_> = (0..3).map(|n| fields(&n.to_string(), "b")).collect();
    let burst = [
        ("x", &*events[0]),
        ("x", &*events[1]),
        ("y", &*events[0]),
        ("x", &*events[2]),
    ];
    world.publish(&burst);
    assert_eq!(world.sent.repeated, 3);
    let texts: Vec<_> = clients.iter().map(|&client| world.take(client)).collect();
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
    let mut world = World::new();
    let clients: Vec<ConnId> = (0..7).map(|_| world.connect()).collect();
    for (n, &client) in clients.iter().enumerate() {
        let sub = if n == 2 { 7 } else { 1 };
        let group = if n == 4 { "x%20y" } else { "x" };
        world.subscribe(client, sub, "MERGE", group);
    }
    // After so many turns in which nobody followed, not every message is remembered as a leader.
    for n in 0..9 {
        world.publish(&[("x", &fields(&n.to_string(), "b"))]);
    }
    world.shard.on_blocked(clients[1], world.now);
    world.publish(&[("x", &fields("1", "missed"))]);
    world.shard.on_writable(clients[1], world.now);
    for &client in &clients {
        world.take(client);
    }
    world.sent.repeated = 0;
    world.publish(&[("x", &fields("2", "missed")), ("y", &fields("2", "c"))]);
    assert!(world.sent.repeated > 0);
    for (n, &client) in clients.iter().enumerate() {
        let expected = match n {
            1 => "U,1,1,2|missed\r\n",
            2 => "U,7,1,2|\r\n",
            4 => "U,1,1,2|\r\nU,1,2,2|c\r\n",
            _ => "U,1,1,2|\r\n",
        };
        assert_eq!(world.take(client), expected, "client {n}");
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
    let mut world = World::new();
    let conns: BTreeMap<usize, ConnId> = clients
        .iter()
        .map(|&client| (client, world.connect()))
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
                    world.subscribe(conn, *sub, MODES[*mode], GROUPS[*group]);
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
                world.publish(&events);
            }
            Step::Blocked(client) => {
                if let Some(&conn) = conns.get(client) {
                    world.shard.on_blocked(conn, world.now);
                }
            }
            Step::Writable(client) => {
                if let Some(&conn) = conns.get(client) {
                    world.shard.on_writable(conn, world.now);
                    world.settle();
                }
            }
        }
    }
    let mut sent = BTreeMap::new();
    for (&client, &conn) in &conns {
        world.shard.on_writable(conn, world.now);
        world.settle();
        let lines: Vec<_> = world.take(conn).lines().map(str::to_owned).collect();
        // Whatever others share of it, each log has its client's own lines. A repeated subscription is answered with a
        // line that is none of the session's.
        let own: Vec<_> = lines
            .iter()
            .filter(|line| !line.starts_with("REQ"))
            .cloned()
            .collect();
        let received = received.min(own.len());
        assert_eq!(world.recover(conn, received), own[received..]);
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
