//! What a file says of adapters.

use std::time::Duration;

use brightwire::config::Plan;
use brightwire::config::plan::{DataKind, RemoteAddress, TradeSafePlan, WhileAway};
use engine::item::safe::{ItemPattern, TradeSafe};

use crate::machine::machine;
use crate::{plan, refusal};

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
