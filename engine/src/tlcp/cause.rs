//! Why a request is refused or a session ends: every code of the protocol with its text, in one table.
//!
//! Codes decide what a client does next, texts only what its user reads. Of the answers to `create_session` and
//! `bind_session`, 4, 5, 6, 20, 40 and 48 make a client open a new session; all others end it for good. Of the answers
//! to control requests, 20 makes it open a new session, 65 and 67 end it for good, and the rest stay local to the
//! request (TLCP, Error Codes).

use super::Version;
use std::borrow::Cow;

/// One row of the table: a code of the protocol and the text that goes with it. The same number means different
/// things in different answers, so rows are named for their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The number that clients act on.
    pub code: i64,
    /// The text for people, unless something more precise is known.
    pub text: &'static str,
}

/// A request that is not carried out. Becomes `CONERR`, `REQERR` or `ERROR`, by the request it answers: see
/// [`response::refuse`](super::response::refuse).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number that clients act on; zero and below are the metadata adapter's own.
    pub code: i64,
    /// The text for people.
    pub text: Cow<'static, str>,
    /// `LS_reqId` of the request, if it has a usable one.
    pub req_id: Option<String>,
}

/// Why a session ended, for `END`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The number that clients act on: 48 makes them open a new session, all others end them for good.
    pub code: i64,
    /// The text for people.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// The metadata adapter said no, with a code of its own: zero or below. Codes above zero belong to the protocol,
    /// so an adapter that uses one anyway is answered for with 0.
    pub fn by_adapter(code: i64, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            code: code.min(0),
            text: text.into(),
            req_id: None,
        }
    }

    /// A control request or message that came with `create_session` failed, and so the session is not created.
    pub fn combined_request(reason: &str) -> Refusal {
        let text = format!("Unexpected error while initializing the session: {reason}");
        Refusal {
            text: text.into(),
            ..Refusal::combined_request_failed()
        }
    }

    /// The same refusal, as a client of this version understands it when it opens a session. `None` if it would give up
    /// for good what it had better try again: it does that when its connection is closed without an answer.
    pub fn for_creation(&self, version: Version) -> Option<Refusal> {
        if version.retries_when_overloaded() {
            return Some(self.clone());
        }
        match self.code {
            5 | 6 => None,
            70 => Some(Refusal::sessions_blocked().with_text(self.text.clone())),
            _ => Some(self.clone()),
        }
    }

    /// The same refusal, as the answer to the request `req_id`.
    pub fn for_request(self, req_id: impl Into<String>) -> Refusal {
        Refusal {
            req_id: Some(req_id.into()),
            ..self
        }
    }

    /// The same refusal with a more precise text.
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            text: text.into(),
            ..self
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal {
            code: reason.code,
            text: Cow::Borrowed(reason.text),
            req_id: None,
        }
    }
}

impl Cause {
    /// The client asked for the end, possibly with a code and a text for whoever else watches the session. Its code
    /// must be zero or below to be told from the protocol's; a text counts only with a code, and its absence is then
    /// spelt `null` (TLCP, Session Destruction).
    pub fn destroyed(code: Option<i64>, message: Option<&str>) -> Cause {
        match code {
            None => Reason::DESTROYED_BY_CLIENT.into(),
            Some(code) => {
                let text = message.unwrap_or("null").replace(['\r', '\n'], " ");
                Cause {
                    code: code.min(0),
                    text: text.into(),
                }
            }
        }
    }
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Cause {
        Cause {
            code: reason.code,
            text: Cow::Borrowed(reason.text),
        }
    }
}

/// Makes each row a constant of [`Reason`] and a constructor of [`Refusal`].
macro_rules! reasons {
    ($($(#[$doc:meta])+ $constant:ident, $constructor:ident = $code:literal, $text:literal;)+) => {
        impl Reason {
            $($(#[$doc])+ pub const $constant: Reason = Reason { code: $code, text: $text };)+

            /// The whole table.
            pub const ALL: &[Reason] = &[$(Reason::$constant),+];
        }

        impl Refusal {
            $($(#[$doc])+ pub fn $constructor() -> Refusal { Reason::$constant.into() })+
        }
    };
}

reasons! {
    // Opening, binding and ending a session: CONERR and END.

    /// The metadata adapter does not know the user, or not with this password.
    AUTHENTICATION_FAILED, authentication_failed = 1, "User/password check failed";
    /// No adapter set of this name, or it is not ready.
    ADAPTER_SET_UNAVAILABLE, adapter_set_unavailable = 2, "Requested Adapter Set not available";
    /// The session was created over another family of protocols than the one that binds it.
    SESSION_INCOMPATIBLE, session_incompatible = 3, "Session initiated with an incompatible protocol";
    /// The data lines that the client lacks are no longer kept, or were never written.
    RECOVERY_IMPOSSIBLE, recovery_impossible = 4, "Recovery not possible from the requested point";
    /// The server cannot take the session in time. Not for clients that set `LS_ttl_millis=unlimited`.
    OVERLOADED, overloaded = 5, "Server temporarily overloaded, retry later";
    /// The metadata adapter cannot tell at the moment whether the user is known.
    AUTHENTICATION_UNAVAILABLE, authentication_unavailable = 6, "Authentication temporarily unavailable, retry later";
    /// A licence allows no more sessions. Never sent by this server.
    LICENSED_SESSIONS_REACHED, licensed_sessions_reached = 7, "Licensed session count reached";
    /// The configuration allows no more sessions.
    SESSION_LIMIT_REACHED, session_limit_reached = 8, "Session count limit reached";
    /// The configured load limit forbids another session.
    LOAD_LIMIT_REACHED, load_limit_reached = 9, "Server load limit reached";
    /// An administrator has stopped the creation of sessions.
    SESSIONS_BLOCKED, sessions_blocked = 10, "New sessions temporarily blocked";
    /// A licence forbids streaming. Never sent by this server.
    STREAMING_UNAVAILABLE, streaming_unavailable = 11, "Streaming not available";
    /// The session is unknown; it may have expired. In a control request too.
    SESSION_NOT_FOUND, session_not_found = 20, "Session not found";
    /// The session id carries the tag of another server: the balancer sent the client to the wrong one.
    SESSION_ELSEWHERE, session_elsewhere = 21, "Session of a different server instance";
    /// The client asked for the end, without saying why.
    DESTROYED_BY_CLIENT, destroyed_by_client = 31, "Destroy invoked by client";
    /// An administrator or the server's own rules ended the session.
    CLOSED_BY_SERVER, closed_by_server = 32, "Session closed by the server";
    /// The session ended for a fault of the server.
    SESSION_FAILED, session_failed = 33, "Internal error";
    /// The metadata adapter allows a user one session, and there is a newer one.
    REPLACED_BY_NEWER, replaced_by_newer = 35, "Session closed by a newer session of the user";
    /// Another connection has taken the session over. The session lives on there.
    BOUND_ELSEWHERE, bound_elsewhere = 40, "Session bound by another connection";
    /// The session reached its configured age.
    DURATION_REACHED, duration_reached = 48, "Maximum session duration reached";
    /// The client speaks a version of the protocol that this server does not.
    VERSION_UNSUPPORTED, version_unsupported = 60, "Client version not supported";
    /// A request that came with `create_session` failed: see [`Refusal::combined_request`].
    COMBINED_REQUEST_FAILED, combined_request_failed = 64, "Unexpected error while initializing the session";
    /// The WebSocket already carries a session's stream.
    STREAM_IN_PLACE, stream_in_place = 69, "Streaming already in place on this WebSocket";
    /// The port takes only the control requests of sessions that exist.
    CREATION_NOT_ALLOWED, creation_not_allowed = 70, "Session creation not allowed on this port";
    /// `LS_cid` is missing or not among those allowed.
    CLIENT_UNSUPPORTED, client_unsupported = 71, "Client type not supported";

    // Anything: the request itself.

    /// A parameter has a value that it cannot have.
    BAD_ARGUMENT, bad_argument = 65, "Invalid argument";
    /// The metadata adapter failed, rather than refused.
    ADAPTER_FAILED, adapter_failed = 66, "Metadata Adapter error";
    /// The request cannot be read, or lacks a mandatory parameter.
    MALFORMED, malformed = 67, "Malformed request";
    /// The server failed on the request. As `REQERR` it stays local to the request.
    REQUEST_FAILED, request_failed = 68, "Internal error during request processing";
    /// The request is longer than the limit told in `CONOK`. No code of its own: 68 keeps it local to the request.
    REQUEST_TOO_LONG, request_too_long = 68, "Request too long";
    /// A subscription number is taken by a subscription to something else. 65 would end the client, so it is 68.
    SUBSCRIPTION_EXISTS, subscription_exists = 68, "Subscription number already in use";

    // Control requests: REQERR.

    /// The session's version of the protocol does not have this request.
    REQUEST_INCOMPATIBLE, request_incompatible = 3, "Request not available in the protocol version of the session";
    /// The session of a control request is another server's.
    CONTROL_ELSEWHERE, control_elsewhere = 11, "Session of a different server instance";
    /// An unfiltered subscription has no frequency to change, and none becomes unfiltered later.
    FREQUENCY_FIXED, frequency_fixed = 13, "Frequency reconfiguration not allowed";
    /// COMMAND needs a field `key`.
    KEY_FIELD_MISSING, key_field_missing = 15, "Field schema without the key field";
    /// COMMAND needs a field `command`.
    COMMAND_FIELD_MISSING, command_field_missing = 16, "Field schema without the command field";
    /// The adapter set has no data adapter of this name, or none by default.
    DATA_ADAPTER_UNKNOWN, data_adapter_unknown = 17, "Data Adapter not found";
    /// No such subscription in the session, or no longer.
    SUBSCRIPTION_NOT_FOUND, subscription_not_found = 19, "Specified subscription not found";
    /// The metadata adapter does not know the item group.
    BAD_GROUP, bad_group = 21, "Bad item group name";
    /// The metadata adapter knows the group, but not with this schema.
    BAD_GROUP_FOR_SCHEMA, bad_group_for_schema = 22, "Item group not allowed for this field schema";
    /// The metadata adapter does not know the field schema.
    BAD_SCHEMA, bad_schema = 23, "Bad field schema name";
    /// An item of the group does not allow the mode.
    MODE_NOT_ALLOWED, mode_not_allowed = 24, "Invalid mode for these items";
    /// The metadata adapter does not know the selector, or not for these items.
    BAD_SELECTOR, bad_selector = 25, "Bad selector name";
    /// Unfiltered dispatching is impossible, as the item has a frequency limit.
    UNFILTERED_BUT_LIMITED, unfiltered_but_limited = 26, "Unfiltered dispatching not allowed: frequency limit on an item";
    /// Unfiltered dispatching is impossible, as the item is filtered before it gets to sessions.
    UNFILTERED_BUT_PREFILTERED, unfiltered_but_prefiltered = 27, "Unfiltered dispatching not allowed: prefilter on an item";
    /// A licence forbids unfiltered dispatching. Never sent by this server.
    UNFILTERED_UNLICENSED, unfiltered_unlicensed = 28, "Unfiltered dispatching not allowed by the license";
    /// A licence forbids RAW mode. Never sent by this server.
    RAW_UNLICENSED, raw_unlicensed = 29, "RAW mode not allowed by the license";
    /// A licence forbids subscriptions. Never sent by this server.
    SUBSCRIPTIONS_UNLICENSED, subscriptions_unlicensed = 30, "Subscriptions not allowed by the license";
    /// This server has no mobile push notifications.
    MPN_DISABLED, mpn_disabled = 40, "MPN module disabled";

    // Messages: REQERR and MSGFAIL.

    /// The message's number has been passed over, or it cannot be told any more whether it was used.
    MESSAGE_TOO_LATE, message_too_late = 32, "Message number too low";
    /// The message is already in its sequence: the client sent it twice, and drops this answer.
    MESSAGE_REPEATED, message_repeated = 33, "Message number already used";
    /// The message could not be handed to the metadata adapter, or the adapter could not deal with it.
    MESSAGE_FAILED, message_failed = 34, "Message not processed";
    /// The metadata adapter failed on the message, rather than refused it.
    MESSAGE_ADAPTER_FAILED, message_adapter_failed = 35, "Metadata Adapter error";
    /// A message of a sequence did not come in time.
    MESSAGE_SKIPPED, message_skipped = 38, "The specified progressive number has been skipped by timeout";
    /// Several messages of a sequence did not come in time. The text on the wire is their number.
    MESSAGES_SKIPPED, messages_skipped = 39, "1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_clients_and_their_tests_compare_are_exact() {
        for (reason, code, text) in [
            (
                Reason::ADAPTER_SET_UNAVAILABLE,
                2,
                "Requested Adapter Set not available",
            ),
            (
                Reason::SUBSCRIPTION_NOT_FOUND,
                19,
                "Specified subscription not found",
            ),
            (Reason::MODE_NOT_ALLOWED, 24, "Invalid mode for these items"),
            (Reason::DESTROYED_BY_CLIENT, 31, "Destroy invoked by client"),
            (
                Reason::MESSAGE_SKIPPED,
                38,
                "The specified progressive number has been skipped by timeout",
            ),
        ] {
            assert_eq!((reason.code, reason.text), (code, text));
        }
        assert_eq!(
            Refusal::combined_request("x").text,
            "Unexpected error while initializing the session: x"
        );
    }

    #[test]
    fn codes_of_the_table_are_above_zero_and_meanings_are_told_apart() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert!(
                reason.code > 0,
                "{reason:?} uses a code of the metadata adapter"
            );
            assert!(
                !Reason::ALL[..at].contains(reason),
                "{reason:?} is listed twice"
            );
        }
    }

    #[test]
    fn an_adapter_code_is_never_taken_for_one_of_the_protocol() {
        assert_eq!(Refusal::by_adapter(-5, "denied").code, -5);
        assert_eq!(Refusal::by_adapter(20, "denied").code, 0);
    }

    #[test]
    fn clients_before_2_2_know_fewer_codes() {
        let old = Version {
            major: 2,
            minor: 1,
            sub: 0,
        };
        let told = |refusal: Refusal, version| refusal.for_creation(version).map(|it| it.code);
        for (refusal, code, old_code) in [
            (Refusal::overloaded(), 5, None),
            (Refusal::authentication_unavailable(), 6, None),
            (Refusal::creation_not_allowed(), 70, Some(10)),
            (Refusal::authentication_failed(), 1, Some(1)),
        ] {
            assert_eq!(told(refusal.clone(), Version::LATEST), Some(code));
            assert_eq!(told(refusal, old), old_code);
        }
    }

    #[test]
    fn destroy_without_a_code_has_the_standard_cause() {
        assert_eq!(
            Cause::destroyed(None, Some("ignored")),
            Reason::DESTROYED_BY_CLIENT.into()
        );
    }

    #[test]
    fn destroy_with_a_code_keeps_the_text_on_one_line() {
        let destroyed = |code, message| {
            let cause = Cause::destroyed(Some(code), message);
            (cause.code, cause.text.into_owned())
        };
        assert_eq!(
            destroyed(-7, Some("main\r\ntenance")),
            (-7, "main  tenance".into())
        );
        assert_eq!(destroyed(-7, None), (-7, "null".into()));
        assert_eq!(destroyed(12, Some("")), (0, String::new()));
    }
}
