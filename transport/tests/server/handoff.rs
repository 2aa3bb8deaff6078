//! Sessions and connections on different shards: connections move to the shard of the session they bind, control
//! requests are passed on to it.
//!
//! The kernel chooses the shard of a connection; the id of a session created on it tells which it was.

use std::net::SocketAddr;

use engine::tlcp::client::Line;

use crate::on_both_back_ends;
use crate::support::client::{bind_message, framed, shard_of};
use crate::support::{Client, Counted, Ended, Feed, Io, Server, Setup};

on_both_back_ends!(
    a_bind_moves_the_connection,
    bytes_around_a_moving_bind_are_kept,
    connections_move_to_and_fro,
    control_requests_are_passed_on,
    many_control_requests_are_passed_on,
    unknown_sessions_are_not_found_on_any_shard,
    a_bound_session_is_taken_over,
    a_new_session_replaces_one_of_another_shard,
);

/// More rows than any of these tests takes at its pace.
const FEED: Feed = Feed::new(60_000, 20);

fn start(io: Io) -> Server {
    Server::start(
        io,
        Setup {
            shards: 2,
            replay: Some(&FEED.csv()),
            ..Setup::default()
        },
    )
}

/// For each shard a client that lives there, with its session.
fn one_on_each(address: SocketAddr) -> [(Client, String); 2] {
    let mut found = [None, None];
    // All of so many on one shard: one in 2^64.
    for _ in 0..64 {
        let (client, id) = Client::with_session(address);
        found[usize::from(shard_of(&id))].get_or_insert((client, id));
        if found.iter().all(Option::is_some) {
            return found.map(Option::unwrap);
        }
    }
    panic!("the kernel spreads connections over all sockets of a port");
}

/// Subscribes a session to the feed and reads the first rows.
fn subscribe(client: &mut Client, id: &str) -> Counted {
    let mut counted = FEED.counted();
    client.send(&FEED.subscribe(1, id));
    assert_eq!(client.answer("add1"), "REQOK,add1");
    read_on(client, &mut counted);
    counted
}

/// Reads a few rows.
fn read_on(client: &mut Client, counted: &mut Counted) {
    for _ in 0..3 {
        counted.take(&client.update()).unwrap();
    }
}

fn a_bind_moves_the_connection(io: Io) {
    let server = start(io);
    for moving in [0, 1] {
        let mut clients = one_on_each(server.address);
        clients.rotate_left(moving);
        let [(mut there, a), (mut here, b)] = clients;
        let mut counted = subscribe(&mut there, &a);
        there.force_rebind(&a, |line| counted.take(line));
        here.force_rebind(&b, |_| ());

        here.send_together(&["wsok", &bind_message(&a)]);
        assert_eq!(here.line(), "WSOK");
        assert_eq!(here.head(), a);
        read_on(&mut here, &mut counted);

        // What names no session means the one just bound.
        here.send(
            "control\r\nLS_reqId=2&LS_op=add&LS_subId=2&LS_mode=MERGE&LS_group=item1&LS_schema=last_price\
             &LS_data_adapter=QUOTE_ADAPTER",
        );
        assert_eq!(here.answer("2"), "REQOK,2");
        here.line_such(|line| matches!(line, Line::Subok { sub_id: 2, .. }));
        here.line_such(|line| matches!(line, Line::Update { sub_id: 2, .. }));
        here.send("control\r\nLS_reqId=3&LS_op=delete&LS_subId=2");
        assert_eq!(here.answer("3"), "REQOK,3");
        here.line_such(|line| matches!(line, Line::Unsub { sub_id: 2 }));

        // The connection that the session left is free for the other session.
        there.bind(&b);
        for (client, id) in [(&mut here, &a), (&mut there, &b)] {
            client.send(&format!(
                "control\r\nLS_reqId=4&LS_op=destroy&LS_session={id}&LS_close_socket=true"
            ));
            assert_eq!(client.answer("4"), "REQOK,4");
            client.line_such(|line| matches!(line, Line::End { .. }));
            assert!(matches!(client.end(), Ended::Close(_)));
        }
    }
    server.stop();
}

/// A bind whose frame arrives in two pieces, cut everywhere; and behind it a request that is cut everywhere. That a
/// piece was read is seen by the answer to what came before the cut.
fn bytes_around_a_moving_bind_are_kept(io: Io) {
    let server = start(io);
    let [(mut client, a), (mut other, b)] = one_on_each(server.address);
    client.force_rebind(&a, |_| ());
    other.force_rebind(&b, |_| ());
    let mut ids = [&b, &a].into_iter().cycle();
    let control =
        framed(&["control\r\nLS_reqId=x&LS_op=constrain&LS_requested_max_bandwidth=unlimited"]);
    let wsok = framed(&["wsok"]);

    for cut in (0..framed(&[&bind_message(&a)]).len()).step_by(3) {
        let id = ids.next().unwrap();
        let bind = framed(&[&bind_message(id)]);
        let (first, second) = bind.split_at(cut);
        client.send_bytes(&[&wsok, first].concat());
        assert_eq!(client.line(), "WSOK");
        client.send_bytes(&[second, &control, &control].concat());
        assert_eq!(client.head(), **id);
        for _ in 0..2 {
            assert_eq!(client.answer("x"), "REQOK,x");
        }
        client.force_rebind(id, |_| ());
    }
    for cut in (0..control.len()).step_by(3) {
        let id = ids.next().unwrap();
        let (first, second) = control.split_at(cut);
        client.send_bytes(&[&framed(&["wsok", &bind_message(id)]), first].concat());
        assert_eq!(client.line(), "WSOK");
        assert_eq!(client.head(), **id);
        client.send_bytes(second);
        assert_eq!(client.answer("x"), "REQOK,x");
        client.force_rebind(id, |_| ());
    }
    server.stop();
}

/// One connection serves two sessions of different shards in turns; neither loses a row's fields.
fn connections_move_to_and_fro(io: Io) {
    let server = start(io);
    let [(mut client, a), (mut other, b)] = one_on_each(server.address);
    let mut sessions = [
        (subscribe(&mut client, &a), &a),
        (subscribe(&mut other, &b), &b),
    ];
    client.force_rebind(&a, |line| sessions[0].0.take(line));
    other.force_rebind(&b, |line| sessions[1].0.take(line));
    for turn in 0..50 {
        let (counted, id) = &mut sessions[(turn + 1) % 2];
        client.send_together(&["wsok", &bind_message(id)]);
        assert_eq!(client.line(), "WSOK");
        assert_eq!(client.head(), **id);
        counted.take(&client.update()).unwrap();
        client.force_rebind(id, |line| counted.take(line));
    }
    server.stop();
}

fn control_requests_are_passed_on(io: Io) {
    let server = start(io);
    let [(mut stream, a), (mut control, _)] = one_on_each(server.address);
    let mut counted = FEED.counted();
    control.send(&FEED.subscribe(1, &a));
    assert_eq!(control.line(), "REQOK,add1", "answered where it was asked");
    assert_eq!(
        stream.line(),
        "SUBOK,1,1,4",
        "and carried out where the session is"
    );
    read_on(&mut stream, &mut counted);
    for (request, answer) in [
        (
            "LS_op=reconf&LS_subId=1&LS_requested_max_frequency=unlimited",
            "REQOK,q",
        ),
        ("LS_op=delete&LS_subId=7", "REQERR,q,19,"),
        ("LS_op=nonsense", "REQERR,q,65,"),
        ("LS_op=delete&LS_subId=1", "REQOK,q"),
    ] {
        control.send(&format!("control\r\nLS_reqId=q&LS_session={a}&{request}"));
        let line = control.line();
        assert!(line.starts_with(answer), "{line} instead of {answer}");
    }
    stream.line_such(|line| matches!(line, Line::Unsub { sub_id: 1 }));
    control.send(&format!(
        "control\r\nLS_reqId=d&LS_session={a}&LS_op=destroy"
    ));
    assert_eq!(control.line(), "REQOK,d");
    stream.line_such(|line| matches!(line, Line::End { .. }));
    server.stop();
}

/// More requests than a ring between shards holds, from several connections at once: each is answered, once, and a
/// client's own in their order unless the ring was full.
fn many_control_requests_are_passed_on(io: Io) {
    const CLIENTS: usize = 6;
    const REQUESTS: usize = 500;
    let server = Server::start(
        io,
        Setup {
            shards: 2,
            rings: "control_ring_len = 16",
            ..Setup::default()
        },
    );
    let [(_stream, a), (first, b)] = one_on_each(server.address);
    let mut clients = vec![first];
    while clients.len() < CLIENTS {
        let (client, id) = Client::with_session(server.address);
        if shard_of(&id) == shard_of(&b) {
            clients.push(client);
        }
    }
    let lines: Vec<String> = (0..REQUESTS)
        .map(|id| format!("LS_reqId={id}&LS_session={a}&LS_op=delete&LS_subId=7"))
        .collect();
    let message = format!("control\r\n{}", lines.join("\r\n"));
    assert!(message.len() < 50_000);
    for client in &mut clients {
        client.send(&message);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let mut open = vec![true; REQUESTS];
        for count in 0..REQUESTS {
            let line = client.line();
            let Ok(Line::Reqerr { req_id, .. }) = Line::parse(&line) else {
                panic!("{line} instead of the refusal {count}");
            };
            let id: usize = req_id.parse().unwrap();
            assert!(
                std::mem::take(&mut open[id]),
                "client {index}: {line} for the second time"
            );
        }
    }
    server.stop();
}

fn unknown_sessions_are_not_found_on_any_shard(io: Io) {
    let server = start(io);
    let [(mut client, a), (mut other, b)] = one_on_each(server.address);
    client.force_rebind(&a, |_| ());
    other.force_rebind(&b, |_| ());
    // Like the ids of either shard's sessions, but for a digit of the random part; and nothing like an id.
    let unknown = |id: &str| {
        let digit = if &id[20..21] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &id[..20], &id[21..])
    };
    for id in [
        unknown(&a),
        unknown(&b),
        unknown(&a),
        "S".into(),
        "Snonsense".into(),
    ] {
        client.send_together(&["wsok", &bind_message(&id)]);
        assert_eq!(client.line(), "WSOK");
        let line = client.line();
        assert!(line.starts_with("CONERR,20,"), "{line}");
        client.send(&format!(
            "control\r\nLS_reqId=1&LS_op=force_rebind&LS_session={id}"
        ));
        let line = client.line();
        assert!(line.starts_with("REQERR,1,20,"), "{line}");
    }
    client.bind(&a);
    server.stop();
}

fn a_bound_session_is_taken_over(io: Io) {
    let server = start(io);
    let [(mut old, a), (mut new, b)] = one_on_each(server.address);
    let mut counted = subscribe(&mut old, &a);
    new.force_rebind(&b, |_| ());
    new.bind(&a);
    // Rows that are on their way on the old connection come before those of the new one.
    loop {
        let line = old.line();
        if let Ok(Line::End { code, .. }) = Line::parse(&line) {
            assert_eq!(code, 40, "{line}");
            break;
        }
        counted.take(&line);
    }
    assert!(matches!(old.end(), Ended::Close(_)));
    read_on(&mut new, &mut counted);
    server.stop();
}

fn a_new_session_replaces_one_of_another_shard(io: Io) {
    let server = start(io);
    let [(mut old, a), (mut new, b)] = one_on_each(server.address);
    new.force_rebind(&b, |_| ());
    let c = new.create(&format!("&LS_old_session={a}"));
    assert_ne!(c, a);
    assert!(
        matches!(old.end(), Ended::Close(_)),
        "the old connection is closed"
    );
    let mut late = Client::connect(server.address);
    late.send(&bind_message(&a));
    let line = late.line();
    assert!(line.starts_with("CONERR,20,"), "{line}");
    server.stop();
}
