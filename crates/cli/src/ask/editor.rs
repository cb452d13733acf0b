//! The person's own editor, for the text of a review.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output;

/// The longest text that is taken back, in bytes.
const EDITED_MAX: u64 = 4 << 20;

/// Lets the person edit a text in `$VISUAL` or `$EDITOR`; `None` if neither is set.
///
/// The editor sees the inert form: it is guest text, and editors act on what they open. If the
/// person changes nothing, the text stays what it was.
#[expect(clippy::disallowed_methods, reason = "the editor of a person is named by the environment")]
pub fn edit(text: &str) -> Option<Result<String, String>> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR"))?;
    Some(Scratch::new().map_err(|error| error.to_string()).and_then(|scratch| {
        let shown = output::block(text);
        let edited = run(&editor, &scratch.0.join("review.txt"), &shown)?;
        Ok(if edited == shown { text.to_owned() } else { edited })
    }))
}

fn run(editor: &str, file: &Path, text: &str) -> Result<String, String> {
    let io = |error: std::io::Error| error.to_string();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io)?;
    // Words, as in `code --wait`; no shell, and nothing of the guest in them.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or_default();
    let status = Command::new(program)
        .args(words)
        .arg(file)
        // Stdout may be piped, and is the guest's.
        .stdout(std::io::stderr().as_fd().try_clone_to_owned().map_err(io)?)
        .status()
        .map_err(|error| format!("the editor {program} cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!("the editor {program} failed ({status})"));
    }
    let mut edited = String::new();
    File::open(file).and_then(|file| file.take(EDITED_MAX + 1).read_to_string(&mut edited)).map_err(io)?;
    if edited.len() as u64 > EDITED_MAX {
        return Err(format!("the edited text is longer than {EDITED_MAX} bytes"));
    }
    // Editors end a file with a line end, which the text need not have had.
    if !text.ends_with('\n') && edited.ends_with('\n') {
        edited.pop();
    }
    Ok(edited)
}

/// A directory that nobody else may enter, gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("parole-{}", uuid::Uuid::now_v7().simple()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
