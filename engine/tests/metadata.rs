//! What shards tell metadata adapters beside their questions, and what they make of answers that grant more or less than
//! was asked for.

use engine::ids::{DataAdapterId, ShardId};
use engine::metadata::{AdapterSetId, Granted, GrantedItem, Question, Statistics};
use engine::shard::session_id;
use engine::sim::pair::Pair;
use engine::sim::world::{Event, Options, Say};
use engine::time::Duration;
use engine::tlcp::Version;
use engine::tlcp::request::Mode;
use std::collections::BTreeSet;

/// What a session is granted, if nothing else matters.
fn session() -> Granted {
    Granted::Session {
        adapter_set: AdapterSetId(0),
        session: None,
        bandwidth_kbps_max: None,
        time_to_live: None,
        notices: true,
    }
}

fn options(user: Granted) -> Options {
    let counted = Granted::Subscription {
        data_adapter: DataAdapterId(0),
        items: ["a", "b"]
            .map(|name| GrantedItem {
                name: name.into(),
                ..GrantedItem::default()
            })
            .into(),
        fields: ["f".into()].into(),
        statistics: true,
        mode: Mode::Merge,
        claim: None,
    };
    Options {
        user_answers: [("u".into(), Some(Ok(user)))].into(),
        group_answers: [("counted".into(), Some(Ok(counted)))].into(),
        ..Options::default()
    }
}

/// A client with a session of the user `u`, and the session's id.
fn connect(options: Options) -> (Pair, String) {
    let mut pair = Pair::new(options);
    pair.ask("create_session\r\nLS_cid=pair&LS_user=u&LS_send_sync=false");
    let conok = pair.lines().remove(0);
    let id = conok.split(',').nth(1).expect("CONOK").to_owned();
    (pair, id)
}

fn notices(pair: &mut Pair) -> Vec<Question> {
    let mut notices = Vec::new();
    while let Some(event) = pair.world.poll_event() {
        if let Event::Notice(notice) = event {
            notices.push(notice);
        }
    }
    notices
}

/// Four updates within the least interval: the first goes at once, of the other three the newest when it may.
fn four_updates(pair: &mut Pair) {
    pair.snapshot("a", &[("f", Some("0"))]);
    for value in ["1", "2", "3", "4"] {
        pair.advance_ms(100);
        pair.update("a", &[("f", Some(value))]);
    }
    pair.advance_ms(2_000);
}

#[test]
fn statistics_tell_what_became_of_updates_and_snapshots_do_not_count() {
    let (mut pair, id) = connect(options(session()));
    pair.subscribe(1, "counted", "f", "LS_requested_max_frequency=1");
    four_updates(&mut pair);
    pair.ask("control\r\nLS_reqId=2&LS_op=delete&LS_subId=1");
    let statistics = Statistics {
        sent: 1,
        lost: 0,
        filtered: 3,
    };
    let told = Question::Unsubscribed {
        session: id.into(),
        sub_id: 1,
        statistics: [statistics, Statistics::default()].into(),
    };
    assert_eq!(notices(&mut pair), [told]);
}

#[test]
fn an_update_is_counted_as_one_where_no_snapshot_was_asked_for() {
    let (mut pair, _) = connect(options(session()));
    pair.ask(
        "control\r\nLS_reqId=1&LS_op=add&LS_subId=1&LS_mode=MERGE&LS_group=counted&LS_schema=f\
         &LS_snapshot=false&LS_requested_max_frequency=unfiltered",
    );
    four_updates(&mut pair);
    pair.ask("control\r\nLS_reqId=2&LS_op=delete&LS_subId=1");
    let [Question::Unsubscribed { statistics, .. }] = &notices(&mut pair)[..] else {
        panic!("one notice");
    };
    assert_eq!((statistics[0].sent, statistics[0].filtered), (4, 0));
}

#[test]
fn at_the_end_of_a_session_its_statistics_come_before_it() {
    let (mut pair, id) = connect(options(session()));
    pair.subscribe(1, "counted", "f", "");
    pair.subscribe(2, "uncounted", "f", "");
    pair.ask("control\r\nLS_reqId=9&LS_op=destroy");
    let told = notices(&mut pair);
    assert!(
        matches!(
            &told[..],
            [Question::Unsubscribed { sub_id: 1, .. }, Question::SessionClosed { session }] if **session == *id
        ),
        "{told:?}"
    );
}

#[test]
fn a_session_lives_as_long_as_its_adapter_allows_and_no_longer_than_the_server_does() {
    for (of_adapter, of_server, expected) in [
        (Some(60), None, 60),
        (Some(60), Some(30), 30),
        (Some(30), Some(60), 30),
        (None, Some(60), 60),
    ] {
        let Granted::Session {
            adapter_set,
            session,
            bandwidth_kbps_max,
            notices,
            ..
        } = session()
        else {
            unreachable!("it is one");
        };
        let mut options = options(Granted::Session {
            adapter_set,
            session,
            bandwidth_kbps_max,
            time_to_live: of_adapter.map(Duration::from_secs),
            notices,
        });
        options.config.session_duration_max = of_server.map(Duration::from_secs);
        let (mut pair, _) = connect(options);
        pair.advance_ms(expected * 1_000 - 10);
        assert!(!pair.lines().iter().any(|line| line.starts_with("END")));
        pair.advance_ms(20);
        let lines = pair.lines();
        assert!(
            lines.iter().any(|line| line.starts_with("END,48,")),
            "{of_adapter:?} {of_server:?}: {lines:?}"
        );
    }
}

/// An adapter that was asked twice about a session, since another one was in its way, has agreed to another id.
#[test]
fn the_adapter_may_agree_to_another_id_than_it_was_asked_about() {
    let owner = session_id::Owner {
        instance: 0,
        shard: ShardId(0),
    };
    let other = session_id::make(owner, [7; session_id::RANDOM_BYTES], 1);
    let granted = |session| Granted::Session {
        adapter_set: AdapterSetId(0),
        session: Some(session),
        bandwidth_kbps_max: None,
        time_to_live: None,
        notices: true,
    };
    let (mut pair, id) = connect(options(granted(other.clone())));
    assert_eq!(id, *other);
    pair.subscribe(1, "item1", "f", "");
    pair.ask(&format!(
        "control\r\nLS_session={id}&LS_reqId=2&LS_op=delete&LS_subId=1"
    ));
    assert_eq!(pair.lines(), ["REQOK,2", "UNSUB,1"]);

    // A client that did not wait for the answer: the adapter is told by the name that it knows.
    let mut options = options(granted(other.clone()));
    options.answer_delay = Duration::from_secs(1);
    let mut pair = Pair::new(options);
    pair.ask("create_session\r\nLS_cid=pair&LS_user=u");
    pair.world.close(pair.wire);
    pair.advance_ms(2_000);
    let told = Question::SessionClosed { session: other };
    assert_eq!(notices(&mut pair), [told]);
}

/// In which turn after it, and how late, a client gets each of its updates, while so many others wait for a
/// metadata adapter that takes 200 ms to let them open their sessions.
fn delays_beside(waiting: usize) -> Vec<(usize, Duration)> {
    let mut options = options(session());
    options.answer_delay = Duration::from_millis(200);
    let mut pair = Pair::new(options);
    pair.ask("create_session\r\nLS_cid=pair&LS_user=u&LS_send_sync=false");
    pair.advance_ms(200);
    pair.subscribe(1, "item1", "f", "LS_requested_max_frequency=unlimited");
    pair.advance_ms(200);
    pair.snapshot("item1", &[("f", Some("first"))]);
    assert_eq!(pair.lines().last().unwrap(), "U,1,1,first");

    let others: Vec<_> = (0..waiting)
        .map(|_| pair.world.connect(ShardId(0), Version::LATEST))
        .collect();
    for wire in &others {
        let request = "create_session\r\nLS_cid=pair&LS_user=u&LS_send_sync=false";
        pair.world.send(*wire, request);
    }
    let begin = pair.world.now();
    let (mut delays, mut opened) = (Vec::new(), BTreeSet::new());
    // The requests are read in the midst of the first updates, and answered in the midst of the last.
    for number in 0..100_u64 {
        let published = begin + Duration::from_millis(3 * number);
        pair.world.skip(published - pair.world.now());
        let value = number.to_string();
        let what = Say::Update {
            snapshot: false,
            fields: &[("f", Some(&value))],
        };
        pair.world.say(DataAdapterId(0), "item1", what);
        let (mut turns, mut busy) = (0, true);
        while busy {
            busy = pair.world.turn(0);
            turns += 1;
            for (wire, written, line) in pair.world.lines_in_time() {
                if wire == pair.wire {
                    assert_eq!(line, format!("U,1,1,{value}"));
                    delays.push((turns, written - published));
                } else if line.starts_with("CONOK,") {
                    assert!(written - begin >= Duration::from_millis(200));
                    opened.insert(wire);
                }
            }
        }
    }
    assert_eq!(opened, others.into_iter().collect());
    delays
}

#[test]
fn a_thousand_sessions_that_wait_for_their_adapter_do_not_hold_up_the_others() {
    let alone = delays_beside(0);
    assert_eq!(alone.len(), 100);
    assert_eq!(delays_beside(1_000), alone);
}
