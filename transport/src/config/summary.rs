//! A plan in a few lines, as `brightwire check` prints it.

use std::fmt;

use super::plan::{DataAdapterPlan, DataKind, MetadataPlan, Pace, Plan, RemoteAddress, RemotePlan};
use super::value::{Size, Time};
use crate::adapter::literal::LiteralPlan;
use crate::net::settings::{ProxyProtocol, Role};
use crate::wire::origin::OriginPolicy;

impl fmt::Display for Plan {
    /// The summary that `brightwire check` prints.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = |value: &dyn fmt::Debug| format!("{value:?}").to_lowercase();
        let core = |core: &Option<usize>| core.map_or("any".into(), |core| core.to_string());
        let shard_cores: Vec<String> = self.placement.shards.iter().map(core).collect();
        writeln!(
            formatter,
            "threads:      {}, {} shard(s), io {}",
            lower(&self.threading),
            self.shards,
            lower(&self.io)
        )?;
        writeln!(
            formatter,
            "cores:        ingest {}, control {}, shards {}",
            core(&self.placement.ingest),
            core(&self.placement.control),
            shard_cores.join(" ")
        )?;
        for listener in &self.listeners {
            let role = match listener.role {
                Role::General => "",
                Role::CreateOnly => ", create-only",
                Role::ControlOnly => ", control-only",
                Role::Priority => ", priority",
            };
            let proxied = match (listener.proxy_protocol, listener.forwarded_hops) {
                (ProxyProtocol::Off, 0) => "",
                (ProxyProtocol::Off, _) => ", clients by X-Forwarded-For",
                _ => ", clients by PROXY protocol",
            };
            writeln!(
                formatter,
                "listener:     {} at {}{role}{proxied}",
                listener.name, listener.address
            )?;
        }
        writeln!(
            formatter,
            "limits:       {} connections and {} sessions per shard, requests of {}",
            self.sessions.connections_max,
            self.sessions.sessions_max,
            Size(self.sessions.request_limit as u64)
        )?;
        writeln!(
            formatter,
            "timeouts:     keepalive {}, session {}, recovery {}, write {}",
            Time(self.sessions.keepalive_default),
            Time(self.sessions.session_timeout),
            Time(self.sessions.recovery_timeout),
            Time(self.socket.write_timeout)
        )?;
        match &self.origins.policy {
            OriginPolicy::Any => writeln!(formatter, "origins:      all")?,
            OriginPolicy::Listed(origins) => {
                let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
                writeln!(formatter, "origins:      {}", origins.join(" "))?
            }
        }
        for set in &self.adapter_sets {
            let data = set.data.iter().map(DataAdapterPlan::to_string);
            let status = set.status.iter().map(|name| format!("{name} (status)"));
            let data: Vec<String> = data.chain(status).collect();
            writeln!(
                formatter,
                "adapter set:  {}{} with {}{}",
                set.name,
                match &set.metadata {
                    MetadataPlan::Literal => String::new(),
                    MetadataPlan::Rules(rules) => format!(" (rules: {rules})"),
                    MetadataPlan::Remote(remote) => format!(" (remote metadata, {remote})"),
                    MetadataPlan::Own => " (metadata of this program)".to_owned(),
                },
                data.join(", "),
                match set.selectors.len() {
                    0 => String::new(),
                    count => format!(", {count} selectors"),
                }
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for DataAdapterPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DataKind::Demo { rate } => write!(formatter, "{} (demo, {rate}/s)", self.name),
            DataKind::Lines { address } => write!(formatter, "{} (lines at {address})", self.name),
            DataKind::Remote(remote) => write!(formatter, "{} (remote, {remote})", self.name),
            DataKind::Own => write!(formatter, "{} (of this program)", self.name),
            DataKind::Replay { file, pace, looped } => {
                let pace = match pace {
                    Pace::Speed(speed) if speed.is_infinite() => "full speed".to_owned(),
                    Pace::Speed(speed) => format!("{speed}x"),
                    Pace::Rate(rate) => format!("{rate}/s"),
                };
                let again = if *looped { ", again and again" } else { "" };
                write!(
                    formatter,
                    "{} (replay of {}, {pace}{again})",
                    self.name,
                    file.display()
                )
            }
        }?;
        match self.trade_safe.is_empty() {
            true => Ok(()),
            false => formatter.write_str(", with trade-safe events"),
        }
    }
}

impl fmt::Display for LiteralPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.families.len(), "families"),
            (self.allowed_users.len(), "users without password"),
            (self.users.len(), "users with password"),
        ];
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            write!(formatter, "{count} {what}, ")?;
        }
        match &self.tokens {
            Some(tokens) => write!(formatter, "tokens by {:?}", tokens.algorithm),
            None => formatter.write_str("no tokens"),
        }
    }
}

impl fmt::Display for RemotePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)?;
        if let Some(notify) = &self.notify_address {
            write!(formatter, " and {notify}")?;
        }
        match &self.tls {
            Some(_) => write!(formatter, ", with TLS"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address) => write!(formatter, "at {address}"),
            Self::Connect(address) => write!(formatter, "by connecting to {address}"),
        }
    }
}
