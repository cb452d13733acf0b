//! A name server that says what a test wants it to, and writes down what it was asked.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::fixture::{Failure, because};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// How long an answer may be kept: not at all.
const TTL: [u8; 4] = [0; 4];

/// One entry of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The address of the name, or of the last alias.
    Address(IpAddr),
    /// The name, or the last alias, is an alias of this one.
    Alias(String),
}

/// What names mean.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: HashMap<String, Vec<Vec<Record>>>,
    below: Vec<(String, Vec<Vec<Record>>)>,
}

impl Zone {
    /// Reads lines such as `name = address address`, `name = -> alias address`, `*.name = …` for names below,
    /// and `name = address / address` for a first and every later answer. No addresses: the name has none.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let mut zone = Zone::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, answers) = line.split_once(" =").ok_or_else(|| format!("{line:?} is no line of a zone"))?;
            let rounds = answers.split('/').map(records).collect::<Result<Vec<_>, _>>()?;
            match name.strip_prefix("*.") {
                Some(base) => zone.below.push((format!(".{base}"), rounds)),
                None => drop(zone.names.insert(name.to_owned(), rounds)),
            }
        }
        Ok(zone)
    }

    /// The answers about a name, the first, the second and so on; the last one stays. Nothing: no such name.
    pub fn rounds(&self, name: &str) -> Option<&[Vec<Record>]> {
        let name = name.to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let below = || self.below.iter().find(|(base, _)| name.ends_with(base.as_str())).map(|(_, rounds)| rounds);
        self.names.get(name).or_else(below).map(Vec::as_slice)
    }
}

fn records(text: &str) -> Result<Vec<Record>, Failure> {
    let mut words = text.split_whitespace();
    let mut records = Vec::new();
    while let Some(word) = words.next() {
        records.push(match word {
            "->" => Record::Alias(words.next().ok_or("an alias of what?")?.to_owned()),
            address => Record::Address(address.parse().map_err(because(address))?),
        });
    }
    Ok(records)
}

/// The running server; it stops with the process.
#[derive(Clone)]
pub struct StubDns {
    asked: Arc<Mutex<HashMap<(String, u16), usize>>>,
}

impl StubDns {
    /// Answers at an address.
    pub fn start(address: SocketAddr, zone: Zone) -> Result<Self, Failure> {
        let socket = UdpSocket::bind(address).map_err(because(format!("listening for names at {address}")))?;
        let stub = StubDns { asked: Arc::default() };
        let own = stub.clone();
        thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if let Some(answer) = query.get(..length).and_then(|query| own.answer(query, &zone)) {
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Ok(stub)
    }

    /// The names that were asked for, each once.
    pub fn names(&self) -> BTreeSet<String> {
        self.asked().keys().map(|(name, _)| name.clone()).collect()
    }

    /// Forgets what was asked: every name is at its first answer again.
    pub fn forget(&self) {
        self.asked().clear();
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<(String, u16), usize>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
        let (name, end) = name(query, 12)?;
        let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
        let earlier = {
            let mut asked = self.asked();
            let times = asked.entry((name.clone(), kind)).or_default();
            *times += 1;
            *times - 1
        };
        let rounds = zone.rounds(&name);
        let round = rounds.and_then(|rounds| rounds.get(earlier).or(rounds.last()));
        let mut body = Vec::new();
        let (mut count, mut owner) = (0_u16, name);
        for record in round.into_iter().flatten() {
            let (of, data) = match record {
                Record::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
                Record::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
                Record::Alias(name) => (CNAME, wire(name)),
            };
            if of != kind && of != CNAME {
                continue;
            }
            count += 1;
            body.extend(wire(&owner));
            body.extend([of.to_be_bytes(), [0, 1]].concat());
            body.extend(TTL);
            body.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            body.extend(data);
            if let Record::Alias(name) = record {
                owner.clone_from(name);
            }
        }
        let code = if rounds.is_some() { 0x80 } else { 0x83 };
        let mut answer = query.get(..2)?.to_vec();
        answer.extend([0x81, code, 0, 1]);
        answer.extend(count.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(query.get(12..end + 4)?);
        answer.extend(body);
        Some(answer)
    }
}

/// The name at a place of a message, and where it ends.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap_or(63)], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}
