//! Sessions over TLS, through a proxy that ends it in front of the server; a feed over TLS, which the server ends itself.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use brightwire::wire::tls;
use futures_rustls::TlsAcceptor;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;
use support::{LOADGEN, Process, Server, certificates, number};

/// Ends TLS for as many connections as come, as long as the test runs, with certificates in the directory.
fn proxy(server: &str, directory: &Path) -> SocketAddr {
    certificates::make(directory);
    let own = certificates::identity(directory, "localhost");
    let acceptor = TlsAcceptor::from(tls::listening(&own, None).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server: SocketAddr = server.parse().unwrap();
    thread::spawn(move || {
        let executor = smol::LocalExecutor::new();
        let listener = smol::net::TcpListener::try_from(listener).unwrap();
        smol::block_on(executor.run(async {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                executor
                    .spawn(async move {
                        // A client that breaks off, as in a storm, ends its connection and no more.
                        let _ = pass(acceptor, socket, server).await;
                    })
                    .detach();
            }
        }))
    });
    address
}

async fn pass(acceptor: TlsAcceptor, socket: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let (from_client, to_client) = smol::io::split(acceptor.accept(socket).await?);
    let (from_server, to_server) = smol::io::split(TcpStream::connect(server).await?);
    smol::future::or(copy(from_client, to_server), copy(from_server, to_client)).await
}

async fn copy(
    mut from: impl smol::io::AsyncRead + Unpin,
    mut to: impl smol::io::AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
        // Records that TLS keeps back would never come.
        to.flush().await?;
    }
}

#[test]
fn all_transports_agree_over_tls_also_after_a_storm() {
    let Some(server) = Server::demo("auto") else {
        return;
    };
    let proxy = proxy(&server.address, server.files.path());
    let authority = server.files.path().join("authority.pem");
    let address = format!("localhost:{}", proxy.port());
    for transport in ["websocket", "http-streaming", "long-polling"] {
        let (output, report) = server.load_at(
            &address,
            &[
                "--transport",
                transport,
                "--sessions",
                "20",
                "--seconds",
                "2",
                "--warmup",
                "0",
                "--storm",
                "0.5:0.5",
                "--churn",
                "5",
                "--verify",
                "--tls-authorities",
                authority.to_str().unwrap(),
            ],
        );
        assert!(output.status.success(), "{transport}: {output:?}");
        assert_eq!(number(&report, "/verify/rows_compared"), 20.0);
        assert!(number(&report, "/latency/count") > 0.0, "{report}");
        assert!(
            number(&report, "/sessions/returned/count") > 0.0,
            "{report}"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("by {transport} over TLS")), "{text}");
    }
}

#[test]
fn a_certificate_of_somebody_else_is_a_failure_with_a_reason() {
    let Some(server) = Server::demo("epoll") else {
        return;
    };
    let proxy = proxy(&server.address, server.files.path());
    let authority = server.files.path().join("authority.pem");
    let run = |more: &[&str]| {
        let mut arguments = vec!["--sessions", "2", "--seconds", "0", "--warmup", "0"];
        arguments.extend(["--tls-authorities", authority.to_str().unwrap()]);
        arguments.extend(more);
        server.load_at(&proxy.to_string(), &arguments)
    };
    // The certificate is for localhost, not for an address.
    let (output, report) = run(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let failed = report["sessions"]["failed"].as_object().unwrap();
    let reason = failed.keys().next().unwrap();
    assert!(failed.len() == 1 && reason.starts_with("TLS: "), "{reason}");

    let (output, _) = run(&["--tls-any-name"]);
    assert!(output.status.success(), "{output:?}");
}

/// A feed to a server that asks remote adapters for a certificate, with what is given of one.
fn feed(server: &Server, arguments: &[&str]) -> Command {
    let address = server.feed.as_deref().unwrap();
    // The certificate is for localhost.
    let port = address.rsplit_once(':').unwrap().1;
    let mut command = Command::new(LOADGEN);
    command
        .current_dir(server.files.path())
        .args([
            "feed",
            "--ari",
            &format!("localhost:{port}"),
            "--items",
            "1..5",
        ])
        .args(arguments);
    command
}

const CERTIFIED: [&str; 6] = [
    "--tls-authorities",
    "authority.pem",
    "--tls-certificate",
    "client.pem",
    "--tls-key",
    "client.key",
];

#[test]
fn a_feed_over_tls_reaches_clients() {
    for kind in ["remote-over-tls", "remote-of-two-over-tls"] {
        let Some(server) = Server::fed(kind) else {
            return;
        };
        let notify = server.notify.as_deref();
        let notify =
            notify.map(|address| format!("localhost:{}", address.rsplit_once(':').unwrap().1));
        let child = feed(&server, &CERTIFIED)
            .args(notify.iter().flat_map(|address| ["--ari-notify", address]))
            // More than a record of TLS holds in one write, now and then.
            .args([
                "--rate",
                "500",
                "--burst",
                "10",
                "--value-bytes",
                "5000",
                "--seconds",
                "60",
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let _feed = Process(child);
        server.every_event_arrives();
    }
}

#[test]
fn a_feed_that_is_not_let_in_says_why() {
    let Some(server) = Server::fed("remote-over-tls") else {
        return;
    };
    let said = |arguments: &[&str]| {
        let output = feed(&server, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // A server that somebody else has signed.
    let text = said(&["--tls-authorities", "client.pem", "--seconds", "20"]);
    assert!(
        text.contains("TLS: ") && text.contains("certificate"),
        "{text}"
    );
    // None of its own, which the server wants; and no TLS at all. The server ends the connection, and whether its reason
    // comes through before that is a matter of luck.
    for arguments in [
        &["--tls-authorities", "authority.pem", "--seconds", "20"][..],
        &["--seconds", "20"],
    ] {
        let text = said(arguments);
        assert!(text.starts_with("loadgen: localhost:"), "{text}");
    }
}
