//! The keys of `[grant.NAME]` that are about the network and databases.

use crate::authority;
use crate::database;
use crate::nearest::{help, quoted};
use crate::reader::{Key, Reader, Setting, Value};
use crate::validate::NO_SERVER;
use crate::{
    Authority, Database, Definition, Grant, GrantEffect, MAX_ATTEMPTS, MAX_BACKOFF_MS, MAX_DATABASES, MAX_METHODS,
    MAX_PRIVATE, Mode, Origin, Retry, Source, Unit, dial, grant,
};

/// `origins = ["https://api.example.com"]`.
pub(crate) fn origins(reader: &mut Reader, capability: &Definition, grant: &mut Grant, place: &str, value: &Value<'_>) {
    for entry in reader.list(place, value).unwrap_or_default() {
        let Some(text) = reader.text(place, entry) else {
            continue;
        };
        match text.parse::<Origin>() {
            Err(bad) => {
                let span = reader.inside(entry, text, &bad.at);
                reader.fault(span, format!("{place}: {}", bad.message), bad.help);
            }
            Ok(origin) => {
                let key = format!("{place}:{origin}");
                match grant.add_origin(capability, origin) {
                    Ok(()) => reader.mark(key, &entry.span()),
                    Err(message) => reader.fault(entry.span(), format!("{place}: {message}"), None),
                }
            }
        }
    }
}

/// `methods = ["GET", "POST"]`.
pub(crate) fn methods(reader: &mut Reader, grant: &mut Grant, place: &str, value: &Value<'_>) {
    let Some(list) = reader.list(place, value) else {
        return;
    };
    if list.is_empty() {
        let help = "leave the key out for GET and HEAD; with no method nothing could be sent";
        reader.fault(value.span(), format!("{} is empty", quoted(place)), Some(help.to_owned()));
    }
    for entry in list {
        let Some(text) = reader.text(place, entry) else {
            continue;
        };
        let full = grant.methods.len() >= MAX_METHODS;
        if let Err((message, help)) = grant::method(text) {
            reader.fault(entry.span(), format!("{place}: {message}"), help);
        } else if grant.methods.contains(text) {
            reader.fault(entry.span(), format!("{place}: method {} stands twice", quoted(text)), None);
        } else if full {
            reader.fault(entry.span(), format!("{place}: a grant may have {MAX_METHODS} methods at most"), None);
        } else {
            grant.methods.insert(text.to_owned());
        }
    }
}

/// `private = ["10.0.0.0/8"]`.
pub(crate) fn private(reader: &mut Reader, grant: &mut Grant, place: &str, value: &Value<'_>) {
    for entry in reader.list(place, value).unwrap_or_default() {
        let Some(text) = reader.text(place, entry) else {
            continue;
        };
        match dial::private(text) {
            Err((message, help)) => reader.fault(entry.span(), format!("{place}: {message}"), help),
            Ok(range) if grant.private.contains(&range) => {
                reader.fault(entry.span(), format!("{place}: range {} stands twice", quoted(text)), None);
            }
            Ok(_) if grant.private.len() >= MAX_PRIVATE => {
                reader.fault(entry.span(), format!("{place}: a grant may have {MAX_PRIVATE} ranges at most"), None);
            }
            Ok(range) => grant.private.push(range),
        }
    }
}

/// `effect = "idempotent"`.
pub(crate) fn effect(reader: &mut Reader, grant: &mut Grant, place: &str, value: &Value<'_>) {
    let Some(word) = reader.text(place, value) else {
        return;
    };
    let all = [GrantEffect::Once, GrantEffect::Idempotent];
    match all.into_iter().find(|effect| effect.as_str() == word) {
        Some(effect) => grant.effect = effect,
        None => {
            let help = help(word, &all.map(GrantEffect::as_str));
            reader.fault(value.span(), format!("{place}: unknown effect {}", quoted(word)), Some(help));
        }
    }
}

const RETRY: [&str; 4] = ["attempts", "backoff_ms", "max_backoff_ms", "jitter"];

/// `retry = { attempts = 3, backoff_ms = 500, max_backoff_ms = 30_000, jitter = true }`.
pub(crate) fn retry(reader: &mut Reader, grant: &mut Grant, place: &str, value: &Value<'_>) {
    let Some(table) = reader.table(place, value) else {
        return;
    };
    let mut retry = Retry::default();
    for (key, value) in table.iter() {
        let here = format!("{place}.{}", key.get_ref());
        match key.get_ref().as_ref() {
            "attempts" => {
                let number = reader.number(&here, value, Unit::Count, &(1..=u64::from(MAX_ATTEMPTS)));
                retry.attempts = number.and_then(|number| u32::try_from(number).ok()).unwrap_or(retry.attempts);
            }
            "backoff_ms" => {
                let number = reader.number(&here, value, Unit::Ms, &(0..=MAX_BACKOFF_MS));
                retry.backoff_ms = number.unwrap_or(retry.backoff_ms);
            }
            "max_backoff_ms" => {
                let number = reader.number(&here, value, Unit::Ms, &(0..=MAX_BACKOFF_MS));
                retry.max_backoff_ms = number.unwrap_or(retry.max_backoff_ms);
            }
            "jitter" => retry.jitter = reader.flag(&here, value).unwrap_or(retry.jitter),
            _ => reader.unknown_key(place, key, &RETRY),
        }
    }
    if table.get("max_backoff_ms").is_none() {
        retry.max_backoff_ms = retry.max_backoff_ms.max(retry.backoff_ms);
    } else if retry.max_backoff_ms < retry.backoff_ms {
        let message = format!("{place}: `max_backoff_ms` is less than `backoff_ms`");
        reader.fault(value.span(), message, None);
    }
    grant.retry = Some(retry);
}

/// `databases = { inventory = { sqlite = "./inventory.db", mode = "ro" } }`.
pub(crate) fn databases(reader: &mut Reader, setting: &Setting<'_>, grant: &mut Grant, place: &str, value: &Value<'_>) {
    let Some(table) = reader.table(place, value) else {
        return;
    };
    let mut in_order: Vec<(&Key<'_>, &Value<'_>)> = table.iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in in_order {
        let name = key.get_ref();
        if let Err(message) = database::name(name) {
            reader.fault(key.span(), format!("{place}: {message}"), None);
            continue;
        }
        let here = format!("{place}.{name}");
        let Some((found, ca)) = database(reader, setting, &here, key, value) else {
            continue;
        };
        if grant.databases.len() >= MAX_DATABASES {
            reader.fault(key.span(), format!("{place}: a grant may have {MAX_DATABASES} databases at most"), None);
        } else {
            grant.databases.insert(name.to_string(), found);
            if !ca.is_empty() {
                grant.database_ca.insert(name.to_string(), ca);
            }
            reader.mark(format!("{place}:{name}"), &key.span());
        }
    }
}

const DATABASE: [&str; 5] = ["sqlite", "postgres", "url_env", "mode", "ca"];

/// `{ sqlite = "./inventory.db", mode = "ro" }`, with the authorities that are trusted for it.
fn database(
    reader: &mut Reader,
    setting: &Setting<'_>,
    place: &str,
    name: &Key<'_>,
    value: &Value<'_>,
) -> Option<(Database, Vec<Authority>)> {
    let (mut source, mut mode, mut sources, faults) = (None, Mode::default(), 0, reader.faults());
    let table = reader.table(place, value)?;
    let mut ca = Vec::new();
    if let Some(value) = table.get("ca") {
        ca = authorities(reader, setting, &format!("{place}.ca"), value);
    }
    for (key, value) in table.iter().filter(|(key, _)| key.get_ref() != "ca") {
        let word = key.get_ref().as_ref();
        let here = format!("{place}.{word}");
        if !DATABASE.contains(&word) {
            reader.unknown_key(place, key, &DATABASE);
            continue;
        }
        sources += usize::from(word != "mode");
        let Some(text) = reader.text(&here, value) else {
            continue;
        };
        let read = match word {
            "sqlite" => database::sqlite(setting.base, text),
            "postgres" => database::postgres(text),
            "url_env" => database::variable(text),
            _ => match Mode::of(text) {
                Some(known) => {
                    mode = known;
                    continue;
                }
                None => Err((format!("unknown mode {}", quoted(text)), Some(help(text, &["ro", "rw"])))),
            },
        };
        match read {
            Ok(read) => source = Some(read),
            Err((message, help)) => reader.fault(value.span(), format!("{here}: {message}"), help),
        }
    }
    if sources != 1 && (sources != 0 || reader.faults() == faults) {
        let help = "one of sqlite = \"FILE\", postgres = \"URL\", url_env = \"VARIABLE\"";
        reader.fault(name.span(), format!("{} has {sources} places", quoted(place)), Some(help.to_owned()));
        return None;
    }
    if let (Some(Source::Sqlite(_)), Some(value)) = (&source, table.get("ca")) {
        reader.fault(value.span(), format!("{place}: {NO_SERVER}"), None);
    }
    source.map(|source| (Database { source, mode }, ca))
}

/// `ca = ["ca.pem"]`.
pub(crate) fn authorities(
    reader: &mut Reader,
    setting: &Setting<'_>,
    place: &str,
    value: &Value<'_>,
) -> Vec<Authority> {
    let mut all = Vec::new();
    for entry in reader.list(place, value).unwrap_or_default() {
        let Some(text) = reader.text(place, entry) else {
            continue;
        };
        let one = Authority::of(setting.base, text).and_then(|mut authority| {
            authority.read = setting.files.map(|files| (files.authority)(&authority.file)).transpose()?;
            authority::add(&mut all, authority)
        });
        if let Err(message) = one {
            reader.fault(entry.span(), format!("{place}: {message}"), None);
        }
    }
    all
}
