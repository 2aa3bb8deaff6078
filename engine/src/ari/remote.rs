//! The lines of the other side: what a remote writes. Load generators feed the server with them, and tests check that
//! what one side writes the other reads.

use super::Encoding;
use super::values::LineWriter;

/// Appends `RAC`, with credentials if there are any.
pub fn credentials(out: &mut Vec<u8>, user: Option<(&str, &str)>, sdk: Option<&str>) {
    let mut line = LineWriter::start(out, "1", "RAC", Encoding::Old);
    if let Some((user, password)) = user {
        line.text("user").text(user).text("password").text(password);
    }
    line.text("enableClosePacket").text("true");
    if let Some(sdk) = sdk {
        line.text("SDK").text(sdk);
    }
    line.end();
}

/// Appends the reply to an init request: ready, in this version.
pub fn ready(out: &mut Vec<u8>, id: &str, method: &str, version: &str) {
    LineWriter::start(out, id, method, Encoding::Old)
        .text("ARI.version")
        .text(version)
        .end();
}

/// Appends the reply of those methods that return nothing.
pub fn done(out: &mut Vec<u8>, id: &str, method: &str) {
    LineWriter::start(out, id, method, Encoding::Old)
        .bare("V")
        .end();
}

/// Appends `UD3`. `time` is the remote's clock in milliseconds, `subscription` the id of the `SUB`.
pub fn update<'f>(
    out: &mut Vec<u8>,
    time: &str,
    item: &str,
    subscription: &str,
    snapshot: bool,
    fields: impl Iterator<Item = (&'f str, Option<&'f str>)>,
    encoding: Encoding,
) {
    let mut line = LineWriter::start(out, time, "UD3", encoding);
    line.text(item).text(subscription).boolean(snapshot);
    for (name, value) in fields {
        line.text(name).string(value);
    }
    line.end();
}

/// Appends `EOS`.
pub fn end_of_snapshot(
    out: &mut Vec<u8>,
    time: &str,
    item: &str,
    subscription: &str,
    encoding: Encoding,
) {
    LineWriter::start(out, time, "EOS", encoding)
        .text(item)
        .text(subscription)
        .end();
}

/// Appends `CLS`.
pub fn clear_snapshot(
    out: &mut Vec<u8>,
    time: &str,
    item: &str,
    subscription: &str,
    encoding: Encoding,
) {
    LineWriter::start(out, time, "CLS", encoding)
        .text(item)
        .text(subscription)
        .end();
}
