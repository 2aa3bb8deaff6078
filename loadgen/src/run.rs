//! One run from beginning to end: the main thread starts the fleets, here or in other processes, leads them through the
//! phases, puts together what they tell second by second, takes samples of the server, and makes the report.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::RunArguments;
use crate::connect::Doors;
use crate::control::{Control, Notice, Phase, unix_ns};
use crate::crew::{self, Crew, Share};
use crate::fleet;
use crate::process::{self, Sample};
use crate::rank::{self, Ranking};
use crate::report::{Measured, Report, html};
use crate::scenario::Scenario;
use crate::series::Series;
use crate::verify::{self, FinalRows};

/// How often the server is looked at while the window is open.
const LOOK: Duration = Duration::from_secs(1);

/// Runs what the arguments ask for, prints the report, and writes it to the files that they name.
pub fn run(arguments: &RunArguments) -> Result<Report, Box<dyn Error>> {
    let scenario = arguments.scenario()?;
    // Before anything costs time: what cannot work should be told at once, and not when the figures are there.
    Doors::new(scenario.address()?, &scenario.sources).check()?;
    let outputs = &arguments.outputs;
    for path in [&outputs.json, &outputs.html].into_iter().flatten() {
        let opened = fs::OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let before_ramp = samples(scenario.server_pid);
    if let (Some(pid), None) = (scenario.server_pid, &before_ramp.server) {
        Sample::take(pid).map_err(|error| format!("--server-pid {pid}: {error}"))?;
    }
    let (sender, notices) = mpsc::channel();
    listen_for_signals(sender.clone())?;
    let control = Arc::new(Control::default());
    let fleets = usize::from(scenario.threads) * usize::from(scenario.processes);
    let mut series = Series::new(fleets, arguments.outputs.hlog.as_deref())?;
    series.name_groups(scenario.groups.iter().map(|group| group.name.as_str()));
    let crew = if scenario.processes == 1 {
        let all = Share {
            scenario: scenario.clone(),
            first: 0,
        };
        Crew::here(all, &control, &sender)?
    } else {
        Crew::elsewhere(&scenario, &sender)?
    };
    let mut director = Director::new(scenario, crew, control, notices, series);
    let measured = director.lead(before_ramp)?;
    let report = Report::new(&director.scenario, &measured, &director.series);
    println!("{report}");
    let write = |path: &std::path::Path, text: String| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    if let Some(path) = &outputs.json {
        write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(path) = &outputs.html {
        write(path, html::page(&report))?;
    }
    Ok(report)
}

/// Leads the fleets.
struct Director {
    scenario: Scenario,
    crew: Crew,
    control: Arc<Control>,
    notices: Receiver<Notice>,
    series: Series,
    progress: ProgressBar,
    ready: usize,
    /// Sessions that are there to be measured.
    live: u64,
    outcomes: Vec<fleet::Outcome>,
    broken: Option<String>,
    interrupted: bool,
    window_ns: u64,
    last_look: Option<(Instant, Sample)>,
}

/// What processes and the kernel use at one moment.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The server.
    pub server: Option<Sample>,
    /// The kernel's memory for sockets and its tables, bytes: of the whole machine.
    pub kernel_bytes: Option<u64>,
}

impl Director {
    fn new(
        scenario: Scenario,
        crew: Crew,
        control: Arc<Control>,
        notices: Receiver<Notice>,
        series: Series,
    ) -> Self {
        Self {
            scenario,
            crew,
            control,
            notices,
            series,
            progress: ProgressBar::new_spinner(),
            ready: 0,
            live: 0,
            outcomes: Vec::new(),
            broken: None,
            interrupted: false,
            window_ns: 0,
            last_look: None,
        }
    }

    fn lead(&mut self, before_ramp: Samples) -> Result<Measured, Box<dyn Error>> {
        let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}")?;
        self.progress.set_style(style);
        self.progress.enable_steady_tick(Duration::from_millis(200));
        let sessions = self.scenario.sessions();
        self.say(format!("connecting {sessions} sessions"));
        self.wait_until_ready();
        let after_ramp = samples(self.scenario.server_pid);
        let is_server = self.scenario.server_pid.and_then(|pid| {
            let port = self.scenario.address().ok()?.port();
            process::listens(pid, port)
        });
        self.enter(Phase::Warmup);
        // Without a single session there is nothing to wait for, and the window closes as it opens.
        if self.live > 0 {
            self.say("warming up".into());
            self.wait(self.scenario.warmup.duration());
        }
        let before = samples(self.scenario.server_pid);
        self.window_ns = unix_ns();
        self.series.begin(self.window_ns);
        let started = Instant::now();
        self.enter(Phase::Measure);
        if self.live > 0 {
            self.say(format!("measuring for {} s", self.scenario.seconds));
            self.measure(started);
        }
        let elapsed = started.elapsed();
        self.series.end(elapsed);
        self.enter(Phase::Settle);
        let after = samples(self.scenario.server_pid);
        if self.scenario.verify && self.live > 0 {
            self.say("waiting for the last updates".into());
            self.wait(self.scenario.settle_time());
        }
        self.enter(Phase::Stop);
        self.wait_until_ended();
        self.crew.join();
        let outcomes = self.outcomes.iter_mut();
        let mut samples: Vec<rank::Sample> = outcomes
            .map(|outcome| std::mem::take(&mut outcome.sample))
            .collect();
        let end_ns = self.window_ns + elapsed.as_nanos() as u64;
        let ranking = Ranking::new(&mut samples, self.window_ns, end_ns);
        self.series.finish(ranking)?;
        self.progress.finish_and_clear();
        if let Some(reason) = self.broken.take() {
            return Err(reason.into());
        }

        let mut measured = Measured {
            io: self.crew.io(),
            interrupted: self.interrupted,
            is_server,
            began_ns: self.window_ns,
            elapsed,
            before_ramp,
            after_ramp,
            before,
            after,
            fleets: fleet::Outcome::default(),
            verify: self.scenario.verify.then(verify::Outcome::default),
        };
        let mut rows = FinalRows::new();
        for outcome in std::mem::take(&mut self.outcomes) {
            measured.add(outcome, &mut rows);
        }
        if self.scenario.server_pid.is_some() && measured.after.server.is_none() {
            let reason = "the server's process has ended".into();
            measured.fleets.ended.count(reason);
        }
        Ok(measured)
    }

    fn enter(&mut self, phase: Phase) {
        self.control.enter(phase, self.window_ns);
        self.crew.enter(phase, self.window_ns);
    }

    /// Where the run is: on a terminal it moves, elsewhere it is a line, for whoever waits for it.
    fn say(&self, text: String) {
        if self.progress.is_hidden() {
            eprintln!("loadgen: {text}");
        } else {
            self.progress.set_message(text);
        }
    }

    /// Waits until every fleet has settled. Fleets give up on sessions that take too long, so this ends.
    fn wait_until_ready(&mut self) {
        while self.ready < self.crew.fleets() && !self.is_over() {
            match self.notices.recv() {
                Ok(notice) => self.note(notice),
                Err(_) => return,
            }
        }
    }

    /// Waits until every fleet has said its last word.
    fn wait_until_ended(&mut self) {
        while self.outcomes.len() < self.crew.fleets() && self.broken.is_none() {
            match self.notices.recv() {
                Ok(notice) => self.note(notice),
                Err(_) => return,
            }
        }
    }

    /// The window, with a look at the server every second.
    fn measure(&mut self, started: Instant) {
        let end = started + self.scenario.seconds.duration();
        self.look(None);
        for second in 0.. {
            let next = started + LOOK * (second + 1);
            self.wait_until(next.min(end));
            self.look(Some(second));
            if let Some(last) = self.series.last().filter(|_| !self.progress.is_hidden()) {
                self.say(format!(
                    "second {} of {}: {} updates, p99 {:.2} ms, max {:.2} ms",
                    second + 1,
                    self.scenario.seconds,
                    last.updates,
                    last.p99_ns as f64 / 1e6,
                    last.max_ns as f64 / 1e6
                ));
            }
            if next >= end || self.is_over() {
                return;
            }
        }
    }

    /// How many cores the server has kept busy in a second.
    fn look(&mut self, second: Option<u32>) {
        let Some(sample) = self
            .scenario
            .server_pid
            .and_then(|pid| Sample::take(pid).ok())
        else {
            return;
        };
        let now = Instant::now();
        if let (Some(second), Some((then, before))) = (second, &self.last_look) {
            let cores =
                sample.since(before).cpu().as_secs_f64() / (now - *then).as_secs_f64().max(1e-9);
            self.series.note_server(second, cores);
        }
        self.last_look = Some((now, sample));
    }

    /// Waits for a time, less if the run is over earlier.
    fn wait(&mut self, time: Duration) {
        self.wait_until(Instant::now() + time);
    }

    fn wait_until(&mut self, end: Instant) {
        while !self.is_over() {
            match self
                .notices
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(notice) => self.note(notice),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Ready { live } => {
                self.ready += 1;
                self.live += live;
            }
            Notice::Interval(interval) => self.series.add(&interval),
            Notice::Ended(outcome) => self.outcomes.push(*outcome),
            Notice::Broken(reason) => self.broken = self.broken.take().or(Some(reason)),
            Notice::Interrupted => self.interrupted = true,
        }
    }

    /// No fleet ends by itself unless something is broken, and then all that is left is to say so.
    fn is_over(&self) -> bool {
        self.interrupted || self.broken.is_some()
    }
}

/// Samples of the server and of the kernel, as far as they can be had.
fn samples(server: Option<u32>) -> Samples {
    Samples {
        server: server.and_then(|pid| Sample::take(pid).ok()),
        kernel_bytes: process::kernel_bytes(),
    }
}

/// The first signal ends the run in good order, the second one at once.
fn listen_for_signals(notices: Sender<Notice>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 || notices.send(Notice::Interrupted).is_err() {
                    std::process::exit(128 + signal);
                }
            }
        })?;
    Ok(())
}

/// A process of a run with several.
pub fn work() -> Result<(), Box<dyn Error>> {
    crew::work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    #[test]
    fn a_run_waits_for_all_fleets_and_for_no_longer_than_it_must() {
        let words = ["loadgen", "run", "--server", "h:1"];
        let Command::Run(arguments) = Cli::try_parse_from(words).unwrap().command else {
            unreachable!("it says run");
        };
        let (sender, notices) = mpsc::channel();
        let mut director = Director::new(
            arguments.scenario().unwrap(),
            Crew::default(),
            Arc::default(),
            notices,
            Series::new(1, None).unwrap(),
        );
        director.wait(Duration::ZERO);
        sender.send(Notice::Ready { live: 5 }).unwrap();
        sender.send(Notice::Interrupted).unwrap();
        // A day, unless the interruption ends it.
        director.wait(Duration::from_secs(86_400));
        assert!(director.is_over());
        assert_eq!((director.ready, director.live), (1, 5));
    }
}
