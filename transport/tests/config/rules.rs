//! The rules of the built-in metadata adapter in a configuration file, and selectors, as a user meets them.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use brightwire::adapter::literal::passwords::Hash;
use brightwire::config::plan::MetadataPlan;
use brightwire::config::{ConfigError, Plan};
use brightwire::runtime::topology::Topology;
use engine::item::selector::{Check, Selector};

fn plan(text: &str, directory: &Path) -> Result<Plan, ConfigError> {
    Plan::from_text(text, &Topology::read().unwrap(), directory, "test.toml")
}

/// A hash of "password", made by the reference implementation of argon2.
const HASH: &str =
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

#[test]
fn rules_of_the_built_in_metadata_adapter_are_read() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("secret"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    let text = format!(
        r#"
        [[adapter_sets]]
        [adapter_sets.literal]
        allowed_users = ["guest"]
        max_bandwidth = 40.0
        max_frequency = 3.0
        buffer_size = 30
        prefilter_frequency = 50.0
        [[adapter_sets.literal.families]]
        items = "item[0-9]+"
        data_adapter = "QUOTE_ADAPTER"
        modes = ["MERGE", "RAW"]
        distinct_snapshot_length = 3
        [[adapter_sets.literal.families]]
        items = "never"
        modes = []
        [[adapter_sets.literal.users]]
        name = "ann"
        password = "{HASH}"
        items = ["item1", "item2"]
        max_frequency = 1.0
        [adapter_sets.literal.tokens]
        algorithm = "HS256"
        key_file = "secret"
        audience = "shop"
        leeway = "5s"
        "#
    );
    let plan = plan(&text, directory.path()).unwrap();
    let MetadataPlan::Rules(rules) = &plan.adapter_sets[0].metadata else {
        panic!("no rules");
    };
    assert_eq!(rules.allowed_users, ["guest"]);
    assert_eq!(rules.max_bandwidth, Some(40.0));
    let limits = &rules.limits;
    assert_eq!(
        (
            limits.max_frequency,
            limits.buffer_size,
            limits.distinct_snapshot_length
        ),
        (Some(3.0), Some(30), Some(10))
    );
    assert_eq!(rules.families.len(), 2);
    assert!(rules.families[0].items.matches("item12"));
    assert_eq!(rules.families[0].limits.distinct_snapshot_length, Some(3));
    assert!(rules.users[0].password.verify("password"));
    assert_eq!(rules.users[0].rights.items.as_ref().unwrap().len(), 2);
    let tokens = rules.tokens.as_ref().unwrap();
    assert_eq!(tokens.key.0.len(), 32, "without the line end");
    assert_eq!(
        (tokens.audience.as_deref(), tokens.leeway),
        (Some("shop"), Duration::from_secs(5))
    );
    let shown = plan.to_string();
    assert!(
        shown.contains(
            "(rules: 2 families, 1 users without password, 1 users with password, tokens by Hs256)"
        ),
        "{shown}"
    );
}

#[test]
fn rules_that_make_no_sense_are_reported_and_a_password_is_not_repeated() {
    let text = format!(
        r#"[[adapter_sets]]
[adapter_sets.literal]
allowed_users = ["ann", ""]
max_bandwidth = 0.0
buffer_size = 0
[[adapter_sets.literal.families]]
items = "item["
modes = ["MERGE"]
[[adapter_sets.literal.families]]
data_adapter = "ELSEWHERE"
[[adapter_sets.literal.users]]
name = "ann"
password = "in plain text"
[[adapter_sets.literal.users]]
password = "{HASH}"
[adapter_sets.literal.tokens]
leeway = "2h"
key_file = "no/such.pem"
[[adapter_sets]]
name = "OTHER"
metadata = "remote"
[adapter_sets.literal]
"#
    );
    let message = plan(&text, Path::new("")).unwrap_err().to_string();
    for expected in [
        "test.toml:3: adapter_sets[0].literal.allowed_users[1]: must not be empty",
        "test.toml:4: adapter_sets[0].literal.max_bandwidth: 0 is not between",
        "test.toml:5: adapter_sets[0].literal.buffer_size: is at least 1",
        "test.toml:7: adapter_sets[0].literal.families[0].items: `item[` is not a regular expression: unclosed character class",
        "adapter_sets[0].literal.families[1].items: a family needs a pattern",
        "adapter_sets[0].literal.families[1].modes: a family needs modes",
        "test.toml:10: adapter_sets[0].literal.families[1].data_adapter: the set has no data adapter `ELSEWHERE`",
        "test.toml:12: adapter_sets[0].literal.users[0].name: `ann` is taken already",
        "test.toml:13: adapter_sets[0].literal.users[0].password: is not a hash by argon2; `brightwire hash-password` makes one",
        "adapter_sets[0].literal.users[1].name: must not be empty",
        "test.toml:17: adapter_sets[0].literal.tokens.leeway: 2h is not between",
        "test.toml:18: adapter_sets[0].literal.tokens.key_file: ",
        "adapter_sets[1].literal: only for metadata = \"literal\"",
    ] {
        assert!(
            message.contains(expected),
            "expected: {expected}\nfound:\n{message}"
        );
    }
    assert!(!message.contains("plain text"), "{message}");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("short"), "short\n").unwrap();
    let text = "[[adapter_sets]]\n[adapter_sets.literal.tokens]\nalgorithm = \"HS256\"\nkey_file = \"short\"";
    let error = plan(text, directory.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test.toml:4: adapter_sets[0].literal.tokens.key_file: a secret for HS256 has at least 32 bytes, this one 5"
    );
}

#[test]
fn a_password_is_hashed_from_the_standard_input() {
    let hashed = |input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_brightwire"))
            .arg("hash-password")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let output = hashed("secret\nmore\n");
    let hash = String::from_utf8(output.stdout).unwrap();
    let hash = Hash::new(hash.trim_end()).unwrap();
    assert!(hash.verify("secret"));
    let output = hashed("");
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn selectors_have_names_and_tables_of_one_name_are_one() {
    let text = r#"
        [[adapter_sets]]
        [[adapter_sets.selectors]]
        name = "large"
        field = "volume"
        at_least = 1000.0
        at_most = 5000.0
        [[adapter_sets.selectors]]
        name = "euro"
        field = "key"
        prefix = "EUR"
        [[adapter_sets.selectors]]
        name = "large"
        field = "side"
        one_of = ["buy", "sell"]
    "#;
    let here = Path::new("");
    let served = plan(text, here).unwrap();
    let selectors = &served.adapter_sets[0].selectors;
    let large = Selector::new().and("volume", Check::Present);
    let large = large
        .at_least("volume", 1000.0)
        .at_most("volume", 5000.0)
        .and("side", Check::Present)
        .one_of("side", ["buy", "sell"]);
    assert_eq!(selectors["large"], large);
    assert!(selectors["euro"].tests_keys_only());
    assert_eq!(selectors.len(), 2);
    let summary = served.to_string();
    assert!(summary.contains(", 2 selectors\n"), "{summary}");

    let text = "[[adapter_sets]]\n[[adapter_sets.selectors]]\nname = \"\"\nfield = \"\"\nat_least = nan\nat_most = inf";
    let refusal = plan(text, here).unwrap_err().to_string();
    for key in ["name", "field", "at_least", "at_most"] {
        let key = format!("adapter_sets[0].selectors[0].{key}");
        assert!(refusal.contains(&key), "{refusal}");
    }
}
