//! What `LS_cid` tells of a client. It is opaque, and nothing may be refused for its spelling; but official builds send
//! constants, and some of them need care.

/// Over HTTP this client decodes each piece of a response for itself: it must be sent ASCII. These are the builds for
/// Apple's systems; the compact build of each begins like the full one.
pub fn needs_ascii(cid: &str) -> bool {
    APPLE.iter().any(|start| cid.starts_with(start))
}

/// iOS, macOS, tvOS, watchOS, visionOS: what is common to the full and the compact build.
const APPLE: [&str; 5] = [
    "oqVfhw.i6 38eA4BIe4wnce72mBm4k34f8BBM5S",
    "scFuxkwp1ltvcC4FJ4KhrrKg4CHfDprfc85DQ4O8C",
    "zxRyen2m uz.l59AK2wsvjD568vy1sj.h67HK6ND",
    ".cWimz9dysogQz2HJ8L74cOvmlJ5Ji kOj2DK6S783l",
    "-kVoty5wvjrkHty8Q3Q660Drusu3N4hwLri8M4OD64gC",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_builds_of_apples_clients_and_no_others() {
        assert!(needs_ascii("oqVfhw.i6 38eA4BIe4wnce72mBm4k34f8BBM5Sv"));
        assert!(needs_ascii(
            "oqVfhw.i6 38eA4BIe4wnce72mBm4k34f8BBM5S5iqPvfnAj"
        ));
        assert!(!needs_ascii("mgQkwtwdysogQz2BJ4Ji kOj2Bg") && !needs_ascii(""));
    }
}
