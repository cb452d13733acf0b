//! Import names, compared by package, interface and semver track as wasmtime's linker matches them.
//!
//! An exact-string check would be a hole: the linker gives a guest that asks for `a:b/c@0.1.7` what the host
//! defined as `a:b/c@0.1.0`, so the policy has to see them as one name too.

use semver::Version;

/// How a name that a guest asks for stands to a name that the host offers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The linker would give the one for the other.
    Same,
    /// The same interface at a version that doesn't match, or with no version.
    OtherVersion,
    /// Another interface.
    Other,
}

pub(crate) fn fit(offered: &str, asked: &str) -> Fit {
    if offered == asked {
        return Fit::Same;
    }
    let ((interface, have), (asked, want)) = (split(offered), split(asked));
    if interface != asked {
        return Fit::Other;
    }
    match (have.and_then(track), want.and_then(track)) {
        (Some(have), Some(want)) if have == want => Fit::Same,
        _ => Fit::OtherVersion,
    }
}

/// The name of the async twin: `a:b/c@0.1.0` → `a:b/c-async@0.1.0`.
pub(crate) fn twin(interface: &str) -> String {
    match split(interface) {
        (name, Some(version)) => format!("{name}-async@{version}"),
        (name, None) => format!("{name}-async"),
    }
}

/// `a:b/c@0.1.0` → `a:b/c` and `0.1.0`.
pub(crate) fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    }
}

/// Versions of one track are given for each other: `1.x.y` by major, `0.1.x` by minor. `0.0.x`, prereleases
/// and what isn't a version are on no track and match only themselves.
fn track(version: &str) -> Option<(u64, u64)> {
    let version = Version::parse(version).ok().filter(|version| version.pre.is_empty())?;
    match (version.major, version.minor) {
        (0, 0) => None,
        (0, minor) => Some((0, minor)),
        (major, _) => Some((major, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fit, fit};

    /// Columns: what the host offers, what the guest asks for, whether they are one name.
    #[test]
    fn versions_match_by_track() {
        let rows = [
            ("0.1.0", "0.1.0", true),
            ("0.1.0", "0.1.7", true),
            ("0.1.7", "0.1.0", true),
            ("0.1.0", "0.2.0", false),
            ("0.2.0", "0.1.0", false),
            ("1.0.0", "1.4.0", true),
            ("1.4.0", "1.0.0", true),
            ("1.4.2", "1.4.9", true),
            ("1.0.0", "2.0.0", false),
            ("1.0.0", "0.1.0", false),
            ("1.0.0", "10.0.0", false),
            ("0.1.0", "0.10.0", false),
            ("0.0.1", "0.0.1", true),
            ("0.0.1", "0.0.2", false),
            ("0.1.0", "0.1.0-rc.1", false),
            ("0.1.0-rc.1", "0.1.0-rc.1", true),
            ("0.1.0-rc.1", "0.1.0-rc.2", false),
            ("0.1.0", "0.1.0+build", true),
            ("0.1.0", "0.1.9+b.2-x", true),
            ("0.1.0", "0.1.0+", false),
            ("0.1.0", "0.1.0+a..b", false),
            ("0.1.0", "0.1", false),
            ("0.1.0", "0.1.0.0", false),
            ("0.1.0", "0.01.0", false),
            ("0.1.0", "0.1.00", false),
            ("0.1.0", "+0.1.0", false),
            ("0.1.0", "0.1.x", false),
            ("0.1.0", "0.1. 0", false),
            ("0.1.0", "", false),
            ("0.1.0", "0.1.99999999999999999999", false),
            ("0.1.0", "0.1.0@0.1.0", false),
        ];
        for (have, want, same) in rows {
            let fit = fit(&format!("a:b/c@{have}"), &format!("a:b/c@{want}"));
            assert_eq!(fit, if same { Fit::Same } else { Fit::OtherVersion }, "{have} for {want}");
        }
        assert_eq!(fit("a:b/c@0.1.0", "a:b/c"), Fit::OtherVersion);
        assert_eq!(fit("a:b/c", "a:b/c@0.1.0"), Fit::OtherVersion);
        assert_eq!(fit("a:b/c", "a:b/c"), Fit::Same);
        assert_eq!(fit("a:b/c@0.1.0", "a:b/d@0.1.0"), Fit::Other);
        assert_eq!(fit("a:b/c@0.1.0", "x:b/c@0.1.0"), Fit::Other);
        assert_eq!(fit("a:b/c@0.1.0", "a:b/c-async@0.1.0"), Fit::Other);
        assert_eq!(fit("a:b/c@0.1.0", ""), Fit::Other);
    }
}
