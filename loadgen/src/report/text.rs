//! The report for people.

use std::fmt;

use super::{Latency, Report, Thread, Verify};
use crate::scenario::Acks;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interrupted {
            writeln!(
                f,
                "interrupted: figures are of what was measured until then"
            )?;
        }
        let machine = &self.machine;
        writeln!(
            f,
            "machine     {}, {} cores, Linux {}",
            machine.cpu, machine.cores, machine.kernel
        )?;
        self.write_sessions(f)?;
        writeln!(
            f,
            "delivered   {}/s updates in {}/s messages ({:.2} a message), {}B/s{}, for {:.2} s",
            short(self.updates_per_s),
            short(self.messages_per_s),
            self.updates_per_message,
            short(self.bytes_per_s),
            self.bytes_per_update
                .map_or(String::new(), |bytes| format!(" ({bytes:.0} B an update)")),
            self.window_s
        )?;
        self.write_missing(f)?;
        self.write_latency(f)?;
        if let Some(server) = &self.server {
            writeln!(
                f,
                "server      {:.2} cores ({:.2} s user, {:.2} s system), {} of CPU an update, {}B of memory",
                server.cores,
                server.cpu_user_s,
                server.cpu_system_s,
                server
                    .cpu_ns_per_update
                    .map_or("-".into(), |ns| time(ns as u64)),
                short(server.rss_bytes as f64)
            )?;
            write_threads(f, &server.threads)?;
        }
        let bytes = |bytes: Option<f64>| bytes.map_or("not known".into(), |b| short(b) + "B");
        writeln!(
            f,
            "memory      a session: the server's own {}, the kernel's {} (of the whole machine, others' included)",
            bytes(self.memory.server_bytes_per_session),
            bytes(self.memory.kernel_bytes_per_session)
        )?;
        writeln!(
            f,
            "generator   {}{}{}, {} of CPU an update, turns p99 {} max {}",
            self.generator.io,
            match self.scenario.acks {
                Acks::Kernel => "",
                Acks::Each => ", acknowledging each receive",
                Acks::EverySecond => ", acknowledging every second receive",
            },
            match self.generator.spin {
                true => ", never asleep (told is the time of turns that brought something)",
                false => "",
            },
            self.generator
                .cpu_ns_per_update
                .map_or("-".into(), |ns| time(ns as u64)),
            time(self.generator.turn_p99_ns),
            time(self.generator.turn_max_ns)
        )?;
        write_threads(f, &self.generator.threads)?;
        for note in &self.generator.notes {
            writeln!(f, "  NOTE      {note}")?;
        }
        if let Some(verify) = &self.verify {
            write_verify(f, verify)?;
        }
        write!(
            f,
            "result      {}",
            if self.is_success() { "ok" } else { "FAILED" }
        )
    }
}

impl Report {
    fn write_sessions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = &self.sessions;
        writeln!(
            f,
            "sessions    {} of {} live after {:.2} s ({}/s)",
            sessions.live,
            sessions.asked,
            sessions.ramp_s,
            short(sessions.connects_per_s)
        )?;
        for group in &self.scenario.groups {
            writeln!(
                f,
                "            {}: {} by {}{}, {} item{} each, {} fields, {}",
                group.name,
                group.sessions,
                group.transport.name(),
                match self.scenario.tls_authorities {
                    Some(_) => " over TLS",
                    None => "",
                },
                group.items_per_session,
                if group.items_per_session == 1 {
                    ""
                } else {
                    "s"
                },
                group.fields.len(),
                format!("{:?}", group.mode).to_uppercase()
            )?;
        }
        for (what, reasons) in [("failed", &sessions.failed), ("ended", &sessions.ended)] {
            for (reason, times) in reasons {
                writeln!(f, "            {what} {times}: {reason}")?;
            }
        }
        if sessions.stalled > 0 {
            writeln!(
                f,
                "            {} stalled, of which the server ended {}",
                sessions.stalled, sessions.stalled_ended
            )?;
        }
        if sessions.churned > 0 {
            writeln!(f, "            {} replaced", sessions.churned)?;
        }
        if let Some(connect) = &sessions.connect {
            writeln!(f, "connecting  {}", percentiles(connect))?;
        }
        if let Some(returned) = &sessions.returned {
            writeln!(
                f,
                "returning   {} after a storm, {} with their sessions: {}",
                returned.count,
                sessions.recovered,
                percentiles(returned)
            )?;
        }
        Ok(())
    }

    /// Zeros are told too: a reader wants to know that nothing was lost, and not only that nobody speaks of it.
    fn write_missing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reordered = match self.reordered {
            0 => "0 out of order".into(),
            some => format!("{some} updates OLDER than the one before"),
        };
        writeln!(
            f,
            "missing     {} events lost, says the server; left out for newer ones: {}; {reordered}",
            self.lost,
            match (self.conflated, &self.scenario.sequence_field) {
                (Some(conflated), _) => format!("{conflated} events"),
                (None, Some(_)) => "not known".into(),
                (None, None) => "not known without --sequence-field".into(),
            }
        )
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(latency) = &self.latency else {
            return writeln!(f, "latency     not measured: {}", self.why_untimed());
        };
        writeln!(f, "latency     {}", percentiles(latency))?;
        if self.by_transport.len() > 1 {
            for (transport, latency) in &self.by_transport {
                writeln!(f, "            {transport}: {}", percentiles(latency))?;
            }
        }
        self.write_groups(f)?;
        let ranks: Vec<&Latency> = self.by_rank.iter().flatten().collect();
        if let [first, .., last] = ranks.as_slice() {
            writeln!(
                f,
                "            p50 of the tenth of clients served first {}, last {} ({} events, {:.3} % of all, looked at)",
                time(first.p50_ns),
                time(last.p50_ns),
                self.ranked_events,
                self.ranked_share * 100.0
            )?;
        }
        let generator = &self.generator;
        writeln!(
            f,
            "            of {} updates; {} snapshots and {} without a time of their own are left out{}{}",
            latency.count,
            self.snapshots,
            generator.untimed,
            some(generator.from_future, "from the future: the clocks differ"),
            some(generator.beyond_range, "took longer than a minute")
        )
    }
}

impl Report {
    /// Whether slow clients hurt others is seen only where they are told apart.
    fn write_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_group.len() < 2 {
            return Ok(());
        }
        for group in &self.by_group {
            let missing = match (group.lost, group.conflated) {
                (0, None | Some(0)) => String::new(),
                (lost, None) => format!(", {lost} lost"),
                (lost, Some(conflated)) => format!(", {lost} lost, {conflated} left out"),
            };
            writeln!(
                f,
                "            {}: {}/s{missing}; {}",
                group.name,
                short(group.updates_per_s),
                group
                    .latency
                    .as_ref()
                    .map_or("no latency".into(), percentiles)
            )?;
        }
        Ok(())
    }
}

fn percentiles(latency: &Latency) -> String {
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
        time(latency.p50_ns),
        time(latency.p90_ns),
        time(latency.p99_ns),
        time(latency.p999_ns),
        time(latency.p9999_ns),
        time(latency.max_ns)
    )
}

/// Threads that are named one by one; a server may have hundreds that do next to nothing.
const THREADS_MAX: usize = 16;

fn write_threads(f: &mut fmt::Formatter<'_>, threads: &[Thread]) -> fmt::Result {
    for thread in &threads[..threads.len().min(THREADS_MAX)] {
        writeln!(
            f,
            "            {:<15} {:5.1} % of a core, waited for one {:.1} % of the time",
            thread.name,
            thread.cores * 100.0,
            thread.waited * 100.0
        )?;
    }
    let rest = threads.get(THREADS_MAX..).unwrap_or_default();
    if !rest.is_empty() {
        let cores: f64 = rest.iter().map(|thread| thread.cores).sum();
        writeln!(
            f,
            "            and {} more  {:5.1} % of a core together",
            rest.len(),
            cores * 100.0
        )?;
    }
    Ok(())
}

fn write_verify(f: &mut fmt::Formatter<'_>, Verify { ok, found }: &Verify) -> fmt::Result {
    writeln!(
        f,
        "verify      {}: {} updates decoded, {} rows compared; {} undecodable, {} back in time, {} missing, {} behind, {} contradicting",
        if *ok { "ok" } else { "FAILED" },
        found.updates,
        found.rows_compared,
        found.decode_errors,
        found.times_gone_back,
        found.rows_missing,
        found.behind,
        found.contradictions
    )?;
    for example in &found.examples {
        writeln!(f, "            {example}")?;
    }
    Ok(())
}

/// Three digits, with a decimal prefix.
pub fn short(value: f64) -> String {
    let prefixes = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut index = 0;
    // 999.5 is where three digits become four.
    while value >= 999.5 && index + 1 < prefixes.len() {
        value /= 1e3;
        index += 1;
    }
    digits(value, prefixes[index])
}

/// A time in the unit that suits it.
pub fn time(ns: u64) -> String {
    let units = [" ns", " us", " ms", " s"];
    let mut value = ns as f64;
    let mut index = 0;
    while value >= 999.5 && index + 1 < units.len() {
        value /= 1e3;
        index += 1;
    }
    digits(value, units[index])
}

fn digits(value: f64, unit: &str) -> String {
    let decimals = match value {
        _ if value.fract() == 0.0 && value < 10.0 => 0,
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

/// Something that should not occur is told only if it does.
fn some(count: u64, what: &str) -> String {
    if count > 0 {
        format!(", {count} {what}")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (1.5, "1.50"),
            (42.0, "42.0"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (2.5e15, "2500T"),
        ] {
            assert_eq!(short(value), text);
        }
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 us"),
            (99_960, "100 us"),
            (12_000_000, "12.0 ms"),
            (60_000_000_000, "60.0 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }
}
