//! The deterministic simulator: the whole engine, its adapters and its clients on one thread and a virtual clock.
//!
//! [`world`] holds the engine and models what lies between its halves; [`pair`] is the smallest world, for tests of
//! ten lines; the rest makes random worlds and judges them: [`feed`] invents items and remembers every state they
//! had, [`messages`] invents what clients send to the metadata adapter, [`clients`] behave as clients do at their worst, [`oracle`] compares what they see with what was, and
//! [`trace`] says what happened before it went wrong. [`run`] puts them together; the command `sim` runs it for many
//! seeds.

pub mod clients;
pub mod feed;
pub mod messages;
pub mod oracle;
pub mod pair;
pub mod run;
pub mod trace;
pub mod world;
