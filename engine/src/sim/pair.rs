//! The smallest world: one client, one shard, one ingest. For tests that read like an example.
//!
//! ```
//! use engine::sim::pair::Pair;
//!
//! let mut pair = Pair::with_session();
//! pair.ask("control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1&LS_schema=bid&LS_snapshot=true");
//! pair.snapshot("item1", &[("bid", Some("3.04"))]);
//! assert_eq!(pair.lines(), ["REQOK,1", "SUBOK,1,1,1", "CONF,1,unlimited,filtered", "U,1,1,3.04"]);
//! ```

use super::world::{Event, Options, Say, WireId, World};
use crate::ids::{DataAdapterId, ShardId};
use crate::time::Duration;
use crate::tlcp::Version;

/// One client and its server.
pub struct Pair {
    /// The server, for what the short cuts below do not cover.
    pub world: World,
    /// The client's connection.
    pub wire: WireId,
    lines: Vec<String>,
}

/// The data adapter of [`Pair::snapshot`] and [`Pair::update`]: the one named `DEFAULT` in the set `DEFAULT`.
const ADAPTER: DataAdapterId = DataAdapterId(0);

impl Pair {
    /// A client that has just connected.
    pub fn new(options: Options) -> Self {
        let mut world = World::new(options);
        let wire = world.connect(ShardId(0), Version::LATEST);
        Self {
            world,
            wire,
            lines: Vec::new(),
        }
    }

    /// A client with a session, and nothing left to be read.
    pub fn with_session() -> Self {
        let mut pair = Self::new(Options::default());
        pair.ask("create_session\r\nLS_cid=pair&LS_send_sync=false");
        assert!(pair.lines()[0].starts_with("CONOK,"));
        pair
    }

    /// The client sends a message and the server deals with it.
    pub fn ask(&mut self, message: &str) {
        self.world.send(self.wire, message);
        self.world.settle();
    }

    /// Subscribes in MERGE mode, with snapshot; what is answered is dropped.
    pub fn subscribe(&mut self, sub_id: u32, group: &str, schema: &str, more: &str) {
        let (group, schema) = (group.replace(' ', "%20"), schema.replace(' ', "%20"));
        self.ask(&format!(
            "control\r\nLS_reqId={sub_id}&LS_op=add&LS_subId={sub_id}&LS_mode=MERGE&LS_group={group}\
             &LS_schema={schema}&LS_snapshot=true&{more}"
        ));
        self.lines();
    }

    /// The data adapter publishes an item's snapshot.
    pub fn snapshot(&mut self, item: &str, fields: &[(&str, Option<&str>)]) {
        self.say(
            item,
            Say::Update {
                snapshot: true,
                fields,
            },
        );
    }

    /// The data adapter publishes a live event.
    pub fn update(&mut self, item: &str, fields: &[(&str, Option<&str>)]) {
        self.say(
            item,
            Say::Update {
                snapshot: false,
                fields,
            },
        );
    }

    /// The data adapter says something, and clients get what they are owed.
    pub fn say(&mut self, item: &str, what: Say<'_>) {
        self.world.say(ADAPTER, item, what);
        self.world.settle();
    }

    /// Time passes.
    pub fn advance_ms(&mut self, millis: u64) {
        self.world.advance(Duration::from_millis(millis));
    }

    /// The lines that the client has received since the last call. That the connection was closed shows as `(closed)`.
    pub fn lines(&mut self) -> Vec<String> {
        while let Some(event) = self.world.poll_event() {
            match event {
                Event::Message { wire, bytes, .. } if wire == self.wire => {
                    let text = String::from_utf8(bytes).expect("lines are UTF-8");
                    self.lines.extend(text.lines().map(str::to_owned));
                }
                Event::Closed(wire) if wire == self.wire => self.lines.push("(closed)".into()),
                _ => {}
            }
        }
        std::mem::take(&mut self.lines)
    }
}
