//! TLS with remote adapters, in both directions, with certificates made here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::support::remote::JAVA;
use crate::support::{Client, Server, WAIT_MAX, data, subscribe};

/// An authority, with certificates that it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Certified {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> Certified {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Certified {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }
}

impl Certified {
    fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        (chain.collect::<Result<_, _>>().unwrap(), key.unwrap())
    }

    fn write(&self, directory: &Path, name: &str) {
        std::fs::write(directory.join(format!("{name}.pem")), &self.certificate).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), &self.key).unwrap();
    }
}

/// Plays a remote data adapter over any stream until a client has got a value.
fn play(stream: impl Read + Write, server: &Server) {
    let mut stream = BufReader::new(stream);
    let say = |stream: &mut BufReader<_>, line: &str| {
        let writer = BufReader::get_mut(stream);
        Write::write_all(writer, format!("{line}\r\n").as_bytes()).unwrap();
        Write::flush(writer).unwrap();
    };
    let mut line = String::new();
    say(&mut stream, JAVA);
    stream.read_line(&mut line).unwrap();
    let (id, _) = line.split_once('|').unwrap();
    say(&mut stream, &format!("{id}|DPI|S|ARI.version|S|1.9.1"));
    let (mut client, _) = Client::with_session(server.web());
    client.send(&subscribe(1, "MERGE", "a", "f"));
    line.clear();
    stream.read_line(&mut line).unwrap();
    let (id, _) = line.split_once('|').unwrap();
    // More than one record of TLS holds.
    let value = "x".repeat(100_000);
    say(&mut stream, &format!("1|UD3|S|a|S|{id}|B|1|S|f|S|{value}"));
    assert_eq!(client.update(), format!("U,1,1,{value}"));
}

fn client(trusted: &Authority, own: Option<&Certified>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder().with_root_certificates(trusted.roots());
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.read();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

fn socket(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream
}

#[test]
fn remotes_connect_with_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("localhost");
    let begin = |more: &str| {
        let directory = tempfile::tempdir().unwrap();
        own.write(directory.path(), "own");
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let server = Server::begin_in(
            directory,
            &data(&format!(
                "[adapter_sets.data.remote.tls]\ncertificate = \"own.pem\"\nkey = \"own.key\"\n{more}"
            )),
        );
        server.serves();
        server
    };
    let connect = |server: &Server, config| {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let stream = TcpStream::connect(server.port("DEMO.FEED")).unwrap();
        StreamOwned::new(connection, socket(stream))
    };

    let server = begin("");
    play(connect(&server, client(&authority, None)), &server);
    // A remote that does not speak TLS, and one that does not trust us.
    let mut plain = socket(TcpStream::connect(server.port("DEMO.FEED")).unwrap());
    plain.write_all(format!("{JAVA}\r\n").as_bytes()).unwrap();
    server.logged("is not served: no TLS comes about");
    let mut distrustful = connect(&server, client(&stranger, None));
    assert!(distrustful.write_all(b"1|RAC\r\n").is_err());
    drop(distrustful);
    play(connect(&server, client(&authority, None)), &server);

    // With a certificate of their own, where it is asked for.
    let server = begin("authorities = \"ca.pem\"");
    for wrong in [None, Some(stranger.sign("remote"))] {
        let mut remote = connect(&server, client(&authority, wrong.as_ref()));
        let _ = remote.write_all(format!("{JAVA}\r\n").as_bytes());
        assert!(remote.read(&mut [0; 16]).is_err());
    }
    let right = authority.sign("remote");
    play(connect(&server, client(&authority, Some(&right))), &server);
    server.logged_times("no TLS comes about", 2);
}

#[test]
fn the_server_connects_with_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("server");
    // Each server gets another address: one that has ended may leave a connection behind.
    let begin = |more: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        own.write(directory.path(), "own");
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let tls = format!(
            "connect_retry = \"20ms\"\n[adapter_sets.data.remote.tls]\nauthorities = \"ca.pem\"\n{more}"
        );
        let address = format!("connect = true\naddress = \"localhost:{port}\"");
        let sets = data(&tls).replace("address = \"127.0.0.1:0\"", &address);
        let server = Server::begin_in(directory, &sets);
        server.serves();
        (server, listener)
    };
    // A remote with a certificate, which may want one of the server's.
    let accept = |listener: &TcpListener, certified: &Certified, clients: Option<&Authority>| {
        let (chain, key) = certified.read();
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder(authority.roots()).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let config = builder.with_single_cert(chain, key).unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        StreamOwned::new(connection, socket(listener.accept().unwrap().0))
    };

    let (server, listener) = begin("");
    for wrong in [authority.sign("other.example"), stranger.sign("localhost")] {
        let mut remote = accept(&listener, &wrong, None);
        assert!(remote.read(&mut [0; 16]).is_err());
    }
    server.logged("certificate not valid for name");
    server.logged("invalid peer certificate: BadSignature");
    play(
        accept(&listener, &authority.sign("localhost"), None),
        &server,
    );
    drop(server);

    let (server, listener) = begin("skip_hostname_check = true");
    assert!(
        accept(&listener, &stranger.sign("localhost"), None)
            .read(&mut [0; 16])
            .is_err()
    );
    play(
        accept(&listener, &authority.sign("other.example"), None),
        &server,
    );
    drop(server);

    let (server, listener) = begin("certificate = \"own.pem\"\nkey = \"own.key\"");
    play(
        accept(&listener, &authority.sign("localhost"), Some(&authority)),
        &server,
    );
}
