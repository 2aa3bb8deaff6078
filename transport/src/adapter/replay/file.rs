//! A replay's file, read row by row: what a file must look like, and what is wrong with one that does not. Files whose
//! names end in `.ndjson` or `.jsonl` have a JSON object on each line (`json`); all others are CSV:
//!
//! The first line names the columns. `item` says which item a row is about and `time_ms` when it happened, in whole
//! milliseconds from any origin; every other column is a field. An empty cell is a null, quoted or not: CSV has no
//! way to write both null and empty, and in files that people have, an empty cell means "no value".
//!
//! The file is streamed: a file of any length takes one row's memory, and a row has a bound.

use super::json::{JsonFile, JsonRow};
use crate::adapter::record::Field;
use csv::{Position, Reader, ReaderBuilder, StringRecord};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest row. A quote that is never closed would otherwise read the rest of the file into memory (a guess, far
/// above any row that the feed's ring takes).
pub(super) const ROW_BYTES_MAX: usize = 4 << 20;

/// Why a file cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError {
    /// The file.
    pub path: PathBuf,
    /// The line, where the reason has one; the first is 1.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for ReplayError {}

/// An open file, at some row.
pub(super) enum ReplayFile {
    Csv(Box<CsvFile>),
    Json(JsonFile),
}

/// A row of a file.
pub(super) enum Row {
    Csv(StringRecord),
    Json(JsonRow),
}

impl Default for Row {
    fn default() -> Self {
        Self::Csv(StringRecord::new())
    }
}

impl ReplayFile {
    /// Opens a file. With `needs_time` a file without `time_ms` is refused, or its first row is.
    pub(super) fn open(path: &Path, needs_time: bool) -> Result<Self, ReplayError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Ok(match extension {
            Some("ndjson" | "jsonl") => Self::Json(JsonFile::open(path, needs_time)?),
            _ => Self::Csv(Box::new(CsvFile::open(path, needs_time)?)),
        })
    }

    /// Reads the next row into `row` and returns its time, 0 if the file has none. `None` at the end of the file.
    pub(super) fn next(&mut self, row: &mut Row) -> Result<Option<u64>, ReplayError> {
        match (self, row) {
            (Self::Csv(file), Row::Csv(row)) => file.next(row),
            (Self::Json(file), Row::Json(row)) => file.next(row),
            // The first row of a file, or a place that was left empty.
            (Self::Csv(file), row) => {
                let mut record = StringRecord::new();
                let next = file.next(&mut record);
                *row = Row::Csv(record);
                next
            }
            (Self::Json(file), row) => {
                let mut record = JsonRow::default();
                let next = file.next(&mut record);
                *row = Row::Json(record);
                next
            }
        }
    }

    /// Goes back to the first row.
    pub(super) fn rewind(&mut self) -> Result<(), ReplayError> {
        match self {
            Self::Csv(file) => file.rewind(),
            Self::Json(file) => file.rewind(),
        }
    }

    /// The item that a row is about.
    pub(super) fn item<'r>(&self, row: &'r Row) -> &'r str {
        match (self, row) {
            (Self::Csv(file), Row::Csv(row)) => file.columns.item(row),
            (_, Row::Json(row)) => row.item(),
            _ => "",
        }
    }

    /// All fields of a row.
    pub(super) fn fields<'r>(&'r self, row: &'r Row) -> impl Iterator<Item = Field<'r>> + Clone {
        let (csv, json) = match (self, row) {
            (Self::Csv(file), Row::Csv(row)) => (Some(file.columns.fields(row)), None),
            (_, Row::Json(row)) => (None, Some(row.fields())),
            _ => (None, None),
        };
        csv.into_iter().flatten().chain(json.into_iter().flatten())
    }
}

/// A CSV file.
pub(super) struct CsvFile {
    path: PathBuf,
    reader: Reader<Rationed<File>>,
    columns: Columns,
    first_row: Position,
}

/// Which column is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    item: usize,
    time_ms: Option<usize>,
    /// Columns that are fields, with their names.
    fields: Vec<(usize, String)>,
}

impl CsvFile {
    /// Opens a file and reads its header. With `needs_time` a file without `time_ms` is refused.
    pub(super) fn open(path: &Path, needs_time: bool) -> Result<Self, ReplayError> {
        let error = |line, reason| ReplayError {
            path: path.to_owned(),
            line,
            reason,
        };
        let file = File::open(path).map_err(|e| error(None, format!("cannot be opened: {e}")))?;
        let mut reader = ReaderBuilder::new().from_reader(Rationed {
            inner: file,
            bytes_left: ROW_BYTES_MAX,
        });
        let header = reader
            .headers()
            .map_err(|e| csv_error(path, &Position::new(), &e))?
            .clone();
        let columns = Columns::of(&header, needs_time).map_err(|reason| error(Some(1), reason))?;
        let first_row = reader.position().clone();
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns,
            first_row,
        })
    }

    /// Reads the next row into `row` and returns its time, 0 if the file has none. `None` at the end of the file.
    pub(super) fn next(&mut self, row: &mut StringRecord) -> Result<Option<u64>, ReplayError> {
        self.reader.get_mut().bytes_left = ROW_BYTES_MAX;
        let before = self.reader.position().clone();
        let found = self
            .reader
            .read_record(row)
            .map_err(|e| csv_error(&self.path, &before, &e))?;
        if !found {
            return Ok(None);
        }
        let error = |reason| ReplayError {
            path: self.path.clone(),
            line: Some(line_of(&self.path, &before)),
            reason,
        };
        if self.columns.item(row).is_empty() {
            return Err(error("the column `item` is empty".to_owned()));
        }
        let Some(at) = self.columns.time_ms else {
            return Ok(Some(0));
        };
        let text = row.get(at).unwrap_or_default();
        match text.parse() {
            Ok(time_ms) => Ok(Some(time_ms)),
            Err(_) => Err(error(format!(
                "`time_ms` is {text:?}, not a whole number of milliseconds"
            ))),
        }
    }

    /// Goes back to the first row.
    pub(super) fn rewind(&mut self) -> Result<(), ReplayError> {
        self.reader
            .seek(self.first_row.clone())
            .map_err(|e| csv_error(&self.path, &self.first_row, &e))
    }
}

impl Columns {
    fn of(header: &StringRecord, needs_time: bool) -> Result<Self, String> {
        let mut columns = Self {
            item: usize::MAX,
            time_ms: None,
            fields: Vec::new(),
        };
        for (at, name) in header.iter().enumerate() {
            if name.is_empty() {
                return Err(format!("column {} has no name", at + 1));
            }
            if header.iter().take(at).any(|earlier| earlier == name) {
                return Err(format!("there are two columns `{name}`"));
            }
            match name {
                "item" => columns.item = at,
                "time_ms" => columns.time_ms = Some(at),
                _ => columns.fields.push((at, name.to_owned())),
            }
        }
        if columns.item == usize::MAX {
            return Err("there is no column `item`".to_owned());
        }
        if needs_time && columns.time_ms.is_none() {
            return Err(
                "there is no column `time_ms`, which a replay at a speed goes by; give a rate instead"
                    .to_owned(),
            );
        }
        if columns.fields.is_empty() {
            return Err("there is no column for a field".to_owned());
        }
        Ok(columns)
    }

    /// The item that a row is about.
    pub(super) fn item<'r>(&self, row: &'r StringRecord) -> &'r str {
        row.get(self.item).unwrap_or_default()
    }

    /// All fields of a row. All, since in DISTINCT mode a field that an event does not name is null.
    pub(super) fn fields<'r>(
        &'r self,
        row: &'r StringRecord,
    ) -> impl Iterator<Item = Field<'r>> + Clone {
        self.fields.iter().map(|(at, name)| {
            let value = row.get(*at).filter(|value| !value.is_empty());
            (name.as_str(), value)
        })
    }
}

/// `before` is where the reader stood when it was asked for the row.
fn csv_error(path: &Path, before: &Position, error: &csv::Error) -> ReplayError {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("the row has {len} columns, the header {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("column {} is not UTF-8", err.field() + 1),
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    };
    ReplayError {
        path: path.to_owned(),
        line: Some(line_of(path, before)),
        reason,
    }
}

/// The line on which the row behind `before` begins. The reader's own count is short by what it skips when it goes on:
/// empty lines, and the second half of a CR LF. Looked up in the file, since it is only wanted once, for a complaint.
fn line_of(path: &Path, before: &Position) -> u64 {
    let skipped = || -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(before.byte()))?;
        let mut newlines = 0;
        for byte in BufReader::new(file).bytes() {
            match byte? {
                b'\n' => newlines += 1,
                b'\r' => {}
                _ => break,
            }
        }
        Ok(newlines)
    };
    // A file that cannot be read any more gives the reader's count, which is better than none.
    before.line() + skipped().unwrap_or(0)
}

/// A reader that refuses to go on when a row has used up its ration.
struct Rationed<R> {
    inner: R,
    bytes_left: usize,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes_left == 0 {
            return Err(io::Error::other(format!(
                "the row is longer than {ROW_BYTES_MAX} bytes; is a quote never closed?"
            )));
        }
        let read = self.inner.read(buffer)?;
        self.bytes_left = self.bytes_left.saturating_sub(read);
        Ok(read)
    }
}

impl<R: Seek> Seek for Rationed<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Reads a file of this text to its end: the rows as (time, item, fields), or the complaint as line and reason.
    #[allow(clippy::type_complexity)]
    fn read(
        text: impl AsRef<[u8]>,
        needs_time: bool,
    ) -> Result<Vec<(u64, String, Vec<(String, Option<String>)>)>, (Option<u64>, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.csv");
        fs::write(&path, text).unwrap();
        let complaint = |error: ReplayError| (error.line, error.reason);
        let mut file = CsvFile::open(&path, needs_time).map_err(complaint)?;
        let mut row = StringRecord::new();
        let mut rows = Vec::new();
        while let Some(time_ms) = file.next(&mut row).map_err(complaint)? {
            let columns = &file.columns;
            let fields = columns
                .fields(&row)
                .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)));
            rows.push((time_ms, columns.item(&row).to_owned(), fields.collect()));
        }
        Ok(rows)
    }

    fn field(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(ToOwned::to_owned))
    }

    #[test]
    fn rows_are_read_in_any_order_of_columns() {
        let rows = read(
            "\u{feff}bid,item,time_ms,ask\n1.5,EUR/USD,0,\n\"1,6\",\"a \"\"b\"\"\",20,\"\"\r\n",
            true,
        );
        assert_eq!(
            rows.unwrap(),
            [
                (
                    0,
                    "EUR/USD".into(),
                    vec![field("bid", Some("1.5")), field("ask", None)]
                ),
                (
                    20,
                    "a \"b\"".into(),
                    vec![field("bid", Some("1,6")), field("ask", None)]
                ),
            ]
        );
    }

    #[test]
    fn complaints_name_the_line_and_the_reason() {
        for (text, line, reason) in [
            ("", 1, "no column `item`"),
            ("bid,ask\n1,2\n", 1, "no column `item`"),
            ("item,bid\nA,1\n", 1, "no column `time_ms`"),
            ("item,time_ms\nA,1\n", 1, "no column for a field"),
            ("item,time_ms,bid,bid\n", 1, "two columns `bid`"),
            ("item,,time_ms\n", 1, "column 2 has no name"),
            (
                "item,time_ms,bid\nA,0,1\nA,1\n",
                3,
                "the row has 2 columns, the header 3",
            ),
            (
                "item,time_ms,bid\nA,0,1\nA,0,1,2\n",
                3,
                "the row has 4 columns, the header 3",
            ),
            ("item,time_ms,bid\nA,soon,1\n", 2, "\"soon\""),
            ("item,time_ms,bid\nA,-1,1\n", 2, "\"-1\""),
            ("item,time_ms,bid\nA,1.5,1\n", 2, "\"1.5\""),
            ("item,time_ms,bid\n\n\nA,,1\n", 4, "`time_ms` is \"\""),
            ("item,time_ms,bid\r\nA,0,1\r\nA,x,1\r\n", 3, "\"x\""),
            ("item,time_ms,bid\r\nA,0,1\r\nA,1\r\n", 3, "2 columns"),
            ("item,time_ms,bid\nA,0,\"1\n2\"\nA,x,1\n", 4, "\"x\""),
            ("item,time_ms,bid\n,0,1\n", 2, "`item` is empty"),
        ] {
            let (found_line, found) = read(text, true).unwrap_err();
            assert!(found.contains(reason), "{text:?}: {found}");
            assert_eq!(found_line, Some(line), "{text:?}: {found}");
        }
        let (line, reason) = read(b"item,bid\nA,1\nA,\xff\n", false).unwrap_err();
        assert_eq!((line, reason.as_str()), (Some(3), "column 2 is not UTF-8"));
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_eat_the_memory() {
        let text = format!("item,bid\nA,\"{}", "1,2\n".repeat(ROW_BYTES_MAX / 2));
        let (line, reason) = read(text, false).unwrap_err();
        assert!(reason.contains("never closed"), "{reason}");
        assert_eq!(line, Some(2));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = CsvFile::open(Path::new("no/such/feed.csv"), false)
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .starts_with("no/such/feed.csv: cannot be opened")
        );
    }

    #[test]
    fn a_rewound_file_begins_with_its_first_row_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.csv");
        // Longer than the reader's buffer, so that the seek is a real one.
        let rows: String = (0..5_000).map(|row| format!("A,{row}\n")).collect();
        fs::write(&path, format!("item,bid\n{rows}")).unwrap();
        let mut file = CsvFile::open(&path, false).unwrap();
        let mut row = StringRecord::new();
        for _ in 0..2 {
            let mut count = 0;
            while file.next(&mut row).unwrap().is_some() {
                assert_eq!(row.get(1), Some(count.to_string().as_str()));
                assert_eq!(row.position().map(Position::line), Some(count + 2));
                count += 1;
            }
            assert_eq!(count, 5_000);
            file.rewind().unwrap();
        }
    }
}
