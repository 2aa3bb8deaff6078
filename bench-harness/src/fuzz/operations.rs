//! Sequences of operations on a whole engine: ingest and two shards, driven by a script in the words of the golden
//! transcripts (`engine/tests/golden.rs`), as far as it makes sense; what does not is skipped, so any text is a script.
//!
//! Meanwhile another session, which has nothing to do with the script, streams an item of its own: whatever the others
//! do, it must get every update, and nothing else. And memory must be bounded: what clients can make the server keep
//! is counted at the end.

use engine::ids::{DataAdapterId, ShardId};
use engine::sim::world::{Event, Options, Say, WireId, World};
use engine::text::{Plus, percent_decode};
use engine::time::Duration;
use engine::tlcp::request::Verb;
use engine::tlcp::{Version, legacy};
use std::collections::BTreeMap;

/// Longest time that one step may let pass, and the most steps of a script: a run shall not take for ever.
const MILLIS_MAX: u64 = 60_000;
const STEPS_MAX: usize = 200;
/// The bystander's item is of this adapter.
const ADAPTER: DataAdapterId = DataAdapterId(0);

/// Plays a script.
pub fn play(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut stage = Stage::new();
    for (number, line) in text.lines().take(STEPS_MAX).enumerate() {
        stage.step(line);
        if number % 8 == 0 {
            stage.bystander_goes_on();
        }
    }
    stage.bystander_goes_on();
    stage.everybody_leaves();
}

struct Stage {
    world: World,
    wires: BTreeMap<u32, WireId>,
    sessions: Vec<String>,
    bystander: WireId,
    received: Vec<String>,
    count: u64,
}

impl Stage {
    fn new() -> Self {
        let mut world = World::new(Options {
            shards: 2,
            ..Options::default()
        });
        let bystander = world.connect(ShardId(0), Version::LATEST);
        world.send(
            bystander,
            "create_session\r\nLS_cid=x&LS_send_sync=false&LS_keepalive_millis=30000",
        );
        world.settle();
        world.send(
            bystander,
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=bystander&LS_schema=n",
        );
        world.settle();
        let mut stage = Self {
            world,
            wires: BTreeMap::new(),
            sessions: Vec::new(),
            bystander,
            received: Vec::new(),
            count: 0,
        };
        stage.listen();
        stage.received.clear();
        stage
    }

    fn step(&mut self, line: &str) {
        let Some((who, what)) = line.split_once(' ') else {
            return;
        };
        match who {
            "A>" => self.adapter_says(what),
            "@" => {
                if let Some(millis) = what
                    .strip_suffix("ms")
                    .and_then(|digits| digits.parse::<u64>().ok())
                {
                    let time = Duration::from_millis(millis.min(MILLIS_MAX));
                    self.world.advance(time);
                }
            }
            "~" => self.happens(what),
            _ => self.client_says(who, what),
        }
        self.listen();
    }

    fn client_says(&mut self, who: &str, what: &str) {
        let number = who
            .strip_prefix('C')
            .and_then(|rest| rest.strip_suffix(['>', '+']));
        let wire = number.and_then(|digits| self.wires.get(&digits.parse().ok()?).copied());
        let Some(wire) = wire.filter(|wire| self.world.is_open(*wire)) else {
            return;
        };
        let mut text = what.replace('⏎', "\r\n");
        for (index, id) in self.sessions.iter().enumerate() {
            text = text.replace(&format!("{{S{}}}", index + 1), id);
        }
        if self.world.is_http(wire) {
            let (target, body) = text.split_once("\r\n").unwrap_or((&text, ""));
            let (name, query) = target.split_once('?').unwrap_or((target, ""));
            let verb = Verb::from_name(name).or_else(|| legacy::verb(name));
            // As on a real connection: `wsok` is no request over HTTP.
            if let Some(verb) = verb.filter(|verb| *verb != Verb::Wsok) {
                self.world.request(wire, verb, query, body);
            }
        } else {
            self.world.send(wire, text);
        }
        if who.ends_with('>') {
            self.world.settle();
        }
    }

    fn adapter_says(&mut self, what: &str) {
        let mut words = what.split(' ').filter(|word| !word.is_empty());
        let (Some(verb), Some(item)) = (words.next(), words.next()) else {
            return;
        };
        let (adapter, name) = match item.strip_prefix("QUOTE/") {
            Some(name) => (DataAdapterId(1), name),
            None => (ADAPTER, item),
        };
        let decode = |text: &str| {
            percent_decode(text, Plus::IsPlus).map_or_else(|_| text.to_owned(), Into::into)
        };
        let fields: Vec<(String, Option<String>)> = words
            .filter_map(|word| {
                let (name, value) = word.split_once('=')?;
                let value = match value {
                    "#" => None,
                    "$" => Some(String::new()),
                    _ => Some(decode(value)),
                };
                Some((decode(name), value))
            })
            .collect();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let say = match verb {
            "update" | "snapshot" => Say::Update {
                snapshot: verb == "snapshot",
                fields: &fields,
            },
            "eos" => Say::EndOfSnapshot,
            "clear" => Say::Clear,
            _ => return,
        };
        self.world.say(adapter, name, say);
        self.world.settle();
    }

    fn happens(&mut self, what: &str) {
        let mut words = what.split(' ');
        let (Some(event), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else {
            return;
        };
        if event == "connect" {
            let (mut shard, mut version, mut http, mut identity) =
                (0, Version::LATEST, false, false);
            for word in words {
                match word.split_once('=') {
                    None if word == "http" => http = true,
                    None if word == "identity" => (http, identity) = (true, true),
                    None if word == "legacy" => (http, version) = (true, Version::LEGACY),
                    Some(("shard", value)) => shard = value.parse().unwrap_or(0) % 2,
                    Some(("version", value)) => {
                        version = Version::parse(&format!("TLCP-{value}"))
                            .filter(|version| version.is_supported())
                            .unwrap_or(Version::LATEST);
                    }
                    _ => {}
                }
            }
            let shard = ShardId(shard);
            let wire = match http {
                true => self.world.connect_http(shard, version, identity),
                false => self.world.connect(shard, version),
            };
            if let Some(old) = self.wires.insert(number, wire)
                && self.world.is_open(old)
            {
                self.world.close(old);
            }
        } else if let Some(&wire) = self.wires.get(&number)
            && self.world.is_open(wire)
        {
            match event {
                "close" => self.world.close(wire),
                "block" => self.world.stall(wire),
                "unblock" => self.world.resume(wire),
                _ => {}
            }
        }
        self.world.settle();
    }

    /// Takes in what happened: ids of sessions, and what the bystander has got.
    fn listen(&mut self) {
        while let Some(event) = self.world.poll_event() {
            match event {
                Event::Message { wire, bytes, .. } => {
                    let text = String::from_utf8(bytes).expect("lines are UTF-8");
                    assert!(
                        text.ends_with("\r\n") || text.is_empty(),
                        "whole lines: {text:?}"
                    );
                    if wire == self.bystander {
                        let lines = text.lines().filter(|line| *line != "PROBE");
                        self.received.extend(lines.map(str::to_owned));
                        continue;
                    }
                    for line in text.lines() {
                        let conok = line.strip_prefix("CONOK,");
                        let id = conok.or_else(|| line.strip_prefix("SessionId:"));
                        if let Some(id) = id.and_then(|rest| rest.split(',').next())
                            && !self.sessions.iter().any(|known| known == id)
                        {
                            self.sessions.push(id.to_owned());
                        }
                    }
                }
                Event::Closed(wire) => {
                    assert_ne!(wire, self.bystander, "the bystander was cut off");
                }
                _ => {}
            }
        }
    }

    /// The bystander gets its next update, and nothing else.
    fn bystander_goes_on(&mut self) {
        self.listen();
        self.count += 1;
        let value = self.count.to_string();
        self.world.say(
            ADAPTER,
            "bystander",
            Say::Update {
                snapshot: false,
                fields: &[("n", Some(&value))],
            },
        );
        self.world.settle();
        self.listen();
        let received = std::mem::take(&mut self.received);
        assert_eq!(received, [format!("U,1,1,{value}")], "the bystander");
    }

    /// All other clients go, and time passes: nothing of them is left.
    fn everybody_leaves(&mut self) {
        for wire in std::mem::take(&mut self.wires).into_values() {
            if self.world.is_open(wire) {
                self.world.close(wire);
            }
        }
        for _ in 0..5 {
            self.world.advance(Duration::from_millis(MILLIS_MAX));
        }
        self.listen();
        let sessions: usize = self.world.shards().map(|shard| shard.sessions()).sum();
        let items: usize = self.world.shards().map(|shard| shard.items()).sum();
        let connections: usize = self.world.shards().map(|shard| shard.connections()).sum();
        assert_eq!(
            (sessions, items, self.world.ingest().items()),
            (1, 1, 1),
            "sessions and items of clients that are gone"
        );
        assert_eq!(connections, 1, "connections");
    }
}
