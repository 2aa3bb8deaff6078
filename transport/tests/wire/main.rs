//! The client connection seen from outside: streams of bytes, cut at every position; each refusal; holding back and
//! closing; and tungstenite, which was not written by us, at the other end.

mod cuts;
mod limits;
mod peer;
mod support;
