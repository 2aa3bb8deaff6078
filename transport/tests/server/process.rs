//! The process from the outside: command line, signals, ports, and all roles on one thread.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use engine::tlcp::client::{FieldValues, Line};

use crate::on_both_back_ends;
use crate::support::client::bind_message;
use crate::support::process::{binary, run_to_end};
use crate::support::{Client, Feed, Io, Server, Setup};

on_both_back_ends!(
    one_thread_serves_the_same,
    the_demo_has_its_stocks,
    a_second_server_does_not_take_the_port,
    stops_in_order_while_many_stream,
    a_second_signal_ends_a_stuck_shutdown,
    a_signal_blocks_new_sessions,
    a_machine_without_room_is_told_so,
);

const FEED: Feed = Feed::new(60_000, 20);

fn one_thread_serves_the_same(io: Io) {
    let server = Server::start(
        io,
        Setup {
            threading: "shared",
            replay: Some(&FEED.csv()),
            ..Setup::default()
        },
    );
    let (mut old, id) = Client::with_session(server.address);
    let mut counted = FEED.counted();
    old.send(&FEED.subscribe(1, &id));
    assert_eq!(old.line(), "REQOK,add1");
    for _ in 0..5 {
        counted.take(&old.update()).unwrap();
    }
    old.force_rebind(&id, |line| counted.take(line));
    let mut new = Client::connect(server.address);
    new.send_together(&["wsok", &bind_message(&id)]);
    assert_eq!(new.line(), "WSOK");
    assert_eq!(new.head(), id);
    for _ in 0..5 {
        counted.take(&new.update()).unwrap();
    }
    new.send("control\r\nLS_reqId=1&LS_op=delete&LS_subId=1");
    assert_eq!(new.answer("1"), "REQOK,1");
    new.line_such(|line| matches!(line, Line::Unsub { sub_id: 1 }));
    server.stop();
}

fn the_demo_has_its_stocks(io: Io) {
    for threading in ["dedicated", "shared"] {
        let server = Server::demo(io, &["--threading", threading, "--rate", "200"]);
        let (mut client, _) = Client::with_session(server.address);
        client.send(
            "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=item1%20item30&LS_schema=stock_name%20bid\
             &LS_data_adapter=QUOTE_ADAPTER&LS_snapshot=true",
        );
        let mut items = [FieldValues::new(2), FieldValues::new(2)];
        for _ in 0..20 {
            let line = client.update();
            let Ok(Line::Update { item, values, .. }) = Line::parse(&line) else {
                unreachable!()
            };
            let known = &mut items[item as usize - 1];
            known.apply(values).unwrap();
            assert!(known.get(0).is_some_and(|name| !name.is_empty()));
            assert!(known.get(1).unwrap().parse::<f64>().unwrap() > 0.0);
        }
        server.stop();
    }
}

fn a_signal_blocks_new_sessions(io: Io) {
    let server = Server::start(
        io,
        Setup {
            shards: 2,
            sessions: "blocked = \"refuse\"",
            ..Setup::default()
        },
    );
    let (mut old, id) = Client::with_session(server.address);
    // The signal takes its way to each shard: both have heard of it when both have said so.
    let all_say = |wanted: &str| {
        let mut times = 0;
        while times < 16 {
            let mut client = Client::connect(server.address);
            client.send("create_session\r\nLS_adapter_set=DEMO&LS_cid=test");
            match client.line().starts_with(wanted) {
                true => times += 1,
                false => times = 0,
            }
        }
    };
    all_say("CONOK,");
    server.signal("USR1");
    all_say("CONERR,10,");
    old.force_rebind(&id, |_| ());
    let mut new = Client::connect(server.address);
    new.send(&bind_message(&id));
    assert_eq!(new.head(), id);
    server.signal("USR2");
    all_say("CONOK,");
    server.stop();
}

fn a_second_server_does_not_take_the_port(io: Io) {
    let server = Server::start(io, Setup::default());
    let port = server.address.port().to_string();
    let (code, _, stderr) = run_to_end(&["demo", "--port", &port, "--io", io.name()]);
    assert_eq!(code, Some(1), "{stderr}");
    let message = format!("cannot listen on {}: ", server.address);
    assert!(
        stderr.contains(&message) && stderr.contains("ss -ltnp"),
        "{stderr}"
    );
    Client::with_session(server.address);
    server.stop();
}

fn stops_in_order_while_many_stream(io: Io) {
    for (shards, signal) in [(2, "TERM"), (1, "INT")] {
        let mut server = Server::start(
            io,
            Setup {
                shards,
                replay: Some(&FEED.csv()),
                ..Setup::default()
            },
        );
        let mut clients: Vec<_> = (0..100)
            .map(|_| {
                let (mut client, id) = Client::with_session(server.address);
                client.send(&FEED.subscribe(1, &id));
                client
            })
            .collect();
        for client in &mut clients {
            client.update();
        }
        server.signal(signal);
        let end = server.wait();
        assert_eq!(end.status.code(), Some(0), "{}", end.stderr);
        assert!(
            end.stderr.contains("sessions_opened: 100 sessions"),
            "{}",
            end.stderr
        );
        for client in &mut clients {
            client.end();
        }
    }
}

/// A shutdown gets stuck when what it logs is not taken: the socket that is the server's standard error is full.
fn a_second_signal_ends_a_stuck_shutdown(io: Io) {
    let (mut ours, _unread) = UnixStream::pair().unwrap();
    let mut command = binary();
    command.args(["demo", "--port", "0", "--io", io.name()]);
    let stderr = Stdio::from(OwnedFd::from(ours.try_clone().unwrap()));
    let mut server = Server::spawn(command, tempfile::tempdir().unwrap(), stderr);
    // The flag belongs to what both processes share; the server is idle and logs nothing meanwhile.
    ours.set_nonblocking(true).unwrap();
    for piece in [4096, 1] {
        let full = loop {
            if let Err(error) = ours.write(&vec![b'\n'; piece]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }
    ours.set_nonblocking(false).unwrap();
    server.signal("TERM");
    server.signal("INT");
    let code = server.wait().status.code();
    // The kernel may deliver both in either order.
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
}

/// Starting fails in words and with exit code 1 where the address is not this machine's.
fn a_machine_without_room_is_told_so(io: Io) {
    // TEST-NET-1: no machine has it.
    let (code, _, stderr) = run_to_end(&[
        "demo",
        "--host",
        "192.0.2.1",
        "--port",
        "0",
        "--io",
        io.name(),
    ]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("cannot listen on 192.0.2.1:0: "),
        "{stderr}"
    );
}

/// Most shells allow 1,024 open files, and far more to a program that asks.
#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may() {
    let program = binary().get_program().to_owned();
    let mut server = Command::new("sh")
        .args(["-c", "ulimit -Sn 200; exec \"$0\" demo --port 0"])
        .arg(program)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It says where it listens, once it does.
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open"));
    let words: Vec<&str> = files.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "{limits}");
    assert_ne!(words[3], "200");
}

#[test]
fn check_tells_good_files_from_bad_ones() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        run_to_end(&["check", "--config", path.to_str().unwrap()])
    };
    let (code, stdout, stderr) = check("[[listeners]]\naddress = \"127.0.0.1:0\"\n");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("ok\n"), "{stdout}");
    let name = path.display();
    for (text, messages) in [
        (
            "\n[runtime]\nshards = 0\n",
            vec![format!("{name}:3: runtime.shards: ")],
        ),
        (
            "[sessions]\nkeepalive = \"1h\"\n[socket]\nbacklog = 0\n",
            vec![
                format!("{name}:2: sessions.keepalive: "),
                format!("{name}:4: socket.backlog: "),
            ],
        ),
        (
            "[runtime]\n\nspeed = 3\n",
            vec![format!("{name}:3: runtime.speed: ")],
        ),
        (
            "[runtime]\nio = \"kqueue\"\n",
            vec![format!("{name}:2: runtime.io: ")],
        ),
        ("[runtime\n", vec![format!("{name}:1: ")]),
    ] {
        let (code, stdout, stderr) = check(text);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{text}");
        for message in messages {
            assert!(
                stderr.lines().any(|line| line.starts_with(&message)),
                "{message} not in {stderr}"
            );
        }
    }
    let (code, _, stderr) = run_to_end(&["check", "--config", "absent.toml"]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("absent.toml: cannot be read: "),
        "{stderr}"
    );
}

#[test]
fn a_broken_replay_file_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.csv");
    fs::write(&path, "item,time_ms,n\na,0,1\na,soon,2\n").unwrap();
    let (code, _, stderr) =
        run_to_end(&["demo", "--port", "0", "--replay", path.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("rows.csv, line 3: "), "{stderr}");
}

#[test]
fn doctor_examines_this_machine() {
    let (code, stdout, stderr) = run_to_end(&["doctor"]);
    assert!(matches!(code, Some(0 | 1)), "{code:?} {stderr}");
    assert!(stdout.contains("io_uring"), "{stdout}");
}

#[test]
fn the_printed_reference_is_a_good_configuration() {
    let (code, reference, _) = run_to_end(&["print-reference"]);
    assert_eq!(code, Some(0));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("reference.toml");
    fs::write(&path, reference).unwrap();
    let (code, _, stderr) = run_to_end(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
}
