//! The annotated reference: a configuration file with every key, its default and its sentence.
//!
//! It is a valid file whose meaning is that of an empty one, because keys without a default are commented out.

use super::raw::{Key, Raw, Section};

/// The text of `profiles/reference.toml`.
pub fn reference() -> String {
    let mut text = String::from(HEADER);
    for section in Raw::sections() {
        write_section(&mut text, &section);
    }
    text
}

fn write_section(text: &mut String, section: &Section) {
    text.push('\n');
    write_comment(text, section.doc);
    let mut body = format!("{}\n", section.header);
    for key in &section.keys {
        body.push('\n');
        write_key(&mut body, key);
    }
    for line in body.lines() {
        // Where most files have no such table, the whole of it is a comment.
        match line {
            line if section.optional && !line.is_empty() && !line.starts_with('#') => {
                text.push_str(&format!("# {line}\n"));
            }
            line => text.push_str(&format!("{line}\n")),
        }
    }
}

fn write_key(text: &mut String, key: &Key) {
    write_comment(text, key.doc);
    if let Some(default) = &key.default {
        text.push_str(&format!("{} = {default}\n", key.name));
    } else if let Some(example) = &key.example {
        text.push_str(&format!(
            "# Not set by default. For example:\n# {} = {example}\n",
            key.name
        ));
    }
}

/// Lines of doc comments begin with the space behind the slashes.
fn write_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("#{line}\n"));
    }
}

const HEADER: &str = "\
# Every key of a Brightwire configuration file, with its default. Generated: `brightwire print-reference`. (A profile that
# behaves as the reference product does by default is another file: profiles/reference-product.toml.)
#
# All keys are optional. Durations and sizes are text with a unit: \"30ms\", \"5s\", \"2m\"; \"8KiB\" (1,024 bytes each),
# \"8kB\" (1,000), \"1500B\".
";
