//! The `[capability."PACKAGE/INTERFACE@VERSION"]` tables of a policy file.

use std::sync::Arc;

use crate::nearest::{help, quoted};
use crate::reader::{Key, Reader, Setting, Value};
use crate::{Level, MAX_DEFINED, SecurityPolicy, UserCapability, Via, WorkEffect, paths, user};

const KEYS: [&str; 5] = ["wit", "via", "level", "timeout_ms", "func"];
/// Words for `via` of later versions, so that a file for one of them gets a clear answer.
const LATER: [&str; 1] = ["component"];

/// `[capability]`: one table for each interface that the policy defines.
pub(crate) fn capabilities(reader: &mut Reader, setting: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    let Some(table) = reader.table("capability", value) else {
        return;
    };
    let mut in_order: Vec<(&Key<'_>, &Value<'_>)> = table.iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in in_order {
        let interface = key.get_ref();
        if let Err(fault) = user::may_be_defined(interface) {
            reader.fault(key.span(), format!("capability {}: {fault}", quoted(interface)), None);
        } else if policy.capabilities.len() == MAX_DEFINED {
            reader.fault(key.span(), format!("a policy defines {MAX_DEFINED} capabilities at most"), None);
        } else if let Some(capability) = one(reader, setting, interface, key, value) {
            define(reader, setting, policy, key, capability);
        }
    }
}

/// Takes one up, with what its WIT says.
fn define(
    reader: &mut Reader,
    setting: &Setting<'_>,
    policy: &mut SecurityPolicy,
    key: &Key<'_>,
    capability: UserCapability,
) {
    let interface = key.get_ref();
    let room = policy.catalogue(setting.catalogue);
    let definition = capability.definition(interface).and_then(|own| room.has_room_for(own));
    drop(room);
    match definition {
        Ok(definition) => {
            reader.mark(format!("capability.{interface}"), &key.span());
            policy.own.push(Arc::new(definition));
            policy.capabilities.insert(interface.to_string(), capability);
            // In the order in which the pinned form has them.
            policy.own.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Err(fault) => reader.fault(key.span(), format!("capability {}: {fault}", quoted(interface)), None),
    }
}

/// `[capability."acme:crm/customers@1.0.0"]`.
fn one(
    reader: &mut Reader,
    setting: &Setting<'_>,
    interface: &str,
    name: &Key<'_>,
    value: &Value<'_>,
) -> Option<UserCapability> {
    let place = format!("capability.{}", quoted(interface).trim_matches('`'));
    let faults = reader.faults();
    let table = reader.table(&place, value)?;
    for key in table.keys().filter(|key| !KEYS.contains(&key.get_ref().as_ref())) {
        reader.unknown_key(&place, key, &KEYS);
    }
    let mut missing = |key: &str, example: &str| {
        let fault = format!("capability {} has no `{key}`", quoted(interface));
        reader.fault(name.span(), fault, Some(example.to_owned()));
    };
    let (wit, via) = (table.get("wit"), table.get("via"));
    if wit.is_none() {
        missing("wit", "wit = \"FILE\"");
    }
    if via.is_none() {
        missing("via", "via = \"worker\"");
    }
    let mut capability = UserCapability::new("");
    if let Some(value) = via {
        capability.via = self::via(reader, &format!("{place}.via"), value)?;
    }
    if let Some(value) = table.get("level") {
        let word = reader.text(&format!("{place}.level"), value)?;
        match word.parse::<Level>() {
            Ok(level) => capability.level = level,
            Err(unknown) => reader.fault(value.span(), unknown.to_string(), Some(unknown.help())),
        }
    }
    if let Some(value) = table.get("timeout_ms") {
        capability.timeout = reader.timeout(&format!("{place}.timeout_ms"), value).unwrap_or(capability.timeout);
    }
    if let Some(value) = table.get("func") {
        effects(reader, &format!("{place}.func"), &mut capability, value);
    }
    if let Some(value) = wit {
        capability.wit = text(reader, setting, &format!("{place}.wit"), value)?;
    }
    (reader.faults() == faults).then_some(capability)
}

fn via(reader: &mut Reader, place: &str, value: &Value<'_>) -> Option<Via> {
    let word = reader.text(place, value)?;
    match word {
        "worker" => return Some(Via::Worker),
        word if LATER.contains(&word) => {
            reader.fault(
                value.span(),
                format!("{place}: {} is not known to this version of Parole yet", quoted(word)),
                None,
            );
        }
        word => {
            let help = help(word, &Via::ALL);
            reader.fault(value.span(), format!("{place}: unknown word {}", quoted(word)), Some(help));
        }
    }
    None
}

/// The text of the file.
fn text(reader: &mut Reader, setting: &Setting<'_>, place: &str, value: &Value<'_>) -> Option<String> {
    let name = reader.text(place, value)?;
    let read = paths::host(setting.base, name).and_then(|file| match setting.files {
        Some(files) => (files.wit)(&file),
        None => Err("nobody reads files here".to_owned()),
    });
    read.map_err(|fault| reader.fault(value.span(), format!("{place}: {fault}"), None)).ok()
}

/// `[capability.INTERFACE.func.NAME] effect = "once"`.
fn effects(reader: &mut Reader, place: &str, capability: &mut UserCapability, value: &Value<'_>) {
    let Some(table) = reader.table(place, value) else {
        return;
    };
    for (function, value) in table.iter() {
        let here = format!("{place}.{}", quoted(function.get_ref()).trim_matches('`'));
        let Some(keys) = reader.table(&here, value) else {
            continue;
        };
        for (key, value) in keys.iter() {
            if key.get_ref() != "effect" {
                reader.unknown_key(&here, key, &["effect"]);
                continue;
            }
            let Some(word) = reader.text(&format!("{here}.effect"), value) else {
                continue;
            };
            match WorkEffect::of(word) {
                Some(effect) => drop(capability.effects.insert(function.get_ref().to_string(), effect)),
                None => {
                    let help = help(word, &WorkEffect::ALL.map(WorkEffect::as_str));
                    reader.fault(value.span(), format!("{here}.effect: unknown effect {}", quoted(word)), Some(help));
                }
            }
        }
    }
}
