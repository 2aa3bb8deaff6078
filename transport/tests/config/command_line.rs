//! The command line, as a user meets it.

use std::process::{Command, Output};

use brightwire::config;

fn brightwire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brightwire"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_says_ok_or_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    std::fs::write(&path, "[[listeners]]\naddress = \"127.0.0.1:4711\"\n").unwrap();
    let output = brightwire(&["check", "--config", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        stdout(&output).starts_with("ok\n") && stdout(&output).contains("web at 127.0.0.1:4711"),
        "{output:?}"
    );

    std::fs::write(&path, "[sessions]\nsessions_max = 0\nconnections_max = 0\n").unwrap();
    let output = brightwire(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("server.toml:2: sessions.sessions_max: 0 is not between"),
        "{output:?}"
    );
    assert!(
        stderr(&output).contains("server.toml:3: sessions.connections_max: 0 is not between"),
        "{output:?}"
    );

    let output = brightwire(&["check", "--config", "absent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("absent.toml: cannot be read: No such file"),
        "{output:?}"
    );
}

#[test]
fn the_reference_can_be_printed() {
    let output = brightwire(&["print-reference"]);
    assert!(output.status.success());
    assert_eq!(stdout(&output), config::reference());
}

#[test]
fn the_doctor_examines_this_machine() {
    let output = brightwire(&["doctor"]);
    let problem = stdout(&output)
        .lines()
        .any(|line| line.starts_with("PROBLEM"));
    assert_eq!(output.status.code(), Some(i32::from(problem)), "{output:?}");
    assert!(stdout(&output).contains("io_uring:"), "{output:?}");
}

#[test]
fn options_that_exclude_or_need_each_other_are_refused() {
    for arguments in [
        &["demo", "--replay", "f.csv", "--speed", "2", "--rate", "3"] as &[&str],
        &["demo", "--speed", "2"],
        &["demo", "--loop"],
        &["demo", "--io", "kqueue"],
        &["run"],
        &[],
    ] {
        let output = brightwire(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(
            stderr(&output).contains("--help") || arguments.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
}

#[test]
fn what_a_demo_cannot_do_is_refused_before_it_starts() {
    for (arguments, expected) in [
        (
            &["demo", "--shards", "0"] as &[&str],
            "command line: runtime.shards: 0 is not between",
        ),
        (&["demo", "--rate", "-1"], "error: "),
        (
            &["demo", "--rate=-1"],
            "command line: adapter_sets[0].data[0].rate: -1 is not between",
        ),
        (&["demo", "--rate", "nan"], "rate: NaN is not between"),
        (
            &["demo", "--threading", "shared", "--shards", "2"],
            "one thread, hence one shard",
        ),
        (
            &["demo", "--config", "absent.toml"],
            "absent.toml: cannot be read",
        ),
    ] {
        let output = brightwire(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            stderr(&output).contains(expected),
            "{arguments:?}: {output:?}"
        );
    }
}
