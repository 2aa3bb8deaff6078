//! Ends of connections, by either side and at the worst moments.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use brightwire::reactor::Reactor;

use crate::on_both_back_ends;
use crate::support::{World, reset_by_peer};

on_both_back_ends!(
    end_of_paused_connections,
    half_close_ends_a_connection,
    peer_gone_while_blocked,
    sending_into_a_reset_connection,
    close_delivers_the_last_bytes,
);

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
