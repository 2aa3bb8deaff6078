//! The deterministic simulator: the whole engine, its adapters and its clients on one thread and a virtual clock.
//!
//! [`world`] holds the engine and models what lies between its halves; [`pair`] is the smallest world, for tests of
//! ten lines. The rest makes random worlds and judges them:
//!
//! * [`weather`] chooses limits, delays and how rough it gets; [`feed`] invents items and events, [`messages`] what
//!   clients send to the metadata adapter; [`clients`] behave as clients do at their worst.
//! * [`ledger`] writes down what was published and what it means; [`oracle`] knows which part of it concerns which
//!   subscription; a [`judge`] for each item of each subscription looks at every line that its client gets.
//! * [`run`] puts them together, and [`trace`] says what happened before it went wrong. The command `sim` runs many
//!   seeds.

pub mod clients;
pub mod feed;
pub mod judge;
pub mod ledger;
pub mod messages;
pub mod oracle;
pub mod pair;
pub mod run;
pub mod trace;
pub mod weather;
pub mod world;
