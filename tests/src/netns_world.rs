//! The internet of the tests: names, servers at every address, and a guest that tries URLs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::canary::{Hit, Server};
use crate::canary_pages::{self as pages, Page};
use crate::ensure;
use crate::fixture::play::guest;
use crate::fixture::{Failure, World, because};
use crate::netns::{self, Place};
use crate::stub_dns::{StubDns, Zone};

/// The ports at which somebody listens, at every address.
const PORTS: [u16; 4] = [80, 443, 8080, 9090];
/// How much one guest is given: it is an argument of a process, which the kernel limits.
const BYTES_AT_ONCE: usize = 60_000;

/// Redirects by number: the status and the `Location`.
pub type Redirects = HashMap<usize, (u16, String)>;

/// What can be reached from inside.
pub struct Internet {
    /// The guest's surroundings on disk.
    pub world: World,
    /// The names.
    pub names: StubDns,
    servers: Vec<Server>,
    _place: tempfile::TempDir,
}

/// A file of `tests/urls`.
pub fn file(name: &str) -> Result<String, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("urls").join(name);
    std::fs::read_to_string(&path).map_err(because(path.display()))
}

/// The names of `tests/urls/zone.txt`.
pub fn zone() -> Result<Zone, Failure> {
    Zone::read(&file("zone.txt")?)
}

impl Internet {
    /// Goes inside, for the test of this name; nothing where a copy of the test went in and all was well. `resolver` is
    /// what the system's resolver is told besides the name server.
    pub fn enter(test: &str, redirects: Redirects, resolver: &str) -> Result<Option<Self>, Failure> {
        let Place::Inside(place) = netns::enter(test, &file("hosts.txt")?, resolver)? else {
            return Ok(None);
        };
        let names = StubDns::start(SocketAddr::from(([127, 0, 0, 1], 53)), zone()?)?;
        let mut servers = Vec::new();
        for port in PORTS {
            let redirects = redirects.clone();
            let anywhere = SocketAddr::from(([0_u16; 8], port));
            servers.push(Server::start(anywhere, move |hit, log| match page(hit, &redirects) {
                Some(page) => page,
                None if hit.target.starts_with("/hops/") || hit.target == "/loop" => pages::listed("all", hit, log),
                None => Page::text(200, format!("{} {} {}", hit.local, hit.header("host"), hit.target)),
            })?);
        }
        Ok(Some(Internet { world: World::plant()?, names, servers, _place: place }))
    }

    /// Forgets what was dialled, sent and asked.
    pub fn forget(&self) {
        self.servers.iter().for_each(Server::forget);
        self.names.forget();
    }

    /// Every address that was dialled since.
    pub fn dialled(&self) -> Vec<SocketAddr> {
        self.servers.iter().flat_map(|server| server.log().connections).collect()
    }

    /// Every request that arrived since.
    pub fn requests(&self) -> Vec<Hit> {
        self.servers.iter().flat_map(|server| server.log().hits).collect()
    }

    /// Lets a guest try URLs under `policy.toml`; gives what came of each, in order, and what else was wrong.
    pub fn try_all(&self, urls: &[&str], sockets: bool) -> Result<(Vec<String>, Vec<String>), Failure> {
        let (fixture, function) = if sockets { ("socket-listed", "listen-all") } else { ("fetch-listed", "get-all") };
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        let mut rest = urls;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|url| {
                bytes += wave(url).len();
                bytes <= BYTES_AT_ONCE
            });
            let (these, others) = rest.split_at(fits.count().max(1));
            rest = others;
            let list: Vec<String> = these.iter().map(|url| wave(url)).collect();
            let invoke = format!("{function}([{}])", list.join(", "));
            let guest = guest(fixture);
            let ran = self.world.run(&[
                "run",
                &guest.to_string_lossy(),
                "--policy",
                "policy.toml",
                "--json",
                "--invoke",
                &invoke,
            ])?;
            let json = ran.exits(0)?.json()?;
            let output = json["output"].as_str().unwrap_or_default();
            let told: Vec<String> = output.lines().map(str::to_owned).collect();
            ensure!(told.len() == these.len(), "{} lines for {} URLs\n{}", told.len(), these.len(), ran.report());
            let denied = json["denied"].as_array().map_or(0, Vec::len);
            let said = told.iter().filter(|line| *line == "denied").count();
            ensure!(denied == said, "{denied} denials are reported, the guest saw {said}\n{}", ran.report());
            let audited = audited(&self.world, &json)?;
            if audited < said {
                wrong.push(format!("AUDIT: it has {audited} denials, the guest saw {said}"));
            }
            lines.extend(told);
        }
        Ok((lines, wrong))
    }
}

/// How many calls the audit says were denied at last.
fn audited(world: &World, json: &Value) -> Result<usize, Failure> {
    let execution = json["execution"].as_str().unwrap_or_default();
    let ran = world.run(&["journal", execution, "--audit"])?;
    let mut last = HashMap::new();
    for line in ran.exits(0)?.out().lines() {
        let record: Value = serde_json::from_str(line).map_err(because(format!("a line of the audit: {line}")))?;
        last.insert(record["step"].as_u64(), record["verdict"] == "deny");
    }
    Ok(last.values().filter(|denied| **denied).count())
}

fn page(hit: &Hit, redirects: &Redirects) -> Option<Page> {
    let number = hit.target.strip_prefix("/r/")?.parse::<usize>().ok()?;
    let (status, location) = redirects.get(&number)?;
    Some(Page::redirect(*status, location))
}

/// A text as WAVE writes it.
pub fn wave(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}
