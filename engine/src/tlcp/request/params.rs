//! The parameters of one request: `name=value` pairs between `&`, percent-encoded.

use std::borrow::Cow;

use super::lines::parse_counted;
use crate::text::{BadEscape, Plus, parse_decimal, parse_integer, parse_signed, percent_decode};
use crate::tlcp::cause::Refusal;

/// Declares the parameters that any request knows, with their names.
macro_rules! keys {
    ($($key:ident = $name:literal),+ $(,)?) => {
        /// A parameter that some request knows. All others are ignored: clients send several for diagnostics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Key { $($key),+ }

        impl Key {
            const COUNT: usize = [$($name),+].len();

            fn from_name(name: &str) -> Option<Key> {
                match name { $($name => Some(Key::$key),)+ _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Key::$key => $name),+ }
            }
        }
    };
}

keys! {
    Ack = "LS_ack",
    AdapterSet = "LS_adapter_set",
    BufferSize = "LS_requested_buffer_size",
    CauseCode = "LS_cause_code",
    CauseMessage = "LS_cause_message",
    Cid = "LS_cid",
    CloseSocket = "LS_close_socket",
    ContentLength = "LS_content_length",
    DataAdapter = "LS_data_adapter",
    End = "LS_end",
    Group = "LS_group",
    IdleMillis = "LS_idle_millis",
    InactivityMillis = "LS_inactivity_millis",
    KeepaliveMillis = "LS_keepalive_millis",
    MaxBandwidth = "LS_requested_max_bandwidth",
    MaxFrequency = "LS_requested_max_frequency",
    MaxWait = "LS_max_wait",
    Message = "LS_message",
    Mode = "LS_mode",
    MsgProg = "LS_msg_prog",
    OldSession = "LS_old_session",
    Op = "LS_op",
    Outcome = "LS_outcome",
    Password = "LS_password",
    Polling = "LS_polling",
    PollingMillis = "LS_polling_millis",
    RecoveryFrom = "LS_recovery_from",
    ReduceHead = "LS_reduce_head",
    ReqId = "LS_reqId",
    Schema = "LS_schema",
    Selector = "LS_selector",
    SendSync = "LS_send_sync",
    Sequence = "LS_sequence",
    Session = "LS_session",
    Snapshot = "LS_snapshot",
    Start = "LS_start",
    SubId = "LS_subId",
    SupportedDiffs = "LS_supported_diffs",
    Ttl = "LS_ttl",
    TtlMillis = "LS_ttl_millis",
    User = "LS_user",
}

/// The known parameters of one request, decoded; each is taken at most once.
pub(super) struct Params<'a> {
    values: [Option<Cow<'a, str>>; Key::COUNT],
    /// Something could not be decoded. Noted instead of returned, so that the request's id is found even behind it.
    malformed: bool,
}

impl<'a> Params<'a> {
    /// Reads the query string of an HTTP request, and over it the request line. A name that is repeated in one of them
    /// has its last value.
    pub fn read(query: &'a str, line: &'a str) -> Params<'a> {
        let mut params = Params {
            values: [const { None }; Key::COUNT],
            malformed: false,
        };
        params.read_pairs(query);
        match parse_counted(line) {
            None => params.read_pairs(line),
            Some(counted) => {
                params.read_pairs(counted.pairs);
                params.values[Key::Message as usize] = Some(Cow::Borrowed(counted.message));
                params.malformed |= !counted.whole;
            }
        }
        params
    }

    fn read_pairs(&mut self, pairs: &'a str) {
        for pair in pairs.split('&').filter(|pair| !pair.is_empty()) {
            self.malformed |= self.read_pair(pair).is_err();
        }
    }

    fn read_pair(&mut self, pair: &'a str) -> Result<(), BadEscape> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some(key) = Key::from_name(&percent_decode(name, Plus::IsSpace)?) {
            self.values[key as usize] = Some(percent_decode(value, Plus::IsSpace)?);
        }
        Ok(())
    }

    /// Refuses a request with something undecodable in it.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.malformed {
            Err(Refusal::malformed())
        } else {
            Ok(())
        }
    }

    /// Whether the parameter is there.
    pub fn has(&self, key: Key) -> bool {
        self.values[key as usize].is_some()
    }

    /// The parameter, if it is there; an empty value is a value.
    pub fn take(&mut self, key: Key) -> Option<Cow<'a, str>> {
        self.values[key as usize].take()
    }

    /// The parameter, which must be there.
    pub fn required(&mut self, key: Key) -> Result<Cow<'a, str>, Refusal> {
        self.take(key).ok_or_else(|| missing(key))
    }

    /// `true` or `false`, in any case.
    pub fn boolean(&mut self, key: Key, default: bool) -> Result<bool, Refusal> {
        match self.take(key) {
            None => Ok(default),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(bad(key)),
        }
    }

    /// A non-negative integer.
    pub fn integer(&mut self, key: Key) -> Result<Option<u64>, Refusal> {
        self.parsed(key, parse_integer)
    }

    /// An integer from 1 on that fits 32 bits.
    pub fn ordinal(&mut self, key: Key) -> Result<Option<u32>, Refusal> {
        self.parsed(key, |value| {
            u32::try_from(parse_integer(value)?)
                .ok()
                .filter(|&number| number > 0)
        })
    }

    /// An integer that may be negative.
    pub fn signed(&mut self, key: Key) -> Result<Option<i64>, Refusal> {
        self.parsed(key, parse_signed)
    }

    /// Whatever `parse` makes of the value; `None` from it is a bad value.
    pub fn parsed<T>(
        &mut self,
        key: Key,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        self.take(key)
            .map(|value| parse(&value).ok_or_else(|| bad(key)))
            .transpose()
    }

    /// Like [`parsed`](Params::parsed), for a parameter that must be there.
    pub fn required_parsed<T>(
        &mut self,
        key: Key,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Refusal> {
        parse(&self.required(key)?).ok_or_else(|| bad(key))
    }
}

/// A number of events or the like, for which more than 32 bits can hold is as good as that.
pub(super) fn parse_count(value: &str) -> Option<u32> {
    Some(u32::try_from(parse_integer(value)?).unwrap_or(u32::MAX))
}

/// A number above zero with an optional fraction.
pub(super) fn parse_rate(value: &str) -> Option<f64> {
    parse_decimal(value).filter(|&rate| rate > 0.0)
}

/// The refusal of a value that the parameter cannot have.
pub(super) fn bad(key: Key) -> Refusal {
    Refusal::bad_argument().with_text(format!("Invalid argument: {}", key.name()))
}

/// The refusal of a request that lacks a mandatory parameter.
pub(super) fn missing(key: Key) -> Refusal {
    Refusal::malformed().with_text(format!("Malformed request: {} missing", key.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(query: &str, line: &str) -> Option<String> {
        Params::read(query, line)
            .take(Key::Group)
            .map(Cow::into_owned)
    }

    #[test]
    fn names_and_values_are_decoded() {
        assert_eq!(
            group("", "LS%5Fgroup=a%20b+c%2Bd%26e=f"),
            Some("a b+c+d&e=f".replacen('+', " ", 1))
        );
    }

    #[test]
    fn empty_pairs_and_unknown_names_are_ignored() {
        assert_eq!(group("", "&&LS_phase=%%%&LS_group=g&"), Some("g".into()));
        assert!(Params::read("", "LS_phase=%%%&").check().is_ok());
    }

    #[test]
    fn an_empty_value_is_not_an_absent_one() {
        assert_eq!(group("", "LS_group="), Some(String::new()));
        assert_eq!(group("", "LS_group"), Some(String::new()));
        assert_eq!(group("", "ls_group=g"), None);
    }

    #[test]
    fn the_line_overrides_the_query_string() {
        assert_eq!(group("LS_group=q", "LS_group=l"), Some("l".into()));
        assert_eq!(group("LS_group=q", ""), Some("q".into()));
        assert_eq!(group("", "LS_group=1&LS_group=2"), Some("2".into()));
    }

    #[test]
    fn the_rest_is_read_when_something_is_malformed() {
        for line in [
            "LS_group=g&LS_schema=%",
            "LS_schema=%FF&LS_group=g",
            "%=1&LS_group=g",
        ] {
            let mut params = Params::read("", line);
            assert_eq!(params.check(), Err(Refusal::malformed()), "{line}");
            assert_eq!(params.take(Key::Group).as_deref(), Some("g"), "{line}");
        }
    }

    #[test]
    fn a_raw_message_is_not_decoded() {
        let mut params = Params::read("", "LS_unq=40&LS_group=%67&LS_message=50%+1&LS_group=h");
        assert!(params.check().is_ok());
        assert_eq!(
            params.take(Key::Message).as_deref(),
            Some("50%+1&LS_group=h")
        );
        assert_eq!(params.take(Key::Group).as_deref(), Some("g"));
    }

    #[test]
    fn a_raw_message_that_is_left_out_is_empty() {
        let mut params = Params::read("", "LS_unq=11&LS_reqId=1&");
        assert!(params.check().is_ok());
        assert_eq!(params.take(Key::Message).as_deref(), Some(""));
    }

    #[test]
    fn booleans_are_two_words_in_any_case() {
        let boolean = |line| Params::read("", line).boolean(Key::Ack, true);
        assert_eq!(boolean("LS_ack=FALSE"), Ok(false));
        assert_eq!(boolean("LS_ack=true"), Ok(true));
        assert_eq!(boolean(""), Ok(true));
        for line in ["LS_ack=", "LS_ack=1", "LS_ack=yes"] {
            assert_eq!(boolean(line).unwrap_err().code, 65, "{line}");
        }
    }
}
