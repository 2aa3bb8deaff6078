//! Certificates as files, made anew: for unit tests as well, which find this by its path.

use std::path::Path;

use brightwire::wire::tls::Identity;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Makes `authority.pem` and what it has signed: `localhost.pem` and `client.pem`, each with its key (`.key`).
pub fn make(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(params, key).unwrap();
    let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
    write("authority.pem", authority.pem());
    for name in ["localhost", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &authority).unwrap();
        write(&format!("{name}.pem"), signed.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// One of those, to present.
pub fn identity(directory: &Path, name: &str) -> Identity {
    Identity {
        certificates: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
    }
}
