//! The `[[rule]]` tables of a policy file.

use std::sync::Arc;

use toml::de::DeTable;

use crate::file_grants;
use crate::nearest::{help, quoted};
use crate::reader::{Reader, Setting, Value};
use crate::{Condition, Definition, MAX_RULES, Rule, SecurityPolicy, Then, rule};

const KEYS: [&str; 5] = ["name", "capability", "when", "then", "timeout_ms"];

/// `[[rule]]`, in the order of the file.
pub(crate) fn rules(reader: &mut Reader, setting: &Setting<'_>, policy: &mut SecurityPolicy, value: &Value<'_>) {
    for (index, entry) in reader.list("rule", value).unwrap_or_default().iter().enumerate() {
        if index == MAX_RULES {
            reader.fault(entry.span(), format!("a policy has {MAX_RULES} rules at most"), None);
            return;
        }
        let Some(table) = reader.table("rule", entry) else {
            continue;
        };
        if let Some(rule) = one(reader, setting, policy, entry, table) {
            policy.rules.push(rule);
        }
    }
}

/// One rule, unless something is wrong with it.
fn one(
    reader: &mut Reader,
    setting: &Setting<'_>,
    policy: &SecurityPolicy,
    entry: &Value<'_>,
    table: &DeTable<'_>,
) -> Option<Rule> {
    for key in table.keys().filter(|key| !KEYS.contains(&key.get_ref().as_ref())) {
        reader.unknown_key("rule", key, &KEYS);
    }
    let name = name(reader, policy, entry, table);
    let capability = required(reader, "capability", entry, table).and_then(|(text, value)| {
        let found = file_grants::part(reader, setting, text, value.span())?;
        fits(reader, policy, &found.0, value).then_some(found)
    });
    let then = required(reader, "then", entry, table).and_then(|(word, value)| {
        let then = Then::of(word);
        if then.is_none() {
            let help = help(word, &Then::ALL.map(Then::as_str));
            reader.fault(value.span(), format!("rule.then: unknown word {}", quoted(word)), Some(help));
        }
        then
    });
    let when = match (table.get("when"), &capability) {
        (None, _) => None,
        (Some(value), None) => {
            reader.text("rule.when", value)?;
            return None;
        }
        (Some(value), Some(capability)) => Some(condition(reader, capability, value)?),
    };
    let timeout = match table.get("timeout_ms") {
        None => None,
        Some(value) => Some((reader.timeout("rule.timeout_ms", value)?, value)),
    };
    let (name, (capability, function), then) = (name?, capability?, then?);
    if let Some((_, value)) = timeout
        && then != Then::Ask
    {
        reader.fault(value.span(), "rule.timeout_ms: only a question expires", Some("then = \"ask\"".to_owned()));
        return None;
    }
    let timeout = timeout.map(|(timeout, _)| timeout);
    let rule = Rule { name, capability: capability.name.to_string(), function, when, then, timeout };
    if let Some(why) = rule.unfit(&capability) {
        let span = table.get("then").map_or_else(|| entry.span(), |value| value.span());
        reader.fault(span, format!("rule.then: {why}"), Some("allow or deny".to_owned()));
        return None;
    }
    Some(rule)
}

/// The text of a key that every rule has.
fn required<'v, 't>(
    reader: &mut Reader,
    key: &str,
    entry: &Value<'_>,
    table: &'v DeTable<'t>,
) -> Option<(&'v str, &'v Value<'t>)> {
    match table.get(key) {
        Some(value) => reader.text(&format!("rule.{key}"), value).map(|text| (text, value)),
        None => {
            let help = Some("a rule has name, capability, then, and perhaps when and timeout_ms".to_owned());
            reader.fault(entry.span(), format!("this rule has no `{key}`"), help);
            None
        }
    }
}

fn name(reader: &mut Reader, policy: &SecurityPolicy, entry: &Value<'_>, table: &DeTable<'_>) -> Option<String> {
    let (text, value) = required(reader, "name", entry, table)?;
    if let Err(message) = rule::name(text) {
        reader.fault(value.span(), format!("rule.name: {message}"), None);
        return None;
    }
    let key = format!("rule:{text}");
    if policy.rules.iter().any(|rule| rule.name == text) || reader.lines.contains_key(&key) {
        reader.fault(value.span(), format!("rule.name: {} stands twice", quoted(text)), None);
        return None;
    }
    reader.mark(key, &entry.span());
    Some(text.to_owned())
}

/// Whether the file's own level and block list leave the capability that a rule is about.
fn fits(reader: &mut Reader, policy: &SecurityPolicy, capability: &Definition, value: &Value<'_>) -> bool {
    match policy.excludes(capability, "this file").filter(|_| !reader.no_level) {
        None => true,
        Some(why) => {
            let name = &*capability.name;
            let help = if policy.block.contains(name) {
                format!("remove `{name}` from `block`, or the rule")
            } else {
                format!("level = \"{}\", or remove the rule", capability.level)
            };
            reader.fault(value.span(), format!("rule.capability: {why}"), Some(help));
            false
        }
    }
}

fn condition(
    reader: &mut Reader,
    (capability, function): &(Arc<Definition>, Option<String>),
    value: &Value<'_>,
) -> Option<Condition> {
    let text = reader.text("rule.when", value)?;
    let read = Condition::compile(text, capability, function.as_deref());
    match read.and_then(|condition| condition.never().cloned().map_or(Ok(condition), Err)) {
        Ok(condition) => Some(condition),
        Err(bad) => {
            let span = reader.inside(value, text, &bad.at);
            reader.fault(span, format!("rule.when: {}", bad.message), bad.help);
            None
        }
    }
}
