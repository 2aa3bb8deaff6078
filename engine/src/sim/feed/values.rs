//! The values that the feed publishes: every nasty kind, plain numbers, documents and texts that differ little. All of a
//! run's values are made at its start, so that millions of events cost no string.

use crate::tlcp::client::FieldValues;
use serde_json::{Value, json};

/// A value: its place among all values of the run, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(u16);

/// All values of a run.
#[derive(Debug)]
pub struct Values(Vec<String>);

const NASTY: [&str; 16] = [
    "",
    "#",
    "$",
    "^",
    "^3",
    "|",
    "||",
    "%",
    "%41",
    "a,b",
    "\r\n",
    "\0\u{7f}",
    "größe 😀",
    "^P[]",
    "^Td",
    "e\u{301}",
];
const NUMBERS: usize = 50;
const LENGTHS: usize = 20;
const DOCUMENTS: usize = 40;
const TEXTS: usize = 30;
/// No value is longer. See [`super::cast::RECORD_BYTES_MAX`].
pub const BYTES_MAX: usize = 240;

impl Cell {
    /// Null.
    pub const NULL: Self = Self(u16::MAX);
}

impl Values {
    /// All values of a run.
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        let mut all: Vec<String> = NASTY.iter().map(|nasty| (*nasty).to_owned()).collect();
        all.extend((0..NUMBERS).map(|number| number.to_string()));
        all.extend((0..LENGTHS).map(|_| "x".repeat(rng.usize(..200))));
        let mut document: Vec<u8> = (0..12).collect();
        for _ in 0..DOCUMENTS {
            let at = rng.usize(..document.len());
            document[at] = rng.u8(..100);
            let (list, rest) = document.split_at(8);
            all.push(json!({"list": list, "a|b": rest, "text": "of a document"}).to_string());
        }
        let mut text = "plain text of which a word is changed now and then | ".repeat(3);
        for _ in 0..TEXTS {
            let at = rng.usize(..text.len());
            text.replace_range(at..=at, ["", "a", "%", "bc"][rng.usize(..4)]);
            all.push(text.clone());
        }
        debug_assert!(all.iter().all(|value| value.len() <= BYTES_MAX));
        Self(all)
    }

    /// Some value, or null.
    pub fn some(&self, rng: &mut fastrand::Rng) -> Cell {
        let numbers = NASTY.len()..NASTY.len() + NUMBERS;
        let at = match rng.u8(..10) {
            0 => return Cell::NULL,
            1..4 => rng.usize(..NASTY.len()),
            4..7 => rng.usize(numbers.end..self.0.len()),
            _ => rng.usize(numbers),
        };
        Cell(u16::try_from(at).expect("a run has few values"))
    }

    /// The text of a value.
    pub fn text(&self, cell: Cell) -> Option<&str> {
        self.0.get(usize::from(cell.0)).map(String::as_str)
    }

    /// Whether a client's value of a field is this one. A client that was sent a JSON Patch has the document, but perhaps
    /// in other words.
    pub fn is(&self, cell: Cell, shown: &FieldValues, field: usize) -> bool {
        let (shown, text) = (shown.get(field), self.text(cell));
        shown == text
            || shown.zip(text).is_some_and(|(shown, text)| {
                let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
                text.starts_with('{') && parse(text) == parse(shown)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_say_and_not_too_long() {
        let mut rng = fastrand::Rng::with_seed(1);
        let values = Values::new(&mut rng);
        assert_eq!(values.text(Cell::NULL), None);
        assert!(values.0.iter().all(|value| value.len() <= BYTES_MAX));
        let document = values.0.iter().position(|value| value.starts_with('{'));
        let cell = Cell(u16::try_from(document.unwrap()).unwrap());
        let mut shown = FieldValues::new(1);
        let spaced = values.text(cell).unwrap().replace(':', " : ");
        shown.apply(&spaced.replace('|', "%7C")).unwrap();
        assert!(values.is(cell, &shown, 0));
        assert!(!values.is(Cell(0), &shown, 0));
    }
}
