//! The body of a fuzz target.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::{Caller, Connection, Flow, Host, Phase, Progress, Settings, TlcpRequest};
use crate::net::settings::ProxyProtocol;
use crate::wire::authority::Authority;
use crate::wire::ws::Upgrade;

/// Body of a fuzz target: everything a peer can send, once in one piece and once cut in two. Pongs are left out of the
/// comparison, since only the last ping of a read is answered; and so are headers for browsers, since a broken head is
/// refused with what has arrived of it, its `Origin` among that or not.
pub fn fuzz_entry(data: &[u8]) {
    fuzz(data, Settings::default());
}

/// The same for a listener behind proxies, which say in PROXY headers and in `X-Forwarded-For` who their clients are.
pub fn fuzz_entry_proxies(data: &[u8]) {
    let settings = Settings {
        proxy_protocol: ProxyProtocol::Any,
        forwarded_hops: 2,
        trusted_proxies: vec![IpNet::from(IpAddr::from(Ipv4Addr::LOCALHOST))],
        prefixes: vec!["/push".into()],
        echoed_headers: vec!["X-Request-Id".into()],
        control_link: Some(Authority::of_link("push1:8080")),
        keeps_headers: true,
        ..Settings::default()
    };
    fuzz(data, settings);
}

fn fuzz(data: &[u8], settings: Settings) {
    let (&cut, stream) = data.split_first().unwrap_or((&0, &[]));
    let cut = usize::from(cut).min(stream.len());
    let settings = Arc::new(Settings {
        request_bytes_max: 400,
        ..settings
    });
    assert_eq!(
        fuzz_run(&settings, &[stream]),
        fuzz_run(&settings, &[&stream[..cut], &stream[cut..]]),
        "the position of a cut must not matter"
    );
}

fn fuzz_run(settings: &Arc<Settings>, pieces: &[&[u8]]) -> Vec<String> {
    #[derive(Default)]
    struct Recorder {
        seen: Vec<String>,
        reply: Vec<u8>,
        upgraded: bool,
    }
    impl Host for Recorder {
        fn peer(&self) -> IpAddr {
            Ipv4Addr::LOCALHOST.into()
        }
        fn proxied(&mut self, client: SocketAddr) {
            self.seen.push(client.to_string());
        }
        fn upgraded(&mut self, upgrade: &Upgrade<'_>, _caller: Caller, _settings: &Settings) {
            self.seen.push(format!("{upgrade:?}"));
            self.upgraded = true;
        }
        fn message(&mut self, text: &str) -> Flow {
            self.seen.push(text.to_owned());
            if text.len().is_multiple_of(2) {
                Flow::Continue
            } else {
                Flow::Stop
            }
        }
        fn cut_message(&mut self, beginning: &str) {
            self.seen.push(format!("the beginning {beginning}"));
        }
        fn request(&mut self, request: TlcpRequest<'_>, _settings: &Settings) {
            self.seen.push(format!("{request:?}"));
        }
        fn reply(&mut self) -> &mut Vec<u8> {
            &mut self.reply
        }
        fn close(&mut self) {
            self.seen.push("closed".into());
        }
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
    }
    let mut connection = Connection::new(Arc::clone(settings));
    let mut host = Recorder::default();
    let mut http = Vec::new();
    for piece in pieces {
        let mut progress = connection.on_bytes(&mut piece.to_vec(), &mut host);
        loop {
            // Answers of HTTP come before the upgrade, pongs and the close frame after it.
            if !host.upgraded {
                http.append(&mut host.reply);
            }
            match progress {
                Progress::Stopped if connection.phase() == Phase::Response => {
                    progress = connection.on_response_end(true, &mut host);
                }
                Progress::Stopped | Progress::Answered => progress = connection.resume(&mut host),
                Progress::Reading | Progress::Closed => break,
            }
        }
    }
    if !host.upgraded {
        let text = String::from_utf8_lossy(&http);
        let for_browsers =
            |line: &&str| line.starts_with("Access-Control-") || line.starts_with("Vary: Origin");
        let lines = text
            .split_inclusive('\n')
            .filter(|line| !for_browsers(line));
        host.seen.push(lines.collect());
    }
    host.seen
}
