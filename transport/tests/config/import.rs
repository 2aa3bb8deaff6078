//! `brightwire import`: files of the reference product, made up for this, and what becomes of them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use brightwire::config::Plan;
use brightwire::config::plan::{
    ClosesRecovery, DataKind, EventsRecovery, MetadataPlan, OnLoss, RemoteAddress, WhileAway,
};
use brightwire::import::{Imported, import};
use brightwire::net::settings::{ProxyProtocol, Role};
use brightwire::runtime::topology::Topology;

fn imported(files: &[(&str, &str)]) -> Imported {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    import(&files, &Topology::read().unwrap()).unwrap()
}

/// What is printed must be what `brightwire check` accepts.
fn plan(imported: &Imported) -> Plan {
    let toml = &imported.toml;
    Plan::from_text(toml, &Topology::read().unwrap(), Path::new(""), "import")
        .unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

fn noted(imported: &Imported, expected: &str) {
    let found = imported.notes.iter().any(|note| note.contains(expected));
    assert!(found, "{expected}: {:#?}", imported.notes);
}

const SHOP: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- a shop -->
<adapters_conf id="SHOP">
  <metadata_adapter_initialised_first>Y</metadata_adapter_initialised_first>
  <metadata_provider>
    <adapter_class>com.lightstreamer.adapters.metadata.LiteralBasedProvider</adapter_class>
    <param name="max_bandwidth">40</param>
    <param name="max_frequency">3</param>
    <param name="buffer_size">0</param>
    <param name="distinct_snapshot_length">0</param>
    <param name="allowed_users">ann,bob</param>
    <param name="item_family_1">item.*</param>
    <param name="modes_for_item_family_1">MERGE, RAW</param>
    <param name="item_family_2">(?&lt;=x)y</param>
    <param name="modes_for_item_family_2">MERGE</param>
    <param name="item_family_10">portfolio[0-9]+</param>
    <param name="data_adapter_for_item_family_10">PORTFOLIO</param>
    <param name="modes_for_item_family_10">COMMAND</param>
    <param name="colour">green</param>
    <authentication_pool><max_size>10</max_size></authentication_pool>
  </metadata_provider>
  <data_provider name="QUOTES">
    <adapter_class>ROBUST_PROXY_FOR_REMOTE_ADAPTER</adapter_class>
    <classloader>log-enabled</classloader>
    <param name="request_reply_port">6661</param>
    <param name="notify_port">6662</param>
    <param name="interface">0.0.0.0</param>
    <param name="auth">Y</param>
    <param name="auth.credentials.1.user">shop</param>
    <param name="auth.credentials.1.password">a &amp; b</param>
    <param name="remote_address_whitelist">10.0.0.1, 10.0.0.2</param>
    <param name="timeout">5000</param>
    <param name="keepalive_timeout_millis">-1</param>
    <param name="keepalive_hint_millis">3000</param>
    <param name="events_recovery">enforce_snapshot</param>
    <param name="status_item">status</param>
    <param name="remote_params_prefix">remote:</param>
    <param name="remote:colour">blue</param>
    <param name="close_notifications_recovery">unneeded</param>
  </data_provider>
  <data_provider name="PORTFOLIO">
    <adapter_class>PROXY_FOR_REMOTE_ADAPTER</adapter_class>
    <param name="request_reply_port">6671</param>
    <param name="remote_host">portfolios.example.com</param>
    <param name="connection_retry_millis">2000</param>
  </data_provider>
  <data_provider name="CHAT">
    <adapter_class>com.example.Chat</adapter_class>
  </data_provider>
</adapters_conf>
"#;

#[test]
fn an_adapter_set_with_rules_and_remote_adapters() {
    let imported = imported(&[("adapters.xml", SHOP)]);
    let plan = plan(&imported);
    let set = &plan.adapter_sets[0];
    assert_eq!((plan.adapter_sets.len(), set.name.as_str()), (1, "SHOP"));
    let MetadataPlan::Rules(rules) = &set.metadata else {
        panic!("{:?}", set.metadata);
    };
    assert_eq!(rules.allowed_users, ["ann", "bob"]);
    assert_eq!(rules.max_bandwidth, Some(40.0));
    let limits = rules.limits;
    assert_eq!(
        (limits.max_frequency, limits.buffer_size),
        (Some(3.0), None)
    );
    assert_eq!(limits.distinct_snapshot_length, Some(0));
    assert_eq!(rules.families.len(), 2, "one pattern is none here");
    assert!(rules.families[0].items.matches("item7"));
    assert_eq!(rules.families[0].modes.len(), 2);
    let adapter = rules.families[1].data_adapter.as_deref();
    assert_eq!(adapter, Some("PORTFOLIO"));

    let [quotes, portfolio] = &set.data[..] else {
        panic!("{:?}", set.data);
    };
    let DataKind::Remote(remote) = &quotes.kind else {
        panic!("{quotes:?}");
    };
    let listen = |address: &str| RemoteAddress::Listen(address.parse().unwrap());
    assert_eq!(remote.address, listen("0.0.0.0:6661"));
    assert_eq!(remote.notify_address, Some(listen("0.0.0.0:6662")));
    assert_eq!(remote.credentials, [("shop".into(), "a & b".into())]);
    assert_eq!(remote.allow.len(), 2);
    assert_eq!(remote.timeout, Duration::from_secs(5));
    assert_eq!(remote.keepalive_timeout, None);
    assert_eq!(remote.keepalive_hint, Some(Duration::from_secs(3)));
    assert_eq!(remote.events_recovery, EventsRecovery::EnforceSnapshot);
    assert_eq!(remote.status_item.as_deref(), Some("status"));
    assert_eq!(remote.params, [("remote:colour".into(), "blue".into())]);
    assert_eq!(remote.on_loss, OnLoss::Recover);
    let DataKind::Remote(remote) = &portfolio.kind else {
        panic!("{portfolio:?}");
    };
    let address = RemoteAddress::Connect("portfolios.example.com:6671".into());
    assert_eq!((&remote.address, remote.on_loss), (&address, OnLoss::Stop));
    assert_eq!(remote.connect_retry, Duration::from_secs(2));

    for expected in [
        "adapters.xml:14: item_family_2: `(?<=x)y` is no regular expression here",
        "adapters.xml:19: colour: not known",
        "authentication_pool: there are no such threads",
        "com.example.Chat: a Java class, which cannot run in this process (data adapter CHAT is left out)",
    ] {
        noted(&imported, expected);
    }
    assert_eq!(imported.notes.len(), 4, "{:#?}", imported.notes);
}

const REMOTE: &str = r#"<?xml version="1.0"?>
<adapters_conf id="FAR">
  <metadata_provider>
    <adapter_class>ROBUST_PROXY_FOR_REMOTE_ADAPTER</adapter_class>
    <sequentialize_table_notifications>Y</sequentialize_table_notifications>
    <param name="interface">127.0.0.1</param>
    <param name="request_reply_port">8003</param>
    <param name="timeout">36000000</param>
    <param name="first_connection_timeout_millis">-1</param>
    <param name="connection_recovery_timeout_millis">-1</param>
    <param name="close_notifications_recovery">optimistic</param>
    <param name="notify_user_on_disconnection">fail</param>
    <param name="user_data_timeout">3000</param>
    <param name="clear_on_session_close">false</param>
    <param name="clear_on_new_remote">true</param>
    <param name="tls">Y</param>
  </metadata_provider>
  <data_provider>
    <adapter_class>ROBUST_PROXY_FOR_REMOTE_ADAPTER</adapter_class>
    <param name="interface">127.0.0.1</param>
    <param name="request_reply_port">8001</param>
    <param name="first_connection_timeout_millis">500</param>
    <param name="tls">N</param>
  </data_provider>
</adapters_conf>
"#;

#[test]
fn what_remote_adapters_have_there_they_have_here() {
    let imported = imported(&[("adapters.xml", REMOTE)]);
    let plan = plan(&imported);
    let set = &plan.adapter_sets[0];
    let MetadataPlan::Remote(remote) = &set.metadata else {
        panic!("{:?}", set.metadata);
    };
    let ever = Duration::from_secs(1_000_000_000);
    assert!(set.metadata_first, "as it is there by default");
    assert_eq!(remote.timeout, Duration::from_secs(36_000));
    assert!(remote.start_wait > ever && remote.recovery_delay > ever);
    assert_eq!(remote.closes_recovery, ClosesRecovery::Optimistic);
    assert_eq!(remote.while_away, WhileAway::Fail);
    assert_eq!(remote.user_data_timeout, Duration::from_secs(3));
    assert!(!remote.clear_on_session_close && remote.clear_on_new_remote);
    assert!(remote.sequential_tables);
    let DataKind::Remote(remote) = &set.data[0].kind else {
        panic!("{:?}", set.data);
    };
    assert_eq!(remote.start_wait, Duration::from_millis(500));
    noted(&imported, "adapters.xml:16: tls: the files");
    assert_eq!(imported.notes.len(), 1, "{:#?}", imported.notes);
    let not_first = REMOTE.replacen(
        "<metadata_provider>",
        "<metadata_adapter_initialised_first>N</metadata_adapter_initialised_first><metadata_provider>",
        1,
    );
    let imported = self::imported(&[("adapters.xml", &not_first)]);
    assert!(!self::plan(&imported).adapter_sets[0].metadata_first);
}

const SERVER: &str = r#"<lightstreamer_conf>
  <edition_conf>./edition.xml</edition_conf>
  <http_server name="Front">
    <port>8081</port>
    <listening_interface>127.0.0.1</listening_interface>
    <backlog>50</backlog>
    <port_type>CREATE_ONLY</port_type>
    <response_http_headers>
      <echo name="X-Request-Id"/>
      <add name="X-Accel-Buffering">no</add>
    </response_http_headers>
    <client_identification private="Y">
      <proxy_protocol_enabled>Y</proxy_protocol_enabled>
    </client_identification>
  </http_server>
  <http_server name="Open">
    <port>8082</port>
    <client_identification private="Y"><skip_local_forwards>1</skip_local_forwards></client_identification>
  </http_server>
  <https_server name="Safe"><port>8443</port></https_server>
  <read_timeout_millis>15000</read_timeout_millis>
  <request_limit>60000</request_limit>
  <write_timeout_millis>90000</write_timeout_millis>
  <cross_domain_policy options_max_age="600" accept_extra_headers="X-A, X-B" accept_credentials="N">
    <allow_access_from scheme="https" host="*.example.com" port="*"/>
    <allow_access_from scheme="*" host="localhost" port="3000"/>
  </cross_domain_policy>
  <service_url_prefix>/push</service_url_prefix>
  <content_length><default>5000000</default><special_case value="1"/></content_length>
  <max_streaming_millis>3600000</max_streaming_millis>
  <use_compression>Y</use_compression>
  <max_buffer_size>1000</max_buffer_size>
  <session_timeout_millis>11000</session_timeout_millis>
  <session_recovery_millis>14000</session_recovery_millis>
  <subscription_timeout_millis>6000</subscription_timeout_millis>
  <default_diff_order>jsonpatch</default_diff_order>
  <default_diff_order>diff_match_patch</default_diff_order>
  <jsonpatch_min_length>none</jsonpatch_min_length>
  <delta_delivery>N</delta_delivery>
  <sendbuf>1600</sendbuf>
  <max_delay_millis>30</max_delay_millis>
  <default_keepalive_millis randomize="Y">4000</default_keepalive_millis>
  <max_keepalive_millis>9999999999</max_keepalive_millis>
  <max_polling_millis>20000</max_polling_millis>
  <min_interpoll_millis>soon</min_interpoll_millis>
  <web_server><enabled>N</enabled><pages_dir>../pages</pages_dir></web_server>
  <control_link_address>push1.example.com</control_link_address>
  <max_session_duration_minutes>720</max_session_duration_minutes>
  <max_sessions>5000</max_sessions>
  <events_pool_size>10</events_pool_size>
  <jmx><rmi_connector><port>8888</port></rmi_connector></jmx>
  <mystery/>
</lightstreamer_conf>"#;

#[test]
fn the_servers_configuration() {
    let imported = imported(&[("conf.xml", SERVER)]);
    let plan = plan(&imported);
    let [front, open] = &plan.listeners[..] else {
        panic!("{:?}", plan.listeners);
    };
    assert_eq!((front.name.as_str(), front.address.port()), ("Front", 8081));
    assert_eq!(front.server_name.as_deref(), Some("Front"));
    assert_eq!(front.role, Role::CreateOnly);
    assert_eq!(front.proxy_protocol, ProxyProtocol::Any);
    assert_eq!(front.prefixes, ["/push"]);
    assert_eq!(front.echoed_headers, ["X-Request-Id"]);
    let added = ("X-Accel-Buffering".to_owned(), "no".to_owned());
    assert_eq!(front.added_headers, [added]);
    assert_eq!(
        (open.address.to_string().as_str(), open.forwarded_hops),
        ("127.0.0.1:8082", 1)
    );
    let sessions = &plan.sessions;
    assert!(!sessions.tell_client_ip);
    assert_eq!(sessions.head_timeout, Duration::from_secs(15));
    assert_eq!(sessions.request_limit, 60_000);
    assert_eq!(plan.socket.write_timeout, Duration::from_secs(90));
    assert_eq!(
        (plan.socket.backlog, plan.http.gzip, plan.pages.demo),
        (50, true, false)
    );
    assert!(plan.origins.policy.allows("https://www.example.com:8443"));
    assert!(plan.origins.policy.allows("http://localhost:3000"));
    assert!(!plan.origins.policy.allows("http://www.example.com"));
    assert_eq!(plan.origins.max_age, Duration::from_secs(600));
    assert_eq!(
        (plan.origins.credentials, plan.origins.headers.len()),
        (false, 2)
    );
    assert_eq!(sessions.content_length, 5_000_000);
    assert_eq!(sessions.streaming_time_max, Some(Duration::from_secs(3600)));
    assert_eq!(
        (
            sessions.session_timeout,
            sessions.recovery_timeout,
            sessions.subscription_linger
        ),
        (
            Duration::from_secs(11),
            Duration::from_secs(14),
            Duration::from_secs(6)
        )
    );
    assert_eq!(plan.diffs.sizes.json_patch_bytes_min, 0);
    assert!(!sessions.delta_delivery);
    assert_eq!(sessions.max_delay, Duration::from_millis(30));
    assert_eq!(sessions.keepalive_default, Duration::from_secs(4));
    assert_eq!(
        sessions.keepalive_max,
        Duration::from_secs(30),
        "out of range, so the default"
    );
    assert_eq!(sessions.control_link.as_deref(), Some("push1.example.com"));
    assert_eq!(sessions.duration_max, Some(Duration::from_secs(43_200)));
    assert_eq!(sessions.sessions_max, 5_000);
    for expected in [
        "conf.xml:2: edition_conf: there are no editions",
        "conf.xml:16: Open: was open on every address",
        "conf.xml:20: https_server: ",
        "special_case: one length",
        "sendbuf: socket.notsent_lowat",
        "randomize: ",
        "sessions.keepalive_max: left out: ",
        "min_interpoll_millis: `soon` cannot be read",
        "max_sessions: sessions.sessions_max is the bound of each shard",
        "events_pool_size: there are no such threads",
        "jmx: has no counterpart",
        "mystery: has no counterpart",
    ] {
        noted(&imported, expected);
    }
    assert_eq!(imported.notes.len(), 12, "{:#?}", imported.notes);
    // Each stands in the file as well, for whoever reads it later.
    assert!(
        imported
            .notes
            .iter()
            .all(|note| imported.toml.contains(note.as_str()))
    );
}

#[test]
fn files_go_together_and_a_check_accepts_what_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let run = |arguments: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brightwire"));
        command.args(arguments).output().unwrap()
    };
    let (conf, shop) = (file("conf.xml", SERVER), file("adapters.xml", SHOP));
    let output = run(&[Path::new("import"), &conf, &shop]);
    assert!(output.status.success(), "{output:?}");
    let notes = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        notes,
        "16 thing(s) are not as they were: see the comments at the beginning\n"
    );
    let toml = file(
        "brightwire.toml",
        &String::from_utf8(output.stdout).unwrap(),
    );
    let output = run(&[Path::new("check"), Path::new("--config"), &toml]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("SHOP (rules: 2 families"),
        "{text}"
    );
    let broken = file("broken.xml", "<adapters_conf>\n<param></adapters_conf>");
    let output = run(&[Path::new("import"), &broken]);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("broken.xml: line 2: "), "{error}");
}

#[test]
fn sets_without_data_are_left_out_and_other_files_refused() {
    let java = "<adapters_conf id='X'><metadata_provider><adapter_class>a.B</adapter_class></metadata_provider>\
                <data_provider><adapter_class>a.C</adapter_class></data_provider></adapters_conf>";
    let left = imported(&[("x.xml", java)]);
    assert!(!left.toml.contains("[[adapter_sets]]"), "{}", left.toml);
    noted(&left, "X: the adapter set is left out");
    noted(&left, "a.B: a Java class");
    plan(&left);
    let files = [("web.xml".to_owned(), "<web-app/>".to_owned())];
    let error = import(&files, &Topology::read().unwrap()).unwrap_err();
    assert_eq!(
        error,
        "web.xml: <web-app> is neither <adapters_conf> nor <lightstreamer_conf>"
    );
}
