//! The values of one item as its client knows them.

use std::fmt;

use super::diff::{apply_patch, apply_text};
use crate::text::{Plus, percent_decode, percent_decode_into};
use serde_json::Value;

/// The current field values of one item of one subscription: applies the field list of each `U` to the values of the
/// one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValues {
    values: Vec<Option<String>>,
    /// The parsed values of fields that came as JSON Patch since they came in full; empty as long as there was none.
    documents: Vec<Option<Value>>,
    /// A list has been applied: there is something for "unchanged" to refer to.
    started: bool,
}

/// What is wrong with a field list. The values are void after it, as they would be in a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadUpdate {
    /// The list covers fewer or more fields than the schema has.
    FieldCount,
    /// A field, counted from 1, is unchanged, and there is no value before it.
    NoBase(usize),
    /// A field starts with `#`, `$` or `^` and is not one of the markers.
    Marker(usize),
    /// A field cannot be decoded.
    Escape(usize),
    /// A field is a difference (`^P`, `^T`) that does not fit its last value; `^T` never fits after `^P`.
    Diff(usize),
}

impl fmt::Display for BadUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadUpdate::FieldCount => f.write_str("the list does not cover the schema"),
            BadUpdate::NoBase(field) => write!(f, "field {field} is unchanged in the first update"),
            BadUpdate::Marker(field) => write!(f, "field {field} has an unknown marker"),
            BadUpdate::Escape(field) => write!(f, "field {field} is badly encoded"),
            BadUpdate::Diff(field) => write!(f, "field {field} is a difference that does not fit"),
        }
    }
}

impl std::error::Error for BadUpdate {}

impl FieldValues {
    /// An item of a schema of `fields` fields, before its first update.
    pub fn new(fields: usize) -> FieldValues {
        FieldValues {
            values: vec![None; fields],
            documents: Vec::new(),
            started: false,
        }
    }

    /// Applies the field list of a `U`.
    pub fn apply(&mut self, list: &str) -> Result<(), BadUpdate> {
        let covered = self.apply_tokens(list);
        let whole = covered.and_then(|fields| match fields == self.values.len() {
            true => Ok(()),
            false => Err(BadUpdate::FieldCount),
        });
        self.started = whole.is_ok();
        whole
    }

    /// Whether there has been an update.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The values, in the order of the schema.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.values.iter().map(Option::as_deref)
    }

    /// The value of a field, counted from 0; `None` for null, and for a field that does not exist.
    pub fn get(&self, field: usize) -> Option<&str> {
        self.values.get(field)?.as_deref()
    }

    /// Returns how many fields the list covers.
    fn apply_tokens(&mut self, list: &str) -> Result<usize, BadUpdate> {
        if self.values.is_empty() && list.is_empty() {
            return Ok(0);
        }
        let mut field = 0;
        for token in list.split('|') {
            field += match token.as_bytes() {
                [] => self.keep(field, 1)?,
                [b'^', format @ (b'P' | b'T'), ..] => {
                    self.edit(field, *format == b'P', &token[2..])?
                }
                [b'^', ..] => self.keep(
                    field,
                    run_length(token).ok_or(BadUpdate::Marker(field + 1))?,
                )?,
                b"#" => self.set(field, |value| {
                    *value = None;
                    Ok(())
                })?,
                b"$" => self.set(field, |value| {
                    value.get_or_insert_default().clear();
                    Ok(())
                })?,
                [b'#' | b'$', ..] => return Err(BadUpdate::Marker(field + 1)),
                _ => self.set(field, |value| {
                    let value = value.get_or_insert_default();
                    value.clear();
                    percent_decode_into(token, value).map_err(|_| BadUpdate::Escape(field + 1))
                })?,
            };
        }
        Ok(field)
    }

    fn keep(&mut self, field: usize, run: usize) -> Result<usize, BadUpdate> {
        if !self.started {
            return Err(BadUpdate::NoBase(field + 1));
        }
        // A run beyond the schema must not add up to something that looks right.
        if run > self.values.len() - field.min(self.values.len()) {
            return Err(BadUpdate::FieldCount);
        }
        Ok(run)
    }

    /// Applies a difference to the value that is there.
    fn edit(&mut self, field: usize, patch: bool, token: &str) -> Result<usize, BadUpdate> {
        if !self.started {
            return Err(BadUpdate::NoBase(field + 1));
        }
        let fields = self.values.len();
        let value = self.values.get_mut(field).ok_or(BadUpdate::FieldCount)?;
        let misfit = BadUpdate::Diff(field + 1);
        let value = value.as_mut().filter(|value| !value.is_empty());
        let value = value.ok_or(misfit)?;
        let script =
            percent_decode(token, Plus::IsPlus).map_err(|_| BadUpdate::Escape(field + 1))?;
        if patch {
            self.documents.resize(fields, None);
            let document = match &mut self.documents[field] {
                Some(document) => document,
                none => none.insert(serde_json::from_str(value).map_err(|_| misfit)?),
            };
            apply_patch(document, &script).ok_or(misfit)?;
            *value = document.to_string();
        } else {
            if self.documents.get(field).is_some_and(Option::is_some) {
                return Err(misfit);
            }
            *value = apply_text(value, &script).ok_or(misfit)?;
        }
        Ok(1)
    }

    fn set(
        &mut self,
        field: usize,
        set: impl FnOnce(&mut Option<String>) -> Result<(), BadUpdate>,
    ) -> Result<usize, BadUpdate> {
        set(self.values.get_mut(field).ok_or(BadUpdate::FieldCount)?)?;
        if let Some(document) = self.documents.get_mut(field) {
            *document = None;
        }
        Ok(1)
    }
}

/// The length in `^<length>`: at least one, without leading zeros.
fn run_length(token: &str) -> Option<usize> {
    let digits = token.strip_prefix('^')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values after applying lists to a schema of `fields` fields, null as `~`.
    fn after(fields: usize, lists: &[&str]) -> Result<String, BadUpdate> {
        let mut values = FieldValues::new(fields);
        for list in lists {
            values.apply(list)?;
        }
        Ok(values
            .iter()
            .map(|value| value.unwrap_or("~"))
            .collect::<Vec<_>>()
            .join("/"))
    }

    #[test]
    fn markers_are_null_and_the_empty_string() {
        assert_eq!(after(4, &["a|#|$|%23"]), Ok("a/~//#".into()));
        assert_eq!(after(2, &["a|b", "#|$"]), Ok("~/".into()));
    }

    #[test]
    fn unchanged_fields_keep_their_values() {
        let first = "Anduct|3.04|20:00:33|3.03|#|$";
        assert_eq!(
            after(6, &[first, "|3.07|20:00:54|||", "|3.1|^4"]),
            Ok("Anduct/3.1/20:00:54/3.03/~/".into())
        );
        assert_eq!(
            after(6, &[first, "^6"]),
            Ok("Anduct/3.04/20:00:33/3.03/~/".into())
        );
        assert_eq!(
            after(6, &[first, "^4|x|"]),
            Ok("Anduct/3.04/20:00:33/3.03/x/".into())
        );
        assert_eq!(after(1, &["a", ""]), Ok("a".into()));
    }

    #[test]
    fn rows_of_a_command_item_share_one_base() {
        assert_eq!(after(4, &["a|b|k1|ADD", "c||k2|"]), Ok("c/b/k2/ADD".into()));
    }

    #[test]
    fn a_list_must_cover_the_schema() {
        for list in [
            "a|b",
            "a|b|c|d",
            "a",
            "a|^1",
            "a|^3",
            "^4",
            "^2",
            "a|||",
            "^18446744073709551615|a",
        ] {
            assert_eq!(
                after(3, &["x|y|z", list]),
                Err(BadUpdate::FieldCount),
                "{list}"
            );
        }
        assert_eq!(after(0, &["", ""]), Ok(String::new()));
        assert_eq!(after(0, &["a"]), Err(BadUpdate::FieldCount));
    }

    #[test]
    fn the_first_list_has_no_base() {
        assert_eq!(after(2, &["a|"]), Err(BadUpdate::NoBase(2)));
        assert_eq!(after(2, &["^2"]), Err(BadUpdate::NoBase(1)));
    }

    #[test]
    fn after_an_error_there_is_no_base() {
        let mut values = FieldValues::new(2);
        values.apply("a|b").unwrap();
        values.apply("c|%").unwrap_err();
        assert_eq!(values.apply("c|"), Err(BadUpdate::NoBase(2)));
    }

    #[test]
    fn unknown_markers_and_bad_escapes_are_refused() {
        for list in [
            "a|#b", "a|$$", "a|^", "a|^0", "a|^01", "a|^x", "a|^-1", "a|^+1",
        ] {
            assert_eq!(
                after(2, &["x|y", list]),
                Err(BadUpdate::Marker(2)),
                "{list}"
            );
        }
        for list in ["a|%", "a|%4", "a|%FF", "a|x%GG"] {
            assert_eq!(
                after(2, &["x|y", list]),
                Err(BadUpdate::Escape(2)),
                "{list}"
            );
        }
    }

    #[test]
    fn differences_apply_to_the_last_value() {
        let document = r#"{"a":"b%7Cc","d":[1,2]}"#;
        let patch = r#"^P[{"op":"replace","path":"/d/1","value":"x%7Cy"}]"#;
        assert_eq!(
            after(1, &[document, patch]),
            Ok(r#"{"a":"b|c","d":[1,"x|y"]}"#.into())
        );
        let text = "plain text of the document";
        assert_eq!(
            after(2, &["1|x", &format!("|{text}"), "|^Tgfrich au", "2|"]),
            Ok("2/plain rich text of the document".into())
        );
    }

    #[test]
    fn after_a_patch_only_a_full_value_makes_text_of_it() {
        let patch = r#"^P[{"op":"replace","path":"/0","value":2}]"#;
        assert_eq!(after(1, &["[1]", patch, "", patch]), Ok("[2]".into()));
        assert_eq!(after(1, &["[1]", patch, "^Tb"]), Err(BadUpdate::Diff(1)));
        assert_eq!(after(1, &["[1]", patch, "[3]", "^Tb"]), Ok("[".into()));
    }

    #[test]
    fn differences_that_do_not_fit_are_refused() {
        for (value, edit) in [("#", "^Td"), ("$", "^Td"), ("y", "^Td"), ("y", "^P[]")] {
            assert_eq!(
                after(2, &["x|y", &format!("x|{value}"), &format!("|{edit}")]),
                Err(BadUpdate::Diff(2)),
                "{value} {edit}"
            );
        }
        assert_eq!(after(1, &["^Td"]), Err(BadUpdate::NoBase(1)));
        assert_eq!(after(1, &["x", "^Tb%"]), Err(BadUpdate::Escape(1)));
    }
}
