//! JSON Patch: what to add, remove and replace in a document.
//!
//! Numbers go out with the digits they came with, and members of an object in their order: the parser keeps both
//! (features `arbitrary_precision` and `preserve_order`), so a price is never rounded on its way. Only the mark of an
//! exponent is spelled anew: `1E5` goes out as `1e+5`.

use json_patch::PatchOperation;
use serde_json::Value;

/// The patch that makes `current` of `previous`, if both are JSON documents and there is one that every client takes.
pub fn between(previous: &str, current: &str) -> Option<String> {
    let (previous, current) = (parse(previous)?, parse(current)?);
    let patch = json_patch::diff(&previous, &current);
    // The same document in another spelling: the publisher may have a reason for it.
    if patch.is_empty() || !patch.iter().all(is_safe) {
        return None;
    }
    serde_json::to_string(&patch).ok()
}

fn parse(text: &str) -> Option<Value> {
    // Objects and arrays only: a number or a string is as short as its patch. And the parser takes an object with
    // this member for a number, which the client does not.
    if !text.trim_start().starts_with(['{', '[']) || text.contains("$serde_json::private") {
        return None;
    }
    // Deeper than 128 levels is an error here, which bounds every recursion over the value.
    serde_json::from_str(text).ok()
}

/// Libraries in JavaScript refuse paths that could reach an object's prototype, and the client then gives up.
fn is_safe(operation: &PatchOperation) -> bool {
    !operation
        .path()
        .tokens()
        .any(|token| matches!(&*token.decoded(), "__proto__" | "constructor" | "prototype"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(previous: &str, current: &str) -> String {
        between(previous, current).unwrap_or_default()
    }

    #[test]
    fn a_member_is_replaced_added_and_removed() {
        assert_eq!(
            patch(r#"{"a":1,"b":{"c":"x"}}"#, r#"{"a":1,"b":{"c":"y"}}"#),
            r#"[{"op":"replace","path":"/b/c","value":"y"}]"#
        );
        assert_eq!(
            patch(r#"{"a":1}"#, r#"{"b":2}"#),
            r#"[{"op":"add","path":"/b","value":2},{"op":"remove","path":"/a"}]"#
        );
        assert_eq!(
            patch("[1,2,3]", "[1]"),
            r#"[{"op":"remove","path":"/1"},{"op":"remove","path":"/1"}]"#
        );
    }

    #[test]
    fn numbers_keep_their_digits() {
        let current = r#"{"a":1.10,"b":12345678901234567890.0,"c":1E5,"d":-0,"e":1e+400}"#;
        let numbers = ["1.10", "12345678901234567890.0", "1e+5", "-0", "1e+400"];
        let patch = patch(r#"{"a":1.1,"b":0,"c":0,"d":0,"e":0}"#, current);
        for number in numbers {
            assert!(patch.contains(&format!(r#""value":{number}}}"#)), "{patch}");
        }
    }

    #[test]
    fn names_are_escaped_as_pointers_are() {
        assert_eq!(
            patch(r#"{"a/b~c":1,"":2}"#, r#"{"a/b~c":3,"":4}"#),
            r#"[{"op":"replace","path":"/a~1b~0c","value":3},{"op":"replace","path":"/","value":4}]"#
        );
    }

    #[test]
    fn members_of_a_new_object_keep_their_order() {
        assert_eq!(
            patch(r#"{"a":1}"#, r#"{"a":{"z":1,"b":2}}"#),
            r#"[{"op":"replace","path":"/a","value":{"z":1,"b":2}}]"#
        );
    }

    #[test]
    fn what_is_no_document_or_no_change_has_no_patch() {
        for (previous, current) in [
            ("text", r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1"#),
            (r#"{"a":1}"#, r#"{"a":"\ud800"}"#),
            (r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#),
            ("1", "2"),
            (
                r#"{"a":{"$serde_json::private::Number":"1"}}"#,
                r#"{"a":2}"#,
            ),
        ] {
            assert_eq!(between(previous, current), None, "{previous} -> {current}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(between(&deep, "[]"), None);
    }

    #[test]
    fn paths_that_clients_refuse_are_not_used() {
        assert_eq!(
            between(r#"{"a":{"__proto__":1}}"#, r#"{"a":{"__proto__":2}}"#),
            None
        );
    }
}
