//! Connections are given away and adopted, and lose no byte on the way.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use brightwire::reactor::{ConnId, Reactor};

use crate::on_both_back_ends;
use crate::support::World;

on_both_back_ends!(
    released_connection_loses_no_byte,
    release_refuses_what_it_cannot_move,
);

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
