//! The handshake and the farewell: `RAC`, `MPI`, `DPI` and `CLOSE`. All of it in the old encoding.

use super::exception::Exception;
use super::values::{LineWriter, Malformed, Tokens};
use super::{Encoding, VERSION_OFFERED, Version};

/// What a remote says of itself in its first line. SDKs of some age, and remotes without an SDK, say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Who it is.
    pub user: Option<String>,
    /// The proof.
    pub password: Option<String>,
    /// It takes [`close`] at any time.
    pub takes_close: bool,
    /// The name of its SDK, from 1.9.1 on.
    pub sdk: Option<String>,
}

/// The method of [`Credentials`].
pub const CREDENTIALS: &str = "RAC";

/// The name by which the Node SDK makes itself known; its tables have no items ([`super::TableLayout`]).
pub const NODE_SDK: &str = "Node.js Adapter SDK";

impl Credentials {
    /// Reads what follows `RAC`. Unknown names are ignored.
    pub fn read(mut tokens: Tokens<'_>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        while !tokens.is_at_end() {
            let name = tokens.text(Encoding::Old)?;
            let value = tokens.string(Encoding::Old)?.map(String::from);
            match &*name {
                "user" => found.user = value,
                "password" => found.password = value,
                "enableClosePacket" => found.takes_close = value.as_deref() == Some("true"),
                "SDK" => found.sdk = value,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// What kind of adapter a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Initialised by `MPI`.
    Metadata,
    /// Initialised by `DPI`.
    Data,
}

impl Role {
    /// The method that initialises such an adapter.
    pub fn init_method(self) -> &'static str {
        match self {
            Self::Metadata => "MPI",
            Self::Data => "DPI",
        }
    }
}

/// Appends the init request: the first on every connection, and only the first. The offered version is added to the
/// parameters.
pub fn init(out: &mut Vec<u8>, id: &str, role: Role, parameters: &[(&str, &str)]) {
    let mut line = LineWriter::start(out, id, role.init_method(), Encoding::Old);
    line.text("ARI.version").text(VERSION_OFFERED);
    for (name, value) in parameters {
        line.text(name).text(value);
    }
    line.end();
}

/// What a remote answers to [`init`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitReply {
    /// It is ready, and speaks this version from now on.
    Ready(Version),
    /// It wants a version that this server does not have.
    VersionUnknown(String),
    /// Its adapter cannot be initialised.
    Failed(Exception),
}

/// Reads what follows `MPI` or `DPI`.
pub fn read_init_reply(mut tokens: Tokens<'_>) -> Result<InitReply, Malformed> {
    if let Some(exception) = Exception::read(&tokens, Encoding::Old)? {
        return Ok(InitReply::Failed(exception));
    }
    let mut ahead = tokens.clone();
    if ahead.next() == Some("V") || tokens.is_at_end() {
        return Ok(InitReply::Ready(Version::V1_8_0));
    }
    let mut version = Version::V1_8_0;
    while !tokens.is_at_end() {
        let name = tokens.text(Encoding::Old)?;
        let value = tokens.string(Encoding::Old)?.unwrap_or_default();
        if name == "ARI.version" {
            match Version::parse(&value) {
                Some(known) => version = known,
                None => return Ok(InitReply::VersionUnknown(value.into())),
            }
        }
    }
    Ok(InitReply::Ready(version))
}

/// Appends the farewell. Only for remotes that take it: see [`Credentials::takes_close`] and [`Version::has_close`].
pub fn close(out: &mut Vec<u8>, reason: &str) {
    LineWriter::start(out, "0", "CLOSE", Encoding::Old)
        .text("reason")
        .text(reason)
        .end();
}
