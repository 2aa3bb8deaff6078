//! The table of a remote adapter: defaults, relations, mistakes.

use super::plan::{OnLoss, RemoteAddress, RemotePlan, TlsPlan, Unavailable, WhileAway};
use super::raw;
use super::resolve::{HOUR, Problems};
use super::value::{Size, Time};
use crate::wire::tls::{self, Identity};
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn remote(
    given: Option<&raw::Remote>,
    key: &str,
    directory: &Path,
    problems: &mut Problems,
) -> RemotePlan {
    let defaults = raw::Remote::default();
    let raw = given.unwrap_or(&defaults);
    let key = format!("{key}.remote");
    let meet = |name: &str, written: String, problems: &mut Problems| {
        address(written, raw.connect()).unwrap_or_else(|reason| {
            problems.add(format!("{key}.{name}"), reason);
            RemoteAddress::Listen(([127, 0, 0, 1], 0).into())
        })
    };
    let address = meet("address", raw.address(), problems);
    let notify_address = raw.notify_address.clone();
    let notify_address = notify_address.map(|written| meet("notify_address", written, problems));
    let allow = networks(raw, &key, problems);
    check(raw, &key, problems);
    RemotePlan {
        address,
        notify_address,
        connect_retry: raw.connect_retry().0,
        credentials: raw.credentials(),
        allow,
        tls: tls(raw, &format!("{key}.tls"), directory, problems),
        timeout: raw.timeout().0,
        keepalive_timeout: raw.keepalive_timeout.map(|time| time.0),
        keepalive_hint: keepalive_hint(raw).map(|time| time.0),
        on_loss: raw.on_loss(),
        recovery_delay: raw.recovery_delay().0,
        start_wait: match (raw.start_wait, raw.on_loss()) {
            (Some(wait), _) => wait.0,
            (None, OnLoss::Recover) => Duration::ZERO,
            (None, OnLoss::Stop) => EVER.0,
        },
        events_recovery: raw.events_recovery(),
        status_item: raw.status_item.clone(),
        params: raw.params().into_iter().collect(),
        table_items: raw.table_items(),
        line_bytes_max: raw.line_limit().bytes(),
        pending_max: raw.pending_limit(),
        while_away: match (raw.unavailable_code, raw.unavailable()) {
            (Some(code), _) => {
                WhileAway::Code(code, raw.unavailable_text.clone().unwrap_or_default())
            }
            (None, Unavailable::Retry) => WhileAway::Retry,
            (None, Unavailable::Fail) => WhileAway::Fail,
        },
        closes_recovery: raw.closes_recovery(),
        sequential_tables: raw.sequential_tables(),
        user_data_timeout: raw.user_data_timeout().0,
        clear_on_session_close: raw.clear_on_session_close(),
        clear_on_new_remote: raw.clear_on_new_remote(),
    }
}

impl Default for RemotePlan {
    /// What a configuration without further keys says.
    fn default() -> Self {
        let mut problems = Problems::default();
        let plan = remote(None, "", Path::new(""), &mut problems);
        debug_assert!(problems.0.is_empty(), "defaults are right");
        plan
    }
}

/// Where the remote listens, or the server does.
fn address(written: String, connect: bool) -> Result<RemoteAddress, String> {
    if connect {
        let port = written
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        return match port {
            Some(Ok(1..)) => Ok(RemoteAddress::Connect(written)),
            _ => Err(format!(
                "`{written}` is not a host and a port, such as \"localhost:6661\""
            )),
        };
    }
    let address = written.parse().map(RemoteAddress::Listen);
    address.map_err(|_| {
        format!("`{written}` is not an address and a port, such as \"127.0.0.1:6661\"")
    })
}

fn networks(raw: &raw::Remote, key: &str, problems: &mut Problems) -> Vec<IpNet> {
    let mut allow = Vec::new();
    for (index, written) in raw.allow().iter().enumerate() {
        let net = written
            .parse::<IpNet>()
            .or_else(|_| written.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) => allow.push(net),
            Err(_) => problems.add(
                format!("{key}.allow[{index}]"),
                format!("`{written}` is neither an IP address nor a network"),
            ),
        }
    }
    allow
}

/// Whether times and sizes are within their bounds.
fn check(raw: &raw::Remote, key: &str, problems: &mut Problems) {
    let (moment, second) = (Time::micros(1000), Time::secs(1));
    for (name, time, range) in [
        ("timeout", Some(raw.timeout()), moment..=EVER),
        ("connect_retry", Some(raw.connect_retry()), moment..=HOUR),
        (
            "recovery_delay",
            Some(raw.recovery_delay()),
            Time::secs(0)..=EVER,
        ),
        ("start_wait", raw.start_wait, Time::secs(0)..=EVER),
        ("keepalive_timeout", raw.keepalive_timeout, second..=HOUR),
        ("keepalive_hint", raw.keepalive_hint, second..=HOUR),
        (
            "user_data_timeout",
            Some(raw.user_data_timeout()),
            Time::secs(0)..=HOUR,
        ),
    ] {
        if let Some(time) = time {
            problems.check_range(&format!("{key}.{name}"), time, range);
        }
    }
    problems.check_range(
        &format!("{key}.pending_limit"),
        raw.pending_limit(),
        1..=100_000,
    );
    problems.check_range(
        &format!("{key}.line_limit"),
        raw.line_limit(),
        Size::kib(4)..=Size::mib(64),
    );
    if raw.unavailable_code.is_some_and(|code| code > 0) {
        problems.add(
            format!("{key}.unavailable_code"),
            "codes above zero are the protocol's own",
        );
    }
}

/// Two seconds for a line on its way, as the reference product has it.
fn keepalive_hint(raw: &raw::Remote) -> Option<Time> {
    raw.keepalive_hint.or_else(|| {
        let timeout = raw.keepalive_timeout?.0;
        let hint = if timeout < Duration::from_secs(4) {
            timeout / 2
        } else {
            timeout - Duration::from_secs(2)
        };
        Some(Time(hint))
    })
}

/// The files are read once here, so that mistakes are told with the others.
fn tls(
    remote: &raw::Remote,
    key: &str,
    directory: &Path,
    problems: &mut Problems,
) -> Option<TlsPlan> {
    let raw = remote.tls.as_deref()?;
    // Joining an absolute path gives that path.
    let file = |file: &Option<PathBuf>| file.as_ref().map(|file| directory.join(file));
    let (certificates, secret) = (file(&raw.certificate), file(&raw.key));
    if certificates.is_some() != secret.is_some() {
        problems.add(
            key,
            "a certificate needs its key, and a key its certificate",
        );
        return None;
    }
    let own = certificates.zip(secret);
    let plan = TlsPlan {
        own: own.map(|(certificates, key)| Identity { certificates, key }),
        authorities: file(&raw.authorities),
        any_name: raw.skip_hostname_check(),
    };
    let unusable = match (remote.connect(), &plan.own, &plan.authorities) {
        (false, None, _) => Some("to listen, a certificate and its key are needed".to_owned()),
        (true, _, None) => Some("to connect, authorities are needed".to_owned()),
        (false, Some(own), authorities) => tls::listening(own, authorities.as_deref())
            .err()
            .map(|error| error.to_string()),
        (true, own, Some(authorities)) => tls::connecting(own.as_ref(), authorities, plan.any_name)
            .err()
            .map(|error| error.to_string()),
    };
    if let Some(reason) = unusable {
        problems.add(key, reason);
    }
    if plan.any_name && !remote.connect() {
        problems.add(
            format!("{key}.skip_hostname_check"),
            "only with connect = true",
        );
    }
    Some(plan)
}

/// A wait that never ends, as far as anybody will see.
const EVER: Time = Time::secs(1000 * 365 * 24 * 60 * 60);
