//! What both back ends of the reactor promise, tried with real sockets on loopback. Every test is written once and
//! run on both; `uring` is left out, with a notice, where the machine denies it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use brightwire::reactor::epoll::EpollReactor;
use brightwire::reactor::probe::{Features, probe};
use brightwire::reactor::uring::UringReactor;
use brightwire::reactor::{ACCEPT_BACKOFF, ConnId, Event, Reactor};

macro_rules! on_both_back_ends {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(|max| super::EpollReactor::new(max).unwrap()); })*
        }
        mod uring {
            $(#[test] fn $name() {
                if let Some(features) = super::uring_features() {
                    super::$name(move |max| super::UringReactor::new(features, max).unwrap());
                }
            })*
        }
        /// The ring without what newer kernels and larger limits add: no deferred work, no table of files.
        mod uring_plain {
            $(#[test] fn $name() {
                if let Some(features) = super::uring_features() {
                    let features = super::Features {
                        single_issuer: false, defer_taskrun: false, coop_taskrun: false, direct_files: false,
                        ..features
                    };
                    super::$name(move |max| super::UringReactor::new(features, max).unwrap());
                }
            })*
        }
    };
}

on_both_back_ends!(
    accepted_names_listener_and_peer,
    echo_split_at_every_position,
    five_hundred_connections,
    blocked_writer_gets_everything_through,
    sends_before_the_blockade_is_known_keep_their_order,
    paused_is_not_read,
    end_of_paused_connections,
    released_connection_loses_no_byte,
    release_refuses_what_it_cannot_move,
    waker_ends_a_wait_and_is_not_lost,
    half_close_ends_a_connection,
    peer_gone_while_blocked,
    sending_into_a_reset_connection,
    stale_ids_are_ignored,
    order_is_kept_per_connection,
    the_hot_buffer_is_emptied,
    order_is_kept_while_the_peer_makes_room,
    close_delivers_the_last_bytes,
    closed_connections_make_room,
    running_out_of_descriptors,
    soak,
);

fn uring_features() -> Option<Features> {
    let found = probe();
    if !found.is_usable() {
        println!("left out: {found}");
    }
    found.is_usable().then_some(found.features)
}

// --- the tests ---

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

fn echo_split_at_every_position<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(10));
    let (mut client, conn) = world.connect();
    client.set_nodelay(true).unwrap();
    let message = b"a message to be split";
    let mut expected = 0;
    for split in 0..=message.len() {
        for part in [&message[..split], &message[split..]] {
            if part.is_empty() {
                continue;
            }
            client.write_all(part).unwrap();
            expected += part.len();
            world.run_until(|log| log.received(conn).len() == expected);
            world.send(conn, part);
            world.flush();
            let mut echo = vec![0; part.len()];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, part);
        }
    }
    for byte in message {
        client.write_all(&[*byte]).unwrap();
        expected += 1;
        world.run_until(|log| log.received(conn).len() == expected);
        world.send(conn, &[*byte]);
        world.flush();
        let mut echo = [0];
        client.read_exact(&mut echo).unwrap();
        assert_eq!(echo[0], *byte);
    }
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

fn blocked_writer_gets_everything_through<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(10));
    let (mut client, conn) = world.connect();
    for round in 1..=3 {
        let sent = world.send_until_blocked(conn);
        // Not read while blocked: no event, however often it is polled.
        client.write_all(b"are you there?").unwrap();
        for _ in 0..5 {
            world.poll(Some(Duration::from_millis(2)));
        }
        assert_eq!(world.log.received(conn).len(), (round - 1) * 14);
        let reader = thread::spawn(move || {
            let mut bytes = vec![0; sent.len()];
            client.read_exact(&mut bytes).unwrap();
            assert!(
                bytes == sent,
                "the bytes that came out are not those that went in"
            );
            client
        });
        world.run_until(|log| {
            log.writable.contains(&conn) && log.received(conn).len() == round * 14
        });
        client = reader.join().unwrap();
        world.log.writable.clear();
    }
    assert!(world.reactor.stats().sends_short >= 3);
}

fn sends_before_the_blockade_is_known_keep_their_order<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(10));
    let (mut client, conn) = world.connect();
    let (mut other_client, other) = world.connect();
    // Far more than the socket takes, without a flush between: a batch is brought out by its size, and what follows
    // belongs behind the remainder.
    let mut expected = Vec::new();
    let mut expected_other = Vec::new();
    for index in 0..300u32 {
        let piece = vec![index as u8; 30_000 + index as usize];
        expected.extend_from_slice(&piece);
        world.send(conn, &piece);
        expected_other.extend_from_slice(&index.to_be_bytes());
        world.send(other, &index.to_be_bytes());
    }
    world.flush();
    assert_eq!(world.log.blocked, [conn]);
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; expected.len()];
        client.read_exact(&mut bytes).unwrap();
        assert!(bytes == expected);
        client
    });
    world.run_until(|log| log.writable == [conn]);
    world.send(conn, b"end");
    world.flush();
    let mut end = [0; 3];
    reader.join().unwrap().read_exact(&mut end).unwrap();
    assert_eq!(&end, b"end");
    let mut bytes = vec![0; expected_other.len()];
    other_client.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected_other);
}

fn paused_is_not_read<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(10));
    let (mut client, conn) = world.connect();
    let (mut other_client, other) = world.connect();
    world.reactor.pause(conn);
    world.poll(Some(Duration::ZERO));
    client.write_all(b"to the paused").unwrap();
    other_client.write_all(b"to the other").unwrap();
    world.run_until(|log| log.received(other).len() == 12);
    world.poll(Some(Duration::from_millis(2)));
    assert_eq!(world.log.received(conn), b"");
    // Paused connections can be sent to.
    world.send(conn, b"hello");
    world.flush();
    let mut hello = [0; 5];
    client.read_exact(&mut hello).unwrap();
    world.reactor.resume(conn);
    world.run_until(|log| log.received(conn) == b"to the paused");
    // Changing one's mind many times between two polls is fine.
    for _ in 0..100 {
        world.reactor.pause(conn);
        world.reactor.resume(conn);
    }
    client.write_all(b"!").unwrap();
    world.run_until(|log| log.received(conn) == b"to the paused!");
    // Blocked and paused: being writable again does not resume.
    world.reactor.pause(conn);
    let sent = world.send_until_blocked(conn);
    client.write_all(b"more").unwrap();
    let mut reading = client.try_clone().unwrap();
    let reader = thread::spawn(move || reading.read_exact(&mut vec![0; sent.len()]).unwrap());
    world.run_until(|log| log.writable.contains(&conn));
    world.poll(Some(Duration::from_millis(2)));
    assert_eq!(world.log.received(conn), b"to the paused!");
    world.reactor.resume(conn);
    world.run_until(|log| log.received(conn) == b"to the paused!more");
    reader.join().unwrap();
}

fn end_of_paused_connections<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(10));
    let (mut leaving, left) = world.connect();
    let (resetting, reset) = world.connect();
    world.reactor.pause(left);
    world.reactor.pause(reset);
    world.poll(Some(Duration::ZERO));
    leaving.write_all(b"last words").unwrap();
    drop(leaving);
    reset_by_peer(resetting);
    // The reset is noticed at once; the FIN waits behind the last words.
    world.run_until(|log| log.closed.contains_key(&reset));
    assert_eq!(
        world.log.closed[&reset],
        Some(io::ErrorKind::ConnectionReset)
    );
    world.poll(Some(Duration::from_millis(2)));
    assert!(!world.log.closed.contains_key(&left));
    world.reactor.resume(left);
    world.run_until(|log| log.closed.contains_key(&left));
    assert_eq!(world.log.received(left), b"last words");
    assert_eq!(world.log.closed[&left], None);
}

fn released_connection_loses_no_byte<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut worlds = [World::new(make(4)), World::new(make(4))];
    let (client, mut conn) = worlds[0].connect();
    const BYTES: usize = 8 << 20;
    let pattern = |index: usize| (index.wrapping_mul(2_654_435_761) >> 16) as u8;
    let writer = thread::spawn(move || {
        let mut client = client;
        let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
        client.write_all(&bytes).unwrap();
        client
    });
    let mut bytes: Vec<u8> = Vec::new();
    let mut here = 0;
    let mut moves = 0;
    while bytes.len() < BYTES {
        let world = &mut worlds[here];
        world.run_until(|log| !log.received(conn).is_empty());
        let socket = if moves % 2 == 0 {
            let mut unread = Vec::new();
            let socket = world
                .reactor
                .release_with_unread(conn, &mut unread)
                .expect("it is not blocked");
            bytes.append(world.log.received.get_mut(&conn).unwrap());
            bytes.append(&mut unread);
            socket
        } else {
            world.reactor.pause(conn);
            let socket = loop {
                match world.reactor.release(conn) {
                    Some(socket) => break socket,
                    None => world.poll(Some(Duration::ZERO)),
                };
            };
            bytes.append(world.log.received.get_mut(&conn).unwrap());
            socket
        };
        // It is forgotten there, and both blocking modes do.
        assert!(world.reactor.release(conn).is_none());
        socket.set_nonblocking(moves % 3 == 0).unwrap();
        moves += 1;
        here = 1 - here;
        conn = worlds[here].reactor.adopt(socket).unwrap();
    }
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(index, byte)| *byte == pattern(index))
    );
    assert_eq!(bytes.len(), BYTES);
    assert!(moves > 2);
    worlds[here].send(conn, b"all of it");
    worlds[here].flush();
    let mut answer = [0; 9];
    writer.join().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"all of it");
    // The other half never heard anything after giving it away (the log asserts it), nor does it now.
    worlds[1 - here].poll(Some(Duration::ZERO));
}

fn release_refuses_what_it_cannot_move<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (client, conn) = world.connect();
    assert!(
        world
            .reactor
            .release(ConnId {
                generation: conn.generation + 1,
                ..conn
            })
            .is_none()
    );
    assert!(
        world
            .reactor
            .release(ConnId {
                slot: conn.slot + 1,
                ..conn
            })
            .is_none()
    );
    let sent = world.send_until_blocked(conn);
    assert!(world.reactor.release(conn).is_none());
    let mut reading = client.try_clone().unwrap();
    let reader = thread::spawn(move || reading.read_exact(&mut vec![0; sent.len()]).unwrap());
    world.run_until(|log| log.writable == [conn]);
    reader.join().unwrap();
    // Bytes of this turn are brought out before the connection goes.
    world.send(conn, b"before");
    let mut socket = world
        .reactor
        .release(conn)
        .expect("nothing is in the way any more");
    socket.write_all(b" and after").unwrap();
    let mut bytes = [0; 16];
    (&client).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"before and after");
}

fn waker_ends_a_wait_and_is_not_lost<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(1));
    let waker = world.reactor.waker();
    // Before the wait: it returns, or this test hangs.
    for _ in 0..10 {
        waker.wake();
        waker.clone().wake();
        assert_eq!(world.poll(None), 0);
    }
    // During the wait (or just before it, which must not matter).
    for _ in 0..50 {
        let waker = world.reactor.waker();
        let other = thread::spawn(move || waker.wake());
        world.poll(None);
        other.join().unwrap();
        // If the wake was seen in the middle of things, this takes what is left of it.
        world.poll(Some(Duration::ZERO));
    }
    // A waker may outlive its reactor.
    drop(world);
    waker.wake();
}

fn half_close_ends_a_connection<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (mut client, conn) = world.connect();
    client.write_all(b"bye").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    world.run_until(|log| log.closed.contains_key(&conn));
    assert_eq!(world.log.received(conn), b"bye");
    assert_eq!(world.log.closed[&conn], None);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

fn peer_gone_while_blocked<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (client, conn) = world.connect();
    world.send_until_blocked(conn);
    client.shutdown(Shutdown::Write).unwrap();
    world.run_until(|log| log.closed.contains_key(&conn));
    assert_eq!(world.log.closed[&conn], None);

    let (client, conn) = world.connect();
    world.send_until_blocked(conn);
    reset_by_peer(client);
    world.run_until(|log| log.closed.contains_key(&conn));
    assert!(world.log.closed[&conn].is_some());

    // Unread bytes at the peer's end: its close is a reset.
    let (client, conn) = world.connect();
    world.send_until_blocked(conn);
    world.reactor.pause(conn);
    drop(client);
    world.run_until(|log| log.closed.contains_key(&conn));
    assert!(world.log.closed[&conn].is_some());
}

fn sending_into_a_reset_connection<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (client, conn) = world.connect();
    reset_by_peer(client);
    for _ in 0..10 {
        world.send(conn, b"anybody there?");
    }
    world.run_until(|log| log.closed.contains_key(&conn));
    assert!(world.log.closed[&conn].is_some());
    // Dropped without a word.
    world.send(conn, b"?");
    world.flush();
    world.poll(Some(Duration::ZERO));
    assert_eq!(world.log.closed.len(), 1);
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

fn the_hot_buffer_is_emptied<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (_client, conn) = world.connect();
    world.reactor.buffer().extend_from_slice(b"gap");
    world.send(conn, b"frame");
    world.flush();
    assert!(world.reactor.buffer().is_empty(), "gaps add up for ever");
}

fn order_is_kept_per_connection<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(50));
    let mut clients: Vec<_> = (0..50).map(|_| world.connect()).collect();
    let mut expected = vec![Vec::new(); clients.len()];
    let mut random = Random(7);
    for number in 0..20_000u32 {
        // Runs for one connection, and jumps between them.
        let index = if number % 3 == 0 {
            0
        } else {
            random.below(clients.len())
        };
        let message = format!("{number};");
        expected[index].extend_from_slice(message.as_bytes());
        world.send(clients[index].1, message.as_bytes());
    }
    world.flush();
    assert!(world.log.blocked.is_empty());
    for ((client, _), expected) in clients.iter_mut().zip(&expected) {
        let mut bytes = vec![0; expected.len()];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, expected);
    }
    let expected: usize = expected.iter().map(Vec::len).sum();
    assert_eq!(world.reactor.stats().bytes_sent, expected as u64);
}

fn order_is_kept_while_the_peer_makes_room<R: Reactor>(make: impl Fn(usize) -> R) {
    // Two sends of one connection in one flush: if the first is cut short and the peer reads just then, there is
    // room for the second, which must not take it.
    let mut world = World::new(make(4));
    let (mut client, conn) = world.connect();
    let (_other_client, other) = world.connect();
    let total: u32 = 4_000;
    let reader = thread::spawn(move || {
        let mut word = [0; 4096];
        for number in 0..total {
            client.read_exact(&mut word).unwrap();
            let expected = number.to_be_bytes();
            assert!(
                word.chunks(4).all(|chunk| chunk == expected),
                "out of order at {number}"
            );
        }
    });
    let mut number = 0;
    while number < total {
        for _ in 0..20 {
            world.send(conn, &number.to_be_bytes().repeat(1024));
            world.send(other, b".");
            number += 1;
        }
        world.flush();
        world.run_until(|log| !log.is_blocked(conn));
    }
    reader.join().unwrap();
}

fn close_delivers_the_last_bytes<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    for unread in [0, 10, 50_000] {
        let (mut client, conn) = world.connect();
        client.write_all(b"x").unwrap();
        world.run_until(|log| log.received(conn).len() == 1);
        // What the server will not read; without care the close would become a reset.
        world.reactor.pause(conn);
        world.poll(Some(Duration::ZERO));
        client.write_all(&vec![1; unread]).unwrap();
        let answer = vec![2; 20_000];
        world.send(conn, &answer);
        world.reactor.close(conn);
        world.log.forget(conn);
        for _ in 0..3 {
            world.poll(Some(Duration::from_millis(1)));
        }
        // The server's end is closed by now; a reset would be here (on loopback it is delivered by the close).
        assert!(
            client.take_error().unwrap().is_none(),
            "reset with {unread} bytes unread"
        );
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == answer);
    }
    // A blocked one: what the socket had taken arrives, the remainder does not.
    let (mut client, conn) = world.connect();
    let sent = world.send_until_blocked(conn);
    world.reactor.close(conn);
    world.log.forget(conn);
    world.poll(Some(Duration::ZERO));
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert!(!bytes.is_empty() && sent.starts_with(&bytes));
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
    let name = format!("{back_end}::running_out_of_descriptors");
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

/// Random doings, checked against a model as simple as possible: what a client was sent, and what it sent.
fn soak<R: Reactor>(make: impl Fn(usize) -> R) {
    for seed in 1..=5 {
        let mut world = World::new(make(40));
        let mut random = Random(seed);
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..3_000 {
            let pick = random.below(clients.len().max(1));
            match random.below(100) {
                0..12 if clients.len() < 30 => {
                    let (socket, conn) = world.connect();
                    socket.set_nonblocking(true).unwrap();
                    clients.push(Client::new(socket, conn));
                }
                _ if clients.is_empty() => {}
                12..40 => {
                    let client = &mut clients[pick];
                    let bytes = vec![random.below(256) as u8; 1 + random.below(9_000)];
                    let taken = (&client.socket).write(&bytes).unwrap_or(0);
                    client.said.extend_from_slice(&bytes[..taken]);
                }
                40..70 => {
                    let client = &mut clients[pick];
                    if !world.log.is_blocked(client.conn) {
                        let bytes = vec![random.below(256) as u8; 1 + random.below(60_000)];
                        world.send(client.conn, &bytes);
                        client.sent.extend_from_slice(&bytes);
                    }
                }
                70..80 => clients[pick].read_some(),
                80..84 => world.reactor.pause(clients[pick].conn),
                84..90 => world.reactor.resume(clients[pick].conn),
                90..93 => {
                    let client = &mut clients[pick];
                    let mut unread = Vec::new();
                    if let Some(socket) =
                        world.reactor.release_with_unread(client.conn, &mut unread)
                    {
                        let old = client.conn;
                        let mut received = world.log.received.remove(&old).unwrap_or_default();
                        received.append(&mut unread);
                        world.log.forget(old);
                        client.conn = world.reactor.adopt(socket).unwrap();
                        world.log.received.insert(client.conn, received);
                    }
                }
                93..95 => {
                    let client = clients.swap_remove(pick);
                    world.reactor.close(client.conn);
                    world.log.forget(client.conn);
                }
                95..97 => {
                    let client = clients.swap_remove(pick);
                    if random.below(2) == 0 {
                        reset_by_peer(client.socket);
                    }
                    world.reactor.resume(client.conn);
                }
                _ => {
                    world.poll(Some(Duration::ZERO));
                }
            }
        }
        // Whoever is left hears and is heard to the end.
        for client in &mut clients {
            world.reactor.resume(client.conn);
        }
        let start = Instant::now();
        loop {
            world.poll(Some(Duration::from_millis(1)));
            clients.iter_mut().for_each(Client::read_some);
            let is_done = |client: &Client| {
                client.heard.len() == client.sent.len()
                    && world.log.received(client.conn).len() == client.said.len()
            };
            if clients.iter().all(is_done) {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "seed {seed}: bytes are missing");
        }
        for client in &clients {
            assert!(client.heard == client.sent, "seed {seed}");
            assert!(
                world.log.received(client.conn) == client.said,
                "seed {seed}"
            );
            assert!(!world.log.closed.contains_key(&client.conn), "seed {seed}");
        }
        assert_eq!(world.reactor.stats().refused, 0);
    }
}

// --- the world the tests play in ---

/// One reactor with one listener, and a log of all it reports.
struct World<R> {
    reactor: R,
    address: SocketAddr,
    log: Log,
}

/// What was reported. Checks on the way what every event has to obey.
#[derive(Default)]
struct Log {
    accepted: Vec<(ConnId, u32, SocketAddr)>,
    received: HashMap<ConnId, Vec<u8>>,
    blocked: Vec<ConnId>,
    writable: Vec<ConnId>,
    closed: HashMap<ConnId, Option<io::ErrorKind>>,
    blocked_now: HashSet<ConnId>,
    // Closed or released by the test.
    forgotten: HashSet<ConnId>,
}

impl Log {
    fn on_event(&mut self, event: Event<'_>) {
        let conn = match event {
            Event::Accepted { conn, .. }
            | Event::Received { conn, .. }
            | Event::Blocked { conn }
            | Event::Writable { conn }
            | Event::Closed { conn, .. } => conn,
        };
        assert!(!self.closed.contains_key(&conn), "{event:?} after the end");
        assert!(
            !self.forgotten.contains(&conn),
            "{event:?} after it was closed or released"
        );
        match event {
            Event::Accepted {
                conn,
                listener,
                peer,
            } => {
                assert!(
                    self.accepted.iter().all(|(known, ..)| *known != conn),
                    "an id came back"
                );
                self.accepted.push((conn, listener, peer));
            }
            Event::Received { conn, bytes } => {
                assert!(!bytes.is_empty());
                self.received
                    .entry(conn)
                    .or_default()
                    .extend_from_slice(bytes);
                // Frames are unmasked in place.
                bytes.fill(0xff);
            }
            Event::Blocked { conn } => {
                assert!(self.blocked_now.insert(conn), "blocked twice");
                self.blocked.push(conn);
            }
            Event::Writable { conn } => {
                assert!(
                    self.blocked_now.remove(&conn),
                    "writable without having been blocked"
                );
                self.writable.push(conn);
            }
            Event::Closed { conn, error } => {
                self.closed.insert(conn, error.map(|error| error.kind()));
            }
        }
    }

    fn received(&self, conn: ConnId) -> &[u8] {
        self.received.get(&conn).map_or(&[], Vec::as_slice)
    }

    fn is_blocked(&self, conn: ConnId) -> bool {
        self.blocked_now.contains(&conn)
    }

    fn forget(&mut self, conn: ConnId) {
        self.forgotten.insert(conn);
    }
}

impl<R: Reactor> World<R> {
    fn new(mut reactor: R) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        reactor.listen(socket, LISTENER).unwrap();
        Self {
            reactor,
            address,
            log: Log::default(),
        }
    }

    fn poll(&mut self, wait: Option<Duration>) -> usize {
        self.reactor
            .poll(wait, &mut |event: Event<'_>| self.log.on_event(event))
            .unwrap()
    }

    fn flush(&mut self) {
        self.reactor
            .flush(&mut |event: Event<'_>| self.log.on_event(event))
            .unwrap();
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let buffer = self.reactor.buffer();
        let start = buffer.len();
        buffer.extend_from_slice(bytes);
        self.reactor.send(conn, start);
    }

    fn run_until(&mut self, is_done: impl Fn(&Log) -> bool) {
        let start = Instant::now();
        while !is_done(&self.log) {
            self.poll(Some(Duration::from_secs(1)));
            assert!(
                start.elapsed() < PATIENCE,
                "what was waited for did not happen"
            );
        }
    }

    /// A client and the connection that was accepted for it.
    fn connect(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.address).unwrap();
        let address = client.local_addr().unwrap();
        let is_it = |accepted: &&(ConnId, u32, SocketAddr)| accepted.2 == address;
        let before = self.log.accepted.len();
        self.run_until(|log| {
            log.accepted[before..]
                .iter()
                .any(|accepted| is_it(&accepted))
        });
        let conn = self.log.accepted[before..].iter().find(is_it).unwrap().0;
        (client, conn)
    }

    /// Sends more than the buffers of both ends hold, so that the connection stays blocked until the client reads;
    /// returns everything that was sent.
    fn send_until_blocked(&mut self, conn: ConnId) -> Vec<u8> {
        let mut random = Random(42);
        let sent: Vec<u8> = (0..MORE_THAN_SOCKETS_HOLD)
            .map(|_| random.below(256) as u8)
            .collect();
        self.send(conn, &sent);
        self.flush();
        assert!(self.log.is_blocked(conn));
        sent
    }
}

/// The other end of a connection in the soak.
struct Client {
    socket: TcpStream,
    conn: ConnId,
    said: Vec<u8>,
    sent: Vec<u8>,
    heard: Vec<u8>,
}

impl Client {
    fn new(socket: TcpStream, conn: ConnId) -> Self {
        Self {
            socket,
            conn,
            said: Vec::new(),
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn read_some(&mut self) {
        let mut bytes = [0; 70_000];
        if let Ok(read) = self.socket.read(&mut bytes) {
            self.heard.extend_from_slice(&bytes[..read]);
        }
    }
}

fn reset_by_peer(client: TcpStream) {
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

fn open_files_soft_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line.split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap_or(usize::MAX)
}

/// xorshift: the same doings for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

const LISTENER: u32 = 3;

// Linux lets a sender's buffer grow to 4 MiB and a receiver's to 6 MiB (32 on recent kernels, but only if it reads).
const MORE_THAN_SOCKETS_HOLD: usize = 16 << 20;

// Before a test is called hung; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);
