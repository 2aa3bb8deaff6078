//! Configuration files and the command line, as a user meets them.

mod machine;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use brightwire::config::plan::{
    DataKind, IoChoice, MetadataPlan, Pace, Placement, RemoteAddress, Threading, TradeSafePlan,
    WhenBlocked, WhileAway,
};
use brightwire::config::raw::{Raw, Section};
use brightwire::config::{self, ConfigError, Demo, Plan};
use brightwire::runtime::topology::Topology;
use brightwire::wire::origin::OriginPolicy;
use engine::item::safe::{ItemPattern, TradeSafe};
use machine::machine;

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Plan::from_text(text, &machine(), Path::new("/etc/brightwire"), "test.toml")
}

/// The messages of a file that must be refused, one per line.
fn refusal(text: &str) -> String {
    plan(text).expect_err("the file was accepted").to_string()
}

fn profiles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles")
}

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
    let plan = Plan::demo(&demo, Some(&profiles().join("ci.toml"))).unwrap();
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
        Plan::demo(&demo, Some(&profiles().join("dev.toml")))
            .unwrap()
            .shards,
        2
    );
}

#[test]
fn the_reference_is_up_to_date_and_means_nothing_but_the_defaults() {
    let path = profiles().join("reference.toml");
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
fn trade_safe_events_are_declared_per_adapter() {
    let text = r#"
        [[adapter_sets]]
        [[adapter_sets.data]]
        [[adapter_sets.data.trade_safe]]
        items = ["tape", "EUR*"]
        fields = ["last"]
        [[adapter_sets.data.trade_safe]]
        [[adapter_sets.data]]
        name = "OTHER"
    "#;
    let plan = plan(text).unwrap();
    let data = &plan.adapter_sets[0].data;
    assert_eq!(
        data[0].trade_safe,
        [
            TradeSafePlan {
                items: ["tape", "EUR*"].map(ItemPattern::parse).into(),
                what: TradeSafe::Fields(["last".into()].into()),
            },
            TradeSafePlan {
                items: Vec::new(),
                what: TradeSafe::Everything,
            },
        ]
    );
    assert!(data[1].trade_safe.is_empty());
    let summary = plan.to_string();
    assert!(
        summary
            .contains("QUOTE_ADAPTER (demo, 15/s), with trade-safe events, OTHER (demo, 15/s)\n"),
        "{summary}"
    );

    let refusal = refusal(
        "[[adapter_sets]]\n[[adapter_sets.data]]\n[[adapter_sets.data.trade_safe]]\nitems = []\nfields = []",
    );
    for key in ["items", "fields"] {
        let key = format!("adapter_sets[0].data[0].trade_safe[0].{key}");
        assert!(refusal.contains(&key), "{refusal}");
    }
}

#[test]
fn clients_can_be_told_of_their_own_updates() {
    let status = |more: &str| {
        format!(
            "[[adapter_sets]]\n[[adapter_sets.data]]\n\
             [[adapter_sets.data]]\nname = \"STATUS\"\nkind = \"status\"\n{more}"
        )
    };
    let with = plan(&status("[sessions]\nstatus_interval = \"5s\"")).unwrap();
    let set = &with.adapter_sets[0];
    assert_eq!(set.status.as_deref(), Some("STATUS"));
    assert_eq!(set.data.len(), 1);
    assert_eq!(with.sessions.status_interval, Duration::from_secs(5));
    let summary = with.to_string();
    assert!(
        summary.contains("QUOTE_ADAPTER (demo, 15/s), STATUS (status)\n"),
        "{summary}"
    );
    assert_eq!(plan("").unwrap().adapter_sets[0].status, None);

    for (text, reason) in [
        (status("rate = 1.0"), "data[1].rate: means nothing"),
        (
            status("[[adapter_sets.data.trade_safe]]"),
            "data[1].trade_safe: not for",
        ),
        (
            status("[[adapter_sets.data]]\nname = \"AGAIN\"\nkind = \"status\""),
            "data[2].kind: a set has one",
        ),
        (
            status("[[adapter_sets.data]]\nname = \"STATUS\""),
            "data[2].name: ",
        ),
        (
            "[[adapter_sets]]\n[[adapter_sets.data]]\nkind = \"status\"".to_owned(),
            "data: there must be a data adapter besides",
        ),
        (
            status("[sessions]\nstatus_interval = \"1ms\""),
            "sessions.status_interval",
        ),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn adapters_in_other_processes() {
    let set = |data: &str| {
        let text = format!("[[adapter_sets]]\n[[adapter_sets.data]]\nkind = \"remote\"\n{data}");
        plan(&text).map(|plan| match &plan.adapter_sets[0].data[0].kind {
            DataKind::Remote(remote) => (**remote).clone(),
            other => panic!("{other:?}"),
        })
    };
    let remote = set("").unwrap();
    let default = RemoteAddress::Listen(([127, 0, 0, 1], 6661).into());
    assert_eq!((&remote.address, &remote.notify_address), (&default, &None));
    assert_eq!(
        (remote.keepalive_timeout, remote.keepalive_hint),
        (None, None)
    );

    let hint = |timeout: &str| {
        let remote = set(&format!(
            "[adapter_sets.data.remote]\nkeepalive_timeout = \"{timeout}\""
        ));
        remote.unwrap().keepalive_hint.unwrap()
    };
    assert_eq!(hint("10s"), Duration::from_secs(8));
    assert_eq!(hint("3s"), Duration::from_millis(1500));

    let remote =
        set("[adapter_sets.data.remote]\nconnect = true\naddress = \"feed.example:6661\"").unwrap();
    assert_eq!(
        remote.address,
        RemoteAddress::Connect("feed.example:6661".into())
    );

    let wrong = "rate = 1.0\n[adapter_sets.data.remote]\naddress = \"localhost:1\"\nallow = [\"x\"]\n\
        unavailable_code = 1\nline_limit = \"1B\"\ntimeout = \"0s\"";
    let problems = set(wrong).unwrap_err().problems;
    let keys: Vec<_> = problems
        .iter()
        .map(|problem| problem.key.rsplit('.').next().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "rate",
            "address",
            "allow[0]",
            "timeout",
            "line_limit",
            "unavailable_code"
        ]
    );
    let remote = set("[adapter_sets.data.remote]\nallow = [\"10.0.0.0/8\", \"::1\"]").unwrap();
    let allowed = |ip: &str| {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        remote.allow.iter().any(|net| net.contains(&ip))
    };
    assert!(allowed("10.1.2.3") && allowed("::1") && !allowed("11.1.2.3"));

    // A plain proxy waits for its remote, a robust one does not, unless the file says so.
    let start_wait = |more: &str| {
        let remote = set(&format!("[adapter_sets.data.remote]\n{more}"));
        remote.unwrap().start_wait
    };
    assert_eq!(start_wait(""), Duration::ZERO);
    assert!(start_wait("on_loss = \"stop\"") > Duration::from_secs(1_000_000_000));
    assert_eq!(
        start_wait("on_loss = \"stop\"\nstart_wait = \"3s\""),
        Duration::from_secs(3)
    );

    let while_away = |more: &str| {
        let remote = set(&format!("[adapter_sets.data.remote]\n{more}"));
        remote.unwrap().while_away
    };
    assert_eq!(while_away(""), WhileAway::Retry);
    assert_eq!(while_away("unavailable = \"fail\""), WhileAway::Fail);
    assert_eq!(
        while_away("unavailable = \"fail\"\nunavailable_code = -3"),
        WhileAway::Code(-3, String::new())
    );

    for text in [
        "[[adapter_sets]]\n[adapter_sets.remote]\n",
        "[[adapter_sets]]\n[[adapter_sets.data]]\n[adapter_sets.data.remote]\n",
    ] {
        let problems = plan(text).unwrap_err().problems;
        assert!(problems[0].reason.starts_with("only for"), "{problems:?}");
    }
    let problems = plan("[[adapter_sets]]\nmetadata_first = true\n")
        .unwrap_err()
        .problems;
    assert!(problems[0].key.ends_with("metadata_first"), "{problems:?}");
}

/// Files that TLS needs are read when the configuration is, so that mistakes are told with the others.
#[test]
fn the_files_of_tls_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("own.pem", &certified.cert.pem());
    write("own.key", &certified.signing_key.serialize_pem());
    write("text", "nothing of use");
    let problem = |more: &str| {
        let text = format!(
            "[[adapter_sets]]\n[[adapter_sets.data]]\nkind = \"remote\"\n[adapter_sets.data.remote]\n{more}"
        );
        let path = directory.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        match Plan::load(&path) {
            Ok(_) => String::new(),
            Err(error) => error.problems[0].reason.clone(),
        }
    };
    let tls = "[adapter_sets.data.remote.tls]\n";
    let own = "certificate = \"own.pem\"\nkey = \"own.key\"\n";
    assert_eq!(problem(&format!("{tls}{own}")), "");
    assert_eq!(problem(&format!("{tls}{own}authorities = \"own.pem\"")), "");
    let connect = format!("connect = true\n{tls}");
    assert_eq!(problem(&format!("{connect}authorities = \"own.pem\"")), "");
    for (more, expected) in [
        (tls.to_owned(), "to listen, a certificate and its key"),
        (connect.clone(), "to connect, authorities"),
        (format!("{tls}certificate = \"own.pem\""), "needs its key"),
        (
            format!("{tls}{own}authorities = \"text\""),
            "no certificate",
        ),
        (
            format!("{tls}certificate = \"own.pem\"\nkey = \"text\""),
            "no private key",
        ),
        (
            format!("{tls}certificate = \"absent.pem\"\nkey = \"own.key\""),
            "absent.pem",
        ),
        (
            format!("{tls}{own}skip_hostname_check = true"),
            "only with connect",
        ),
    ] {
        let reason = problem(&more);
        assert!(reason.contains(expected), "{more}: {reason}");
    }
}

fn brightwire(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brightwire"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_says_ok_or_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.toml");
    std::fs::write(&path, "[[listeners]]\naddress = \"127.0.0.1:4711\"\n").unwrap();
    let output = brightwire(&["check", "--config", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        stdout(&output).starts_with("ok\n") && stdout(&output).contains("web at 127.0.0.1:4711"),
        "{output:?}"
    );

    std::fs::write(&path, "[sessions]\nsessions_max = 0\nconnections_max = 0\n").unwrap();
    let output = brightwire(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("server.toml:2: sessions.sessions_max: 0 is not between"),
        "{output:?}"
    );
    assert!(
        stderr(&output).contains("server.toml:3: sessions.connections_max: 0 is not between"),
        "{output:?}"
    );

    let output = brightwire(&["check", "--config", "absent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("absent.toml: cannot be read: No such file"),
        "{output:?}"
    );
}

#[test]
fn the_reference_can_be_printed() {
    let output = brightwire(&["print-reference"]);
    assert!(output.status.success());
    assert_eq!(stdout(&output), config::reference());
}

#[test]
fn the_doctor_examines_this_machine() {
    let output = brightwire(&["doctor"]);
    let problem = stdout(&output)
        .lines()
        .any(|line| line.starts_with("PROBLEM"));
    assert_eq!(output.status.code(), Some(i32::from(problem)), "{output:?}");
    assert!(stdout(&output).contains("io_uring:"), "{output:?}");
}

#[test]
fn options_that_exclude_or_need_each_other_are_refused() {
    for arguments in [
        &["demo", "--replay", "f.csv", "--speed", "2", "--rate", "3"] as &[&str],
        &["demo", "--speed", "2"],
        &["demo", "--loop"],
        &["demo", "--io", "kqueue"],
        &["run"],
        &[],
    ] {
        let output = brightwire(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(
            stderr(&output).contains("--help") || arguments.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
}

#[test]
fn what_a_demo_cannot_do_is_refused_before_it_starts() {
    for (arguments, expected) in [
        (
            &["demo", "--shards", "0"] as &[&str],
            "command line: runtime.shards: 0 is not between",
        ),
        (&["demo", "--rate", "-1"], "error: "),
        (
            &["demo", "--rate=-1"],
            "command line: adapter_sets[0].data[0].rate: -1 is not between",
        ),
        (&["demo", "--rate", "nan"], "rate: NaN is not between"),
        (
            &["demo", "--threading", "shared", "--shards", "2"],
            "one thread, hence one shard",
        ),
        (
            &["demo", "--config", "absent.toml"],
            "absent.toml: cannot be read",
        ),
    ] {
        let output = brightwire(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            stderr(&output).contains(expected),
            "{arguments:?}: {output:?}"
        );
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

#[test]
fn a_replay_can_be_as_fast_as_it_can() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ticks.ndjson"), "").unwrap();
    let text = "[[adapter_sets]]\n[[adapter_sets.data]]\nkind = \"replay\"\nfile = \"ticks.ndjson\"\nspeed = ";
    let plan = |speed: &str| {
        let text = format!("{text}{speed}");
        Plan::from_text(&text, &machine(), directory.path(), "test.toml")
    };
    let shown = plan("inf").unwrap().to_string();
    assert!(shown.contains("ticks.ndjson, full speed)"), "{shown}");
    for wrong in ["nan", "-inf", "0.0"] {
        assert!(plan(wrong).is_err(), "{wrong}");
    }
}
