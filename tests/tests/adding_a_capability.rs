//! `docs/adding-a-capability.md`, followed to the letter on a copy of the tree.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const DOC: &str = include_str!("../../docs/adding-a-capability.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The blocks of the page: the language, the file, the text.
fn blocks() -> Vec<(&'static str, &'static str, String)> {
    let mut blocks = Vec::new();
    let mut lines = DOC.lines();
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("```").filter(|head| !head.is_empty()) else { continue };
        let (language, file) = head.split_once(' ').unwrap_or((head, ""));
        let text: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        blocks.push((language, file, text));
    }
    blocks
}

/// Adds the lines with a plus where the lines around them stand.
fn patched(text: &str, diff: &str) -> String {
    let before: Vec<&str> = diff.lines().filter(|line| !line.starts_with('+')).map(|line| &line[1..]).collect();
    let after: Vec<&str> = diff.lines().map(|line| &line[1..]).collect();
    let (before, after) = (before.join("\n"), after.join("\n"));
    let places = text.matches(&before).count();
    assert_eq!(places, 1, "{before:?} stands {places} times");
    text.replacen(&before, &after, 1)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if ["target", ".git", ".tools"].iter().any(|other| name == *other) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}{error}");
    out.into_owned()
}

/// What is built of other crates is taken over; of the workspace itself nothing is.
fn seed(target: &Path) {
    let built = std::env::current_exe().unwrap();
    let release = built.parent().and_then(Path::parent).unwrap().to_owned();
    for (folder, how) in [("deps", "-al"), ("build", "-a"), (".fingerprint", "-a")] {
        let to = target.join("release").join(folder);
        fs::create_dir_all(&to).unwrap();
        let others = fs::read_dir(release.join(folder)).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let is_library = ["rlib", "rmeta", "so", "d"].iter().any(|end| name.ends_with(&format!(".{end}")));
            !name.contains("parole") && (folder != "deps" || is_library)
        });
        let others: Vec<PathBuf> = others.collect();
        for some in others.chunks(200) {
            run(Command::new("cp").arg(how).args(some).arg(&to));
        }
    }
}

#[test]
fn the_page_adds_a_capability() {
    // Beside what is built, for what is taken over is linked.
    let built = std::env::current_exe().unwrap();
    let place = built.ancestors().find(|path| path.ends_with("release")).and_then(Path::parent).unwrap();
    let scratch = tempfile::Builder::new().prefix("adding").tempdir_in(place).unwrap();
    let (tree, target) = (scratch.path().join("tree"), scratch.path().join("target"));
    copy(&root(), &tree);
    seed(&target);
    let desk = scratch.path().join("desk");
    fs::create_dir(&desk).unwrap();
    for (language, file, text) in blocks() {
        let path = tree.join(file);
        match (language, file) {
            ("diff", _) => fs::write(&path, patched(&fs::read_to_string(&path).unwrap(), &text)).unwrap(),
            ("console", "") => {}
            // What is only to try it with stands in no folder.
            (_, file) if !file.contains('/') => fs::write(desk.join(file), text).unwrap(),
            _ => {
                assert!(!path.exists(), "{file} is there already");
                fs::write(&path, text).unwrap();
            }
        }
    }
    let build = ["build", "--release", "--locked", "--offline", "--quiet", "--workspace", "--bin", "parole"];
    run(Command::new("cargo").args(build).current_dir(&tree).env("CARGO_TARGET_DIR", &target));

    let state = scratch.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let program = target.join("release/parole");
    let mut shown = 0;
    for (_, _, text) in blocks().into_iter().filter(|(language, ..)| *language == "console") {
        for story in text.split("$ ").filter(|story| !story.is_empty()) {
            let (line, expected) = story.split_once('\n').unwrap();
            let line = line.replace("parole ", &format!("{} ", program.display()));
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).current_dir(&desk).env("PAROLE_STATE", &state);
            assert_eq!(run(&mut shell), expected, "{line}");
            shown += 1;
        }
    }
    assert_eq!(shown, 3);
}

#[test]
#[should_panic(expected = "stands 0 times")]
fn a_page_that_no_longer_fits_is_noticed() {
    patched("one\ntwo\n", " one\n+new\n three\n");
}
