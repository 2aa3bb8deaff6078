//! A replay's file of JSON lines: one object on each.
//!
//! Member `item` says which item a row is about and `time_ms` when it happened, in whole milliseconds from any origin; every
//! other member is a field. A row has the fields that it names, unlike a row of CSV, which has all: in MERGE mode the others
//! keep their values. Text is taken as it is, `null` is a null, and numbers and booleans are written as text; a number
//! whose digits matter (`1.10`) should be text in the file. Objects and lists inside are refused: as text they are values
//! like others.
//!
//! The file is streamed: it takes one line's memory, and a line has a bound. Lines are parsed into a flat list, so that no
//! depth of brackets can exhaust the stack.

use super::file::{ROW_BYTES_MAX, ReplayError};
use crate::adapter::record::Field;
use simd_json::{Node, StaticNode};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// An open file, at some line.
pub(super) struct JsonFile {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// Of the line that was read last.
    number: u64,
    needs_time: bool,
}

/// A row.
#[derive(Default)]
pub(super) struct JsonRow {
    item: String,
    fields: Vec<(String, Option<String>)>,
}

impl JsonRow {
    pub(super) fn item(&self) -> &str {
        &self.item
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        let fields = self.fields.iter();
        fields.map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl JsonFile {
    /// Opens a file. With `needs_time` a row without `time_ms` is refused.
    pub(super) fn open(path: &Path, needs_time: bool) -> Result<Self, ReplayError> {
        let file = File::open(path).map_err(|error| ReplayError {
            path: path.to_owned(),
            line: None,
            reason: format!("cannot be opened: {error}"),
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            line: Vec::new(),
            number: 0,
            needs_time,
        })
    }

    /// Reads the next row into `row` and returns its time, 0 if it has none. `None` at the end of the file.
    pub(super) fn next(&mut self, row: &mut JsonRow) -> Result<Option<u64>, ReplayError> {
        loop {
            self.line.clear();
            let bound = ROW_BYTES_MAX as u64 + 1;
            let read = (&mut self.reader)
                .take(bound)
                .read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| self.error(error.to_string()))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read > ROW_BYTES_MAX {
                return Err(self.error(format!("the line is longer than {ROW_BYTES_MAX} bytes")));
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                let time_ms = parse(&mut self.line, row).map_err(|reason| self.error(reason))?;
                return match time_ms {
                    None if self.needs_time => Err(self.error(
                        "there is no `time_ms`, which a replay at a speed goes by; give a rate instead"
                            .to_owned(),
                    )),
                    time_ms => Ok(Some(time_ms.unwrap_or(0))),
                };
            }
        }
    }

    /// Goes back to the first row.
    pub(super) fn rewind(&mut self) -> Result<(), ReplayError> {
        self.number = 0;
        let sought = self.reader.seek(SeekFrom::Start(0));
        sought
            .map(drop)
            .map_err(|error| self.error(error.to_string()))
    }

    fn error(&self, reason: String) -> ReplayError {
        ReplayError {
            path: self.path.clone(),
            line: (self.number > 0).then_some(self.number),
            reason,
        }
    }
}

/// Reads a line, which is used up, into a row, and returns its time.
fn parse(line: &mut [u8], row: &mut JsonRow) -> Result<Option<u64>, String> {
    row.item.clear();
    row.fields.clear();
    let mut time_ms = None;
    let tape = simd_json::to_tape(line).map_err(|error| format!("is not JSON: {error}"))?;
    let Some((Node::Object { .. }, members)) = tape.0.split_first() else {
        return Err("is not an object".to_owned());
    };
    let mut members = members.iter();
    while let Some(Node::String(name)) = members.next() {
        let value = match members.next() {
            Some(Node::String(text)) => Some((*text).to_owned()),
            Some(Node::Static(StaticNode::Null)) => None,
            Some(Node::Static(StaticNode::Bool(value))) => Some(value.to_string()),
            Some(Node::Static(StaticNode::I64(value))) => Some(value.to_string()),
            Some(Node::Static(StaticNode::U64(value))) => Some(value.to_string()),
            Some(Node::Static(StaticNode::F64(value))) => Some(value.to_string()),
            _ => return Err(format!("`{name}` is an object or a list; write it as text")),
        };
        match *name {
            "item" => row.item = value.unwrap_or_default(),
            "time_ms" => {
                let text = value.as_deref().unwrap_or("null");
                let whole = text.parse().map_err(|_| {
                    format!("`time_ms` is {text}, not a whole number of milliseconds")
                })?;
                time_ms = Some(whole);
            }
            "" => return Err("a member has no name".to_owned()),
            name => row.fields.push((name.to_owned(), value)),
        }
    }
    if row.item.is_empty() {
        return Err("there is no `item`, or it is empty".to_owned());
    }
    Ok(time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    type Rows = Vec<(u64, String, Vec<(String, Option<String>)>)>;

    /// Reads a file of this text to its end, twice; or the complaint as line and reason.
    fn read(text: impl AsRef<[u8]>, needs_time: bool) -> Result<Rows, (Option<u64>, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        fs::write(&path, text).unwrap();
        let complaint = |error: ReplayError| (error.line, error.reason);
        let mut file = JsonFile::open(&path, needs_time).map_err(complaint)?;
        let mut passes = Vec::new();
        for _ in 0..2 {
            let mut row = JsonRow::default();
            let mut rows = Rows::new();
            while let Some(time_ms) = file.next(&mut row).map_err(complaint)? {
                rows.push((time_ms, row.item.clone(), row.fields.clone()));
            }
            passes.push(rows);
            file.rewind().map_err(complaint)?;
        }
        assert_eq!(passes[0], passes[1]);
        Ok(passes.swap_remove(0))
    }

    fn field(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(ToOwned::to_owned))
    }

    #[test]
    fn values_become_text() {
        let text = "{\"item\":\"A\",\"time_ms\":5,\"bid\":\"1.10\",\"ask\":1.25,\"n\":-3,\"up\":true,\"note\":null}\n\
                    \n  \r\n{\"big\":18446744073709551615,\"s\":\"\\u00e4\\n\",\"item\":\"B\"}";
        let rows = read(text, false).unwrap();
        let fields = vec![
            field("bid", Some("1.10")),
            field("ask", Some("1.25")),
            field("n", Some("-3")),
            field("up", Some("true")),
            field("note", None),
        ];
        assert_eq!(rows[0], (5, "A".into(), fields));
        let fields = vec![
            field("big", Some("18446744073709551615")),
            field("s", Some("ä\n")),
        ];
        assert_eq!(rows[1], (0, "B".into(), fields));
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn complaints_name_the_line_and_the_reason() {
        for (text, line, reason) in [
            (
                "{\"item\":\"A\",\"time_ms\":1}\n{\"item\":\"A\"",
                2,
                "is not JSON",
            ),
            (
                "{\"item\":\"A\",\"time_ms\":1}\n\n[1]",
                3,
                "is not an object",
            ),
            ("{\"bid\":\"1\",\"time_ms\":1}", 1, "no `item`"),
            ("{\"item\":null,\"time_ms\":1}", 1, "no `item`"),
            ("{\"item\":\"A\"}", 1, "no `time_ms`"),
            ("{\"item\":\"A\",\"time_ms\":1.5}", 1, "`time_ms` is 1.5"),
            ("{\"item\":\"A\",\"time_ms\":-1}", 1, "`time_ms` is -1"),
            ("{\"item\":\"A\",\"time_ms\":null}", 1, "`time_ms` is null"),
            (
                "{\"item\":\"A\",\"x\":{\"y\":1},\"time_ms\":1}",
                1,
                "`x` is an object or a list",
            ),
            ("{\"item\":\"A\",\"\":1}", 1, "no name"),
        ] {
            let (found_line, found) = read(text, true).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
            assert_eq!(found_line, Some(line), "{text}: {found}");
        }
        let (line, _) = read(b"{\"item\":\"\xff\"}\n", false).unwrap_err();
        assert_eq!(line, Some(1));
    }

    #[test]
    fn neither_length_nor_depth_does_harm() {
        let deep = format!("{{\"item\":\"A\",\"x\":{}", "[".repeat(1 << 20));
        assert!(read(deep, false).is_err());
        let long = format!("{{\"item\":\"{}\"}}", "A".repeat(ROW_BYTES_MAX));
        let (line, reason) = read(long, false).unwrap_err();
        assert_eq!((line, reason.contains("longer than")), (Some(1), true));
    }
}
