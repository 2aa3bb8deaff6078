//! The sections of adapter sets: of metadata and data adapters, built in and remote.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::super::plan::{
    ClosesRecovery, DataKindName, EventsRecovery, MetadataKindName, ModeName, OnLoss, TableItems,
    Unavailable,
};
use super::super::value::{Size, Time};
use super::section::{Key, Section, section, to_toml};
use crate::adapter::literal::tokens::TokenAlgorithm;

section! {
    /// A metadata adapter and the data adapters that it rules over. Repeat the table for more; names must differ.
    AdapterSet ["[[adapter_sets]]"]
    /// The name that clients ask for.
    name: String = "DEMO".into();
    /// Who decides what users may see: "literal" (built in; takes the names of items and fields as they are, separated
    /// by spaces; admits every user to everything, if there is no table [adapter_sets.literal] with rules), or "remote"
    /// (an adapter in another process, which the table [adapter_sets.remote] describes with the keys of
    /// [adapter_sets.data.remote]).
    metadata: MetadataKindName = MetadataKindName::Literal;
    /// Remote data adapters of this set are refused until its remote metadata adapter is there
    /// (metadata_adapter_initialised_first, which is "Y" there by default).
    metadata_first: bool = false;
    tables {
        /// `[[adapter_sets.data]]`; one with default values if there is none.
        data: DataAdapter;
        /// `[[adapter_sets.selectors]]`: which events a subscription gets that names one of them.
        selectors: Selector;
    }
    inner {
        /// `[adapter_sets.literal]`, rules for the built-in metadata adapter.
        literal: Literal;
        /// `[adapter_sets.remote]`, for a metadata adapter in another process.
        remote: Remote;
    }
}

section! {
    /// Rules of the built-in metadata adapter (LiteralBasedProvider). What a user may not have is refused: code 1 for the
    /// session, 21 for items, 24 for a mode. If there are neither allowed_users nor users nor tokens, everybody is let in.
    Literal ["[adapter_sets.literal]"]
    /// Users who are let in by their names alone (allowed_users).
    allowed_users: Vec<String> = vec![];
    /// Kilobits per second that a session may be sent (max_bandwidth). Not set: no limit.
    max_bandwidth: f64, example 40.0;
    /// Updates per second and item that a session may have (max_frequency); with a limit, no item can be had unfiltered.
    /// Not set: no limit.
    max_frequency: f64, example 3.0;
    /// Events that may wait for a session and item in MERGE and DISTINCT mode (buffer_size). Not set: no limit but the
    /// server's.
    buffer_size: u32, example 30;
    /// Events that make up the snapshot of an item in DISTINCT mode (distinct_snapshot_length).
    distinct_snapshot_length: u32 = 10;
    /// Events per second to which every item is thinned out for everybody (prefilter_frequency). Not set: not at all.
    prefilter_frequency: f64, example 50.0;
    tables {
        /// `[[adapter_sets.literal.families]]`
        families: Family;
        /// `[[adapter_sets.literal.users]]`
        users: User;
    }
    inner {
        /// `[adapter_sets.literal.tokens]`
        tokens: Tokens;
    }
}

section! {
    /// Items with something in common (item_family_N). The first family that an item belongs to counts. If there is any,
    /// items of none cannot be had; if there is none, all items can be had in every mode.
    Family ["[[adapter_sets.literal.families]]"]
    /// A regular expression that the whole name of an item must match.
    items: String, example "item[0-9]+".into();
    /// The data adapter that the items must belong to (data_adapter_for_item_family_N). Not set: any.
    data_adapter: String, example "QUOTE_ADAPTER".into();
    /// In which modes they can be had (modes_for_item_family_N). At most one of "MERGE", "DISTINCT" and "COMMAND" makes
    /// sense, since they exclude each other; "RAW" goes with each.
    modes: Vec<ModeName>, example vec![ModeName::Merge];
    /// Instead of the key of this name in [adapter_sets.literal].
    max_frequency: f64, example 10.0;
    /// Instead of the key of this name in [adapter_sets.literal].
    buffer_size: u32, example 1;
    /// Instead of the key of this name in [adapter_sets.literal].
    distinct_snapshot_length: u32, example 30;
    /// Instead of the key of this name in [adapter_sets.literal].
    prefilter_frequency: f64, example 20.0;
}

section! {
    /// A user with a password.
    User ["[[adapter_sets.literal.users]]"]
    /// The name.
    name: String, example "ann".into();
    /// The hash of the password, as `brightwire hash-password` makes it: never the password itself.
    password: String, example "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc".into();
    /// Regular expressions; the whole name of an item must match one of them for the user to have it. Not set: all items.
    items: Vec<String>, example vec!["item[0-9]+".into()];
    /// The user's own limit; the lower one counts.
    max_frequency: f64, example 1.0;
    /// The user's own limit; the lower one counts.
    max_bandwidth: f64, example 20.0;
}

section! {
    /// Signed tokens (JWT) that clients send in place of a password. The claims `sub` (the user) and `exp` (when the token
    /// expires, and with it the session) must be there; `items` (regular expressions), `max_frequency` and `max_bandwidth`
    /// are the same as for users.
    Tokens ["[adapter_sets.literal.tokens]"]
    /// How they are signed: "EdDSA" (Ed25519: the server has a public key), or "HS256" (it has the secret that signs).
    algorithm: TokenAlgorithm = TokenAlgorithm::EdDsa;
    /// The file of the key: a public key in PEM format, or the secret, of at least 32 bytes, whose last line end does not
    /// count. A relative path starts at the configuration file's directory.
    key_file: PathBuf, example PathBuf::from("tokens.pem");
    /// The claim `iss` that they must have. Not set: any.
    issuer: String, example "https://login.example.com".into();
    /// The claim `aud` that they must have. Not set: they must have none.
    audience: String, example "shop".into();
    /// By how much the clock of whoever signs may differ.
    leeway: Time = Time::secs(0);
}

section! {
    /// A selector: a client that names it (LS_selector) gets the events that pass its checks, and no others. In MERGE the
    /// item's whole state is checked, in COMMAND only the field "key" may be. Repeat the table for more; all that have one
    /// name must be passed. No such table: clients that name a selector are refused, unless the program's own metadata
    /// adapter knows it.
    Selector ["[[adapter_sets.selectors]]"]
    /// The name that clients ask for.
    name: String = "large".into();
    /// The field that is checked, whether or not the client sees it. Its value must not be null.
    field: String = "volume".into();
    /// It must be one of these.
    one_of: Vec<String>, example vec!["buy".into(), "sell".into()];
    /// It must begin so.
    prefix: String, example "EUR".into();
    /// It must be a number not below this one.
    at_least: f64, example 1000.0;
    /// It must be a number not above this one.
    at_most: f64, example 5000.0;
}

section! {
    /// A data adapter of the set above. Repeat the table for more; names must differ within the set.
    DataAdapter ["[[adapter_sets.data]]"]
    /// The name that clients ask for.
    name: String = "QUOTE_ADAPTER".into();
    /// "demo" (a generated list of stocks), "replay" (a file of CSV, or of JSON lines), "lines" (programs write
    /// lines to a socket: an item, then field=value for each change, with tabs between), "remote" (an adapter in
    /// another process, which the table [adapter_sets.data.remote] describes), or "status" (tells each client what became
    /// of its own updates; one per set, besides another).
    kind: DataKindName = DataKindName::Demo;
    /// Updates per second: of the whole list for "demo" (15 if not set), of the file for "replay".
    rate: f64, example 1000.0;
    /// For "replay": the file, JSON lines if its name ends in .ndjson or .jsonl, else CSV; a relative path starts at the
    /// configuration file's directory.
    file: PathBuf, example PathBuf::from("ticks.csv");
    /// For "replay", instead of rate: follow the times in the file, so many times faster (1.0 if neither is set); inf: as
    /// fast as the server takes it.
    speed: f64, example 10.0;
    /// For "replay": start again at the end of the file.
    repeat: bool = false;
    /// For "lines": where publishers connect, "address:port" or "unix:/path". Whoever can connect can publish.
    address: String, example "127.0.0.1:6661".into();
    tables {
        /// `[[adapter_sets.data.trade_safe]]`: events that are never merged away.
        trade_safe: TradeSafe;
    }
    inner {
        /// `[adapter_sets.data.remote]`, for an adapter in another process.
        remote: Remote;
    }
}

section! {
    /// Events of the adapter above that are never merged into others and never dropped without a word, as trades among
    /// quotes. Such an event goes out at once, whatever frequency is asked for, and what waits before it goes before it.
    /// Repeat the table for more. No such table, as in the reference product: all events may be merged.
    TradeSafe ["[[adapter_sets.data.trade_safe]]"]
    /// Of these items: names, or beginnings of names with an asterisk behind them. Not set: of all.
    items: Vec<String>, example vec!["stocks/*".into(), "gold".into()];
    /// Those that bring a new value in one of these fields: one that differs with each trade. Not set: all events.
    fields: Vec<String>, example vec!["last".into(), "volume".into()];
}

section! {
    /// An adapter in another process, written with one of the SDKs for remote adapters. The same table under the name
    /// [adapter_sets.remote] is for a metadata adapter. What the reference product calls it stands in brackets.
    Remote ["[adapter_sets.data.remote]"]
    /// Where the server listens for the remote's connection for requests and replies (request_reply_port). Port 0
    /// takes any free one.
    address: String = "127.0.0.1:6661".into();
    /// For data adapters: where the server listens for a second connection, for notifications (notify_port). Older
    /// SDKs need it, among them the Node one of the npm registry; newer ones send everything on the first connection.
    notify_address: String, example "127.0.0.1:6662".into();
    /// The remote listens at these addresses and the server connects (remote_host).
    connect: bool = false;
    /// Pause between two attempts to connect (connection_retry_millis).
    connect_retry: Time = Time::secs(10);
    /// Users and passwords; a remote must present one of the pairs (auth.credentials). Empty: everybody is let in.
    credentials: Vec<(String, String)> = vec![];
    /// Where remotes may connect from (remote_address_whitelist): IP addresses, or networks such as "10.0.0.0/8". Empty:
    /// from everywhere.
    allow: Vec<String> = vec![];
    /// How long the remote may take to answer a request (timeout).
    timeout: Time = Time::secs(10);
    /// A connection that is silent for so long is closed (keepalive_timeout_millis). Not set: never.
    keepalive_timeout: Time, example Time::secs(10);
    /// How often the remote is asked to send something (keepalive_hint_millis). Not set: two seconds less than
    /// keepalive_timeout, or half of it if that is below four seconds.
    keepalive_hint: Time, example Time::secs(5);
    /// When the remote goes away: "recover" (the server goes on and waits for the next one, which gets all
    /// subscriptions again: ROBUST_PROXY_FOR_REMOTE_ADAPTER), or "stop" (the server stops, to be started again by a
    /// supervisor: PROXY_FOR_REMOTE_ADAPTER).
    on_loss: OnLoss = OnLoss::Recover;
    /// Pause after a remote that was refused, or failed in its init (connection_recovery_timeout_millis). With on_loss =
    /// "stop", a failed init stops the server instead.
    recovery_delay: Time = Time::secs(10);
    /// How long the server, when it starts, waits for the remote before it lets clients in
    /// (first_connection_timeout_millis); "1year" is for ever. Not set: no time with on_loss = "recover", for ever with
    /// "stop".
    start_wait: Time, example Time::secs(30);
    /// For data adapters, what becomes of the items when a remote comes back (events_recovery): "use_snapshot" (the
    /// new snapshot goes into the flow as it comes), "leave_hole" (it is not used), "enforce_snapshot" (items are
    /// cleared when the remote goes, and filled by the new snapshot).
    events_recovery: EventsRecovery = EventsRecovery::UseSnapshot;
    /// For data adapters: an item of this name tells in its field "status" whether the remote is there: "connecting",
    /// "connected" or "reconnecting" (status_item).
    status_item: String, example "adapter_status".into();
    /// Parameters for the remote's init.
    params: BTreeMap<String, String> = BTreeMap::new();
    /// For metadata adapters: whether subscriptions are told with the names of their items, where the protocol's
    /// version has that. "auto": unless the remote says that it is the Node SDK, which cannot read them; "always";
    /// "never" (for the Node SDK 1.6.0, which does not say what it is).
    table_items: TableItems = TableItems::Auto;
    /// A longer line ends the connection.
    line_limit: Size = Size::mib(4);
    /// For metadata adapters: how many requests of one kind (sessions; subscriptions; messages; ends of any) may be
    /// without an answer (max_pending_remote_requests). More wait their turn here.
    pending_limit: usize = 1000;
    /// For metadata adapters: what clients are told who want a session while the remote is not there
    /// (notify_user_on_disconnection): "retry" (to try again: force_retry) or "fail" (that the metadata adapter has
    /// failed; official clients give up). With unavailable_code they are told that instead.
    unavailable: Unavailable = Unavailable::Retry;
    /// A code of zero or below for that case, with a text (notify_user_disconnection_code, _msg; send_code).
    unavailable_code: i64, example -10;
    /// The text to that code.
    unavailable_text: String, example "Closed for maintenance".into();
    /// For metadata adapters: which ends of sessions and subscriptions, not told to a remote that went away, the next
    /// one is told (close_notifications_recovery): "unneeded" (none), "optimistic" (those after the last that was
    /// answered), "pessimistic" (all from the first that was not answered, so some of them twice).
    closes_recovery: ClosesRecovery = ClosesRecovery::Unneeded;
    /// For metadata adapters: ends and beginnings of a session's subscriptions are told one at a time
    /// (sequentialize_table_notifications).
    sequential_tables: bool = false;
    /// For metadata adapters: how long it is remembered what a user may have of an item (user_data_timeout).
    user_data_timeout: Time = Time::secs(10);
    /// That is forgotten when the last session of the user ends (clear_on_session_close).
    clear_on_session_close: bool = true;
    /// What is known of items for all users is forgotten when another remote comes (clear_on_new_remote).
    clear_on_new_remote: bool = false;
    inner {
        /// `[adapter_sets.data.remote.tls]`
        tls: RemoteTls;
    }
}

section! {
    /// With this table the connections of a remote adapter are TLS. Files are PEM; a relative path starts at the
    /// configuration file's directory.
    RemoteTls ["[adapter_sets.data.remote.tls]"]
    /// The server's certificate, followed by those that lead to its authority. Needed to listen; with connect = true
    /// only for remotes that ask for one.
    certificate: PathBuf, example PathBuf::from("server.pem");
    /// The certificate's private key, not encrypted.
    key: PathBuf, example PathBuf::from("server.key");
    /// Certificates of authorities. A remote that connects must present a certificate that one of them has signed
    /// (force_client_auth); not set: it need not. With connect = true the remote's own must be signed by one of them.
    authorities: PathBuf, example PathBuf::from("ca.pem");
    /// With connect = true: take a certificate of another host as well (skip_hostname_check).
    skip_hostname_check: bool = false;
}
