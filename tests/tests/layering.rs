//! The structure of the repository, held by tests: arrows between crates, one place for each
//! capability, files that can be read top to bottom.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parole_capabilities::{ALL, CATALOGUE};
use parole_policy::{Definition, GrantKey, Kind, ScopeKind};

/// The longest source file, tests included.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["crates", "tests", "xtask", "bench"] {
        let dir = root().join(dir);
        if dir.is_dir() {
            sources(&dir, &mut found);
        }
    }
    assert!(found.len() > 50);
    found
}

/// The crates that each crate may use; the arrow never goes back.
#[test]
fn arrows() {
    let below = BTreeMap::from([
        ("policy", vec![]),
        ("durable", vec![]),
        ("capabilities", vec!["policy", "durable"]),
        ("runtime", vec!["policy", "durable", "capabilities"]),
        ("cli", vec!["policy", "durable", "capabilities", "runtime"]),
    ]);
    for (name, may) in below {
        let text = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for used in dependencies.keys().filter_map(|key| key.strip_prefix("parole-")) {
                assert!(may.contains(&used), "{name} must not use {used}");
            }
        }
    }
}

/// What a crate must know nothing of.
#[test]
fn absences() {
    let absent = [
        (
            "policy",
            &["wasmtime", "tokio", "rusqlite", "std::fs", "std::env", "std::net", "SystemTime", "Instant::"][..],
        ),
        ("durable", &["wasmtime", "parole_policy", "std::env::var", "std::net", "println!", "eprintln!"]),
        (
            "capabilities",
            &[
                "rusqlite",
                "std::env::var",
                "std::net::Tcp",
                "std::net::Udp",
                "ToSocketAddrs",
                "println!",
                "eprintln!",
                "std::fs::",
            ],
        ),
        ("runtime", &["rusqlite", "std::env::var", "std::net", "println!", "eprintln!", "home_dir"]),
    ];
    for (name, words) in absent {
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests may use what they like.
            let text = text.split("#[cfg(test)]").next().unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for word in words {
                    // The one engine of the table that is a library in this process.
                    if *word == "rusqlite" && file.to_string_lossy().contains("/sql/sqlite") {
                        continue;
                    }
                    // The system's table of hosts is a part of its resolver.
                    if *word == "std::fs::" && file.ends_with("net/resolve.rs") {
                        continue;
                    }
                    // The authorities of a policy are read before it is pinned, where its operator says they lie.
                    if *word == "std::fs::" && file.ends_with("capabilities/src/backends/trust.rs") {
                        continue;
                    }
                    // `cap_std::fs` is what `std::fs` is not.
                    let line = line.replace("cap_std::", "");
                    assert!(!line.contains(word), "{}: line {number} of code has `{word}`", file.display());
                }
            }
        }
    }
}

/// Machine code is loaded in one place, and no other code is `unsafe`.
#[test]
fn one_unsafe_block() {
    let needle = ["unsafe", " {"].concat();
    let mut files = Vec::new();
    for name in ["policy", "durable", "capabilities", "runtime", "cli"] {
        sources(&root().join("crates").join(name).join("src"), &mut files);
    }
    let with: Vec<PathBuf> =
        files.into_iter().filter(|path| std::fs::read_to_string(path).unwrap().contains(&needle)).collect();
    let names: Vec<_> = with.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["artefact.rs"]);
}

#[test]
fn files_can_be_read_from_top_to_bottom() {
    for path in all_sources() {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines; at most {LINES_MAX}", path.display());
    }
}

/// Each capability has its WIT file, its source file and its line in the table; nothing else has.
#[test]
fn one_place_for_each_capability() {
    let mut names: Vec<&str> = CATALOGUE.names().collect();
    let table: Vec<_> = CATALOGUE.iter().map(|own| (own.level, &own.name)).collect();
    assert!(table.is_sorted(), "by level, then by name");
    names.sort_unstable();
    let wit: BTreeSet<String> = std::fs::read_dir(root().join("wit"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().replace('-', "_"))
        .filter(|name| name != "types" && name != "worlds")
        .collect();
    assert_eq!(names, wit.iter().map(String::as_str).collect::<Vec<_>>());
    for entry in ALL.iter() {
        let Definition { name, interface, level, functions, keys, scope, kind, .. } = &*entry.definition;
        let kebab = name.replace('_', "-");
        assert_eq!(**interface, format!("parole:capabilities/{kebab}@0.1.0"));
        assert!(entry.wit.contains(&format!("interface {kebab} {{")), "{name}");
        assert!(root().join(format!("crates/capabilities/src/capability/{name}.rs")).is_file(), "{name}");
        let level = format!("From level `{level}`");
        assert!(entry.wit.contains(&level), "the WIT of {name} should say: {level}");
        assert_eq!(functions.len(), entry.classes.len(), "an effect class for each function of {name}");
        let is_named = |function: &str| function == &**name || function.starts_with(&format!("{name}."));
        assert!(functions.iter().all(|function| is_named(&function.name)), "{functions:?}");
        let has = |key: GrantKey| keys.iter().any(|own| own.key == key);
        assert_eq!(*scope == ScopeKind::Path, has(GrantKey::Dirs), "{name}");
        assert_eq!(matches!(scope, ScopeKind::Url | ScopeKind::SocketUrl), has(GrantKey::Origins), "{name}");
        assert_eq!(*scope == ScopeKind::Name, has(GrantKey::Databases), "{name}");
        assert_eq!(*kind == Kind::SendOnly, entry.channel.is_some(), "{name}");
        for key in keys {
            let most = key.key.number().map(|(_, most)| most);
            assert_eq!(most.is_some(), key.default.is_some(), "{name} {key:?}");
            assert!(key.default.zip(most).is_none_or(|(default, most)| default <= most), "{name} {key:?}");
        }
    }
}

/// Words that are the name of a capability and mean something else where they stand.
const OTHER_MEANINGS: [(&str, &str); 10] = [
    // The kinds of output, and a key, in JSON.
    ("runtime/src/view.rs", "print"),
    ("runtime/src/view.rs", "log"),
    ("runtime/src/view.rs", "display"),
    ("cli/src/commands/schedule.rs", "schedule"),
    // The parts of a URL.
    ("policy/src/facts.rs", "query"),
    ("policy/src/argtype.rs", "query"),
    ("policy/src/definition.rs", "query"),
    ("policy/src/origin.rs", "query"),
    // The word of a header.
    ("capabilities/src/backends/net/websocket.rs", "websocket"),
    // What a person types.
    ("cli/src/ask.rs", "approve"),
];

/// Nobody but its own file knows a capability by its name.
#[test]
fn a_capability_is_named_in_its_own_file() {
    let sources = all_sources();
    let mut used = BTreeSet::<&(&str, &str)>::new();
    for path in sources.iter().filter(|path| path.components().any(|part| part.as_os_str() == "src")) {
        let path = path.strip_prefix(root()).unwrap();
        let Ok(path) = path.strip_prefix("crates") else { continue };
        let place = path.to_str().unwrap();
        let is_its_own = place.starts_with("capabilities/src/capability/") || place.starts_with("guest/");
        if is_its_own || place.ends_with("tests.rs") || place.starts_with("durable/src/journal/") {
            continue;
        }
        let text = std::fs::read_to_string(root().join("crates").join(path)).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for name in CATALOGUE.names().filter(|name| code.contains(&format!("\"{name}\""))) {
            let other = OTHER_MEANINGS.iter().find(|other| **other == (place, name));
            assert!(other.is_some(), "{place} names `{name}`: what it needs to know stands in the declaration");
            used.extend(other);
        }
    }
    assert_eq!(used.len(), OTHER_MEANINGS.len(), "{used:?}");
}

/// The path of a call knows no capability and none of the means; those know no capability.
#[test]
fn arrows_within_capabilities() {
    let files = |folder: &str| {
        let mut found = Vec::new();
        sources(&root().join("crates/capabilities/src").join(folder), &mut found);
        assert!(found.len() > 5, "{folder}");
        found.into_iter().map(|path| std::fs::read_to_string(path).unwrap())
    };
    for text in files("call") {
        assert!(!text.contains("crate::capability::"));
        // What all of them are handed, unopened.
        let means = text.replace("crate::backends::Outside;", "");
        assert!(!means.contains("crate::backends"), "{means}");
    }
    for text in files("backends") {
        assert!(!text.contains("crate::capability::"));
    }
}

/// No file names a place on somebody's machine.
#[test]
fn no_machine_paths() {
    let home = ["/ro", "ot/"].concat();
    let work = ["/wo", "rk/"].concat();
    // That one looks for such paths in what it builds.
    for path in all_sources().into_iter().filter(|path| !path.ends_with("xtask/src/paths.rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for place in [&home, &work] {
            assert!(!text.contains(&format!("\"{place}")), "{} holds {place}", path.display());
        }
    }
    if !root().join("README.md").is_file() {
        panic!("there is no README");
    }
}

/// The paths of the `use` items of a file, braces taken apart.
fn imports(text: &str) -> Vec<String> {
    fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
        let (mut depth, mut start) = (0, 0);
        let ends = tree.char_indices().chain([(tree.len(), ',')]);
        for (at, c) in ends {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let part = tree[start..at].trim();
                    start = at + 1;
                    match part.split_once('{') {
                        Some((head, rest)) => {
                            expand(&format!("{prefix}{head}"), rest.trim_end().trim_end_matches('}'), found);
                        }
                        None if part.is_empty() => {}
                        None => found.push(format!("{prefix}{}", part.split(" as ").next().unwrap())),
                    }
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    for item in code
        .split("\nuse ")
        .skip(1)
        .chain(code.split("\npub use ").skip(1))
        .chain(code.split("\npub(crate) use ").skip(1))
    {
        expand("", item.split(';').next().unwrap(), &mut found);
    }
    found
}

/// The files of a crate by the path of their module: `call::gate`.
fn modules(src: &Path) -> BTreeMap<String, String> {
    let mut files = Vec::new();
    sources(src, &mut files);
    let named = files.into_iter().filter(|path| !path.ends_with("tests.rs")).map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(src).unwrap().with_extension("").to_str().unwrap().replace('/', "::");
        let name = name.trim_end_matches("mod").trim_end_matches("::").to_owned();
        (if name == "lib" || name == "main" { String::new() } else { name }, text)
    });
    named.collect()
}

/// The module that a path names, as seen from another one.
fn named(modules: &BTreeMap<String, String>, from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path.split("::").map(str::trim).peekable();
    match *rest.peek()? {
        "crate" => {
            rest.next();
            parts.clear();
        }
        "super" => {
            while rest.next_if_eq(&"super").is_some() {
                parts.pop();
            }
        }
        _ => {}
    }
    let from = parts.len();
    for part in rest {
        parts.push(part);
        if !modules.contains_key(&parts.join("::")) {
            parts.pop();
            break;
        }
    }
    (parts.len() > from || path.starts_with("crate") || path.starts_with("super")).then(|| parts.join("::"))
}

/// Modules that name each other in a loop can only be read together. A module and those within it are one thing, and what
/// the root of a crate hands on is its front.
#[test]
fn no_circle_of_files() {
    let mut arrows = 0;
    for name in ["policy", "durable", "capabilities", "runtime", "cli"] {
        let modules = modules(&root().join("crates").join(name).join("src"));
        let mut graph = BTreeMap::<&str, BTreeSet<String>>::new();
        for (from, text) in &modules {
            let above = |to: &str| to.is_empty() || from == to || from.starts_with(&format!("{to}::"));
            let to = imports(text).into_iter().filter_map(|path| named(&modules, from, &path));
            graph.insert(from, to.filter(|to| !above(to)).collect());
        }
        arrows += graph.values().map(BTreeSet::len).sum::<usize>();
        // What imports nothing that is left, or is imported by nothing, is taken away, until nothing is or circles stay.
        loop {
            let imported: BTreeSet<String> = graph.values().flatten().cloned().collect();
            let is_free = |(from, to): (&&str, &BTreeSet<String>)| {
                !imported.contains(*from) || to.iter().all(|to| !graph.contains_key(&**to))
            };
            let Some(free) = graph.iter().find(|entry| is_free(*entry)).map(|(from, _)| *from) else { break };
            graph.remove(free);
            for to in graph.values_mut() {
                to.remove(free);
            }
        }
        assert!(graph.is_empty(), "crates/{name}: a circle among {graph:#?}");
    }
    assert!(arrows > 300, "{arrows}");
}
