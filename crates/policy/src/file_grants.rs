//! The `[grant.NAME]` tables of a policy file.

use std::sync::Arc;

use crate::file_net as net;
use crate::nearest::{help, quoted};
use crate::reader::{Key, Reader, Setting, Value};
use crate::{Definition, Grant, GrantKey, SecurityPolicy, paths};

/// Keys of later versions, so that a file for one of them gets a clear answer.
const LATER: [&str; 1] = ["via"];

/// The capability of that name, or a fault that says which there are.
pub(crate) fn capability(
    reader: &mut Reader,
    setting: &Setting<'_>,
    name: &str,
    span: std::ops::Range<usize>,
) -> Option<Arc<Definition>> {
    match part(reader, setting, name, span.clone())? {
        (capability, None) => Some(capability),
        (capability, Some(_)) => {
            let message = format!("{} is one function of a capability", quoted(name));
            reader.fault(span, message, Some(format!("write {}", capability.name)));
            None
        }
    }
}

/// The same, or one function of a capability that users define.
pub(crate) fn part(
    reader: &mut Reader,
    setting: &Setting<'_>,
    name: &str,
    span: std::ops::Range<usize>,
) -> Option<(Arc<Definition>, Option<String>)> {
    let found = setting.catalogue.named(name);
    if found.is_none() {
        let valid: Vec<&str> = setting.catalogue.names().collect();
        reader.fault(span, format!("unknown capability {}", quoted(name)), Some(help(name, &valid)));
    }
    found.map(|(own, function)| (Arc::clone(own), function.map(str::to_owned)))
}

/// `[grant]`: one table for each capability.
pub(crate) fn grants(reader: &mut Reader, setting: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    let Some(table) = reader.table("grant", value) else {
        return;
    };
    for (key, value) in table.iter() {
        let name = key.get_ref();
        let Some(capability) = capability(reader, setting, name, key.span()) else {
            continue;
        };
        let name = &*capability.name;
        reader.mark(format!("grant.{name}"), &key.span());
        if capability.keys.is_empty() {
            let message = format!("grant.{name}: `{name}` takes no grant; its level and `block` decide");
            reader.fault(key.span(), message, None);
        } else if let Some(grant) = grant(reader, setting, &capability, value) {
            policy.grants.insert(capability.name.to_string(), grant);
        }
    }
}

/// `[grant.NAME]`.
fn grant(reader: &mut Reader, setting: &Setting<'_>, capability: &Definition, value: &Value<'_>) -> Option<Grant> {
    let place = format!("grant.{}", capability.name);
    let mut grant = Grant::of(capability, capability.timeout);
    for (key, value) in reader.table(&place, value)?.iter() {
        let known = capability.keys.iter().map(|key| key.key).find(|known| known.as_str() == key.get_ref());
        let Some(known) = known else {
            if LATER.contains(&key.get_ref().as_ref()) {
                let name = format!("{place}.{}", key.get_ref());
                reader.fault(
                    key.span(),
                    format!("key {} is not known to this version of Parole yet", quoted(&name)),
                    None,
                );
                continue;
            }
            let valid: Vec<&str> = capability.keys.iter().map(|key| key.key.as_str()).collect();
            reader.unknown_key(&place, key, &valid);
            continue;
        };
        let here = format!("{place}.{}", known.as_str());
        reader.mark(here.clone(), &key.span());
        if let (Some((unit, most)), Some(slot)) = (known.number(), grant.slot(known)) {
            if let Some(number) = reader.number(&here, value, unit, &(0..=most)) {
                *slot = Some(number);
            }
            continue;
        }
        match known {
            GrantKey::MaxBytes | GrantKey::Quota | GrantKey::MaxFiles | GrantKey::MaxRows => {}
            GrantKey::TimeoutMs => grant.timeout = reader.timeout(&here, value).unwrap_or(grant.timeout),
            GrantKey::Dirs => dirs(reader, setting, &mut grant, &here, value),
            GrantKey::Origins => net::origins(reader, capability, &mut grant, &here, value),
            GrantKey::Methods => net::methods(reader, &mut grant, &here, value),
            GrantKey::Private => net::private(reader, &mut grant, &here, value),
            GrantKey::Effect => net::effect(reader, &mut grant, &here, value),
            GrantKey::Databases => net::databases(reader, setting, &mut grant, &here, value),
            GrantKey::Retry => net::retry(reader, &mut grant, &here, value),
            GrantKey::Ca => grant.ca = net::authorities(reader, setting, &here, value),
        }
    }
    Some(grant)
}

/// `dirs = { "/guest" = "host" }`.
fn dirs(reader: &mut Reader, setting: &Setting<'_>, grant: &mut Grant, place: &str, value: &Value<'_>) {
    let Some(table) = reader.table(place, value) else {
        return;
    };
    let mut in_order: Vec<(&Key<'_>, &Value<'_>)> = table.iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in in_order {
        let guest = key.get_ref();
        let Some(text) = reader.text(&format!("{place}.{}", quoted(guest).trim_matches('`')), value) else {
            continue;
        };
        match paths::host(setting.base, text) {
            Err(message) => reader.fault(value.span(), format!("{place}: {message}"), None),
            Ok(host) => match grant.add(guest, host) {
                Err(message) => {
                    let help = guest_help(guest);
                    reader.fault(key.span(), format!("{place}: {message}"), help);
                }
                Ok(()) => {
                    if let Ok(guest) = paths::mount(guest) {
                        reader.mark(format!("{place}:{guest}"), &key.span());
                    }
                }
            },
        }
    }
}

fn guest_help(guest: &str) -> Option<String> {
    let rooted = if guest.starts_with('/') {
        return None;
    } else {
        format!("/{guest}")
    };
    paths::mount(&rooted).ok().map(|rooted| format!("write \"{}\"", rooted.escape_debug()))
}

/// Refuses grants that the file's own level or block list excludes.
pub(crate) fn excluded(reader: &mut Reader, setting: &Setting<'_>, policy: &SecurityPolicy, value: &Value<'_>) {
    let toml::de::DeValue::Table(table) = value.get_ref() else {
        return;
    };
    for key in table.keys() {
        let capability = setting.catalogue.by_name(key.get_ref());
        let Some(capability) = capability.filter(|capability| !capability.keys.is_empty()) else {
            continue;
        };
        if let Some(why) = policy.excludes(capability, "this file") {
            let name = &*capability.name;
            let help = if policy.block.contains(name) {
                format!("remove `{name}` from `block`, or the grant")
            } else {
                format!("level = \"{}\", or remove the grant", capability.level)
            };
            reader.fault(key.span(), format!("grant.{name}: {why}"), Some(help));
        }
    }
}
