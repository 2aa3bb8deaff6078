//! Makes certificates for trying TLS with remote adapters, and for the tests of it:
//!
//! ```text
//! cargo run --example certificates -- DIRECTORY
//! ```
//!
//! writes `ca.pem`, an authority, and with its signature `localhost.pem` and `remote.pem` with their keys; and
//! `stranger.pem`, an authority that signs nothing. All of it is new with each run, and good for nothing but trying.

use std::error::Error;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("which directory?")?;
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory)?;
    let authority = authority("authority for tests")?;
    std::fs::write(directory.join("ca.pem"), authority.pem())?;
    std::fs::write(
        directory.join("stranger.pem"),
        self::authority("stranger")?.pem(),
    )?;
    for name in ["localhost", "remote"] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority)?;
        std::fs::write(directory.join(format!("{name}.pem")), certificate.pem())?;
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Some clients look at that.
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
