//! Clients that read nothing for half a minute, among many that read everything.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::on_both_back_ends;
use crate::support::{Client, Feed, Io, Server, Setup, wait_until};

on_both_back_ends!(stalled_clients_cost_no_memory_and_get_the_newest);

const RATE_HZ: u64 = 100;
/// 32 seconds.
const FEED: Feed = Feed::new(32 * RATE_HZ, 300);
const READERS: usize = 100;
/// More of them would wait for the probes of the kernel one after the other.
const STALLED: usize = 1;
/// What the server may grow by meanwhile: some of it is memory that is used for the first time.
const GROWN_BYTES_MAX: u64 = 3 << 20;
/// A few seconds of the feed. With less the kernel drops what it has no room for, and waits up to half a minute until
/// it sends that again.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;
/// What the kernel may hold of a stalled client's backlog, in rows: the receive buffer, twice what was asked for, the
/// send buffer with its unsent part, and what one turn sends. Seen: 660 of 3,200.
const ROWS_BUFFERED_MAX: u64 = 1_000;
/// A bound on waiting like `WAIT_MAX`, for what the kernel does send again after all.
const RESENT_AFTER_MAX: Duration = Duration::from_secs(90);

fn stalled_clients_cost_no_memory_and_get_the_newest(io: Io) {
    let server = Server::start(
        io,
        Setup {
            shards: 2,
            // So small that its memory is in use long before the fifth second.
            rings: "data_ring = \"64KiB\"",
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
    let stalled: Vec<_> = (0..STALLED)
        .map(|_| {
            let stream = TcpStream::connect(server.address).unwrap();
            SockRef::from(&stream)
                .set_recv_buffer_size(RECEIVE_BUFFER_BYTES)
                .unwrap();
            let mut client = Client::upgrade(stream, &[]).unwrap();
            let id = client.create("");
            client.send(&FEED.subscribe(1, &id));
            assert_eq!(client.line(), "REQOK,add1");
            client
        })
        .collect();

    // Time is told by the rows: the fifth second, and the thirtieth.
    let rss_at = |second: u64| {
        while newest.load(Ordering::Relaxed) < second * RATE_HZ {
            thread::sleep(Duration::from_millis(20));
            assert!(
                !readers.iter().any(|reader| reader.is_finished()),
                "a reader failed"
            );
        }
        server.rss_bytes()
    };
    let (early, late) = (rss_at(5), rss_at(30));
    // It may shrink: the allocator gives back what the beginning took.
    assert!(late < early + GROWN_BYTES_MAX, "{early} bytes, then {late}");

    for reader in readers {
        let updates = reader.join().unwrap();
        assert!(
            updates >= FEED.rows / 2,
            "{updates} updates of {} rows",
            FEED.rows
        );
    }
    // Now they read: what was on its way, in order, and then the state of now.
    for mut client in stalled {
        client
            .stream
            .set_read_timeout(Some(RESENT_AFTER_MAX))
            .unwrap();
        let mut counted = FEED.counted();
        while counted.last != Some(FEED.rows - 1) {
            counted.take(&client.line());
        }
        assert!(
            counted.updates < ROWS_BUFFERED_MAX,
            "{} updates",
            counted.updates
        );
    }
    wait_until("the server sleeps", || server.sleeps());
    server.stop();
}
