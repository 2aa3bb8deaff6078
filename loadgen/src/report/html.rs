//! The report as one page: figures and plots, with nothing to be fetched.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::svg::Plot;
use super::text::{short, time};
use super::{Latency, Report};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;color:#222}\
    h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}table{border-collapse:collapse}\
    td,th{padding:2px 14px 2px 0;text-align:right}th:first-child,td:first-child{text-align:left}\
    .note{background:#fff3cd;padding:.5em 1em;border-left:4px solid #e69f00}pre{background:#f6f6f6;padding:1em;overflow:auto}\
    svg{width:100%;margin:1em 0}svg text{font-size:11px;fill:#444}svg .title{font-size:14px;fill:#222}\
    .ok{color:#00754a}.bad{color:#b00020;font-weight:bold}.few{color:#999}.by{color:#666}pre{white-space:pre-wrap}\
    details{margin:1em 0}summary{cursor:pointer;font-weight:bold}.right{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e4e4e4}.axis{stroke:#888;fill:none}";

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>loadgen: {0}</title><style>{STYLE}</style>\
         <h1>{1} of {2} sessions on {0}, {3} s: {4}</h1><p class=\"by\">{5}, loadgen {6} ({7}) on {8}, {9} cores, Linux {10}{11}</p>",
        escape(&report.scenario.server),
        report.sessions.live,
        report.sessions.asked,
        match report.window_s {
            short if short < 10.0 => format!("{short:.1}"),
            long => format!("{long:.0}"),
        },
        match report.success {
            true => "<span class=\"ok\">ok</span>",
            false => "<span class=\"bad\">FAILED</span>",
        },
        date(report.began_s),
        report.version,
        report.generator.io,
        escape(&report.machine.cpu),
        report.machine.cores,
        escape(&report.machine.kernel),
        if report.interrupted {
            ", interrupted"
        } else {
            ""
        }
    );
    for (what, reasons) in [
        ("failed", &report.sessions.failed),
        ("ended", &report.sessions.ended),
    ] {
        for (reason, times) in reasons {
            let reason = escape(reason);
            let _ = write!(out, "<p class=\"bad\">{what} {times}: {reason}</p>");
        }
    }
    for note in &report.generator.notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    out += &figures(report);
    out += &latencies(report);
    for plot in plots(report) {
        out += &plot.draw();
    }
    let _ = write!(
        out,
        "<h2>In words</h2><pre>{}</pre>",
        escape(&report.to_string())
    );
    let scenario = serde_json::to_string_pretty(&report.scenario).unwrap_or_default();
    // A tag's end within a text of the report must not end the element.
    let all = serde_json::to_string(report).unwrap_or_default();
    let _ = writeln!(
        out,
        "<details><summary>Scenario</summary><pre>{}</pre></details>\
         <p class=\"by\">Figures above are rounded. Every digit is in the element with the id <code>report</code> of this page, as \
         --json writes it.</p><script type=\"application/json\" id=\"report\">{}</script></html>",
        escape(&scenario),
        all.replace('<', "\\u003c")
    );
    out
}

fn figures(report: &Report) -> String {
    let server = report.server.as_ref();
    let optional = |value: Option<f64>, unit: &str| {
        value.map_or("not known".into(), |value| short(value) + unit)
    };
    let rows = [
        ("delivered, updates/s", short(report.updates_per_s)),
        ("lost, told by the server", report.lost.to_string()),
        (
            "left out for newer ones",
            report
                .conflated
                .map_or("not known".into(), |count| count.to_string()),
        ),
        ("older than the one before", report.reordered.to_string()),
        ("bytes of an update", optional(report.bytes_per_update, "")),
        (
            "server's CPU of an update",
            server
                .and_then(|server| server.cpu_ns_per_update)
                .map_or("not known".into(), |ns| time(ns as u64)),
        ),
        (
            "server's cores",
            server.map_or("not known".into(), |server| format!("{:.2}", server.cores)),
        ),
        (
            "server's memory of a session",
            optional(report.memory.server_bytes_per_session, "B"),
        ),
        (
            "kernel's memory of a session",
            optional(report.memory.kernel_bytes_per_session, "B"),
        ),
        ("connects/s", short(report.sessions.connects_per_s)),
        ("longest silence", time(report.silence_max_ns)),
    ];
    let rows = rows.map(|(name, value)| format!("<tr><td>{name}<td>{value}"));
    format!("<table>{}</table>{}", rows.concat(), groups(report))
}

/// What each group has had, if there are several.
fn groups(report: &Report) -> String {
    if report.by_group.len() < 2 {
        return String::new();
    }
    let rows = report.by_group.iter().map(|group| {
        format!(
            "<tr><td>{}<td>{}<td>{}<td>{}",
            escape(&group.name),
            short(group.updates_per_s),
            group.lost,
            group
                .conflated
                .map_or("not known".into(), |count| count.to_string())
        )
    });
    format!(
        "<h2>By group</h2><table><tr><th><th>updates/s<th>lost<th>left out{}</table>",
        rows.collect::<String>()
    )
}

fn latencies(report: &Report) -> String {
    let row = |name: &str, latency: &Latency| {
        // With fewer than ten beyond it, a percentile is chance.
        let times = [
            (latency.p50_ns, 0.5),
            (latency.p90_ns, 0.1),
            (latency.p99_ns, 0.01),
            (latency.p999_ns, 0.001),
            (latency.p9999_ns, 0.0001),
            (latency.max_ns, 1.0),
        ];
        let times = times.map(|(ns, beyond)| {
            let few = latency.count as f64 * beyond < 10.0 && beyond < 1.0;
            let class = if few { " class=\"few\"" } else { "" };
            format!("<td{class} title=\"{ns} ns\">{}", time(ns))
        });
        format!(
            "<tr><td>{}<td>{}{}",
            escape(name),
            latency.count,
            times.concat()
        )
    };
    let mut rows = String::new();
    if let Some(latency) = &report.latency {
        rows += &row("all", latency);
    }
    for (transport, latency) in &report.by_transport {
        rows += &row(transport, latency);
    }
    for group in &report.by_group {
        // A lone group is all.
        if let (Some(latency), 2..) = (&group.latency, report.by_group.len()) {
            rows += &row(&format!("group {}", group.name), latency);
        }
    }
    for (tenth, latency) in report.by_rank.iter().enumerate() {
        if let Some(latency) = latency {
            rows += &row(&format!("tenth {} to be served", tenth + 1), latency);
        }
    }
    if let Some(connect) = &report.sessions.connect {
        rows += &row("connecting", connect);
    }
    if let Some(returned) = &report.sessions.returned {
        rows += &row("returning after a storm", returned);
    }
    if rows.is_empty() {
        return format!(
            "<h2>Latency</h2><p>Not measured: {}.</p>",
            escape(&report.why_untimed())
        );
    }
    format!(
        "<h2>Latency, from the intended time of an event</h2><table>\
         <tr><th><th>count<th>p50<th>p90<th>p99<th>p99.9<th>p99.99<th>max{rows}</table>\
         <p class=\"by\">Grey: fewer than ten lie beyond. By rank: {} events, {:.3} % of all, whose clients were put in order by \
         arrival.</p>",
        report.ranked_events,
        report.ranked_share * 100.0
    )
}

fn plots(report: &Report) -> Vec<Plot> {
    let curve = |latency: &Latency| {
        let points = latency.curve.iter();
        points
            .map(|(percentile, ns)| (place_of(*percentile), *ns as f64 / 1e6))
            .collect()
    };
    let mut by_percentile: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    if let Some(latency) = &report.latency {
        by_percentile.push(("all".into(), curve(latency)));
    }
    if report.by_transport.len() > 1 {
        for (transport, latency) in &report.by_transport {
            by_percentile.push(((*transport).into(), curve(latency)));
        }
    }
    let by_group = report.by_group.iter();
    let by_group = by_group.filter_map(|group| Some((group.name.clone(), group.latency.as_ref()?)));
    let by_group: Vec<(String, Vec<(f64, f64)>)> = by_group
        .map(|(name, latency)| (escape(&name), curve(latency)))
        .collect();
    let ranks = |of: fn(&Latency) -> u64| {
        let ranks = report.by_rank.iter().enumerate();
        ranks
            .filter_map(|(tenth, latency)| {
                let ms = of(latency.as_ref()?) as f64 / 1e6;
                Some((tenth as f64 / 9.0, ms))
            })
            .collect::<Vec<_>>()
    };
    let tick = |percentile: f64| (place_of(percentile), format!("{percentile}"));
    let percentiles = |title, lines| Plot {
        title,
        x_label: "percentile",
        y_label: "ms",
        x_ticks: [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
            .map(tick)
            .to_vec(),
        log_y: true,
        lines,
        nothing: "no update had a time of its own",
    };
    let mut plots = vec![percentiles("Latency by percentile", by_percentile)];
    if report.by_group.len() > 1 {
        plots.push(percentiles("Latency by percentile and group", by_group));
    }
    plots.extend([
        over_time(
            report,
            "Latency over time",
            "ms",
            true,
            &[
                ("p50", |second| Some(second.p50_ns as f64 / 1e6)),
                ("p99", |second| Some(second.p99_ns as f64 / 1e6)),
                ("max", |second| Some(second.max_ns as f64 / 1e6)),
                ("silence", |second| Some(second.silence_ns as f64 / 1e6)),
            ],
        ),
        Plot {
            title: "Latency by rank: the tenth of clients that is served first to the last",
            x_label: "tenth",
            y_label: "ms",
            x_ticks: (1..=10)
                .map(|tenth| (f64::from(tenth - 1) / 9.0, tenth.to_string()))
                .collect(),
            log_y: true,
            lines: vec![
                ("p50".into(), ranks(|latency| latency.p50_ns)),
                ("p99".into(), ranks(|latency| latency.p99_ns)),
            ],
            nothing: "no event with a time of its own reached ten clients or more",
        },
        over_time(
            report,
            "Throughput",
            "updates/s",
            false,
            &[("updates", |second| Some(second.updates as f64))],
        ),
        over_time(
            report,
            "Connections",
            "a second",
            false,
            &[
                ("begun", |second| Some(second.connects as f64)),
                ("ended", |second| Some(second.disconnects as f64)),
            ],
        ),
        over_time(
            report,
            "CPU of the server",
            "cores",
            false,
            &[("cores", |second| second.server_cores)],
        ),
    ]);
    plots
}

type OfSecond = fn(&crate::series::Second) -> Option<f64>;

/// Points of a line at most; more seconds than that are drawn several to a point.
const POINTS_MAX: usize = 720;

fn over_time(
    report: &Report,
    title: &'static str,
    y_label: &'static str,
    log_y: bool,
    lines: &[(&str, OfSecond)],
) -> Plot {
    // The last interval may be a short one, whose counts are no rates.
    let whole = (report.window_s as usize).max(1);
    let seconds = &report.seconds[..report.seconds.len().min(whole)];
    let last = seconds.len().saturating_sub(1).max(1) as f64;
    let place = |index: usize| index as f64 / last;
    let at_once = seconds.len().div_ceil(POINTS_MAX).max(1);
    let line = |of: OfSecond| {
        let points = seconds.chunks(at_once).enumerate();
        let points = points.filter_map(|(index, seconds)| {
            // The worst of several where it is about latencies, which a mean would hide; else their mean.
            let values: Vec<f64> = seconds.iter().filter_map(of).collect();
            let worst = values.iter().copied().reduce(f64::max)?;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            Some((place(index * at_once), if log_y { worst } else { mean }))
        });
        points.collect::<Vec<_>>()
    };
    let drawn: Vec<(String, Vec<(f64, f64)>)> = lines
        .iter()
        .map(|(name, of)| ((*name).to_owned(), line(*of)))
        .collect();
    // Nothing but zeros is no plot.
    let is_empty = drawn
        .iter()
        .flat_map(|(_, points)| points)
        .all(|(_, y)| *y == 0.0);
    Plot {
        title,
        x_label: match seconds.len() {
            0..=120 => "second",
            121..=7_200 => "minutes:seconds",
            _ => "hours:minutes",
        },
        y_label,
        x_ticks: (0..seconds.len())
            .step_by(tick_step(seconds.len()))
            .map(|index| (place(index), clock(index, seconds.len())))
            .collect(),
        log_y,
        lines: if is_empty { Vec::new() } else { drawn },
        nothing: "none in the window",
    }
}

/// Seconds between two ticks: at most a dozen of them, at times that people use.
fn tick_step(seconds: usize) -> usize {
    let steps = [
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200,
    ];
    let step = steps.into_iter().find(|step| seconds / step <= 12);
    step.unwrap_or_else(|| seconds.div_ceil(12))
}

/// A time of the window: in seconds, or as minutes and hours if it is long.
fn clock(second: usize, of: usize) -> String {
    match of {
        0..=120 => second.to_string(),
        121..=7_200 => format!("{}:{:02}", second / 60, second % 60),
        _ => format!("{}:{:02}", second / 3_600, second / 60 % 60),
    }
}

/// A date with its time, by Greenwich.
fn date(unix_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s))
}

/// Percentiles are drawn by their nines: 90, 99 and 99.9 are equally far apart.
fn place_of(percentile: f64) -> f64 {
    const NINES: f64 = 5.0;
    let beyond = (1.0 - percentile / 100.0).max(1e-9);
    (-beyond.log10() / NINES).clamp(0.0, 1.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_equally_far_apart() {
        let places = [0.0, 90.0, 99.0, 99.9, 99.99, 99.999].map(place_of);
        for (index, place) in places.iter().enumerate() {
            assert!((place - index as f64 / 5.0).abs() < 1e-6, "{places:?}");
        }
        assert_eq!(place_of(100.0), 1.0);
    }

    #[test]
    fn ticks_are_at_times_that_people_use() {
        for (seconds, step) in [
            (1, 1),
            (10, 1),
            (60, 5),
            (600, 60),
            (3_600, 300),
            (86_400, 7_200),
        ] {
            assert_eq!(tick_step(seconds), step, "{seconds}");
        }
        assert_eq!(clock(7, 60), "7");
        assert_eq!(clock(125, 600), "2:05");
        assert_eq!(clock(7_260, 86_400), "2:01");
    }

    #[test]
    fn what_comes_from_elsewhere_cannot_break_the_page() {
        assert_eq!(
            escape("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
