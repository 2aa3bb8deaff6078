//! A session's place at the desk.

use std::time::Instant;

use brightwire::reactor::ConnId;

use crate::session::Session;
use crate::tls::Secure;

/// It stays when the session, or its connection, is replaced.
pub(super) struct Seat {
    pub session: Session,
    pub conn: Option<ConnId>,
    /// The connection's TLS, if it is spoken.
    pub secure: Option<Secure>,
    pub state: SeatState,
    /// When its connection was started, or broke.
    pub since: Instant,
    /// How often bytes have arrived since acknowledgements were last looked after.
    pub receives: u32,
    /// A slow reader has read so much that it may go on only then.
    pub reads_from: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeatState {
    /// Its first connection is still to be made, or not subscribed yet.
    New,
    Live,
    /// Its session was ended by intention, and another one opens.
    Replacing,
    /// Its connection broke by intention; it comes back.
    Returning,
    /// It will not be seen again.
    Gone,
}

impl Seat {
    /// Whether there is something to send.
    pub fn has_words(&self) -> bool {
        !self.session.reply.is_empty() || self.secure.as_ref().is_some_and(Secure::wants_to_send)
    }

    /// What there is to send. Taken as a whole: a session that has said its part owns no memory for it.
    pub fn words(&mut self) -> Vec<u8> {
        let reply = std::mem::take(&mut self.session.reply);
        match &mut self.secure {
            None => reply,
            // Written to memory without a limit, which does not fail.
            Some(secure) => secure.send(&reply).unwrap_or_default(),
        }
    }
}
