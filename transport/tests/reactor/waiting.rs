//! What is paused is not read, a poll that waits can be woken, and sockets have options.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use brightwire::reactor::Reactor;
use socket2::SockRef;

use crate::on_both_back_ends;
use crate::support::World;

on_both_back_ends!(
    paused_is_not_read,
    options_are_set_beside_it,
    waker_ends_a_wait_and_is_not_lost,
);

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

/// Options of a socket are set beside the reactor; a connection that is gone has none.
fn options_are_set_beside_it<R: Reactor>(make: impl Fn(usize) -> R) {
    let mut world = World::new(make(1));
    let (_client, conn) = world.connect();
    for quick in [false, true] {
        let socket = world.reactor.socket(conn).unwrap();
        SockRef::from(&socket).set_tcp_quickack(quick).unwrap();
        assert_eq!(SockRef::from(&socket).tcp_quickack().unwrap(), quick);
    }
    world.reactor.close(conn);
    assert!(world.reactor.socket(conn).is_none());
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
