//! Sessions over TLS, through a proxy that ends it in front of the server.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use futures_rustls::TlsAcceptor;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;
use support::{Server, number};

/// Ends TLS for as many connections as come, as long as the test runs; its certificate is in the file.
fn proxy(server: &str, certificate: &Path) -> SocketAddr {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, own.cert.pem()).unwrap();
    let chain = vec![CertificateDer::from(own.cert.der().to_vec())];
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
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
    let certificate = server.files.path().join("proxy.pem");
    let proxy = proxy(&server.address, &certificate);
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
                certificate.to_str().unwrap(),
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
    let certificate = server.files.path().join("proxy.pem");
    let proxy = proxy(&server.address, &certificate);
    let run = |more: &[&str]| {
        let mut arguments = vec!["--sessions", "2", "--seconds", "0", "--warmup", "0"];
        arguments.extend(["--tls-authorities", certificate.to_str().unwrap()]);
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
