//! The path corpus: every row of `fixtures/paths.tsv`, with `openat2` and without.

use std::fs;
use std::path::{Path, PathBuf};

use parole_tests::ensure;
use parole_tests::fixture::{Failure, Tree, World, strace};

/// How many paths one guest is given: they are arguments of a process, which the kernel limits.
const AT_ONCE: usize = 60;
const POLICY: &str = r#"
level = "standard"

[grant.read_file]
dirs = { "/data" = "./G", "/data/nest" = "./R" }

[grant.write_file]
dirs = { "/out" = "./out" }
"#;

struct Row {
    line: usize,
    reads: bool,
    /// `no`, or what the guest prints.
    wanted: String,
    path: String,
}

#[test]
fn path_corpus() -> Result<(), Failure> {
    corpus(World::plant()?)
}

#[test]
fn path_corpus_without_openat2() -> Result<(), Failure> {
    ensure!(strace().is_some(), "strace is missing: nothing can run without openat2");
    let mut world = World::plant()?;
    world.no_openat2 = true;
    corpus(world)
}

fn corpus(world: World) -> Result<(), Failure> {
    fs::write(world.path("policy.toml"), POLICY).map_err(|error| error.to_string())?;
    let rows = rows(&world)?;
    ensure!(rows.len() >= 300, "there are only {} rows", rows.len());
    let out = [world.path("out")];
    let before = world.tree(&out)?;
    let mut wrong = Vec::new();
    for reads in [true, false] {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.reads == reads).collect();
        for rows in rows.chunks(AT_ONCE) {
            wrong.extend(try_all(&world, rows)?);
        }
    }
    if let Some(change) = world.tree(&out)?.difference(&before) {
        wrong.push(format!("ESCAPE: {change}"));
    }
    // No link was followed to a directory that a later look would take for one of the guest's own.
    Tree::of(&world.path("out"), &[])?;
    world.state_is_clean()?;
    ensure!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Gives a guest these paths, and says which of them did not go as they should.
fn try_all(world: &World, rows: &[&Row]) -> Result<Vec<String>, Failure> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/read-granted/guest.wat");
    let paths: Vec<String> = rows.iter().map(|row| wave(&row.path)).collect();
    let paths = paths.join(", ");
    let invoke = if rows.iter().all(|row| row.reads) {
        format!("read-all([{paths}])")
    } else {
        format!("write-all([{paths}], \"new\")")
    };
    let arguments = [
        PathBuf::from("run"),
        guest,
        "--policy".into(),
        "policy.toml".into(),
        "--json".into(),
        "--invoke".into(),
        invoke.into(),
    ];
    let ran = world.run(&arguments)?;
    let json = ran.exits(0)?.json()?;
    let output = json["output"].as_str().unwrap_or_default();
    let lines: Vec<&str> = output.lines().collect();
    ensure!(lines.len() == rows.len(), "{} lines for {} paths\n{}", lines.len(), rows.len(), ran.report());
    let root = world.root().to_string_lossy();
    ensure!(!output.contains(&*root), "the guest saw a path of the host\n{}", ran.report());
    let errors = ["denied", "not-found", "invalid", "too-large: 8388608", "failed"];
    let right = |row: &Row, line: &str| if row.wanted == "no" { errors.contains(&line) } else { row.wanted == line };
    let pairs = rows.iter().zip(lines).filter(|(row, line)| !right(row, line));
    Ok(pairs.map(|(row, line)| format!("line {}: {:?}: {line:?}, not {:?}", row.line, row.path, row.wanted)).collect())
}

fn rows(world: &World) -> Result<Vec<Row>, Failure> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/paths.tsv");
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            row(number + 1, line, world).map_err(|failure| format!("line {}: {failure}", number + 1).into())
        })
        .collect()
}

fn row(line: usize, text: &str, world: &World) -> Result<Row, Failure> {
    let mut columns = text.split('\t');
    let (Some(does), Some(wanted), Some(path), None) = (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err("a row has three columns".into());
    };
    ensure!(matches!(does, "read" | "write"), "{does} is neither read nor write");
    let path: String = serde_json::from_str(path).map_err(|error| error.to_string())?;
    let root = world.root().to_string_lossy();
    let path = repeat(&path.replace("{root}", root.trim_start_matches('/')))?;
    Ok(Row { line, reads: does == "read", wanted: wanted.to_owned(), path })
}

/// `{3*ab}` is `ababab`.
fn repeat(path: &str) -> Result<String, Failure> {
    let mut whole = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        whole.push_str(before);
        let repeated = after.split_once('}').and_then(|(inside, after)| {
            let (times, text) = inside.split_once('*')?;
            Some((text.repeat(times.parse().ok()?), after))
        });
        match repeated {
            Some((text, after)) => {
                whole.push_str(&text);
                rest = after;
            }
            None => {
                whole.push('{');
                rest = after;
            }
        }
    }
    whole.push_str(rest);
    Ok(whole)
}

/// A text as WAVE writes it.
fn wave(text: &str) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}
