//! The question at link time: may this import be linked? Level and block list decide.

use std::sync::Arc;

use crate::definition::Found;
use crate::nearest::{nearest, quoted};
use crate::{Catalogue, Definition, Kind, SecurityPolicy, name};

/// What linking one import comes to.
///
/// Import names are compared by package, interface and semver track as wasmtime's linker matches them: a host
/// with 0.1.0 satisfies any guest 0.1.x; 1.0 satisfies 1.4 and the reverse; 0.1 and 0.2 never match; a name
/// without a version never matches one that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The policy grants the capability behind this import, or behind its async twin.
    Granted(Arc<Definition>),
    /// `parole:capabilities/types`: it carries no authority and is always linked.
    Types,
    /// It is linked, and each call is denied: the policy names it in `link.denied`.
    AllDenied(Arc<Definition>),
    /// It may not be linked.
    Denied(LinkDenial),
}

/// Why an import may not be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDenial {
    /// The import as the guest names it.
    pub import: String,
    /// The capability behind it, if there is one.
    pub capability: Option<String>,
    /// Why not, for the operator.
    pub reason: String,
    /// The flag or policy line that would allow it, if there is one.
    pub remedy: Option<String>,
}

impl SecurityPolicy {
    /// Whether this import (`parole:capabilities/read-file@0.1.0`) may be linked.
    pub fn link(&self, import: &str, catalogue: &Catalogue) -> Link {
        let denied = |capability: Option<&Arc<Definition>>, reason: String, remedy: Option<String>| {
            let capability = capability.map(|capability| capability.name.to_string());
            Link::Denied(LinkDenial { import: import.to_owned(), capability, reason, remedy })
        };
        let catalogue = &*self.catalogue(catalogue);
        match catalogue.find(import) {
            Found::Types => Link::Types,
            Found::Capability { capability, .. }
                if self.link_denied.contains(&*capability.name)
                    && !self.block.contains(&*capability.name)
                    && self.fault().is_none() =>
            {
                Link::AllDenied(Arc::clone(capability))
            }
            // Nobody defines it: its functions are those that the guest imports.
            Found::Unknown if let Some(name) = self.denies_undefined(import) => {
                Link::AllDenied(Arc::new(Definition { kind: Kind::Worker, ..Definition::new(name, name) }))
            }
            Found::Capability { capability, twin } => match self.refusal(capability, twin) {
                None => Link::Granted(Arc::clone(capability)),
                Some((reason, remedy)) => denied(Some(capability), reason, Some(remedy)),
            },
            Found::OtherVersion { offered, capability } => {
                let reason =
                    format!("{} does not match {}, the version that this host has", quoted(import), quoted(&offered));
                denied(capability, reason, Some(format!("build the guest against {offered}")))
            }
            Found::Unknown => {
                let offers: Vec<String> = catalogue.offers().map(|(offered, _)| offered).collect();
                let near = nearest_interface(import, &offers);
                let near = near.map(|near| format!(" (the nearest is {})", quoted(near))).unwrap_or_default();
                let remedy = crate::user::may_be_defined(import)
                    .is_ok()
                    .then(|| format!("in the policy file: [capability.{import:?}] wit = \"FILE\", via = \"worker\""));
                denied(None, format!("no capability is defined for {}{near}", quoted(import)), remedy)
            }
        }
    }

    /// What `link.denied` calls an interface that nobody defines.
    fn denies_undefined(&self, import: &str) -> Option<&str> {
        let mut fitting = self.link_denied.iter().filter(|name| name::fit(name, import) == name::Fit::Same);
        fitting.next().map(String::as_str).filter(|_| self.fault().is_none())
    }

    /// Why level, block list or `async` refuse a capability, and what would allow it.
    pub(crate) fn refusal(&self, capability: &Definition, twin: bool) -> Option<(String, String)> {
        let name = &*capability.name;
        if let Some(fault) = self.fault() {
            Some((format!("this policy is not valid: {fault}"), "correct the policy".to_owned()))
        } else if self.block.contains(name) {
            Some((format!("`{name}` is in the block list"), format!("remove `{name}` from `block` (or from --block)")))
        } else if self.link_denied.contains(name) {
            Some((
                format!("`{name}` is in `link.denied`"),
                format!("remove `{name}` from `denied` in [link], and grant it"),
            ))
        } else if capability.level > self.level {
            let (needs, has) = (capability.level, self.level);
            let reason = format!("`{name}` needs level `{needs}` or higher; this policy has `{has}`");
            Some((reason, format!("level = \"{needs}\"  (or --level {needs})")))
        } else if twin && !self.async_guests {
            Some((
                format!("`{name}` is asked for by an async guest; this policy has `async = false`"),
                "async = true".to_owned(),
            ))
        } else {
            None
        }
    }
}

/// What an entry of `link.denied` names, in full: a capability, or an interface that nobody defines.
///
/// # Errors
/// Why it names nothing.
pub(crate) fn denied_name(catalogue: &Catalogue, text: &str) -> Result<String, String> {
    match catalogue.named(text) {
        Some((own, None)) => return Ok(own.name.to_string()),
        Some((own, Some(_))) => {
            return Err(format!("it names one function; `{}` or `block` is what takes single ones", own.name));
        }
        None => {}
    }
    match catalogue.find(text) {
        Found::Capability { capability, .. } => Ok(capability.name.to_string()),
        Found::OtherVersion { offered, .. } => Err(format!("this host has it as {}", quoted(&offered))),
        Found::Types => Err("it carries no authority, and is always linked".to_owned()),
        Found::Unknown => crate::user::may_be_defined(text).map(|()| text.to_owned()),
    }
}

/// The offered interface whose name is nearest, when its package is the same but for a typo.
fn nearest_interface<'a>(import: &str, offers: &'a [String]) -> Option<&'a str> {
    let (package, interface) = import.split_once('/')?;
    let near = |offer: &&String| {
        offer.split_once('/').is_some_and(|(offered, name)| {
            nearest(package, [offered]).is_some()
                && nearest(crate::name::split(interface).0, [crate::name::split(name).0]).is_some()
        })
    };
    let near: Vec<&str> = offers.iter().filter(near).map(String::as_str).collect();
    nearest(import, near)
}
