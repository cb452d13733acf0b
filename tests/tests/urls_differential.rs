//! URLs that nobody thought of: what the decision says and what the client then dials are the same.
//!
//! Each URL is put together at random, given to the decision here and to a guest of the real program. Another run of the
//! same: `PAROLE_SEED=… PAROLE_URLS=… cargo nextest run --release -E 'test(url_differential)'`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use parole_capabilities::CATALOGUE;
use parole_policy::{
    DenialKind, Facts as _, Mistyped, Resource, SecurityPolicy, Typed, Url, Verdict, decide, may_dial,
};
use parole_tests::canary::Hit;
use parole_tests::ensure;
use parole_tests::fixture::{Failure, because};
use parole_tests::netns_world::{Internet, Redirects, file, zone};
use parole_tests::stub_dns::{Record, Zone};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How many URLs are tried.
const URLS: u64 = 1500;
/// Only names whose answer is always the same.
const NAMES: &[&str] = &[
    "public.test",
    "public.test",
    "six.test",
    "localhost",
    "a.wild.test",
    "dual.test",
    "wild.test",
    "a.b.wild.test",
    "bücher.test",
    "xn--bcher-kva.test",
    "straße.test",
    "strasse.test",
    "☃.test",
    "under_score.test",
    "evil.test",
    "public.test.evil.test",
    "loop.bad.test",
    "metadata.bad.test",
    "mapped.bad.test",
    "mixed.good.test",
    "alias-long.good.test",
    "inside.corp.test",
    "tls.test",
];
const ADDRESSES: &[[u8; 4]] =
    &[[93, 184, 216, 34], [93, 184, 216, 34], [127, 0, 0, 1], [127, 0, 0, 2], [0, 0, 0, 0], [169, 254, 169, 254]];
const SIXES: &[&str] = &[
    "2606:2800:220:1::1",
    "2606:2800:220:1:0:0:0:1",
    "2606:2800:220:0001::0.0.0.1",
    "::1",
    "0:0::1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.216.34",
    "::",
    "64:ff9b::7f00:1",
    "::1%25lo",
    "fd00::1",
];
const SCHEMES: &[&str] = &["HTTP", "hTtP", "https", "https", "ws", "ftp", "file", "http\t"];
const SLASHES: &[&str] = &[":", ":/", ":///", ":\\", "://\t", ":／／", "：//"];
const USERS: &[&str] = &["@", "u@", "u:p@", "public.test@", "public.test:80@", "a%40@", ""];
const PORTS: &[&str] = &["", "", "", "", "", "", ":80", ":80", ":080", ":", ":8080", ":9090"];
const ODD_PORTS: &[&str] = &[":0", ":65616", ":443", ":８０", ":80:80", ":-80", ":80a", ":4294967376"];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/../b",
    "/%2e%2e/a",
    "//evil.test/",
    "/ä",
    "/@evil.test",
    "/a%0d%0ab",
    "",
    "/a'b\"c",
    "/[a]|^`{b}",
    "/;a=b",
    "/:80",
    "/%",
];
const ODD_PATHS: &[&str] = &["/a b", "/a\\b", "/a\u{202e}b", "/a\n", "\t/", "\u{a0}"];

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "a test may be told what to do again")]
fn number(name: &str) -> Result<Option<u64>, Failure> {
    let text = std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
    text.map(|text| text.parse().map_err(because(name))).transpose()
}

fn one<'a, T>(random: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}

/// One of the odd ones now and then, the plain one otherwise.
fn odd<'a>(random: &mut StdRng, plain: &'a str, odd: &[&'a str]) -> &'a str {
    if random.random_ratio(1, 12) { one::<&str>(random, odd) } else { plain }
}

/// A URL with a number by which its request is known.
fn url(random: &mut StdRng, number: u64) -> String {
    let host = host(random);
    let scheme = if host.starts_with("tls") { "https" } else { odd(random, "http", SCHEMES) };
    let slashes = odd(random, "://", SLASHES);
    let (user, end) = (odd(random, "", USERS), if random.random_ratio(1, 30) { "#part" } else { "" });
    let (port, path) = (*one(random, PORTS), *one(random, PATHS));
    let (port, path) = (odd(random, port, ODD_PORTS), odd(random, path, ODD_PATHS));
    format!("{scheme}{slashes}{user}{host}{port}{path}?n={number}{end}")
}

fn host(random: &mut StdRng) -> String {
    let host = match random.random_range(0..10) {
        0..=5 => (*one(random, NAMES)).to_owned(),
        6..=7 => four(random),
        8 => format!("[{}]", one(random, SIXES)),
        _ => (*one(random, SIXES)).to_owned(),
    };
    match random.random_range(0..18) {
        0 => host.to_uppercase(),
        1 => spell(random, &host, |c| format!("%{:02X}", u32::from(c))),
        2 => spell(random, &host, |c| char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c).to_string()),
        3 => format!("{host}."),
        4 => host.replace('.', "。"),
        5 => spell(random, &host, |c| format!("{c}\u{ad}")),
        6 => spell(random, &host, |c| format!("{c}%C2%AD")),
        7 => spell(random, &host, |c| if c == 's' { 'ſ'.to_string() } else { c.to_string() }),
        _ => host,
    }
}

/// The address of four numbers, in one of its many spellings.
fn four(random: &mut StdRng) -> String {
    let [a, b, c, d] = *one(random, ADDRESSES);
    let whole = u32::from_be_bytes([a, b, c, d]);
    match random.random_range(0..9) {
        0 => format!("{whole}"),
        1 => format!("0x{whole:x}"),
        2 => format!("0{whole:o}"),
        3 => format!("{a}.{}", whole & 0xff_ffff),
        4 => format!("0{a:o}.0{b:o}.{c}.0x{d:X}"),
        5 => format!("{a}.{b}.{}", whole & 0xffff),
        6 => format!("{a}.{b}.{c}.{d}.0"),
        _ => format!("{a}.{b}.{c}.{d}"),
    }
}

/// One ASCII letter or digit in another spelling.
fn spell(random: &mut StdRng, host: &str, how: impl Fn(char) -> String) -> String {
    let at = random.random_range(0..host.chars().count().max(1));
    let spell = |(place, c): (usize, char)| match c {
        '!'..='~' if place == at && !"[]:%".contains(c) => how(c),
        c => c.to_string(),
    };
    host.chars().enumerate().map(spell).collect()
}

/// What must come of a URL.
#[derive(Debug, PartialEq)]
enum Wanted {
    Denied,
    Invalid,
    Failed,
    /// Dialled at one of these addresses, for this host, with this path.
    Dialled(Vec<SocketAddr>, String, String),
}

fn wanted(policy: &SecurityPolicy, zone: &Zone, text: &str) -> Result<Wanted, Failure> {
    let refused = |kind: DenialKind| if kind == DenialKind::Denied { Wanted::Denied } else { Wanted::Invalid };
    let capability = CATALOGUE.by_name("fetch").ok_or("there is no fetch")?;
    let request = match Typed::read(capability, None, &["GET", text], policy.looks(capability)) {
        Ok(request) => request,
        Err(Mistyped::Formless(denial)) => return Ok(refused(denial.kind)),
        Err(Mistyped::Usage(what)) => return Err(what.into()),
    };
    let Resource::Url { url, .. } = request.resource() else { return Err("a request has a URL".into()) };
    let url = url.url().clone();
    let permit = match decide(policy, 0, capability, &request) {
        Verdict::Allow(permit) => permit,
        Verdict::Ask(_) => return Err("nothing asks here".into()),
        Verdict::Deny(denial) => return Ok(refused(denial.kind)),
    };
    let (Some(grant), Some(origin)) = (permit.grant, permit.origin) else {
        return Err(format!("it is allowed, but by nothing: {text:?}").into());
    };
    let all = addresses(zone, &url);
    let may: Vec<SocketAddr> = all
        .iter()
        .filter(|address| may_dial(grant, origin, **address).is_ok())
        .map(|address| SocketAddr::new(*address, url.port_or_known_default().unwrap_or(0)))
        .collect();
    if may.is_empty() {
        return Ok(if all.is_empty() { Wanted::Failed } else { Wanted::Denied });
    }
    if url.scheme() == "https" {
        return Ok(Wanted::Failed);
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let host = format!("{}{port}", url.host_str().unwrap_or_default());
    Ok(Wanted::Dialled(may, host, format!("{}{query}", url.path())))
}

fn addresses(zone: &Zone, url: &Url) -> Vec<IpAddr> {
    let host = url.host_str().unwrap_or_default();
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return vec![address];
    }
    // As the file of hosts has it.
    if host == "localhost" {
        return vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    }
    let records = zone.rounds(host).and_then(<[_]>::first).into_iter().flatten();
    let address = |record: &Record| match record {
        Record::Address(address) => Some(*address),
        Record::Alias(_) => None,
    };
    records.filter_map(address).collect()
}

#[test]
fn url_differential() -> Result<(), Failure> {
    let Some(internet) = Internet::enter("url_differential", Redirects::new(), "")? else {
        return Ok(());
    };
    let seed = number("PAROLE_SEED")?.unwrap_or_else(rand::random);
    let count = number("PAROLE_URLS")?.unwrap_or(URLS);
    drop(writeln!(std::io::stderr(), "{count} URLs with PAROLE_SEED={seed}"));
    let text = file("differential.toml")?;
    internet.world.write_policy(&text)?;
    let policy = SecurityPolicy::parse(&text, internet.world.root(), &CATALOGUE);
    let policy = policy.map_err(|errors| format!("the policy: {errors:?}"))?;
    let zone = zone()?;
    let mut random = StdRng::seed_from_u64(seed);
    let urls: Vec<String> = (0..count).map(|number| url(&mut random, number)).collect();
    let (lines, mut wrong) = internet.try_all(&urls.iter().map(String::as_str).collect::<Vec<_>>(), false)?;

    let mut arrived: BTreeMap<u64, Vec<Hit>> = BTreeMap::new();
    for hit in internet.requests() {
        let number = hit.target.rsplit_once("?n=").and_then(|(_, number)| number.parse().ok());
        arrived.entry(number.ok_or_else(|| format!("nobody asked for {hit:?}"))?).or_default().push(hit);
    }
    let mut kinds = [0_usize; 4];
    for ((number, text), line) in (0..).zip(&urls).zip(&lines) {
        let wanted = wanted(&policy, &zone, text)?;
        let hits = arrived.get(&number).map_or(&[][..], Vec::as_slice);
        let (kind, right) = match &wanted {
            Wanted::Denied => (0, line == "denied" && hits.is_empty()),
            Wanted::Invalid => (1, line == "invalid" && hits.is_empty()),
            Wanted::Failed => (2, line == "failed" && hits.is_empty()),
            Wanted::Dialled(may, host, target) => {
                let right = |hit: &Hit| {
                    may.contains(&hit.local)
                        && hit.all("host").eq([host.as_str()])
                        && hit.target == *target
                        && *line == format!("200 {} {host} {target}", hit.local)
                };
                (3, hits.len() == 1 && hits.iter().all(right))
            }
        };
        kinds[kind] += 1;
        if !right {
            wrong.push(format!("{text:?}: {line:?} and {hits:?}, not {wanted:?}"));
        }
    }
    drop(writeln!(std::io::stderr(), "denied, invalid, failed, dialled: {kinds:?}"));
    ensure!(wrong.is_empty(), "PAROLE_SEED={seed}: {} differ:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(
        kinds.iter().zip([50, 50, 1, 50]).all(|(times, least)| *times >= least || count < 500),
        "PAROLE_SEED={seed}: these URLs try too little: {kinds:?}"
    );
    let dialled = internet.dialled();
    let may = |address: &SocketAddr| !address.ip().is_loopback() || address.port() == 8080;
    ensure!(dialled.iter().all(may), "PAROLE_SEED={seed}: ESCAPE: dialled {dialled:?}");
    Ok(())
}
