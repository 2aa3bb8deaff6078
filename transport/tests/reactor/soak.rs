//! Everything at once, at random.

use std::io::Write;
use std::time::{Duration, Instant};

use brightwire::reactor::Reactor;

use crate::on_both_back_ends;
use crate::support::{Client, PATIENCE, Random, World, reset_by_peer};

on_both_back_ends!(soak,);

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
