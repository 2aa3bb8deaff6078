//! The pure half of Brightwire: what to tell whom, and when.
//!
//! The engine turns the events of data adapters, the requests of clients and the passing of time into lines of text
//! for clients. It does so without sockets, threads, files or a clock: whoever drives it passes everything in,
//! the present time included, and carries everything out. So the same code runs in the server, where `transport`
//! drives it, and in a test, where a loop of ten lines does.
//!
//! # Vocabulary
//!
//! * An **item** has a name and **fields** with values, all text; a value can be null. Its **snapshot** is its state now.
//! * A **data adapter** supplies events of items. A **metadata adapter** decides who may see what. Together they are
//!   an **adapter set**.
//! * A client has a **session**, bound to one connection at a time. A **subscription** is a **group** of items, seen
//!   through a **schema** (a list of fields), in a **mode**, which says what an event is. In MERGE it changes the fields
//!   that it names.
//! * **Conflation** is to replace what was not sent yet by something newer. A **shard** is a share of the sessions with
//!   all that belongs to them; the **pump** is the part of it that writes.
//!
//! # The data path
//!
//! | Step | Where |
//! |---|---|
//! | An adapter's event is merged into the item's state, of which there is one. | [`ingest`], [`item::merge`] |
//! | What changed becomes a record in the data ring of each shard that wants the item. | [`ingest::fanout`], [`ingest::record`] |
//! | The shard makes a row of it: all values of the item, immutable, shared. | [`shard`] (`items`), [`item::row`] |
//! | Subscriptions to the item are marked: something is owed. Nothing is queued. | [`shard`] |
//! | The pump asks what each client may get now, by frequency, bandwidth and a connection that takes bytes. | [`shard`] (`pump`) |
//! | It writes `U,<subscription>,<item>,` and what is new since the row the client has, encoded once for all in step. | [`shard`] (`tails`), [`tlcp::values`] |
//!
//! # From a value to a line
//!
//! Everything that a driver does, in one screen. The real ones are `transport/src/runtime/ingest_core.rs` and
//! `shard_core.rs` beside it; the simulator, below, has one for tests.
//!
//! ```
//! use engine::ids::{ConnId, ShardId};
//! use engine::ingest::{Ingest, IngestEffect, event::AdapterEvent, fanout::Rings};
//! use engine::limits::Limits;
//! use engine::metadata::{AdapterSets, literal::Literal};
//! use engine::shard::{Config, Effect, Outbox, Part, Peer, Shard};
//! use engine::time::{Duration, Instant};
//! use engine::tlcp::Version;
//!
//! /// The data ring of the only shard: bytes, with a bound.
//! #[derive(Default)]
//! struct Ring(Vec<u8>);
//! impl Rings for Ring {
//!     fn room(&self, _: ShardId) -> usize { 4096 - self.0.len() }
//!     fn write(&mut self, _: ShardId, record: &[u8]) { self.0.extend_from_slice(record) }
//! }
//!
//! /// The socket of the only client.
//! #[derive(Default)]
//! struct Wire(Vec<u8>);
//! impl Outbox for Wire {
//!     fn open(&mut self, _: ConnId) -> &mut Vec<u8> { &mut self.0 }
//!     fn send(&mut self, _: ConnId, _: Part) {}
//! }
//!
//! let now = Instant::ZERO; // time is an argument
//! let (mut ring, mut wire) = (Ring::default(), Wire::default());
//! let mut sets = AdapterSets::default();
//! sets.add("DEFAULT", Literal::default(), &["DEFAULT"]);
//! let mut ingest = Ingest::new(1, Duration::from_secs(5), Limits::DEFAULT);
//! let mut shard = Shard::new(Config::default(), || [7; 12]); // a server takes real random bytes
//!
//! // A client connects, opens a session and subscribes.
//! let conn = ConnId { slot: 0, generation: 0 };
//! shard.on_accept(conn, Peer::new("127.0.0.1", Version::LATEST), now);
//! shard.on_request(conn, "create_session\r\nLS_cid=example", now);
//! shard.on_request(conn, "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE\
//!     &LS_group=EURUSD&LS_schema=bid%20ask&LS_snapshot=true", now);
//!
//! // What the shard wants of others: answers of the metadata adapter, then the item.
//! while let Some(effect) = shard.poll_effect() {
//!     match effect {
//!         Effect::Ask(ask) => shard.on_answer(sets.answer(ShardId(0), &ask), now),
//!         Effect::Demand(demand) => ingest.on_demand(ShardId(0), demand, now, &mut ring),
//!         other => unreachable!("{other:?}"),
//!     }
//! }
//! let Some(IngestEffect::Subscribe { item, .. }) = ingest.poll_effect() else { unreachable!() };
//! ingest.on_subscribed(item, true); // the data adapter will send a snapshot
//!
//! // The feed speaks, and each time the shard takes a turn: records in, lines out.
//! let mut event = |snapshot, fields: &[(&str, Option<&str>)]| {
//!     ingest.on_adapter(AdapterEvent::Update { item, snapshot, fields }, now, &mut ring);
//!     shard.on_records(&std::mem::take(&mut ring.0), now);
//!     shard.pump(now, &mut wire);
//! };
//! event(true, &[("bid", Some("1.0801")), ("ask", Some("1.0803"))]);
//! event(false, &[("bid", Some("1.0802"))]);
//!
//! let lines = String::from_utf8(wire.0).unwrap();
//! let updates: Vec<_> = lines.lines().filter(|line| line.starts_with("U,")).collect();
//! assert_eq!(updates, ["U,1,1,1.0801|1.0803", "U,1,1,1.0802|"]); // the second one: ask as before
//! ```
//!
//! # The simulator
//!
//! With the feature `sim` there is a module of that name: the whole engine with its adapters and hundreds of
//! misbehaving clients on one thread and a virtual clock. Its `pair` is the place to start a test from.

#![forbid(unsafe_code)]

pub mod ari;
pub mod counters;
pub mod ids;
pub mod ingest;
pub mod item;
pub mod limits;
pub mod metadata;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod text;
pub mod time;
pub mod tlcp;
