//! TLS: certificates and keys from PEM files, and who is trusted. The streams are rustls' own.
//!
//! TLS 1.2 and 1.3 with rustls' choice of ciphers, which has none that needs to be switched off.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// Who one is: a certificate with those that lead to its authority, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate first.
    pub certificates: PathBuf,
    /// Not encrypted.
    pub key: PathBuf,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub struct Unusable {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for Unusable {}

/// For those who listen. With `clients`, a file of certificates, whoever connects must present a certificate that one of
/// these has signed.
pub fn listening(own: &Identity, clients: Option<&Path>) -> Result<Arc<ServerConfig>, Unusable> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 need");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let trusted = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(trusted, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(path, error))?)
        }
    };
    let (chain, key) = own.read()?;
    let config = builder.with_single_cert(chain, key);
    Ok(Arc::new(config.map_err(|error| unusable(&own.key, error))?))
}

/// For those who connect to a server whose certificate one of the `trusted` has signed. `any_name` lets it be a
/// certificate for another host.
pub fn connecting(
    own: Option<&Identity>,
    trusted: &Path,
    any_name: bool,
) -> Result<Arc<ClientConfig>, Unusable> {
    let provider = provider();
    let roots = Arc::new(authorities(trusted)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(trusted, error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 need");
    let builder = match any_name {
        false => builder.with_webpki_verifier(verifier),
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName(verifier))),
    };
    Ok(Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.read()?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| unusable(&own.key, error))?
        }
    }))
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => unusable(&self.key, "there is no private key in it"),
            other => unusable(&self.key, other),
        })?;
        Ok((certificates(&self.certificates)?, key))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error))?;
    let all: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, error))?;
    match all.is_empty() {
        true => Err(unusable(path, "there is no certificate in it")),
        false => Ok(all),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = store.add(certificate);
        added.map_err(|error| unusable(path, error))?;
    }
    Ok(store)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unusable(path: &Path, reason: impl fmt::Display) -> Unusable {
    Unusable {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Trusts a certificate whatever its name, if its signature is right.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .0
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match verified {
            // The name is looked at last, when all else is found to be right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
