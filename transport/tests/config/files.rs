//! Configuration files, as a user meets them: what they mean, and what is wrong with them.

use std::path::Path;
use std::time::Duration;

use brightwire::config::plan::{
    DataKind, IoChoice, MetadataPlan, Pace, Placement, Threading, WhenBlocked,
};
use brightwire::config::raw::{Raw, Section};
use brightwire::config::{self, Demo, Plan};
use brightwire::runtime::topology::Topology;
use brightwire::wire::origin::OriginPolicy;

use crate::machine::machine;
use crate::{plan, profiles_directory, refusal};

#[test]
fn an_empty_file_gives_the_defaults() {
    let plan = plan("").unwrap();
    assert_eq!(plan.io, IoChoice::Auto);
    assert_eq!(plan.threading, Threading::Dedicated);
    assert_eq!(plan.shards, 15);
    assert_eq!(
        plan.placement,
        Placement {
            ingest: None,
            control: None,
            shards: vec![None; 15]
        }
    );
    assert_eq!(plan.listeners.len(), 1);
    assert!(
        plan.listeners[0].address.ip().is_loopback(),
        "secure by default"
    );
    assert_eq!(plan.socket.notsent_lowat, 8192);
    assert_eq!(plan.socket.send_buffer, None);
    assert_eq!(plan.socket.write_timeout, Duration::from_secs(120));
    let sessions = &plan.sessions;
    assert_eq!(sessions.keepalive_default, Duration::from_secs(5));
    assert_eq!(
        (sessions.keepalive_min, sessions.keepalive_max),
        (Duration::from_secs(1), Duration::from_secs(30))
    );
    assert_eq!(sessions.session_timeout, Duration::from_secs(10));
    assert_eq!(sessions.recovery_timeout, Duration::from_secs(13));
    assert_eq!(sessions.subscription_linger, Duration::from_secs(5));
    assert_eq!(sessions.request_limit, 50_000);
    assert_eq!(plan.origins.policy, OriginPolicy::Any);
    let set = &plan.adapter_sets[0];
    assert_eq!(
        (set.name.as_str(), &set.metadata),
        ("DEMO", &MetadataPlan::Literal)
    );
    assert_eq!(set.data[0].name, "QUOTE_ADAPTER");
    assert_eq!(set.data[0].kind, DataKind::Demo { rate: 15.0 });
}

#[test]
fn what_a_file_says_is_what_the_plan_does() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ticks.csv"), "item\n").unwrap();
    let text = r#"
        [runtime]
        io = "epoll"
        shards = 2
        spin = "1ms"
        [placement]
        ingest = 1
        control = 1
        shards = [2, 3]
        [[listeners]]
        name = "inside"
        address = "[::1]:8080"
        [[listeners]]
        name = "outside"
        address = "0.0.0.0:443"
        [server]
        instance = 7
        [sessions]
        duration_max = "12h"
        streaming_time_max = "1h"
        poll_interval_min = "500ms"
        polling_max = "20s"
        poll_wait_max = "40s"
        content_length = "1MiB"
        recovery_memory = "8KiB"
        recovery_memory_shard = "16MiB"
        recovery_age = "20s"
        closed_memory = "3s"
        missing_message_timeout = "4s"
        one_per_user = true
        take_over_silent = true
        delta_delivery = false
        blocked = "refuse"
        subscribed_items_max = 1000
        cid_required = true
        tell_client_ip = false
        control_link = "push1.example.com:443"
        [socket]
        send_buffer = "16KiB"
        [rings]
        data_ring = "1MiB"
        [origins]
        allow = ["https://WWW.example.com", "http://localhost:3000"]
        credentials = false
        max_age = "10m"
        headers = ["X-Trace"]
        [http]
        add = ["X-Frame-Options: DENY", "X-Empty:"]
        [[adapter_sets]]
        name = "PORTFOLIO"
        [[adapter_sets.data]]
        name = "TICKS"
        kind = "replay"
        file = "ticks.csv"
        rate = 100
        repeat = true
    "#;
    let plan = Plan::from_text(text, &machine(), directory.path(), "test.toml").unwrap();
    assert_eq!(
        (plan.io, plan.shards, plan.spin),
        (IoChoice::Epoll, 2, Duration::from_millis(1))
    );
    assert_eq!(
        plan.placement,
        Placement {
            ingest: Some(1),
            control: Some(1),
            shards: vec![Some(2), Some(3)]
        }
    );
    assert_eq!(plan.listeners[1].name, "outside");
    assert_eq!(plan.listeners[0].address, "[::1]:8080".parse().unwrap());
    assert_eq!(plan.instance, 7);
    let sessions = &plan.sessions;
    assert_eq!(
        (sessions.duration_max, sessions.streaming_time_max),
        (
            Some(Duration::from_secs(43_200)),
            Some(Duration::from_secs(3_600))
        )
    );
    assert_eq!(
        (
            sessions.poll_interval_min,
            sessions.polling_max,
            sessions.poll_wait_max
        ),
        (
            Duration::from_millis(500),
            Duration::from_secs(20),
            Duration::from_secs(40)
        )
    );
    assert_eq!(sessions.content_length, 1 << 20);
    assert_eq!(
        (sessions.recovery_memory, sessions.recovery_memory_shard),
        (8 << 10, 16 << 20)
    );
    assert_eq!(
        (sessions.recovery_age, sessions.closed_memory),
        (Duration::from_secs(20), Duration::from_secs(3))
    );
    assert_eq!(sessions.missing_message_timeout, Duration::from_secs(4));
    assert!(sessions.one_per_user && sessions.take_over_silent && sessions.cid_required);
    assert!(!sessions.tell_client_ip && !sessions.delta_delivery);
    assert_eq!(sessions.blocked, WhenBlocked::Refuse);
    assert_eq!(sessions.subscribed_items_max, 1_000);
    assert_eq!(
        sessions.control_link.as_deref(),
        Some("push1.example.com:443")
    );
    assert_eq!(plan.socket.send_buffer, Some(16_384));
    assert_eq!(plan.rings.data_ring_bytes, 1 << 20);
    assert!(
        plan.origins.policy.allows("https://www.example.com")
            && plan.origins.policy.allows("http://localhost:3000")
    );
    assert!(
        !plan.origins.policy.allows("https://example.com") && !plan.origins.policy.allows("null")
    );
    assert_eq!(
        (plan.origins.credentials, plan.origins.max_age),
        (false, Duration::from_secs(600))
    );
    assert_eq!(plan.origins.headers, ["X-Trace"]);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        plan.added_headers,
        [header("X-Frame-Options", "DENY"), header("X-Empty", "")]
    );
    let kind = DataKind::Replay {
        file: directory.path().join("ticks.csv"),
        pace: Pace::Rate(100.0),
        looped: true,
    };
    assert_eq!(plan.adapter_sets[0].data[0].kind, kind);
}

#[test]
fn a_wrong_key_or_type_is_named_with_its_line() {
    for (text, expected) in [
        (
            "\n[sessions]\nkeepalve = \"5s\"",
            "test.toml:3: sessions.keepalve: unknown field `keepalve`",
        ),
        ("[sesions]", "test.toml:1: sesions: unknown field"),
        (
            "[sessions]\nkeepalive = 5",
            "test.toml:2: sessions.keepalive: invalid type: integer `5`, expected a duration",
        ),
        (
            "[sessions]\nkeepalive = \"5\"",
            "test.toml:2: sessions.keepalive: `5` is not a duration",
        ),
        (
            "[rings]\n\ndata_ring = \"8\"",
            "test.toml:3: rings.data_ring: `8` is not a size",
        ),
        (
            "[runtime]\nio = \"kqueue\"",
            "test.toml:2: runtime.io: unknown variant `kqueue`",
        ),
        (
            "[runtime]\nshards = -1",
            "test.toml:2: runtime.shards: invalid value: integer `-1`",
        ),
        (
            "[[adapter_sets]]\nname = \"A\"\n[[adapter_sets.data]]\n[[adapter_sets.data]]\nrate = \"fast\"",
            "test.toml:5: adapter_sets[0].data[1].rate: invalid type: string \"fast\"",
        ),
        (
            "[placement]\nshards = [1, \"2\"]",
            "test.toml:2: placement.shards[1]: invalid type",
        ),
    ] {
        let message = refusal(text);
        assert!(
            message.starts_with(expected),
            "expected: {expected}\n   found: {message}"
        );
    }
}

#[test]
fn syntax_errors_are_all_reported() {
    let message = refusal("[runtime]\nio = \n[sessions]\nkeepalive = \"5s\n");
    let lines: Vec<&str> = message.lines().collect();
    assert!(lines.len() >= 2, "{message}");
    assert!(
        lines.iter().any(|line| line.starts_with("test.toml:2:")),
        "{message}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("test.toml:4:")),
        "{message}"
    );
}

#[test]
fn every_relation_that_does_not_hold_is_reported_at_once() {
    let message = refusal(
        r#"[runtime]
shards = 3
spin = "2s"
[placement]
ingest = 99
shards = [1, 1]
[[listeners]]
address = "localhost"
[[listeners]]
address = "127.0.0.1:80"
[[listeners]]
address = "127.0.0.1:80"
[sessions]
keepalive = "40s"
head_timeout = "0s"
request_limit = "10B"
server_name = "two\nlines"
[origins]
allow = ["*", "example.com"]
[[adapter_sets]]
[[adapter_sets]]
data = []
[[adapter_sets]]
name = "C"
[[adapter_sets.data]]
name = "X"
speed = 2.0
[[adapter_sets.data]]
name = "X"
kind = "replay"
rate = 0
speed = 1.0
"#,
    );
    for expected in [
        "test.toml:3: runtime.spin: 2s is not between",
        "test.toml:6: placement.shards: 2 core(s) for 3 shard(s)",
        "test.toml:5: placement.ingest: core 99 does not exist",
        "test.toml:6: placement.shards[1]: core 1 is taken by placement.shards[0] already",
        "test.toml:8: listeners[0].address: `localhost` is not an address",
        "test.toml:12: listeners[2].address: 127.0.0.1:80 is taken",
        "listeners[2].name: `web` is taken already",
        "test.toml:14: sessions.keepalive: 40s is above keepalive_max (30s)",
        "test.toml:15: sessions.head_timeout: 0s is not between",
        "test.toml:16: sessions.request_limit: 10B is not between",
        "test.toml:17: sessions.server_name: contains a control character",
        "test.toml:19: origins.allow[0]: \"*\" allows everything",
        "test.toml:19: origins.allow[1]: `example.com` is not an origin",
        "adapter_sets[1].name: `DEMO` is taken already",
        "test.toml:22: adapter_sets[1].data: there must be at least one",
        "test.toml:27: adapter_sets[2].data[0].speed: means nothing with kind = \"demo\"",
        "adapter_sets[2].data[1].name: `X` is taken already",
        "adapter_sets[2].data[1].file: kind = \"replay\" needs a file",
        "adapter_sets[2].data[1].rate: 0 is not between",
        "test.toml:32: adapter_sets[2].data[1].speed: give either",
    ] {
        assert!(
            message.lines().any(|line| line.contains(expected)),
            "not reported: {expected}\n{message}"
        );
    }
    assert_eq!(message.lines().count(), 20, "{message}");
}

#[test]
fn sessions_of_no_length_and_links_to_nowhere_are_refused() {
    for (key, value) in [
        ("duration_max", "0s"),
        ("streaming_time_max", "10ms"),
        ("poll_interval_min", "2m"),
        ("content_length", "1kB"),
        ("max_delay", "2s"),
        ("control_link", "a host"),
        ("control_link", ""),
    ] {
        let message = refusal(&format!("sessions.{key} = {value:?}"));
        assert!(message.contains(&format!("sessions.{key}: ")), "{message}");
    }
    assert!(refusal("sessions.snapshot_rows_max = 0").contains("sessions.snapshot_rows_max: "));
    for kbps in ["0.0", "-1.0", "nan", "inf"] {
        let message = refusal(&format!("sessions.bandwidth_max = {kbps}"));
        assert!(message.contains("sessions.bandwidth_max: "), "{message}");
    }
    assert!(refusal("server.instance = 65536").contains("server.instance"));
}

#[test]
fn keepalive_bounds_are_checked_against_each_other() {
    assert!(
        refusal("sessions.keepalive = \"500ms\"")
            .contains("sessions.keepalive: 500ms is below keepalive_min (1s)")
    );
    assert!(
        refusal("sessions.keepalive_min = \"31s\"")
            .contains("sessions.keepalive_min: 31s is above keepalive_max")
    );
    plan("sessions = { keepalive = \"1s\", keepalive_min = \"1s\", keepalive_max = \"1s\" }")
        .unwrap();
}

#[test]
fn one_shared_thread_has_one_shard_and_no_cores() {
    assert_eq!(plan("runtime.threading = \"shared\"").unwrap().shards, 1);
    let message = refusal(
        "runtime = { threading = \"shared\", shards = 2 }\nplacement = { pin = \"auto\", control = 0 }",
    );
    assert!(
        message.contains("runtime.shards: with threading = \"shared\""),
        "{message}"
    );
    assert!(
        message.contains("placement.pin: ") && message.contains("placement.control: "),
        "{message}"
    );
}

#[test]
fn automatic_placement_gives_every_busy_thread_its_own_core() {
    let found = plan("runtime.shards = 3\nplacement.pin = \"auto\"")
        .unwrap()
        .placement;
    assert_eq!(
        found,
        Placement {
            ingest: Some(0),
            control: None,
            shards: vec![Some(1), Some(2), Some(3)]
        }
    );
    let message = refusal("runtime.shards = 16\nplacement.pin = \"auto\"");
    assert!(
        message.contains("needs 17 cores (ingest and 16 shard(s)), this process may use 16"),
        "{message}"
    );
    assert!(refusal("placement = { pin = \"auto\", ingest = 3 }").contains("do not name them"));
}

#[test]
fn shards_follow_the_cores_that_may_be_used() {
    for (parallelism, shards) in [(1, 1), (2, 1), (8, 7), (1000, 256)] {
        let machine = Topology {
            parallelism,
            ..machine()
        };
        let plan = Plan::from_text("", &machine, Path::new(""), "test.toml").unwrap();
        assert_eq!(plan.shards, shards, "{parallelism} cores");
    }
}

#[test]
fn a_demo_is_the_list_and_the_replay_if_there_is_one() {
    let plan = Plan::demo(
        &Demo {
            rate: Some(200.0),
            ..Demo::default()
        },
        None,
    )
    .unwrap();
    assert_eq!(plan.listeners[0].name, "demo");
    assert!(plan.listeners[0].address.ip().is_loopback());
    assert_eq!(plan.adapter_sets.len(), 1);
    assert_eq!(plan.adapter_sets[0].name, "DEMO");
    assert_eq!(plan.adapter_sets[0].data.len(), 1);
    assert_eq!(
        plan.adapter_sets[0].data[0].kind,
        DataKind::Demo { rate: 200.0 }
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let demo = Demo {
        rate: Some(200.0),
        replay: Some(file.path().into()),
        looped: true,
        ..Demo::default()
    };
    let data = Plan::demo(&demo, None).unwrap().adapter_sets.remove(0).data;
    assert_eq!(
        data[0].kind,
        DataKind::Demo { rate: 15.0 },
        "the rate is the replay's"
    );
    assert_eq!(data[1].name, "REPLAY");
    let replay = |pace, looped| DataKind::Replay {
        file: file.path().into(),
        pace,
        looped,
    };
    assert_eq!(data[1].kind, replay(Pace::Rate(200.0), true));

    let demo = Demo {
        replay: Some(file.path().into()),
        ..Demo::default()
    };
    let data = Plan::demo(&demo, None).unwrap().adapter_sets.remove(0).data;
    assert_eq!(data[1].kind, replay(Pace::Speed(1.0), false));

    let demo = Demo {
        replay: Some("absent.csv".into()),
        ..Demo::default()
    };
    let message = Plan::demo(&demo, None).unwrap_err().to_string();
    assert!(message.contains("absent.csv: No such file"), "{message}");
}

#[test]
fn a_profile_lies_under_the_demos_own_choices() {
    let demo = Demo {
        address: Some("127.0.0.1:0".parse().unwrap()),
        io: Some(IoChoice::Epoll),
        ..Demo::default()
    };
    let plan = Plan::demo(&demo, Some(&profiles_directory().join("ci.toml"))).unwrap();
    assert_eq!(
        (plan.threading, plan.io),
        (Threading::Shared, IoChoice::Epoll)
    );
    assert_eq!(plan.listeners.len(), 1);
    assert_eq!(
        (
            plan.listeners[0].name.as_str(),
            plan.listeners[0].address.port()
        ),
        ("demo", 0)
    );
    let demo = Demo {
        threading: Some(Threading::Dedicated),
        shards: Some(2),
        ..demo
    };
    assert_eq!(
        Plan::demo(&demo, Some(&profiles_directory().join("dev.toml")))
            .unwrap()
            .shards,
        2
    );
}

#[test]
fn the_reference_is_up_to_date_and_means_nothing_but_the_defaults() {
    let path = profiles_directory().join("reference.toml");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, config::reference()).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        config::reference(),
        "regenerate: brightwire print-reference > profiles/reference.toml"
    );
    assert_eq!(plan(&text).unwrap(), plan("").unwrap());
}

#[test]
fn the_reference_names_every_key_with_a_sentence_and_a_usable_value() {
    for Section {
        header, doc, keys, ..
    } in Raw::sections()
    {
        assert!(!doc.is_empty());
        for key in keys {
            let sentence = key.doc.join("");
            assert!(
                sentence.trim().ends_with(['.', ')']),
                "{header} {}: {sentence}",
                key.name
            );
            let value = key.default.as_ref().or(key.example.as_ref());
            let value = value
                .unwrap_or_else(|| panic!("{header} {} has neither default nor example", key.name));
            let outer = match header.matches('.').count() {
                0 => "",
                1 => "[[adapter_sets]]\n",
                _ => "[[adapter_sets]]\n[[adapter_sets.data]]\n",
            };
            let text = format!("{outer}{header}\n{} = {value}\n", key.name);
            config::parse(&text, "key").unwrap_or_else(|error| panic!("{text}{error}"));
        }
    }
}

#[test]
fn headers_that_would_break_responses_are_refused() {
    let message = refusal(
        "http.add = [\"nothing\", \"two words: x\", \"content-length: 5\", \"X-A: a\\r\\nX-B: b\", \
         \"Access-Control-Allow-Origin: *\", \": x\"]\norigins.headers = [\"a b\"]\norigins.max_age = \"25h\"",
    );
    for expected in [
        "http.add[0]: `nothing` is not a header",
        "http.add[1]: `two words: x` is not a header",
        "http.add[2]: `content-length` is the server's own",
        "http.add[3]: contains a control character",
        "http.add[4]: `Access-Control-Allow-Origin` is the server's own",
        "http.add[5]: `: x` is not a header",
        "origins.headers[0]: `a b` is not the name of a header",
        "origins.max_age: 1day 1h is not between",
    ] {
        assert!(
            message.lines().any(|line| line.contains(expected)),
            "not reported: {expected}\n{message}"
        );
    }
    assert_eq!(message.lines().count(), 8, "{message}");
}
