//! Which addresses may be dialled: every special-purpose range of both families, and every form of an address
//! that is another one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::net::IpAddr;

use common::faults;
use parole_policy::{DenialKind, Grant, Level, MAX_PRIVATE, SecurityPolicy, is_global, may_dial};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// A grant for a name and for two addresses (origins 0, 1, 2), with these private ranges.
fn grant(private: &[&str]) -> Grant {
    let policy = common::resolved(
        SecurityPolicy::new(Level::Standard)
            .allow_net("https://name.example")
            .allow_net("http://127.0.0.1:8080")
            .allow_net("http://[::1]:8080")
            .grant("fetch", |grant| grant.private = private.iter().map(|range| range.parse().unwrap()).collect()),
    );
    policy.grants["fetch"].clone()
}

/// First and last address of each range that no name may lead to, and the neighbours that it may lead to.
const RANGES: [(&str, &str, &str, &str); 26] = [
    ("0.0.0.0", "0.255.255.255", "", "1.0.0.0"),
    ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
    ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
    ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
    ("168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"),
    ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
    ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
    ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
    ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
    ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
    ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
    ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
    ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
    ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
    ("224.0.0.0", "239.255.255.255", "223.255.255.255", ""),
    ("240.0.0.0", "255.255.255.255", "", ""),
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2000::"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff::", "2001:200::"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff::1", "2003::"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff::", "3fff:1000::"),
    ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff::", ""),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
];

#[test]
fn special_ranges_and_their_neighbours() {
    let grant = grant(&[]);
    for (first, last, before, after) in RANGES {
        for address in [first, last] {
            assert!(!is_global(ip(address)) && may_dial(&grant, 0, ip(address)).is_err(), "{address}");
        }
        for address in [before, after].into_iter().filter(|address| !address.is_empty()) {
            assert!(is_global(ip(address)) && may_dial(&grant, 0, ip(address)).is_ok(), "{address}");
        }
    }
}

/// By name: what the registries of IANA list, and the services that live there.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn addresses_that_no_name_may_lead_to() {
    let grant = grant(&[]);
    for address in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "255.255.255.255",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "192.0.0.8",
        "192.0.0.170",
        "10.1.2.3",
        "172.20.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.251",
        "239.255.255.250",
        "::",
        "::1",
        // Forms of IPv4 addresses: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP.
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001::1",
        "2600::5efe:7f00:1",
        "2600::200:5efe:a00:1",
        "2600:1:2:3:0:5efe:808:808",
        // Local, special and gone.
        "fe80::1",
        "fe80::a9fe:a9fe",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100::1",
        "100:0:0:1::1",
        "2001:2::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:10::1",
        "2001:20::1",
        "2001:30::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "ff01::1",
        "ff02::1",
        "ff0e::1",
    ] {
        let denial = may_dial(&grant, 0, ip(address)).expect_err(address);
        assert_eq!(denial.kind, DenialKind::Denied);
        assert!(!denial.reason.contains(address) && !denial.remedy.is_empty(), "{denial:?}");
    }
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "100.0.0.1",
        "172.15.0.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.175.48.1",
        "2600::1",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2001:500::1",
        "2620:4f:8000::1",
        "2a00::1",
        "2600:1:2:3:4:5efe:808:808",
    ] {
        assert!(may_dial(&grant, 0, ip(address)).is_ok(), "{address}");
    }
}

#[test]
fn an_address_as_origin_is_that_address() {
    let grant = grant(&["10.0.0.0/8"]);
    for (origin, address, may) in [
        (1, "127.0.0.1", true),
        (1, "127.0.0.2", false),
        (1, "8.8.8.8", false),
        (1, "10.0.0.1", false),
        (1, "::1", false),
        (1, "::ffff:127.0.0.1", false),
        (2, "::1", true),
        (2, "127.0.0.1", false),
        (2, "::2", false),
        // There is no such origin.
        (3, "127.0.0.1", false),
        (3, "8.8.8.8", false),
        (usize::MAX, "8.8.8.8", false),
    ] {
        assert_eq!(may_dial(&grant, origin, ip(address)).is_ok(), may, "{origin} {address}");
    }
}

#[test]
fn private_ranges() {
    for (ranges, address, may) in [
        (&["10.0.0.0/8"][..], "10.255.0.1", true),
        (&["10.0.0.0/8"], "11.0.0.1", true),
        (&["10.0.0.0/8"], "192.168.0.1", false),
        (&["10.0.0.0/8"], "::ffff:10.0.0.1", false),
        (&["10.0.0.0/8"], "64:ff9b::10.0.0.1", false),
        (&["10.1.2.3/32"], "10.1.2.3", true),
        (&["10.1.2.3/32"], "10.1.2.4", false),
        (&["127.0.0.0/8"], "127.0.0.1", true),
        (&["127.0.0.1/32", "::1/128"], "::1", true),
        (&["127.0.0.1/32", "::1/128"], "::2", false),
        (&["169.254.169.254/32"], "169.254.169.254", true),
        (&["169.254.169.254/32"], "169.254.169.253", false),
        (&["fd00::/16"], "fd00::1", true),
        (&["fd00::/16"], "fd01::1", false),
        (&["fe80::/16"], "fe80::1", true),
        (&["192.168.0.0/16", "172.16.0.0/12"], "172.31.0.1", true),
        (&["240.0.0.0/8"], "240.0.0.1", true),
        (&["255.0.0.0/8"], "255.255.255.255", false),
    ] {
        assert_eq!(may_dial(&grant(ranges), 0, ip(address)).is_ok(), may, "{ranges:?} {address}");
    }
}

#[test]
fn ranges_that_are_refused() {
    let file = |ranges: &str| format!("[grant.fetch]\norigins = [\"https://a.test\"]\nprivate = [{ranges}]");
    let check = |ranges: &str, expect: &[&str]| assert_eq!(faults(&file(ranges)), expect, "{ranges}");
    check("", &[]);
    check("\"10.0.0.0/8\", \"fd00::/16\", \"127.0.0.1/32\"", &[]);
    let wide = |range: &str, least: usize| {
        format!(
            "3:12 grant.fetch.private: range {range} is too wide: a prefix has {least} bits at least | name the ranges that are meant, one by one"
        )
    };
    for range in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/7"] {
        check(&format!("\"{range}\""), &[&wide(range, 8)]);
    }
    for range in ["::/0", "fc00::/7", "fe00::/15"] {
        check(&format!("\"{range}\""), &[&wide(range, 16)]);
    }
    check(
        "\"10.0.0.1/8\"",
        &["3:12 grant.fetch.private: range 10.0.0.1/8 has bits after its prefix | write \"10.0.0.0/8\""],
    );
    check(
        "\"10.0.0.1\"",
        &["3:12 grant.fetch.private: `10.0.0.1` is not a range of addresses | write \"10.0.0.1/32\""],
    );
    for range in ["::ffff:0:0/96", "::ffff:10.0.0.0/104", "::/16", "::ffff:127.0.0.1/128"] {
        assert!(faults(&file(&format!("\"{range}\"")))[0].contains("holds forms of IPv4 addresses"), "{range}");
    }
    for range in ["0.0.0.0/8", "0.0.0.0/32", "224.0.0.0/8", "239.0.0.0/8", "ff02::/16", "::/128"] {
        assert!(faults(&file(&format!("\"{range}\"")))[0].ends_with("is not one of hosts"), "{range}");
    }
    for range in ["", "localhost", "10.0.0.0/33", "10.0.0.0/-1", "10.0/8", "*", "10.0.0.0-10.0.0.9", "0x0a.0.0.0/8"] {
        assert!(faults(&file(&format!("\"{range}\"")))[0].contains("is not a range of addresses"), "{range}");
    }
    check("\"10.0.0.0/8\", \"10.0.0.0/8\"", &["3:26 grant.fetch.private: range `10.0.0.0/8` stands twice"]);
    check("1", &["3:12 `grant.fetch.private` must be text in quotes, found an integer"]);
    let many = |count: usize| (0..count).map(|n| format!("\"10.0.0.{n}/32\"")).collect::<Vec<_>>().join(", ");
    check(&many(MAX_PRIVATE), &[]);
    assert!(faults(&file(&many(MAX_PRIVATE + 1)))[0].ends_with("a grant may have 64 ranges at most"));
}
