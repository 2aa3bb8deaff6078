//! One cell of the table: one scenario against one server.

use std::io;
use std::time::{Duration, Instant};

use brightwire::reactor::Reactor;
use serde::Serialize;

use crate::crowd::Crowd;
use crate::dialect::Dialect;
use crate::machine::{self, Watch};
use crate::publish::{Publisher, Schedule};
use crate::scenario::{Load, Scenario};
use crate::server::Server;

/// Figures of one measured window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// The repetition that it belongs to, counted from 1: all servers take their turns within one.
    pub repetition: usize,
    /// Messages that reached clients, a second.
    pub deliveries_per_s: f64,
    /// CPU of the server, all its threads and processes, for each of them, ns.
    pub cpu_ns: f64,
    /// Cores that the server kept busy.
    pub cores: f64,
    /// From the intended time to the arrival, ms: 50 %, 99 %, 99.9 % and all of them.
    pub latency_ms: [f64; 4],
    /// Messages that did not arrive, or not within a second of the last one.
    pub lost: u64,
    /// Bytes that a client received for each.
    pub bytes: f64,
    /// By how much the schedule was missed at worst, ms.
    pub generator_late_ms: f64,
    /// Share of the time in which the clients, who never sleep, had something to read: near 1, they were what limited the
    /// rate.
    pub clients_busy: f64,
    /// Memory of the server with all clients, MiB.
    pub memory_mib: f64,
    /// Share of the machine that was busy with neither the server nor the clients.
    pub others: f64,
}

impl Figures {
    /// Whether others on the machine had so much of it meanwhile that the figures are doubtful.
    pub fn is_disturbed(&self) -> bool {
        machine::is_disturbed(self.others)
    }
}

/// How long clients may take to hear the first message.
const WARMUP_MAX: Duration = Duration::from_secs(10);
/// Quiet for so long means that nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(150);
/// Once nothing has come for so long, what is missing is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Connects a crowd, warms up, measures for `window`, and takes all down again.
pub fn measure<R: Reactor>(
    reactor: R,
    server: &Server,
    scenario: &Scenario,
    window: Duration,
) -> io::Result<Figures> {
    let origin = Instant::now();
    let dialect = Dialect::new(server.protocol, scenario.items);
    let mut crowd = Crowd::connect(
        reactor,
        dialect.clone(),
        server.clients,
        scenario.sessions,
        origin,
    )?;
    let mut publisher = Publisher::connect(dialect, server.publisher, scenario.items, origin)?;
    warm_up(&mut crowd, &mut publisher, scenario)?;
    crowd.reset();
    let watch = Watch::start()?;
    let cpu_before = server.cpu()?;
    let started = Instant::now();
    // The publisher stays connected until all is counted.
    let (published, late) = match scenario.load {
        Load::Open { .. } => open(&mut crowd, &mut publisher, scenario, window)?,
        Load::Window { messages } => {
            let published = windowed(&mut crowd, &mut publisher, scenario, messages, window)?;
            (published, Duration::ZERO)
        }
    };
    let expected = published * (scenario.sessions * scenario.burst()) as u64;
    // Costs are of all that was published; the rest of it is still coming in.
    let mut last = (crowd.tally().delivered, Instant::now());
    while crowd.tally().delivered < expected && last.1.elapsed() < LOST_AFTER {
        crowd.spin()?;
        if crowd.tally().delivered > last.0 {
            last = (crowd.tally().delivered, Instant::now());
        }
    }
    let elapsed = (last.1 - started).as_secs_f64();
    let cpu = server.cpu()?.saturating_sub(cpu_before);
    let others = watch.others(cpu)?;
    let cpu = cpu.as_secs_f64();
    let tally = crowd.tally();
    let delivered = tally.delivered.max(1) as f64;
    let quantile = |quantile| tally.latency_ns.value_at_quantile(quantile) as f64 / 1e6;
    let figures = Figures {
        repetition: 0, // known to the caller
        deliveries_per_s: tally.delivered as f64 / elapsed,
        cpu_ns: cpu * 1e9 / delivered,
        cores: cpu / elapsed,
        latency_ms: [
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
        ],
        lost: expected.saturating_sub(tally.delivered),
        bytes: tally.bytes as f64 / delivered,
        generator_late_ms: late.as_secs_f64() * 1e3,
        clients_busy: tally.busy.as_secs_f64() / elapsed,
        memory_mib: server.memory() as f64 / f64::from(1 << 20),
        others,
    };
    crowd.close()?;
    Ok(figures)
}

/// Publishes slowly until every client has heard something, then waits until nothing is on its way.
fn warm_up<R: Reactor>(
    crowd: &mut Crowd<R>,
    publisher: &mut Publisher,
    scenario: &Scenario,
) -> io::Result<()> {
    let start = Instant::now();
    while crowd.tally().live < scenario.sessions {
        if start.elapsed() > WARMUP_MAX {
            return Err(io::Error::other(format!(
                "only {} of {} clients have heard anything",
                crowd.tally().live,
                scenario.sessions
            )));
        }
        publisher.publish(Instant::now())?;
        let pause = Instant::now() + Duration::from_millis(50);
        while Instant::now() < pause {
            crowd.turn(Duration::from_millis(5))?;
        }
    }
    let mut last = (crowd.tally().delivered, Instant::now());
    while last.1.elapsed() < QUIET {
        crowd.turn(Duration::from_millis(5))?;
        if crowd.tally().delivered > last.0 {
            last = (crowd.tally().delivered, Instant::now());
        }
    }
    Ok(())
}

fn open<R: Reactor>(
    crowd: &mut Crowd<R>,
    publisher: &mut Publisher,
    scenario: &Scenario,
    window: Duration,
) -> io::Result<(u64, Duration)> {
    let ticks_hz = scenario.ticks_hz().expect("an open load has a schedule");
    let mut schedule = Schedule::start(ticks_hz);
    let end = Instant::now() + window;
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok((schedule.ticks(), schedule.late_max()));
        }
        match schedule.due(now) {
            Some(due) => publisher.publish(due)?,
            None => crowd.spin()?,
        }
    }
}

fn windowed<R: Reactor>(
    crowd: &mut Crowd<R>,
    publisher: &mut Publisher,
    scenario: &Scenario,
    messages: u64,
    window: Duration,
) -> io::Result<u64> {
    let per_tick = (scenario.sessions * scenario.burst()) as u64;
    let end = Instant::now() + window;
    let mut published = 0;
    while Instant::now() < end {
        while published - crowd.tally().delivered / per_tick < messages {
            publisher.publish(Instant::now())?;
            published += 1;
        }
        crowd.spin()?;
    }
    Ok(published)
}
