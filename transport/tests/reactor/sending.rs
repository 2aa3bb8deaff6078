//! What is sent arrives, whole and in order, however slowly it is taken.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use brightwire::reactor::Reactor;

use crate::on_both_back_ends;
use crate::support::{Random, World};

on_both_back_ends!(
    echo_split_at_every_position,
    blocked_writer_gets_everything_through,
    sends_before_the_blockade_is_known_keep_their_order,
    the_hot_buffer_is_emptied,
    order_is_kept_per_connection,
    order_is_kept_while_the_peer_makes_room,
    the_last_bytes_go_to_others_too,
);

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

fn the_hot_buffer_is_emptied<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (_client, conn) = world.connect();
    world.reactor.buffer().extend_from_slice(b"gap");
    world.send(conn, b"frame");
    world.flush();
    assert!(world.reactor.buffer().is_empty(), "gaps add up for ever");
}

fn the_last_bytes_go_to_others_too<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(4));
    let (mut first, one) = world.connect();
    let (mut second, two) = world.connect();
    assert!(!world.reactor.send_again(two), "nothing was sent yet");
    world.send(one, b"frame");
    assert!(world.reactor.send_again(two));
    world.send(two, b"own");
    assert!(world.reactor.send_again(one));
    world.flush();
    assert!(!world.reactor.send_again(two), "the bytes are gone");
    world.flush();
    for client in [&mut first, &mut second] {
        let mut bytes = [0; 8];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"frameown");
    }
    assert_eq!(world.reactor.stats().bytes_sent, 16);
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
