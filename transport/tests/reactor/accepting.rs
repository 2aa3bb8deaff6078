//! Connections come, up to a limit and to the end of the descriptors; each has a number that never comes back.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use brightwire::reactor::{ACCEPT_BACKOFF, ConnId, Reactor};

use crate::on_both_back_ends;
use crate::support::{LISTENER, PATIENCE, World, open_files_soft_limit};

on_both_back_ends!(
    accepted_names_listener_and_peer,
    five_hundred_connections,
    stale_ids_are_ignored,
    closed_connections_make_room,
    running_out_of_descriptors,
);

fn accepted_names_listener_and_peer<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(10));
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = second.local_addr().unwrap();
    world.reactor.listen(second, 7).unwrap();
    let client = TcpStream::connect(address).unwrap();
    world.run_until(|log| !log.accepted.is_empty());
    assert_eq!(
        world.log.accepted,
        [(world.log.accepted[0].0, 7, client.local_addr().unwrap())]
    );
    let (client, _) = world.connect();
    assert_eq!(world.log.accepted[1].1, LISTENER);
    assert_eq!(world.log.accepted[1].2, client.local_addr().unwrap());
    assert_eq!(world.reactor.stats().accepted, 2);
}

fn five_hundred_connections<R: Reactor>(make: impl Fn(usize) -> R) {
    // Each takes two descriptors here, and other tests run beside this one.
    let count = 500.min((open_files_soft_limit() - 100) / 8);
    let mut world = World::new(make(count));
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(world.connect());
    }
    for (index, (client, _)) in clients.iter_mut().enumerate() {
        client
            .write_all(format!("I am {index}").as_bytes())
            .unwrap();
    }
    let said: Vec<String> = (0..count).map(|index| format!("I am {index}")).collect();
    world.run_until(|log| {
        clients
            .iter()
            .zip(&said)
            .all(|((_, conn), said)| log.received(*conn).len() == said.len())
    });
    for ((_, conn), said) in clients.iter().zip(&said) {
        assert_eq!(world.log.received(*conn), said.as_bytes());
        let answer = format!("you are {said}");
        world.send(*conn, answer.as_bytes());
    }
    world.flush();
    for ((client, _), said) in clients.iter_mut().zip(&said) {
        let mut answer = vec![0; 8 + said.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, format!("you are {said}").as_bytes());
    }
    let conns: Vec<ConnId> = clients.iter().map(|(_, conn)| *conn).collect();
    drop(clients);
    world.run_until(|log| conns.iter().all(|conn| log.closed.contains_key(conn)));
}

fn stale_ids_are_ignored<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (_first_client, first) = world.connect();
    world.reactor.close(first);
    world.log.forget(first);
    world.poll(Some(Duration::ZERO));
    let (mut client, second) = loop {
        // Until the slot has a new tenant; at the latest after two or three attempts.
        let (client, conn) = world.connect();
        if conn.slot == first.slot {
            break (client, conn);
        }
        world.reactor.close(conn);
        world.log.forget(conn);
    };
    assert_ne!(first, second);
    world.send(first, b"for the dead");
    world.reactor.pause(first);
    world.reactor.resume(first);
    world.reactor.close(first);
    assert!(world.reactor.release(first).is_none());
    world.send(second, b"for the living");
    world.flush();
    let mut bytes = [0; 14];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"for the living");
    client.write_all(b"thanks").unwrap();
    world.run_until(|log| log.received(second) == b"thanks");
}

fn closed_connections_make_room<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(3));
    let kept: Vec<_> = (0..3).map(|_| world.connect()).collect();
    for _ in 0..2 {
        let mut refused = TcpStream::connect(world.address).unwrap();
        let before = world.reactor.stats().refused;
        while world.reactor.stats().refused == before {
            world.poll(Some(PATIENCE));
        }
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
    }
    let outgoing = TcpStream::connect(world.address).unwrap();
    assert_eq!(
        world.reactor.adopt(outgoing).unwrap_err().kind(),
        io::ErrorKind::QuotaExceeded
    );
    let before = world.reactor.stats().refused;
    while world.reactor.stats().refused == before {
        world.poll(Some(PATIENCE));
    }
    world.reactor.close(kept[1].1);
    world.log.forget(kept[1].1);
    for _ in 0..3 {
        world.poll(Some(Duration::from_millis(1)));
    }
    let (mut client, conn) = world.connect();
    client.write_all(b"in").unwrap();
    world.run_until(|log| log.received(conn) == b"in");
    assert_eq!(world.reactor.stats().accepted, 4);
    assert_eq!(world.reactor.stats().refused, 3);
}

fn running_out_of_descriptors<R: Reactor>(make: impl Fn(usize) -> R) {
    // The limit is the process's, so this happens in one of its own, with the same test and a mark in its environment.
    const MARK: &str = "REACTOR_TEST_FEW_DESCRIPTORS";
    let back_end = if std::any::type_name::<R>().ends_with("EpollReactor") {
        "epoll"
    } else {
        "uring"
    };
    let name = format!("accepting::{back_end}::running_out_of_descriptors");
    if std::env::var_os(MARK).is_none() {
        let this = std::env::current_exe().unwrap();
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
            .arg(this)
            .args([&name, "--exact", "--test-threads=1"])
            .env(MARK, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let mut world = World::new(make(100));
    let waiting = TcpStream::connect(world.address).unwrap();
    let mut hoarded = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoarded.push(file);
    }
    // No descriptor is left for the accept: it stops, does not spin, and recovers.
    while world.reactor.stats().accept_backoffs == 0 {
        world.poll(Some(PATIENCE));
    }
    // (The ring has looked for a descriptor in advance and may have accepted the first one.)
    let second = TcpStream::connect_timeout(&world.address, PATIENCE);
    assert!(second.is_err(), "no descriptor for the client either");
    // One attempt for each rest, however often it is polled. Bounded by the time that really passed, so a slow
    // machine cannot fail this.
    let (start, before) = (Instant::now(), world.reactor.stats().accept_backoffs);
    while world.reactor.stats().accept_backoffs < before + 2 {
        world.poll(Some(PATIENCE));
    }
    assert!(
        start.elapsed() >= ACCEPT_BACKOFF,
        "accepting was tried again without a rest"
    );
    hoarded.clear();
    world.run_until(|log| log.accepted.len() == 1);
    let (mut client, conn) = world.connect();
    client.write_all(b"made it").unwrap();
    world.run_until(|log| log.received(conn) == b"made it");
    drop(waiting);
}
