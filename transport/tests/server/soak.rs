//! Many clients that come, subscribe, ask, move, break off and come back at random, for some seconds; and then the
//! server must be as good as new.
//!
//! What clients do is drawn from a seed, printed at the start and with a failure. The interleaving is the machine's.

use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use engine::tlcp::client::Line;
use fastrand::Rng;

use crate::on_both_back_ends;
use crate::support::client::{bind_message, framed};
use crate::support::{Client, Counted, Feed, Io, Server, Setup};

on_both_back_ends!(clients_come_and_go_at_random);

const CLIENTS: u64 = 300;
const SECONDS: u64 = 6;
const SEED: u64 = 20_261_123;
const FEED: Feed = Feed::new(20_000, 50);

/// Sessions that some client has let go of, with what it knew: another one may bind them.
type Orphans = Mutex<Vec<Session>>;

struct Session {
    id: String,
    counted: Option<Counted>,
}

fn clients_come_and_go_at_random(io: Io) {
    println!("seed {SEED}");
    let server = Server::start(
        io,
        Setup {
            shards: 2,
            sessions: "recovery_timeout = \"1s\"\nsession_timeout = \"2s\"",
            replay: Some(&FEED.csv()),
            rate_hz: 100.0,
            ..Setup::default()
        },
    );
    let orphans = Arc::new(Orphans::default());
    let stop = Arc::new(AtomicBool::new(false));
    let address = server.address;
    let threads: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (orphans, stop) = (Arc::clone(&orphans), Arc::clone(&stop));
            thread::spawn(move || {
                let mut rng = Rng::with_seed(SEED + number);
                while !stop.load(Ordering::Relaxed) {
                    live(address, &mut rng, &orphans, &stop);
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_secs(SECONDS)); // the length of the soak, nothing is waited for
    stop.store(true, Ordering::Relaxed);
    let failed = threads
        .into_iter()
        .filter_map(|thread| thread.join().err())
        .count();
    assert_eq!(failed, 0, "clients failed, seed {SEED}");

    let (mut client, id) = Client::with_session(address);
    let mut counted = FEED.counted();
    client.send(&FEED.subscribe(1, &id));
    assert_eq!(client.line(), "REQOK,add1");
    counted.take(&client.update()).unwrap();
    let rss = server.rss_bytes();
    assert!(rss < 200 << 20, "{rss} bytes");
    drop(client);
    server.stop();
}

/// The life of one connection.
fn live(address: SocketAddr, rng: &mut Rng, orphans: &Orphans, stop: &AtomicBool) {
    let mut client = Client::connect(address);
    let mut session = open(&mut client, rng, orphans);
    for step in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match rng.u8(..100) {
            // Read on, which is what clients do most.
            0..60 => {
                if session.counted.is_none() {
                    client.send(&FEED.subscribe(1, &session.id));
                    assert_eq!(client.answer("add1"), "REQOK,add1");
                    session.counted = Some(FEED.counted());
                }
                let line = client.update();
                session.counted.as_mut().unwrap().take(&line);
            }
            60..75 => {
                client.send(&format!(
                    "control\r\nLS_reqId=d{step}&LS_op=delete&LS_subId=1"
                ));
                loop {
                    let line = client.line();
                    match Line::parse(&line) {
                        Ok(Line::Reqok { .. }) => break assert!(session.counted.is_some()),
                        Ok(Line::Reqerr { .. }) => break assert!(session.counted.is_none()),
                        _ => take(&mut session, &line),
                    }
                }
                if session.counted.take().is_some() {
                    client.line_such(|line| matches!(line, Line::Unsub { .. }));
                }
            }
            // Let the session go, and take another one on the same connection.
            75..85 => {
                let id = session.id.clone();
                client.force_rebind(&id, |line| take(&mut session, line));
                orphans.lock().unwrap().push(session);
                session = open(&mut client, rng, orphans);
            }
            // Break off: in order, by a reset, in the middle of a frame. The session is lost or expires.
            85..90 => return client.stream.shutdown(Shutdown::Both).unwrap(),
            90..93 => {
                socket2::SockRef::from(&client.stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                return;
            }
            93..96 => {
                let frame = framed(&["control\r\nLS_reqId=1&LS_op=destroy"]);
                return client.send_bytes(&frame[..rng.usize(1..frame.len())]);
            }
            // Make an end of the session.
            _ => {
                client.send(&format!(
                    "control\r\nLS_reqId=end&LS_op=destroy&LS_session={}",
                    session.id
                ));
                client.line_such(|line| matches!(line, Line::End { .. }));
                client.end();
                return;
            }
        }
    }
}

/// A session for the connection: one that somebody has left, if it still lives, or a new one.
fn open(client: &mut Client, rng: &mut Rng, orphans: &Orphans) -> Session {
    let orphan = if rng.bool() {
        orphans.lock().unwrap().pop()
    } else {
        None
    };
    if let Some(orphan) = orphan {
        client.send_together(&["wsok", &bind_message(&orphan.id)]);
        assert_eq!(client.line(), "WSOK");
        let line = client.line();
        if line.starts_with("CONOK,") {
            for _ in 0..3 {
                client.line(); // SERVNAME, CLIENTIP, CONS
            }
            return orphan;
        }
        assert!(line.starts_with("CONERR,20,"), "{line}");
    }
    Session {
        id: client.create(""),
        counted: None,
    }
}

fn take(session: &mut Session, line: &str) {
    if let Some(counted) = &mut session.counted {
        counted.take(line);
    }
}
