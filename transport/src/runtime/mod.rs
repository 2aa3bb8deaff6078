//! What runs where: the cores with their duty cycles, the rings between them, and the machine beneath.
//!
//! # Threads
//!
//! | Thread | Runs | Module |
//! |---|---|---|
//! | shard (one or more, pinned) | a reactor: io_uring or epoll | [`shard_core`] |
//! | ingest (one, pinned) | an async host: glommio, or smol where io_uring is denied | [`ingest_core`], [`host`] |
//! | control (the main thread) | the same kind of host | [`crate::server`] |
//! | one for each data adapter in the process | whatever the adapter does | [`crate::adapter`] |
//! | some for each metadata adapter in the process, and one for its desk | its calls | [`crate::adapter::metadata`] |
//!
//! With `threading = "shared"` ingest takes its turns on the only shard's thread.
//!
//! # The ring map
//!
//! Nothing else crosses from one core to another. There are no locks.
//!
//! | Ring | Type | Writer → reader | Carries | When full |
//! |---|---|---|---|---|
//! | data | bytes, `rings.data_ring_bytes` | ingest → shard | records: fields, snapshots, updates | the item is marked, its state follows when there is room |
//! | demand | `rings.control_ring_len` | shard → ingest | items wanted and dropped | kept by the shard, next turn; at most two per item |
//! | ask | the same | shard → ingest | questions to the metadata adapters | kept by the shard; bounded by the questions that may be open |
//! | answer | the same | ingest → shard | their answers | kept by ingest; bounded likewise |
//! | shard to shard | the same | shard → shard | moved connections, forwarded requests, answers | connection closed and the client retries; request refused; answer kept by the shard, up to 16,384 for each other |
//! | command | 16 | control → any core | stop | never: read every turn |
//! | events | bytes, 4 MiB | data adapter → ingest; one for each publisher | updates | the adapter decides: wait, skip, or merge in the overflow |
//! | overflow | one box, 64 MiB | publisher ⇄ ingest | last states of MERGE items that the ring had no room for | the adapter is told that there is no room |
//! | subscriptions | 4,096 | ingest → data adapter | subscribe, unsubscribe | kept by ingest; at most two per item |
//!
//! A core that finds nothing to do parks; who writes into a ring wakes its reader if that is parked ([`park`]).

pub mod clock;
pub mod host;
pub mod ingest_core;
pub mod park;
pub mod rings;
pub mod shard_core;
pub mod topology;
