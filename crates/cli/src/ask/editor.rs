//! The person's own editor, for the text of a review.

use std::ffi::OsStr;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{output, texts};

/// The longest text that is taken back, in bytes.
const EDITED_MAX: usize = 4 << 20;

/// Lets the person edit a text in `$VISUAL` or `$EDITOR`; `None` if neither is set.
///
/// It is guest text, and editors act on what they open: what a terminal would act on is written as an escape, which
/// is read back as what it stands for. So whatever the person does not touch stays what it was.
#[expect(clippy::disallowed_methods, reason = "the editor of a person is named by the environment")]
pub fn edit(text: &str) -> Option<Result<String, String>> {
    let set = |name| std::env::var_os(name).filter(|value| !value.as_bytes().trim_ascii().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR"))?;
    Some(Scratch::new().map_err(|error| error.to_string()).and_then(|scratch| {
        let written = escaped(text);
        if written != text {
            output::err(
                "(In the editor \\u{…} stands for a character that a terminal would act on or not show; it becomes that \
                 character again.)",
            );
        }
        Ok(unescaped(&run(&editor, &scratch.0.join("review.txt"), &written)?))
    }))
}

/// How an escape begins.
const ESCAPE: &str = "\\u{";
/// An escape that the text itself holds, so that it is not taken for one of ours.
const LITERAL: &str = "\\u{5c}u{";

fn escaped(text: &str) -> String {
    output::block(&text.replace(ESCAPE, LITERAL)).into_owned()
}

/// The inverse. What is no escape stays.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split(ESCAPE);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let escape = part.split_once('}').and_then(|(digits, rest)| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, rest))
        });
        match escape {
            Some((c, rest)) => {
                out.push(c);
                out.push_str(rest);
            }
            None => {
                out.push_str(ESCAPE);
                out.push_str(part);
            }
        }
    }
    out
}

fn run(editor: &OsStr, file: &Path, text: &str) -> Result<String, String> {
    let io = |error: std::io::Error| error.to_string();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io)?;
    // The variable is a command of the person's shell, as git reads it: quotes, arguments and `~` work. The file is an
    // argument, and nothing of the guest is in it.
    let mut script = editor.to_owned();
    script.push(" \"$@\"");
    let status = Command::new("sh")
        .arg("-c")
        .args([&*script, editor])
        .arg(file)
        // Stdout may be piped, and is the guest's.
        .stdout(std::io::stderr().as_fd().try_clone_to_owned().map_err(io)?)
        .status()
        .map_err(|error| format!("no shell can be started for the editor: {error}"))?;
    let editor = editor.to_string_lossy();
    match status.code() {
        Some(0) => {}
        // What a shell says of a program that is not there, or is none.
        Some(126 | 127) => return Err(format!("the editor {editor} cannot be started")),
        _ => return Err(format!("the editor {editor} failed ({status})")),
    }
    let mut edited = texts::read(file, "the edited text", EDITED_MAX)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays_byte_for_byte() {
        for text in [
            "plain\ntext\n",
            "می\u{200c}خواهم 👩\u{200d}💻",
            "a\r\nb\u{0}\u{1b}[2J\u{202e}",
            "a literal \\u{1b} and \\u{5c}u{1b}",
            "\\\\u{1b}\\u{",
            "\\u{\u{1b}}",
            "\\u\u{200d}{1b}",
            "",
        ] {
            let written = escaped(text);
            assert_eq!(unescaped(&written), text, "{written:?}");
            assert_eq!(output::block(&written), written);
        }
    }

    #[test]
    fn what_the_person_types_is_theirs() {
        assert_eq!(unescaped("\\u{zz} \\u{110000} \\u{} \\u{1b"), "\\u{zz} \\u{110000} \\u{} \\u{1b");
        assert_eq!(unescaped("\\u{41}"), "A");
    }
}
