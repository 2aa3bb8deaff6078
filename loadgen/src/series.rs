//! The window, second by second: what all fleets tell is put together, logged for the tools of HdrHistogram, and kept as
//! a few numbers for each second.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;

use crate::rank::Ranking;
use crate::stats::{Interval, Times};

/// The log's maxima are milliseconds, as the tools expect; the values themselves are nanoseconds.
const NS_PER_MS: f64 = 1e6;
/// The log has no shorter times; readers divide by the length of an interval.
const LENGTH_MIN: Duration = Duration::from_millis(1);

/// All seconds so far.
pub struct Series {
    fleets: usize,
    /// Names of the groups, for the log.
    groups: Vec<String>,
    /// Length of the window, once it is over.
    elapsed: Option<Duration>,
    /// Seconds of which some fleets have told: how many, and what.
    open: BTreeMap<u32, (usize, Interval)>,
    /// All of the window.
    pub total: Interval,
    /// What is kept of each second.
    pub seconds: Vec<Second>,
    /// Who was served first.
    pub ranking: Ranking,
    server_cores: BTreeMap<u32, f64>,
    log: Option<Log>,
}

/// What is kept of a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// From the window's beginning.
    pub second: u32,
    /// Updates that arrived.
    pub updates: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Sessions that became live.
    pub connects: u64,
    /// Connections that ended.
    pub disconnects: u64,
    /// Half of the updates were at most so late, ns.
    pub p50_ns: u64,
    /// 99 % of them.
    pub p99_ns: u64,
    /// 99.9 % of them.
    pub p999_ns: u64,
    /// All of them.
    pub max_ns: u64,
    /// The longest time in which nothing arrived, ns.
    pub silence_ns: u64,
    /// The generator's longest turn, ns: by so much arrivals were noticed late at worst.
    pub turn_max_ns: u64,
    /// Cores that the server kept busy, if its process is known.
    pub server_cores: Option<f64>,
}

impl Series {
    /// For so many fleets; with a log if there is a file for it.
    pub fn new(fleets: usize, log: Option<&Path>) -> io::Result<Self> {
        Ok(Self {
            fleets,
            groups: Vec::new(),
            elapsed: None,
            open: BTreeMap::new(),
            total: Interval::new(0),
            seconds: Vec::new(),
            ranking: Ranking::default(),
            server_cores: BTreeMap::new(),
            log: log.map(Log::create).transpose()?,
        })
    }

    /// The log tells groups apart, if there are several.
    pub fn name_groups<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        // What a tag must not have.
        let tag = |name: &str| format!("group-{}", name.replace([',', ' ', '\r', '\n'], "-"));
        self.groups = names.map(tag).collect();
    }

    /// The window begins.
    pub fn begin(&mut self, window_ns: u64) {
        if let Some(log) = &mut self.log {
            log.begin(UNIX_EPOCH + Duration::from_nanos(window_ns));
        }
    }

    /// The window is over: of the second that it ended in, there is only a part.
    pub fn end(&mut self, elapsed: Duration) {
        self.elapsed = Some(elapsed);
    }

    fn length_of(&self, second: u32) -> Duration {
        let elapsed = self.elapsed.unwrap_or(Duration::MAX);
        let rest = elapsed.saturating_sub(Duration::from_secs(second.into()));
        rest.clamp(LENGTH_MIN, Duration::from_secs(1))
    }

    /// A fleet tells of a second.
    pub fn add(&mut self, interval: &Interval) {
        let (told, sum) = self
            .open
            .entry(interval.index)
            .or_insert_with(|| (0, Interval::new(interval.index)));
        *told += 1;
        sum.add(interval);
        while let Some(entry) = self.open.first_entry()
            && entry.get().0 >= self.fleets
        {
            let (_, interval) = entry.remove();
            self.close(&interval);
        }
    }

    /// Nothing more will be told. Returns what went wrong with the log, which ends with the ranks of each second.
    pub fn finish(&mut self, ranking: Ranking) -> io::Result<()> {
        for (_, interval) in std::mem::take(&mut self.open).into_values() {
            self.close(&interval);
        }
        for second in &mut self.seconds {
            second.server_cores = self.server_cores.get(&second.second).copied();
        }
        let log = self.log.take();
        if let Some(log) = &log {
            log.write_ranks(&ranking, |second| self.length_of(second));
        }
        self.ranking = ranking;
        log.map_or(Ok(()), Log::finish)
    }

    /// The second that was put together last.
    pub fn last(&self) -> Option<&Second> {
        self.seconds.last()
    }

    /// The server has kept so many cores busy in a second.
    pub fn note_server(&mut self, second: u32, cores: f64) {
        self.server_cores.insert(second, cores);
    }

    fn close(&mut self, interval: &Interval) {
        let latency = interval.latency();
        if let Some(log) = &self.log {
            let length = self.length_of(interval.index);
            log.write(interval, length, &latency, &self.groups);
        }
        let times = &latency.0;
        self.seconds.push(Second {
            second: interval.index,
            updates: interval.updates,
            bytes: interval.bytes,
            connects: interval.connects,
            disconnects: interval.disconnects,
            p50_ns: times.value_at_quantile(0.5),
            p99_ns: times.value_at_quantile(0.99),
            p999_ns: times.value_at_quantile(0.999),
            max_ns: times.max(),
            silence_ns: interval.silence_ns,
            turn_max_ns: interval.turn_ns.0.max(),
            server_cores: None,
        });
        self.total.add(interval);
    }
}

/// The log's writer, on a thread of its own: compressing takes its time.
struct Log {
    entries: Sender<Entry>,
    thread: JoinHandle<io::Result<()>>,
}

enum Entry {
    /// The window begins; only once, and first.
    Begin(SystemTime),
    Interval {
        second: u32,
        length: Duration,
        tag: Option<String>,
        histogram: Histogram<u64>,
    },
}

impl Log {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let (entries, received) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("hlog".into())
            .spawn(move || write_log(BufWriter::new(file), &received))?;
        Ok(Self { entries, thread })
    }

    fn begin(&mut self, start: SystemTime) {
        // If the thread has ended, `finish` tells why.
        let _ = self.entries.send(Entry::Begin(start));
    }

    /// All latencies without a tag, then those of each transport with one, and those of each group if there are several.
    fn write(&self, interval: &Interval, length: Duration, all: &Times, groups: &[String]) {
        self.write_one(interval.index, length, None, all);
        for (transport, times) in interval.by_transport() {
            let tag = transport.name().to_owned();
            self.write_one(interval.index, length, Some(tag), &times);
        }
        if groups.len() < 2 {
            return;
        }
        for (group, tag) in groups.iter().enumerate() {
            let of_group = interval.groups.get(&group);
            if let Some(of_group) = of_group.filter(|it| !it.latency_ns.0.is_empty()) {
                let times = &of_group.latency_ns;
                self.write_one(interval.index, length, Some(tag.clone()), times);
            }
        }
    }

    /// Those of each tenth of clients: known when all fleets have told.
    fn write_ranks(&self, ranking: &Ranking, length_of: impl Fn(u32) -> Duration) {
        for (second, tenths) in ranking.by_second() {
            for (tenth, times) in tenths {
                let tag = format!("rank-{:02}", tenth + 1);
                self.write_one(second, length_of(second), Some(tag), &times);
            }
        }
    }

    fn write_one(&self, second: u32, length: Duration, tag: Option<String>, times: &Times) {
        let _ = self.entries.send(Entry::Interval {
            second,
            length,
            tag,
            histogram: times.0.clone(),
        });
    }

    fn finish(self) -> io::Result<()> {
        drop(self.entries);
        self.thread
            .join()
            .map_err(|_| io::Error::other("the log's thread has panicked"))?
    }
}

fn write_log(mut out: impl Write, entries: &mpsc::Receiver<Entry>) -> io::Result<()> {
    let Ok(Entry::Begin(start)) = entries.recv() else {
        return Ok(()); // the run has ended before its window
    };
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("brightwire loadgen: from the intended time of an event to its arrival, ns")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut out, &mut serializer)?;
    while let Ok(entry) = entries.recv() {
        let Entry::Interval {
            second,
            length,
            tag,
            histogram,
        } = entry
        else {
            continue;
        };
        log.write_histogram(
            &histogram,
            Duration::from_secs(second.into()),
            length,
            tag.as_deref().and_then(Tag::new),
        )
        .map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    drop(log);
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::{Arrival, Sample};
    use crate::scenario::Transport;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn interval(index: u32, latency_ns: u64) -> Interval {
        let mut interval = Interval::new(index);
        interval.updates = 1;
        interval.time(0, Transport::Websocket, latency_ns);
        interval
    }

    #[test]
    fn a_second_is_over_when_all_fleets_have_told() {
        let mut series = Series::new(2, None).unwrap();
        series.add(&interval(0, 1_000));
        series.add(&interval(1, 2_000));
        assert!(series.seconds.is_empty());
        series.add(&interval(0, 3_000));
        assert_eq!(series.last().map(|second| second.updates), Some(2));
        series.finish(Ranking::default()).unwrap();
        assert_eq!(series.seconds.len(), 2);
        assert_eq!(series.total.updates, 3);
        assert_eq!(series.total.latency().0.len(), 3);
    }

    #[test]
    fn the_log_is_read_by_the_tools() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.hlog");
        let mut series = Series::new(1, Some(&path)).unwrap();
        series.begin(1_700_000_000_000_000_000);
        series.add(&interval(0, 1_000));
        // The window ends in the middle of the second.
        series.end(Duration::from_millis(1_250));
        series.add(&interval(1, 1_000_000_000));
        let mut sample = Sample::new(1, 10);
        for client in 0..10 {
            sample.note(Arrival {
                item: 0,
                stamp_ns: 1_700_000_000_000_000_000,
                arrived_ns: 1_700_000_000_000_000_100 + client,
            });
        }
        let begin_ns = 1_700_000_000_000_000_000;
        let ranking = Ranking::new(&mut [sample], begin_ns, begin_ns + 2_000_000_000);
        series.finish(ranking).unwrap();

        let text = std::fs::read(&path).unwrap();
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                use base64::Engine as _;
                let engine = base64::engine::general_purpose::STANDARD;
                let bytes = engine.decode(interval.encoded_histogram()).unwrap();
                let histogram: Histogram<u64> = Deserializer::new()
                    .deserialize(&mut bytes.as_slice())
                    .unwrap();
                let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                let lasted = if interval.start_timestamp().is_zero() {
                    1_000
                } else {
                    250
                };
                assert_eq!(interval.duration().as_millis(), lasted);
                found.push((
                    interval.start_timestamp().as_secs(),
                    tag,
                    histogram.max() / 1_000,
                ));
            }
        }
        let all = found.iter().filter(|(_, tag, _)| tag.is_none());
        let all: Vec<(u64, u64)> = all.map(|(second, _, max_us)| (*second, *max_us)).collect();
        assert_eq!(all[0], (0, 1));
        assert_eq!(all[1].0, 1);
        assert!(all[1].1.abs_diff(1_000_000) < 1_000, "{all:?}");
        for tag in ["websocket", "rank-01", "rank-10"] {
            assert!(
                found
                    .iter()
                    .any(|(_, found, _)| found.as_deref() == Some(tag))
            );
        }
    }
}
