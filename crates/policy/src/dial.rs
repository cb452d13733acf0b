//! Which addresses a name may lead to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::origin::Host;
use crate::{Denial, DenialKind, Grant};

/// The most ranges of `private`.
pub const MAX_PRIVATE: usize = 64;

/// IPv4 ranges of the IANA special-purpose registry that aren't unicast on the internet, and one address of
/// a cloud's metadata service that is outside of them.
const SPECIAL_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared by carriers
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // metadata
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments, metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // relays to 6to4
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, broadcast
];

/// Where IPv6 unicast on the internet is.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of that is not for hosts, or stands for an IPv4 address. Everything else that does (mapped, NAT64) and
/// everything local is outside of [`GLOBAL_V6`].
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Ranges that nothing may be dialled in, whatever a grant says: they aren't one host.
const NEVER: [&str; 4] = ["0.0.0.0/8", "224.0.0.0/4", "::/128", "ff00::/8"];

/// Whether the client may connect to `address` for an origin of the grant (an index into [`Grant::origins`]).
///
/// An origin that is an address: exactly that one. A name may lead to a unicast address of the internet or into
/// a range that the grant names as `private`. Asked of each address, right before it is dialled.
pub fn may_dial(grant: &Grant, origin: usize, address: IpAddr) -> Result<(), Denial> {
    let Some(origin) = grant.origins.get(origin) else {
        return Err(refused("no origin allows this connection", "none: this is a fault of the host"));
    };
    if let Host::Ip(own) = origin.host {
        return if own == address {
            Ok(())
        } else {
            Err(refused("the address is not the one that was asked for", "none: this is a fault of the host"))
        };
    }
    let listed = || grant.private.iter().any(|range| range.contains(&address));
    if is_one_host(address) && (is_global(address) || listed()) {
        return Ok(());
    }
    let remedy = "if it may lead there: `private = [\"RANGE\"]` in the grant of the policy file";
    Err(refused("the host's name leads to an address that is not on the internet", remedy))
}

/// Whether an address is unicast on the internet: of no special range, and not a form of another address.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(base, length)| in_v4(address, *base, *length)),
        IpAddr::V6(address) => {
            let isatap = matches!(address.segments(), [.., 0 | 0x200, 0x5efe, _, _]);
            in_v6(address, GLOBAL_V6.0, GLOBAL_V6.1)
                && !isatap
                && !SPECIAL_V6.iter().any(|(base, length)| in_v6(address, *base, *length))
        }
    }
}

fn is_one_host(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

fn in_v4(address: Ipv4Addr, base: Ipv4Addr, length: u8) -> bool {
    (address.to_bits() ^ base.to_bits()).leading_zeros() >= u32::from(length)
}

fn in_v6(address: Ipv6Addr, base: Ipv6Addr, length: u8) -> bool {
    (address.to_bits() ^ base.to_bits()).leading_zeros() >= u32::from(length)
}

/// A range for `private`, or what is wrong with it and what to write instead.
pub(crate) fn private(text: &str) -> Result<IpNet, (String, Option<String>)> {
    let Ok(range) = text.parse::<IpNet>() else {
        let help = match text.parse::<IpAddr>() {
            Ok(address) => format!("write \"{}\"", IpNet::from(address)),
            Err(_) => "write ranges such as \"10.0.0.0/8\" or \"fd00::/16\"".to_owned(),
        };
        return Err((format!("{} is not a range of addresses", crate::nearest::quoted(text)), Some(help)));
    };
    match fault(&range) {
        None => Ok(range),
        Some((message, help)) => Err((format!("range {range} {message}"), help)),
    }
}

/// What is wrong with a range that may be dialled in.
pub(crate) fn fault(range: &IpNet) -> Option<(String, Option<String>)> {
    let least = if range.addr().is_ipv4() { 8 } else { 16 };
    if range.trunc() != *range {
        return Some(("has bits after its prefix".to_owned(), Some(format!("write \"{}\"", range.trunc()))));
    }
    if range.prefix_len() < least {
        let message = format!("is too wide: a prefix has {least} bits at least");
        return Some((message, Some("name the ranges that are meant, one by one".to_owned())));
    }
    let overlaps = |net: &str| net.parse::<IpNet>().is_ok_and(|net| net.contains(range) || range.contains(&net));
    if overlaps("::ffff:0:0/96") {
        let message = "holds forms of IPv4 addresses".to_owned();
        return Some((message, Some("name the IPv4 range itself, such as \"10.0.0.0/8\"".to_owned())));
    }
    NEVER.into_iter().any(overlaps).then(|| ("is not one of hosts".to_owned(), None))
}

fn refused(reason: &str, remedy: &str) -> Denial {
    Denial { kind: DenialKind::Denied, reason: reason.to_owned(), remedy: remedy.to_owned(), rule: None }
}
