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

/// The client library that an official build says it is, and the version as far as that is known, for metadata adapters.
pub fn library(cid: &str) -> Option<(&'static str, Option<&'static str>)> {
    LIBRARIES
        .iter()
        .find(|(start, ..)| cid.starts_with(start))
        .map(|(_, name, version)| (*name, *version))
}

/// The constants of official builds, or how those of one library begin; of two that begin alike the longer one is first.
const LIBRARIES: [(&str, &str, Option<&str>); 15] = [
    ("mgQkwtwdysogQz2BJ4Ji kOj2Bg", "generic_client", None),
    ("pcYgxn8m8 feOojyA1U", "javascript_client", Some("8")),
    ("pcYgxn8m8 feOojyA1V", "javascript_client", Some("9")),
    ("tqGko0tg4pkpW3D", "nodejs_client", Some("8")),
    ("tqGko0tg4pkpW3E", "nodejs_client", Some("9")),
    ("pcYgxptg4pkpW3A", "javase_client", Some("5")),
    ("gpGxttxdysogQz2G", "android_client", Some("5")),
    ("jqWtj1twChtfDxikwp1ltvcC4D", "dotnet_client", Some("6")),
    ("v Wntytg4pkpW37A", "python_client", Some("2")),
    ("irSfhw.i6 33e64B", "cpp_client", Some("1")),
    (APPLE[0], "ios_client", None),
    (APPLE[1], "macos_client", None),
    (APPLE[2], "tvos_client", None),
    (APPLE[3], "watchos_client", None),
    (APPLE[4], "visionos_client", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_builds_are_known_by_name() {
        let name = |cid| library(cid).map(|(name, version)| (name, version.unwrap_or("")));
        for (cid, expected) in [
            ("mgQkwtwdysogQz2BJ4Ji kOj2Bg", ("generic_client", "")),
            (
                "pcYgxn8m8 feOojyA1V681i3g2.pz482hB5DM9Kj uWurb",
                ("javascript_client", "9"),
            ),
            (
                "pcYgxn8m8 feOojyA1U661o3g2.pz47Ag73nBwCvsf",
                ("javascript_client", "8"),
            ),
            (
                "tqGko0tg4pkpW3EAM3O4hwLri8M4OC63i73nBwCvsk",
                ("nodejs_client", "9"),
            ),
            (
                "pcYgxptg4pkpW3AAN3P4hwLri8M4OD6Ag93nBwCvsh",
                ("javase_client", "5"),
            ),
            (
                "zxRyen2m uz.l59AK2wsvjD568vy1sj.h67HK6NDa",
                ("tvos_client", ""),
            ),
        ] {
            assert_eq!(name(cid), Some(expected), "{cid}");
        }
        assert_eq!(name("something else"), None);
    }

    #[test]
    fn both_builds_of_apples_clients_and_no_others() {
        assert!(needs_ascii("oqVfhw.i6 38eA4BIe4wnce72mBm4k34f8BBM5Sv"));
        assert!(needs_ascii(
            "oqVfhw.i6 38eA4BIe4wnce72mBm4k34f8BBM5S5iqPvfnAj"
        ));
        assert!(!needs_ascii("mgQkwtwdysogQz2BJ4Ji kOj2Bg") && !needs_ascii(""));
    }
}
