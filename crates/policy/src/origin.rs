//! Where a guest may connect to: scheme, host and port, compared exactly.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::nearest::{nearest, quoted};

/// The most origins of one grant: each call looks at every one.
pub const MAX_ORIGINS: usize = 64;
/// The longest origin that a policy may name, in bytes.
pub const MAX_ORIGIN: usize = 512;

/// How the other side is spoken to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `ws`
    Ws,
    /// `wss`
    Wss,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 4] = [Scheme::Http, Scheme::Https, Scheme::Ws, Scheme::Wss];

    /// The scheme as a URL spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// The port of a URL that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http | Scheme::Ws => 80,
            Scheme::Https | Scheme::Wss => 443,
        }
    }

    /// Whether it is for `websocket`; the others are for `fetch`.
    pub const fn is_socket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }

    /// The scheme of that name, in any case.
    pub fn of(word: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(word))
    }
}

/// Which hosts an origin is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The host of that name, in its ASCII form.
    Name(String),
    /// Every host whose name is one more label before this one: `*.example.com` as `example.com`.
    Wildcard(String),
    /// The host with that address, named by it.
    Ip(IpAddr),
}

/// Where a guest may connect to. `https://api.example.com` in text; in JSON too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Origin {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// Text that is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadOrigin {
    /// What is wrong with it.
    pub message: String,
    /// The bytes of the text that it is about.
    pub at: std::ops::Range<usize>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Origin {
    /// Whether a URL leads here.
    pub fn holds(&self, url: &Url) -> bool {
        url.scheme() == self.scheme.as_str()
            && url.port_or_known_default() == Some(self.port)
            && match (&self.host, url.host()) {
                (Host::Name(name), Some(url::Host::Domain(host))) => name == host,
                (Host::Wildcard(base), Some(url::Host::Domain(host))) => below(base, host),
                (Host::Ip(IpAddr::V4(own)), Some(url::Host::Ipv4(host))) => *own == host,
                (Host::Ip(IpAddr::V6(own)), Some(url::Host::Ipv6(host))) => *own == host,
                _ => false,
            }
    }

    /// Whether whatever leads to `other` leads here.
    pub(crate) fn covers(&self, other: &Origin) -> bool {
        self == other
            || (self.scheme == other.scheme
                && self.port == other.port
                && matches!((&self.host, &other.host), (Host::Wildcard(base), Host::Name(host)) if below(base, host)))
    }
}

/// Whether `host` is `base` with one label before it.
fn below(base: &str, host: &str) -> bool {
    let label = host.strip_suffix(base).and_then(|rest| rest.strip_suffix('.'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    label.is_some_and(|label| !label.is_empty() && label.bytes().all(plain))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Wildcard(base) => write!(f, "*.{base}"),
            Host::Ip(IpAddr::V4(address)) => address.fmt(f),
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> String {
        origin.to_string()
    }
}

impl TryFrom<String> for Origin {
    type Error = BadOrigin;

    fn try_from(text: String) -> Result<Self, BadOrigin> {
        text.parse()
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    /// Strict: nothing but scheme, host and port, in the spelling that comparing leaves as it is.
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let bad = |at: std::ops::Range<usize>, message: String, help: Option<String>| BadOrigin { message, at, help };
        let whole = 0..text.len();
        if text.len() > MAX_ORIGIN {
            return Err(bad(whole, format!("an origin is {MAX_ORIGIN} bytes long at most"), None));
        }
        if let Some((at, odd)) = text.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() || *c == '\\') {
            let message = format!("an origin holds no {}", quoted(odd.encode_utf8(&mut [0; 4])));
            return Err(bad(at..at + odd.len_utf8(), message, None));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let help = Some(format!("write https://{}", text.trim_start_matches('/').escape_debug()));
            return Err(bad(whole, format!("{} names no scheme", quoted(text)), help));
        };
        let start = scheme.len() + 3;
        let Some(scheme) = Scheme::of(scheme) else {
            let near = nearest(&scheme.to_ascii_lowercase(), Scheme::ALL.map(Scheme::as_str));
            let help = near.map_or("http, https, ws or wss".to_owned(), |near| format!("did you mean `{near}`?"));
            return Err(bad(0..scheme.len(), format!("scheme {} is not known", quoted(scheme)), Some(help)));
        };
        if let Some(at) = rest.find('@') {
            let help = Some("remove it: credentials have no place in a policy".to_owned());
            return Err(bad(start..start + at + 1, "an origin holds no user or password".to_owned(), help));
        }
        if let Some(at) = rest.find(['/', '?', '#']) {
            let what = match rest.as_bytes().get(at) {
                Some(b'?') => "query",
                Some(b'#') => "fragment",
                _ => "path",
            };
            let help = format!("write {}://{}", scheme.as_str(), rest.get(..at).unwrap_or_default().escape_debug());
            return Err(bad(start + at..text.len(), format!("an origin has no {what}"), Some(help)));
        }
        let (wild, name) = match rest.strip_prefix("*.") {
            Some(base) => (true, base),
            None => (false, rest),
        };
        let host = start + rest.len() - name.len()..text.len();
        host_and_port(scheme, wild, name).map_err(|(message, help)| bad(host, message, help))
    }
}

/// Reads `host[:port]`, the part after `*.` if it is a wildcard.
fn host_and_port(scheme: Scheme, wild: bool, text: &str) -> Result<Origin, (String, Option<String>)> {
    let fail = |message: String| (message, None);
    if text.contains('*') {
        return Err(fail("`*` stands for one label, the first: `*.example.com`".to_owned()));
    }
    if text.contains('%') {
        return Err(fail("an origin holds no percent signs".to_owned()));
    }
    let url = Url::parse(&format!("{}://{text}", scheme.as_str())).map_err(|error| fail(error.to_string()))?;
    let port = url.port_or_known_default().filter(|port| *port != 0);
    let port = port.ok_or_else(|| fail("port 0 is not a port".to_owned()))?;
    let bracket = text.rfind(']').map_or(0, |at| at + 1);
    let spelled = text.rfind(':').filter(|at| *at >= bracket).map_or(text, |at| text.get(..at).unwrap_or_default());
    if spelled.len() + 1 == text.len() {
        return Err(fail("there is no port after the colon".to_owned()));
    }
    let host = match url.host() {
        None => return Err(fail("an origin names a host".to_owned())),
        Some(url::Host::Ipv4(address)) => Host::Ip(address.into()),
        Some(url::Host::Ipv6(address)) => Host::Ip(address.into()),
        Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
    };
    let origin = |host| Origin { scheme, host, port };
    match host {
        Host::Name(name) => {
            let plain = name.trim_end_matches('.');
            if plain.len() != name.len() || plain.is_empty() || plain.split('.').any(str::is_empty) {
                let help = format!("write {}", origin(Host::Name(plain.to_owned())));
                return Err((format!("{} has an empty label", quoted(&name)), (!plain.is_empty()).then_some(help)));
            }
            if name.len() > 253 || name.split('.').any(|label| label.len() > 63) {
                return Err(fail("a host name has 253 characters at most, a label 63".to_owned()));
            }
            if !wild {
                return Ok(origin(Host::Name(name)));
            }
            if !name.contains('.') {
                let message = format!("`*.{name}` would hold a whole top-level domain");
                return Err((message, Some("a wildcard needs two labels after it: `*.example.com`".to_owned())));
            }
            Ok(origin(Host::Wildcard(name)))
        }
        Host::Ip(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            let own = address.to_ipv4_mapped().map(|address| origin(Host::Ip(address.into())));
            let help = own.map(|own| format!("write {own}"));
            Err(("this is a form of an IPv4 address".to_owned(), help))
        }
        _ if wild => Err(fail("a wildcard stands before a name, not before an address".to_owned())),
        ip => {
            let normal = ip.to_string();
            if normal.eq_ignore_ascii_case(spelled) {
                Ok(origin(ip))
            } else {
                let message = format!("{} is an odd spelling of {normal}", quoted(spelled));
                Err((message, Some(format!("write {}", origin(ip)))))
            }
        }
    }
}
