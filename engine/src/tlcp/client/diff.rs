//! Value differences as a client applies them: written from the page, and without the libraries that make them.

use serde_json::Value;

/// Applies a TLCP-diff to the text before. `None` for a script that any official client would refuse or that two of
/// them could read differently: texts must be safe to count in (see `engine::tlcp::diff`).
pub fn apply_text(previous: &str, script: &str) -> Option<String> {
    let mut base = safe(previous)?.into_iter();
    let mut script = script.chars();
    let mut result = String::new();
    while let Some(copied) = number(&mut script)? {
        result.extend(take(&mut base, copied)?);
        let Some(added) = number(&mut script)? else {
            break;
        };
        result.extend(take(&mut script, added)?);
        let Some(deleted) = number(&mut script)? else {
            break;
        };
        take(&mut base, deleted)?;
    }
    safe(&result)?;
    Some(result)
}

fn safe(text: &str) -> Option<Vec<char>> {
    let countable = text.chars().all(|char| char < '\u{300}') && !text.contains("\r\n");
    countable.then(|| text.chars().collect())
}

fn take(from: &mut impl Iterator<Item = char>, length: usize) -> Option<Vec<char>> {
    let taken: Vec<char> = from.take(length).collect();
    (taken.len() == length).then_some(taken)
}

/// The next number: digits in upper case, the last one in lower case. `Some(None)` at the end of the script.
fn number(script: &mut impl Iterator<Item = char>) -> Option<Option<usize>> {
    let mut number: usize = 0;
    let mut begun = false;
    for char in script {
        let (first, last) = match char {
            'a'..='z' => ('a', true),
            'A'..='Z' => ('A', false),
            _ => return None,
        };
        let digit = char as usize - first as usize;
        number = number.checked_mul(26)?.checked_add(digit)?;
        if last {
            return Some(Some(number));
        }
        if !begun && digit == 0 {
            return None; // a leading zero
        }
        begun = true;
    }
    (!begun).then_some(None)
}

/// Applies a JSON Patch to a document. `None` if an operation is none of add, remove and replace, or does not fit.
pub fn apply_patch(document: &mut Value, patch: &str) -> Option<()> {
    let operations: Value = serde_json::from_str(patch).ok()?;
    for operation in operations.as_array()? {
        let name = operation.get("op")?.as_str()?;
        let path = operation.get("path")?.as_str()?;
        let value = operation.get("value").cloned();
        let Some((parent, last)) = path.rsplit_once('/') else {
            // The whole document.
            if !path.is_empty() || name != "replace" {
                return None;
            }
            *document = value?;
            continue;
        };
        let last = unescape(last)?;
        match follow(document, parent)? {
            Value::Object(members) => match name {
                "add" => drop(members.insert(last, value?)),
                "replace" => *members.get_mut(&last)? = value?,
                "remove" => drop(members.remove(&last)?),
                _ => return None,
            },
            Value::Array(elements) => {
                let at = index(&last)?;
                match name {
                    "add" if at <= elements.len() => elements.insert(at, value?),
                    "replace" => *elements.get_mut(at)? = value?,
                    "remove" if at < elements.len() => drop(elements.remove(at)),
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    Some(())
}

fn follow<'a>(document: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut at = document;
    // A path is empty, or begins with its first separator.
    for token in path.split('/').skip(1) {
        let token = unescape(token)?;
        at = match at {
            Value::Object(members) => members.get_mut(&token)?,
            Value::Array(elements) => elements.get_mut(index(&token)?)?,
            _ => return None,
        };
    }
    Some(at)
}

/// `~1` is `/` and `~0` is `~`; nothing else follows a `~`.
fn unescape(token: &str) -> Option<String> {
    let mut out = String::new();
    let mut parts = token.split('~');
    out.push_str(parts.next()?);
    for part in parts {
        out.push(match part.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        out.push_str(&part[1..]);
    }
    Some(out)
}

fn index(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|byte| byte.is_ascii_digit())
        && (token == "0" || !token.starts_with('0'));
    plain.then(|| token.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_the_page() {
        for (previous, script, result) in [
            ("foobar", "d", "foo"),
            ("foobar", "bdzapcd", "fzapbar"),
            ("foobar", "adzapag", "zapfoobar"),
            ("foobar", "gbX", "foobarX"),
            ("foobar", "aadd", "bar"),
            ("foobar", "", ""),
            ("foobar", "aea1|Ab", "a1|A"),
        ] {
            assert_eq!(
                apply_text(previous, script).as_deref(),
                Some(result),
                "{script}"
            );
        }
        let text = "plain text of the document";
        assert_eq!(
            apply_text(text, "gfrich au").as_deref(),
            Some("plain rich text of the document")
        );
    }

    #[test]
    fn bad_scripts_are_refused() {
        for script in ["g", "ac", "aca", "aag", "B", "Ad", "1", "a a"] {
            assert_eq!(apply_text("fooba", script), None, "{script}");
        }
        assert_eq!(apply_text("e\u{301}", "b"), None);
        assert_eq!(apply_text("", "aa"), Some(String::new()));
    }

    #[test]
    fn patches_follow_pointers() {
        let mut document: Value =
            serde_json::from_str(r#"{"a/b":[1,{"~":2}],"":3,"01":{}}"#).unwrap();
        let patch = r#"[{"op":"replace","path":"/a~1b/1/~0","value":"x"},
            {"op":"add","path":"/a~1b/0","value":0},{"op":"remove","path":"/"},
            {"op":"add","path":"/01/1","value":1.50}]"#;
        assert_eq!(apply_patch(&mut document, patch), Some(()));
        assert_eq!(
            document.to_string(),
            r#"{"a/b":[0,1,{"~":"x"}],"01":{"1":1.50}}"#
        );
    }

    #[test]
    fn bad_patches_are_refused() {
        for patch in [
            r#"{"op":"remove","path":"/a"}"#,
            r#"[{"op":"move","from":"/a","path":"/b"}]"#,
            r#"[{"op":"remove","path":"/c"}]"#,
            r#"[{"op":"replace","path":"/c","value":1}]"#,
            r#"[{"op":"add","path":"/a/2","value":1}]"#,
            r#"[{"op":"add","path":"/a/01","value":1}]"#,
            r#"[{"op":"add","path":"/b"}]"#,
            r#"[{"op":"remove","path":"a"}]"#,
            r#"[{"op":"remove","path":"/a~"}]"#,
        ] {
            let mut document: Value = serde_json::from_str(r#"{"a":[1]}"#).unwrap();
            assert_eq!(apply_patch(&mut document, patch), None, "{patch}");
        }
    }
}
