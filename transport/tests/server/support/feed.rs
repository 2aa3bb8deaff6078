//! A feed whose rows prove themselves: every field is a function of a running number, so that a client whose base for
//! "unchanged" is wrong sees it at once.

use std::fmt::Write;

use engine::tlcp::client::{FieldValues, Line};

/// The item of the feed.
pub const ITEM: &str = "counter";
const SCHEMA: &str = "n%20tens%20hundreds%20text";
const FIELDS: usize = 4;

/// A file for the adapter REPLAY.
pub struct Feed {
    pub rows: u64,
    text_bytes: usize,
}

/// What one client knows of the feed's item, checked with every update.
pub struct Counted {
    values: FieldValues,
    text_bytes: usize,
    /// The number of the latest row.
    pub last: Option<u64>,
    /// Updates taken.
    pub updates: u64,
}

impl Feed {
    /// Rows numbered from 0, with a text of so many bytes each.
    pub const fn new(rows: u64, text_bytes: usize) -> Self {
        Self { rows, text_bytes }
    }

    /// The file.
    pub fn csv(&self) -> String {
        let mut csv = String::from("item,n,tens,hundreds,text\n");
        for n in 0..self.rows {
            let _ = writeln!(
                csv,
                "{ITEM},{n},{},{},{n:0>2$}",
                n / 10,
                n / 100,
                self.text_bytes
            );
        }
        csv
    }

    /// The request that subscribes to it.
    pub fn subscribe(&self, sub_id: u32, session: &str) -> String {
        format!(
            "control\r\nLS_reqId=add{sub_id}&LS_op=add&LS_subId={sub_id}&LS_data_adapter=REPLAY&LS_mode=MERGE\
             &LS_group={ITEM}&LS_schema={SCHEMA}&LS_snapshot=true&LS_session={session}"
        )
    }

    /// A client's view before the first update.
    pub fn counted(&self) -> Counted {
        Counted {
            values: FieldValues::new(FIELDS),
            text_bytes: self.text_bytes,
            last: None,
            updates: 0,
        }
    }
}

impl Counted {
    /// Takes a line, which may be an update of this item. The row must be one of the file and a later one than before.
    pub fn take(&mut self, line: &str) -> Option<u64> {
        let Ok(Line::Update {
            item: 1, values, ..
        }) = Line::parse(line)
        else {
            return None;
        };
        self.values
            .apply(values)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
        let field = |field| self.values.get(field).unwrap();
        let n: u64 = field(0).parse().unwrap();
        assert_eq!(field(1), (n / 10).to_string(), "row {n}");
        assert_eq!(field(2), (n / 100).to_string(), "row {n}");
        assert_eq!(field(3), format!("{n:0>0$}", self.text_bytes), "row {n}");
        assert!(
            self.last.is_none_or(|last| last < n),
            "row {n} after {:?}",
            self.last
        );
        self.last = Some(n);
        self.updates += 1;
        Some(n)
    }
}
