//! Which client decodes what.
//!
//! A client may name the formats it knows, and most do not. Since protocol 2.4 not naming any means all; some builds
//! claim that protocol and decode less, and only their identifier (`LS_cid`) tells them. They are compared by the
//! identifiers that the vendor's published libraries send.

use super::{Format, Formats};
use crate::tlcp::Version;

/// Libraries that decode less than their protocol version says.
const LESS: [(&str, Formats); 7] = [
    // C++ 1: no differences at all.
    ("irSfhw.i6 33e64BHfDprfc85DP4O9Bu", Formats::NONE),
    // The web library built for dashboards, without differences.
    (
        "pcYgxn8m8 feOojyA1V681g3g2.pz482hA6BMDKuAtdiz0As5w",
        Formats::NONE,
    ),
    // The "compact" builds of the Swift library for iOS, macOS, tvOS, watchOS and visionOS: no JSON Patch.
    ("oqVfhw.i6 38eA4BIe4wnce72mBm4k34f8BBM5S5iqPvfnAj", TEXT),
    ("scFuxkwp1ltvcC4FJ4KhrrKg4CHfDprfc85DQ4O8C0Fur ugCj", TEXT),
    ("zxRyen2m uz.l59AK2wsvjD568vy1sj.h67HK6ND4eRsulwxn", TEXT),
    (".cWimz9dysogQz2HJ8L74cOvmlJ5Ji kOj2DK6S783l4hz3twjzo", TEXT),
    (
        "-kVoty5wvjrkHty8Q3Q660Drusu3N4hwLri8M4OD64gC3n5q8hivs",
        TEXT,
    ),
];

const TEXT: Formats = Formats::only(Format::Text);

impl Formats {
    /// What a client decodes, by its protocol version, its identifier, and the letters of `LS_supported_diffs`:
    /// separated by commas, perhaps with blanks; letters that we do not know are none of ours.
    pub fn of_client(version: Version, cid: Option<&str>, listed: Option<&str>) -> Self {
        if !version.has_diffs() {
            return Self::NONE;
        }
        let listed = listed.map_or(Self::ALL, |letters| {
            let set = letters
                .split(',')
                .map(|letter| match letter.trim() {
                    "P" => Format::JsonPatch as u8,
                    "T" => Format::Text as u8,
                    _ => 0,
                })
                .fold(0, |set, format| set | format);
            Self(set)
        });
        let known = cid.and_then(|cid| LESS.iter().find(|(id, _)| *id == cid.trim_end()));
        listed.and(known.map_or(Self::ALL, |(_, formats)| *formats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_4: Version = Version {
        major: 2,
        minor: 4,
        sub: 0,
    };
    const JSON: Formats = Formats::only(Format::JsonPatch);

    #[test]
    fn a_client_that_names_none_knows_all_from_2_4_on() {
        assert_eq!(Formats::of_client(V2_4, None, None), Formats::ALL);
        assert_eq!(
            Formats::of_client(Version::LATEST, None, None),
            Formats::ALL
        );
        let older = Version { minor: 3, ..V2_4 };
        assert_eq!(Formats::of_client(older, None, None), Formats::NONE);
        assert_eq!(Formats::of_client(older, None, Some("P,T")), Formats::NONE);
    }

    #[test]
    fn what_a_client_names_is_all_it_knows() {
        let of = |listed| Formats::of_client(V2_4, None, Some(listed));
        assert_eq!(of(""), Formats::NONE);
        assert_eq!(of("T"), TEXT);
        assert_eq!(of("P"), JSON);
        assert_eq!(of("P, T"), Formats::ALL);
        assert_eq!(of("X,T,,"), TEXT);
    }

    #[test]
    fn some_libraries_know_less_than_they_say() {
        let of = |cid| Formats::of_client(Version::LATEST, Some(cid), None);
        assert_eq!(of("irSfhw.i6 33e64BHfDprfc85DP4O9Bu"), Formats::NONE);
        let compact = "zxRyen2m uz.l59AK2wsvjD568vy1sj.h67HK6ND4eRsulwxn";
        assert_eq!(of(compact), TEXT);
        assert_eq!(
            Formats::of_client(Version::LATEST, Some(compact), Some("P")),
            Formats::NONE
        );
        let full = "zxRyen2m uz.l59AK2wsvjD568vy1sj.h67HK6NDa";
        assert_eq!(of(full), Formats::ALL);
    }
}
