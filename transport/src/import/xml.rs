//! An XML file as a tree. Entities but the five that XML has are errors, so a file cannot make the importer read others.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// How deep elements may be inside each other. (guess: real files stay below ten)
const DEPTH_MAX: usize = 100;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    /// The text directly inside, without blanks around.
    pub text: String,
    pub children: Vec<Element>,
    /// Where it begins, from 1.
    pub line: usize,
}

impl Element {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    pub fn children_named<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    pub fn child<'e>(&'e self, name: &'e str) -> Option<&'e Element> {
        self.children_named(name).next()
    }
}

/// Reads a file; the error says where it is broken.
pub(super) fn parse(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let line = |position: u64| {
        let position = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(text.len());
        text.as_bytes()[..position]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    };
    let mut open: Vec<Element> = Vec::new();
    loop {
        let at = line(reader.buffer_position());
        let broken = |reason: &dyn std::fmt::Display| format!("line {at}: {reason}");
        let event = reader.read_event();
        let event = event.map_err(|error| {
            let at = line(reader.error_position());
            format!("line {at}: {error}")
        })?;
        let closed = match event {
            Event::Start(start) => {
                if open.len() == DEPTH_MAX {
                    return Err(broken(&"elements are too deep inside each other"));
                }
                open.push(element(&start, at).map_err(|error| broken(&error))?);
                None
            }
            Event::Empty(start) => Some(element(&start, at).map_err(|error| broken(&error))?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                add(&mut open, &text.xml10_content());
                None
            }
            Event::CData(text) => {
                add(&mut open, &text.xml10_content());
                None
            }
            Event::GeneralRef(reference) => {
                let character = reference
                    .resolve_char_ref()
                    .map_err(|error| broken(&error))?;
                match character {
                    Some(character) => add(&mut open, character.encode_utf8(&mut [0; 4])),
                    None => match resolve_predefined_entity(&reference.xml10_content()) {
                        Some(text) => add(&mut open, text),
                        None => return Err(broken(&"an entity that is not known")),
                    },
                }
                None
            }
            Event::Eof => return Err(broken(&"the file ends too early, or is empty")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
        };
        if let Some(mut closed) = closed {
            closed.text = closed.text.trim().to_owned();
            match open.last_mut() {
                Some(parent) => parent.children.push(closed),
                None => return Ok(closed),
            }
        }
    }
}

fn element(start: &BytesStart<'_>, line: usize) -> Result<Element, String> {
    let mut element = Element {
        name: start.name().0.to_owned(),
        line,
        ..Element::default()
    };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| error.to_string())?;
        element
            .attributes
            .push((attribute.key.0.to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_a_tree() {
        let text = "<?xml version=\"1.0\"?>\n<!-- c --><a>\n  <b n='1 &amp; 2'> x &lt;&#33; <!-- y -->z </b>\n<c/><b><![CDATA[<d>]]></b></a>";
        let root = parse(text).unwrap();
        assert_eq!(
            (root.name.as_str(), root.line, root.children.len()),
            ("a", 2, 3)
        );
        let b = root.child("b").unwrap();
        assert_eq!(
            (b.attribute("n"), b.text.as_str(), b.line),
            (Some("1 & 2"), "x <! z", 3)
        );
        let texts: Vec<&str> = root.children_named("b").map(|b| b.text.as_str()).collect();
        assert_eq!(texts, ["x <! z", "<d>"]);
    }

    #[test]
    fn broken_files_are_errors_with_their_line() {
        for (text, line, reason) in [
            ("", 1, "ends too early"),
            ("<a>\n<b>\n", 3, "ends too early"),
            ("<a>\n</b></a>", 2, "expected"),
            ("<a>\n&secret;</a>", 2, "entity"),
            ("<a x='1' x='2'/>", 1, "duplicated"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(
                error.starts_with(&format!("line {line}: ")),
                "{text}: {error}"
            );
        }
        assert!(
            parse(&"<a>".repeat(1_000))
                .unwrap_err()
                .contains("too deep")
        );
    }
}
