//! One client that reads nothing for half a minute, among many that read everything.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::on_both_back_ends;
use crate::support::{Client, Feed, Io, Server, Setup, wait_until};

on_both_back_ends!(a_stalled_client_costs_no_memory_and_gets_the_newest);

const RATE_HZ: u64 = 100;
/// 32 seconds.
const FEED: Feed = Feed::new(32 * RATE_HZ, 300);
const READERS: usize = 100;
/// What the kernel may hold of the stalled client's backlog, in rows: the receive buffer, the send buffer with its
/// unsent part, and what one turn sends. At about 330 bytes for a row 64 KiB are 200 rows, of 3,200.
const ROWS_BUFFERED_MAX: u64 = 400;

fn a_stalled_client_costs_no_memory_and_gets_the_newest(io: Io) {
    let server = Server::start(
        io,
        Setup {
            shards: 2,
            replay: Some(&FEED.csv()),
            rate_hz: RATE_HZ as f64,
            ..Setup::default()
        },
    );
    let newest = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (mut client, id) = Client::with_session(server.address);
            let newest = Arc::clone(&newest);
            thread::spawn(move || {
                let mut counted = FEED.counted();
                client.send(&FEED.subscribe(1, &id));
                while counted.last != Some(FEED.rows - 1) {
                    if let Some(n) = counted.take(&client.line()) {
                        newest.fetch_max(n, Ordering::Relaxed);
                    }
                }
                counted.updates
            })
        })
        .collect();
    let stream = TcpStream::connect(server.address).unwrap();
    socket2::SockRef::from(&stream)
        .set_recv_buffer_size(4096)
        .unwrap();
    let mut stalled = Client::upgrade(stream, &[]).unwrap();
    let id = stalled.create("");
    stalled.send(&FEED.subscribe(1, &id));
    assert_eq!(stalled.line(), "REQOK,add1");

    // Time is told by the rows: the fifth second, and the thirtieth.
    let rss_at = |second: u64| {
        while newest.load(Ordering::Relaxed) < second * RATE_HZ {
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(
                !readers.iter().any(|reader| reader.is_finished()),
                "a reader failed"
            );
        }
        server.rss_bytes()
    };
    let (early, late) = (rss_at(5), rss_at(30));
    assert!(late.abs_diff(early) < 4 << 20, "{early} bytes, then {late}");

    for reader in readers {
        let updates = reader.join().unwrap();
        assert!(
            updates >= FEED.rows / 2,
            "{updates} updates of {} rows",
            FEED.rows
        );
    }
    // Now it reads: what was on its way, in order, and then the state of now.
    let mut counted = FEED.counted();
    while counted.last != Some(FEED.rows - 1) {
        counted.take(&stalled.line());
    }
    assert!(
        counted.updates < ROWS_BUFFERED_MAX,
        "{} updates",
        counted.updates
    );
    wait_until("the server sleeps", || server.sleeps());
    server.stop();
}
