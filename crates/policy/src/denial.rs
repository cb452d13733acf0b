//! The words of a denial: for the guest what was refused, for the operator what would allow it.

use url::Url;

use crate::nearest::quoted;
use crate::origin::Scheme;
use crate::{Definition, Function, Grant, MAX_GUEST_PATH, SecurityPolicy, paths};

/// Why a call may not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which error the guest gets.
    pub kind: DenialKind,
    /// For the guest: what was refused. Never holds host paths or policy text.
    pub reason: String,
    /// For the operator: the flag or policy line that would allow it.
    pub remedy: String,
    /// For the operator: the name of the rule that decided, if one did.
    pub rule: Option<String>,
}

/// The error that a guest gets for a denied call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DenialKind {
    /// The policy says no.
    Denied,
    /// The argument cannot be right under any policy.
    Invalid,
    /// Over this limit, in bytes.
    TooLarge(u64),
}

impl Denial {
    /// A rule wants a person asked about a call that does not wait.
    pub fn nobody_to_ask(capability: &Definition, rule: &str) -> Self {
        let reason = format!("nobody can be asked about `{}`", capability.name);
        Self { rule: Some(rule.to_owned()), ..deny(reason, format!("rule {} says ask", quoted(rule))) }
    }
}

pub(crate) fn deny(reason: String, remedy: impl Into<String>) -> Denial {
    Denial { kind: DenialKind::Denied, reason, remedy: remedy.into(), rule: None }
}

fn invalid(reason: String, remedy: &str) -> Denial {
    Denial { kind: DenialKind::Invalid, ..deny(reason, remedy) }
}

pub(crate) fn unlinked(policy: &SecurityPolicy, capability: &Definition) -> Denial {
    let remedy = policy.refusal(capability, false).map(|(_, remedy)| remedy);
    deny(format!("`{}` is not granted", capability.name), remedy.unwrap_or_default())
}

pub(crate) fn blocked(function: &Function) -> Denial {
    let name = &function.name;
    deny(format!("`{name}` is not granted"), format!("remove `{name}` from `block` (or from --block)"))
}

pub(crate) fn revoked(name: &str) -> Denial {
    deny(format!("`{name}` was revoked"), format!("grant `{name}` to the execution again"))
}

pub(crate) fn unspeakable(path: &str) -> Denial {
    let reason = if path.len() > MAX_GUEST_PATH {
        format!("the path is over {MAX_GUEST_PATH} bytes long")
    } else {
        format!("the path {} holds a NUL character", quoted(path))
    };
    invalid(reason, "none: no policy allows such a path")
}

pub(crate) fn no_file(path: &str) -> Denial {
    invalid(format!("{} is not a plain file", quoted(path)), "none: the guest has to name a file")
}

/// What would grant it: the flag of the capability, where it has one, or a line of a policy file.
fn by_flag_or_file(capability: &Definition, value: &str, line: &str) -> String {
    let flag = capability.flag.map(|flag| format!("{} {value}, or ", flag.as_str()));
    format!("{}in the policy file: {line}", flag.unwrap_or_default())
}

pub(crate) fn outside(capability: &Definition, path: &str) -> Denial {
    let name = &*capability.name;
    let guest = paths::parent(path).escape_debug().to_string();
    let line = format!("[grant.{name}] dirs = {{ \"{guest}\" = \"DIR\" }}");
    let remedy = by_flag_or_file(capability, &format!("{guest}=DIR"), &line);
    deny(format!("`{name}` may not reach {}", quoted(path)), remedy)
}

pub(crate) fn no_method() -> Denial {
    let reason = format!("a method is a plain word of {} characters at most", crate::MAX_METHOD);
    invalid(reason, "none: no policy allows such a method")
}

pub(crate) fn method(capability: &Definition, grant: Option<&Grant>, method: &str) -> Denial {
    let name = &capability.name;
    let reason = format!("`{name}` may not use the method {}", quoted(method));
    if let Err((_, help)) = crate::grant::method(method) {
        let remedy = match help {
            Some(_) => "none: methods are spelled in capitals, and the guest has to spell it so",
            None => "none: no policy allows this method",
        };
        return deny(reason, remedy);
    }
    let has = match grant.filter(|grant| !grant.methods.is_empty()) {
        Some(grant) => grant.methods.iter().map(String::as_str).collect(),
        None => crate::DEFAULT_METHODS.to_vec(),
    };
    let list: Vec<String> = has.into_iter().chain([method]).map(|method| format!("\"{method}\"")).collect();
    deny(reason, format!("in the policy file: [grant.{name}] methods = [{}]", list.join(", ")))
}

pub(crate) fn scheme(capability: &Definition, scheme: Scheme) -> Denial {
    let (name, used) = (&capability.name, scheme.as_str());
    let remedy = format!("none: the schemes of `{name}` are {}", capability.scope.schemes());
    deny(format!("`{name}` does not speak `{used}`"), remedy)
}

/// The origin of a URL as flags and files spell it.
fn origin_of(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

pub(crate) fn elsewhere(capability: &Definition, url: &Url) -> Denial {
    let (name, origin) = (&capability.name, origin_of(url));
    let reason = format!("`{name}` may not reach {}", quoted(&origin));
    let remedy = match origin.parse::<crate::Origin>() {
        Ok(_) => by_flag_or_file(capability, &origin, &format!("[grant.{name}] origins = [\"{origin}\"]")),
        Err(_) => "none: no policy can name this host".to_owned(),
    };
    deny(reason, remedy)
}

pub(crate) fn no_database(capability: &Definition, name: &str) -> Denial {
    let reason = format!("`{}` has no database {}", capability.name, quoted(name));
    let remedy = match crate::database::name(name) {
        Ok(()) => {
            let line = format!("[grant.{}.databases] {name} = {{ sqlite = \"FILE\" }}", capability.name);
            by_flag_or_file(capability, &format!("{name}=URL"), &line)
        }
        Err(_) => "none: no policy can name this database".to_owned(),
    };
    deny(reason, remedy)
}

/// A part of a request that a rule or a check looks at.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Part {
    Path,
    Query,
    Headers,
    Method,
}

/// What a rule is to look at, and servers read in several ways.
pub(crate) fn ambiguous(part: Part, odd: &str) -> Denial {
    let part = match part {
        Part::Path => "the path of the URL",
        Part::Query => "the query of the URL",
        Part::Headers => "the headers",
        Part::Method => "the method",
    };
    let reason = format!("{part} can be read in several ways, and a rule looks there: there is {odd}");
    deny(reason, format!("a rule, or a check of this host, looks at {part}: the guest has to spell it plainly"))
}

/// Arguments that were read for another policy.
pub(crate) fn unread(capability: &Definition) -> Denial {
    let reason = format!("`{}` cannot be decided for these arguments", capability.name);
    deny(reason, "none: this is a fault of the host")
}

pub(crate) fn ruled_out(capability: &Definition, rule: &str) -> Denial {
    let reason = format!("a rule of the policy refuses this call of `{}`", capability.name);
    Denial { rule: Some(rule.to_owned()), ..deny(reason, format!("rule {} says deny", quoted(rule))) }
}

pub(crate) fn unclear(capability: &Definition, rule: &str, why: &str) -> Denial {
    let reason = format!("a rule of the policy cannot be decided for this call of `{}`", capability.name);
    let remedy = format!("rule {} cannot be decided: {why}", quoted(rule));
    Denial { rule: Some(rule.to_owned()), ..deny(reason, remedy) }
}
