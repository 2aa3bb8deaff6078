//! Events of a CSV file, at its times or faster. The same format as the server replays.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::market::stamp;
use super::{FeedEvent, Source};

/// A file that is being replayed. It is read as it goes, once before for its items.
pub struct Replay {
    path: PathBuf,
    reader: csv::Reader<File>,
    speed: f64,
    repeat: bool,
    items: Vec<String>,
    by_name: HashMap<String, usize>,
    sequences: Vec<u64>,
    columns: Vec<String>,
    time_column: usize,
    item_column: usize,
    /// The row that is due next, and its time.
    ahead: Option<(csv::StringRecord, f64)>,
    /// The time of the file's first row, and of the last one that was read, ms.
    first_ms: f64,
    last_ms: f64,
    /// When this round began, ms from the start.
    round_ms: f64,
}

/// Time between a file's first row and its last at most: ten years.
const SPAN_MS_MAX: f64 = 10.0 * 366.0 * 86_400_000.0;
/// Items of a file at most.
const ITEMS_MAX: usize = 1_000_000;

impl Replay {
    /// Opens a file. A mistake anywhere in it is told now, with its line.
    pub fn open(path: &Path, speed: f64, repeat: bool) -> Result<Self, Box<dyn Error>> {
        let wrong = |error: Box<dyn Error>| format!("{}: {error}", path.display());
        Self::read(path, speed, repeat).map_err(|error| wrong(error).into())
    }

    fn read(path: &Path, speed: f64, repeat: bool) -> Result<Self, Box<dyn Error>> {
        let mut reader = csv::Reader::from_path(path)?;
        let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let find = |name: &str| {
            let found = columns.iter().position(|column| column == name);
            found.ok_or_else(|| format!("there is no column '{name}'"))
        };
        let (time_column, item_column) = (find("time_ms")?, find("item")?);
        for (index, name) in columns.iter().enumerate() {
            if name.is_empty() || columns[..index].contains(name) {
                return Err(
                    format!("a column has no name, or the name '{name}' is there twice").into(),
                );
            }
        }
        let mut items: Vec<String> = Vec::new();
        let mut by_name = HashMap::new();
        let (mut first_ms, mut last_ms, mut rows) = (0.0, f64::NEG_INFINITY, 0u64);
        for row in reader.records() {
            let row = row?;
            let line = row.position().map_or(0, csv::Position::line);
            let time_ms = time(&row, time_column)
                .filter(|time_ms| *time_ms >= last_ms)
                .ok_or_else(|| format!("line {line}: time_ms is no number, or goes back"))?;
            if rows == 0 {
                first_ms = time_ms;
            }
            if time_ms - first_ms > SPAN_MS_MAX {
                return Err(format!("line {line}: time_ms is years behind the first row's").into());
            }
            let item = &row[item_column];
            if item.is_empty() {
                return Err(format!("line {line}: the item has no name").into());
            }
            last_ms = time_ms;
            rows += 1;
            if !by_name.contains_key(item) {
                by_name.insert(item.to_owned(), items.len());
                items.push(item.to_owned());
            }
            if items.len() > ITEMS_MAX {
                return Err(format!("more than {ITEMS_MAX} items").into());
            }
        }
        if rows == 0 {
            return Err("there is no event".into());
        }
        Ok(Self {
            path: path.to_owned(),
            reader: csv::Reader::from_path(path)?,
            speed,
            repeat,
            sequences: vec![0; items.len()],
            items,
            by_name,
            columns,
            time_column,
            item_column,
            ahead: None,
            first_ms,
            last_ms,
            round_ms: 0.0,
        })
    }

    fn next_row(&mut self) -> Option<csv::StringRecord> {
        let mut row = csv::StringRecord::new();
        if self.reader.read_record(&mut row).unwrap_or(false) {
            return Some(row);
        }
        if !self.repeat {
            return None;
        }
        self.reader = csv::Reader::from_path(&self.path).ok()?;
        // A millisecond between the last row and the first, so that a file of one moment does not spin.
        self.round_ms += (self.last_ms - self.first_ms + 1.0) / self.speed;
        self.reader.read_record(&mut row).ok()?.then_some(row)
    }
}

impl Source for Replay {
    fn items(&self) -> &[String] {
        &self.items
    }

    fn next_due(&mut self) -> Option<Duration> {
        if self.ahead.is_none() {
            let row = self.next_row()?;
            let time_ms = time(&row, self.time_column)?;
            let due_ms = self.round_ms + (time_ms - self.first_ms) / self.speed;
            self.ahead = Some((row, due_ms));
        }
        let (_, due_ms) = self.ahead.as_ref()?;
        Some(Duration::from_nanos((due_ms * 1e6) as u64))
    }

    fn take(&mut self, intended_ns: u64, event: &mut FeedEvent) {
        event.fields.clear();
        let Some((row, _)) = self.ahead.take() else {
            return;
        };
        let item = &row[self.item_column];
        let known = self.by_name.get(item).copied();
        event.item = known.unwrap_or(0); // a file that has changed meanwhile
        for (name, value) in self.columns.iter().zip(row.iter()) {
            // The time and the item are no fields; the last two are the feed's own.
            if !["time_ms", "item", "timestamp", "sequence"].contains(&name.as_str()) {
                let value = Some(value).filter(|value| !value.is_empty());
                event.fields.push((name.clone(), value.map(str::to_owned)));
            }
        }
        self.sequences[event.item] += 1;
        stamp(event, intended_ns, self.sequences[event.item]);
    }

    fn snapshot(&self, item: usize, _: u64, event: &mut FeedEvent) {
        event.item = item;
        event.fields.clear();
    }
}

fn time(row: &csv::StringRecord, column: usize) -> Option<f64> {
    let time_ms: f64 = row.get(column)?.trim().parse().ok()?;
    time_ms.is_finite().then_some(time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str, speed: f64, repeat: bool) -> Result<Replay, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.csv");
        std::fs::write(&path, text).unwrap();
        // The reader has the file open, and so outlives the directory.
        Replay::open(&path, speed, repeat).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_come_at_their_times() {
        let mut replay = open("time_ms,item,bid\n100,a,1\n300,b,2\n", 2.0, false).unwrap();
        let mut event = FeedEvent::default();
        assert_eq!(replay.next_due(), Some(Duration::ZERO));
        replay.take(7, &mut event);
        assert_eq!(event.fields[0], ("bid".into(), Some("1".into())));
        assert_eq!(event.fields[1].1.as_deref(), Some("7"));
        assert_eq!(replay.next_due(), Some(Duration::from_millis(100)));
        replay.take(8, &mut event);
        assert_eq!(replay.items()[event.item], "b");
        assert_eq!(replay.next_due(), None);
    }

    #[test]
    fn an_empty_cell_is_a_null_and_the_feeds_own_fields_are_its_own() {
        let text = "time_ms,item,bid,sequence,timestamp\n1,a,,900,5\n";
        let mut replay = open(text, 1.0, false).unwrap();
        let mut event = FeedEvent::default();
        replay.next_due();
        replay.take(7, &mut event);
        let fields = [
            ("bid", None),
            ("timestamp", Some("7")),
            ("sequence", Some("1")),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(event.fields, fields);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, says) in [
            ("item,bid\na,1\n", "time_ms"),
            ("time_ms,item\n5,a\n4,a\n", "line 3"),
            ("time_ms,item\nx,a\n", "line 2"),
            ("time_ms,item\nnan,a\n", "line 2"),
            ("time_ms,item\n1,a\n1e300,a\n", "line 3"),
            ("time_ms,item,x\n1,a,\n2,,5\n", "line 3"),
            ("time_ms,item,x\n1,a,1\n2,b\n", "line: 3"),
            ("time_ms,item,x,x\n1,a,1,2\n", "'x' is there twice"),
            ("", "time_ms"),
            ("time_ms,item\n", "no event"),
        ] {
            let error = open(text, 1.0, false).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
    }
}
